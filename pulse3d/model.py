"""The networks: a patch of video in, one logit per class out.

Classes are the pulse rates of `config.clip.rate_axis_bpm` and, last, "no pulse". `PulseNet` is
the paper's network, `SpectralNet` the default one.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pulse3d import cellnet, convolution
from pulse3d.config import CellNetConfig, ClipConfig, Config, ModelConfig, SpectralConfig
from pulse3d.layers import Neighbourhood, RateConvolution

Params = dict[str, Any]

STILL = 1e-6  # relative changes of colour below this are none: a picture that stands, or a black one
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


class Spectra(NamedTuple):
    """What `SpectralNet` knows of every position of a patch, before it looks at the whole patch.

    wave: cosine and sine parts of every signal in the five views of `fourier_basis`, for every
    rate, the signal's mean power in the first being 1. attention: logits of how much the position
    counts, per signal. moves: whether anything changes in the cells that it sees.
    """

    wave: Float[Array, "... signal view part rate"]
    attention: Float[Array, "... signal"]
    moves: Bool[Array, "..."]


class SpectralNet(nn.Module):
    """A factorised 3-D convolutional network whose head reads spectra.

    Over time, over space, and twice over time again (dilated), the last two residual: these are
    `positions`, which neighbouring patches share. Each position's signals are Fourier
    transformed at every rate, twice and half of it, and for each half of the clip; `patches` adds
    the complex spectra of a patch's positions, weighted by attention, so that signals in phase add
    up and others cancel, and two convolutions along the rates turn power and coherence into logits.

    A clip is (time, row, col, channel), relative changes of colour (1 % is 0.01). compute: the type
    in which it multiplies; parameters, sums and activations are float32.
    """

    config: SpectralConfig
    clip: ClipConfig
    compute: DTypeLike = jnp.float32

    def setup(self):
        """The layers."""
        sizes = self.config
        dense = partial(nn.Dense, dot_general=partial(convolution.product, compute=self.compute))
        near = partial(Neighbourhood, compute=self.compute)
        self.first = near(sizes.first_filters, taps=sizes.first_taps)
        self.space = near(sizes.filters, square=sizes.space_taps)
        self.middle = near(sizes.filters, taps=sizes.taps, dilation=2)
        self.last = near(sizes.filters, taps=sizes.taps, dilation=4)
        self.signal = dense(sizes.signals)
        self.attention_hidden = dense(sizes.attention_hidden)
        self.attention = dense(sizes.signals)
        self.rates_first = RateConvolution(sizes.hidden, sizes.rate_taps, self.compute)
        self.rates_second = RateConvolution(sizes.hidden, sizes.rate_taps, self.compute)
        self.context = dense(sizes.hidden)
        self.rate = dense(1)
        self.rate_bias = self.param("rate_bias", nn.initializers.zeros, (self.clip.rates,))
        self.no_pulse_hidden = dense(sizes.no_pulse_hidden)
        self.no_pulse = dense(1)

    def __call__(self, clips: Float[Array, "batch time row col channel"], *, train: bool = False):
        """Logits (batch, classes); `train` says that gradients are wanted."""
        spectra = self.positions(clips, train=train)
        batch, rows, cols = spectra.attention.shape[:3]
        return self.patches(jax.tree.map(lambda x: x.reshape(batch, rows * cols, *x.shape[3:]), spectra))

    def positions(self, clips: Float[Array, "batch time row col channel"], *, train: bool = False) -> Spectra:
        """The spectra of all (row - k + 1, col - k + 1) positions of clips of any height and width."""
        features = nn.gelu(self.first(self.config.gain * clips, train=train))
        features = nn.gelu(self.space(features, train=train))
        features += nn.gelu(self.middle(features, train=train))
        features += nn.gelu(self.last(features, train=train))
        # of the variance, as the gradient of a standard deviation of 0 is not finite
        level = 0.5 * jnp.log(features.var(1) + 1e-4)
        hidden = nn.gelu(self.attention_hidden(jnp.concatenate([features.mean(1), level], -1)))
        signals = self.signal(features)
        wave = convolution.product(
            signals, jnp.asarray(fourier_basis(self.clip)), (((1,), (0,)), ((), ())), compute=self.compute
        )
        power = (wave[..., 0, :, :] ** 2).sum(-2).mean(-1)
        wave *= jax.lax.rsqrt(power + 1e-6)[..., None, None, None]
        rows, cols = wave.shape[1:3]
        change, square = abs(clips).max((1, 4)), self.config.space_taps
        seen = (change[:, y : y + rows, x : x + cols] for y in range(square) for x in range(square))
        return Spectra(wave, self.attention(hidden), reduce(jnp.maximum, seen) > STILL)

    def patches(self, spectra: Spectra) -> Float[Array, "batch class"]:
        """Logits of patches whose positions are the second axis of `spectra`.

        Where nothing moves at all there is nothing to read: that is "no pulse", whatever the layers say.
        """
        weight = nn.softmax(spectra.attention, axis=1)[..., None, None, None]
        # Added one by one: a sum over this axis reads memory several times on a CPU.
        count = weight.shape[1]
        waves = (weight[:, i] * spectra.wave[:, i] for i in range(count))
        powers = (weight[:, i, :, 0, 0] * (spectra.wave[:, i, :, 0] ** 2).sum(-2) for i in range(count))
        together, apart = reduce(jnp.add, waves), reduce(jnp.add, powers)
        power = (together**2).sum(-2)
        coherence = power[:, :, 0] / (apart + 1e-6)
        power /= power[:, :, :1].mean(-1, keepdims=True) + 1e-6
        batch, rates = power.shape[0], power.shape[-1]
        seen = jnp.concatenate([jnp.log(power + 1e-2).reshape(batch, -1, rates), coherence], 1).swapaxes(1, 2)
        features = nn.gelu(self.rates_first(seen))
        context = self.context(_summary(features))[:, None]
        features += nn.gelu(self.rates_second(features) + context)
        rate = self.rate(features)[..., 0] + self.rate_bias
        no_pulse = self.no_pulse(nn.gelu(self.no_pulse_hidden(_summary(features))))
        rate = jnp.where(spectra.moves.any(1, keepdims=True), rate, no_pulse + np.log(STILL))
        return jnp.concatenate([rate, no_pulse], -1)


def fourier_basis(clip: ClipConfig) -> Float[np.ndarray, "time view part rate"]:
    """Cosines and sines for every rate f, in five views: f, 2f and f/2 over the clip, f over each half.

    Under Hann windows of sum 2, so that a unit cosine at f has the coefficient 1. Rates of half the
    frame rate and more are zeros. A pulse lasts: it is in both halves; a harmonic has its rate at
    f/2 or 2f.
    """
    time_s = (np.arange(clip.frames) - (clip.frames - 1) / 2) / clip.fps
    half = clip.frames // 2
    whole, first, second = np.zeros((3, clip.frames))
    for window, part in ((whole, slice(None)), (first, slice(half)), (second, slice(half, 2 * half))):
        taper = np.hanning(len(window[part]) + 2)[1:-1]
        window[part] = 2 * taper / taper.sum()
    multiples, windows = np.array([1, 2, 0.5, 1, 1]), np.stack([whole, whole, whole, first, second], 1)
    rates = clip.rate_axis_bpm * multiples[:, None]
    angle = 2 * np.pi / 60 * time_s[:, None, None] * rates
    basis = np.stack([np.cos(angle), np.sin(angle)], 2) * (rates < 30 * clip.fps)[:, None]
    return (basis * windows[:, :, None, None]).astype(np.float32)


def _summary(features: jax.Array) -> jax.Array:
    return jnp.concatenate([features.mean(1), features.max(1)], -1)


def make_model(
    config: Config, *, compute: DTypeLike = jnp.float32
) -> PulseNet | SpectralNet | cellnet.CellNet:
    """The network of a config; compute: the type in which it multiplies."""
    if isinstance(config.model, CellNetConfig):
        return cellnet.CellNet(config.model, config.clip, compute)
    if isinstance(config.model, SpectralConfig):
        return SpectralNet(config.model, config.clip, compute)
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
