"""The default network's view of a frame: cells, patches of several sizes, and what these say together.

A frame is averaged over square cells; level 0 has `map.cells` of them along the shorter side, and
every further level cells twice as large. On each level a patch is the same number of cells, so that
one network reads patches of 64, 128 and 256 px of a VGA frame. The map has the places of level 0;
every place takes the mean likelihood ratio of the patches over it, one of each level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from pulse3d import model
from pulse3d.config import Config, SpectralConfig, expect
from pulse3d.tiles import (
    DEVICE,
    Map,
    Window,
    centre_patch,
    cut_tiles,
    grid_shape,
    join_tiles,
    put_everywhere,
    spread_evenly,
)

Image = Float[np.ndarray, "height width channel"]

TILE_EDGES = range(5, 13)  # of the tiles of positions: small enough for a core's cache and many devices


@dataclass(frozen=True)
class Level:
    """One size of patches: cells of `scale` cells of level 0, the first of them at `top`, `left`.

    rows, cols: of its patches, one every `stride` cells.
    """

    scale: int
    top: int
    left: int
    rows: int
    cols: int
    stride: int

    def centres(self, patch: int) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the patches' rows and columns, in cells of level 0 from its first edge."""
        return (
            self.top + (np.arange(self.rows) * self.stride + patch / 2) * self.scale,
            self.left + (np.arange(self.cols) * self.stride + patch / 2) * self.scale,
        )


def cell_size(frame_shape: tuple[int, int], cells: int) -> int:
    """Edge of the cells of level 0 in px, for frames (height, width)."""
    return max(1, round(min(frame_shape) / cells))


def cell_grid(frame_shape: tuple[int, int], cells: int) -> tuple[int, int, int, int]:
    """Rows and columns of cells, and the pixels left out at the top and at the left: they are centred."""
    size = cell_size(frame_shape, cells)
    rows, cols = (n // size for n in frame_shape)
    return rows, cols, (frame_shape[0] - rows * size) // 2, (frame_shape[1] - cols * size) // 2


def make_averager(frame_shape: tuple[int, int], cells: int) -> Callable[[np.ndarray], Image]:
    """A function from an image of that shape (height, width, 3) to its cells of level 0.

    The image is uint8 or float of 0...1, the cells are float32 of 0...1.
    """
    size = cell_size(frame_shape, cells)
    rows, cols, top, left = cell_grid(frame_shape, cells)

    def average(image: np.ndarray) -> Image:
        used = image[top : top + rows * size, left : left + cols * size]
        # Rows first: the sums run along the memory, and those of 8 bits are whole numbers.
        whole = image.dtype == np.uint8
        strips = used.reshape(rows, size, -1).sum(1, dtype=np.uint32 if whole else np.float32)
        sums = strips.reshape(rows, cols, size, -1).sum(2)
        return sums.astype(np.float32) / np.float32(size**2 * (255 if whole else 1))

    return average


def levels(grid: tuple[int, int], config: Config, *, stride: int) -> list[Level]:
    """The levels of a frame of (rows, columns) of cells: at most `map.levels`, those that hold a patch.

    stride: cells between patches on level 0; one on the others. Raises InputError where level 0
    holds no patch.
    """
    patch, found = config.clip.patch_px, []
    for index in range(config.map.levels):
        scale = 2**index
        cells = tuple(n // scale for n in grid)
        if index and min(cells) < patch:
            break
        step = 1 if index else stride
        rows, cols = grid_shape(cells, patch, step)
        top, left = ((n - m * scale) // 2 for n, m in zip(grid, cells, strict=True))
        found.append(Level(scale, top, left, rows, cols, step))
    return found


def cut_level(window: Any, level: Level) -> Any:
    """The cells of a level, (time, row, col, channel), from those of level 0."""
    scale = level.scale
    if scale == 1:
        return window
    rows, cols = window.shape[1] // scale, window.shape[2] // scale
    part = window[:, level.top : level.top + rows * scale, level.left : level.left + cols * scale]
    # one axis after the other: several times as fast as both
    return part.reshape(len(part), rows, scale, cols, scale, -1).sum(2).sum(3) / np.float32(scale**2)


def combine_levels(maps: list[Any], found: list[Level], config: Config, *, xp: Any = np) -> Any:
    """One map from those of all levels, at the places of level 0.

        LR(f) = mean over levels of LR_l(f)
        p(none) = n / (n + sum LR),  p(f) = LR p(none) / n

    LR_l(f) = n p(f) / p(none) is the likelihood ratio of a pulse of rate f against none, of the patch
    of level l whose centre is nearest; n: prior odds of "no pulse" against one rate
    (`generator.no_pulse_clips`). A larger patch knows more but not where: a place near a pulse takes
    part in it. xp: numpy, or jax.numpy where this is part of a program.
    """
    patch, odds = config.clip.patch_px, config.odds
    wanted, ratio = found[0].centres(patch), xp.zeros(1)
    for probability, level in zip(maps, found, strict=True):
        row, col = (
            abs(there - here[:, None]).argmin(1)
            for there, here in zip(level.centres(patch), wanted, strict=True)
        )
        placed = probability[row][:, col].astype(np.float64 if xp is np else np.float32)
        ratio = ratio + odds * placed[..., :-1] / xp.maximum(placed[..., -1:], 1e-12) / len(found)
    none = odds / (odds + ratio.sum(-1, keepdims=True))
    return xp.concatenate([ratio * none / odds, none], -1).astype(np.float32)


def patch_index(
    positions: list[np.ndarray], found: list[Level], span: int
) -> Int[np.ndarray, "patch position"]:
    """For every patch of all levels its span x span positions; positions: their numbers, per level."""
    return np.concatenate(
        [
            np.lib.stride_tricks.sliding_window_view(numbers, (span, span))[
                :: level.stride, :: level.stride
            ].reshape(-1, span * span)
            for numbers, level in zip(positions, found, strict=True)
        ]
    )


def tile_edges(grids: list[tuple[int, int]]) -> tuple[int, int]:
    """Rows and columns of the tiles that cover grids of positions with the fewest positions in all."""

    def computed(edges: tuple[int, int]) -> int:
        counts = (-(-rows // edges[0]) * -(-cols // edges[1]) for rows, cols in grids)
        return sum(counts) * edges[0] * edges[1]

    return min(((row, col) for row in TILE_EDGES for col in TILE_EDGES), key=computed)


def map_window(params: model.Params, window: Array, config: Config, *, stride: int) -> Array:
    """The map of a window of cells as one traceable program, on one device: what `make_mapper` gives."""
    _, height, width, _ = window.shape
    found, network = levels((height, width), config, stride=stride), model.make_model(config)
    square = expect(config.model, SpectralConfig).space_taps
    maps = []
    for level in found:
        centred = centre_patch(cut_level(window, level), config.map.centre)
        spectra: Any = network.apply({"params": params}, centred[None], method="positions")
        rows, cols = spectra.attention.shape[1:3]
        flat = jax.tree.map(lambda x, count=rows * cols: x[0].reshape(count, *x.shape[3:]), spectra)
        numbers = np.arange(rows * cols).reshape(rows, cols)
        members = patch_index([numbers], [level], config.clip.patch_px - square + 1)

        def patch(member, flat=flat):
            own = jax.tree.map(lambda x: x[member][None], flat)
            return jax.nn.softmax(network.apply({"params": params}, own, method="patches")[0])

        probability = lax.map(patch, jnp.asarray(members), batch_size=64)
        maps.append(probability.reshape(level.rows, level.cols, -1))
    return combine_levels(maps, found, config, xp=jnp)


def make_mapper(
    params: model.Params,
    config: Config,
    grid: tuple[int, int],
    *,
    stride: int,
    devices: list[jax.Device],
    method: str = "pmap",
) -> Callable[[Window], Map]:
    """A function from a window of cells of level 0, `grid` (rows, columns) of them, to its map.

    First all positions, which patches share, in equal tiles of all levels; then all patches. Both are
    spread over the devices, which hand each other the positions in between.
    """
    found = levels(grid, config, stride=stride)
    square = expect(config.model, SpectralConfig).space_taps
    shapes = [grid_shape((grid[0] // x.scale, grid[1] // x.scale), square, 1) for x in found]
    edges = tile_edges(shapes)
    tile_shape = (edges[0] + square - 1, edges[1] + square - 1)

    def cut(window: Window) -> list[tuple[np.ndarray, tuple[int, int]]]:
        centred = (centre_patch(jnp.asarray(cut_level(window, level)), config.map.centre) for level in found)
        return [cut_tiles(np.asarray(level), tile_shape, square, 1) for level in centred]

    # the number of every position, in the order in which the tiles give them
    numbers, first = [], 0
    nothing = np.zeros((1, *grid, config.clip.channels), np.float32)
    for shape, (tiles, counts) in zip(shapes, cut(nothing), strict=True):
        given = first + np.arange(len(tiles) * edges[0] * edges[1]).reshape(-1, *edges)
        numbers.append(join_tiles(given, counts, shape))
        first += given.size
    members = patch_index(numbers, found, config.clip.patch_px - square + 1)

    run = _spread_program(config, tuple(devices), method)
    shared = put_everywhere(params, devices)

    def mapper(window: Window) -> Map:
        probability = run(shared, (members, np.concatenate([tiles for tiles, _ in cut(window)])))
        ends = np.cumsum([level.rows * level.cols for level in found])[:-1]
        maps = [
            part.reshape(level.rows, level.cols, -1)
            for part, level in zip(np.split(probability, ends), found, strict=True)
        ]
        return combine_levels(maps, found, config)

    return mapper


@lru_cache(maxsize=8)
def _spread_program(
    config: Config, devices: tuple[jax.Device, ...], method: str
) -> Callable[[Any, Any], Any]:
    """The program of all mappers of a config, kept so that a size of grid compiles once."""
    network = model.make_model(config)

    def program(params, items):
        members, tiles = items

        def position(tile):
            spectra = network.apply({"params": params}, tile[None], method="positions")
            return jax.tree.map(lambda x: x[0], spectra)

        # each device finds its share of the positions, all read patches of all
        spectra = jax.tree.map(
            lambda x: lax.all_gather(x, DEVICE).reshape(-1, *x.shape[3:]), lax.map(position, tiles)
        )

        def patch(member):
            own = jax.tree.map(lambda x: x[member][None], spectra)
            return jax.nn.softmax(network.apply({"params": params}, own, method="patches")[0])

        return lax.map(patch, members, batch_size=64)

    return spread_evenly(program, list(devices), method=method)
