"""The figures of a result and of a training run, in matplotlib."""

from __future__ import annotations

import base64
import html
import io
import warnings
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pulse3d.errors import InputError, nearest
from pulse3d.files import whole_file
from pulse3d.reading.readout import Reading, median_map
from pulse3d.result import Result
from pulse3d.training.log import read_rows
from pulse3d.video import to_bytes

RATE_COLOURS = "viridis"
CONFIDENCE_COLOURS = "cividis"
AMPLITUDE_COLOURS = "magma"
WAVE_S = 20.0  # of the pulse wave in a figure
DEVIATION_COLOURS = "RdBu_r"
FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
CHANNEL_COLOURS = ("#cc3311", "#117733", "#4477aa")  # red, green, blue
# For the methods, in the order given; safe for the colour-blind (Okabe and Ito, 2008).
METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "0.45")


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Writes a figure under a temporary name, then renames it."""
    with whole_file(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks some scripts that names use
        figure.savefig(temporary, dpi=dpi, bbox_inches="tight")


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


def colour_table(name: str) -> UInt8[np.ndarray, "256 3"]:
    """The 256 colours of a scale, RGB."""
    return matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]


def rate_range(
    rate_bpm: Float[np.ndarray, "..."], confidence: Float[np.ndarray, "..."] | None = None
) -> tuple[float, float]:
    """Limits of the colour bar in bpm: 2nd to 98th percentile of the rates, at least 40 bpm wide.

    confidence: if given, only rates of at least half the highest confidence count.
    """
    known = np.isfinite(rate_bpm)
    if confidence is not None and known.any():
        known &= confidence >= confidence[known].max() / 2
    low, high = np.percentile(rate_bpm[known], [2, 98]) if known.any() else (60.0, 100.0)
    centre, half = (low + high) / 2, max(high - low, 40.0) / 2
    return float(max(centre - half, 0.0)), float(centre + half)


def caption(reading: Reading) -> str:
    """The rate and its interval in a few words."""
    if np.isnan(reading.rate_bpm):
        return "no pulse"
    return f"{reading.rate_bpm:.0f} bpm ({reading.low_bpm:.0f}-{reading.high_bpm:.0f})"


def map_figure(result: Result, *, title: str = "") -> Figure:
    """Frame, rate map and confidence, and below them the rate over time and a piece of the pulse wave.

    Rates are medians over time where most windows have a pulse, confidences are means; confidence sets the
    opacity.
    """
    rate_bpm, confidence = median_map(result.rate_bpm), result.confidence.mean(0)
    panels = [
        FRAME,
        make_panel("rate", rate_bpm, confidence),
        make_panel("confidence", confidence, confidence),
    ]
    return _panels_figure(result, panels, confidence, title=title, trace=True)


def layer_figure(result: Result, layer: str, *, window: int | None = None, ax: Axes | None = None) -> Figure:
    """One map over the frame; layer, window and ax as in `Result.plot`."""
    count = len(result.time_s)
    if window is not None and not -count <= window < count:
        raise InputError(f"window {window}: there are {count}")
    layers = {
        "rate": result.rate_bpm, "confidence": result.confidence,
        "amplitude": result.amplitude_percent, "snr": result.snr_db,
    }  # fmt: skip
    if layer not in layers:
        raise InputError(f"layer {layer}: unknown{nearest(layer, layers)}; choose {', '.join(layers)}")
    if window is not None:
        values, opacity = layers[layer][window], result.confidence[window]
    else:
        opacity = result.confidence.mean(0)
        values = opacity if layer == "confidence" else median_map(layers[layer])
    ax = ax or Figure(figsize=(6, 4.5), layout="constrained").add_subplot()
    _draw_panel(ax, result, make_panel(layer, values, opacity), opacity if layer == "rate" else None)
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def result_html(result: Result) -> str:
    """A result as HTML for notebooks: the rate in words, and the figure of `map_figure`."""
    buffer = io.BytesIO()
    map_figure(result).savefig(buffer, format="png", dpi=80, bbox_inches="tight")
    image = base64.b64encode(buffer.getvalue()).decode()
    name, rate = html.escape(Path(result.summary["video"]).name), result.summary["pulse_rate_median_bpm"]
    words = "no pulse found" if rate is None else f"<b>{rate:.1f} bpm</b> (median over windows)"
    with_pulse, windows = result.summary["windows_with_pulse"], result.summary["windows"]
    return (
        f"<p>{name}: {words}; {with_pulse} of {windows} windows with a pulse. Not a medical device.</p>"
        f'<img src="data:image/png;base64,{image}" alt="Frame, rate map, confidence, and rate over time">'
    )


def companion_figure(result: Result, *, title: str = "") -> Figure:
    """Amplitude and SNR of every place at the current pulse rate, as medians over time."""
    amplitude, snr = median_map(result.amplitude_percent), median_map(result.snr_db)
    confidence = result.confidence.mean(0)
    panels = [FRAME, make_panel("amplitude", amplitude, confidence), make_panel("snr", snr, confidence)]
    note = "not a map of perfusion: light, motion and the camera's noise are in it"
    return _panels_figure(result, panels, None, title=f"{title}\n{note}" if title else note)


class Panel(NamedTuple):
    """A map over the frame: its name, values (None: the frame alone), and its colour scale."""

    name: str
    values: np.ndarray | None
    label: str
    colours: str
    low: float
    high: float


FRAME = Panel("frame", None, "", "", 0.0, 1.0)


def make_panel(
    layer: str, values: Float[np.ndarray, "row col"], confidence: Float[np.ndarray, "row col"]
) -> Panel:
    """The panel of a layer: "rate", "confidence", "amplitude" or "snr"; confidence: as in `rate_range`."""
    if layer == "rate":
        limits = rate_range(values, confidence)
        return Panel("pulse rate", values, "pulse rate (bpm)", RATE_COLOURS, *limits)
    if layer == "confidence":
        return Panel(layer, values, "confidence (0 to 1)", CONFIDENCE_COLOURS, 0.0, 1.0)
    if layer == "amplitude":
        known = values[np.isfinite(values)]
        most = float(np.percentile(known, 98)) if len(known) else 1.0
        return Panel(layer, values, "amplitude of green (% of its mean)", AMPLITUDE_COLOURS, 0.0, most)
    label = "SNR at the pulse rate (dB)"
    return Panel("signal-to-noise ratio", values, label, CONFIDENCE_COLOURS, -15.0, 10.0)


def _panels_figure(
    result: Result, panels: list[Panel], opacity: np.ndarray | None, *, title: str, trace: bool = False
) -> Figure:
    """Panels side by side, each a map over the frame in grey, and the rate over time below them."""
    height, width = result.frame.shape[:2]
    # The frame's own shape, but the figure is at most as high as it is wide.
    panel_height = 3.7 * min(max(height / width, 0.4), 1.6)
    figure = Figure(figsize=(12.5, panel_height + 0.9 + 3.6 * trace), layout="constrained")
    rows = [panel_height, 1.7, 1.2] if trace else [panel_height]
    grid = figure.add_gridspec(len(rows), 3, height_ratios=rows)
    for column, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(grid[0, column]), result, panel, opacity)
    if trace:
        _draw_trace(figure.add_subplot(grid[1, :]), result)
        _draw_wave(figure.add_subplot(grid[2, :]), result)
    if title:
        # a file name may hold bytes that are not text
        figure.suptitle(title.encode(errors="replace").decode(), fontsize=11, parse_math=False)
    return figure


def _draw_panel(axes: Axes, result: Result, panel: Panel, opacity: np.ndarray | None) -> None:
    """A map over the frame in grey, with its colour bar; or the frame alone."""
    image = to_bytes(result.frame)
    height, width = image.shape[:2]
    grey = np.repeat(image.mean(-1, keepdims=True), 3, -1) / 255 * 0.6 + 0.25
    axes.imshow(image if panel.values is None else grey, extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_title(panel.name, fontsize=11, loc="left")
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
    bar = axes.figure.colorbar(solid, ax=axes, label=panel.label, shrink=0.85, extend="both", pad=0.02)
    bar.outline.set_visible(False)


def _draw_wave(axes: Axes, result: Result) -> None:
    """The pulse wave around the window with the highest confidence."""
    middle = result.time_s[np.nan_to_num(result.pulse_confidence).argmax()]
    time_s, percent = result.bvp
    shown = abs(time_s - middle) <= WAVE_S / 2
    if np.isfinite(percent[shown]).any():
        axes.plot(time_s[shown], percent[shown], color=CHANNEL_COLOURS[0], lw=1.2)
        axes.set_xlim(time_s[shown][0], time_s[shown][-1])
    else:
        axes.text(0.5, 0.5, "no pulse wave", transform=axes.transAxes, ha="center", va="center", color="0.3")
        axes.set(xticks=[], yticks=[])
    axes.set_xlabel("time (s), where the rate is surest", fontsize=9)
    axes.set_ylabel("pulse wave (%)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)


def _draw_trace(axes: Axes, result: Result) -> None:
    """The pulse rate over time with its interval."""
    share = round(100 * result.summary.get("interval", 0.9))
    if np.isfinite(result.pulse_rate_bpm).any():
        colour, rate = METHOD_COLOURS[0], result.pulse_rate_bpm
        if len(rate) < 3:
            around = [rate - result.low_bpm, result.high_bpm - rate]
            axes.errorbar(
                result.time_s, rate, around, fmt="o", capsize=4, color=colour, label="rate, interval"
            )
        else:
            band = axes.fill_between(
                result.time_s, result.low_bpm, result.high_bpm, color=colour, alpha=0.2, lw=0
            )
            band.set_label(f"{share} % interval")
            axes.plot(result.time_s, rate, color=colour, label="rate")
        axes.set_ylim(*rate_range(np.concatenate([result.low_bpm, result.high_bpm])))
        axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    else:
        axes.text(0.5, 0.5, "no pulse found", transform=axes.transAxes, ha="center", va="center", color="0.3")
        axes.set_yticks([])
    first, last = float(result.time_s[0]), float(result.time_s[-1])
    axes.set_xlim(first - 0.5, max(last, first) + 0.5)
    axes.set_xlabel("time (s), centre of the window", fontsize=9)
    axes.set_ylabel("pulse rate (bpm)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
