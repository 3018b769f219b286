r"""Scores methods on recordings with a known pulse.

    python -m launch.evaluate --dataset=ubfc2 --root=UBFC2 --out=results --methods=default,pos,pos:tracked
    python -m launch.evaluate --dataset=clips --root=MY_VIDEOS --out=results

Your own videos: --dataset=clips and a folder of videos, each with a table beside it, `me.mp4` with
`me.csv`, whose header says what it holds:

    time_s,ppg         a contact pulse wave, on the video's clock
    time_s,rate_bpm    an oximeter's rates, on the video's clock
    rate_bpm           one rate for the whole video (the number alone will do)

and, for scores of the map, a skin mask of the frames' size, `me_skin.png`: 255 skin, 0 background, 128
left out. A `manifest.json` instead says more (`pulse3d/datasets.py`). --dataset=demo scores the map of the
built-in scene, whose masks are exact, and needs no --root.

--pulseless=N adds videos without a pulse, in which every answer is made up: N of each generated kind, as
they are and after x264, and photographs and walls cut from the recordings (`pulse3d/pulseless.py`). From
them and the recordings with a pulse come the detection table and detection.png: how many windows with a
pulse a method answers, and in how many without it makes one up.

Writes into --out: results.csv (a row per method and recording), windows.csv, table.md (also
printed), figures, and evidence/, from which an interrupted run goes on and other read-outs are
made at no cost. `pulse3d/evaluation.py` says what a method is, `pulse3d/metrics.py` what is
measured. Recordings that are missing or damaged are named and skipped (exit code 1). Several
processes share the work with --shard=0/4 ... --shard=3/4, or under Slurm by themselves; a run
without --shard then puts the whole together.

--protocol=toolbox takes one rate per recording, as rPPG-Toolbox does: of the whole pulse signal
of green, chrom and pos, against the contact pulse by the same path. Other sources give no
signal; for them it is the median of the answers of all their windows.
"""

import dataclasses
import fnmatch
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tqdm
from absl import flags

from launch import common
from pulse3d import (
    __version__,
    checkpoint,
    config,
    datasets,
    evaluation,
    evaluation_plots,
    faces,
    files,
    map_truth,
    mapping,
    peers,
    plots,
    pulseless,
    video,
)
from pulse3d.errors import InputError

_DATASET = flags.DEFINE_enum(
    "dataset", None, list(datasets.DATASETS), "Layout of the recordings.", required=True
)
_ROOT = flags.DEFINE_string("root", None, "Folder of the recordings; all data sets but demo need it.")
_OUT = flags.DEFINE_string("out", None, "Output folder; a folder with results is resumed.", required=True)
_METHODS = flags.DEFINE_list(
    "methods",
    ["default", *evaluation.BASELINES],
    "SOURCE or SOURCE:READOUT, with commas between. SOURCE:"
    f" {', '.join([*evaluation.BASELINES, *evaluation.BASELINE_MAPS])}, or weights (default, a preset,"
    " a file, a folder), or open-rppg:MODEL, as open-rppg:FacePhys.rlap (needs the extra `peers`)."
    f" READOUT: {', '.join(evaluation.READOUTS)}.",
)
_WINDOW = flags.DEFINE_float("window_s", 10.0, "Seconds of video per answer.", lower_bound=1.0)
_STEP = flags.DEFINE_float("step_s", 1.0, "Seconds between answers.", lower_bound=1e-3)
_RECORDINGS = flags.DEFINE_list("recordings", ["*"], "Only recordings whose name fits one of these patterns.")
_PROTOCOL = flags.DEFINE_enum(
    "protocol", "windows", ["windows", "toolbox"], "An answer per window, or one per recording."
)
_SHARD = flags.DEFINE_string("shard", None, "i/n: computes recordings i, i + n, i + 2n ... only.")
_STRIDE = flags.DEFINE_integer(
    "stride", None, "Pixels between patches; default: the network's, or --patch.", lower_bound=1
)
_ROI = flags.DEFINE_enum(
    "roi",
    "face",
    evaluation.REGIONS,
    "What green, chrom and pos take the mean colour of: the inner part of the face (needs the extra `face`;"
    " where no face is found, the skin), skin-coloured pixels anywhere, or the frame.",
)
_PATCH = flags.DEFINE_integer("patch", 24, "Pixels of the patches of the *_map baselines.", lower_bound=1)
_PLACE_SCORE = flags.DEFINE_enum(
    "place_score",
    "pulse",
    map_truth.SCORES,
    "What ranks the places of a map for found_at_3_percent, roc_area, roc_area_clip and iou: their"
    " probability of a pulse, or their confidence.",
)
_PULSELESS = flags.DEFINE_integer(
    "pulseless",
    0,
    "Scores whether there is a pulse, too, against this many generated videos of every kind without one, and"
    " the recordings' photographs and walls; 0: does not.",
    lower_bound=0,
)
_SET = flags.DEFINE_multi_string(
    "set", [], "Overrides a setting of map or readout: --set readout.interval=0.8."
)

EVIDENCE = 2  # what evidence holds; files of another number are made anew
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


class Source(NamedTuple):
    """What makes evidence: from a video, with settings, read with a config."""

    compute: Callable[[video.Video], evaluation.Evidence]
    settings: dict[str, Any]
    readout: config.ReadoutConfig


def main() -> None:
    methods = [evaluation.parse_method(name) for name in dict.fromkeys(_METHODS.value)]
    index, shards = common.parse_shard(_SHARD.value, os.environ)
    sources = make_sources(methods)
    if _ROOT.value is None and _DATASET.value != "demo":
        raise InputError(f"--dataset={_DATASET.value}: needs --root, the folder of the recordings")
    recordings = [
        recording
        for recording in datasets.find_recordings(_DATASET.value, _ROOT.value or "")
        if any(fnmatch.fnmatchcase(recording.name, pattern) for pattern in _RECORDINGS.value)
    ]
    if not methods or not recordings:
        raise InputError(f"--recordings={','.join(_RECORDINGS.value)}: none fits, or --methods is empty")
    if _PULSELESS.value and _PROTOCOL.value == "toolbox":
        raise InputError("--pulseless: --protocol=toolbox answers always; leave one of the two out")
    if _PULSELESS.value:
        recordings += [*pulseless.generate(_PULSELESS.value), *take_pulseless(recordings)]
    out = files.make_folder(Path(_OUT.value))
    folder = files.make_folder(out / "evidence")

    failed = compute(recordings[index::shards], sources, folder)
    scored, missing = [], []
    for recording in recordings:
        try:
            answered = score_recording(recording, methods, sources, folder)
        except InputError as error:
            if recording.name not in failed:
                failed.add(report_failure(recording, str(error)))
            answered = []
        scored += answered
        if len(answered) < len(methods):
            missing.append(recording.name)
    if missing:
        print(f"{len(missing)} of {len(recordings)} recordings missing or not complete: {', '.join(missing)}")
    if not scored and shards == 1:
        raise InputError("no recording could be scored")
    if scored:
        write_results(out, scored)
        if _PROTOCOL.value == "windows" and (shards == 1 or not missing):
            draw(out, scored)
        print(f"written to {out}: results.csv, windows.csv, table.md")
    sys.exit(1 if failed else 0)


def take_pulseless(recordings: list[datasets.Recording]) -> list[datasets.Recording]:
    """What the recordings hold besides their pulse; those with a damaged mask are named by others."""
    taken = []
    for recording in recordings:
        try:
            taken += pulseless.take_from(recording)
        except InputError:
            continue
    return taken


def make_sources(methods: list[evaluation.Method]) -> dict[str, Source]:
    """The sources of the methods by name; raises InputError for one that cannot be used as asked."""
    toolbox = _PROTOCOL.value == "toolbox"
    sources = {}
    for method in methods:
        if toolbox and method.source in evaluation.BASELINES and method.name != method.source:
            raise InputError(f"method {method.name}: --protocol=toolbox takes the whole signal, no read-out")
        if method.source not in sources:
            sources[method.source] = make_source(method.source, toolbox=toolbox)
    return sources


# Baselines of the same recording follow each other and share its traces.
region_traces = functools.lru_cache(maxsize=1)(evaluation.region_traces)
patch_traces = functools.lru_cache(maxsize=1)(evaluation.patch_traces)


def make_source(name: str, *, toolbox: bool) -> Source:
    """A baseline, another program's model, or a network with weights by that name."""
    if name in (*evaluation.BASELINES, *evaluation.BASELINE_MAPS):
        return make_baseline(name, toolbox=toolbox)
    if evaluation.is_peer(name):
        return make_peer(name, toolbox=toolbox)
    return make_network(name, toolbox=toolbox)


def make_baseline(name: str, *, toolbox: bool) -> Source:
    """GREEN, CHROM or POS on the skin or on patches."""
    step_s, window_s, patch_px = _STEP.value, _WINDOW.value, _PATCH.value
    evaluation.require_windows(evaluation.baseline_clip(window_s), window_s=window_s, step_s=step_s)
    read = baseline_readout()
    if name in evaluation.BASELINES:
        length_s, region = None if toolbox else window_s, _ROI.value
        if region == "face":
            faces.make_detector()  # says at once what is missing
        return Source(
            lambda source: evaluation.skin_evidence(
                region_traces(source, region), name, window_s=length_s, step_s=step_s
            ),
            {"step_s": step_s, "window_s": length_s, "roi": region},
            read,
        )
    stride_px = _STRIDE.value or patch_px
    return Source(
        lambda source: evaluation.patch_evidence(
            patch_traces(source, patch_px=patch_px, stride_px=stride_px),
            name.removesuffix("_map"),
            window_s=window_s,
            step_s=step_s,
        ),
        {"step_s": step_s, "window_s": window_s, "patch_px": patch_px, "stride_px": stride_px},
        read,
    )


def make_peer(name: str, *, toolbox: bool) -> Source:
    """A model of open-rppg."""
    step_s, length_s = _STEP.value, None if toolbox else _WINDOW.value
    evaluation.require_windows(evaluation.baseline_clip(_WINDOW.value), window_s=_WINDOW.value, step_s=step_s)
    peers.require(name)
    return Source(
        lambda source: evaluation.peer_evidence(source, name, window_s=length_s, step_s=step_s),
        {"step_s": step_s, "window_s": length_s},
        baseline_readout(),
    )


def baseline_readout() -> config.ReadoutConfig:
    """How the read-outs of probabilities take a spectrum.

    A spectrum is a probability, no likelihood ratio: it has no strength that speaks for a pulse.
    """
    settings = common.use_settings(config.get_preset(config.DEFAULT_PRESET), _SET.value)
    return dataclasses.replace(settings.readout, method="votes", no_pulse_prior=0.0, evidence_power=0.0)


def make_network(name: str, *, toolbox: bool) -> Source:
    """A network's maps."""
    step_s = _STEP.value
    weights = checkpoint.load_weights(name)
    weights = weights._replace(config=common.use_settings(weights.config, _SET.value))
    clip, stride_px = weights.config.clip, _STRIDE.value
    evaluation.require_windows(clip, window_s=clip.duration_s if toolbox else _WINDOW.value, step_s=step_s)

    @functools.cache
    def mapper(shape: tuple[int, int]) -> mapping.Mapper:
        return mapping.make_mapper(weights.params, weights.config, shape, stride_px=stride_px)

    def compute(source: video.Video) -> evaluation.Evidence:
        return evaluation.network_evidence(source, mapper((source.height, source.width)), step_s=step_s)

    return Source(
        compute,
        {
            "step_s": step_s,
            "weights": evaluation.fingerprint(weights),
            "map": dataclasses.asdict(weights.config.map),
            "readout": weights.config.readout.method,
            "stride_px": stride_px,
        },
        weights.config.readout,
    )


def evidence_file(
    recording: datasets.Recording, name: str, source: Source, folder: Path
) -> tuple[Path, dict[str, Any]]:
    """Where the evidence is, and the settings that it must have been made by."""
    made_by = source.settings | {
        "source": name,
        "dataset": recording.dataset,
        "root": os.path.abspath(_ROOT.value or ""),
        "recording": recording.name,
        "pulse3d": __version__,
        "evidence": EVIDENCE,
    }
    return folder / f"{files.safe_name(name)},{files.safe_name(recording.name)}.npz", made_by


def compute(recordings: list[datasets.Recording], sources: dict[str, Source], folder: Path) -> set[str]:
    """Makes the evidence that is not there; returns the names of recordings that failed."""
    failed: set[str] = set()
    total = len(recordings) * len(sources)
    with tqdm.tqdm(total=total, unit="evidence", desc="evaluating", disable=None) as bar:
        for recording in recordings:
            bar.set_postfix_str(recording.name)
            opened, errors = None, dict[str, list[str]]()
            for name, source in sources.items():
                path, made_by = evidence_file(recording, name, source, folder)
                if files.read_npz(path, made_by=made_by) is None:
                    try:
                        if opened is None:
                            opened = open_recording(recording)
                        evidence = source.compute(opened)
                        files.write_npz(path, evaluation.to_arrays(evidence), made_by=made_by)
                    except InputError as error:
                        errors.setdefault(str(error), []).append(name)
                bar.update()
            for message, names in errors.items():
                failed.add(report_failure(recording, f"({', '.join(names)}) {message}"))
    return failed


def open_recording(recording: datasets.Recording) -> video.Video:
    """The video; raises InputError, too, where its truth is damaged and computing would be in vain."""
    recording.reference()
    mask, opened = recording.mask(), recording.open_video()
    if mask is not None:
        map_truth.check_size(mask, (opened.height, opened.width))
    return opened


def report_failure(recording: datasets.Recording, message: str) -> str:
    """Prints one line about a skipped recording; returns its name."""
    tqdm.tqdm.write(f"skipped {recording.name}: {message}", file=sys.stderr)
    return recording.name


def score_recording(
    recording: datasets.Recording,
    methods: list[evaluation.Method],
    sources: dict[str, Source],
    folder: Path,
) -> list[evaluation.Scored]:
    """Truth and answers of all methods whose evidence is there."""
    truth_of = functools.cache(
        functools.partial(evaluation.toolbox_truth, recording)
        if _PROTOCOL.value == "toolbox"
        else functools.partial(evaluation.window_truth, recording, window_s=_WINDOW.value, step_s=_STEP.value)
    )
    scored = []
    for method in methods:
        source = sources[method.source]
        path, made_by = evidence_file(recording, method.source, source, folder)
        arrays = files.read_npz(path, made_by=made_by)
        if arrays is None:
            continue
        evidence = evaluation.from_arrays(arrays)
        truth = truth_of(evidence.end_s)
        holds, mapped = None, None
        if _PROTOCOL.value == "toolbox":
            answers = evaluation.toolbox_answers(evidence, method.readout, truth, source.readout)
        else:
            asked = evidence, method.readout, truth, source.readout
            answers = evaluation.window_answers(*asked, window_s=_WINDOW.value)
            holds = evaluation.intervals_hold(*asked, window_s=_WINDOW.value)
            mapped = evaluation.score_places(evidence, truth, recording.mask(), by=_PLACE_SCORE.value)
        seconds_per_minute = 60 * evidence.seconds / evidence.end_s
        scored.append(
            evaluation.Scored(
                method.name,
                recording.name,
                recording.truth,
                truth,
                answers,
                seconds_per_minute,
                holds,
                mapped,
                evidence.face_share,
            )
        )
    return scored


def write_results(out: Path, scored: list[evaluation.Scored]) -> None:
    """Writes results.csv, windows.csv and table.md, and prints the table."""
    number = files.number
    results, windows = [], []
    for one in scored:
        s = evaluation.score([one])
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
    text = "\n\n".join([*tables(scored), DEFINITIONS, *map_table(scored), *detection_tables(scored)])
    files.write_atomically(out / "table.md", (text + "\n").encode())
    print(text)


def tables(scored: list[evaluation.Scored]) -> list[str]:
    """The scores as Markdown: pooled by kind of truth, pulseless recordings, every recording's MAE."""
    # a scene has no one rate; the pulseless set has tables of its own
    scored = [s for s in scored if s.kind not in (datasets.SCENE, datasets.PULSELESS)]
    if not scored:
        return []
    methods, clips = (list(dict.fromkeys(getattr(s, name) for s in scored)) for name in ("method", "clip"))
    number, pooled, pulseless = files.number, [], []
    for kind in dict.fromkeys(s.kind for s in scored):
        for method in methods:
            group = [s for s in scored if (s.kind, s.method) == (kind, method)]
            if not group:
                continue
            s = evaluation.score(group)
            share = s.answered / s.n_windows if s.n_windows else np.nan
            counts = [method, _DATASET.value, str(s.recordings), str(s.n_windows)]
            if kind == datasets.NO_PULSE:
                pulseless.append([*counts, number(100 * (1 - share), 1), number(s.seconds_per_minute, 1)])
                continue
            interval = f" ({s.mae_low_bpm:.1f} to {s.mae_high_bpm:.1f})" if np.isfinite(s.mae_low_bpm) else ""
            pooled.append(
                [
                    *counts[:2],
                    kind,
                    *counts[2:],
                    number(100 * share, 1),
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
            )
    header = (
        "method,data set,truth,recordings,windows,answered (%),MAE (bpm) (95 % CI),RMSE (bpm),"
        "RMSE over recordings (bpm),within 5 bpm (%),Pearson,SNR (dB),coverage (%),s/min,"
        "MAE to beats (bpm),within 5 bpm of beats (%),calibration error"
    )
    unanswered = "method,data set,recordings,windows,unanswered (%),s/min"
    found = {(s.clip, s.method): s for s in scored}
    gap = {s.clip: number(evaluation.score([s]).truth_gap_bpm, 2) for s in scored}
    rows = [[clip, gap[clip], *(_cell(found.get((clip, method))) for method in methods)] for clip in clips]
    parts = [markdown(header, pooled)] if pooled else []
    if pulseless:
        parts.append("No measurable pulse; the right answer is none:\n\n" + markdown(unanswered, pulseless))
    each = markdown(",".join(["recording", "truth gap", *methods]), rows)
    parts.append(f"MAE of every recording (bpm); without a pulse, windows left unanswered:\n\n{each}")
    silent = {method: [s.clip for s in scored if s.method == method and is_silent(s)] for method in methods}
    lines = [f"{method}: {', '.join(clips)}" for method, clips in silent.items() if clips]
    parts.append("Recordings with a pulse of which nothing was answered: " + ("; ".join(lines) or "none"))
    faceless = dict.fromkeys(s.clip for s in scored if s.face_share == 0)
    if faceless:
        parts.append(f"No face found, the skin of the whole frame taken instead: {', '.join(faceless)}")
    return parts


def is_silent(one: evaluation.Scored) -> bool:
    """Whether nothing was answered of a recording with a pulse."""
    return one.kind != datasets.NO_PULSE and not np.isfinite(one.answers.rate_bpm).any()


def detection_tables(scored: list[evaluation.Scored]) -> list[str]:
    """Whether there is a pulse, as Markdown, and what was made up of which kind; nothing without the set."""
    absent = [s for s in scored if s.kind == datasets.PULSELESS]
    if not absent:
        return []
    methods = list(dict.fromkeys(s.method for s in absent))
    kinds = list(dict.fromkeys(pulseless.kind_of(s.clip) for s in absent))
    shares, made_up = [], []
    for method in methods:
        found = evaluation.detect([s for s in scored if s.method == method])
        percent = (files.number(100 * share, 1) for share in found[1:])
        shares.append([method, files.number(found.roc_area, 3), *percent])
        groups = [
            [s for s in absent if s.method == method and pulseless.kind_of(s.clip) == kind] for kind in kinds
        ]
        counts = [evaluation.score(group) if group else None for group in groups]
        made_up.append([method, *(f"{c.answered} of {c.n_windows}" if c else "" for c in counts)])
    header = "method,ROC area,answered at 1 % (%),answered at 5 % (%),answered (%),made up (%)"
    return [
        f"Whether there is a pulse:\n\n{markdown(header, shares)}",
        DETECTION_DEFINITIONS,
        "Windows answered where there is no pulse:\n\n" + markdown(",".join(["method", *kinds]), made_up),
    ]


def map_table(scored: list[evaluation.Scored]) -> list[str]:
    """The scores of maps as Markdown, of every recording with a mask and their mean; nothing without any."""
    rows = []
    for method in dict.fromkeys(s.method for s in scored):
        group = [s for s in scored if s.method == method and s.map]
        scores = [(s.clip, s.map.scores) for s in group if s.map]
        if scores:
            rows += [[method, name, *_map_cells(one)] for name, one in scores]
            rows.append([method, f"mean of {len(group)}", *_map_cells(evaluation.mean_map_scores(group))])
    header = "method,recording,painted (%),found (%),found at 3 % (%),ROC area,ROC area of the clip,IoU"
    what = {"pulse": "the probability of a pulse", "confidence": "confidence"}[_PLACE_SCORE.value]
    return (
        [f"Maps against skin masks:\n\n{markdown(header, rows)}", MAP_DEFINITIONS.format(what)]
        if rows
        else []
    )


def _map_cells(scores: map_truth.MapScores) -> list[str]:
    return [*(files.number(100 * v, 1) for v in scores[:3]), *(files.number(v, 3) for v in scores[3:])]


def _cell(one: evaluation.Scored | None) -> str:
    """A recording's entry in the table of all."""
    if one is None:
        return "missing"
    s = evaluation.score([one])
    if one.kind == datasets.NO_PULSE:
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


def draw(out: Path, scored: list[evaluation.Scored]) -> None:
    """Writes the figures; those of agreement are of the recordings with a contact pulse, if any."""
    methods = list(dict.fromkeys(s.method for s in scored))
    if any(s.kind == datasets.PULSELESS for s in scored):
        plots.save_figure(evaluation_plots.detection_figure(scored, methods), out / "detection.png")
    scored = [s for s in scored if s.kind != datasets.PULSELESS]
    for clip in dict.fromkeys(s.clip for s in scored):
        figure = evaluation_plots.rate_figure([s for s in scored if s.clip == clip], methods)
        plots.save_figure(figure, out / f"rate_{files.safe_name(clip)}.png", dpi=110)
    for clip in dict.fromkeys(s.clip for s in scored if s.map):
        figure = evaluation_plots.map_figure([s for s in scored if s.clip == clip and s.map])
        plots.save_figure(figure, out / f"map_{files.safe_name(clip)}.png", dpi=110)
    known = [s for s in scored if s.kind not in (datasets.NO_PULSE, datasets.SCENE)]
    contact = [s for s in known if s.kind == datasets.PPG] or known
    if not known:
        return
    plots.save_figure(evaluation_plots.errors_figure(known, methods), out / "errors.png")
    plots.save_figure(evaluation_plots.bland_altman_figure(contact, methods), out / "bland_altman.png")
    plots.save_figure(evaluation_plots.scatter_figure(contact, methods), out / "scatter.png")
    if any(np.isfinite(s.answers.confidence).any() for s in contact):
        plots.save_figure(evaluation_plots.reliability_figure(contact, methods), out / "reliability.png")


def command() -> None:
    """The console script."""
    common.run(main)


if __name__ == "__main__":
    common.run(main)
