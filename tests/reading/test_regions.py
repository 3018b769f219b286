from dataclasses import replace

import numpy as np
import pytest
from helpers.results import AXIS, make_result

from pulse3d import config
from pulse3d.reading import readout, regions, tracking

NONE = np.nan
READOUT = config.ReadoutConfig(method="tracked", region_places=2)


def test_touching_parts_of_different_rates_are_apart_and_distant_ones_of_the_same_rate_too():
    rates = np.array(
        [
            [70, 72, NONE, 70, 70],
            [71, 110, 110, NONE, 70],
            [NONE, 112, 112, NONE, NONE],
            [90, NONE, NONE, NONE, 50],
        ],
        float,
    )
    found = regions.label(rates, tolerance_bpm=6.0, least=2)
    assert [sorted(rates[part]) for part in found] == [[110, 110, 112, 112], [70, 71, 72], [70, 70, 70]]
    assert len(regions.label(rates, tolerance_bpm=6.0, least=1)) == 5
    assert len(regions.label(rates, tolerance_bpm=6.0, least=4)) == 1


def test_slow_changes_stay_together_and_a_hole_is_no_place():
    rates = np.tile(np.arange(60.0, 100.0, 5.0), (3, 1))
    rates[1, 3] = NONE
    (part,) = regions.label(rates, tolerance_bpm=5.0, least=1)
    np.testing.assert_array_equal(part, np.isfinite(rates))


@pytest.mark.parametrize("rates", [np.full((3, 4), NONE), np.full((1, 1), NONE)])
def test_nothing_has_no_regions(rates):
    assert regions.label(rates, tolerance_bpm=5.0, least=1) == []


def two_people(folder):
    found = make_result(folder, windows=12, rows=4, cols=8)
    rate = np.full((12, 4, 8), NONE)
    rate[:, :3, :3], rate[:, 1:, 5:] = 66.0, 112.0
    rate[3:5] = NONE  # for two windows nobody has a pulse
    known = np.isfinite(rate)
    near = np.exp(-0.5 * ((AXIS - np.where(known, rate, 0)[..., None]) / 3) ** 2)
    shares = 0.9 * near / np.maximum(near.sum(-1, keepdims=True), 1e-9) * known[..., None]
    object.__setattr__(found, "probabilities", lambda: iter(shares.astype(np.float16)))
    return replace_arrays(found, rate_bpm=rate, confidence=0.9 * known, network_no_pulse=1 - 0.9 * known)


def replace_arrays(found, **arrays):
    probabilities = found.probabilities
    changed = replace(found, **arrays)
    object.__setattr__(changed, "probabilities", probabilities)
    return changed


def find(found, settings):
    return regions.find_regions(
        found.maps(), found.rate_bpm, found.confidence, AXIS, settings, odds=20, step_s=1.0, window_s=10.0
    )


def table(found, parts):
    return regions.table(parts, found.row_px, found.col_px, stride_px=16)


def test_two_people_are_two_rows(tmp_path):
    found = two_people(tmp_path)
    parts = find(found, READOUT)
    rows = [dict(zip(regions.HEADER.split(","), row, strict=True)) for row in table(found, parts)]
    assert len(rows) == 2
    for row, rate, left in zip(rows, (66.0, 112.0), (40.0, 120.0), strict=True):
        assert float(row["pulse_rate_bpm"]) == pytest.approx(rate, abs=1)
        assert float(row["low_bpm"]) <= rate <= float(row["high_bpm"])
        assert float(row["left_px"]) == left
        assert float(row["right_px"]) - left == 48
        assert float(row["share_of_frame"]) == pytest.approx(9 / 32, abs=1e-4)
        assert row["region"] == str(1 + (rate == 112))
        assert (row["windows"], row["windows_with_pulse"]) == ("12", "10")
        assert 0 < float(row["confidence"]) <= 1


def test_a_region_is_read_from_its_own_places_alone(tmp_path):
    found = two_people(tmp_path)
    none = found.network_no_pulse * np.linspace(0.2, 1, 8)
    found = replace_arrays(found, network_no_pulse=none)
    for part in find(found, READOUT):
        evidence = [
            readout.evidence(m[part.places][None].astype(np.float32), READOUT, odds=20) for m in found.maps()
        ]
        expected = tracking.readings(np.stack(evidence), AXIS, READOUT, step_s=1.0, window_s=10.0)
        np.testing.assert_allclose(part.readings, expected, rtol=1e-5)


def test_places_that_are_not_sure_are_no_region(tmp_path):
    found = two_people(tmp_path)
    unsure = replace(READOUT, region_confidence=0.95)
    assert find(found, unsure) == []
    assert table(found, []) == []


def test_a_place_counts_where_most_windows_find_a_pulse(tmp_path):
    found = two_people(tmp_path)
    rate, confidence = found.rate_bpm.copy(), found.confidence.copy()
    rate[6:, :, :4] = np.nan  # the one on the left: in 4 of 12 windows
    confidence[6:, :, :4] = 0
    rarely = replace_arrays(found, rate_bpm=rate, confidence=confidence)
    easy = replace(READOUT, region_confidence=0.01)
    for result, people in ((found, 2), (rarely, 1)):
        parts = find(result, easy)
        assert len(parts) == people
    assert not parts[0].places[:, :4].any()


def test_the_bars_of_a_place_are_half_of_the_windows_and_the_least_confidence(tmp_path):
    """More than half of the windows; a confidence of the bar is enough."""
    found = two_people(tmp_path)
    rate = found.rate_bpm.copy()
    rate[7:, :, :4] = np.nan  # the one on the left: in 5 of 12 windows, then in 6, in 7
    sure = np.full_like(found.confidence, 0.5)
    people = []
    for windows in (5, 6, 7):
        rate[windows + 1, :, :4] = rate[0, :, :4]
        people.append(len(find(replace_arrays(found, rate_bpm=rate, confidence=sure), READOUT)))
    assert people == [1, 1, 2]
    for bar, regions_found in ((0.5, 2), (0.51, 0)):
        result = replace_arrays(found, confidence=sure)
        assert len(find(result, replace(READOUT, region_confidence=bar))) == regions_found


def test_a_region_without_a_reading_has_empty_rates(tmp_path):
    found = make_result(tmp_path, rows=4, cols=8)
    places = np.zeros((4, 8), bool)
    places[1, 2:4] = True
    reading = readout.Reading(80.0, 75.0, 86.0, 0.5)
    rows = table(
        found,
        [
            regions.Region(places, [readout.NO_PULSE] * 3),
            regions.Region(places, [readout.NO_PULSE, reading, readout.NO_PULSE]),
        ],
    )
    place = ["56.0", "88.0", "48.0", "64.0", "72.0", "104.0", "0.0625"]
    assert rows[0] == ["1", *place, "3", "0", "", "", "", ""]
    assert rows[1] == ["2", *place, "3", "1", "80.0", "75.0", "86.0", "0.500"]


def test_votes_count_near_the_rate_that_a_region_shows(tmp_path):
    """One place that is surer of another rate does not change it; without any near, there is no pulse."""
    found = two_people(tmp_path)
    maps = list(found.maps())
    for probability in maps[:-1]:
        probability[0, 0] = 0
        probability[0, 0, np.argmin(abs(AXIS - 150))] = 1
    maps[-1][:3, :3] = maps[0][1, 1] * 0
    maps[-1][:3, :3, np.argmin(abs(AXIS - 150))] = 1
    settings = replace(READOUT, method="tracked_votes", track_floor=1e-3)
    arrays = (found.rate_bpm, found.confidence, AXIS, settings)
    parts = regions.find_regions(maps, *arrays, odds=20.0, step_s=1.0, window_s=10.0)
    rates = np.array([[reading.rate_bpm for reading in part.readings] for part in parts])
    assert len(parts) == 2
    np.testing.assert_allclose(np.nanmedian(rates, axis=1), [66, 112], atol=1)
    assert np.isnan(rates[:, 3:5]).all()
    assert np.isnan(rates[0, -1])
