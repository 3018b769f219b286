"""A study: methods run on recordings, their evidence kept in files, and scored.

Evidence is costly and does not depend on the read-out, so it is computed once and kept with its settings: an
interrupted study resumes, and other read-outs cost nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pulse3d import __version__, archive, files, video
from pulse3d.config import CLASSICAL, ReadoutConfig
from pulse3d.errors import InputError
from pulse3d.evaluation import evidence as gather
from pulse3d.evaluation import faces, map_truth, peers, traces
from pulse3d.evaluation.answers import (
    intervals_hold,
    toolbox_answers,
    toolbox_truth,
    window_answers,
    window_truth,
)
from pulse3d.evaluation.evidence import Evidence
from pulse3d.evaluation.methods import BASELINE_MAPS, BASELINES, Method, is_peer
from pulse3d.evaluation.recordings import Recording
from pulse3d.evaluation.scores import Scored, score_places
from pulse3d.mapping.mapper import Mapper, make_mapper
from pulse3d.network import weights_file
from pulse3d.settings import override_use

EVIDENCE = 3  # version of the evidence files; others are computed again


@dataclass(frozen=True)
class Study:
    """How recordings are evaluated, as set by the flags of `launch.evaluate`.

    window_s, step_s: of the answers. toolbox: one answer per recording. stride_px, patch_px: of maps, and of
    the patches of baselines. roi: one of `methods.REGIONS`. settings: of map and readout, like
    "map.stride_px=4".
    """

    window_s: float = 10.0
    step_s: float = 1.0
    toolbox: bool = False
    stride_px: int | None = None
    roi: str = "face"
    patch_px: int = 24
    settings: tuple[str, ...] = ()


class Source(NamedTuple):
    """Computes evidence from a video; with its settings, and the config of its read-out."""

    compute: Callable[[video.Video], Evidence]
    settings: dict[str, Any]
    readout: ReadoutConfig


def make_sources(methods: Iterable[Method], study: Study) -> dict[str, Source]:
    """The sources of the methods by name; raises InputError if one cannot be used as asked."""
    sources = {}
    for method in methods:
        if study.toolbox and method.source in BASELINES and method.name != method.source:
            raise InputError(f"method {method.name}: --protocol=toolbox takes the whole signal, no read-out")
        if method.source not in sources:
            sources[method.source] = _make_source(method.source, study)
    return sources


# Baselines of the same recording follow each other and share its traces.
_region_traces = functools.lru_cache(maxsize=1)(traces.region_traces)
_patch_traces = functools.lru_cache(maxsize=1)(traces.patch_traces)


def _make_source(name: str, study: Study) -> Source:
    """A baseline, another program's model, or a network with weights by that name."""
    if name in (*BASELINES, *BASELINE_MAPS):
        return _make_baseline(name, study)
    if is_peer(name):
        return _make_peer(name, study)
    return _make_network(name, study)


def _make_baseline(name: str, study: Study) -> Source:
    """GREEN, CHROM or POS on the skin or on patches."""
    step_s, window_s, patch_px = study.step_s, study.window_s, study.patch_px
    gather.require_windows(gather.baseline_clip(window_s), window_s=window_s, step_s=step_s)
    read = _baseline_readout(study)
    if name in BASELINES:
        length_s, region = None if study.toolbox else window_s, study.roi
        if region == "face":
            faces.make_detector()  # raises InputError at once if scikit-image is missing
        return Source(
            lambda source: gather.skin_evidence(
                _region_traces(source, region), name, window_s=length_s, step_s=step_s
            ),
            {"step_s": step_s, "window_s": length_s, "roi": region},
            read,
        )
    stride_px = study.stride_px or patch_px
    return Source(
        lambda source: gather.patch_evidence(
            _patch_traces(source, patch_px=patch_px, stride_px=stride_px),
            name.removesuffix("_map"),
            window_s=window_s,
            step_s=step_s,
        ),
        {"step_s": step_s, "window_s": window_s, "patch_px": patch_px, "stride_px": stride_px},
        read,
    )


def _make_peer(name: str, study: Study) -> Source:
    """A model of open-rppg."""
    step_s, window_s = study.step_s, study.window_s
    length_s = None if study.toolbox else window_s
    gather.require_windows(gather.baseline_clip(window_s), window_s=window_s, step_s=step_s)
    peers.require(name)
    return Source(
        lambda source: gather.peer_evidence(source, name, window_s=length_s, step_s=step_s),
        {"step_s": step_s, "window_s": length_s},
        _baseline_readout(study),
    )


def _baseline_readout(study: Study) -> ReadoutConfig:
    """The settings with which a spectrum is read out; `readout.method` in the study's settings is ignored.

    A spectrum is a probability, not a likelihood ratio: its strength is no evidence of a pulse.
    """
    settings = override_use(CLASSICAL["pos"], study.settings)
    return dataclasses.replace(settings.readout, method="votes", no_pulse_prior=0.0, evidence_power=0.0)


def _make_network(name: str, study: Study) -> Source:
    """A network's maps."""
    step_s = study.step_s
    weights = weights_file.load_weights(name)
    weights = weights._replace(config=override_use(weights.config, study.settings))
    clip, stride_px = weights.config.clip, study.stride_px
    gather.require_windows(clip, window_s=clip.duration_s if study.toolbox else study.window_s, step_s=step_s)

    @functools.cache
    def mapper(shape: tuple[int, int]) -> Mapper:
        return make_mapper(weights.params, weights.config, shape, stride_px=stride_px)

    def compute(source: video.Video) -> Evidence:
        return gather.network_evidence(source, mapper((source.height, source.width)), step_s=step_s)

    return Source(
        compute,
        {
            "step_s": step_s,
            "weights": gather.fingerprint(weights),
            "map": dataclasses.asdict(weights.config.map),
            "readout": weights.config.readout.method,
            "stride_px": stride_px,
        },
        weights.config.readout,
    )


def collect(
    recording: Recording, sources: dict[str, Source], folder: Path, *, root: str, done: Callable[[], None]
) -> list[str]:
    """Computes the evidence of a recording that the folder lacks; returns the errors, one line each.

    root: folder of the data set, stored with the evidence. done: called after every source.
    """
    opened, errors = None, dict[str, list[str]]()
    for name, source in sources.items():
        path, made_by = _evidence_file(recording, name, source, folder, root=root)
        if archive.read_npz(path, made_by=made_by) is None:
            try:
                if opened is None:
                    opened = _open(recording)
                archive.write_npz(path, gather.to_arrays(source.compute(opened)), made_by=made_by)
            except InputError as error:
                errors.setdefault(str(error), []).append(name)
        done()
    return [f"({', '.join(names)}) {message}" for message, names in errors.items()]


def _open(recording: Recording) -> video.Video:
    """Opens the video; raises InputError also for a damaged truth or mask, before any computation."""
    recording.reference()
    mask, opened = recording.mask(), recording.open_video()
    if mask is not None:
        map_truth.check_size(mask, (opened.height, opened.width))
    return opened


def score_recording(
    recording: Recording,
    methods: list[Method],
    sources: dict[str, Source],
    folder: Path,
    study: Study,
    *,
    root: str,
    place_score: str,
) -> list[Scored]:
    """Truth and answers of all methods whose evidence is in the folder.

    root: as in `collect`. place_score: what ranks the places of maps, one of `map_truth.SCORES`.
    """
    truth_of = functools.cache(
        functools.partial(toolbox_truth, recording)
        if study.toolbox
        else functools.partial(window_truth, recording, window_s=study.window_s, step_s=study.step_s)
    )
    scored = []
    for method in methods:
        source = sources[method.source]
        path, made_by = _evidence_file(recording, method.source, source, folder, root=root)
        arrays = archive.read_npz(path, made_by=made_by)
        if arrays is None:
            continue
        evidence = gather.from_arrays(arrays)
        truth = truth_of(evidence.end_s)
        holds, mapped = None, None
        if study.toolbox:
            answers = toolbox_answers(evidence, method.readout, truth, source.readout)
        else:
            asked = evidence, method.readout, truth, source.readout
            answers = window_answers(*asked, window_s=study.window_s)
            holds = intervals_hold(*asked, window_s=study.window_s)
            mapped = score_places(evidence, truth, recording.mask(), by=place_score)
        took = 60 * evidence.seconds / evidence.end_s
        named = method.name, recording.name, recording.truth
        scored.append(Scored(*named, truth, answers, took, holds, mapped, evidence.face_share))
    return scored


def _evidence_file(
    recording: Recording, name: str, source: Source, folder: Path, *, root: str
) -> tuple[Path, dict[str, Any]]:
    """The path of the evidence, and the settings that it must have been computed with."""
    made_by = source.settings | {
        "source": name,
        "dataset": recording.dataset,
        "root": os.path.abspath(root),
        "recording": recording.name,
        "pulse3d": __version__,
        "evidence": EVIDENCE,
    }
    return folder / f"{files.safe_name(name)},{files.safe_name(recording.name)}.npz", made_by
