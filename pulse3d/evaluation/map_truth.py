"""Scores how well a map shows whether and where there is a pulse, against a mask of living skin.

A place is one point of the map. In every window it shows a rate or none, and has a score that grows
with the certainty of a pulse. The mask has SKIN, BACKGROUND or LEFT_OUT for every place. Shares and
areas are 0...1; nan where there is nothing to measure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pulse3d.errors import InputError
from pulse3d.evaluation import metrics
from pulse3d.mapping.layout import Layout

SKIN, BACKGROUND, LEFT_OUT = 255, 0, 128  # the values of a mask
THRESHOLDS = np.linspace(0.02, 0.98, 49)  # of `best_iou`
PAINTED = 0.03  # share of the background that may show a rate in `found_at_3_percent`
OUTCOMES = ("nothing", "right", "wrong", "missed")  # of a place in a window, as `outcomes` numbers them

PlaceWindows = Float[np.ndarray, "window row col"]
PlaceMask = UInt8[np.ndarray, "row col"]


class Mask(NamedTuple):
    """Where living skin is: SKIN, BACKGROUND, or LEFT_OUT where unsure, for every pixel of the video.

    rate_bpm: the true rate of every pixel, in a scene of several rates.
    """

    skin: UInt8[np.ndarray, "height width"]
    rate_bpm: Float[np.ndarray, "height width"] | None = None


class Places(NamedTuple):
    """The values of a map at every place in every window.

    frame_px: height and width of the frame. row_px, col_px: where the places are on it. rate_bpm: the rate
    shown, nan for none. likeliest_bpm: the likeliest of the rates, shown or not. pulse: the probability of
    a pulse. confidence: how sure the shown rate is, 0 where none is shown.
    """

    frame_px: Float[np.ndarray, "2"]
    row_px: Float[np.ndarray, "row"]
    col_px: Float[np.ndarray, "col"]
    rate_bpm: PlaceWindows
    likeliest_bpm: PlaceWindows
    pulse: PlaceWindows
    confidence: PlaceWindows


SCORES = ("pulse", "confidence")  # what places can be ranked by


class MapScores(NamedTuple):
    """The measures of `score_map`, in the order of the columns of results.csv."""

    painted: float
    found: float
    found_at_3_percent: float
    roc_area: float
    roc_area_clip: float
    iou: float


class ScoredMap(NamedTuple):
    """A map and its scores against a mask.

    outcome: the most frequent outcome of every place (`outcomes`). skin: the mask, in pixels.
    """

    scores: MapScores
    places: Places
    outcome: Int[np.ndarray, "row col"]
    skin: UInt8[np.ndarray, "height width"]


def check_size(mask: Mask, frame_px: tuple[int, int]) -> None:
    """Raises InputError if the mask's size is not that of the frames, (height, width)."""
    if mask.skin.shape != frame_px:
        (height, width), (rows, cols) = mask.skin.shape, frame_px
        raise InputError(f"skin mask of {width}x{height} px for frames of {cols}x{rows} px; scale it")


def against(places: Places, rate_bpm: Float[np.ndarray, "window"], mask: Mask, *, by: str) -> ScoredMap:
    """Scores a map against a mask, by `score_map`.

    rate_bpm: the truth of every window of the map, unless the mask has its own. Raises InputError if mask
    and frames differ in size.
    """
    height, width = places.frame_px.astype(int).tolist()
    check_size(mask, (height, width))
    skin, truth = at_places(mask.skin, places.row_px, places.col_px), rate_bpm[:, None, None]
    if mask.rate_bpm is not None:
        own = at_places(mask.rate_bpm, places.row_px, places.col_px)
        truth = np.broadcast_to(own, places.rate_bpm.shape)
    return ScoredMap(score_map(places, truth, skin, by=by), places, outcomes(places, truth, skin), mask.skin)


def at_places(
    pixels: np.ndarray, row_px: Float[np.ndarray, "row"], col_px: Float[np.ndarray, "col"]
) -> np.ndarray:
    """The values of an image (height, width) at the pixels nearest to the places, (row, col)."""
    rows, cols = (
        np.clip(np.round(at).astype(int), 0, size - 1)
        for at, size in zip((row_px, col_px), pixels.shape, strict=True)
    )
    return pixels[np.ix_(rows, cols)]


def score_map(
    places: Places, truth_bpm: Float[np.ndarray, "window #row #col"], mask: PlaceMask, *, by: str = "pulse"
) -> MapScores:
    """Scores a map against the truth of every window and the mask at its places.

        painted             share of the background, over places and windows, that shows a rate
        found               share of the skin that shows a rate less than 5 bpm from the truth
        found_at_3_percent  share of the skin whose score is above the threshold that at most 3 % of the
                            background exceed, and whose likeliest rate is less than 5 bpm from the truth
        roc_area            `metrics.roc_area` of the score, skin against background, over places and windows
        roc_area_clip       the same of the mean score of every place over all windows
        iou                 `best_iou` of these means

    truth_bpm: may differ between places, as in a scene of several rates; windows where it is nan do not
    count for the two measures of rates. by: the score, a field of `Places`: pulse or confidence.
    """
    skin, background = mask == SKIN, mask == BACKGROUND
    score = getattr(places, by)
    mean = score.mean(0)
    truth = np.broadcast_to(truth_bpm, score.shape)[:, skin]
    known = np.isfinite(truth)
    near, likely_near = (
        (abs(rate[:, skin] - truth) < metrics.TOLERANCE_BPM)[known]
        for rate in (places.rate_bpm, places.likeliest_bpm)
    )
    above = score[:, skin][known] > metrics.threshold(score[:, background].ravel(), PAINTED)
    return MapScores(
        painted=metrics.mean_finite(np.isfinite(places.rate_bpm[:, background])),
        found=metrics.mean_finite(near),
        found_at_3_percent=metrics.mean_finite(above & likely_near),
        roc_area=metrics.roc_area(score[:, skin].ravel(), score[:, background].ravel()),
        roc_area_clip=metrics.roc_area(mean[skin], mean[background]),
        iou=best_iou(mean[skin], mean[background]),
    )


def best_iou(skin: Float[np.ndarray, "skin"], background: Float[np.ndarray, "background"]) -> float:
    """The best intersection over union, over thresholds t of 0.02, 0.04 ... 0.98, of {score >= t} with skin.

    max over t of  #(skin >= t) / (#skin + #(background >= t))
    """
    if not len(skin) or not len(background):
        return np.nan
    hit, painted = ((scores[:, None] >= THRESHOLDS).sum(0) for scores in (skin, background))
    return float((hit / (len(skin) + painted)).max())


def outcomes(
    places: Places, truth_bpm: Float[np.ndarray, "window #row #col"], mask: PlaceMask
) -> Int[np.ndarray, "row col"]:
    """The most frequent outcome of every place, as an index into OUTCOMES; -1 where it is left out.

    right: skin that shows a rate less than 5 bpm from the truth. wrong: skin that shows another rate, or
    background that shows any. missed: skin that shows none. nothing: background that shows none. Of
    equally frequent outcomes, the first in OUTCOMES counts. If the truth is nan, any rate on skin is right.
    """
    shown = np.isfinite(places.rate_bpm)
    truth = np.broadcast_to(truth_bpm, shown.shape)
    right = shown & ~(abs(places.rate_bpm - truth) >= metrics.TOLERANCE_BPM)
    skin: Bool[np.ndarray, "row col"] = mask == SKIN
    each = [~shown & ~skin, right & skin, shown & ~(right & skin), ~shown & skin]
    most = np.stack([outcome.sum(0) for outcome in each]).argmax(0)
    return np.where((mask == SKIN) | (mask == BACKGROUND), most, -1)


def patch_regions(masks: Bool[np.ndarray, "region height width"], layout: Layout) -> np.ndarray:
    """The region that every patch lies in, (row, col): its index, -1 outside all, -2 across an edge."""
    size, (rows, cols) = layout.patch_px, (n * layout.cell_px for n in layout.grid)
    inner = masks[:, layout.top : layout.top + rows, layout.left : layout.left + cols]
    views = np.lib.stride_tricks.sliding_window_view(inner, (size, size), axis=(1, 2))
    views = views[:, :: layout.stride_px, :: layout.stride_px]
    inside, touching = views.all((-2, -1)), views.any((-2, -1))
    return np.where(touching.any(0), np.where(inside.any(0), inside.argmax(0), -2), -1)
