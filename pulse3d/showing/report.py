"""report.html: one self-contained page to explore a result.

The page and its script are in `page/`. It holds the maps as compressed bytes, and of a long video only
as many windows as fit into its size; the rate over time is always complete.
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import warnings
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from pulse3d import files
from pulse3d.errors import InputError
from pulse3d.reading.pulse_wave import PulseWave
from pulse3d.result import Result, map_extent
from pulse3d.showing import figures
from pulse3d.video import to_bytes

MAX_BYTES = 4_000_000  # of the maps as encoded in the page, which stays below 8 MB
MAX_VALUES = 20_000_000  # of probabilities, before compression
FRAME_WIDTH_PX = 960
NONE, NO_RATE = 255, 65535  # codes for missing values
DEVIATION_BPM = 20.0
SNR_DB = (-15.0, 10.0)


class Truth(NamedTuple):
    """Reference rates to show beside the result: times in s, rates in bpm (nan where not known)."""

    time_s: Float[np.ndarray, "time"]
    rate_bpm: Float[np.ndarray, "time"]


def read_truth(path: Path) -> Truth:
    """Reads reference rates from a CSV: after a header, time in s and rate in bpm as the first columns.

    Raises InputError for anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an empty table, which is refused below
            table = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=(0, 1), ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a table of rates ({error}); expected a header, then time in s, rate in bpm"
        ) from None
    if not len(table) or not np.isfinite(table[:, 0]).all():
        raise InputError(f"{path}: holds no rates; expected a header, then time in s, rate in bpm")
    return Truth(table[:, 0], table[:, 1])


def write_report(result: Result, path: Path, *, truth: Truth | None = None, film: bytes = b"") -> None:
    """Writes the page, at most 8 MB, for a video of any length; film: the video in small, as MP4, if any."""
    # a file name may hold bytes that are not text
    files.write_atomically(path, make_page(result, truth=truth, film=film).encode(errors="replace"))


def make_page(result: Result, *, truth: Truth | None = None, film: bytes = b"") -> str:
    """The page as HTML."""
    page = resources("pulse3d.showing") / "page"
    return Template((page / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(Path(result.summary["video"]).name),
        style=(page / "page.css").read_text(encoding="utf-8"),
        script=(page / "page.js").read_text(encoding="utf-8"),
        charts=(page / "charts.js").read_text(encoding="utf-8"),
        film=base64.b64encode(film).decode(),
        data=_fit(result, truth),
    )


def _fit(result: Result, truth: Truth | None) -> str:
    """The data of as many windows as fit into `MAX_BYTES`, evenly spaced."""
    count, rows, cols = result.rate_bpm.shape
    # of very many places, only every second, third ... along both axes is kept
    values = rows * cols * len(result.rate_axis_bpm)
    every = int(np.ceil(np.sqrt(max(1.0, 10 * values / MAX_VALUES))))
    wanted = min(count, max(1, MAX_VALUES * every**2 // values))
    wave = result.bvp
    while True:
        windows = np.unique(np.linspace(0, count - 1, wanted).round().astype(int))
        data = _deflate(_pack(result, wave, truth, windows, every))
        if len(data) <= MAX_BYTES or wanted == 1:
            return data
        wanted = max(1, int(wanted * 0.9 * MAX_BYTES / len(data)))


def _pack(result: Result, wave: PulseWave, truth: Truth | None, windows: np.ndarray, every: int) -> bytes:
    """The length of a JSON header, the header, and the arrays it lists, as bytes."""
    chosen = set(windows.tolist())
    shares = (p[::every, ::every] for i, p in enumerate(result.probabilities()) if i in chosen)
    probability = np.stack([(255 * p.astype(np.float32)).round().astype(np.uint8) for p in shares])
    rate_bpm, confidence, amplitude, snr = (
        values[windows][:, ::every, ::every]
        for values in (result.rate_bpm, result.confidence, result.amplitude_percent, result.snr_db)
    )
    known = np.isfinite(rate_bpm)
    # places have rates of the axis: the insertion point is their index
    nearest = np.searchsorted(result.rate_axis_bpm, np.where(known, rate_bpm, 0) - 1e-3)
    most = float(np.nanpercentile(amplitude, 99)) if np.isfinite(amplitude).any() else 0.0
    most = most or 1.0  # a scale from 0 to 0 is invalid
    arrays = {
        "place_rate": np.where(known, nearest, NO_RATE).astype("<u2"),
        "confidence": (255 * confidence).round().astype(np.uint8),
        "amplitude": _quantise(amplitude, 0.0, most),
        "snr": _quantise(snr, *SNR_DB),
        "probability": probability,
    }
    row_px, col_px = result.row_px[::every], result.col_px[::every]
    scales = _scales(figures.rate_range(rate_bpm, confidence), most)
    header = {
        "arrays": {name: (array.dtype.itemsize, array.shape) for name, array in arrays.items()},
        "name": Path(result.summary["video"]).name,
        "subtitle": _subtitle(result.summary),
        "note": _note(result, windows, every),
        "summary": {name: value for name, value in result.summary.items() if name != "video"},
        "frame": _jpeg(result.frame),
        "frame_height_px": result.frame.shape[0],
        "frame_width_px": result.frame.shape[1],
        # places that are left out are covered by those that are kept
        "extent_px": map_extent(row_px, col_px, every * result.summary["stride_px"]),
        "row_px": row_px.tolist(),
        "col_px": col_px.tolist(),
        "rate_axis_bpm": result.rate_axis_bpm.tolist(),
        "windows": windows.tolist(),
        "start_window": int(np.nan_to_num(result.pulse_confidence[windows]).argmax()),
        "start_place": int(confidence.mean(0).argmax()),
        "rate": {
            "time_s": _list(result.time_s, 3),
            "rate_bpm": _list(result.pulse_rate_bpm, 1),
            "low_bpm": _list(result.low_bpm, 1),
            "high_bpm": _list(result.high_bpm, 1),
        },
        "wave": {"time_s": _list(wave.time_s, 3), "percent": _list(wave.percent, 4)},
        "truth": truth and {"time_s": _list(truth.time_s, 3), "rate_bpm": _list(truth.rate_bpm, 1)},
        "scales": scales,
        "colours": {of["colours"]: figures.colour_table(of["colours"]).tolist() for of in scales.values()},
    }
    text = json.dumps(header, allow_nan=False).encode()
    return b"".join([len(text).to_bytes(4, "little"), text, *(array.tobytes() for array in arrays.values())])


def _scales(rates_bpm: tuple[float, float], most_percent: float) -> dict[str, dict[str, Any]]:
    """The limits and the colours of every layer of the page."""
    limits = {
        "rate": (*rates_bpm, figures.RATE_COLOURS),
        "confidence": (0.0, 1.0, figures.CONFIDENCE_COLOURS),
        "deviation": (-DEVIATION_BPM, DEVIATION_BPM, figures.DEVIATION_COLOURS),
        "amplitude": (0.0, most_percent, figures.AMPLITUDE_COLOURS),
        "snr": (*SNR_DB, figures.CONFIDENCE_COLOURS),
    }
    return {name: {"low": low, "high": high, "colours": of} for name, (low, high, of) in limits.items()}


def _subtitle(summary: dict[str, Any]) -> str:
    return (
        f"{summary['frame_width_px']} x {summary['frame_height_px']} px, {summary['video_duration_s']:.1f} s;"
        f" weights {summary['weights']}, windows of {summary['window_s']:g} s every {summary['step_s']:g} s"
    )


def _note(result: Result, windows: np.ndarray, every: int) -> str:
    """A note on what the page leaves out; empty if nothing."""
    parts = []
    if len(windows) < len(result.time_s):
        parts.append(f"maps of {len(windows)} of {len(result.time_s)} windows")
    if every > 1:
        parts.append(f"one in {every} of the rows and of the columns of places")
    return f"To keep it small, this page has {' and '.join(parts)}; map.npz has all." if parts else ""


def _quantise(values: np.ndarray, low: float, high: float) -> UInt8[np.ndarray, "..."]:
    """Values from low to high as 0...254; `NONE` for nan."""
    shares = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-12), 0, 1)
    return np.where(np.isfinite(values), (254 * shares).round(), NONE).astype(np.uint8)


def _list(values: np.ndarray, digits: int) -> list[float | None]:
    """Rounded numbers for JSON, None for nan."""
    return [round(float(v), digits) if np.isfinite(v) else None for v in values]


def _jpeg(image: np.ndarray) -> str:
    """An image as a data URL of a JPEG."""
    picture = Image.fromarray(to_bytes(image))
    if picture.width > FRAME_WIDTH_PX:
        picture = picture.resize(
            (FRAME_WIDTH_PX, max(1, round(picture.height * FRAME_WIDTH_PX / picture.width)))
        )
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _deflate(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()
