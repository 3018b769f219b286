"""Training against Keras, and what the generator and the precision cost."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pulse3d import config
from pulse3d.network import model, weights_file
from pulse3d.settings import override
from pulse3d.synthetic import examples
from pulse3d.training import train

from . import original, timing
from .base import Bench, Figure, NotHere, compare, make_keras
from .timing import Contender, Seconds

PRECISIONS = ("float32", "bfloat16")


def training_config(bench: Bench, preset: str, *, compute: str = "float32") -> config.Config:
    """A preset with the batch size of this benchmark and the random generator that is fast here."""
    clips = bench.sizes.clips if preset == "paper" else bench.sizes.default_clips
    prng = "philox2x32" if bench.on_cpu and len(bench.devices) == 1 else "threefry2x32"
    changes = [f"train.batch_size={clips}", f"train.prng={prng}", f"train.compute={compute}"]
    return override(config.get_preset(preset), changes)


@functools.cache
def make_step(bench: Bench, settings: config.Config) -> tuple[Contender, jax.stages.Lowered]:
    """A training step, generator inside, and its program; its work is the number of clips."""
    step: Any = train.make_train_step(settings, train.make_mesh(list(bench.devices)))
    state = train.init_state(settings, params=weights_file.load_weights(settings.preset).params)
    lowered = step.lower(state)

    def run():
        nonlocal state
        state, metrics = step(state)
        return metrics

    return Contender(run, settings.train.batch_size), lowered


def make_generator(settings: config.Config) -> Contender:
    """The generator of a training step alone; its work is the number of clips."""
    key = train.step_key(settings.train, jnp.asarray(0))
    size = settings.train.batch_size
    make = jax.jit(lambda key: examples.make_batch(key, settings, size=size))
    return Contender(lambda: make(key), size)


def training_row(bench: Bench) -> list[Figure]:
    """A training step against Keras fed by NumPy."""
    settings = training_config(bench, "paper")
    size = settings.train.batch_size
    network = make_keras(bench, weights_file.load_weights("paper"))
    rng = np.random.default_rng(0)
    classes = np.eye(settings.clip.classes, dtype=np.float32)

    def fed_by_numpy():
        clips, labels = original.make_batch(rng, settings, size=size)
        network.train_on_batch(clips, classes[labels])

    clips, labels = original.make_batch(rng, settings, size=size)
    ours, fed, alone = "training step, generator inside", "Keras fed by NumPy", "Keras without a generator"
    times = timing.side_by_side(
        {
            ours: make_step(bench, settings)[0],
            fed: Contender(fed_by_numpy, size),
            alone: Contender(lambda: network.train_on_batch(clips, classes[labels]), size),
        },
        repeats=bench.repeats,
    )
    what = f"training of `paper`, batch {size}, times faster than"
    return [compare(times, f"{what} {slow}", slow, ours, "s per clip") for slow in (fed, alone)]


def generator_row(bench: Bench) -> list[Figure]:
    """The generator's share of a training step, and its speed against NumPy."""
    figures = []
    for preset in ("paper", "default"):
        settings = training_config(bench, preset)
        step, alone, in_numpy = "training step", "generator alone", "generator in NumPy"
        contenders = {step: make_step(bench, settings)[0], alone: make_generator(settings)}
        if preset == "paper":
            rng, size = np.random.default_rng(0), bench.sizes.batch
            contenders[in_numpy] = Contender(
                functools.partial(original.make_batch, rng, settings, size=size), size
            )
        times = timing.side_by_side(contenders, repeats=bench.repeats)
        what = f"generator's share of a training step of `{preset}`, batch {settings.train.batch_size}"
        figures.append(compare(times, what, alone, step, "s per clip"))
        if in_numpy in times:
            what = "generator of `paper`, times faster than in NumPy"
            figures.append(compare(times, what, in_numpy, alone, "s per clip"))
    return figures


def time_precisions(bench: Bench) -> dict[str, Seconds]:
    """The time of a training step of `paper` in each of PRECISIONS, per clip."""
    steps = {c: make_step(bench, training_config(bench, "paper", compute=c))[0] for c in PRECISIONS}
    return timing.side_by_side(steps, repeats=bench.repeats)


def precision_row(bench: Bench) -> list[Figure]:
    """Training in bfloat16 against float32, and what the rounding costs trained weights."""
    exact, rounded = PRECISIONS
    times = time_precisions(bench)
    what = "training of `paper` in bfloat16, times faster than in float32"
    figures = [compare(times, what, exact, rounded, "s per clip")]
    weights = weights_file.load_weights("paper")

    @functools.partial(jax.jit, static_argnums=1)
    def accuracy(key, compute):
        inputs, targets = examples.make_batch(key, weights.config, size=bench.sizes.batch)
        network = model.make_model(weights.config, compute=compute)
        logits = jnp.asarray(network.apply({"params": weights.params}, *inputs))
        return jnp.mean(logits.argmax(-1) == targets.argmax(-1))

    keys = jax.random.split(jax.random.key(1), bench.repeats)
    shares = {c: np.array([float(accuracy(key, c)) for key in keys]) for c in (exact, rounded)}
    figures.append(
        Figure(
            f"exact classes by `paper` in bfloat16 over float32, {bench.sizes.batch} clips each time",
            timing.spread(shares[rounded] / np.maximum(shares[exact], 1e-9)),
            {name: timing.spread(share) for name, share in shares.items()},
            "share of clips",
        )
    )
    return figures


def schedule_row(bench: Bench) -> list[Figure]:
    """The time of the paper's whole training, from the time of its steps."""
    if bench.on_cpu:
        raise NotHere("the paper's 76 million clips are for an accelerator")
    paper = config.get_preset("paper")
    clips = paper.train.steps * paper.train.batch_size
    times = time_precisions(bench)
    return [
        Figure(
            f"five minutes over the paper's {paper.train.steps} steps of {paper.train.batch_size} clips in"
            f" {compute}",
            timing.spread(300 / (seconds * clips)),
            {"all steps": timing.spread(seconds * clips)},
            "s",
        )
        for compute, seconds in times.items()
    ]
