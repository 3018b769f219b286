"""Hours of video, a thousand clips, two dozen processes: nothing grows, nothing is compiled again.

    pytest -m long -n 0 -s tests/whole/test_soak.py

Each in processes of its own, as a user's are; prints the figures as JSON.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.launching import ROOT

from pulse3d import pipeline, stream, video
from pulse3d.network.weights_file import load_weights

FPS, RATE_BPM = 30.0, 72.0
SIZES = ((48, 64), (64, 48), (60, 90), (64, 64))

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc"),
]


def pulsating(frames, size, rng):
    """Images of a noisy plane that pulsates."""
    noise = rng.normal(0, 3, (64, *size, 3)).astype(np.float32)
    for index in range(frames):
        wave = np.sin(2 * np.pi * RATE_BPM / 60 * index / FPS)
        colour = np.float32([150, 110, 90]) * (1 - np.float32([0.004, 0.01, 0.007]) * np.float32(wave))
        yield np.round(colour + noise[rng.integers(64)]).astype(np.uint8)


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def follow_hours(hours, step_s=5.0):
    """Streams one video; prints time, memory and the rate now and then."""
    images = pulsating(round(hours * 3600 * FPS), SIZES[0], np.random.default_rng(0))
    frames = (video.Frame(index / FPS, image) for index, image in enumerate(images))
    curve, rates, times = [], [], []
    for count, window in enumerate(stream.map_stream(frames, step_s=step_s)):
        times.append(window.time_s)
        rates.append(window.reading.rate_bpm)
        if count % 36 == 0:
            curve.append((round(window.time_s / 60), resident_mb()))
    drift = float(abs(np.diff(times) - step_s).max())
    wrong = float(np.mean(~(abs(np.array(rates) - RATE_BPM) < 3)))
    print(json.dumps({"minute_mb": curve, "windows": len(times), "largest_drift_s": drift, "wrong": wrong}))


def map_clips(clips):
    """Maps short clips of a few sizes in one process; prints memory, open files and what was compiled."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: (
            compiled.append(event) if event.endswith("backend_compile_duration") else None
        )
    )
    rng, curve, weights = np.random.default_rng(0), [], load_weights("default")
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        for count in range(clips + 1):
            if count in (len(SIZES), clips) or count % 50 == 0:
                opened = len(os.listdir("/proc/self/fd"))
                curve.append((count, resident_mb(), opened, len(os.listdir(folder)), len(compiled)))
            if count < clips:
                path = Path(folder) / "clip.npy"
                np.save(path, np.stack(list(pulsating(305, SIZES[count % len(SIZES)], rng))))
                found = pipeline.map_video(path, weights, fps=FPS)
                assert abs(found.pulse_rate_bpm - RATE_BPM).max() < 3
                del found
    print(json.dumps({"clips_mb_files_folders_compiled": curve}))


def run(call):
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    code = f"import test_soak; test_soak.{call}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "tests", env=environment, stdout=subprocess.PIPE, check=True
    )
    print(call, done.stdout.decode())
    return json.loads(done.stdout)


def assert_flat(curve):
    """Memory after the first tenth: the last third as the first but for 2 %, no moment 15 % above."""
    memory = np.array([row[1] for row in curve])
    settled = memory[len(memory) // 10 + 1 :]
    first, last = (
        np.median(settled[part]) for part in (slice(len(settled) // 3), slice(-len(settled) // 3, None))
    )
    assert last < 1.02 * first
    assert settled.max() < 1.15 * first


def test_two_hours_of_video_in_flat_memory():
    found = run("follow_hours(2)")
    assert found["windows"] == 1439
    assert found["largest_drift_s"] < 1e-6
    assert found["wrong"] == 0
    assert_flat(found["minute_mb"])


def test_a_thousand_clips_in_one_process():
    curve = run("map_clips(1000)")["clips_mb_files_folders_compiled"]
    assert_flat(curve)
    first = next(row for row in curve if row[0] == len(SIZES))
    for last in (row for row in curve if row[0] > len(SIZES)):
        assert last[2:] == first[2:], "open files, temporary folders, programs"


def test_two_dozen_processes_on_one_root(tmp_path):
    images = np.stack(list(pulsating(330, SIZES[0], np.random.default_rng(0))))
    environment = os.environ | {
        "XLA_FLAGS": "", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
    }  # fmt: skip
    rates, sizes, cached = [], [], []
    for number in range(24):
        np.save(tmp_path / f"{number}.npy", images)
        command = [sys.executable, "-m", "launch.predict", f"--video={number}.npy", "--fps=30"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        out = tmp_path / "pulse3d_out" / str(number)
        rates.append((out / "rates.csv").read_bytes())
        sizes.append({path.name: path.stat().st_size for path in out.iterdir() if path.suffix == ".npz"})
        cached.append(sum(not path.name.endswith("-atime") for path in (tmp_path / "cache").rglob("*")))
    assert len(set(rates)) == 1
    first = next(csv.DictReader(rates[0].decode().splitlines()))
    assert abs(float(first["pulse_rate_bpm"]) - RATE_BPM) < 3
    assert all(size == sizes[0] for size in sizes)
    assert len(set(cached)) == 1, "later processes compile nothing"
    assert sorted(int(path.name) for path in (tmp_path / "pulse3d_out").iterdir()) == list(range(24))
    print(f"24 processes: {cached[0]} cached programs, the same rates.csv each time")
