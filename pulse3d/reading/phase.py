"""The phase of the pulse at every place: how much later, or earlier, it beats than the frame's pulse wave.

Within a face phases differ by travelling pulse waves, but by motion and light as well (Kamshilin et al.,
Biomedical Optics Express 2(4), 2011, map phases in this way, from the palm of a hand).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from pulse3d.reading import amplitude


def of_windows(
    green: Iterable[Float[np.ndarray, "row col"]],
    places: Float[np.ndarray, "row col"],
    frame_s: Float[np.ndarray, "time"],
    centre_s: Float[np.ndarray, "window"],
    rate_bpm: Float[np.ndarray, "window"],
    *,
    window_s: float,
) -> Iterator[Float[np.ndarray, "row col"]]:
    """Yields for every window the phase of each place against the frame's pulse wave, in degrees; one pass.

    green: of every frame, at frame_s. places: how much each counts in the frame's wave, as
    `pulse_wave.weigh_places` gives them. centre_s, rate_bpm: of the windows; without a rate (nan), all is
    nan. A phase is above -180 and at most 180, positive where a place beats later. See `at_rate`.
    """
    fps = 1 / float(np.median(np.diff(frame_s)))
    windows = amplitude.cut_windows(green, frame_s, centre_s, window_s=window_s)
    for traces, rate in zip(windows, rate_bpm, strict=True):
        if not np.isfinite(rate) or len(traces) < 3:
            yield np.full(places.shape, np.nan, np.float32)
            continue
        yield at_rate(traces, np.tensordot(traces, places.astype(np.float32)), fps=fps, rate_bpm=rate)


def at_rate(
    trace: Float[np.ndarray, "time *place"],
    reference: Float[np.ndarray, "time"],
    *,
    fps: float,
    rate_bpm: float,
) -> Float[np.ndarray, "*place"]:
    """The phase of traces of green against a reference trace at one rate, in degrees; nan where one is 0.

        phase = arg( R conj(X) ),  X = sum_t w(t) x(t) exp(-2 pi i f t)

    x is a trace minus the straight line through it, w a Hann window; R is the same of the reference.
    Positive: later.
    """
    time = np.arange(len(trace)) - (len(trace) - 1) / 2
    waves = np.hanning(len(trace) + 2)[1:-1] * np.exp(-2j * np.pi * rate_bpm / 60 / fps * time)
    # the line is removed from the waves instead, which is the same, of two traces and not of all places
    waves = waves - waves.mean() - time * (waves @ time) / (time @ time)
    flat = np.concatenate([reference[:, None], trace.reshape(len(trace), -1)], axis=1).astype(np.float32)
    cosine, sine = np.stack([waves.real, waves.imag]).astype(np.float32) @ flat
    found = cosine + 1j * sine
    product = found[0] * np.conj(found[1:])
    degrees = np.where(abs(product) > 0, np.degrees(np.angle(product)), np.nan)
    return degrees.reshape(trace.shape[1:]).astype(np.float32)


def circular_mean(phase_deg: Float[np.ndarray, "window *place"]) -> Float[np.ndarray, "*place"]:
    """The mean direction of phases over windows, in degrees; nan where at most half of the windows know it.

    Source: Mardia and Jupp, Directional Statistics, 2000, Section 2.2.
    """
    known, total = np.isfinite(phase_deg), np.zeros(phase_deg.shape[1:], complex)
    for phase in phase_deg:  # one by one: the directions of all take eight times the memory of the phases
        total += np.where(np.isfinite(phase), np.exp(1j * np.radians(np.nan_to_num(phase))), 0)
    return np.where(known.mean(0) > 0.5, np.degrees(np.angle(total)), np.nan)
