"""What a synthetic scene is, drawn at random: its regions, their pulses, and the disturbances.

Every number is drawn with a key of its own name, so that a new one changes no other.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from pulse3d.config import Config, ScenesConfig, expect
from pulse3d.network import cell_input
from pulse3d.synthetic import nuisance
from pulse3d.synthetic.nuisance import log_uniform

REGIONS, LIGHTS, TEXTURES, WANDERS, WAVES = 2, 4, 2, 4, 6


class SceneParameters(NamedTuple):
    """What was drawn for one scene. Levels are root mean squares of relative changes of colour.

    cover: how much of every cell each region fills. alive: whether the region has a pulse. pulse: its
    colours. kind: of the wave: 0 ordinary, 1 rich, 2 a pure sine.
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


def named(key: PRNGKeyArray, name: str) -> PRNGKeyArray:
    """The key of that name, independent of those of all other names."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def sample_parameters(key: PRNGKeyArray, config: Config) -> SceneParameters:
    """Draws the parameters of one scene."""
    clip, laws = config.clip, expect(config.generator, ScenesConfig)

    def uniform(name, low=0.0, high=1.0, shape=()):
        return jax.random.uniform(named(key, name), shape, minval=low, maxval=high)

    def chance(name, share, shape=()):
        return jax.random.bernoulli(named(key, name), share, shape)

    def level(name, bounds, shape=()):
        return log_uniform(named(key, name), *bounds, shape)

    # regions: none is alive in some scenes, else the first is, and the second as often as not
    pulse = chance("pulse", laws.pulse_share)
    alive = pulse & jnp.stack([jnp.asarray(True), chance("second", 0.6)])
    # rate: also beyond the axis, whose ends mean "or less" and "or more"
    axis = cell_input.rates_bpm(clip)
    rate_bpm = uniform("rate", axis[0] - laws.beyond_bpm, axis[-1] + laws.beyond_bpm, (REGIONS,))
    # pulse: log-uniform, in some scenes strong; its colour log-normal, of a strong one anything
    strong = chance("strong", laws.strong_share, (REGIONS,))
    size = jnp.where(
        strong, level("strong_level", laws.strong, (REGIONS,)), level("pulse_level", laws.pulse, (REGIONS,))
    )
    noise = jax.random.normal(named(key, "colour"), (REGIONS, 3))
    usual = np.array(laws.pulse_colour) * jnp.exp(laws.colour_spread * noise)
    any_colour = jnp.exp(1.2 * jax.random.normal(named(key, "any_colour"), (REGIONS, 3)))
    any_colour /= any_colour.mean(-1, keepdims=True) * 2
    odd = strong & chance("odd_colour", 0.7, (REGIONS,))
    colour = jnp.where(odd[:, None], any_colour, usual)
    kind = jnp.where(strong, jax.random.randint(named(key, "kind"), (REGIONS,), 0, 3), 0)
    kind = jnp.where(chance("sine", 0.1, (REGIONS,)), 2, kind)
    # a factor for all motion: half of the scenes are calmer, some much wilder
    calm = jnp.where(chance("calm", laws.calm_share), level("calm_level", laws.calm), 1.0)
    wild = jnp.where(chance("wild", laws.wild_share), level("wild_level", laws.wild), 1.0)
    motion = calm * wild
    # channels: black (a finger under a torch has no green), saturated at the pulse's top, or as they are
    black = chance("black", laws.black_share) & chance("black_channel", 0.4, (3,))
    clipped = chance("clipped", laws.black_share) & chance("clipped_channel", 0.4, (3,))
    return SceneParameters(
        cover=sample_cover(named(key, "cover"), clip.patch_px),
        alive=alive,
        rate_bpm=rate_bpm,
        pulse=size[:, None] * colour,
        kind=kind,
        light=motion * level("light", laws.light, (LIGHTS,)),
        flicker=chance("has_flicker", laws.flicker_share) * level("flicker", laws.flicker),
        texture=motion * level("texture", laws.texture, (TEXTURES,)),
        pattern=chance("has_pattern", laws.pattern_share) * level("pattern", laws.pattern),
        # the camera and each region move by themselves, or not at all
        shift=calm * level("shift", laws.shift, (1 + REGIONS,)) * chance("shifts", 0.7, (1 + REGIONS,)),
        edge=motion * level("edge", laws.edge),
        wander=wild * level("wander", laws.wander, (WANDERS,)),
        local=jnp.sqrt(motion) * level("local", laws.local),
        sensor=level("sensor", laws.sensor),
        has_codec=chance("codec", laws.codec_share),
        channel_gain=jnp.where(black, uniform("black_level", 0.0, 0.3, (3,)), 1.0),
        ceiling=jnp.where(clipped, uniform("ceiling", -0.002, 0.01, (3,)), 10.0),
    )


def sample_cover(key: PRNGKeyArray, cells: int) -> Float[Array, "region row col"]:
    """How much of every cell each region fills, 0...1: discs, blobs, halves, everything, with a hole or not.

    The second region lies where the first does not.
    """

    def one(key):
        rows, cols = np.mgrid[:cells, :cells].astype(np.float32)
        centre = jax.random.uniform(named(key, "centre"), (2,), minval=-2.0, maxval=cells + 1.0)
        # radius: log-uniform from 1 cell to 0.6 of the picture; axes apart by up to 1.6
        radius = log_uniform(named(key, "radius"), 1.0, 0.6 * cells)
        ratio = log_uniform(named(key, "ratio"), 1 / 1.6, 1.6)
        angle = jax.random.uniform(named(key, "angle"), maxval=2 * np.pi)
        away = jnp.stack([rows - centre[0], cols - centre[1]])
        along = jnp.cos(angle) * away[0] + jnp.sin(angle) * away[1]
        across = jnp.cos(angle) * away[1] - jnp.sin(angle) * away[0]
        distance = jnp.hypot(along / ratio, across * ratio)
        # signed distances in cells, positive inside
        disc = radius - distance
        plane = along + jax.random.uniform(named(key, "offset"), minval=-0.3, maxval=0.3) * cells
        rough = nuisance.smooth_fields(named(key, "blob"), 1, cells=cells, finest=3.0)[0]
        blob = disc + rough * jnp.clip(radius / 2, 1.0, 4.0)
        everything = jnp.full((cells, cells), 10.0)
        # disc 40 %, blob 45 %, half-plane 8 %, everything 7 %
        drawn = jax.random.uniform(named(key, "form"))
        inside = jnp.select([drawn < 0.4, drawn < 0.85, drawn < 0.93], [disc, blob, plane], everything)
        # hole, three times in ten: as eyes, a beard or hair
        hole = log_uniform(named(key, "hole_radius"), 0.7, 3.0)
        shift = jax.random.uniform(named(key, "hole_shift"), (2, 1, 1), minval=-0.6, maxval=0.6) * radius
        pierced = jnp.minimum(inside, jnp.hypot(away[0] - shift[0], away[1] - shift[1]) - hole)
        inside = jnp.where(jax.random.bernoulli(named(key, "hole"), 0.3), pierced, inside)
        return jax.nn.sigmoid(4 * inside)

    first, second = jax.vmap(one)(jax.random.split(key, REGIONS))
    return jnp.stack([first, second * (1 - first)])
