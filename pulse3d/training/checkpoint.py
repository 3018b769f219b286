"""The folder of a training run: its lock, its settings, and checkpoints to resume from."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from pulse3d.config import Config
from pulse3d.errors import InputError, first_line
from pulse3d.files import UnreadableError, cannot_write, read_json, write_json
from pulse3d.settings import differences, from_dict, to_dict

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps a second trainer out
    fcntl = None  # type: ignore[assignment]


class SaveFailed(RuntimeError):
    """A checkpoint could not be written, for example on a full disk; earlier ones are kept."""


class Checkpoints:
    """The checkpoints of one training run: `latest` to resume from, `best` by a metric.

    `latest` keeps the last two, `best` the best one. A checkpoint appears under its final
    name only once it is complete. If several processes share the folder, each calls every method.
    damaged: a line for each checkpoint that could not be restored; an earlier one was used instead.
    Raises InputError if any part of the folder is a link.
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
                    float(found.metrics(found.best_step())[metric])  # otherwise read only later
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
        """The number of updates at the last checkpoint; None if there is none."""
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
                        f"the checkpoint of step {step} could not be saved ({first_line(error)})"
                    ) from None

    def restore_latest(self, template: Any) -> Any:
        """Restores the last readable state, with the shapes and types of `template`.

        Damaged ones after it are put aside, under checkpoints/damaged. Raises InputError if none
        can be read, and then changes nothing.
        """
        steps, failures = sorted(self._latest.all_steps(), reverse=True), []
        for step in steps:
            try:
                state = self._restore(self._latest, step, template)
            except Exception as failure:
                failures.append((step, failure))
                if jax.process_count() > 1:  # other processes may have read it
                    break
            else:
                for failed, error in failures:
                    self._put_aside(self._folder / "latest" / str(failed), error)
                if failures:
                    self._latest.reload()
                return state
        raise _unreadable(self._folder / "latest" / str(steps[0]), failures[0][1])

    def restore_best(self, template: Any) -> tuple[int, Any]:
        """Restores (step, state) of the best checkpoint, or of the latest if that is missing or damaged."""
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
        self.damaged.append(f"{path}: damaged ({first_line(error.__cause__ or error)}); put aside in {new}")

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
        """Waits for pending writes."""
        self._latest.close()
        self._best.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences messages of orbax and its threads about exceptions that they also raise.

    After an exception they stay silenced, since the threads go on for a while.
    """
    loggers, hook = [logging.getLogger(name) for name in ("absl", "asyncio")], sys.unraisablehook
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True

    def ignore(unraisable: Any) -> None:
        if not re.search("Event loop is closed|TensorStore", str(unraisable.exc_value)):
            hook(unraisable)

    sys.unraisablehook = ignore
    yield
    sys.unraisablehook = hook
    for logger, disabled in zip(loggers, before, strict=True):
        logger.disabled = disabled


def _checksum(state: Any) -> int:
    """A checksum of a state of which every device has a copy."""
    found = 0
    for leaf in jax.tree.leaves(state):
        found = zlib.crc32(np.asarray(jnp.asarray(leaf).addressable_data(0)).tobytes(), found)
    return found


def _unreadable(folder: Path, error: Exception) -> InputError:
    return InputError(
        f"{folder}: a damaged checkpoint ({first_line(error)}); move it elsewhere,"
        " or choose another --workdir"
    )


def _refuse_links(folder: Path) -> None:
    """Raises InputError for links in a folder of checkpoints: they could lead anywhere."""
    for path in (folder, *(folder.rglob("*") if folder.is_dir() else ())):
        if path.is_symlink():
            raise InputError(f"{path}: a link, in a folder of checkpoints; put there what it links to")


def lock_workdir(workdir: Path) -> IO | None:
    """Makes the folder of a run and locks it for this process; None if another process holds the lock.

    The lock, on the file .lock, ends when the returned file is closed, at the latest with the process.
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
    """Makes the folder of a run and writes its config.json, or checks that it holds the same run.

    write: False only checks, for all processes of a run but one. Raises InputError naming the settings
    that differ; only `train.steps` may differ.
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
        write_json(path, to_dict(config))
