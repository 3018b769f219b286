"""The bundled default weights on videos without a pulse, beside the same video with one."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import scipy.ndimage

from pulse3d import checkpoint, mapping, readout, scene, stream, video
from pulse3d.config import SceneConfig

SKIN = SceneConfig(height_px=90, width_px=120, duration_s=16.0, rates_bpm=(72.0,), noise=1 / 100)
SHAPE = (SKIN.height_px, SKIN.width_px)


@pytest.fixture(scope="module")
def read_video():
    """A function from frames (time, height, width, 3) at 30 fps to the rate of every window, nan for none."""
    weights = checkpoint.load_weights("default")
    settings = weights.config
    mapper = mapping.make_mapper(
        weights.params, settings, mapping.make_layout(SHAPE, settings), devices=jax.devices()[:1]
    )

    def rates(frames):
        frames = np.clip(np.round(frames), 0, 255).astype(np.uint8)
        source = video.from_array(frames, fps=SKIN.fps)
        evidence = [
            w.evidence for w in stream.map_stream(source.frames(), weights, step_s=2.0, mapper=mapper)
        ]
        found = readout.readings(
            np.stack(evidence),
            settings.clip.rate_axis_bpm,
            settings.readout,
            step_s=2.0,
            window_s=settings.clip.duration_s,
        )
        return np.array([reading.rate_bpm for reading in found])

    return rates


def moving_texture(rng):
    """A rough picture that wanders by some pixels, slowly and smoothly."""
    rough = rng.normal(size=(150, 180, 3))
    rough = sum(scipy.ndimage.gaussian_filter(rough, (size, size, 0)) * size for size in (1, 3, 8))
    path = scipy.ndimage.gaussian_filter1d(rng.normal(size=(2, 480)), 20, axis=1)
    path *= 3 / path.std(1, keepdims=True)
    for down, across in path.T:
        moved = scipy.ndimage.shift(rough, (down, across, 0), order=1)[30:120, 30:150]
        yield 110 + 35 * moved / rough.std() + rng.normal(0, 1, moved.shape)


def test_a_pulse_is_answered_and_the_same_still_picture_is_not(read_video):
    np.testing.assert_allclose(read_video(scene.make_scene(jax.random.key(0), SKIN).frames), 72, atol=3)
    still = scene.make_scene(jax.random.key(0), replace(SKIN, amplitude=1e-9))
    assert np.isnan(read_video(still.frames)).all()


def test_moving_texture_and_flicker_have_no_pulse(read_video):
    rng = np.random.default_rng(0)
    assert np.isnan(read_video(np.stack(list(moving_texture(rng))))).all()
    picture = rng.uniform(60, 180, (*SHAPE, 3))
    flicker = np.exp(0.3 * rng.normal(size=(480, 1, 1, 1)))
    assert np.isnan(read_video(picture * flicker / flicker.mean())).all()


def test_black_frames_have_no_pulse(read_video):
    assert np.isnan(read_video(np.zeros((330, *SHAPE, 3)))).all()
