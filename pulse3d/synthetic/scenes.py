"""Synthetic scenes for the default network: a picture of cells, some of them alive, and the truth for each.

A scene is float32 (time, row, col, 3), with colours around 1: only relative changes count. Heads, hands and
walls are regions of any shape. Some have a pulse, others have none but are otherwise alike: they move, the
light on them changes, a codec simplifies them. Only the pulse itself may distinguish a living cell.

    scene = codec(1 + pulse + light + flicker + moving texture and edges + chromatic wander + local changes
    + noise)

Sources for the colour of a pulse and the dichromatic model of skin: de Haan and Jeanne, IEEE Trans. Biomed.
Eng. 60(10), 2013; Wang et al., IEEE Trans. Biomed. Eng. 64(7), 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pulse3d.config import Config, ScenesConfig, expect
from pulse3d.synthetic import nuisance
from pulse3d.synthetic.draws import Draws, at_once
from pulse3d.synthetic.scene_laws import (
    LIGHTS,
    REGIONS,
    TEXTURES,
    WANDERS,
    WAVES,
    SceneParameters,
    sample_parameters,
)

GREY = np.ones(3)
GLOSS = np.array([0.66, 1.0, 1.34])  # white light reflected by skin, relative to the skin's own colour
HISTORY = 30  # frames before the scene, of which the codec may still hold parts
UNKNOWN = -1  # the label of cells that are partly alive


class Scene(NamedTuple):
    """A scene and its truth.

    rate_bpm: of every region's pulse in every frame. label: for every cell, the region that is alive there,
    `REGIONS` if none is, `UNKNOWN` at an edge.
    """

    video: Float[Array, "time row col 3"]
    rate_bpm: Float[Array, "region time"]
    label: Int[Array, "row col"]


@at_once
def pulse_wave(
    draw: Draws, rate_bpm: Float[Array, ""], kind: Int[Array, ""], *, frames: int, fps: float
) -> tuple[Float[Array, "time"], Float[Array, "time"]]:
    """A pulse wave of about unit root mean square, and its rate in every frame.

    The rate drifts (SD 3 % at the ends), wanders (SD 2 %) and follows breathing (up to 7 %, 0.1-0.4 Hz). The
    second and third harmonics are up to 0.6 and 0.2 of the first, in a rich wave 1 and 0.6; they are weaker
    above 110 bpm, and a sine has none. Breathing changes the amplitude too.
    """
    time_s = np.arange(frames) / fps
    breath_hz = draw.uniform(0.1, 0.4)
    breath = jnp.sin(2 * np.pi * (breath_hz * time_s + draw.uniform(0.0, 1.0)))
    drift = 0.03 * draw.normal() * np.linspace(-1, 1, frames)
    walk = nuisance.power_law(draw, jnp.full(1, 2.0), frames=frames, fps=fps)[0]
    variation = drift + draw.uniform(0.0, 0.07) * breath
    variation += 0.02 * abs(draw.normal()) * walk
    steady = draw.chance(0.3)
    rate = rate_bpm * (1 + jnp.where(steady, 0.1, 1.0) * variation)
    phase = 2 * np.pi * (jnp.cumsum(rate) / 60 / fps + draw.uniform(0.0, 1.0))
    fast, sine, rich = rate_bpm > 110, kind == 2, kind == 1
    second = draw.uniform(0.0, 1.0) * jnp.where(rich, 1.0, 0.6) * jnp.where(fast, 0.5, 1.0)
    third = draw.uniform(0.0, 1.0) * jnp.where(rich, 0.6, 0.2) * jnp.where(fast, 0.3, 1.0)
    second, third = jnp.where(sine, 0, second), jnp.where(sine, 0, third)
    shape = draw.normal(4)
    wave = (
        jnp.sin(phase)
        + second * jnp.sin(2 * phase + 0.9 + 0.6 * shape[0])
        + third * jnp.sin(3 * phase + 1.6 + 0.8 * shape[1])
    )
    swell = jnp.sin(2 * np.pi * (0.1 + 0.1 * abs(shape[3])) * time_s + shape[0])
    return wave * (1 + 0.25 * shape[2] * swell) / jnp.sqrt((1 + second**2 + third**2) / 2), rate


@at_once
def render(draw: Draws, parameters: SceneParameters, config: Config) -> Scene:
    """Renders the scene of these parameters; draws all series, fields and noise."""
    frames = expect(config.generator, ScenesConfig).frames + HISTORY
    moving, rate_bpm = _pulse(draw, parameters, config, frames)
    for part in (_light, _flicker, _texture, _wander, _local):
        moving += part(draw, parameters, config, frames)
    return film(draw, parameters, moving, rate_bpm, config)


@at_once
def film(
    draw: Draws,
    parameters: SceneParameters,
    moving: Float[Array, "frame row col 3"],
    rate_bpm: Float[Array, "region frame"],
    config: Config,
) -> Scene:
    """Passes relative changes of colour through a camera and a codec; returns the scene and its truth."""
    laws, (frames, cells, _, _) = expect(config.generator, ScenesConfig), moving.shape
    # sensor: white in space and time, each channel with a log-normal factor of SD 0.3
    noise = draw.normal(frames, cells, cells, 3)
    noise *= parameters.sensor * jnp.exp(0.3 * draw.normal(3))
    # a black channel keeps little of the video, a saturated one nothing above its ceiling
    video = jnp.clip(moving, -0.95, 4.0) * parameters.channel_gain
    video = jnp.minimum(video, parameters.ceiling) + noise
    coded = nuisance.codec(draw, video, step=laws.codec_step)
    video = jnp.where(parameters.has_codec, coded, video)
    # repeated frames: up to U(0, 3) percent
    share = draw.uniform(0.0, 0.03)
    repeated = draw.chance(share, frames, 1, 1, 1)
    video = jnp.where(repeated, jnp.roll(video, 1, axis=0), video)[HISTORY:]
    alive = parameters.alive[:, None, None]
    living, partly = (parameters.cover > 0.75) & alive, (parameters.cover > 0.06) & alive
    label = jnp.where(living.any(0), living.argmax(0), jnp.where(partly.any(0), UNKNOWN, REGIONS))
    return Scene(jnp.maximum(1 + video, 0.01), rate_bpm[:, HISTORY:], label)


@at_once
def make_scene(draw: Draws, config: Config) -> Scene:
    """Draws one scene from the distributions of the config."""
    return render(draw, sample_parameters(draw, config), config)


def _fields(draw: Draws, count: int, cover: Array) -> Array:
    """Random weights of cells, RMS 1: even, smooth, rough, and different inside and outside the regions."""
    cells = cover.shape[-1]
    where = nuisance.fields(draw, count, cells=cells)
    where += draw.log_uniform(0.1, 2.0, count, 1, 1) * nuisance.smooth_fields(draw, count, cells=cells)
    factor = jnp.exp(draw.normal(count, len(cover)))
    factor = jnp.where(draw.chance(0.5, count, 1), factor, 1.0)
    where *= 1 + jnp.einsum("nr,rhw->nhw", factor - 1, cover)
    return where / (jnp.sqrt((where**2).mean((1, 2), keepdims=True)) + 1e-9)


def _pulse(
    draw: Draws, parameters: SceneParameters, config: Config, frames: int
) -> tuple[Array, Float[Array, "region frame"]]:
    """The pulses of the regions that are alive, and their rates."""
    laws, cells = expect(config.generator, ScenesConfig), config.clip.patch_px
    waves = [
        pulse_wave(draw, parameters.rate_bpm[r], parameters.kind[r], frames=frames, fps=config.clip.fps)
        for r in range(REGIONS)
    ]
    wave, rate = map(jnp.stack, zip(*waves, strict=True))
    # strength of the pulse from cell to cell: log-normal, smooth and rough
    spread = laws.pulse_spread * draw.normal(REGIONS, cells, cells)
    spread += laws.pulse_spread * nuisance.smooth_fields(draw, REGIONS, cells=cells)
    strength = parameters.cover * jnp.exp(spread) * parameters.alive[:, None, None]
    return jnp.einsum("nt,nhw,nc->thwc", wave, strength, parameters.pulse), rate


def _light(draw: Draws, parameters: SceneParameters, config: Config, frames: int) -> Array:
    """Changes of brightness: of the light itself, or of gloss, uneven over the cells."""
    fps, count, laws = config.clip.fps, LIGHTS, expect(config.generator, ScenesConfig)
    # wander: exponent U(0, 2.5)
    exponent = draw.uniform(0.0, 2.5, count)
    series = nuisance.one_of(
        draw,
        nuisance.power_law(draw, exponent, frames=frames, fps=fps),
        nuisance.quasi_periodic(draw, count, low_hz=0.1, high_hz=3.5, frames=frames, fps=fps),
        nuisance.jerks(draw, count, frames=frames, fps=fps),
    )
    colour = jnp.where(draw.chance(0.5, count, 1), GREY, GLOSS)
    colour += laws.light_spread * draw.normal(count, 3)
    where = _fields(draw, count, parameters.cover)
    return jnp.einsum("nt,nhw,nc,n->thwc", series, where, colour, parameters.light)


def _flicker(draw: Draws, parameters: SceneParameters, config: Config, frames: int) -> Array:
    """Flicker of all cells at once, of nearly any colour: a faulty sensor or lamp, lost frames."""
    cells = config.clip.patch_px
    series = nuisance.flicker(draw, frames=frames, fps=config.clip.fps)
    colour = GREY + 0.4 * draw.normal(3)
    where = 1 + 0.2 * draw.normal(cells, cells)
    return parameters.flicker * jnp.einsum("t,hw,c->thwc", series, where, colour)


def _texture(draw: Draws, parameters: SceneParameters, config: Config, frames: int) -> Array:
    """Motion of textured surfaces: the camera moves everything; each region also moves, with its edges.

    Every cell responds to the displacement with its own gradient and colour.
    """
    fps, count, cells = config.clip.fps, TEXTURES * (1 + REGIONS), config.clip.patch_px
    laws = expect(config.generator, ScenesConfig)
    slow, quick = jnp.full(count, 2.0), jnp.full(count, 1.0)
    moved = nuisance.one_of(
        draw,
        nuisance.power_law(draw, slow, frames=frames, fps=fps),
        nuisance.quasi_periodic(draw, count, low_hz=0.1, high_hz=3.0, frames=frames, fps=fps),
    )
    moved += 0.7 * nuisance.jerks(draw, count, frames=frames, fps=fps)
    moved += 0.5 * nuisance.power_law(draw, quick, frames=frames, fps=fps)
    # the first two displacements are the camera's, two more each region's
    everywhere = jnp.ones((1, cells, cells))
    where = jnp.repeat(jnp.concatenate([everywhere, parameters.cover]), TEXTURES, axis=0)
    shares = jnp.exp(draw.normal(1 + REGIONS))
    shares *= draw.chance(0.7, 1 + REGIONS)
    level = jnp.tile(parameters.texture, 1 + REGIONS) * jnp.repeat(shares, TEXTURES)
    colour = GREY + laws.texture_spread * draw.normal(count, cells, cells, 3)
    gradient = draw.normal(count, cells, cells, 1) * colour
    gradient *= jnp.exp(0.7 * draw.normal(cells, cells, 1))
    inner = jnp.einsum("nt,nhwc,nhw,n->thwc", moved, gradient, where, level)
    inner += _patterns(draw, parameters, moved, where)
    # edges: the region's colour against what is behind it
    contrast = draw.normal(REGIONS, 1, 1, 3) + GREY * draw.normal(REGIONS, 1, 1, 1)
    slopes = jnp.stack(jnp.gradient(parameters.cover, axis=(1, 2)), 1).reshape(-1, cells, cells)
    edge = slopes[..., None] * jnp.repeat(contrast, 2, axis=0) * parameters.edge
    return inner + jnp.einsum("nt,nhwc->thwc", moved[TEXTURES:], edge)


def _patterns(
    draw: Draws,
    parameters: SceneParameters,
    moved: Float[Array, "displacement time"],
    where: Float[Array, "displacement row col"],
) -> Array:
    """Patterns several cells wide that move by any distance: neighbours change similarly, not identically.

    Each pattern is a sum of a few waves a cos(q x + phase), sampled at x + d(t); d is made of two
    displacements of `moved`.
    """
    count, cells = WAVES, where.shape[-1]
    sets = moved.reshape(-1, TEXTURES, moved.shape[-1])
    # wavelength: log-uniform from 1.5 to 16 cells, in any direction
    size = 2 * np.pi / draw.log_uniform(1.5, 16.0, len(sets), count)
    angle = draw.uniform(0.0, 2 * np.pi, len(sets), count)
    vector = size[..., None] * jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1)
    rows, cols = np.mgrid[:cells, :cells].astype(np.float32)
    phase = draw.uniform(0.0, 2 * np.pi, len(sets), count, 1, 1)
    place = vector[..., :1, None] * rows + vector[..., 1:, None] * cols + phase
    turn = jnp.einsum("skd,sdt->skt", vector, sets) * parameters.shift[:, None, None]
    # colour: mostly grey, three times in ten any colour
    spread = jnp.where(draw.chance(0.3), 1.5, 0.25)
    colour = (GREY + spread * draw.normal(len(sets), count, 3)) / np.sqrt(count)
    over = where[::TEXTURES] * parameters.pattern
    # cos(place + turn) = cos place cos turn - sin place sin turn
    even = jnp.einsum("skhw,skt,skc,shw->thwc", jnp.cos(place), jnp.cos(turn) - 1, colour, over)
    return even - jnp.einsum("skhw,skt,skc,shw->thwc", jnp.sin(place), jnp.sin(turn), colour, over)


def _wander(draw: Draws, parameters: SceneParameters, config: Config, frames: int) -> Array:
    """Chromatic changes of any colour: white balance, coloured light; one of them may be a rhythm."""
    fps, count = config.clip.fps, WANDERS
    # exponent: U(0, 2.2)
    exponent = draw.uniform(0.0, 2.2, count)
    series = nuisance.power_law(draw, exponent, frames=frames, fps=fps)
    rhythm = nuisance.quasi_periodic(draw, 1, low_hz=0.1, high_hz=3.5, frames=frames, fps=fps)
    first = jnp.where(draw.chance(0.3), rhythm, series[:1])
    series = jnp.concatenate([first, series[1:]])
    cells = config.clip.patch_px
    where = nuisance.fields(draw, count, cells=cells)
    where += nuisance.smooth_fields(draw, count, cells=cells)
    colour = draw.normal(count, 3)
    return jnp.einsum("nt,nhw,nc,n->thwc", series, where, colour, parameters.wander / np.sqrt(2))


def _local(draw: Draws, parameters: SceneParameters, config: Config, frames: int) -> Array:
    """Changes of single cells, mostly slow and grey: facial expressions, blocks of a codec."""
    cells = config.clip.patch_px
    exponent = jnp.full(2 * cells**2, draw.uniform(0.8, 3.0))
    series = nuisance.power_law(draw, exponent, frames=frames, fps=config.clip.fps)
    series = series.reshape(2, cells, cells, frames) * np.array([1.0, 0.7])[:, None, None, None]
    spread = np.array([0.15, 0.3])[:, None, None, None]
    colour = spread * draw.normal(2, cells, cells, 3)
    colour += np.array([[1.0], [0.0]])[:, None, None]
    weight = 0.5 * draw.normal(cells, cells)
    weight += 0.5 * nuisance.smooth_fields(draw, 1, cells=cells)[0]
    return jnp.einsum("khwt,khwc,hw->thwc", series, colour, parameters.local * jnp.exp(weight))
