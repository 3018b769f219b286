"""The scores of a study as tables: results.csv, windows.csv and table.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pulse3d import files
from pulse3d.evaluation import map_truth, pulseless
from pulse3d.evaluation.recordings import NO_PULSE, PULSELESS, SCENE
from pulse3d.evaluation.scores import Scored, Scores, detect, mean_map_scores, score

RESULTS_HEADER = (
    "method,clip,n_windows,answered,mae_bpm,rmse_bpm,within_5bpm,pearson,snr_db,coverage,seconds_per_minute,"
    "mae_beats_bpm,within_5bpm_beats,truth_gap_bpm," + ",".join(map_truth.MapScores._fields)
)
WINDOWS_HEADER = (
    "method,clip,time_s,truth_bpm,device_bpm,beats_bpm,answer_bpm,low_bpm,high_bpm,confidence,log_odds"
)
DEFINITIONS = """\
MAE: mean over recordings of each recording's mean absolute error, with its 95 % bootstrap interval over
recordings. RMSE, within 5 bpm (no answer is a miss), Pearson and coverage (of the 90 % interval): over all
windows. RMSE over recordings: of a recording's mean answer from its mean truth. SNR: mean over windows, of
methods that give a pulse signal. s/min: seconds of computing, decoding included, per minute of video.
Beats: the same against the mean rate over the beats of the contact pulse, where else the truth is the peak of
its spectrum; truth gap: the mean distance of these two, the floor that no method can be below for both.
Calibration error: mean distance of stated confidence and share within 5 bpm, over ten bins."""
MAP_DEFINITIONS = """\
Painted: share of background places, over all windows, that show a rate. Found: share of skin places that show
a rate within 5 bpm of the truth; at 3 %: where the threshold lets 3 % of the background show one. ROC area:
skin against background, ranked by {}, in single windows and by its mean over
the clip. IoU: the best intersection over union of that mean with the skin."""
DETECTION_DEFINITIONS = """\
ROC area: windows with a pulse against windows without, ranked by the odds that the method gives a pulse.
Answered at 1 % (5 %): share of the windows with a pulse above the bar that lets 1 % (5 %) of those without
pass. Answered, made up: the shares of windows with a pulse, and without, that the method answers as it is."""


def write_tables(out: Path, scored: list[Scored], *, dataset: str, place_score: str) -> str:
    """Writes results.csv, windows.csv and table.md; returns the text of the last.

    dataset: its name. place_score: as in `study.score_recording`.
    """
    number = files.number
    results, windows = [], []
    for one in scored:
        s = score([one])
        measures = (
            s.mae_bpm,
            s.rmse_bpm,
            s.within_5bpm,
            s.pearson,
            s.snr_db,
            s.coverage,
            s.seconds_per_minute,
            s.mae_beats_bpm,
            s.within_5bpm_beats,
            s.truth_gap_bpm,
            *(one.map.scores if one.map else [np.nan] * len(map_truth.MapScores._fields)),
        )
        results.append(
            [one.method, one.clip, str(s.n_windows), str(s.answered), *(number(v, 4) for v in measures)]
        )
        columns = (*one.truth, *one.answers[:4], one.answers.log_odds)
        windows += [
            [one.method, one.clip, *(number(v, 3) for v in row)] for row in zip(*columns, strict=True)
        ]
    files.write_csv(out / "results.csv", RESULTS_HEADER, results)
    files.write_csv(out / "windows.csv", WINDOWS_HEADER, windows)
    text = "\n\n".join(
        [
            *tables(scored, dataset=dataset),
            DEFINITIONS,
            *map_table(scored, place_score=place_score),
            *detection_tables(scored),
        ]
    )
    files.write_atomically(out / "table.md", (text + "\n").encode())
    return text


POOLED_HEADER = (
    "method,data set,truth,recordings,windows,answered (%),MAE (bpm) (95 % CI),RMSE (bpm),"
    "RMSE over recordings (bpm),within 5 bpm (%),Pearson,SNR (dB),coverage (%),s/min,"
    "MAE to beats (bpm),within 5 bpm of beats (%),calibration error"
)
UNANSWERED_HEADER = "method,data set,recordings,windows,unanswered (%),s/min"


def tables(scored: list[Scored], *, dataset: str) -> list[str]:
    """The scores as Markdown: pooled by kind of truth, pulseless recordings, every recording's MAE."""
    # a scene has no single rate; the pulseless set has its own tables
    scored = [s for s in scored if s.kind not in (SCENE, PULSELESS)]
    if not scored:
        return []
    methods, clips, kinds = (
        list(dict.fromkeys(getattr(s, name) for s in scored)) for name in ("method", "clip", "kind")
    )
    groups = [
        (kind, [s for s in scored if (s.kind, s.method) == (kind, method)])
        for kind in kinds
        for method in methods
    ]
    pooled = [_pooled_row(group, dataset) for kind, group in groups if group and kind != NO_PULSE]
    pulseless = [_unanswered_row(group, dataset) for kind, group in groups if group and kind == NO_PULSE]
    parts = [markdown(POOLED_HEADER, pooled)] if pooled else []
    if pulseless:
        table = markdown(UNANSWERED_HEADER, pulseless)
        parts.append(f"No measurable pulse; the right answer is none:\n\n{table}")
    found = {(s.clip, s.method): s for s in scored}
    gap = {s.clip: files.number(score([s]).truth_gap_bpm, 2) for s in scored}
    rows = [[clip, gap[clip], *(_cell(found.get((clip, method))) for method in methods)] for clip in clips]
    each = markdown(",".join(["recording", "truth gap", *methods]), rows)
    parts.append(f"MAE of every recording (bpm); without a pulse, windows left unanswered:\n\n{each}")
    silent = {method: [s.clip for s in scored if s.method == method and is_silent(s)] for method in methods}
    lines = [f"{method}: {', '.join(clips)}" for method, clips in silent.items() if clips]
    parts.append("Recordings with a pulse of which nothing was answered: " + ("; ".join(lines) or "none"))
    faceless = dict.fromkeys(s.clip for s in scored if s.face_share == 0)
    if faceless:
        parts.append(f"No face found, the skin of the whole frame taken instead: {', '.join(faceless)}")
    return parts


def _pooled_row(group: list[Scored], dataset: str) -> list[str]:
    """A method on the recordings of one kind of truth, for POOLED_HEADER."""
    s, number = score(group), files.number
    interval = f" ({s.mae_low_bpm:.1f} to {s.mae_high_bpm:.1f})" if np.isfinite(s.mae_low_bpm) else ""
    return [
        group[0].method,
        dataset,
        group[0].kind,
        str(s.recordings),
        str(s.n_windows),
        number(100 * _answered(s), 1),
        number(s.mae_bpm, 2) + interval,
        number(s.rmse_bpm, 2),
        number(s.recordings_rmse_bpm, 2),
        number(100 * s.within_5bpm, 1),
        number(s.pearson, 2),
        number(s.snr_db, 1),
        number(100 * s.coverage, 1),
        number(s.seconds_per_minute, 1),
        number(s.mae_beats_bpm, 2),
        number(100 * s.within_5bpm_beats, 1),
        number(s.calibration_error, 2),
    ]


def _unanswered_row(group: list[Scored], dataset: str) -> list[str]:
    """A method on recordings without a measurable pulse, for UNANSWERED_HEADER."""
    s, number = score(group), files.number
    counts = [group[0].method, dataset, str(s.recordings), str(s.n_windows)]
    return [*counts, number(100 * (1 - _answered(s)), 1), number(s.seconds_per_minute, 1)]


def _answered(scores: Scores) -> float:
    return scores.answered / scores.n_windows if scores.n_windows else np.nan


def is_silent(one: Scored) -> bool:
    """Whether a recording with a pulse has no answer in any window."""
    return one.kind != NO_PULSE and not np.isfinite(one.answers.rate_bpm).any()


def detection_tables(scored: list[Scored]) -> list[str]:
    """Detection scores as Markdown, and made-up answers by kind; empty without the pulseless set."""
    absent = [s for s in scored if s.kind == PULSELESS]
    if not absent:
        return []
    methods = list(dict.fromkeys(s.method for s in absent))
    kinds = list(dict.fromkeys(pulseless.kind_of(s.clip) for s in absent))
    shares, made_up = [], []
    for method in methods:
        found = detect([s for s in scored if s.method == method])
        percent = (files.number(100 * share, 1) for share in found[1:])
        shares.append([method, files.number(found.roc_area, 3), *percent])
        groups = [
            [s for s in absent if s.method == method and pulseless.kind_of(s.clip) == kind] for kind in kinds
        ]
        counts = [score(group) if group else None for group in groups]
        made_up.append([method, *(f"{c.answered} of {c.n_windows}" if c else "" for c in counts)])
    header = "method,ROC area,answered at 1 % (%),answered at 5 % (%),answered (%),made up (%)"
    return [
        f"Whether there is a pulse:\n\n{markdown(header, shares)}",
        DETECTION_DEFINITIONS,
        "Windows answered where there is no pulse:\n\n" + markdown(",".join(["method", *kinds]), made_up),
    ]


def map_table(scored: list[Scored], *, place_score: str) -> list[str]:
    """The scores of maps as Markdown: every recording with a mask, and their mean; empty without any."""
    rows = []
    for method in dict.fromkeys(s.method for s in scored):
        group = [s for s in scored if s.method == method and s.map]
        scores = [(s.clip, s.map.scores) for s in group if s.map]
        if scores:
            rows += [[method, name, *_map_cells(one)] for name, one in scores]
            rows.append([method, f"mean of {len(group)}", *_map_cells(mean_map_scores(group))])
    header = "method,recording,painted (%),found (%),found at 3 % (%),ROC area,ROC area of the clip,IoU"
    what = {"pulse": "the probability of a pulse", "confidence": "confidence"}[place_score]
    return (
        [f"Maps against skin masks:\n\n{markdown(header, rows)}", MAP_DEFINITIONS.format(what)]
        if rows
        else []
    )


def _map_cells(scores: map_truth.MapScores) -> list[str]:
    return [*(files.number(100 * v, 1) for v in scores[:3]), *(files.number(v, 3) for v in scores[3:])]


def _cell(one: Scored | None) -> str:
    """A recording's entry in the table of all recordings."""
    if one is None:
        return "missing"
    s = score([one])
    if one.kind == NO_PULSE:
        return f"{s.n_windows - s.answered} of {s.n_windows} unanswered"
    return files.number(s.mae_bpm, 2) or "no answer"


def markdown(header: str, rows: list[list[str]]) -> str:
    """A Markdown table; header: the names of the columns, with commas between."""
    table = [header.split(","), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in table
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
