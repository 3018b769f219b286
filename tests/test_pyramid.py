import jax
import numpy as np
import pytest
from conftest import replace

from pulse3d import mapping, model, pyramid
from pulse3d.errors import InputError


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_cells_are_means_of_pixels_and_are_centred(kind):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (61, 90, 3)).astype(kind)
    image = image if kind == np.uint8 else image / kind(255)
    assert pyramid.cell_size((61, 90), 8) == 8
    assert pyramid.cell_grid((61, 90), 8) == (7, 11, 2, 1)
    found = pyramid.make_averager((61, 90), 8)(image)
    assert (found.shape, found.dtype) == ((7, 11, 3), np.float32)
    unit = image / 255 if kind == np.uint8 else image
    for row, col in np.ndindex(7, 11):
        square = unit[2 + 8 * row : 10 + 8 * row, 1 + 8 * col : 9 + 8 * col]
        np.testing.assert_allclose(found[row, col], square.mean((0, 1)), atol=1e-5)


@pytest.mark.parametrize(
    ("frame", "scales"),
    [
        ((480, 640), [1, 2, 4]),
        ((1080, 1920), [1, 2, 4]),
        ((8, 8), [1, 2]),
        ((7, 9), [1]),
        ((90, 30), [1, 2, 4]),
    ],
)
def test_levels_are_those_that_hold_a_patch(toy_skin, frame, scales):
    settings = replace(toy_skin, map={"cells": 30, "levels": 3})
    rows, cols, _, _ = pyramid.cell_grid(frame, 30)
    found = pyramid.levels((rows, cols), settings, stride=2)
    assert [level.scale for level in found] == scales
    for index, level in enumerate(found):
        step = 1 if index else 2
        assert level.stride == step
        assert level.rows == (rows // level.scale - 4) // step + 1
        assert level.cols == (cols // level.scale - 4) // step + 1
        assert 0 <= rows - level.scale * (rows // level.scale) - 2 * level.top <= 1


def test_too_small_a_frame_is_refused(toy_skin):
    with pytest.raises(InputError, match="smaller than the network's patch of 4 px"):
        pyramid.levels((3, 9), toy_skin, stride=1)
    with pytest.raises(InputError, match="smaller"):
        mapping.make_layout((3, 9), toy_skin)


def test_cutting_a_level_averages_its_cells():
    window = np.random.default_rng(0).random((2, 11, 14, 3))
    found = pyramid.cut_level(window, pyramid.Level(4, 1, 1, 1, 1, 1))
    assert found.shape == (2, 2, 3, 3)
    for row, col in np.ndindex(2, 3):
        square = window[:, 1 + 4 * row : 5 + 4 * row, 1 + 4 * col : 5 + 4 * col]
        np.testing.assert_allclose(found[:, row, col], square.mean((1, 2)))


def random_maps(levels, classes=9, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.ones(classes), (x.rows, x.cols)).astype(np.float32) for x in levels]


def test_one_level_or_equal_levels_change_nothing(toy_skin):
    found = pyramid.levels((8, 12), toy_skin, stride=1)
    first = random_maps(found)[0]
    np.testing.assert_allclose(pyramid.combine_levels([first], found[:1], toy_skin), first, atol=1e-6)
    same = pyramid.combine_levels([first, first], [found[0], found[0]], toy_skin)
    np.testing.assert_allclose(same, first, atol=1e-6)


@pytest.mark.parametrize(("grid", "stride"), [((8, 12), 1), ((9, 11), 2), ((17, 19), 3)])
def test_combined_levels_are_the_mean_ratio_of_the_nearest_patches(toy_skin, grid, stride):
    settings = replace(toy_skin, map={"levels": 3})
    found = pyramid.levels(grid, settings, stride=stride)
    maps = random_maps(found)
    combined = pyramid.combine_levels(maps, found, settings)
    assert combined.shape == (found[0].rows, found[0].cols, 9)
    odds = settings.generator.no_pulse_clips

    def nearest(level, top, wanted, count):
        centres = [top + (i * level.stride + 2) * level.scale for i in range(count)]
        return min(range(count), key=lambda i: abs(centres[i] - wanted))

    for row, col in np.ndindex(found[0].rows, found[0].cols):
        ratios = []
        for level, probability in zip(found, maps, strict=True):
            y = nearest(level, level.top, row * stride + 2, level.rows)
            x = nearest(level, level.left, col * stride + 2, level.cols)
            here = probability[y, x].astype(float)
            ratios.append(odds * here[:-1] / here[-1])
        ratio = np.mean(ratios, axis=0)
        none = odds / (odds + ratio.sum())
        np.testing.assert_allclose(combined[row, col], [*(ratio * none / odds), none], atol=1e-6)


def test_patch_index_points_at_the_positions_of_every_patch():
    found = [pyramid.Level(1, 0, 0, 2, 3, 2), pyramid.Level(2, 0, 0, 1, 2, 1)]
    shapes = [(4, 6), (2, 3)]
    expected = []
    for (rows, cols), level, first in zip(shapes, found, (0, 24), strict=True):
        for y in range(0, rows - 1, level.stride):
            for x in range(0, cols - 1, level.stride):
                expected.append([first + (y + i) * cols + x + j for i in (0, 1) for j in (0, 1)])
    numbers = [np.arange(24).reshape(4, 6), 24 + np.arange(6).reshape(2, 3)]
    np.testing.assert_array_equal(pyramid.patch_index(numbers, found, 2), expected)


@pytest.fixture(scope="module")
def params(toy_skin):
    return model.init_params(jax.random.key(3), toy_skin)


def random_window(toy_skin, grid):
    rng = np.random.default_rng(sum(grid))
    texture = rng.uniform(0.2, 0.8, (1, *grid, 3))
    return (texture * (1 + rng.normal(0, 0.02, (toy_skin.clip.frames, *grid, 3)))).astype(np.float32)


@pytest.mark.parametrize(
    ("grid", "stride", "count", "method"),
    [
        ((4, 5), 1, 1, "pmap"),
        ((8, 11), 1, 3, "pmap"),
        ((9, 13), 2, 4, "pmap"),
        ((9, 13), 2, 4, "shard_map"),
        ((11, 10), 3, 3, "shard_map"),
    ],
)
def test_fast_map_equals_the_definition(toy_skin, params, grid, stride, count, method):
    window = random_window(toy_skin, grid)
    expected = mapping.map_by_definition(params, window, toy_skin, stride=stride)
    assert np.ptp(expected, axis=(0, 1)).max() > 0.01
    mapper = mapping.make_mapper(
        params, toy_skin, grid, stride_px=stride, devices=jax.devices()[:count], method=method
    )
    np.testing.assert_allclose(mapper(window), expected, atol=1e-5)
