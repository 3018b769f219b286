"""Maps by definition: cut out what the network sees around every place, and run the network.

This is slow but simple: the reference for `fast_patches` and `fast_cells`, which give the same numbers.

A window is float32 (time, row, col, channel), where white is 1; a map is (row, col, class) probabilities.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from pulse3d.config import Config
from pulse3d.mapping.tiles import Map, Window, centre_patch, grid_shape
from pulse3d.network import cell_input, model


def shuffle_pixels(key: PRNGKeyArray, patch: Float[Array, "time height width channel"]) -> Array:
    """Shuffles the pixels of every frame of a patch in a different order (as the original program does)."""
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


def map_cells_by_definition(
    params: model.Params, changes: Float[np.ndarray, "time row col channel"], config: Config, *, start: int
) -> Map:
    """The map of one window of a video, cell by cell: cut out what the network sees, run the network.

    changes: all frames of the video, as from `cell_input.relative_changes`. start: the window's first frame.
    """
    clip, around = config.clip, cell_input.reach(config)
    length = min(clip.frames, len(changes) - start)
    tapers = cell_input.hann(start, length, len(changes))[None, None]
    seconds = jnp.full((1, 1), length / clip.fps)
    run = jax.jit(lambda cut: model.apply_logits(params, (cut[None], tapers, seconds), config)[0, 0])
    rows, cols = changes.shape[1:3]
    found = np.zeros((rows, cols, clip.classes), np.float32)
    for row, col in np.ndindex(rows, cols):
        top, left = max(row - around, 0), max(col - around, 0)
        logits = run(changes[:, top : row + around + 1, left : col + around + 1])
        found[row, col] = cell_input.within_axis(jax.nn.softmax(logits[row - top, col - left]))
    return found
