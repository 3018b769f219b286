"""Recordings with a known pulse: UBFC-rPPG 1 and 2, PURE, COHFACE, folders of own videos, the demo scene.

Listing them reads no recording.

    ubfc1    <subject>/vid.avi, <subject>/gtdump.xmp
    ubfc2    subject<n>/vid.avi, subject<n>/ground_truth.txt
    pure     01-01/01-01.json, and the images in 01-01/01-01/ or beside the JSON
    cohface  <subject>/<session>/data.avi, <subject>/<session>/data.hdf5
    clips    manifest.json and the files that it names; without one, videos with <name>.csv beside them
    demo     the built-in scene, which needs no folder
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from pulse3d import video
from pulse3d.config import SceneConfig
from pulse3d.errors import InputError
from pulse3d.evaluation import map_truth
from pulse3d.evaluation.map_truth import Mask
from pulse3d.evaluation.own_videos import find_clips
from pulse3d.evaluation.recordings import (
    REPAIR,
    SCENE,
    Recording,
    Reference,
    Samples,
    existing,
    make_reference,
    open_file,
    read_table,
)
from pulse3d.synthetic import demo_scene


def find_recordings(dataset: str, root: str | os.PathLike) -> list[Recording]:
    """Lists all recordings of a data set below `root`, by name; reads only the folders.

    dataset: "ubfc1", "ubfc2", "pure", "cohface", "clips" or "demo", with the layouts above. For `clips`
    the manifest is read too. Raises InputError for an unknown data set, a folder without any
    recording, and a damaged manifest.
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
    """UBFC-rPPG DATASET_1: a pulse at about 60 Hz, with its own time stamps on the video's clock.

    `gtdump.xmp` is a table of comma-separated columns: ms, rate (bpm), SpO2 (%), pulse.
    Source: Bobbia et al., Pattern Recognition Letters 124, 2019;
    https://sites.google.com/view/ybenezeth/ubfcrppg
    """

    def reference(folder: Path) -> Reference:
        path = folder / "gtdump.xmp"
        time_ms, rate, _, pulse = read_table(path, columns=4).T
        return make_reference(path, time_ms / 1000, pulse, rate)

    return [
        Recording(folder.name, "ubfc1", partial(open_file, folder / "vid.avi"), partial(reference, folder))
        for folder in _folders(root, "*")
        if (folder / "vid.avi").exists() or (folder / "gtdump.xmp").exists()
    ]


def find_ubfc2(root: Path) -> list[Recording]:
    """UBFC-rPPG DATASET_2: a pulse value per video frame.

    `ground_truth.txt` has three lines: pulse, rate (bpm), time (s). Its times are not used, since
    some start late: value i belongs to frame i, at i / fps.
    Source: as `find_ubfc1`.
    """

    def reference(folder: Path) -> Reference:
        path, source = folder / "ground_truth.txt", open_file(folder / "vid.avi")
        table = read_table(path)
        if len(table) != 3:
            raise InputError(f"{path}: {len(table)} lines; expected pulse, rate and time; {REPAIR}")
        frames = round(source.duration_s * source.fps)
        if abs(table.shape[1] - frames) > source.fps:
            raise InputError(
                f"{path}: {table.shape[1]} values for {frames} frames; expected one for each; {REPAIR}"
            )
        return make_reference(path, np.arange(table.shape[1]) / source.fps, table[0], table[1])

    return [
        Recording(folder.name, "ubfc2", partial(open_file, folder / "vid.avi"), partial(reference, folder))
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

    Reading the pulse needs h5py: `pip install h5py`; raises InputError without it.
    Source: Heusch, Anjos and Marcel, arXiv:1709.00962, 2017; https://www.idiap.ch/dataset/cohface
    """

    def reference(folder: Path) -> Reference:
        path = existing(folder / "data.hdf5")
        try:
            import h5py
        except ImportError:
            raise InputError(f"{path}: reading it takes h5py; pip install h5py") from None
        try:
            with h5py.File(path) as file:
                time_s, pulse = (np.asarray(file[key], np.float64) for key in ("time", "pulse"))
        except (OSError, KeyError, ValueError, TypeError):
            raise InputError(f"{path}: not an HDF5 file with `pulse` and `time`; {REPAIR}") from None
        return make_reference(path, time_s, pulse)

    return [
        Recording(
            f"{folder.parent.name}/{folder.name}",
            "cohface",
            partial(open_file, folder / "data.avi"),
            partial(reference, folder),
        )
        for folder in _folders(root, "*/[0-3]")
    ]


def find_demo(root: Path) -> list[Recording]:
    """The built-in demo scene, as `launch.predict` maps it; its mask is exact and includes the rates."""
    settings = SceneConfig()
    return [scene_recording("demo", demo_scene.make_scene(jax.random.key(0), settings), settings.fps)]


def scene_recording(name: str, made: demo_scene.Scene, fps: float) -> Recording:
    """A generated scene as a recording."""
    return Recording(
        name,
        "demo",
        open_video=lambda: video.from_array(made.frames, fps=fps, name=name),
        reference=lambda: None,
        truth=SCENE,
        mask=lambda: Mask(*exact_mask(made)),
    )


DATASETS: dict[str, tuple[Callable[[Path], list[Recording]], str]] = {
    "ubfc1": (find_ubfc1, "<subject>/vid.avi"),
    "ubfc2": (find_ubfc2, "subject<n>/vid.avi"),
    "pure": (find_pure, "01-01/01-01.json"),
    "cohface": (find_cohface, "<subject>/<session>/data.avi"),
    "clips": (find_clips, "videos with <name>.csv beside them, or entries in manifest.json"),
    "demo": (find_demo, "nothing"),
}


def _folders(root: Path, pattern: str) -> list[Path]:
    return sorted(folder for folder in root.glob(pattern) if folder.is_dir())


def _read_pure(folder: Path) -> tuple[Samples, Reference]:
    """The time stamps of the images and the reference, in seconds since the first image."""
    path = existing(folder / f"{folder.name}.json")
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
    return image_s, make_reference(path, time_s, pulse, rate)


def exact_mask(
    made: demo_scene.Scene, *, edge_px: int = 8
) -> tuple[UInt8[np.ndarray, "height width"], Float[np.ndarray, "height width"]]:
    """The scene's skin mask, as in `map_truth`, and the rate of every pixel in bpm, nan outside.

    edge_px: pixels as near as this to an edge are left out.
    """
    inside = made.masks.any(0)
    window = np.ones((2 * edge_px + 1,) * 2, bool)
    far_in, far_out = (ndimage.binary_erosion(m, window, border_value=1) for m in (inside, ~inside))
    mask = np.where(far_in, map_truth.SKIN, np.where(far_out, map_truth.BACKGROUND, map_truth.LEFT_OUT))
    rate_bpm = np.full(inside.shape, np.nan)
    for region, rate in zip(made.masks, made.rates_bpm, strict=True):
        rate_bpm[region] = rate
    return mask.astype(np.uint8), rate_bpm
