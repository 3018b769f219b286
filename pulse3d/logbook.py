"""The log of a training run: metrics.csv, and the same for TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path

import tensorboardX

from pulse3d.files import write_atomically
from pulse3d.train import Record

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
    """Appends records; on resuming at `first_step`, drops the rows of steps to be done again."""

    def __init__(self, workdir: Path, first_step: int):
        self._path = workdir / "metrics.csv"
        kept = [row for row in read_rows(self._path) if int(row["step"]) <= first_step]
        lines = [",".join(_HEADER), *(",".join(row[name] for name in _HEADER) for row in kept)]
        write_atomically(self._path, ("\n".join(lines) + "\n").encode())
        self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1)

    def write(self, record: Record, clips_per_s: float) -> None:
        """Appends one record."""
        values = record.train | {"clips_per_s": clips_per_s}
        values |= {f"validation_{name}": value for name, value in (record.validation or {}).items()}
        with self._path.open("a") as file:
            cells = (f"{values[name]:.6g}" if name in values else "" for name in _HEADER[1:])
            file.write(",".join([str(record.step), *cells]) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, record.step)

    def __enter__(self) -> Logbook:
        return self

    def __exit__(self, *exception) -> None:
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
