"""The default clips: a few cells of a face, or of anything else, as real video shows them.

A clip is float32 (time, row, col, 3): relative changes of colour, 0.01 being 1 %, each cell's mean
over time subtracted. A pulse is one of many things that move its colours. Nothing but the pulse
itself may tell it from the rest: there are other rhythms, other coloured changes, and clips
without a pulse that share all of these.

    clip = codec(pulse + light + flicker + moving texture + chromatic wander + local changes + sensor noise)

The colour of a pulse and the dichromatic view of skin: de Haan and Jeanne, IEEE Trans. Biomed. Eng.
60(10), 2013; Wang et al., IEEE Trans. Biomed. Eng. 64(7), 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from pulse3d import nuisance
from pulse3d.config import Config, SkinConfig, expect
from pulse3d.nuisance import log_uniform

GREY = np.ones(3)
GLOSS = np.array([0.66, 1.0, 1.34])  # white light reflected by skin, relative to the skin's own colour
HISTORY = 30  # frames before the clip, from which a codec still holds something
LIGHTS, TEXTURES, WANDERS = 4, 2, 4


class ClipParameters(NamedTuple):
    """What was drawn for one clip. Levels are root mean squares of relative changes of colour.

    is_strong: a pulse as of a finger on the lens. no_red: the red channel is saturated. flicker: 0 for none.
    """

    label: Int[Array, ""]
    rate_bpm: Float[Array, ""]
    pulse: Float[Array, "row col 3"]
    is_strong: Bool[Array, ""]
    no_red: Bool[Array, ""]
    light: Float[Array, "light"]
    flicker: Float[Array, ""]
    texture: Float[Array, "texture"]
    wander: Float[Array, "wander"]
    local: Float[Array, ""]
    sensor: Float[Array, ""]
    has_codec: Bool[Array, ""]


def sample_parameters(
    key: PRNGKeyArray, config: Config, *, label: Int[Array, ""] | int | None = None
) -> ClipParameters:
    """Draws the parameters of one clip; `label` fixes its class instead of drawing it."""
    clip, laws = config.clip, expect(config.generator, SkinConfig)
    keys = iter(jax.random.split(key, 23))
    # class: U{0, ..., rates}
    drawn = jax.random.randint(next(keys), (), 0, clip.classes)
    label = drawn if label is None else jnp.asarray(label, drawn.dtype)
    # rate: uniform within half a bin of the class's
    axis = jnp.asarray(clip.rate_axis_bpm, jnp.float32)
    rate_bpm = axis[jnp.minimum(label, clip.rates - 1)]
    rate_bpm += (axis[1] - axis[0]) * jax.random.uniform(next(keys), minval=-0.5, maxval=0.5)
    # pulse: log-uniform, in a few clips strong; its colour and, from cell to cell, its strength log-normal
    level = log_uniform(next(keys), *laws.pulse)
    strong = log_uniform(next(keys), *laws.strong)
    is_strong = jax.random.bernoulli(next(keys), laws.strong_share)
    level = jnp.where(is_strong, strong, level)
    colour = np.array(laws.pulse_colour) * jnp.exp(laws.colour_spread * jax.random.normal(next(keys), (3,)))
    spread = jnp.exp(laws.pulse_spread * jax.random.normal(next(keys), (clip.patch_px, clip.patch_px)))
    strength = level * spread * skin_mask(next(keys), clip.patch_px) * (label < clip.rates)
    # a factor for all motion: half of the clips are calmer, some much wilder
    calm = jnp.where(
        jax.random.bernoulli(next(keys), laws.calm_share), log_uniform(next(keys), *laws.calm), 1.0
    )
    wild = jnp.where(
        jax.random.bernoulli(next(keys), laws.wild_share), log_uniform(next(keys), *laws.wild), 1.0
    )
    motion = calm * wild
    return ClipParameters(
        label=label,
        rate_bpm=rate_bpm,
        pulse=strength[..., None] * colour,
        is_strong=is_strong,
        # red saturates in 3 of 10 of the strong
        no_red=is_strong & jax.random.bernoulli(next(keys), 0.3),
        flicker=jax.random.bernoulli(next(keys), laws.flicker_share) * log_uniform(next(keys), *laws.flicker),
        light=motion * log_uniform(next(keys), *laws.light, (LIGHTS,)),
        texture=motion * log_uniform(next(keys), *laws.texture, (TEXTURES,)),
        wander=wild * log_uniform(next(keys), *laws.wander, (WANDERS,)),
        local=jnp.sqrt(motion) * log_uniform(next(keys), *laws.local),
        sensor=log_uniform(next(keys), *laws.sensor),
        has_codec=jax.random.bernoulli(next(keys), laws.codec_share),
    )


def skin_mask(key: PRNGKeyArray, cells: int) -> Float[Array, "row col"]:
    """How much of every cell is skin, 0...1: all of it for half of the clips, else a half-plane or a disc."""
    keys = jax.random.split(key, 5)
    rows, cols = nuisance.grid(cells)
    angle = jax.random.uniform(keys[0], maxval=2 * np.pi)
    offset, radius = jax.random.normal(keys[1], (2,)) * np.array([1.2, 0.3]) + np.array([0.5, 1.1])
    centre = 0.7 * jax.random.normal(keys[2], (2, 1, 1))
    plane = jax.nn.sigmoid(8 * (jnp.cos(angle) * cols + jnp.sin(angle) * rows + offset))
    disc = jax.nn.sigmoid(8 * (radius - jnp.hypot(cols - centre[0], rows - centre[1])))
    part = jnp.where(jax.random.bernoulli(keys[3]), plane, disc)
    part /= jnp.maximum(part.max(), 1e-3)
    return jnp.where(jax.random.bernoulli(keys[4]), 1.0, part)


def pulse_series(
    key: PRNGKeyArray,
    rate_bpm: Float[Array, ""],
    *,
    frames: int,
    fps: float,
    counted: int,
    is_rich: Bool[Array, ""] | bool = False,
) -> Float[Array, "time"]:
    """A pulse wave of about unit root mean square, whose mean rate over the last `counted` frames is given.

    The rate drifts (SD 3 % at the ends) and follows the breath (up to 7 %, 0.1-0.4 Hz); second and third
    harmonic up to 0.6 and 0.2 of the first, 1 and 0.6 where the wave is rich, less above 110 bpm; the
    breath moves the amplitude too.
    """
    keys = jax.random.split(key, 8)
    time_s = np.arange(frames) / fps
    breath_hz = jax.random.uniform(keys[0], minval=0.1, maxval=0.4)
    breath = jnp.sin(2 * np.pi * (breath_hz * time_s + jax.random.uniform(keys[1])))
    drift = 0.03 * jax.random.normal(keys[2]) * np.linspace(-1, 1, frames)
    variation = drift + jax.random.uniform(keys[3], maxval=0.07) * breath
    rate = rate_bpm * (1 + variation - variation[-counted:].mean())
    phase = 2 * np.pi * (jnp.cumsum(rate) / 60 / fps + jax.random.uniform(keys[4]))
    fast = rate_bpm > 110
    second = jax.random.uniform(keys[5]) * jnp.where(is_rich, 1.0, 0.6) * jnp.where(fast, 0.5, 1.0)
    third = jax.random.uniform(keys[6]) * jnp.where(is_rich, 0.6, 0.2) * jnp.where(fast, 0.3, 1.0)
    shape = jax.random.normal(keys[7], (4,))
    wave = (
        jnp.sin(phase)
        + second * jnp.sin(2 * phase + 0.9 + 0.6 * shape[0])
        + third * jnp.sin(3 * phase + 1.6 + 0.8 * shape[1])
    )
    swell = jnp.sin(2 * np.pi * (0.1 + 0.1 * abs(shape[3])) * time_s + shape[0])
    return wave * (1 + 0.25 * shape[2] * swell) / jnp.sqrt((1 + second**2 + third**2) / 2)


def render(key: PRNGKeyArray, parameters: ClipParameters, config: Config) -> Float[Array, "time row col 3"]:
    """The clip of these parameters; the key draws all series, fields and noise."""
    clip, laws = config.clip, expect(config.generator, SkinConfig)
    keys = iter(jax.random.split(key, 12))
    cells, frames = clip.patch_px, clip.frames + HISTORY
    wave = pulse_series(
        next(keys),
        parameters.rate_bpm,
        frames=frames,
        fps=clip.fps,
        counted=clip.frames,
        is_rich=parameters.is_strong,
    )
    parts = (
        wave[:, None, None, None] * parameters.pulse,
        _light(next(keys), parameters.light, config, frames),
        _flicker(next(keys), parameters.flicker, config, frames),
        _texture(next(keys), parameters.texture, config, frames),
        _wander(next(keys), parameters.wander, config, frames),
        _local(next(keys), parameters.local, config, frames),
    )
    # sensor: white in space and time, each channel with a log-normal factor of SD 0.3
    noise = jax.random.normal(next(keys), (frames, cells, cells, 3))
    noise *= parameters.sensor * jnp.exp(0.3 * jax.random.normal(next(keys), (3,)))
    video = sum(parts) + noise
    coded = nuisance.codec(next(keys), video, step=laws.codec_step)
    video = jnp.where(parameters.has_codec, coded, video)
    # repeated frames: up to U(0, 3) percent
    share = jax.random.uniform(next(keys), maxval=0.03)
    repeated = jax.random.bernoulli(next(keys), share, (frames, 1, 1, 1))
    video = jnp.where(repeated, jnp.roll(video, 1, axis=0), video)[HISTORY:]
    video *= 1 - parameters.no_red * np.array([1.0, 0.0, 0.0])
    return jnp.clip(video - video.mean(0), -1, 1)


def _light(key: PRNGKeyArray, level: Array, config: Config, frames: int) -> Array:
    """Changes of brightness: of the light itself, or of gloss, uneven over the cells."""
    keys = jax.random.split(key, 8)
    fps, count, laws = config.clip.fps, LIGHTS, expect(config.generator, SkinConfig)
    # wander: exponent U(0, 2.5)
    exponent = jax.random.uniform(keys[0], (count,), maxval=2.5)
    series = nuisance.one_of(
        keys[1],
        nuisance.power_law(keys[2], exponent, frames=frames, fps=fps),
        nuisance.quasi_periodic(keys[3], count, low_hz=0.1, high_hz=3.5, frames=frames, fps=fps),
        nuisance.jerks(keys[4], count, frames=frames, fps=fps),
    )
    colour = jnp.where(jax.random.bernoulli(keys[5], 0.5, (count, 1)), GREY, GLOSS)
    colour += laws.light_spread * jax.random.normal(keys[6], (count, 3))
    where = nuisance.fields(keys[7], count, cells=config.clip.patch_px)
    return jnp.einsum("nt,nhw,nc,n->thwc", series, where, colour, level)


def _flicker(key: PRNGKeyArray, level: Array, config: Config, frames: int) -> Array:
    """Unrest of all cells at once, of nearly any colour: a sensor or a lamp out of order, frames lost."""
    keys = jax.random.split(key, 3)
    cells = config.clip.patch_px
    series = nuisance.flicker(keys[0], frames=frames, fps=config.clip.fps)
    colour = GREY + 0.4 * jax.random.normal(keys[1], (3,))
    where = 1 + 0.2 * jax.random.normal(keys[2], (cells, cells))
    return level * jnp.einsum("t,hw,c->thwc", series, where, colour)


def _texture(key: PRNGKeyArray, level: Array, config: Config, frames: int) -> Array:
    """A texture that moves: every cell follows the displacement by a gradient and a colour of its own."""
    keys = jax.random.split(key, 8)
    fps, count, cells = config.clip.fps, TEXTURES, config.clip.patch_px
    laws = expect(config.generator, SkinConfig)
    slow, quick = jnp.full(count, 2.0), jnp.full(count, 1.0)
    moved = nuisance.one_of(
        keys[0],
        nuisance.power_law(keys[1], slow, frames=frames, fps=fps),
        nuisance.quasi_periodic(keys[2], count, low_hz=0.1, high_hz=3.0, frames=frames, fps=fps),
    )
    moved += 0.7 * nuisance.jerks(keys[3], count, frames=frames, fps=fps)
    moved += 0.5 * nuisance.power_law(keys[4], quick, frames=frames, fps=fps)
    colour = GREY + laws.texture_spread * jax.random.normal(keys[5], (count, cells, cells, 3))
    gradient = jax.random.normal(keys[6], (count, cells, cells, 1)) * colour
    gradient *= jnp.exp(0.7 * jax.random.normal(keys[7], (cells, cells, 1)))
    return jnp.einsum("nt,nhwc,n->thwc", moved, gradient, level)


def _wander(key: PRNGKeyArray, level: Array, config: Config, frames: int) -> Array:
    """Chromatic changes of any colour: white balance, coloured light; one of them may be a rhythm."""
    keys = jax.random.split(key, 6)
    fps, count = config.clip.fps, WANDERS
    # exponent: U(0, 2.2)
    exponent = jax.random.uniform(keys[0], (count,), maxval=2.2)
    series = nuisance.power_law(keys[1], exponent, frames=frames, fps=fps)
    rhythm = nuisance.quasi_periodic(keys[2], 1, low_hz=0.1, high_hz=3.5, frames=frames, fps=fps)
    first = jnp.where(jax.random.bernoulli(keys[3]), rhythm, series[:1])
    series = jnp.concatenate([first, series[1:]])
    where = nuisance.fields(keys[4], count, cells=config.clip.patch_px)
    colour = jax.random.normal(keys[5], (count, 3))
    return jnp.einsum("nt,nhw,nc,n->thwc", series, where, colour, level)


def _local(key: PRNGKeyArray, level: Array, config: Config, frames: int) -> Array:
    """What every cell does for itself: expressions, blocks of a codec; steep, mostly grey."""
    keys = jax.random.split(key, 4)
    cells = config.clip.patch_px
    exponent = jnp.full(2 * cells**2, jax.random.uniform(keys[0], minval=0.8, maxval=3.0))
    series = nuisance.power_law(keys[1], exponent, frames=frames, fps=config.clip.fps)
    series = series.reshape(2, cells, cells, frames) * np.array([1.0, 0.7])[:, None, None, None]
    spread = np.array([0.15, 0.3])[:, None, None, None]
    colour = (
        spread * jax.random.normal(keys[2], (2, cells, cells, 3)) + np.array([[1.0], [0.0]])[:, None, None]
    )
    weight = level * jnp.exp(0.5 * jax.random.normal(keys[3], (cells, cells)))
    return jnp.einsum("khwt,khwc,hw->thwc", series, colour, weight)
