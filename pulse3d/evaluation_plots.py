"""Figures of an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pulse3d import metrics
from pulse3d.evaluation import Scored
from pulse3d.plots import METHOD_COLOURS

METHOD_MARKERS = "osD^vP*X"


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
