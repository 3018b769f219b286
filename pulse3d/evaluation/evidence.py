"""Evidence from a recording: how strongly a source supports every rate, in windows of its own length.

It is costly and does not depend on the read-out: one evidence serves many read-outs (`answers`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from jaxtyping import Float

from pulse3d import stream
from pulse3d.config import CLASSICAL, ClipConfig, Config
from pulse3d.errors import InputError
from pulse3d.evaluation import map_truth, peers
from pulse3d.evaluation.metrics import TOLERANCE_BPM, Windows
from pulse3d.evaluation.traces import TRACE_FPS, Centres, Traces
from pulse3d.mapping import classical
from pulse3d.mapping.mapper import Mapper
from pulse3d.mapping.tiles import Map
from pulse3d.network.weights_file import Weights
from pulse3d.reading import places, readout, steadiness
from pulse3d.settings import to_dict
from pulse3d.video import Frame, Video


class Evidence(NamedTuple):
    """What a source finds in every window of its own length; `time_s`: the windows' centres.

    strength: how strongly each window supports every rate, from `readout.pool`; zeros for no evidence.
    pulse_share: share of the patches with a pulse, 0...1. equation_8_bpm, median_bpm: of the
    patches' most likely rates; nan where no patch has a pulse. signal: the pulse signal; empty
    if the source has none. window_s, step_s: of the windows. fps: frames per second of the
    resampled video. end_s: time stamp of the video's last frame. seconds: computing time,
    decoding included. places: the map at every place; None without a map. face_share: as in
    `Traces`.
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
    """The evidence as named arrays, for a file."""
    arrays = {k: np.asarray(v) for k, v in evidence._asdict().items() if k != "places"}
    known = evidence.places._asdict() if evidence.places else {}
    return arrays | {f"places_{k}": v for k, v in known.items()}


def from_arrays(arrays: dict[str, np.ndarray]) -> Evidence:
    """The inverse of `to_arrays`."""
    values: dict[str, Any] = {k: v if v.ndim else float(v) for k, v in arrays.items()}
    fields = {name: values.pop(f"places_{name}", None) for name in map_truth.Places._fields}
    known = None if fields["rate_bpm"] is None else map_truth.Places(**fields)
    return Evidence(**values, places=known)


def skin_evidence(traces: Traces, method: str, *, window_s: float | None, step_s: float) -> Evidence:
    """Evidence of GREEN, CHROM or POS from the skin's trace; always a pulse unless that is constant or grey.

    The probability is `classical.spectrum_probability`. window_s: None makes one window of the
    whole recording. Raises InputError for a recording shorter than one window.
    """
    started = time.perf_counter()
    clip = baseline_clip(len(traces.colour) / TRACE_FPS if window_s is None else window_s)
    axis, rows, signals = clip.rate_axis_bpm, [], []
    for start in window_starts(len(traces.colour), clip, step_s):
        trace = traces.colour[start : start + clip.frames]
        signal, spectrum = _skin_window(trace, clip, method)
        moves = not classical.is_still(trace, signal)
        peak = axis[spectrum.argmax()] if moves else np.nan
        rows.append((_centre(start, clip), spectrum * moves, float(moves), peak, peak))
        signals.append(signal)
    return _evidence(rows, signals, clip, step_s, traces, started)


def patch_evidence(traces: Traces, method: str, *, window_s: float, step_s: float) -> Evidence:
    """Evidence of GREEN, CHROM or POS from the trace of every patch, by `classical.map_traces`.

    Raises InputError for a recording shorter than one window.
    """
    started = time.perf_counter()
    clip = baseline_clip(window_s)
    axis, rows, maps = clip.rate_axis_bpm, [], []
    for start in window_starts(len(traces.colour), clip, step_s):
        window = traces.colour[start : start + clip.frames]
        probability = np.asarray(classical.map_traces(window, clip, method))
        rows.append(_summarise_map(_centre(start, clip), probability, axis, readout.combine))
        shown = readout.patch_rates(probability, axis)
        sure = readout.patch_confidence(probability, axis, TOLERANCE_BPM)
        maps.append(_place_row(probability, axis, shown, sure))
    return _evidence(
        rows, [], clip, step_s, traces, started, _places(traces.frame_px, traces.centres_px, maps)
    )


def peer_evidence(video: Video, source: str, *, window_s: float | None, step_s: float) -> Evidence:
    """Evidence of a peer, `peers.ask`, in the same windows as a baseline's.

    The peer's rate is equation_8_bpm and median_bpm, its quality is pulse_share; the probability is
    `classical.spectrum_probability` of its signal. window_s: None makes one window of the whole recording.
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
        if not np.ptp(signal):  # no face found; the stated rate is the bottom of the axis
            spectrum, quality, rate = 0 * spectrum, 0.0, np.nan
        rows.append((start_s + clip.duration_s / 2, spectrum, quality, rate, rate))
        signals.append(signal)
    return _evidence(rows, signals, clip, step_s, Traces(np.zeros((0, 3)), peer.end_s, peer.seconds), started)


def network_evidence(video: Video, mapper: Mapper, *, step_s: float) -> Evidence:
    """Evidence of a network: its maps over windows of its own length.

    mapper: for frames of the video's size. Raises InputError for a video that cannot be read or is
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
    seen: list[places.Seen] = []
    for result in stream.map_windows(frames(), mapper, step_s=step_s, start_s=0.0):
        believed = steadiness.believe(result.probability, result.trust, odds=config.odds)
        rows.append(_summarise_map(result.time_s, believed, axis, pool))
        maps.append(_place_row(result.probability, axis, result.rate_bpm, result.confidence))
        if config.readout.places:
            stored = (result.probability.astype(np.float16), result.colour.astype(np.float16))
            seen.append(places.Seen(*stored, result.trust))
    read = Traces(np.zeros((0, 3)), last_s[0], 0.0)
    found = _places((video.height, video.width), mapper.layout.centres_px(), maps)
    evidence = _evidence(rows, [], config.clip, step_s, read, started, found)
    return _with_places(evidence, seen, config) if seen else evidence


def _with_places(evidence: Evidence, windows: list[places.Seen], config: Config) -> Evidence:
    """The evidence of the places that carry the frame's pulse, by `places.find_pulses`."""
    pulses = places.find_pulses(
        lambda: windows,
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
    """The length and rates of the baselines' windows; raises InputError if they are too short."""
    return replace(CLASSICAL["pos"].clip, fps=TRACE_FPS, frames=round(window_s * TRACE_FPS))


def window_starts(frames: int, clip: ClipConfig, step_s: float) -> range:
    """The first frames of all windows in a recording of `frames` frames, one every `step_s`."""
    return range(0, frames - clip.frames + 1, round(step_s * clip.fps))


def require_windows(clip: ClipConfig, *, window_s: float, step_s: float) -> None:
    """Raises InputError if a source of such clips cannot answer windows of `window_s` every `step_s`.

    Its own windows must fit into them, and the step must be a whole number of its frames, so that
    the centres of both coincide.
    """
    if clip.duration_s > window_s + 0.5 / clip.fps:
        raise InputError(f"--window_s={window_s:g}: this source needs windows of {clip.duration_s:g} s")
    frames = step_s * clip.fps
    if round(frames) < 1 or abs(frames - round(frames)) > 1e-6:
        raise InputError(f"--step_s={step_s:g}: not a whole number of frames at {clip.fps:g} fps")


def fingerprint(weights: Weights) -> str:
    """A hash of the parameters and of the clip settings: the same for the same network."""
    digest = hashlib.sha256(json.dumps(to_dict(weights.config)["clip"]).encode())
    for name, value in sorted(traverse_util.flatten_dict(weights.params, sep="/").items()):
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


@partial(jax.jit, static_argnames=("clip", "method"))
def _skin_window(trace: jax.Array, clip: ClipConfig, method: str) -> tuple[jax.Array, jax.Array]:
    """The pulse signal of a window and its probability over rates."""
    signal = classical.METHODS[method](trace, fps=clip.fps)
    return signal, _signal_spectrum(signal, clip)


@partial(jax.jit, static_argnames="clip")
def _signal_spectrum(signal: jax.Array | np.ndarray, clip: ClipConfig) -> jax.Array:
    return classical.spectrum_probability(signal, clip.fps, clip.rate_axis_bpm)


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
    """The values of one map at every place, in the order of `map_truth.Places`."""
    likeliest = axis[probability[..., :-1].argmax(-1)]
    return tuple(np.float32(v) for v in (shown, likeliest, 1 - probability[..., -1], confidence))


def _places(frame_px: tuple[int, int], centres_px: Centres, maps: list[tuple]) -> map_truth.Places | None:
    """The values of all maps at every place; None without a map."""
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
