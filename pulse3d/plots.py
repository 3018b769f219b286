"""Pictures; the only importer of matplotlib."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

from pulse3d.logbook import read_rows


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Writes a figure under a temporary name, then renames it."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    figure.savefig(temporary, dpi=dpi, bbox_inches="tight")
    temporary.replace(path)


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
