"""Colours of a video over time: of the face, all skin, the frame, or every patch."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from pulse3d.errors import InputError
from pulse3d.evaluation import faces
from pulse3d.mapping.classical import Image, skin_mask
from pulse3d.mapping.layout import Layout
from pulse3d.video import Frame, Video

Centres = tuple[np.ndarray, np.ndarray]

TRACE_FPS = 30.0  # traces of baselines are resampled to this, as is usual


class Traces(NamedTuple):
    """Colours over time at `TRACE_FPS`: of the skin (time, 3), or of patches (time, row, col, 3).

    end_s: the time stamp of the last frame. seconds: time spent reading. frame_px: height and
    width of the frames. centres_px: of the patches along each axis. face_share: share of the detections
    that found the face; 0 if no face is tracked, nan if none was searched for.
    """

    colour: Float[np.ndarray, "time ... 3"]
    end_s: float
    seconds: float
    frame_px: tuple[int, int] = (0, 0)
    centres_px: Centres = (np.zeros(0), np.zeros(0))
    face_share: float = np.nan


def region_traces(video: Video, region: str) -> Traces:
    """The mean colour of a region of every frame, (time, 3), of any scale.

    region: one of `methods.REGIONS`. face: the skin-coloured pixels in the inner part of the face's box, as
    is usual (all of it if none has the colour). skin: those of the whole frame. frame: all pixels. Without
    a face, the whole frame's skin is taken and face_share is 0. Holds one frame at a time. Raises
    InputError if the video cannot be read, and for face if scikit-image is missing.
    """
    started, track, share = time.perf_counter(), None, np.nan
    if region == "face":
        track, share = faces.find_faces(video)
    if region == "frame":
        whole = jax.jit(lambda image: jnp.asarray(image).mean((0, 1), dtype=jnp.float32))
        traces = _read_traces(video, lambda frame: whole(frame.image))
    else:
        skin = jax.jit(lambda image, box: skin_mean(image, box)[0])
        traces = _read_traces(
            video,
            lambda frame: skin(frame.image, track and faces.inner(faces.box_at(track, frame.time_s))),
        )
    face_share = 0.0 if region == "face" and track is None else share
    return traces._replace(seconds=time.perf_counter() - started, face_share=face_share)


def patch_traces(video: Video, *, patch_px: int, stride_px: int) -> Traces:
    """The mean colour of every patch of every frame, (time, row, col, 3), of any scale.

    Holds one frame at a time. Raises InputError for a video that cannot be read or is smaller
    than a patch.
    """
    means = jax.jit(partial(patch_means, patch_px=patch_px, stride_px=stride_px))
    frame_px = video.height, video.width
    layout = Layout(frame_px, frame_px, cell_px=1, top=0, left=0, patch=patch_px, stride=stride_px)
    return _read_traces(video, lambda frame: means(frame.image))._replace(
        frame_px=frame_px, centres_px=layout.centres_px()
    )


def patch_means(image: Image, *, patch_px: int, stride_px: int) -> Float[Array, "row col 3"]:
    """The mean colour of every square of `patch_px`, one every `stride_px`, of an image of 0...1.

    Square (row, col) has its top left pixel at (row x stride, col x stride). Raises InputError
    where the image is smaller than a square.
    """
    if min(image.shape[:2]) < patch_px:
        raise InputError(
            f"frames of {image.shape[1]}x{image.shape[0]} px: smaller than a patch of {patch_px} px;"
            " give a smaller patch"
        )
    sums = jnp.asarray(image, jnp.float32)
    for axis in (0, 1):
        size, stride = [1, 1, 1], [1, 1, 1]
        size[axis], stride[axis] = patch_px, stride_px
        sums = lax.reduce_window(sums, 0.0, lax.add, size, stride, "VALID")
    return sums / patch_px**2


def skin_mean(
    image: Image, box: Float[Array | np.ndarray, "4"] | None = None
) -> tuple[Float[Array, "3"], Float[Array, ""]]:
    """The mean colour of an image's skin, in the image's units, and the share of pixels that are skin.

    Without any skin, the mean is over all pixels and the share is 0. box: top, left, bottom and right, in
    pixels; everything outside is ignored.
    """
    rows, cols = (np.arange(size) + 0.5 for size in image.shape[:2])
    inside = jnp.ones(image.shape[:2], bool)
    if box is not None:
        top, left, bottom, right = box
        inside = ((rows >= top) & (rows < bottom))[:, None] & ((cols >= left) & (cols < right))
        inside = jnp.where(inside.any(), inside, True)
    mask = skin_mask(image) & inside
    weight = jnp.where(mask.any(), mask, inside)
    channels = jnp.moveaxis(jnp.asarray(image), -1, 0)
    sums = [jnp.sum(channel * weight, dtype=jnp.float32) for channel in channels]
    return jnp.stack(sums) / weight.sum(), mask.sum() / inside.sum()


def _read_traces(video: Video, summarise: Callable[[Frame], jax.Array]) -> Traces:
    started = time.perf_counter()
    stamps, colours = [], []
    for frame in video.frames():
        stamps.append(frame.time_s)
        colours.append(np.asarray(summarise(frame)))
    if not stamps:
        raise InputError(f"{video.name}: has no frames")
    grid = np.arange(int(stamps[-1] * TRACE_FPS + 1e-3) + 1) / TRACE_FPS
    colour = np.stack(colours)
    flat = [np.interp(grid, stamps, channel) for channel in colour.reshape(len(stamps), -1).T]
    resampled = np.stack(flat, -1).reshape(len(grid), *colour.shape[1:]).astype(np.float32)
    return Traces(resampled, stamps[-1], time.perf_counter() - started)
