"""How far a window can be trusted when the light, or the camera's exposure, changes over the whole frame.

A change by a tenth within seconds leaves more at every pulse rate than a pulse of half a percent, and the network
may then find one rate all over the frame. Such a change shows below all pulse rates, where a pulse has nothing.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from pulse3d.config import Config
from pulse3d.mapping.tiles import Map, Window
from pulse3d.network.cell_input import DARK

SLOW_BPM = 24.0  # changes slower than this are looked at
STEEPNESS = 4  # twice the change is a sixteenth of the trust


def slow_change(window: Window, fps: float) -> float:
    """How much the frame's colour changes below 24/min: its SD relative to its mean, 0.01 is 1 %.

    The frame's colour is the median over its cells, so it hardly changes with motion. A straight line over
    time does not count, since it leaves little at pulse rates. Frames count by a Hann window, as in spectra. Of
    the channels the least counts: a change of light shows in all, while a pulse of a fingertip, or a codec's
    steps of colour, may change one by a tenth.
    """
    colour = np.median(window.reshape(len(window), -1, window.shape[-1]), 1).astype(np.float64)
    slow = _slow_part(len(window), fps) @ colour
    return float((np.sqrt((slow**2).mean(0)) / np.maximum(colour.mean(0), DARK)).min())


def trust(window: Window, config: Config) -> float:
    """The probability that a window's map means anything: 1 / (1 + (change / `readout.unsteady`)^4)."""
    if not config.readout.unsteady:
        return 1.0
    return 1 / (1 + (slow_change(window, config.clip.fps) / config.readout.unsteady) ** STEEPNESS)


def believe(probability: Map, trust: float, *, odds: float) -> Map:
    """The map if it means anything with probability `trust`, and tells nothing otherwise.

        p' = trust p + (1 - trust) prior

    prior: all rates are equal, with these odds of "no pulse" against each.
    """
    if trust == 1:
        return probability
    prior = np.append(np.ones(probability.shape[-1] - 1), odds)
    return (trust * probability + (1 - trust) * prior / prior.sum()).astype(probability.dtype)


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
