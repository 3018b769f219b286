"""From a map to one pulse rate with an interval and a confidence.

A map is (row, col, class) probabilities, the last class being "no pulse"; rates in bpm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pulse3d.config import ReadoutConfig

Map = Float[np.ndarray, "row col class"]
Axis = Float[np.ndarray, "rate"]


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
    """The probability of every patch within `tolerance_bpm` of its most likely rate; 0 where no pulse."""
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


def combine(probability: Map) -> Float[np.ndarray, "rate"]:
    """One probability over rates from all patches that have a pulse; zeros if none has.

    A mixture, not a product: neighbouring patches see the same noise and are far from
    independent. Each patch weighs as much as its largest probability, squared, so that patches
    that know little say little.
    """
    rates = probability[..., :-1] * has_pulse(probability)[..., None]
    total = (rates * rates.max(-1, keepdims=True) ** 2).sum((0, 1))
    return total / total.sum() if total.sum() > 0 else total


def posterior(probability: Map, rate_axis_bpm: Axis, config: ReadoutConfig) -> Reading:
    """`read` of the combined probability; no pulse where under `min_pulse_share` of the patches have one."""
    if has_pulse(probability).mean() < config.min_pulse_share:
        return NO_PULSE
    return read(combine(probability), rate_axis_bpm, config)


def read(probability: Float[np.ndarray, "rate"], rate_axis_bpm: Axis, config: ReadoutConfig) -> Reading:
    """The rate at the mode of a probability over rates, with its shortest interval around.

    The rate is the mean of the probability within `tolerance_bpm` of its mode, the interval the
    shortest that holds `config.interval` of it, the confidence what lies within `tolerance_bpm`
    of the rate. probability: sums to 1, or is all zeros, which means no pulse.
    """
    if not probability.any():
        return NO_PULSE
    near = abs(rate_axis_bpm - rate_axis_bpm[probability.argmax()]) <= config.tolerance_bpm
    rate = float(probability[near] @ rate_axis_bpm[near] / probability[near].sum())
    low, high = shortest_interval(probability, rate_axis_bpm, config.interval)
    confidence = float(probability[abs(rate_axis_bpm - rate) <= config.tolerance_bpm].sum())
    return Reading(rate, min(low, rate), max(high, rate), min(confidence, 1.0))


def track(
    probability: Float[np.ndarray, "window rate"],
    rate_axis_bpm: Axis,
    config: ReadoutConfig,
    *,
    step_s: float,
    window_s: float,
    causal: bool = False,
) -> Float[np.ndarray, "window rate"]:
    """Every window's probability over rates, given the windows around it: forward-backward.

        P(f_t | all windows) ~ a_t(f) b_t(f),  a_t = o_t T a_(t-1),  b_t = T (o_(t+1) b_(t+1))
        o_t(f) = (p_t(f) + floor mean p_t)^(step / window)

    The rate walks at random: T is normal with SD `track_bpm` x sqrt(step_s / 1 s), cut off at
    the ends of the axis. Windows that overlap see the same video; the exponent (at most 1) lets
    every second of it count once. The floor keeps a single window from a veto. A window of
    zeros (no pulse) says nothing about the rate, and stays zeros.

    step_s, window_s: from a window to the next, and the length of each. causal: look only back,
    as a stream must (b = 1).
    Source: Rabiner, Proc. IEEE 77(2), 1989.
    """
    walk = np.exp(-0.5 * ((rate_axis_bpm[:, None] - rate_axis_bpm) / (config.track_bpm * step_s**0.5)) ** 2)
    walk /= walk.sum(0)
    seen = probability.any(-1, keepdims=True)
    floored = probability + config.track_floor * np.where(seen, probability.mean(-1, keepdims=True), 1)
    observed = floored ** min(step_s / window_s, 1.0)

    tracked = np.zeros(probability.shape)
    state = np.full(len(rate_axis_bpm), 1 / len(rate_axis_bpm))
    for window, likelihood in enumerate(observed):
        tracked[window] = state = likelihood * state / (likelihood @ state)
        state = walk @ state
    ahead = np.ones(len(rate_axis_bpm))
    for window in range(0 if causal else len(observed) - 1, 0, -1):
        ahead = walk.T @ (observed[window] * ahead)
        ahead /= ahead.sum()
        tracked[window - 1] *= ahead
    return np.where(seen, tracked / tracked.sum(-1, keepdims=True), 0)


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
