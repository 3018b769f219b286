import numpy as np
import pytest

from pulse3d.reading import amplitude

FPS = 15.0


def sine(rate_bpm, *, frames=150, relative=0.01):
    time_s = np.arange(frames) / FPS
    return 0.4 * (1 + relative * np.sin(2 * np.pi * rate_bpm / 60 * time_s + 0.3))


def test_traces_are_the_means_of_the_patches():
    window = np.random.default_rng(0).uniform(0, 1, (5, 14, 19, 3)).astype(np.float32)
    traces = amplitude.patch_traces(window, patch=4, stride=3)
    assert traces.shape == (5, 4, 6)
    for row in range(4):
        for col in range(6):
            patch = window[:, 3 * row : 3 * row + 4, 3 * col : 3 * col + 4, 1]
            np.testing.assert_allclose(traces[:, row, col], patch.mean((1, 2)), rtol=1e-5)
    grey = amplitude.patch_traces(window[..., 1:2], patch=4, stride=3)
    np.testing.assert_array_equal(grey, traces)


@pytest.mark.parametrize("rate_bpm", [50.0, 66.0, 143.0])
def test_amplitude_of_a_sine_is_its_own_in_percent(rate_bpm):
    trend = 1 + 0.05 * np.linspace(-1, 1, 150)
    trace = np.stack([sine(rate_bpm), sine(rate_bpm, relative=0.03), sine(rate_bpm) * trend], -1)
    percent, snr_db = amplitude.at_rate(trace, FPS, rate_bpm)
    np.testing.assert_allclose(percent, [1, 3, 1], rtol=0.02)
    assert (snr_db > 5).all()
    elsewhere, noise_db = amplitude.at_rate(trace, FPS, rate_bpm + 40)
    assert (elsewhere < 0.05 * percent).all()
    assert (noise_db < -20).all()


def test_snr_compares_the_pulse_with_the_rest_of_the_band():
    rng = np.random.default_rng(1)
    noise = 0.004 * rng.normal(0, 1, (150, 200))
    weak, strong = (
        np.median(amplitude.at_rate(sine(80.0, relative=r)[:, None] + noise, FPS, 80.0)[1])
        for r in (0.005, 0.1)
    )
    assert strong > weak + 10


@pytest.mark.parametrize("rate_bpm", [60.0, 90.5, 204.0])
def test_both_equal_their_definition(rate_bpm):
    trace = 0.5 + 0.01 * np.random.default_rng(2).normal(size=(150, 3)).cumsum(0)
    time = np.arange(150)
    window = np.sin(np.pi * (time + 1) / 151) ** 2
    relative = trace / trace.mean(0)
    residual = relative - np.polynomial.polynomial.polyval(time, np.polyfit(time, relative, 1)[::-1]).T

    def size(bpm):
        wave = np.exp(-2j * np.pi * bpm / 60 * time / FPS)
        return abs((window * wave) @ residual) * 2 / window.sum()

    axis = np.arange(36, 450)
    power = np.array([size(bpm) ** 2 for bpm in axis])
    near = (abs(axis - rate_bpm) <= 6) | (abs(axis - 2 * rate_bpm) <= 6)
    rest = ~near & (axis <= 198)
    percent, snr_db = amplitude.at_rate(trace, FPS, rate_bpm)
    np.testing.assert_allclose(percent, 100 * size(rate_bpm), rtol=1e-3)
    np.testing.assert_allclose(snr_db, 10 * np.log10(power[near].sum(0) / power[rest].sum(0)), atol=1e-3)


def test_no_rate_and_no_change_have_none():
    trace = np.stack([sine(70.0), np.full(150, 0.5), np.zeros(150)], -1)
    for values in amplitude.at_rate(trace, FPS, np.nan):
        assert np.isnan(values).all()
    percent, snr_db = amplitude.at_rate(trace, FPS, 70.0)
    np.testing.assert_allclose(percent[1:], 0, atol=1e-9)
    assert np.isfinite(snr_db[0])
