"""The result of mapping a video: named arrays with units, and the folder that holds them.

A rate is nan where there is no pulse. `pipeline` makes results. The methods of `Result` that draw import the
plotting code only when they are called, so a result can be used without it.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from pulse3d import archive, files
from pulse3d.errors import InputError, expect_kind
from pulse3d.reading import phase, pulse_wave
from pulse3d.reading.beats import Beats, HeartRateVariability, find_beats, heart_rate_variability
from pulse3d.reading.pulse_wave import PulseWave
from pulse3d.reading.regions import Region, from_arrays

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pulse3d.video import Video

REGION_ARRAYS = ("region_places", "region_readings")  # of map.npz, read when they are asked for
FILES = ("rates.csv", "map.npz", "summary.json")

TEMPORARY = "pulse3d-temporary-"  # the names of the folders of results that nobody named begin so
WHITE = 65535  # of `green` as it is stored
LIMITS_BPM = (40.0, 140.0)  # of the colours of rates, the same for all videos
SAME_BPM = 5.0  # so near to the frame's rate, a place has the frame's pulse
MAX_BYTES = 2**32  # of the arrays of a map.npz that are read whole; `probability` is not


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The map of a video and its readings, one row per window.

    frame: the video's first image, uint8 or float of 0...1. time_s: centres of the windows.
    pulse_rate_bpm, low_bpm, high_bpm, pulse_confidence: one rate per window, its interval, and its
    confidence (0...1). equation_8_bpm: the paper's read-out, for comparison: the mean rate
    of the places whose likeliest class is a rate. trust: how far a rate that most of the frame has
    is believed, 0...1; near 0 where the light of the whole frame changes (`reading.steadiness`).
    rate_bpm, confidence, no_pulse: for every place, its rate (nan: none), the confidence, and the
    probability of "no pulse". network_no_pulse: the same from the network alone, window by window.
    amplitude_percent, snr_db: how strongly and how clearly each place pulsates at the window's rate
    (`amplitude.at_rate`). row_px, col_px: positions of the places on the frame. rate_axis_bpm: the rates of
    `probability`. frame_s: times of the frames of `pulse_waves`. summary: as in summary.json, with units in
    the keys. folder: holds the files.
    """

    frame: Shaped[np.ndarray, "height width 3"]
    time_s: Float[np.ndarray, "window"]
    pulse_rate_bpm: Float[np.ndarray, "window"]
    low_bpm: Float[np.ndarray, "window"]
    high_bpm: Float[np.ndarray, "window"]
    pulse_confidence: Float[np.ndarray, "window"]
    equation_8_bpm: Float[np.ndarray, "window"]
    trust: Float[np.ndarray, "window"]
    rate_bpm: Float[np.ndarray, "window row col"]
    confidence: Float[np.ndarray, "window row col"]
    no_pulse: Float[np.ndarray, "window row col"]
    network_no_pulse: Float[np.ndarray, "window row col"]
    amplitude_percent: Float[np.ndarray, "window row col"]
    snr_db: Float[np.ndarray, "window row col"]
    row_px: Float[np.ndarray, "row"]
    col_px: Float[np.ndarray, "col"]
    rate_axis_bpm: Float[np.ndarray, "rate"]
    frame_s: Float[np.ndarray, "time"]
    summary: dict[str, Any]
    folder: Path

    def __str__(self) -> str:
        """The result in five lines."""
        said, (windows, rows, cols) = self.summary, self.rate_bpm.shape
        rate = "no pulse found"
        if np.isfinite(self.median_bpm):
            low, high = (np.nanmedian(values) for values in (self.low_bpm, self.high_bpm))
            interval = f"{said['interval']:.0%} interval {low:.0f} to {high:.0f}"
            rate = f"{self.median_bpm:.1f} bpm, median over windows ({interval})"
        answered = np.isfinite(self.pulse_rate_bpm).sum()
        living, axis = np.isfinite(self.rate_bpm).mean(), self.rate_axis_bpm
        kept = " until this result is gone (save keeps them)" * self.folder.name.startswith(TEMPORARY)
        return f"""\
{Path(said["video"]).name}: {said["frame_width_px"]}x{said["frame_height_px"]} px, \
{said["video_duration_s"]:.1f} s, mapped by {said["weights"]}
pulse rate: {rate}
{answered} of {windows} windows of {said["window_s"]:g} s with a pulse, in {living:.0%} of the frame
maps: {windows} windows x {rows} rows x {cols} columns, {len(axis)} rates of {axis[0]:g} to {axis[-1]:g} bpm
files in {self.folder}{kept}; not a medical device"""

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        """Whether all arrays, nan included, and the summaries are equal, but for the seconds of computing."""
        if not isinstance(other, Result):
            return NotImplemented
        names = [field.name for field in fields(Result) if field.name not in ("summary", "folder")]
        pairs = ((getattr(self, name), getattr(other, name)) for name in names)
        said, other_said = ({**summary, "seconds": 0} for summary in (self.summary, other.summary))
        return said == other_said and all(
            a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in pairs
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def median_bpm(self) -> float:
        """The median rate over the windows with a pulse; nan if there are none."""
        known = self.pulse_rate_bpm[np.isfinite(self.pulse_rate_bpm)]
        return float(np.median(known)) if len(known) else np.nan

    def to_dataframe(self) -> pandas.DataFrame:
        """The readings as a table of pandas, by `labelled.to_dataframe`."""
        from pulse3d.showing import labelled

        return labelled.to_dataframe(self)

    def to_xarray(self) -> xarray.Dataset:
        """All arrays with coordinates and units, by `labelled.to_xarray`."""
        from pulse3d.showing import labelled

        return labelled.to_xarray(self)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Result:
        """Reads an output folder of `launch.predict` or `save`; raises InputError if it is not one."""
        folder = _path("folder", folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give one that holds map.npz and summary.json")
        try:
            return cls(summary=_read_summary(folder), **read_arrays(folder), folder=folder)
        except files.UnreadableError as error:
            raise _no_results(folder, error) from None

    def save(self, folder: str | os.PathLike) -> Path:
        """Copies the arrays, the rates and the summary (`FILES`) to another folder, not the pictures."""
        folder = files.make_folder(_path("folder", folder))
        for name in FILES:
            files.copy_atomically(self.folder / name, folder / name)
        return folder

    def probabilities(self) -> Iterator[Float[np.ndarray, "row col rate"]]:
        """The probability of every rate at every place, window by window, float16; reads the file."""
        return self._stored("probability")

    def _stored(self, name: str) -> Iterator[np.ndarray]:
        """The entries of an array of map.npz, one by one; raises InputError if it cannot be read."""
        try:
            with archive.Arrays(self.folder / "map.npz", max_bytes=MAX_BYTES) as maps:
                yield from maps.entries(name)
        except files.UnreadableError as error:
            raise _no_results(self.folder, error) from None

    @cached_property
    def regions(self) -> list[Region]:
        """The parts of the frame with a rate of their own, largest first, each with its readings."""
        try:
            with archive.Arrays(self.folder / "map.npz", max_bytes=MAX_BYTES) as maps:
                return from_arrays(*(_numbers(maps, name) for name in REGION_ARRAYS))
        except files.UnreadableError as error:
            raise _no_results(self.folder, error) from None

    def pulse_waves(
        self,
        places: Float[np.ndarray, "part row col"],
        rate_bpm: Float[np.ndarray, "part window"],
    ) -> list[PulseWave]:
        """The pulse wave of every part of the frame, from the weights of its places; reads the file.

        rate_bpm: of every part in every window, nan for no pulse; as in `pulse_wave.in_band`.
        """
        return self._in_band(pulse_wave.weighted_means(self._stored("green"), places) / WHITE, rate_bpm)

    def place_waves(self, places: Int[np.ndarray, "place"]) -> list[PulseWave]:
        """The pulse wave of single places, numbered along the rows, each at its own rate; reads the file."""
        found = [frame.reshape(-1)[places] / WHITE for frame in self._stored("green")]
        rates = self.rate_bpm.reshape(len(self.time_s), -1)[:, places].astype(float)
        return self._in_band(np.transpose(found), rates.T)

    def _in_band(
        self, traces: Float[np.ndarray, "part time"], rate_bpm: Float[np.ndarray, "part window"]
    ) -> list[PulseWave]:
        fps = 1 / float(np.median(np.diff(self.frame_s)))
        timing = {"window_s": self.summary["window_s"], "fps": fps}
        waves = pulse_wave.in_band(traces.T, self.frame_s, rate_bpm.T, self.time_s, **timing)
        return [PulseWave(self.frame_s, wave) for wave in waves.T]

    @cached_property
    def bvp(self) -> PulseWave:
        """The pulse wave of the frame's own pulse (blood volume pulse), from the places that carry it."""
        places = pulse_wave.weigh_places(self.rate_bpm, self.confidence, self.pulse_rate_bpm)
        return self.pulse_waves(places[None], self.pulse_rate_bpm[None])[0]

    @cached_property
    def beats(self) -> Beats:
        """The beats of `bvp`, by `beats.find_beats`."""
        return find_beats(self.bvp, self.pulse_rate_bpm, self.time_s)

    def heart_rate_variability(self) -> HeartRateVariability:
        """RMSSD, SDNN and pNN50 of `beats`, with warnings, by `beats.heart_rate_variability`."""
        return heart_rate_variability(self.beats, video_fps=self.summary["video_fps"])

    @cached_property
    def phase_deg(self) -> Float[np.ndarray, "window row col"]:
        """How much later than the frame's pulse wave each place beats, in degrees; reads the file.

        Of the places with the frame's rate, as `phase.of_windows`; nan elsewhere.
        """
        places = pulse_wave.weigh_places(self.rate_bpm, self.confidence, self.pulse_rate_bpm)
        timing = {"window_s": self.summary["window_s"]}
        found = phase.of_windows(
            self._stored("green"), places, self.frame_s, self.time_s, self.pulse_rate_bpm, **timing
        )
        phases = np.stack(list(found))
        return np.where(
            abs(self.rate_bpm - self.pulse_rate_bpm[:, None, None]) <= SAME_BPM, phases, np.float32(np.nan)
        )

    def maps(self) -> Iterator[Float[np.ndarray, "row col class"]]:
        """The map of every window as the network gives it, float16, "no pulse" last; reads the file."""
        return join_maps(self.probabilities(), self.network_no_pulse)

    def plot(
        self,
        layer: str | None = None,
        *,
        window: int | None = None,
        ax: Axes | None = None,
        limits_bpm: tuple[float, float] = LIMITS_BPM,
    ) -> Figure:
        """The figure of map.png: frame, rate map, confidence, the rate over time, and the pulse wave.

        layer: only that map, "rate", "confidence", "amplitude", "snr" or "phase". window: the map of that
        window; by default the median of all (of confidences and phases, the mean). ax: the axes to draw into,
        a figure of their own by default. limits_bpm: of the colours of rates. Raises InputError for another
        layer or window, or for limits that are none.
        """
        from pulse3d.showing import figures

        check_limits(limits_bpm)
        if window is not None:
            expect_kind("window", window, numbers.Integral, "the number of a window, from 0")
        if layer is None and window is None and ax is None:
            title = Path(self.summary["video"]).name
            return figures.map_figure(self, title=title, limits_bpm=limits_bpm)
        layer = layer or "rate"
        return figures.layer_figure(self, layer, window=window, ax=ax, limits_bpm=limits_bpm)

    def overlay(
        self,
        path: str | os.PathLike,
        *,
        video: str | os.PathLike | np.ndarray | Video | None = None,
        limits_bpm: tuple[float, float] = LIMITS_BPM,
    ) -> Path:
        """Writes the video with the map and the rate over it, overlay.mp4.

        video: a path, an array, or what `open_video` gives; by default, the video is where it was mapped.
        limits_bpm: of the colours of rates. Raises InputError for a video that cannot be read (again),
        whose frames have another size, or that the overlay would replace.
        """
        from pulse3d.showing import overlay

        check_limits(limits_bpm)
        path, source = _path("path", path), self._source(video)
        if path.exists() and Path(source.name).exists() and path.samefile(source.name):
            raise InputError(f"{path}: is the video itself; choose another name for the overlay")
        if path.suffix.lower() != ".mp4":
            raise InputError(f"{path}: an overlay is an MP4; give a name that ends in .mp4")
        overlay.write_overlay(self, source, path, limits_bpm=limits_bpm)
        return path

    def _source(self, given: str | os.PathLike | np.ndarray | Video | None) -> Video:
        """The opened video of the result; raises InputError as `overlay` says."""
        from pulse3d import video

        if isinstance(given, np.ndarray):
            source = video.from_array(given, fps=self.summary["video_fps"])
        elif isinstance(given, video.Video):
            source = given
        else:
            try:
                source = video.open_video(self.summary["video"] if given is None else given)
            except InputError as error:
                raise error if given is not None else InputError(f"{error}; give it as video=") from None
        if source.live:
            raise InputError(f"{source.name}: a live source is seen once; give a file of it as video=")
        height, width = self.frame.shape[:2]
        if (source.height, source.width) != (height, width):
            size = f"{source.width}x{source.height} px, the result {width}x{height}"
            raise InputError(f"{source.name}: its frames have {size}; give the video that was mapped")
        return source

    def report(self, path: str | os.PathLike, *, limits_bpm: tuple[float, float] = LIMITS_BPM) -> Path:
        """Writes the page for exploring the result, report.html; limits_bpm: of the colours of rates."""
        from pulse3d.showing import report

        check_limits(limits_bpm)
        path = _path("path", path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"{path}: a page is HTML; give a name that ends in .html")
        report.write_report(self, path, limits_bpm=limits_bpm)
        return path

    def _repr_html_(self) -> str:
        """Shows the result in a notebook: the rate in words, and the figure of `plot`."""
        from pulse3d.showing import figures

        return figures.result_html(self)

    @property
    def probability(self) -> Float[np.ndarray, "window row col rate"]:
        """The probabilities of all windows at once."""
        return np.stack(list(self.probabilities()))

    @property
    def extent_px(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edges of the map on the frame: half a stride beyond the places."""
        return map_extent(self.row_px, self.col_px, self.summary["stride_px"])


def check_limits(limits_bpm: tuple[float, float]) -> None:
    """Raises InputError for limits of the colours of rates that are none."""
    try:
        low, high = (float(limit) for limit in limits_bpm)
    except (TypeError, ValueError):
        low = high = np.nan
    if not 0 <= low < high < np.inf:
        said = f"{limits_bpm!r:.100}".strip("()[]")
        raise InputError(f"limits_bpm = {said}: expected two ascending rates in bpm, such as 40, 140")


def _path(name: str, value: str | os.PathLike) -> Path:
    """An argument as a path; raises InputError if it is none."""
    expect_kind(name, value, (str, os.PathLike), "a path")
    return Path(value)


def map_extent(
    row_px: Float[np.ndarray, "row"], col_px: Float[np.ndarray, "col"], stride_px: int | float
) -> tuple[float, float, float, float]:
    """Left, right, bottom and top edges of a map with places in these rows and columns."""
    half = stride_px / 2
    (left, right), (top, bottom) = ((x[0] - half, x[-1] + half) for x in (col_px, row_px))
    return float(left), float(right), float(bottom), float(top)


def join_maps(
    rates: Iterable[Float[np.ndarray, "row col rate"]], none: Iterable[Float[np.ndarray, "row col"]]
) -> Iterator[Float[np.ndarray, "row col class"]]:
    """Joins the probabilities of rates and of "no pulse", which are stored separately, to maps."""
    for shares, rest in zip(rates, none, strict=True):
        yield np.concatenate([shares, rest[..., None]], -1)


def _no_results(folder: Path, error: Exception) -> InputError:
    return InputError(f"{folder}: not a folder of results ({error}); map the video again")


def _read_summary(folder: Path) -> dict[str, Any]:
    """Reads summary.json; raises UnreadableError."""
    summary = files.read_json(folder / "summary.json")
    if not isinstance(summary, dict):
        raise files.UnreadableError("summary.json holds no settings")
    return summary


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a result from map.npz; raises UnreadableError if they are not of one video."""
    names = [field.name for field in fields(Result) if field.name not in ("summary", "folder")]
    with archive.Arrays(folder / "map.npz", max_bytes=MAX_BYTES) as maps:
        _check_shapes(maps.shapes, [*names, "probability", "green", *REGION_ARRAYS])
        return {name: _numbers(maps, name) for name in names}


def _numbers(maps: archive.Arrays, name: str) -> np.ndarray:
    """An array of a file; raises UnreadableError if it does not hold numbers."""
    array = maps[name]
    if array.dtype.kind not in "uf":
        raise files.UnreadableError(f"{name} holds {array.dtype}, not numbers")
    return array


def _check_shapes(shapes: dict[str, tuple[int, ...]], names: list[str]) -> None:
    """Raises UnreadableError if arrays are missing, or not of one video."""
    if missing := [name for name in names if name not in shapes]:
        raise files.UnreadableError(f"map.npz holds no {missing[0]}")
    if len(shapes["rate_bpm"]) != 3:
        raise files.UnreadableError(f"rate_bpm has shape {shapes['rate_bpm']}, expected (window, row, col)")
    if len(shapes["frame_s"]) != 1 or shapes["frame_s"][0] < 2:
        raise files.UnreadableError(f"frame_s has shape {shapes['frame_s']}, expected (time,), two or more")
    windows, rows, cols = shapes["rate_bpm"]
    per_window = ("time_s", "pulse_rate_bpm", "low_bpm", "high_bpm", "pulse_confidence", "equation_8_bpm")
    per_place = ("confidence", "no_pulse", "network_no_pulse", "amplitude_percent", "snr_db")
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(per_window, (windows,))
    expected |= dict.fromkeys(per_place, (windows, rows, cols))
    expected |= {"row_px": (rows,), "col_px": (cols,), "frame": (*shapes["frame"][:2], 3)}
    expected |= {"rate_axis_bpm": shapes["probability"][-1:], "frame_s": shapes["frame_s"][:1]}
    expected |= {"green": (*expected["frame_s"], rows, cols)}
    parts = shapes["region_places"][:1]
    expected |= {"region_places": (*parts, rows, cols), "region_readings": (*parts, windows, 4)}
    expected |= {"probability": (windows, rows, cols, *expected["rate_axis_bpm"])}
    if wrong := [name for name, shape in expected.items() if shapes[name] != shape]:
        raise files.UnreadableError(f"{wrong[0]} has shape {shapes[wrong[0]]}, expected {expected[wrong[0]]}")
