"""Results as tables of pandas and as labelled arrays of xarray (the extra `xarray`)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from pulse3d.errors import InputError
from pulse3d.result import Result

if TYPE_CHECKING:
    import pandas
    import xarray

OF_WINDOWS = ("pulse_rate_bpm", "low_bpm", "high_bpm", "pulse_confidence", "equation_8_bpm", "trust")
OF_PLACES = ("rate_bpm", "confidence", "no_pulse", "network_no_pulse", "amplitude_percent", "snr_db")
UNITS = {"bpm": "1/min", "percent": "%", "db": "dB", "px": "px", "s": "s"}  # by the endings of names
LONG_NAMES = {
    "time_s": "centre of the window",
    "pulse_rate_bpm": "pulse rate of the frame",
    "low_bpm": "lower end of the interval of the pulse rate",
    "high_bpm": "upper end of the interval of the pulse rate",
    "pulse_confidence": "confidence in the pulse rate",
    "equation_8_bpm": "mean rate of the places whose likeliest class is a rate",
    "trust": "how far a rate that most of the frame has is believed",
    "rate_bpm": "pulse rate of the place",
    "confidence": "probability that the place carries a pulse",
    "no_pulse": "probability that the place carries no pulse",
    "network_no_pulse": "the same from the network alone",
    "amplitude_percent": "amplitude of green at the pulse rate",
    "snr_db": "signal-to-noise ratio of green at the pulse rate",
    "probability": "probability of every rate",
    "rate_axis_bpm": "pulse rate",
    "row_px": "row of the place on the frame",
    "col_px": "column of the place on the frame",
    "frame_s": "time of the frame",
    "bvp_percent": "pulse wave of the frame (blood volume pulse), change of green",
}


def to_dataframe(result: Result) -> pandas.DataFrame:
    """A row per window, with its centre `time_s` as index; raises InputError without pandas."""
    table = {name: getattr(result, name) for name in OF_WINDOWS}
    index = _import("pandas").Index(result.time_s, name="time_s")
    return _import("pandas").DataFrame(table, index=index)


def to_xarray(result: Result) -> xarray.Dataset:
    """All arrays of a result with their coordinates and units; raises InputError without xarray.

    Dimensions: time_s (windows), row_px and col_px (places), rate_axis_bpm (rates of `probability`), frame_s
    (frames of the pulse wave `bvp_percent`). `to_netcdf` of it writes one file for other programs.
    """
    wave = result.bvp
    places = ("time_s", "row_px", "col_px")
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        **{name: (("time_s",), getattr(result, name)) for name in OF_WINDOWS},
        # NetCDF of version 3, which scipy writes, knows no half precision
        **{name: (places, getattr(result, name).astype(np.float32)) for name in OF_PLACES},
        "probability": ((*places, "rate_axis_bpm"), result.probability.astype(np.float32)),
        "bvp_percent": (("frame_s",), wave.percent),
    }
    names = ("time_s", "row_px", "col_px", "rate_axis_bpm", "frame_s")
    axes = {name: getattr(result, name) for name in names}
    # NetCDF knows numbers and texts alone
    said = {name: value for name, value in result.summary.items() if isinstance(value, (int, float, str))}
    whole = {name: int(value) if isinstance(value, bool) else value for name, value in said.items()}
    dataset = _import("xarray").Dataset(arrays, coords=axes, attrs=whole)
    for name, variable in dataset.variables.items():
        variable.attrs["units"] = UNITS.get(str(name).rsplit("_", 1)[-1], "1")
        variable.attrs["long_name"] = LONG_NAMES[str(name)]
    return dataset


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f"Result: this needs {name}; python -m pip install {name}") from None
