"""Figures of an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pulse3d.evaluation import calibration, metrics
from pulse3d.evaluation.map_truth import OUTCOMES, SKIN
from pulse3d.evaluation.scores import Scored, detect, detection_scores
from pulse3d.reading import readout
from pulse3d.result import map_extent
from pulse3d.showing.scales import METHOD_COLOURS, RATE_COLOURS, rate_range

# For the outcomes of places; safe for the colour-blind (Okabe and Ito, 2008).
OUTCOME_COLOURS = dict(zip(OUTCOMES, ("0.88", "#0072B2", "#D55E00", "#F0E442"), strict=True))
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
    _finish(axes)
    return figure


def scatter_figure(scored: list[Scored], methods: list[str]) -> Figure:
    """Answered against true rate, a point per window, with the identity line; a panel per method."""
    figure, panels = _panels(scored)
    known = np.concatenate(
        [v[np.isfinite(v)] for s in scored for v in (s.truth.rate_bpm, s.answers.rate_bpm)]
    )
    limits = (known.min() - 5, known.max() + 5) if len(known) else (40, 240)
    for axes, (method, truth, answer) in panels:
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
    for axes, (method, truth, answer) in panels:
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
    _finish(axes)
    return figure


def reliability_figure(scored: list[Scored], methods: list[str]) -> Figure:
    """Stated against observed shares, for methods that state them: confidences, and intervals.

    Each point has its number of windows beside it; those of fewer than `calibration.FEW_WINDOWS` are open.
    Bars: 95 % bootstrap intervals over recordings, where there are enough.
    """
    grouped = [(method, [s for s in scored if s.method == method]) for method in methods]
    curves = [(method, *_curves(group)) for method, group in grouped if group]
    kinds = [
        ("stated confidence", "share of answers within 5 bpm", [(m, c) for m, c, _ in curves]),
        ("stated share of the interval", "share of truths inside", [(m, i) for m, _, i in curves]),
    ]
    kinds = [kind for kind in kinds if any(curve.windows.any() for _, curve in kind[2])]
    figure = Figure(figsize=(5.4 * len(kinds) + 0.6, 4.8), layout="constrained")
    for axes, (stated, right, each) in zip(
        figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True
    ):
        axes.plot([0, 1], [0, 1], color="black", lw=1, label="calibrated")
        for method, curve in each:
            if curve.windows.any():
                _draw_curve(axes, curve, method, _style(methods.index(method)))
        axes.set(xlabel=stated, ylabel=right, xlim=(0, 1), ylim=(-0.02, 1.02))
        _finish(axes, legend="upper left")
    figure.supxlabel(
        f"numbers: windows; open: fewer than {calibration.FEW_WINDOWS}; bars: 95 %, over recordings",
        fontsize=8,
    )
    return figure


def _curves(scored: list[Scored]) -> tuple[calibration.Curve, calibration.Curve]:
    """The calibration curves of one method: for its confidences, and for its intervals."""
    nothing = np.zeros((0, len(calibration.LEVELS)))
    names = np.repeat(np.arange(len(scored)), [len(s.truth.rate_bpm) for s in scored])
    held = [s.holds for s in scored if s.holds is not None]
    with_intervals = np.repeat(np.arange(len(held)), [len(h) for h in held])
    truth, answer, confidence = (
        np.concatenate([np.zeros(0), *column])
        for column in zip(
            *((s.truth.rate_bpm, s.answers.rate_bpm, s.answers.confidence) for s in scored), strict=True
        )
    )
    known, near = np.isfinite(truth), abs(answer - truth) <= metrics.TOLERANCE_BPM
    return (
        calibration.confidence_curve(confidence[known], near[known], names[known]),
        calibration.interval_curve(np.concatenate([nothing, *held]), with_intervals),
    )


def _draw_curve(axes: Axes, curve: calibration.Curve, method: str, style: dict[str, Any]) -> None:
    filled = curve.windows > 0
    label = f"{method} (error {curve.error:.2f})"
    open_ = {"mfc": "white", "mew": 1.2, "ls": "", "ms": 5}
    axes.plot(curve.stated[filled], curve.right[filled], lw=1, ms=5, label=label, **style)
    few = filled & (curve.windows < calibration.FEW_WINDOWS)
    axes.plot(curve.stated[few], curve.right[few], **style | open_)
    axes.vlines(curve.stated, curve.low, curve.high, color=style["color"], lw=1.5, alpha=0.5)
    counted = filled if len(curve.windows) <= 10 else filled & (np.arange(len(filled)) % 4 == 1)
    for x, y, windows in zip(
        curve.stated[counted], curve.right[counted], curve.windows[counted], strict=True
    ):
        axes.annotate(
            f"{windows}", (x, y), (4, -9), textcoords="offset points", fontsize=6, color=style["color"]
        )


def map_figure(scored: list[Scored]) -> Figure:
    """The maps of all methods that make one, for a recording with a mask: rates, and outcomes.

    The outline of the skin is drawn over both. Left: the median rate of every place that shows one in most
    windows. Right: the most frequent outcome of every place.
    """
    figure = Figure(figsize=(10, 3.6 * len(scored) + 0.5), layout="constrained")
    rows = figure.subplots(len(scored), 2, squeeze=False)
    for one, (rates, outcome) in zip(scored, rows, strict=True):
        mapped = one.map
        assert mapped is not None
        places, scores = mapped.places, mapped.scores
        stride_px = [*np.diff(places.row_px), *np.diff(places.col_px), 1.0][0]  # of a lone place, a pixel
        extent = map_extent(places.row_px, places.col_px, stride_px)
        median = readout.median_map(places.rate_bpm)
        low, high = rate_range(median)
        image = rates.imshow(median, extent=extent, cmap=RATE_COLOURS, vmin=low, vmax=high)
        figure.colorbar(image, ax=rates, label="pulse rate (bpm)", shrink=0.8)
        colours = ListedColormap(["white", *OUTCOME_COLOURS.values()])
        outcome.imshow(mapped.outcome, extent=extent, cmap=colours, vmin=-1.5, vmax=len(OUTCOMES) - 0.5)
        (height, width), skin = mapped.skin.shape, mapped.skin == SKIN
        for axes in (rates, outcome):
            if skin.any() and not skin.all():
                axes.contour(skin, levels=[0.5], colors="black", linewidths=1)
            axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
            axes.tick_params(labelsize=7)
        rates.set_title(f"{one.clip}: {one.method}", fontsize=10)
        outcome.set_title(
            f"painted {scores.painted:.0%}, found {scores.found:.0%}, ROC area {scores.roc_area:.2f}",
            fontsize=10,
        )
    names = {"nothing": "background without a rate"}
    keys = [Patch(color=colour, label=names.get(name, name)) for name, colour in OUTCOME_COLOURS.items()]
    keys += [Patch(facecolor="white", edgecolor="0.7", label="left out")]
    figure.legend(handles=keys, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def detection_figure(scored: list[Scored], methods: list[str]) -> Figure:
    """The share of answered windows with a pulse against the share of those without, for every threshold.

    Crosses: the methods' own answers. The axis of made-up answers is linear up to 1 %, then logarithmic.
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for index, method in enumerate(methods):
        group = [s for s in scored if s.method == method]
        present, absent = detection_scores(group)
        if not len(present) or not len(absent):
            continue
        bars = np.unique(np.concatenate([present, absent]))[::-1]
        answered, made_up = (
            np.array([0.0, *((scores[:, None] >= bars).mean(0))]) for scores in (present, absent)
        )
        found, colour = detect(group), _style(index)["color"]
        label = f"{method} (area {found.roc_area:.3f})"
        axes.plot(made_up, answered, drawstyle="steps-post", color=colour, lw=1.5, label=label)
        axes.plot(found.made_up, found.answered, "X", color=colour, ms=8, mec="white", clip_on=False)
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xticks([0, 0.01, 0.05, 0.2, 1], ["0", "1 %", "5 %", "20 %", "100 %"])
    axes.set_xlabel("share of windows without a pulse that are answered")
    axes.set_ylabel("share of windows with a pulse that are answered")
    _finish(axes, legend="lower right")
    return figure


def _panels(scored: list[Scored]) -> tuple[Figure, zip]:
    """A figure, and (axes, (method, truth, answer)) for every method, over all windows of its recordings."""
    methods = []
    for method in dict.fromkeys(s.method for s in scored):
        group = [s for s in scored if s.method == method]
        rates = ([s.truth.rate_bpm for s in group], [s.answers.rate_bpm for s in group])
        methods.append((method, *map(np.concatenate, rates)))
    columns = min(4, len(methods))
    rows = -(-len(methods) // columns)
    figure = Figure(figsize=(max(3.1 * columns, 4), 3.1 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for empty in grid.flat[len(methods) :]:
        empty.axis("off")
    return figure, zip(grid.flat, methods, strict=False)


def _style(index: int) -> dict[str, Any]:
    """The colour and marker of the method with this index."""
    colour, marker = METHOD_COLOURS[index % len(METHOD_COLOURS)], METHOD_MARKERS[index % len(METHOD_MARKERS)]
    return {"color": colour, "marker": marker}


def _finish(axes, *, legend: str = "") -> None:
    """Grid and legend, which is there, or by default to the right of the axes: finding room takes long."""
    axes.grid(alpha=0.3)
    place = {"loc": legend} if legend else {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    axes.legend(frameon=False, fontsize=8, **place)
