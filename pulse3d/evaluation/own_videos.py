"""The user's own videos as recordings: folders with a manifest, or with a table beside each video."""

from __future__ import annotations

import dataclasses
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from pulse3d import video
from pulse3d.errors import InputError
from pulse3d.evaluation import map_truth
from pulse3d.evaluation.map_truth import Mask
from pulse3d.evaluation.recordings import (
    CONSENSUS,
    DEVICE,
    NO_PULSE,
    PPG,
    REPAIR,
    SANE_BPM,
    Recording,
    Reference,
    existing,
    make_reference,
    open_file,
    read_table,
)

# the manifest's name for the one rate of a whole recording
ONE_RATE = {CONSENSUS: "hr_consensus", DEVICE: "rate_bpm"}
TABLES = ("time_s,ppg", "time_s,rate_bpm", "rate_bpm")  # headers of the table beside a video


def find_clips(root: Path) -> list[Recording]:
    """Lists the videos of a folder: those in its `manifest.json`, or without one as `find_videos`.

    The manifest is a list of {"name", "file", "truth_kind"}; the last is ppg, consensus, device or no
    measurable pulse. The rate of a consensus is in "hr_consensus", that of a device in "rate_bpm".
    `<name>_ppg.csv` (header; t_s, ppg) holds the pulse on the video's clock.
    `<name>_timestamps.txt` (seconds, one per line) replaces the time stamps of the file; arrays
    and folders of images need it. An array is RGB, or YUV if its "note" has the word YUV.
    "skin_mask" names an image of the video's size: 255 skin, 0 background, 128 left out.
    Raises InputError for a damaged manifest.
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
    """Lists videos and their truth: `<name>.mp4` (or another of video.VIDEO_SUFFIXES) with `<name>.csv`.

    The table has one of the headers

        time_s,ppg         a contact pulse wave on the video's clock
        time_s,rate_bpm    a device's rates on the video's clock
        rate_bpm           one rate for the whole video

    and `<name>_skin.png`, if there, is its skin mask, as in `find_clips`. Raises InputError for two videos
    with the same name.
    """
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in video.VIDEO_SUFFIXES)
    names = [path.stem for path in found]
    if twice := [path.name for path in found if names.count(path.stem) > 1]:
        raise InputError(f"{root}: {', '.join(twice)} would share one table; rename all but one")
    return [_video_with_table(path) for path in found]


def rgb_from_yuv(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width 3"]:
    """Converts an 8-bit YUV image to RGB, float32 of 0...1, clipped.

        R = Y + 1.402 V,  G = Y - 0.344136 U - 0.714136 V,  B = Y + 1.772 U

    U and V are stored with 128 added; all three use the full range 0...255.
    Source: ITU-R BT.601 in full range, as in JFIF 1.02.
    """
    matrix = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)
    yuv = image.astype(np.float32) - np.array([0, 128, 128], np.float32)
    return np.clip(yuv @ matrix.T / 255, 0, 1)


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
        time_s, pulse = read_table(table, columns=2, skip=1).T
        return make_reference(table, time_s, pulse)

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
    """A video of `find_videos`; errors in its table are raised only when its reference is read."""
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
            return make_reference(table, time_s, samples)
        return make_reference(table, time_s, samples, samples)._replace(pulse=np.full(len(samples), np.nan))

    return Recording(
        path.stem,
        "clips",
        open_video=partial(open_file, path),
        reference=reference,
        truth=PPG if kind == "time_s,ppg" else DEVICE,
        rate_bpm=float(values[0, 0]) if kind == "rate_bpm" else np.nan,
        mask=partial(_read_mask, mask) if mask.exists() else lambda: None,
    )


def _read_truth(path: Path) -> tuple[str, Float[np.ndarray, "row column"]]:
    """The kind of a table of `find_videos`, one of TABLES, and its numbers; a lone number is a rate_bpm."""
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
    values = read_table(path, columns=len(kind.split(",")), skip=0 if alone else 1)
    low, high = SANE_BPM
    if kind == "rate_bpm" and (len(values) != 1 or not low <= values[0, 0] <= high):
        raise InputError(
            f"{path}: expected one rate of {low:g} to {high:g} bpm; a series needs time_s,rate_bpm"
        )
    return kind, values


def _read_mask(path: Path) -> Mask:
    """Reads a skin mask from an image file."""
    existing(path)
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
        time_s = read_table(stamps, columns=1)[:, 0]
        source = video.with_time_stamps(video.open_video(existing(path), fps=30.0), time_s)
    elif path.is_dir() or path.suffix in (".npy", ".npz"):
        raise InputError(f"{path}: has no time stamps; add {stamps.name}, seconds, one a line")
    else:
        source = open_file(path)
    if not yuv:
        return source
    return dataclasses.replace(
        source, frames=lambda: (video.Frame(f.time_s, rgb_from_yuv(f.image)) for f in source.frames())
    )
