"""launch.train as a user runs it: files, kills, several processes."""

import signal
import socket

import imageio.v3 as iio
import numpy as np
import pytest
from helpers.launching import TOY, final_states, read_csv, run, start, wait_for

from pulse3d.network import weights_file
from pulse3d.training import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    code, out, err = run("train", f"--workdir={workdir}", *TOY, "--steps=8")
    assert code == 0, err
    assert "fresh clips" in out
    return workdir


def test_training_writes_everything(unbroken):
    names = {p.name for p in unbroken.iterdir()}
    assert names == {
        ".lock", "config.json", "checkpoints", "metrics.csv", "tensorboard", "curve.png", "weights.npz",
    }  # fmt: skip
    rows = read_csv(unbroken / "metrics.csv")
    assert [int(r["step"]) for r in rows] == list(range(1, 9))
    assert [r["step"] for r in rows if r["validation_accuracy"]] == ["2", "4", "6", "8"]
    assert float(rows[-1]["clips_per_s"]) > 0
    assert any((unbroken / "tensorboard").iterdir())
    assert iio.imread(unbroken / "curve.png").shape[0] > 100
    weights = weights_file.load_weights(str(unbroken))
    assert weights.provenance["command"].startswith(f"python -m launch.train --workdir={unbroken}")
    assert len(weights.provenance["curve"]) == 4
    scores = train.make_evaluate(weights.config)(weights.params, seed=2)
    assert weights.provenance["fresh_clips"] == weights.config.train.eval_clips
    assert weights.provenance["fresh_clips_scores"] == pytest.approx(scores, rel=1e-3)


def test_killed_training_resumes_to_the_same_end(unbroken, tmp_path):
    process = start("train", f"--workdir={tmp_path}", *TOY, "--steps=8")
    wait_for(tmp_path / "checkpoints" / "latest" / "4", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, out, err = run("train", f"--workdir={tmp_path}", *TOY, "--steps=8")
    assert code == 0, err
    assert "resuming" in out
    for a, b in final_states(tmp_path, unbroken):
        np.testing.assert_array_equal(a, b)
    columns = [name for name in read_csv(unbroken / "metrics.csv")[0] if name != "clips_per_s"]
    for a, b in zip(*(read_csv(folder / "metrics.csv") for folder in (tmp_path, unbroken)), strict=True):
        assert [a[c] for c in columns] == [b[c] for c in columns]


@pytest.mark.long
def test_two_processes_one_of_them_killed_train_the_same_network(unbroken, tmp_path):
    def start_both():
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            coordinator = f"--coordinator=localhost:{probe.getsockname()[1]}"
        shared = ("--steps=8", "--set=train.eval_every=4", "--distributed", "--processes=2", coordinator)
        return [start("train", f"--workdir={tmp_path}", *TOY, *shared, f"--process={i}") for i in range(2)]

    first, second = start_both()
    wait_for(tmp_path / "checkpoints" / "latest" / "4", second)
    second.kill()
    second.communicate()
    _, err = first.communicate(timeout=240)
    # where the runtime hears of it before Python does, it aborts the process with words of its own
    assert first.returncode in (1, -signal.SIGABRT)
    if first.returncode == 1:
        assert "error: lost another process" in err
        assert "Traceback" not in err

    first, second = start_both()
    (out, err), (quiet, _) = (process.communicate(timeout=240) for process in (first, second))
    assert (first.returncode, second.returncode) == (0, 0), err
    assert "resuming" in out
    assert "step 8" not in quiet
    for a, b in final_states(tmp_path, unbroken):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(*(read_csv(folder / "metrics.csv") for folder in (tmp_path, unbroken)), strict=True):
        assert a["step"] == b["step"]
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-5)
        assert bool(a["validation_loss"]) == (a["step"] in ("4", "8"))
        if a["validation_loss"]:
            assert float(a["validation_loss"]) == pytest.approx(float(b["validation_loss"]), rel=1e-5)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in unbroken.iterdir()}


def test_finished_training_can_be_extended_but_not_changed(unbroken):
    code, _, err = run("train", f"--workdir={unbroken}", *TOY, "--steps=8", "--set=train.seed=3")
    assert code == 2
    assert "train.seed: 0 -> 3" in err
    code, out, err = run("train", f"--workdir={unbroken}", *TOY, "--steps=8")
    assert code == 0, err
    assert "after step 8" in out


def test_training_starts_from_given_weights_and_writes_a_profile(unbroken, tmp_path):
    rate = ["--set=train.learning_rate=1e-12", "--steps=1", f"--profile_dir={tmp_path / 'profile'}"]
    code, _, err = run("train", f"--workdir={tmp_path / 'run'}", f"--init={unbroken}", *TOY, *rate)
    assert code == 0, err
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    first, second = (weights_file.load_weights(str(folder)) for folder in (unbroken, tmp_path / "run"))
    np.testing.assert_allclose(
        first.params["classes"]["kernel"], second.params["classes"]["kernel"], atol=1e-9
    )
    assert second.provenance["init"] == first.provenance
    code, _, err = run("train", f"--workdir={tmp_path / 'other'}", f"--init={unbroken}", "--preset=paper")
    assert code == 2
    assert "weights for another network" in err


def test_diverging_training_says_so_and_keeps_the_checkpoint(tmp_path):
    code, _, err = run("train", f"--workdir={tmp_path}", *TOY, "--steps=50", "--set=train.learning_rate=1e30")
    assert code == 1
    assert "the loss is not finite" in err
    assert "Traceback" not in err
