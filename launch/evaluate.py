r"""Scores methods on recordings with a known pulse.

    python -m launch.evaluate --dataset=ubfc2 --root=UBFC2 --out=results --methods=default,pos,pos:tracked
    python -m launch.evaluate --dataset=clips --root=MY_VIDEOS --out=results

Your own videos: --dataset=clips and a folder of videos, each with a table beside it, `me.mp4` with
`me.csv`, whose header says what it holds:

    time_s,ppg         a contact pulse wave, on the video's clock
    time_s,rate_bpm    an oximeter's rates, on the video's clock
    rate_bpm           one rate for the whole video (the number alone will do)

and, for scores of the map, a skin mask of the frames' size, `me_skin.png`: 255 skin, 0 background, 128
left out. A `manifest.json` can say more (`pulse3d/evaluation/own_videos.py`). --dataset=demo scores the
map of the built-in scene, whose masks are exact, and needs no --root.

--pulseless=N adds videos without a pulse, in which every answer is made up: N of each generated kind, raw
and after x264, and photographs and walls cut from the recordings (`evaluation/pulseless.py`). The detection
table and detection.png compare them with the recordings with a pulse: how many windows with a pulse a method
answers, and how many without.

Writes into --out: results.csv (a row per method and recording), windows.csv, table.md (also
printed), figures, and evidence/, from which an interrupted run resumes and other read-outs are
made at no cost. `pulse3d/evaluation/methods.py` defines the methods, `metrics.py` beside it the
measures. Recordings that are missing or damaged are named and skipped (exit code 1). Several
processes share the work with --shard=0/4 ... --shard=3/4, or automatically under Slurm; a run
without --shard then combines the results.

--protocol=toolbox takes one rate per recording, as rPPG-Toolbox does: from the whole pulse signal
of green, chrom and pos, against the contact pulse processed in the same way. For sources without a
signal, it is the median of the answers of all windows.
"""

import fnmatch
import os
import sys
from pathlib import Path

import tqdm
from absl import flags

from pulse3d import files
from pulse3d.errors import InputError
from pulse3d.evaluation import datasets, map_truth, pulseless
from pulse3d.evaluation.methods import (
    BASELINE_MAPS,
    BASELINES,
    READOUTS,
    REGIONS,
    parse_method,
)
from pulse3d.evaluation.recordings import Recording
from pulse3d.evaluation.study import Source, Study, collect, make_sources, score_recording
from pulse3d.showing import tables
from pulse3d.showing.study import draw_study

from . import common

_DATASET = flags.DEFINE_enum(
    "dataset", None, list(datasets.DATASETS), "Layout of the recordings.", required=True
)
_ROOT = flags.DEFINE_string("root", None, "Folder of the recordings; all data sets but demo need it.")
_OUT = flags.DEFINE_string("out", None, "Output folder; a folder with results is resumed.", required=True)
_METHODS = flags.DEFINE_list(
    "methods",
    ["default", *BASELINES],
    "SOURCE or SOURCE:READOUT, with commas between. SOURCE:"
    f" {', '.join([*BASELINES, *BASELINE_MAPS])}, or weights (default, a preset,"
    " a file, a folder), or open-rppg:MODEL, as open-rppg:FacePhys.rlap (needs the extra `peers`)."
    f" READOUT: {', '.join(READOUTS)}.",
)
_WINDOW = flags.DEFINE_float("window_s", Study.window_s, "Seconds of video per answer.", lower_bound=1.0)
_STEP = flags.DEFINE_float("step_s", Study.step_s, "Seconds between answers.", lower_bound=1e-3)
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
    Study.roi,
    REGIONS,
    "What green, chrom and pos take the mean colour of: the inner part of the face (needs the extra `face`;"
    " where no face is found, the skin), skin-coloured pixels anywhere, or the frame.",
)
_PATCH = flags.DEFINE_integer(
    "patch", Study.patch_px, "Pixels of the patches of the *_map baselines.", lower_bound=1
)
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
GROUPS = {
    "Input": (_DATASET, _ROOT, _RECORDINGS, _PULSELESS, _SHARD),
    "Output": (_OUT,),
    "Methods": (_METHODS, _PROTOCOL, _WINDOW, _STEP, _PLACE_SCORE, _SET),
    "Places": (_STRIDE, _PATCH, _ROI),
}


def main() -> None:
    methods = [parse_method(name) for name in dict.fromkeys(_METHODS.value)]
    index, shards = common.parse_shard(_SHARD.value, os.environ)
    study = Study(
        window_s=_WINDOW.value,
        step_s=_STEP.value,
        toolbox=_PROTOCOL.value == "toolbox",
        stride_px=_STRIDE.value,
        roi=_ROI.value,
        patch_px=_PATCH.value,
        settings=tuple(_SET.value),
    )
    sources = make_sources(methods, study)
    recordings = choose_recordings()
    if not methods or not recordings:
        raise InputError(f"--recordings={','.join(_RECORDINGS.value)}: none fits, or --methods is empty")
    if _PULSELESS.value and study.toolbox:
        raise InputError("--pulseless: --protocol=toolbox answers always; leave one of the two out")
    if _PULSELESS.value:
        recordings += [*pulseless.generate(_PULSELESS.value), *take_pulseless(recordings)]
    out = files.make_folder(Path(_OUT.value))
    folder = files.make_folder(out / "evidence")

    root = _ROOT.value or ""
    failed = compute(recordings[index::shards], sources, folder, root)
    scored, missing = [], []
    for recording in recordings:
        try:
            answered = score_recording(
                recording, methods, sources, folder, study, root=root, place_score=_PLACE_SCORE.value
            )
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
        print(tables.write_tables(out, scored, dataset=_DATASET.value, place_score=_PLACE_SCORE.value))
        if not study.toolbox and (shards == 1 or not missing):
            draw_study(out, scored)
        print(f"written to {out}: results.csv, windows.csv, table.md")
    sys.exit(1 if failed else 0)


def choose_recordings() -> list[Recording]:
    """The recordings of --dataset whose names match --recordings."""
    if _ROOT.value is None and _DATASET.value != "demo":
        raise InputError(f"--dataset={_DATASET.value}: needs --root, the folder of the recordings")
    return [
        recording
        for recording in datasets.find_recordings(_DATASET.value, _ROOT.value or "")
        if any(fnmatch.fnmatchcase(recording.name, pattern) for pattern in _RECORDINGS.value)
    ]


def take_pulseless(recordings: list[Recording]) -> list[Recording]:
    """Pulseless videos cut from the recordings; damaged masks are reported elsewhere."""
    taken = []
    for recording in recordings:
        try:
            taken += pulseless.take_from(recording)
        except InputError:
            continue
    return taken


def compute(recordings: list[Recording], sources: dict[str, Source], folder: Path, root: str) -> set[str]:
    """Computes missing evidence; returns the names of recordings that failed."""
    failed: set[str] = set()
    total = len(recordings) * len(sources)
    with common.progress("evaluating", total, "evidence") as bar:
        for recording in recordings:
            bar.set_postfix_str(recording.name)
            for message in collect(recording, sources, folder, root=root, done=bar.update):
                failed.add(report_failure(recording, message))
    return failed


def report_failure(recording: Recording, message: str) -> str:
    """Prints one line about a skipped recording; returns its name."""
    tqdm.tqdm.write(f"skipped {recording.name}: {message}", file=sys.stderr)
    return recording.name


if __name__ == "__main__":
    common.run(main)
