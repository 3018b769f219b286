"""Disturbances of real video besides the pulse: wander, motion, jerks, uneven light, a video codec.

Series are (series, time), with mean 0 and standard deviation 1; a field is a weight per cell, (field,
row, col), with root mean square 1. The first argument is a key, or the draws of a caller (see `draws`);
everything can be jitted and vmapped.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import lax
from jaxtyping import Array, Float

from pulse3d.synthetic.draws import Draws, at_once

Series = Float[Array, "series time"]
Fields = Float[Array, "field row col"]

LOWEST_HZ = 0.08  # power laws are flat below this: too slow to be seen in a window
# Luma and the two colour differences of ITU-R BT.601, before scaling: (Y, B - Y, R - Y)
_YUV = np.array([[0.299, 0.587, 0.114], [-0.299, -0.587, 0.886], [0.701, -0.587, -0.114]])
_RGB = np.linalg.inv(_YUV)


def standardise(series: Float[Array, "... time"]) -> Float[Array, "... time"]:
    """Mean 0 and standard deviation 1 over time; a constant becomes 0."""
    series = series - series.mean(-1, keepdims=True)
    return series / (series.std(-1, keepdims=True) + 1e-9)


@at_once
def power_law(draw: Draws, exponent: Float[Array, "series"], *, frames: int, fps: float) -> Series:
    """Noise with a power of 1 / f^exponent, one series per exponent; flat below `LOWEST_HZ`.

    Each is cut out of a longer periodic series, so that its ends do not meet.
    """
    length = scipy.fft.next_fast_len(2 * frames, real=True)
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / fps), LOWEST_HZ)
    parts = draw.normal(2, len(exponent), len(frequency))
    amplitude = jnp.exp(-0.5 * exponent[:, None] * np.log(frequency))
    return standardise(jnp.fft.irfft((parts[0] + 1j * parts[1]) * amplitude, length)[:, :frames])


@at_once
def quasi_periodic(
    draw: Draws, count: int, *, low_hz: float, high_hz: float, frames: int, fps: float
) -> Series:
    """Rhythms like breathing, nodding or a flickering lamp: two harmonics, and a phase that may wander."""
    time_s = np.arange(frames) / fps
    frequency = draw.log_uniform(low_hz, high_hz, count, 1)
    # phase: a random walk of U(0, 0.6) rad per root second; none for 3 in 10
    walk = draw.uniform(0.0, 0.6, count, 1) * draw.chance(0.7, count, 1)
    walk = jnp.cumsum(draw.normal(count, frames), -1) * walk / np.sqrt(fps)
    phase = 2 * np.pi * (frequency * time_s + draw.uniform(0.0, 1.0, count, 1)) + walk
    # harmonics: N(0, 0.5) and N(0, 0.25); amplitude: modulated by N(0, 0.35) over 4 to 12 s
    second, third, depth = draw.normal(3, count, 1) * np.array([0.5, 0.25, 0.35])[:, None, None]
    shift = draw.uniform(0.0, 2 * np.pi, 3, count, 1)
    wave = jnp.sin(phase) + second * jnp.sin(2 * phase + shift[0]) + third * jnp.sin(3 * phase + shift[1])
    period_s = 4 + 8 * shift[2] / (2 * np.pi)
    return standardise(wave * (1 + depth * jnp.sin(2 * np.pi * time_s / period_s + shift[2])))


@at_once
def jerks(draw: Draws, count: int, *, frames: int, fps: float) -> Series:
    """Four steps or bumps at random moments, each smooth over 0.08 to 1 s."""
    shape = (count, 4, 1)
    moment_s = draw.uniform(0.0, frames / fps, *shape)
    away = (np.arange(frames) / fps - moment_s) / draw.log_uniform(0.08, 1.0, *shape)
    form = jnp.where(draw.chance(0.5, *shape), jnp.exp(-(away**2)), jax.nn.sigmoid(2 * away))
    return standardise((draw.normal(*shape) * form).sum(1))


@at_once
def flicker(draw: Draws, *, frames: int, fps: float) -> Float[Array, "time"]:
    """Brightness that differs from frame to frame, from a steady flicker to rare flashes; SD 1.

    The exponential of noise: exponent U(0, 1), log-normal with a spread of U(0.1, 1.5).
    """
    unrest = power_law(draw, draw.uniform(0.0, 1.0, 1), frames=frames, fps=fps)[0]
    return standardise(jnp.exp(draw.uniform(0.1, 1.5) * unrest))


@at_once
def one_of(draw: Draws, *kinds: Series) -> Series:
    """Takes every series from one of several kinds, all equally likely."""
    chosen = draw.integer(0, len(kinds), len(kinds[0]), 1)
    return jnp.select([chosen == i for i in range(len(kinds))], kinds)


@at_once
def fields(draw: Draws, count: int, *, cells: int) -> Fields:
    """Random weights of cells: a different mix of a constant, a gradient and roughness for each field."""
    cols = np.linspace(-1, 1, cells)
    rows = cols[:, None]
    constant, down, across = draw.normal(3, count, 1, 1)
    share = draw.uniform(0.0, 1.0, 3, count, 1, 1)
    rough = 0.8 * draw.normal(count, cells, cells)
    mixed = share[0] * 1.5 * constant + share[1] * (down * rows + across * cols) + share[2] * rough
    return mixed / (jnp.sqrt((mixed**2).mean((1, 2), keepdims=True)) + 1e-9)


@at_once
def smooth_fields(draw: Draws, count: int, *, cells: int, finest: float = 1.0) -> Fields:
    """Smooth random weights of cells, each field with its own size of details, `finest` to 8 cells; RMS 1."""
    size = draw.log_uniform(finest, 8.0, count, 1, 1)
    length = 2 * cells
    row, col = np.fft.fftfreq(length)[:, None], np.fft.rfftfreq(length)
    smoothing = jnp.exp(-2 * (np.pi * size / 2) ** 2 * (row**2 + col**2))
    noise = jnp.fft.rfft2(draw.normal(count, length, length))
    # cut out of a larger periodic field, so that opposite edges do not meet
    smooth = jnp.fft.irfft2(noise * smoothing, (length, length))[:, :cells, :cells]
    return smooth / (jnp.sqrt((smooth**2).mean((1, 2), keepdims=True)) + 1e-9)


@at_once
def codec(
    draw: Draws, cells: Float[Array, "time row col 3"], *, step: tuple[float, float]
) -> Float[Array, "time row col 3"]:
    """Simulates a video codec on relative changes of colour: held, updated in steps, refreshed.

    Luma and colour differences of every cell are predicted to stay unchanged. A change beyond a
    dead zone is coded, rounded to steps; a smaller one is lost or leaks in slowly; at intervals,
    the whole picture is sent again. A share of the original remains, since a cell is the mean of
    several blocks. step: bounds of the luma step; colour steps are 0.7 to 4 times as wide.
    """
    luma = draw.log_uniform(*step)
    wide = jnp.concatenate([jnp.ones(1), draw.log_uniform(0.7, 4.0, 2)])
    width = luma * wide * draw.log_uniform(0.6, 1.7, *cells.shape[1:3], 1)
    # refresh: every U{8, ..., 199} frames; dead zone: U(0.5, 1.2) steps; leak: U(0, 0.15), half of them none
    period, first = draw.integer(8, 200), draw.integer(0, 200)
    zone = draw.uniform(0.5, 1.2)
    leak = draw.uniform(0.0, 0.15) * draw.chance(0.5)
    source = cells @ _YUV.T

    def frame(held, now):
        value, index = now
        change = value - held
        coded = jnp.where(abs(change) > zone * width, jnp.round(change / width) * width, leak * change)
        held = held + jnp.where((index + first) % period == 0, change, coded)
        return held, held

    _, shown = lax.scan(frame, source[0], (source, jnp.arange(len(source))))
    remains = draw.uniform(0.0, 0.7)
    return ((1 - remains) * shown + remains * source) @ _RGB.T
