"""What the page is told, as values for JSON."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from pulse3d.mapping.layout import Layout
from pulse3d.reading import pulse_wave
from pulse3d.result import LIMITS_BPM, Result, map_extent
from pulse3d.serving.turns import Job, Turns
from pulse3d.showing import scales, words
from pulse3d.stream import WindowResult

OPACITY = 0.85  # of places with confidence 1
RATES_TOLD = 300  # the newest

Rate = tuple[float | None, ...]


def of_job(job: Job, turns: Turns) -> dict[str, Any]:
    """A job: its number, name and status, and the names of the jobs that come first."""
    return {
        "number": job.number,
        "name": job.name,
        "before": [other.name for other in turns.before(job)],
        **vars(job.status),
        "state": job.state,
        "warnings": words.warnings(job.status.summary) if job.status.summary else [],
    }


def of_window(window: WindowResult, layout: Layout, *, window_s: float) -> dict[str, Any]:
    """A window of a video: its reading, its map as a picture, and the pulse wave in it.

    window_s: its length. The picture is RGBA, a pixel for a place, as base64; `extent_px` are its edges on
    the frame of `frame_px`: left, right, bottom, top.
    """
    rows, cols = layout.places
    row_px, col_px = layout.centres_px()
    height, width = layout.frame
    return words.window_values(window, window_s=window_s) | {
        "centre_s": round(window.time_s, 3),
        "enough_video": window.enough_video,
        "map": {
            "rows": rows,
            "cols": cols,
            "rgba": base64.b64encode(colour_places(window).tobytes()).decode(),
            "extent_px": map_extent(row_px, col_px, layout.stride_px),
            "frame_px": (width, height),
        },
        "wave": _wave(window, window_s=window_s),
    }


def rate_of(window: WindowResult, *, window_s: float) -> Rate:
    """(time in s of its end, rate, low, high) of a window; the rates are None where there is no pulse."""
    values = words.window_values(window, window_s=window_s)
    return tuple(values[name] for name in ("now_s", "pulse_rate_bpm", "low_bpm", "high_bpm"))


def rates_of(found: Result) -> tuple[Rate, ...]:
    """The same of all windows of a result."""
    ends = found.time_s + found.summary["window_s"] / 2
    rows = zip(ends, found.pulse_rate_bpm, found.low_bpm, found.high_bpm, strict=True)
    return tuple(tuple(round(float(v), 3) if np.isfinite(v) else None for v in row) for row in rows)


def colour_places(window: WindowResult) -> np.ndarray:
    """The rates of all places as colours, their confidence as opacity: (row, col, 4), uint8."""
    low, high = LIMITS_BPM
    known = np.isfinite(window.rate_bpm)
    share = np.clip((np.where(known, window.rate_bpm, low) - low) / (high - low), 0, 1)
    colours = scales.colour_table(scales.RATE_COLOURS)[np.round(255 * share).astype(int)]
    opacity = np.round(255 * OPACITY * window.confidence * known).astype(np.uint8)
    return np.concatenate([colours, opacity[..., None]], -1)


def _wave(window: WindowResult, *, window_s: float) -> dict[str, list[float | None]]:
    """The pulse wave over the places with the window's pulse: times in s, and percent of green."""
    rate_bpm, time_s = np.array([window.reading.rate_bpm]), window.frame_s
    places = pulse_wave.weigh_places(window.rate_bpm[None], window.confidence[None], rate_bpm)
    [trace] = pulse_wave.weighted_means(window.green, places[None])
    timing = {"window_s": window_s, "fps": 1 / float(np.median(np.diff(time_s)))}
    percent = pulse_wave.in_band(trace, time_s, rate_bpm, np.array([window.time_s]), **timing)
    known = [round(float(v), 4) if np.isfinite(v) else None for v in percent]
    return {"time_s": np.round(time_s, 3).tolist(), "percent": known}
