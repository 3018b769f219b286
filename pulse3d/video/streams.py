"""The video streams of a file or a pipe: which one is read, at what rate, and how long it claims to be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import av
from av.stream import Disposition

from pulse3d.errors import InputError
from pulse3d.video.frames import check_size

WEIGHED_PACKETS = 500  # of several video streams, before one is chosen
# bare streams of pictures: FFmpeg makes time stamps up for them, of 25 frames a second
WITHOUT_CLOCK = {"av1", "h261", "h263", "h264", "hevc", "m4v", "mjpeg", "obu", "rawvideo", "vc1"}


def choose(
    container: av.container.InputContainer, name: str, wanted: int | None, *, weigh: bool
) -> tuple[int, list[str]]:
    """The index, among the video streams, of that to read, and a note if it was chosen of several.

    wanted: its number among those that are no covers, from 1. Of several, by default that with most data;
    without `weigh`, which reads ahead, the first. Raises InputError if there is none of that number, or
    only pictures, as the cover of a song.
    """
    streams = container.streams.video
    films = [n for n, one in enumerate(streams) if not one.disposition & Disposition.attached_pic]
    if not films:
        if streams:
            raise InputError(f"{name}: holds a picture, as of a cover, but no video")
        raise InputError(f"{name}: has no video stream")
    if wanted is not None:
        check_number(wanted, [_describe(streams[n]) for n in films], name)
        return films[wanted - 1], []
    moving = [n for n in films if streams[n].codec_context is not None] or films
    if len(moving) == 1:
        return moving[0], []
    best = _heaviest(container, moving) if weigh else moving[0]
    why = "which has most data" if weigh else "which comes first"
    which = f"number {films.index(best) + 1} is read, {why} ({_describe(streams[best])})"
    return best, [f"{name} holds {len(films)} videos; {which}; stream=N reads another"]


def check_number(wanted: int | None, there: Sequence[str], name: str) -> None:
    """Raises InputError, which lists what is there, if no video has that number, from 1."""
    if wanted is None or 1 <= wanted <= len(there):
        return
    listed = ", ".join(f"{number} ({what})" if what else f"{number}" for number, what in enumerate(there, 1))
    videos = "one video" if len(there) == 1 else f"{len(there)} videos"
    raise InputError(f"{name}: stream={wanted}: no such video; it holds {videos}: {listed}")


def frame_rate(container: av.container.InputContainer, name: str, fps: float | None, index: int) -> float:
    """The nominal frame rate of a video stream.

    Raises InputError if its codec or its rate is missing, or if nobody set a clock.
    """
    stream = container.streams.video[index]
    if stream.codec_context is None:
        raise InputError(f"{name}: not a readable video (of a codec that is not known); encode it anew")
    check_size(stream.codec_context.height, stream.codec_context.width, name)
    if not fps and container.format.name in WITHOUT_CLOCK:
        raise InputError(
            f"{name}: a bare {container.format.name} stream, without a clock; give the frame rate that it was"
            " recorded at, as in fps=30"
        )
    if not (rate := fps or float(stream.average_rate or stream.guessed_rate or 0)) > 0:
        raise InputError(f"{name}: has no time stamps; give its frame rate, as in fps=30")
    return rate


def clock_notes(
    container: av.container.InputContainer, name: str, fps: float | None, rate: float, stamp_s: float | None
) -> list[str]:
    """A note if frames are spaced by a rate instead of by time stamps; stamp_s: that of the first, if any."""
    if fps:
        own = "" if container.format.name in WITHOUT_CLOCK else "; its own time stamps are not used"
        return [f"{name} is read at {fps:g} frames a second, as given{own}"]
    if stamp_s is None:
        return [f"{name} has no time stamps; it is read at {rate:g} frames a second, as its header says"]
    return []


def declared_s(container: av.container.InputContainer, index: int) -> float:
    """The length of a video stream by its header, in seconds; 0 if it gives none."""
    stream = container.streams.video[index]
    if stream.duration and stream.time_base:
        return max(0.0, float(stream.duration * stream.time_base))
    return max(0.0, (container.duration or 0) / av.time_base)


def _heaviest(container: av.container.InputContainer, indices: list[int]) -> int:
    """That of several video streams with most data in its first packets."""
    streams = container.streams.video
    weight = dict.fromkeys((streams[n].index for n in indices), 0)
    for packet in islice(container.demux([streams[n] for n in indices]), WEIGHED_PACKETS):
        weight[packet.stream.index] += packet.size
    return max(indices, key=lambda n: weight[streams[n].index])


def _describe(stream: av.VideoStream) -> str:
    if stream.codec_context is None:
        return "of a codec that is not known"
    return f"{stream.codec_context.width}x{stream.codec_context.height} px"
