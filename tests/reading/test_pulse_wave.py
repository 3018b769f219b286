from __future__ import annotations

import numpy as np
import pytest
from helpers.launching import read_csv
from helpers.results import make_result

from pulse3d import pipeline, video
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import weights_file
from pulse3d.reading import pulse_wave
from pulse3d.reading.readout import Reading
from pulse3d.reading.regions import Region
from pulse3d.result import WHITE, Result
from pulse3d.showing import outputs

FPS, WINDOW_S = 15.0, 10.0


def trace_of(*waves, seconds=30):
    """Green of 0.5 that falls by so many percent, as a sine of so many bpm, when the blood comes."""
    time_s = np.arange(round(seconds * FPS)) / FPS
    volume = sum(percent * np.sin(2 * np.pi * bpm / 60 * time_s) for percent, bpm in waves)
    return time_s, 0.5 * (1 - volume / 100), volume


def read(time_s, trace, rate_bpm, centre_s):
    return pulse_wave.in_band(trace, time_s, rate_bpm, centre_s, window_s=WINDOW_S, fps=FPS)


def test_a_wave_and_its_harmonic_come_back_with_sign_and_size():
    time_s, trace, volume = trace_of((0.4, 72), (0.1, 144))
    centres = np.arange(5.0, 26.0)
    found = read(time_s, trace, np.full(len(centres), 72.0), centres)
    inside = slice(60, -60)
    np.testing.assert_allclose(found[inside], volume[inside], atol=0.02)


@pytest.mark.parametrize("bpm", [40, 100, 190])
def test_what_is_away_from_the_rate_is_left_out(bpm):
    time_s, trace, volume = trace_of((0.4, 72), (2.0, bpm))
    alone = trace_of((0.4, 72))[2]
    centres = np.arange(5.0, 26.0)
    found = read(time_s, trace, np.full(len(centres), 72.0), centres)[60:-60]
    assert np.std(found - alone[60:-60]) < 0.1 * np.std((volume - alone)[60:-60])


def test_there_is_no_wave_where_there_is_no_rate():
    time_s, trace, _ = trace_of((0.4, 72))
    centres = np.arange(5.0, 26.0)
    rates = np.where(centres < 15, 72.0, np.nan)
    found = read(time_s, trace, rates, centres)
    np.testing.assert_array_equal(np.isfinite(found), time_s < 14 + WINDOW_S / 2)
    assert np.isnan(read(time_s, trace, rates * np.nan, centres)).all()
    assert np.isnan(read(time_s, 0 * trace, rates, centres)).all()  # black


def test_a_rate_that_changes_is_followed():
    time_s = np.arange(450) / FPS
    beats = np.cumsum(np.where(time_s < 15, 60.0, 100.0)) / 60 / FPS
    volume = 0.5 * np.sin(2 * np.pi * beats)
    centres = np.arange(5.0, 26.0)
    found = read(time_s, 1 - volume / 100, np.where(centres < 15, 60.0, 100.0), centres)
    for part in (slice(45, 120), slice(330, 400)):  # away from the change, which no window sees whole
        assert np.corrcoef(found[part], volume[part])[0, 1] > 0.99


def test_places_count_by_their_confidence_in_the_pulse():
    rate = np.full((4, 1, 5), 70.0)
    rate[:, 0, 1] = 90  # another person
    rate[:, 0, 2] = np.nan
    confidence = np.broadcast_to([0.9, 1.0, 1.0, 0.4, 0.6], (4, 1, 5))
    readings = np.array([70.0, 71.0, np.nan, 69.0])
    found = pulse_wave.weigh_places(rate, confidence, readings)
    np.testing.assert_allclose(found, [[0.6, 0, 0, 0, 0.4]])
    assert not pulse_wave.weigh_places(rate, confidence, readings * np.nan).any()


def test_traces_are_weighted_means():
    rng = np.random.default_rng(0)
    green, places = rng.uniform(size=(7, 3, 4)), rng.uniform(size=(2, 3, 4))
    found = pulse_wave.weighted_means(iter(green), places)
    np.testing.assert_allclose(found, np.einsum("prc,trc->pt", places, green))


def test_a_result_has_the_wave_of_the_frame_and_of_its_regions(tmp_path):
    places = np.ones((4, 5), bool)
    places[1, 2] = False
    parts = [Region(places, [Reading(70.0, 68.0, 72.0, 0.9)] * 12)]
    result = make_result(tmp_path, windows=12, parts=parts)
    time_s, percent = result.bvp
    at = 2 * np.pi * 70 / 60 * time_s
    np.testing.assert_allclose(percent[45:-45], 0.5 * np.sin(at[45:-45]), atol=0.03)
    outputs.write_waves(result)
    rows = read_csv(tmp_path / "bvp.csv")
    assert list(rows[0]) == ["time_s", "frame_percent", "region_1_percent"]
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], time_s, atol=1e-4)
    np.testing.assert_allclose([float(row["frame_percent"]) for row in rows], percent, atol=1e-5)
    weights = places * result.confidence.mean(0)
    [wave] = result.pulse_waves(weights[None] / weights.sum(), np.full((1, 12), 70.0))
    np.testing.assert_allclose(
        [float(row["region_1_percent"] or "nan") for row in rows], wave.percent, atol=1e-5
    )


@pytest.mark.parametrize(("step_s", "seconds"), [(0.5, 6.0), (3.0, 4.0)])
def test_green_of_every_frame_is_stored_once(tmp_path, step_s, seconds):
    """Of windows that overlap, and of windows that leave gaps (2 s every 3 s)."""
    weights = weights_file.load_weights("paper")
    rng = np.random.default_rng(0)
    frames = rng.integers(50, 200, (round(30 * seconds), 33, 41, 3)).astype(np.uint8)
    source = video.from_array(frames, fps=30.0)
    mapper = make_mapper(weights.params, weights.config, (33, 41), stride_px=8)
    pipeline.write_map(tmp_path, source, mapper, weights="paper", step_s=step_s)
    found = Result.load(tmp_path)
    with np.load(tmp_path / "map.npz") as arrays:
        green = arrays["green"] / WHITE
    index = np.round(30 * found.frame_s).astype(int)
    start = np.arange(0, len(frames) - 59, round(30 * step_s))
    expected = sorted({int(first + i) for first in start for i in range(60)})
    np.testing.assert_array_equal(index, expected)
    grey = np.stack([mapper.read(frames[i])[..., 0] for i in expected])
    patches = np.array(
        [[grey[:, y : y + 25, x : x + 25].mean((1, 2)) for x in (0, 8, 16)] for y in (0, 8)]
    ).transpose(2, 0, 1)
    np.testing.assert_allclose(green, patches, atol=1.0 / WHITE)


def test_a_straight_drift_is_no_wave():
    time_s = np.arange(300) / FPS
    found = read(time_s, 0.5 + 0.01 * time_s, np.full(11, 72.0), np.arange(5.0, 16.0))
    np.testing.assert_allclose(found, 0, atol=1e-9)
