"""From the map of one window to one pulse rate, with an interval and a confidence.

A map is (row, col, class) probabilities, where the last class is "no pulse"; rates are in bpm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pulse3d.config import ReadoutConfig
from pulse3d.mapping.tiles import Map

Axis = Float[np.ndarray, "rate"]

LEAST = 6e-8  # the least probability of "no pulse" that 16-bit floats hold


class Reading(NamedTuple):
    """One pulse rate in bpm, its interval, and a confidence of 0...1; no pulse: nan and 0."""

    rate_bpm: float
    low_bpm: float
    high_bpm: float
    confidence: float


NO_PULSE = Reading(np.nan, np.nan, np.nan, 0.0)


def has_pulse(probability: Map) -> Bool[np.ndarray, "row col"]:
    """Whether the most likely class of a patch is a rate."""
    return probability.argmax(-1) < probability.shape[-1] - 1


def patch_rates(probability: Map, rate_axis_bpm: Axis) -> Float[np.ndarray, "row col"]:
    """The most likely rate of every patch, nan where "no pulse" is likelier."""
    return np.where(has_pulse(probability), rate_axis_bpm[probability[..., :-1].argmax(-1)], np.nan)


def patch_confidence(
    probability: Map, rate_axis_bpm: Axis, tolerance_bpm: float
) -> Float[np.ndarray, "row col"]:
    """The probability of every patch within `tolerance_bpm` of its most likely rate; 0 if no pulse."""
    rates = patch_rates(probability, rate_axis_bpm)
    near = abs(rate_axis_bpm - rates[..., None]) <= tolerance_bpm
    return (probability[..., :-1] * near).sum(-1)


def equation_8(probability: Map, rate_axis_bpm: Axis) -> float:
    """The paper's read-out: the mean rate of the patches' hard votes, "no pulse" left out.

        PR = sum_f f delta(f) / sum_f delta(f)

    delta(f) is the number of patches whose most likely class is f. nan without a vote.
    Source: Bousefsaf et al. 2019, Eq. 8.
    """
    votes = np.bincount(probability.argmax(-1).ravel(), minlength=probability.shape[-1])[:-1]
    return float(votes @ rate_axis_bpm / votes.sum()) if votes.sum() else np.nan


def median_map(values: Float[np.ndarray, "window row col"]) -> Float[np.ndarray, "row col"]:
    """The median over time of every place that has a value in most windows; nan elsewhere."""
    seen = np.isfinite(values).mean(0) > 0.5
    median = np.full(seen.shape, np.nan)
    median[seen] = np.nanmedian(values[:, seen], axis=0)
    return median


def typical_window(
    rate_bpm: Float[np.ndarray, "window row col"],
    confidence: Float[np.ndarray, "window"],
    *,
    far_bpm: float = 20.0,
) -> int:
    """The window whose map is most like the median of all maps; of equal ones, that of highest confidence.

    A place that has a rate in only one of the two counts as `far_bpm` away, as do places still farther.
    """
    median = median_map(rate_bpm)
    both, none = np.isfinite(rate_bpm) & np.isfinite(median), np.isnan(rate_bpm) & np.isnan(median)
    away = np.where(both, np.minimum(abs(rate_bpm - median), far_bpm), np.where(none, 0.0, far_bpm))
    return int(np.lexsort([-np.nan_to_num(confidence), away.mean((1, 2)).round(6)])[0])


def combine(probability: Map) -> Float[np.ndarray, "rate"]:
    """One probability over rates from all patches that have a pulse; zeros if none has.

    A mixture, not a product: neighbouring patches see the same noise and are far from
    independent. Each patch is weighted by the square of its largest probability, so that
    uncertain patches count little.
    """
    rates = probability[..., :-1] * has_pulse(probability)[..., None]
    total = (rates * rates.max(-1, keepdims=True) ** 2).sum((0, 1))
    return total / total.sum() if total.sum() > 0 else total


def likelihood(
    probability: Map, odds: int | float, *, weight: Float[np.ndarray, "row col"] | None = None
) -> Float[np.ndarray, "rate"]:
    """The evidence of all patches together for every rate; 0 if no patch supports it.

        E(f) = mean over patches of max(LR(f) / m - 1, 0)^2,  LR(f) = odds p(f) / p(no pulse)
        m = max(1, median over rates of the mean over patches of LR(f))

    LR is the likelihood ratio of a pulse of rate f against none. Only support for a pulse counts: a
    patch whose noise could hide a slow pulse has LR = 1 there and adds nothing, whereas a mixture of
    probabilities would be drawn to that rate. The square lets confident patches dominate. It is not a
    product, since patches are far from independent.
    m is the network's response to this frame: a pulse has one rate, so if patches find many rates more
    likely than none, the noise is unlike any that the network was trained on.
    odds: prior odds of "no pulse" against one rate, as in training. weight: of every patch in the mean
    E(f), not in m; by default all are equal.
    """
    ratio = odds * probability[..., :-1] / np.maximum(probability[..., -1:], LEAST)
    response = max(1.0, float(np.median(ratio.mean((0, 1), dtype=np.float64))))
    squares = np.maximum(ratio / response - 1, 0) ** 2
    if weight is None:
        return squares.mean((0, 1), dtype=np.float64)
    return np.einsum("rc,rcf->f", weight, squares, dtype=np.float64) / max(weight.sum(), 1e-12)


def pool(probability: Map, config: ReadoutConfig, *, odds: int | float) -> Float[np.ndarray, "rate"]:
    """The evidence of a map for every rate: by `combine` or `likelihood`, depending on the method."""
    return likelihood(probability, odds) if config.method == "tracked" else combine(probability)


def is_pulse(
    strength: Float[np.ndarray, "*window rate"],
    pulse_share: Float[np.ndarray, "*window"] | float,
    config: ReadoutConfig,
) -> Bool[np.ndarray, "*window"]:
    """Whether a window has any evidence, by the result of `pool` and the share of patches that have a pulse.

    For votes, at least `min_pulse_share` of the patches must have a pulse; for likelihoods, some patch must
    support some rate; `track` decides whether that is enough.
    """
    if config.method != "tracked":
        return np.asarray(pulse_share >= config.min_pulse_share)
    return np.asarray(strength.max(-1) > 0)


def evidence(probability: Map, config: ReadoutConfig, *, odds: int | float) -> Float[np.ndarray, "rate"]:
    """What one map says about every rate, for `readings`: `pool`, or zeros if `is_pulse` is False."""
    strength = pool(probability, config, odds=odds)
    return strength * is_pulse(strength, has_pulse(probability).mean(), config)


def read(probability: Float[np.ndarray, "class"], rate_axis_bpm: Axis, config: ReadoutConfig) -> Reading:
    """Reads a probability over rates and, last, "no pulse": the rate at its mode, and its shortest interval.

    There is no pulse if "no pulse" has at least half of it. Otherwise, the rate is the mean within
    `tolerance_bpm` of the mode, the interval is the shortest that holds `interval`^`interval_power` of the
    rates' probability, and the confidence is the probability within `tolerance_bpm` of the rate.
    probability: sums to 1.
    """
    if probability[-1] >= 0.5:
        return NO_PULSE
    rates = probability[:-1]
    near = abs(rate_axis_bpm - rate_axis_bpm[rates.argmax()]) <= config.tolerance_bpm
    rate = float(rates[near] @ rate_axis_bpm[near] / rates[near].sum())
    share = config.interval**config.interval_power
    low, high = shortest_interval(rates / rates.sum(), rate_axis_bpm, share)
    confidence = float(rates[abs(rate_axis_bpm - rate) <= config.tolerance_bpm].sum())
    return Reading(rate, min(low, rate), max(high, rate), min(confidence, 1.0))


def alone(evidence: Float[np.ndarray, "*window rate"]) -> Float[np.ndarray, "*window class"]:
    """Every window's probability over rates and, last, "no pulse", from its own evidence.

    It is the evidence divided by its sum; a window without evidence is "no pulse".
    """
    total = evidence.sum(-1, keepdims=True)
    return np.concatenate([evidence / np.where(total > 0, total, 1), total <= 0], -1)


def shortest_interval(
    probability: Float[np.ndarray, "rate"], rate_axis_bpm: Axis, share: float
) -> tuple[float, float]:
    """The shortest run of bins that holds `share` of the probability, to the bins' outer edges.

    The axis is evenly spaced; `probability` sums to 1.
    """
    half_bin = (rate_axis_bpm[1] - rate_axis_bpm[0]) / 2
    cumulative = np.concatenate([[0.0], np.cumsum(probability)])
    # for every first bin, the first end that holds enough
    ends = np.searchsorted(cumulative, cumulative[:-1] + share - 1e-9)
    starts = np.flatnonzero(ends < len(cumulative))
    best = starts[np.argmin(ends[starts] - starts)]
    return float(rate_axis_bpm[best] - half_bin), float(rate_axis_bpm[ends[best] - 1] + half_bin)
