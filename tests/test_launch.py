"""The programs as a user runs them: exit codes, files, one clear line for bad input."""

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import imageio.v3 as iio
import jax
import numpy as np
import pytest
from PIL import Image

from launch import common
from pulse3d import checkpoint, config, generator, train, video
from pulse3d.errors import InputError

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "pulse3d" / "weights" / "default.npz"
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


def start(module, *arguments, cwd=ROOT, stdin=None):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", f"launch.{module}", *map(str, arguments)],
        cwd=cwd, env=environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
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
    assert names == {
        ".lock", "config.json", "checkpoints", "metrics.csv", "tensorboard", "curve.png", "weights.npz",
    }  # fmt: skip
    rows = read_csv(unbroken / "metrics.csv")
    assert [int(r["step"]) for r in rows] == list(range(1, 9))
    assert [r["step"] for r in rows if r["validation_accuracy"]] == ["2", "4", "6", "8"]
    assert float(rows[-1]["clips_per_s"]) > 0
    assert any((unbroken / "tensorboard").iterdir())
    assert iio.imread(unbroken / "curve.png").shape[0] > 100
    weights = checkpoint.load_weights(str(unbroken))
    assert weights.provenance["command"].startswith(f"python -m launch.train --workdir={unbroken}")
    assert len(weights.provenance["curve"]) == 4
    scores = train.make_evaluate(weights.config)(weights.params, seed=2)
    assert weights.provenance["fresh_clips"] == weights.config.train.eval_clips
    assert weights.provenance["fresh_clips_scores"] == pytest.approx(scores, rel=1e-3)


def last_state(workdir, settings):
    store = checkpoint.Checkpoints(workdir, "accuracy")
    state = store.restore_latest(train.init_state(settings))
    store.close()
    return state


def wait_for(path, process):
    deadline = time.time() + 240
    while not path.exists():
        assert time.time() < deadline, f"no {path.name} within 240 s"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def final_states(*workdirs):
    settings = checkpoint.load_weights(str(workdirs[0])).config
    return zip(*(jax.tree.leaves(last_state(workdir, settings)) for workdir in workdirs), strict=True)


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
    first, second = (checkpoint.load_weights(str(folder)) for folder in (unbroken, tmp_path / "run"))
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


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("train", ["--workdir=x", "--preset=papper"], "did you mean paper"),
        ("train", ["--workdir=x", "--set=train.stepz=3"], "did you mean steps"),
        ("train", ["--workdir=x", "--steps=0"], "steps"),
        ("train", [], "workdir"),
        ("train", ["--workdir=x", "--distributed", "--coordinator=localhost"], "expected HOST:PORT"),
        ("predict", ["--vidoe=me.mp4"], "vidoe"),
        ("predict", ["me.mp4"], "me.mp4: unexpected"),
        ("predict", ["--weights=paper", "--video=missing.mp4"], "missing.mp4: no such file"),
        ("predict", ["--weights=missing"], "--weights=missing: no such file"),
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


def test_synthesize_writes_the_generators_clips(tmp_path):
    code, _, err = run(
        "synthesize", f"--out={tmp_path}", "--preset=paper", "--clips=5", "--seed=3", cwd=tmp_path
    )
    assert code == 0, err
    assert {p.name for p in tmp_path.iterdir()} == {"clips.npz", "clips.png"}
    settings = config.get_preset("paper")
    with np.load(tmp_path / "clips.npz", allow_pickle=False) as samples:
        assert samples["clips"].shape == (5, 60, 25, 25, 1)
        make = jax.jit(lambda key: generator.make_clip(key, settings))
        for index, key in enumerate(jax.random.split(jax.random.key(3), 5)):
            clip, label = make(key)
            assert samples["label"][index] == label
            assert np.mean(abs(samples["clips"][index] - clip) > 1e-5) < 1e-3
    assert iio.imread(tmp_path / "clips.png").shape[0] > 100


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


def test_too_short_or_small_a_video_leaves_no_results(tmp_path):
    np.save(tmp_path / "short.npy", np.zeros((30, 40, 40), np.uint8))
    np.save(tmp_path / "small.npy", np.zeros((90, 10, 40), np.uint8))
    for name, message in (("short", "one window needs 2 s"), ("small", "smaller than the network's patch")):
        out = tmp_path / f"out_{name}"
        arguments = ("--weights=paper", f"--video={tmp_path / name}.npy", "--fps=30", f"--out={out}")
        code, _, err = run("predict", *arguments)
        assert code == 2
        assert message in err
        assert not out.exists() or list(out.iterdir()) == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    code, printed, err = run("predict", "--weights=paper", f"--out={out}")
    assert code == 0, err
    return out, printed


def assert_finds_every_region(printed):
    """The median rate of each region within 2.5 bpm."""
    lines = [line.split() for line in printed.splitlines() if line.startswith("ellipse")]
    assert [float(line[2]) for line in lines] == [66, 94, 141]
    for line in lines:
        assert abs(float(line[3]) - float(line[2])) <= 2.5


FILES = {
    "rates.csv", "regions.csv", "map.npz", "map.png", "companion.png", "overlay.mp4", "report.html",
    "summary.json",
}  # fmt: skip


def test_demo_finds_every_region_and_nothing_else(demo):
    assert_finds_every_region(demo[1])
    [background] = [line.split() for line in demo[1].splitlines() if line.startswith("background")]
    assert float(background[-1].strip("%")) <= 10


@pytest.mark.skipif(not BUNDLED.exists(), reason="the default weights are not there")
def test_default_weights_map_the_demo(tmp_path):
    code, printed, err = run("predict", f"--out={tmp_path}")
    assert code == 0, err
    assert_finds_every_region(printed)
    assert {p.name for p in tmp_path.iterdir()} == FILES
    settings = config.get_preset("default")
    times = [float(row["time_s"]) for row in read_csv(tmp_path / "rates.csv")]
    np.testing.assert_allclose(times, np.arange(5, 11), atol=1e-6)
    with np.load(tmp_path / "map.npz", allow_pickle=False) as maps:
        # 30 x 53 cells of 6 px, one column of pixels left out
        assert maps["probability"].shape == (6, 30, 53, settings.clip.rates)
        total = maps["probability"].sum(-1, dtype=float) + maps["network_no_pulse"]
        np.testing.assert_allclose(total, 1, atol=5e-3)
        np.testing.assert_allclose(maps["no_pulse"] + maps["confidence"], 1, atol=1e-6)
        np.testing.assert_allclose(maps["row_px"], 2.5 + 6 * np.arange(30))
        np.testing.assert_allclose(maps["col_px"], 3.5 + 6 * np.arange(53))
        np.testing.assert_array_equal(maps["rate_axis_bpm"], settings.clip.rate_axis_bpm)
        assert (float(maps["fps"]), str(maps["weights"])) == (15.0, "default")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["windows"], summary["window_s"], summary["weights"]) == (6, 10.0, "default")
    assert (summary["patch_px"], summary["stride_px"], summary["centre"]) == (6, 6, "relative")


def test_files_have_the_documented_format(demo):
    out = demo[0]
    assert {p.name for p in out.iterdir()} == FILES
    rates = read_csv(out / "rates.csv")
    assert list(rates[0]) == ["time_s", "pulse_rate_bpm", "low_bpm", "high_bpm", "confidence"]
    assert [float(r["time_s"]) for r in rates] == list(range(1, 15))
    with np.load(out / "map.npz", allow_pickle=False) as maps:
        shape = maps["probability"].shape
        assert shape == (14, 20, 37, 75)
        assert maps["probability"].dtype == np.float16
        np.testing.assert_allclose(maps["probability"].sum(-1, dtype=float) + maps["no_pulse"], 1, atol=5e-3)
        np.testing.assert_array_equal(maps["time_s"], np.arange(1, 15))
        np.testing.assert_array_equal(maps["row_px"], 12 + 8 * np.arange(20))
        np.testing.assert_array_equal(maps["col_px"], 12 + 8 * np.arange(37))
        np.testing.assert_array_equal(maps["rate_axis_bpm"], np.linspace(55, 240, 75))
        assert maps["rate_bpm"].shape == maps["confidence"].shape == shape[:3]
        assert (float(maps["fps"]), str(maps["weights"])) == (30.0, "paper")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["windows"] == 14
    assert summary["notice"] == "Not a medical device."
    overlay = list(video.open_video(out / "overlay.mp4").frames())
    assert len(overlay) == 450
    assert overlay[0].image.shape == (180, 320, 3)


def test_every_ellipse_of_the_demo_is_a_region(demo):
    rows = read_csv(demo[0] / "regions.csv")
    assert sorted(round(float(row["pulse_rate_bpm"])) for row in rows) == [66, 94, 141]
    for row in rows:
        assert float(row["low_bpm"]) <= float(row["pulse_rate_bpm"]) <= float(row["high_bpm"])


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Six seconds of 90 bpm, as a file that can be read through a pipe."""
    rng, time_s = np.random.default_rng(0), np.arange(180) / 30
    colour = np.array([184, 133, 112]) - 3 * np.sin(2 * np.pi * 1.5 * time_s)[:, None] * [0.3, 1.0, 0.6]
    frames = colour[:, None, None] + rng.normal(0, 2, (180, 48, 64, 3))
    path = tmp_path_factory.mktemp("recording") / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
        for image in np.clip(frames.round(), 0, 255).astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def current_rates(printed):
    return [line.split()[2] for line in printed.splitlines() if " s   " in line]


def test_output_for_programs(recording, tmp_path):
    options = ("predict", "--weights=paper", f"--video={recording}", f"--out={tmp_path}")
    code, printed, err = run(*options, "--json", "--mat", "--figure=svg")
    assert (code, err) == (0, "")
    summary = json.loads(printed)
    assert summary["out"] == str(tmp_path)
    assert set(summary["files"]) == FILES | {"map.mat", "map.svg", "companion.svg"}
    assert {p.name for p in tmp_path.iterdir()} == set(summary["files"])
    assert summary["pulse_rate_median_bpm"] == pytest.approx(90, abs=2)
    with recording.open("rb") as stdin:
        live = ("predict", "--weights=paper", "--video=-", f"--out={tmp_path / 'live'}", "--json")
        process = start(*live, stdin=stdin)
        printed, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    *lines, last = (json.loads(line) for line in printed.splitlines())
    assert [line["now_s"] for line in lines] == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert all(line["low_bpm"] <= line["pulse_rate_bpm"] <= line["high_bpm"] for line in lines)
    assert last["windows"] == 5


def test_quiet_prints_nothing_but_errors(recording, tmp_path):
    options = ("predict", "--weights=paper", "--quiet", f"--out={tmp_path}")
    assert run(*options, f"--video={recording}") == (0, "", "")
    code, printed, err = run(*options, "--video=missing.mp4")
    assert (code, printed) == (2, "")
    assert err.startswith("error: missing.mp4")


def test_a_pipe_is_read_as_the_file_is(recording, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(recording.read_bytes(),), daemon=True).start()
    for name, source in (("pipe", pipe), ("file", recording)):
        code, printed, err = run(
            "predict", "--weights=paper", f"--video={source}", f"--out={tmp_path / ('out_' + name)}"
        )
        assert code == 0, err
        assert current_rates(printed) == (["90"] * 5 if name == "pipe" else [])
        assert ("no overlay.mp4" in printed) == (name == "pipe")
    live, whole = tmp_path / "out_pipe", tmp_path / "out_file"
    assert {p.name for p in live.iterdir()} == FILES - {"overlay.mp4"}
    assert (live / "rates.csv").read_text() == (whole / "rates.csv").read_text()
    with np.load(live / "map.npz") as a, np.load(whole / "map.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
    summary = json.loads((live / "summary.json").read_text())
    assert summary["live"]
    assert set(summary["files"]) == FILES - {"overlay.mp4"}
    assert summary["video_duration_s"] == 6.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_endless_source_is_stopped_with_all_files_complete(recording, tmp_path, number):
    """Standard input that gives a recording and then nothing, without an end."""
    with start(
        "predict", "--weights=paper", "--video=-", f"--out={tmp_path}", stdin=subprocess.PIPE
    ) as process:
        process.stdin.buffer.write(recording.read_bytes())
        process.stdin.flush()
        printed = "".join(process.stdout.readline() for _ in range(4))
        process.send_signal(number)
        # `communicate` would miss what the line reader has taken from the pipe ahead
        printed += process.stdout.read()
        assert process.wait(timeout=60) == 0, process.stderr.read()
    windows = len(current_rates(printed))
    assert windows in (3, 4, 5)
    assert {p.name for p in tmp_path.iterdir()} == FILES - {"overlay.mp4"}
    assert len(read_csv(tmp_path / "rates.csv")) == windows
    with np.load(tmp_path / "map.npz", allow_pickle=False) as maps:
        assert len(maps["time_s"]) == len(maps["probability"]) == windows
    assert json.loads((tmp_path / "summary.json").read_text())["windows"] == windows


def test_a_pipe_too_short_leaves_no_results(recording, tmp_path):
    process = start("predict", "--weights=paper", "--video=-", f"--out={tmp_path}", stdin=subprocess.PIPE)
    process.stdin.buffer.write(recording.read_bytes()[:100_000])
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "stdin: ended too soon; one window needs 2 s" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


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


def test_keras_weights_map_a_video(shared, tmp_path):
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 256, (75, 32, 40), np.uint8))
    video_of_one_window = (f"--video={tmp_path / 'noise.npy'}", "--fps=30", f"--out={tmp_path / 'out'}")
    code, _, err = run("predict", f"--weights={shared / 'reference'}", *video_of_one_window)
    assert code == 0, err
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["windows"] == 1


def write_clips(root, *, names=("lab/1", "b", "c", "still"), seconds=13, fps=15):
    """A folder of clips of 66, 84, 102 ... bpm; `c` has a consensus, `still` no pulse."""
    manifest, rng = [], np.random.default_rng(0)
    time_s = np.arange(seconds * fps) / fps
    for index, name in enumerate(names):
        rate_bpm = 66 + 18 * index
        wave = np.sin(2 * np.pi * rate_bpm / 60 * time_s) * (name != "still")
        colour = np.array([184, 133, 112]) - 2 * wave[:, None] * np.array([0.3, 1.0, 0.6])
        frames = colour[:, None, None] + rng.normal(0, 2, (len(time_s), 24, 32, 3))
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / f"{name}.npy", np.clip(frames.round(), 0, 255).astype(np.uint8))
        np.savetxt(root / f"{name}_timestamps.txt", time_s)
        entry = {"name": name, "file": f"{name}.npy", "truth_kind": "ppg"}
        if name == "c":
            entry |= {"truth_kind": "consensus", "hr_consensus": rate_bpm}
        elif name == "still":
            entry |= {"truth_kind": "no measurable pulse"}
        else:
            contact_s = np.arange(0, seconds, 1 / 60)
            table = np.stack([contact_s, np.sin(2 * np.pi * rate_bpm / 60 * contact_s)], 1)
            np.savetxt(root / f"{name}_ppg.csv", table, delimiter=",", header="t_s,ppg", comments="")
        manifest.append(entry)
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


def evaluate(root, out, *arguments):
    return run("evaluate", "--dataset=clips", f"--root={root}", f"--out={out}", *arguments)


def without_timing(path):
    return [{k: v for k, v in row.items() if k != "seconds_per_minute"} for row in read_csv(path)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def evaluated(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    code, printed, err = evaluate(clips, out, "--methods=green,chrom,pos,pos:tracked,pos_map", "--patch=8")
    assert code == 0, err
    return out, printed


def test_evaluation_writes_everything(evaluated):
    out, printed = evaluated
    assert {p.name for p in out.iterdir()} == {
        "results.csv", "windows.csv", "table.md", "evidence",
        "rate_lab%2F1.png", "rate_b.png", "rate_c.png", "rate_still.png",
        "errors.png", "bland_altman.png", "scatter.png", "reliability.png",
    }  # fmt: skip
    results, windows = read_csv(out / "results.csv"), read_csv(out / "windows.csv")
    assert ",".join(results[0]) == (
        "method,clip,n_windows,answered,mae_bpm,rmse_bpm,within_5bpm,pearson,snr_db,coverage,seconds_per_minute,"
        "mae_beats_bpm,within_5bpm_beats,truth_gap_bpm,"
        "painted,found,found_at_3_percent,roc_area,roc_area_clip,iou"
    )
    assert ",".join(windows[0]) == (
        "method,clip,time_s,truth_bpm,device_bpm,beats_bpm,answer_bpm,low_bpm,high_bpm,confidence,log_odds"
    )
    assert len(results) == 5 * 4
    assert len(windows) == 5 * 4 * 3, "the last frame, at 12.93 s, ends the fourth window early"
    assert (out / "table.md").read_text().strip() in printed
    assert "95 % CI" in printed
    assert re.search(r"\(\d+\.\d to \d", printed) is None, "two recordings have no interval"
    contact = [row for row in results if row["clip"] in ("lab/1", "b")]
    assert all(float(row["mae_beats_bpm"]) < 1 and float(row["truth_gap_bpm"]) < 1 for row in contact)
    assert {row["within_5bpm_beats"] for row in contact} == {"1.0000"}
    assert {row["truth_gap_bpm"] for row in results if row["clip"] in ("c", "still")} == {""}
    assert {row["painted"] for row in results} == {""}, "no clip has a mask"
    for row in results:
        if row["clip"] == "still":
            assert (row["n_windows"], row["mae_bpm"]) == ("3", "")
        else:
            assert float(row["mae_bpm"]) < 1
            assert float(row["within_5bpm"]) == 1
            assert (float(row["snr_db"]) > 5) if row["method"] != "pos_map" else row["snr_db"] == ""
            assert bool(row["coverage"]) == (row["method"] in ("pos:tracked", "pos_map"))
    errors = {
        (row["method"], row["clip"]): abs(float(row["answer_bpm"]) - float(row["truth_bpm"]))
        for row in windows
        if row["clip"] != "still"
    }
    assert max(errors.values()) < 2


def write_lossless(path, frames, *, fps):
    with av.open(str(path), "w") as container:
        track = container.add_stream("ffv1", rate=fps)
        track.height, track.width, track.pix_fmt = *frames.shape[1:3], "bgr0"
        for image in frames:
            container.mux(track.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(track.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos of 72 bpm on their left halves with tables beside them, one of which is wrong, and a mask."""
    root, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    time_s, skin = np.arange(13 * 15) / 15, np.arange(48) < 24
    wave = np.sin(2 * np.pi * 72 / 60 * time_s)[:, None, None, None] * skin[:, None]
    frames = np.array([184, 133, 112]) - 0.25 * wave * np.array([0.3, 1.0, 0.6])  # half of it is found
    frames = frames + rng.normal(0, 2, (len(time_s), 24, 48, 3))
    for name in ("me", "you", "bad"):
        pixels = np.clip(frames.round(), 0, 255).astype(np.uint8)
        write_lossless(root / f"{name}.mkv", pixels, fps=15)
    rows = [f"{t:.3f},{np.sin(2 * np.pi * 72 / 60 * t):.4f}" for t in np.arange(0, 13, 1 / 60)]
    (root / "me.csv").write_text("\n".join(["time_s,ppg", *rows]))
    (root / "you.csv").write_text("rate_bpm\n70\n")
    (root / "bad.csv").write_text("seconds,bpm\n0,70\n")
    mask = np.where(skin, 255, 0).astype(np.uint8) * np.ones((24, 1), np.uint8)
    mask[:, 20:28] = 128
    Image.fromarray(mask).save(root / "me_skin.png")
    return root


def test_a_folder_of_videos_is_scored_and_its_maps_against_masks(videos, tmp_path):
    arguments = ("--methods=pos_map", "--patch=8", "--stride=4")
    code, printed, err = evaluate(videos, tmp_path, *arguments)
    assert code == 1
    assert "skipped bad: " in err
    assert "bad.csv: header 'seconds,bpm'; choose one of time_s,ppg; time_s,rate_bpm; rate_bpm" in err
    me, you = read_csv(tmp_path / "results.csv")
    assert (me["clip"], you["clip"]) == ("me", "you")
    assert float(me["mae_bpm"]) < 2
    assert float(you["mae_bpm"]) == pytest.approx(2, abs=2), "72 where the device says 70"
    assert you["painted"] == ""
    assert 0.3 < float(me["found"]) < 0.8
    assert float(me["painted"]) < 0.1
    assert float(me["roc_area"]) > 0.7
    assert (tmp_path / "map_me.png").exists()
    assert not (tmp_path / "map_you.png").exists()
    assert "Maps against skin masks" in printed
    assert "ranked by the probability of a pulse" in printed
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "evidence").iterdir()}
    code, printed, err = evaluate(videos, tmp_path, *arguments, "--place_score=confidence", "--recordings=me")
    assert code == 0, err
    assert made == {p: p.stat().st_mtime_ns for p in (tmp_path / "evidence").iterdir()}, "at no cost"
    (again,) = read_csv(tmp_path / "results.csv")
    changed = {name for name in me if me[name] != again[name]}
    assert "roc_area" in changed
    assert changed <= {"found_at_3_percent", "roc_area", "roc_area_clip", "iou"}
    assert "ranked by confidence" in printed


def test_a_mask_of_another_size_is_named_before_anything_is_computed(videos, tmp_path):
    root = shutil.copytree(videos, tmp_path / "videos")
    Image.new("L", (20, 10)).save(root / "me_skin.png")
    code, _, err = evaluate(root, tmp_path / "out", "--methods=pos_map", "--recordings=me")
    assert code == 2
    assert "skipped me: (pos_map) skin mask of 20x10 px for frames of 48x24 px; scale it" in err


def test_the_map_of_the_demo_scene_is_scored(tmp_path):
    code, printed, err = run("evaluate", "--dataset=demo", f"--out={tmp_path}", "--methods=pos_map")
    assert code == 0, err
    (row,) = read_csv(tmp_path / "results.csv")
    assert (row["clip"], row["n_windows"], row["mae_bpm"]) == ("demo", "0", "")
    assert float(row["painted"]) < 0.1
    assert float(row["found"]) > 0.95, "each ellipse at its own rate"
    assert float(row["roc_area"]) > 0.95
    assert {p.name for p in tmp_path.glob("*.png")} == {"map_demo.png", "rate_demo.png"}
    assert printed.startswith("MAE"), "there is no table of rates"


def test_windows_with_a_pulse_are_told_from_a_pulseless_set(videos, tmp_path):
    arguments = (
        "--methods=pos,pos_map:median",
        "--patch=8",
        "--recordings=me",
        "--roi=skin",
        "--pulseless=1",
    )
    code, printed, err = evaluate(videos, tmp_path, *arguments)
    assert code == 0, err
    rows = {(row["method"], row["clip"]): row for row in read_csv(tmp_path / "results.csv")}
    kinds = ["still", "moving camera", "flicker", "black", "saturated"]
    names = {f"{kind}{coded}/1" for kind in kinds for coded in ("", " x264")} | {"photograph/me"}
    assert {clip for _, clip in rows} == names | {"me"}, "its walls are too narrow"
    assert {(row["n_windows"], row["mae_bpm"]) for (_, clip), row in rows.items() if clip != "me"} == {
        ("6", "")
    }
    table = printed[printed.index("Whether there is a pulse") :].splitlines()
    found = {row[1]: row[2:-1] for row in ([cell.strip() for cell in line.split("|")] for line in table[4:6])}
    assert set(found) == {"pos", "pos_map:median"}
    for method, (area, *shares) in found.items():
        assert 0 <= float(area) <= 1
        at_1_percent, at_5_percent, answered, made_up = map(float, shares)
        assert 0 <= at_1_percent <= at_5_percent <= 100
        assert answered == 100
        windows = [int(rows[method, name]["answered"]) for name in names]
        assert made_up == pytest.approx(100 * sum(windows) / (6 * len(names)), abs=0.05)
    assert float(found["pos_map:median"][0]) > 0.7
    assert "| still " in printed
    assert "6 of 6" in printed
    assert printed.index("| recording") < printed.index("Whether there is a pulse")
    assert "photograph/me" not in printed, "the set has tables of its own"
    assert {p.name for p in tmp_path.glob("*.png")} == {
        "rate_me.png", "map_me.png", "errors.png", "bland_altman.png", "scatter.png", "detection.png",
    }  # fmt: skip
    code, _, err = evaluate(videos, tmp_path / "toolbox", "--pulseless=1", "--protocol=toolbox")
    assert code == 2
    assert "--pulseless: --protocol=toolbox answers always" in err


def test_recordings_of_which_nothing_was_answered_are_named(tmp_path):
    root = write_clips(tmp_path / "clips", names=("a", "b", "still"))
    frames = np.load(root / "b.npy")
    np.save(root / "b.npy", np.full_like(frames, 100))
    code, printed, err = evaluate(root, tmp_path / "out", "--methods=green,pos")
    assert code == 0, err
    assert "Recordings with a pulse of which nothing was answered: green: b; pos: b\n" in printed
    assert "No face found, the skin of the whole frame taken instead: a, b, still\n" in printed


def test_evaluation_resumes_and_makes_other_read_outs_at_no_cost(clips, evaluated, tmp_path):
    shutil.copytree(evaluated[0] / "evidence", tmp_path / "evidence")
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "evidence").iterdir()}
    assert len(made) == 4 * 4, "green, chrom, pos, pos_map; four clips"
    damaged = tmp_path / "evidence" / "pos,b.npz"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    code, _, err = evaluate(
        clips, tmp_path, "--methods=pos:posterior,pos_map:eq8,pos_map", "--patch=8", "--stride=4"
    )
    assert code == 0, err
    changed = {p.name for p, time_ns in made.items() if p.stat().st_mtime_ns != time_ns}
    names = ("lab%2F1", "b", "c", "still")
    assert changed == {"pos,b.npz", *(f"pos_map,{name}.npz" for name in names)}, "another stride"
    assert {row["method"] for row in read_csv(tmp_path / "results.csv")} == {
        "pos:posterior", "pos_map:eq8", "pos_map",
    }  # fmt: skip


def test_shards_come_together(clips, evaluated, tmp_path):
    arguments = ("--methods=green,chrom,pos,pos:tracked,pos_map", "--patch=8")
    code, printed, err = evaluate(clips, tmp_path, *arguments, "--shard=0/2")
    assert code == 0, err
    assert "2 of 4 recordings missing or not complete: b, still" in printed
    assert {row["clip"] for row in read_csv(tmp_path / "results.csv")} == {"lab/1", "c"}
    assert not list(tmp_path.glob("*.png")), "figures are drawn of the whole"
    code, printed, err = evaluate(clips, tmp_path, *arguments, "--shard=1/2")
    assert code == 0, err
    assert "missing" not in printed
    assert without_timing(tmp_path / "results.csv") == without_timing(evaluated[0] / "results.csv")
    assert read_csv(tmp_path / "windows.csv") == read_csv(evaluated[0] / "windows.csv")
    assert (tmp_path / "errors.png").exists()


@pytest.mark.parametrize(
    ("shard", "environment", "expected"),
    [
        (None, {}, (0, 1)),
        (None, {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, (3, 4)),
        ("1/2", {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, (1, 2)),
    ],
)
def test_shard_of_a_process(shard, environment, expected):
    assert common.parse_shard(shard, environment) == expected


def test_damaged_recordings_are_named_and_skipped(tmp_path):
    root = write_clips(tmp_path / "clips", names=("a", "b", "d", "e"))
    (root / "b_ppg.csv").write_text("t_s,ppg\n0,x\n")
    (root / "d.npy").unlink()
    np.savetxt(root / "e_timestamps.txt", np.arange(20) / 15)
    code, printed, err = evaluate(root, tmp_path / "out", "--methods=pos,chrom")
    assert code == 1
    skipped = [line for line in err.splitlines() if line.startswith("skipped")]
    assert [line.split(":")[0] for line in skipped] == ["skipped b", "skipped d", "skipped e"]
    assert "Traceback" not in err
    assert "3 of 4 recordings missing" in printed
    assert {row["clip"] for row in read_csv(tmp_path / "out" / "results.csv")} == {"a"}
    code, _, err = evaluate(root, tmp_path / "none", "--methods=pos", "--recordings=b,d")
    assert code == 2
    assert "no recording could be scored" in err


def test_toolbox_protocol_answers_once_per_recording(clips, tmp_path):
    code, _, err = evaluate(
        clips, tmp_path, "--protocol=toolbox", "--methods=chrom,pos_map:median", "--patch=8"
    )
    assert code == 0, err
    rows = read_csv(tmp_path / "windows.csv")
    assert [(row["method"], row["clip"]) for row in rows[:2]] == [
        ("chrom", "lab/1"),
        ("pos_map:median", "lab/1"),
    ]
    assert len(rows) == 2 * 4
    width = 60 * 30 / 512
    assert float(rows[0]["truth_bpm"]) == pytest.approx(round(66 / width) * width, abs=1e-3)
    assert rows[0]["answer_bpm"] == rows[0]["truth_bpm"]
    assert float(rows[1]["answer_bpm"]) == pytest.approx(66, abs=1)
    assert not list(tmp_path.glob("*.png"))
    code, _, err = evaluate(clips, tmp_path, "--protocol=toolbox", "--methods=chrom:tracked")
    assert code == 2
    assert "no read-out" in err


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
