import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pulse3d.synthetic import examples, nuisance, scene_laws, scenes
from pulse3d.synthetic.draws import Draws, at_once

KEY = jax.random.key(0)


@at_once
def several(draw):
    return (
        draw.uniform(0.0, 1.0, 3),
        draw.normal(2),
        draw.uniform(2.0, 4.0, 2),
        draw.normal(),
        draw.normal(2, 3),
    )


def test_numbers_are_handed_out_in_turn_and_none_twice():
    uniform, normal = jnp.linspace(0, 0.9, 5), jnp.arange(9.0)
    a, b, c, d, e = several(Draws(uniform, normal))
    np.testing.assert_array_equal(jnp.concatenate([a, (c - 2) / 2]), uniform)
    np.testing.assert_array_equal(jnp.concatenate([b, d[None], e.ravel()]), normal)


def test_a_function_of_a_key_draws_what_it_asks_for_and_no_more():
    uniform_key, normal_key = jax.random.split(KEY)
    given = several(Draws(jax.random.uniform(uniform_key, (5,)), jax.random.normal(normal_key, (9,))))
    jax.tree.map(np.testing.assert_array_equal, several(KEY), given)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(several)(KEY), given)


def test_draws_are_passed_on():
    @at_once
    def both(draw):
        return several(draw), several(draw)

    first, second = both(KEY)
    assert not np.isin(np.concatenate([np.ravel(x) for x in first]), [np.ravel(x)[0] for x in second]).any()


def test_every_key_has_numbers_of_its_own_however_they_are_mapped():
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(several)(keys)
    for index, key in enumerate(keys):
        jax.tree.map(lambda a, b, i=index: np.testing.assert_array_equal(a, b[i]), several(key), mapped)
    assert np.ptp(mapped[0][:, 0]) > 0


def test_laws():
    """Bounds, and the shares of a thousand numbers in parts that are equally likely."""
    draw = Draws(jax.random.uniform(KEY, (5000,)), jax.random.normal(KEY, (1000,)))
    uniform, log_uniform = draw.uniform(-2.0, 6.0, 1000), np.log(draw.log_uniform(0.01, 10.0, 1000))
    whole, chance, normal = draw.integer(-1, 3, 1000), draw.chance(0.25, 1000), draw.normal(10, 100)
    for found, low, high in [(uniform, -2, 6), (log_uniform, np.log(0.01), np.log(10)), (whole, -1, 3)]:
        counts = np.histogram(found, 4, (low, high))[0]
        assert counts.sum() == 1000, "all within the bounds"
        np.testing.assert_allclose(counts / 1000, 1 / 4, atol=0.05)
    assert set(np.asarray(whole)) == {-1, 0, 1, 2}
    assert chance.mean() == pytest.approx(0.25, abs=0.04)
    assert normal.shape == (10, 100)
    assert (normal.mean(), normal.std()) == pytest.approx((0, 1), abs=0.1)
    assert draw.used == {"uniform": 4000, "normal": 1000}


def test_a_scene_is_made_of_two_arrays_of_random_numbers(toy_cells):
    """More draws take minutes to compile."""
    program = str(jax.make_jaxpr(partial(examples.make_example, config=toy_cells))(KEY))
    assert program.count(" random_bits[") == 2


@pytest.mark.parametrize("module", [nuisance, scene_laws, scenes])
def test_whoever_draws_takes_a_key_first(module):
    drawing = [
        function
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and name[0] != "_"
        if "draw" in inspect.signature(function).parameters
    ]
    assert drawing
    for function in drawing:
        assert next(iter(inspect.signature(function).parameters)) == "draw"
        assert function.__wrapped__, "takes a key, too"
