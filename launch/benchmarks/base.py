"""Shared by all rows: the amount of work, the devices, and the figures."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax

from pulse3d.errors import InputError
from pulse3d.network import weights_file

from . import original, timing
from .timing import Seconds, Spread


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much work the rows do.

    frame: height, width. batch, single: patches of the definition, in one batch and one by one.
    clips: of a training step, for each preset. video_s, short_s: length of the videos mapped.
    minute_s: what counts as a minute of video in the row memory.
    matrix, array: size of the matrices and arrays that measure the ceilings.
    """

    frame: tuple[int, int] = (480, 640)
    batch: int = 256
    single: int = 16
    keras_single: int = 8
    clips: int = 152
    default_clips: int = 128
    video_s: float = 60.0
    short_s: float = 14.0
    minute_s: float = 60.0
    matrix: int = 2048
    array: int = 2**26


SMALL = Sizes((96, 128), 16, 2, 2, 4, 4, 12.0, 11.0, 11.0, 256, 2**20)
ACCELERATOR = Sizes(batch=4096, clips=15_200, default_clips=4096, matrix=8192, array=2**28)


@dataclasses.dataclass(frozen=True)
class Bench:
    """The settings that all rows share."""

    sizes: Sizes
    repeats: int
    devices: tuple[jax.Device, ...]
    minutes: int
    folder: Path

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are CPUs."""
        return self.devices[0].platform == "cpu"

    @property
    def long_repeats(self) -> int:
        """Repetitions of measurements that take a minute each."""
        return max(1, self.repeats // 2)


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table: what is compared, the ratio, and what each side costs."""

    what: str
    ratio: Spread
    costs: dict[str, Spread]
    unit: str


class NotHere(Exception):
    """A row cannot run on this machine; the message says why."""


def as_json(figure: Figure) -> dict[str, Any]:
    """A figure as in benchmark.json."""
    return {
        "what": figure.what,
        "ratio": figure.ratio._asdict(),
        "costs": {name: cost._asdict() for name, cost in figure.costs.items()},
        "cost_unit": figure.unit,
    }


def compare(times: dict[str, Seconds], what: str, slow: str, fast: str, unit: str) -> Figure:
    """The time of `slow` over that of `fast`, per unit of work."""
    costs = {name: timing.spread(times[name]) for name in (slow, fast)}
    return Figure(what, timing.spread(times[slow] / times[fast]), costs, unit)


def make_keras(bench: Bench, weights: weights_file.Weights) -> Any:
    """The Keras model of these weights; raises NotHere if Keras cannot be compared here."""
    if not bench.on_cpu:
        raise NotHere("Keras is compared on the CPU")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return original.make_network(weights.params, weights.config)
    except InputError as error:
        raise NotHere(str(error)) from None
