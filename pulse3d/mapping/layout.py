"""Where the cells and the places of a map are on a frame.

A frame is divided into cells (its pixels, or averages over squares of them); the places of a map are one
stride of cells apart. The layout is made once for a video and passed on.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pulse3d import video
from pulse3d.config import Config
from pulse3d.errors import InputError, expect_kind
from pulse3d.mapping import cells
from pulse3d.mapping.cells import Cells
from pulse3d.mapping.tiles import grid_shape

MAX_BYTES = 2**32  # for a window and for its map, each


@dataclass(frozen=True)
class Layout:
    """How frames of one size become cells, and where the patches of a map are.

    frame: height and width in pixels. grid: rows and columns of cells of `cell_px` pixels; top, left:
    pixels before the first cell. patch, stride: in cells.
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
        """Rows and columns of the map; raises InputError if a frame is smaller than a patch."""
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


def make_layout(frame_shape: tuple[int, int], config: Config, *, stride_px: int | None = None) -> Layout:
    """The layout for frames (height, width).

    stride_px: rounded to whole cells, at least one; default `map.stride_px`. Raises InputError
    if a frame is smaller than a patch, or if a window or its map would take more than MAX_BYTES.
    """
    if stride_px is not None:
        expect_kind("stride_px", stride_px, numbers.Integral, "a whole number of pixels")
    if stride_px is not None and stride_px < 1:
        raise InputError(f"stride_px = {stride_px}: must be at least 1")
    wanted = stride_px or config.map.stride_px
    # what reads cells maps each cell separately
    patch = 1 if config.map.cells else config.clip.patch_px
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
        raise InputError(f"{places[0]}x{places[1]} places: too many for memory; take a larger stride")
    return layout


def make_reader(frame_shape: tuple[int, int], config: Config) -> Callable[[np.ndarray], Cells]:
    """A function from an image (height, width, 3) to the cells that the network reads."""
    if not config.map.cells:
        return lambda image: video.to_unit(image, config.clip.channels)
    average = cells.make_averager(frame_shape, config.map.cells)
    return lambda image: video.to_unit(average(image), config.clip.channels)
