"""A recording: a video and what is known of the pulse in it.

Files are opened only when needed. InputError is raised then if one is missing or damaged, so that the caller
can name the recording, skip it and go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pulse3d import video
from pulse3d.errors import InputError
from pulse3d.evaluation.map_truth import Mask

Samples = Float[np.ndarray, "sample"]

PPG, CONSENSUS, DEVICE, NO_PULSE = "ppg", "consensus", "device", "no measurable pulse"  # the kinds of truth
SCENE = "scene"  # the kind of generated scenes: places with rates of their own
PULSELESS = "pulseless set"  # the kind of `pulseless`: every answer is made up
SANE_BPM = (30.0, 240.0)  # outside this range, the device has lost the finger
REPAIR = "copy the recording again or leave it out"


class Reference(NamedTuple):
    """A contact pulse wave: values (any unit) at times in seconds on the video's clock, ascending.

    pulse: nan if the device gives only its rate. rate_bpm: the device's own rate at these times; nan
    where it has none or lost the finger.
    """

    time_s: Samples
    pulse: Samples
    rate_bpm: Samples


@dataclass(frozen=True)
class Recording:
    """A video and what is known of the pulse in it.

    truth: "ppg" (a contact pulse wave: `reference`), "consensus" (no contact, one rate for the whole
    video: `rate_bpm`, nan otherwise), "device" (an oximeter's rate: one, `rate_bpm`, or several:
    `reference`), "no measurable pulse", "scene" (the rates are in the mask), or "pulseless set".
    open_video, reference, mask: read the files; they raise InputError if these are missing or damaged.
    `reference` returns None without a contact measurement, `mask` without a mask.
    """

    name: str
    dataset: str
    open_video: Callable[[], video.Video]
    reference: Callable[[], Reference | None]
    truth: str = PPG
    rate_bpm: float = float("nan")
    mask: Callable[[], Mask | None] = lambda: None


def open_file(path: Path) -> video.Video:
    """The video of a recording; raises InputError where it is missing."""
    return video.open_video(existing(path))


def existing(path: Path) -> Path:
    """Returns the path; raises InputError if nothing is there."""
    if not path.exists():
        raise InputError(f"{path}: missing; {REPAIR}")
    return path


def read_table(path: Path, *, columns: int | None = None, skip: int = 0) -> Float[np.ndarray, "row column"]:
    """Reads numbers separated by spaces or commas, a row per line, after `skip` lines."""
    existing(path)
    try:
        lines = path.read_text().replace(",", " ").splitlines()[skip:]
        table = np.array([line.split() for line in lines if line.strip()], np.float64)
    except (OSError, ValueError):
        raise InputError(f"{path}: not a table of numbers; {REPAIR}") from None
    if table.ndim != 2 or columns not in (None, table.shape[1]):
        raise InputError(f"{path}: shape {table.shape}; expected {columns or 'several'} columns; {REPAIR}")
    return table


def make_reference(path: Path, time_s: Samples, pulse: Samples, rate_bpm: Samples | None = None) -> Reference:
    """A checked reference; the device's drop-outs are nan."""
    if len(pulse) < 2 or time_s.shape != pulse.shape or not np.isfinite([time_s, pulse]).all():
        raise InputError(f"{path}: holds no pulse, or a broken one; {REPAIR}")
    if (np.diff(time_s) < 0).any():
        raise InputError(f"{path}: its clock runs backwards; {REPAIR}")
    if rate_bpm is None:
        return Reference(time_s, pulse, np.full(len(pulse), np.nan))
    low, high = SANE_BPM
    return Reference(time_s, pulse, np.where((rate_bpm >= low) & (rate_bpm <= high), rate_bpm, np.nan))
