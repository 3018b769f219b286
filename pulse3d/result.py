"""What a video was mapped to: named arrays with units, and the folder that holds them.

    result = pulse3d.map_video("me.mp4")
    result.pulse_rate_bpm

`write_map` maps a video window by window into a folder, in memory that does not grow with its length;
`Result` reads such a folder. A rate is nan where there is no pulse. The methods of `Result` that draw import
what draws only when they are called: a result can be had without it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float, Shaped

from pulse3d import __version__, checkpoint, files, mapping, places, readout, stream, video
from pulse3d.checkpoint import Weights
from pulse3d.config import Config
from pulse3d.errors import InputError
from pulse3d.mapping import Mapper

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES = ("rates.csv", "map.npz", "summary.json")

MAX_BYTES = 2**32  # of the arrays of a map.npz that are read whole; `probability` is not

Frames = Iterable[video.Frame]


@dataclass(frozen=True)
class Result:
    """The map of a video and what was read out of it, a row per window.

    frame: the video's first image, uint8 or float of 0...1. time_s: centres of the windows.
    pulse_rate_bpm, low_bpm, high_bpm, pulse_confidence: one rate per window, its interval, and how sure
    it is (0...1). equation_8_bpm: the paper's read-out.
    rate_bpm, confidence, no_pulse: of every place, its rate (nan: none), how sure that is, and the
    probability of "no pulse". network_no_pulse: what the network alone says of it, window by window.
    amplitude_percent, snr_db: how strongly and how clearly it pulsates at the rate of the moment
    (`amplitude.at_rate`). row_px, col_px: where the places are on the frame. rate_axis_bpm: the rates of
    `probability`. summary: as in summary.json, units in the keys. folder: holds the files.
    """

    frame: Shaped[np.ndarray, "height width 3"]
    time_s: Float[np.ndarray, "window"]
    pulse_rate_bpm: Float[np.ndarray, "window"]
    low_bpm: Float[np.ndarray, "window"]
    high_bpm: Float[np.ndarray, "window"]
    pulse_confidence: Float[np.ndarray, "window"]
    equation_8_bpm: Float[np.ndarray, "window"]
    rate_bpm: Float[np.ndarray, "window row col"]
    confidence: Float[np.ndarray, "window row col"]
    no_pulse: Float[np.ndarray, "window row col"]
    network_no_pulse: Float[np.ndarray, "window row col"]
    amplitude_percent: Float[np.ndarray, "window row col"]
    snr_db: Float[np.ndarray, "window row col"]
    row_px: Float[np.ndarray, "row"]
    col_px: Float[np.ndarray, "col"]
    rate_axis_bpm: Float[np.ndarray, "rate"]
    summary: dict[str, Any]
    folder: Path

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Result:
        """Reads an output folder of `launch.predict` or `save`; raises InputError where it is none."""
        folder = Path(folder)
        try:
            return cls(summary=_read_summary(folder), **_read_arrays(folder), folder=folder)
        except files.UnreadableError as error:
            raise _no_results(folder, error) from None

    def save(self, folder: str | os.PathLike) -> Path:
        """Copies the files to another folder."""
        folder = files.make_folder(Path(folder))
        for name in FILES:
            files.copy_atomically(self.folder / name, folder / name)
        return folder

    def probabilities(self) -> Iterator[Float[np.ndarray, "row col rate"]]:
        """The probability of every rate at every place, window by window, float16; reads the file."""
        try:
            with files.Arrays(self.folder / "map.npz", max_bytes=MAX_BYTES) as maps:
                yield from maps.entries("probability")
        except files.UnreadableError as error:
            raise _no_results(self.folder, error) from None

    def plot(self) -> Figure:
        """The figure of map.png: frame, rate map, confidence, and the rate over time."""
        from pulse3d import plots

        return plots.map_figure(self, title=Path(self.summary["video"]).name)

    def report(self, path: str | os.PathLike) -> Path:
        """Writes the page to explore the result, report.html."""
        from pulse3d import report

        report.write_report(self, Path(path))
        return Path(path)

    def _repr_html_(self) -> str:
        """The result in a notebook: the rate in words, and the figure of `plot`."""
        from pulse3d import plots

        return plots.result_html(self)

    @property
    def probability(self) -> Float[np.ndarray, "window row col rate"]:
        """The probabilities of all windows at once."""
        return np.stack(list(self.probabilities()))

    @property
    def extent_px(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edge of the map on the frame: half a stride beyond the places."""
        half = self.summary["stride_px"] / 2
        (left, right), (top, bottom) = ((x[0] - half, x[-1] + half) for x in (self.col_px, self.row_px))
        return float(left), float(right), float(bottom), float(top)


def _no_results(folder: Path, error: Exception) -> InputError:
    return InputError(f"{folder}: not a folder of results ({error}); map the video again")


def _read_summary(folder: Path) -> dict[str, Any]:
    """The values of summary.json; raises UnreadableError."""
    summary = files.read_json(folder / "summary.json")
    if not isinstance(summary, dict):
        raise files.UnreadableError("summary.json holds no settings")
    return summary


def _read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a result, from map.npz; raises UnreadableError where they are not those of one video."""
    names = [field.name for field in fields(Result) if field.name not in ("summary", "folder")]
    with files.Arrays(folder / "map.npz", max_bytes=MAX_BYTES) as maps:
        _check_shapes(maps.shapes, [*names, "probability"])
        arrays = {name: maps[name] for name in names}
    if wrong := [name for name, array in arrays.items() if array.dtype.kind not in "uf"]:
        raise files.UnreadableError(f"{wrong[0]} holds {arrays[wrong[0]].dtype}, not numbers")
    return arrays


def _check_shapes(shapes: dict[str, tuple[int, ...]], names: list[str]) -> None:
    """Raises UnreadableError where arrays are missing, or not of one video."""
    if missing := [name for name in names if name not in shapes]:
        raise files.UnreadableError(f"map.npz holds no {missing[0]}")
    if len(shapes["rate_bpm"]) != 3:
        raise files.UnreadableError(f"rate_bpm has shape {shapes['rate_bpm']}, expected (window, row, col)")
    windows, rows, cols = shapes["rate_bpm"]
    per_window = ("time_s", "pulse_rate_bpm", "low_bpm", "high_bpm", "pulse_confidence", "equation_8_bpm")
    per_place = ("confidence", "no_pulse", "network_no_pulse", "amplitude_percent", "snr_db")
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(per_window, (windows,))
    expected |= dict.fromkeys(per_place, (windows, rows, cols))
    expected |= {"row_px": (rows,), "col_px": (cols,), "frame": (*shapes["frame"][:2], 3)}
    expected |= {"rate_axis_bpm": shapes["probability"][-1:]}
    expected |= {"probability": (windows, rows, cols, *expected["rate_axis_bpm"])}
    if wrong := [name for name, shape in expected.items() if shapes[name] != shape]:
        raise files.UnreadableError(f"{wrong[0]} has shape {shapes[wrong[0]]}, expected {expected[wrong[0]]}")


def map_video(
    source: str | os.PathLike | np.ndarray,
    weights: Weights | str = "default",
    *,
    fps: float | None = None,
    stride_px: int | None = None,
    step_s: float | None = None,
) -> Result:
    """Maps a video, as `launch.predict` does.

    source: anything that `video.open_video` takes, or an array as of `video.from_array`; fps as there. The
    others as of `map_stream`.

    The files are in a temporary folder that goes with the result; `Result.save` keeps them. Raises
    InputError for a video that cannot be read, is too short for one window or smaller than a patch; of a
    damaged one, what is there is mapped, and `summary["lost"]` says what is missing.
    """
    weights = checkpoint.load_weights(weights) if isinstance(weights, str) else weights
    if isinstance(source, np.ndarray):
        opened = video.from_array(source, fps=fps)
    else:
        opened = video.open_video(source, fps=fps)
    mapper = mapping.make_mapper(
        weights.params, weights.config, (opened.height, opened.width), stride_px=stride_px
    )
    folder = Path(tempfile.mkdtemp(prefix="pulse3d_"))
    try:
        result = write_map(folder, opened, mapper, weights=weights.name, step_s=step_s)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
    return result


def follow(
    source: video.Video, frames: Frames, mapper: Mapper, *, step_s: float
) -> Iterator[stream.WindowResult]:
    """The windows of a source, decoded by a thread of its own."""
    # two at a time on one device; several devices talk to each other, which two threads would mix up
    ahead = 1 if jax.local_device_count() == 1 else 0
    frames = video.read_ahead(frames, ahead=video.frames_ahead(source, 8))
    return stream.map_windows(frames, mapper, step_s=step_s, ahead=ahead)


def write_map(
    folder: Path,
    source: video.Video,
    mapper: Mapper,
    *,
    weights: str,
    step_s: float | None = None,
    follow: Callable[..., Iterator[stream.WindowResult]] = follow,
) -> Result:
    """Maps a source into a folder: map.npz, rates.csv and summary.json.

    mapper: for frames of the source's size. weights: their name. step_s: as of `stream.map_windows`.
    follow: makes windows of (source, frames, mapper, step_s=...).
    Raises InputError for a source too short for one window.
    """
    config, clip = mapper.config, mapper.config.clip
    step_s = stream.whole_step(step_s, config)
    if source.live:  # compiles before the camera starts, which would not wait
        mapper(np.zeros(mapper.window_shape, np.float32))
    times, evidence, votes = [], [], []
    lost: list[str] = []
    blind, read_s = 0, 0.0

    def watch(frames: Iterable[video.Frame]) -> Iterator[video.Frame]:
        nonlocal read_s
        for frame in frames:
            read_s = frame.time_s + 1 / source.fps
            yield frame

    with files.NpzStream(folder / "map.npz") as store:
        frames = watch(video.what_is_there(source.frames(), lost))
        first = next(frames, None)
        if first is None:
            raise InputError(lost[0] if lost else f"{source.name}: has no frames")
        for window in follow(source, chain([first], frames), mapper, step_s=step_s):
            blind += not window.enough_video
            store.append(
                probability=window.probability[..., :-1].astype(np.float16),
                network_no_pulse=window.probability[..., -1].astype(np.float16),
                rate_bpm=window.rate_bpm.astype(np.float32),
                confidence=window.confidence.astype(np.float32),
                amplitude_percent=window.amplitude_percent,
                snr_db=window.snr_db,
            )
            times.append(window.time_s)
            evidence.append(window.evidence)
            votes.append(window.equation_8_bpm)
        if not times:
            length = "ended too soon" if source.live else f"{read_s:.1f} s long"
            why = lost[0] if lost else f"{source.name}: {length}"
            raise InputError(f"{why}; one window needs {clip.duration_s:g} s")
        timing = {"step_s": step_s, "window_s": clip.duration_s}
        read, places_read = _read(store, np.stack(evidence), config, timing)
        store.put(**places_read)
        rate_bpm, low_bpm, high_bpm, confidence = np.array(read).T
        row_px, col_px = mapper.layout.centres_px()
        store.put(
            frame=first.image,
            time_s=np.array(times),
            pulse_rate_bpm=rate_bpm,
            low_bpm=low_bpm,
            high_bpm=high_bpm,
            pulse_confidence=confidence,
            equation_8_bpm=np.array(votes),
            row_px=row_px,
            col_px=col_px,
            rate_axis_bpm=clip.rate_axis_bpm,
            fps=clip.fps,
            weights=weights,
        )
    files.write_rates(folder / "rates.csv", [files.rates_row(t, r) for t, r in zip(times, read, strict=True)])
    if source.live:
        source = replace(source, duration_s=times[-1] + clip.duration_s / 2)
    made = Result(**_read_arrays(folder), summary={}, folder=folder)
    summary = summarise(made, source, mapper, weights=weights, step_s=step_s)
    summary |= {"video_seconds_read": round(read_s, 3), "windows_without_enough_video": blind, "lost": lost}
    files.write_json(folder / "summary.json", summary)
    return replace(made, summary=summary)


def _read(
    store: files.NpzStream, evidence: np.ndarray, config: Config, timing: dict[str, float]
) -> tuple[list[readout.Reading], dict[str, np.ndarray]]:
    """The readings of all windows of a store, and of every place its rate, confidence and "no pulse"."""
    axis = config.clip.rate_axis_bpm
    if not config.readout.places:
        arrays = {name: np.stack(list(store.entries(name))) for name in ("rate_bpm", "confidence")}
        arrays["no_pulse"] = np.stack(list(store.entries("network_no_pulse")))
        return readout.readings(evidence, axis, config.readout, **timing), arrays

    def maps() -> Iterator[np.ndarray]:
        for rates, none in zip(store.entries("probability"), store.entries("network_no_pulse"), strict=True):
            yield np.concatenate([rates, none[..., None]], -1)

    pulses = places.find_pulses(maps, evidence, axis, config, **timing)
    rate_bpm, probability = places.strongest(pulses)
    return pulses[0].readings, {
        "rate_bpm": places.shown(rate_bpm, probability).astype(np.float32),
        "confidence": probability.astype(np.float32),
        "no_pulse": (1 - probability).astype(np.float32),
    }


def summarise(
    result: Result, source: video.Video, mapper: Mapper, *, weights: str, step_s: float
) -> dict[str, Any]:
    """What summary.json says, units in the keys."""

    def median(values: np.ndarray) -> float | None:
        known = values[np.isfinite(values)]
        return round(float(np.median(known)), 2) if len(known) else None

    return {
        "video": source.name,
        "live": source.live,
        "frame_width_px": source.width,
        "frame_height_px": source.height,
        "video_fps": round(source.fps, 4),
        "video_duration_s": round(source.duration_s, 3),
        "windows": len(result.time_s),
        "windows_with_pulse": int(np.isfinite(result.pulse_rate_bpm).sum()),
        "pulse_rate_median_bpm": median(result.pulse_rate_bpm),
        "pulse_rate_low_median_bpm": median(result.low_bpm),
        "pulse_rate_high_median_bpm": median(result.high_bpm),
        "pulse_rate_equation_8_median_bpm": median(result.equation_8_bpm),
        "confidence_median": median(result.pulse_confidence),
        "share_of_frame_with_pulse": round(float(np.isfinite(result.rate_bpm).mean()), 4),
        "weights": weights,
        "window_s": mapper.config.clip.duration_s,
        "step_s": round(step_s, 4),
        "stride_px": mapper.layout.stride_px,
        "patch_px": mapper.layout.patch_px,
        "centre": mapper.config.map.centre,
        "interval": mapper.config.readout.interval,
        "pulse3d": __version__,
        "jax": jax.__version__,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "notice": "Not a medical device.",
    }
