import jax
import numpy as np
import pytest
from helpers.devices import WAYS, take

from pulse3d.mapping import spread, tiles


def test_patches_are_centred_as_they_are_asked_to():
    """Of three pixels in two moments: a bright one, one as dark as noise, and one that flashes."""
    patch = np.array([[0.4, 0.01, 0.0], [0.6, 0.02, 1.0]], np.float32).reshape(2, 1, 3, 1)
    for centre, expected in (
        ("window", patch[..., 0] - patch.mean()),
        ("pixel", [[[-0.1, -0.005, -0.5]], [[0.1, 0.005, 0.5]]]),
        ("relative", [[[-0.2, -0.005 / 0.03, -1.0]], [[0.2, 0.005 / 0.03, 1.0]]]),
    ):
        found = tiles.centre_patch(jax.numpy.asarray(patch), centre)
        np.testing.assert_allclose(found[..., 0], expected, rtol=1e-5)
    flash = jax.numpy.asarray([0.1, 0.1, 0.1, 0.9]).reshape(4, 1, 1, 1)
    np.testing.assert_allclose(tiles.centre_patch(flash, "relative").ravel(), [-2 / 3] * 3 + [1], rtol=1e-5)


def program(params, items):
    """One result for every item, whatever the others are."""
    return {"sum": items["a"].sum(-1) + params, "twice": (2 * items["b"], items["a"])}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("items", "devices"), [(5, 1), (8, 4), (7, 4), (2, 3)])
def test_spreading_items_evenly_changes_nothing(way, items, devices, monkeypatch):
    take(way, monkeypatch)
    rng = np.random.default_rng(0)
    tree = {
        "a": rng.normal(size=(items, 3)).astype(np.float32),
        "b": rng.normal(size=(items, 2, 2)).astype(np.float32),
    }
    chosen, shared = jax.devices()[:devices], np.float32(1.5)
    run = spread.spread_evenly(program, chosen)
    found, expected = run(spread.put_everywhere(shared, chosen), tree), program(shared, tree)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
