import numpy as np
import pytest

from pulse3d.reading import phase

FPS, WINDOW_S, BPM = 15.0, 10.0, 72.0
LATER_DEG = np.array([[0.0, 30.0, -120.0], [90.0, 179.0, 0.0]])


def green(time_s, later_deg, *, percent=0.4, drift=0.0):
    """Green of 0.5 that falls when the blood comes, later by so many degrees at 72 bpm."""
    volume = np.cos(2 * np.pi * BPM / 60 * time_s[:, None, None] - np.radians(later_deg))
    return 0.5 * (1 - percent / 100 * volume) + drift * time_s[:, None, None]


def test_a_place_that_beats_later_has_a_positive_phase():
    time_s = np.arange(150) / FPS
    traces = green(time_s, LATER_DEG)
    found = phase.at_rate(traces, traces[:, 0, 0], fps=FPS, rate_bpm=BPM)
    np.testing.assert_allclose(found, LATER_DEG, atol=0.5)


def test_a_drift_shifts_no_phase():
    """In windows as short as 2.4 beats."""
    time_s = np.arange(30) / FPS
    steady, drifting = (green(time_s, LATER_DEG, drift=drift) for drift in (0.0, 0.05))
    expected, found = (
        phase.at_rate(traces, traces[:, 0, 0], fps=FPS, rate_bpm=BPM) for traces in (steady, drifting)
    )
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_a_place_that_does_not_change_has_no_phase():
    time_s = np.arange(150) / FPS
    traces = green(time_s, LATER_DEG)
    traces[:, 1, 1] = 0.0
    found = phase.at_rate(traces, traces[:, 0, 0], fps=FPS, rate_bpm=BPM)
    np.testing.assert_array_equal(np.isnan(found), [[False] * 3, [False, True, False]])


def test_every_window_is_measured_against_the_weighted_places_in_one_pass():
    """After 20 s all places but one beat a quarter later."""
    time_s = np.arange(600) / FPS
    later = LATER_DEG + 90.0 * (np.arange(6).reshape(2, 3) > 0) * (time_s[:, None, None] >= 20)
    frames = green(time_s, later)
    centres = np.array([5.0, 6.0, 15.0, 25.0, 35.0])
    rates = np.where(centres == 15.0, np.nan, BPM)
    places = np.zeros((2, 3))
    places[0, 0] = 1.0
    windows = phase.of_windows(iter(frames), places, time_s, centres, rates, window_s=WINDOW_S)
    first, second, none, third, last = list(windows)
    assert np.isnan(none).all()
    for early in (first, second):
        np.testing.assert_allclose(early, LATER_DEG, atol=0.5)
    turned = LATER_DEG + np.array([[0, 90, 90], [90, 90, 90]])
    for late in (third, last):
        np.testing.assert_allclose((late - turned + 180) % 360 - 180, 0, atol=0.5)


def test_without_a_pulse_wave_there_is_no_phase():
    frames = green(np.arange(300) / FPS, LATER_DEG)
    time_s, centres = np.arange(300) / FPS, np.array([5.0, 15.0])
    rates = np.full(2, BPM)
    found = list(phase.of_windows(frames, np.zeros((2, 3)), time_s, centres, rates, window_s=WINDOW_S))
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("phases", "expected"), [([170, -170, 180], 180), ([10, 20, np.nan], 15), ([10, np.nan, np.nan], np.nan)]
)
def test_a_mean_goes_round_the_circle(phases, expected):
    found = phase.circular_mean(np.array(phases, float)[:, None])[0]
    np.testing.assert_allclose(abs(found), expected, atol=1e-4)
