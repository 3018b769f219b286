"""How well answered pulse rates agree with the truth, each measure with its formula.

p is an answer, g its truth, both in bpm, one per window; means run over windows. A nan truth is
a window that has none and is left out everywhere. A nan answer is "no pulse": it is left out of
the errors and counts as a miss in `within`, so errors are to be read beside `answered`. A measure
of nothing is nan.

Also here: the reference rate of a contact pulse wave, and the windows in which it is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.signal
import scipy.sparse.linalg
from jaxtyping import Bool, Float

from pulse3d.errors import InputError

Windows = Float[np.ndarray, "window"]
Signal = Float[np.ndarray, "time"]

BIN_BPM = 0.1  # bins of the zero-padded spectra; a rate is read off to this
REFERENCE_FPS = 30.0  # the contact pulse is resampled to this before its spectrum
FEWEST_RECORDINGS = 5  # whose spread says anything about others
MAX_GAP_S = 0.25  # the longest hole in a reference pulse that is bridged


def answered(truth: Windows, answer: Windows) -> float:
    """Share of the windows with a truth that have an answer, 0...1."""
    return _mean(np.isfinite(answer[np.isfinite(truth)]))


def mae(truth: Windows, answer: Windows) -> float:
    """Mean absolute error in bpm over answered windows: mean |p - g|."""
    g, p = _pairs(truth, answer)
    return _mean(abs(p - g))


def rmse(truth: Windows, answer: Windows) -> float:
    """Root mean square error in bpm over answered windows: sqrt(mean (p - g)^2)."""
    g, p = _pairs(truth, answer)
    return float(np.sqrt(_mean((p - g) ** 2)))


def mape(truth: Windows, answer: Windows) -> float:
    """Mean absolute percentage error over answered windows: 100 mean(|p - g| / g), in percent."""
    g, p = _pairs(truth, answer)
    return 100 * _mean(abs(p - g) / g)


def pearson(truth: Windows, answer: Windows) -> float:
    """Pearson correlation over answered windows, -1...1; nan where either does not vary.

    r = sum (g - mean g)(p - mean p) / sqrt(sum (g - mean g)^2 sum (p - mean p)^2)
    """
    g, p = _pairs(truth, answer)
    if len(g) < 2 or np.ptp(g) == 0 or np.ptp(p) == 0:
        return np.nan
    return float(np.corrcoef(g, p)[0, 1])


def within(truth: Windows, answer: Windows, *, tolerance_bpm: float = 5.0) -> float:
    """Share of the windows with a truth answered with |p - g| <= tolerance; no answer is a miss."""
    g, p = truth[np.isfinite(truth)], answer[np.isfinite(truth)]
    return _mean(abs(p - g) <= tolerance_bpm)


def coverage(truth: Windows, low: Windows, high: Windows) -> float:
    """Share of the answered windows whose interval holds the truth: mean [low <= g <= high].

    low, high: the bounds in bpm, nan where there is no answer. For a calibrated 90 % interval 0.9.
    """
    held = np.isfinite(truth) & np.isfinite(low) & np.isfinite(high)
    return _mean((low[held] <= truth[held]) & (truth[held] <= high[held]))


def mae_over_recordings(truth: Windows, answer: Windows, recording: np.ndarray) -> float:
    """The mean over recordings of each recording's MAE, in bpm: all recordings weigh the same.

    recording: the recording of every window, (window,), of any type. Recordings without an
    answered window are left out.
    """
    return _mean(_recording_mae(truth, answer, recording))


def mae_interval(
    truth: Windows, answer: Windows, recording: np.ndarray, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % bootstrap interval (low, high) of `mae_over_recordings`, in bpm.

    Windows of one recording are alike, so whole recordings are drawn with replacement, as many
    as there are, and the mean of their MAEs is taken; the bounds are the 2.5 % and 97.5 %
    points of `draws` such means. recording: the recording of every window, (window,), of any
    type. (nan, nan) for fewer than FEWEST_RECORDINGS with an answered window.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    errors = _recording_mae(truth, answer, recording)
    if len(errors) < FEWEST_RECORDINGS:
        return np.nan, np.nan
    drawn = np.random.default_rng(seed).integers(len(errors), size=(draws, len(errors)))
    low, high = np.percentile(errors[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)


def rmse_over_recordings(truth: Windows, answer: Windows, recording: np.ndarray) -> float:
    """Root mean square over recordings of (mean answer - mean truth), in bpm.

    Means run over the answered windows of a recording; recordings without one are left out.
    recording: the recording of every window, (window,), of any type.
    Source: Bousefsaf et al. 2019, whose results are one rate per video.
    """
    difference, count = _recording_sums(truth, answer, recording, answer - truth)
    return float(np.sqrt(_mean((difference / count) ** 2)))


class BlandAltman(NamedTuple):
    """Agreement of two measurements: a point per answered window, the bias and its limits, in bpm."""

    mean_bpm: Windows
    difference_bpm: Windows
    bias_bpm: float
    low_bpm: float
    high_bpm: float


def bland_altman(truth: Windows, answer: Windows) -> BlandAltman:
    """Points x = (p + g) / 2, y = p - g; bias = mean y; limits of agreement = bias -+ 1.96 SD(y).

    SD is the sample's (n - 1); the limits are nan for fewer than two answered windows.
    Source: Bland and Altman, Lancet 327, 1986.
    """
    g, p = _pairs(truth, answer)
    difference = p - g
    bias = _mean(difference)
    spread = 1.96 * float(difference.std(ddof=1)) if len(difference) > 1 else np.nan
    return BlandAltman((p + g) / 2, difference, bias, bias - spread, bias + spread)


class Reliability(NamedTuple):
    """Stated confidence against what came true, per bin of confidence; nan in empty bins.

    windows: how many per bin. error: the expected calibration error, 0...1.
    """

    confidence: Float[np.ndarray, "bin"]
    accuracy: Float[np.ndarray, "bin"]
    windows: np.ndarray
    error: float


def reliability(confidence: Windows, correct: Bool[np.ndarray, "window"], *, bins: int = 10) -> Reliability:
    """The reliability curve over equal bins of confidence, and the expected calibration error.

        ECE = sum_b n_b / n |accuracy_b - confidence_b|

    n_b windows fall in bin b, with mean confidence_b and share accuracy_b of correct ones.
    confidence: 0...1, nan where there is no answer (left out). correct: for instance
    |p - g| <= 5 bpm.
    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, Eq. 3.
    """
    held = np.isfinite(confidence)
    stated, right = confidence[held], correct[held]
    index = np.minimum((stated * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = np.where(count, count, np.nan)
    mean_confidence = np.bincount(index, weights=stated, minlength=bins) / filled
    accuracy = np.bincount(index, weights=right, minlength=bins) / filled
    gaps = np.nan_to_num(abs(accuracy - mean_confidence))
    error = float(count @ gaps / count.sum()) if count.sum() else np.nan
    return Reliability(mean_confidence, accuracy, count, error)


def roc_area(positive: Float[np.ndarray, "positive"], negative: Float[np.ndarray, "negative"]) -> float:
    """The probability that a score of a positive exceeds one of a negative, ties counting a half.

        A = (R - n (n + 1) / 2) / (n m)

    R is the sum of the ranks of the n positives among all n + m; equal scores share their mean rank. nan
    where there are no positives or no negatives.
    Source: Hanley and McNeil, Radiology 143, 1982.
    """
    n, m = len(positive), len(negative)
    if not n or not m:
        return np.nan
    both = np.concatenate([positive, negative])
    _, index, count = np.unique(both, return_inverse=True, return_counts=True)
    rank = (count.cumsum() - (count - 1) / 2)[index]
    return float((rank[:n].sum() - n * (n + 1) / 2) / (n * m))


def threshold(negative: Float[np.ndarray, "negative"], share: float) -> float:
    """The lowest of the negatives' scores that at most `share` of them, 0...1, exceed; nan for none."""
    number = len(negative)
    return float(np.sort(negative)[number - 1 - int(share * number)]) if number else np.nan


def snr_db(
    signal: Signal,
    fps: float,
    rate_bpm: float,
    *,
    half_width_bpm: float = 6.0,
    low_bpm: float = 36.0,
    high_bpm: float = 198.0,
) -> float:
    """Signal-to-noise ratio of a pulse signal in dB, its true rate f being known.

        SNR = 10 log10( sum_{|v-f| <= 6 or |v-2f| <= 6} P(v) / sum_{other v in 36...198} P(v) )

    P is the power spectrum of the signal minus its mean, under a Hann window, zero-padded to
    bins of 0.1 bpm or less; v in bpm. The harmonic counts even above 198 bpm. nan for a nan
    rate; -inf for a signal without power near f and 2f.
    Source: de Haan and Jeanne, IEEE Trans. Biomed. Eng. 60(10), 2013, Eq. 20; the bounds
    are the field's custom.
    """
    if not np.isfinite(rate_bpm):
        return np.nan
    axis, power = power_spectrum(signal, fps)
    near = (abs(axis - rate_bpm) <= half_width_bpm) | (abs(axis - 2 * rate_bpm) <= half_width_bpm)
    rest = (axis >= low_bpm) & (axis <= high_bpm) & ~near
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(power[near].sum() / power[rest].sum()))


def power_spectrum(signal: Signal, fps: float) -> tuple[Float[np.ndarray, "rate"], Float[np.ndarray, "rate"]]:
    """Rates in bpm from 0 to Nyquist, and the power |FFT(Hann x (signal - mean))|^2 at them.

    Zero-padded to bins of 0.1 bpm or less.
    """
    length = max(len(signal), int(np.ceil(60 * fps / BIN_BPM)))
    tapered = (signal - signal.mean()) * np.hanning(len(signal))
    return np.fft.rfftfreq(length, 1 / fps) * 60, abs(np.fft.rfft(tapered, length)) ** 2


def spectral_peak(signal: Signal, fps: float, *, low_bpm: float, high_bpm: float) -> float:
    """The rate in low_bpm...high_bpm at which `power_spectrum` is largest; nan for no power at all."""
    axis, power = power_spectrum(signal, fps)
    band = (axis >= low_bpm) & (axis <= high_bpm)
    if not power[band].any():
        return np.nan
    return float(axis[band][power[band].argmax()])


def reference_rate(pulse: Signal, fps: float) -> float:
    """The pulse rate in bpm of one window of a contact pulse wave; nan for a flat one.

    Band-pass 0.7-3.5 Hz (Butterworth of order 3, forwards and backwards), then the spectral
    peak in 42...210 bpm (Hann, bins of 0.1 bpm). Raises InputError for a window that is too
    short to filter (about a second), or sampled too slowly.
    """
    if fps <= 7:
        raise InputError(
            f"reference pulse at {fps:g} Hz: too slow for a band-pass up to 3.5 Hz; give over 7 Hz"
        )
    if len(pulse) < fps:
        raise InputError(
            f"reference pulse of {len(pulse) / fps:.2f} s: too short; give windows of 1 s or more"
        )
    if np.ptp(pulse) == 0:
        return np.nan
    sections = scipy.signal.butter(3, (0.7, 3.5), "bandpass", fs=fps, output="sos")
    filtered = scipy.signal.sosfiltfilt(sections, pulse - pulse.mean())
    return spectral_peak(filtered, fps, low_bpm=42.0, high_bpm=210.0)


def window_centres(start_s: float, end_s: float, *, length_s: float, step_s: float) -> Windows:
    """Centres in seconds of all windows of `length_s` every `step_s` that lie within start...end."""
    if not (length_s > 0 and step_s > 0):
        raise InputError(f"windows of {length_s:g} s every {step_s:g} s: both must be positive")
    count = max(0, int(np.floor((end_s - start_s - length_s) / step_s + 1e-6)) + 1)
    return start_s + length_s / 2 + step_s * np.arange(count)


def window_rates(
    measure: Callable[[Signal, float], float],
    pulse: Float[np.ndarray, "sample"],
    time_s: Float[np.ndarray, "sample"],
    centre_s: Windows,
    *,
    length_s: float,
) -> Windows:
    """What `measure` (pulse, fps) makes of a contact pulse in every window around `centre_s`, in bpm.

    time_s: the pulse's own clock, ascending and not necessarily even; it is brought to 30 Hz by
    linear interpolation. nan where a quarter of a second or more of the window has no sample.
    """
    rates = np.full(len(centre_s), np.nan)
    for index, start in enumerate(centre_s - length_s / 2):
        inside = time_s[(time_s >= start) & (time_s <= start + length_s)]
        if np.diff([start, *inside, start + length_s]).max() < MAX_GAP_S:
            grid = start + np.arange(round(length_s * REFERENCE_FPS)) / REFERENCE_FPS
            rates[index] = measure(np.interp(grid, time_s, pulse), REFERENCE_FPS)
    return rates


def reference_rates(
    pulse: Float[np.ndarray, "sample"],
    time_s: Float[np.ndarray, "sample"],
    centre_s: Windows,
    *,
    length_s: float,
) -> Windows:
    """`reference_rate` in every window of `length_s` around `centre_s`, by `window_rates`."""
    return window_rates(reference_rate, pulse, time_s, centre_s, length_s=length_s)


def device_rates(
    rate_bpm: Float[np.ndarray, "sample"],
    time_s: Float[np.ndarray, "sample"],
    centre_s: Windows,
    *,
    length_s: float,
) -> Windows:
    """Mean of a device's own rate in every window of `length_s` around `centre_s`, in bpm.

    Samples of nan are left out; nan where they are more than half of a window, or all there are.
    """
    means = np.full(len(centre_s), np.nan)
    for index, centre in enumerate(centre_s):
        values = rate_bpm[abs(time_s - centre) <= length_s / 2]
        sane = values[np.isfinite(values)]
        if len(sane) and 2 * len(sane) >= len(values):
            means[index] = sane.mean()
    return means


def toolbox_rate(signal: Signal, fps: float, *, low_hz: float = 0.6, high_hz: float = 3.3) -> float:
    """The rate in bpm of a whole recording's pulse signal as rPPG-Toolbox takes it.

    `detrend` with lambda = 100, band-pass low...high (Butterworth of order 1, forwards and
    backwards), periodogram zero-padded to the next power of two, largest bin in low...high.
    Bins are 60 fps / 2^k bpm wide (0.9 bpm for a minute at 30 fps), nothing finer is read off.
    nan for a flat signal. Raises InputError for a signal that is too short to filter, or sampled too slowly.
    Source: Liu et al., rPPG-Toolbox, NeurIPS 2023, its FFT evaluation of the whole video.
    """
    if fps <= 2 * high_hz:
        raise InputError(f"signal at {fps:g} Hz: too slow for a band-pass up to {high_hz:g} Hz")
    if len(signal) < fps:
        raise InputError(f"signal of {len(signal) / fps:.2f} s: too short; give 1 s or more")
    if np.ptp(signal) == 0:
        return np.nan
    b, a = scipy.signal.butter(1, (low_hz, high_hz), "bandpass", fs=fps)
    filtered = scipy.signal.filtfilt(b, a, detrend(signal, smoothness=100.0))
    length = 1 << (len(filtered) - 1).bit_length()
    axis_hz, power = scipy.signal.periodogram(filtered, fps, nfft=length, detrend=False)
    band = (axis_hz >= low_hz) & (axis_hz <= high_hz)
    return float(60 * axis_hz[band][power[band].argmax()])


def detrend(
    signal: Float[np.ndarray, "time *column"], *, smoothness: float
) -> Float[np.ndarray, "time *column"]:
    """The signal, or each of several, minus its smooth trend, (I - (I + lambda^2 D'D)^-1) z.

    D takes second differences. smoothness: lambda; a straight line is removed whatever it is. Takes three
    samples or more.
    Source: Tarvainen et al., IEEE Trans. Biomed. Eng. 49(2), 2002.
    """
    frames = len(signal)
    second = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(frames - 2, frames))
    system = scipy.sparse.eye_array(frames) + smoothness**2 * (second.T @ second)
    return signal - scipy.sparse.linalg.spsolve(system.tocsc(), signal)


def _recording_mae(truth: Windows, answer: Windows, recording: np.ndarray) -> np.ndarray:
    """The MAE of every recording with an answered window."""
    error, count = _recording_sums(truth, answer, recording, abs(answer - truth))
    return error / count


def _recording_sums(
    truth: Windows, answer: Windows, recording: np.ndarray, values: Windows
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values, and number, of the answered windows of every recording that has one."""
    held = np.isfinite(truth) & np.isfinite(answer)
    index = np.unique(recording[held], return_inverse=True)[1]
    return np.bincount(index, weights=values[held]), np.bincount(index)


def _pairs(truth: Windows, answer: Windows) -> tuple[np.ndarray, np.ndarray]:
    held = np.isfinite(truth) & np.isfinite(answer)
    return truth[held], answer[held]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan
