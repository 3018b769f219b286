"""Patches on a frame, and the overlapping tiles into which a frame is cut so that every patch lies in one.

A window is (time, height, width, channel), in pixels of whatever the network reads. Patch (row, col) has its
top left pixel at (row x stride, col x stride).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pulse3d.errors import InputError

Window = Float[np.ndarray, "time height width channel"]
Map = Float[np.ndarray, "row col class"]


def grid_shape(frame_shape: tuple[int, ...], patch_px: int, stride_px: int) -> tuple[int, int]:
    """Rows and columns of patches that fit into a frame (height, width); raises InputError if none does."""
    height, width = frame_shape
    if min(height, width) < patch_px:
        raise InputError(f"frames of {width}x{height} px: smaller than the network's patch of {patch_px} px")
    return (height - patch_px) // stride_px + 1, (width - patch_px) // stride_px + 1


def centre_patch(patch: Float[Array, "time height width channel"], centre: str) -> Array:
    """The patch minus its mean ("window"), minus each pixel's mean over time ("pixel"), or "relative".

    relative: each pixel's change relative to its own mean over time, within -1...1; pixels darker
    than 3 % of white are divided by that, since their colour is mostly noise.
    """
    mean = patch.mean(axis=None if centre == "window" else 0, keepdims=True)
    if centre == "relative":
        return jnp.clip((patch - mean) / jnp.maximum(mean, 0.03), -1, 1)
    return patch - mean


def tile_starts(
    frame_shape: tuple[int, int], tile_shape: tuple[int, int], patch_px: int, stride_px: int
) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Rows and columns at which equal tiles start, so that every patch lies entirely in one tile.

    Tiles overlap by a halo. Second, by how many pixels the frame must be padded (before, after) along both
    axes to fill the last tiles.
    """
    grid = grid_shape(frame_shape, patch_px, stride_px)
    starts, missing = [], []
    for length, patches, tile in zip(frame_shape, grid, tile_shape, strict=True):
        per_tile = (tile - patch_px) // stride_px + 1
        starts.append([i * per_tile * stride_px for i in range(-(-patches // per_tile))])
        missing.append((0, max(starts[-1][-1] + tile - length, 0)))
    return starts, missing


def cut_tiles(
    window: Any, tile_shape: tuple[int, int], patch_px: int, stride_px: int, *, xp: Any = np
) -> tuple[Any, tuple[int, int]]:
    """The tiles of a window, row by row: (tile, time, tile height, tile width, channel).

    Second, the number of rows and columns of tiles. The frame's last rows and columns are repeated to fill
    the last tiles. xp: numpy, or jax.numpy inside a traced program.
    """
    _, height, width, _ = window.shape
    (rows, cols), missing = tile_starts((height, width), tile_shape, patch_px, stride_px)
    window = xp.pad(window, [(0, 0), *missing, (0, 0)], mode="edge")
    tiles = [window[:, y : y + tile_shape[0], x : x + tile_shape[1]] for y in rows for x in cols]
    return xp.stack(tiles), (len(rows), len(cols))


def join_tiles(tiles: Any, counts: tuple[int, int], grid: tuple[int, int]) -> Any:
    """Joins results for the tiles of `cut_tiles`, (tile, tile row, tile col, ...), to (row, col, ...).

    Cuts off what was filled in.
    """
    placed = tiles.reshape(*counts, *tiles.shape[1:]).swapaxes(1, 2)
    joined = placed.reshape(counts[0] * tiles.shape[1], counts[1] * tiles.shape[2], *tiles.shape[3:])
    return joined[: grid[0], : grid[1]]
