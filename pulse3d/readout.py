"""From a map to one pulse rate with an interval and a confidence.

A map is (row, col, class) probabilities, the last class being "no pulse"; rates in bpm.
"""

from __future__ import annotations

from collections import deque
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


def likelihood(
    probability: Map, odds: int | float, *, weight: Float[np.ndarray, "row col"] | None = None
) -> Float[np.ndarray, "rate"]:
    """How strongly all patches together speak for every rate; 0 where none speaks for it.

        E(f) = mean over patches of max(LR(f) / m - 1, 0)^2,  LR(f) = odds p(f) / p(no pulse)
        m = max(1, median over rates of the mean over patches of LR(f))

    LR is the likelihood ratio of a pulse of rate f against none. Only what speaks for a pulse
    counts: a patch whose noise could hide a slow pulse has LR = 1 there and says nothing, where a
    mixture of probabilities would be drawn to that rate. The square lets sure patches lead. Not a
    product, since patches are far from independent.
    m is the network's response to this frame: a pulse has one rate, so where patches find many rates more
    likely than none, the noise is unlike any that the network was trained on.
    odds: of "no pulse" against one rate before anything is seen, as in training. weight: of every patch in
    the mean E(f), not in m; by default all are alike.
    """
    ratio = odds * probability[..., :-1] / np.maximum(probability[..., -1:], 1e-12)
    response = max(1.0, float(np.median(ratio.mean((0, 1), dtype=np.float64))))
    squares = np.maximum(ratio / response - 1, 0) ** 2
    if weight is None:
        return squares.mean((0, 1), dtype=np.float64)
    return np.einsum("rc,rcf->f", weight, squares, dtype=np.float64) / max(weight.sum(), 1e-12)


def pool(probability: Map, config: ReadoutConfig, *, odds: int | float) -> Float[np.ndarray, "rate"]:
    """How strongly a map speaks for every rate: `combine` or `likelihood`, as the method has it."""
    return combine(probability) if config.method == "votes" else likelihood(probability, odds)


def is_pulse(
    strength: Float[np.ndarray, "*window rate"],
    pulse_share: Float[np.ndarray, "*window"] | float,
    config: ReadoutConfig,
) -> Bool[np.ndarray, "*window"]:
    """Whether a window says anything about a rate, by `pool` and the share of patches that have a pulse.

    For votes, where at least `min_pulse_share` of the patches have a pulse; for likelihoods, where some
    patch speaks for some rate. Whether that is enough is for `track` to say.
    """
    if config.method == "votes":
        return np.asarray(pulse_share >= config.min_pulse_share)
    return np.asarray(strength.max(-1) > 0)


def evidence(probability: Map, config: ReadoutConfig, *, odds: int | float) -> Float[np.ndarray, "rate"]:
    """What one map says about the rate, for `readings`: `pool`, or zeros where it says nothing."""
    strength = pool(probability, config, odds=odds)
    return strength * is_pulse(strength, has_pulse(probability).mean(), config)


def readings(
    evidence: Float[np.ndarray, "window rate"],
    rate_axis_bpm: Axis,
    config: ReadoutConfig,
    *,
    step_s: float,
    window_s: float,
) -> list[Reading]:
    """One reading per window from the evidence of all: of `alone`, for the method "tracked" of `track`."""
    if config.method == "tracked":
        probability = track(evidence, rate_axis_bpm, config, step_s=step_s, window_s=window_s)
    else:
        probability = alone(evidence)
    return [read(window, rate_axis_bpm, config) for window in probability]


def read(probability: Float[np.ndarray, "class"], rate_axis_bpm: Axis, config: ReadoutConfig) -> Reading:
    """The rate at the mode of a probability over rates and, last, "no pulse", with its shortest interval.

    No pulse where that has at least half. Else the rate is the mean of the probability within
    `tolerance_bpm` of its mode, the interval the shortest that holds `config.interval` of what is not
    "no pulse", the confidence all that lies within `tolerance_bpm` of the rate.
    probability: sums to 1.
    """
    if probability[-1] >= 0.5:
        return NO_PULSE
    rates = probability[:-1]
    near = abs(rate_axis_bpm - rate_axis_bpm[rates.argmax()]) <= config.tolerance_bpm
    rate = float(rates[near] @ rate_axis_bpm[near] / rates[near].sum())
    low, high = shortest_interval(rates / rates.sum(), rate_axis_bpm, config.interval)
    confidence = float(rates[abs(rate_axis_bpm - rate) <= config.tolerance_bpm].sum())
    return Reading(rate, min(low, rate), max(high, rate), min(confidence, 1.0))


def alone(evidence: Float[np.ndarray, "*window rate"]) -> Float[np.ndarray, "*window class"]:
    """Every window's probability over rates and, last, "no pulse", from its own evidence.

    The evidence divided by its sum; zeros, which say nothing, are "no pulse".
    """
    total = evidence.sum(-1, keepdims=True)
    return np.concatenate([evidence / np.where(total > 0, total, 1), total <= 0], -1)


class Follower:
    """Reads windows one by one as they come: each as `readings` of all windows so far reads the last."""

    def __init__(self, rate_axis_bpm: Axis, config: ReadoutConfig, *, step_s: float, window_s: float):
        self._axis, self._config = rate_axis_bpm, config
        self._change = _transition(rate_axis_bpm, config, step_s)
        self._steps = _steps(step_s, window_s)
        self._count = 0
        # the windows that share video with later ones, whose weights change, and the state before them
        self._recent: deque[Float[np.ndarray, "class"]] = deque()
        self._ahead = _prior(len(rate_axis_bpm), config)

    def __call__(self, evidence: Float[np.ndarray, "rate"]) -> Reading:
        """The reading of the next window."""
        if self._config.method != "tracked":
            return read(alone(evidence), self._axis, self._config)
        self._count += 1
        self._recent.append(_observed(evidence, self._config))
        # weights are the same for any number of windows beyond this
        weights = _weights(min(self._count, 2 * self._steps), self._steps, self._config)[-len(self._recent) :]
        states = _forward(np.stack(self._recent) ** weights[:, None], self._ahead, self._change)
        if len(self._recent) == self._steps:
            self._recent.popleft()
            self._ahead = self._change @ states[0]
        seen = _sharpen(states[-1], self._config.temperature) if evidence.any() else alone(evidence)
        return read(seen, self._axis, self._config)


def track(
    evidence: Float[np.ndarray, "window rate"],
    rate_axis_bpm: Axis,
    config: ReadoutConfig,
    *,
    step_s: float,
    window_s: float,
) -> Float[np.ndarray, "window class"]:
    """Every window's probability over rates and, last, "no pulse", given all windows: forward-backward.

        P(x_t | all windows) ~ a_t(x) b_t(x),  a_t = o_t T a_(t-1),  b_t = T' (o_(t+1) b_(t+1))
        o_t(f) = [s_t (p_t(f) / mean p_t + floor) / (1 + floor)]^w_t,  o_t(no pulse) = 1
        s_t = (max E_t / evidence_scale)^evidence_power, within 1/1000...1000

    E_t is the evidence, p_t(f) its share. Two things speak for a pulse: strong evidence (s_t), and
    evidence for the same rate again and again, since the shares of a rate that stays multiply, whereas
    those of peaks here and there, as noise has them, do not keep up with 1. The floor keeps a single
    window from a veto.

    A rate walks at random: T is normal with SD `track_bpm` x sqrt(step_s / 1 s), cut off at the ends
    of the axis. A pulse comes or goes once in `switch_s`; before the first window there is none with
    probability `no_pulse_prior`. Windows that overlap see the same video: w_t is the mean, over the seconds
    of window t, of 1 / the number of windows that see that second, so that every second of video counts
    once (step / window in the midst of a video, 1 for a single window; a window is taken as a whole
    number of steps); times `track_weight`, at most 1. A window of zeros has no pulse.

    What is left of "no pulse" is shared among the rates as P(f)^(1 / temperature): the floor, and windows
    that count a fraction each, make P wider than the errors are.

    step_s, window_s: from a window to the next, and the length of each.
    Sources: Rabiner, Proc. IEEE 77(2), 1989; of the temperature, Guo et al., ICML 2017, section 4.2.
    """
    change = _transition(rate_axis_bpm, config, step_s)
    weights = _weights(len(evidence), _steps(step_s, window_s), config)
    observed = _observed(evidence, config) ** weights[:, None]
    tracked = _forward(observed, _prior(len(rate_axis_bpm), config), change)
    behind = np.ones(observed.shape[1])
    for window in range(len(observed) - 1, 0, -1):
        behind = change.T @ (observed[window] * behind)
        behind /= behind.sum()
        tracked[window - 1] *= behind
    tracked = _sharpen(tracked / tracked.sum(-1, keepdims=True), config.temperature)
    return np.where(evidence.any(-1, keepdims=True), tracked, alone(evidence))


def _forward(
    observed: Float[np.ndarray, "window class"],
    ahead: Float[np.ndarray, "class"],
    change: Float[np.ndarray, "class class"],
) -> Float[np.ndarray, "window class"]:
    """The probability of every class in every window, given those before it; ahead: before the first."""
    states = np.zeros(observed.shape)
    for window, seen in enumerate(observed):
        state = seen * ahead
        states[window] = state / state.sum()
        ahead = change @ states[window]
    return states


def _sharpen(
    probability: Float[np.ndarray, "*window class"], temperature: float
) -> Float[np.ndarray, "*window class"]:
    """The probability with the rates' share to the power of 1 / temperature; "no pulse" keeps its own."""
    rates = probability[..., :-1]
    most = rates.max(-1, keepdims=True)
    powers = (rates / np.where(most > 0, most, 1)) ** (1 / temperature)
    share = rates.sum(-1, keepdims=True) / np.maximum(powers.sum(-1, keepdims=True), 1e-300)
    return np.concatenate([powers * share, probability[..., -1:]], -1)


def _prior(rates: int, config: ReadoutConfig) -> Float[np.ndarray, "class"]:
    """The probability of every class before anything is seen: all rates alike."""
    return np.append(np.full(rates, (1 - config.no_pulse_prior) / rates), config.no_pulse_prior)


def _transition(axis: Axis, config: ReadoutConfig, step_s: float) -> Float[np.ndarray, "class class"]:
    """The probability of every class (row) a step after every class (column)."""
    walk = np.exp(-0.5 * ((axis[:, None] - axis) / (config.track_bpm * step_s**0.5)) ** 2)
    switch, rates = min(step_s / config.switch_s, 0.5) * (config.no_pulse_prior > 0), len(axis)
    change = np.zeros((rates + 1, rates + 1))
    change[:rates, :rates] = (1 - switch) * walk / walk.sum(0)
    change[rates, :rates], change[:rates, rates] = switch, switch / rates
    change[rates, rates] = 1 - switch
    return change


def _steps(step_s: float, window_s: float) -> int:
    """The length of a window as a number of steps."""
    return max(1, round(window_s / step_s))


def window_weights(windows: int, *, step_s: float, window_s: float) -> Float[np.ndarray, "window"]:
    """How much every window counts so that every second of video counts once."""
    return _shares(windows, _steps(step_s, window_s))


def _shares(windows: int, steps: int) -> Float[np.ndarray, "window"]:
    # how many windows see each step, then the mean over every window's steps
    seen = np.convolve(np.ones(windows), np.ones(steps))
    return np.convolve(1 / seen, np.ones(steps) / steps, mode="valid")


def _weights(windows: int, steps: int, config: ReadoutConfig) -> Float[np.ndarray, "window"]:
    """How much every window of so many steps counts in tracking."""
    return np.minimum(config.track_weight * _shares(windows, steps), 1.0)


def _observed(
    evidence: Float[np.ndarray, "*window rate"], config: ReadoutConfig
) -> Float[np.ndarray, "*window class"]:
    """How likely the evidence is by class, relative to "no pulse", whose 1 is the last."""
    mean, most = evidence.mean(-1, keepdims=True), evidence.max(-1, keepdims=True)
    shape = (evidence / np.where(mean > 0, mean, 1) + config.track_floor) / (1 + config.track_floor)
    strength = np.clip((most / config.evidence_scale) ** config.evidence_power, 1e-3, 1e3)
    return np.concatenate([strength * np.where(mean > 0, shape, 1), np.ones_like(mean)], -1)


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
