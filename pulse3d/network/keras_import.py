"""Reads the original program's network from the files of Keras; needs h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pulse3d.config import PRESETS, Config
from pulse3d.errors import InputError
from pulse3d.files import UnreadableError, foreign_errors, read_json
from pulse3d.network import model
from pulse3d.settings import from_dict, to_dict

KERAS_MODEL, KERAS_WEIGHTS = "model_conv3D.json", "weights_conv3D.h5"


def read_network(folder: Path, *, max_bytes: int) -> tuple[dict[str, np.ndarray], Config]:
    """Reads the original network: its parameters by our names, like "hidden/kernel", and its config.

    folder: holds `model_conv3D.json` and `weights_conv3D.h5`. The rate axis is the original's: from 55 bpm in
    steps of 2.5 bpm. Needs h5py (`pip install h5py`). Raises InputError for another architecture
    and for more than `max_bytes` of weights.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(f"{folder}: reading Keras weights needs h5py; pip install h5py") from None
    try:
        config, names = _read_keras_layers(read_json(folder / KERAS_MODEL))
        with foreign_errors():
            file = h5py.File(folder / KERAS_WEIGHTS)
        with file:
            with foreign_errors():
                stored = {
                    f"{ours}/{leaf}": _inside(file, f"{theirs}/{theirs}/{leaf}:0")
                    for ours, theirs in names.items()
                    for leaf in ("kernel", "bias")
                }
            model.check_shapes({name: dataset.shape for name, dataset in stored.items()}, config, folder)
            if sum(dataset.nbytes for dataset in stored.values()) > max_bytes:
                raise UnreadableError(f"holds more than {max_bytes:,} bytes")
            with foreign_errors():
                return {name: np.asarray(dataset) for name, dataset in stored.items()}, config
    except (InputError, UnreadableError) as error:
        raise InputError(f"{folder}: not the original program's network ({error})") from None


def _read_keras_layers(text: Any) -> tuple[Config, dict[str, str]]:
    """The config of the original program's network, and its layer names, by our names."""
    paper = to_dict(PRESETS["paper"])
    try:
        layers = text["config"]["layers"]
        by_class = {layer["class_name"]: layer["config"] for layer in layers}
        dense = [layer["config"] for layer in layers if layer["class_name"] == "Dense"]
        _, frames, patch, _, channels = next(
            layer["config"]["batch_input_shape"] for layer in layers if "batch_input_shape" in layer["config"]
        )
        conv, pool = by_class["Conv3D"], by_class["MaxPooling3D"]
        rates = dense[-1]["units"] - 1
        high_bpm = paper["clip"]["low_bpm"] + 2.5 * (rates - 1)
        clip = {
            "frames": frames, "patch_px": patch, "channels": channels, "rates": rates, "high_bpm": high_bpm,
        }  # fmt: skip
        network = {
            "filters": conv["filters"], "kernel": conv["kernel_size"], "pool": pool["pool_size"][0],
            "hidden": dense[0]["units"],
        }  # fmt: skip
        names = {"convolution": conv["name"], "hidden": dense[0]["name"], "classes": dense[1]["name"]}
    except (LookupError, TypeError, ValueError, ArithmeticError, StopIteration) as error:
        raise UnreadableError(f"{KERAS_MODEL} has other layers: {error!r}") from None
    changed = {"clip": paper["clip"] | clip, "model": paper["model"] | network}
    return from_dict(paper | changed), names


def _inside(file: Any, name: str) -> Any:
    """A dataset of an HDF5 file; raises UnreadableError if it, or its data, is not in the file."""
    import h5py

    node, parts = file, name.split("/")
    for part in parts:
        if not isinstance(node, h5py.Group) or not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise UnreadableError(f"{name} is missing, or a link")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.external or node.is_virtual:
        raise UnreadableError(f"{name} is not in the file")
    if node.dtype.kind != "f":
        raise UnreadableError(f"{name} holds {node.dtype}, not floats")
    return node
