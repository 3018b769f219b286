r"""Maps the pulse rate of videos: a probability over pulse rates for every place and moment.

    pulse3d predict me.mp4
    pulse3d predict me.mp4 other.mov folder_of_videos --out=results

Without a video, it maps the built-in demo scene and prints the result beside the truth. For every video it
writes report.html, overlay.mp4, map.png, companion.png, rates.csv, regions.csv, bvp.csv, beats.csv, map.npz
and summary.json into pulse3d_out/NAME, or --out. Several videos, or a folder of them, get a folder each, and
summary.csv has a row for each. Not a medical device.

For a live source, 0 (the first camera), - (standard input) or a named pipe, it prints the current rate with
every window until the source ends or Ctrl-C. A live source can be read only once, so overlay.mp4 is not
written.
"""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import TypeVar

import jax
from absl import flags

from pulse3d import config, files, pipeline, result, settings, stream, video
from pulse3d.errors import InputError
from pulse3d.evaluation import map_truth
from pulse3d.mapping.layout import Layout
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import weights_file
from pulse3d.showing import outputs, words
from pulse3d.showing.truth import read_truth
from pulse3d.synthetic import demo_scene

from . import common

_VIDEO = flags.DEFINE_string(
    "video",
    None,
    "The same as a video without a flag: a file, a folder of images or of videos, a .npy array, 0 (the first"
    " camera), - (standard input) or a pipe; without any, the demo scene.",
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "Output folder, of several videos the one around theirs; by default pulse3d_out/NAME, or NAME-2 ...",
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    "default",
    "default, a preset, a weights file, a training folder or a Keras folder; or green, chrom or pos, methods"
    " without a network.",
)
_FPS = flags.DEFINE_float(
    "fps",
    None,
    "Frames per second of arrays and images, which have no time stamps; of a file, instead of its stamps.",
)
_STREAM = flags.DEFINE_integer(
    "stream",
    None,
    "Which video to read, from 1, of a file or a pipe that holds several; by default that with most data, or"
    " the first of a pipe.",
)
_STRIDE = flags.DEFINE_integer("stride", None, "Pixels between patches.", lower_bound=1)
_STEP = flags.DEFINE_float(
    "step_s", None, "Seconds between windows; to whole frames of the network.", lower_bound=1e-3
)
_TRUTH = flags.DEFINE_string(
    "truth",
    None,
    "CSV of reference rates to compare with: a header, then time in s, rate in bpm.",
)
_LIMITS = flags.DEFINE_list(
    "limits_bpm", [f"{end:g}" for end in result.LIMITS_BPM], "Least and highest rate of the colours, in bpm."
)
_FIGURE = flags.DEFINE_enum("figure", None, ["pdf", "svg"], "Also writes the figures in this format.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replaces results that are in --out already.")
_SET = flags.DEFINE_multi_string("set", [], "Overrides a setting of map or readout: --set map.centre=window.")

_MAT = flags.DEFINE_bool("mat", False, "Also writes map.mat, as the original program does.")
_QUIET = flags.DEFINE_bool("quiet", False, "Prints nothing but errors.")
_JSON = flags.DEFINE_bool("json", False, "Prints the summary as JSON, nothing else; live: a line a window.")
OUT = Path("pulse3d_out")
MOST_PIECES = 20  # of a name with spaces
Item = TypeVar("Item")
IN_TABLE = (
    "pulse_rate_median_bpm", "pulse_rate_low_median_bpm", "pulse_rate_high_median_bpm", "confidence_median",
    "windows", "windows_with_pulse", "share_of_frame_with_pulse", "regions", "seconds",
)  # fmt: skip
GROUPS = {
    "Input": (_VIDEO, _FPS, _STREAM, _TRUTH),
    "Output": (_OUT, _OVERWRITE, _FIGURE, _LIMITS, _MAT, _QUIET, _JSON),
    "Model": (_WEIGHTS, _SET),
    "Speed": (_STRIDE, _STEP),
}


def main(videos: Sequence[str] = ()) -> None:
    if _QUIET.value and _JSON.value:
        raise InputError("--quiet --json: give one of them")
    if videos and _VIDEO.value is not None:
        raise InputError(f"{videos[0]} and --video={_VIDEO.value}: give the videos without --video")
    weights = weights_file.load_weights(_WEIGHTS.value)
    weights = weights._replace(config=settings.override_use(weights.config, _SET.value))
    stream.whole_step(_STEP.value, weights.config)  # refused before anything is read
    read_limits(_LIMITS.value)
    refuse_pieces(videos)
    given = videos or ([_VIDEO.value] if _VIDEO.value is not None else [])
    if len(given) == 1 and video.list_videos(given[0]) == [str(given[0])]:
        source = video.open_video(given[0], fps=_FPS.value, stream=_STREAM.value)
        out = Path(_OUT.value) if _OUT.value else free_folder(OUT, source)
        if not (_OUT.value or _QUIET.value or _JSON.value) and out.name != (name := folder_name(source)):
            print(f"{OUT / name} holds earlier results; these go to {out} (--overwrite replaces them)")
        map_one(source, weights, out)
    elif given:
        map_several(given, weights)
    else:
        map_demo(weights)


def map_several(given: Sequence[str], weights: weights_file.Weights) -> None:
    """Maps videos one after the other, each into a folder of its own; what fails does not stop the others."""
    if _TRUTH.value:
        raise InputError(f"--truth={_TRUTH.value}: is of one video; give one")
    folder = files.make_folder(Path(_OUT.value or OUT))
    table = next(p for p in numbered(folder / "summary.csv") if _OVERWRITE.value or not p.exists())
    all_names = [name for path in given for name in video.list_videos(path)]
    names = list(dict.fromkeys(all_names))
    if len(names) < len(all_names):
        print("note: a video that is given twice is mapped once", file=sys.stderr)
    rows, used, failed = [], set[Path](), 0
    for number, name in enumerate(names, 1):
        if not (_QUIET.value or _JSON.value):
            print(f"{number} of {len(names)}: {InputError(name)}", flush=True)  # which escapes it
        out = None
        try:
            source = video.open_video(name, fps=_FPS.value, stream=_STREAM.value)
            out = free_folder(folder, source, used)
            used.add(out)
            said = map_one(source, weights, out)[0].summary
            known = ("" if said[key] is None else str(said[key]) for key in IN_TABLE)
            rows.append([name, str(out), *known, ""])
        except (InputError, OSError) as error:
            print(f"error: {common.in_flags(str(error))}", file=sys.stderr)
            kept = str(out) if out and (out / "summary.json").exists() else ""
            rows.append([name, kept, *("" for _ in IN_TABLE), str(error)])
            failed += 1
        files.write_csv(table, ",".join(["video", "out", *IN_TABLE, "error"]), rows)
    if not (_QUIET.value or _JSON.value):
        print(f"written to {table}: {len(names) - failed} of {len(names)} videos")
    if failed:
        raise InputError(f"{failed} of {len(names)} videos could not be mapped; {table} says why")


def numbered(path: Path) -> Iterator[Path]:
    """The path itself, then path-2, path-3 ... ."""
    yield path
    yield from (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))


def free_folder(folder: Path, source: video.Video, used: Set[Path] = frozenset()) -> Path:
    """The folder of a video's results: its name, with a number if there are results already.

    used: what is not to be written again, whatever the flags say.
    """
    paths = numbered(folder / folder_name(source))
    return next(path for path in paths if path not in used and (_OVERWRITE.value or not is_taken(path)))


def folder_name(source: video.Video) -> str:
    """How the folder of a video's results is called, unless there are some."""
    return Path(source.name).resolve().stem or "video"


def refuse_pieces(names: Sequence[str]) -> None:
    """Raises InputError for the pieces of a name with spaces that was given without quotes."""
    missing = [not Path(name).exists() for name in names]
    for first in range(len(names) if any(missing) else 0):
        for end in range(first + 2, min(first + MOST_PIECES, len(names)) + 1):
            whole = " ".join(names[first:end])
            if any(missing[first:end]) and Path(whole).exists():
                raise InputError(f'{whole}: has spaces in its name; put it into quotes: "{whole}"')


def is_taken(path: Path) -> bool:
    """Whether a folder holds results."""
    return any((path / name).exists() for name in outputs.NAMES)


def map_demo(weights: weights_file.Weights) -> None:
    """Maps the demo scene and prints the result beside the truth."""
    made_as = config.SceneConfig()
    demo = demo_scene.make_scene(jax.random.key(0), made_as)
    source = video.from_array(demo.frames, fps=made_as.fps, name="demo")
    # a demo of before may go, a user's video of that name may not
    own = next(path for path in numbered(OUT / "demo") if not is_taken(path) or is_demo(path))
    out = Path(_OUT.value) if _OUT.value else own
    found, layout = map_one(source, weights, out, replace=_OUT.value is None)
    if not (_QUIET.value or _JSON.value):
        regions = map_truth.patch_regions(demo.masks, layout)
        print(f"\n{words.of_regions(demo.rates_bpm, regions, found.rate_bpm)}")


def is_demo(path: Path) -> bool:
    """Whether the results of a folder are those of the demo scene."""
    try:
        return files.read_json(path / "summary.json")["video"] == "demo"
    except (files.UnreadableError, LookupError, TypeError):
        return False


def map_one(
    source: video.Video, weights: weights_file.Weights, out: Path, *, replace: bool = False
) -> tuple[result.Result, Layout]:
    """Maps a video into a folder, and says what was found; replace: whether what is there may go."""
    step_s = stream.whole_step(_STEP.value, weights.config)
    truth = read_truth(Path(_TRUTH.value)) if _TRUTH.value else None
    shape = (source.height, source.width)
    mapper = make_mapper(weights.params, weights.config, shape, stride_px=_STRIDE.value)
    files.make_folder(out)
    if not (_OVERWRITE.value or replace):
        files.refuse_to_overwrite(out, outputs.NAMES)

    total = round(source.duration_s * source.fps)
    found = outputs.map_into(
        out,
        source,
        mapper,
        weights=weights.name,
        step_s=step_s,
        follow=follow_live if source.live else follow_file,
        truth=truth,
        limits_bpm=read_limits(_LIMITS.value),
        figure=_FIGURE.value,
        mat=_MAT.value,
        watch=lambda pictures: counted(pictures, total, "frame", "overlay"),
    )
    if _JSON.value:
        print(json.dumps(found.summary | {"out": str(out)}), flush=True)
    elif not _QUIET.value:
        for line in words.warnings(found.summary):
            print(common.in_flags(line), file=sys.stderr)
        print(words.of_summary(found.summary, out))
    return found, mapper.layout


def read_limits(texts: Sequence[str]) -> tuple[float, float]:
    """The limits of the colours of rates from the flag; raises InputError if they are none."""
    try:
        low, high = map(float, texts)
        result.check_limits((low, high))
    except ValueError:
        raise InputError(
            f"--limits_bpm={','.join(texts)}: expected two rates in bpm, such as 40,140"
        ) from None
    return low, high


def counted(items: Iterable[Item], total: int, unit: str, what: str) -> Iterator[Item]:
    """Yields the items, and says how many of them are done."""
    with common.progress(what, total, unit, hidden=_QUIET.value or _JSON.value) as bar:
        for item in items:
            yield item
            bar.update()


def follow_file(source, frames, mapper, *, step_s) -> Iterator[stream.WindowResult]:
    """The windows of a video, and how many of them are done."""
    windows = pipeline.follow(source, frames, mapper, step_s=step_s)
    expected = max(0, int((source.duration_s - mapper.config.clip.duration_s) / step_s) + 1)
    yield from counted(windows, expected, "window", "mapping")


def follow_live(source, frames, mapper, *, step_s) -> Iterator[stream.WindowResult]:
    """The windows of a live source until it ends, fails or Ctrl-C; prints each reading."""
    if not (_QUIET.value or _JSON.value):
        print(f"reading {source.name}; Ctrl-C ends it", flush=True)
    with common.stop_on_interrupt() as stop:
        frames = video.read_ahead(frames, stop, ahead=video.frames_ahead(source, 64))
        try:
            for window in stream.map_windows(frames, mapper, step_s=step_s):
                if not _QUIET.value:
                    say = words.window_as_json if _JSON.value else words.of_window
                    print(say(window, window_s=mapper.config.clip.duration_s), flush=True)
                yield window
        except InputError as error:
            print(f"warning: {error}; what came before it is kept", file=sys.stderr)


if __name__ == "__main__":
    common.run(main)
