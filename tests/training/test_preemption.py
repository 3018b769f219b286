"""What a training run survives: kill, termination, a full disk, a second trainer, damaged checkpoints."""

import random
import re
import shutil
import signal
import socket
import time

import jax
import numpy as np
import pytest
from helpers.launching import TOY, files_up_to, final_states, read_csv, run, start, wait_for

from launch import common
from pulse3d.errors import InputError
from pulse3d.training import checkpoint, train

STEPS = 40
ARGUMENTS = [*TOY, f"--steps={STEPS}"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    code, _, err = run("train", f"--workdir={workdir}", *ARGUMENTS)
    assert code == 0, err
    return workdir


def assert_same_end(workdir, unbroken):
    """Final state and log as those of the unbroken run, bit for bit."""
    for a, b in final_states(workdir, unbroken):
        np.testing.assert_array_equal(a, b)
    columns = [name for name in read_csv(unbroken / "metrics.csv")[0] if name != "clips_per_s"]
    for a, b in zip(*(read_csv(folder / "metrics.csv") for folder in (workdir, unbroken)), strict=True):
        assert [a[c] for c in columns] == [b[c] for c in columns]


def steps_saved(workdir):
    folder = workdir / "checkpoints" / "latest"
    return {int(p.name) for p in folder.iterdir() if p.name.isdigit()} if folder.exists() else set()


def is_saving(workdir):
    return any((workdir / "checkpoints").glob("*/*tmp*"))


def kill_and_resume(workdir, unbroken, *, kills, rng):
    """Kills a run again and again, every other time while it saves; begins anew where it comes to its end.

    Returns how often it was killed during a save.
    """
    during_saves, reached, killed = 0, 0, 0
    while killed < kills:
        process = start("train", f"--workdir={workdir}", *ARGUMENTS)
        in_a_save, wait_s = rng.random() < 0.5, rng.uniform(0, 3)
        started = None
        while process.poll() is None:
            if started is None and max(steps_saved(workdir), default=0) > reached:
                started = time.monotonic()
            if started is not None and time.monotonic() > started + wait_s and (
                not in_a_save or is_saving(workdir)
            ):  # fmt: skip
                process.kill()
            time.sleep(0.002)
        _, err = process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed += 1
            during_saves += is_saving(workdir)
            saved = steps_saved(workdir)
            assert max(saved) >= reached, "a checkpoint is lost"
            reached = max(saved)
        else:
            assert process.returncode == 0, err
            assert_same_end(workdir, unbroken)
            shutil.rmtree(workdir)
            reached = 0
    code, _, err = run("train", f"--workdir={workdir}", *ARGUMENTS)
    assert code == 0, err
    assert_same_end(workdir, unbroken)
    return during_saves


@pytest.mark.long
@pytest.mark.parametrize("kills", [3, 50])
def test_killed_at_random_moments_training_loses_nothing(unbroken, tmp_path, kills):
    during_saves = kill_and_resume(tmp_path / "run", unbroken, kills=kills, rng=random.Random(kills))
    assert during_saves >= kills // 10
    print(f"{kills} kills, {during_saves} of them during a save")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)]
)
def test_a_signal_saves_ends_and_changes_nothing(unbroken, tmp_path, number, code):
    process = start("train", f"--workdir={tmp_path}", *ARGUMENTS)
    wait_for(tmp_path / "checkpoints" / "latest" / "2", process)
    process.send_signal(number)
    _, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    [line] = [line for line in err.splitlines() if line.startswith("stopped")]
    step = int(re.search(r"step (\d+) is saved", line)[1])
    assert step in steps_saved(tmp_path)
    assert "Traceback" not in err
    code, out, err = run("train", f"--workdir={tmp_path}", *ARGUMENTS)
    assert code == 0, err
    assert f"resuming {tmp_path} after step {step}" in out
    assert_same_end(tmp_path, unbroken)


@pytest.mark.long
@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_after_the_same_step(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"--coordinator=localhost:{probe.getsockname()[1]}"
    shared = (*TOY, "--steps=4000", "--distributed", "--processes=2", coordinator)
    first, second = (start("train", f"--workdir={tmp_path}", *shared, f"--process={i}") for i in range(2))
    wait_for(tmp_path / "checkpoints" / "latest" / "4", second)
    second.terminate()
    (_, err), (_, quiet) = (process.communicate(timeout=240) for process in (first, second))
    assert (first.returncode, second.returncode) == (143, 143), err
    step = int(re.search(r"stopped: step (\d+) is saved", err)[1])
    assert step == max(steps_saved(tmp_path))
    assert "stopped" not in quiet
    assert "Traceback" not in err + quiet


@pytest.mark.slow
def test_a_stop_is_between_two_steps(toy):
    mesh = train.make_mesh(jax.devices()[:1])
    steps = [
        (record.step, record.stopping, record.validation is not None)
        for record in train.run(toy, train.init_state(toy), mesh, stop=lambda step: step == 4)
    ]
    assert steps == [(1, False, False), (2, False, False), (3, False, True), (4, True, False)]


def test_a_second_trainer_is_refused(tmp_path):
    with checkpoint.lock_workdir(tmp_path):
        assert checkpoint.lock_workdir(tmp_path) is None
        code, _, err = run("train", f"--workdir={tmp_path}", *ARGUMENTS)
        assert code == 2
        [line] = err.strip().splitlines()
        assert line == (
            f"error: {tmp_path}: another process is training there; wait for it, or choose another --workdir"
        )
        assert [p.name for p in tmp_path.iterdir()] == [".lock"]
    checkpoint.lock_workdir(tmp_path).close()


def test_all_processes_hear_of_the_lock(monkeypatch):
    common.require_everywhere(True, "locked")
    monkeypatch.setattr(common.multihost_utils, "process_allgather", lambda own: np.stack([own, own * 0]))
    with pytest.raises(InputError, match="locked"):
        common.require_everywhere(True, "locked")


def store_with(workdir, state, *steps):
    store = checkpoint.Checkpoints(workdir, "accuracy")
    for step in steps:
        store.save(step, state.replace(step=state.step + step), {"accuracy": step / 10})
    return store


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, toy):
    state = train.init_state(toy)
    store = store_with(tmp_path, state, 1)
    with files_up_to(4096), pytest.raises(checkpoint.SaveFailed, match="step 2 could not be saved"):
        store.save(2, state, {"accuracy": 1.0})
    store = checkpoint.Checkpoints(tmp_path, "accuracy")
    assert store.latest_step() == 1
    assert int(store.restore_latest(state).step) == 1
    assert store.restore_best(state)[0] == 1
    store.save(2, state, {"accuracy": 1.0})
    assert store.latest_step() == 2
    store.close()


@pytest.mark.slow
def test_training_on_a_full_disk_says_so(tmp_path):
    code, _, err = run("train", f"--workdir={tmp_path}", *TOY, "--steps=2")
    assert code == 0, err
    with files_up_to(16384):
        code, _, err = run("train", f"--workdir={tmp_path}", *TOY, "--steps=6")
    assert code == 1
    assert "the checkpoint of step 4 could not be saved" in err
    assert f"the checkpoint of step 2 is kept in {tmp_path}" in err
    assert "Traceback" not in err
    assert steps_saved(tmp_path) == {2}


def damage(folder, how):
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if how == "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif how == "flipped":
            path.write_bytes(bytes(255 - b for b in path.read_bytes()))
        else:
            path.unlink()


@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_the_checkpoint_before_a_damaged_one_is_used(tmp_path, toy, how):
    state = train.init_state(toy)
    store_with(tmp_path, state, 1, 2).close()
    damage(tmp_path / "checkpoints" / "latest" / "2", how)
    store = checkpoint.Checkpoints(tmp_path, "accuracy")
    assert int(store.restore_latest(state).step) == 1
    [line] = store.damaged
    assert "latest/2: damaged" in line
    assert list((tmp_path / "checkpoints" / "damaged").iterdir())
    store.save(2, state, {"accuracy": 1.0})
    assert store.latest_step() == 2
    store.close()


@pytest.mark.slow
def test_a_changed_byte_never_goes_unnoticed(tmp_path, toy):
    state = train.init_state(toy)
    store_with(tmp_path, state, 1, 2).close()
    files = [p for p in (tmp_path / "checkpoints" / "latest" / "2").rglob("d/*") if p.is_file()]
    assert files
    for path in files:
        whole = path.read_bytes()
        for share in (0.3, 0.6, 0.95):
            data = bytearray(whole)
            data[int(share * len(data))] ^= 16
            path.write_bytes(data)
            store = checkpoint.Checkpoints(tmp_path, "accuracy")
            found = store.restore_latest(state)
            assert int(found.step) == (1 if store.damaged else 2)
            for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(state.params), strict=True):
                np.testing.assert_array_equal(a, b)
            store.close()
            if store.damaged:
                [aside] = (tmp_path / "checkpoints" / "damaged").iterdir()
                aside.rename(tmp_path / "checkpoints" / "latest" / "2")
        path.write_bytes(whole)


def test_where_no_checkpoint_can_be_read_all_are_left_as_they_are(tmp_path, toy):
    state = train.init_state(toy)
    store_with(tmp_path, state, 1, 2).close()
    damage(tmp_path / "checkpoints" / "latest", "flipped")
    store = checkpoint.Checkpoints(tmp_path, "accuracy")
    with pytest.raises(InputError, match="a damaged checkpoint") as error:
        store.restore_latest(state)
    assert "\n" not in str(error.value)
    assert steps_saved(tmp_path) == {1, 2}


def test_a_damaged_best_checkpoint_leaves_the_latest(tmp_path, toy):
    state = train.init_state(toy)
    store_with(tmp_path, state, 1, 2).close()
    damage(tmp_path / "checkpoints" / "best" / "2" / "default", "flipped")
    store = checkpoint.Checkpoints(tmp_path, "accuracy")
    step, best = store.restore_best(state)
    assert (step, int(best.step)) == (2, 2)
    assert "best/2: damaged" in store.damaged[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "scores",
    [b"\xff", b"", b"{", b"3", b"[]", b"{}", b'{"a": 1}', b'{"accuracy": null}', b'{"accuracy": "x"}'],
)
def test_damaged_scores_of_the_best_checkpoint_leave_the_latest(tmp_path, toy, scores):
    state = train.init_state(toy)
    store_with(tmp_path, state, 1, 2).close()
    (tmp_path / "checkpoints" / "best" / "2" / "metrics" / "metrics").write_bytes(scores)
    store = checkpoint.Checkpoints(tmp_path, "accuracy")
    [line] = store.damaged
    assert "checkpoints/best: damaged" in line
    assert int(store.restore_latest(state).step) == 2
    assert store.restore_best(state)[0] == 2
    store.save(3, state, {"accuracy": 0.1})
    assert store.restore_best(state)[0] == 3
    store.close()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"train": 3}'])
def test_damaged_settings_of_a_run_get_one_line(tmp_path, toy, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config") as error:
        checkpoint.prepare_workdir(tmp_path, toy)
    assert "\n" not in str(error.value)
    assert (tmp_path / "config.json").read_text() == text
