"""Measures of how well answered pulse rates agree with the truth, each with its formula.

p is an answer, g its truth, both in bpm, one per window; means run over windows. Windows with a nan
truth are left out everywhere. A nan answer is "no pulse": it is left out of the errors and counts
as a miss in `within`, so read errors together with the share of answered windows. A measure over
no windows is nan.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

Windows = Float[np.ndarray, "window"]
TOLERANCE_BPM = 5.0  # a right answer is at most this far from the truth
FEWEST_RECORDINGS = 5  # needed for an interval over recordings


def rmse(truth: Windows, answer: Windows) -> float:
    """Root mean square error in bpm over answered windows: sqrt(mean (p - g)^2)."""
    g, p = _pairs(truth, answer)
    return float(np.sqrt(mean_finite((p - g) ** 2)))


def pearson(truth: Windows, answer: Windows) -> float:
    """Pearson correlation over answered windows, -1...1; nan where either does not vary.

    r = sum (g - mean g)(p - mean p) / sqrt(sum (g - mean g)^2 sum (p - mean p)^2)
    """
    g, p = _pairs(truth, answer)
    if len(g) < 2 or np.ptp(g) == 0 or np.ptp(p) == 0:
        return np.nan
    return float(np.corrcoef(g, p)[0, 1])


def within(truth: Windows, answer: Windows, *, tolerance_bpm: float = TOLERANCE_BPM) -> float:
    """Share of the windows with a truth that have |p - g| <= tolerance; no answer is a miss."""
    g, p = truth[np.isfinite(truth)], answer[np.isfinite(truth)]
    return mean_finite(abs(p - g) <= tolerance_bpm)


def coverage(truth: Windows, low: Windows, high: Windows) -> float:
    """Share of the answered windows whose interval contains the truth: mean [low <= g <= high].

    low, high: the bounds in bpm, nan where there is no answer. A calibrated 90 % interval gives 0.9.
    """
    held = np.isfinite(truth) & np.isfinite(low) & np.isfinite(high)
    return mean_finite((low[held] <= truth[held]) & (truth[held] <= high[held]))


def mae_over_recordings(truth: Windows, answer: Windows, recording: np.ndarray) -> float:
    """The mean over recordings of each recording's MAE, in bpm, with equal weights.

    recording: the recording of every window, (window,), of any type. Recordings without an
    answered window are left out.
    """
    return mean_finite(_recording_mae(truth, answer, recording))


def mae_interval(
    truth: Windows, answer: Windows, recording: np.ndarray, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % bootstrap interval (low, high) of `mae_over_recordings`, in bpm.

    Windows of one recording are not independent, so whole recordings are drawn with replacement, as
    many as there are. The bounds are the 2.5 % and 97.5 % points of the mean MAE of `draws` such
    samples. recording: the recording of every window, (window,), of any
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
    return float(np.sqrt(mean_finite((difference / count) ** 2)))


class BlandAltman(NamedTuple):
    """Agreement of two measurements: a point per answered window, bias and limits, in bpm."""

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
    bias = mean_finite(difference)
    spread = 1.96 * float(difference.std(ddof=1)) if len(difference) > 1 else np.nan
    return BlandAltman((p + g) / 2, difference, bias, bias - spread, bias + spread)


class Reliability(NamedTuple):
    """Stated confidence against accuracy, per bin of confidence; nan in empty bins.

    windows: number per bin. error: the expected calibration error, 0...1.
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
    """The probability that a positive has a higher score than a negative; ties count half.

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
    """The lowest score of the negatives that at most a `share` of them, 0...1, exceeds; nan for none."""
    return float(np.quantile(negative, 1 - share, method="inverted_cdf")) if len(negative) else np.nan


def _recording_mae(truth: Windows, answer: Windows, recording: np.ndarray) -> np.ndarray:
    """The MAE of every recording with an answered window."""
    error, count = _recording_sums(truth, answer, recording, abs(answer - truth))
    return error / count


def _recording_sums(
    truth: Windows, answer: Windows, recording: np.ndarray, values: Windows
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values and number of the answered windows, for every recording that has any."""
    held = np.isfinite(truth) & np.isfinite(answer)
    index = np.unique(recording[held], return_inverse=True)[1]
    return np.bincount(index, weights=values[held]), np.bincount(index)


def _pairs(truth: Windows, answer: Windows) -> tuple[np.ndarray, np.ndarray]:
    held = np.isfinite(truth) & np.isfinite(answer)
    return truth[held], answer[held]


def mean_finite(values: np.ndarray) -> float:
    """The mean of the finite values; nan where there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan
