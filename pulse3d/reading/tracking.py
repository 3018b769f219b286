"""One pulse rate over time from the evidence of all windows: a Markov chain over rates and "no pulse"."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Float

from pulse3d.config import ReadoutConfig
from pulse3d.reading.readout import Axis, Reading, alone, read


def readings(
    evidence: Float[np.ndarray, "window rate"],
    rate_axis_bpm: Axis,
    config: ReadoutConfig,
    *,
    step_s: float,
    window_s: float,
) -> list[Reading]:
    """One reading per window from the evidence of all: by `alone` for the method "votes", else `track`."""
    if config.method != "votes":
        probability = track(evidence, rate_axis_bpm, config, step_s=step_s, window_s=window_s)
    else:
        probability = alone(evidence)
    return [read(window, rate_axis_bpm, config) for window in probability]


class Follower:
    """Reads windows one by one as they come; each reading is the last of `readings` of all windows so far."""

    def __init__(self, rate_axis_bpm: Axis, config: ReadoutConfig, *, step_s: float, window_s: float):
        self._axis, self._config = rate_axis_bpm, config
        self._change = _transition(rate_axis_bpm, config, step_s)
        self._steps = window_steps(step_s, window_s)
        self._count = 0
        # the windows that share video with later ones, so their weights change, and the state before them
        self._recent: deque[Float[np.ndarray, "class"]] = deque()
        self._ahead = _prior(len(rate_axis_bpm), config)

    def __call__(self, evidence: Float[np.ndarray, "rate"]) -> Reading:
        """The reading of the next window."""
        if self._config.method == "votes":
            return read(alone(evidence), self._axis, self._config)
        self._count += 1
        self._recent.append(_observed(evidence, self._config))
        # weights are the same for any number of windows beyond this
        weights = _weights(min(self._count, 2 * self._steps), self._steps, self._config)[-len(self._recent) :]
        states = forward(np.stack(self._recent) ** weights[:, None], self._ahead, self._change)
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

    E_t is the evidence, p_t(f) its share. Two things support a pulse: strong evidence (s_t), and repeated
    evidence for the same rate. The shares of a steady rate multiply, whereas those of scattered peaks, as
    in noise, fall behind the 1 of "no pulse". The floor keeps a single window from ruling out a rate.

    The rate is a random walk: T is normal with SD `track_bpm` x sqrt(step_s / 1 s), cut off at the ends
    of the axis. A pulse appears or disappears once in `switch_s` seconds; before the first window, there is
    none with probability `no_pulse_prior`. Overlapping windows contain the same video: w_t is the mean, over
    the seconds of window t, of 1 / the number of windows that contain that second, so that every second of
    video counts once (step / window in the middle of a video, 1 for a single window; a window is rounded to
    a whole number of steps); times `track_weight`, at most 1. A window of zeros has no pulse.

    The probability of any pulse is shared among the rates as P(f)^(1 / temperature): the floor, and the
    fractional weights of windows, make P wider than the actual errors.

    step_s, window_s: from one window to the next, and the length of each.
    Sources: Rabiner, Proc. IEEE 77(2), 1989; for the temperature, Guo et al., ICML 2017, section 4.2.
    """
    change = _transition(rate_axis_bpm, config, step_s)
    weights = _weights(len(evidence), window_steps(step_s, window_s), config)
    observed = _observed(evidence, config) ** weights[:, None]
    tracked = forward_backward(observed, _prior(len(rate_axis_bpm), config), change)
    tracked = _sharpen(tracked, config.temperature)
    return np.where(evidence.any(-1, keepdims=True), tracked, alone(evidence))


def forward(
    observed: Float[np.ndarray, "window state *place"],
    ahead: Float[np.ndarray, "state *place"],
    change: Float[np.ndarray, "state state"],
) -> Float[np.ndarray, "window state *place"]:
    """The probability of every state in every window, given the windows so far.

    ahead: before the first window. change: of every state (row) one step after every state (column). Of many
    places, each is a chain by itself, along the last axis.
    """
    states = np.empty(observed.shape)
    for window, seen in enumerate(observed):
        state = seen * ahead
        states[window] = state / state.sum(0)
        ahead = change @ states[window]
    return states


def forward_backward(
    observed: Float[np.ndarray, "window state *place"],
    ahead: Float[np.ndarray, "state *place"],
    change: Float[np.ndarray, "state state"],
) -> Float[np.ndarray, "window state *place"]:
    """The probability of every state in every window, given all windows; arguments are as in `forward`."""
    states = forward(observed, ahead, change)
    behind = np.ones_like(states[0])
    for window in range(len(observed) - 1, 0, -1):
        behind = change.T @ (observed[window] * behind)
        behind /= behind.sum(0)
        states[window - 1] *= behind
    states /= states.sum(1, keepdims=True)
    return states


def _sharpen(
    probability: Float[np.ndarray, "*window class"], temperature: float
) -> Float[np.ndarray, "*window class"]:
    """Raises the probabilities of rates to the power 1 / temperature; keeps their sum and "no pulse"."""
    rates = probability[..., :-1]
    most = rates.max(-1, keepdims=True)
    powers = (rates / np.where(most > 0, most, 1)) ** (1 / temperature)
    share = rates.sum(-1, keepdims=True) / np.maximum(powers.sum(-1, keepdims=True), 1e-300)
    return np.concatenate([powers * share, probability[..., -1:]], -1)


def _prior(rates: int, config: ReadoutConfig) -> Float[np.ndarray, "class"]:
    """The probability of every class before any evidence: all rates are equal."""
    return np.append(np.full(rates, (1 - config.no_pulse_prior) / rates), config.no_pulse_prior)


def _transition(axis: Axis, config: ReadoutConfig, step_s: float) -> Float[np.ndarray, "class class"]:
    """The probability of every class (row) one step after every class (column)."""
    walk = np.exp(-0.5 * ((axis[:, None] - axis) / (config.track_bpm * step_s**0.5)) ** 2)
    switch, rates = min(step_s / config.switch_s, 0.5) * (config.no_pulse_prior > 0), len(axis)
    change = np.zeros((rates + 1, rates + 1))
    change[:rates, :rates] = (1 - switch) * walk / walk.sum(0)
    change[rates, :rates], change[:rates, rates] = switch, switch / rates
    change[rates, rates] = 1 - switch
    return change


def window_steps(step_s: float, window_s: float) -> int:
    """The length of a window as a number of steps."""
    return max(1, round(window_s / step_s))


def window_weights(windows: int, steps: int) -> Float[np.ndarray, "window"]:
    """The weight of every window of so many steps, so that every second of video counts once."""
    # how many windows see each step, then the mean over every window's steps
    seen = np.convolve(np.ones(windows), np.ones(steps))
    return np.convolve(1 / seen, np.ones(steps) / steps, mode="valid")


def _weights(windows: int, steps: int, config: ReadoutConfig) -> Float[np.ndarray, "window"]:
    """The weight of every window in tracking."""
    return np.minimum(config.track_weight * window_weights(windows, steps), 1.0)


def _observed(
    evidence: Float[np.ndarray, "*window rate"], config: ReadoutConfig
) -> Float[np.ndarray, "*window class"]:
    """The likelihood of the evidence by class, relative to "no pulse", the last, which is 1."""
    mean, most = evidence.mean(-1, keepdims=True), evidence.max(-1, keepdims=True)
    shape = (evidence / np.where(mean > 0, mean, 1) + config.track_floor) / (1 + config.track_floor)
    strength = np.clip((most / config.evidence_scale) ** config.evidence_power, 1e-3, 1e3)
    return np.concatenate([strength * np.where(mean > 0, shape, 1), np.ones_like(mean)], -1)
