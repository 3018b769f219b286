"""From frames to readings, window by window, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from pulse3d import amplitude, checkpoint, mapping, readout, video
from pulse3d.checkpoint import Weights
from pulse3d.errors import InputError
from pulse3d.tiles import Map, Window


class WindowResult(NamedTuple):
    """What one window of video says.

    time_s: the window's centre. probability: the map, (row, col, class). rate_bpm, confidence:
    the most likely rate of every patch (nan: no pulse) and how sure it is. evidence: for every rate,
    from all patches; `readout.readings` makes rates of it, of all windows together. reading: one
    rate from this window and those before it. equation_8_bpm: the paper's read-out.
    """

    time_s: float
    probability: Float[np.ndarray, "row col class"]
    rate_bpm: Float[np.ndarray, "row col"]
    confidence: Float[np.ndarray, "row col"]
    evidence: Float[np.ndarray, "rate"]
    reading: readout.Reading
    equation_8_bpm: float
    amplitude_percent: Float[np.ndarray, "row col"]
    snr_db: Float[np.ndarray, "row col"]


def map_stream(
    frames: Iterable[tuple[float, np.ndarray]],
    weights: Weights | str = "default",
    *,
    stride_px: int | None = None,
    step_s: float | None = None,
    start_s: float | None = None,
    devices: list[jax.Device] | None = None,
    mapper: Callable[[Window], Map] | None = None,
    ahead: int = 0,
) -> Iterator[WindowResult]:
    """Maps each window of the network's length, every `step_s` seconds, as soon as it is whole.

        for window in map_stream(open_video("<video0>").frames()):
            print(window.time_s, window.reading.rate_bpm)

    frames: (time in s, image), as of `video.Video`, at any rate (resampled to the network's); those
    whose time does not rise are left out. Images: (height, width[, 3]) of one size, uint8 or float of
    0...1. weights: or their name, as of `checkpoint.load_weights`. stride_px, step_s: by default
    the config's. start_s: where the first window starts; by default at the first frame. mapper: by
    default `mapping.make_mapper` over all local devices. ahead: so many windows more are mapped at the
    same time, which keeps a CPU busier, for sources that do not wait for time to pass. Looks only back, and
    memory does not grow.
    Raises InputError for other images, and for frames smaller than a patch.
    """
    weights = checkpoint.load_weights(weights) if isinstance(weights, str) else weights
    config = weights.config
    clip, axis = config.clip, config.clip.rate_axis_bpm
    step = max(1, round((step_s or config.map.step_s) * clip.fps))
    rising = _rising(frames)
    first = next(rising, None)
    if first is None:
        return
    start_s = first.time_s if start_s is None else start_s
    frame_shape = first.image.shape[:2]
    layout = mapping.make_layout(frame_shape, config, stride_px=stride_px)
    if mapper is None:
        mapper = mapping.make_mapper(weights.params, config, layout, devices=devices)
    read = mapping.make_reader(frame_shape, config)
    cells = (video.Frame(time_s - start_s, read(image)) for time_s, image in chain([first], rising))
    images = (f.image for f in video.resample(cells, clip.fps, average=config.map.average_frames))
    follow = readout.Follower(axis, config.readout, step_s=step / clip.fps, window_s=clip.duration_s)
    windows = mapping.sliding_windows(images, clip.frames, step)
    for index, window, probability in _map_each(windows, mapper, ahead=ahead):
        evidence = readout.evidence(probability, config.readout, odds=config.generator.no_pulse_clips)
        reading = follow(evidence)
        traces = amplitude.patch_traces(window, patch=layout.patch, stride=layout.stride)
        strength, clearness = amplitude.at_rate(traces, clip.fps, reading.rate_bpm)
        yield WindowResult(
            time_s=start_s + index / clip.fps + clip.duration_s / 2,
            probability=probability,
            rate_bpm=readout.patch_rates(probability, axis),
            confidence=readout.patch_confidence(probability, axis, config.readout.tolerance_bpm),
            evidence=evidence,
            reading=reading,
            equation_8_bpm=readout.equation_8(probability, axis),
            amplitude_percent=strength,
            snr_db=clearness,
        )


def _map_each(
    windows: Iterable[tuple[int, Window]], mapper: Callable[[Window], Map], *, ahead: int
) -> Iterator[tuple[int, Window, Map]]:
    """(index, window, map) of each window in order; `ahead` later ones are being mapped meanwhile."""
    with ThreadPoolExecutor(ahead + 1) as threads:
        waiting: deque[tuple[int, Window, Future[Map]]] = deque()
        for index, window in windows:
            waiting.append((index, window, threads.submit(mapper, window)))
            if len(waiting) > ahead:
                index, window, mapped = waiting.popleft()
                yield index, window, mapped.result()
        for index, window, mapped in waiting:
            yield index, window, mapped.result()


def _rising(frames: Iterable[tuple[float, np.ndarray]]) -> Iterator[video.Frame]:
    """The frames whose time stamps rise, as RGB; raises InputError where their size changes."""
    shape, last_s = None, -np.inf
    for time_s, image in frames:
        rgb = video.as_rgb(np.asarray(image), "frames")
        shape = shape or rgb.shape
        if rgb.shape != shape:
            raise InputError(
                f"frames: {rgb.shape[1]}x{rgb.shape[0]} px at {time_s:.2f} s, before it {shape[1]}x{shape[0]}"
            )
        if time_s > last_s:
            last_s = time_s
            yield video.Frame(float(time_s), rgb)
