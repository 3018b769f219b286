"""Reads frames in a separate thread, up to where they are damaged."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from pulse3d.errors import DamagedError
from pulse3d.video.frames import Video

Item = TypeVar("Item")
HELD_BYTES = 2**28  # for frames that are read ahead


def frames_ahead(source: Video, most: int) -> int:
    """Number of frames of a source to read ahead: at most `most`, and no more than fit into HELD_BYTES."""
    return max(1, min(most, HELD_BYTES // (3 * source.height * source.width)))


def what_is_there(frames: Iterable[Item], lost: list[str]) -> Iterator[Item]:
    """Yields the frames up to where they are damaged, if anywhere; adds what is missing to `lost`."""
    try:
        yield from frames
    except DamagedError as error:
        lost.append(str(error))


def read_ahead(
    frames: Iterable[Item], stop: threading.Event | None = None, *, ahead: int = 64
) -> Iterator[Item]:
    """Yields the frames until `stop` is set; a separate thread reads them, since a camera does not wait.

    Frames or images; producer and consumer run in parallel. Holds up to `ahead`. Exceptions of the
    thread are raised here; it ends when nobody takes the frames any more.
    """
    stop, done = stop or threading.Event(), threading.Event()
    waiting: queue.Queue[Item | Exception | None] = queue.Queue(ahead)

    def put(item: Item | Exception | None) -> None:
        while not done.is_set():
            with contextlib.suppress(queue.Full):
                return waiting.put(item, timeout=0.1)

    def read() -> None:
        try:
            for frame in frames:
                put(frame)
                if done.is_set():
                    return
            put(None)
        except Exception as error:
            put(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        while not stop.is_set():
            try:
                item = waiting.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        done.set()
