"""The pictures of a study, written into its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pulse3d import files
from pulse3d.evaluation.recordings import NO_PULSE, PPG, PULSELESS, SCENE
from pulse3d.evaluation.scores import Scored
from pulse3d.showing import evaluation_figures, figures


def draw_study(out: Path, scored: list[Scored]) -> None:
    """Writes the figures; those of agreement use the recordings with a contact pulse, if any."""
    methods = list(dict.fromkeys(s.method for s in scored))
    if any(s.kind == PULSELESS for s in scored):
        figures.save_figure(evaluation_figures.detection_figure(scored, methods), out / "detection.png")
    scored = [s for s in scored if s.kind != PULSELESS]
    for clip in dict.fromkeys(s.clip for s in scored):
        figure = evaluation_figures.rate_figure([s for s in scored if s.clip == clip], methods)
        figures.save_figure(figure, out / f"rate_{files.safe_name(clip)}.png", dpi=110)
    for clip in dict.fromkeys(s.clip for s in scored if s.map):
        figure = evaluation_figures.map_figure([s for s in scored if s.clip == clip and s.map])
        figures.save_figure(figure, out / f"map_{files.safe_name(clip)}.png", dpi=110)
    known = [s for s in scored if s.kind not in (NO_PULSE, SCENE)]
    contact = [s for s in known if s.kind == PPG] or known
    if not known:
        return
    figures.save_figure(evaluation_figures.errors_figure(known, methods), out / "errors.png")
    figures.save_figure(evaluation_figures.bland_altman_figure(contact, methods), out / "bland_altman.png")
    figures.save_figure(evaluation_figures.scatter_figure(contact, methods), out / "scatter.png")
    if any(np.isfinite(s.answers.confidence).any() for s in contact):
        figures.save_figure(evaluation_figures.reliability_figure(contact, methods), out / "reliability.png")
