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


def cut_tiles(
    window: Any, tile_shape: tuple[int, int], patch_px: int, stride_px: int, *, xp: Any = np
) -> tuple[Any, tuple[int, int]]:
    """Equal tiles that overlap by a halo, so that every patch lies whole in one of them.

    Returns the tiles (tile, time, tile height, tile width, channel), row by row, and the number of
    rows and columns of tiles. The frame's last rows and columns are repeated to fill the last tiles.
    xp: numpy, or jax.numpy where this is part of a program.
    """
    grid = grid_shape(window.shape[1:3], patch_px, stride_px)
    counts, starts = [], []
    for axis, (patches, tile) in enumerate(zip(grid, tile_shape, strict=True)):
        per_tile = (tile - patch_px) // stride_px + 1
        counts.append(-(-patches // per_tile))
        starts.append([i * per_tile * stride_px for i in range(counts[-1])])
        missing = starts[-1][-1] + tile - window.shape[1 + axis]
        padding = [(0, 0)] * 4
        padding[1 + axis] = (0, max(missing, 0))
        window = xp.pad(window, padding, mode="edge")
    tiles = [window[:, y : y + tile_shape[0], x : x + tile_shape[1]] for y in starts[0] for x in starts[1]]
    return xp.stack(tiles), (counts[0], counts[1])


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
        return jax.tree.map(lambda x: jax.device_put(jnp.asarray(x)[None], devices[0]), values)
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
