"""Recordings with a known pulse: UBFC-rPPG 1 and 2, PURE, COHFACE, folders of own videos, the demo scene.

Listing reads no recording. A recording is opened when asked to, and raises InputError then if it is
missing or damaged, so that the caller can name it, skip it and go on.

    ubfc1    <subject>/vid.avi, <subject>/gtdump.xmp
    ubfc2    subject<n>/vid.avi, subject<n>/ground_truth.txt
    pure     01-01/01-01.json, and the images in 01-01/01-01/ or beside the JSON
    cohface  <subject>/<session>/data.avi, <subject>/<session>/data.hdf5
    clips    manifest.json and the files that it names; without one, videos with <name>.csv beside them
    demo     the built-in scene, which needs no folder
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from pulse3d import map_truth, scene, video
from pulse3d.config import SceneConfig
from pulse3d.errors import InputError
from pulse3d.map_truth import Mask

Samples = Float[np.ndarray, "sample"]

PPG, CONSENSUS, DEVICE, NO_PULSE = "ppg", "consensus", "device", "no measurable pulse"  # the kinds of truth
SCENE = "scene"  # and that of generated scenes: places with rates of their own
PULSELESS = "pulseless set"  # and that of `pulseless`: every answer is made up
# what the manifest calls the one rate of a whole recording
ONE_RATE = {CONSENSUS: "hr_consensus", DEVICE: "rate_bpm"}
TABLES = ("time_s,ppg", "time_s,rate_bpm", "rate_bpm")  # headers of the table beside a video
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv")
SANE_BPM = (30.0, 240.0)  # a device that shows another rate has lost the finger
REPAIR = "copy the recording again or leave it out"


class Reference(NamedTuple):
    """A contact pulse wave: values (any unit) at times in seconds on the video's clock, ascending.

    pulse: nan where the device gives its rate alone. rate_bpm: the device's own rate at these times; nan
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
    open_video, reference, mask: read the files; they raise InputError where these are missing or damaged.
    `reference` gives None where there is no contact, `mask` where there is no mask.
    """

    name: str
    dataset: str
    open_video: Callable[[], video.Video]
    reference: Callable[[], Reference | None]
    truth: str = PPG
    rate_bpm: float = float("nan")
    mask: Callable[[], Mask | None] = lambda: None


def find_recordings(dataset: str, root: str | os.PathLike) -> list[Recording]:
    """All recordings of a data set below `root`, by name; nothing but the folders is read.

    dataset: "ubfc1", "ubfc2", "pure", "cohface", "clips" or "demo", with the layouts above. Of `clips`
    the manifest is read too. Raises InputError for an unknown data set, a folder without any
    recording, and a manifest that is damaged.
    """
    if dataset not in DATASETS:
        raise InputError(f"data set {dataset}: unknown; choose {', '.join(DATASETS)}")
    root = Path(root)
    if dataset != "demo" and not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds {dataset}")
    find, expected = DATASETS[dataset]
    recordings = find(root)
    if not recordings:
        raise InputError(f"{root}: holds no recording of {dataset}; expected {expected}")
    return recordings


def find_ubfc1(root: Path) -> list[Recording]:
    """UBFC-rPPG DATASET_1: the pulse at about 60 Hz with a clock of its own, that of the video.

    `gtdump.xmp` is a table of comma-separated columns: ms, rate (bpm), SpO2 (%), pulse.
    Source: Bobbia et al., Pattern Recognition Letters 124, 2019;
    https://sites.google.com/view/ybenezeth/ubfcrppg
    """

    def reference(folder: Path) -> Reference:
        path = folder / "gtdump.xmp"
        time_ms, rate, _, pulse = _read_table(path, columns=4).T
        return _reference(path, time_ms / 1000, pulse, rate)

    return [
        Recording(folder.name, "ubfc1", partial(_open, folder / "vid.avi"), partial(reference, folder))
        for folder in _folders(root, "*")
        if (folder / "vid.avi").exists() or (folder / "gtdump.xmp").exists()
    ]


def find_ubfc2(root: Path) -> list[Recording]:
    """UBFC-rPPG DATASET_2: a pulse value per video frame.

    `ground_truth.txt` has three lines: pulse, rate (bpm), time (s). Its clock is not used, since
    some start late: value i belongs to frame i, at i / fps.
    Source: as `find_ubfc1`.
    """

    def reference(folder: Path) -> Reference:
        path, source = folder / "ground_truth.txt", _open(folder / "vid.avi")
        table = _read_table(path)
        if len(table) != 3:
            raise InputError(f"{path}: {len(table)} lines; expected pulse, rate and time; {REPAIR}")
        frames = round(source.duration_s * source.fps)
        if abs(table.shape[1] - frames) > source.fps:
            raise InputError(
                f"{path}: {table.shape[1]} values for {frames} frames; expected one for each; {REPAIR}"
            )
        return _reference(path, np.arange(table.shape[1]) / source.fps, table[0], table[1])

    return [
        Recording(folder.name, "ubfc2", partial(_open, folder / "vid.avi"), partial(reference, folder))
        for folder in _folders(root, "subject*")
    ]


def find_pure(root: Path) -> list[Recording]:
    """PURE: images at about 30 Hz and a pulse at 60 Hz, both stamped in ns by one clock.

    Images and their stamps (`/Image` of the JSON) are paired in order; time starts at the first.
    Source: Stricker, Mueller and Gross, RO-MAN 2014;
    https://www.tu-ilmenau.de/neurob/data-sets-code/pulse
    """

    def open_video(folder: Path) -> video.Video:
        stamps = _read_pure(folder)[0]
        images = folder / folder.name
        source = video.open_video(images if images.is_dir() else folder, fps=30.0)
        return video.with_time_stamps(source, stamps)

    def reference(folder: Path) -> Reference:
        return _read_pure(folder)[1]

    return [
        Recording(folder.name, "pure", partial(open_video, folder), partial(reference, folder))
        for folder in _folders(root, "[0-9][0-9]-[0-9][0-9]")
    ]


def find_cohface(root: Path) -> list[Recording]:
    """COHFACE: video at 20 fps and a pulse at 256 Hz, whose times start with the video.

    Reading the pulse takes h5py: `pip install 'pulse3d[datasets]'`; without it raises InputError.
    Source: Heusch, Anjos and Marcel, arXiv:1709.00962, 2017; https://www.idiap.ch/dataset/cohface
    """

    def reference(folder: Path) -> Reference:
        path = _existing(folder / "data.hdf5")
        try:
            import h5py
        except ImportError:
            raise InputError(f"{path}: reading it takes h5py; pip install 'pulse3d[datasets]'") from None
        try:
            with h5py.File(path) as file:
                time_s, pulse = (np.asarray(file[key], np.float64) for key in ("time", "pulse"))
        except (OSError, KeyError, ValueError, TypeError):
            raise InputError(f"{path}: not an HDF5 file with `pulse` and `time`; {REPAIR}") from None
        return _reference(path, time_s, pulse)

    return [
        Recording(
            f"{folder.parent.name}/{folder.name}",
            "cohface",
            partial(_open, folder / "data.avi"),
            partial(reference, folder),
        )
        for folder in _folders(root, "*/[0-3]")
    ]


def find_clips(root: Path) -> list[Recording]:
    """A folder of own videos: with a `manifest.json`, the clips that it lists, else as `find_videos`.

    The manifest is a list of {"name", "file", "truth_kind"}, the last being ppg, consensus, device or
    no measurable pulse; a consensus has its rate as "hr_consensus", a device as "rate_bpm".
    `<name>_ppg.csv` (header; t_s, ppg) holds the pulse on the video's clock.
    `<name>_timestamps.txt`, seconds, one a line, replaces the time stamps of the file; arrays
    and folders of images need it. An array is RGB, or YUV where its "note" has the word YUV.
    "skin_mask" names an image in the video's pixels: 255 skin, 0 background, 128 to be left out.
    Raises InputError for a manifest that is damaged.
    """
    path = root / "manifest.json"
    if not path.exists():
        return find_videos(root)
    try:
        entries = json.loads(path.read_bytes())
        if not isinstance(entries, list):
            raise ValueError("not a list")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a list of clips ({error}); mend it") from None
    return [_clip(root, path, number, entry) for number, entry in enumerate(entries, 1)]


def find_videos(root: Path) -> list[Recording]:
    """Videos with the truth beside them: `<name>.mp4` (or another of VIDEO_SUFFIXES) and `<name>.csv`.

    The table has one of the headers

        time_s,ppg         a contact pulse wave on the video's clock
        time_s,rate_bpm    a device's rates on the video's clock
        rate_bpm           one rate for the whole video

    and `<name>_skin.png`, if there, is its skin mask, as in `find_clips`. Raises InputError for two videos
    of one name.
    """
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    names = [path.stem for path in found]
    if twice := [path.name for path in found if names.count(path.stem) > 1]:
        raise InputError(f"{root}: {', '.join(twice)} would share one table; rename all but one")
    return [_video_with_table(path) for path in found]


def find_demo(root: Path) -> list[Recording]:
    """The built-in demo scene, as `launch.predict` maps it; its mask is exact and has its rates."""
    settings = SceneConfig()
    return [scene_recording("demo", scene.make_scene(jax.random.key(0), settings), settings.fps)]


def scene_recording(name: str, made: scene.Scene, fps: float) -> Recording:
    """A generated scene as a recording."""
    return Recording(
        name,
        "demo",
        open_video=lambda: video.from_array(made.frames, fps=fps, name=name),
        reference=lambda: None,
        truth=SCENE,
        mask=lambda: Mask(*scene.exact_mask(made)),
    )


DATASETS: dict[str, tuple[Callable[[Path], list[Recording]], str]] = {
    "ubfc1": (find_ubfc1, "<subject>/vid.avi"),
    "ubfc2": (find_ubfc2, "subject<n>/vid.avi"),
    "pure": (find_pure, "01-01/01-01.json"),
    "cohface": (find_cohface, "<subject>/<session>/data.avi"),
    "clips": (find_clips, "videos with <name>.csv beside them, or entries in manifest.json"),
    "demo": (find_demo, "nothing"),
}


def rgb_from_yuv(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width 3"]:
    """An 8-bit YUV image as RGB, float32 of 0...1, clipped.

        R = Y + 1.402 V,  G = Y - 0.344136 U - 0.714136 V,  B = Y + 1.772 U

    U and V are stored with 128 added; all three use the full range 0...255.
    Source: ITU-R BT.601 in full range, as in JFIF 1.02.
    """
    matrix = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)
    yuv = image.astype(np.float32) - np.array([0, 128, 128], np.float32)
    return np.clip(yuv @ matrix.T / 255, 0, 1).astype(np.float32)


def _clip(root: Path, manifest: Path, number: int, entry: Any) -> Recording:
    where = f"{manifest}: entry {number}"
    if not isinstance(entry, dict):
        raise InputError(f'{where}: not of the form {{"name", "file", "truth_kind"}}; mend it')
    if missing := [key for key in ("name", "file", "truth_kind") if key not in entry]:
        raise InputError(f"{where}: has no {', '.join(missing)}; add it")
    name, truth = str(entry["name"]), entry["truth_kind"]
    where, kinds = f"{where} ({name})", (PPG, CONSENSUS, DEVICE, NO_PULSE)
    if truth not in kinds:
        raise InputError(f"{where}: truth_kind {truth!r}; choose {', '.join(kinds)}")
    rate_bpm, (low, high) = np.nan, SANE_BPM
    if truth in ONE_RATE:
        rate_bpm = entry.get(ONE_RATE[truth], np.nan)
        if not isinstance(rate_bpm, int | float) or not low <= rate_bpm <= high:
            raise InputError(f"{where}: {truth} needs {ONE_RATE[truth]}, {low:g} to {high:g} bpm")
    path, mask = root / str(entry["file"]), entry.get("skin_mask")
    yuv = re.search(r"\bYUV\b", str(entry.get("note", ""))) is not None
    stamps, table = root / f"{name}_timestamps.txt", root / f"{name}_ppg.csv"

    def reference() -> Reference | None:
        if truth != PPG:
            return None
        time_s, pulse = _read_table(table, columns=2, skip=1).T
        return _reference(table, time_s, pulse)

    return Recording(
        name,
        "clips",
        open_video=partial(_open_clip, path, stamps, yuv=yuv),
        reference=reference,
        truth=truth,
        rate_bpm=float(rate_bpm),
        mask=partial(_read_mask, root / str(mask)) if mask else lambda: None,
    )


def _video_with_table(path: Path) -> Recording:
    """A video of `find_videos`; what is wrong with its table is said when its reference is asked for."""
    table, mask = path.with_suffix(".csv"), path.with_name(f"{path.stem}_skin.png")
    try:
        kind, values = _read_truth(table)
    except InputError:
        kind, values = "", np.full((1, 1), np.nan)

    def reference() -> Reference | None:
        kind, values = _read_truth(table)
        if kind == "rate_bpm":
            return None
        time_s, samples = values.T
        if kind == "time_s,ppg":
            return _reference(table, time_s, samples)
        return _reference(table, time_s, samples, samples)._replace(pulse=np.full(len(samples), np.nan))

    return Recording(
        path.stem,
        "clips",
        open_video=partial(_open, path),
        reference=reference,
        truth=PPG if kind == "time_s,ppg" else DEVICE,
        rate_bpm=float(values[0, 0]) if kind == "rate_bpm" else np.nan,
        mask=partial(_read_mask, mask) if mask.exists() else lambda: None,
    )


def _read_truth(path: Path) -> tuple[str, Float[np.ndarray, "row column"]]:
    """What a table of `find_videos` holds, one of TABLES, and its numbers; a lone number is a rate_bpm."""
    if not path.exists():
        raise InputError(f"{path}: missing; it holds the truth, with the header {' or '.join(TABLES)}")
    try:
        lines = path.read_text().split("\n")
    except (OSError, ValueError):
        raise InputError(f"{path}: not a table; {REPAIR}") from None
    header = lines[0].replace(" ", "").strip().lower()
    alone = re.fullmatch(r"[\d.]+", header) is not None
    kind = "rate_bpm" if alone else header
    if kind not in TABLES:
        raise InputError(f"{path}: header {lines[0][:40]!r}; choose one of {'; '.join(TABLES)}")
    values = _read_table(path, columns=len(kind.split(",")), skip=0 if alone else 1)
    low, high = SANE_BPM
    if kind == "rate_bpm" and (len(values) != 1 or not low <= values[0, 0] <= high):
        raise InputError(
            f"{path}: expected one rate of {low:g} to {high:g} bpm; a series needs time_s,rate_bpm"
        )
    return kind, values


def _read_mask(path: Path) -> Mask:
    """The skin mask of an image file."""
    _existing(path)
    try:
        with Image.open(path) as image:
            skin = np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise InputError(f"{path}: not an image; {REPAIR}") from None
    legal = (map_truth.SKIN, map_truth.BACKGROUND, map_truth.LEFT_OUT)
    if others := sorted(set(np.unique(skin).tolist()) - set(legal)):
        raise InputError(
            f"{path}: holds {others[0]}; a skin mask holds 255 (skin), 0 (background) and 128 (left out)"
        )
    return Mask(skin)


def _open_clip(path: Path, stamps: Path, *, yuv: bool) -> video.Video:
    if stamps.exists():
        time_s = _read_table(stamps, columns=1)[:, 0]
        source = video.with_time_stamps(video.open_video(_existing(path), fps=30.0), time_s)
    elif path.is_dir() or path.suffix in (".npy", ".npz"):
        raise InputError(f"{path}: has no time stamps; add {stamps.name}, seconds, one a line")
    else:
        source = _open(path)
    if not yuv:
        return source
    return dataclasses.replace(
        source, frames=lambda: (video.Frame(f.time_s, rgb_from_yuv(f.image)) for f in source.frames())
    )


def _open(path: Path) -> video.Video:
    return video.open_video(_existing(path))


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path}: missing; {REPAIR}")
    return path


def _folders(root: Path, pattern: str) -> list[Path]:
    return sorted(folder for folder in root.glob(pattern) if folder.is_dir())


def _read_table(path: Path, *, columns: int | None = None, skip: int = 0) -> Float[np.ndarray, "row column"]:
    """Numbers between spaces or commas, a row per line, after `skip` lines."""
    _existing(path)
    try:
        lines = path.read_text().replace(",", " ").splitlines()[skip:]
        table = np.array([line.split() for line in lines if line.strip()], np.float64)
    except (OSError, ValueError):
        raise InputError(f"{path}: not a table of numbers; {REPAIR}") from None
    if table.ndim != 2 or columns not in (None, table.shape[1]):
        raise InputError(f"{path}: shape {table.shape}; expected {columns or 'several'} columns; {REPAIR}")
    return table


def _read_pure(folder: Path) -> tuple[Samples, Reference]:
    """The time stamps of the images and the reference, in seconds since the first image."""
    path = _existing(folder / f"{folder.name}.json")
    try:
        record = json.loads(path.read_bytes())
        packages = record["/FullPackage"]
        # Integers of 1e18 ns: the start is subtracted before they become floats.
        start = record["/Image"][0]["Timestamp"]
        image_s = np.array([image["Timestamp"] - start for image in record["/Image"]]) / 1e9
        time_s = np.array([package["Timestamp"] - start for package in packages]) / 1e9
        pulse = np.array([package["Value"]["waveform"] for package in packages], np.float64)
        rate = np.array([package["Value"]["pulseRate"] for package in packages], np.float64)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise InputError(f"{path}: not JSON with PURE's /Image and /FullPackage; {REPAIR}") from None
    return image_s, _reference(path, time_s, pulse, rate)


def _reference(path: Path, time_s: Samples, pulse: Samples, rate_bpm: Samples | None = None) -> Reference:
    """Checked, and with the device's drop-outs masked."""
    if len(pulse) < 2 or time_s.shape != pulse.shape or not np.isfinite([time_s, pulse]).all():
        raise InputError(f"{path}: holds no pulse, or a broken one; {REPAIR}")
    if (np.diff(time_s) < 0).any():
        raise InputError(f"{path}: its clock runs backwards; {REPAIR}")
    if rate_bpm is None:
        return Reference(time_s, pulse, np.full(len(pulse), np.nan))
    low, high = SANE_BPM
    return Reference(time_s, pulse, np.where((rate_bpm >= low) & (rate_bpm <= high), rate_bpm, np.nan))
