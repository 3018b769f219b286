"""From frames to readings, window by window, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from pulse3d import mapping, readout, video
from pulse3d.checkpoint import Weights
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


def map_stream(
    frames: Iterable[video.Frame],
    weights: Weights,
    frame_shape: tuple[int, int],
    *,
    stride_px: int | None = None,
    step_s: float | None = None,
    devices: list[jax.Device] | None = None,
    mapper: Callable[[Window], Map] | None = None,
) -> Iterator[WindowResult]:
    """Maps each window of the network's length, every `step_s` seconds, as soon as it is whole.

    frames: with rising time stamps that start at 0, any rate (resampled to the network's).
    frame_shape: (height, width). stride_px, step_s: by default the config's. mapper: by default
    the dense one over all local devices.
    """
    config = weights.config
    clip, axis = config.clip, config.clip.rate_axis_bpm
    step = max(1, round((step_s or config.map.step_s) * clip.fps))
    if mapper is None:
        layout = mapping.make_layout(frame_shape, config, stride_px=stride_px)
        mapper = mapping.make_mapper(weights.params, config, layout, devices=devices)
    read = mapping.make_reader(frame_shape, config)
    cells = (video.Frame(frame.time_s, read(frame.image)) for frame in frames)
    images = (f.image for f in video.resample(cells, clip.fps, average=config.map.average_frames))
    follow = readout.Follower(axis, config.readout, step_s=step / clip.fps, window_s=clip.duration_s)
    for start, window in mapping.sliding_windows(images, clip.frames, step):
        probability = mapper(window)
        evidence = readout.evidence(probability, config.readout, odds=config.generator.no_pulse_clips)
        yield WindowResult(
            time_s=start / clip.fps + clip.duration_s / 2,
            probability=probability,
            rate_bpm=readout.patch_rates(probability, axis),
            confidence=readout.patch_confidence(probability, axis, config.readout.tolerance_bpm),
            evidence=evidence,
            reading=follow(evidence),
            equation_8_bpm=readout.equation_8(probability, axis),
        )
