"""Reference rates beside a result: what was measured by something else at the same time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from pulse3d.errors import InputError
from pulse3d.evaluation import metrics
from pulse3d.evaluation.contact import device_rates
from pulse3d.result import Result


class Truth(NamedTuple):
    """Reference rates to show beside the result: times in s, rates in bpm (nan where not known)."""

    time_s: Float[np.ndarray, "time"]
    rate_bpm: Float[np.ndarray, "time"]


def read_truth(path: Path) -> Truth:
    """Reads reference rates from a CSV: after a header, time in s and rate in bpm as the first columns.

    Raises InputError for anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an empty table, which is refused below
            table = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=(0, 1), ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a table of rates ({error}); expected a header, then time in s, rate in bpm"
        ) from None
    if not len(table) or not np.isfinite(table[:, 0]).all():
        raise InputError(f"{path}: holds no rates; expected a header, then time in s, rate in bpm")
    return Truth(table[:, 0], table[:, 1])


def compare(found: Result, truth: Truth) -> dict[str, Any]:
    """How far a result is from the truth, as entries for its summary.

    A window's truth is the mean of the reference rates in it (`contact.device_rates`). truth_windows: those
    with a truth; truth_mae_bpm: mean absolute error of the answered ones among them, None without any;
    truth_within_5bpm: share of all of them within 5 bpm, where no answer is a miss, None without any.
    """
    expected = device_rates(truth.rate_bpm, truth.time_s, found.time_s, length_s=found.summary["window_s"])
    mae = metrics.mean_finite(abs(found.pulse_rate_bpm - expected))
    within = metrics.within(expected, found.pulse_rate_bpm)
    return {
        "truth_windows": int(np.isfinite(expected).sum()),
        "truth_mae_bpm": round(mae, 2) if np.isfinite(mae) else None,
        "truth_within_5bpm": round(within, 4) if np.isfinite(within) else None,
    }
