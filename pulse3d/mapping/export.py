"""Exports the mapping of a window as a standalone program, for users without this package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pulse3d import files
from pulse3d.errors import InputError
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network.weights_file import Weights

PLATFORMS = ("cpu", "cuda", "tpu")


def export_network(
    weights: Weights, frame_shape: tuple[int, int], path: Path, *, stride_px: int | None = None
) -> dict[str, Any]:
    """Writes the mapping of a window as a standalone program, by `jax.export`, for frames (height, width).

    With only jax and flatbuffers, `jax.export.deserialize(bytearray(file.read())).call(window)` gives the
    map, on CPU, GPU or TPU. Also writes path.json and returns its contents: shapes, units, and how a frame
    is turned into cells. Raises InputError if flatbuffers is missing (the extra `export`).
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise InputError(
            "export: writing a network needs flatbuffers, the extra export; pip install flatbuffers"
        )
    config = weights.config
    mapper = make_mapper(weights.params, config, frame_shape, stride_px=stride_px)
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
    files.write_json(path.with_name(path.name + ".json"), about)
    return about
