"""Scores a pulse wave read from video against a contact pulse wave."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.signal
from jaxtyping import Float

from pulse3d.errors import InputError
from pulse3d.evaluation.contact import beat_times
from pulse3d.reading.pulse_wave import PulseWave

FPS = 60.0  # both waves are interpolated to this
BAND_HZ = (0.7, 3.5)
MOST_LAG_S = 0.4  # between the places and the clocks of both waves
WINDOW_S, STEP_S = 10.0, 5.0


class Agreement(NamedTuple):
    """How well a wave follows the contact wave.

    correlation: median over windows of 10 s of Pearson's r. lag_s: by which the contact wave comes later, at
    the largest such median. beat_error_ms: median distance of the contact's beats from the wave's nearest
    beat, after the median shift. beats_within_100_ms: their share. beats: number of contact beats.
    """

    correlation: float
    lag_s: float
    beat_error_ms: float
    beats_within_100_ms: float
    beats: int


def compare(
    wave: PulseWave,
    contact: Float[np.ndarray, "sample"],
    contact_s: Float[np.ndarray, "sample"],
) -> Agreement:
    """The agreement of a wave with a contact pulse wave of ascending times on the same clock.

    The contact wave is band-passed to 0.7-3.5 Hz (Butterworth of order 2, forwards and backwards). The pulse
    reaches a finger later than a face, and clocks differ: the constant lag within 0.4 s that fits best is
    allowed, the smallest of equals. Times at which the wave is nan are left out. Raises InputError for less
    than 10 s in common.
    """
    known = np.isfinite(wave.percent)
    start = max(contact_s[0], wave.time_s[known][0]) + MOST_LAG_S if known.any() else np.inf
    end = min(contact_s[-1], wave.time_s[known][-1]) - MOST_LAG_S if known.any() else -np.inf
    if end - start < WINDOW_S:
        raise InputError(
            f"pulse wave: {max(end - start, 0):.1f} s in common with the contact, 10 s are needed"
        )
    time_s = np.arange(start, end, 1 / FPS)
    sections = scipy.signal.butter(2, BAND_HZ, "bandpass", fs=FPS, output="sos")
    raw = np.interp(time_s, contact_s, contact)
    reference = scipy.signal.sosfiltfilt(sections, raw - raw.mean())

    def shifted(lag_s: float) -> Float[np.ndarray, "time"]:
        return np.interp(time_s - lag_s, wave.time_s[known], wave.percent[known])

    missing = np.interp(time_s, wave.time_s, ~known) > 0
    length, step = round(WINDOW_S * FPS), round(STEP_S * FPS)
    firsts = [i for i in range(0, len(time_s) - length + 1, step) if not missing[i : i + length].any()]
    if not firsts:
        raise InputError("pulse wave: no 10 s without a gap")

    def correlation(lag_s: float) -> float:
        moved = shifted(lag_s)
        pieces = (np.corrcoef(moved[i : i + length], reference[i : i + length])[0, 1] for i in firsts)
        return float(np.median(list(pieces)))

    lags_s = np.arange(-MOST_LAG_S, MOST_LAG_S + 1e-9, 1 / FPS)
    found = [correlation(lag) for lag in lags_s]
    best = int(np.argmax(np.array(found) - 0.01 * abs(lags_s)))
    own, others = beat_times(shifted(lags_s[best]), FPS), beat_times(raw, FPS)
    others = others[~missing[np.minimum(np.round(others * FPS).astype(int), len(missing) - 1)]]
    if not len(own) or not len(others):
        raise InputError("pulse wave: no beats to compare")
    away = (own - others[:, None])[np.arange(len(others)), abs(own - others[:, None]).argmin(1)]
    error_s = abs(away - np.median(away))
    return Agreement(
        found[best], float(lags_s[best]), 1000 * float(np.median(error_s)),
        float(np.mean(error_s <= 0.1)), len(others),
    )  # fmt: skip
