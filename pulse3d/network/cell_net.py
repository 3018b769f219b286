"""The default network: it reads every cell of a video once, and then every window from the results.

It has three steps. `signals` turns the video into a few signals per cell and frame, by convolutions over time
and over neighbouring cells. These do not depend on windows, so a video is processed once. `spectra` Fourier
transforms the signals under a window. `logits` compares each cell's complex spectrum with sums over growing
neighbourhoods, in which signals in phase add up and others cancel, and gives each cell a logit for every
pulse rate and, last, for "no pulse".

A video is (time, row, col, channel), relative changes of colour (0.01 is 1 %) as from `relative_changes`.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from pulse3d.config import CellNetConfig, ClipConfig
from pulse3d.network import convolution
from pulse3d.network.cell_input import fourier_basis, rates_bpm

STILL = 1e-6  # relative changes of colour below this count as none: a frozen or a black picture


class Signals(NamedTuple):
    """The signals of every cell in every frame, which do not depend on windows.

    wave: the signals that are Fourier transformed. weight: logits of how much each counts among its
    neighbours. note: other inputs to the head. change: the largest change of colour.
    """

    wave: Float[Array, "*batch time row col signal"]
    weight: Float[Array, "*batch time row col signal"]
    note: Float[Array, "*batch time row col note"]
    change: Float[Array, "*batch time row col 1"]


class Spectra(NamedTuple):
    """The spectra of every cell in a window. wave: cosine and sine parts at every rate, in three `VIEWS`.

    weight, note: means under the window's taper. change: the largest. seconds: the window's length.
    inside: 1 for rows of the frame, 0 for rows beyond it, which hold no data.
    """

    wave: Float[Array, "*batch row col signal view part rate"]
    weight: Float[Array, "*batch row col signal"]
    note: Float[Array, "*batch row col note"]
    change: Float[Array, "*batch row col 1"]
    seconds: Float[Array, "*batch"]
    inside: Float[Array, "*batch row"]


class CellNet(nn.Module):
    """A factorised 3-D convolutional network whose head reads spectra of growing neighbourhoods.

    compute: the type of its multiplications; parameters, sums and activations are float32.
    """

    config: CellNetConfig
    clip: ClipConfig
    compute: DTypeLike = jnp.float32

    def setup(self):
        """The layers."""
        sizes = self.config
        dense = partial(nn.Dense, dot_general=partial(convolution.product, compute=self.compute))
        self.first = dense(sizes.filters)
        self.space, self.space_mix = Kernel((1, 3, 3)), dense(sizes.filters)
        self.middle, self.middle_mix = Kernel((sizes.taps, 1, 1), 2), dense(sizes.filters)
        self.last, self.last_mix = Kernel((sizes.taps, 1, 1), 4), dense(sizes.filters)
        self.wave = dense(sizes.signals)
        self.weight_hidden = dense(sizes.weight_hidden)
        self.weight = dense(sizes.signals + sizes.notes)
        self.seen = Compared(sizes.hidden, sizes.reaches, self.compute)
        along = partial(Along, sizes.hidden, sizes.rate_taps, self.compute)
        self.rates_first, self.rates_second = along(), along()
        self.context = dense(sizes.hidden)
        self.rate = dense(1)
        self.rate_bias = self.param("rate_bias", nn.initializers.zeros, (len(rates_bpm(self.clip)),))
        self.no_pulse_hidden = dense(sizes.hidden)
        self.no_pulse = dense(1)

    def __call__(
        self,
        video: Float[Array, "batch time row col channel"],
        tapers: Float[Array, "batch window time"],
        seconds: Float[Array, "batch window"],
        *,
        train: bool = False,
    ) -> Float[Array, "batch window row col class"]:
        """Logits of every cell in windows of a video; tapers: weights of frames, seconds: window lengths."""
        signals = self.signals(video)
        if train and self.config.freeze:
            signals = jax.lax.stop_gradient(signals)
        inside = jnp.ones(video.shape[2])
        spectra = jax.vmap(self.spectra, in_axes=(None, 1, 1, None), out_axes=1)(
            signals, tapers, seconds, inside
        )
        merged = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), spectra)
        return self.logits(merged).reshape(*tapers.shape[:2], *video.shape[2:4], -1)

    @convolution.exact
    def signals(
        self, video: Float[Array, "batch time row col channel"], valid: Float[Array, "time"] | None = None
    ) -> Signals:
        """The signals of a video, which is padded with zeros in time and space.

        valid: 0 for frames that do not belong to the video, 1 for the others; by default all do.
        """
        valid = jnp.ones(video.shape[1]) if valid is None else valid
        taps, half = self.config.first_taps, self.config.first_taps // 2
        padded = jnp.pad(self.config.gain * video, [(0, 0), (half, half), (0, 0), (0, 0), (0, 0)])
        joined = jnp.concatenate([padded[:, i : i + video.shape[1]] for i in range(taps)], -1)

        def step(x):
            return nn.gelu(x) * valid[:, None, None, None]

        features = step(self.first(joined))
        features = step(self.space_mix(self.space(features)))
        features += step(self.middle_mix(self.middle(features)))
        features += step(self.last_mix(self.last(features)))
        weight = self.weight(nn.gelu(self.weight_hidden(features)))
        change = abs(video).max(-1, keepdims=True)
        count = self.config.signals
        return Signals(self.wave(features), weight[..., :count], weight[..., count:], change)

    @convolution.exact
    def spectra(
        self,
        signals: Signals,
        taper: Float[Array, "batch time"],
        seconds: Float[Array, "batch"],
        inside: Float[Array, "row"],
    ) -> Spectra:
        """The spectra of signals under a taper whose sum is 1; inside: as in `Spectra`."""
        basis = jnp.asarray(fourier_basis(self.clip, taper.shape[-1]))
        under = signals.wave * taper[:, :, None, None, None]
        wave = convolution.product(under, basis, (((1,), (0,)), ((), ())), compute=self.compute)
        weight, note = (jnp.einsum("bt,bt...->b...", taper, x) for x in (signals.weight, signals.note))
        change = (signals.change * (taper > 0)[:, :, None, None, None]).max(1)
        rows = jnp.broadcast_to(inside, (len(taper), len(inside)))
        return Spectra(wave, weight, note, change, seconds, rows)

    @convolution.exact
    def logits(self, spectra: Spectra) -> Float[Array, "batch row col class"]:
        """Logits of every cell. A cell that never changes gets "no pulse", whatever the layers give."""
        weight, wave = nn.sigmoid(spectra.weight) + 1e-3, spectra.wave
        inside = spectra.inside[:, :, None, None] * jnp.ones((1, 1, wave.shape[2], 1))
        features = nn.gelu(self.seen(wave, weight * inside))
        batch, rows, cols = features.shape[:3]
        seconds = jnp.broadcast_to(spectra.seconds[:, None, None, None], (batch, rows, cols, 1))
        told = jnp.concatenate([spectra.note, jnp.log(seconds / 10), weight], -1)
        features += nn.gelu(self.rates_first(features))
        (near,) = weighted_means(features, inside, self.config.reaches[:1])
        context = self.context(jnp.concatenate([_summary(features), _summary(near), told], -1))
        both = jnp.concatenate([features, near], -1)
        features = nn.gelu(self.rates_second(both) + context[..., None, :])
        rate = self.rate(features)[..., 0] + self.rate_bias
        asked = jnp.concatenate([_summary(features), context], -1)
        no_pulse = self.no_pulse(nn.gelu(self.no_pulse_hidden(asked)))
        rate = jnp.where(spectra.change > STILL, rate, no_pulse + np.log(STILL))
        return jnp.concatenate([rate, no_pulse], -1)


class Kernel(nn.Module):
    """A depthwise convolution with zero padding; its kernel is (taps, feature)."""

    shape: tuple[int, int, int]
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "batch time row col feature"]) -> Array:
        """Keeps the shape. Adds up shifted copies: one pass over memory on any backend."""
        time, height, width = self.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (time * height * width, x.shape[-1]))
        half = [(time // 2) * self.dilation, height // 2, width // 2]
        shifts = [(i * self.dilation, j, k) for i in range(time) for j in range(height) for k in range(width)]

        @jax.checkpoint  # the shifted copies are not kept for the gradient
        def convolve(x, kernel):
            padded = jnp.pad(x, [(0, 0), *((n, n) for n in half), (0, 0)])
            return reduce(
                jnp.add,
                (
                    weight * padded[:, t : t + x.shape[1], y : y + x.shape[2], z : z + x.shape[3]]
                    for (t, y, z), weight in zip(shifts, kernel, strict=True)
                ),
            )

        return convolve(x, kernel)


class Along(nn.Module):
    """A convolution along the rates with zero padding; its kernel is (taps x features in, features out)."""

    features: int
    taps: int
    compute: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch row col rate feature"]) -> Array:
        """The convolution and a bias: (batch, row, col, rate, feature)."""
        rates, channels = x.shape[-2:]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.taps * channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # cells as the rows of an image: on a CPU ten times as fast as one product with joined neighbours
        found = convolution.convolve(
            x.reshape(1, -1, rates, channels),
            kernel.reshape(1, self.taps, channels, self.features),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            compute=self.compute,
        )
        return found.reshape(*x.shape[:-1], self.features) + bias


class Compared(nn.Module):
    """What `compare` finds, through a dense layer; its kernel is (found, feature).

    One window alone goes through signal by signal: all at once take 100 MB for a frame of 30 x 40 cells, and
    a CPU waits for memory longer than it computes. The result is the same but for rounding.
    """

    features: int
    reaches: tuple[int, ...]
    compute: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        wave: Float[Array, "batch row col signal view part rate"],
        weight: Float[Array, "batch row col signal"],
    ) -> Float[Array, "batch row col rate feature"]:
        """The features of every rate."""
        batch, rows, cols, signals, views, _, rates = wave.shape
        order = _found_of_signals(signals, views, len(self.reaches))
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (order.size, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))

        def through(found, kernel):
            last = (((found.ndim - 1,), (0,)), ((), ()))
            return convolution.product(found, kernel, last, compute=self.compute)

        # recomputed for the gradient: it takes much memory but little work
        find = jax.checkpoint(partial(compare, reaches=self.reaches))
        if batch > 1:
            return through(find(wave, weight), kernel) + bias

        def add(total, one):
            wave, weight, part = one
            return total + through(find(wave[:, :, :, None], weight[..., None]), part), None

        each = jnp.moveaxis(wave, 3, 0), jnp.moveaxis(weight, 3, 0), kernel[order]
        # zeros that differ between devices, as `shard_map` wants it
        nothing = jnp.zeros((batch, rows, cols, rates, self.features)) * weight[..., :1, None]
        return lax.scan(add, nothing, each)[0] + bias


def _found_of_signals(signals: int, views: int, reaches: int) -> Int[np.ndarray, "signal found"]:
    """Where, in what `compare` finds, that of each signal stands."""
    kinds = [views] + [views, 1, 1] * reaches  # values a signal, in the order in which they are joined
    starts = np.cumsum([0, *(signals * count for count in kinds)])
    pieces = [
        start + np.arange(signals * count).reshape(signals, count)
        for start, count in zip(starts[:-1], kinds, strict=True)
    ]
    return np.concatenate(pieces, 1)


def compare(
    wave: Float[Array, "batch row col signal view part rate"],
    weight: Float[Array, "batch row col signal"],
    *,
    reaches: tuple[int, ...],
) -> Float[Array, "batch row col rate feature"]:
    """Features of every rate, from the spectra of every cell and of neighbourhoods of growing reach.

    They are the powers at the rate, twice and half of it; for neighbourhoods also the coherence of their
    cells, and how well they are in phase with the next smaller one.
    """
    power = (wave[..., 0, :, :] ** 2).sum(-2).mean(-1)
    wave = wave * jax.lax.rsqrt(power + 1e-9)[..., None, None, None]
    apart = weighted_means((wave[..., 0, :, :] ** 2).sum(-2), weight, reaches)
    batch, rows, cols, _, _, _, rates = wave.shape
    sums = [wave, *weighted_means(wave, weight, reaches)]
    seen = []
    for index, whole in enumerate(sums):
        power = (whole**2).sum(-2)
        level = power[..., 0, :]
        scaled = power / (level.mean(-1)[..., None, None] + 1e-6)
        seen.append(jnp.log(scaled + 1e-2).reshape(batch, rows, cols, -1, rates))
        if index:
            within = sums[index - 1][..., 0, :, :]
            dot = (within * whole[..., 0, :, :]).sum(-2)
            size = jnp.sqrt((within**2).sum(-2) * level + 1e-12)
            seen += [level / (apart[index - 1] + 1e-6), dot / size]
    return jnp.concatenate(seen, -2).swapaxes(-1, -2)


def weighted_means(
    values: Float[Array, "batch row col ..."],
    weight: Float[Array, "batch row col ..."],
    reaches: tuple[int, ...],
) -> list[Float[Array, "batch row col ..."]]:
    """The weighted mean of every cell's neighbourhood of every reach; `weight` is broadcast."""

    def spread(x):
        return x.reshape(*x.shape, *(1,) * (values.ndim - x.ndim))

    totals, weights = _sums(values * spread(weight), reaches), _sums(weight, reaches)
    # never 0 / 0: rows beyond the frame have no neighbours at all
    return [
        total / spread(jnp.maximum(weighed, 1e-30)) for total, weighed in zip(totals, weights, strict=True)
    ]


def _sums(
    values: Float[Array, "batch row col ..."], reaches: tuple[int, ...]
) -> list[Float[Array, "batch row col ..."]]:
    """The sum over every cell's neighbourhood of every reach."""
    batch, rows, cols = values.shape[:3]
    found = []
    for reach in reaches:
        down, across = (jnp.asarray(neighbourhood(n, reach)) for n in (rows, cols))
        if batch == 1:
            # plain matrix products, several times as fast on a CPU as what XLA makes of the einsum below
            rowwise = lax.map(partial(jnp.matmul, across), values.reshape(rows, cols, -1))
            found.append((down @ rowwise.reshape(rows, -1)).reshape(values.shape))
        else:
            found.append(jnp.einsum("ij,bj...->bi...", down, jnp.einsum("ij,brj...->bri...", across, values)))
    return found


def _summary(features: jax.Array) -> jax.Array:
    return jnp.concatenate([features.mean(-2), features.max(-2)], -1)


def neighbourhood(cells: int, reach: int) -> Float[np.ndarray, "cell cell"]:
    """Weights of the cells around each cell along one axis: a raised cosine that is 0 at `reach` cells."""
    away = abs(np.arange(cells)[:, None] - np.arange(cells))
    return np.where(away < reach, 0.5 + 0.5 * np.cos(np.pi * away / reach), 0).astype(np.float32)
