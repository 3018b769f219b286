"""Batches of synthetic video with their targets.

The one way from a key to what a training step needs, for either kind of synthetic video.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pulse3d.config import Config, ScenesConfig, expect
from pulse3d.network import cell_input
from pulse3d.synthetic.draws import Draws, at_once
from pulse3d.synthetic.paper_clips import make_clip
from pulse3d.synthetic.scene_laws import REGIONS
from pulse3d.synthetic.scenes import UNKNOWN, Scene, make_scene


class Plan(NamedTuple):
    """What is to be made: a key for every clip, and its label where that is not drawn with the clip."""

    keys: PRNGKeyArray
    labels: Int[Array, "batch"] | None


def plan_batch(key: PRNGKeyArray, config: Config, *, size: int) -> Plan:
    """Draws which `size` clips a batch has.

    Clips have classes as balanced as their number allows: labels run through the rates and `no_pulse_clips`
    times "no pulse" in turn, from a place drawn at random, so no two rates' counts differ by more than one.
    """
    first_key, clips_key = jax.random.split(key)
    keys = jax.random.split(clips_key, size)
    if isinstance(config.generator, ScenesConfig):
        return Plan(keys, None)
    turn = config.clip.rates + config.generator.no_pulse_clips
    # first of the turn: U{0, ..., turn - 1}
    first = jax.random.randint(first_key, (), 0, turn)
    return Plan(keys, jnp.minimum((first + jnp.arange(size)) % turn, config.clip.rates))


def make_examples(plan: Plan, config: Config) -> tuple[tuple[Array, ...], Float[Array, "batch *place class"]]:
    """The inputs of the config's network for the clips of a plan, and their targets.

    The answers are probabilities of classes; where they are zeros, nothing is asked.
    """
    if plan.labels is None:
        with jax.default_matmul_precision("highest"):
            return jax.vmap(lambda k: make_example(k, config))(plan.keys)
    clips, labels = jax.vmap(lambda k, label: make_clip(k, config, label=label))(plan.keys, plan.labels)
    return (clips,), jnp.asarray(label_targets(config))[labels]


def make_batch(
    key: PRNGKeyArray, config: Config, *, size: int
) -> tuple[tuple[Array, ...], Float[Array, "batch *place class"]]:
    """The inputs of the config's network for `size` fresh clips, and their targets: a plan, carried out."""
    return make_examples(plan_batch(key, config, size=size), config)


def label_targets(config: Config) -> Float[np.ndarray, "class target"]:
    """The probabilities that the network should give, for every label.

    A rate's neighbours share by a normal law of SD `label_sd_bpm`; "no pulse" is certain.
    """
    axis, spread = config.clip.rate_axis_bpm, config.train.label_sd_bpm
    targets = np.eye(config.clip.classes, dtype=np.float32)
    if spread > 0:
        shared = np.exp(-0.5 * ((axis[:, None] - axis) / spread) ** 2)
        targets[:-1, :-1] = shared / shared.sum(1, keepdims=True)
    return targets


def window_labels(scene: Scene, taper: Float[Array, "time"], config: Config) -> Float[Array, "row col class"]:
    """The targets of a window: the probability of every class in every cell; zeros where a cell is left out.

    The rate of a window is the mean under its taper. A rate's neighbours share its probability by a normal
    law of SD `train.label_sd_bpm`; rates beyond the axis belong to its ends.
    """
    spread = config.train.label_sd_bpm
    axis = jnp.asarray(cell_input.rates_bpm(config.clip), jnp.float32)
    rates = jnp.clip(scene.rate_bpm @ taper, axis[0], axis[-1])
    away = abs(rates[:, None] - axis)
    if spread > 0:
        near = jax.nn.softmax(-0.5 * (away / spread) ** 2)
    else:
        near = jax.nn.one_hot(away.argmin(-1), len(axis))
    targets = jnp.zeros((REGIONS + 1, len(axis) + 1)).at[:-1, :-1].set(near).at[-1, -1].set(1.0)
    return targets[scene.label] * (scene.label != UNKNOWN)[..., None]


@at_once
def make_example(
    draw: Draws, config: Config
) -> tuple[tuple[Array, Array, Array], Float[Array, "window row col class"]]:
    """The inputs of the network (changes, tapers, seconds) for a fresh scene, and their targets."""
    return ask(draw, make_scene(draw, config), config)


@at_once
def ask(
    draw: Draws, scene: Scene, config: Config
) -> tuple[tuple[Array, Array, Array], Float[Array, "window row col class"]]:
    """The inputs of the network for windows of a scene, drawn at random, and their targets."""
    clip, laws = config.clip, expect(config.generator, ScenesConfig)
    # windows: as long as a clip or, some, from `shortest_s` on; anywhere in the scene, one in six at its ends
    longest = min(clip.frames, laws.frames)
    short = draw.integer(round(laws.shortest_s * clip.fps), longest + 1, laws.windows)
    length = jnp.where(draw.chance(laws.full_share, laws.windows), longest, short)
    start = jnp.clip(draw.uniform(-0.1, 1.1, laws.windows), 0, 1)
    start = jnp.round(start * (laws.frames - length))
    tapers = jax.vmap(lambda start, length: cell_input.hann(start, length, laws.frames))(start, length)
    changes = cell_input.relative_changes(scene.video, memory=cell_input.memory_frames(config))
    answers = jax.vmap(lambda taper: window_labels(scene, taper, config))(tapers)
    return (changes, tapers, length / clip.fps), answers
