"""Decodes video files and live sources with FFmpeg: frames whose time rises, and reports of losses."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

from pulse3d.errors import DamagedError, InputError
from pulse3d.video.frames import Frame, Picture, Video, check_size

MAX_JUMP_S = 600.0  # from one time stamp to the next; a longer jump is not a gap but a broken clock
MAX_LEFT_OUT = 0.1  # share of frames whose time does not rise; if there are more, the clock is broken
# What FFmpeg may read: containers that hold the video itself. It would also accept playlists, lists of
# files and pictures of text, which refer to other files or are not video.
CONTAINERS = (
    "3gp,apng,asf,av1,avi,dv,flv,gif,h261,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,"
    "mxf,nut,obu,ogg,rawvideo,rm,vc1,webm,wtv,yuv4mpegpipe"
)


WEIGHED_PACKETS = 500  # of several video streams, before one is chosen
# bare streams of pictures: FFmpeg makes time stamps up for them, of 25 frames a second
WITHOUT_CLOCK = {"h261", "h263", "h264", "hevc", "m4v", "mjpeg", "obu", "rawvideo", "vc1"}


def open_file(path: Path, fps: float | None) -> Video:
    """Opens a video file; fps replaces its time stamps."""
    limits = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    # with a scheme, so that no part of the name is taken for one
    return _open_container(
        str(path),
        lambda: av.open(f"file:{path.absolute()}", options=limits, metadata_errors="replace"),
        fps,
    )


def open_camera(number: int, fps: float | None) -> Video:
    """Opens the camera of that number; raises InputError unless on Linux or macOS."""
    devices = {"linux": ("v4l2", f"/dev/video{number}"), "darwin": ("avfoundation", str(number))}
    if sys.platform not in devices:
        raise InputError(
            f"<video{number}>: cameras are known by number on Linux and macOS only; elsewhere use a pipe,"
            " as in ffmpeg -f dshow -i video=NAME -f matroska - | pulse3d predict -"
        )
    kind, device = devices[sys.platform]
    return _open_container(f"video{number}", lambda: av.open(device, format=kind), fps, live=True)


def open_pipe(pipe: int | Path, name: str, fps: float | None) -> Video:
    """Opens a pipe, by file descriptor or path; the single pass over its frames closes it."""
    try:
        with contextlib.ExitStack() as stack:
            # read by Python and not by FFmpeg: a signal does not interrupt FFmpeg while it waits for data
            file = stack.enter_context(io.FileIO(pipe))
            container = stack.enter_context(
                av.open(file, "r", options={"format_whitelist": CONTAINERS}, metadata_errors="replace")
            )
            rate = _frame_rate(container, name, fps)
            frames = (_upright(picture) for picture in _decode(container, name, fps, live=True))
            first = next(frames, None)
            if first is None:
                raise InputError(f"{name}: has no frames")
            opened = stack.pop_all()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise error if isinstance(error, InputError) else _refuse(name, error) from None

    def only_pass() -> Iterator[Frame]:
        with opened:
            yield first
            yield from frames

    height, width = first.image.shape[:2]
    passing = only_pass()
    return Video(name, height, width, rate, 0.0, lambda: passing, live=True)


def _open_container(
    name: str, open_: Callable[[], av.container.InputContainer], fps: float | None, *, live: bool = False
) -> Video:
    """A video that FFmpeg reads, opened again for every pass."""
    number, notes = 0, list[str]()
    try:
        if not live:
            with open_() as container:
                number = _choose_stream(container, name, notes)
        with open_() as container:
            rate = _frame_rate(container, name, fps, number)
            stream = container.streams.video[number]
            first = next(_decode(container, name, fps, number=number, live=live), None)
            if first is None:
                raise InputError(f"{name}: has no frames")
            height, width = _upright(first).image.shape[:2]
            duration = stream.frames / rate if fps else _declared_s(container, number)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise error if isinstance(error, InputError) else _refuse(name, error) from None

    def pictures() -> Iterator[Picture]:
        try:
            with open_() as container:
                yield from _decode(container, name, fps, number=number, live=live)
        except av.FFmpegError as error:
            raise _refuse(name, error) from None

    def frames() -> Iterator[Frame]:
        for picture in pictures():
            try:
                frame = _upright(picture)
            except (av.FFmpegError, ValueError) as error:
                raise _refuse(name, error) from None
            yield frame

    return Video(name, height, width, rate, duration, frames, live, pictures, tuple(notes))


def _choose_stream(container: av.container.InputContainer, name: str, notes: list[str]) -> int:
    """The number of the video stream to read; of several, that with most data, which `notes` then says.

    Raises InputError if there are only pictures, as the cover of a song.
    """
    streams = container.streams.video
    films = [n for n, one in enumerate(streams) if not one.disposition & Disposition.attached_pic]
    moving = [n for n in films if streams[n].codec_context is not None] or films
    if len(moving) < 2:
        if streams and not moving:
            raise InputError(f"{name}: holds a picture, as of a cover, but no video")
        return moving[0] if moving else 0
    weight = dict.fromkeys((streams[n].index for n in moving), 0)
    for packet in islice(container.demux([streams[n] for n in moving]), WEIGHED_PACKETS):
        weight[packet.stream.index] += packet.size
    best = max(moving, key=lambda n: weight[streams[n].index])
    size = f"{streams[best].codec_context.width}x{streams[best].codec_context.height} px"
    which = f"number {best + 1} is read, which has most data ({size})"
    notes.append(f"{name} holds {len(moving)} videos; {which}")
    return best


def _declared_s(container: av.container.InputContainer, number: int) -> float:
    """The length of a video stream by its header, in seconds; 0 if it gives none."""
    stream = container.streams.video[number]
    if stream.duration and stream.time_base:
        return max(0.0, float(stream.duration * stream.time_base))
    return max(0.0, (container.duration or 0) / av.time_base)


def _frame_rate(
    container: av.container.InputContainer, name: str, fps: float | None, number: int = 0
) -> float:
    """The nominal frame rate of a video stream.

    Raises InputError if it or the rate is missing, or if nobody set a clock.
    """
    if not container.streams.video:
        raise InputError(f"{name}: has no video stream")
    stream = container.streams.video[number]
    if stream.codec_context is None:
        raise InputError(f"{name}: not a readable video (of a codec that is not known); encode it anew")
    check_size(stream.codec_context.height, stream.codec_context.width, name)
    if not fps and container.format.name in WITHOUT_CLOCK:
        raise InputError(
            f"{name}: a bare {container.format.name} stream, without a clock; give the frame rate that it was"
            " recorded at, as in --fps=30"
        )
    if not (rate := fps or float(stream.average_rate or stream.guessed_rate or 0)) > 0:
        raise InputError(f"{name}: has no time stamps; give its frame rate, as in --fps=30")
    return rate


def _decode(
    container: av.container.InputContainer, name: str, fps: float | None, *, live: bool, number: int = 0
) -> Iterator[Picture]:
    """Yields the frames of a video stream whose time rises, from 0 on.

    Packets that cannot be decoded are skipped. Raises DamagedError at the end if something is missing,
    InputError if the size of the frames changes.
    """
    rate = _frame_rate(container, name, fps, number)
    first_s, last_s, size, left_out = 0.0, -np.inf, None, 0
    lost: list[str] = []
    # threads per frame are faster than per slice, but delay the output by as many frames
    container.streams.video[number].thread_type = "SLICE" if live else "AUTO"
    index = -1
    for index, frame in enumerate(_decode_all(container, container.streams.video[number], lost)):
        if (frame.width, frame.height) != (size := size or (frame.width, frame.height)):
            raise InputError(
                f"{name}: {frame.width}x{frame.height} px at {last_s - first_s:.2f} s, before it"
                f" {size[0]}x{size[1]}; cut it there, or encode it anew in one size"
            )
        time_s = index / rate if fps or frame.time is None else frame.time
        first_s = first_s if np.isfinite(last_s) else time_s
        if time_s <= last_s:
            left_out += 1
        elif time_s - last_s > MAX_JUMP_S and np.isfinite(last_s):
            lost.append(f"its time stamps jump from {last_s - first_s:.2f} s to {time_s - first_s:.2f} s")
            break
        else:
            last_s = time_s
            yield Picture(time_s - first_s, frame)
    if left_out > MAX_LEFT_OUT * (index + 1):
        lost.append(f"{left_out} of {index + 1} frames are left out, their time stamps do not rise")
    declared_s = 0.0 if live or fps else _declared_s(container, number)
    read_s = last_s - first_s + 1 / rate if np.isfinite(last_s) else 0.0
    if declared_s - read_s > max(1.0, 0.05 * declared_s):
        lost.append(f"it ends after {read_s:.1f} of {declared_s:.1f} s")
    if lost:
        raise DamagedError(f"{name}: damaged: {', '.join(lost)}; copy it again, or encode it anew")


def _decode_all(
    container: av.container.InputContainer, stream: av.VideoStream, lost: list[str]
) -> Iterator[av.VideoFrame]:
    """Yields the frames of a video stream that can be decoded; reports the others in `lost`."""
    packets, undecoded, reason = container.demux(stream), 0, ""
    while True:
        try:
            if (packet := next(packets, None)) is None:
                break
        except av.FFmpegError as error:
            lost.append(f"it breaks off ({_reason(error)})")
            break
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            undecoded, reason = undecoded + 1, _reason(error)
    if undecoded:
        lost.append(f"{undecoded} packets cannot be decoded ({reason})")


def _refuse(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: not a readable video ({_reason(error)})")


def _reason(error: Exception) -> str:
    """What FFmpeg says, without its number and its name of the file."""
    reason = getattr(error, "strerror", None) or str(error)
    return reason.rstrip(".") or type(error).__name__


def _upright(picture: Picture) -> Frame:
    """The frame as RGB, rotated by its metadata (degrees, counterclockwise)."""
    image = picture.frame.to_ndarray(format="rgb24")
    return Frame(picture.time_s, np.ascontiguousarray(np.rot90(image, round(picture.frame.rotation / 90))))
