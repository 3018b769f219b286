"""The whole pipeline: from a video to windows, their maps, the readings, and a folder of results.

    result = pulse3d.map_video("me.mp4")
    result.pulse_rate_bpm

`map_video` is for use from code, `write_map` for a folder of the caller's choice. Windows are mapped one by
one (`stream`), so memory does not grow with a video's length; at the end, all of them are read together.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from pulse3d import __version__, archive, files, stream, video
from pulse3d.config import CellNetConfig, Config
from pulse3d.errors import InputError, expect_kind
from pulse3d.mapping.mapper import Mapper, make_mapper
from pulse3d.network import weights_file
from pulse3d.network.weights_file import Weights
from pulse3d.reading import amplitude, places, readout, regions, tracking
from pulse3d.result import TEMPORARY, WHITE, Result, join_maps, read_arrays
from pulse3d.settings import override_use

Frames = Iterable[video.Frame]

CLOCKS_AGREE = 0.02  # up to this difference of the declared frame rate and the time stamps
RATES_HEADER = "time_s,pulse_rate_bpm,low_bpm,high_bpm,confidence"


def map_video(
    source: str | os.PathLike | np.ndarray,
    weights: Weights | str | os.PathLike = "default",
    *,
    fps: float | None = None,
    stream: int | None = None,
    stride_px: int | None = None,
    step_s: float | None = None,
    settings: Iterable[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Maps a video, as `launch.predict` does.

    source: anything that `video.open_video` takes, or an array as in `video.from_array`; fps, stream: as
    there. The other arguments are those of `map_stream`. settings: like "map.cells=60", as --set takes them.
    progress: called after every window with the share of the video that is done, 0...1.

    The files are in a temporary folder that is deleted with the result; `Result.save` keeps them. Raises
    InputError for a video that cannot be read, is too short for one window or smaller than a patch. If a
    video is damaged, its readable part is mapped, and `summary["lost"]` says what is missing.
    """
    expect_kind("source", source, (str, os.PathLike, np.ndarray), "a path or an array")
    weights = weights_file.find_weights(weights)
    weights = weights._replace(config=override_use(weights.config, settings))
    if isinstance(source, np.ndarray):
        if stream not in (None, 1):
            raise InputError(f"array: stream = {stream}: an array is one video; leave it out")
        opened = video.from_array(source, fps=fps)
    else:
        opened = video.open_video(source, fps=fps, stream=stream)
    mapper = make_mapper(weights.params, weights.config, (opened.height, opened.width), stride_px=stride_px)
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY))
    try:
        if progress is not None:
            expect_kind("progress", progress, Callable, "a function of the share that is done")
        windows = follow if progress is None else partial(_follow_and_tell, progress)
        result = write_map(folder, opened, mapper, weights=weights.name, step_s=step_s, follow=windows)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
    return result


def follow(
    source: video.Video, frames: Frames, mapper: Mapper, *, step_s: float
) -> Iterator[stream.WindowResult]:
    """Maps the windows of a source, which a separate thread decodes."""
    # two at a time on one device; on several, two threads would mix up the communication between them
    ahead = 1 if jax.local_device_count() == 1 else 0
    frames = video.read_ahead(frames, ahead=video.frames_ahead(source, 8))
    return stream.map_windows(frames, mapper, step_s=step_s, ahead=ahead)


def _follow_and_tell(
    progress: Callable[[float], None], source: video.Video, frames: Frames, mapper: Mapper, *, step_s: float
) -> Iterator[stream.WindowResult]:
    """As `follow`, and says after every window how much of the video is done."""
    window_s = mapper.config.clip.duration_s
    for window in follow(source, frames, mapper, step_s=step_s):
        yield window
        progress(stream.share_done(window, window_s=window_s, duration_s=source.duration_s))
    progress(1.0)


def write_map(
    folder: Path,
    source: video.Video,
    mapper: Mapper,
    *,
    weights: str,
    step_s: float | None = None,
    follow: Callable[..., Iterator[stream.WindowResult]] = follow,
    beside: Callable[[Result], dict[str, Any]] = lambda result: {},
) -> Result:
    """Maps a source into a folder: map.npz, rates.csv and summary.json.

    mapper: for frames of the source's size. weights: their name. step_s: as in `stream.map_windows`.
    follow: makes windows from (source, frames, mapper=..., step_s=...). beside: writes further files and
    returns entries for the summary; if it fails, the result is complete without them.
    Raises InputError for a source too short for one window.
    """
    started, config = time.time(), mapper.config
    step_s = stream.whole_step(step_s, config)
    if source.live:  # compiles before the camera starts: it would not wait
        blank = np.zeros(mapper.window_shape, np.float32)
        mapper(blank)
        if mapper.evidence:
            mapper.evidence(blank)
    with archive.NpzStream(folder / "map.npz") as store:
        passed = _map_into(store, source, partial(follow, mapper=mapper, step_s=step_s))
        if not passed.times_s:
            length = "ended too soon" if source.live else f"{passed.read_s:.1f} s long"
            why = passed.lost[0] if passed.lost else f"{source.name}: {length}"
            needed_s = (
                config.map.shortest_s if isinstance(config.model, CellNetConfig) else config.clip.duration_s
            )
            raise InputError(f"{why}; one window needs {needed_s:g} s")
        readings = _read_into(store, passed, config, step_s=step_s)
        row_px, col_px = mapper.layout.centres_px()
        store.put(row_px=row_px, col_px=col_px, fps=config.clip.fps, weights=weights)
    rows = [rates_row(t, r) for t, r in zip(passed.times_s, readings, strict=True)]
    files.write_csv(folder / "rates.csv", RATES_HEADER, rows)
    if source.live:
        source = replace(source, duration_s=passed.times_s[-1] + config.clip.duration_s / 2)
    elif not source.duration_s:  # its header does not say
        source = replace(source, duration_s=passed.read_s)
    made = Result(**read_arrays(folder), summary={}, folder=folder)
    made = replace(made, summary=summarise(made, source, mapper, weights=weights, step_s=step_s))
    made.summary.update(
        video_seconds_read=round(passed.read_s, 3),
        windows_without_enough_video=passed.blind,
        windows_of_unsteady_light=int((made.trust < 0.5).sum()),
        lost=passed.lost,
        notes=[*source.notes, *passed.notes],
        seconds=round(time.time() - started, 1),
    )
    files.write_json(folder / "summary.json", made.summary)
    if said := beside(made):
        made = replace(made, summary=made.summary | said)
        files.write_json(folder / "summary.json", made.summary)
    return made


class _Pass(NamedTuple):
    """Results of one pass over a source, besides the maps.

    first: the first image. frame_s: times of the frames whose green is stored, in s. evidence, votes: of
    every window, its evidence, and its rate by Eq. 8. blind: number of windows without enough video.
    read_s: seconds of video read. lost: what is missing. notes: on the clock.
    """

    first: np.ndarray
    times_s: list[float]
    frame_s: list[float]
    evidence: list[np.ndarray]
    votes: list[float]
    blind: int
    read_s: float
    lost: list[str]
    notes: list[str]


def _map_into(
    store: archive.NpzStream, source: video.Video, follow: Callable[..., Iterator[stream.WindowResult]]
) -> _Pass:
    """Maps every window of a source into the store, up to where the source is damaged."""
    lost, count, last_s = list[str](), 0, 0.0

    def watch(frames: Iterable[video.Frame]) -> Iterator[video.Frame]:
        nonlocal count, last_s
        for frame in frames:
            count, last_s = count + 1, frame.time_s
            yield frame

    frames = watch(video.what_is_there(source.frames(), lost))
    first = next(frames, None)
    if first is None:
        raise InputError(lost[0] if lost else f"{source.name}: has no frames")
    passed = _Pass(first.image, [], [], [], [], 0, 0.0, lost, [])
    for window in follow(source, chain([first], frames)):
        store.append(
            probability=window.probability[..., :-1].astype(np.float16),
            network_no_pulse=window.probability[..., -1].astype(np.float16),
            rate_bpm=window.rate_bpm.astype(np.float32),
            confidence=window.confidence.astype(np.float32),
            colour=window.colour.astype(np.float16),
            trust=np.float64(window.trust),
        )
        for time_s, green in zip(window.frame_s.tolist(), window.green, strict=True):
            if not passed.frame_s or time_s > passed.frame_s[-1] + 1e-6:  # windows overlap
                store.append(green=np.round(WHITE * green).astype(np.uint16))
                passed.frame_s.append(time_s)
        passed.times_s.append(window.time_s)
        passed.evidence.append(window.evidence)
        passed.votes.append(window.equation_8_bpm)
        passed = passed._replace(blind=passed.blind + (not window.enough_video))
    notes = _clock_notes(source, count, last_s - first.time_s)
    return passed._replace(read_s=last_s + 1 / source.fps, notes=notes)


def _clock_notes(source: video.Video, frames: int, length_s: float) -> list[str]:
    """A note if the time stamps of so many frames come to another rate than the source declares."""
    rate = (frames - 1) / length_s if length_s > 0 else source.fps
    if abs(rate / source.fps - 1) <= CLOCKS_AGREE:
        return []
    declared = f"{source.name} declares {source.fps:.4g} frames a second, its time stamps come to {rate:.4g}"
    return [f"{declared}; the time stamps are its clock"]


def _read_into(
    store: archive.NpzStream, passed: _Pass, config: Config, *, step_s: float
) -> list[readout.Reading]:
    """Reads all windows together and stores the results."""
    timing = {"step_s": step_s, "window_s": config.clip.duration_s}
    readings, places_read = _read(store, np.stack(passed.evidence), config, timing)
    rate_bpm, low_bpm, high_bpm, confidence = np.array(readings).T
    parts = regions.find_regions(
        _maps(store),
        places_read["rate_bpm"],
        places_read["confidence"],
        config.clip.rate_axis_bpm,
        config.readout,
        odds=config.odds,
        **timing,
    )
    frame_s, times_s = np.array(passed.frame_s), np.array(passed.times_s)
    # again, for rates that only the later windows told
    traces = amplitude.cut_windows(store.entries("green"), frame_s, times_s, window_s=config.clip.duration_s)
    for trace, rate in zip(traces, rate_bpm, strict=True):
        percent, snr_db = amplitude.at_rate(trace / WHITE, config.clip.fps, rate)
        store.append(amplitude_percent=percent, snr_db=snr_db)
    store.put(
        **places_read,
        **regions.as_arrays(parts, places_read["rate_bpm"].shape),
        frame=passed.first,
        time_s=times_s,
        frame_s=frame_s,
        pulse_rate_bpm=rate_bpm,
        low_bpm=low_bpm,
        high_bpm=high_bpm,
        pulse_confidence=confidence,
        equation_8_bpm=np.array(passed.votes),
        rate_axis_bpm=config.clip.rate_axis_bpm,
    )
    return readings


def _read(
    store: archive.NpzStream, evidence: np.ndarray, config: Config, timing: dict[str, float]
) -> tuple[list[readout.Reading], dict[str, np.ndarray]]:
    """The readings of all windows of a store, and the rate, confidence and "no pulse" of every place."""
    axis = config.clip.rate_axis_bpm
    if not config.readout.places:
        arrays = {name: np.stack(list(store.entries(name))) for name in ("rate_bpm", "confidence")}
        arrays["no_pulse"] = np.stack(list(store.entries("network_no_pulse")))
        return tracking.readings(evidence, axis, config.readout, **timing), arrays

    def windows() -> Iterator[places.Seen]:
        columns = zip(_maps(store), store.entries("colour"), store.entries("trust"), strict=True)
        return (places.Seen(probability, colour, float(trust)) for probability, colour, trust in columns)

    pulses = places.find_pulses(windows, evidence, axis, config, **timing)
    rate_bpm, probability = places.strongest(pulses)
    return pulses[0].readings, {
        "rate_bpm": places.shown(rate_bpm, probability).astype(np.float32),
        "confidence": probability.astype(np.float32),
        "no_pulse": (1 - probability).astype(np.float32),
    }


def _maps(store: archive.NpzStream) -> Iterator[np.ndarray]:
    """The maps of a store's windows, as the network gives them."""
    return join_maps(store.entries("probability"), store.entries("network_no_pulse"))


def summarise(
    result: Result, source: video.Video, mapper: Mapper, *, weights: str, step_s: float
) -> dict[str, Any]:
    """The contents of summary.json, with units in the keys."""

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
        "confidence_median": median(result.pulse_confidence[np.isfinite(result.pulse_rate_bpm)]),
        "share_of_frame_with_pulse": round(float(np.isfinite(result.rate_bpm).mean()), 4),
        "regions": len(result.regions),
        "weights": weights,
        "window_s": _window_s(result, mapper.config),
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


def _window_s(result: Result, config: Config) -> float:
    """The length of the windows; a video shorter than one is itself the only window."""
    if len(result.time_s) > 1:
        return config.clip.duration_s
    return min(config.clip.duration_s, round(len(result.frame_s) / config.clip.fps, 3))


def rates_row(time_s: float, reading: readout.Reading) -> list[str]:
    """One row of rates.csv; the rate and its interval are empty where there is no pulse."""
    number = files.number
    return [number(time_s, 3), *(number(v, 1) for v in reading[:3]), number(reading.confidence, 3)]
