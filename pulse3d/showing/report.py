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
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pulse3d import files
from pulse3d.reading import regions
from pulse3d.reading.readout import median_map, typical_window
from pulse3d.result import LIMITS_BPM, Result, map_extent
from pulse3d.showing import figures, scales, words
from pulse3d.showing.truth import Truth
from pulse3d.video import to_bytes

MAX_BYTES = 4_000_000  # of the maps as encoded in the page, which stays below 8 MB
MAX_VALUES = 20_000_000  # of probabilities, before compression
MAX_WAVE_VALUES = 500_000  # of pulse waves of single places
FRAME_WIDTH_PX = 960
NONE, NO_RATE = 255, 65535  # codes for missing values
RATE_STEPS = 100  # of the rates of places, in 1 bpm
DEVIATION_BPM = 20.0


def write_report(result: Result, path: Path, **options: Any) -> None:
    """Writes the page, at most 8 MB for ten hours of video; the options as in `make_page`."""
    # a file name may hold bytes that are not text
    files.write_atomically(path, make_page(result, **options).encode(errors="replace"))


def make_page(
    result: Result,
    *,
    truth: Truth | None = None,
    film: bytes = b"",
    limits_bpm: tuple[float, float] = LIMITS_BPM,
) -> str:
    """The page as HTML.

    film: the video in small, as MP4, if any. limits_bpm: of the colours of rates.
    """
    said = {
        "sentences": words.in_sentences(result),
        "regions": _regions(result),
        "truth": truth and {"time_s": _list(truth.time_s, 3), "rate_bpm": _list(truth.rate_bpm, 1)},
    }
    page = resources("pulse3d.showing") / "page"
    return Template((page / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(Path(result.summary["video"]).name),
        style=(page / "page.css").read_text(encoding="utf-8"),
        script=(page / "page.js").read_text(encoding="utf-8"),
        **{name: (page / f"{name}.js").read_text(encoding="utf-8") for name in ("charts", "tools", "map")},
        film=base64.b64encode(film).decode(),
        data=_fit(result, said, limits_bpm),
    )


def _fit(result: Result, said: dict[str, Any], limits_bpm: tuple[float, float]) -> str:
    """The data of as many windows as fit into `MAX_BYTES`, evenly spaced."""
    count, rows, cols = result.rate_bpm.shape
    # of very many places, only every second, third ... along both axes is kept
    values = rows * cols * len(result.rate_axis_bpm)
    every = int(np.ceil(np.sqrt(max(1.0, 10 * values / MAX_VALUES))))
    wanted = min(count, max(1, MAX_VALUES * every**2 // values))
    wave = result.bvp
    said |= {"wave": {"time_s": _list(wave.time_s, 3), "percent": _list(wave.percent, 4)}}
    waves, phase_deg = _place_waves(result, every), result.phase_deg
    while True:
        windows = np.unique(np.linspace(0, count - 1, wanted).round().astype(int))
        maps = _quantised_maps(result, phase_deg, windows, every)
        data = _deflate(_pack(result, said, waves, maps, limits_bpm, every))
        if len(data) <= MAX_BYTES or wanted == 1:
            return data
        wanted = max(1, int(wanted * 0.9 * MAX_BYTES / len(data)))


class _Waves(NamedTuple):
    """The pulse waves of single places: their numbers in the page, percent of 254 of each, and the waves."""

    places: list[int]
    largest_percent: list[float | None]
    quantised: UInt8[np.ndarray, "place time"]


def _place_waves(result: Result, every: int) -> _Waves:
    """The waves of the places with a rate in most windows; of too many, of the surest."""
    number = np.arange(result.rate_bpm[0].size).reshape(result.rate_bpm.shape[1:])[::every, ::every].ravel()
    living = np.isfinite(median_map(result.rate_bpm)).ravel()[number]
    sure = np.where(living, result.confidence.mean(0).ravel()[number], -1.0)
    most = max(1, MAX_WAVE_VALUES // len(result.frame_s))
    places = np.sort(np.argsort(-sure, kind="stable")[: min(int(living.sum()), most)])
    waves = [wave.percent for wave in result.place_waves(number[places])]
    largest = [float(np.nanmax(abs(wave), initial=1e-6)) for wave in waves]
    quantised = [_quantise(wave, -most, most) for wave, most in zip(waves, largest, strict=True)]
    # steps from frame to frame, modulo 256, compress better
    steps = np.diff(
        np.array(quantised, np.uint8).reshape(len(places), len(result.frame_s)), axis=1, prepend=np.uint8(0)
    )
    return _Waves(places.tolist(), _list(np.array(largest), 6), steps)


class _Maps(NamedTuple):
    """The maps of some windows as bytes, and what the largest amplitude is."""

    windows: np.ndarray
    arrays: dict[str, np.ndarray]
    most_percent: float


def _quantised_maps(result: Result, phase_deg: np.ndarray, windows: np.ndarray, every: int) -> _Maps:
    chosen = set(windows.tolist())
    shares = (p[::every, ::every] for i, p in enumerate(result.probabilities()) if i in chosen)
    probability = np.stack([(255 * p.astype(np.float32)).round().astype(np.uint8) for p in shares])
    rate_bpm, confidence, amplitude, snr, phase = (
        values[windows][:, ::every, ::every]
        for values in (
            result.rate_bpm, result.confidence, result.amplitude_percent, result.snr_db, phase_deg
        )
    )  # fmt: skip
    known = np.isfinite(rate_bpm)
    # the scale is that of the places with a pulse: at an edge that moves, everything is larger
    measured = np.isfinite(amplitude)
    scaled = amplitude[measured & known] if (measured & known).any() else amplitude[measured]
    most = float(np.percentile(scaled, 99)) if len(scaled) else 0.0
    most = most or 1.0  # a scale from 0 to 0 is invalid
    arrays = {
        "place_rate": np.where(known, (RATE_STEPS * np.nan_to_num(rate_bpm)).round(), NO_RATE).astype("<u2"),
        "confidence": (255 * confidence).round().astype(np.uint8),
        "amplitude": _quantise(amplitude, 0.0, most),
        "snr": _quantise(snr, *scales.SNR_DB),
        "phase": _quantise(phase, -180.0, 180.0),
        "probability": probability,
    }
    return _Maps(windows, arrays, most)


def _pack(
    result: Result,
    said: dict[str, Any],
    waves: _Waves,
    maps: _Maps,
    limits_bpm: tuple[float, float],
    every: int,
) -> bytes:
    """The length of a JSON header, the header, and the arrays it lists, as bytes."""
    windows, layers = maps.windows, _scales(limits_bpm, maps.most_percent)
    arrays = {**maps.arrays, "place_waves": waves.quantised}
    row_px, col_px = result.row_px[::every], result.col_px[::every]
    start = typical_window(result.rate_bpm[windows], result.pulse_confidence[windows])
    header = {
        **said,
        "arrays": {name: (array.dtype.itemsize, array.shape) for name, array in arrays.items()},
        "name": Path(result.summary["video"]).name,
        "subtitle": _subtitle(result.summary),
        "rate_steps": RATE_STEPS,
        "note": _note(result, windows, every),
        "summary": {name: value for name, value in result.summary.items() if name != "video"},
        "table": words.of_table(result.summary),
        "frame": _jpeg(result.frame),
        "frame_height_px": result.frame.shape[0],
        "frame_width_px": result.frame.shape[1],
        # places that are left out are covered by those that are kept
        "extent_px": map_extent(row_px, col_px, every * result.summary["stride_px"]),
        "row_px": row_px.tolist(),
        "col_px": col_px.tolist(),
        "rate_axis_bpm": result.rate_axis_bpm.tolist(),
        "windows": windows.tolist(),
        "start_window": start,
        "start_place": int(result.confidence[windows][:, ::every, ::every].mean(0).argmax()),
        "rate": {
            "time_s": _list(result.time_s, 3),
            "rate_bpm": _list(result.pulse_rate_bpm, 1),
            "low_bpm": _list(result.low_bpm, 1),
            "high_bpm": _list(result.high_bpm, 1),
            "confidence": _list(result.pulse_confidence, 3),
        },
        "wave_places": {"places": waves.places, "largest_percent": waves.largest_percent},
        "scales": layers,
        "colours": {of["colours"]: scales.colour_table(of["colours"]).tolist() for of in layers.values()},
    }
    text = json.dumps(header, allow_nan=False).encode()
    return b"".join([len(text).to_bytes(4, "little"), text, *(array.tobytes() for array in arrays.values())])


def _regions(result: Result) -> dict[str, Any]:
    """The rows of regions.csv, and the rates of the largest regions over time."""
    parts = result.regions
    rows = regions.table(parts, result.row_px, result.col_px, stride_px=result.summary["stride_px"])
    rates = [np.array([one.rate_bpm for one in part.readings]) for part in parts[: figures.MOST_PARTS]]
    table = [dict(zip(regions.HEADER.split(","), row, strict=True)) for row in rows]
    return {"table": table, "rates_bpm": [_list(line, 1) for line in rates] if len(parts) > 1 else []}


def _scales(limits_bpm: tuple[float, float], most_percent: float) -> dict[str, dict[str, Any]]:
    """The limits and the colours of every layer of the page."""
    limits = {
        "rate": (*limits_bpm, scales.RATE_COLOURS),
        "confidence": (0.0, 1.0, scales.CONFIDENCE_COLOURS),
        "deviation": (-DEVIATION_BPM, DEVIATION_BPM, scales.DEVIATION_COLOURS),
        "amplitude": (0.0, most_percent, scales.AMPLITUDE_COLOURS),
        "snr": (*scales.SNR_DB, scales.CONFIDENCE_COLOURS),
        "phase": (-180.0, 180.0, scales.PHASE_COLOURS),
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
