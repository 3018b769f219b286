"""Parameters on disk: training checkpoints (the only importer of orbax), weights files, Keras import.

A weights file is a plain `.npz`: one array per parameter, and `metadata`, a JSON text with the
config and the provenance. Files are data: nothing in them is ever executed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.resources
import io
import itertools
import json
import logging
import os
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from pulse3d import model
from pulse3d.config import DEFAULT_PRESET, PRESETS, Config, differences, from_dict, to_dict
from pulse3d.errors import InputError
from pulse3d.files import (
    Arrays,
    UnreadableError,
    foreign_errors,
    parse_json,
    read_json,
    write_atomically,
)
from pulse3d.whole import cannot_write

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps a second trainer out
    fcntl = None  # type: ignore[assignment]

KERAS_MODEL, KERAS_WEIGHTS = "model_conv3D.json", "weights_conv3D.h5"
MAX_BYTES = 2**30  # of weights
_FORMAT = "pulse3d weights 1"


class Weights(NamedTuple):
    """Parameters, the config of their network, and where they come from."""

    params: model.Params
    config: Config
    provenance: dict[str, Any]
    name: str


class SaveFailed(RuntimeError):
    """A checkpoint could not be written, on a full disk for one; those before it are kept."""


class Checkpoints:
    """The checkpoints of one training run: `latest` to resume from, `best` by a metric.

    `latest` keeps the last two, `best` the best one. A checkpoint appears under its final
    name only once it is complete. Of several processes, which share the folder, each calls all.
    damaged: what could not be restored, a line each; the checkpoint before it was. Raises InputError where
    a part of the folder is a link to elsewhere.
    """

    def __init__(self, workdir: str | os.PathLike, metric: str):
        self._folder = folder = Path(workdir).absolute() / "checkpoints"
        _refuse_links(folder)
        self.damaged: list[str] = []

        def manager(name: str, **options) -> ocp.CheckpointManager:
            settings = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **options)
            try:
                found = ocp.CheckpointManager(
                    folder / name, options=settings, item_handlers=ocp.StandardCheckpointHandler()
                )
                if name == "best" and found.all_steps():
                    float(found.metrics(found.best_step())[metric])  # read only later, otherwise
            except Exception as error:
                raise _unreadable(folder / name, error) from error
            return found

        self._latest = manager("latest", max_to_keep=2)
        mode = "min" if metric == "loss" else "max"
        best = functools.partial(manager, "best", max_to_keep=1, best_fn=lambda m: m[metric], best_mode=mode)
        try:
            self._best = best()
        except InputError as error:
            if jax.process_count() > 1 or self.latest_step() is None:
                raise
            self._put_aside(folder / "best", error)
            self._best = best()

    def latest_step(self) -> int | None:
        """The number of updates of the last checkpoint; None if there is none."""
        return self._latest.latest_step()

    def save(self, step: int, state: Any, metrics: dict[str, float] | None) -> None:
        """Saves the state after `step` updates, with its validation metrics if it has any.

        Raises SaveFailed.
        """
        for manager in (self._best, self._latest) if metrics else (self._latest,):
            if manager.latest_step() is None or step > manager.latest_step():
                try:
                    with _quiet():
                        manager.save(
                            step,
                            args=ocp.args.StandardSave(state),
                            metrics=metrics,
                            custom_metadata={"crc32": _checksum(state)},
                        )
                except Exception as error:
                    raise SaveFailed(
                        f"the checkpoint of step {step} could not be saved ({_first_line(error)})"
                    ) from None

    def restore_latest(self, template: Any) -> Any:
        """The last state that can be read, with the shapes and types of `template`.

        Damaged ones after it are put aside, under checkpoints/damaged. Raises InputError where none
        can be read, and then changes nothing.
        """
        steps, failures = sorted(self._latest.all_steps(), reverse=True), []
        for step in steps:
            try:
                state = self._restore(self._latest, step, template)
            except Exception as failure:
                failures.append((step, failure))
                if jax.process_count() > 1:  # the others may have read it
                    break
            else:
                for failed, error in failures:
                    self._put_aside(self._folder / "latest" / str(failed), error)
                if failures:
                    self._latest.reload()
                return state
        raise _unreadable(self._folder / "latest" / str(steps[0]), failures[0][1])

    def restore_best(self, template: Any) -> tuple[int, Any]:
        """(step, state) of the best state saved; of the latest, where that is damaged."""
        step = self._best.best_step()
        if step is not None:
            try:
                return step, self._restore(self._best, step, template)
            except Exception as error:
                folder = self._folder / "best" / str(step)
                if jax.process_count() > 1:
                    raise _unreadable(folder, error) from None
                self._put_aside(folder, error)
                self._best.reload()
        return self._latest.latest_step(), self.restore_latest(template)

    def _put_aside(self, path: Path, error: Exception) -> None:
        aside, name = self._folder / "damaged", "-".join(path.relative_to(self._folder).parts)
        aside.mkdir(exist_ok=True)
        names = (aside / f"{name}-{number}" for number in itertools.count())
        new = next(candidate for candidate in names if not candidate.exists())
        path.rename(new)
        self.damaged.append(f"{path}: damaged ({_first_line(error.__cause__ or error)}); put aside in {new}")

    @staticmethod
    def _restore(manager, step, template):
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        with _quiet():
            stored = jax.tree.leaves(manager.item_metadata(step))
            if sorted(tuple(x.shape) for x in stored) != sorted(x.shape for x in jax.tree.leaves(abstract)):
                raise ValueError("its arrays have other shapes")
            state = manager.restore(step, args=ocp.args.StandardRestore(abstract))
            saved_as = (manager.metadata(step).custom_metadata or {}).get("crc32")
        # absent in runs of earlier versions
        if saved_as is not None and saved_as != _checksum(state):
            raise ValueError("its contents have changed")
        return state

    def close(self) -> None:
        """Waits for what is being written."""
        self._latest.close()
        self._best.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what orbax and its threads say of an exception beside raising it.

    After an exception it stays quiet, since the threads go on for a while.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    before, logger.disabled = logger.disabled, True

    def ignore(unraisable: Any) -> None:
        if not re.search("Event loop is closed|TensorStore", str(unraisable.exc_value)):
            hook(unraisable)

    sys.unraisablehook = ignore
    yield
    logger.disabled, sys.unraisablehook = before, hook


def _checksum(state: Any) -> int:
    """A number that tells whether a state, of which every device has a copy, is still the same."""
    found = 0
    for leaf in jax.tree.leaves(state):
        found = zlib.crc32(np.asarray(jnp.asarray(leaf).addressable_data(0)).tobytes(), found)
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _unreadable(folder: Path, error: Exception) -> InputError:
    return InputError(
        f"{folder}: a damaged checkpoint ({_first_line(error)}); move it elsewhere,"
        " or choose another --workdir"
    )


def _refuse_links(folder: Path) -> None:
    """Raises InputError for links in a folder of checkpoints, by which a file could be anywhere."""
    for path in (folder, *(folder.rglob("*") if folder.is_dir() else ())):
        if path.is_symlink():
            raise InputError(f"{path}: a link, in a folder of checkpoints; put there what it links to")


def lock_workdir(workdir: Path) -> IO | None:
    """Makes the folder of a run and reserves it for this process; None where another process has it.

    The lock, on the file .lock, goes with the file that is returned, at the latest with the process.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / ".lock").open("ab")
    except OSError as error:
        raise cannot_write(workdir, error) from None
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:
            pass  # a file system without locks
    return file


def prepare_workdir(workdir: Path, config: Config, *, write: bool = True) -> None:
    """Makes the folder of a run and writes its config.json, or checks that it is the same run.

    write: False only checks, as all processes of a run but one do. Raises InputError that names the
    settings that differ; only `train.steps` may.
    """
    path = workdir / "config.json"
    if path.exists():
        try:
            saved = from_dict(read_json(path))
        except (InputError, UnreadableError) as error:
            raise InputError(
                f"{path}: not the settings of a run ({error}); choose another --workdir, or delete it to go"
                " on with the settings of this command"
            ) from None
        extended = dataclasses.replace(
            saved, train=dataclasses.replace(saved.train, steps=config.train.steps)
        )
        if changes := differences(extended, config):
            raise InputError(
                f"{workdir}: holds a run of other settings ({'; '.join(changes)}); choose another --workdir"
            )
    if write:
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(to_dict(config), indent=2) + "\n").encode())


def save_weights(path: Path, params: model.Params, config: Config, provenance: dict[str, Any]) -> None:
    """Writes a weights file: the parameters and what they were trained as.

    How a network is used (`map`, `readout`) is not part of it; that comes from the preset.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    trained_as = {name: group for name, group in to_dict(config).items() if name not in ("map", "readout")}
    metadata = {"format": _FORMAT, "config": trained_as, "provenance": provenance}
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in flat.items()}
    np.savez_compressed(buffer, metadata=np.array(json.dumps(metadata)), **arrays)
    write_atomically(Path(path), buffer.getvalue())


def load_weights(name: str, *, like: Config | None = None) -> Weights:
    """Weights by name ("default" or a preset), weights file, training folder, or Keras folder.

    Raises InputError for anything that is not one of these, and where `like` is given for
    weights of another network than that config's.
    """
    weights = _find_weights(name)
    if like is not None:
        flat = traverse_util.flatten_dict(weights.params, sep="/")
        _check_shapes({key: value.shape for key, value in flat.items()}, like, name)
    return weights


def _find_weights(name: str) -> Weights:
    if name == "default" or name in PRESETS:
        preset = DEFAULT_PRESET if name == "default" else name
        with importlib.resources.as_file(
            importlib.resources.files("pulse3d") / "weights" / f"{preset}.npz"
        ) as file:
            return _load_file(file, preset)
    path = Path(name)
    if path.is_dir():
        if (path / KERAS_MODEL).exists():
            return import_keras(path)
        if (path / "weights.npz").exists():
            return _load_file(path / "weights.npz", path.name)
        raise InputError(
            f"--weights={name}: the folder holds neither weights.npz (launch.train writes it)"
            f" nor {KERAS_MODEL}"
        )
    if not path.exists():
        raise InputError(
            f"--weights={name}: no such file; name a file, a folder, or"
            f" {' or '.join(sorted({'default', *PRESETS}))}"
        )
    return _load_file(path, path.stem)


def _load_file(path: Path, name: str) -> Weights:
    try:
        with Arrays(path, max_bytes=MAX_BYTES) as archive:
            if "metadata" not in archive.shapes:
                raise UnreadableError("it has no metadata")
            config, provenance = _read_metadata(parse_json(archive.text("metadata")))
            shapes = {key: shape for key, shape in archive.shapes.items() if key != "metadata"}
            _check_shapes(shapes, config, path)
            flat = {key: archive[key] for key in shapes}
    except UnreadableError as error:
        raise InputError(f"{path}: not a weights file ({error}); write it anew with launch.train") from None
    return Weights(_checked_params(flat, config, path), config, provenance, name)


def _read_metadata(metadata: Any) -> tuple[Config, dict[str, Any]]:
    """Config and provenance; raises UnreadableError where it is not what `save_weights` writes."""
    parts = metadata if isinstance(metadata, dict) else {}
    trained_as, provenance = parts.get("config"), parts.get("provenance")
    if parts.get("format") != _FORMAT or not isinstance(trained_as, dict) or not isinstance(provenance, dict):
        raise UnreadableError(f"its metadata are not of the format {_FORMAT!r}")
    used_as = to_dict(PRESETS.get(str(trained_as.get("preset")), Config()))
    return from_dict(trained_as | {name: used_as[name] for name in ("map", "readout")}), provenance


def import_keras(folder: Path) -> Weights:
    """The network of the original program: `model_conv3D.json` and `weights_conv3D.h5`.

    The rate axis is the original's: from 55 bpm in steps of 2.5 bpm. Needs h5py
    (`pip install 'pulse3d[keras]'`). Raises InputError for another architecture.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{folder}: reading Keras weights needs h5py; pip install 'pulse3d[keras]'"
        ) from None
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
            _check_shapes({name: dataset.shape for name, dataset in stored.items()}, config, folder)
            if sum(dataset.nbytes for dataset in stored.values()) > MAX_BYTES:
                raise UnreadableError(f"holds more than {MAX_BYTES:,} bytes")
            with foreign_errors():
                flat = {name: np.asarray(dataset) for name, dataset in stored.items()}
    except (InputError, UnreadableError) as error:
        raise InputError(f"{folder}: not the original program's network ({error})") from None
    return Weights(
        _checked_params(flat, config, folder), config, {"source": "Keras import"}, folder.resolve().name
    )


def _read_keras_layers(text: Any) -> tuple[Config, dict[str, str]]:
    """The config of the original program's network, and its names of the layers by ours."""
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
    """A dataset of an HDF5 file; raises UnreadableError where it, or what it holds, is elsewhere."""
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


def _checked_params(flat: dict[str, np.ndarray], config: Config, path: Path) -> model.Params:
    if any(array.dtype.kind != "f" for array in flat.values()):
        raise InputError(f"{path}: the weights hold values that are no floats")
    with np.errstate(over="ignore"):
        params = {name: array.astype(np.float32) for name, array in flat.items()}
    if not all(np.isfinite(array).all() for array in params.values()):
        raise InputError(f"{path}: the weights hold values that are not finite")
    return traverse_util.unflatten_dict({name: jnp.asarray(x) for name, x in params.items()}, sep="/")


def _check_shapes(found: dict[str, tuple[int, ...]], config: Config, name: str | Path) -> None:
    try:
        expected = model.param_shapes(config)
    except Exception as error:
        raise InputError(f"{name}: settings that make no network ({_first_line(error)})") from None
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if wrong:
        raise InputError(
            f"{name}: weights for another network: {wrong[0]} is {found.get(wrong[0])},"
            f" expected {expected.get(wrong[0])}"
        )
