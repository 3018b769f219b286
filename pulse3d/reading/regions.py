"""Regions of a map that have a pulse of their own: two people in a frame are two regions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import sparse

from pulse3d import files
from pulse3d.config import ReadoutConfig
from pulse3d.mapping.tiles import Map
from pulse3d.reading import readout, tracking
from pulse3d.reading.readout import Axis

HEADER = (
    "region,row_px,col_px,top_px,bottom_px,left_px,right_px,share_of_frame,windows,windows_with_pulse,"
    "pulse_rate_bpm,low_bpm,high_bpm,confidence"
)


class Region(NamedTuple):
    """A connected part of a map: its places, and one reading for every window from only these."""

    places: Bool[np.ndarray, "row col"]
    readings: list[readout.Reading]

    def __repr__(self) -> str:
        """How many places it has, and their median rate."""
        known = [reading.rate_bpm for reading in self.readings if np.isfinite(reading.rate_bpm)]
        rate = f"{np.median(known):.1f} bpm" if known else "no rate"
        return f"Region({self.places.sum()} places, {rate} in {len(known)} of {len(self.readings)} windows)"


def label(
    rate_bpm: Float[np.ndarray, "row col"], *, tolerance_bpm: float, least: int
) -> list[Bool[np.ndarray, "row col"]]:
    """The connected parts of a map of rates (nan: none), largest first.

    Neighbours above, below, left and right belong together if their rates differ by at most
    `tolerance_bpm`. Parts of fewer than `least` places are left out.
    """
    number = np.arange(rate_bpm.size).reshape(rate_bpm.shape)
    edges = []
    for rates, numbers in ((rate_bpm, number), (rate_bpm.T, number.T)):
        alike = abs(rates[1:] - rates[:-1]) <= tolerance_bpm
        edges.append(np.stack([numbers[1:][alike], numbers[:-1][alike]]))
    first, second = np.concatenate(edges, axis=1)
    graph = sparse.coo_array((np.ones(len(first)), (first, second)), shape=(rate_bpm.size,) * 2)
    _, part = sparse.csgraph.connected_components(graph, directed=False)
    part = np.where(np.isfinite(rate_bpm), part.reshape(rate_bpm.shape), -1)
    names, sizes = np.unique(part[part >= 0], return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    return [part == names[i] for i in order if sizes[i] >= least]


def find_regions(
    maps: Iterable[Map],
    rate_bpm: Float[np.ndarray, "window row col"],
    confidence: Float[np.ndarray, "window row col"],
    rate_axis_bpm: Axis,
    config: ReadoutConfig,
    *,
    odds: int | float,
    step_s: float,
    window_s: float,
) -> list[Region]:
    """Finds the regions of a video and reads each separately, in one pass over the maps of its windows.

    A place counts if most windows show a rate there (rate_bpm, nan for none), with a mean confidence of at
    least `region_confidence`; its rate is the median over time. A region's votes count near the rate that it
    shows, since those of single places may be for anything. odds: as in `readout.evidence`.
    """
    sure = confidence.mean(0) >= config.region_confidence
    median = np.where(sure, readout.median_map(rate_bpm), np.nan)
    parts = label(median, tolerance_bpm=config.region_tolerance_bpm, least=config.region_places)
    evidence: list[list[np.ndarray]] = [[] for _ in parts]
    for probability, shown in zip(maps, rate_bpm, strict=True):
        whole = probability.astype(np.float32)
        for part, collected in zip(parts, evidence, strict=True):
            found = readout.evidence(whole[part][None], config, odds=odds)
            if config.method == "tracked_votes":
                near = abs(rate_axis_bpm - shown[part][:, None]) <= config.region_tolerance_bpm
                found = found * near.any(0)
            collected.append(found)
    timing = {"step_s": step_s, "window_s": window_s}
    return [
        Region(part, tracking.readings(np.stack(found), rate_axis_bpm, config, **timing))
        for part, found in zip(parts, evidence, strict=True)
    ]


def as_arrays(regions: list[Region], shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """The regions of maps of `shape` (window, row, col) as arrays, for a file; see `from_arrays`."""
    windows, rows, cols = shape
    return {
        "region_places": np.array([r.places for r in regions], np.uint8).reshape(-1, rows, cols),
        "region_readings": np.array([r.readings for r in regions], float).reshape(-1, windows, 4),
    }


def from_arrays(
    region_places: Shaped[np.ndarray, "region row col"],
    region_readings: Shaped[np.ndarray, "region window 4"],
) -> list[Region]:
    """The regions of `as_arrays`; both arrays hold numbers."""
    return [
        Region(places > 0, [readout.Reading(*one) for one in readings.astype(float).tolist()])
        for places, readings in zip(region_places, region_readings, strict=True)
    ]


def table(
    regions: list[Region],
    row_px: Float[np.ndarray, "row"],
    col_px: Float[np.ndarray, "col"],
    *,
    stride_px: int,
) -> list[list[str]]:
    """The rows of regions.csv, for `HEADER`: edges and centre of mass in px, medians over windows.

    row_px, col_px: positions of the places on the frame, stride_px apart.
    """
    half = stride_px / 2

    def edges(centres_px: np.ndarray, used: Int[np.ndarray, "place"]) -> tuple[float, float, float]:
        chosen = centres_px[used]
        return chosen.mean(), chosen.min() - half, chosen.max() + half

    rows = []
    for index, region in enumerate(regions):
        row, col = np.nonzero(region.places)
        (middle, top, bottom), (centre, left, right) = edges(row_px, row), edges(col_px, col)
        known = np.array([r for r in region.readings if np.isfinite(r.rate_bpm)]).reshape(-1, 4)
        medians = np.median(known, axis=0) if len(known) else [np.nan] * 4
        rows.append(
            [
                str(index + 1),
                *(f"{v:.1f}" for v in (middle, centre, top, bottom, left, right)),
                f"{region.places.mean():.4f}",
                str(len(region.readings)),
                str(len(known)),
                *(files.number(v, 1) for v in medians[:3]),
                files.number(medians[3], 3),
            ]
        )
    return rows
