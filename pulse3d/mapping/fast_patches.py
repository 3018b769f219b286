"""The exact dense map of the paper's network.

Neighbouring patches share almost all of their convolution, so a tile of the frame is convolved once
(by FFT over its pixels, a matrix product over time) and max-pooled at stride 1; every patch gathers
its own features. Means are subtracted before or after the convolution:

* centre = "pixel": each pixel's temporal mean is subtracted before the convolution;
* centre = "window": the patch's mean m is subtracted after it, as m times the sum of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import lax
from jaxtyping import Array, Float

from pulse3d.config import Config, ModelConfig, expect
from pulse3d.mapping.spread import put_everywhere, spread_evenly
from pulse3d.mapping.tiles import Map, Window, centre_patch, cut_tiles, grid_shape, join_tiles, tile_starts
from pulse3d.network import model
from pulse3d.network.convolution import exact


class DenseParams(NamedTuple):
    """The parameters laid out for tiles of one size.

    spectrum: conjugate 2-D spectra of the kernel, their real and imaginary parts and the sum of both:
    3 x (frequency, tap x channel, filter).
    kernel_sum: the convolution of a constant 1, (filter,).
    """

    spectrum: tuple[Array, Array, Array]
    kernel_sum: Array
    convolution_bias: Array
    hidden: dict[str, Array]
    classes: dict[str, Array]


def dense_params(params: model.Params, tile_shape: tuple[int, int]) -> DenseParams:
    """Prepares the parameters for tiles of `tile_shape` (height, width)."""
    kernel = params["convolution"]["kernel"]
    taps, _, _, channels, filters = kernel.shape
    spectrum = jnp.conj(jnp.fft.rfft2(kernel, tile_shape, axes=(1, 2)))
    spectrum = spectrum.transpose(1, 2, 0, 3, 4).reshape(-1, taps * channels, filters)
    return DenseParams(
        spectrum=(spectrum.real, spectrum.imag, spectrum.real + spectrum.imag),
        kernel_sum=kernel.sum((0, 1, 2, 3)),
        convolution_bias=params["convolution"]["bias"],
        hidden=params["hidden"],
        classes=params["classes"],
    )


@exact
def map_tile(
    dense: DenseParams, tile: Float[Array, "time height width channel"], config: Config, *, stride_px: int
) -> Float[Array, "row col class"]:
    """The map of one tile; equals running the network on each of its patches.

    If `map.centre` is "pixel", the tile comes with each pixel's mean already subtracted.
    """
    patch_px, network = config.clip.patch_px, expect(config.model, ModelConfig)
    rows, cols = grid_shape(tile.shape[1:3], patch_px, stride_px)
    pool, (_, kernel_height, kernel_width) = network.pool, network.kernel
    pixel = config.map.centre == "pixel"
    if not pixel:  # without its mean, a tile keeps more digits in the Fourier transform
        tile = centre_patch(tile, config.map.centre)
    features = _pool_everywhere(_convolve_tile(dense, tile, config), pool) + dense.convolution_bias

    def pooled_cells(length, kernel):
        return range(0, (length - kernel + 1) // pool * pool, pool)

    offsets = [
        (y, x) for y in pooled_cells(patch_px, kernel_height) for x in pooled_cells(patch_px, kernel_width)
    ]
    # (pool in time, row, col, pool in space, filter)
    gathered = jnp.stack(
        [
            features[
                :,
                y : y + (rows - 1) * stride_px + 1 : stride_px,
                x : x + (cols - 1) * stride_px + 1 : stride_px,
            ]
            for y, x in offsets
        ],
        axis=3,
    )
    if not pixel:
        means = nn.avg_pool(tile.mean((0, 3))[..., None], (patch_px, patch_px), (stride_px, stride_px))
        gathered -= means[:, :, None] * dense.kernel_sum
    patches = jnp.moveaxis(gathered, 0, 2).reshape(rows * cols, -1)
    hidden = jax.nn.relu(jax.nn.relu(patches) @ dense.hidden["kernel"] + dense.hidden["bias"])
    logits = hidden @ dense.classes["kernel"] + dense.classes["bias"]
    return jax.nn.softmax(logits).reshape(rows, cols, -1)


def _convolve_tile(dense: DenseParams, tile: Array, config: Config) -> Array:
    """Valid convolution of a tile: (time_out, row, col, filter), only at the times that are pooled."""
    network = expect(config.model, ModelConfig)
    taps, kernel_height, kernel_width = network.kernel
    frames, height, width, _ = tile.shape
    times = (frames - taps + 1) // network.pool * network.pool
    spectrum = jnp.fft.rfft2(tile, axes=(1, 2)).transpose(1, 2, 0, 3)
    frequencies = spectrum.shape[:2]
    shifted = jnp.stack([spectrum[:, :, t : t + taps] for t in range(times)], axis=2)
    shifted = shifted.reshape(-1, times, dense.spectrum[0].shape[1])
    product = _complex_product(shifted, *dense.spectrum)
    product = product.reshape(*frequencies, times, -1).transpose(2, 3, 0, 1)
    video = jnp.fft.irfft2(product, (height, width))
    return video[:, :, : height - kernel_height + 1, : width - kernel_width + 1].transpose(0, 2, 3, 1)


def _complex_product(x: Array, real: Array, imaginary: Array, both: Array) -> Array:
    """x (real + i imaginary), frequency by frequency, by three real products instead of four (Gauss).

    On a CPU this takes 60 % of the time of the complex product.
    """
    batched = (((2,), (1,)), ((0,), (0,)))
    first = lax.dot_general(x.real, real, batched)
    second = lax.dot_general(x.imag, imaginary, batched)
    third = lax.dot_general(x.real + x.imag, both, batched)
    return lax.complex(first - second, third - first - second)


def _pool_everywhere(features: Array, pool: int) -> Array:
    """Max-pooling over pool x pool x pool values, with stride `pool` in time and 1 in space."""
    features = features.reshape(-1, pool, *features.shape[1:]).max(1)
    for axis in (1, 2):
        length = features.shape[axis] - pool + 1
        shifted = [lax.slice_in_dim(features, i, i + length, axis=axis) for i in range(pool)]
        features = jnp.max(jnp.stack(shifted), 0)
    return features


def choose_tile(frame_shape: tuple[int, int], tile_px: int) -> tuple[int, int]:
    """Height and width of the tiles: `tile_px`, or less if the frame is smaller."""
    height, width = (min(tile_px, scipy.fft.next_fast_len(n, real=True)) for n in frame_shape)
    return height, width


def map_window(params: model.Params, window: Array, config: Config, *, stride: int) -> Array:
    """The map of a window of pixels, as from `make_mapper`, but as one traceable program on one device."""
    size, grid = config.clip.patch_px, grid_shape(window.shape[1:3], config.clip.patch_px, stride)
    tile_shape = choose_tile((window.shape[1], window.shape[2]), config.map.tile_px)
    if config.map.centre == "pixel":
        window = window - window.mean(0)
    laid_out = dense_params(params, tile_shape)
    tiles, counts = cut_tiles(window, tile_shape, size, stride, xp=jnp)
    maps = lax.map(lambda tile: map_tile(laid_out, tile, config, stride_px=stride), tiles, batch_size=6)
    return join_tiles(maps, counts, grid)


def make_mapper(
    params: model.Params,
    config: Config,
    frame_shape: tuple[int, int],
    *,
    stride: int,
    devices: list[jax.Device],
) -> Callable[[Window], Map]:
    """A function from a window to its map, for frames of `frame_shape` (height, width).

    Raises InputError if the frame is smaller than a patch.
    """
    patch_px = config.clip.patch_px
    grid = grid_shape(frame_shape, patch_px, stride)
    tile_shape = choose_tile(frame_shape, config.map.tile_px)

    (rows, cols), missing = tile_starts(frame_shape, tile_shape, patch_px, stride)
    corners = np.array([(y, x) for y in rows for x in cols], np.int32)

    run = _spread_program(config, stride, tile_shape, tuple(devices))
    laid_out = put_everywhere(dense_params(params, tile_shape), devices)

    def mapper(window: Window) -> Map:
        filled = np.pad(np.asarray(window, np.float32), [(0, 0), *missing, (0, 0)], mode="edge")
        if config.map.centre == "pixel":
            filled -= filled.mean(0)
        tiles = run((laid_out, put_everywhere(filled, devices)), corners)
        return join_tiles(tiles, (len(rows), len(cols)), grid)

    return mapper


@lru_cache(maxsize=8)
def _spread_program(
    config: Config, stride: int, tile_shape: tuple[int, int], devices: tuple[jax.Device, ...]
) -> Callable[[Any, Any], Any]:
    """The program shared by mappers of a config, stride and tiles, cached to compile once per frame size."""

    def program(shared, corners):
        dense, window = shared
        size = (window.shape[0], *tile_shape, window.shape[-1])

        def one(corner):
            tile = lax.dynamic_slice(window, (0, corner[0], corner[1], 0), size)
            return map_tile(dense, tile, config, stride_px=stride)

        # A few tiles at a time share one read of the kernel's spectrum, the largest array here.
        return lax.map(one, corners, batch_size=4)

    return spread_evenly(program, list(devices))
