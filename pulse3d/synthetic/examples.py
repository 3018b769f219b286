"""Batches of synthetic video with their targets.

Makes what a training step needs from a key, for both kinds of synthetic video.
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
    """What to make: a key for every clip, and its label unless that is drawn with the clip."""

    keys: PRNGKeyArray
    labels: Int[Array, "batch"] | None


def plan_batch(key: PRNGKeyArray, config: Config, *, size: int) -> Plan:
    """Draws the keys and the labels of the `size` clips of a batch.

    Classes are as balanced as the number of clips allows: labels cycle through the rates and `no_pulse_clips`
    times "no pulse", from a random start, so the counts of two rates differ by one at most.
    """
    first_key, clips_key = jax.random.split(key)
    keys = jax.random.split(clips_key, size)
    if isinstance(config.generator, ScenesConfig):
        return Plan(keys, None)
    turn = config.clip.rates + config.generator.no_pulse_clips
    # start of the cycle: U{0, ..., turn - 1}
    first = jax.random.randint(first_key, (), 0, turn)
    return Plan(keys, jnp.minimum((first + jnp.arange(size)) % turn, config.clip.rates))


def make_examples(plan: Plan, config: Config) -> tuple[tuple[Array, ...], Float[Array, "batch *place class"]]:
    """The inputs of the config's network for the clips of a plan, and their targets.

    Targets are probabilities of classes; where all of them are 0, the loss is 0.
    """
    if plan.labels is None:
        with jax.default_matmul_precision("highest"):
            return jax.vmap(lambda k: make_example(k, config))(plan.keys)
    clips, labels = jax.vmap(lambda k, label: make_clip(k, config, label=label))(plan.keys, plan.labels)
    return (clips,), jnp.asarray(label_targets(config))[labels]


def make_batch(
    key: PRNGKeyArray, config: Config, *, size: int
) -> tuple[tuple[Array, ...], Float[Array, "batch *place class"]]:
    """Plans and makes `size` fresh clips: the inputs of the config's network, and their targets."""
    return make_examples(plan_batch(key, config, size=size), config)


def label_targets(config: Config) -> Float[np.ndarray, "class target"]:
    """The target probabilities for every label.

    A rate is spread to its neighbours by a normal distribution of SD `label_sd_bpm`; "no pulse" is certain.
    """
    axis, spread = config.clip.rate_axis_bpm, config.train.label_sd_bpm
    targets = np.eye(config.clip.classes, dtype=np.float32)
    if spread > 0:
        shared = np.exp(-0.5 * ((axis[:, None] - axis) / spread) ** 2)
        targets[:-1, :-1] = shared / shared.sum(1, keepdims=True)
    return targets


def window_labels(scene: Scene, taper: Float[Array, "time"], config: Config) -> Float[Array, "row col class"]:
    """The targets of a window: the probability of every class in every cell; zeros for cells left out.

    The rate of a window is the mean under its taper. It is spread to its neighbours by a normal distribution
    of SD `train.label_sd_bpm`; rates beyond the axis count as its ends.
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
    """The inputs of the network for random windows of a scene, and their targets."""
    clip, laws = config.clip, expect(config.generator, ScenesConfig)
    # windows: as long as a clip or, for some, `shortest_s` or more; anywhere in the scene, 1 in 6 at its ends
    longest = min(clip.frames, laws.frames)
    short = draw.integer(round(laws.shortest_s * clip.fps), longest + 1, laws.windows)
    length = jnp.where(draw.chance(laws.full_share, laws.windows), longest, short)
    start = jnp.clip(draw.uniform(-0.1, 1.1, laws.windows), 0, 1)
    start = jnp.round(start * (laws.frames - length))
    tapers = jax.vmap(lambda start, length: cell_input.hann(start, length, laws.frames))(start, length)
    changes = cell_input.relative_changes(scene.video, memory=cell_input.memory_frames(config))
    answers = jax.vmap(lambda taper: window_labels(scene, taper, config))(tapers)
    return (changes, tapers, length / clip.fps), answers
