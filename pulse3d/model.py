"""The network: a patch of video in, one logit per class out.

Classes are the pulse rates of `config.clip.rate_axis_bpm` and, last, "no pulse".
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pulse3d import convolution
from pulse3d.config import ClipConfig, Config, ModelConfig

Params = dict[str, Any]

_GLOROT = nn.initializers.glorot_uniform()  # as in the original


class PulseNet(nn.Module):
    """Convolution, max-pooling, ReLU, dense, ReLU, dense (Bousefsaf et al. 2019, Fig. 3)."""

    config: ModelConfig
    classes: int

    @nn.compact
    def __call__(self, clips: Float[Array, "batch time height width channel"], *, train: bool = False):
        """Logits (batch, classes); clips have their mean subtracted."""
        pool = self.config.pool
        # The pooling drops what does not fill a whole cell: those outputs are never computed.
        used = [
            kernel - 1 + (size - kernel + 1) // pool * pool
            for size, kernel in zip(clips.shape[1:4], self.config.kernel, strict=True)
        ]
        clips = clips[:, : used[0], : used[1], : used[2]]
        features = nn.Conv(
            self.config.filters,
            self.config.kernel,
            padding="VALID",
            kernel_init=_GLOROT,
            conv_general_dilated=convolution.convolve,
            name="convolution",
        )(clips)
        features = nn.relu(nn.max_pool(features, (pool,) * 3, (pool,) * 3))
        features = nn.Dropout(self.config.dropout, deterministic=not train)(features)
        features = features.reshape(features.shape[0], -1)
        features = nn.relu(nn.Dense(self.config.hidden, kernel_init=_GLOROT, name="hidden")(features))
        features = nn.Dropout(self.config.dropout, deterministic=not train)(features)
        return nn.Dense(self.classes, kernel_init=_GLOROT, name="classes")(features)


def make_model(config: Config) -> PulseNet:
    """The network of a config."""
    return PulseNet(config.model, config.clip.classes)


def init_params(key: jax.Array, config: Config) -> Params:
    """Fresh parameters."""
    return make_model(config).init(key, jnp.zeros((1, *clip_shape(config.clip))))["params"]


def apply_logits(
    params: Params, clips: Float[Array, "batch time height width channel"], config: Config
) -> Float[Array, "batch classes"]:
    """The logits of a batch of clips, at inference."""
    logits = make_model(config).apply({"params": params}, clips)
    return jnp.asarray(logits)


def clip_shape(clip: ClipConfig) -> tuple[int, int, int, int]:
    """Shape of one clip: (time, height, width, channel)."""
    return clip.frames, clip.patch_px, clip.patch_px, clip.channels


def param_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, like {"hidden/kernel": (288, 512)}, nothing allocated."""
    abstract = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    return {"/".join(k.key for k in path): leaf.shape for path, leaf in jax.tree.leaves_with_path(abstract)}


def count_params(params: Params) -> int:
    """Number of parameters."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
