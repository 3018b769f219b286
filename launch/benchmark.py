r"""Measures speed as ratios: the programs compared take turns in one run.

    python -m launch.benchmark --out=benchmark

Writes benchmark.json and table.md (also printed) into --out, after every row. Rows, chosen with
--rows=dense,training: dense (the dense map against the definition), keras (against the same weights
in Keras), training (clips per second against Keras fed by NumPy), generator (its share of a step),
precision (bfloat16 against float32), work (cost against work), predict (a minute of 640 x 480 video
from the command line, and its pieces), memory (one minute of video against --minutes), roofline
(against the ceilings of this machine), schedule (the paper's whole training; accelerators only).

keras and training compare with Keras: `pip install keras tensorflow-cpu`. Other load on the machine
affects both sides of a ratio but widens the spread: leave the machine idle. --small runs everything at
a small size, to try it; its figures mean nothing.
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags

from pulse3d import files
from pulse3d.errors import InputError

from . import common
from .benchmarks import ceilings, maps, timing, training, videos
from .benchmarks.base import ACCELERATOR, SMALL, Bench, Figure, NotHere, Sizes, as_json

_OUT = flags.DEFINE_string("out", "pulse3d_out/benchmark", "Output folder.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replaces figures that are in --out already.")
_ROWS = flags.DEFINE_list("rows", None, "Which rows; default: all that this machine can have.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Repetitions of every measurement.", lower_bound=1)
_DEVICE = flags.DEFINE_enum("device", None, ["cpu", "gpu", "tpu"], "Where it runs; default: as JAX chooses.")
_MINUTES = flags.DEFINE_integer("minutes", 2, "Length of the long video of the row memory.", lower_bound=2)
_SMALL = flags.DEFINE_bool("small", False, "Everything in small, to try the program.")

ROWS: dict[str, Callable[[Bench], list[Figure]]] = {
    "dense": maps.dense_row,
    "keras": maps.keras_row,
    "training": training.training_row,
    "generator": training.generator_row,
    "precision": training.precision_row,
    "work": maps.work_row,
    "predict": videos.predict_row,
    "memory": videos.memory_row,
    "roofline": ceilings.roofline_row,
    "schedule": training.schedule_row,
}
GROUPS = {
    "Output": (_OUT, _OVERWRITE),
    "Measurements": (_ROWS, _REPEATS, _MINUTES, _SMALL),
    "Machine": (_DEVICE,),
}


def main() -> None:
    started = time.time()
    bench = make_bench(Path(tempfile.gettempdir()))
    rows = _ROWS.value or list(ROWS)
    for row in rows:
        if row not in ROWS:
            raise InputError(f"--rows={row}: no such row; there are {', '.join(ROWS)}")
    out = Path(_OUT.value)
    if not _OVERWRITE.value:
        files.refuse_to_overwrite(out, ("benchmark.json", "table.md"))
    files.make_folder(out)
    result: dict[str, Any] = {
        "machine": timing.describe_machine(bench.devices[0]) | {"devices": len(bench.devices)},
        "repeats": bench.repeats,
        "sizes": dataclasses.asdict(bench.sizes),
        "skipped": {},
        "figures": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        bench = dataclasses.replace(bench, folder=Path(folder))
        for row in rows:
            print(f"{row} ...", file=sys.stderr, flush=True)
            try:
                result["figures"] += [{"row": row} | as_json(figure) for figure in ROWS[row](bench)]
            except NotHere as why:
                result["skipped"][row] = str(why)
                print(f"{row} skipped: {why}", file=sys.stderr)
            result["seconds"] = round(time.time() - started, 1)
            files.write_json(out / "benchmark.json", result)
            files.write_atomically(out / "table.md", make_table(result).encode())
    print(make_table(result))
    print(f"written to {out}: benchmark.json, table.md")


def make_bench(folder: Path) -> Bench:
    """The devices and sizes that the flags ask for; raises InputError if there is no such device."""
    try:
        devices = tuple(jax.devices(_DEVICE.value))
    except RuntimeError:
        raise InputError(f"--device={_DEVICE.value}: JAX sees none; choose cpu") from None
    jax.config.update("jax_default_device", devices[0])
    sizes = Sizes() if devices[0].platform == "cpu" else ACCELERATOR
    return Bench(SMALL if _SMALL.value else sizes, _REPEATS.value, devices, _MINUTES.value, folder)


def make_table(result: dict[str, Any]) -> str:
    """The figures as a Markdown table, under a line about the machine."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores; {machine['devices']} x {machine['device']}; {versions};"
        f" {result['repeats']} repetitions, load before {machine.get('load_before', 'unknown')}.",
        "",
        "| row | what | ratio | lowest to highest | costs, medians |",
        "|---|---|---|---|---|",
    ]
    for figure in result["figures"]:
        ratio = figure["ratio"]
        costs = "; ".join(f"{name} {cost['median']:.3g}" for name, cost in figure["costs"].items())
        unit = f" ({figure['cost_unit']})" if costs else ""
        lines.append(
            f"| {figure['row']} | {figure['what']} | {ratio['median']:.4g} |"
            f" {ratio['lowest']:.4g} to {ratio['highest']:.4g} | {costs}{unit} |"
        )
    lines += [f"| {row} | skipped: {why} | | | |" for row, why in result["skipped"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    common.run(main)
