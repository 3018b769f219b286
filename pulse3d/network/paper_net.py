"""The network of Bousefsaf et al. 2019: a patch of video in, one logit per class out."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pulse3d.config import ModelConfig
from pulse3d.network import convolution

_GLOROT = nn.initializers.glorot_uniform()  # as in the original


class PulseNet(nn.Module):
    """Convolution, max-pooling, ReLU, dense, ReLU, dense (Bousefsaf et al. 2019, Fig. 3).

    compute: the type of its multiplications; parameters, sums and activations are float32.
    """

    config: ModelConfig
    classes: int
    compute: DTypeLike = jnp.float32

    @nn.compact
    @convolution.exact
    def __call__(self, clips: Float[Array, "batch time height width channel"], *, train: bool = False):
        """Logits (batch, classes); clips have their mean subtracted."""
        pool, options = self.config.pool, {"compute": self.compute}
        dense = partial(nn.Dense, kernel_init=_GLOROT, dot_general=partial(convolution.product, **options))
        # Pooling drops the outputs at the end that do not fill a pool: they are never computed.
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
