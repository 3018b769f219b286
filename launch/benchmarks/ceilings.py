"""Training and the dense map against the ceilings of this machine."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from pulse3d.network import weights_file

from . import timing
from .base import Bench, Figure
from .maps import map_at_stride_1
from .timing import Contender
from .training import make_step, training_config


def count(program: jax.stages.Lowered | jax.stages.Compiled, what: str) -> float:
    """XLA's count of "flops" in a Lowered or "bytes accessed" in a Compiled program; nan without one."""
    return float((program.cost_analysis() or {}).get(what, np.nan))


def make_ceilings(bench: Bench) -> dict[str, Contender]:
    """Matrix products (work in FLOP) and a pass through memory (work in bytes)."""
    size = bench.sizes.matrix
    multiply = jax.jit(lambda a, b: a @ b)
    sweep = jax.jit(lambda x: x + 1)
    array = jnp.zeros(bench.sizes.array, jnp.float32)
    contenders = {"memory": Contender(lambda: sweep(array), 2 * array.nbytes)}
    for kind in ("float32", "bfloat16"):
        matrix = jax.random.normal(jax.random.key(0), (size, size)).astype(kind)
        contenders[f"matrix product in {kind}"] = Contender(
            functools.partial(multiply, matrix, matrix), 2 * size**3
        )
    return contenders


def roofline_row(bench: Bench) -> list[Figure]:
    """Training and the dense map against the matrix product and the memory of this machine."""
    ceilings = make_ceilings(bench)
    contenders, peak = dict(ceilings), "matrix product in float32"
    floors = {}
    for preset in ("paper", "default"):
        for compute in ("float32",) if bench.on_cpu else ("float32", "bfloat16"):
            settings = training_config(bench, preset, compute=compute)
            step, lowered = make_step(bench, settings)
            flops = count(lowered, "flops")
            name = f"training of `{preset}` in {compute}"
            contenders[name] = dataclasses.replace(step, work=flops)
            floors[name] = flops, count(lowered.compile(), "bytes accessed")
    paper = weights_file.load_weights("paper")
    dense = map_at_stride_1(bench, paper)
    # Only the two dense layers, which every patch needs; patches share the convolution.
    per_patch = 2 * sum(paper.params[layer]["kernel"].size for layer in ("hidden", "classes"))
    name = "dense map of `paper` at stride 1 px, its dense layers alone"
    contenders[name] = dataclasses.replace(dense, work=dense.work * per_patch)
    floors[name] = float(contenders[name].work), 0.0
    times = timing.side_by_side(contenders, repeats=bench.repeats)
    half = "matrix product in bfloat16"
    rates = {n: timing.spread(1e-9 / times[n]) for n in (half, peak)}
    figures = [Figure(f"{half} over float32", timing.spread(times[peak] / times[half]), rates, "GFLOP/s")]
    for name, (flops, moved) in floors.items():
        product = half if "bfloat16" in name else peak
        rates = {n: timing.spread(1e-9 / times[n]) for n in (name, product)}
        ratio = timing.spread(times[product] / times[name])
        figures.append(Figure(f"{name}: share of the {product}", ratio, rates, "GFLOP/s"))
        if moved:
            rate = timing.spread(1e-9 * moved / flops / times[name])
            figures.append(
                Figure(
                    f"{name}: share of the memory's rate, by XLA's count of bytes",
                    timing.spread(times["memory"] * moved / flops / times[name]),
                    {name: rate, "memory": timing.spread(1e-9 / times["memory"])},
                    "GB/s",
                )
            )
    return figures
