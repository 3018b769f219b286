"""Decides which places of a frame carry a pulse that was found in the frame.

A rate is found in the whole frame, over time (`readout`). For every place, only one question remains: is that
pulse here? The evidence is accumulated over time by a chain of two states, "pulse" and "none", so that a
little evidence in every window counts as much as a lot in one. If a frame holds several pulses, as of several
people, each is found among the places that the earlier ones do not explain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from pulse3d.config import Config, ReadoutConfig
from pulse3d.mapping.tiles import Map
from pulse3d.reading import bilateral, readout, steadiness, tracking
from pulse3d.reading.bilateral import Colour
from pulse3d.reading.readout import LEAST, Axis, Reading

Places = Float[np.ndarray, "window row col"]


class Seen(NamedTuple):
    """A window as mapped: its map, the colours of its places, and how far to trust it (`steadiness`)."""

    probability: Map
    colour: Colour
    trust: float = 1.0

    def believed(self, config: Config) -> Map:
        """The map, as far as it is trusted."""
        wide = self.probability.astype(np.float32)
        return steadiness.believe(wide, self.trust, odds=config.odds)


class Pulse(NamedTuple):
    """One pulse of a video: its reading in every window, and the probability that a place carries it.

    strength: the evidence for every rate from which the readings were made.
    """

    readings: list[Reading]
    probability: Places
    strength: Float[np.ndarray, "window rate"]


def evidence(
    probability: Map, colour: Colour, rate_axis_bpm: Axis, rate_bpm: float, config: Config
) -> Float[np.ndarray, "row col"]:
    """The evidence of every place for a pulse of that rate: a log likelihood ratio against none, 0 for nan.

        e = log( odds max p(f) / p(no pulse) ),  |f - rate| <= tolerance

    averaged with its neighbours of like colour (`bilateral`); the reach is `place_reach` times the map's
    shorter side. odds: `Config.odds`. Votes are probabilities, not likelihoods, and "no pulse" is not all
    that speaks against a rate; of them

        e = log( (q / (1 - q)) / (n / (1 - n)) ),  q = sum p(f),  |f - rate| <= tolerance

    where n is the share of the rates that are near.
    """
    if not np.isfinite(rate_bpm):
        return np.zeros(probability.shape[:2])
    distance = abs(rate_axis_bpm - rate_bpm)
    near = distance <= max(config.readout.place_tolerance_bpm, distance.min())
    shares = probability[..., :-1][..., near].astype(np.float64)
    if config.readout.method == "tracked":
        best, rest, odds = shares.max(-1), probability[..., -1].astype(np.float64), config.odds
    else:
        best, odds = shares.sum(-1), (~near).sum() / near.sum()
        rest = 1 - best
    ratio = np.log(np.maximum(best, LEAST)) - np.log(np.maximum(rest, LEAST)) + np.log(odds)
    reach = config.readout.place_reach * min(ratio.shape)
    return bilateral.average(ratio, colour, reach=reach, tolerance=config.readout.place_colour)


def bar(evidence: Float[np.ndarray, "row col"], config: ReadoutConfig) -> float:
    """The evidence at which a place is as likely to carry the pulse as not, from all places of the frame.

    Videos differ in how clear a pulse is, so the bar lies between the frame's worst places (their 10th
    percentile) and its best, `place_bar_share` of the way up, but at least `place_bar_drop` below the
    best, for frames whose places are all alike, as with skin; never below `place_bar_least`. The best are
    the 80th percentile of the places above the bar, since a face may fill the frame or little of it.
    """
    low, high = np.percentile(evidence, (10, 98))
    while True:  # `high` only falls
        between = low + config.place_bar_share * (high - low)
        best = np.percentile(evidence[evidence >= between], 80)
        if best >= high:
            return max(config.place_bar_least, min(between, high - config.place_bar_drop))
        high = best


def bars(
    evidence: Float[np.ndarray, "row col"], colour: Colour, config: ReadoutConfig
) -> Float[np.ndarray, "row col"]:
    """The bar of every place: `bar`, and more where the colour is unlike that of the places above it.

        bar + place_unlike (best - bar) (1 - l),  l = `bilateral.likeness` to the places above the bar

    Clothes and hair that move with the pulse are seldom of the colour of skin. best: the 98th percentile.
    """
    level = bar(evidence, config)
    above, best = np.maximum(evidence - level, 0), np.percentile(evidence, 98)
    if not (config.place_unlike and above.any()):
        return np.full(evidence.shape, level)
    alike = bilateral.likeness(colour, above, tolerance=config.place_unlike_colour)
    return level + config.place_unlike * max(best - level, 0) * (1 - alike)


def lie_together(probability: Float[np.ndarray, "row col"], config: ReadoutConfig) -> bool:
    """Whether a pulse is somewhere: of the places that carry it, `place_together` lie side by side.

    A pulse of a person is in a face or a hand; what coding or noise makes of a still picture is in single
    places, or in none. Places are neighbours above, below, left and right.
    """
    sizes = np.bincount(ndimage.label(probability >= 0.5)[0].ravel())[1:]
    return bool(sizes.sum() and sizes.max() >= config.place_together * sizes.sum())


class Follower:
    """Reads places window by window: the probability of a pulse given this window and the earlier ones."""

    def __init__(self, config: ReadoutConfig, *, step_s: float, window_s: float):
        self._config, self._weight = config, min(1.0, step_s / window_s)
        self._change = _change(config, step_s)
        self._count, self._total, self._ahead = 0, np.zeros(()), np.zeros(())

    def __call__(
        self, evidence: Float[np.ndarray, "row col"], colour: Colour
    ) -> Float[np.ndarray, "row col"]:
        """The probability that a place, of that colour, carries the pulse; the first window counts in full.

        Evidence of zeros, as of a window without a rate, counts for nothing.
        """
        if not self._ahead.shape:
            self._ahead = _prior(self._config, evidence.shape)
        weight, found = self._weight if self._count else 1.0, bool(evidence.any())
        self._count, self._total = self._count + found, self._total + evidence
        above = found * (evidence - bars(self._total / max(self._count, 1), colour, self._config))
        state = _observed(above, weight, self._config) * self._ahead
        state /= state.sum(0)
        self._ahead = np.tensordot(self._change, state, 1)
        return state[0]


def carries(
    evidence: Places, colour: Colour, config: ReadoutConfig, *, step_s: float, window_s: float
) -> Places:
    """The probability, in every window, that a place carries a pulse, given all windows.

    Forward-backward with two states, like `tracking.track` for rates; each second of video counts once:

        o(pulse) = exp( w gain (e - bar) ),  o(none) = 1

    A pulse comes to a place or leaves it once in `place_switch_s` seconds. A window of zeros, as one without
    a rate, counts for nothing. colour: of the places, on average. bar: of every place (`bars`).
    Source: Rabiner, Proc. IEEE 77(2), 1989.
    """
    weights = tracking.window_weights(len(evidence), tracking.window_steps(step_s, window_s))
    found = np.asarray(evidence.any((1, 2)))
    mean = evidence.sum(0) / max(found.sum(), 1)
    above = (evidence - bars(mean, colour, config)) * found[:, None, None]
    observed = _observed(above, weights[:, None, None], config).reshape(len(evidence), 2, -1)
    ahead = _prior(config, observed.shape[2:])
    return tracking.forward_backward(observed, ahead, _change(config, step_s))[:, 0].reshape(evidence.shape)


def find_pulses(
    windows: Callable[[], Iterable[Seen]],
    strength: Float[np.ndarray, "window rate"],
    rate_axis_bpm: Axis,
    config: Config,
    *,
    step_s: float,
    window_s: float,
) -> list[Pulse]:
    """Finds the pulses of a video, that of the whole frame first.

    windows: gives all maps of the video, with the colours of their places, at every call. strength: evidence
    of each whole map for every rate (`readout.evidence`). Each further pulse is read from the places that
    carry none of the earlier ones, at rates that differ from theirs; it counts if it is found in most
    windows and at `region_places` places.
    """
    settings, timing = config.readout, {"step_s": step_s, "window_s": window_s}
    found: list[Pulse] = []
    while True:
        pulse = _read_pulse(windows, strength, rate_axis_bpm, config, timing)
        if found and not _counts(pulse, settings):
            return found
        found.append(pulse)
        if len(found) == settings.pulses:
            return found
        taken = np.max([known.probability for known in found], axis=0)
        rest = []
        for window, seen in enumerate(windows()):
            rates = [known.readings[window].rate_bpm for known in found]
            other = _without(seen.believed(config), taken[window], rates, rate_axis_bpm, settings)
            rest.append(readout.evidence(other, settings, odds=config.odds))
        strength = np.stack(rest)


def _read_pulse(
    windows: Callable[[], Iterable[Seen]],
    strength: Float[np.ndarray, "window rate"],
    rate_axis_bpm: Axis,
    config: Config,
    timing: dict[str, float],
) -> Pulse:
    """Reads a pulse from the whole frame, then, from likelihoods, again from the places that carry it.

    In windows in which these do not lie together, there is none (`lie_together`).
    Votes of single places are less than what the frame was read from, in classical methods its mean colour.
    """
    settings = config.readout

    def read(strength: np.ndarray) -> Pulse:
        readings = tracking.readings(strength, rate_axis_bpm, settings, **timing)
        asked, colours = [], np.zeros(())
        for seen, reading in zip(windows(), readings, strict=True):
            asked.append(
                evidence(seen.believed(config), seen.colour, rate_axis_bpm, reading.rate_bpm, config)
            )
            colours = colours + seen.colour.astype(np.float64)
        known = np.isfinite([reading.rate_bpm for reading in readings])
        probability = (
            carries(np.stack(asked), colours / len(asked), settings, **timing) * known[:, None, None]
        )
        return Pulse(readings, probability, strength)

    pulse = read(strength)
    if settings.method != "tracked":
        return pulse
    again = np.stack(
        [
            readout.likelihood(seen.believed(config), config.odds, weight=weight)
            for seen, weight in zip(windows(), pulse.probability, strict=True)
        ]
    )
    # the whole frame decides whether there is a pulse: its strength, with the rates of these places
    most, asked = again.max(-1, keepdims=True), strength.max(-1, keepdims=True)
    pulse = read(np.where(most > 0, again / np.where(most > 0, most, 1) * asked, strength))
    scattered = np.isfinite([reading.rate_bpm for reading in pulse.readings])
    scattered &= [not lie_together(places, settings) for places in pulse.probability]
    if not scattered.any():
        return pulse
    strength = np.where(scattered[:, None], 0, pulse.strength)
    readings = tracking.readings(strength, rate_axis_bpm, settings, **timing)
    known = np.isfinite([reading.rate_bpm for reading in readings])
    return Pulse(readings, pulse.probability * known[:, None, None], strength)


def strongest(pulses: list[Pulse]) -> tuple[Places, Places]:
    """The rate of every place's likeliest pulse in every window, and the probability that it is there."""
    probability = np.stack([pulse.probability for pulse in pulses])
    rates = np.array([[reading.rate_bpm for reading in pulse.readings] for pulse in pulses])
    chosen = probability.argmax(0)
    return np.take_along_axis(rates[:, :, None, None], chosen[None], 0)[0], probability.max(0)


def shown(rate_bpm: Places, probability: Places) -> Places:
    """The rates of the places that carry a pulse, nan for others."""
    return np.where(probability >= 0.5, rate_bpm, np.nan)


def _counts(pulse: Pulse, config: ReadoutConfig) -> bool:
    """Whether a further pulse counts: in most windows, and at enough places."""
    known = np.isfinite([reading.rate_bpm for reading in pulse.readings])
    there = (pulse.probability >= 0.5).mean(0) > 0.5
    return bool(known.mean() > 0.5 and there.sum() >= config.region_places)


def _without(
    probability: Map,
    taken: Float[np.ndarray, "row col"],
    rates_bpm: Iterable[float],
    rate_axis_bpm: Axis,
    config: ReadoutConfig,
) -> Map:
    """The map without a pulse at the places taken and at rates near those known."""
    other = probability.astype(np.float32)
    for rate in rates_bpm:
        other[..., :-1] *= ~(abs(rate_axis_bpm - rate) <= 2 * config.region_tolerance_bpm)
    other[taken > 0.2, :-1] = 0
    other[..., -1] = np.where(taken > 0.2, 1, np.maximum(other[..., -1], LEAST))
    return other


def _observed(
    above: Float[np.ndarray, "*window row col"], weight: float | np.ndarray, config: ReadoutConfig
) -> Float[np.ndarray, "*window state row col"]:
    ratio = weight * config.place_gain * above
    return np.stack([np.exp(np.clip(ratio, -30, 30)), np.ones_like(ratio)], -3)


def _prior(config: ReadoutConfig, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([np.full(shape, config.place_prior), np.full(shape, 1 - config.place_prior)])


def _change(config: ReadoutConfig, step_s: float) -> Float[np.ndarray, "state state"]:
    """The probability of every state (row) one step after every state (column)."""
    switch = min(step_s / config.place_switch_s, 1.0)
    prior = np.array([config.place_prior, 1 - config.place_prior])
    return (1 - switch) * np.eye(2) + switch * prior[:, None]
