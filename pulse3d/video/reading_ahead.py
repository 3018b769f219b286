"""Frames read by a thread of their own, up to where they are damaged."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from pulse3d.errors import DamagedError
from pulse3d.video.frames import Video

Item = TypeVar("Item")
HELD_BYTES = 2**28  # of frames that are read ahead


def frames_ahead(source: Video, most: int) -> int:
    """How many frames of a source to read ahead: at most `most`, and no more than HELD_BYTES hold."""
    return max(1, min(most, HELD_BYTES // (3 * source.height * source.width)))


def what_is_there(frames: Iterable[Item], lost: list[str]) -> Iterator[Item]:
    """The frames up to where they are damaged, if anywhere; adds to `lost` what is missing."""
    try:
        yield from frames
    except DamagedError as error:
        lost.append(str(error))


def read_ahead(
    frames: Iterable[Item], stop: threading.Event | None = None, *, ahead: int = 64
) -> Iterator[Item]:
    """The frames until `stop` is set, read by a thread of their own: a camera does not wait.

    Frames or images; what makes them runs beside what takes them. Holds up to `ahead`. What the
    reading raises is raised here.
    """
    stop = stop or threading.Event()
    waiting: queue.Queue[Item | Exception | None] = queue.Queue(ahead)

    def read() -> None:
        try:
            for frame in frames:
                waiting.put(frame)
            waiting.put(None)
        except Exception as error:
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
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
