from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from pulse3d.evaluation import contact, datasets, recordings
from pulse3d.reading import beats

FPS = 30.0
TIME = np.arange(300) / FPS


def wave(beat_s, time_s=TIME, *, width_s=0.12):
    """A contact pulse: a hump at every beat, and a smaller one, the dicrotic wave, 0.3 s later."""
    lag = time_s[:, None] - np.asarray(beat_s)
    return (np.exp(-0.5 * (lag / width_s) ** 2) + 0.35 * np.exp(-0.5 * ((lag - 0.3) / width_s) ** 2)).sum(1)


def drifting(start_bpm, end_bpm, *, seconds=10.0):
    """Beats of a rate that goes evenly from one to the other: phase(t) = f t + c t^2 / 2 is whole."""
    f, c = start_bpm / 60, (end_bpm - start_bpm) / 60 / seconds
    number = np.arange(-3, int(seconds * max(start_bpm, end_bpm) / 60) + 4)
    if c == 0:
        return number / f
    inside = f**2 + 2 * c * number
    return (-f + np.sqrt(np.maximum(inside, 0))) / c


def mean_rate(beat_s):
    """60 x beats after the first / time between, of the beats in the ten seconds."""
    inside = beat_s[(beat_s >= 0) & (beat_s < 10)]
    return 60 * (len(inside) - 1) / (inside[-1] - inside[0])


@pytest.mark.parametrize(("start", "end"), [(48, 48), (72, 72), (150, 150), (60, 80), (110, 90), (70, 88)])
def test_beats_of_a_steady_and_of_a_drifting_rate(start, end):
    beat_s = drifting(start, end)
    found = beats.beat_rate(contact.beat_times(wave(beat_s), FPS))
    assert found == pytest.approx(mean_rate(beat_s), abs=1)
    assert mean_rate(beat_s) == pytest.approx((start + end) / 2, abs=2)


def test_beats_are_where_they_are():
    beat_s = drifting(72, 72)
    inside = beat_s[(beat_s > 0.5) & (beat_s < 9.5)]
    found = contact.beat_times(wave(beat_s), FPS)
    later = found[np.argmin(abs(found[:, None] - inside), axis=0)] - inside
    assert len(found) in (11, 12, 13)
    # the dicrotic wave delays the peak of what the filter leaves; every beat alike
    assert np.ptp(later) < 0.03
    assert abs(later).max() < 0.15


@pytest.mark.parametrize("bpm", [45, 71, 133, 190])
def test_beats_of_a_sine_are_at_its_crests_between_the_frames(bpm):
    period = 60 / bpm
    found = contact.beat_times(100 + np.sin(2 * np.pi * (TIME / period - 0.1)), FPS)
    crests = period * (0.35 + np.arange(1 + int((9.9 - 0.35 * period) / period)))
    inside = (crests > 3) & (crests < 7)  # the filter bends what is near the ends
    nearest = found[abs(found[:, None] - crests[inside]).argmin(0)]
    np.testing.assert_allclose(nearest, crests[inside], atol=2e-3)  # a frame is 33 ms


def beats_by_definition(pulse):
    """What `beats.beat_times` says that it does, peak by peak."""
    rate_hz = contact.reference_rate(pulse, FPS) / 60
    sections = scipy.signal.butter(
        2, (0.6 * rate_hz, min(1.6 * rate_hz, 0.49 * FPS)), "band", fs=FPS, output="sos"
    )
    wave = scipy.signal.sosfiltfilt(sections, pulse - pulse.mean())
    peaks = [i for i in range(1, len(wave) - 1) if wave[i - 1] < wave[i] > wave[i + 1]]
    kept = []
    for peak in sorted(peaks, key=lambda i: -wave[i]):
        # whole frames, rounded up, as a beat cannot be nearer
        if all(abs(peak - other) >= np.ceil(0.6 * FPS / rate_hz) for other in kept):
            kept.append(peak)
    prominence = {}
    for peak in kept:
        higher = np.flatnonzero(wave > wave[peak])
        left = max((i for i in higher if i < peak), default=-1) + 1
        right = min((i for i in higher if i > peak), default=len(wave))
        prominence[peak] = wave[peak] - max(wave[left : peak + 1].min(), wave[peak:right].min())
    bar = 0.3 * np.median(list(prominence.values()))
    times = []
    for peak in sorted(kept):
        if prominence[peak] >= bar:
            a, b, _ = np.polyfit([-1, 0, 1], wave[peak - 1 : peak + 2], 2)
            times.append((peak - b / (2 * a)) / FPS)
    return np.array(times)


@pytest.mark.parametrize("seed", range(6))
def test_beats_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    bpm = rng.uniform(45, 190)
    pulse = 5 + wave(drifting(bpm, bpm + 15)) + 2 * scipy.ndimage.gaussian_filter1d(rng.normal(0, 1, 300), 3)
    np.testing.assert_allclose(contact.beat_times(pulse, FPS), beats_by_definition(pulse), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_an_interval_counts_by_the_five_around_it(seed):
    interval = np.random.default_rng(seed).uniform(0.4, 2.6, 14)
    counted = [
        max(1, round(length / np.median([x for j, x in enumerate(interval) if abs(j - i) <= 2])))
        for i, length in enumerate(interval)
    ]
    beat_s = np.concatenate([[3.0], 3 + np.cumsum(interval)])
    assert beats.beat_rate(beat_s) == pytest.approx(60 * sum(counted) / interval.sum())


def test_where_the_rate_jumps_the_spectrum_takes_one_hump_and_the_beats_the_mean():
    slow, fast = np.arange(-2, 6) * 60 / 66, 5 * 60 / 66 + np.arange(1, 14) * 60 / 90
    both = np.concatenate([slow, fast])
    pulse = wave(both)
    expected = mean_rate(both)
    assert 76 < expected < 82
    assert beats.beat_rate(contact.beat_times(pulse, FPS)) == pytest.approx(expected, abs=1.5)
    assert abs(contact.reference_rate(pulse, FPS) - expected) > 5


def test_unseen_beats_are_counted():
    whole = np.arange(13) * 60 / 75
    for missing in ([4], [4, 9], [3, 4]):
        assert beats.beat_rate(np.delete(whole, missing)) == pytest.approx(75)
    irregular = whole + np.random.default_rng(0).normal(0, 0.03, 13)
    expected = 60 * 12 / (irregular[-1] - irregular[0])
    assert beats.beat_rate(np.delete(irregular, 6)) == pytest.approx(expected)


@pytest.mark.parametrize("missing", [[5], [4, 9]])
def test_weak_beats_of_a_wave_are_counted(missing):
    beat_s = drifting(75, 81)
    found = beats.beat_rate(contact.beat_times(wave(np.delete(beat_s, missing)), FPS))
    assert found == pytest.approx(mean_rate(beat_s), abs=1.0)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_a_slow_trend_do_no_harm(seed):
    beat_s, noise = drifting(60, 75), np.random.default_rng(seed).normal(0, 0.3, len(TIME))
    pulse = wave(beat_s) + noise + 3 * np.sin(2 * np.pi * 0.08 * TIME)
    assert beats.beat_rate(contact.beat_times(pulse, FPS)) == pytest.approx(mean_rate(beat_s), abs=1.5)


def test_no_beats_no_rate():
    assert len(contact.beat_times(np.ones(300), FPS)) == 0
    for few in ([], [1.0], [1.0, 2.0]):
        assert np.isnan(beats.beat_rate(np.array(few)))


def test_rates_in_windows_of_an_uneven_clock():
    rng = np.random.default_rng(0)
    time_s = np.sort(rng.uniform(0, 30, 3000))
    time_s = time_s[(time_s < 20) | (time_s > 20.5)]
    pulse = wave(np.arange(-2, 45) * 60 / 84, time_s)
    centres = np.array([5.0, 10.0, 18.0])
    rates = contact.window_rates(contact.counted_rate, pulse, time_s, centres, length_s=10.0)
    np.testing.assert_allclose(rates[:2], 84, atol=0.5)
    assert np.isnan(rates[2]), "half a second is missing"


def test_the_two_truths_of_the_real_clips(shared):
    """Near each other but where the heart speeds up and slows down within a window."""
    gap = {}
    for recording in datasets.find_recordings("clips", shared / "clips"):
        if recording.truth == recordings.PPG:
            reference = recording.reference()
            at = contact.window_centres(0.0, reference.time_s[-1], length_s=10.0, step_s=5.0)
            spectral, counted = (
                contact.window_rates(rate, reference.pulse, reference.time_s, at, length_s=10.0)
                for rate in (contact.reference_rate, contact.counted_rate)
            )
            gap[recording.name] = abs(spectral - counted).mean()
    assert len(gap) >= 9
    for name, distance in gap.items():
        assert distance < (7 if name in ("ubfc2_s03", "ubfc2_s14") else 2.5), name
    assert gap["ubfc2_s03"] > 3
