"""Tells a pulse from changes of the light, or of the camera's exposure, which lie over the whole frame.

A change by a tenth within seconds leaves more at every pulse rate than a pulse of half a percent, and the
network may then find one rate all over the frame. Such a change shows below all pulse rates, where a pulse
has nothing. While it lasts, a rate that most of the frame has is not believed; that of a face in it is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from pulse3d.config import Config
from pulse3d.mapping.tiles import Map, Window
from pulse3d.network.cell_input import DARK
from pulse3d.reading.readout import LEAST

SLOW_BPM = 24.0  # changes slower than this are looked at
STEEPNESS = 4  # twice the change is a sixteenth of the trust
EVERYWHERE = 0.8  # of the frame: a rate that more than the rest of it has may be the light's


def slow_change(window: Window, fps: float) -> float:
    """How much the frame's colour changes below 24/min: its SD relative to its mean, 0.01 is 1 %.

    The frame's colour is the median over its cells, so it hardly changes with motion. A straight line over
    time does not count, since it leaves little at pulse rates. Frames count by a Hann window, as in spectra.
    Of the channels the least counts: a change of light shows in all, while a pulse of a fingertip, or a
    codec's steps of colour, may change one by a tenth.
    """
    colour = np.median(window.reshape(len(window), -1, window.shape[-1]), 1).astype(np.float64)
    slow = _slow_part(len(window), fps) @ colour
    return float((np.sqrt((slow**2).mean(0)) / np.maximum(colour.mean(0), DARK)).min())


def trust(window: Window, config: Config) -> float:
    """How far to believe a rate that most of the frame has: 1 / (1 + (change / `readout.unsteady`)^4)."""
    if not config.readout.unsteady:
        return 1.0
    return 1 / (1 + (slow_change(window, config.clip.fps) / config.readout.unsteady) ** STEEPNESS)


def believe(probability: Map, trust: float, *, odds: float) -> Map:
    """The map without what most of the frame shares, as far as that is not trusted.

        LR'(f) = LR(f) / max(1, L(f))^(1 - trust),  LR(f) = odds p(f) / p(no pulse)

    L(f) is exceeded by the LR(f) of a fifth of the places. odds: prior odds of "no pulse" against one rate.
    """
    if trust == 1:
        return probability
    wide = probability.astype(np.float64)
    ratio = odds * wide[..., :-1] / np.maximum(wide[..., -1:], LEAST)
    shared = np.maximum(np.quantile(ratio, EVERYWHERE, axis=(0, 1)), 1)
    wide[..., :-1] /= shared ** (1 - trust)
    return (wide / wide.sum(-1, keepdims=True)).astype(probability.dtype)


@lru_cache(maxsize=8)
def _slow_part(frames: int, fps: float) -> Float[np.ndarray, "time time"]:
    """The matrix that keeps of a trace what is slower than `SLOW_BPM`, without its mean and straight line.

    Waves and a line are fitted by weighted least squares; the result is weighted by the root of the window.
    """
    place = (np.arange(frames) + 0.5) / frames
    weight = np.sqrt(1 - np.cos(2 * np.pi * place))[:, None]
    halves = np.arange(1, int(2 * SLOW_BPM / 60 * frames / fps) + 1)  # half waves in the window
    line = weight * np.stack([np.ones(frames), place], 1)
    both = np.concatenate([line, weight * np.cos(np.pi * place[:, None] * halves)], 1)
    return (both @ np.linalg.pinv(both) - line @ np.linalg.pinv(line)) * weight.T
