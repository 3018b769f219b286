import jax
import numpy as np
import pytest

from pulse3d import scene
from pulse3d.config import SceneConfig

SETTINGS = SceneConfig(height_px=60, width_px=120, duration_s=8.0, rates_bpm=(66.0, 141.0))


@pytest.fixture(scope="module")
def made(paper):
    return scene.make_scene(jax.random.key(0), paper, SETTINGS)


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


def test_scene_is_8_bit_textured_and_repeatable(made, paper):
    assert made.frames.dtype == np.uint8
    assert made.frames.shape == (240, 60, 120, 3)
    background = made.frames.mean(0)[~made.masks.any(0)]
    assert background.std(0).min() > 5
    again = scene.make_scene(jax.random.key(0), paper, SETTINGS)
    np.testing.assert_array_equal(made.frames, again.frames)


def test_camera_noise_is_the_same_everywhere(made):
    noise = np.diff(made.frames.astype(float), axis=0).std(0).mean(-1) / np.sqrt(2)
    inside = made.masks.any(0)
    assert noise[inside].mean() == pytest.approx(noise[~inside].mean(), rel=0.05)
    assert noise.mean() == pytest.approx(255 / 50, rel=0.05)


def test_patch_regions_tell_inside_outside_and_edges():
    masks = np.zeros((2, 10, 20), bool)
    masks[0, :, :6] = masks[1, :, 12:] = True
    found = scene.patch_regions(masks, 4, 2)
    assert found.shape == (4, 9)
    np.testing.assert_array_equal(found[0], [0, 0, -2, -1, -1, -2, 1, 1, 1])
