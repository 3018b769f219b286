import jax
import numpy as np
import pytest

from pulse3d import mapping, model, readout, stream, video
from pulse3d.checkpoint import Weights


@pytest.fixture(scope="module")
def weights(toy):
    return Weights(model.init_params(jax.random.key(0), toy), toy, {}, "toy")


def test_windows_come_in_time_and_equal_the_mapper(toy, weights):
    frames = np.random.default_rng(0).integers(0, 255, (60, 14, 20, 3)).astype(np.uint8)
    source = video.from_array(frames, fps=toy.clip.fps)
    results = list(stream.map_stream(source.frames(), weights, (14, 20), step_s=0.4))
    np.testing.assert_allclose([r.time_s for r in results], 0.8 + np.arange(7) * 0.4)
    mapper = mapping.make_mapper(weights.params, toy, mapping.make_layout((14, 20), toy))
    follow = readout.Follower(toy.clip.rate_axis_bpm, toy.readout, step_s=0.4, window_s=1.6)
    for index, result in enumerate(results):
        window = frames[index * 6 : index * 6 + 24, ..., 1:2].astype(np.float32) / 255
        np.testing.assert_allclose(result.probability, mapper(window), atol=1e-6)
        np.testing.assert_array_equal(
            result.evidence, readout.evidence(result.probability, toy.readout, odds=1)
        )
        np.testing.assert_array_equal(result.reading, follow(result.evidence))


def test_other_frame_rates_are_resampled(toy, weights):
    trace = 0.5 + 0.1 * np.sin(np.arange(200) / 30 * 2 * np.pi * 1.5)
    fast = np.broadcast_to(trace[:, None, None], (200, 8, 8)).astype(np.float32)
    twice = stream.map_stream(video.from_array(fast, fps=30.0).frames(), weights, (8, 8))
    once = stream.map_stream(video.from_array(fast[::2], fps=15.0).frames(), weights, (8, 8))
    for a, b in zip(twice, once, strict=True):
        np.testing.assert_allclose(a.probability, b.probability, atol=1e-5)


def test_too_short_a_video_has_no_window(toy, weights):
    source = video.from_array(np.zeros((10, 8, 8), np.uint8), fps=15.0)
    assert list(stream.map_stream(source.frames(), weights, (8, 8))) == []
