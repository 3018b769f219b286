"""Calibration of confidences and intervals: stated shares against observed ones.

Windows of one recording are not independent, so error bars come from whole recordings drawn with
replacement, as in `metrics.mae_interval`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from pulse3d.evaluation import metrics

LEVELS = np.arange(1, 20) / 20  # of intervals: 5 %, 10 % ... 95 %
FEW_WINDOWS = 20  # points from fewer are drawn open

PerBin = Float[np.ndarray, "bin"]


class Curve(NamedTuple):
    """Stated share against share right, 0...1, per bin; nan in empty bins.

    windows: number per bin. low, high: the 95 % bootstrap interval of `right` over recordings, nan for
    fewer than `metrics.FEWEST_RECORDINGS` with windows in the bin. error: the mean of |right - stated|.
    """

    stated: PerBin
    right: PerBin
    windows: Int[np.ndarray, "bin"]
    low: PerBin
    high: PerBin
    error: float


def confidence_curve(
    confidence: metrics.Windows,
    right: Bool[np.ndarray, "window"],
    recording: Shaped[np.ndarray, "window"],
    *,
    bins: int = 10,
) -> Curve:
    """`metrics.reliability` with error bars; its error weights bins by their windows.

    confidence: nan where there is no answer (left out). recording: that of every window, of any type.
    """
    curve = metrics.reliability(confidence, right, bins=bins)
    held = np.isfinite(confidence)
    index = np.minimum((confidence[held] * bins).astype(int), bins - 1)
    falls = index[:, None] == np.arange(bins)
    low, high = _bars(falls & right[held, None], falls, recording[held])
    return Curve(curve.confidence, curve.accuracy, falls.sum(0), low, high, curve.error)


def interval_curve(
    holds: Float[np.ndarray, "window level"], recording: Shaped[np.ndarray, "window"]
) -> Curve:
    """The share of windows whose interval contains the truth, per level of LEVELS; equal weights.

    holds: 1, 0, or nan where there is no interval or no truth. recording: as in `confidence_curve`.
    """
    held = np.isfinite(holds)
    windows = held.sum(0)
    low, high = _bars(held & (holds == 1), held, recording)
    with np.errstate(invalid="ignore"):
        right = (holds == 1).sum(0) / windows
    known = windows > 0
    error = abs(right - LEVELS)[known].mean() if known.any() else np.nan
    return Curve(LEVELS, right, windows, low, high, float(error))


def _bars(
    right: Bool[np.ndarray, "window bin"],
    falls: Bool[np.ndarray, "window bin"],
    recording: Shaped[np.ndarray, "window"],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[PerBin, PerBin]:
    """The 2.5 % and 97.5 % points of the share right in every bin, over drawn recordings."""
    names, index = np.unique(recording, return_inverse=True)
    number = len(names)
    low, high = np.full((2, falls.shape[1]), np.nan)
    if number < metrics.FEWEST_RECORDINGS:
        return low, high
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=draws)
    for bin_, (hits, all_) in enumerate(zip(right.T, falls.T, strict=True)):
        hit, count = (np.bincount(index, weights=values, minlength=number) for values in (hits, all_))
        if (count > 0).sum() >= metrics.FEWEST_RECORDINGS:
            seen = drawn @ count > 0
            low[bin_], high[bin_] = np.percentile((drawn @ hit)[seen] / (drawn @ count)[seen], [2.5, 97.5])
    return low, high
