"""GREEN, CHROM and POS: the pulse from colour alone, for one trace or for every place of a map.

A trace is (time, 3): the mean red, green and blue of some skin in every frame, in any scale. A
method turns it into a pulse signal (time,) that rises with blood volume, in relative units:
0.01 is a colour change of about 1 %. Functions of a trace are unbatched (use `jax.vmap`) and
can be jitted with `fps` and `method` static.

A map is (row, col, class) probabilities, "no pulse" last, as those of networks; the same read-outs take it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # scipy.signal, which takes a second, is imported when it is first used
import scipy.sparse.linalg
from jax import lax
from jaxtyping import Array, Bool, Float, Shaped

from pulse3d.config import ClipConfig
from pulse3d.errors import InputError
from pulse3d.mapping.spread import spread_evenly

Trace = Float[Array | np.ndarray, "time 3"]
Signal = Float[Array | np.ndarray, "time"]
Axis = Float[Array | np.ndarray, "rate"]
Traces = Float[Array | np.ndarray, "time row col 3"]
Image = Shaped[Array | np.ndarray, "height width 3"]

WINDOW_S = 1.6  # CHROM and POS normalise colours in windows of this length
BAND_BPM = (36.0, 198.0)  # half-power points of the band-pass before a spectrum
SMOOTHNESS = 100.0  # lambda of the detrending of a signal at 30 fps
STILL = 1e-6  # a trace that changes by less than this share of itself is a still picture
ROUNDED = 1e-5  # of the trace's changes: a smaller signal is of rounding errors


def green(trace: Trace, *, fps: float) -> Float[Array, "time"]:
    """The green channel, which blood absorbs most: 1 - G / mean(G).

    Source: Verkruysse, Svaasand and Nelson, Optics Express 16(26), 2008.
    """
    del fps
    return -_relative(jnp.asarray(trace))[:, 1]


def chrom(trace: Trace, *, fps: float) -> Float[Array, "time"]:
    """A pulse signal from two colour differences, combined so that brightness changes cancel.

        X = 3 R - 2 G,  Y = 1.5 R + G - 1.5 B,  S = X' - (sd(X') / sd(Y')) Y'

    R, G, B are divided by their mean over windows of 1.6 s; ' means a band-pass of 40-240 bpm
    (Butterworth of order 3, forwards and backwards). Windows overlap by half, are multiplied
    by a Hann window and added; the trace is mirrored at its ends to complete the windows there.
    Raises InputError for traces below 1.6 s or 8 fps.
    Source: de Haan and Jeanne, IEEE Trans. Biomed. Eng. 60(10), 2013, section II.
    """
    frames, half = trace.shape[0], round(WINDOW_S * fps / 2)
    length = 2 * half
    _require_trace(frames, length, fps)
    windows = -(-frames // half) + 1
    padding = ((half, windows * half - frames), (0, 0))
    index = half * np.arange(windows)[:, None] + np.arange(length)
    colour = jax.vmap(_relative)(jnp.pad(jnp.asarray(trace), padding, mode="reflect")[index])
    bandpass = jnp.asarray(_bandpass(length, fps), colour.dtype)
    x = (3 * colour[..., 0] - 2 * colour[..., 1]) @ bandpass.T
    y = (1.5 * colour[..., 0] + colour[..., 1] - 1.5 * colour[..., 2]) @ bandpass.T
    pieces = (x - _ratio(x, y) * y) * scipy.signal.windows.hann(length, sym=False)
    return _overlap_add(pieces, index, (windows + 1) * half)[half : half + frames]


def pos(trace: Trace, *, fps: float) -> Float[Array, "time"]:
    """A pulse signal in the plane orthogonal to the skin tone, where brightness changes vanish.

        X = G - B,  Y = G + B - 2 R,  S = -(X + (sd(X) / sd(Y)) Y)

    R, G, B are divided by their mean over a window of 1.6 s; S minus its mean is summed over
    windows that start at every frame, and divided by the window length. (The source has the
    opposite sign, which follows the brightness.) Raises InputError for traces below 1.6 s or
    8 fps.
    Source: Wang, den Brinker, Stuijk and de Haan, IEEE Trans. Biomed. Eng. 64(7), 2017, Alg. 1.
    """
    frames, length = trace.shape[0], round(WINDOW_S * fps)
    _require_trace(frames, length, fps)
    index = np.arange(frames - length + 1)[:, None] + np.arange(length)
    colour = jax.vmap(_relative)(jnp.asarray(trace)[index])
    x = colour[..., 1] - colour[..., 2]
    y = colour[..., 1] + colour[..., 2] - 2 * colour[..., 0]
    pieces = -(x + _ratio(x, y) * y)
    return _overlap_add((pieces - pieces.mean(-1, keepdims=True)) / length, index, frames)


METHODS = {"green": green, "chrom": chrom, "pos": pos}


def spectrum_probability(signal: Signal, fps: float, rate_axis_bpm: Axis) -> Float[Array, "rate"]:
    """A signal's power spectrum at the rates of the axis, normalised to a sum of 1.

        P(f) = B(f)^2 |sum_t w(t) x(t) exp(-2 pi i f t / 60)|^2
        B(f) = 1 / (1 + ((f^2 - l h) / (f (h - l)))^2)

    x is the signal minus its smooth trend, `detrend` with a smoothness of 100 at 30 fps, w a Hann
    window. The sum is evaluated at the rates themselves, without bins or zero-padding. B is the usual
    band-pass of the field, Butterworth of order 1, l = 36 to h = 198 bpm, forwards and backwards. Without
    detrending and band-pass, slow drifts outweigh the pulse. Uniform for a signal without power.
    Source of both: Liu et al., rPPG-Toolbox, NeurIPS 2023.
    """
    waves = _waves(signal.shape[0], float(fps), tuple(np.asarray(rate_axis_bpm, float).tolist()))
    signal = jnp.asarray(signal) - signal.mean()
    # Scaled, because the square of a small signal underflows in float32.
    signal /= jnp.maximum(abs(signal).max(), jnp.finfo(signal.dtype).tiny)
    power = ((signal @ waves) ** 2).reshape(2, -1).sum(0)
    power *= _band_response(np.asarray(rate_axis_bpm)) ** 2
    return jnp.where(power.sum() > 0, _divide(power, power.sum()), 1 / power.size)


def detrend(
    signal: Float[np.ndarray, "time *column"], *, smoothness: float
) -> Float[np.ndarray, "time *column"]:
    """Removes the smooth trend of a signal, or of every column: (I - (I + lambda^2 D'D)^-1) z.

    D takes second differences. smoothness: lambda; a straight line is removed for any value. Needs three
    samples or more.
    Source: Tarvainen et al., IEEE Trans. Biomed. Eng. 49(2), 2002.
    """
    frames = len(signal)
    second = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(frames - 2, frames))
    system = scipy.sparse.eye_array(frames) + smoothness**2 * (second.T @ second)
    return signal - scipy.sparse.linalg.spsolve(system.tocsc(), signal)


@cache
def _waves(frames: int, fps: float, rates_bpm: tuple[float, ...]) -> Float[np.ndarray, "time wave"]:
    """Cosines, then sines, of all rates under a Hann window, detrended.

    Detrending is a symmetric matrix: applied to the waves, it detrends every signal multiplied by them.
    """
    time_s = (np.arange(frames) - (frames - 1) / 2) / fps
    angle = 2 * np.pi / 60 * np.outer(time_s, rates_bpm)
    waves = np.hanning(frames)[:, None] * np.concatenate([np.cos(angle), np.sin(angle)], 1)
    return detrend(waves, smoothness=SMOOTHNESS * (fps / 30) ** 2).astype(np.float32)


def no_pulse_probability(spectrum: Axis, duration_s: float, rate_axis_bpm: Axis) -> Float[Array, ""]:
    """The probability that white noise has a peak as high as a normalised spectrum: 0...1.

        min(1, 1.2 T W (1 - g)^(n - 1)),  n = T W / 1.5 + 1,  g = max P / (n mean P)

    Fisher's g test on the spectrum P with its band-pass divided out, so that white noise is
    flat. T is the window's length and W the width of the axis: a Hann window leaves n
    independent powers, and the peak is the highest of about 1.2 T W values. Both numbers come
    from simulation: for p above 0.02 they are right within a quarter in windows of 10 s, and
    within a factor of two in 5-30 s. The result is a p-value, used as the probability of "no
    pulse": small for any peaked spectrum, whether from a pulse, motion, drift or a flickering
    lamp, which a spectrum alone cannot tell apart.
    Source: Fisher, Proc. R. Soc. A 125, 1929.
    """
    width = duration_s * (rate_axis_bpm[-1] - rate_axis_bpm[0]) / 60
    powers = width / 1.5 + 1
    flat = spectrum / _band_response(np.asarray(rate_axis_bpm)) ** 2
    peak = jnp.minimum(jnp.max(flat) / jnp.mean(flat) / powers, 1.0)
    return jnp.minimum(1.2 * width * (1 - peak) ** (powers - 1), 1.0)


def is_still(trace: Trace, signal: Signal) -> Bool[Array, ""]:
    """Whether a method's signal of a trace is none: of a still picture, or of grey ones for CHROM and POS."""
    changes = jnp.abs(_relative(jnp.asarray(trace))).max()
    return (jnp.ptp(jnp.asarray(trace), axis=0).max() <= STILL * jnp.max(trace)) | (
        jnp.abs(signal).max() <= ROUNDED * changes
    )


def trace_probability(trace: Trace, clip: ClipConfig, method: str) -> Float[Array, "class"]:
    """The probability of every class of `clip`, for one trace at `clip.fps`.

    What `no_pulse_probability` leaves is distributed over the rates by `spectrum_probability`.
    For a constant trace, as of a still picture, and a signal of rounding errors, as of a grey video,
    "no pulse" has probability 1. Raises InputError for an unknown method.
    """
    if method not in METHODS:
        raise InputError(f"method {method}: unknown; choose {', '.join(METHODS)}")
    axis, signal = clip.rate_axis_bpm, METHODS[method](trace, fps=clip.fps)
    spectrum = spectrum_probability(signal, clip.fps, axis)
    no_pulse = jnp.where(
        is_still(trace, signal), 1.0, no_pulse_probability(spectrum, trace.shape[0] / clip.fps, axis)
    )
    return jnp.append((1 - no_pulse) * spectrum, no_pulse)


@partial(jax.jit, static_argnames=("clip", "method", "batch_size"))
def map_traces(
    traces: Traces, clip: ClipConfig, method: str, *, batch_size: int = 256
) -> Float[Array, "row col class"]:
    """The map of a window from the traces of its places: `trace_probability` of each.

    Takes `batch_size` traces at a time, which bounds the memory and changes nothing else.
    """
    flat = jnp.moveaxis(traces, 0, 2).reshape(-1, traces.shape[0], 3)
    maps = _map_each(flat, clip, method, batch_size=batch_size)
    return maps.reshape(*traces.shape[1:3], -1)


@partial(jax.jit, static_argnames=("clip", "method"))
def skin_evidence(traces: Traces, clip: ClipConfig, method: str) -> Float[Array, "rate"]:
    """The evidence of a window for every rate, from one trace: the mean of places with a colour like skin.

    It is the `trace_probability` of that trace, as the methods are used in the field. Without any skin,
    the mean is over all places.
    """
    colour = jnp.asarray(traces)
    skin = skin_mask(colour.mean(0))
    weight = jnp.where(skin.any(), skin, True)
    trace = jnp.einsum("trcx,rc->tx", colour, weight / weight.sum())
    return trace_probability(trace, clip, method)[:-1]


@lru_cache(maxsize=8)
def make_mapper(
    clip: ClipConfig, method: str, devices: tuple[jax.Device, ...]
) -> Callable[[Traces], Float[np.ndarray, "row col class"]]:
    """`map_traces` with the places spread over devices; the same one for the same arguments."""
    run = spread_evenly(lambda _, traces: _map_each(traces, clip, method), list(devices))

    def mapper(traces: Traces) -> Float[np.ndarray, "row col class"]:
        flat = np.moveaxis(np.asarray(traces), 0, 2).reshape(-1, traces.shape[0], 3)
        return run({}, flat).reshape(*traces.shape[1:3], -1)

    return mapper


def _map_each(
    traces: Float[Array, "place time 3"], clip: ClipConfig, method: str, *, batch_size: int = 256
) -> Float[Array, "place class"]:
    """The probability of every trace, so many at a time."""
    return lax.map(lambda trace: trace_probability(trace, clip, method), traces, batch_size=batch_size)


def skin_mask(image: Image) -> Bool[Array, "height width"]:
    """Which pixels have the colour of skin: 77 <= Cb <= 127 and 133 <= Cr <= 173.

    image: RGB, uint8 or float 0...1; Cb and Cr are those of BT.601, full range. A rule of thumb
    for all skin tones in white light; wood and sand pass it too, skin in coloured light may not.
    Source: Chai and Ngan, IEEE Trans. Circuits Syst. Video Technol. 9(4), 1999.
    """
    rgb = jnp.asarray(image)
    rgb = rgb.astype(jnp.float32) if rgb.dtype == jnp.uint8 else 255 * rgb
    # Per channel instead of as a matrix product: several times faster.
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    cb = 128 - 0.168736 * red - 0.331264 * green + 0.5 * blue
    cr = 128 + 0.5 * red - 0.418688 * green - 0.081312 * blue
    return (cb >= 77) & (cb <= 127) & (cr >= 133) & (cr <= 173)


def _relative(colour: Float[Array, "time 3"]) -> Float[Array, "time 3"]:
    """Every channel divided by its mean, minus 1; 0 for a black channel."""
    mean = colour.mean(0)
    return _divide(colour - mean, mean)


def _ratio(x: Float[Array, "window time"], y: Float[Array, "window time"]) -> Float[Array, "window 1"]:
    """sd(x) / sd(y) of every window; 0 where y does not vary."""
    return _divide(x.std(-1, keepdims=True), y.std(-1, keepdims=True))


def _divide(over: jax.Array, under: jax.Array) -> jax.Array:
    """over / under; 0 where under is 0."""
    return jnp.where(under > 0, over / jnp.where(under > 0, under, 1), 0)


def _overlap_add(pieces: Float[Array, "window time"], index: np.ndarray, length: int) -> Float[Array, "out"]:
    return jnp.zeros(length, pieces.dtype).at[index].add(pieces)


def _band_response(rate_bpm: np.ndarray) -> np.ndarray:
    """The power response B of a Butterworth band-pass of order 1."""
    low, high = BAND_BPM
    return 1 / (1 + ((rate_bpm**2 - low * high) / (rate_bpm * (high - low))) ** 2)


def _bandpass(frames: int, fps: float) -> np.ndarray:
    """CHROM's band-pass as a matrix (frames, frames), for windows of that length."""
    sections = scipy.signal.butter(3, (40 / 60, 240 / 60), "bandpass", fs=fps, output="sos")
    padding = min(3 * (2 * len(sections) + 1), frames - 1)
    return scipy.signal.sosfiltfilt(sections, np.eye(frames), axis=0, padlen=padding)


def _require_trace(frames: int, length: int, fps: float) -> None:
    if fps <= 8:
        raise InputError(f"trace at {fps:g} fps: too slow for rates up to 240 bpm; give over 8 fps")
    if frames < length:
        raise InputError(f"trace of {frames} frames: too short; CHROM and POS need {length} ({WINDOW_S} s)")
