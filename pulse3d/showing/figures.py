"""The figures of a result, in matplotlib."""

from __future__ import annotations

import base64
import html
import io
import warnings
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Rectangle

from pulse3d.errors import InputError, nearest
from pulse3d.files import whole_file
from pulse3d.reading.phase import circular_mean
from pulse3d.reading.readout import Reading, median_map
from pulse3d.result import LIMITS_BPM, Result
from pulse3d.showing import time_plots
from pulse3d.showing.scales import (
    AMPLITUDE_COLOURS,
    CONFIDENCE_COLOURS,
    METHOD_COLOURS,
    PHASE_COLOURS,
    RATE_COLOURS,
    SNR_DB,
)
from pulse3d.showing.truth import Truth
from pulse3d.video import to_bytes

MOST_PARTS = 5  # regions with a line of their own in a figure


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Writes a figure under a temporary name, then renames it; text in PDF and SVG stays text."""
    as_text = matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"})
    with whole_file(path) as temporary, warnings.catch_warnings(), as_text:
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks some scripts that names use
        figure.savefig(temporary, dpi=dpi)


def caption(reading: Reading) -> str:
    """The rate and its interval in a few words."""
    if np.isnan(reading.rate_bpm):
        return "no pulse"
    return f"{reading.rate_bpm:.0f} bpm ({reading.low_bpm:.0f}-{reading.high_bpm:.0f})"


def map_figure(
    result: Result,
    *,
    title: str = "",
    truth: Truth | None = None,
    limits_bpm: tuple[float, float] = LIMITS_BPM,
) -> Figure:
    """Frame, rate map and confidence, and below them the rate over time and a piece of the pulse wave.

    Rates are medians over time where most windows have a pulse, confidences are means; confidence sets the
    opacity. Of several regions, each is numbered in the map and has a line of its own over time.
    truth: reference rates, drawn over time. limits_bpm: of the colours of rates.
    """
    parts = result.regions[:MOST_PARTS] if len(result.regions) > 1 else []
    rate_bpm, confidence = median_map(result.rate_bpm), result.confidence.mean(0)
    panels = [
        FRAME,
        make_panel("rate", rate_bpm, limits_bpm=limits_bpm),
        make_panel("confidence", confidence),
    ]
    figure, grid = _panels_figure(result, panels, confidence, title=title, below=(1.7, 1.2))
    for number, part in enumerate(parts, 1):
        rows, cols = np.nonzero(part.places)
        at = (result.col_px[cols].mean(), result.row_px[rows].mean())
        box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": METHOD_COLOURS[number + 1], "lw": 1.5}
        figure.axes[1].annotate(str(number), at, ha="center", va="center", fontsize=9, bbox=box)
    time_plots.draw_rates(figure.add_subplot(grid[1, :]), result, parts, truth)
    time_plots.draw_wave(figure.add_subplot(grid[2, :]), result)
    figure.align_ylabels()
    return figure


def layer_figure(
    result: Result,
    layer: str,
    *,
    window: int | None = None,
    ax: Axes | None = None,
    limits_bpm: tuple[float, float] = LIMITS_BPM,
) -> Figure:
    """One map over the frame; the arguments as in `Result.plot`."""
    count = len(result.time_s)
    if window is not None and not -count <= window < count:
        raise InputError(f"window {window}: there are {count}")
    layers = {
        "rate": "rate_bpm", "confidence": "confidence", "amplitude": "amplitude_percent", "snr": "snr_db",
        "phase": "phase_deg",
    }  # fmt: skip
    if layer not in layers:
        raise InputError(f"layer {layer}: unknown{nearest(layer, layers)}; choose {', '.join(layers)}")
    values, opacity = getattr(result, layers[layer]), result.confidence.mean(0)
    rate_bpm = median_map(result.rate_bpm) if window is None else result.rate_bpm[window]
    if window is not None:
        values, opacity = values[window], result.confidence[window]
    else:
        overall = {"confidence": lambda maps: maps.mean(0), "phase": circular_mean}
        values = overall.get(layer, median_map)(values)
    ax = ax or Figure(figsize=(6, 4.5), layout="constrained").add_subplot()
    panel = make_panel(layer, values, limits_bpm=limits_bpm, with_pulse=np.isfinite(rate_bpm))
    _draw_panel(ax, result, panel, opacity if layer == "rate" else None)
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def result_html(result: Result) -> str:
    """A result as HTML for notebooks: the rate in words, and the figure of `map_figure`."""
    buffer = io.BytesIO()
    map_figure(result).savefig(buffer, format="png", dpi=80)
    image = base64.b64encode(buffer.getvalue()).decode()
    name, rate = html.escape(Path(result.summary["video"]).name), result.summary["pulse_rate_median_bpm"]
    words = "no pulse found" if rate is None else f"<b>{rate:.1f} bpm</b> (median over windows)"
    with_pulse, windows = result.summary["windows_with_pulse"], result.summary["windows"]
    return (
        f"<p>{name}: {words}; {with_pulse} of {windows} windows with a pulse. Not a medical device.</p>"
        f'<img src="data:image/png;base64,{image}" alt="Frame, rate map, confidence, and rate over time">'
    )


def companion_figure(result: Result, *, title: str = "") -> Figure:
    """Amplitude, SNR and phase of every place at the current pulse rate, as medians and means over time."""
    panels = [
        FRAME,
        make_panel(
            "amplitude",
            median_map(result.amplitude_percent),
            with_pulse=np.isfinite(median_map(result.rate_bpm)),
        ),
        make_panel("snr", median_map(result.snr_db)),
        make_panel("phase", circular_mean(result.phase_deg)),
    ]
    note = "not a map of perfusion: light, motion and the camera's noise are in it"
    return _panels_figure(result, panels, None, title=f"{title}\n{note}" if title else note)[0]


class Panel(NamedTuple):
    """A map over the frame: its title, values (None: the frame alone), and its colour scale."""

    title: str
    values: np.ndarray | None
    colours: str
    low: float
    high: float


FRAME = Panel("first frame", None, "", 0.0, 1.0)


def make_panel(
    layer: str,
    values: Float[np.ndarray, "row col"],
    *,
    limits_bpm: tuple[float, float] = LIMITS_BPM,
    with_pulse: Bool[np.ndarray, "row col"] | None = None,
) -> Panel:
    """The panel of a layer: "rate", "confidence", "amplitude", "snr" or "phase".

    limits_bpm: of rates. with_pulse: the places that the scale of amplitudes is made for, if there are any;
    at an edge that moves they are larger.
    """
    if layer == "amplitude":
        known = np.isfinite(values)
        if with_pulse is not None and (known & with_pulse).any():
            known &= with_pulse
        most = float(np.percentile(values[known], 98)) if known.any() else 1.0
        return Panel("amplitude at the frame's pulse rate (%)", values, AMPLITUDE_COLOURS, 0.0, most)
    title, colours, low, high = {
        "rate": ("pulse rate (bpm)", RATE_COLOURS, *limits_bpm),
        "confidence": ("confidence (0 to 1)", CONFIDENCE_COLOURS, 0.0, 1.0),
        "snr": ("SNR at the frame's pulse rate (dB)", CONFIDENCE_COLOURS, *SNR_DB),
        "phase": ("phase against the frame's pulse (degrees)", PHASE_COLOURS, -180.0, 180.0),
    }[layer]
    return Panel(title, values, colours, low, high)


def _panels_figure(
    result: Result,
    panels: list[Panel],
    opacity: np.ndarray | None,
    *,
    title: str,
    below: tuple[float, ...] = (),
) -> tuple[Figure, GridSpec]:
    """Panels side by side, each a map over the frame in grey, and the grid; below: heights of other rows."""
    height, width = result.frame.shape[:2]
    # The frame's own shape, but the figure is at most as high as it is wide.
    panel_height = 3.7 * min(max(height / width, 0.4), 1.6)
    figure = Figure(figsize=(4.2 * len(panels), panel_height + 0.9 + 1.25 * sum(below)), layout="constrained")
    grid = figure.add_gridspec(1 + len(below), len(panels), height_ratios=[panel_height, *below])
    for column, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(grid[0, column]), result, panel, opacity)
    if title:
        # a file name may hold bytes that are not text
        figure.suptitle(title.encode(errors="replace").decode(), fontsize=11, parse_math=False)
    return figure, grid


def _draw_panel(axes: Axes, result: Result, panel: Panel, opacity: np.ndarray | None) -> None:
    """A map over the frame in grey, with its colour bar; or the frame alone."""
    image = to_bytes(result.frame)
    height, width = image.shape[:2]
    grey = np.repeat(image.mean(-1, keepdims=True), 3, -1) / 255 * 0.6 + 0.25
    axes.imshow(image if panel.values is None else grey, extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_title(panel.title, fontsize=10, loc="left")
    if panel.values is None:
        return
    alpha = np.isfinite(panel.values) * (1.0 if opacity is None else np.clip(opacity * 1.2, 0, 1)) * 0.9
    shown = axes.imshow(
        np.nan_to_num(panel.values),
        cmap=panel.colours,
        vmin=panel.low,
        vmax=panel.high,
        extent=result.extent_px,
        alpha=alpha,
        interpolation="nearest",
    )
    shown.set_clip_path(Rectangle((0, 0), width, height, transform=axes.transData))
    solid = ScalarMappable(shown.norm, shown.cmap)  # a bar of its own: the map's would be faded
    beside = axes.inset_axes((1.03, 0.0, 0.045, 1.0))  # as high as the map, whatever its shape
    bar = axes.figure.colorbar(solid, cax=beside, extend="neither" if panel.low == -180 else "both")
    if panel.low == -180:
        bar.set_ticks([-180, -90, 0, 90, 180])
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
