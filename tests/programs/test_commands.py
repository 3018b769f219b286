"""What all programs do: exit codes, one clear line for bad input, nothing overwritten."""

import json
import os
import signal

import imageio.v3 as iio
import jax
import numpy as np
import pytest
from helpers.launching import run

from launch import common
from pulse3d import config
from pulse3d.errors import InputError
from pulse3d.synthetic import paper_clips


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("train", ["--workdir=x", "--preset=papper"], "did you mean paper"),
        ("train", ["--workdir=x", "--set=train.stepz=3"], "did you mean steps"),
        ("train", ["--workdir=x", "--steps=0"], "steps"),
        ("train", [], "workdir"),
        ("train", ["--workdir=x", "--distributed", "--coordinator=localhost"], "expected HOST:PORT"),
        ("predict", ["--vidoe=me.mp4"], "vidoe"),
        ("synthesize", ["me.mp4"], "me.mp4: unexpected"),
        ("predict", ["--weights=paper", "--video=missing.mp4"], "missing.mp4: no such file"),
        ("predict", ["--weights=missing"], "--weights=missing: no such file"),
        ("predict", ["--video=.", "--fps=0"], "--fps=0.0: must be positive"),
        ("predict", ["--stride=0"], "stride"),
        ("predict", ["--weights=paper", "--set=train.steps=3"], "only the settings map.* and readout.*"),
        ("predict", ["--weights=paper", "--set=map.center=pixel"], "did you mean centre"),
        ("evaluate", ["--dataset=ubfc3", "--root=.", "--out=x"], "ubfc3"),
        ("evaluate", ["--dataset=clips", "--root=nowhere", "--out=x", "--methods=pos"], "no such folder"),
        ("evaluate", ["--dataset=clips", "--root=.", "--out=x", "--shard=2/2"], "0 <= i < n"),
        ("evaluate", ["--dataset=clips", "--out=x", "--methods=pos"], "needs --root, the folder of the"),
        ("evaluate", ["--dataset=demo", "--out=x", "--place_score=rate"], "pulse|confidence"),
        (
            "evaluate",
            ["--dataset=clips", "--root=.", "--out=x", "--methods=paper", "--window_s=1.5"],
            "needs windows of 2 s",
        ),
    ],
)
def test_bad_input_gets_a_clear_line_and_exit_code_2(tmp_path, module, arguments, message):
    code, _, err = run(module, *arguments, cwd=tmp_path)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_messages_name_the_flags_that_a_program_has(monkeypatch):
    monkeypatch.setattr(common.flags, "FLAGS", {"fps": 1, "out": 2})
    said = "give its frame rate, as in fps=30; stream=N, 0 <= i, /a/fps=2.npy, --out=x, my_fps=3"
    assert common.in_flags(said) == said.replace("in fps=30", "in --fps=30")
    monkeypatch.setattr(common.flags, "FLAGS", {})
    assert common.in_flags(said) == said


@pytest.mark.slow
def test_synthesize_writes_the_generators_clips(tmp_path):
    code, _, err = run(
        "synthesize", f"--out={tmp_path}", "--preset=paper", "--clips=5", "--seed=3", cwd=tmp_path
    )
    assert code == 0, err
    assert {p.name for p in tmp_path.iterdir()} == {"clips.npz", "clips.png"}
    settings = config.get_preset("paper")
    with np.load(tmp_path / "clips.npz", allow_pickle=False) as samples:
        assert samples["clips"].shape == (5, 60, 25, 25, 1)
        make = jax.jit(lambda key: paper_clips.make_clip(key, settings))
        for index, key in enumerate(jax.random.split(jax.random.key(3), 5)):
            clip, label = make(key)
            assert samples["label"][index] == label
            assert np.mean(abs(samples["clips"][index] - clip) > 1e-5) < 1e-3
    assert iio.imread(tmp_path / "clips.png").shape[0] > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name"),
    [("synthesize", "clips.npz"), ("benchmark", "benchmark.json"), ("export", "default_640x480.jaxexport")],
)
def test_what_is_there_is_kept(tmp_path, module, name):
    (tmp_path / name).write_bytes(b"before")
    arguments = [] if module == "export" else [f"--out={tmp_path}"]
    code, _, err = run(module, *arguments, cwd=tmp_path)
    assert code == 2
    [line] = err.strip().splitlines()
    assert line.startswith("error: --out=")
    assert f"holds results already ({name}); choose another place, or give --overwrite" in line
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {name: b"before"}


def test_the_second_interrupt_ends_the_program():
    # whoever runs the tests may ignore interrupts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with common.stop_on_interrupt() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.is_set()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_terminal_that_closes_stops_the_program_but_not_under_nohup():
    before = signal.getsignal(signal.SIGHUP)

    def pass_over(number, frame):
        """Instead of the usual one, which would end the tests."""

    try:
        for handler, stopped in ((pass_over, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGHUP, handler)
            with common.stop_on_interrupt() as stop:
                signal.raise_signal(signal.SIGHUP)
                assert stop.is_set() == stopped
            assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((False, None, 2, None), "--processes=2: needs --distributed"),
        ((True, "localhost", 2, 0), "expected HOST:PORT"),
        ((True, "localhost:1", 2, 2), "--process=2: expected 0 <= I < N, with --processes=2"),
    ],
)
def test_processes_that_cannot_join_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        common.join_processes(*arguments)


def test_processes_started_with_other_settings_are_refused(monkeypatch):
    common.require_agreement({"steps": 3}, "--steps")
    monkeypatch.setattr(common.multihost_utils, "process_allgather", lambda own: np.stack([own, own[::-1]]))
    with pytest.raises(InputError, match="--steps: differ between the processes"):
        common.require_agreement({"steps": 3}, "--steps")


def test_benchmark_says_what_it_skips(tmp_path):
    code, out, err = run("benchmark", f"--out={tmp_path}", "--small", "--device=cpu", "--rows=schedule")
    assert code == 0, err
    assert {p.name for p in tmp_path.iterdir()} == {"benchmark.json", "table.md"}
    result = json.loads((tmp_path / "benchmark.json").read_text())
    assert result["machine"]["versions"]["jax"] == jax.__version__
    assert result["figures"] == []
    assert "accelerator" in result["skipped"]["schedule"]
    assert (tmp_path / "table.md").read_text() in out
    assert "schedule skipped" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "message"),
    [("--rows=dens", "no such row; there are dense, keras"), ("--device=tpu", "choose cpu")],
)
def test_benchmark_refuses_what_it_does_not_know(tmp_path, flag, message):
    code, _, err = run("benchmark", f"--out={tmp_path / 'out'}", flag)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
