import numpy as np
import pytest

from pulse3d.reading import bilateral


def by_definition(values, colour, reach, tolerance):
    """Every place with every other, by the formula of the module."""
    averaged = np.empty(values.shape)
    logs = np.log(colour + bilateral.DARK)
    bright = logs.mean(-1, keepdims=True)
    features = np.concatenate([logs - bright, bilateral.BRIGHTNESS * bright], -1)
    for at in np.ndindex(values.shape):
        total = weights = 0.0
        for other in np.ndindex(values.shape):
            apart = sum((a - b) ** 2 for a, b in zip(at, other, strict=True)) / reach**2
            apart += ((features[at] - features[other]) ** 2).sum() / tolerance**2
            far = max(abs(at[0] - other[0]), abs(at[1] - other[1])) > np.ceil(bilateral.FAR * reach)
            weight = np.exp(-apart / 2) * (not far)
            total, weights = total + weight * values[other], weights + weight
        averaged[at] = total / weights
    return averaged


@pytest.mark.parametrize(("channels", "reach"), [(3, 4.0), (3, 0.7), (1, 2.5)])
def test_it_is_the_weighted_mean(channels, reach):
    rng = np.random.default_rng(0)
    values, colour = rng.normal(size=(11, 7)), rng.uniform(0, 1, (11, 7, channels))
    found = bilateral.average(values, colour, reach=reach, tolerance=0.3)
    np.testing.assert_allclose(found, by_definition(values, colour, reach, 0.3), atol=1e-5)


def test_the_edge_of_a_colour_stays_sharp_and_noise_beside_it_goes():
    rng = np.random.default_rng(1)
    skin = np.zeros((20, 20), bool)
    skin[5:15, 5:15] = True
    colour = np.where(skin[..., None], [0.7, 0.5, 0.4], [0.3, 0.4, 0.5]) + rng.normal(0, 0.005, (20, 20, 3))
    found = bilateral.average(skin + rng.normal(0, 0.5, skin.shape), colour, reach=5.0, tolerance=0.1)
    np.testing.assert_allclose(found, skin, atol=0.15)


def test_light_on_the_whole_frame_changes_nothing():
    rng = np.random.default_rng(2)
    values, colour = rng.normal(size=(9, 9)), rng.uniform(0.4, 1, (9, 9, 3))
    light, dim = (
        bilateral.average(values, colour * level - bilateral.DARK, reach=3.0, tolerance=0.2)
        for level in (1.0, 0.5)
    )
    np.testing.assert_allclose(light, dim, atol=1e-4)


def test_a_long_reach_looks_at_fewer_neighbours_and_finds_the_same():
    rng = np.random.default_rng(3)
    values, colour = rng.normal(size=(48, 64)), rng.uniform(0.4, 0.6, (48, 64, 3))
    colour[:, 32:] *= 0.5
    values[:, 32:] += 3
    found = bilateral.average(values, colour, reach=12.0, tolerance=0.2)
    whole = by_definition(values[::2, ::2], colour[::2, ::2], 6.0, 0.2)
    np.testing.assert_allclose(found[::2, ::2], whole, atol=0.2)


def test_a_place_without_neighbours_of_its_colour_keeps_its_own_value():
    values, colour = np.zeros((30, 30)), np.full((30, 30, 3), 0.1)
    values[15, 15], colour[15, 15] = 7.0, [1.0, 0.0, 0.5]
    found = bilateral.average(values, colour, reach=12.0, tolerance=0.01)
    assert found[15, 15] == pytest.approx(7.0)


def test_likeness_is_the_weighted_kernel_over_its_own_mean():
    rng = np.random.default_rng(0)
    colour, weight = rng.uniform(0.2, 0.8, (4, 5, 3)), np.maximum(rng.normal(size=(4, 5)), 0)
    logs = np.log(colour + bilateral.DARK)
    bright = logs.mean(-1, keepdims=True)
    features = np.concatenate([logs - bright, bilateral.BRIGHTNESS * bright], -1).reshape(20, 4)
    apart = ((features[:, None] - features) ** 2).sum(-1)
    share = weight.ravel() / weight.sum()
    similar = np.exp(-apart / (2 * 0.3**2)) @ share
    expected = (similar / (share @ similar)).reshape(4, 5)
    found = bilateral.likeness(colour, weight, tolerance=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (found * weight).sum() / weight.sum() == pytest.approx(1, rel=1e-4)


def test_likeness_of_many_places_is_nearly_that_of_every_second(monkeypatch):
    rng = np.random.default_rng(0)
    colour, weight = rng.uniform(0.2, 0.8, (20, 20, 3)), rng.uniform(0.5, 1, (20, 20))
    whole = bilateral.likeness(colour, weight, tolerance=0.3)
    monkeypatch.setattr(bilateral, "MOST", 200)
    half = bilateral.likeness(colour, weight, tolerance=0.3)
    assert not np.array_equal(half, whole)
    np.testing.assert_allclose(half, whole, rtol=0.3)
