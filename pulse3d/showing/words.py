"""Results in words, as the programs print them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pulse3d.reading.readout import Reading
from pulse3d.result import Result
from pulse3d.showing import figures
from pulse3d.stream import WindowResult

ADVICE = (
    "what helps: steady light, a large and still face, ten seconds or more, and the camera's own file instead"
    " of one that a messenger has compressed"
)


def of_summary(summary: dict[str, Any], folder: Path) -> str:
    """The result of a video in a few lines, from its summary.json."""
    with_pulse = f"{summary['windows_with_pulse']} of {summary['windows']} windows with a pulse"
    regions = f"{summary['regions']} regions have rates of their own: see regions.csv"
    lines = [
        f"pulse rate, median over windows: {_median(summary) or 'no pulse found'}",
        *([regions] if summary["regions"] > 1 else []),
        f"{with_pulse}, in {summary['share_of_frame_with_pulse']:.0%} of the frame; {summary['seconds']} s",
        *_against_truth(summary),
        f"written to {folder}: {', '.join(summary['files'])}",
    ]
    if "report.html" in summary["files"]:
        lines.append(f"to look at it, open {folder / 'report.html'}")
    if summary["live"]:
        lines.append("no overlay.mp4: a live source is seen once")
    return "\n".join(lines)


def in_sentences(found: Result) -> list[str]:
    """What a result says, in a few sentences."""
    said = found.summary
    remarks = [*_against_truth(said), *warnings(said)]
    return [*_of_pulse(found), *(f"{line[0].upper()}{line[1:]}." for line in remarks)]


def _of_pulse(found: Result) -> list[str]:
    """The rate, when, where, and in which regions, in sentences."""
    said, rates = found.summary, found.pulse_rate_bpm
    known = np.isfinite(rates)
    if not known.any():
        where = "the one window" if len(rates) == 1 else f"any of {len(rates)} windows"
        return [f"No pulse was found in {where} of {said['window_s']:g} s."]
    low, high = (np.nanmedian(values) for values in (found.low_bpm, found.high_bpm))
    interval = f"({100 * said['interval']:.0f} % interval {low:.0f} to {high:.0f})"
    sentences = [f"The pulse rate is {found.median_bpm:.1f} bpm {interval}."]
    if len(rates) > 1:
        least, most = (
            f"{rates[at]:.0f} bpm, at {found.time_s[at]:.0f} s"
            for at in (np.nanargmin(rates), np.nanargmax(rates))
        )
        steady = round(np.nanmin(rates)) == round(np.nanmax(rates))
        sentences += [
            "It does not change over time." if steady else f"Over time it is between {least}, and {most}.",
            f"{known.sum()} of {len(rates)} windows of {said['window_s']:g} s have a pulse.",
        ]
    sentences.append(f"{np.isfinite(found.rate_bpm).mean():.0%} of the frame pulsates.")
    if len(parts := found.regions) > 1:
        medians = [
            np.median(own) if len(own) else np.nan
            for own in (
                [one.rate_bpm for one in part.readings if np.isfinite(one.rate_bpm)] for part in parts
            )
        ]
        each = ", ".join("none" if np.isnan(v) else f"{v:.0f}" for v in medians)
        sentences.append(f"{len(parts)} regions have a rate of their own: {each} bpm.")
    return sentences


def warnings(summary: dict[str, Any]) -> list[str]:
    """What to know about a result, a line each: what was assumed, what is missing, and what would help."""
    blind = summary.get("windows_without_enough_video", 0)
    unsteady, of = summary.get("windows_of_unsteady_light", 0), summary.get("windows", 0)
    light = (
        f"the light, or the camera's exposure, changes in {unsteady} of {of} windows; there, a rate counts"
        " only if it is in a part of the frame, not all over it"
    )
    return [
        *(f"note: {note}" for note in summary.get("notes", [])),
        *([f"warning: {blind} windows have no pulse because frames are missing"] if blind else []),
        *([f"note: {light}"] if unsteady else []),
        *(f"warning: {lost}" for lost in summary.get("lost", [])),
        *([ADVICE] if summary.get("windows_with_pulse") == 0 else []),
    ]


def of_table(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """A summary as a table for people: names and values; files and notes are told elsewhere."""
    size = f"{summary['frame_width_px']} x {summary['frame_height_px']} px"
    rows = {
        "video": f"{size}, {summary['video_fps']:.4g} frames/s, {summary['video_duration_s']:.1f} s",
        "pulse rate, median over windows": _median(summary) or "none",
        "windows with a pulse": f"{summary['windows_with_pulse']} of {summary['windows']}",
        "windows while the light changes": str(summary.get("windows_of_unsteady_light", 0)),
        "frame with a pulse": f"{summary['share_of_frame_with_pulse']:.1%}",
        "regions with a rate of their own": str(summary["regions"]),
        "weights": summary["weights"],
        "windows": f"{summary['window_s']:g} s, one every {summary['step_s']:g} s",
        "places": f"{summary['patch_px']} px large, one every {summary['stride_px']} px",
        "computed by": f"pulse3d {summary['pulse3d']}, JAX {summary['jax']}, {summary['device']}",
    }
    if summary["windows_with_pulse"] and summary["pulse_rate_equation_8_median_bpm"] is not None:
        rate = f"{summary['pulse_rate_equation_8_median_bpm']:.1f} bpm"
        rows["the same by the paper's equation 8"] = rate
    return list(rows.items())


def _median(summary: dict[str, Any]) -> str:
    """The median rate, its interval and its confidence; empty without a pulse."""
    if not summary["windows_with_pulse"]:
        return ""
    low, high = summary["pulse_rate_low_median_bpm"], summary["pulse_rate_high_median_bpm"]
    interval = f"{100 * summary['interval']:.0f} % interval {low:.0f} to {high:.0f}"
    confidence = f"confidence {summary['confidence_median']:.2f}"
    return f"{summary['pulse_rate_median_bpm']:.1f} bpm ({interval}, {confidence})"


def _against_truth(summary: dict[str, Any]) -> list[str]:
    """How far the rates are from the truth, as far as one was given."""
    if "truth_windows" not in summary:
        return []
    if not summary["truth_windows"]:
        return ["the truth has no rate in any window"]
    mae, within = summary["truth_mae_bpm"], summary["truth_within_5bpm"]
    off = "none of them answered" if mae is None else f"{mae:.1f} bpm off on average"
    return [
        f"against the truth, in {summary['truth_windows']} windows: {off}, {within:.0%} of them within 5 bpm"
    ]


def of_window(window: WindowResult, *, window_s: float) -> str:
    """The reading of a window of a live source, of `window_s`, in a line."""
    reading = window.reading
    now_s = window.time_s + window_s / 2
    return f"{now_s:8.1f} s   {figures.caption(reading)}, confidence {reading.confidence:.2f}"


def window_values(window: WindowResult, *, window_s: float) -> dict[str, float | None]:
    """The same as values by name, None for no pulse."""
    reading: Reading = window.reading
    values = {
        "now_s": window.time_s + window_s / 2,
        "pulse_rate_bpm": reading.rate_bpm,
        "low_bpm": reading.low_bpm,
        "high_bpm": reading.high_bpm,
    }
    known = {name: round(float(v), 3) if np.isfinite(v) else None for name, v in values.items()}
    return known | {"confidence": round(float(reading.confidence), 3)}


def window_as_json(window: WindowResult, *, window_s: float) -> str:
    """The same as a line of JSON, null for no pulse."""
    return json.dumps(window_values(window, window_s=window_s))


def of_regions(
    truths_bpm: Sequence[float],
    regions: Int[np.ndarray, "row col"],
    rate_bpm: Float[np.ndarray, "window row col"],
) -> str:
    """The rates of places beside the truth of the ellipse they are in, from left to right; -1: background."""
    lines = ["from the left  truth (bpm)   median of its patches (bpm)   patches with a pulse"]
    for index, truth in enumerate(truths_bpm):
        rates = rate_bpm[:, regions == index]
        median = np.nanmedian(rates) if np.isfinite(rates).any() else np.nan
        lines.append(
            f"ellipse {index + 1}      {truth:8.1f} {median:20.1f} {np.isfinite(rates).mean():27.0%}"
        )
    background = np.isfinite(rate_bpm[:, regions == -1]).mean()
    return "\n".join([*lines, f"background     no pulse {'':20} {background:27.0%}"])
