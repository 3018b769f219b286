"""The pulse rate and the pulse wave of a result over time, in matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from pulse3d.reading.regions import Region
from pulse3d.result import Result
from pulse3d.showing.scales import CHANNEL_COLOURS, METHOD_COLOURS, rate_range
from pulse3d.showing.truth import Truth

WAVE_S = 20.0  # of the pulse wave in a figure


def draw_rates(axes: Axes, result: Result, parts: Sequence[Region], truth: Truth | None = None) -> None:
    """The pulse rate over time with its interval, and a line for every part; of one window, the number.

    The frame's line is the wide one below those of the parts, one of which it follows. truth: drawn dashed.
    """
    answered = np.isfinite(result.pulse_rate_bpm)
    lines = [np.array([reading.rate_bpm for reading in part.readings]) for part in parts]
    if not answered.any() or len(result.time_s) == 1:
        _write(axes, _in_words(result, lines))
        return
    share, colour = round(100 * result.summary.get("interval", 0.9)), METHOD_COLOURS[0]
    if len(result.time_s) < 3:
        around = [result.pulse_rate_bpm - result.low_bpm, result.high_bpm - result.pulse_rate_bpm]
        axes.errorbar(
            result.time_s, result.pulse_rate_bpm, around, fmt="o", capsize=4, color=colour, label="frame"
        )
    else:
        band = axes.fill_between(
            result.time_s, result.low_bpm, result.high_bpm, color=colour, alpha=0.2, lw=0
        )
        band.set_label(f"{share} % interval")
        wide = {"lw": 5, "alpha": 0.4, "label": "frame"} if parts else {"label": "rate"}
        axes.plot(result.time_s, result.pulse_rate_bpm, color=colour, solid_capstyle="butt", **wide)
    if truth:
        axes.plot(*truth, color="0.3", ls=(0, (4, 3)), lw=1, label="truth")
    for number, line in enumerate(lines, 1):
        colour = METHOD_COLOURS[number + 1]
        axes.plot(result.time_s, line, ".-", color=colour, lw=1.2, ms=3, label=f"region {number}")
    low, high = rate_range(np.concatenate([result.low_bpm, result.high_bpm]))
    beside = [*lines, *([truth.rate_bpm[_inside(truth.time_s, result.time_s)]] if truth else [])]
    known = np.concatenate([[low, high], *(line + edge for line in beside for edge in (-3, 3))])
    axes.set_ylim(np.nanmin(known), np.nanmax(known))
    # above the axes, where no line is
    axes.legend(
        frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=8, borderaxespad=0
    )
    axes.set_xlim(float(result.time_s[0]) - 0.5, float(result.time_s[-1]) + 0.5)
    _label(axes, "time (s), centre of the window", "pulse rate (bpm)")


def _inside(time_s: np.ndarray, of: np.ndarray) -> np.ndarray:
    return (time_s >= of[0]) & (time_s <= of[-1])


def draw_wave(axes: Axes, result: Result) -> None:
    """The pulse wave around the window with the highest confidence."""
    middle = result.time_s[np.nan_to_num(result.pulse_confidence).argmax()]
    time_s, percent = result.bvp
    shown = abs(time_s - middle) <= WAVE_S / 2
    if not np.isfinite(percent[shown]).any():
        _write(axes, "no pulse wave")
        return
    axes.plot(time_s[shown], percent[shown], color=CHANNEL_COLOURS[0], lw=1.2)
    axes.set_xlim(time_s[shown][0], time_s[shown][-1])
    _label(axes, "time (s), where the rate is surest", "pulse wave (%)")


def _in_words(result: Result, lines: list[np.ndarray]) -> str:
    """What there is to say instead of an axis: no pulse, or the rates of the one window."""
    if np.isnan(result.pulse_rate_bpm).all():
        return "no pulse found"
    rate, low, high = (values[0] for values in (result.pulse_rate_bpm, result.low_bpm, result.high_bpm))
    share = round(100 * result.summary.get("interval", 0.9))
    said = [f"{rate:.0f} bpm ({share} % interval {low:.0f} to {high:.0f})"]
    said += [f"region {n}: {line[0]:.0f} bpm" for n, line in enumerate(lines, 1) if np.isfinite(line[0])]
    return "\n".join(said)


def _write(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.3", fontsize=13)
    axes.axis("off")


def _label(axes: Axes, below: str, beside: str) -> None:
    axes.set_xlabel(below, fontsize=9)
    axes.set_ylabel(beside, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
