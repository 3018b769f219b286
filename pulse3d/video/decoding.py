"""Decodes video files and live sources with FFmpeg: frames whose time rises, and reports of losses."""

from __future__ import annotations

import contextlib
import io
import mmap
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import av
import numpy as np

from pulse3d.errors import DamagedError, InputError
from pulse3d.video import streams
from pulse3d.video.clock import MAX_JUMP_S, continued
from pulse3d.video.frames import Frame, Picture, Video
from pulse3d.video.refusals import explain_unread

MAX_LEFT_OUT = 0.1  # share of frames whose time does not rise; if there are more, the clock is broken
# What FFmpeg may read: containers that hold the video itself. It would also accept playlists, lists of
# files and pictures of text, which refer to other files or are not video.
CONTAINERS = (
    "3gp,apng,asf,av1,avi,dv,flv,gif,h261,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,"
    "mxf,nut,obu,ogg,rawvideo,rm,vc1,webm,wtv,yuv4mpegpipe"
)
ALIKE = 0.02  # up to this difference in their ratio of width to height, frames of two sizes show the same
# of these, FFmpeg reads the first recording only, where several are joined
ENDS_SOON = ("mov", "flv", "asf", "nut")
NO_VIDEO = (av.InvalidDataError, av.ArgumentError)  # FFmpeg's errors for data that it cannot make sense of
MAGIC_BYTES = 12  # of the head of such a file


def open_file(path: Path, fps: float | None, number: int | None) -> Video:
    """Opens a video file, and of several videos in it that of a number; fps replaces its time stamps."""
    limits = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}

    def open_() -> av.container.InputContainer:
        # with a scheme, so that no part of the name is taken for one
        return av.open(f"file:{path.absolute()}", options=limits, metadata_errors="replace")

    return _open_container(str(path), open_, fps, number, path=path)


def open_camera(number: int, fps: float | None) -> Video:
    """Opens the camera of that number; raises InputError unless on Linux or macOS."""
    devices = {"linux": ("v4l2", f"/dev/video{number}"), "darwin": ("avfoundation", str(number))}
    if sys.platform not in devices:
        raise InputError(
            f"<video{number}>: cameras are known by number on Linux and macOS only; elsewhere use a pipe,"
            " as in ffmpeg -f dshow -i video=NAME -f matroska - | pulse3d predict -"
        )
    kind, device = devices[sys.platform]
    return _open_container(f"video{number}", lambda: av.open(device, format=kind), fps, None, path=None)


def open_pipe(pipe: int | Path, name: str, fps: float | None, number: int | None) -> Video:
    """Opens a pipe, by file descriptor or path, as `open_file`; the single pass over its frames closes it."""
    try:
        with contextlib.ExitStack() as stack:
            # read by Python and not by FFmpeg: a signal does not interrupt FFmpeg while it waits for data
            file = stack.enter_context(io.FileIO(pipe))
            container = stack.enter_context(
                av.open(file, "r", options={"format_whitelist": CONTAINERS}, metadata_errors="replace")
            )
            index, notes = streams.choose(container, name, number, weigh=False)
            rate = streams.frame_rate(container, name, fps, index)
            pictures = _decode(container, name, fps, index, live=True)
            first = next(pictures, None)
            if first is None:
                raise InputError(f"{name}: has no frames")
            notes += streams.clock_notes(container, name, fps, rate, first.frame.time)
            height, width = _upright(first).image.shape[:2]
            opened = stack.pop_all()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise error if isinstance(error, InputError) else _refuse(name, error) from None

    def only_pass() -> Iterator[Frame]:
        with opened:
            yield from _upright_all(chain([first], pictures), name)

    passing = only_pass()
    return Video(name, height, width, rate, 0.0, lambda: passing, live=True, notes=tuple(notes))


def _open_container(
    name: str,
    open_: Callable[[], av.container.InputContainer],
    fps: float | None,
    number: int | None,
    *,
    path: Path | None,
) -> Video:
    """A video that FFmpeg reads, opened again for every pass; path: of its file, none for a camera."""
    live, index, notes = path is None, 0, list[str]()
    try:
        if not live:
            with open_() as container:  # which is read ahead here
                index, notes = streams.choose(container, name, number, weigh=True)
        with open_() as container:
            rate = streams.frame_rate(container, name, fps, index)
            stream, kind = container.streams.video[index], container.format.name
            first = next(_decode(container, name, fps, index, live=live), None)
            if first is None:
                raise InputError(f"{name}: has no frames")
            height, width = _upright(first).image.shape[:2]
            duration = stream.frames / rate if fps else streams.declared_s(container, index)
            notes += streams.clock_notes(container, name, fps, rate, first.frame.time)
    except (av.FFmpegError, OSError, ValueError) as error:
        if path and isinstance(error, NO_VIDEO):
            raise InputError(f"{name}: {explain_unread(path)}") from None
        raise error if isinstance(error, InputError) else _refuse(name, error) from None

    def pictures() -> Iterator[Picture]:
        try:
            with open_() as container:
                yield from _decode(container, name, fps, index, live=live)
        except av.FFmpegError as error:
            raise _refuse(name, error) from None
        if path and kind.startswith(ENDS_SOON) and _begins_again(path):
            raise DamagedError(
                f"{name}: two recordings joined, of which the first is read; give each as a file of its own"
            )

    def frames() -> Iterator[Frame]:
        return _upright_all(pictures(), name)

    return Video(name, height, width, rate, duration, frames, live, pictures, tuple(notes))


def _begins_again(path: Path) -> bool:
    """Whether the head of a file stands in it a second time."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(data[:MAGIC_BYTES], MAGIC_BYTES) >= 0


def _decode(
    container: av.container.InputContainer, name: str, fps: float | None, index: int, *, live: bool
) -> Iterator[Picture]:
    """Yields the frames of a video stream whose time rises, from 0 on; a clock that starts anew is continued.

    Packets that cannot be decoded are skipped. Raises DamagedError at the end if something is missing or
    the clock or the size changed, InputError if the shape of the frames does.
    """
    rate, stream = streams.frame_rate(container, name, fps, index), container.streams.video[index]
    first_s, last_s, left_out, count = 0.0, -np.inf, 0, 0
    lost, changed, restarts = list[str](), list[str](), list[float]()
    # threads per frame are faster than per slice, but delay the output by as many frames
    stream.thread_type = "SLICE" if live else "AUTO"
    stamped = (
        (n / rate if fps or frame.time is None else frame.time, frame)
        for n, frame in enumerate(_decode_all(container, stream, lost))
    )
    passing = _in_one_size(continued(stamped, restarts), name, changed)
    for count, (time_s, frame) in enumerate(passing, 1):  # noqa: B007
        first_s = first_s if np.isfinite(last_s) else time_s
        if time_s <= last_s:
            left_out += 1
        elif time_s - last_s > MAX_JUMP_S and np.isfinite(last_s):
            lost.append(f"its time stamps jump from {last_s - first_s:.2f} s to {time_s - first_s:.2f} s")
            break
        else:
            last_s = time_s
            yield Picture(time_s - first_s, frame)
    if left_out > MAX_LEFT_OUT * count:
        lost.append(f"{left_out} of {count} frames are left out, their time stamps do not rise")
    if restarts:
        more = f" and {len(restarts) - 1} times more" if len(restarts) > 1 else ""
        changed.append(
            f"its clock starts anew at {restarts[0] - first_s:.2f} s{more}, as where recordings are joined"
            " (all is read, one after the other)"
        )
    declared_s = 0.0 if live or fps else streams.declared_s(container, index)
    read_s = last_s - first_s + 1 / rate if np.isfinite(last_s) else 0.0
    if declared_s - read_s > max(1.0, 0.05 * declared_s):
        lost.append(f"it ends after {read_s:.1f} of {declared_s:.1f} s")
    if lost:
        said = ", ".join(lost + changed)
        raise DamagedError(f"{name}: damaged: {said}; copy it again, or encode it anew")
    if changed:
        raise DamagedError(f"{name}: {', '.join(changed)}; everything in it was read")


def _in_one_size(
    stamped: Iterable[tuple[float, av.VideoFrame]], name: str, changes: list[str]
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yields the frames, those of another size scaled to the first's, which is added to `changes`.

    A call that adapts to its network changes the size and keeps the shape. Raises InputError if that changes.
    """
    first: tuple[float, av.VideoFrame] | None = None
    for time_s, frame in stamped:
        first = first or (time_s, frame)
        size, before = (frame.width, frame.height), (first[1].width, first[1].height)
        if size == before:
            yield time_s, frame
            continue
        changed = "{}x{} px at {:.2f} s, before it {}x{}".format(*size, time_s - first[0], *before)
        if frame.rotation or abs(size[0] * before[1] / (size[1] * before[0]) - 1) > ALIKE:
            raise InputError(f"{name}: {changed}; cut it there, or encode it anew in one size")
        if not changes:
            changes.append(f"{changed} (scaled to that)")
        scaled = frame.reformat(*before)
        yield time_s, scaled


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
    if isinstance(error, NO_VIDEO):
        return "damaged, or of a kind that is not known"
    reason = getattr(error, "strerror", None) or str(error)
    return reason.rstrip(".") or type(error).__name__


def _upright_all(pictures: Iterable[Picture], name: str) -> Iterator[Frame]:
    """`_upright` of each; raises InputError for pictures of a kind that cannot be converted."""
    for picture in pictures:
        try:
            frame = _upright(picture)
        except (av.FFmpegError, ValueError) as error:
            raise _refuse(name, error) from None
        yield frame


def _upright(picture: Picture) -> Frame:
    """The frame as RGB, rotated by its metadata (degrees, counterclockwise)."""
    image = picture.frame.to_ndarray(format="rgb24")
    return Frame(picture.time_s, np.ascontiguousarray(np.rot90(image, round(picture.frame.rotation / 90))))
