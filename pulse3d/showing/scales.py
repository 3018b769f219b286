"""The colours and limits of all that is shown."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8

RATE_COLOURS = "viridis"
CONFIDENCE_COLOURS = "cividis"
AMPLITUDE_COLOURS = "magma"
PHASE_COLOURS = "twilight_shifted"  # circular; pale at 0
DEVIATION_COLOURS = "RdBu_r"
SNR_DB = (-15.0, 10.0)
FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
CHANNEL_COLOURS = ("#cc3311", "#117733", "#4477aa")  # red, green, blue
# For methods, or the frame and its regions, in the order given; safe for the colour-blind (Okabe and Ito,
# 2008).
METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "0.45")


def colour_table(name: str) -> UInt8[np.ndarray, "256 3"]:
    """The 256 colours of a scale, RGB."""
    return matplotlib.colormaps[name](np.linspace(0, 1, 256), bytes=True)[:, :3]


def rate_range(rate_bpm: Float[np.ndarray, "..."]) -> tuple[float, float]:
    """Limits of an axis in bpm: 2nd to 98th percentile of the rates, at least 40 bpm wide."""
    known = np.isfinite(rate_bpm)
    low, high = np.percentile(rate_bpm[known], [2, 98]) if known.any() else (60.0, 100.0)
    centre, half = (low + high) / 2, max(high - low, 40.0) / 2
    return float(max(centre - half, 0.0)), float(centre + half)
