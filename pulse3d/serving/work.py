"""The work of a job: a video that was uploaded, or the frames of a webcam, through the network."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from pulse3d import pipeline, stream, video
from pulse3d.errors import InputError
from pulse3d.mapping.mapper import Mapper, make_mapper
from pulse3d.network.weights_file import Weights
from pulse3d.serving import messages
from pulse3d.serving.turns import Job
from pulse3d.showing import outputs

USUAL_SHAPE = (240, 320)  # of the frames that the network is compiled for before any come
MAX_SIDE_PX = 320  # of a webcam's frame
HELD_FRAMES = 120  # of a webcam, four seconds
WAIT_S = 2.0  # for room, before frames of a batch are lost
SILENT_S = 10.0  # without a frame, after which a webcam is taken to be off

Item = TypeVar("Item")


def warm_up(weights: Weights) -> None:
    """Compiles the network for frames of the usual shape."""
    mapper = make_mapper(weights.params, weights.config, USUAL_SHAPE)
    mapper(np.zeros(mapper.window_shape, np.float32))


def map_upload(job: Job, path: Path, folder: Path, weights: Weights) -> None:
    """Maps a video into a folder, as `launch.predict` does; messages have the job's name for the path.

    Raises InputError for what is no video, or too short.
    """
    with _named(str(path), job.name):
        source = video.open_video(path)
        notes = tuple(note.replace(str(path), job.name) for note in source.notes)
        frames = _naming(source.frames, str(path), job.name)
        source = replace(source, name=job.name, notes=notes, frames=frames)
        mapper = make_mapper(weights.params, weights.config, (source.height, source.width))

        def follow(source, frames, mapper, *, step_s) -> Iterator[stream.WindowResult]:
            windows = pipeline.follow(source, frames, mapper, step_s=step_s)
            yield from _tell(job, windows, mapper, duration_s=source.duration_s)
            job.tell(state="drawing", share=1.0)

        def watch(pictures: Iterable[Item]) -> Iterator[Item]:
            for picture in pictures:
                job.tell()  # raises Stopped
                yield picture

        found = outputs.map_into(
            folder,
            source,
            mapper,
            weights=weights.name,
            step_s=stream.whole_step(None, weights.config),
            follow=follow,
            watch=watch,
        )
    # the readings from all windows take the place of those from the windows so far
    job.tell(summary=found.summary, rates=messages.rates_of(found))


class Webcam:
    """Passes a webcam's frames, which come in batches, to the job that maps them; holds HELD_FRAMES."""

    def __init__(self, height: int, width: int, weights: Weights):
        if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
            raise InputError(f"webcam: {width}x{height} px; expected 1 to {MAX_SIDE_PX} px a side")
        self._mapper = make_mapper(weights.params, weights.config, (height, width))
        self._waiting: queue.Queue[video.Frame] = queue.Queue(HELD_FRAMES)

    @property
    def max_bytes(self) -> int:
        """The size of a batch of HELD_FRAMES, the largest allowed."""
        return HELD_FRAMES * _frame_type(self._mapper.layout.frame).itemsize

    def put(self, batch: bytes) -> None:
        """Takes a batch of frames, as in `read_batch`; those for which there is no room are lost."""
        deadline = time.monotonic() + WAIT_S
        for frame in read_batch(batch, self._mapper.layout.frame):
            with contextlib.suppress(queue.Full):
                self._waiting.put(frame, timeout=max(0.0, deadline - time.monotonic()))

    def run(self, job: Job) -> None:
        """Maps the frames until the job is stopped or no more come."""
        windows = stream.map_windows(self._frames(job), self._mapper)
        for _ in _tell(job, windows, self._mapper, duration_s=0.0):
            pass

    def _frames(self, job: Job) -> Iterator[video.Frame]:
        silent = 0.0
        while silent < SILENT_S:
            job.tell()  # raises Stopped
            try:
                yield self._waiting.get(timeout=0.25)
                silent = 0.0
            except queue.Empty:
                silent += 0.25


def read_batch(batch: bytes, shape: tuple[int, int]) -> list[video.Frame]:
    """The frames of a batch: of each its time in s (float64, little-endian) and its RGBA pixels, uint8.

    shape: height and width. Raises InputError for bytes that are no such frames.
    """
    dtype = _frame_type(shape)
    if not batch or len(batch) % dtype.itemsize:
        raise InputError(f"webcam: {len(batch)} bytes are no whole frames of {dtype.itemsize}")
    frames = np.frombuffer(batch, dtype)
    if not np.isfinite(frames["time_s"]).all():
        raise InputError("webcam: frames without a time; expected seconds")
    return [video.Frame(float(frame["time_s"]), frame["rgba"][..., :3].copy()) for frame in frames]


def _frame_type(shape: tuple[int, int]) -> np.dtype:
    return np.dtype([("time_s", "<f8"), ("rgba", "u1", (*shape, 4))])


def _tell(
    job: Job, windows: Iterable[stream.WindowResult], mapper: Mapper, *, duration_s: float
) -> Iterator[stream.WindowResult]:
    """Passes the windows on, and tells of each; duration_s: of the whole video, 0 if not known."""
    window_s = mapper.config.clip.duration_s
    for window in windows:
        rates = (*job.status.rates, messages.rate_of(window, window_s=window_s))
        job.tell(
            window=messages.of_window(window, mapper.layout, window_s=window_s),
            rates=rates[-messages.RATES_TOLD :],
            share=stream.share_done(window, window_s=window_s, duration_s=duration_s),
        )
        yield window


@contextlib.contextmanager
def _named(path: str, name: str) -> Iterator[None]:
    """Errors speak of a file by its name instead of its path."""
    try:
        yield
    except InputError as error:
        raise type(error)(str(error).replace(path, name)) from None


def _naming(
    frames: Callable[[], Iterator[video.Frame]], path: str, name: str
) -> Callable[[], Iterator[video.Frame]]:
    """The same passes over frames, whose errors speak of the file by its name."""

    def passing() -> Iterator[video.Frame]:
        with _named(path, name):
            yield from frames()

    return passing
