"""The pulse rate from counted beats, beside `contact.reference_rate`, the peak of the spectrum.

If the heart rate varies within a window, its spectrum has several peaks and the highest changes
between windows; the beats can still be counted.
"""

from __future__ import annotations

import numpy as np
import scipy.signal
from jaxtyping import Float

from pulse3d.evaluation import contact
from pulse3d.evaluation.contact import Signal

BAND = (0.6, 1.6)  # of the spectral peak: how far the rate may vary within a window, without harmonics
LEAST_PROMINENCE = 0.3  # of a beat, relative to the median of all peaks


def beat_times(pulse: Signal, fps: float) -> Float[np.ndarray, "beat"]:
    """The times in s, from the first sample, of the beats in a window of a contact pulse wave.

    Band-pass of 0.6 to 1.6 times the `contact.reference_rate` (Butterworth of order 2, forwards and
    backwards). A beat is a peak at least 0.6 mean periods from any higher one and at least 0.3 times as
    prominent as the median peak; its time is the vertex of the parabola through the three samples around
    it. None in a flat wave.
    """
    rate_hz = contact.reference_rate(pulse, fps) / 60
    if not np.isfinite(rate_hz):
        return np.zeros(0)
    band = (BAND[0] * rate_hz, min(BAND[1] * rate_hz, 0.49 * fps))
    sections = scipy.signal.butter(2, band, "bandpass", fs=fps, output="sos")
    wave = scipy.signal.sosfiltfilt(sections, pulse - pulse.mean())
    peaks, found = scipy.signal.find_peaks(wave, distance=max(1.0, 0.6 * fps / rate_hz), prominence=0)
    if not len(peaks):
        return np.zeros(0)
    prominent = found["prominences"] >= LEAST_PROMINENCE * np.median(found["prominences"])
    at = peaks[prominent]
    before, here, after = wave[at - 1], wave[at], wave[at + 1]
    return (at + (before - after) / (2 * (before - 2 * here + after))) / fps


def beat_rate(beat_s: Float[np.ndarray, "beat"]) -> float:
    """The mean rate in bpm of beats at ascending times.

        rate = 60 (number of beats after the first) / (time of the last - time of the first)

    Missed beats are counted: an interval counts as its ratio to the median of itself and the four intervals
    around it, rounded, at least one. nan for fewer than three beats.
    """
    if len(beat_s) < 3:
        return np.nan
    interval = np.diff(beat_s)
    usual = [np.median(interval[max(0, i - 2) : i + 3]) for i in range(len(interval))]
    beats = np.maximum(np.round(interval / usual), 1).sum()
    return float(60 * beats / (beat_s[-1] - beat_s[0]))


def counted_rate(pulse: Signal, fps: float) -> float:
    """The `beat_rate` of the beats in a window of a contact pulse wave, in bpm."""
    return beat_rate(beat_times(pulse, fps))
