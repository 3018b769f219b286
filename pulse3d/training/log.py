"""The log of a training run: metrics.csv, and the same for TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import os
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from pulse3d.files import write_csv
from pulse3d.training.train import Record

_HEADER = (
    "step",
    "loss",
    "accuracy",
    "gradient_norm",
    "clips_per_s",
    "validation_loss",
    "validation_accuracy",
    "validation_within_one_class",
)


class Logbook:
    """Appends records; when resuming at `first_step`, drops the rows of later steps.

    Everything is on disk when `write` returns; it raises OSError if the disk is full.
    """

    def __init__(self, workdir: Path, first_step: int):
        self._path = workdir / "metrics.csv"
        kept = [row for row in read_rows(self._path) if int(row["step"]) <= first_step]
        write_csv(self._path, ",".join(_HEADER), ([row[name] for name in _HEADER] for row in kept))
        board = workdir / "tensorboard"
        board.mkdir(exist_ok=True)
        # not a SummaryWriter: its thread dies on a full disk, and training would then wait for it
        self._board = EventsWriter(str(board / "events"), f".{os.getpid()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)  # drops events of later steps
        self._board.write_event(
            event_pb2.Event(wall_time=time.time(), step=first_step + 1, session_log=start)
        )

    def write(self, record: Record, clips_per_s: float) -> None:
        """Appends one record."""
        values = record.train | {"clips_per_s": clips_per_s}
        values |= {f"validation_{name}": value for name, value in (record.validation or {}).items()}
        with self._path.open("a") as file:
            cells = (f"{values[name]:.6g}" if name in values else "" for name in _HEADER[1:])
            file.write(",".join([str(record.step), *cells]) + "\n")
        for name, value in values.items():
            event = event_pb2.Event(wall_time=time.time(), step=record.step, summary=scalar(name, value))
            self._board.write_event(event)
        self._board.flush()

    def __enter__(self) -> Logbook:
        return self

    def __exit__(self, *exception) -> None:
        with contextlib.suppress(OSError):  # which `write` has raised already
            self._board.close()

    @staticmethod
    def validation_curve(workdir: Path) -> list[dict[str, float]]:
        """The rows of metrics.csv that hold a validation, as numbers."""
        return [
            {
                name: float(row[name])
                for name in ("step", "validation_loss", "validation_accuracy", "validation_within_one_class")
            }
            for row in read_rows(workdir / "metrics.csv")
            if row["validation_loss"]
        ]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics.csv; none if there is no file."""
    if not path.exists():
        return []
    with path.open() as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]
