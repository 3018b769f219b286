"""Weights on disk: a trained network, its config and where it comes from.

A weights file is a plain `.npz`: one array per parameter, and `metadata`, a JSON text with the
config and the provenance. Files are data: nothing in them is ever executed.
"""

from __future__ import annotations

import importlib.resources
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from pulse3d.archive import Arrays, write_arrays
from pulse3d.config import CLASSICAL, DEFAULT_PRESET, PRESETS, Config
from pulse3d.errors import InputError, expect_kind
from pulse3d.files import UnreadableError, parse_json
from pulse3d.network import model
from pulse3d.network.keras_import import KERAS_MODEL, read_network
from pulse3d.settings import from_dict, to_dict

MAX_BYTES = 2**30  # of weights
_FORMAT = "pulse3d weights 1"


class Weights(NamedTuple):
    """Parameters, the config of their network, and where they come from."""

    params: model.Params
    config: Config
    provenance: dict[str, Any]
    name: str


def save_weights(path: Path, params: model.Params, config: Config, provenance: dict[str, Any]) -> None:
    """Writes a weights file: the parameters and the settings they were trained with.

    Settings of use (`map`, `readout`) are not stored; they come from the preset.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    trained_as = {name: group for name, group in to_dict(config).items() if name not in ("map", "readout")}
    metadata = {"format": _FORMAT, "config": trained_as, "provenance": provenance}
    write_arrays(path, metadata=np.array(json.dumps(metadata)), **flat)


def load_weights(name: str, *, like: Config | None = None) -> Weights:
    """Loads weights by name ("default" or a preset) or from a weights file, training folder or Keras folder.

    green, chrom and pos are classical methods, which have no parameters.

    Raises InputError for anything else and, if `like` is given, for weights of another network
    than that config's.
    """
    weights = _find_weights(name)
    if like is not None:
        flat = traverse_util.flatten_dict(weights.params, sep="/")
        model.check_shapes({key: value.shape for key, value in flat.items()}, like, name)
    return weights


def find_weights(weights: Weights | str | os.PathLike) -> Weights:
    """The weights themselves, or those that `load_weights` finds by this name or path."""
    if isinstance(weights, Weights):
        return weights
    expect_kind("weights", weights, (str, os.PathLike), "a name, a path, or what load_weights gives")
    return load_weights(str(weights))


def _find_weights(name: str) -> Weights:
    if name == "default" or name in PRESETS:
        preset = DEFAULT_PRESET if name == "default" else name
        with importlib.resources.as_file(
            importlib.resources.files("pulse3d") / "weights" / f"{preset}.npz"
        ) as file:
            return _load_file(file, preset)
    if name in CLASSICAL:
        return Weights({}, CLASSICAL[name], {"source": "a classical method, without weights"}, name)
    path = Path(name)
    if path.is_dir():
        if (path / KERAS_MODEL).exists():
            flat, config = read_network(path, max_bytes=MAX_BYTES)
            provenance = {"source": "Keras import"}
            return Weights(_checked_params(flat, config, path), config, provenance, path.resolve().name)
        if (path / "weights.npz").exists():
            return _load_file(path / "weights.npz", path.name)
        raise InputError(
            f"weights={name}: the folder holds neither weights.npz (launch.train writes it) nor {KERAS_MODEL}"
        )
    if not path.exists():
        raise InputError(
            f"weights={name}: no such file; name a file, a folder, or"
            f" one of {', '.join(sorted({'default', *PRESETS, *CLASSICAL}))}"
        )
    return _load_file(path, path.stem)


def _load_file(path: Path, name: str) -> Weights:
    try:
        with Arrays(path, max_bytes=MAX_BYTES) as archive:
            if "metadata" not in archive.shapes:
                raise UnreadableError("it has no metadata")
            config, provenance = _read_metadata(parse_json(archive.text("metadata")))
            shapes = {key: shape for key, shape in archive.shapes.items() if key != "metadata"}
            model.check_shapes(shapes, config, path)
            flat = {key: archive[key] for key in shapes}
    except UnreadableError as error:
        raise InputError(f"{path}: not a weights file ({error}); write it anew with launch.train") from None
    return Weights(_checked_params(flat, config, path), config, provenance, name)


def _read_metadata(metadata: Any) -> tuple[Config, dict[str, Any]]:
    """Config and provenance; raises UnreadableError if they are not what `save_weights` writes."""
    parts = metadata if isinstance(metadata, dict) else {}
    trained_as, provenance = parts.get("config"), parts.get("provenance")
    if parts.get("format") != _FORMAT or not isinstance(trained_as, dict) or not isinstance(provenance, dict):
        raise UnreadableError(f"its metadata are not of the format {_FORMAT!r}")
    used_as = to_dict(PRESETS.get(str(trained_as.get("preset")), Config()))
    return from_dict(trained_as | {name: used_as[name] for name in ("map", "readout")}), provenance


def _checked_params(flat: dict[str, np.ndarray], config: Config, path: Path) -> model.Params:
    if any(array.dtype.kind != "f" for array in flat.values()):
        raise InputError(f"{path}: the weights hold values that are no floats")
    with np.errstate(over="ignore"):
        params = {name: array.astype(np.float32) for name, array in flat.items()}
    if not all(np.isfinite(array).all() for array in params.values()):
        raise InputError(f"{path}: the weights hold values that are not finite")
    return traverse_util.unflatten_dict({name: jnp.asarray(x) for name, x in params.items()}, sep="/")
