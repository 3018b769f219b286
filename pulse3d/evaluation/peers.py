"""Runs other rPPG programs on the same videos, each in its own process.

A peer is named `open-rppg:MODEL`: a supervised network of open-rppg (the extra `peers`;
https://github.com/KegangWangCCNU/open-rppg). It runs as
`python -m pulse3d.evaluation.peers MODEL`, so that its state, threads and JAX are separate from ours. Every
recording starts a new process.

The process writes READY to standard output when its network is loaded. It reads a line with the frames'
height and width, then every frame as its time in s (a little-endian double) and its pixels (uint8, RGB),
then a time of nan and a line with the windows. It answers with a line of JSON.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import IO, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from pulse3d.errors import InputError
from pulse3d.evaluation.metrics import Windows
from pulse3d.video import Video, to_bytes

OPEN_RPPG = "open-rppg"
READY = b"ready\n"
CLOCK = struct.Struct("<d")


class Peer(NamedTuple):
    """A peer's output for a recording.

    rate_bpm, quality: one per window; nan and 0 without an answer. quality is the peer's own, 0...1. signal,
    time_s: its pulse signal, any unit, at times on the video's clock; empty if there is none. end_s: time
    stamp of the video's last frame. seconds: computing time, decoding included, without the start of the
    process.
    """

    rate_bpm: Windows
    quality: Windows
    time_s: Float[np.ndarray, "time"]
    signal: Float[np.ndarray, "time"]
    end_s: float
    seconds: float


def require(source: str) -> None:
    """Raises InputError where the peer is not installed."""
    if importlib.util.find_spec("rppg") is None:
        raise InputError(
            f"method {source}: needs open-rppg; pip install open-rppg 'opencv-python-headless<5'"
        )


def ask(source: str, video: Video, windows: Callable[[float], list[tuple[float, float]]]) -> Peer:
    """Runs the peer of that name on a video.

    windows: maps the time stamp of the last frame, in s, to (start, end) of each window. Raises InputError
    if the video cannot be read or the peer ends without an answer.
    """
    require(source)
    model = source.partition(":")[2]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if cache := jax.config.values["jax_compilation_cache_dir"]:  # ours, so that only the first start compiles
        environment |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            [sys.executable, "-m", "pulse3d.evaluation.peers", model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        reply, started, last_s = b"", time.perf_counter(), 0.0
        try:
            if process.stdout.readline() == READY:
                started = time.perf_counter()
                last_s = _send(process.stdin, video, windows)
                reply = process.stdout.read()
        except BrokenPipeError:  # the process has ended; its error is raised below
            pass
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(OSError):  # for data that it has not read
                process.stdin.close()
        seconds = time.perf_counter() - started
        if process.wait() or not reply:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["it ended"]
            raise InputError(f"{source}: {lines[-1][:200]}")
    found = {name: np.array(values, float) for name, values in json.loads(reply).items()}
    return Peer(**found, end_s=last_s, seconds=seconds)


def _send(pipe: IO[bytes], video: Video, windows: Callable[[float], list[tuple[float, float]]]) -> float:
    """Sends a whole video, then the windows; returns the time of its last frame."""
    last_s = 0.0
    pipe.write(json.dumps([video.height, video.width]).encode() + b"\n")
    for frame in video.frames():
        last_s = frame.time_s
        pipe.write(CLOCK.pack(last_s) + to_bytes(frame.image).tobytes())
    pipe.write(CLOCK.pack(np.nan) + json.dumps(windows(last_s)).encode() + b"\n")
    pipe.flush()
    return last_s


def answer(model: str, frames: IO[bytes], answers: IO[bytes]) -> None:
    """The other end: runs a model of open-rppg on the frames and writes the answer."""
    import rppg

    peer = rppg.Model(model)
    answers.write(READY)
    answers.flush()
    height, width = json.loads(frames.readline())
    started_s = None
    with peer:
        while not np.isnan(time_s := CLOCK.unpack(frames.read(CLOCK.size))[0]):
            pixels = np.frombuffer(frames.read(3 * height * width), np.uint8)
            started_s = time_s if started_s is None else started_s
            peer.update_frame(pixels.reshape(height, width, 3), time_s)
    rates, quality = [], []
    for start_s, end_s in json.loads(frames.readline()):
        # the peer's clock starts with the first frame
        says = peer.hr(max(start_s - (started_s or 0), 0), end_s - (started_s or 0), return_hrv=False)
        known = says is not None and says["hr"] is not None and np.isfinite(says["hr"])
        rates.append(float(says["hr"]) if known else np.nan)
        quality.append(float(np.clip(np.nan_to_num(says["SQI"]), 0, 1)) if known else 0.0)
    signal, signal_s = peer.bvp() if peer.has_signal else ([], [])
    found = {
        "rate_bpm": rates,
        "quality": quality,
        "time_s": (np.asarray(signal_s, float) + (started_s or 0)).tolist(),
        "signal": np.asarray(signal, float).tolist(),
    }
    answers.write(json.dumps(found).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    # what the peer prints goes to standard error
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer(sys.argv[1], sys.stdin.buffer, own)
