"""The README's commands and code as they stand there; what takes hours or a camera is made small."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.compiling import QUICKLY
from helpers.demo import FILES, assert_finds_every_region
from helpers.inputs import encode
from helpers.launching import ROOT, TOY, read_csv

from pulse3d import config

pytestmark = pytest.mark.slow

BLOCKS = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line for language, text in BLOCKS for line in text.splitlines() if not language]
CODE = [text for language, text in BLOCKS if language == "python"]

EVALUATE = "python -m launch.evaluate --dataset=ubfc2 --root=UBFC2 --out=results"

# what is run of a line, and what it must leave; None: run by `.ci/run` itself
CASES = {
    "pip install -e . && python -m launch.predict": (
        "python -m launch.predict",
        "pulse3d_out/demo/report.html",
    ),
    "pulse3d me.mp4": (
        "pulse3d me.mp4 | tee /dev/stderr | grep -q 'pulse rate, median over windows: 7[12]'",
        "pulse3d_out/me/report.html",
    ),
    "pulse3d live": ("pulse3d live --help", None),
    "ffmpeg -i rtsp://camera -c copy -f mpegts - | pulse3d predict -": (
        "cat me.ts | pulse3d predict - --out=piped --overwrite",
        "piped/rates.csv",
    ),
    "pip install -e '.[test]' && pytest": None,
    "python -m launch.train --workdir=runs/default": (
        f"python -m launch.train --workdir=runs/default --steps=2 {' '.join(TOY)}",
        "runs/default/weights.npz",
    ),
    f"{EVALUATE} --methods=default,green,chrom,pos": (
        f"{EVALUATE} --methods=pos --roi=frame",
        "results/table.md",
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a user's video, its stream, and a data set."""
    folder = tmp_path_factory.mktemp("user")
    time_s = np.arange(225) / 15
    wave = np.sin(2 * np.pi * 1.2 * time_s)
    colour = np.array([184, 133, 112]) - 2 * wave[:, None] * np.array([0.3, 1.0, 0.6])
    noise = np.random.default_rng(0).normal(0, 2, (225, 48, 64, 3))
    frames = np.clip(colour[:, None, None] + noise, 0, 255).round().astype(np.uint8)
    encode(folder / "me.mp4", frames, codec="libx264", options={"crf": "10"})
    encode(folder / "me.ts", frames, codec="libx264", options={"crf": "10"})
    subject = folder / "UBFC2" / "subject1"
    subject.mkdir(parents=True)
    encode(subject / "vid.avi", frames, codec="mjpeg", pix_fmt="yuvj420p")
    np.savetxt(subject / "ground_truth.txt", [wave, np.full(225, 72.0), time_s])
    return folder


@functools.cache
def shell(command, cwd):
    """Runs a command once, with this environment's programs, as in its terminal."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    code = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PATH": path, "PYTHONPATH": code, "JAX_PLATFORMS": "cpu"}
    # as a user's, but for what compiles for minutes
    environment["XLA_FLAGS"] = QUICKLY if "launch.train" in command else ""
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=environment, text=True, capture_output=True, timeout=300
    )


def test_every_command_has_a_case():
    assert sorted(COMMANDS) == sorted(CASES)


@pytest.mark.parametrize("line", [line for line, case in CASES.items() if case])
def test_command(line, place):
    command, left = CASES[line]
    done = shell(command, place)
    assert done.returncode == 0, done.stderr
    assert left is None or (place / left).stat().st_size > 0


def test_the_demo_shows_what_the_default_network_can(place):
    done = shell("python -m launch.predict", place)
    assert_finds_every_region(done.stdout)
    [background] = [line.split() for line in done.stdout.splitlines() if line.startswith("background")]
    assert float(background[-1].strip("%")) <= 1
    out, settings = place / "pulse3d_out" / "demo", config.get_preset("default")
    assert {p.name for p in out.iterdir()} == FILES
    times = [float(row["time_s"]) for row in read_csv(out / "rates.csv")]
    np.testing.assert_allclose(times, np.arange(5, 11), atol=1e-6)
    with np.load(out / "map.npz", allow_pickle=False) as maps:
        # 30 x 53 cells of 6 px, one column of pixels left out
        assert maps["probability"].shape == (6, 30, 53, settings.clip.rates)
        total = maps["probability"].sum(-1, dtype=float) + maps["network_no_pulse"]
        np.testing.assert_allclose(total, 1, atol=5e-3)
        np.testing.assert_allclose(maps["no_pulse"] + maps["confidence"], 1, atol=1e-6)
        np.testing.assert_allclose(maps["row_px"], 2.5 + 6 * np.arange(30))
        np.testing.assert_allclose(maps["col_px"], 3.5 + 6 * np.arange(53))
        np.testing.assert_array_equal(maps["rate_axis_bpm"], settings.clip.rate_axis_bpm)
        assert (float(maps["fps"]), str(maps["weights"])) == (15.0, "default")
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["windows"], summary["window_s"], summary["weights"]) == (6, 10.0, "default")
    assert (summary["patch_px"], summary["stride_px"], summary["centre"]) == (6, 6, "relative")


def test_the_code_runs(place):
    code = "\n".join(CODE).replace('pulse3d.open_video("0")', 'pulse3d.open_video("me.mp4")')
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, text=True, capture_output=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (place / "me.nc").exists()
