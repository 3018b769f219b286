"""Turns evidence into answers, one per window of the truth, and computes that truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pulse3d.config import ReadoutConfig
from pulse3d.evaluation import calibration, contact
from pulse3d.evaluation.evidence import Evidence
from pulse3d.evaluation.metrics import Windows, mean_finite
from pulse3d.evaluation.recordings import DEVICE, Recording
from pulse3d.evaluation.traces import TRACE_FPS
from pulse3d.reading import readout, tracking


class Truth(NamedTuple):
    """The true rates of every window in bpm; nan where there is none.

    time_s: the windows' centres in seconds. rate_bpm: what answers are scored against; for a contact pulse,
    the peak of its spectrum. device_bpm: the measuring device's own rate. beats_bpm: the mean rate over the
    beats of a contact pulse.
    """

    time_s: Windows
    rate_bpm: Windows
    device_bpm: Windows
    beats_bpm: Windows


def window_truth(recording: Recording, end_s: float, *, window_s: float, step_s: float) -> Truth:
    """The truth of every window of length `window_s` in a video whose last frame is at `end_s`.

    "ppg": `contact.reference_rate` and `contact.counted_rate` of the contact pulse; "device": the mean of its
    rates in every window, or its one rate; "consensus": its one rate; others: nan. Raises InputError if the
    reference is missing or damaged.
    """
    # The last sample of a window lies a frame before its end.
    centres = contact.window_centres(0.0, end_s + 1 / TRACE_FPS, length_s=window_s, step_s=step_s)
    reference, nothing = recording.reference(), np.full(len(centres), np.nan)
    if reference is None:
        return Truth(centres, np.full(len(centres), recording.rate_bpm), nothing, nothing)
    device = contact.device_rates(reference.rate_bpm, reference.time_s, centres, length_s=window_s)
    if recording.truth == DEVICE:
        return Truth(centres, device, device, nothing)
    spectral, counted = (
        contact.window_rates(measure, reference.pulse, reference.time_s, centres, length_s=window_s)
        for measure in (contact.reference_rate, contact.counted_rate)
    )
    return Truth(centres, spectral, device, counted)


def toolbox_truth(recording: Recording, end_s: float) -> Truth:
    """The truth of a whole recording, as one window: `contact.toolbox_rate` of its contact pulse.

    Only the pulse during the video counts. Other kinds of truth are as in `window_truth`. Raises
    InputError if the reference is missing, damaged or too short.
    """
    reference, centre, nothing = recording.reference(), np.array([end_s / 2]), np.full(1, np.nan)
    if reference is None:
        return Truth(centre, np.array([recording.rate_bpm]), nothing, nothing)
    device = contact.device_rates(reference.rate_bpm, reference.time_s, centre, length_s=end_s)
    if recording.truth == DEVICE:
        return Truth(centre, device, device, nothing)
    first, last = max(0.0, reference.time_s[0]), min(end_s, reference.time_s[-1])
    grid = np.arange(first, last, 1 / contact.REFERENCE_FPS)
    pulse = np.interp(grid, reference.time_s, reference.pulse)
    rate = contact.toolbox_rate(pulse, contact.REFERENCE_FPS)
    return Truth(centre, np.array([rate]), device, nothing)


class Answers(NamedTuple):
    """Rates in bpm with interval and confidence, one per window; nan where a method gives none.

    snr_db: SNR of the pulse signal at the true rate; nan where there is no signal. log_odds: the log odds of
    a pulse, by which windows are ranked for detection.
    """

    rate_bpm: Windows
    low_bpm: Windows
    high_bpm: Windows
    confidence: Windows
    snr_db: Windows
    log_odds: Windows


def window_answers(
    evidence: Evidence, asked: str, truth: Truth, config: ReadoutConfig, *, window_s: float
) -> Answers:
    """A read-out's answer for every window of the truth, `window_s` long.

    Each answer combines the windows of the evidence that lie inside, to within half a frame:

        eq8        mean of their equation_8_bpm
        median     median of their median_bpm
        peak       largest of their mean probability
        posterior  `readout.read` of their mean probability
        tracked    as posterior, with probabilities from `tracking.track` over all windows

    asked: one of these, or own. For the last three, windows rejected by `readout.is_pulse` count as no
    evidence. The odds of a pulse come from what the answer is based on: the mean share of patches with a
    pulse for eq8 and median, the largest probability for peak, any rate against none for the others.
    """
    asked = _read_out(asked, config)
    inside = _inside(evidence, truth, window_s)
    nothing = np.full(len(truth.time_s), np.nan)
    answers = Answers(nothing, nothing, nothing, nothing, _snr(evidence, truth, inside), nothing)
    if asked in ("eq8", "median"):
        average, values = (
            (np.mean, evidence.equation_8_bpm) if asked == "eq8" else (np.median, evidence.median_bpm)
        )
        share = np.nan_to_num(_over_known(np.mean, evidence.pulse_share, inside))
        return answers._replace(
            rate_bpm=_over_known(average, values, inside), log_odds=_log_odds(share, 1 - share)
        )
    mean = _window_probability(evidence, asked, inside, config)
    rates = mean[:, :-1]
    if asked == "peak":
        return answers._replace(
            rate_bpm=np.where(rates.any(1), evidence.rate_axis_bpm[rates.argmax(1)], np.nan),
            log_odds=_log_odds(rates.max(1), 1 - rates.max(1)),
        )
    readings = [readout.read(row, evidence.rate_axis_bpm, config) for row in mean]
    rate, low, high, confidence = np.array(readings, float).reshape(-1, 4).T
    sure = np.where(np.isfinite(rate), confidence, np.nan)
    return Answers(rate, low, high, sure, answers.snr_db, _log_odds(rates.sum(1), mean[:, -1]))


def intervals_hold(
    evidence: Evidence, asked: str, truth: Truth, config: ReadoutConfig, *, window_s: float
) -> Float[np.ndarray, "window level"]:
    """Whether the answer's interval at every level of `calibration.LEVELS` contains the truth: 1, 0 or nan.

    nan where there is no answer, no truth, or no interval. Arguments are as in `window_answers`.
    """
    asked = _read_out(asked, config)
    held = np.full((len(truth.time_s), len(calibration.LEVELS)), np.nan)
    if asked not in ("posterior", "tracked"):
        return held
    mean = _window_probability(evidence, asked, _inside(evidence, truth, window_s), config)
    for window, (row, rate) in enumerate(zip(mean, truth.rate_bpm, strict=True)):
        for index, level in enumerate(calibration.LEVELS):
            settings = dataclasses.replace(config, interval=float(level))
            reading = readout.read(row, evidence.rate_axis_bpm, settings)
            if np.isfinite(rate) and np.isfinite(reading.rate_bpm):
                held[window, index] = reading.low_bpm <= rate <= reading.high_bpm
    return held


def _read_out(asked: str, config: ReadoutConfig) -> str:
    """The name of a read-out; `own` is replaced by that of the config."""
    if asked != "own":
        return asked
    return "posterior" if config.method == "votes" else "tracked"


def _inside(evidence: Evidence, truth: Truth, window_s: float) -> Bool[np.ndarray, "answer window"]:
    """Which windows of the evidence lie inside every window of the truth, to half a frame."""
    slack = (window_s - evidence.window_s) / 2 + 0.5 / evidence.fps
    return abs(evidence.time_s - truth.time_s[:, None]) <= slack


def _window_probability(
    evidence: Evidence, asked: str, inside: Bool[np.ndarray, "answer window"], config: ReadoutConfig
) -> Float[np.ndarray, "answer class"]:
    """The mean probability of the windows inside; all of it on "no pulse" if there is none."""
    has_pulse = readout.is_pulse(evidence.strength, evidence.pulse_share, config)
    strength = evidence.strength * has_pulse[:, None]
    if asked == "tracked":
        probability = tracking.track(
            strength,
            evidence.rate_axis_bpm,
            config,
            step_s=evidence.step_s,
            window_s=evidence.window_s,
        )
    else:
        probability = readout.alone(strength)
    total = inside.astype(float) @ probability
    count = inside.sum(1, keepdims=True)
    nothing = np.arange(total.shape[1]) == total.shape[1] - 1
    return np.where(count > 0, total / np.maximum(count, 1), nothing)


def toolbox_answers(evidence: Evidence, asked: str, truth: Truth, config: ReadoutConfig) -> Answers:
    """One answer for the whole recording.

    For a source with a signal (its evidence is one window, the whole recording), `contact.toolbox_rate` of
    the signal. For others, the median of the answers of all windows.
    """
    nothing = np.full(1, np.nan)
    if evidence.signal.shape[1]:
        signal = evidence.signal[0].astype(np.float64)
        snr = contact.snr_db(signal, evidence.fps, truth.rate_bpm[0])
        rate = contact.toolbox_rate(signal, evidence.fps)
        return Answers(np.array([rate]), nothing, nothing, nothing, np.array([snr]), nothing)
    unknown = np.full(len(evidence.time_s), np.nan)
    own = Truth(evidence.time_s, unknown, unknown, unknown)
    rates = window_answers(evidence, asked, own, config, window_s=evidence.window_s).rate_bpm
    median = _over_known(np.median, rates, np.ones((1, len(rates)), bool))
    return Answers(median, nothing, nothing, nothing, nothing, nothing)


def _snr(evidence: Evidence, truth: Truth, inside: np.ndarray) -> Windows:
    """Mean SNR in dB of the signals inside every window of the truth."""
    snr = np.full(len(truth.time_s), np.nan)
    if evidence.signal.shape[1]:
        for index, (row, rate) in enumerate(zip(inside, truth.rate_bpm, strict=True)):
            values = [contact.snr_db(signal, evidence.fps, rate) for signal in evidence.signal[row]]
            snr[index] = mean_finite(np.array(values))
    return snr


def _over_known(average: Callable, values: Windows, chosen: np.ndarray) -> np.ndarray:
    """The average of the finite values selected by each row of `chosen` (row, window); nan if none."""
    groups = (values[row & np.isfinite(values)] for row in chosen)
    return np.array([average(group) if len(group) else np.nan for group in groups])


def _log_odds(pulse: Windows, none: Windows) -> Windows:
    """The log odds of a pulse against none, kept finite."""
    least = np.finfo(float).tiny
    return np.log(np.maximum(pulse, least)) - np.log(np.maximum(none, least))
