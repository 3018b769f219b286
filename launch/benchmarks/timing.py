"""Comparable measurements of time and memory.

Contenders take turns, so that other load on the machine affects all of them. A comparison is the ratio of
neighbouring measurements: its median and extremes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

Seconds = Float[np.ndarray, "repeat"]

# A small process of its own starts the command: a child's peak memory includes that of its parent.
_METER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
seconds = time.perf_counter() - started
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
print(json.dumps({"code": code, "seconds": seconds, "peak_bytes": peak}))
"""


@dataclass(frozen=True)
class Contender:
    """Something to time: each call of `run` does `work` units of work.

    Timing waits for its output.
    """

    run: Callable[[], Any]
    work: int | float = 1


class Spread(NamedTuple):
    """Median and extremes of repeated measurements."""

    median: float
    lowest: float
    highest: float


class Usage(NamedTuple):
    """The cost of a command: seconds from start to end, and peak resident memory."""

    seconds: float
    peak_bytes: int


def spread(values: Float[np.ndarray, "repeat"]) -> Spread:
    """Median and extremes."""
    return Spread(float(np.median(values)), float(np.min(values)), float(np.max(values)))


def side_by_side(
    contenders: Mapping[str, Contender], *, repeats: int, least_s: float = 0.2
) -> dict[str, Seconds]:
    """Seconds per unit of work of each contender, `repeats` times in turn.

    Every repetition starts with another contender. Two calls are not counted: the first compiles, and
    the second determines how many calls fill `least_s` seconds.
    """
    calls = {}
    for name, contender in contenders.items():
        jax.block_until_ready(contender.run())
        once = _seconds(contender, 1)
        calls[name] = max(1, int(np.ceil(least_s / max(once, 1e-9))))
    names, seconds = list(contenders), dict[str, list[float]]()
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            taken = _seconds(contenders[name], calls[name])
            seconds.setdefault(name, []).append(taken / calls[name] / contenders[name].work)
    return {name: np.array(seconds[name]) for name in names}


def _seconds(contender: Contender, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(contender.run())
    return time.perf_counter() - started


def measure_command(command: list[str], *, environment: Mapping[str, str] | None = None) -> Usage:
    """Runs a command to its end; raises RuntimeError with its output if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", _METER, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0 and (found := json.loads(done.stdout))["code"] == 0:
        return Usage(found["seconds"], found["peak_bytes"])
    raise RuntimeError(f"{' '.join(command)}: failed\n{done.stderr}")


def describe_machine(device: jax.Device) -> dict[str, Any]:
    """Processor, memory, device and versions, for JSON; unknown values are left out."""
    versions = {}
    for package in ("jax", "jaxlib", "flax", "numpy", "keras", "tensorflow", "tensorflow_cpu"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    processor, memory = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    model = platform.processor() or platform.machine()
    if processor.exists():
        model = _field(processor, "model name") or model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {
        "cpu": model,
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
    }
    if memory.exists():
        found["memory_gb"] = round(int((_field(memory, "MemTotal") or "0").split()[0]) / 2**20, 1)
    if hasattr(os, "getloadavg"):
        found["load_before"] = round(os.getloadavg()[0], 2)
    return found | {
        "device": device.device_kind,
        "platform": device.platform,
        "python": platform.python_version(),
        "versions": versions,
    }


def _field(path: Path, name: str) -> str | None:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)
