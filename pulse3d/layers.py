"""Convolutions as layers, whose kernels are matrices, as they are fast on each backend."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pulse3d import convolution


class Neighbourhood(nn.Module):
    """A convolution over time (zeros outside), or over rows and columns (without padding).

    Its kernel is (taps x square x square x features in, features out).
    """

    features: int
    taps: int = 1
    square: int = 1
    dilation: int = 1
    compute: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch time row col channel"], *, train: bool = False) -> Array:
        """The convolution and a bias: (batch, time, row - square + 1, col - square + 1, feature)."""
        shape = (self.taps * self.square**2 * x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # On a CPU the matrix product has twice as fast gradients, the convolution is half as fast again
        # without them, but not for few channels.
        sizes = {"taps": self.taps, "square": self.square, "dilation": self.dilation}
        if train or x.shape[-1] < 8:
            return convolution.neighbours_product(x, kernel, compute=self.compute, **sizes) + bias
        return convolution.neighbours_convolution(x, kernel, **sizes) + bias


class RateConvolution(nn.Module):
    """A convolution along the rates, zeros beyond; its kernel is (taps x features in, features out)."""

    features: int
    taps: int
    compute: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch rate feature"]) -> Float[Array, "batch rate feature_out"]:
        """The convolution and a bias."""
        shape = (self.taps * x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        spatial = kernel.reshape(self.taps, x.shape[-1], self.features)
        layout = ("NWC", "WIO", "NWC")
        options = {"dimension_numbers": layout, "compute": self.compute}
        return convolution.convolve(x, spatial, (1,), "SAME", **options) + bias
