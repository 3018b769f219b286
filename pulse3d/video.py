"""Frames with their time stamps, in and out; the only importer of imageio and av.

Frames are streamed: nothing here holds a whole video. An image is (height, width, 3), RGB,
uint8 0...255 or float32 0...1.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple, TypeVar

import av
import imageio.v3 as iio
import numpy as np

from pulse3d.errors import InputError

Item = TypeVar("Item")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class Frame(NamedTuple):
    """An image and the time at which it was taken, in seconds."""

    time_s: float
    image: np.ndarray


@dataclass(frozen=True)
class Video:
    """A source of frames that can be read more than once, but for a live one.

    height, width: in pixels, after rotation. fps: the nominal rate; the time stamps of the
    frames are what counts. frames: starts a new pass. live: a camera or a pipe, whose video
    passes once and whose duration is not known (0).
    """

    name: str
    height: int
    width: int
    fps: float
    duration_s: float
    frames: Callable[[], Iterator[Frame]]
    live: bool = False


def open_video(path: str | os.PathLike, *, fps: float | None = None) -> Video:
    """A video file, a folder of images (natural order), a `.npy`/`.npz` array, or a live source.

    Live are "<video0>", "<video1>" ... (cameras), "-" (standard input) and named pipes; pipes carry
    what can be read from its beginning on (Matroska, MPEG-TS, MJPEG ...). fps: frames per second,
    needed where there are no time stamps (folders, arrays); for a file or a live source it
    replaces the time stamps. Arrays are (time, height, width[, 3]): integers of full
    range, or floats of 0...1. Raises InputError for anything that cannot be read.
    """
    if fps is not None and not fps > 0:
        raise InputError(f"--fps={fps}: must be positive")
    if camera := re.fullmatch(r"<video(\d+)>", str(path)):
        return _open_camera(int(camera[1]), fps)
    if str(path) == "-":
        return _open_pipe(os.dup(0), "stdin", fps)
    path = Path(path)
    if path.is_fifo():
        return _open_pipe(path, str(path), fps)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return _open_folder(path, fps)
    if path.suffix.lower() in (".npy", ".npz"):
        return from_array(_load_array(path), fps=fps, name=str(path))
    return _open_file(path, fps)


def from_array(array: np.ndarray, *, fps: float | None, name: str = "array") -> Video:
    """A video from an array (time, height, width[, 3]); raises InputError for other shapes or values."""
    if fps is None:
        raise InputError(f"{name}: has no time stamps; give its frame rate, as in --fps=30")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in (1, 3)) or not array.size:
        raise InputError(
            f"{name}: shape {array.shape}; expected (time, height, width) or (time, height, width, 3)"
        )
    if array.dtype.kind not in "uf":
        raise InputError(f"{name}: type {array.dtype}; expected unsigned integers or floats of 0...1")

    def frames() -> Iterator[Frame]:
        for index, image in enumerate(array):
            yield Frame(index / fps, as_rgb(image, name))

    return Video(name, array.shape[1], array.shape[2], fps, len(array) / fps, frames)


def as_rgb(image: np.ndarray, name: str) -> np.ndarray:
    """An image (height, width[, channel]) as this module has them; `name` is for the InputError."""
    if image.ndim not in (2, 3) or image.dtype.kind not in "uf":
        raise InputError(
            f"{name}: {image.dtype}{image.shape} is no image; expected (height, width) or (height, width, 3),"
            " unsigned integers or floats of 0...1"
        )
    if image.dtype.kind == "u" and image.dtype != np.uint8:
        image = image.astype(np.float32) / np.iinfo(image.dtype).max
    elif image.dtype.kind == "f":
        if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
            raise InputError(f"{name}: holds values outside 0...1 or not finite; scale the floats to 0...1")
        image = image.astype(np.float32)
    if image.ndim == 2:
        image = image[..., None]
    return np.ascontiguousarray(np.broadcast_to(image[..., :3], (*image.shape[:2], 3)))


def _load_array(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) != 1:
                raise InputError(f"{path}: holds {len(loaded.files)} arrays; expected one, the video")
            return loaded[loaded.files[0]]
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not a readable array file ({error})") from None


def _open_folder(path: Path, fps: float | None) -> Video:
    def natural(file: Path):
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name.lower())]

    files = sorted((f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES), key=natural)
    if not files:
        raise InputError(f"{path}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
    if fps is None:
        raise InputError(f"{path}: images have no time stamps; give their frame rate, as in --fps=30")
    height, width = _read_image(files[0]).shape[:2]

    def frames() -> Iterator[Frame]:
        for index, file in enumerate(files):
            image = _read_image(file)
            if image.shape[:2] != (height, width):
                raise InputError(
                    f"{file}: {image.shape[1]}x{image.shape[0]} px, the first image has {width}x{height}"
                )
            yield Frame(index / fps, image)

    return Video(str(path), height, width, fps, len(files) / fps, frames)


def _read_image(file: Path) -> np.ndarray:
    try:
        return as_rgb(np.asarray(iio.imread(file)), str(file))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{file}: not a readable image ({error})") from None


def _open_file(path: Path, fps: float | None) -> Video:
    return _open_container(str(path), lambda: av.open(str(path)), fps)


def _open_camera(number: int, fps: float | None) -> Video:
    devices = {"linux": ("v4l2", f"/dev/video{number}"), "darwin": ("avfoundation", str(number))}
    if sys.platform not in devices:
        raise InputError(
            f"<video{number}>: cameras are known by number on Linux and macOS only; elsewhere use a pipe,"
            " as in ffmpeg -f dshow -i video=NAME -f matroska - | python -m launch.predict --video=-"
        )
    kind, device = devices[sys.platform]
    return _open_container(f"video{number}", lambda: av.open(device, format=kind), fps, live=True)


def _open_pipe(pipe: int | Path, name: str, fps: float | None) -> Video:
    """A pipe, by file descriptor or path: opened here, and closed by the one pass over its frames."""
    try:
        with contextlib.ExitStack() as stack:
            # read by Python and not by FFmpeg, whose waiting for data a signal does not end
            file = stack.enter_context(io.FileIO(pipe))
            container = stack.enter_context(av.open(file, "r"))
            rate = _frame_rate(container, name, fps)
            frames = _decode(container, name, fps, live=True)
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
    """What FFmpeg reads, opened anew for every pass."""
    try:
        with open_() as container:
            rate = _frame_rate(container, name, fps)
            stream = container.streams.video[0]
            first = next(container.decode(stream), None)
            if first is None:
                raise InputError(f"{name}: has no frames")
            height, width = _upright(first).shape[:2]
            if stream.duration and stream.time_base and not fps:
                duration = float(stream.duration * stream.time_base)
            else:
                duration = stream.frames / rate
    except (av.FFmpegError, OSError, ValueError) as error:
        raise error if isinstance(error, InputError) else _refuse(name, error) from None

    def frames() -> Iterator[Frame]:
        try:
            with open_() as container:
                yield from _decode(container, name, fps, live=live)
        except av.FFmpegError as error:
            raise _refuse(name, error) from None

    return Video(name, height, width, rate, duration, frames, live)


def _frame_rate(container: av.container.InputContainer, name: str, fps: float | None) -> float:
    """The nominal rate of the first video stream; raises InputError where there is neither."""
    if not container.streams.video:
        raise InputError(f"{name}: has no video stream")
    stream = container.streams.video[0]
    if not (rate := fps or float(stream.average_rate or stream.guessed_rate or 0)):
        raise InputError(f"{name}: has no time stamps; give its frame rate, as in --fps=30")
    return rate


def _decode(
    container: av.container.InputContainer, name: str, fps: float | None, *, live: bool
) -> Iterator[Frame]:
    """The frames of the first video stream whose time rises, from 0 on."""
    rate = _frame_rate(container, name, fps)
    first_time, last_time = None, -np.inf
    # threads for frames instead of slices are faster, but hold as many frames back
    container.streams.video[0].thread_type = "SLICE" if live else "AUTO"
    try:
        for index, frame in enumerate(container.decode(video=0)):
            time = index / rate if fps or frame.time is None else frame.time
            first_time = time if first_time is None else first_time
            if time <= last_time:
                continue
            last_time = time
            yield Frame(time - first_time, _upright(frame))
    except av.FFmpegError as error:
        raise _refuse(name, error) from None


def _refuse(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: not a readable video ({error})")


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """The frame as RGB, turned as its rotation metadata (degrees, counterclockwise) asks."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def with_time_stamps(source: Video, time_s: np.ndarray) -> Video:
    """The frames of a source with other time stamps: time_s (frame,), in seconds.

    Frames whose stamp does not rise are left out. Raises InputError for fewer than two frames,
    and at the end of a pass where there is not one stamp for every frame.
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

    return replace(source, fps=fps, duration_s=float(time_s[-1]) + 1 / fps, frames=frames)


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


def to_unit(image: np.ndarray, channels: int) -> np.ndarray:
    """What the network reads, float32 of 0...1: green alone for one channel, else RGB."""
    picked = image[..., 1:2] if channels == 1 else image
    return picked.astype(np.float32) / 255 if image.dtype == np.uint8 else picked


def resample(frames: Iterable[Frame], fps: float, *, average: int = 1) -> Iterator[Frame]:
    """Frames at times 0, 1/fps, 2/fps ... by linear interpolation between time stamps.

    average: each is the mean of so many, evenly spaced from its time to the next one's. Holds two
    frames, or `average`. Frames whose stamps fall on the grid come out as they are.
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


def write_mp4(path: Path, images: Iterable[np.ndarray], fps: float) -> None:
    """Writes uint8 RGB images as H.264, yuv420p; odd sizes lose a row or column."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with av.open(str(temporary), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000))
            stream.pix_fmt = "yuv420p"
            stream.options = {"preset": "veryfast"}  # a third of the time, hardly larger
            for image in images:
                height, width = (n // 2 * 2 for n in image.shape[:2])
                if not stream.codec_context.is_open:
                    stream.height, stream.width = height, width
                frame = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(image[:height, :width]), format="rgb24"
                )
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
