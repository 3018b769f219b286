"""The type of a video: frames with time stamps, which can be read more than once.

An image is (height, width, 3), RGB, uint8 0...255 or float32 0...1.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import av
import numpy as np

from pulse3d.errors import InputError, expect_kind

MAX_PIXELS = 100_000_000  # of a frame: three times 8K
FPS_RANGE = (1.0, 1000.0)


class Frame(NamedTuple):
    """An image and the time at which it was taken, in seconds."""

    time_s: float
    image: np.ndarray


class Picture(NamedTuple):
    """A frame as FFmpeg decodes it, neither converted nor rotated, and its time in seconds."""

    time_s: float
    frame: av.VideoFrame


@dataclass(frozen=True)
class Video:
    """A source of frames that can be read more than once, unless it is live.

    height, width: in pixels, after rotation. fps: the nominal rate; only the time stamps of the
    frames count. frames: starts a new pass. live: a camera or a pipe, whose video passes once and
    whose duration is unknown (0). pictures: starts a pass of the same frames as FFmpeg decodes
    them; None without FFmpeg. notes: what was chosen or assumed, a sentence each.
    """

    name: str
    height: int
    width: int
    fps: float
    duration_s: float
    frames: Callable[[], Iterator[Frame]]
    live: bool = False
    pictures: Callable[[], Iterator[Picture]] | None = None
    notes: tuple[str, ...] = ()


def from_array(array: np.ndarray, *, fps: float | None, name: str = "array") -> Video:
    """A video from an array (time, height, width[, 3]); raises InputError for other shapes or values."""
    return from_images(name, array.shape, array.dtype, fps, lambda: iter(array))


def from_images(
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    fps: float | None,
    images: Callable[[], Iterator[np.ndarray]],
) -> Video:
    """A video from images in the order of time; shape and dtype are those of all images as one array."""
    if fps is None:
        raise InputError(f"{name}: has no time stamps; give its frame rate, as in fps=30")
    check_fps(fps)
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3)) or min(shape) < 1:
        raise InputError(f"{name}: shape {shape}; expected (time, height, width) or (time, height, width, 3)")
    if dtype.kind not in "uf":
        raise InputError(f"{name}: type {dtype}; expected unsigned integers or floats of 0...1")
    check_size(shape[1], shape[2], name)

    def frames() -> Iterator[Frame]:
        for index, image in enumerate(images()):
            yield Frame(index / fps, as_rgb(image, name))

    return Video(name, shape[1], shape[2], fps, shape[0] / fps, frames)


def check_fps(fps: float | None) -> None:
    """Raises InputError for a frame rate outside `FPS_RANGE`."""
    low, high = FPS_RANGE
    if fps is not None:
        expect_kind("fps", fps, numbers.Real, "frames per second, such as 30")
    if fps is not None and not low <= fps <= high:
        raise InputError(f"fps={fps}: must be positive, in frames per second, from {low:g} to {high:g}")


def check_size(height: int, width: int, name: str) -> None:
    """Raises InputError, starting with `name`, for frames that are too large."""
    if height * width > MAX_PIXELS:
        raise InputError(f"{name}: {width}x{height} px; scale it down to at most {MAX_PIXELS:,} pixels")


def as_rgb(image: np.ndarray, name: str) -> np.ndarray:
    """Converts an image (height, width[, channel]) to the format above; `name` is for the InputError."""
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
    colours = image[..., : 3 if channels > 2 else 1]  # of 2 and of 4 channels, the last is alpha
    return np.ascontiguousarray(np.broadcast_to(colours, (*image.shape[:2], 3)))


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Converts an image of the format above to uint8; floats are rounded."""
    return image if image.dtype == np.uint8 else np.round(255 * image).astype(np.uint8)


def to_unit(image: np.ndarray, channels: int) -> np.ndarray:
    """Converts an image to what the network reads, float32 of 0...1: only green for one channel, else RGB."""
    picked = image[..., 1:2] if channels == 1 else image
    return picked.astype(np.float32) / 255 if image.dtype == np.uint8 else picked
