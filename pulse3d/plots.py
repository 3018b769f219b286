"""Pictures; the only importer of matplotlib."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from pulse3d import metrics
from pulse3d.evaluation import Scored
from pulse3d.logbook import read_rows
from pulse3d.readout import Reading
from pulse3d.result import Result
from pulse3d.video import Frame

RATE_COLOURS = "viridis"
CONFIDENCE_COLOURS = "cividis"
CHANNEL_COLOURS = ("#cc3311", "#117733", "#4477aa")  # red, green, blue
# Of the methods, in the order given; told apart by the colour-blind (Okabe and Ito, 2008).
METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "0.45")
METHOD_MARKERS = "osD^vP*X"


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Writes a figure under a temporary name, then renames it."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        figure.savefig(temporary, dpi=dpi, bbox_inches="tight")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def learning_curve(metrics: Path, path: Path, *, title: str) -> None:
    """Draws loss and accuracy by step from a metrics.csv."""
    rows = read_rows(metrics)
    checked = [row for row in rows if row["validation_loss"]]

    def series(some, name):
        return [int(row["step"]) for row in some], [float(row[name]) for row in some]

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*series(rows, "loss"), color="0.7", label="training (with dropout)")
    left.plot(*series(checked, "validation_loss"), "o-", ms=3, color="C0", label="validation")
    left.set(xlabel="step", ylabel="cross-entropy (nats)", title=title)
    right.plot(*series(rows, "accuracy"), color="0.7", label="training (with dropout)")
    right.plot(*series(checked, "validation_accuracy"), "o-", ms=3, color="C0", label="exact class")
    right.plot(
        *series(checked, "validation_within_one_class"), "s--", ms=3, color="C1", label="within one class"
    )
    right.set(xlabel="step", ylabel="share of clips", ylim=(0, 1.02))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    save_figure(figure, path)


def clips_figure(
    clips: Float[np.ndarray, "clip time height width channel"],
    rate_bpm: Float[np.ndarray, "clip"],
    fps: float,
) -> Figure:
    """The mean of every clip over time, with its first frame.

    One channel: brightness in grey levels of 8 bits; three: relative changes of red, green and
    blue in percent. rate_bpm: nan for no pulse.
    """
    grey = clips.shape[-1] == 1
    scale, limit = (255, 12) if grey else (100, None)
    columns = min(4, len(clips))
    rows = -(-len(clips) // columns)
    figure = Figure(figsize=(3.6 * columns, 1.7 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, width_ratios=[3, 1] * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for clip, rate, trace, picture in zip(
        clips, rate_bpm, grid[:, ::2].flat, grid[:, 1::2].flat, strict=False
    ):
        trace.axis("on")
        for channel, colour in zip(
            scale * clip.mean((1, 2)).T, ["C0"] if grey else CHANNEL_COLOURS, strict=True
        ):
            trace.plot(np.arange(len(clip)) / fps, channel, lw=1, color=colour)
        trace.set_title("no pulse" if np.isnan(rate) else f"{rate:g} bpm", fontsize=9)
        trace.tick_params(labelsize=7)
        first = scale * clip[0].mean(-1)
        edge = limit or max(abs(first).max(), 1e-6)
        picture.imshow(first, cmap="gray", vmin=-edge, vmax=edge)
    figure.supxlabel("time (s)", fontsize=9)
    what = "brightness (grey levels)" if grey else "change of red, green and blue (%)"
    figure.supylabel(what, fontsize=9)
    return figure


def rate_range(rate_bpm: Float[np.ndarray, "..."]) -> tuple[float, float]:
    """Limits of the colour bar in bpm: most of the rates shown, at least 40 bpm wide."""
    known = rate_bpm[np.isfinite(rate_bpm)]
    low, high = np.percentile(known, [2, 98]) if known.size else (60.0, 100.0)
    centre, half = (low + high) / 2, max(high - low, 40.0) / 2
    return float(max(centre - half, 0.0)), float(centre + half)


def caption(reading: Reading) -> str:
    """The rate and its interval in a few words."""
    if np.isnan(reading.rate_bpm):
        return "no pulse"
    return f"{reading.rate_bpm:.0f} bpm ({reading.low_bpm:.0f}-{reading.high_bpm:.0f})"


def map_figure(result: Result, *, title: str) -> Figure:
    """Frame, rate map and confidence side by side: medians over time, where most windows have a pulse."""
    image, extent = result.frame, result.extent_px
    seen = np.isfinite(result.rate_bpm).mean(0) > 0.5
    rate_bpm = np.full(seen.shape, np.nan)
    rate_bpm[seen] = np.nanmedian(result.rate_bpm[:, seen], axis=0)
    confidence = result.confidence.mean(0)
    height, width = image.shape[:2]
    figure = Figure(figsize=(13, 13 / 3.2 * height / width + 0.9), layout="constrained")
    frame, rates, sure = figure.subplots(1, 3)
    for axes, name in ((frame, "frame"), (rates, "pulse rate"), (sure, "confidence")):
        axes.imshow(image if axes is frame else np.full_like(image, 235), extent=(0, width, height, 0))
        axes.set(title=name, xlim=(0, width), ylim=(height, 0), xlabel="px")
    low, high = rate_range(rate_bpm)
    shown = rates.imshow(
        np.ma.masked_invalid(rate_bpm),
        cmap=RATE_COLOURS,
        vmin=low,
        vmax=high,
        extent=extent,
        interpolation="nearest",
    )
    figure.colorbar(shown, ax=rates, label="pulse rate (bpm); grey: no pulse", shrink=0.8, extend="both")
    shown = sure.imshow(
        confidence, cmap=CONFIDENCE_COLOURS, vmin=0, vmax=1, extent=extent, interpolation="nearest"
    )
    figure.colorbar(shown, ax=sure, label="confidence (0-1)", shrink=0.8)
    figure.suptitle(title)
    return figure


def overlay_frames(
    frames: Iterable[Frame], result: Result, *, max_width_px: int = 960
) -> Iterator[np.ndarray]:
    """Each frame with the map of the nearest window over it, as opaque as it is sure.

    Yields uint8 RGB images, at most `max_width_px` wide.
    """
    rate_bpm, confidence, extent = result.rate_bpm, result.confidence, result.extent_px
    readings = zip(
        result.pulse_rate_bpm, result.low_bpm, result.high_bpm, result.pulse_confidence, strict=True
    )
    captions = [caption(Reading(*map(float, reading))) for reading in readings]
    colours, (low, high) = matplotlib.colormaps[RATE_COLOURS], rate_range(rate_bpm)
    current, tint, opacity = -1, Image.new("RGB", (1, 1)), Image.new("L", (1, 1))
    for frame in frames:
        image = frame.image if frame.image.dtype == np.uint8 else (frame.image * 255).astype(np.uint8)
        scale, shown = min(1.0, max_width_px / image.shape[1]), Image.fromarray(image)
        if scale < 1:
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            shown = shown.resize(size, Image.Resampling.BILINEAR)
        nearest = int(abs(result.time_s - frame.time_s).argmin())
        if nearest != current:
            current = nearest
            known = np.isfinite(rate_bpm[current])
            values = colours((np.where(known, rate_bpm[current], low) - low) / (high - low))[..., :3]
            box = [round(v * scale) for v in extent]
            cover = (confidence[current] * known)[..., None] * 0.7
            tint, opacity = (
                Image.fromarray(
                    (255 * _spread(v, box, (shown.height, shown.width))).astype(np.uint8).squeeze()
                )
                for v in (values, cover)
            )
            # The caption is the same for all frames of a window: it becomes part of what lies over them.
            font = ImageFont.load_default(size=max(12, shown.height // 20))
            for layer, fill, edge in ((tint, "white", "black"), (opacity, 255, 255)):
                ImageDraw.Draw(layer).text(
                    (8, 6), captions[current], font=font, fill=fill, stroke_width=2, stroke_fill=edge
                )
        yield np.asarray(Image.composite(tint, shown, opacity))


def rate_figure(scored: list[Scored], methods: list[str]) -> Figure:
    """Rate over time of every method, with its interval, against the truth of one recording."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    truth = scored[0].truth
    if np.isfinite(truth.rate_bpm).any():
        axes.plot(truth.time_s, truth.rate_bpm, color="black", lw=2.5, label="truth")
    for one in scored:
        style = _style(methods.index(one.method))
        answers = one.answers
        axes.plot(
            one.truth.time_s, answers.rate_bpm, ms=3.5, lw=1, ls="-", alpha=0.9, label=one.method, **style
        )
        axes.fill_between(
            one.truth.time_s, answers.low_bpm, answers.high_bpm, color=style["color"], alpha=0.12, lw=0
        )
    axes.set(xlabel="time (s), centre of the window", ylabel="pulse rate (bpm)")
    axes.set_title(f"{scored[0].clip} ({scored[0].kind}); bands: 90 % intervals", fontsize=10)
    _finish(axes, beside=True)
    return figure


def scatter_figure(scored: list[Scored], methods: list[str]) -> Figure:
    """Answered against true rate, a point per window, with the identity line; a panel per method."""
    figure, panels = _panels(scored)
    known = np.concatenate(
        [v[np.isfinite(v)] for s in scored for v in (s.truth.rate_bpm, s.answers.rate_bpm)]
    )
    limits = (known.min() - 5, known.max() + 5) if len(known) else (40, 240)
    for axes, (method, truth, answer, _) in panels:
        axes.plot(limits, limits, color="black", lw=1)
        axes.plot(truth, answer, ls="", ms=3, alpha=0.5, **_style(methods.index(method)))
        axes.set(title=method, xlim=limits, ylim=limits, aspect="equal")
        axes.grid(alpha=0.3)
    figure.supxlabel("true pulse rate (bpm)", fontsize=10)
    figure.supylabel("answered pulse rate (bpm)", fontsize=10)
    return figure


def bland_altman_figure(scored: list[Scored], methods: list[str]) -> Figure:
    """Difference against mean of answer and truth (`metrics.bland_altman`); a panel per method."""
    figure, panels = _panels(scored)
    for axes, (method, truth, answer, _) in panels:
        points = metrics.bland_altman(truth, answer)
        axes.plot(
            points.mean_bpm, points.difference_bpm, ls="", ms=3, alpha=0.5, **_style(methods.index(method))
        )
        axes.axhline(points.bias_bpm, color="black", lw=1.5)
        for limit in (points.low_bpm, points.high_bpm):
            axes.axhline(limit, color="black", lw=1, ls="--")
        half = points.high_bpm - points.bias_bpm
        axes.set_title(f"{method}\nbias {points.bias_bpm:+.1f} ± {half:.1f} bpm", fontsize=10)
        axes.grid(alpha=0.3)
    figure.supxlabel("mean of answer and truth (bpm); lines: bias, bias ± 1.96 SD", fontsize=10)
    figure.supylabel("answer - truth (bpm)", fontsize=10)
    return figure


def errors_figure(scored: list[Scored], methods: list[str]) -> Figure:
    """The MAE of every recording and method; bars from the 10th to the 90th percentile of its windows."""
    clips = list(dict.fromkeys(s.clip for s in scored))
    figure = Figure(figsize=(8, 1.0 + len(clips) * (0.1 + 0.09 * len(methods))), layout="constrained")
    axes = figure.subplots()
    for one in scored:
        error = abs(one.answers.rate_bpm - one.truth.rate_bpm)
        error = error[np.isfinite(error)]
        index = methods.index(one.method)
        row = clips.index(one.clip) + 0.7 * ((index + 0.5) / len(methods) - 0.5)
        if len(error):
            style = _style(index)
            axes.plot(np.percentile(error, [10, 90]), [row, row], color=style["color"], lw=1.5, alpha=0.6)
            axes.plot(error.mean(), row, ls="", ms=4, clip_on=False, **style)
    for index, method in enumerate(methods):
        axes.plot([], [], ls="", ms=5, label=method, **_style(index))
    axes.set_yticks(range(len(clips)), clips, fontsize=8)
    axes.set(xlabel="absolute error (bpm): mean, 10th to 90th percentile of the windows", xlim=(0, None))
    axes.set_ylim(len(clips) - 0.4, -0.6)
    for line in range(1, len(clips)):
        axes.axhline(line - 0.5, color="0.9", lw=0.8)
    _finish(axes, beside=True)
    return figure


def reliability_figure(scored: list[Scored], methods: list[str]) -> Figure:
    """Share of answers within 5 bpm against the confidence stated, for methods that state one."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black", lw=1, label="calibrated")
    for method, truth, answer, confidence in _by_method(scored):
        curve = metrics.reliability(confidence[np.isfinite(truth)], _near(truth, answer))
        if curve.windows.any():
            filled = curve.windows > 0
            label = f"{method} (error {curve.error:.2f})"
            style = _style(methods.index(method))
            axes.plot(curve.confidence[filled], curve.accuracy[filled], lw=1, ms=5, label=label, **style)
    axes.set(
        xlabel="stated confidence", ylabel="share of answers within 5 bpm", xlim=(0, 1), ylim=(-0.02, 1.02)
    )
    _finish(axes)
    return figure


def _near(truth: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Which of the windows with a truth are answered within 5 bpm."""
    return abs(answer - truth)[np.isfinite(truth)] <= 5


def _by_method(scored: list[Scored]) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(method, truth, answer, confidence) of the windows of all its recordings."""
    grouped: dict[str, list[Scored]] = {}
    for one in scored:
        grouped.setdefault(one.method, []).append(one)
    return [
        (
            method,
            np.concatenate([s.truth.rate_bpm for s in group]),
            np.concatenate([s.answers.rate_bpm for s in group]),
            np.concatenate([s.answers.confidence for s in group]),
        )
        for method, group in grouped.items()
    ]


def _panels(scored: list[Scored]) -> tuple[Figure, zip]:
    """A figure with axes for every method."""
    methods = _by_method(scored)
    columns = min(4, len(methods))
    rows = -(-len(methods) // columns)
    figure = Figure(figsize=(max(3.1 * columns, 4), 3.1 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for empty in grid.flat[len(methods) :]:
        empty.axis("off")
    return figure, zip(grid.flat, methods, strict=False)


def _style(index: int) -> dict[str, Any]:
    """The colour and marker of the method of that number."""
    colour, marker = METHOD_COLOURS[index % len(METHOD_COLOURS)], METHOD_MARKERS[index % len(METHOD_MARKERS)]
    return {"color": colour, "marker": marker}


def _finish(axes, *, beside: bool = False) -> None:
    """Grid and legend; beside: the legend to the right of the axes."""
    axes.grid(alpha=0.3)
    place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if beside else {}
    axes.legend(frameon=False, fontsize=8, **place)


def _spread(values: np.ndarray, box: list[int], shape: tuple[int, int]) -> np.ndarray:
    """A coarse (row, col, n) map stretched over `box` (left, right, bottom, top) of an image; 0 around."""
    left, right, bottom, top = box
    rows = (np.arange(bottom - top) + 0.5) * values.shape[0] / (bottom - top) - 0.5
    cols = (np.arange(right - left) + 0.5) * values.shape[1] / (right - left) - 0.5
    grid = np.meshgrid(rows, cols, indexing="ij")
    stretched = [
        ndimage.map_coordinates(channel, grid, order=0, mode="nearest")
        for channel in np.moveaxis(values, -1, 0)
    ]
    spread = np.zeros((*shape, values.shape[-1]), np.float32)
    region = spread[max(top, 0) : bottom, max(left, 0) : right]
    region[:] = np.stack(stretched, -1)[max(-top, 0) :, max(-left, 0) :][: region.shape[0], : region.shape[1]]
    return spread
