"""What real video holds besides a pulse: wander, motion, jerks, uneven light, a video codec.

Series are (series, time), with mean 0 and standard deviation 1; a field is a weight per cell, (field,
row, col), with root mean square 1. The key comes first; everything can be jitted and vmapped.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

Series = Float[Array, "series time"]
Fields = Float[Array, "field row col"]

LOWEST_HZ = 0.08  # power laws are flat below: slower than any window shows
# Luma and the two colour differences of ITU-R BT.601, before scaling: (Y, B - Y, R - Y)
_YUV = np.array([[0.299, 0.587, 0.114], [-0.299, -0.587, 0.886], [0.701, -0.587, -0.114]])
_RGB = np.linalg.inv(_YUV)


def log_uniform(key: PRNGKeyArray, low: float, high: float, shape: tuple[int, ...] = ()) -> Array:
    """Draws whose logarithm is uniform between those of low and high."""
    return jnp.exp(jax.random.uniform(key, shape, minval=np.log(low), maxval=np.log(high)))


def standardise(series: Float[Array, "... time"]) -> Float[Array, "... time"]:
    """Mean 0 and standard deviation 1 over time; a constant becomes 0."""
    series = series - series.mean(-1, keepdims=True)
    return series / (series.std(-1, keepdims=True) + 1e-9)


def power_law(key: PRNGKeyArray, exponent: Float[Array, "series"], *, frames: int, fps: float) -> Series:
    """Noise with a power of 1 / f^exponent, one series per exponent; flat below `LOWEST_HZ`.

    Cut out of a longer periodic series, so that its ends do not meet.
    """
    length = scipy.fft.next_fast_len(2 * frames, real=True)
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / fps), LOWEST_HZ)
    parts = jax.random.normal(key, (2, len(exponent), len(frequency)))
    amplitude = jnp.exp(-0.5 * exponent[:, None] * np.log(frequency))
    return standardise(jnp.fft.irfft((parts[0] + 1j * parts[1]) * amplitude, length)[:, :frames])


def quasi_periodic(
    key: PRNGKeyArray, count: int, *, low_hz: float, high_hz: float, frames: int, fps: float
) -> Series:
    """Rhythms like breathing, nodding or a flickering lamp: two harmonics, a phase that wanders or not."""
    keys = jax.random.split(key, 7)
    time_s = np.arange(frames) / fps
    frequency = log_uniform(keys[0], low_hz, high_hz, (count, 1))
    # phase: a random walk of U(0, 0.6) rad per root second; none for 3 in 10
    walk = jax.random.uniform(keys[1], (count, 1), maxval=0.6) * jax.random.bernoulli(
        keys[2], 0.7, (count, 1)
    )
    walk = jnp.cumsum(jax.random.normal(keys[3], (count, frames)), -1) * walk / np.sqrt(fps)
    phase = 2 * np.pi * (frequency * time_s + jax.random.uniform(keys[4], (count, 1))) + walk
    # harmonics: N(0, 0.5) and N(0, 0.25); amplitude: modulated by N(0, 0.35) over 4 to 12 s
    second, third, depth = (
        jax.random.normal(keys[5], (3, count, 1)) * np.array([0.5, 0.25, 0.35])[:, None, None]
    )
    shift = jax.random.uniform(keys[6], (3, count, 1), maxval=2 * np.pi)
    wave = jnp.sin(phase) + second * jnp.sin(2 * phase + shift[0]) + third * jnp.sin(3 * phase + shift[1])
    period_s = 4 + 8 * shift[2] / (2 * np.pi)
    return standardise(wave * (1 + depth * jnp.sin(2 * np.pi * time_s / period_s + shift[2])))


def jerks(key: PRNGKeyArray, count: int, *, frames: int, fps: float) -> Series:
    """Four steps or bumps at random moments, each smooth over 0.08 to 1 s."""
    keys = jax.random.split(key, 4)
    shape = (count, 4, 1)
    moment_s = jax.random.uniform(keys[0], shape, maxval=frames / fps)
    away = (np.arange(frames) / fps - moment_s) / log_uniform(keys[1], 0.08, 1.0, shape)
    form = jnp.where(jax.random.bernoulli(keys[2], 0.5, shape), jnp.exp(-(away**2)), jax.nn.sigmoid(2 * away))
    return standardise((jax.random.normal(keys[3], shape) * form).sum(1))


def flicker(key: PRNGKeyArray, *, frames: int, fps: float) -> Float[Array, "time"]:
    """Brightness that differs from frame to frame, from a steady flicker to rare flashes; SD 1.

    The exponential of noise: exponent U(0, 1), log-normal with a spread of U(0.1, 1.5).
    """
    keys = jax.random.split(key, 3)
    exponent = jax.random.uniform(keys[0], (1,))
    unrest = power_law(keys[1], exponent, frames=frames, fps=fps)[0]
    return standardise(jnp.exp(jax.random.uniform(keys[2], minval=0.1, maxval=1.5) * unrest))


def one_of(key: PRNGKeyArray, *kinds: Series) -> Series:
    """Every series from one of several kinds, equally likely."""
    chosen = jax.random.randint(key, (len(kinds[0]), 1), 0, len(kinds))
    return jnp.select([chosen == i for i in range(len(kinds))], kinds)


def grid(cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of cells as coordinates from -1 to 1."""
    rows, cols = np.meshgrid(np.linspace(-1, 1, cells), np.linspace(-1, 1, cells), indexing="ij")
    return rows, cols


def fields(key: PRNGKeyArray, count: int, *, cells: int) -> Fields:
    """Weights of cells: a constant, a gradient and roughness, mixed anew for each."""
    keys = jax.random.split(key, 3)
    rows, cols = grid(cells)
    constant, down, across = jax.random.normal(keys[0], (3, count, 1, 1))
    share = jax.random.uniform(keys[1], (3, count, 1, 1))
    rough = 0.8 * jax.random.normal(keys[2], (count, cells, cells))
    mixed = share[0] * 1.5 * constant + share[1] * (down * rows + across * cols) + share[2] * rough
    return mixed / (jnp.sqrt((mixed**2).mean((1, 2), keepdims=True)) + 1e-9)


def smooth_fields(key: PRNGKeyArray, count: int, *, cells: int, finest: float = 1.0) -> Fields:
    """Smooth random weights of cells, each with details of a size of its own, `finest` to 8 cells; RMS 1."""
    size_key, noise_key = jax.random.split(key)
    size = log_uniform(size_key, finest, 8.0, (count, 1, 1))
    length = 2 * cells
    row, col = np.fft.fftfreq(length)[:, None], np.fft.rfftfreq(length)
    smoothing = jnp.exp(-2 * (np.pi * size / 2) ** 2 * (row**2 + col**2))
    noise = jnp.fft.rfft2(jax.random.normal(noise_key, (count, length, length)))
    # cut out of a larger periodic field, so that opposite edges do not meet
    smooth = jnp.fft.irfft2(noise * smoothing, (length, length))[:, :cells, :cells]
    return smooth / (jnp.sqrt((smooth**2).mean((1, 2), keepdims=True)) + 1e-9)


def codec(
    key: PRNGKeyArray, cells: Float[Array, "time row col 3"], *, step: tuple[float, float]
) -> Float[Array, "time row col 3"]:
    """What a video codec leaves of relative changes of colour: held, updated in steps, refreshed.

    Luma and colour differences of every cell are predicted to stay as they are. A change beyond a
    dead zone is coded, rounded to steps; a smaller one is lost or leaks in slowly; every so many
    frames the picture is sent anew. A share of the original remains, as a cell is the mean of
    several blocks. step: bounds of the luma's step; the colours' are 0.7 to 4 times as wide.
    """
    keys = jax.random.split(key, 9)
    luma = log_uniform(keys[0], *step)
    wide = jnp.concatenate([jnp.ones(1), log_uniform(keys[1], 0.7, 4.0, (2,))])
    width = luma * wide * log_uniform(keys[2], 0.6, 1.7, (*cells.shape[1:3], 1))
    # refresh: every U{8, ..., 199} frames; dead zone: U(0.5, 1.2) steps; leak: U(0, 0.15), half of them none
    period = jax.random.randint(keys[3], (), 8, 200)
    first = jax.random.randint(keys[4], (), 0, 200)
    zone = jax.random.uniform(keys[5], minval=0.5, maxval=1.2)
    leak = jax.random.uniform(keys[6], maxval=0.15) * jax.random.bernoulli(keys[7])
    source = cells @ _YUV.T

    def frame(held, now):
        value, index = now
        change = value - held
        coded = jnp.where(abs(change) > zone * width, jnp.round(change / width) * width, leak * change)
        held = held + jnp.where((index + first) % period == 0, change, coded)
        return held, held

    _, shown = lax.scan(frame, source[0], (source, jnp.arange(len(source))))
    remains = jax.random.uniform(keys[8], maxval=0.7)
    return ((1 - remains) * shown + remains * source) @ _RGB.T
