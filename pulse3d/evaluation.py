"""From a recording and a method to evidence, from evidence to answers, from answers to scores.

Evidence is what a source (a baseline or a network) says about every window of its own length; it
is costly and independent of how it is read. Answers are made from it by a read-out, one for every
window that has a truth. A method is a source with a read-out, written SOURCE or SOURCE:READOUT:

    green, chrom, pos              on the mean colour of the skin, `region_traces`
    green_map, chrom_map, pos_map  on the mean colour of every patch
    open-rppg:FacePhys.rlap ...    a model of open-rppg, if installed, `peers`
    anything else                  weights, as `checkpoint.load_weights` takes them

    peak       the largest of the probability over rates; unasked for green, chrom and pos
    posterior  its mode with an interval, `readout.read`; unasked for maps of baselines
    tracked    as posterior, after `readout.track` over all windows of the recording
    own        posterior or tracked, as the preset of the weights has it; unasked for weights
    median     the median over patches of each patch's most likely rate; unasked for open-rppg, its own rate
    eq8        the mean of the patches' hard votes, `readout.equation_8`
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Bool, Float

from pulse3d import (
    baselines,
    beats,
    calibration,
    faces,
    map_truth,
    metrics,
    peers,
    places,
    readout,
    stream,
    tiles,
)
from pulse3d.checkpoint import Weights
from pulse3d.config import ClipConfig, Config, ReadoutConfig, to_dict
from pulse3d.datasets import DEVICE, NO_PULSE, PULSELESS, SCENE, Recording
from pulse3d.errors import InputError
from pulse3d.map_truth import Mask, ScoredMap
from pulse3d.mapping import Mapper
from pulse3d.tiles import Map
from pulse3d.video import Frame, Video

Windows = Float[np.ndarray, "window"]
Centres = tuple[np.ndarray, np.ndarray]

READOUTS = ("peak", "posterior", "tracked", "own", "median", "eq8")
REGIONS = ("face", "skin", "frame")  # of which green, chrom and pos take the mean colour
BASELINES = tuple(baselines.METHODS)
BASELINE_MAPS = tuple(f"{name}_map" for name in BASELINES)
TOLERANCE_BPM = 5.0  # a right answer is as near to the truth
TRACE_FPS = 30.0  # baselines resample their traces to this, the field's usual
BASELINE_RATES_BPM = (40.0, 240.0, 401)  # the baselines' rate axis: first, last, number


class Method(NamedTuple):
    """A method as the user wrote it, its source, and its read-out."""

    name: str
    source: str
    readout: str


def parse_method(name: str) -> Method:
    """The method of a name SOURCE or SOURCE:READOUT; raises InputError for an unknown read-out."""
    peer, _, rest = name.partition(":") if is_peer(name) else ("", "", name)
    source, colon, asked = rest.partition(":")
    if not source or (colon and asked not in READOUTS):
        raise InputError(f"method {name}: expected SOURCE or SOURCE:READOUT with {', '.join(READOUTS)}")
    if peer:
        return Method(name, f"{peer}:{source}", asked or "median")
    unasked = "peak" if source in BASELINES else "posterior" if source in BASELINE_MAPS else "own"
    return Method(name, source, asked or unasked)


def is_peer(name: str) -> bool:
    """Whether a method or source is a model of another program."""
    return name.startswith(f"{peers.OPEN_RPPG}:")


class Traces(NamedTuple):
    """Colours over time at `TRACE_FPS`: of the skin (time, 3), or of patches (time, row, col, 3).

    end_s: the time stamp of the last frame. seconds: what reading took. frame_px: height and
    width of the frames. centres_px: of the patches along each axis. face_share: of the detections that
    found the face; 0 where there is none to be followed, nan where it was not looked for.
    """

    colour: Float[np.ndarray, "time ... 3"]
    end_s: float
    seconds: float
    frame_px: tuple[int, int] = (0, 0)
    centres_px: Centres = (np.zeros(0), np.zeros(0))
    face_share: float = np.nan


class Evidence(NamedTuple):
    """What a source says about every window of its own length, by the windows' centres `time_s`.

    strength: how strongly each speaks for every rate, as `readout.pool` has it; zeros for nothing.
    pulse_share: share of the patches with a pulse, 0...1. equation_8_bpm, median_bpm: of the
    patches' most likely rates; nan where no patch has a pulse. signal: the pulse signal; of no
    length where the source makes none. window_s, step_s: of the windows. fps: frames per second
    of the resampled video. end_s: time stamp of the video's last frame. seconds: of computing,
    decoding included. places: what the map says of every place, of a source that makes one. face_share: as
    of `Traces`.
    """

    time_s: Windows
    rate_axis_bpm: Float[np.ndarray, "rate"]
    strength: Float[np.ndarray, "window rate"]
    pulse_share: Windows
    equation_8_bpm: Windows
    median_bpm: Windows
    signal: Float[np.ndarray, "window time"]
    window_s: float
    step_s: float
    fps: float
    end_s: float
    seconds: float
    places: map_truth.Places | None = None
    face_share: float = np.nan


def to_arrays(evidence: Evidence) -> dict[str, Any]:
    """The evidence as named arrays, to be kept in a file."""
    arrays = {k: np.asarray(v) for k, v in evidence._asdict().items() if k != "places"}
    known = evidence.places._asdict() if evidence.places else {}
    return arrays | {f"places_{k}": v for k, v in known.items()}


def from_arrays(arrays: dict[str, np.ndarray]) -> Evidence:
    """The inverse of `to_arrays`."""
    values: dict[str, Any] = {k: v if v.ndim else float(v) for k, v in arrays.items()}
    fields = {name: values.pop(f"places_{name}", None) for name in map_truth.Places._fields}
    known = None if fields["rate_bpm"] is None else map_truth.Places(**fields)
    return Evidence(**values, places=known)


def region_traces(video: Video, region: str) -> Traces:
    """The mean colour of a region of every frame, (time, 3), of any scale.

    region, one of REGIONS: the skin-coloured pixels of the inner part of the face's box, as the field takes
    them (all of the box where none has the colour); those of the whole frame; or all pixels. Where there is
    no face the whole frame's skin is taken, and face_share is 0. Holds one frame at a time. Raises
    InputError for a video that cannot be read, and for faces where scikit-image is missing.
    """
    started, track, share = time.perf_counter(), None, np.nan
    if region == "face":
        track, share = faces.find_faces(video)
    if track is not None:
        in_box = jax.jit(lambda image, box: baselines.skin_mean(image, box)[0])
        traces = _read_traces(
            video, lambda frame: in_box(frame.image, faces.inner(faces.box_at(track, frame.time_s)))
        )
    elif region == "frame":
        whole = jax.jit(lambda image: jnp.asarray(image).mean((0, 1), dtype=jnp.float32))
        traces = _read_traces(video, lambda frame: whole(frame.image))
    else:
        skin = jax.jit(lambda image: baselines.skin_mean(image)[0])
        traces = _read_traces(video, lambda frame: skin(frame.image))
    face_share = 0.0 if region == "face" and track is None else share
    return traces._replace(seconds=time.perf_counter() - started, face_share=face_share)


def patch_traces(video: Video, *, patch_px: int, stride_px: int) -> Traces:
    """The mean colour of every patch of every frame, (time, row, col, 3), of any scale.

    Holds one frame at a time. Raises InputError for a video that cannot be read or is smaller
    than a patch.
    """
    means = jax.jit(partial(baselines.patch_means, patch_px=patch_px, stride_px=stride_px))
    frame_px = video.height, video.width
    centres_px = tiles.patch_centres(frame_px, patch_px, stride_px)
    return _read_traces(video, lambda frame: means(frame.image))._replace(
        frame_px=frame_px, centres_px=centres_px
    )


def skin_evidence(traces: Traces, method: str, *, window_s: float | None, step_s: float) -> Evidence:
    """GREEN, CHROM or POS on the trace of the skin; it always finds a pulse, unless nothing changes.

    The probability is `baselines.spectrum_probability`. window_s: None makes one window of the
    whole recording. Raises InputError for a recording shorter than one window.
    """
    started = time.perf_counter()
    clip = baseline_clip(len(traces.colour) / TRACE_FPS if window_s is None else window_s)
    axis, rows, signals = clip.rate_axis_bpm, [], []
    for start in window_starts(len(traces.colour), clip, step_s):
        trace = traces.colour[start : start + clip.frames]
        signal, spectrum = _skin_window(trace, clip, method)
        moves = np.ptp(trace, axis=0).max() > baselines.STILL * trace.max()
        peak = axis[spectrum.argmax()] if moves else np.nan
        rows.append((_centre(start, clip), spectrum * moves, float(moves), peak, peak))
        signals.append(signal)
    return _evidence(rows, signals, clip, step_s, traces, started)


def patch_evidence(
    traces: Traces,
    method: str,
    *,
    window_s: float,
    step_s: float,
    tolerance_bpm: float = TOLERANCE_BPM,
) -> Evidence:
    """GREEN, CHROM or POS on the trace of every patch, through `baselines.map_traces`.

    tolerance_bpm: as of `readout.patch_confidence`. Raises InputError for a recording shorter than one
    window.
    """
    started = time.perf_counter()
    clip = baseline_clip(window_s)
    axis, rows, maps = clip.rate_axis_bpm, [], []
    for start in window_starts(len(traces.colour), clip, step_s):
        window = traces.colour[start : start + clip.frames]
        probability = np.asarray(baselines.map_traces(window, clip, method))
        rows.append(_summarise_map(_centre(start, clip), probability, axis, readout.combine))
        shown = readout.patch_rates(probability, axis)
        sure = readout.patch_confidence(probability, axis, tolerance_bpm)
        maps.append(_place_row(probability, axis, shown, sure))
    return _evidence(
        rows, [], clip, step_s, traces, started, _places(traces.frame_px, traces.centres_px, maps)
    )


def peer_evidence(video: Video, source: str, *, window_s: float | None, step_s: float) -> Evidence:
    """What a peer says, `peers.ask`, of the same windows as a baseline's.

    Its rate is equation_8_bpm and median_bpm, its quality the share of pulses; the probability is
    `baselines.spectrum_probability` of its signal. window_s: None makes one window of the whole recording.
    Raises InputError for a recording that cannot be read or is shorter than one window.
    """

    def windows(end_s: float) -> tuple[ClipConfig, list[float]]:
        frames = int(end_s * TRACE_FPS + 1e-3) + 1
        clip = baseline_clip(frames / TRACE_FPS if window_s is None else window_s)
        return clip, [start / clip.fps for start in window_starts(frames, clip, step_s)]

    def bounds(end_s: float) -> list[tuple[float, float]]:
        clip, starts_s = windows(end_s)
        return [(start_s, start_s + clip.duration_s) for start_s in starts_s]

    peer = peers.ask(source, video, bounds)
    started, (clip, starts_s) = time.perf_counter(), windows(peer.end_s)
    rows, signals = [], []
    for start_s, rate, quality in zip(starts_s, peer.rate_bpm, peer.quality, strict=True):
        time_s = start_s + np.arange(clip.frames) / clip.fps
        signal = np.interp(time_s, peer.time_s, peer.signal) if len(peer.signal) else np.zeros(clip.frames)
        spectrum = np.asarray(_signal_spectrum(signal.astype(np.float32), clip))
        if not np.ptp(signal):  # it found no face; what it states is the bottom of its axis
            spectrum, quality, rate = 0 * spectrum, 0.0, np.nan
        rows.append((start_s + clip.duration_s / 2, spectrum, quality, rate, rate))
        signals.append(signal)
    return _evidence(rows, signals, clip, step_s, Traces(np.zeros((0, 3)), peer.end_s, peer.seconds), started)


def network_evidence(video: Video, mapper: Mapper, *, step_s: float) -> Evidence:
    """A network's maps over windows of its own length.

    mapper: for frames of the video's size. Raises InputError for a video that cannot be read, or is
    shorter than one window.
    """
    started = time.perf_counter()
    config, last_s = mapper.config, [0.0]

    def frames() -> Iterator[Frame]:
        for frame in video.frames():
            last_s[0] = frame.time_s
            yield frame

    axis, rows, maps = config.clip.rate_axis_bpm, [], []
    pool = partial(readout.pool, config=config.readout, odds=config.odds)
    seen: list[Map] = []
    for result in stream.map_windows(frames(), mapper, step_s=step_s, start_s=0.0):
        rows.append(_summarise_map(result.time_s, result.probability, axis, pool))
        maps.append(_place_row(result.probability, axis, result.rate_bpm, result.confidence))
        if config.readout.places:
            seen.append(result.probability.astype(np.float16))
    read = Traces(np.zeros((0, 3)), last_s[0], 0.0)
    found = _places((video.height, video.width), mapper.layout.centres_px(), maps)
    evidence = _evidence(rows, [], config.clip, step_s, read, started, found)
    return _with_places(evidence, seen, config) if seen else evidence


def _with_places(evidence: Evidence, maps: list[Map], config: Config) -> Evidence:
    """The evidence as `places.find_pulses` has it: of the places that carry the frame's pulse."""
    pulses = places.find_pulses(
        lambda: maps,
        evidence.strength,
        evidence.rate_axis_bpm,
        config,
        step_s=evidence.step_s,
        window_s=evidence.window_s,
    )
    rate_bpm, probability = places.strongest(pulses)
    assert evidence.places is not None
    shown = places.shown(rate_bpm, probability)
    columns = {"rate_bpm": shown, "likeliest_bpm": rate_bpm, "pulse": probability}
    columns["confidence"] = np.where(np.isfinite(shown), probability, 0)
    found = evidence.places._replace(**{name: value.astype(np.float32) for name, value in columns.items()})
    return evidence._replace(strength=pulses[0].strength, places=found)


def baseline_clip(window_s: float) -> ClipConfig:
    """The length and the rates of the baselines' windows; raises InputError for too short a window."""
    low, high, rates = BASELINE_RATES_BPM
    return ClipConfig(
        fps=TRACE_FPS, frames=round(window_s * TRACE_FPS), low_bpm=low, high_bpm=high, rates=rates
    )


def window_starts(frames: int, clip: ClipConfig, step_s: float) -> range:
    """The first frames of all windows of a recording of `frames`, every `step_s`."""
    return range(0, frames - clip.frames + 1, round(step_s * clip.fps))


def require_windows(clip: ClipConfig, *, window_s: float, step_s: float) -> None:
    """Raises InputError where a source of such clips cannot answer windows of `window_s` every `step_s`.

    Its own windows must fit into them, and the step be a whole number of its frames, so that the
    centres of both fall together.
    """
    if clip.duration_s > window_s + 0.5 / clip.fps:
        raise InputError(f"--window_s={window_s:g}: this source needs windows of {clip.duration_s:g} s")
    frames = step_s * clip.fps
    if round(frames) < 1 or abs(frames - round(frames)) > 1e-6:
        raise InputError(f"--step_s={step_s:g}: not a whole number of frames at {clip.fps:g} fps")


def fingerprint(weights: Weights) -> str:
    """A hash of the parameters and of what the network reads: the same for the same network."""
    digest = hashlib.sha256(json.dumps(to_dict(weights.config)["clip"]).encode())
    for name, value in sorted(traverse_util.flatten_dict(weights.params, sep="/").items()):
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


class Truth(NamedTuple):
    """Rates in bpm by the windows' centres in seconds; nan where there is no truth.

    rate_bpm: what answers are scored against, of a contact pulse the peak of its spectrum. device_bpm: the
    measuring device's own rate. beats_bpm: the mean rate over the beats of a contact pulse. nan where there
    is none.
    """

    time_s: Windows
    rate_bpm: Windows
    device_bpm: Windows
    beats_bpm: Windows


def window_truth(recording: Recording, end_s: float, *, window_s: float, step_s: float) -> Truth:
    """The truth of every window of `window_s` within the video, whose last frame is at `end_s`.

    "ppg": `metrics.reference_rates` and `beats.beat_rates` of the contact pulse; "device": its rates, the
    mean in every window, or its one rate; "consensus": its one rate; others: nan. Raises InputError where
    the reference is missing or damaged.
    """
    # The last sample of a window lies a frame before its end.
    centres = metrics.window_centres(0.0, end_s + 1 / TRACE_FPS, length_s=window_s, step_s=step_s)
    reference, nothing = recording.reference(), np.full(len(centres), np.nan)
    if reference is None:
        return Truth(centres, np.full(len(centres), recording.rate_bpm), nothing, nothing)
    device = metrics.device_rates(reference.rate_bpm, reference.time_s, centres, length_s=window_s)
    if recording.truth == DEVICE:
        return Truth(centres, device, device, nothing)
    pulse, time_s = reference.pulse, reference.time_s
    return Truth(
        centres,
        metrics.reference_rates(pulse, time_s, centres, length_s=window_s),
        device,
        beats.beat_rates(pulse, time_s, centres, length_s=window_s),
    )


def toolbox_truth(recording: Recording, end_s: float) -> Truth:
    """One window, the whole recording: `metrics.toolbox_rate` of the contact pulse during the video.

    Other kinds of truth as in `window_truth`. Raises InputError where the
    reference is missing, damaged or too short.
    """
    reference, centre, nothing = recording.reference(), np.array([end_s / 2]), np.full(1, np.nan)
    if reference is None:
        return Truth(centre, np.array([recording.rate_bpm]), nothing, nothing)
    device = metrics.device_rates(reference.rate_bpm, reference.time_s, centre, length_s=end_s)
    if recording.truth == DEVICE:
        return Truth(centre, device, device, nothing)
    first, last = max(0.0, reference.time_s[0]), min(end_s, reference.time_s[-1])
    grid = np.arange(first, last, 1 / metrics.REFERENCE_FPS)
    pulse = np.interp(grid, reference.time_s, reference.pulse)
    rate = metrics.toolbox_rate(pulse, metrics.REFERENCE_FPS)
    return Truth(centre, np.array([rate]), device, nothing)


class Answers(NamedTuple):
    """Rates in bpm with their interval and confidence, one per window; nan: no answer, or none given.

    snr_db: of the pulse signal at the true rate; nan where there is no signal. log_odds: what ranks the
    windows by whether there is a pulse, the logarithm of its odds.
    """

    rate_bpm: Windows
    low_bpm: Windows
    high_bpm: Windows
    confidence: Windows
    snr_db: Windows
    log_odds: Windows


def window_answers(
    evidence: Evidence, asked: str, truth: Truth, config: ReadoutConfig, *, window_s: float
) -> Answers:
    """A read-out's answer for every window of the truth, `window_s` long.

    An answer is made from those windows of the evidence that lie inside, to half a frame:

        eq8        mean of their equation_8_bpm
        median     median of their median_bpm
        peak       largest of their mean probability
        posterior  `readout.read` of their mean probability
        tracked    the same, of `readout.track` of all windows' probabilities

    asked: one of these, or own. For the last three a window says nothing where `readout.is_pulse` says so.
    The odds of a pulse are those that the answer stands on: for eq8 and median of the mean share of patches
    with a pulse, for peak of the largest probability, else of any rate against none.
    """
    asked = _read_out(asked, config)
    inside = _inside(evidence, truth, window_s)
    nothing = np.full(len(truth.time_s), np.nan)
    answers = Answers(nothing, nothing, nothing, nothing, _snr(evidence, truth, inside), nothing)
    if asked in ("eq8", "median"):
        average, values = (
            (np.mean, evidence.equation_8_bpm) if asked == "eq8" else (np.median, evidence.median_bpm)
        )
        share = np.nan_to_num(_over_known(np.mean, evidence.pulse_share, inside))
        return answers._replace(
            rate_bpm=_over_known(average, values, inside), log_odds=_log_odds(share, 1 - share)
        )
    mean = _window_probability(evidence, asked, inside, config)
    rates = mean[:, :-1]
    if asked == "peak":
        return answers._replace(
            rate_bpm=np.where(rates.any(1), evidence.rate_axis_bpm[rates.argmax(1)], np.nan),
            log_odds=_log_odds(rates.max(1), 1 - rates.max(1)),
        )
    readings = [readout.read(row, evidence.rate_axis_bpm, config) for row in mean]
    rate, low, high, confidence = np.array(readings, float).reshape(-1, 4).T
    sure = np.where(np.isfinite(rate), confidence, np.nan)
    return Answers(rate, low, high, sure, answers.snr_db, _log_odds(rates.sum(1), mean[:, -1]))


def intervals_hold(
    evidence: Evidence, asked: str, truth: Truth, config: ReadoutConfig, *, window_s: float
) -> Float[np.ndarray, "window level"]:
    """Whether the answer's interval of every level of `calibration.LEVELS` holds the truth: 1, 0 or nan.

    nan where there is no answer, no truth, or no interval. Arguments as of `window_answers`.
    """
    asked = _read_out(asked, config)
    held = np.full((len(truth.time_s), len(calibration.LEVELS)), np.nan)
    if asked not in ("posterior", "tracked"):
        return held
    mean = _window_probability(evidence, asked, _inside(evidence, truth, window_s), config)
    for window, (row, rate) in enumerate(zip(mean, truth.rate_bpm, strict=True)):
        for index, level in enumerate(calibration.LEVELS):
            settings = dataclasses.replace(config, interval=float(level))
            reading = readout.read(row, evidence.rate_axis_bpm, settings)
            if np.isfinite(rate) and np.isfinite(reading.rate_bpm):
                held[window, index] = reading.low_bpm <= rate <= reading.high_bpm
    return held


def _read_out(asked: str, config: ReadoutConfig) -> str:
    """The read-out that `own` stands for."""
    if asked != "own":
        return asked
    return "tracked" if config.method == "tracked" else "posterior"


def _inside(evidence: Evidence, truth: Truth, window_s: float) -> Bool[np.ndarray, "answer window"]:
    """Which windows of the evidence lie inside every window of the truth, to half a frame."""
    slack = (window_s - evidence.window_s) / 2 + 0.5 / evidence.fps
    return abs(evidence.time_s - truth.time_s[:, None]) <= slack


def _window_probability(
    evidence: Evidence, asked: str, inside: Bool[np.ndarray, "answer window"], config: ReadoutConfig
) -> Float[np.ndarray, "answer class"]:
    """The mean probability of the windows inside; where there is none, there is no pulse."""
    has_pulse = readout.is_pulse(evidence.strength, evidence.pulse_share, config)
    strength = evidence.strength * has_pulse[:, None]
    if asked == "tracked":
        probability = readout.track(
            strength,
            evidence.rate_axis_bpm,
            config,
            step_s=evidence.step_s,
            window_s=evidence.window_s,
        )
    else:
        probability = readout.alone(strength)
    total = inside.astype(float) @ probability
    count = inside.sum(1, keepdims=True)
    nothing = np.arange(total.shape[1]) == total.shape[1] - 1
    return np.where(count > 0, total / np.maximum(count, 1), nothing)


def score_places(evidence: Evidence, truth: Truth, mask: Mask | None, *, by: str) -> ScoredMap | None:
    """`map_truth.against` of a source's map; None where there is no map or no mask.

    The truth of a window of the map is that of the windows of `truth`, interpolated to its centre.
    """
    if evidence.places is None or mask is None:
        return None
    rate_bpm = np.full(len(evidence.time_s), np.nan)
    if len(truth.time_s):
        rate_bpm = np.interp(evidence.time_s, truth.time_s, truth.rate_bpm)
    return map_truth.against(evidence.places, rate_bpm, mask, by=by)


def toolbox_answers(evidence: Evidence, asked: str, truth: Truth, config: ReadoutConfig) -> Answers:
    """One answer for the whole recording.

    Of a source with a signal (its evidence is one window, the whole recording), the signal's
    `metrics.toolbox_rate`. Others give no signal: the median of the answers of all their windows.
    """
    nothing = np.full(1, np.nan)
    if evidence.signal.shape[1]:
        signal = evidence.signal[0].astype(np.float64)
        snr = metrics.snr_db(signal, evidence.fps, truth.rate_bpm[0])
        rate = metrics.toolbox_rate(signal, evidence.fps)
        return Answers(np.array([rate]), nothing, nothing, nothing, np.array([snr]), nothing)
    unknown = np.full(len(evidence.time_s), np.nan)
    own = Truth(evidence.time_s, unknown, unknown, unknown)
    rates = window_answers(evidence, asked, own, config, window_s=evidence.window_s).rate_bpm
    median = _over_known(np.median, rates, np.ones((1, len(rates)), bool))
    return Answers(median, nothing, nothing, nothing, nothing, nothing)


class Scored(NamedTuple):
    """A recording as a method answered it: truth and answers, window by window.

    kind: of the truth, as in `datasets.Recording`. seconds_per_minute: of computing per minute of
    video. holds: of `intervals_hold`. map: where the source makes one and the recording has a mask.
    face_share: as of `Traces`.
    """

    method: str
    clip: str
    kind: str
    truth: Truth
    answers: Answers
    seconds_per_minute: float
    holds: Float[np.ndarray, "window level"] | None = None
    map: ScoredMap | None = None
    face_share: float = np.nan


class Scores(NamedTuple):
    """The measures of `pulse3d.metrics` over the windows of one recording or of several.

    n_windows: with a truth, or, without a pulse, all. answered: how many of them have an answer.
    mae_bpm, mae_low_bpm, mae_high_bpm: the mean over recordings of each one's MAE, and its 95 %
    interval. recordings_rmse_bpm: `metrics.rmse_over_recordings`. mae_beats_bpm: as mae_bpm, against the
    rate over the beats. truth_gap_bpm: the same of the two truths, the floor that no method can be below for
    both. All others pool the windows; snr_db and seconds_per_minute are means. nan: undefined.
    """

    recordings: int
    n_windows: int
    answered: int
    mae_bpm: float
    mae_low_bpm: float
    mae_high_bpm: float
    rmse_bpm: float
    recordings_rmse_bpm: float
    within_5bpm: float
    pearson: float
    snr_db: float
    coverage: float
    seconds_per_minute: float
    mae_beats_bpm: float
    within_5bpm_beats: float
    truth_gap_bpm: float
    calibration_error: float


def score(scored: list[Scored]) -> Scores:
    """The scores of one method over recordings with the same kind of truth, at least one."""
    truth = np.concatenate([s.truth.rate_bpm for s in scored])
    over_beats = np.concatenate([s.truth.beats_bpm for s in scored])
    answers = Answers(*map(np.concatenate, zip(*(s.answers for s in scored), strict=True)))
    recording = np.repeat(np.arange(len(scored)), [len(s.truth.rate_bpm) for s in scored])
    counted = np.isfinite(truth) | (scored[0].kind in (NO_PULSE, PULSELESS))
    low, high = metrics.mae_interval(truth, answers.rate_bpm, recording)
    known, near = np.isfinite(truth), abs(answers.rate_bpm - truth) <= TOLERANCE_BPM
    return Scores(
        recordings=len(scored),
        n_windows=int(counted.sum()),
        answered=int(np.isfinite(answers.rate_bpm[counted]).sum()),
        mae_bpm=metrics.mae_over_recordings(truth, answers.rate_bpm, recording),
        mae_low_bpm=low,
        mae_high_bpm=high,
        rmse_bpm=metrics.rmse(truth, answers.rate_bpm),
        recordings_rmse_bpm=metrics.rmse_over_recordings(truth, answers.rate_bpm, recording),
        within_5bpm=metrics.within(truth, answers.rate_bpm),
        pearson=metrics.pearson(truth, answers.rate_bpm),
        snr_db=_mean_finite(answers.snr_db),
        coverage=metrics.coverage(truth, answers.low_bpm, answers.high_bpm),
        seconds_per_minute=_mean_finite(np.array([s.seconds_per_minute for s in scored])),
        mae_beats_bpm=metrics.mae_over_recordings(over_beats, answers.rate_bpm, recording),
        within_5bpm_beats=metrics.within(over_beats, answers.rate_bpm),
        truth_gap_bpm=metrics.mae_over_recordings(truth, over_beats, recording),
        calibration_error=metrics.reliability(answers.confidence[known], near[known]).error,
    )


class Detection(NamedTuple):
    """How well windows with a pulse are told from windows without, 0...1.

    roc_area: of the log odds of a pulse. answered_at_1_percent, answered_at_5_percent: the share of windows
    with a pulse above the bar that lets 1 or 5 % of those without pass. answered, made_up: the shares of
    windows with a pulse, and without, that are answered as the method stands.
    """

    roc_area: float
    answered_at_1_percent: float
    answered_at_5_percent: float
    answered: float
    made_up: float


def detect(scored: list[Scored]) -> Detection:
    """The scores of one method on recordings with a pulse and on those of the pulseless set.

    Recordings without a measurable pulse, and scenes, are neither.
    """
    present, absent = detection_scores(scored)
    answered, made_up = (
        np.concatenate([np.zeros(0), *(np.isfinite(s.answers.rate_bpm) for s in group)])
        for group in _by_pulse(scored)
    )
    at_1_percent, at_5_percent = (
        _mean_finite(present > metrics.threshold(absent, share)) for share in (0.01, 0.05)
    )
    return Detection(
        roc_area=metrics.roc_area(present, absent),
        answered_at_1_percent=at_1_percent,
        answered_at_5_percent=at_5_percent,
        answered=_mean_finite(answered),
        made_up=_mean_finite(made_up),
    )


def detection_scores(
    scored: list[Scored],
) -> tuple[Float[np.ndarray, "present"], Float[np.ndarray, "absent"]]:
    """The log odds of all windows with a pulse, and of all without."""
    present, absent = (
        np.concatenate([np.zeros(0), *(s.answers.log_odds for s in group)]) for group in _by_pulse(scored)
    )
    return present, absent


def _by_pulse(scored: list[Scored]) -> tuple[list[Scored], list[Scored]]:
    return (
        [s for s in scored if s.kind not in (NO_PULSE, PULSELESS, SCENE)],
        [s for s in scored if s.kind == PULSELESS],
    )


def mean_map_scores(scored: list[Scored]) -> map_truth.MapScores:
    """The mean over recordings, those without a mask left out, of the scores of one method's maps."""
    scores = [s.map.scores for s in scored if s.map]
    return map_truth.MapScores(*(_mean_finite(np.array(column)) for column in zip(*scores, strict=True)))


def _read_traces(video: Video, summarise: Callable[[Frame], jax.Array]) -> Traces:
    started = time.perf_counter()
    stamps, colours = [], []
    for frame in video.frames():
        stamps.append(frame.time_s)
        colours.append(np.asarray(summarise(frame)))
    if not stamps:
        raise InputError(f"{video.name}: has no frames")
    grid = np.arange(int(stamps[-1] * TRACE_FPS + 1e-3) + 1) / TRACE_FPS
    colour = np.stack(colours)
    flat = [np.interp(grid, stamps, channel) for channel in colour.reshape(len(stamps), -1).T]
    resampled = np.stack(flat, -1).reshape(len(grid), *colour.shape[1:]).astype(np.float32)
    return Traces(resampled, stamps[-1], time.perf_counter() - started)


@partial(jax.jit, static_argnames=("clip", "method"))
def _skin_window(trace: jax.Array, clip: ClipConfig, method: str) -> tuple[jax.Array, jax.Array]:
    """The pulse signal of a window and its probability over rates."""
    signal = baselines.METHODS[method](trace, fps=clip.fps)
    return signal, _signal_spectrum(signal, clip)


@partial(jax.jit, static_argnames="clip")
def _signal_spectrum(signal: jax.Array | np.ndarray, clip: ClipConfig) -> jax.Array:
    return baselines.spectrum_probability(signal, clip.fps, clip.rate_axis_bpm)


def _centre(start: int, clip: ClipConfig) -> float:
    return start / clip.fps + clip.duration_s / 2


def _summarise_map(
    time_s: float, probability: Map, axis: np.ndarray, pool: Callable[[Map], np.ndarray]
) -> tuple:
    """A row of evidence: time, strength, share with a pulse, Eq. 8, median."""
    rates = readout.patch_rates(probability, axis)
    known = rates[np.isfinite(rates)]
    median = float(np.median(known)) if len(known) else np.nan
    return (
        time_s,
        pool(probability),
        len(known) / rates.size,
        readout.equation_8(probability, axis),
        median,
    )


def _place_row(probability: Map, axis: np.ndarray, shown: np.ndarray, confidence: np.ndarray) -> tuple:
    """What one map says of every place, in the order of `map_truth.Places`."""
    likeliest = axis[probability[..., :-1].argmax(-1)]
    return tuple(np.float32(v) for v in (shown, likeliest, 1 - probability[..., -1], confidence))


def _places(frame_px: tuple[int, int], centres_px: Centres, maps: list[tuple]) -> map_truth.Places | None:
    """What all maps say of every place; None without a map."""
    if not maps:
        return None
    columns = (np.stack(column) for column in zip(*maps, strict=True))
    return map_truth.Places(np.array(frame_px, float), *centres_px, *columns)


def _evidence(
    rows: list[tuple],
    signals: list,
    clip: ClipConfig,
    step_s: float,
    read: Traces,
    started: float,
    maps: map_truth.Places | None = None,
) -> Evidence:
    if not rows:
        raise InputError(f"{read.end_s:.1f} s long; one window needs {clip.duration_s:g} s")
    columns = [np.array(column, np.float64) for column in zip(*rows, strict=True)]
    time_s, strength, pulse_share, equation_8_bpm, median_bpm = columns
    return Evidence(
        time_s=time_s,
        rate_axis_bpm=clip.rate_axis_bpm,
        strength=strength,
        pulse_share=pulse_share,
        equation_8_bpm=equation_8_bpm,
        median_bpm=median_bpm,
        signal=np.array(signals, np.float32) if signals else np.zeros((len(rows), 0), np.float32),
        window_s=clip.duration_s,
        step_s=step_s,
        fps=clip.fps,
        end_s=read.end_s,
        seconds=read.seconds + time.perf_counter() - started,
        places=maps,
        face_share=read.face_share,
    )


def _snr(evidence: Evidence, truth: Truth, inside: np.ndarray) -> Windows:
    """Mean SNR in dB of the signals inside every window of the truth."""
    snr = np.full(len(truth.time_s), np.nan)
    if evidence.signal.shape[1]:
        for index, (row, rate) in enumerate(zip(inside, truth.rate_bpm, strict=True)):
            values = [metrics.snr_db(signal, evidence.fps, rate) for signal in evidence.signal[row]]
            snr[index] = _mean_finite(np.array(values))
    return snr


def _over_known(average: Callable, values: Windows, chosen: np.ndarray) -> np.ndarray:
    """The average of the values that every row of `chosen` (row, window) chooses; nan if none is known."""
    groups = (values[row & np.isfinite(values)] for row in chosen)
    return np.array([average(group) if len(group) else np.nan for group in groups])


def _log_odds(pulse: Windows, none: Windows) -> Windows:
    """The logarithm of the odds of a pulse against none, within what a float can hold."""
    least = np.finfo(float).tiny
    return np.log(np.maximum(pulse, least)) - np.log(np.maximum(none, least))


def _mean_finite(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan
