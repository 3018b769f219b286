import jax
import numpy as np
import pytest

from pulse3d.config import SceneConfig
from pulse3d.evaluation import datasets, map_truth
from pulse3d.mapping.layout import Layout
from pulse3d.synthetic import demo_scene

SETTINGS = SceneConfig(height_px=60, width_px=120, duration_s=8.0, rates_bpm=(66.0, 141.0))


@pytest.fixture(scope="module")
def made():
    return demo_scene.make_scene(jax.random.key(0), SETTINGS)


@pytest.mark.slow
def test_regions_pulsate_at_their_rates_and_the_rest_does_not(made):
    frequencies = np.fft.rfftfreq(240 * 8, 1 / 30) * 60
    band = (frequencies > 50) & (frequencies < 200)

    def peak(mask):
        trace = made.frames[:, mask].astype(float).mean((1, 2))
        spectrum = abs(np.fft.rfft((trace - trace.mean()) * np.hanning(240), 240 * 8)) ** 2
        return frequencies[band][spectrum[band].argmax()], spectrum[band].max()

    for mask, rate in zip(made.masks, SETTINGS.rates_bpm, strict=True):
        found, power = peak(mask)
        assert found == pytest.approx(rate, abs=2)
        assert power > 20 * peak(~made.masks.any(0))[1]


def test_scene_is_8_bit_textured_and_repeatable(made):
    assert made.frames.dtype == np.uint8
    assert made.frames.shape == (240, 60, 120, 3)
    background = made.frames.mean(0)[~made.masks.any(0)]
    assert background.std(0).min() > 5
    again = demo_scene.make_scene(jax.random.key(0), SETTINGS)
    np.testing.assert_array_equal(made.frames, again.frames)


def test_camera_noise_is_the_same_everywhere(made):
    noise = np.diff(made.frames.astype(float), axis=0).std(0).mean(-1) / np.sqrt(2)
    inside = made.masks.any(0)
    assert noise[inside].mean() == pytest.approx(noise[~inside].mean(), rel=0.05)
    assert noise.mean() == pytest.approx(255 / 50, rel=0.05)


def test_patch_regions_tell_inside_outside_and_edges():
    masks = np.zeros((2, 10, 20), bool)
    masks[0, :, :6] = masks[1, :, 12:] = True
    found = map_truth.patch_regions(masks, Layout((10, 20), (10, 20), 1, 0, 0, patch=4, stride=2))
    assert found.shape == (4, 9)
    np.testing.assert_array_equal(found[0], [0, 0, -2, -1, -1, -2, 1, 1, 1])


def test_patch_regions_of_cells_start_at_the_first_cell():
    masks = np.zeros((1, 11, 22), bool)
    masks[0, :, 9:] = True
    # cells of 2 px from (0, 1): patches of 4 px at the columns 1, 3, ..., 17
    found = map_truth.patch_regions(masks, Layout((10, 21), (5, 10), 2, 0, 1, patch=2, stride=1))
    assert found.shape == (4, 9)
    np.testing.assert_array_equal(found[0], [-1, -1, -1, -2, 0, 0, 0, 0, 0])


def test_exact_mask_leaves_out_what_is_near_an_edge(made):
    skin, rate_bpm = datasets.exact_mask(made, edge_px=3)
    inside = made.masks.any(0)
    assert set(np.unique(skin)) == {0, 128, 255}
    assert inside[skin == 255].all()
    assert not inside[skin == 0].any()
    for mask, rate in zip(made.masks, SETTINGS.rates_bpm, strict=True):
        assert (rate_bpm[mask] == rate).all()
    # a square of 7 px around every pixel decides
    y, x = np.argwhere(skin == 128)[0]
    around = inside[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
    assert around.any()
    assert not around.all()
    assert (datasets.exact_mask(made, edge_px=0)[0] == np.where(inside, 255, 0)).all()
