"""Results and networks for users of other programs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.io

from pulse3d import files, mapping
from pulse3d.checkpoint import Weights
from pulse3d.errors import InputError
from pulse3d.result import Result
from pulse3d.whole import whole_file

MAT_BYTES = 2**31 - 2**20  # what a variable of a MATLAB file of version 5 can hold
PLATFORMS = ("cpu", "cuda", "tpu")


def write_mat(result: Result, path: Path) -> None:
    """Writes the maps as the original program does: `map_p`, (row, col, window, class), "no pulse" last.

    Beside it are `bpm` (the rates of the classes but the last), `time_s`, `row_px` and `col_px`. In MATLAB,
    [~, i] = max(map_p(:, :, 1, :), [], 4) is the most likely class of every place in the first window.
    Raises InputError for more than 2 GB, which such a file cannot hold.
    """
    windows, rows, cols = result.rate_bpm.shape
    size = 4 * windows * rows * cols * (len(result.rate_axis_bpm) + 1)
    if size > MAT_BYTES:
        raise InputError(
            f"{path}: {size / 2**30:.1f} GB of maps, and a .mat file holds 2; take a larger step or stride"
        )
    maps = np.empty((rows, cols, windows, len(result.rate_axis_bpm) + 1), np.float32)
    for window, shares in enumerate(result.probabilities()):
        maps[:, :, window, :-1] = shares
    maps[..., -1] = result.network_no_pulse.transpose(1, 2, 0)
    names = ("time_s", "row_px", "col_px")
    named = {"bpm": result.rate_axis_bpm} | {name: getattr(result, name) for name in names}
    with whole_file(path) as temporary, temporary.open("wb") as file:
        scipy.io.savemat(file, {"map_p": maps} | named, do_compression=True, oned_as="row")


def export_network(
    weights: Weights, frame_shape: tuple[int, int], path: Path, *, stride_px: int | None = None
) -> dict[str, Any]:
    """Writes the mapping of a window as a program of its own, by `jax.export`, for frames (height, width).

    With jax and flatbuffers alone, `jax.export.deserialize(bytearray(file.read())).call(window)` gives the
    map, on CPU, GPU or TPU. Writes path.json beside it, and returns what it says: shapes, units, and how a
    frame becomes the network's cells. Raises InputError where flatbuffers is missing (the extra `export`).
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise InputError(f"{path}: writing it needs flatbuffers; pip install 'pulse3d[export]'")
    config = weights.config
    mapper = mapping.make_mapper(weights.params, config, frame_shape, stride_px=stride_px)
    clip, layout = config.clip, mapper.layout
    exported = jax.export.export(jax.jit(mapper.program), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct(mapper.window_shape, np.float32)
    )
    row_px, col_px = layout.centres_px()
    channels = "red, green and blue" if clip.channels == 3 else "green"
    about = {
        "load": "jax.export.deserialize(bytearray(open(path, 'rb').read())).call(window)",
        "input": f"float32 (time, row, col, channel), {channels} as a share of white, 0 to 1",
        "input_shape": mapper.window_shape,
        "output": "float32 (row, col, class): probability of each of rate_axis_bpm and, last, of no pulse",
        "output_shape": exported.out_avals[0].shape,
        "frames_per_second": clip.fps,
        "mean_of_frames": config.map.average_frames,
        "frame_height_px": frame_shape[0],
        "frame_width_px": frame_shape[1],
        "cell_px": layout.cell_px,
        "first_cell_px": [layout.top, layout.left],
        "row_px": row_px.tolist(),
        "col_px": col_px.tolist(),
        "rate_axis_bpm": clip.rate_axis_bpm.tolist(),
        "platforms": PLATFORMS,
        "weights": weights.name,
        "notice": "Not a medical device.",
    }
    files.write_atomically(path, bytes(exported.serialize()))
    files.write_json(path.with_name(path.name + ".json"), json.loads(json.dumps(about)))
    return about
