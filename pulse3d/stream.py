"""From frames to readings, window by window, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from pulse3d import mapping, readout, video
from pulse3d.checkpoint import Weights


class WindowResult(NamedTuple):
    """What one window of video says.

    time_s: the window's centre. probability: the map, (row, col, class). rate_bpm, confidence:
    the most likely rate of every patch (nan: no pulse) and how sure it is. reading: one rate.
    equation_8_bpm: the paper's read-out.
    """

    time_s: float
    probability: Float[np.ndarray, "row col class"]
    rate_bpm: Float[np.ndarray, "row col"]
    confidence: Float[np.ndarray, "row col"]
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
    mapper: Callable[[mapping.Window], mapping.Map] | None = None,
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
        mapper = mapping.make_mapper(
            weights.params, config, frame_shape, stride_px=stride_px, devices=devices
        )
    read = (video.Frame(f.time_s, video.to_unit(f.image, clip.channels)) for f in frames)
    images = (frame.image for frame in video.resample(read, clip.fps))
    for start, window in mapping.sliding_windows(images, clip.frames, step):
        probability = mapper(window)
        yield WindowResult(
            time_s=start / clip.fps + clip.duration_s / 2,
            probability=probability,
            rate_bpm=readout.patch_rates(probability, axis),
            confidence=readout.patch_confidence(probability, axis, config.readout.tolerance_bpm),
            reading=readout.posterior(probability, axis, config.readout),
            equation_8_bpm=readout.equation_8(probability, axis),
        )
