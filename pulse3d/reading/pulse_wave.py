"""The pulse wave (blood volume pulse, BVP) of places of a video, at the pulse rate that was read there.

A wave is the change of green over the chosen places, in a narrow band around the rate of every window. Blood
absorbs green; the sign is such that the wave rises with the volume of blood.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

HALF_WIDTH_BPM, EDGE_BPM = 9.0, 4.0  # of the band around a rate and twice the rate, and of its edges


class PulseWave(NamedTuple):
    """A pulse wave: percent of the mean of green at times in s on the video's clock; nan without a pulse."""

    time_s: Float[np.ndarray, "time"]
    percent: Float[np.ndarray, "time"]

    def __repr__(self) -> str:
        """How many values there are, and of which time."""
        span = f" from {self.time_s[0]:.1f} to {self.time_s[-1]:.1f} s" if len(self.time_s) else ""
        return f"PulseWave({len(self.time_s)} values{span})"


def weigh_places(
    rate_bpm: Float[np.ndarray, "window row col"],
    confidence: Float[np.ndarray, "window row col"],
    pulse_rate_bpm: Float[np.ndarray, "window"],
    *,
    tolerance_bpm: float = 5.0,
) -> Float[np.ndarray, "row col"]:
    """How much every place counts in the wave of a pulse; the sum is 1, or 0 if no place counts.

    The mean over windows of its confidence where its rate is that of the pulse; 0 for places below a half.
    """
    near = abs(rate_bpm - pulse_rate_bpm[:, None, None]) <= tolerance_bpm
    answered = np.isfinite(pulse_rate_bpm)
    if not answered.any():
        return np.zeros(rate_bpm.shape[1:])
    mean = (confidence * near)[answered].mean(0)
    sure = np.where(mean >= 0.5, mean, 0.0)
    return sure / max(sure.sum(), 1e-12)


def weighted_means(
    green: Iterable[Float[np.ndarray, "row col"]], places: Float[np.ndarray, "part row col"]
) -> Float[np.ndarray, "part time"]:
    """The weighted mean of green in every frame, for the weights of every part."""
    flat = places.reshape(len(places), -1)
    found = [flat @ frame.reshape(-1) for frame in green]
    return np.stack(found, axis=1) if found else np.zeros((len(places), 0))


def in_band(
    trace: Float[np.ndarray, "time *part"],
    time_s: Float[np.ndarray, "time"],
    rate_bpm: Float[np.ndarray, "window *part"],
    centre_s: Float[np.ndarray, "window"],
    *,
    window_s: float,
    fps: float,
) -> Float[np.ndarray, "time *part"]:
    """The pulse wave of a trace in percent of its mean; nan where no window has a rate, or nothing is known.

        y = sum_w h_w B_w(1 - x / mean_w x) / sum_w h_w

    x is a trace, w a window with a rate f (those without, nan, are left out), h its Hann window. B keeps
    what lies within 9 bpm of f and 2f, less and less over the next 4 bpm, after a straight line is removed.
    trace: the mean of green over places, at times time_s, `fps` a second but for gaps; or of several parts.
    """
    traces, rates = trace.reshape(len(trace), -1), rate_bpm.reshape(len(rate_bpm), -1)
    total, weight = np.zeros(traces.shape), np.zeros(traces.shape)
    for rate, centre in zip(rates, centre_s, strict=True):
        first, end = np.searchsorted(time_s, centre + np.array([-0.5, 0.5]) * window_s - 0.25 / fps)
        if end - first < 3:
            continue
        known = np.isfinite(rate) & (traces[first:end].mean(0) > 0)
        part = traces[first:end, known]
        taper = np.hanning(len(part) + 2)[1:-1, None]
        change, steps = 1 - part / part.mean(0), np.arange(len(part)) - (len(part) - 1) / 2
        change -= np.outer(steps, steps @ change / (steps @ steps))
        total[first:end, known] += taper * _band(change, rate[known], fps)
        weight[first:end, known] += taper
    wave = np.where(weight > 0, 100 * total / np.where(weight > 0, weight, 1), np.nan)
    return wave.reshape(trace.shape)


def _band(
    signal: Float[np.ndarray, "time part"], rate_bpm: Float[np.ndarray, "part"], fps: float
) -> Float[np.ndarray, "time part"]:
    """What every signal has around its rate and twice that rate."""
    length = max(len(signal), int(60 * fps))  # bins of 1 bpm or less
    axis_bpm = np.fft.rfftfreq(length, 1 / fps)[:, None] * 60
    away = np.minimum(abs(axis_bpm - rate_bpm), abs(axis_bpm - 2 * rate_bpm))
    keep = np.clip(1 - (away - HALF_WIDTH_BPM) / EDGE_BPM, 0, 1)
    return np.fft.irfft(keep * np.fft.rfft(signal, length, axis=0), length, axis=0)[: len(signal)]
