from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pulse3d.errors import InputError
from pulse3d.evaluation import map_truth

nan = np.nan
S, B, X = map_truth.SKIN, map_truth.BACKGROUND, map_truth.LEFT_OUT
RNG = np.random.default_rng(0)


def make_places(rate_bpm, *, likeliest_bpm=None, pulse=None, confidence=None):
    """A map of (window, row, col) rates whose places are 10 px apart on a frame that they fill."""
    rate_bpm = np.array(rate_bpm, float)
    shown = np.isfinite(rate_bpm)
    rows, cols = rate_bpm.shape[1:]
    return map_truth.Places(
        np.array([10.0 * rows, 10.0 * cols]),
        4.5 + 10.0 * np.arange(rows),
        4.5 + 10.0 * np.arange(cols),
        rate_bpm,
        np.where(shown, rate_bpm, 60.0) if likeliest_bpm is None else np.array(likeliest_bpm, float),
        shown.astype(float) if pulse is None else np.array(pulse, float),
        shown.astype(float) if confidence is None else np.array(confidence, float),
    )


def test_painted_and_found_by_hand():
    # two windows of one row: three places of skin, two of the background, one left out
    mask = np.array([[S, S, S, B, B, X]], np.uint8)
    rate = [[[70, 75, nan, nan, 90, 70]], [[66, 64, 60, nan, nan, 70]]]
    truth = np.array([70.5, 65.0])[:, None, None]
    scores = map_truth.score_map(make_places(rate), truth, mask)
    assert scores.painted == pytest.approx(1 / 4)
    # first window 70 and 75, second 66 and 64; 60 is 5 bpm from 65, which is not less
    assert scores.found == pytest.approx(4 / 6)
    unknown = map_truth.score_map(make_places(rate), np.array([70.5, nan])[:, None, None], mask)
    assert unknown.found == pytest.approx(2 / 3), "a window without a truth does not count"
    assert unknown.painted == scores.painted


def test_truth_may_differ_between_places():
    mask, rate = np.array([[S, S, B]], np.uint8), [[[66, 141, nan]]]
    one, own = np.array([[[66.0]]]), np.array([[[66.0, 141.0, nan]]])
    assert map_truth.score_map(make_places(rate), one, mask).found == 0.5
    assert map_truth.score_map(make_places(rate), own, mask).found == 1


def test_found_at_3_percent_moves_the_threshold_and_takes_the_likeliest_rate():
    # 100 places of the background of scores 0.00 ... 0.99: three exceed 0.96
    mask = np.array([[B] * 100 + [S] * 4], np.uint8)
    pulse = [[[*(np.arange(100) / 100), 0.965, 0.96, 0.5, 1.0]]]
    likeliest = [[[60.0] * 100 + [70, 70, 70, 90]]]
    places = make_places(np.full((1, 1, 104), nan), likeliest_bpm=likeliest, pulse=pulse)
    scores = map_truth.score_map(places, np.array([[[71.0]]]), mask)
    assert (scores.painted, scores.found) == (0, 0), "nothing is shown as it is"
    assert scores.found_at_3_percent == pytest.approx(1 / 4), "0.965 alone; 1.0 has a wrong rate"


def test_roc_area_of_the_clip_is_of_the_mean_over_windows():
    mask = np.array([[S, B]], np.uint8)
    # in single windows one of four pairs is wrong and one a tie; on average skin scores more
    pulse = [[[0.4, 0.4]], [[0.9, 0.2]]]
    scores = map_truth.score_map(make_places(np.zeros((2, 1, 2)), pulse=pulse), np.zeros((2, 1, 1)), mask)
    assert scores.roc_area == pytest.approx(3.5 / 4)
    assert scores.roc_area_clip == 1


def test_best_iou_by_hand():
    skin, background = np.array([0.9, 0.8, 0.3]), np.array([0.85, 0.1])
    # t = 0.3: 3 of 3 + 1; t = 0.8: 2 of 3 + 1; t = 0.9: 1 of 3
    assert map_truth.best_iou(skin, background) == pytest.approx(3 / 4)
    assert map_truth.best_iou(skin[:2], np.zeros(5)) == 1
    assert map_truth.best_iou(np.zeros(3), background) == 0, "nothing is above 0.02"
    assert np.isnan(map_truth.best_iou(skin, np.array([])))


def test_the_score_that_ranks_places_is_chosen():
    mask = np.array([[S, B]], np.uint8)
    places = make_places([[[70, nan]]], pulse=[[[0.2, 0.6]]], confidence=[[[0.5, 0.0]]])
    by_pulse, by_confidence = (
        map_truth.score_map(places, np.array([[[70.0]]]), mask, by=by) for by in map_truth.SCORES
    )
    assert (by_pulse.roc_area, by_confidence.roc_area) == (0, 1)
    assert (by_pulse.found_at_3_percent, by_confidence.found_at_3_percent) == (0, 1)
    assert (by_pulse.painted, by_pulse.found) == (by_confidence.painted, by_confidence.found)


def test_outcomes_are_the_most_frequent():
    mask = np.array([[S, S, S, B, B, X]], np.uint8)
    rate = [
        [[70, 90, nan, nan, 80, 70]],
        [[71, 91, nan, nan, nan, 70]],
        [[nan, 70, 70, 80, 60, 70]],
    ]
    found = map_truth.outcomes(make_places(rate), np.full((3, 1, 1), 70.0), mask)
    named = [map_truth.OUTCOMES[index] for index in found[0, :5]]
    assert named == ["right", "wrong", "missed", "nothing", "wrong"]
    assert found[0, 5] == -1


def test_a_mask_is_read_at_the_nearest_pixels():
    mask = np.zeros((20, 30), np.uint8)
    mask[4, 14] = 255
    found = map_truth.at_places(mask, np.array([4.4, 90.0]), np.array([13.6, 24.5]))
    np.testing.assert_array_equal(found, [[255, 0], [0, 0]])


def test_a_map_against_a_mask_of_pixels():
    skin = np.zeros((10, 20), np.uint8)
    skin[:, :10] = 255
    places = make_places([[[70, nan]]])
    one = map_truth.against(places, np.array([71.0]), map_truth.Mask(skin), by="pulse")
    assert one.scores == (0, 1, 1, 1, 1, 1)
    rates = np.where(skin > 0, 90.0, nan)
    assert (
        map_truth.against(places, np.array([71.0]), map_truth.Mask(skin, rates), by="pulse").scores.found == 0
    )
    with pytest.raises(InputError, match="skin mask of 20x9 px for frames of 20x10 px"):
        map_truth.against(places, np.array([71.0]), map_truth.Mask(skin[1:]), by="pulse")


def test_agrees_with_the_independent_scorer(shared, tmp_path):
    """To three decimals, with noisy maps over the masks and truths of three real clips."""
    names, clips = ("ubfc2_s03", "ubfc2_s12", "cohface_1_0"), shared / "clips"
    program = (shared / "score" / "map_truth.py").read_text()
    # its numbers in full, where it prints two decimals
    exact = re.sub(r'print\(f"\{n:14s\}.*', "print(json.dumps([n, *map(float, rows[-1])]))", program)
    (tmp_path / "scorer.py").write_text("import json\n" + exact)
    ours = {}
    for name in names:
        time_s, truth = np.loadtxt(clips / f"{name}_hr10s.csv", delimiter=",", skiprows=1).T
        with Image.open(clips / f"{name}_skin.png") as image:
            skin = np.array(image)
        row_px, col_px = 9.5 + 16 * np.arange(29), 9.5 + 16 * np.arange(39)
        at = map_truth.at_places(skin, row_px, col_px) / 255
        shape = (len(time_s), *at.shape)
        confidence = np.clip(0.5 * at + RNG.normal(0.2, 0.25, shape), 0, 1).astype(np.float32)
        rate = truth[:, None, None] + RNG.normal(0, 5, shape)
        rate = np.where(confidence > 0.3, rate, nan).astype(np.float32)
        confidence[np.isnan(rate)] = 0
        (tmp_path / "maps" / name).mkdir(parents=True)
        np.savez(
            tmp_path / "maps" / name / "map.npz",
            row_px=row_px, col_px=col_px, time_s=time_s + 0.013, rate_bpm=rate, confidence=confidence,
        )  # fmt: skip
        places = map_truth.Places(
            np.array(skin.shape, float), row_px, col_px, rate, np.nan_to_num(rate), confidence, confidence
        )
        there = np.interp(time_s + 0.013, time_s, truth)
        ours[name] = map_truth.against(places, there, map_truth.Mask(skin), by="confidence").scores
    command = [sys.executable, tmp_path / "scorer.py", tmp_path / "maps", clips, clips]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    theirs = [json.loads(line) for line in printed.splitlines() if line.startswith("[")]
    assert {name for name, *_ in theirs} == set(names)
    for name, painted, _, found, area, area_clip, iou in theirs:
        s = ours[name]
        np.testing.assert_allclose(
            (s.painted, s.found, s.roc_area, s.roc_area_clip, s.iou),
            (painted, found, area, area_clip, iou),
            atol=5e-4,
            err_msg=name,
        )
        assert 0.01 < painted < 0.99
        assert 0.01 < found < 0.99
