r"""Pulse-rate maps of a video: one probability over pulse rates for every place and moment.

    python -m launch.predict --video=me.mp4 --out=me

Without --video, maps the built-in demo scene and prints the result beside the truth. Writes into
--out: rates.csv, map.npz, map.png, overlay.mp4 and summary.json. Not a medical device.

A live source, --video='<video0>' (a camera), --video=- (standard input) or a named pipe, prints the
current rate with every window until it ends or Ctrl-C; it is seen once, so there is no overlay.mp4.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
import tqdm
from absl import flags

from launch import common
from pulse3d import checkpoint, config, files, mapping, plots, result, scene, stream, video
from pulse3d.errors import InputError

_VIDEO = flags.DEFINE_string(
    "video",
    None,
    "Video file, folder of images, .npy array, <video0> (camera), - (stdin) or pipe; default: a demo scene.",
)
_OUT = flags.DEFINE_string("out", None, "Output folder; default: pulse3d_out/<name of the video>.")
_WEIGHTS = flags.DEFINE_string(
    "weights", "default", "default, a preset, a weights file, a training folder or a Keras folder."
)
_FPS = flags.DEFINE_float("fps", None, "Frames per second, where the input has no time stamps.")
_STRIDE = flags.DEFINE_integer("stride", None, "Pixels between patches.", lower_bound=1)
_STEP = flags.DEFINE_float("step_s", None, "Seconds between windows.", lower_bound=1e-3)
_FIGURE = flags.DEFINE_enum("figure", None, ["pdf", "svg"], "Also writes the figures in this format.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replaces results that are in --out already.")
_SET = flags.DEFINE_multi_string("set", [], "Overrides a setting of map or readout: --set map.centre=window.")

OVERLAY_WIDTH_PX = 960  # at most
FILES = ("rates.csv", "map.npz", "map.png", "companion.png", "overlay.mp4", "summary.json")


def main() -> None:
    started = time.time()
    stream.check_step(_STEP.value)
    weights = checkpoint.load_weights(_WEIGHTS.value)
    weights = weights._replace(config=common.use_settings(weights.config, _SET.value))
    demo = None
    if _VIDEO.value is None:
        made_as = config.SceneConfig()
        demo = scene.make_scene(jax.random.key(0), made_as)
        source = video.from_array(demo.frames, fps=made_as.fps, name="demo")
    else:
        source = video.open_video(_VIDEO.value, fps=_FPS.value)
    layout = mapping.make_layout((source.height, source.width), weights.config, stride_px=_STRIDE.value)
    name = Path(source.name).resolve().stem or "video"
    out = files.make_folder(Path(_OUT.value or Path("pulse3d_out") / name))
    # the demo's own folder holds nothing of the user's
    if not (_OVERWRITE.value or (demo and _OUT.value is None)):
        files.refuse_to_overwrite(out, FILES)
    found = result.write_map(
        out,
        source,
        weights,
        stride_px=_STRIDE.value,
        step_s=_STEP.value,
        follow=follow_live if source.live else follow_file,
    )
    for stale in set(FILES) - set(result.FILES):  # of the results that these replace
        (out / stale).unlink(missing_ok=True)
    draw(found, source)
    names = [name for name in FILES if not (source.live and name == "overlay.mp4")]
    found.summary.update(seconds=round(time.time() - started, 1), files=names)
    files.write_json(out / "summary.json", found.summary)
    report(out, found.summary)
    if demo:
        compare(demo, scene.patch_regions(demo.masks, layout), found.rate_bpm)


def follow_file(source, frames, weights, step_s, mapper) -> Iterator[stream.WindowResult]:
    """The windows of a video, with a bar."""
    windows = result.follow(source, frames, weights, step_s, mapper)
    expected = max(0, int((source.duration_s - weights.config.clip.duration_s) / step_s) + 1)
    yield from tqdm.tqdm(windows, total=expected, unit="window", desc="mapping", disable=None)


def follow_live(source, frames, weights, step_s, mapper) -> Iterator[stream.WindowResult]:
    """The windows of a live source until it ends, breaks off or Ctrl-C; prints what each reads."""
    print(f"reading {source.name}; Ctrl-C ends it", flush=True)
    with common.stop_on_interrupt() as stop:
        frames = video.read_ahead(frames, stop, ahead=video.frames_ahead(source, 64))
        try:
            for window in stream.map_stream(frames, weights, step_s=step_s, mapper=mapper):
                now_s = window.time_s + weights.config.clip.duration_s / 2
                rate = plots.caption(window.reading)
                print(f"{now_s:8.1f} s   {rate}, confidence {window.reading.confidence:.2f}", flush=True)
                yield window
        except InputError as error:
            print(f"warning: {error}; what came before it is kept", file=sys.stderr)


def draw(found: result.Result, source: video.Video) -> None:
    """Writes map.png and, if the source can be seen again, overlay.mp4."""
    title = f"{Path(source.name).name}: median over {len(found.time_s)} windows"
    for name, make in (("map", plots.map_figure), ("companion", plots.companion_figure)):
        figure = make(found, title=title)
        for kind in ("png", *([_FIGURE.value] if _FIGURE.value else [])):
            plots.save_figure(figure, found.folder / f"{name}.{kind}")
    if source.live:
        return

    def watch(pictures: Iterator[video.Picture]) -> Iterable[video.Picture]:
        total = round(source.duration_s * source.fps)
        return tqdm.tqdm(pictures, total=total, unit="frame", desc="overlay", disable=None)

    shape = video.overlay_shape(source, max_width_px=OVERLAY_WIDTH_PX)
    video.write_overlay(found.folder / "overlay.mp4", source, plots.overlay_layers(found, shape), watch=watch)


def report(out: Path, summary: dict) -> None:
    """Prints the result in a few lines."""
    if summary["windows_with_pulse"]:
        low, high = summary["pulse_rate_low_median_bpm"], summary["pulse_rate_high_median_bpm"]
        rate = (
            f"{summary['pulse_rate_median_bpm']:.1f} bpm (90 % interval {low:.0f} to {high:.0f},"
            f" confidence {summary['confidence_median']:.2f})"
        )
    else:
        rate = "no pulse found"
    print(f"pulse rate, median over windows: {rate}")
    print(
        f"{summary['windows_with_pulse']} of {summary['windows']} windows with a pulse, in"
        f" {summary['share_of_frame_with_pulse']:.0%} of the frame; {summary['seconds']} s"
    )
    if blind := summary["windows_without_enough_video"]:
        print(f"warning: {blind} windows have no pulse because frames are missing", file=sys.stderr)
    for lost in summary["lost"]:
        print(f"warning: {lost}", file=sys.stderr)
    print(f"written to {out}: {', '.join(summary['files'])}")
    if summary["live"]:
        print("no overlay.mp4: a live source is seen once")


def compare(demo: scene.Scene, regions: np.ndarray, rate_bpm: np.ndarray) -> None:
    """Prints the demo scene's result beside its truth."""
    print("\nregion       truth (bpm)   median of its patches (bpm)   patches with a pulse")
    for index, truth in enumerate(demo.rates_bpm):
        rates = rate_bpm[:, regions == index]
        median = np.nanmedian(rates) if np.isfinite(rates).any() else np.nan
        print(f"ellipse {index + 1}    {truth:8.1f} {median:20.1f} {np.isfinite(rates).mean():27.0%}")
    background = np.isfinite(rate_bpm[:, regions == -1]).mean()
    print(f"background   no pulse {'':20} {background:27.0%}")


if __name__ == "__main__":
    common.run(main)
