from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from pulse3d.errors import InputError
from pulse3d.evaluation import contact, metrics

nan = np.nan
RNG = np.random.default_rng(0)
TRUTH = 70 + 20 * RNG.random(40)
ANSWER = TRUTH + RNG.normal(1, 6, 40)


def sine(rate_bpm, *, seconds=10.0, fps=30.0):
    return np.sin(2 * np.pi * rate_bpm / 60 * np.arange(round(seconds * fps)) / fps + 0.3)


def test_errors_by_hand():
    truth, answer = np.array([60.0, 80.0, 100.0]), np.array([63.0, 76.0, 100.0])
    assert metrics.mae_over_recordings(truth, answer, np.zeros(3)) == pytest.approx(7 / 3)
    assert metrics.rmse(truth, answer) == pytest.approx(5 / np.sqrt(3))
    assert metrics.within(truth, answer, tolerance_bpm=3.0) == pytest.approx(2 / 3)


def test_pearson_equals_scipy():
    assert metrics.pearson(TRUTH, ANSWER) == pytest.approx(scipy.stats.pearsonr(TRUTH, ANSWER).statistic)
    assert np.isnan(metrics.pearson(TRUTH, np.full(40, 70.0)))


def test_no_answer_is_a_miss_but_no_error():
    truth, answer = np.array([60.0, 80.0, nan, 90.0]), np.array([61.0, nan, 70.0, 110.0])
    assert metrics.within(truth, answer) == pytest.approx(1 / 3)
    assert metrics.mae_over_recordings(truth, answer, np.zeros(4)) == pytest.approx(21 / 2)
    assert metrics.mae_over_recordings(truth, np.append(answer[:3], nan), np.zeros(4)) == pytest.approx(1)


@pytest.mark.parametrize("measure", [metrics.rmse, metrics.pearson, metrics.within])
def test_a_measure_of_nothing_is_nan(measure):
    assert np.isnan(measure(np.array([nan]), np.array([70.0])))
    assert np.isnan(measure(np.array([]), np.array([])))


def test_coverage_counts_answered_windows_and_their_bounds():
    truth = np.array([60.0, 60.0, 60.0, nan, 60.0])
    low = np.array([60.0, 61.0, 50.0, 50.0, nan])
    high = np.array([65.0, 70.0, 60.0, 70.0, nan])
    assert metrics.coverage(truth, low, high) == pytest.approx(2 / 3)


def test_recordings_weigh_the_same_whatever_their_length():
    recording = np.array(["a", "a", "a", "b", "b", "c"])
    truth = np.array([60.0, 60.0, 60.0, 80.0, nan, 70.0])
    answer = np.array([61.0, 63.0, 59.0, 90.0, 80.0, nan])
    assert metrics.mae_over_recordings(truth, answer, recording) == pytest.approx((5 / 3 + 10) / 2)
    assert metrics.rmse_over_recordings(truth, answer, recording) == pytest.approx(np.sqrt((1 + 100) / 2))
    assert np.isnan(metrics.mae_over_recordings(truth, np.full(6, nan), recording))
    assert np.isnan(metrics.rmse_over_recordings(truth, np.full(6, nan), recording))


def test_bootstrap_draws_recordings_not_windows():
    lengths = [10, 50, 90, 25, 25]
    recording = np.repeat(["a", "b", "c", "d", "e"], lengths)
    truth = np.full(200, 70.0)
    answer = truth + np.repeat([0.0, 2.0, 4.0, 6.0, 8.0], lengths)
    low, high = metrics.mae_interval(truth, answer, recording)
    assert (low, high) == metrics.mae_interval(truth, answer, recording)
    # all 5^5 draws of five recordings, which weigh the same
    means = np.array(np.meshgrid(*[[0, 2, 4, 6, 8]] * 5)).reshape(5, -1).mean(0)
    np.testing.assert_allclose((low, high), np.percentile(means, [2.5, 97.5]), atol=0.25)
    as_windows = metrics.mae_interval(truth, answer, np.arange(200))
    assert as_windows[1] - as_windows[0] < (high - low) / 4


def test_fewer_than_five_answered_recordings_have_no_interval():
    truth, answer, recording = np.full(5, 70.0), np.array([71.0, 72, 73, 74, 75]), np.arange(5)
    assert np.isfinite(metrics.mae_interval(truth, answer, recording)).all()
    assert np.isnan(metrics.mae_interval(truth, np.append(answer[:4], nan), recording)).all()


def test_bootstrap_interval_is_that_of_the_normal_law_for_many_recordings():
    errors = RNG.normal(8, 2, 100)
    low, high = metrics.mae_interval(np.full(100, 70.0), 70 + errors, np.arange(100), draws=20_000)
    half = 1.96 * errors.std() / 10
    np.testing.assert_allclose([low, high], errors.mean() + np.array([-half, half]), atol=0.03 * half)


def test_bland_altman():
    points = metrics.bland_altman(np.append(TRUTH, 50.0), np.append(ANSWER, nan))
    spread = 1.96 * np.std(ANSWER - TRUTH, ddof=1)
    assert points.bias_bpm == pytest.approx(np.mean(ANSWER - TRUTH))
    assert points.high_bpm - points.bias_bpm == pytest.approx(spread)
    assert points.bias_bpm - points.low_bpm == pytest.approx(spread)
    np.testing.assert_allclose(points.mean_bpm, (TRUTH + ANSWER) / 2)


def test_reliability_by_hand():
    confidence = np.array([0.1, 0.3, 0.9, 1.0, nan])
    curve = metrics.reliability(confidence, np.array([False, True, True, False, True]), bins=2)
    np.testing.assert_allclose(curve.confidence, [0.2, 0.95])
    np.testing.assert_allclose(curve.accuracy, [0.5, 0.5])
    np.testing.assert_array_equal(curve.windows, [2, 2])
    assert curve.error == pytest.approx((0.3 + 0.45) / 2)


def test_reliability_of_calibrated_confidence_has_no_error():
    confidence = RNG.random(20_000)
    curve = metrics.reliability(confidence, RNG.random(20_000) < confidence)
    assert curve.error < 0.02
    empty = metrics.reliability(np.array([0.05]), np.array([True]))
    assert np.isnan(empty.accuracy[1:]).all()
    assert empty.error == pytest.approx(0.95)


def test_snr_is_the_ratio_of_two_powers():
    # equal amplitudes: the powers are equal; a tenth of the amplitude: a hundredth of the power
    assert contact.snr_db(sine(72, seconds=60) + sine(110, seconds=60), 30.0, 72.0) == pytest.approx(
        0, abs=0.1
    )
    pulse = sine(72, seconds=60) + 0.1 * sine(110, seconds=60)
    assert contact.snr_db(pulse, 30.0, 72.0) == pytest.approx(20, abs=0.1)
    assert contact.snr_db(pulse, 30.0, 110.0) == pytest.approx(-20, abs=0.1)


def test_snr_counts_the_harmonic_and_ignores_level_scale_and_what_is_out_of_band():
    pulse = sine(70, seconds=60) + 0.5 * sine(140, seconds=60) + 0.1 * sine(100, seconds=60)
    expected = 10 * np.log10(1.25 / 0.01)
    assert contact.snr_db(pulse, 30.0, 70.0) == pytest.approx(expected, abs=0.1)
    outside = 5 + 3 * pulse + 3 * sine(300, seconds=60)
    assert contact.snr_db(outside, 30.0, 70.0) == pytest.approx(expected, abs=0.1)
    assert np.isnan(contact.snr_db(pulse, 30.0, nan))


@pytest.mark.parametrize(("edge_bpm", "inwards"), [(36.0, 1), (198.0, -1)])
def test_snr_hears_noise_up_to_its_bounds(edge_bpm, inwards):
    pulse = sine(80, seconds=600)
    inside, outside = (sine(edge_bpm + away * inwards, seconds=600) for away in (0.4, -0.4))
    assert contact.snr_db(pulse + inside, 30.0, 80.0) == pytest.approx(0, abs=0.1)
    assert contact.snr_db(pulse + outside, 30.0, 80.0) > 30


@pytest.mark.parametrize("rate_bpm", [45.0, 61.7, 88.3, 150.0, 200.0])
def test_reference_rate_of_a_wave_with_harmonic_under_drift(rate_bpm):
    wave = sine(rate_bpm) + 0.4 * sine(2 * rate_bpm) + 5 * sine(6)
    assert contact.reference_rate(wave, 30.0) == pytest.approx(rate_bpm, abs=1.0)


def test_reference_rate_refuses_what_it_cannot_measure():
    assert np.isnan(contact.reference_rate(np.ones(300), 30.0))
    assert np.isnan(contact.reference_rate(np.full(300, 0.1), 30.0)), "whose mean is not exactly 0.1"
    assert np.isfinite(contact.reference_rate(sine(100, seconds=1), 30.0)), "a second is enough"
    with pytest.raises(InputError, match="too short"):
        contact.reference_rate(sine(60, seconds=0.5), 30.0)
    with pytest.raises(InputError, match="too slow"):
        contact.reference_rate(np.ones(300), 6.0)


def test_window_centres():
    np.testing.assert_allclose(contact.window_centres(0.0, 12.5, length_s=10.0, step_s=1.0), [5, 6, 7])
    np.testing.assert_allclose(contact.window_centres(3.0, 8.0, length_s=2.0, step_s=1.5), [4, 5.5, 7])
    assert len(contact.window_centres(0.0, 9.9, length_s=10.0, step_s=1.0)) == 0
    with pytest.raises(InputError, match="positive"):
        contact.window_centres(0.0, 9.0, length_s=10.0, step_s=0.0)


@pytest.mark.parametrize("fps", [60.0, 256.0])
def test_reference_rates_follow_the_pulses_own_uneven_clock(fps):
    # the rate climbs from 60 to 90 bpm over a minute; stamps jitter
    time = np.arange(0, 60, 1 / fps) + RNG.uniform(0, 0.5 / fps, round(60 * fps))
    pulse = np.sin(2 * np.pi * (time + time**2 / 240))
    centres = contact.window_centres(0.0, 60.0, length_s=10.0, step_s=5.0)
    rates = contact.window_rates(contact.reference_rate, pulse, time, centres, length_s=10.0)
    np.testing.assert_allclose(rates, 60 + centres / 2, atol=1.5)


def test_windows_outside_the_clock_or_with_a_hole_have_no_truth():
    time = np.arange(0, 40, 1 / 60)
    kept = (time < 12) | (time > 12.5)
    pulse, centres = np.sin(2 * np.pi * 1.2 * time[kept]), np.array([5.0, 10.0, 25.0, 38.0])
    rates = contact.window_rates(contact.reference_rate, pulse, time[kept], centres, length_s=10.0)
    np.testing.assert_allclose(rates, [72, nan, 72, nan], atol=0.5)


def test_device_rates_skip_what_is_masked():
    time = np.arange(0, 20.0)
    rate = np.where(time < 10, 60.0, 80.0)
    rate[[3, 4]] = nan
    rate[12:19] = nan
    np.testing.assert_allclose(
        contact.device_rates(rate, time, np.array([4.5, 15.0, 40.0]), length_s=9.0), [60, nan, nan]
    )
    # 9 and 10 s; 9, 10 and 11 s, both ends included; 17 to 19 s, of which one has a rate
    found = contact.device_rates(rate, time, np.array([9.5, 10.0, 18.0]), length_s=2.0)
    np.testing.assert_allclose(found, [70, 220 / 3, nan])
    assert contact.device_rates(rate, time, np.array([18.5]), length_s=1.0) == [80], "half will do"


def test_detrend_is_its_definition_and_removes_lines():
    signal = RNG.normal(size=50).cumsum()
    second = np.diff(np.eye(50), 2, axis=0)
    expected = signal - np.linalg.inv(np.eye(50) + 100**2 * second.T @ second) @ signal
    np.testing.assert_allclose(contact.detrend(signal, smoothness=100.0), expected, atol=1e-8)
    np.testing.assert_allclose(contact.detrend(3 + 2.0 * np.arange(50), smoothness=100.0), 0, atol=1e-7)


def test_toolbox_rate_is_the_nearest_bin_of_a_power_of_two():
    signal = sine(72, seconds=60) + 10 * sine(4, seconds=60) + np.linspace(0, 50, 1800)
    width = 60 * 30 / 2048
    assert contact.toolbox_rate(signal, 30.0) == pytest.approx(round(72 / width) * width)
    assert np.isnan(contact.toolbox_rate(np.ones(300), 30.0))
    with pytest.raises(InputError, match="too slow"):
        contact.toolbox_rate(signal, 6.0)


def test_reference_rates_of_the_real_clips(shared):
    files = sorted((shared / "clips").glob("*_ppg.csv"))
    assert files
    for file in files:
        time, pulse = np.loadtxt(file, delimiter=",", skiprows=1).T
        centres, expected = np.loadtxt(str(file).replace("_ppg", "_hr10s"), delimiter=",", skiprows=1).T
        np.testing.assert_allclose(
            contact.window_centres(0.0, time[-1], length_s=10.0, step_s=1.0), centres, err_msg=file.name
        )
        rates = contact.window_rates(contact.reference_rate, pulse, time, centres, length_s=10.0)
        np.testing.assert_allclose(rates, expected, atol=0.11, err_msg=file.name)


def test_roc_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 6, 30) / 5, rng.integers(0, 5, 40) / 5
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(positive, negative)]
    assert metrics.roc_area(positive, negative) == pytest.approx(np.mean(pairs))
    assert metrics.roc_area(negative, positive) == pytest.approx(1 - np.mean(pairs))
    assert metrics.roc_area(np.array([0.7]), np.array([0.3, 0.5])) == 1
    assert np.isnan(metrics.roc_area(np.array([]), positive))


def test_threshold_lets_a_share_exceed_it():
    assert metrics.threshold(np.arange(100) / 100, 0.03) == pytest.approx(0.96)
    assert metrics.threshold(np.arange(100) / 100, 0.0) == pytest.approx(0.99)
    assert metrics.threshold(np.full(50, 0.2), 0.5) == 0.2, "of equal scores none exceeds"
    assert np.isnan(metrics.threshold(np.array([]), 0.1))
