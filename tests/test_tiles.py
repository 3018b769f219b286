import jax
import numpy as np
import pytest

from pulse3d import tiles


def program(params, items):
    """One result for every item, whatever the others are."""
    return {"sum": items["a"].sum(-1) + params, "twice": (2 * items["b"], items["a"])}


@pytest.mark.parametrize("method", ["pmap", "shard_map"])
@pytest.mark.parametrize(("items", "devices"), [(5, 1), (8, 4), (7, 4), (2, 3)])
def test_spreading_items_evenly_changes_nothing(method, items, devices):
    rng = np.random.default_rng(0)
    tree = {
        "a": rng.normal(size=(items, 3)).astype(np.float32),
        "b": rng.normal(size=(items, 2, 2)).astype(np.float32),
    }
    chosen, shared = jax.devices()[:devices], np.float32(1.5)
    run = tiles.spread_evenly(program, chosen, method=method)
    found, expected = run(tiles.put_everywhere(shared, chosen), tree), program(shared, tree)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
