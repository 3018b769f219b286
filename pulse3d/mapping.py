"""The pulse-rate map of a window of video: one probability vector per patch.

`map_by_definition` cuts every patch and runs the network on each: slow, obvious, the truth.
The `Mapper` of `make_mapper` gives the same numbers much faster, because neighbouring patches share most
of their work (`dense` for the paper's network, `cellmap` for the default one), and spreads it over the
local devices. It is made once for a video and handed on: it alone knows where the patches are.

A window is float32 (time, height, width, channel), white being 1, in cells: pixels, or averages
over squares of them. A map is (row, col, class) probabilities; `Layout` says where its patches are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from pulse3d import cellmap, cells, dense, model, video
from pulse3d.cells import Cells
from pulse3d.config import CellNetConfig, Config
from pulse3d.errors import InputError
from pulse3d.tiles import Map, Window, centre_patch, grid_shape

MAX_BYTES = 2**32  # of a window and of its map, each


@dataclass(frozen=True)
class Layout:
    """How frames of one size become cells, and where the patches of a map are.

    frame: height and width in pixels. grid: rows and columns of cells of `cell_px` pixels; top, left:
    pixels before the first. patch, stride: in cells.
    """

    frame: tuple[int, int]
    grid: tuple[int, int]
    cell_px: int
    top: int
    left: int
    patch: int
    stride: int

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of the map; raises InputError where a frame is smaller than a patch."""
        return grid_shape(self.grid, self.patch, self.stride)

    @property
    def stride_px(self) -> int:
        """Pixels between the centres of neighbouring patches."""
        return self.stride * self.cell_px

    @property
    def patch_px(self) -> int:
        """Height and width of a patch in pixels."""
        return self.patch * self.cell_px

    def centres_px(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates (row_px, col_px) of the patch centres along each axis."""
        rows, cols = self.places
        half = (self.patch_px - 1) / 2
        return (
            self.top + np.arange(rows) * self.stride_px + half,
            self.left + np.arange(cols) * self.stride_px + half,
        )


@dataclass(frozen=True)
class Mapper:
    """All that maps the frames of one video, or of one size, by one network.

    config: the network's. layout: where the cells and the places of the map are. read: an image
    (height, width, 3) to its cells, float32 of 0...1. windows: the cells of all frames of a video, and the
    frames from a window to the next, to (index of the first frame, cells, what `map` takes) of each window;
    of long videos it holds little more than a window. map: one of these to its map, on all devices.
    program: a window of cells alone to its map, as one traceable program, for one device.
    """

    config: Config
    layout: Layout
    read: Callable[[np.ndarray], Cells]
    windows: Callable[[Iterable[Cells], int], Iterator[tuple[int, Window, Any]]]
    map: Callable[[Any], Map]
    program: Callable[[Array], Array]

    def __call__(self, window: Window) -> Map:
        """The map of a window of cells, as if it were the whole video."""
        return self.map(next(self.windows(window, 1))[2])

    @property
    def window_shape(self) -> tuple[int, int, int, int]:
        """Shape of a window of cells: (time, row, col, channel)."""
        return (self.config.clip.frames, *self.layout.grid, self.config.clip.channels)


def make_layout(frame_shape: tuple[int, int], config: Config, *, stride_px: int | None = None) -> Layout:
    """The layout for frames (height, width).

    stride_px: rounded to whole cells, at least one; default `map.stride_px`. Raises InputError
    where a frame is smaller than a patch, and where a window or its map would take more than MAX_BYTES.
    """
    if stride_px is not None and stride_px < 1:
        raise InputError(f"stride_px = {stride_px}: must be at least 1")
    wanted = stride_px or config.map.stride_px
    # the network of the cells answers for each by itself
    patch = 1 if isinstance(config.model, CellNetConfig) else config.clip.patch_px
    if not config.map.cells:
        layout = Layout(frame_shape, frame_shape, 1, 0, 0, patch, wanted)
    else:
        size = cells.cell_size(frame_shape, config.map.cells)
        rows, cols, top, left = cells.cell_grid(frame_shape, config.map.cells)
        layout = Layout(frame_shape, (rows, cols), size, top, left, patch, max(1, round(wanted / size)))
    clip, places = config.clip, layout.places
    if 4 * clip.frames * clip.channels * math.prod(layout.grid) > MAX_BYTES:
        raise InputError(f"{frame_shape[1]}x{frame_shape[0]} px: too large for this network; scale it down")
    if 4 * clip.classes * math.prod(places) > MAX_BYTES:
        raise InputError(f"{places[0]}x{places[1]} places: too many for memory; take a larger --stride")
    return layout


def make_reader(frame_shape: tuple[int, int], config: Config) -> Callable[[np.ndarray], Cells]:
    """A function from an image (height, width, 3) to the cells that the network reads of it."""
    if not config.map.cells:
        return lambda image: video.to_unit(image, config.clip.channels)
    average = cells.make_averager(frame_shape, config.map.cells)
    return lambda image: video.to_unit(average(image), config.clip.channels)


def shuffle_pixels(key: PRNGKeyArray, patch: Float[Array, "time height width channel"]) -> Array:
    """The patch with the pixels of every frame in another random order (as the original does)."""
    frames, channels = patch.shape[0], patch.shape[-1]
    pixels = patch.reshape(frames, -1, channels)
    shuffled = jax.vmap(jax.random.permutation)(jax.random.split(key, frames), pixels)
    return shuffled.reshape(patch.shape)


def map_by_definition(
    params: model.Params,
    window: Window,
    config: Config,
    *,
    stride: int,
    shuffle_key: PRNGKeyArray | None = None,
    batch_size: int = 64,
) -> Map:
    """The map, patch by patch: cut, shuffle (with a key), subtract the mean, run the network."""
    size = config.clip.patch_px
    rows, cols = grid_shape(window.shape[1:3], size, stride)
    video = jnp.asarray(window)

    def probability(index):
        y, x = index // cols * stride, index % cols * stride
        patch = lax.dynamic_slice_in_dim(lax.dynamic_slice_in_dim(video, y, size, 1), x, size, 2)
        if shuffle_key is not None:
            patch = shuffle_pixels(jax.random.fold_in(shuffle_key, index), patch)
        logits = model.apply_logits(params, (centre_patch(patch, config.map.centre)[None],), config)
        return jax.nn.softmax(logits[0])

    run = jax.jit(lambda indices: lax.map(probability, indices, batch_size=batch_size))
    return np.asarray(run(jnp.arange(rows * cols))).reshape(rows, cols, -1)


def make_mapper(
    params: model.Params,
    config: Config,
    frame_shape: tuple[int, int],
    *,
    stride_px: int | None = None,
    devices: list[jax.Device] | None = None,
    method: str = "pmap",
) -> Mapper:
    """The mapper of frames (height, width); its maps equal `map_by_definition` without shuffling.

    stride_px: as of `make_layout`, which says what is refused. devices: all local ones by default.
    method: as `tiles.spread` takes it.
    """
    layout = make_layout(frame_shape, config, stride_px=stride_px)
    devices = jax.local_devices() if devices is None else devices
    make = _cells_mapper if isinstance(config.model, CellNetConfig) else _patch_mapper
    return make(params, config, layout, devices, method)


def _cells_mapper(
    params: model.Params, config: Config, layout: Layout, devices: list[jax.Device], method: str
) -> Mapper:
    """The mapper of the network that reads every cell of a video once."""
    stride, cut = layout.stride, cellmap.make_windows(params, config)
    mapper = cellmap.make_mapper(params, config, layout.grid, devices=devices, method=method)

    def windows(frames: Iterable[Cells], step: int) -> Iterator[tuple[int, Window, Any]]:
        held: deque[Cells] = deque()
        first = 0

        def hold(frame: Cells) -> Cells:
            held.append(frame)
            return frame

        for index, window in cut(map(hold, frames), step):
            while first < index:
                held.popleft()
                first += 1
            yield index, np.stack(list(islice(held, window.frames))), window

    return Mapper(
        config,
        layout,
        make_reader(layout.frame, config),
        windows,
        lambda window: mapper(window)[::stride, ::stride],
        lambda window: cellmap.map_window(params, window, config)[::stride, ::stride],
    )


def _patch_mapper(
    params: model.Params, config: Config, layout: Layout, devices: list[jax.Device], method: str
) -> Mapper:
    """The mapper of a network that reads patches, every window anew."""
    stride = layout.stride
    return window_mapper(
        config,
        layout,
        dense.make_mapper(params, config, layout.grid, stride=stride, devices=devices, method=method),
        lambda window: dense.map_window(params, window, config, stride=stride),
    )


def window_mapper(
    config: Config,
    layout: Layout,
    call: Callable[[Window], Map],
    program: Callable[[Array], Array],
) -> Mapper:
    """The mapper whose windows are mapped one by one, from their cells alone, by `call`."""

    def windows(frames: Iterable[Cells], step: int) -> Iterator[tuple[int, Window, Any]]:
        for index, window in sliding_windows(frames, config.clip.frames, step):
            yield index, window, window

    return Mapper(config, layout, make_reader(layout.frame, config), windows, call, program)


def sliding_windows(
    frames: Iterable[np.ndarray], length: int, step: int
) -> Iterator[tuple[int, Float[np.ndarray, "time height width channel"]]]:
    """Windows of `length` frames every `step` frames, as (index of the first frame, window).

    Holds one window at a time, whatever the length of the video.
    """
    held: deque[np.ndarray] = deque(maxlen=length)
    for index, frame in enumerate(frames):
        held.append(frame)
        start = index + 1 - length
        if start >= 0 and start % step == 0:
            yield start, np.stack(held)
