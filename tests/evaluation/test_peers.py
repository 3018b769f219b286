from __future__ import annotations

import importlib.util
import os
import textwrap

import jax
import numpy as np
import pytest
from helpers.launching import evaluate, read_csv, run, write_clips

from pulse3d import video
from pulse3d.errors import InputError
from pulse3d.evaluation import datasets, peers

# Stands in for open-rppg: its pulse is the mean green of the frames, its rate that of the strongest wave.
STAND_IN = """
import os

import numpy as np

class Model:
    def __init__(self, model):
        if model == "Cache.fake":
            raise ValueError("compiles into " + os.environ["JAX_COMPILATION_CACHE_DIR"])
        if model not in ("Green.fake", "Dies.fake"):
            raise ValueError(f"no model {model}")
        self.dies = model == "Dies.fake"
        print("hello from the peer")

    def __enter__(self):
        self.green, self.ts = [], []
        return self

    def __exit__(self, *error):
        pass

    def update_frame(self, frame, ts):
        assert frame.dtype == np.uint8
        if self.dies and len(self.ts) == 3:
            raise RuntimeError("too tired")
        self.green.append(-frame[..., 1].mean())
        self.ts.append(ts)

    @property
    def has_signal(self):
        return bool(self.ts)

    def bvp(self, start=0, end=None):
        time_s = np.array(self.ts) - self.ts[0]
        inside = (time_s >= start) & (time_s <= (end or time_s[-1]))
        return np.array(self.green)[inside], time_s[inside]

    def hr(self, start=0, end=None, return_hrv=True):
        assert not return_hrv
        signal, time_s = self.bvp(start, end)
        if np.ptp(signal) == 0:
            return {"hr": None, "SQI": None}
        rates = np.arange(40, 180)
        power = abs(np.exp(2j * np.pi * np.outer(rates / 60, time_s)) @ (signal - signal.mean()))
        return {"hr": rates[power.argmax()], "SQI": 0.75}
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """An `rppg` for this process and those that it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "rppg.py").write_text(textwrap.dedent(STAND_IN))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(folder))


def make_video(start_s=0.0, *, rate_bpm=72.0, seconds=12.0, fps=20.0):
    """Its green pulsates at 72 bpm in the first half, at twice that in the second; floats 0...1."""

    def frames():
        for index in range(round(seconds * fps)):
            time_s = index / fps
            rate = rate_bpm * (1 + (time_s > seconds / 2))
            green = 0.5 - 0.05 * np.sin(2 * np.pi * rate / 60 * time_s)
            yield video.Frame(start_s + time_s, np.full((4, 6, 3), [0.5, green, 0.5], np.float32))

    return video.Video("made", 4, 6, fps, seconds, frames)


@pytest.mark.parametrize("start_s", [0.0, 0.5])
def test_a_peer_answers_windows_of_the_videos_clock(stand_in, start_s):
    said = peers.ask(
        "open-rppg:Green.fake", make_video(start_s), lambda end_s: [(start_s, 5.5), (6.5, end_s)]
    )
    np.testing.assert_allclose(said.rate_bpm, [72, 144], atol=2)
    np.testing.assert_array_equal(said.quality, [0.75, 0.75])
    assert said.end_s == pytest.approx(start_s + 11.95)
    np.testing.assert_allclose(said.time_s, start_s + np.arange(240) / 20)
    np.testing.assert_allclose(np.ptp(said.signal), 0.1 * 255, atol=1.1)
    assert said.seconds > 0


def test_a_peer_that_says_nothing_gives_no_rate(stand_in):
    still = video.from_array(np.full((60, 4, 6, 3), 100, np.uint8), fps=20.0)
    said = peers.ask("open-rppg:Green.fake", still, lambda end_s: [(0.0, end_s)])
    assert np.isnan(said.rate_bpm).all()
    np.testing.assert_array_equal(said.quality, [0])


def test_what_stops_a_peer_is_said_in_one_line(stand_in):
    with pytest.raises(InputError, match=r"^open-rppg:Other: ValueError: no model Other$"):
        peers.ask("open-rppg:Other", make_video(), lambda end_s: [])


def test_a_peer_keeps_compiled_programs_where_we_do(stand_in, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "compiled"))
    try:
        with pytest.raises(InputError, match=rf"compiles into {tmp_path}/compiled$"):
            peers.ask("open-rppg:Cache.fake", make_video(), lambda end_s: [])
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_peer_that_dies_on_the_way_says_why(stand_in):
    with pytest.raises(InputError, match=r"^open-rppg:Dies.fake: RuntimeError: too tired$"):
        peers.ask("open-rppg:Dies.fake", make_video(seconds=600.0), lambda end_s: [])


def test_a_video_that_cannot_be_read_stops_the_peer(stand_in):
    def frames():
        yield from list(make_video().frames())[:3]
        raise InputError("made: broken")

    source = video.Video("made", 4, 6, 20.0, 12.0, frames)
    with pytest.raises(InputError, match="made: broken"):
        peers.ask("open-rppg:Green.fake", source, lambda end_s: [])


@pytest.mark.slow
def test_a_peer_stands_in_the_same_table(stand_in, tmp_path):
    root = write_clips(tmp_path / "clips", names=("a", "b", "still"))
    methods = "--methods=open-rppg:Green.fake,open-rppg:Green.fake:peak,pos"
    code, printed, err = evaluate(root, tmp_path / "out", methods, "--roi=skin")
    assert code == 0, err
    rows = {(row["method"], row["clip"]): row for row in read_csv(tmp_path / "out" / "results.csv")}
    assert len(rows) == 9
    for method in ("open-rppg:Green.fake", "open-rppg:Green.fake:peak"):
        for clip in ("a", "b"):
            assert float(rows[method, clip]["mae_bpm"]) < 1
            assert float(rows[method, clip]["snr_db"]) > 5
            assert float(rows[method, clip]["seconds_per_minute"]) > 0
    assert "hello" not in printed
    stated = {row["log_odds"] for row in read_csv(tmp_path / "out" / "windows.csv")[:3]}
    assert stated == {f"{np.log(3):.3f}"}, "its quality, 0.75"


@pytest.mark.slow
def test_a_peer_takes_the_toolbox_protocol(stand_in, tmp_path):
    root = write_clips(tmp_path / "clips", names=("a",))
    code, _, err = evaluate(root, tmp_path / "out", "--methods=open-rppg:Green.fake", "--protocol=toolbox")
    assert code == 0, err
    (row,) = read_csv(tmp_path / "out" / "windows.csv")
    assert row["answer_bpm"] == row["truth_bpm"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("rppg") is not None, reason="open-rppg is installed")
def test_without_the_extra_one_line_says_so(tmp_path):
    code, _, err = run("evaluate", "--dataset=demo", f"--out={tmp_path}", "--methods=open-rppg:FacePhys.rlap")
    assert code == 2
    assert err.strip().endswith(
        "method open-rppg:FacePhys.rlap: needs open-rppg; pip install open-rppg 'opencv-python-headless<5'"
    )


def test_open_rppg_reads_a_real_clip(shared):
    pytest.importorskip("rppg")
    (recording,) = [
        one for one in datasets.find_recordings("clips", shared / "clips") if one.name == "ubfc2_s12"
    ]
    said = peers.ask(
        "open-rppg:FacePhys.rlap", recording.open_video(), lambda end_s: [(0.0, 30.0), (30.0, 60.0)]
    )
    assert (abs(said.rate_bpm - 68) < 8).all()
    assert (said.quality > 0.3).all()
