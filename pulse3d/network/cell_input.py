"""The inputs and the rates of the default network: relative changes of colour, tapers, Fourier waves."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pulse3d.config import CellNetConfig, ClipConfig, Config, expect

DARK = 0.03  # of white: darker colours, mostly noise, are divided by this; cells dark in all colours become 0
GUARD = 2  # rates beyond each end of the axis, which are distinguished but not reported
VIEWS = (1.0, 2.0, 0.5)  # multiples of a rate at which the spectrum is computed


def rates_bpm(clip: ClipConfig) -> Float[np.ndarray, "rate"]:
    """The rates that the network distinguishes: those of the clip and `GUARD` more beyond each end.

    Without these, a rate beyond the axis would be taken for its end. The first and last mean "or beyond".
    """
    axis = clip.rate_axis_bpm
    beyond = (axis[1] - axis[0]) * np.arange(1, GUARD + 1)
    return np.concatenate([axis[0] - beyond[::-1], axis, axis[-1] + beyond])


def within_axis(probability: Float[Array, "*place class"]) -> Float[Array, "*place class_out"]:
    """Probabilities of the clip's rates and "no pulse", which now includes rates beyond the axis."""
    rates, none = probability[..., :-1], probability[..., -1:]
    beyond = rates[..., :GUARD].sum(-1, keepdims=True) + rates[..., -GUARD:].sum(-1, keepdims=True)
    return jnp.concatenate([rates[..., GUARD:-GUARD], none + beyond], -1)


@lru_cache
def fourier_basis(clip: ClipConfig, frames: int) -> Float[np.ndarray, "time view part rate"]:
    """Cosines and sines of every rate, in three `VIEWS`; zeros at and above half the frame rate."""
    time_s = (np.arange(frames) - (frames - 1) / 2) / clip.fps
    rates = rates_bpm(clip) * np.array(VIEWS)[:, None]
    angle = 2 * np.pi / 60 * time_s[:, None, None] * rates
    basis = np.stack([np.cos(angle), np.sin(angle)], 2) * (rates < 30 * clip.fps)[:, None]
    return basis.astype(np.float32)


def hann(start: Any, length: Any, frames: int) -> Float[Array, "time"]:
    """A Hann taper over `length` frames from frame `start` on, out of `frames`; its sum is 1."""
    place = (jnp.arange(frames) - start + 0.5) / length
    return jnp.where((place > 0) & (place < 1), (1 - jnp.cos(2 * jnp.pi * place)) / length, 0.0)


def memory_frames(config: Config) -> int:
    """Number of frames whose mean `relative_changes` divides by."""
    return round(expect(config.model, CellNetConfig).memory_s * config.clip.fps)


def relative_changes(
    cells: Float[Array, "time row col channel"], *, memory: int
) -> Float[Array, "time row col channel"]:
    """Every cell's change relative to the mean of its last `memory` frames, within -1...1.

    (x(t) - m(t)) / max(m(t), 0.03), where m(t) is the mean of frames t - memory + 1 ... t or, in the
    first frames, of the first `memory`. Apart from these, only past frames count; windows do not
    matter. 0 where all channels are darker than 0.03, as under a covered lens: that is only noise.
    """
    ends = np.maximum(np.arange(1, len(cells) + 1), min(memory, len(cells)))[:, None]
    frame = np.arange(len(cells))
    remembered = (frame < ends) & (frame >= ends - memory)
    # the sums over frames are a matrix product: cumulative sums are slow on every backend
    weights = jnp.asarray(remembered / remembered.sum(1, keepdims=True), jnp.float32)
    mean = jnp.einsum("ts,shwc->thwc", weights, cells, precision="highest")
    lit = mean.max(-1, keepdims=True) >= DARK
    return jnp.clip((cells - mean) / jnp.maximum(mean, DARK), -1, 1) * lit


def span(config: Config) -> int:
    """Number of frames before and after a frame on which its signals depend."""
    sizes = expect(config.model, CellNetConfig)
    return sizes.first_taps // 2 + (2 + 4) * (sizes.taps // 2)


def reach(config: Config) -> int:
    """Number of cells around a cell on which its logits depend."""
    sizes = expect(config.model, CellNetConfig)
    return 1 + (max(sizes.reaches) - 1) + (sizes.reaches[0] - 1)
