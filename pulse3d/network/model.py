"""Makes, initialises and applies the network of a config, and checks the shapes of its parameters.

Classes are the pulse rates of `config.clip.rate_axis_bpm` and, last, "no pulse".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pulse3d.config import CellNetConfig, ClipConfig, Config, ModelConfig, expect
from pulse3d.errors import InputError, first_line
from pulse3d.network import cell_net
from pulse3d.network.paper_net import PulseNet

Params = dict[str, Any]


def make_model(config: Config, *, compute: DTypeLike = jnp.float32) -> PulseNet | cell_net.CellNet:
    """The network of a config; compute: the type of its multiplications."""
    if isinstance(config.model, CellNetConfig):
        return cell_net.CellNet(config.model, config.clip, compute)
    return PulseNet(expect(config.model, ModelConfig), config.clip.classes, compute)


def init_params(key: jax.Array, config: Config) -> Params:
    """Fresh parameters."""
    return _initialiser(config)(key)


@lru_cache(maxsize=8)
def _initialiser(config: Config) -> Callable[[jax.Array], Params]:
    """Makes fresh parameters from a key; one program for every config."""

    def init(key: jax.Array) -> Params:
        inputs: tuple = (jnp.zeros((1, *clip_shape(config.clip))),)
        if isinstance(config.model, CellNetConfig):
            inputs = (*inputs, jnp.ones((1, 1, config.clip.frames)), jnp.ones((1, 1)))
        return make_model(config).init(key, *inputs)["params"]

    return jax.jit(init)  # the network itself is not run


@partial(jax.jit, static_argnames="config", inline=True)
def apply_logits(params: Params, inputs: tuple, config: Config) -> Float[Array, "batch *place class"]:
    """The logits of a batch at inference; inputs: of the network, as from `examples.make_batch`."""
    logits = make_model(config).apply({"params": params}, *inputs)
    return jnp.asarray(logits)


def clip_shape(clip: ClipConfig) -> tuple[int, int, int, int]:
    """Shape of one clip: (time, height, width, channel)."""
    return clip.frames, clip.patch_px, clip.patch_px, clip.channels


def param_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, like {"hidden/kernel": (288, 512)}; allocates nothing."""
    abstract = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    return {"/".join(k.key for k in path): leaf.shape for path, leaf in jax.tree.leaves_with_path(abstract)}


def count_params(params: Params) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def check_shapes(found: dict[str, tuple[int, ...]], config: Config, name: str | Path) -> None:
    """Raises InputError, starting with `name`, if the parameters found are not those of a config.

    found: shapes by name, as `param_shapes` gives them.
    """
    try:
        expected = param_shapes(config)
    except Exception as error:
        raise InputError(f"{name}: settings that make no network ({first_line(error)})") from None
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if wrong:
        raise InputError(
            f"{name}: weights for another network: {wrong[0]} is {found.get(wrong[0])},"
            f" expected {expected.get(wrong[0])}"
        )
