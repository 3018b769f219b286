"""Scores of rates, detection and maps, from truth and answers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pulse3d.evaluation import map_truth, metrics
from pulse3d.evaluation.answers import Answers, Truth
from pulse3d.evaluation.evidence import Evidence
from pulse3d.evaluation.map_truth import Mask, ScoredMap
from pulse3d.evaluation.metrics import TOLERANCE_BPM, mean_finite
from pulse3d.evaluation.recordings import NO_PULSE, PULSELESS, SCENE


def score_places(evidence: Evidence, truth: Truth, mask: Mask | None, *, by: str) -> ScoredMap | None:
    """Scores a source's map by `map_truth.against`; None without a map or a mask.

    The truth is interpolated to the centres of the map's windows.
    """
    if evidence.places is None or mask is None:
        return None
    rate_bpm = np.full(len(evidence.time_s), np.nan)
    if len(truth.time_s):
        rate_bpm = np.interp(evidence.time_s, truth.time_s, truth.rate_bpm)
    return map_truth.against(evidence.places, rate_bpm, mask, by=by)


class Scored(NamedTuple):
    """The truth of a recording and a method's answers, window by window.

    kind: of the truth, as in `recordings.Recording`. seconds_per_minute: computing time per minute of
    video. holds: from `intervals_hold`. map: None without a map or a mask. face_share: as in `Traces`.
    """

    method: str
    clip: str
    kind: str
    truth: Truth
    answers: Answers
    seconds_per_minute: float
    holds: Float[np.ndarray, "window level"] | None = None
    map: ScoredMap | None = None
    face_share: float = np.nan


class Scores(NamedTuple):
    """The measures of `metrics` over the windows of one or several recordings.

    n_windows: windows with a truth; without a pulse, all. answered: how many of them have an answer.
    mae_bpm, mae_low_bpm, mae_high_bpm: the mean over recordings of each one's MAE, and its 95 %
    interval. recordings_rmse_bpm: `metrics.rmse_over_recordings`. mae_beats_bpm: as mae_bpm, against the
    rate over the beats. truth_gap_bpm: the same between the two truths; no method can be below it for both.
    All others pool the windows; snr_db and seconds_per_minute are means. nan: undefined.
    """

    recordings: int
    n_windows: int
    answered: int
    mae_bpm: float
    mae_low_bpm: float
    mae_high_bpm: float
    rmse_bpm: float
    recordings_rmse_bpm: float
    within_5bpm: float
    pearson: float
    snr_db: float
    coverage: float
    seconds_per_minute: float
    mae_beats_bpm: float
    within_5bpm_beats: float
    truth_gap_bpm: float
    calibration_error: float


def score(scored: list[Scored]) -> Scores:
    """The scores of one method over recordings with the same kind of truth, at least one."""
    truth = np.concatenate([s.truth.rate_bpm for s in scored])
    over_beats = np.concatenate([s.truth.beats_bpm for s in scored])
    answers = Answers(*map(np.concatenate, zip(*(s.answers for s in scored), strict=True)))
    recording = np.repeat(np.arange(len(scored)), [len(s.truth.rate_bpm) for s in scored])
    counted = np.isfinite(truth) | (scored[0].kind in (NO_PULSE, PULSELESS))
    low, high = metrics.mae_interval(truth, answers.rate_bpm, recording)
    known, near = np.isfinite(truth), abs(answers.rate_bpm - truth) <= TOLERANCE_BPM
    return Scores(
        recordings=len(scored),
        n_windows=int(counted.sum()),
        answered=int(np.isfinite(answers.rate_bpm[counted]).sum()),
        mae_bpm=metrics.mae_over_recordings(truth, answers.rate_bpm, recording),
        mae_low_bpm=low,
        mae_high_bpm=high,
        rmse_bpm=metrics.rmse(truth, answers.rate_bpm),
        recordings_rmse_bpm=metrics.rmse_over_recordings(truth, answers.rate_bpm, recording),
        within_5bpm=metrics.within(truth, answers.rate_bpm),
        pearson=metrics.pearson(truth, answers.rate_bpm),
        snr_db=mean_finite(answers.snr_db),
        coverage=metrics.coverage(truth, answers.low_bpm, answers.high_bpm),
        seconds_per_minute=mean_finite(np.array([s.seconds_per_minute for s in scored])),
        mae_beats_bpm=metrics.mae_over_recordings(over_beats, answers.rate_bpm, recording),
        within_5bpm_beats=metrics.within(over_beats, answers.rate_bpm),
        truth_gap_bpm=metrics.mae_over_recordings(truth, over_beats, recording),
        calibration_error=metrics.reliability(answers.confidence[known], near[known]).error,
    )


class Detection(NamedTuple):
    """How well windows with a pulse are separated from windows without, 0...1.

    roc_area: of the log odds of a pulse. answered_at_1_percent, answered_at_5_percent: the share of windows
    with a pulse above the threshold that 1 or 5 % of those without exceed. answered, made_up: the shares of
    windows with and without a pulse that the method itself answers.
    """

    roc_area: float
    answered_at_1_percent: float
    answered_at_5_percent: float
    answered: float
    made_up: float


def detect(scored: list[Scored]) -> Detection:
    """The detection scores of one method: recordings with a pulse against the pulseless set.

    Recordings without a measurable pulse and scenes are left out.
    """
    present, absent = detection_scores(scored)
    answered, made_up = (mean_finite(np.isfinite(rates)) for rates in _by_pulse(scored, "rate_bpm"))
    at_1_percent, at_5_percent = (
        mean_finite(present > metrics.threshold(absent, share)) for share in (0.01, 0.05)
    )
    return Detection(
        roc_area=metrics.roc_area(present, absent),
        answered_at_1_percent=at_1_percent,
        answered_at_5_percent=at_5_percent,
        answered=answered,
        made_up=made_up,
    )


def detection_scores(
    scored: list[Scored],
) -> tuple[Float[np.ndarray, "present"], Float[np.ndarray, "absent"]]:
    """The log odds of all windows with a pulse, and of all without."""
    return _by_pulse(scored, "log_odds")


def _by_pulse(scored: list[Scored], name: str) -> tuple[np.ndarray, np.ndarray]:
    """One of the columns of `Answers`, of all windows with a pulse and of all without."""
    present = [getattr(s.answers, name) for s in scored if s.kind not in (NO_PULSE, PULSELESS, SCENE)]
    absent = [getattr(s.answers, name) for s in scored if s.kind == PULSELESS]
    return np.concatenate([np.zeros(0), *present]), np.concatenate([np.zeros(0), *absent])


def mean_map_scores(scored: list[Scored]) -> map_truth.MapScores:
    """The mean scores of one method's maps over the recordings with a mask."""
    scores = [s.map.scores for s in scored if s.map]
    return map_truth.MapScores(*(mean_finite(np.array(column)) for column in zip(*scores, strict=True)))
