"""launch.predict as a user runs it: files, pipes, interrupts."""

import json
import os
import signal
import subprocess
import threading

import av
import numpy as np
import pytest
from helpers.demo import FILES, assert_finds_every_region
from helpers.launching import read_csv, run, start

from pulse3d import video

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("limits", ["90", "90,50", "a,b", "50,90,120", "50,inf"])
def test_limits_of_colours_that_are_none_are_refused(limits, tmp_path):
    code, _, err = run("predict", f"--limits_bpm={limits}", f"--out={tmp_path / 'out'}")
    assert (code, (tmp_path / "out").exists()) == (2, False)
    assert f"--limits_bpm={limits}: expected two rates in bpm, such as 40,140" in err


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    code, printed, err = run("predict", "--weights=paper", f"--out={out}")
    assert code == 0, err
    return out, printed


def test_demo_finds_every_region_and_nothing_else(demo):
    assert_finds_every_region(demo[1])
    [background] = [line.split() for line in demo[1].splitlines() if line.startswith("background")]
    assert float(background[-1].strip("%")) <= 10


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
    assert overlay[0].image.shape == (270, 480, 3)  # enlarged


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


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
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


def test_keras_weights_map_a_video(shared, tmp_path):
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 256, (75, 32, 40), np.uint8))
    video_of_one_window = (f"--video={tmp_path / 'noise.npy'}", "--fps=30", f"--out={tmp_path / 'out'}")
    code, _, err = run("predict", f"--weights={shared / 'reference'}", *video_of_one_window)
    assert code == 0, err
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["windows"] == 1
