from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from helpers.launching import read_csv
from helpers.results import make_result

from pulse3d.evaluation import contact, datasets, recordings
from pulse3d.reading import beats
from pulse3d.reading.pulse_wave import PulseWave
from pulse3d.showing import outputs

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


VIDEO_FPS, CENTRES = 15.0, np.arange(5.0, 56.0)


def video_wave(rate_at, *, seconds=60):
    """A wave with its harmonic, 15 a second, and its beats, where the phase is a quarter past a whole."""
    fine_s = np.arange(0, seconds, 1e-3)
    phase = np.cumsum(rate_at(fine_s)) / 60 * 1e-3
    time_s = np.arange(round(seconds * VIDEO_FPS)) / VIDEO_FPS
    at = 2 * np.pi * np.interp(time_s, fine_s, phase)
    beat_s = np.interp(np.arange(0.25, phase[-1]), phase, fine_s)
    return PulseWave(time_s, 0.3 * np.sin(at) + 0.06 * np.sin(2 * at)), beat_s


@pytest.mark.parametrize(
    "rate_at",
    [lambda t: 72 + 0 * t, lambda t: 150 - 1.4 * t, lambda t: 75 + 5 * np.sin(2 * np.pi * t / 12)],
    ids=["steady", "falls by more than half", "varies"],
)
def test_beats_of_a_video_are_timed_within_a_tenth_of_a_frame(rate_at):
    wave, beat_s = video_wave(rate_at)
    found = beats.find_beats(wave, rate_at(CENTRES), CENTRES)
    assert len(found.time_s) == pytest.approx(len(beat_s), abs=1)
    inside = (found.time_s > 3) & (found.time_s < 57)
    nearest = beat_s[abs(beat_s - found.time_s[inside][:, None]).argmin(1)]
    late_s = found.time_s[inside] - nearest  # what is left of the harmonic moves all crests
    assert abs(late_s).max() < 0.015
    assert np.ptp(late_s) < 0.0067
    np.testing.assert_allclose(found.interval_ms[2:-1], 1000 * np.diff(found.time_s)[1:-1])
    assert np.isnan(found.interval_ms[[0, 1, -1]]).all()


def test_gaps_break_intervals():
    """Frames without a pulse, and frames that are missing."""
    wave, _ = video_wave(lambda t: 72 + 0 * t)
    wave.percent[(wave.time_s > 20) & (wave.time_s < 25)] = np.nan
    lost = (wave.time_s > 40) & (wave.time_s < 46)
    wave = PulseWave(wave.time_s[~lost], wave.percent[~lost])
    found = beats.find_beats(wave, np.full(len(CENTRES), 72.0), CENTRES)
    starts = np.flatnonzero(np.diff(found.time_s, prepend=-10) > 3)
    waited_s = found.time_s[starts] - [0, 25, 46]
    assert ((waited_s > 0) & (waited_s < 1.1 * 60 / 72)).all()
    for start, end in ((20, 25), (40, 46)):
        assert not ((found.time_s > start) & (found.time_s < end)).any()
    ends = [*starts, *starts + 1, *starts[1:] - 1, len(found.time_s) - 1]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found.interval_ms)), sorted(ends))
    np.testing.assert_allclose(np.delete(found.interval_ms, ends), 60_000 / 72, atol=10)


def test_no_pulse_no_beats():
    wave, _ = video_wave(lambda t: 72 + 0 * t)
    rates = np.full(len(CENTRES), 72.0)
    for nothing, known in ((np.nan * wave.percent, rates), (0 * wave.percent, rates)):
        assert [len(x) for x in beats.find_beats(PulseWave(wave.time_s, nothing), known, CENTRES)] == [0, 0]
    assert len(beats.find_beats(wave, np.nan * rates, CENTRES).time_s) == 0
    short = np.where(wave.time_s < 2, wave.percent, np.nan)  # 2.4 beats
    assert len(beats.find_beats(PulseWave(wave.time_s, short), rates, CENTRES).time_s) == 0


def variability(*interval_ms, video_fps=30.0):
    interval = np.array([np.nan, *interval_ms])
    return beats.heart_rate_variability(
        beats.Beats(np.nancumsum(interval) / 1000, interval), video_fps=video_fps
    )


def test_variability_by_hand():
    """A gap, and an interval in which a beat was missed, have no neighbours."""
    found = variability(800, 860, 790, np.nan, 820, 810, 1640, 810, 800)
    differences, normal = [60, -70, -10, -10], [800, 860, 790, 820, 810, 810, 800]
    assert found.rmssd_ms == pytest.approx(np.sqrt(np.mean(np.square(differences))))
    assert found.sdnn_ms == pytest.approx(np.std(normal, ddof=1))
    assert found.pnn50_percent == 50
    assert (found.intervals, found.left_out_percent) == (7, 12.5)
    assert found.seconds == pytest.approx(sum(normal) / 1000)


@pytest.mark.parametrize(("interval_ms", "normal"), [(1030, True), (1050, False), (570, True), (550, False)])
def test_normal_is_within_30_percent_of_the_usual(interval_ms, normal):
    found = variability(800, 800, 800, interval_ms, 800, 800, 800)
    assert found.intervals == 6 + normal


def test_variability_says_why_not_to_trust_it():
    long = [800, 810] * 200
    for given, video_fps, said in (
        (long, 30.0, []),
        (long, 20.0, ["20 frames a second"]),
        (long[:200], 30.0, ["161 s of intervals: SDNN"]),
        (long[:60], 30.0, ["48 s of intervals: RMSSD", "48 s of intervals: SDNN"]),
        ([800, 800, 800, 1600] * 150, 30.0, ["25 % of the intervals"]),
    ):
        warnings = variability(*given, video_fps=video_fps).warnings
        assert warnings[0].startswith("RMSSD and pNN50 do not measure")
        assert [w[: len(s)] for w, s in zip(warnings[1:], said, strict=True)] == said


def test_too_few_intervals_vary_by_nothing_known():
    for few in ([], [800], [800, 810], [800, np.nan, 810, np.nan, 800]):
        found = variability(*few)
        assert np.isnan([found.rmssd_ms, found.sdnn_ms, found.pnn50_percent]).all()
    assert np.isfinite(variability(800, 810, 800)[:3]).all()


def test_a_result_has_beats_and_writes_them(tmp_path):
    result = make_result(tmp_path, windows=40)
    beat_s, interval_ms = result.beats
    assert len(beat_s) == pytest.approx(result.frame_s[-1] * 70 / 60, abs=2)
    np.testing.assert_allclose(interval_ms[3:-3], 60_000 / 70, atol=5)
    outputs.write_beats(result)
    rows = read_csv(tmp_path / "beats.csv")
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], beat_s, atol=1e-4)
    written = [float(row["interval_ms"] or "nan") for row in rows]
    np.testing.assert_allclose(written, interval_ms, atol=0.05)
    assert {row["normal"] for row, known in zip(rows, np.isfinite(interval_ms), strict=True) if known} == {
        "1"
    }
    found = result.heart_rate_variability()
    assert found.rmssd_ms < 10
    assert len(found.warnings) == 4
    assert found.warnings[-1].startswith("20 frames a second")


def test_a_missed_beat_is_marked(tmp_path):
    result = make_result(tmp_path, windows=40)
    beat_s, interval_ms = result.beats
    missed = 10
    beat_s = np.delete(beat_s, missed)
    interval_ms = np.delete(interval_ms, missed)
    interval_ms[missed] *= 2
    result.__dict__["beats"] = beats.Beats(beat_s, interval_ms)
    outputs.write_beats(result)
    marks = [row["normal"] for row in read_csv(tmp_path / "beats.csv")]
    assert [at for at, mark in enumerate(marks) if mark == "0"] == [missed]
    assert [at for at, mark in enumerate(marks) if not mark] == np.flatnonzero(np.isnan(interval_ms)).tolist()
