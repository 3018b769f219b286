"""Companion maps: how strongly, and how clearly, every place pulsates at a given rate.

Both measure changes of green at a place, whether by light, motion or blood; neither is a map of perfusion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from pulse3d.mapping.tiles import Window, grid_shape

# for the signal-to-noise ratio, here and in the evaluation
HALF_WIDTH_BPM = 6.0  # of the band around a rate that counts as signal
LOW_BPM, HIGH_BPM = 36.0, 198.0  # where all else is noise, as usual in the field
BIN_BPM = 1.0


def patch_traces(window: Window, *, patch: int, stride: int) -> Float[np.ndarray, "time row col"]:
    """The mean of green (or of the only channel) over every patch of a window."""
    return _patch_means(window[..., min(1, window.shape[-1] - 1)], patch, stride)


def patch_colours(window: Window, *, patch: int, stride: int) -> Float[np.ndarray, "row col channel"]:
    """The mean colour of every patch over a window."""
    return np.moveaxis(_patch_means(np.moveaxis(window.mean(0), -1, 0), patch, stride), 0, -1)


def cut_windows(
    green: Iterable[Float[np.ndarray, "row col"]],
    frame_s: Float[np.ndarray, "time"],
    centre_s: Float[np.ndarray, "window"],
    *,
    window_s: float,
) -> Iterator[Float[np.ndarray, "time row col"]]:
    """Yields the traces of green in windows of `window_s` around these centres, in one pass over the frames.

    green: of every frame, at frame_s. The centres ascend.
    """
    quarter_s = 0.25 * float(np.median(np.diff(frame_s)))
    frames, held, start = iter(green), list[np.ndarray](), 0  # held[0] is frame number `start`
    for centre in centre_s:
        first, end = np.searchsorted(frame_s, centre + np.array([-0.5, 0.5]) * window_s - quarter_s)
        while start + len(held) < end:
            held.append(next(frames))
        held, start = held[max(0, first - start) :], max(start, int(first))
        yield np.array(held, np.float32).reshape(len(held), *held[0].shape if held else (0, 0))


def at_rate(
    trace: Float[np.ndarray, "time *place"], fps: float, rate_bpm: float
) -> tuple[Float[np.ndarray, "*place"], Float[np.ndarray, "*place"]]:
    """Amplitude in percent of the mean, and signal-to-noise ratio in dB, of traces at one rate.

        a = |2 sum_t w(t) x(t) exp(-2 pi i f t)| / sum_t w(t)
        SNR = 10 log10( sum_{|v-f| <= 6 or |v-2f| <= 6} P(v) / sum_{other v in 36...198} P(v) )

    x is the trace divided by its mean, minus the straight line through it, w a Hann window, P the
    power spectrum of w x in bins of 1 bpm; v in bpm. nan for a nan rate; SNR also for a trace without power.
    Source of the ratio: de Haan and Jeanne, IEEE Trans. Biomed. Eng. 60(10), 2013, Eq. 20.
    """
    if not np.isfinite(rate_bpm):
        return (np.full(trace.shape[1:], np.nan, np.float32),) * 2
    time = (np.arange(len(trace)) - (len(trace) - 1) / 2).astype(np.float32)
    flat = trace.reshape(len(trace), -1).astype(np.float32)
    flat = flat / np.maximum(flat.mean(0), 1e-6) - 1
    flat = flat - flat.mean(0) - np.outer(time, time @ flat / (time @ time))
    taper = np.hanning(len(trace) + 2)[1:-1]
    axis = np.arange(LOW_BPM, 30 * fps, BIN_BPM)
    near = (abs(axis - rate_bpm) <= HALF_WIDTH_BPM) | (abs(axis - 2 * rate_bpm) <= HALF_WIDTH_BPM)
    counts = near | (axis <= HIGH_BPM)
    axis, near = np.append(axis[counts], rate_bpm), near[counts]
    angle = 2 * np.pi / 60 / fps * np.outer(axis, time)
    waves = 2 * taper / taper.sum() * np.stack([np.cos(angle), np.sin(angle)])
    cosine, sine = waves.astype(np.float32) @ flat
    power = cosine**2 + sine**2
    power, at = power[:-1], power[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = 10 * np.log10(power[near].sum(0) / power[~near].sum(0))
    shape = trace.shape[1:]
    return 100 * np.sqrt(at).reshape(shape), np.where(np.isfinite(snr), snr, np.nan).reshape(shape)


def _patch_means(
    images: Float[np.ndarray, "image row col"], patch: int, stride: int
) -> Float[np.ndarray, "image patch_row patch_col"]:
    """The mean of every patch of every image."""
    images = np.asarray(images, np.float32)
    rows, cols = (
        _box(size, count, patch, stride)
        for size, count in zip(images.shape[1:], grid_shape(images.shape[1:], patch, stride), strict=True)
    )
    return np.matmul(np.matmul(rows, images), cols.T)


def _box(size: int, count: int, patch: int, stride: int) -> Float[np.ndarray, "patch position"]:
    """The matrix that averages every patch along one axis."""
    first = stride * np.arange(count)[:, None]
    inside = (np.arange(size) >= first) & (np.arange(size) < first + patch)
    return (inside / patch).astype(np.float32)
