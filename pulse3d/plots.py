"""Pictures; the only importer of matplotlib."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from pulse3d.logbook import read_rows
from pulse3d.video import Frame

RATE_COLOURS = "viridis"
CONFIDENCE_COLOURS = "cividis"


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
    """The mean brightness of every clip over time, with its first frame; in grey levels of 8 bits.

    rate_bpm: nan for no pulse.
    """
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
        trace.plot(np.arange(len(clip)) / fps, 255 * clip.mean((1, 2, 3)), lw=1)
        trace.set_title("no pulse" if np.isnan(rate) else f"{rate:g} bpm", fontsize=9)
        trace.tick_params(labelsize=7)
        picture.imshow(255 * clip[0].mean(-1), cmap="gray", vmin=-12, vmax=12)
    figure.supxlabel("time (s)", fontsize=9)
    figure.supylabel("brightness (grey levels)", fontsize=9)
    return figure


def rate_range(rate_bpm: Float[np.ndarray, "..."]) -> tuple[float, float]:
    """Limits of the colour bar in bpm: most of the rates shown, at least 40 bpm wide."""
    known = rate_bpm[np.isfinite(rate_bpm)]
    low, high = np.percentile(known, [2, 98]) if known.size else (60.0, 100.0)
    centre, half = (low + high) / 2, max(high - low, 40.0) / 2
    return float(max(centre - half, 0.0)), float(centre + half)


def map_figure(
    image: np.ndarray,
    rate_bpm: Float[np.ndarray, "row col"],
    confidence: Float[np.ndarray, "row col"],
    extent: tuple[float, float, float, float],
    *,
    title: str,
) -> Figure:
    """Frame, rate map and confidence side by side.

    rate_bpm: nan where there is no pulse. extent: left, right, bottom, top of the map on the frame, px.
    """
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
    frames: Iterable[Frame],
    time_s: Float[np.ndarray, "window"],
    rate_bpm: Float[np.ndarray, "window row col"],
    confidence: Float[np.ndarray, "window row col"],
    captions: list[str],
    extent: tuple[float, float, float, float],
    *,
    max_width_px: int = 960,
) -> Iterator[np.ndarray]:
    """Each frame with the map of the nearest window over it, as opaque as it is sure.

    Yields uint8 RGB images, at most `max_width_px` wide.
    """
    colours, (low, high) = matplotlib.colormaps[RATE_COLOURS], rate_range(rate_bpm)
    current, tint, opacity = -1, np.zeros(3), np.zeros(1)
    for frame in frames:
        image = frame.image if frame.image.dtype == np.uint8 else (frame.image * 255).astype(np.uint8)
        scale = min(1.0, max_width_px / image.shape[1])
        if scale < 1:
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        nearest = int(abs(time_s - frame.time_s).argmin())
        if nearest != current:
            current = nearest
            known = np.isfinite(rate_bpm[current])
            values = colours((np.where(known, rate_bpm[current], low) - low) / (high - low))[..., :3]
            box = [round(v * scale) for v in extent]
            tint = _spread(values, box, image.shape[:2]) * 255
            opacity = _spread((confidence[current] * known)[..., None] * 0.7, box, image.shape[:2])
        blended = Image.fromarray((image * (1 - opacity) + tint * opacity).astype(np.uint8))
        draw = ImageDraw.Draw(blended)
        font = ImageFont.load_default(size=max(12, image.shape[0] // 20))
        draw.text((8, 6), captions[current], font=font, fill="white", stroke_width=2, stroke_fill="black")
        yield np.asarray(blended)


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
