"""Frames with their time stamps, in and out; the only importer of imageio and av.

Frames are streamed: nothing here holds a whole video. An image is (height, width, 3), RGB,
uint8 0...255 or float32 0...1.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import queue
import re
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import av
import imageio.v3 as iio
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8

from pulse3d.errors import DamagedError, InputError
from pulse3d.whole import cannot_write, whole_file

Item = TypeVar("Item")

_BT709, _UNNAMED = 1, 2  # codes of the matrix between colours and what is stored (ITU-T H.273, Table 4)
MAX_PIXELS = 100_000_000  # of a frame: three times 8K
MAX_JUMP_S = 600.0  # from one time stamp to the next; what is longer is no gap but a broken clock
MAX_LEFT_OUT = 0.1  # of the frames, whose time does not rise; where there are more, the clock is broken
FPS_RANGE = (1.0, 1000.0)
HELD_BYTES = 2**28  # of frames that are read ahead
# What FFmpeg may read: containers that hold their video themselves. Playlists, lists of files and
# pictures of text, which it would also take for video, name other files or are none.
CONTAINERS = (
    "3gp,apng,asf,av1,avi,dv,flv,gif,h261,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,"
    "mxf,nut,obu,ogg,rawvideo,rm,vc1,webm,wtv,yuv4mpegpipe"
)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class Frame(NamedTuple):
    """An image and the time at which it was taken, in seconds."""

    time_s: float
    image: np.ndarray


class Picture(NamedTuple):
    """A frame as FFmpeg has it, neither converted nor turned, and its time in seconds."""

    time_s: float
    frame: av.VideoFrame


@dataclass(frozen=True)
class Video:
    """A source of frames that can be read more than once, but for a live one.

    height, width: in pixels, after rotation. fps: the nominal rate; the time stamps of the
    frames are what counts. frames: starts a new pass. live: a camera or a pipe, whose video
    passes once and whose duration is not known (0). pictures: starts a pass of the same frames as
    FFmpeg has them, where it reads them.
    """

    name: str
    height: int
    width: int
    fps: float
    duration_s: float
    frames: Callable[[], Iterator[Frame]]
    live: bool = False
    pictures: Callable[[], Iterator[Picture]] | None = None


def open_video(path: str | os.PathLike, *, fps: float | None = None) -> Video:
    """A video file, a folder of images (natural order), a `.npy`/`.npz` array, or a live source.

    Live are "<video0>", "<video1>" ... (cameras), "-" (standard input) and named pipes; pipes carry
    what can be read from its beginning on (Matroska, MPEG-TS, MJPEG ...). fps: frames per second,
    needed where there are no time stamps (folders, arrays); for a file or a live source it
    replaces the time stamps. Arrays are (time, height, width[, 3]): integers of full
    range, or floats of 0...1. Raises InputError for anything that cannot be read; a pass over the
    frames of something damaged raises DamagedError at its end.
    """
    _check_fps(fps)
    if camera := re.fullmatch(r"<video(\d+)>", str(path)):
        return _open_camera(int(camera[1]), fps)
    if str(path) == "-":
        return _open_pipe(os.dup(0), "stdin", fps)
    path = Path(path)
    try:
        if path.is_fifo():
            return _open_pipe(path, str(path), fps)
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if path.is_dir():
            return _open_folder(path, fps)
        if not path.is_file():
            raise InputError(f"{path}: a device or a socket; give a file, a folder or a pipe")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file or a folder") from None
    if path.suffix.lower() in (".npy", ".npz"):
        return _open_npz(path, fps) if zipfile.is_zipfile(path) else _open_npy(path, fps)
    return _open_file(path, fps)


def from_array(array: np.ndarray, *, fps: float | None, name: str = "array") -> Video:
    """A video from an array (time, height, width[, 3]); raises InputError for other shapes or values."""
    return _from_images(name, array.shape, array.dtype, fps, lambda: iter(array))


def _from_images(
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    fps: float | None,
    images: Callable[[], Iterator[np.ndarray]],
) -> Video:
    """A video from images in the order of time, of which shape and type as an array are known."""
    if fps is None:
        raise InputError(f"{name}: has no time stamps; give its frame rate, as in --fps=30")
    _check_fps(fps)
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3)) or min(shape) < 1:
        raise InputError(f"{name}: shape {shape}; expected (time, height, width) or (time, height, width, 3)")
    if dtype.kind not in "uf":
        raise InputError(f"{name}: type {dtype}; expected unsigned integers or floats of 0...1")
    _check_size(shape[1], shape[2], name)

    def frames() -> Iterator[Frame]:
        for index, image in enumerate(images()):
            yield Frame(index / fps, as_rgb(image, name))

    return Video(name, shape[1], shape[2], fps, shape[0] / fps, frames)


def _check_fps(fps: float | None) -> None:
    low, high = FPS_RANGE
    if fps is not None and not low <= fps <= high:
        raise InputError(f"--fps={fps}: must be positive, in frames per second, from {low:g} to {high:g}")


def _check_size(height: int, width: int, name: str) -> None:
    if height * width > MAX_PIXELS:
        raise InputError(f"{name}: {width}x{height} px; scale it down to at most {MAX_PIXELS:,} pixels")


def as_rgb(image: np.ndarray, name: str) -> np.ndarray:
    """An image (height, width[, channel]) as this module has them; `name` is for the InputError."""
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or image.dtype.kind not in "uf" or not image.size or channels > 4:
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
    colours = image[..., : 3 if channels > 2 else 1]  # of 2 and of 4, the last is how opaque it is
    return np.ascontiguousarray(np.broadcast_to(colours, (*image.shape[:2], 3)))


def _open_npy(path: Path, fps: float | None) -> Video:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise InputError(f"{path}: not a readable array file ({error})") from None
    return from_array(array, fps=fps, name=str(path))


def _open_npz(path: Path, fps: float | None) -> Video:
    """The one array of a .npz, an image at a time: what the file claims to hold is not allocated."""

    @contextlib.contextmanager
    def opened() -> Iterator[tuple[Any, tuple[int, ...], np.dtype]]:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise InputError(f"{path}: holds {len(names)} arrays; expected one, the video")
            with archive.open(names[0]) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0
                shape, fortran, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(
                    member
                )
                if fortran:
                    raise InputError(f"{path}: holds its array by columns; save np.ascontiguousarray of it")
                yield member, shape, dtype

    def images() -> Iterator[np.ndarray]:
        with opened() as (member, shape, dtype):
            size = dtype.itemsize * math.prod(shape[1:])
            for index in range(shape[0]):
                try:
                    data = member.read(size)
                except Exception:
                    data = b""
                if len(data) < size:
                    raise DamagedError(
                        f"{path}: breaks off after {index} of {shape[0]} frames; copy or save it again"
                    )
                yield np.frombuffer(data, dtype).reshape(shape[1:])

    try:
        with opened() as (_, shape, dtype):
            return _from_images(str(path), shape, dtype, fps, images)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not a readable array file ({error})") from None


def _open_folder(path: Path, fps: float | None) -> Video:
    def natural(file: Path):
        texts, numbers = (re.split(r"(\d+)", file.name.lower())[start::2] for start in (0, 1))
        return list(zip(texts, [*map(int, numbers), -1], strict=True)), file.name

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
                    f"{file}: {image.shape[1]}x{image.shape[0]} px, the first image has {width}x{height};"
                    " bring all to one size"
                )
            yield Frame(index / fps, image)

    return Video(str(path), height, width, fps, len(files) / fps, frames)


def _read_image(file: Path) -> np.ndarray:
    try:
        source: Any
        with iio.imopen(file, "r", plugin="pillow") as source:
            height, width = source.properties(index=0).shape[:2]
            _check_size(height, width, str(file))
            mode = source.metadata(index=0, exclude_applied=False).get("mode", "")
            deep = mode.startswith(("I", "F"))  # more than 8 bits; all else (palettes, CMYK ...) becomes RGB
            return as_rgb(
                np.asarray(source.read(index=0, mode=None if deep else "RGB", rotate=True)), str(file)
            )
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{file}: not a readable image ({error})") from None


def _open_file(path: Path, fps: float | None) -> Video:
    limits = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    # with a scheme, so that no part of the name is taken for one
    return _open_container(
        str(path),
        lambda: av.open(f"file:{path.absolute()}", options=limits, metadata_errors="replace"),
        fps,
    )


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
    """What FFmpeg reads, opened anew for every pass."""
    try:
        with open_() as container:
            rate = _frame_rate(container, name, fps)
            stream = container.streams.video[0]
            first = next(_decode(container, name, fps, live=live), None)
            if first is None:
                raise InputError(f"{name}: has no frames")
            height, width = _upright(first).image.shape[:2]
            duration = stream.frames / rate if fps else _declared_s(container)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise error if isinstance(error, InputError) else _refuse(name, error) from None

    def pictures() -> Iterator[Picture]:
        try:
            with open_() as container:
                yield from _decode(container, name, fps, live=live)
        except av.FFmpegError as error:
            raise _refuse(name, error) from None

    def frames() -> Iterator[Frame]:
        for picture in pictures():
            try:
                frame = _upright(picture)
            except (av.FFmpegError, ValueError) as error:
                raise _refuse(name, error) from None
            yield frame

    return Video(name, height, width, rate, duration, frames, live, pictures)


def _declared_s(container: av.container.InputContainer) -> float:
    """How long the first video stream is by its header, in seconds; 0 where it does not say."""
    stream = container.streams.video[0]
    if stream.duration and stream.time_base:
        return max(0.0, float(stream.duration * stream.time_base))
    return max(0.0, (container.duration or 0) / av.time_base)


def _frame_rate(container: av.container.InputContainer, name: str, fps: float | None) -> float:
    """The nominal rate of the first video stream; raises InputError where there is neither."""
    if not container.streams.video:
        raise InputError(f"{name}: has no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise InputError(f"{name}: not a readable video (of a codec that is not known); encode it anew")
    _check_size(stream.codec_context.height, stream.codec_context.width, name)
    if not (rate := fps or float(stream.average_rate or stream.guessed_rate or 0)) > 0:
        raise InputError(f"{name}: has no time stamps; give its frame rate, as in --fps=30")
    return rate


def _decode(
    container: av.container.InputContainer, name: str, fps: float | None, *, live: bool
) -> Iterator[Picture]:
    """The frames of the first video stream whose time rises, from 0 on.

    What cannot be decoded is passed over. Raises DamagedError at the end where something is missing,
    InputError where the size of the frames changes.
    """
    rate = _frame_rate(container, name, fps)
    first_s, last_s, size, left_out = 0.0, -np.inf, None, 0
    lost: list[str] = []
    # threads for frames instead of slices are faster, but hold as many frames back
    container.streams.video[0].thread_type = "SLICE" if live else "AUTO"
    index = -1
    for index, frame in enumerate(_decode_all(container, lost)):
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
    declared_s = 0.0 if live or fps else _declared_s(container)
    read_s = last_s - first_s + 1 / rate if np.isfinite(last_s) else 0.0
    if declared_s - read_s > max(1.0, 0.05 * declared_s):
        lost.append(f"it ends after {read_s:.1f} of {declared_s:.1f} s")
    if lost:
        raise DamagedError(f"{name}: damaged: {', '.join(lost)}; copy it again, or encode it anew")


def _decode_all(container: av.container.InputContainer, lost: list[str]) -> Iterator[av.VideoFrame]:
    """Every frame of the first video stream that can be decoded; adds to `lost` what cannot."""
    packets, undecoded, reason = container.demux(container.streams.video[0]), 0, ""
    while True:
        try:
            if (packet := next(packets, None)) is None:
                break
        except av.FFmpegError as error:
            lost.append(f"it breaks off ({error})")
            break
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            undecoded, reason = undecoded + 1, str(error)
    if undecoded:
        lost.append(f"{undecoded} packets cannot be decoded ({reason})")


def _refuse(name: str, error: Exception) -> InputError:
    return InputError(f"{name}: not a readable video ({error})")


def _upright(picture: Picture) -> Frame:
    """The frame as RGB, turned as its rotation metadata (degrees, counterclockwise) asks."""
    image = picture.frame.to_ndarray(format="rgb24")
    return Frame(picture.time_s, np.ascontiguousarray(np.rot90(image, round(picture.frame.rotation / 90))))


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

    return replace(source, fps=fps, duration_s=float(time_s[-1]) + 1 / fps, frames=frames, pictures=None)


def frames_ahead(source: Video, most: int) -> int:
    """How many frames of a source to read ahead: at most so many, and no more than memory is for."""
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
    with _new_mp4(path, fps) as encode:
        for index, image in enumerate(images):
            height, width = (n // 2 * 2 for n in image.shape[:2])
            even = np.ascontiguousarray(image[:height, :width])
            encode(Picture(index / fps, av.VideoFrame.from_ndarray(even, format="rgb24")))


def through_x264(
    images: Iterable[UInt8[np.ndarray, "height width 3"]], *, fps: float, kbit_s: float
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """RGB images of even size as x264 leaves them at a mean bit rate, yuv420p, without a file."""
    coded = io.BytesIO()
    with av.open(coded, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000))
        stream.pix_fmt, stream.bit_rate = "yuv420p", round(1000 * kbit_s)
        for image in images:
            if not stream.codec_context.is_open:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    coded.seek(0)
    with av.open(coded, "r") as written:
        for frame in written.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def overlay_shape(source: Video, *, max_width_px: int) -> tuple[int, int]:
    """Height and width of an overlay: even, in proportion, at most `max_width_px` wide."""
    scale = min(1.0, max_width_px / source.width)
    height, width = (max(2, round(n * scale) // 2 * 2) for n in (source.height, source.width))
    return height, width


def write_overlay(
    path: Path,
    source: Video,
    layers: Iterable[tuple[float, UInt8[np.ndarray, "height width 4"]]],
    *,
    watch: Callable[[Iterator[Picture]], Iterable[Picture]] = iter,
) -> None:
    """Writes the source as H.264, yuv420p, without sound, under layers, at the source's own times.

    layers: (time in s from which it is shown, RGBA image) in order, of the size that `overlay_shape` has;
    the first is shown from the beginning. watch: what goes through the pictures on their way.
    """
    upcoming = iter(layers)
    layer, following = next(upcoming)[1], next(upcoming, None)
    shape, shown, blend = layer.shape[:2], None, None
    pictures = source.pictures() if source.pictures else map(_picture, source.frames())
    with _new_mp4(path, source.fps) as encode:
        for time_s, frame in watch(read_ahead(what_is_there(pictures, []), ahead=frames_ahead(source, 8))):
            while following is not None and time_s >= following[0]:
                layer, following, shown = following[1], next(upcoming, None), None
            blend = blend or _make_blend(frame, shape)
            shown = shown or _as_layer(layer, frame)
            encode(Picture(time_s, blend(frame, shown)))


def _picture(frame: Frame) -> Picture:
    image = frame.image if frame.image.dtype == np.uint8 else (frame.image * 255).astype(np.uint8)
    return Picture(frame.time_s, av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"))


def _as_layer(image: np.ndarray, beneath: av.VideoFrame) -> av.VideoFrame:
    """An RGBA image in the colours of the frame beneath: those that it names, else the custom of its size."""
    high_definition = beneath.height > 576 if beneath.colorspace == _UNNAMED else beneath.colorspace == _BT709
    layer = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgba")
    return layer.reformat(
        format="yuva420p",
        dst_colorspace=Colorspace.ITU709 if high_definition else Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
    )


def _make_blend(
    like: av.VideoFrame, shape: tuple[int, int]
) -> Callable[[av.VideoFrame, av.VideoFrame], av.VideoFrame]:
    """A function (frame, layer) -> the frame turned upright and scaled to (height, width), under the layer.

    In FFmpeg, which reads and writes the colours of a video as they are stored: a tenth of the time of
    going by RGB.
    """
    graph, (height, width), ticks = av.filter.Graph(), shape, Fraction(1, 1000)
    chain = [graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=ticks)]
    turns = {1: ["transpose=cclock"], 2: ["hflip", "vflip"], 3: ["transpose=clock"]}
    steps = [*turns.get(round(like.rotation / 90) % 4, []), f"scale={width}:{height}", "format=yuv420p"]
    for name, _, options in (step.partition("=") for step in steps):
        chain.append(graph.add(name, options))
    layers = graph.add_buffer(width=width, height=height, format=av.VideoFormat("yuva420p"), time_base=ticks)
    over, sink = graph.add("overlay", "format=yuv420"), graph.add("buffersink")
    for first, second in pairwise([*chain, over, sink]):
        first.link_to(second)
    layers.link_to(over, 0, 1)
    graph.configure()
    count = itertools.count()

    def blend(frame: av.VideoFrame, layer: av.VideoFrame) -> av.VideoFrame:
        frame.pts = layer.pts = next(count)
        frame.time_base = layer.time_base = ticks
        chain[0].push(frame)
        layers.push(layer)
        return graph.vpull()  # the graph, not its sink alone: it must outlive this function

    return blend


@contextlib.contextmanager
def _new_mp4(path: Path, fps: float) -> Iterator[Callable[[Picture], None]]:
    """What encodes one picture after the other into a file, which appears when the context ends well."""
    ticks = Fraction(1, 90_000)
    with whole_file(path) as temporary, _written(path):
        target = f"file:{temporary.absolute()}"
        with av.open(target, "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000))
            stream.pix_fmt = "yuv420p"
            # half the time of "veryfast", at about the same size
            stream.options = {"preset": "superfast", "crf": "25"}
            stream.codec_context.time_base = ticks

            def encode(picture: Picture) -> None:
                time_s, frame = picture
                if not stream.codec_context.is_open:
                    stream.height, stream.width = frame.height, frame.width
                frame.pts, frame.time_base = round(time_s / ticks), ticks
                container.mux(stream.encode(frame))

            yield encode
            container.mux(stream.encode())


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise cannot_write(path, error) from None
