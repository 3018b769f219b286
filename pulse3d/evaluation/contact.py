"""The pulse rate of a contact pulse wave, per window or for a whole recording.

Also measures of a pulse signal that need its spectrum. Rates are in bpm.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy  # scipy.signal, which takes a second, is imported when it is first used
from jaxtyping import Float

from pulse3d.errors import InputError
from pulse3d.evaluation.metrics import Windows
from pulse3d.mapping.classical import detrend
from pulse3d.reading import beats
from pulse3d.reading.amplitude import HALF_WIDTH_BPM, HIGH_BPM, LOW_BPM

Signal = Float[np.ndarray, "time"]

BIN_BPM = 0.1  # bins of the zero-padded spectra: the resolution of rates
REFERENCE_FPS = 30.0  # the contact pulse is resampled to this before its spectrum
MAX_GAP_S = 0.25  # gaps in a reference pulse from this length on are not interpolated


def snr_db(signal: Signal, fps: float, rate_bpm: float) -> float:
    """Signal-to-noise ratio of a pulse signal in dB, given its true rate f.

        SNR = 10 log10( sum_{|v-f| <= 6 or |v-2f| <= 6} P(v) / sum_{other v in 36...198} P(v) )

    P is the power spectrum of the signal minus its mean, under a Hann window, zero-padded to
    bins of 0.1 bpm or less; v in bpm. The harmonic counts even above 198 bpm. nan for a nan
    rate; -inf for a signal without power near f and 2f.
    Source: de Haan and Jeanne, IEEE Trans. Biomed. Eng. 60(10), 2013, Eq. 20; the bounds
    are the usual ones of the field.
    """
    if not np.isfinite(rate_bpm):
        return np.nan
    axis, power = power_spectrum(signal, fps)
    near = (abs(axis - rate_bpm) <= HALF_WIDTH_BPM) | (abs(axis - 2 * rate_bpm) <= HALF_WIDTH_BPM)
    rest = (axis >= LOW_BPM) & (axis <= HIGH_BPM) & ~near
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
    """The rate in low_bpm...high_bpm at which `power_spectrum` is largest; nan without power."""
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


def beat_times(pulse: Signal, fps: float) -> Float[np.ndarray, "beat"]:
    """The times in s of the beats in a window of a contact pulse wave, by `beats.beat_times` at its rate."""
    return beats.beat_times(pulse, fps, rate_bpm=reference_rate(pulse, fps))


def counted_rate(pulse: Signal, fps: float) -> float:
    """The pulse rate in bpm from the beats in a window of a contact pulse wave, by `beats.beat_rate`.

    If the heart rate varies within a window, its spectrum has several peaks and the highest changes between
    windows; the beats can still be counted.
    """
    return beats.beat_rate(beat_times(pulse, fps))


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
    """Applies `measure` (pulse, fps) to a contact pulse in every window around `centre_s`; in bpm.

    time_s: times of the samples, ascending and not necessarily even; they are resampled to 30 Hz by
    linear interpolation. nan where a quarter of a second or more of the window has no sample.
    """
    rates = np.full(len(centre_s), np.nan)
    for index, start in enumerate(centre_s - length_s / 2):
        inside = time_s[(time_s >= start) & (time_s <= start + length_s)]
        if np.diff([start, *inside, start + length_s]).max() < MAX_GAP_S:
            grid = start + np.arange(round(length_s * REFERENCE_FPS)) / REFERENCE_FPS
            rates[index] = measure(np.interp(grid, time_s, pulse), REFERENCE_FPS)
    return rates


def device_rates(
    rate_bpm: Float[np.ndarray, "sample"],
    time_s: Float[np.ndarray, "sample"],
    centre_s: Windows,
    *,
    length_s: float,
) -> Windows:
    """Mean of a device's own rate in every window of `length_s` around `centre_s`, in bpm.

    nan samples are left out; the mean is nan if they are more than half of a window, or nothing is left.
    """
    means = np.full(len(centre_s), np.nan)
    for index, centre in enumerate(centre_s):
        values = rate_bpm[abs(time_s - centre) <= length_s / 2]
        sane = values[np.isfinite(values)]
        if len(sane) and 2 * len(sane) >= len(values):
            means[index] = sane.mean()
    return means


def toolbox_rate(signal: Signal, fps: float, *, low_hz: float = 0.6, high_hz: float = 3.3) -> float:
    """The rate in bpm of a whole recording's pulse signal, computed as in rPPG-Toolbox.

    `detrend` with lambda = 100, band-pass low...high (Butterworth of order 1, forwards and
    backwards), periodogram zero-padded to the next power of two, largest bin in low...high.
    Bins are 60 fps / 2^k bpm wide (0.9 bpm for a minute at 30 fps), without interpolation.
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
