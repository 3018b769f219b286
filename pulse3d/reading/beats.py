"""Beats of a pulse wave: when each comes, the rate that they count, and how much the intervals vary."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy  # scipy.signal, which takes a second, is imported when it is first used
import scipy.interpolate
from jaxtyping import Bool, Float, Int, Shaped

from pulse3d.reading.pulse_wave import PulseWave

BAND = (0.6, 1.6)  # of the rate: how far it may vary within a wave, without harmonics
LEAST_PROMINENCE = 0.3  # of a beat, relative to the median of all peaks
SAMPLES = 30.0  # of a wave for each beat that is expected
LEAST_BEATS = 3.0  # expected in a piece of a wave that is searched
USUAL = 0.3  # an interval farther from the median of the five around it, relatively, is not counted as normal


class Beats(NamedTuple):
    """When beats come, in s on the video's clock, and the ms since the beat before; nan after a gap."""

    time_s: Float[np.ndarray, "beat"]
    interval_ms: Float[np.ndarray, "beat"]

    def __repr__(self) -> str:
        """Their number, and the median interval."""
        known = self.interval_ms[np.isfinite(self.interval_ms)]
        median = f", median interval {np.median(known):.0f} ms" if len(known) else ""
        return f"Beats({len(self.time_s)} beats{median})"


class HeartRateVariability(NamedTuple):
    """How much the intervals between beats vary, and why not to trust it.

    rmssd_ms: root mean square of the differences of successive intervals. sdnn_ms: SD of the intervals.
    pnn50_percent: share of these differences above 50 ms. These are nan without enough intervals. intervals:
    number of normal intervals, from which they are; left_out_percent: share of the others. seconds: of all
    normal intervals. warnings: sentences.
    """

    rmssd_ms: float
    sdnn_ms: float
    pnn50_percent: float
    intervals: int
    left_out_percent: float
    seconds: float
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        """The measures in a line, and a line for every warning."""
        measures = (
            f"RMSSD {self.rmssd_ms:.1f} ms, SDNN {self.sdnn_ms:.1f} ms, pNN50 {self.pnn50_percent:.1f} %"
        )
        basis = f"{self.intervals} intervals in {self.seconds:.0f} s, {self.left_out_percent:.0f} % left out"
        return "\n".join([f"{measures} ({basis})", *(f"warning: {line}" for line in self.warnings)])


def beat_times(pulse: Float[np.ndarray, "time"], fps: float, *, rate_bpm: float) -> Float[np.ndarray, "beat"]:
    """The times in s, from the first sample, of the beats of a pulse wave with about that rate.

    Band-pass of 0.6 to 1.6 times the rate (Butterworth of order 2, forwards and backwards). A beat is a peak
    at least 0.6 mean periods from any higher one and at least 0.3 times as prominent as the median peak; its
    time is the vertex of the parabola through the three samples around it. None in a flat wave, or for a rate
    of nan.
    """
    rate_hz = rate_bpm / 60
    if not np.isfinite(rate_hz):
        return np.zeros(0)
    band = (BAND[0] * rate_hz, min(BAND[1] * rate_hz, 0.49 * fps))
    sections = scipy.signal.butter(2, band, "bandpass", fs=fps, output="sos")
    wave = scipy.signal.sosfiltfilt(sections, pulse - pulse.mean())
    peaks, found = scipy.signal.find_peaks(wave, distance=max(1.0, 0.6 * fps / rate_hz), prominence=0)
    if not len(peaks):
        return np.zeros(0)
    prominent = found["prominences"] >= LEAST_PROMINENCE * np.median(found["prominences"])
    at = peaks[prominent]
    before, here, after = wave[at - 1], wave[at], wave[at + 1]
    return (at + (before - after) / (2 * (before - 2 * here + after))) / fps


def beat_rate(beat_s: Float[np.ndarray, "beat"]) -> float:
    """The mean rate in bpm of beats at ascending times.

        rate = 60 (number of beats after the first) / (time of the last - time of the first)

    Missed beats are counted: an interval counts as its ratio to the median of itself and the four intervals
    around it, rounded, at least one. nan for fewer than three beats.
    """
    if len(beat_s) < 3:
        return np.nan
    interval = np.diff(beat_s)
    beats = np.maximum(np.round(interval / _usual(interval)), 1).sum()
    return float(60 * beats / (beat_s[-1] - beat_s[0]))


def find_beats(
    wave: PulseWave,
    rate_bpm: Float[np.ndarray, "window"],
    centre_s: Float[np.ndarray, "window"],
) -> Beats:
    """The beats of a video's pulse wave, by `beat_times` on a clock that runs with the rate.

    rate_bpm: of the windows around centre_s, nan without a pulse. On that clock one beat is expected in every
    unit of time, so that the rate may change as it likes; the wave is interpolated to it by cubic splines, 30
    samples a beat. No interval goes across a gap: frames that are missing, or without a pulse; the first and
    the last between two gaps are nan, too.

    In nine recordings of a minute with a contact pulse, half of the contact's beats are within 44 ms of these
    (median over recordings), after a constant lag.
    """
    known = np.isfinite(rate_bpm)
    found, intervals = [np.zeros(0)], [np.zeros(0)]
    for run in _runs(wave.time_s, np.isfinite(wave.percent)) if known.any() else []:
        time_s = wave.time_s[run]
        rate_hz = np.interp(time_s, centre_s[known], rate_bpm[known]) / 60
        clock = np.concatenate([[0.0], np.cumsum(np.diff(time_s) * (rate_hz[1:] + rate_hz[:-1]) / 2)])
        if clock[-1] < LEAST_BEATS:
            continue
        even = np.arange(0, clock[-1], 1 / SAMPLES)
        pulse = scipy.interpolate.CubicSpline(clock, wave.percent[run])(even)
        beat_s = np.interp(beat_times(pulse, SAMPLES, rate_bpm=60.0), clock, time_s)
        interval = 1000 * np.diff(beat_s, prepend=np.nan)
        interval[1:2] = interval[-1:] = np.nan  # at its ends the filter bends the wave
        found.append(beat_s)
        intervals.append(interval)
    return Beats(np.concatenate(found), np.concatenate(intervals))


def is_normal(beats: Beats) -> Bool[np.ndarray, "beat"]:
    """Whether the interval before each beat is within 30 % of the median of the five around it.

    Of one that is not, a beat was missed or invented. False for nan.
    """
    interval = beats.interval_ms
    normal = np.zeros(len(interval), bool)
    for run in _runs(np.arange(len(interval)), np.isfinite(interval)):
        usual = _usual(interval[run])
        normal[run] = abs(interval[run] - usual) <= USUAL * usual
    return normal


def heart_rate_variability(beats: Beats, *, video_fps: float) -> HeartRateVariability:
    """How much the intervals between beats vary, with warnings of all that forbids trust.

        RMSSD = sqrt(mean (x_(i+1) - x_i)^2),  SDNN = sd(x),  pNN50 = share of |x_(i+1) - x_i| > 50 ms

    x are the normal intervals (`is_normal`), since a beat that was missed or invented counts for more than
    all others. Differences are of neighbours, across no gap.

    RMSSD and pNN50 do not measure vagal tone here: the narrow band of the wave keeps 78 % of a variation
    of 9 times a minute, a third of one of 12, and 4 % of one of 15, as in breathing; what remains is slower
    variation and noise. In nine recordings of a minute, RMSSD is 0.5 times that of the contact pulse (median;
    27 ms off, r = 0.6 over recordings), SDNN 0.8 times (13 ms off, r = 0.8). A wider band has more noise than
    variation: at 25 bpm to each side RMSSD is 2.3 times the contact's.
    video_fps: frames of the video in a second.
    Source of the measures: Task Force of the ESC and NASPE, Circulation 93(5), 1996.
    """
    interval, normal = beats.interval_ms, is_normal(beats)
    counted = interval[normal]
    change = np.diff(interval)[normal[1:] & normal[:-1]]
    measured = np.isfinite(interval).sum()
    left_out = 100 * (1 - len(counted) / measured) if measured else 0.0
    seconds = float(counted.sum() / 1000)
    enough = len(change) >= 2
    return HeartRateVariability(
        rmssd_ms=float(np.sqrt(np.mean(change**2))) if enough else np.nan,
        sdnn_ms=float(counted.std(ddof=1)) if enough else np.nan,
        pnn50_percent=float(100 * np.mean(abs(change) > 50)) if enough else np.nan,
        intervals=len(counted),
        left_out_percent=float(left_out),
        seconds=seconds,
        warnings=_warnings(seconds, float(left_out), video_fps),
    )


def _warnings(seconds: float, left_out_percent: float, video_fps: float) -> tuple[str, ...]:
    """Why a variability cannot be trusted, a sentence each; the first holds for every video."""
    said = [
        "RMSSD and pNN50 do not measure vagal tone here: of what varies with the breath, 15 times a minute,"
        " the wave keeps 4 %; SDNN was 0.8 of the contact pulse's in nine recordings"
    ]
    if seconds < 60:
        said.append(f"{seconds:.0f} s of intervals: RMSSD needs 60 s")
    if seconds < 300:
        said.append(f"{seconds:.0f} s of intervals: SDNN can be compared with others at 300 s, the standard")
    if left_out_percent > 5:
        said.append(
            f"{left_out_percent:.0f} % of the intervals are not normal: beats were missed or invented"
        )
    if video_fps < 25:
        said.append(f"{video_fps:.3g} frames a second: beats are timed worse than in videos of 25 or more")
    return tuple(said)


def _usual(interval: Float[np.ndarray, "interval"]) -> Float[np.ndarray, "interval"]:
    """The median of every interval and the four around it."""
    return np.array([np.median(interval[max(0, i - 2) : i + 3]) for i in range(len(interval))])


def _runs(at: Shaped[np.ndarray, "item"], chosen: Bool[np.ndarray, "item"]) -> list[Int[np.ndarray, "_"]]:
    """The indices of the chosen items in runs, broken where the next is over 1.5 usual distances away."""
    index = np.flatnonzero(chosen)
    apart = np.diff(at[index]) > 1.5 * np.median(np.diff(at)) if len(at) > 1 else np.zeros(0, bool)
    return np.split(index, np.flatnonzero(apart) + 1)
