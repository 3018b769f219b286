"""Training: one jitted step (generate, forward, loss, update) and the loop around it.

The batch of a step is a function of (seed, step) alone, whatever the number of devices and
processes, so a resumed run equals an uninterrupted one and a checkpoint holds no data state. Every
process runs the same program; the devices of all processes form one mesh. No file is touched
here; `launch/train.py` writes what the loop yields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from pulse3d.config import Config, TrainConfig
from pulse3d.errors import InputError
from pulse3d.network import model
from pulse3d.synthetic import examples

Metrics = dict[str, Any]


class TrainingDiverged(RuntimeError):
    """The loss is no longer finite."""


@flax.struct.dataclass
class TrainState:
    """Everything a step needs besides the config; `step` (int32 scalar) counts the updates done.

    average: the moving average of the parameters where the config asks for one, else None.
    """

    step: Any
    params: Any
    opt_state: Any
    average: Any = None

    @property
    def final_params(self) -> Any:
        """The parameters to validate and to export."""
        return self.params if self.average is None else self.average


@dataclasses.dataclass(frozen=True)
class Record:
    """A report of the loop: `state` and the metrics after `step` updates.

    `train` holds means over the steps since the last record; `validation` is None between
    evaluations. `state` is donated to the next step: save it before taking the next record. stopping: this
    is the last record, since the caller asked to stop before `train.steps`.
    """

    step: int
    state: TrainState
    train: Metrics
    validation: Metrics | None
    stopping: bool = False


def make_schedule(config: TrainConfig) -> optax.Schedule:
    """The learning rate by step."""
    if config.schedule == "constant":
        return optax.linear_schedule(
            0.0 if config.warmup_steps else config.learning_rate,
            config.learning_rate,
            max(config.warmup_steps, 1),
        )
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, max(config.steps, config.warmup_steps + 1)
    )


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Adam, or AdamW with weight decay, on gradients clipped to the norm `clip_norm`."""
    schedule = make_schedule(config)
    adam = (
        optax.adamw(schedule, weight_decay=config.weight_decay)
        if config.weight_decay
        else optax.adam(schedule)
    )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adam) if config.clip_norm else adam


def init_state(config: Config, *, params: Any = None) -> TrainState:
    """The state before the first step, with fresh parameters if none are given."""
    if params is None:
        params = model.init_params(jax.random.key(config.train.seed), config)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=make_optimizer(config.train).init(params),
        # a copy: the arrays of a state are donated, each only once
        average=jax.tree.map(jnp.copy, params) if config.train.average else None,
    )


def step_key(config: TrainConfig, step: Int[Array, ""]) -> jax.Array:
    """The random key of a training step."""
    return jax.random.fold_in(jax.random.key(config.seed, impl=config.prng), step)


def loss_fn(
    params: Any, dropout_key: jax.Array, inputs: tuple, targets: Float[Array, "*place class"], config: Config
) -> tuple[Float[Array, ""], Float[Array, "*place class"]]:
    """Mean cross-entropy of a batch (nats), and its logits; multiplies in `train.compute`."""
    logits = model.make_model(config, compute=config.train.compute).apply(
        {"params": params}, *inputs, train=True, rngs={"dropout": dropout_key}
    )
    logits = jnp.asarray(logits)
    loss = optax.softmax_cross_entropy(logits, targets)  # 0 where all targets are 0
    return loss.sum() / jnp.maximum(_asked(targets).sum(), 1), logits


def _asked(targets: Float[Array, "*place class"]) -> Float[Array, "*place"]:
    """1 where any target is not 0, else 0."""
    return targets.any(-1).astype(jnp.float32)


def make_train_step(config: Config, mesh: Mesh) -> Callable[[TrainState], tuple[TrainState, Metrics]]:
    """The jitted update: state -> state, metrics. The state is donated.

    The batch is split over the mesh's single axis, and each share is processed in parts
    (`train.microbatch_size`). Raises InputError if it cannot be split evenly, or if the random generator
    cannot be split.
    """
    size = config.train.batch_size
    if size % mesh.size:
        raise InputError(f"train.batch_size = {size}: must be a multiple of the {mesh.size} devices")
    parts = count_parts(size // mesh.size, at_most=config.train.microbatch_size)
    if config.train.prng == "philox2x32" and mesh.size > 1:
        raise InputError(f"train.prng = philox2x32: runs on one device, not {mesh.size}; use threefry2x32")
    optimizer = make_optimizer(config.train)
    split, whole = _shardings(mesh)

    def train_step(state: TrainState) -> tuple[TrainState, Metrics]:
        batch_key, dropout_key = jax.random.split(step_key(config.train, state.step))
        plan = examples.plan_batch(batch_key, config, size=size)

        def measure(part, key):
            inputs, targets = jax.lax.with_sharding_constraint(examples.make_examples(part, config), split)
            (loss, logits), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
                state.params, key, inputs, targets, config
            )
            right, asked = logits.argmax(-1) == targets.argmax(-1), _asked(targets)
            share = (right * asked).sum() / jnp.maximum(asked.sum(), 1)
            return {"loss": loss, "accuracy": share, "gradients": gradients}, asked.sum()

        found = _mean_of_parts(measure, plan, dropout_key, parts)
        gradients = found.pop("gradients")
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        keep = config.train.average
        average = optax.incremental_update(params, state.average, 1 - keep) if keep else None
        metrics = found | {"gradient_norm": optax.tree.norm(gradients)}
        return TrainState(state.step + 1, params, opt_state, average), metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=whole)


def count_parts(clips: int, *, at_most: int) -> int:
    """The smallest number of equal parts of at most `at_most` clips each; 1 if `at_most` is 0."""
    if not at_most:
        return 1
    return next(parts for parts in range(1, clips + 1) if clips % parts == 0 and clips // parts <= at_most)


def _mean_of_parts(
    measure: Callable[[examples.Plan, jax.Array], tuple[Metrics, jax.Array]],
    plan: examples.Plan,
    key: jax.Array,
    parts: int,
) -> Metrics:
    """The weighted mean of measurements on the parts of a plan, with one part in memory at a time.

    measure: takes a part and its key, returns the values and their weight.
    """
    if parts == 1:
        return measure(plan, key)[0]
    # every device keeps the clips that it would have without parts
    cut = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), plan)
    values, weights = jax.lax.map(lambda part: measure(*part), (cut, jax.random.split(key, parts)))
    return jax.tree.map(lambda x: jnp.average(x, axis=0, weights=weights), values)


def within_one_class(predicted: Int[Array, "*place"], labels: Int[Array, "*place"], rates: int) -> jax.Array:
    """Whether a prediction is the label or, both being rates, a neighbour on the rate axis."""
    both_rates = (predicted < rates) & (labels < rates)
    return (predicted == labels) | (both_rates & (abs(predicted - labels) <= 1))


@lru_cache(maxsize=4)  # a run's validations and its final scores share one program, compiled once
def make_evaluate(config: Config, mesh: Mesh | None = None) -> Callable[..., Metrics]:
    """Makes `evaluate(params, seed=1, clips=None)`: metrics on clips that training never sees.

    The clips, by default `train.eval_clips`, come from a separate random generator (threefry2x32). They
    depend only on the seed, not on the mesh (default: one device of this process) over which they are
    split. Returns loss (nats), accuracy and within_one_class as floats.
    """
    mesh = mesh or make_mesh(jax.local_devices()[:1])
    size = min(config.train.eval_batch_size, config.train.eval_clips)
    filled = size + -size % mesh.size  # the first `size` clips are the same, however many are made
    split, whole = _shardings(mesh)

    @partial(jax.jit, out_shardings=whole)
    def evaluate_batch(params, seed, batch):
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), batch)
        inputs, targets = jax.lax.with_sharding_constraint(
            examples.make_batch(key, config, size=filled), split
        )
        logits = model.apply_logits(params, inputs, config)
        predicted, labels, asked = logits.argmax(-1), targets.argmax(-1), _asked(targets)
        found = {
            "loss": optax.softmax_cross_entropy(logits, targets),
            "accuracy": predicted == labels,
            "within_one_class": within_one_class(predicted, labels, logits.shape[-1] - 1),
        }
        # sums over the places of every clip
        places = tuple(range(1, asked.ndim))
        return {"asked": asked.sum(places)} | {k: (v * asked).sum(places) for k, v in found.items()}

    def evaluate(params: Any, *, seed: int = 1, clips: int | None = None) -> Metrics:
        clips = clips or config.train.eval_clips
        results = [jax.device_get(evaluate_batch(params, seed, i)) for i in range(-(-clips // size))]
        totals = {
            name: float(np.concatenate([r[name][:size] for r in results])[:clips].sum())
            for name in results[0]
        }
        return {name: total / totals["asked"] for name, total in totals.items() if name != "asked"}

    return evaluate


def fresh_scores(params: Any, config: Config, mesh: Mesh | None = None, *, few: int = 100) -> dict[str, Any]:
    """The scores that are stored in a weights file, on clips used for nothing else.

    They are for `train.eval_clips` clips and, for a quick check of the file, for the first `few` of these.
    mesh: as in `make_evaluate`.
    """
    evaluate = make_evaluate(config, mesh)
    few = min(few, config.train.eval_batch_size, config.train.eval_clips)
    return {
        "fresh_clips": config.train.eval_clips,
        "fresh_clips_scores": evaluate(params, seed=2),
        "first_clips": few,
        "first_clips_scores": evaluate(params, seed=2, clips=few),
    }


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over the given devices, by default all devices of all processes."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("batch",), axis_types=(AxisType.Auto,), devices=devices)


def put_on(mesh: Mesh, state: TrainState) -> TrainState:
    """Copies the state to every device of the mesh; every process must give the same state."""
    return jax.device_put(state, _shardings(mesh)[1])


def _shardings(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """The shardings of arrays split along their first axis over the mesh, and of replicated arrays."""
    return NamedSharding(mesh, PartitionSpec(*mesh.axis_names)), NamedSharding(mesh, PartitionSpec())


def run(
    config: Config, state: TrainState, mesh: Mesh, *, stop: Callable[[int], bool] = lambda step: False
) -> Iterator[Record]:
    """Trains from `state` (whose arrays are donated) to `train.steps`, yielding a record every `log_every`.

    Evaluates every `eval_every` steps and after the last. stop: takes the number of a step and returns
    whether to stop after it; the last record is then of that step. Raises TrainingDiverged if the loss is
    not finite; no record of such a state is yielded.
    """
    train_step, evaluate = make_train_step(config, mesh), make_evaluate(config, mesh)
    state = put_on(mesh, state)
    pending: list[Metrics] = []
    for step in range(int(state.step) + 1, config.train.steps + 1):
        state, metrics = train_step(state)
        pending.append(metrics)
        last = step == config.train.steps
        evaluating = last or step % config.train.eval_every == 0
        stopping = not last and stop(step)
        if not (stopping or evaluating or step % config.train.log_every == 0):
            continue
        means = {name: float(np.mean([m[name] for m in jax.device_get(pending)])) for name in metrics}
        if not np.isfinite([means["loss"], means["gradient_norm"]]).all():
            raise TrainingDiverged(
                f"the loss is not finite in the steps up to {step}; lower train.learning_rate"
                f" (now {config.train.learning_rate})"
            )
        validation = evaluate(state.final_params) if evaluating else None
        yield Record(step, state, means, validation, stopping)
        if stopping:
            return
        pending = []
