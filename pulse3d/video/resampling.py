"""Changes the times of frames: evenly spaced for the network, or with new time stamps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice, zip_longest

import numpy as np

from pulse3d.errors import InputError
from pulse3d.video.frames import Frame, Video


def with_time_stamps(source: Video, time_s: np.ndarray) -> Video:
    """The frames of a source with other time stamps: time_s (frame,), in seconds.

    Frames whose stamp does not rise are left out. Raises InputError for fewer than two time stamps,
    and at the end of a pass if there is not one stamp for every frame.
    """
    if len(time_s) < 2 or not np.isfinite(time_s).all() or not time_s[-1] > time_s[0]:
        raise InputError(f"{source.name}: time stamps that are no times; expected seconds, rising")
    fps = (len(time_s) - 1) / float(time_s[-1] - time_s[0])

    def frames() -> Iterator[Frame]:
        last_time = -np.inf
        for frame, time in zip_longest(source.frames(), time_s.tolist()):
            if frame is None or time is None:
                more = "fewer" if frame is None else "more"
                raise InputError(f"{source.name}: {more} frames than time stamps ({len(time_s)})")
            if time > last_time:
                last_time = time
                yield frame._replace(time_s=time)

    return replace(source, fps=fps, duration_s=float(time_s[-1]) + 1 / fps, frames=frames, pictures=None)


def resample(frames: Iterable[Frame], fps: float, *, average: int = 1) -> Iterator[Frame]:
    """Frames at times 0, 1/fps, 2/fps ... by linear interpolation between time stamps.

    average: each is the mean of this many, evenly spaced from its time to the next one's. Holds two
    frames, or `average`. Frames whose stamps fall on the grid are unchanged.
    """
    if average > 1:
        finer = resample(frames, fps * average)
        while len(group := list(islice(finer, average))) == average:
            images = np.stack([frame.image for frame in group])
            yield Frame(group[0].time_s, images.mean(0, dtype=np.float32))
        return
    index = 0
    before: Frame | None = None
    for after in frames:
        while index / fps <= after.time_s + 1e-6:
            time = index / fps
            if before is None or abs(after.time_s - time) < 1e-6:
                yield Frame(time, after.image)
            else:
                weight = (time - before.time_s) / (after.time_s - before.time_s)
                yield Frame(time, before.image + np.float32(weight) * (after.image - before.image))
            index += 1
        before = after
