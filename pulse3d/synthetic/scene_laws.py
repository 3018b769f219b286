"""The random parameters of a synthetic scene: its regions, their pulses, and the disturbances."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pulse3d.config import Config, ScenesConfig, expect
from pulse3d.network import cell_input
from pulse3d.synthetic import nuisance
from pulse3d.synthetic.draws import Draws, at_once

REGIONS, LIGHTS, TEXTURES, WANDERS, WAVES = 2, 4, 2, 4, 6


class SceneParameters(NamedTuple):
    """The random parameters of one scene. Levels are root mean squares of relative changes of colour.

    cover: share of every cell that each region fills. alive: whether the region has a pulse. pulse: its
    level in red, green, blue. kind: of the wave: 0 ordinary, 1 rich, 2 a pure sine.
    """

    cover: Float[Array, "region row col"]
    alive: Bool[Array, "region"]
    rate_bpm: Float[Array, "region"]
    pulse: Float[Array, "region 3"]
    kind: Int[Array, "region"]
    light: Float[Array, "light"]
    flicker: Float[Array, ""]
    texture: Float[Array, "texture"]
    pattern: Float[Array, ""]
    shift: Float[Array, "mover"]
    edge: Float[Array, ""]
    wander: Float[Array, "wander"]
    local: Float[Array, ""]
    sensor: Float[Array, ""]
    has_codec: Bool[Array, ""]
    channel_gain: Float[Array, "3"]
    ceiling: Float[Array, "3"]


@at_once
def sample_parameters(draw: Draws, config: Config) -> SceneParameters:
    """Draws the parameters of one scene."""
    clip, laws = config.clip, expect(config.generator, ScenesConfig)

    # regions: in some scenes none is alive; in the others the first is, and the second in 60 %
    pulse = draw.chance(laws.pulse_share)
    alive = pulse & jnp.stack([jnp.asarray(True), draw.chance(0.6)])
    # rate: may lie beyond the axis, whose ends mean "or less" and "or more"
    axis = cell_input.rates_bpm(clip)
    rate_bpm = draw.uniform(axis[0] - laws.beyond_bpm, axis[-1] + laws.beyond_bpm, REGIONS)
    # pulse: log-uniform, some of them strong; the colour is log-normal, or any colour for most strong ones
    strong = draw.chance(laws.strong_share, REGIONS)
    size = jnp.where(strong, draw.log_uniform(*laws.strong, REGIONS), draw.log_uniform(*laws.pulse, REGIONS))
    usual = np.array(laws.pulse_colour) * jnp.exp(laws.colour_spread * draw.normal(REGIONS, 3))
    any_colour = jnp.exp(1.2 * draw.normal(REGIONS, 3))
    any_colour /= any_colour.mean(-1, keepdims=True) * 2
    odd = strong & draw.chance(0.7, REGIONS)
    colour = jnp.where(odd[:, None], any_colour, usual)
    kind = jnp.where(strong, draw.integer(0, 3, REGIONS), 0)
    kind = jnp.where(draw.chance(0.1, REGIONS), 2, kind)
    # a factor for all motion: half of the scenes are calmer, some much wilder
    calm = jnp.where(draw.chance(laws.calm_share), draw.log_uniform(*laws.calm), 1.0)
    wild = jnp.where(draw.chance(laws.wild_share), draw.log_uniform(*laws.wild), 1.0)
    motion = calm * wild
    # channels: black (a finger under a torch has no green), saturated at the pulse's top, or unchanged
    black = draw.chance(laws.black_share) & draw.chance(0.4, 3)
    clipped = draw.chance(laws.black_share) & draw.chance(0.4, 3)
    return SceneParameters(
        cover=sample_cover(draw, clip.patch_px),
        alive=alive,
        rate_bpm=rate_bpm,
        pulse=size[:, None] * colour,
        kind=kind,
        light=motion * draw.log_uniform(*laws.light, LIGHTS),
        flicker=draw.chance(laws.flicker_share) * draw.log_uniform(*laws.flicker),
        texture=motion * draw.log_uniform(*laws.texture, TEXTURES),
        pattern=draw.chance(laws.pattern_share) * draw.log_uniform(*laws.pattern),
        # the camera and each region move independently, or not at all
        shift=calm * draw.log_uniform(*laws.shift, 1 + REGIONS) * draw.chance(0.7, 1 + REGIONS),
        edge=motion * draw.log_uniform(*laws.edge),
        wander=wild * draw.log_uniform(*laws.wander, WANDERS),
        local=jnp.sqrt(motion) * draw.log_uniform(*laws.local),
        sensor=draw.log_uniform(*laws.sensor),
        has_codec=draw.chance(laws.codec_share),
        channel_gain=jnp.where(black, draw.uniform(0.0, 0.3, 3), 1.0),
        ceiling=jnp.where(clipped, draw.uniform(-0.002, 0.01, 3), 10.0),
    )


@at_once
def sample_cover(draw: Draws, cells: int) -> Float[Array, "region row col"]:
    """Share of every cell that each region fills, 0...1: disc, blob, half-plane or all, some with a hole.

    The second region lies where the first does not.
    """

    def one():
        rows, cols = np.mgrid[:cells, :cells].astype(np.float32)
        centre = draw.uniform(-2.0, cells + 1.0, 2)
        # radius: log-uniform from 1 cell to 0.6 of the picture; axes stretched by up to 1.6
        radius = draw.log_uniform(1.0, 0.6 * cells)
        ratio = draw.log_uniform(1 / 1.6, 1.6)
        angle = draw.uniform(0.0, 2 * np.pi)
        away = jnp.stack([rows - centre[0], cols - centre[1]])
        along = jnp.cos(angle) * away[0] + jnp.sin(angle) * away[1]
        across = jnp.cos(angle) * away[1] - jnp.sin(angle) * away[0]
        distance = jnp.hypot(along / ratio, across * ratio)
        # signed distances in cells, positive inside
        disc = radius - distance
        plane = along + draw.uniform(-0.3, 0.3) * cells
        rough = nuisance.smooth_fields(draw, 1, cells=cells, finest=3.0)[0]
        blob = disc + rough * jnp.clip(radius / 2, 1.0, 4.0)
        everything = jnp.full((cells, cells), 10.0)
        # disc 40 %, blob 45 %, half-plane 8 %, everything 7 %
        form = draw.uniform(0.0, 1.0)
        inside = jnp.select([form < 0.4, form < 0.85, form < 0.93], [disc, blob, plane], everything)
        # hole, three times in ten: like eyes, a beard or hair
        hole = draw.log_uniform(0.7, 3.0)
        shift = draw.uniform(-0.6, 0.6, 2, 1, 1) * radius
        pierced = jnp.minimum(inside, jnp.hypot(away[0] - shift[0], away[1] - shift[1]) - hole)
        inside = jnp.where(draw.chance(0.3), pierced, inside)
        return jax.nn.sigmoid(4 * inside)

    first, second = (one() for _ in range(REGIONS))
    return jnp.stack([first, second * (1 - first)])
