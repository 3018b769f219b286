"""The programs as a user runs them: exit codes, files, one clear line for bad input."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import jax
import numpy as np
import pytest

from pulse3d import checkpoint, config, generator, train, video

ROOT = Path(__file__).parents[1]
TOY = [
    "--preset=paper",
    *(
        f"--set={setting}"
        for setting in (
            "clip.fps=15", "clip.frames=24", "clip.patch_px=8", "clip.low_bpm=60", "clip.rates=4",
            "model.kernel=20,5,5", "model.filters=4", "model.hidden=16", "map.tile_px=16",
            "train.batch_size=20", "train.eval_clips=20", "train.eval_every=2", "train.log_every=1",
        )
    ),
]  # fmt: skip


def start(module, *arguments, cwd=ROOT):
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", f"launch.{module}", *map(str, arguments)],
        cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(module, *arguments, cwd=ROOT):
    process = start(module, *arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    code, out, err = run("train", f"--workdir={workdir}", *TOY, "--steps=8")
    assert code == 0, err
    assert "fresh clips" in out
    return workdir


def test_training_writes_everything(unbroken):
    names = {p.name for p in unbroken.iterdir()}
    assert names == {"config.json", "checkpoints", "metrics.csv", "tensorboard", "curve.png", "weights.npz"}
    rows = read_csv(unbroken / "metrics.csv")
    assert [int(r["step"]) for r in rows] == list(range(1, 9))
    assert [r["step"] for r in rows if r["validation_accuracy"]] == ["2", "4", "6", "8"]
    assert float(rows[-1]["clips_per_s"]) > 0
    assert any((unbroken / "tensorboard").iterdir())
    assert iio.imread(unbroken / "curve.png").shape[0] > 100
    weights = checkpoint.load_weights(str(unbroken))
    assert weights.provenance["command"].startswith(f"python -m launch.train --workdir={unbroken}")
    assert len(weights.provenance["curve"]) == 4


def last_state(workdir, settings):
    store = checkpoint.Checkpoints(workdir, "accuracy")
    state = store.restore_latest(train.init_state(settings))
    store.close()
    return state


def test_killed_training_resumes_to_the_same_end(unbroken, tmp_path):
    process = start("train", f"--workdir={tmp_path}", *TOY, "--steps=8")
    deadline = time.time() + 240
    while not (tmp_path / "checkpoints" / "latest" / "4").exists():
        assert time.time() < deadline, "no checkpoint within 240 s"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, out, err = run("train", f"--workdir={tmp_path}", *TOY, "--steps=8")
    assert code == 0, err
    assert "resuming" in out
    settings = checkpoint.load_weights(str(unbroken)).config
    broken, whole = (last_state(folder, settings) for folder in (tmp_path, unbroken))
    for a, b in zip(*map(jax.tree.leaves, (broken, whole)), strict=True):
        np.testing.assert_array_equal(a, b)
    columns = [name for name in read_csv(unbroken / "metrics.csv")[0] if name != "clips_per_s"]
    for a, b in zip(*(read_csv(folder / "metrics.csv") for folder in (tmp_path, unbroken)), strict=True):
        assert [a[c] for c in columns] == [b[c] for c in columns]


def test_finished_training_can_be_extended_but_not_changed(unbroken):
    code, _, err = run("train", f"--workdir={unbroken}", *TOY, "--steps=8", "--set=train.seed=3")
    assert code == 2
    assert "train.seed: 0 -> 3" in err
    code, out, err = run("train", f"--workdir={unbroken}", *TOY, "--steps=8")
    assert code == 0, err
    assert "after step 8" in out


def test_training_starts_from_given_weights(unbroken, tmp_path):
    rate = ["--set=train.learning_rate=1e-12", "--steps=1"]
    code, _, err = run("train", f"--workdir={tmp_path / 'run'}", f"--init={unbroken}", *TOY, *rate)
    assert code == 0, err
    first, second = (checkpoint.load_weights(str(folder)) for folder in (unbroken, tmp_path / "run"))
    np.testing.assert_allclose(
        first.params["classes"]["kernel"], second.params["classes"]["kernel"], atol=1e-9
    )
    assert second.provenance["init"] == first.provenance
    code, _, err = run("train", f"--workdir={tmp_path / 'other'}", f"--init={unbroken}", "--preset=paper")
    assert code == 2
    assert "weights for another network" in err


def test_profile_is_written(tmp_path):
    code, _, err = run(
        "train", f"--workdir={tmp_path / 'run'}", *TOY, "--steps=2", f"--profile_dir={tmp_path / 'p'}"
    )
    assert code == 0, err
    assert list((tmp_path / "p").rglob("*.xplane.pb"))


def test_diverging_training_says_so_and_keeps_the_checkpoint(tmp_path):
    code, _, err = run("train", f"--workdir={tmp_path}", *TOY, "--steps=50", "--set=train.learning_rate=1e30")
    assert code == 1
    assert "the loss is not finite" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("train", ["--workdir=x", "--preset=papper"], "did you mean paper"),
        ("train", ["--workdir=x", "--set=train.stepz=3"], "did you mean steps"),
        ("train", ["--workdir=x", "--steps=0"], "steps"),
        ("train", [], "workdir"),
        ("predict", ["--vidoe=me.mp4"], "vidoe"),
        ("predict", ["me.mp4"], "me.mp4: unexpected"),
        ("predict", ["--video=missing.mp4"], "missing.mp4: no such file"),
        ("predict", ["--weights=missing"], "--weights=missing: no such file"),
        ("predict", ["--stride=0"], "stride"),
        ("predict", ["--set=train.steps=3"], "only the settings map.* and readout.*"),
        ("predict", ["--set=map.center=pixel"], "did you mean centre"),
    ],
)
def test_bad_input_gets_a_clear_line_and_exit_code_2(tmp_path, module, arguments, message):
    code, _, err = run(module, *arguments, cwd=tmp_path)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_synthesize_writes_the_generators_clips(tmp_path):
    code, _, err = run("synthesize", f"--out={tmp_path}", "--clips=5", "--seed=3", cwd=tmp_path)
    assert code == 0, err
    assert {p.name for p in tmp_path.iterdir()} == {"clips.npz", "clips.png"}
    settings = config.get_preset("paper")
    with np.load(tmp_path / "clips.npz", allow_pickle=False) as samples:
        assert samples["clips"].shape == (5, 60, 25, 25, 1)
        for index, key in enumerate(jax.random.split(jax.random.key(3), 5)):
            clip, label = generator.make_clip(key, settings)
            assert samples["label"][index] == label
            assert np.mean(abs(samples["clips"][index] - clip) > 1e-5) < 1e-3
    assert iio.imread(tmp_path / "clips.png").shape[0] > 100


def test_too_short_or_small_a_video_leaves_no_results(tmp_path):
    np.save(tmp_path / "short.npy", np.zeros((30, 40, 40), np.uint8))
    np.save(tmp_path / "small.npy", np.zeros((90, 10, 40), np.uint8))
    for name, message in (("short", "one window needs 2 s"), ("small", "smaller than the network's patch")):
        out = tmp_path / f"out_{name}"
        code, _, err = run("predict", f"--video={tmp_path / name}.npy", "--fps=30", f"--out={out}")
        assert code == 2
        assert message in err
        assert not out.exists() or list(out.iterdir()) == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    code, printed, err = run("predict", f"--out={out}")
    assert code == 0, err
    return out, printed


def test_demo_finds_every_region_and_nothing_else(demo):
    """Median rate of each region within 2.5 bpm, background at least 90 % "no pulse"."""
    lines = [line.split() for line in demo[1].splitlines() if line.startswith(("ellipse", "background"))]
    assert [float(line[2]) for line in lines[:3]] == [66, 94, 141]
    for line in lines[:3]:
        assert abs(float(line[3]) - float(line[2])) <= 2.5
    assert float(lines[3][-1].strip("%")) <= 10


def test_files_have_the_documented_format(demo):
    out = demo[0]
    assert {p.name for p in out.iterdir()} == {
        "rates.csv",
        "map.npz",
        "map.png",
        "overlay.mp4",
        "summary.json",
    }
    rates = read_csv(out / "rates.csv")
    assert list(rates[0]) == ["time_s", "pulse_rate_bpm", "low_bpm", "high_bpm", "confidence"]
    assert [float(r["time_s"]) for r in rates] == list(range(1, 10))
    with np.load(out / "map.npz", allow_pickle=False) as maps:
        shape = maps["probability"].shape
        assert shape == (9, 20, 37, 75)
        assert maps["probability"].dtype == np.float16
        np.testing.assert_allclose(maps["probability"].sum(-1, dtype=float) + maps["no_pulse"], 1, atol=5e-3)
        np.testing.assert_array_equal(maps["time_s"], np.arange(1, 10))
        np.testing.assert_array_equal(maps["row_px"], 12 + 8 * np.arange(20))
        np.testing.assert_array_equal(maps["col_px"], 12 + 8 * np.arange(37))
        np.testing.assert_array_equal(maps["rate_axis_bpm"], np.linspace(55, 240, 75))
        assert maps["rate_bpm"].shape == maps["confidence"].shape == shape[:3]
        assert (float(maps["fps"]), str(maps["weights"])) == (30.0, "paper")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["windows"] == 9
    assert summary["notice"] == "Not a medical device."
    overlay = list(video.open_video(out / "overlay.mp4").frames())
    assert len(overlay) == 300
    assert overlay[0].image.shape == (180, 320, 3)


def test_keras_weights_map_the_demo(shared, tmp_path):
    code, out, err = run("predict", f"--weights={shared / 'reference'}", f"--out={tmp_path}", "--stride=24")
    assert code == 0, err
    assert "background" in out
