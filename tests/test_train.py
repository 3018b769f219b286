import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import replace
from jax.sharding import NamedSharding, PartitionSpec

from pulse3d import generator, train
from pulse3d.errors import InputError


def run_to_end(config, state, devices=1):
    return list(train.run(config, state, train.make_mesh(jax.devices()[:devices])))


def snapshot(state):
    return jax.tree.map(np.array, state)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_batch_of_a_step_is_the_same_on_1_and_4_devices(toy):
    batches = []
    for count in (1, 4):
        split = NamedSharding(train.make_mesh(jax.devices()[:count]), PartitionSpec("batch"))
        make = jax.jit(
            lambda step: generator.make_batch(train.step_key(toy.train, step), toy, size=20),
            out_shardings=split,
        )
        clips, labels = make(jnp.asarray(3))
        assert len(clips.sharding.device_set) == count
        batches.append((np.asarray(clips), np.asarray(labels)))
    np.testing.assert_array_equal(batches[0][1], batches[1][1])
    np.testing.assert_allclose(batches[0][0], batches[1][0], atol=1e-6)


def test_learning_curve_is_the_same_on_1_and_4_devices(toy):
    one, four = (run_to_end(toy, train.init_state(toy), devices) for devices in (1, 4))
    for a, b in zip(one, four, strict=True):
        assert a.train["loss"] == pytest.approx(b.train["loss"], rel=1e-4)


def test_resumed_run_equals_an_unbroken_one_bit_for_bit(toy):
    states = {}
    for record in train.run(toy, train.init_state(toy), train.make_mesh(jax.devices()[:1])):
        states[record.step] = snapshot(record.state)
    resumed = run_to_end(toy, jax.tree.map(jnp.asarray, states[2]))
    assert [r.step for r in resumed] == [3, 4, 5, 6]
    assert_equal(snapshot(resumed[-1].state), states[6])


def test_golden_step(toy):
    """One update of the toy problem; change the numbers when the generator, the network, the
    initial values or the optimiser change on purpose."""
    record = run_to_end(replace(toy, train={"steps": 1}), train.init_state(toy))[0]
    params = record.state.params
    found = {
        "loss": record.train["loss"],
        "gradient_norm": record.train["gradient_norm"],
        **{
            f"{layer} {leaf}": float(jnp.abs(v).mean())
            for layer in params
            for leaf, v in params[layer].items()
        },
        **{f"validation {name}": value for name, value in record.validation.items()},
    }
    assert found == pytest.approx(GOLDEN, rel=2e-3)


GOLDEN = {
    "loss": 1.60854,
    "gradient_norm": 0.146908,
    "classes bias": 0.00299993,
    "classes kernel": 0.197054,
    "convolution bias": 0.00299998,
    "convolution kernel": 0.0183282,
    "hidden bias": 0.00234373,
    "hidden kernel": 0.124773,
    "validation accuracy": 0.2,
    "validation loss": 1.60725,
    "validation within_one_class": 0.4,
}


def test_training_learns(toy):
    """The toy problem, 4 rates and no pulse: chance is 0.2."""
    settings = replace(
        toy,
        train={"steps": 300, "batch_size": 50, "learning_rate": 2e-2, "eval_every": 300, "log_every": 100},
    )
    last = run_to_end(settings, train.init_state(settings))[-1]
    assert last.validation["accuracy"] > 0.8


def test_diverging_training_stops_without_a_record_of_it(toy):
    state = train.init_state(toy, params=jax.tree.map(lambda x: x * jnp.nan, train.init_state(toy).params))
    records = []
    with pytest.raises(train.TrainingDiverged, match=r"lower train.learning_rate"):
        records.extend(train.run(toy, state, train.make_mesh(jax.devices()[:1])))
    assert records == []


def test_batch_must_split_among_the_devices(toy):
    with pytest.raises(InputError, match="multiple of the 3 devices"):
        train.make_train_step(toy, train.make_mesh(jax.devices()[:3]))
    philox = replace(toy, train={"prng": "philox2x32"})
    with pytest.raises(InputError, match="use threefry2x32"):
        train.make_train_step(philox, train.make_mesh(jax.devices()[:2]))


def test_evaluation_repeats_itself_and_sees_all_clips(toy):
    evaluate = train.make_evaluate(toy)
    params = train.init_state(toy).params
    assert evaluate(params) == evaluate(params)
    assert evaluate(params) != evaluate(params, seed=2)
    assert evaluate(params)["accuracy"] * 50 == pytest.approx(round(evaluate(params)["accuracy"] * 50))


def test_within_one_class_counts_neighbouring_rates_only():
    predicted = jnp.asarray([3, 3, 3, 3, 4, 4])
    labels = jnp.asarray([3, 2, 1, 4, 3, 4])
    found = train.within_one_class(predicted, labels, 4)  # class 4 is "no pulse"
    np.testing.assert_array_equal(found, [True, True, False, False, False, True])


def test_schedules():
    settings = train.TrainConfig(learning_rate=0.1, steps=100)
    assert float(train.make_schedule(settings)(0)) == pytest.approx(0.1)
    assert float(train.make_schedule(settings)(99)) == pytest.approx(0.1)
    settings = train.TrainConfig(learning_rate=0.1, steps=100, warmup_steps=10, schedule="cosine")
    rates = [float(train.make_schedule(settings)(i)) for i in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.05, 0], atol=1e-6)
