"""The figures of a training run and of its clips, in matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from pulse3d.showing.figures import save_figure
from pulse3d.showing.scales import CHANNEL_COLOURS
from pulse3d.training.log import read_rows


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
    for axes, place in ((left, "upper right"), (right, "lower right")):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc=place)
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
