"""Opens anything that holds a video: a file, a folder of images, an array, a camera, a pipe."""

from __future__ import annotations

import contextlib
import math
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from jaxtyping import Float

from pulse3d.archive import read_header
from pulse3d.errors import DamagedError, InputError
from pulse3d.video.clock import MAX_JUMP_S, stamps_in_names
from pulse3d.video.decoding import open_camera, open_file, open_pipe
from pulse3d.video.frames import Frame, Video, as_rgb, check_fps, check_size, from_array, from_images
from pulse3d.video.refusals import A_PICTURE, explain, refuse_address, refuse_folder
from pulse3d.video.streams import check_number

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
    ".ts", ".webm", ".wmv",
)  # fmt: skip
NO_ARRAY = "not a readable array file; save the frames again, as with numpy.save(path, array)"


def list_videos(path: str | os.PathLike) -> list[str]:
    """The videos that a path names: the files of a folder of videos, in order; else the path itself.

    A folder of images is a video itself. Raises InputError for a folder that holds both.
    """
    if not os.path.isdir(path):  # of any text, a name too long for a file included
        return [str(path)]
    try:
        names = sorted(file for file in Path(path).iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a folder that you may read"
        ) from None
    videos, images = (
        [str(file) for file in names if file.suffix.lower() in suffixes]
        for suffixes in (VIDEO_SUFFIXES, IMAGE_SUFFIXES)
    )
    if videos and images:
        raise InputError(
            f"{path}: holds {len(videos)} videos and {len(images)} images; put either into its own folder"
        )
    return videos or [str(path)]


def open_video(path: str | os.PathLike, *, fps: float | None = None, stream: int | None = None) -> Video:
    """Opens a video file, a folder of images (natural order), a `.npy`/`.npz` array, or a live source.

    Live sources are "0", "1" ... or "<video0>" ... (cameras), "-" (standard input) and named pipes; pipes
    need a format that can be read sequentially (Matroska, MPEG-TS ...). fps: frames per second,
    needed if there are no time stamps (arrays, bare streams, folders of images whose names are none);
    otherwise, it replaces the time stamps. stream: the number of the video to read, from 1, of a file or a
    pipe that holds several; by default that with most data, of a pipe the first. Arrays are
    (time, height, width[, 3]): integers of full range, or floats of 0...1. Raises InputError for anything
    that cannot be read; a pass over damaged frames raises DamagedError at its end.
    """
    check_fps(fps)
    opened = _open(path, fps, stream)
    if opened.pictures is None and not opened.live:
        check_number(stream, [""], str(path))
    return opened


def _open(path: str | os.PathLike, fps: float | None, stream: int | None) -> Video:
    camera = re.fullmatch(r"<video(\d+)>|(\d+)", str(path))
    if camera and not Path(path).exists():
        check_number(stream, [""], str(path))
        return open_camera(int(camera[1] or camera[2]), fps)
    if str(path) == "-":
        return open_pipe(os.dup(0), "stdin", fps, stream)
    given, path = str(path), Path(path)
    try:
        if path.is_fifo():
            return open_pipe(path, str(path), fps, stream)
        if not path.exists():
            refuse_address(given)
            raise InputError(f"{path}: no such file or folder")
        if path.is_dir():
            return _open_folder(path, fps)
        if not path.is_file():
            raise InputError(f"{path}: a device or a socket; give a file, a folder or a pipe")
        if path.suffix.lower() in (".npy", ".npz"):
            return _open_npz(path, fps) if zipfile.is_zipfile(path) else _open_npy(path, fps)
        if said := A_PICTURE if path.suffix.lower() in IMAGE_SUFFIXES else explain(path):
            raise InputError(f"{path}: {said}")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file or a folder") from None
    return open_file(path, fps, stream)


def _open_npy(path: Path, fps: float | None) -> Video:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:
        raise InputError(f"{path}: {NO_ARRAY}") from None
    return from_array(array, fps=fps, name=str(path))


def _open_npz(path: Path, fps: float | None) -> Video:
    """Opens the only array of a .npz, one image at a time: the size that it declares is not allocated."""

    @contextlib.contextmanager
    def opened() -> Iterator[tuple[Any, tuple[int, ...], np.dtype]]:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise InputError(f"{path}: holds {len(names)} arrays; expected one, the video")
            with archive.open(names[0]) as member:
                shape, fortran, dtype = read_header(member)
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
            return from_images(str(path), shape, dtype, fps, images)
    except InputError:
        raise
    except Exception:
        raise InputError(f"{path}: {NO_ARRAY}") from None


def _open_folder(path: Path, fps: float | None) -> Video:
    def natural(file: Path):
        # decimals of seconds are filled up, so that .5 comes after .25
        name = re.sub(r"(?<=\d{9}\.)\d+(?=.*\.)", lambda m: m[0].ljust(9, "0"), file.name.lower())
        texts, numbers = (re.split(r"(\d+)", name)[start::2] for start in (0, 1))
        return list(zip(texts, [*map(int, numbers), -1], strict=True)), file.name

    images = (f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and f.name[0] != ".")
    files = sorted(images, key=natural)
    if not files:
        if (videos := list_videos(path)) != [str(path)]:
            raise InputError(f"{path}: a folder of {len(videos)} videos; give one of them")
        raise refuse_folder(path, IMAGE_SUFFIXES, VIDEO_SUFFIXES)
    time_s, notes = _times_of_images(path, [file.name for file in files], fps)
    height, width = _read_image(files[0]).shape[:2]

    def frames() -> Iterator[Frame]:
        for index, file in enumerate(files):
            image = _read_image(file)
            if image.shape[:2] != (height, width):
                raise InputError(
                    f"{file}: {image.shape[1]}x{image.shape[0]} px, the first image has {width}x{height};"
                    " bring all to one size"
                )
            if index and time_s[index] - time_s[index - 1] > MAX_JUMP_S:
                raise DamagedError(
                    f"{file}: {time_s[index] - time_s[index - 1]:.0f} s after the image before it; put what"
                    " follows into its own folder"
                )
            yield Frame(float(time_s[index]), image)

    last = _last_read(time_s)
    rate = fps or _mean_rate(time_s)
    return Video(str(path), height, width, rate, float(time_s[last]) + 1 / rate, frames, notes=notes)


def _last_read(time_s: Float[np.ndarray, "frame"]) -> int:
    """The index of the last image that is read: what follows a jump of the clock is not."""
    jumps = np.flatnonzero(np.diff(time_s) > MAX_JUMP_S)
    return int(jumps[0]) if len(jumps) else len(time_s) - 1


def _mean_rate(time_s: Float[np.ndarray, "frame"]) -> float:
    """Images a second, of those that are read; 1 for a single one."""
    last = _last_read(time_s)
    return last / float(time_s[last]) if last else 1.0


def _times_of_images(
    path: Path, names: list[str], fps: float | None
) -> tuple[Float[np.ndarray, "frame"], tuple[str, ...]]:
    """The times of a folder's images in s, by fps or by their names, and a note where both would do."""
    stamps = stamps_in_names(names)
    if fps is not None:
        note = f"{path} is read at {fps:g} frames a second, as given; its names are time stamps, not used"
        return np.arange(len(names)) / fps, (note,) if stamps else ()
    if stamps is None:
        raise InputError(f"{path}: images have no time stamps; give their frame rate, as in fps=30")
    time_s, unit = stamps
    rate = _mean_rate(time_s)
    clock = f"the names of its images, which count {unit} since 1970, are its clock"
    return time_s, (f"{path} has no frame rate; {clock} ({rate:.4g} frames a second on average)",)


def _read_image(file: Path) -> np.ndarray:
    try:
        source: Any
        with iio.imopen(file, "r", plugin="pillow") as source:
            height, width = source.properties(index=0).shape[:2]
            check_size(height, width, str(file))
            mode = source.metadata(index=0, exclude_applied=False).get("mode", "")
            deep = mode.startswith(("I", "F"))  # more than 8 bits; all else (palettes, CMYK ...) becomes RGB
            return as_rgb(
                np.asarray(source.read(index=0, mode=None if deep else "RGB", rotate=True)), str(file)
            )
    except InputError:
        raise
    except Exception:
        raise InputError(f"{file}: not a readable image; copy it again, or take it away") from None
