from __future__ import annotations

import numpy as np
import pytest

from pulse3d.errors import InputError
from pulse3d.evaluation import wave_truth
from pulse3d.reading.pulse_wave import PulseWave

CONTACT_S = np.arange(0, 40, 1 / 100)


def pulse(time_s, bpm=72.0):
    return np.sin(2 * np.pi * bpm / 60 * time_s)


def wave(values, fps=15.0, start_s=0.0):
    time_s = start_s + np.arange(len(values)) / fps
    return PulseWave(time_s, values)


TIME_S = np.arange(40 * 15) / 15


@pytest.mark.parametrize("lag_s", [0.0, 0.25, -0.1])
def test_the_same_wave_agrees_whatever_its_lag_and_unit(lag_s):
    found = wave_truth.compare(wave(0.3 * pulse(TIME_S + lag_s)), 7 + 5 * pulse(CONTACT_S), CONTACT_S)
    assert found.correlation == pytest.approx(1, abs=0.01)
    assert found.lag_s == pytest.approx(lag_s, abs=0.02)
    assert found.beat_error_ms < 10
    assert found.beats_within_100_ms == 1
    assert found.beats == pytest.approx(38.8 * 1.2, abs=2)


def test_noise_agrees_with_nothing():
    rng = np.random.default_rng(0)
    found = wave_truth.compare(wave(rng.normal(size=len(TIME_S))), pulse(CONTACT_S), CONTACT_S)
    assert found.correlation < 0.4
    assert found.beats_within_100_ms < 0.7


def test_correlation_of_a_wave_in_noise_is_that_of_its_share():
    """Of equal power, in the band: r = 1 / sqrt(2)."""
    values = pulse(TIME_S) + pulse(TIME_S, 131.0)
    found = wave_truth.compare(wave(values), pulse(CONTACT_S), CONTACT_S)
    assert found.correlation == pytest.approx(2**-0.5, abs=0.02)


def test_beats_that_come_irregularly_late_are_seen():
    late = 0.06 * np.sign(np.sin(2 * np.pi * TIME_S / 10))  # 60 ms to and fro, every 5 s
    found = wave_truth.compare(wave(pulse(TIME_S + late)), pulse(CONTACT_S), CONTACT_S)
    assert 40 < found.beat_error_ms < 80
    assert found.beats_within_100_ms > 0.6


def test_gaps_are_left_out():
    values = pulse(TIME_S)
    values[150:300] = np.nan
    found = wave_truth.compare(wave(values), pulse(CONTACT_S), CONTACT_S)
    assert found.correlation == pytest.approx(1, abs=0.01)
    assert found.beats == pytest.approx(28.8 * 1.2, abs=3)
    with pytest.raises(InputError, match="10 s are needed"):
        wave_truth.compare(wave(values[:140]), pulse(CONTACT_S), CONTACT_S)
    with pytest.raises(InputError, match="10 s are needed"):
        wave_truth.compare(wave(values * np.nan), pulse(CONTACT_S), CONTACT_S)
    values[::60] = np.nan
    with pytest.raises(InputError, match="no 10 s without a gap"):
        wave_truth.compare(wave(values), pulse(CONTACT_S), CONTACT_S)
