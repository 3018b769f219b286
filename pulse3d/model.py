"""The networks: a patch of video in, one logit per class out.

Classes are the pulse rates of `config.clip.rate_axis_bpm` and, last, "no pulse". `PulseNet` is
the paper's network; the default one, which reads every cell of a video, is `cellnet.CellNet`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pulse3d import cellnet, convolution
from pulse3d.config import CellNetConfig, ClipConfig, Config, ModelConfig

Params = dict[str, Any]

_GLOROT = nn.initializers.glorot_uniform()  # as in the original


class PulseNet(nn.Module):
    """Convolution, max-pooling, ReLU, dense, ReLU, dense (Bousefsaf et al. 2019, Fig. 3).

    compute: the type in which it multiplies; parameters, sums and activations are float32.
    """

    config: ModelConfig
    classes: int
    compute: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, clips: Float[Array, "batch time height width channel"], *, train: bool = False):
        """Logits (batch, classes); clips have their mean subtracted."""
        pool, options = self.config.pool, {"compute": self.compute}
        dense = partial(nn.Dense, kernel_init=_GLOROT, dot_general=partial(convolution.product, **options))
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
            conv_general_dilated=partial(convolution.convolve, **options),
            name="convolution",
        )(clips)
        features = nn.relu(nn.max_pool(features, (pool,) * 3, (pool,) * 3))
        features = nn.Dropout(self.config.dropout, deterministic=not train)(features)
        features = features.reshape(features.shape[0], -1)
        features = nn.relu(dense(self.config.hidden, name="hidden")(features))
        features = nn.Dropout(self.config.dropout, deterministic=not train)(features)
        return dense(self.classes, name="classes")(features)


def make_model(config: Config, *, compute: DTypeLike = jnp.float32) -> PulseNet | cellnet.CellNet:
    """The network of a config; compute: the type in which it multiplies."""
    if isinstance(config.model, CellNetConfig):
        return cellnet.CellNet(config.model, config.clip, compute)
    return PulseNet(config.model, config.clip.classes, compute)


def init_params(key: jax.Array, config: Config) -> Params:
    """Fresh parameters."""
    inputs: tuple = (jnp.zeros((1, *clip_shape(config.clip))),)
    if isinstance(config.model, CellNetConfig):
        inputs = (*inputs, jnp.ones((1, 1, config.clip.frames)), jnp.ones((1, 1)))
    # jitted, the network itself is not run
    return jax.jit(make_model(config).init)(key, *inputs)["params"]


def apply_logits(params: Params, inputs: tuple, config: Config) -> Float[Array, "batch *place class"]:
    """The logits of a batch at inference; inputs: what the network takes, as of `generator.make_batch`."""
    logits = make_model(config).apply({"params": params}, *inputs)
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
