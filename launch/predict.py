r"""Pulse-rate maps of a video: one probability over pulse rates for every place and moment.

    python -m launch.predict --video=me.mp4 --out=me

Without --video, maps the built-in demo scene and prints the result beside the truth. Writes into
--out: rates.csv, map.npz, map.png, overlay.mp4 and summary.json. Not a medical device.

A live source, --video='<video0>' (a camera), --video=- (standard input) or a named pipe, prints the
current rate with every window until it ends or Ctrl-C; it is seen once, so there is no overlay.mp4.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import jax
import numpy as np
import tqdm
from absl import flags

from launch import common
from pulse3d import __version__, checkpoint, config, files, mapping, plots, readout, scene, stream, video
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
_SET = flags.DEFINE_multi_string("set", [], "Overrides a setting of map or readout: --set map.centre=window.")

AHEAD = 8  # frames that are decoded or drawn while others are mapped or encoded
FILES = ("rates.csv", "map.npz", "map.png", "overlay.mp4", "summary.json")


def main() -> None:
    started = time.time()
    weights = checkpoint.load_weights(_WEIGHTS.value)
    weights = weights._replace(config=common.use_settings(weights.config, _SET.value))
    clip, step_s = weights.config.clip, _STEP.value or weights.config.map.step_s
    demo = None
    if _VIDEO.value is None:
        made_as = config.SceneConfig()
        demo = scene.make_scene(jax.random.key(0), made_as)
        source = video.from_array(demo.frames, fps=made_as.fps, name="demo")
    else:
        source = video.open_video(_VIDEO.value, fps=_FPS.value)
    frame_shape = (source.height, source.width)
    layout = mapping.make_layout(frame_shape, weights.config, stride_px=_STRIDE.value)
    row_px, col_px = layout.centres_px()
    mapper = mapping.make_mapper(weights.params, weights.config, layout)
    if source.live:  # compiles before the camera starts, which would not wait
        mapper(np.zeros((clip.frames, *layout.grid, clip.channels), np.float32))
    out = files.make_folder(Path(_OUT.value or Path("pulse3d_out") / Path(source.name).stem))

    times, evidence, votes = [], [], []
    with files.NpzStream(out / "map.npz") as store:
        store.put(rate_axis_bpm=clip.rate_axis_bpm, row_px=row_px, col_px=col_px)
        store.put(fps=clip.fps, weights=weights.name)
        frames = source.frames()
        first = next(frames)
        follow = follow_live if source.live else follow_file
        for window in follow(source, chain([first], frames), weights, step_s, mapper):
            store.append(
                probability=window.probability[..., :-1].astype(np.float16),
                no_pulse=window.probability[..., -1].astype(np.float16),
                time_s=window.time_s,
                rate_bpm=window.rate_bpm.astype(np.float32),
                confidence=window.confidence.astype(np.float32),
            )
            times.append(window.time_s)
            evidence.append(window.evidence)
            votes.append(window.equation_8_bpm)
        if not times:
            length = "ended too soon" if source.live else f"{source.duration_s:.1f} s long"
            raise InputError(f"{source.name}: {length}; one window needs {clip.duration_s:g} s")
    if source.live:
        source = replace(source, duration_s=times[-1] + clip.duration_s / 2)
    read = readout.readings(
        np.stack(evidence),
        clip.rate_axis_bpm,
        weights.config.readout,
        step_s=step_s,
        window_s=clip.duration_s,
    )
    readings = list(zip(times, read, votes, strict=True))
    files.write_rates(out / "rates.csv", [files.rates_row(t, reading) for t, reading, _ in readings])
    with np.load(out / "map.npz") as maps:
        rate_bpm, confidence = maps["rate_bpm"], maps["confidence"]
    draw(out, source, first.image, rate_bpm, confidence, readings, (row_px, col_px), layout.stride_px)
    summary = summarise(source, weights, readings, rate_bpm, layout, step_s)
    summary |= {"seconds": round(time.time() - started, 1)}
    files.write_json(out / "summary.json", summary)
    report(out, summary)
    if demo:
        compare(demo, scene.patch_regions(demo.masks, layout), rate_bpm)


def follow_file(source, frames, weights, step_s, mapper) -> Iterator[stream.WindowResult]:
    """The windows of a video, with a bar."""
    frames = video.read_ahead(frames, ahead=AHEAD)
    windows = stream.map_stream(frames, weights, step_s=step_s, mapper=mapper)
    expected = max(0, int((source.duration_s - weights.config.clip.duration_s) / step_s) + 1)
    yield from tqdm.tqdm(windows, total=expected, unit="window", desc="mapping", disable=None)


def follow_live(source, frames, weights, step_s, mapper) -> Iterator[stream.WindowResult]:
    """The windows of a live source until it ends, breaks off or Ctrl-C; prints what each reads."""
    print(f"reading {source.name}; Ctrl-C ends it", flush=True)
    with common.stop_on_interrupt() as stop:
        frames = video.read_ahead(frames, stop)
        try:
            for window in stream.map_stream(frames, weights, step_s=step_s, mapper=mapper):
                now_s = window.time_s + weights.config.clip.duration_s / 2
                rate = caption(window.reading)
                print(f"{now_s:8.1f} s   {rate}, confidence {window.reading.confidence:.2f}", flush=True)
                yield window
        except InputError as error:
            print(f"warning: {error}; what came before it is kept", file=sys.stderr)


def caption(reading: readout.Reading) -> str:
    """The rate and its interval in a few words."""
    if np.isnan(reading.rate_bpm):
        return "no pulse"
    return f"{reading.rate_bpm:.0f} bpm ({reading.low_bpm:.0f}-{reading.high_bpm:.0f})"


def draw(out, source, first, rate_bpm, confidence, readings, centres_px, stride_px) -> None:
    """Writes map.png (medians over time, where most windows have a pulse) and, if it can, overlay.mp4."""
    (top, bottom), (left, right) = ((c[0] - stride_px / 2, c[-1] + stride_px / 2) for c in centres_px)
    extent = (left, right, bottom, top)
    seen = np.isfinite(rate_bpm).mean(0) > 0.5
    median = np.full(seen.shape, np.nan)
    median[seen] = np.nanmedian(rate_bpm[:, seen], axis=0)
    title = f"{Path(source.name).name}: median over {len(readings)} windows"
    figure = plots.map_figure(first, median, confidence.mean(0), extent, title=title)
    plots.save_figure(figure, out / "map.png")
    if source.live:
        return
    captions = [caption(reading) for _, reading, _ in readings]
    times = np.array([t for t, _, _ in readings])
    frames = tqdm.tqdm(
        video.read_ahead(source.frames(), ahead=AHEAD),
        total=round(source.duration_s * source.fps),
        unit="frame",
        desc="overlay",
        disable=None,
    )
    overlay = plots.overlay_frames(frames, times, rate_bpm, confidence, captions, extent)
    video.write_mp4(out / "overlay.mp4", video.read_ahead(overlay, ahead=AHEAD), source.fps)


def summarise(source, weights, readings, rate_bpm, layout, step_s) -> dict:
    """What summary.json says, units in the keys."""
    answered = [reading for _, reading, _ in readings if not np.isnan(reading.rate_bpm)]
    votes = [rate for _, _, rate in readings if not np.isnan(rate)]

    def median(values):
        return round(float(np.median(values)), 2) if len(values) else None

    return {
        "video": source.name,
        "live": source.live,
        "frame_width_px": source.width,
        "frame_height_px": source.height,
        "video_fps": round(source.fps, 4),
        "video_duration_s": round(source.duration_s, 3),
        "windows": len(readings),
        "windows_with_pulse": len(answered),
        "pulse_rate_median_bpm": median([r.rate_bpm for r in answered]),
        "pulse_rate_low_median_bpm": median([r.low_bpm for r in answered]),
        "pulse_rate_high_median_bpm": median([r.high_bpm for r in answered]),
        "pulse_rate_equation_8_median_bpm": median(votes),
        "confidence_median": median([r.confidence for _, r, _ in readings]),
        "share_of_frame_with_pulse": round(float(np.isfinite(rate_bpm).mean()), 4),
        "weights": weights.name,
        "window_s": weights.config.clip.duration_s,
        "step_s": step_s,
        "stride_px": layout.stride_px,
        "patch_px": layout.patch_px,
        "centre": weights.config.map.centre,
        "pulse3d": __version__,
        "jax": jax.__version__,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "files": [name for name in FILES if not (source.live and name == "overlay.mp4")],
        "notice": "Not a medical device.",
    }


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
