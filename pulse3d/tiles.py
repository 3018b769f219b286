"""Patches on a frame, tiles of patches, and the devices that the tiles are spread over.

A window is (time, height, width, channel), in pixels of whatever the network reads. Patch
(row, col) has its top left pixel at (row x stride, col x stride).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from pulse3d.errors import InputError

Window = Float[np.ndarray, "time height width channel"]
Map = Float[np.ndarray, "row col class"]

DEVICE = "device"  # the axis of devices


def grid_shape(frame_shape: tuple[int, ...], patch_px: int, stride_px: int) -> tuple[int, int]:
    """Rows and columns of patches that fit a frame (height, width); raises InputError if none does."""
    height, width = frame_shape
    if min(height, width) < patch_px:
        raise InputError(f"frames of {width}x{height} px: smaller than the network's patch of {patch_px} px")
    return (height - patch_px) // stride_px + 1, (width - patch_px) // stride_px + 1


def patch_centres(
    frame_shape: tuple[int, ...], patch_px: int, stride_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates (row_px, col_px) of the patch centres along each axis."""
    rows, cols = grid_shape(frame_shape, patch_px, stride_px)
    half = (patch_px - 1) / 2
    return np.arange(rows) * stride_px + half, np.arange(cols) * stride_px + half


def centre_patch(patch: Float[Array, "time height width channel"], centre: str) -> Array:
    """The patch minus its mean: one for all ("window"), one per pixel over time ("pixel"), or "relative".

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
    """Where equal tiles start so that every patch lies whole in one: rows and columns.

    They overlap by a halo. Second, by how much the frame must be continued (before, after) along both
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
    the last tiles. xp: numpy, or jax.numpy where this is part of a program.
    """
    _, height, width, _ = window.shape
    (rows, cols), missing = tile_starts((height, width), tile_shape, patch_px, stride_px)
    window = xp.pad(window, [(0, 0), *missing, (0, 0)], mode="edge")
    tiles = [window[:, y : y + tile_shape[0], x : x + tile_shape[1]] for y in rows for x in cols]
    return xp.stack(tiles), (len(rows), len(cols))


def join_tiles(tiles: Any, counts: tuple[int, int], grid: tuple[int, int]) -> Any:
    """The inverse of `cut_tiles` for what was made of the tiles, (tile, tile row, tile col, ...).

    Cuts off what was filled in: (row, col, ...).
    """
    placed = tiles.reshape(*counts, *tiles.shape[1:]).swapaxes(1, 2)
    joined = placed.reshape(counts[0] * tiles.shape[1], counts[1] * tiles.shape[2], *tiles.shape[3:])
    return joined[: grid[0], : grid[1]]


def spread(
    program: Callable[[Any, Any], Any], devices: list[jax.Device], *, method: str = "pmap"
) -> Callable[[Any, Any], Any]:
    """Runs a per-device program(params, items) on every device; all arrays have an axis of devices first.

    The program may talk to the other devices along the axis `DEVICE`. method: "pmap", or "shard_map"
    for `jit(shard_map)`, its successor.
    """
    if method == "pmap":
        return jax.pmap(program, axis_name=DEVICE, devices=devices)
    mesh = jax.make_mesh((len(devices),), (DEVICE,), axis_types=(AxisType.Auto,), devices=devices)

    def on_one_device(params, items):
        own = jax.tree.map(lambda x: x[0], (params, items))
        return jax.tree.map(lambda x: x[None], program(*own))

    spec = PartitionSpec(DEVICE)
    return jax.jit(jax.shard_map(on_one_device, mesh=mesh, in_specs=(spec, spec), out_specs=spec))


def put_everywhere(values: Any, devices: list[jax.Device]) -> Any:
    """A tree of arrays with a copy for every device, as `spread_evenly` takes it."""
    if len(devices) == 1:
        return jax.tree.map(lambda x: jax.device_put(x[None], devices[0]), values)
    mesh = jax.make_mesh((len(devices),), (DEVICE,), axis_types=(AxisType.Auto,), devices=devices)
    return jax.device_put(
        jax.tree.map(lambda x: jnp.broadcast_to(x, (len(devices), *x.shape)), values),
        NamedSharding(mesh, PartitionSpec(DEVICE)),
    )


def spread_evenly(
    program: Callable[[Any, Any], Any], devices: list[jax.Device], *, method: str = "pmap"
) -> Callable[[Any, Any], Any]:
    """A function (shared, items) -> program(shared, items), each device doing an equal share of the items.

    shared: from `put_everywhere`. items and results: arrays or trees of arrays with the items
    along the first axis. What is missing to equal shares is filled with zeros and cut off again.
    Arrays of different numbers of items are shared out each by itself; there are as many results as the
    first has.
    """
    run = spread(program, devices, method=method)
    mesh = jax.make_mesh((len(devices),), (DEVICE,), axis_types=(AxisType.Auto,), devices=devices)
    split = NamedSharding(mesh, PartitionSpec(DEVICE))

    def on_all(shared: Any, items: Any) -> Any:
        count = len(jax.tree.leaves(items)[0])

        def share(x):
            if missing := -len(x) % len(devices):
                x = np.pad(x, [(0, missing), *[(0, 0)] * (x.ndim - 1)])
            return jax.device_put(x.reshape(len(devices), -1, *x.shape[1:]), split)

        results = jax.device_get(run(shared, jax.tree.map(share, items)))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], results)

    return on_all
