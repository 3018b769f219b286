"""Frames as square cells of averaged colour, which the default network reads.

There are `map.cells` of them along the frame's shorter side; pixels that do not fill a cell are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

Cells = Float[np.ndarray, "row col channel"]


def cell_size(frame_shape: tuple[int, int], cells: int) -> int:
    """Edge of the cells in px, for frames (height, width)."""
    return max(1, round(min(frame_shape) / cells))


def cell_grid(frame_shape: tuple[int, int], cells: int) -> tuple[int, int, int, int]:
    """Rows and columns of the centred grid of cells, and the pixels left out at the top and at the left."""
    size = cell_size(frame_shape, cells)
    rows, cols = (n // size for n in frame_shape)
    return rows, cols, (frame_shape[0] - rows * size) // 2, (frame_shape[1] - cols * size) // 2


def make_averager(frame_shape: tuple[int, int], cells: int) -> Callable[[np.ndarray], Cells]:
    """A function from an image of that shape (height, width, 3) to its cells.

    The image is uint8 or float of 0...1, the cells are float32 of 0...1.
    """
    size = cell_size(frame_shape, cells)
    rows, cols, top, left = cell_grid(frame_shape, cells)

    def average(image: np.ndarray) -> Cells:
        used = image[top : top + rows * size, left : left + cols * size]
        whole = image.dtype == np.uint8
        # rows first, one by one: the sums run along memory; 8-bit images are summed exactly, as integers
        narrow: DTypeLike = np.float32
        wide: DTypeLike = np.float32
        if whole:
            narrow, wide = np.uint16 if size * 255 < 2**16 else np.uint32, np.uint32
        lines = used.reshape(rows, size, -1)
        strips = lines[:, 0].astype(narrow)
        for line in range(1, size):
            np.add(strips, lines[:, line], out=strips)
        strips = strips.reshape(rows, cols * size, -1)
        sums = np.add.reduceat(strips, np.arange(0, cols * size, size), axis=1, dtype=wide)
        return sums.astype(np.float32) / np.float32(size**2 * (255 if whole else 1))

    return average
