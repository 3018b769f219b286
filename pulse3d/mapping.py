"""The pulse-rate map of a window of video: one probability vector per patch.

`map_by_definition` cuts every patch and runs the network on each: slow, obvious, the truth.
`make_mapper` gives the same numbers about a hundred times faster. Neighbouring patches share
almost all of their convolution, so a tile of the frame is convolved once (by FFT over its
pixels, a matrix product over time), max-pooled at stride 1, and every patch gathers its own
features. What a patch subtracts from itself is constant for the convolution or per pixel:

* centre = "pixel": each pixel's temporal mean goes before the convolution;
* centre = "window": the patch's mean m goes after it, as m times the sum of the kernel.

A window is float32 (time, height, width, channel), white being 1. A map is
(row, col, class) probabilities; patch (row, col) has its top left pixel at
(row x stride, col x stride). Windows, then tiles, are independent: tiles are spread over the
local devices by `spread`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray

from pulse3d import model
from pulse3d.config import Config
from pulse3d.errors import InputError

Window = Float[np.ndarray, "time height width channel"]
Map = Float[np.ndarray, "row col class"]


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
    """The patch minus its mean: one for all ("window"), or one per pixel over time ("pixel")."""
    return patch - patch.mean(axis=0 if centre == "pixel" else None, keepdims=True)


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
    stride_px: int,
    shuffle_key: PRNGKeyArray | None = None,
    batch_size: int = 64,
) -> Map:
    """The map, patch by patch: cut, shuffle (with a key), subtract the mean, run the network."""
    size = config.clip.patch_px
    rows, cols = grid_shape(window.shape[1:3], size, stride_px)
    video = jnp.asarray(window)

    def probability(index):
        y, x = index // cols * stride_px, index % cols * stride_px
        patch = lax.dynamic_slice_in_dim(lax.dynamic_slice_in_dim(video, y, size, 1), x, size, 2)
        if shuffle_key is not None:
            patch = shuffle_pixels(jax.random.fold_in(shuffle_key, index), patch)
        logits = model.apply_logits(params, centre_patch(patch, config.map.centre)[None], config)
        return jax.nn.softmax(logits[0])

    run = jax.jit(lambda indices: lax.map(probability, indices, batch_size=batch_size))
    return np.asarray(run(jnp.arange(rows * cols))).reshape(rows, cols, -1)


class DenseParams(NamedTuple):
    """The parameters laid out for tiles of one size.

    spectrum: conjugate 2-D spectra of the kernel, (frequency, tap x channel, filter).
    kernel_sum: the convolution of a constant 1, (filter,).
    """

    spectrum: Array
    kernel_sum: Array
    convolution_bias: Array
    hidden: dict[str, Array]
    classes: dict[str, Array]


def dense_params(params: model.Params, tile_shape: tuple[int, int]) -> DenseParams:
    """Prepares the parameters for tiles of `tile_shape` (height, width)."""
    kernel = params["convolution"]["kernel"]
    taps, _, _, channels, filters = kernel.shape
    spectrum = jnp.conj(jnp.fft.rfft2(kernel, tile_shape, axes=(1, 2)))
    return DenseParams(
        spectrum=spectrum.transpose(1, 2, 0, 3, 4).reshape(-1, taps * channels, filters),
        kernel_sum=kernel.sum((0, 1, 2, 3)),
        convolution_bias=params["convolution"]["bias"],
        hidden=params["hidden"],
        classes=params["classes"],
    )


def map_tile(
    dense: DenseParams, tile: Float[Array, "time height width channel"], config: Config, *, stride_px: int
) -> Float[Array, "row col class"]:
    """The map of one tile, equal to `map_by_definition` on it."""
    patch_px, pool = config.clip.patch_px, config.model.pool
    rows, cols = grid_shape(tile.shape[1:3], patch_px, stride_px)
    _, kernel_height, kernel_width = config.model.kernel
    pixel = config.map.centre == "pixel"
    # Without its mean a tile keeps more digits in the Fourier transform.
    tile = centre_patch(tile, config.map.centre)
    features = _pool_everywhere(_convolve_tile(dense, tile, config), pool) + dense.convolution_bias

    def pooled_cells(length, kernel):
        return range(0, (length - kernel + 1) // pool * pool, pool)

    offsets = [
        (y, x) for y in pooled_cells(patch_px, kernel_height) for x in pooled_cells(patch_px, kernel_width)
    ]
    # (cell of time, row, col, cell of space, filter)
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
        means = _box_means(tile.mean((0, 3)), patch_px)[::stride_px, ::stride_px]
        gathered -= means[None, :, :, None, None] * dense.kernel_sum
    patches = jnp.moveaxis(gathered, 0, 2).reshape(rows * cols, -1)
    hidden = jax.nn.relu(jax.nn.relu(patches) @ dense.hidden["kernel"] + dense.hidden["bias"])
    logits = hidden @ dense.classes["kernel"] + dense.classes["bias"]
    return jax.nn.softmax(logits).reshape(rows, cols, -1)


def _convolve_tile(dense: DenseParams, tile: Array, config: Config) -> Array:
    """Valid convolution of a tile: (time_out, row, col, filter), only the times that are pooled."""
    taps, kernel_height, kernel_width = config.model.kernel
    frames, height, width, _ = tile.shape
    times = (frames - taps + 1) // config.model.pool * config.model.pool
    spectrum = jnp.fft.rfft2(tile, axes=(1, 2)).transpose(1, 2, 0, 3)
    frequencies = spectrum.shape[:2]
    shifted = jnp.stack([spectrum[:, :, t : t + taps] for t in range(times)], axis=2)
    shifted = shifted.reshape(dense.spectrum.shape[0], times, dense.spectrum.shape[1])
    # Full float32: the reduced precision of accelerators would not keep the map exact.
    batched = (((2,), (1,)), ((0,), (0,)))
    product = lax.dot_general(shifted, dense.spectrum, batched, precision=lax.Precision.HIGHEST)
    product = product.reshape(*frequencies, times, -1).transpose(2, 3, 0, 1)
    video = jnp.fft.irfft2(product, (height, width))
    return video[:, :, : height - kernel_height + 1, : width - kernel_width + 1].transpose(0, 2, 3, 1)


def _pool_everywhere(features: Array, pool: int) -> Array:
    """Max over pool x pool x pool cells: every pool-th time, every position in space."""
    features = features.reshape(-1, pool, *features.shape[1:]).max(1)
    for axis in (1, 2):
        length = features.shape[axis] - pool + 1
        shifted = [lax.slice_in_dim(features, i, i + length, axis=axis) for i in range(pool)]
        features = jnp.max(jnp.stack(shifted), 0)
    return features


def _box_means(image: Array, size: int) -> Array:
    """Mean of every size x size square of an image."""
    sums = lax.reduce_window(image, 0.0, lax.add, (size, size), (1, 1), "VALID")
    return sums / size**2


def choose_tile(frame_shape: tuple[int, int], tile_px: int) -> tuple[int, int]:
    """Height and width of the tiles: `tile_px`, or less where the frame is smaller."""
    height, width = (min(tile_px, scipy.fft.next_fast_len(n, real=True)) for n in frame_shape)
    return height, width


def cut_tiles(
    window: Window, tile_shape: tuple[int, int], patch_px: int, stride_px: int
) -> tuple[Float[np.ndarray, "tile time tile_height tile_width channel"], tuple[int, int]]:
    """Equal tiles that overlap by a halo, so that every patch lies whole in one of them.

    Returns the tiles, row by row, and the number of rows and columns of tiles. The frame's
    last rows and columns are repeated to fill the last tiles.
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
        window = np.pad(window, padding, mode="edge")
    tiles = [window[:, y : y + tile_shape[0], x : x + tile_shape[1]] for y in starts[0] for x in starts[1]]
    return np.stack(tiles), (counts[0], counts[1])


def join_tiles(
    maps: Float[np.ndarray, "tile tile_row tile_col class"], counts: tuple[int, int], grid: tuple[int, int]
) -> Map:
    """The inverse of `cut_tiles` for the maps of the tiles; cuts off what was filled in."""
    tiles = maps.reshape(*counts, *maps.shape[1:]).transpose(0, 2, 1, 3, 4)
    joined = tiles.reshape(counts[0] * maps.shape[1], counts[1] * maps.shape[2], -1)
    return joined[: grid[0], : grid[1]]


def spread(
    program: Callable[[DenseParams, Array], Array], devices: list[jax.Device], *, method: str = "pmap"
) -> Callable[[DenseParams, Array], Array]:
    """Runs a per-device program on every device: (device, ...) tiles -> (device, ...) maps.

    `dense` has a leading axis of devices too. method: "pmap", or "shard_map" for
    `jit(shard_map)`, its successor.
    """
    if method == "pmap":
        return jax.pmap(program, devices=devices)
    mesh = jax.make_mesh((len(devices),), ("device",), axis_types=(AxisType.Auto,), devices=devices)

    def on_one_device(dense, tiles):
        return program(jax.tree.map(lambda x: x[0], dense), tiles[0])[None]

    spec = PartitionSpec("device")
    return jax.jit(jax.shard_map(on_one_device, mesh=mesh, in_specs=(spec, spec), out_specs=spec))


def make_mapper(
    params: model.Params,
    config: Config,
    frame_shape: tuple[int, int],
    *,
    stride_px: int | None = None,
    devices: list[jax.Device] | None = None,
    method: str = "pmap",
) -> Callable[[Window], Map]:
    """A function from a window to its map, for frames of `frame_shape` (height, width).

    Equal to `map_by_definition` without shuffling. stride_px defaults to the config's;
    devices to all local ones. Raises InputError where the frame is smaller than a patch.
    """
    stride_px = stride_px or config.map.stride_px
    devices = jax.local_devices() if devices is None else devices
    patch_px = config.clip.patch_px
    grid = grid_shape(frame_shape, patch_px, stride_px)
    tile_shape = choose_tile(frame_shape, config.map.tile_px)
    mesh = jax.make_mesh((len(devices),), ("device",), axis_types=(AxisType.Auto,), devices=devices)
    dense = jax.device_put(
        jax.tree.map(
            lambda x: jnp.broadcast_to(x, (len(devices), *x.shape)), dense_params(params, tile_shape)
        ),
        NamedSharding(mesh, PartitionSpec("device")),
    )

    def program(dense, tiles):
        # A few tiles at a time share the reading of the kernel's spectrum, the largest array here.
        return lax.map(lambda tile: map_tile(dense, tile, config, stride_px=stride_px), tiles, batch_size=4)

    run = spread(program, devices, method=method)

    def mapper(window: Window) -> Map:
        tiles, counts = cut_tiles(np.asarray(window, np.float32), tile_shape, patch_px, stride_px)
        idle = -len(tiles) % len(devices)
        padded = np.concatenate([tiles, np.zeros_like(tiles[:1]).repeat(idle, 0)])
        maps = np.asarray(run(dense, jnp.asarray(padded.reshape(len(devices), -1, *tiles.shape[1:]))))
        return join_tiles(maps.reshape(-1, *maps.shape[2:])[: len(tiles)], counts, grid)

    return mapper


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
