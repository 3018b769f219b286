"""From frames to readings, window by window, in constant memory."""

from __future__ import annotations

import numbers
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from pulse3d import video
from pulse3d.config import Config
from pulse3d.errors import InputError, expect_kind
from pulse3d.mapping.mapper import Mapper, make_mapper
from pulse3d.mapping.tiles import Map, Window
from pulse3d.network import weights_file
from pulse3d.network.weights_file import Weights
from pulse3d.reading import amplitude, places, readout, steadiness, tracking

MAX_STILL = 30  # frames in a row whose time does not rise, before the clock is said to be broken
MAX_APART_S, FIRST_FRAMES = 1.0, 10  # the first frames are closer, if their times are in seconds


class WindowResult(NamedTuple):
    """The result for one window of video.

    time_s: the window's centre. probability: the map, (row, col, class), as the network gives it. trust: how
    far a rate that most of the frame has is believed (`steadiness`). rate_bpm, confidence:
    the rate of every place (nan: no pulse) and its confidence, from this window and, with
    `readout.places`, earlier ones. evidence: for every rate, from all patches; `tracking.readings` turns
    the evidence of all windows into rates. reading: one rate from this window and earlier ones.
    equation_8_bpm: the paper's read-out. green: the mean of green (or of the only channel), 0...1, of every
    place in every frame of the window; frame_s: when these were taken. colour: the means of all channels
    over the window. enough_video: False if frames are missing (`map.max_gap_s`); then no place has a pulse.
    """

    time_s: float
    probability: Float[np.ndarray, "row col class"]
    trust: float
    rate_bpm: Float[np.ndarray, "row col"]
    confidence: Float[np.ndarray, "row col"]
    evidence: Float[np.ndarray, "rate"]
    reading: readout.Reading
    equation_8_bpm: float
    amplitude_percent: Float[np.ndarray, "row col"]
    snr_db: Float[np.ndarray, "row col"]
    green: Float[np.ndarray, "time row col"]
    colour: Float[np.ndarray, "row col channel"]
    frame_s: Float[np.ndarray, "time"]
    enough_video: bool = True

    def __repr__(self) -> str:
        """Its time, its reading and the size of its map."""
        rate, low, high, confidence = self.reading
        said = f"{rate:.1f} bpm ({low:.0f} to {high:.0f}), confidence {confidence:.2f}"
        rows, cols = self.rate_bpm.shape
        return (
            f"WindowResult(at {self.time_s:.2f} s: {said if np.isfinite(rate) else 'no pulse'};"
            f" {rows} x {cols} places)"
        )


def share_done(window: WindowResult, *, window_s: float, duration_s: float) -> float:
    """The share of a video that is done after a window, 0...1.

    window_s: the window's length. duration_s: of the video; 0 if it is not known, of which nothing is done.
    """
    return min(1.0, (window.time_s + window_s / 2) / duration_s) if duration_s else 0.0


def map_stream(
    frames: Iterable[tuple[float, np.ndarray]],
    weights: Weights | str | os.PathLike = "default",
    *,
    stride_px: int | None = None,
    step_s: float | None = None,
    start_s: float | None = None,
    devices: list[jax.Device] | None = None,
    ahead: int = 0,
) -> Iterator[WindowResult]:
    """Maps each window of the network's length, every `step_s` seconds, as soon as it is complete.

        for window in map_stream(open_video("0").frames()):
            print(window.time_s, window.reading.rate_bpm)

    frames: (time in s, image), as from `video.Video`, at any frame rate (resampled to the network's);
    frames whose time does not rise are left out; where the clock starts anew (`video.continued`), it goes on
    from there. Images: (height, width[, 3]) of one size, uint8 or float of 0...1. weights: or their name, as
    in `weights_file.load_weights`. stride_px, devices: as in `mapper.make_mapper`; the others as in
    `map_windows`.
    """
    weights = weights_file.find_weights(weights)
    expected = "pairs of (time in s, image), as open_video(...).frames() gives them"
    expect_kind("frames", frames, Iterable, expected)
    if isinstance(frames, str):
        raise InputError(f"frames = {frames!r}: expected {expected}")
    frames = _in_seconds(frames)
    first = next(frames, None)
    if first is None:
        return
    shape = video.as_rgb(np.asarray(first[1]), "frames").shape[:2]
    mapper = make_mapper(weights.params, weights.config, shape, stride_px=stride_px, devices=devices)
    yield from map_windows(chain([first], frames), mapper, step_s=step_s, start_s=start_s, ahead=ahead)


def map_windows(
    frames: Iterable[tuple[float, np.ndarray]],
    mapper: Mapper,
    *,
    step_s: float | None = None,
    start_s: float | None = None,
    ahead: int = 0,
) -> Iterator[WindowResult]:
    """Maps each window of frames of the mapper's size, like `map_stream`.

    step_s: by default the config's; rounded to whole frames of the network. start_s: start of the first
    window; by default the first frame. ahead: number of further windows mapped at the same time, to keep a
    CPU busier if the source is not live. A result depends only on the frames so far, and memory does not
    grow. A window with a gap in its time stamps (`map.max_gap_s`) has no pulse. Raises InputError for
    images of another kind or size, and for time stamps that jump by `video.MAX_JUMP_S` or do not rise.
    """
    config, clip = mapper.config, mapper.config.clip
    step_s = whole_step(step_s, config)
    rising = _rising(frames, mapper.layout.frame)
    first = next(rising, None)
    if first is None:
        return
    start_s = first.time_s if start_s is None else start_s
    watch = _Watch(config)
    cells = watch(
        video.Frame(time_s - start_s, mapper.read(image)) for time_s, image in chain([first], rising)
    )
    images = (f.image for f in video.resample(cells, clip.fps, average=config.map.average_frames))
    windows = (
        (index, window, job if watch.saw(index / clip.fps, len(window)) else None)
        for index, window, job in mapper.windows(images, round(step_s * clip.fps))
    )
    read = _Reader(mapper, step_s=step_s, start_s=start_s)
    for index, window, probability in _map_each(windows, mapper, ahead=ahead):
        yield read(index, window, probability)


class _Reader:
    """Reads maps one by one, each together with the earlier ones."""

    def __init__(self, mapper: Mapper, *, step_s: float, start_s: float):
        config, places_shape = mapper.config, mapper.layout.places
        timing = {"step_s": step_s, "window_s": config.clip.duration_s}
        self._config, self._layout, self._start_s = config, mapper.layout, start_s
        self._own_evidence = mapper.evidence
        self._follow = tracking.Follower(config.clip.rate_axis_bpm, config.readout, **timing)
        self._ask = places.Follower(config.readout, **timing)
        self._nothing = np.zeros((*places_shape, config.clip.classes), np.float32)
        self._nothing[..., -1] = 1
        self._unknown = np.full(places_shape, np.nan, np.float32)

    def __call__(self, index: int, window: Window, found: Map | None) -> WindowResult:
        """The result for a window, from the index of its first frame, its cells, and its map, if any."""
        config, fps = self._config, self._config.clip.fps
        probability = self._nothing if found is None else found
        trust = steadiness.trust(window, config)
        believed = steadiness.believe(probability, trust, odds=config.odds)
        if self._own_evidence and found is not None:
            evidence = self._own_evidence(window)
        else:
            evidence = readout.evidence(believed, config.readout, odds=config.odds)
        reading = self._follow(evidence)
        cut = {"patch": self._layout.patch, "stride": self._layout.stride}
        green, colour = amplitude.patch_traces(window, **cut), amplitude.patch_colours(window, **cut)
        rate_bpm, confidence = self._read_places(believed, colour, reading)
        asks = config.readout.places and config.readout.method == "tracked"
        if asks and not places.lie_together(confidence, config.readout):
            reading, rate_bpm = readout.NO_PULSE, self._unknown
        strength, clearness = self._unknown, self._unknown
        if found is not None:
            strength, clearness = amplitude.at_rate(green, fps, reading.rate_bpm)
        average = config.map.average_frames  # a frame of the network's is the mean of so many
        middle = (1 - 1 / average) / 2
        return WindowResult(
            time_s=self._start_s + (index + len(window) / 2) / fps,
            probability=probability,
            trust=trust,
            rate_bpm=rate_bpm,
            confidence=confidence,
            evidence=evidence,
            reading=reading,
            equation_8_bpm=readout.equation_8(probability, config.clip.rate_axis_bpm),
            amplitude_percent=strength,
            snr_db=clearness,
            green=green,
            colour=colour,
            frame_s=self._start_s + (index + np.arange(len(window)) + middle) / fps,
            enough_video=found is not None,
        )

    def _read_places(
        self, probability: Map, colour: np.ndarray, reading: readout.Reading
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rate of every place (nan: none) and its confidence."""
        axis, config = self._config.clip.rate_axis_bpm, self._config
        if not config.readout.places:
            tolerance_bpm = config.readout.tolerance_bpm
            confidence = readout.patch_confidence(probability, axis, tolerance_bpm)
            return readout.patch_rates(probability, axis), confidence
        evidence = places.evidence(probability, colour, axis, reading.rate_bpm, config)
        confidence = self._ask(evidence, colour)
        return np.where(confidence >= 0.5, reading.rate_bpm, np.nan), confidence


def whole_step(step_s: float | None, config: Config) -> float:
    """Seconds from one window to the next, rounded to whole frames of the network; default `map.step_s`.

    Raises InputError for a step that is not positive or not finite.
    """
    step_s = config.map.step_s if step_s is None else step_s
    expect_kind("step_s", step_s, numbers.Real, "seconds")
    if not 0 < step_s < np.inf:
        raise InputError(f"step_s = {step_s}: must be positive, in seconds")
    return max(1, round(step_s * config.clip.fps)) / config.clip.fps


class _Watch:
    """Records the time stamps of passing frames, and checks which windows have enough of them."""

    def __init__(self, config: Config):
        clip, average = config.clip, config.map.average_frames
        self._average, self._fps = average, clip.fps
        self._max_gap_s = config.map.max_gap_s
        self._high_bpm = clip.high_bpm
        self._stamps: deque[float] = deque()

    def __call__(self, frames: Iterable[video.Frame]) -> Iterator[video.Frame]:
        """Passes the frames through unchanged."""
        for frame in frames:
            self._stamps.append(frame.time_s)
            yield frame

    def saw(self, start_s: float, frames: int) -> bool:
        """Whether a window of that start and length has frames throughout; call it in order of time."""
        while len(self._stamps) > 1 and self._stamps[1] <= start_s:
            self._stamps.popleft()
        duration_s = (frames * self._average - 1) / (self._fps * self._average)  # first frame to last
        end_s = start_s + duration_s
        # a gap that extends beyond the window counts in full
        edges = np.array([min(start_s, self._stamps[0]), *self._stamps])
        gaps = np.diff(edges)[edges[:-1] < end_s - 1e-6]
        inside = (edges[1:] > start_s - 1e-6) & (edges[1:] < end_s + 1e-6)
        return bool(
            gaps.max(initial=0) <= self._max_gap_s and inside.sum() >= 2 * self._high_bpm / 60 * duration_s
        )


def _map_each(
    windows: Iterable[tuple[int, Window, Any]], mapper: Mapper, *, ahead: int
) -> Iterator[tuple[int, Window, Map | None]]:
    """Yields (index, cells, map) of each window in order, while `ahead` later ones are being mapped.

    The map is None for a window with nothing to map.
    """
    with ThreadPoolExecutor(ahead + 1) as threads:
        waiting: deque[tuple[int, Window, Future[Map] | None]] = deque()
        for index, window, job in windows:
            waiting.append((index, window, None if job is None else threads.submit(mapper.map, job)))
            if len(waiting) > ahead:
                index, window, mapped = waiting.popleft()
                yield index, window, mapped.result() if mapped else None
        for index, window, mapped in waiting:
            yield index, window, mapped.result() if mapped else None


def _in_seconds(frames: Iterable[tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
    """Yields the frames; raises InputError if the first are so far apart that they count something else."""
    times = list[float]()
    for time_s, image in frames:
        if len(times) <= FIRST_FRAMES and isinstance(time_s, numbers.Real):
            times.append(float(time_s))
            apart_s = np.median(np.diff(times)) if len(times) > FIRST_FRAMES else 0.0
            if apart_s >= MAX_APART_S:
                raise InputError(f"frames: one every {apart_s:.1f} s; give time stamps in seconds")
        yield time_s, image


def _rising(frames: Iterable[tuple[float, np.ndarray]], shape: tuple[int, int]) -> Iterator[video.Frame]:
    """Yields the frames whose time stamps rise, as RGB; a clock that starts anew is continued.

    Raises InputError if the size or the clock jumps, or if the clock stands still or is none.
    """
    last_s, still = -np.inf, 0
    for time_s, image in video.continued(_stamped(frames), []):
        rgb = video.as_rgb(np.asarray(image), "frames")
        if rgb.shape[:2] != shape:
            raise InputError(
                f"frames: {rgb.shape[1]}x{rgb.shape[0]} px at {time_s:.2f} s, before it {shape[1]}x{shape[0]}"
            )
        if time_s - last_s > video.MAX_JUMP_S and np.isfinite(last_s):
            raise InputError(
                f"frames: time stamps jump from {last_s:.2f} s to {time_s:.2f} s; mend the clock, which"
                " has to be in seconds"
            )
        still = 0 if time_s > last_s else still + 1
        if still == MAX_STILL:
            raise InputError(
                f"frames: the last {still} time stamps do not rise above {max(last_s, 0):.2f} s; mend the"
                " clock"
            )
        if time_s > last_s:
            last_s = time_s
            yield video.Frame(time_s, rgb)


def _stamped(frames: Iterable[tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
    """Yields the frames; raises InputError for a time that is no number."""
    for time_s, image in frames:
        if not isinstance(time_s, numbers.Real):
            raise InputError(f"frames: {time_s!r} is no time stamp; give seconds, as in (0.033, image)")
        yield float(time_s), image
