"""Confidence means something: of the places that are 80 % sure of their rate, 80 % are right.

Measured with the bundled default weights. Right is a rate within `readout.tolerance_bpm` of the truth; a
rate where there is no pulse is wrong. The longer measurements print their figures:

    pytest -m long -n 0 -s tests/evaluation/test_calibration.py
"""

import jax
import numpy as np
import pytest

from pulse3d import stream, video
from pulse3d.config import SceneConfig
from pulse3d.evaluation import calibration, map_truth, metrics
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import cell_input, model, weights_file
from pulse3d.reading import readout
from pulse3d.synthetic import demo_scene, examples


def test_confidence_against_what_came_true_by_hand():
    confidence = np.array([0.1, 0.3, 0.9, 1.0, np.nan])
    right = np.array([False, True, True, False, True])
    curve = calibration.confidence_curve(confidence, right, np.array(["a", "a", "b", "b", "b"]), bins=2)
    np.testing.assert_allclose(curve.stated, [0.2, 0.95])
    np.testing.assert_allclose(curve.right, [0.5, 0.5])
    np.testing.assert_array_equal(curve.windows, [2, 2])
    assert curve.error == pytest.approx((0.3 + 0.45) / 2)
    assert np.isnan([curve.low, curve.high]).all(), "two recordings"


def test_intervals_against_what_they_hold_by_hand():
    levels = len(calibration.LEVELS)
    np.testing.assert_allclose(calibration.LEVELS, [0.05 * number for number in range(1, 20)])
    holds = np.full((5, levels), np.nan)
    holds[:4] = np.arange(levels) >= np.array([[0], [levels // 2], [levels // 2], [levels]])
    curve = calibration.interval_curve(holds, np.zeros(5))
    middle = calibration.LEVELS[levels // 2] <= calibration.LEVELS
    expected = np.where(middle, 0.75, 0.25)
    np.testing.assert_allclose(curve.right, expected)
    np.testing.assert_array_equal(curve.windows, 4)
    assert curve.error == pytest.approx(abs(expected - calibration.LEVELS).mean())
    assert np.isnan(calibration.interval_curve(holds[:0], np.zeros(0)).error)


def test_bars_are_of_all_draws_of_recordings():
    # five recordings of four windows, right in 0, 1 ... 4 of them
    right = (np.arange(4) < np.arange(5)[:, None]).ravel()
    recording = np.repeat(np.arange(5), 4)
    curve = calibration.confidence_curve(np.full(20, 0.55), right, recording)
    shares = np.array(np.meshgrid(*[np.arange(5) / 4] * 5)).reshape(5, -1).mean(0)
    np.testing.assert_allclose((curve.low[5], curve.high[5]), np.percentile(shares, [2.5, 97.5]), atol=0.05)
    assert np.isnan(np.delete(curve.low, 5)).all()
    held = calibration.interval_curve(
        np.tile(right[:, None], len(calibration.LEVELS)).astype(float), recording
    )
    np.testing.assert_allclose(held.low, curve.low[5])
    every = calibration.interval_curve(np.ones((20, len(calibration.LEVELS))), recording)
    assert (every.low == 1).all()
    assert (every.high == 1).all()
    alike = calibration.confidence_curve(np.full(20, 0.55), np.tile([True, False], 10), recording)
    assert alike.low[5] == alike.high[5] == 0.5, "recordings are drawn, not windows"
    few = calibration.confidence_curve(np.full(16, 0.55), right[:16], recording[:16])
    assert np.isnan(few.low).all(), "four recordings"


@pytest.fixture(scope="module")
def synthetic_curve():
    """A function from a number of clips, of the default's own laws, to the reliability of their rates."""
    weights = weights_file.load_weights("default")
    settings = weights.config
    axis, tolerance_bpm = settings.clip.rate_axis_bpm, settings.readout.tolerance_bpm

    @jax.jit
    def answer(key):
        inputs, targets = examples.make_batch(key, settings, size=8)
        logits = model.apply_logits(weights.params, inputs, settings)
        return cell_input.within_axis(jax.nn.softmax(logits)), targets

    def curve(scenes):
        batches = [answer(jax.random.fold_in(jax.random.key(5), index)) for index in range(scenes // 8)]
        probability, targets = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        asked = targets.any(-1)
        truth = np.append(cell_input.rates_bpm(settings.clip), np.nan)[targets[asked].argmax(-1)]
        row = probability[asked][None]  # a map of one row
        rates = readout.patch_rates(row, axis)[0]
        confidence = readout.patch_confidence(row, axis, tolerance_bpm)[0]
        found = np.isfinite(rates)
        assert found.mean() > 0.05
        return metrics.reliability(confidence[found], abs(rates - truth)[found] <= tolerance_bpm)

    return curve


@pytest.mark.long
@pytest.mark.slow
def test_a_place_is_as_often_right_as_it_says(synthetic_curve):
    # of single windows, before places are asked for the frame's pulse: 0.116 as bundled, understated
    assert synthetic_curve(64).error < 0.15


@pytest.mark.long
def test_many_places_are_as_often_right_as_they_say(synthetic_curve):
    curve = synthetic_curve(1024)
    print("synthetic clips", curve)
    assert curve.error <= 0.15


@pytest.mark.long
def test_the_demo_scene_is_calibrated_where_it_pulsates():
    weights = weights_file.load_weights("default")
    settings, shown = weights.config, SceneConfig()
    tolerance_bpm = settings.readout.tolerance_bpm
    mapper = make_mapper(
        weights.params, settings, (shown.height_px, shown.width_px), devices=jax.devices()[:1]
    )
    inside, outside = [], []
    for seed in range(4):
        made = demo_scene.make_scene(jax.random.key(seed), shown)
        regions = map_truth.patch_regions(made.masks, mapper.layout)
        frames = video.from_array(made.frames, fps=shown.fps).frames()
        truth = np.append(made.rates_bpm, (np.nan, np.nan))[regions]
        for window in stream.map_windows(frames, mapper):
            near = abs(window.rate_bpm - truth) <= tolerance_bpm
            found = np.isfinite(window.rate_bpm)
            inside.append((window.confidence[found & (regions >= 0)], near[found & (regions >= 0)]))
            outside.append(found[regions == -1].mean())
    curve = metrics.reliability(*(np.concatenate(parts) for parts in zip(*inside, strict=True)))
    print("demo scenes, inside the ellipses", curve, "background with a rate", np.mean(outside))
    assert curve.error <= 0.15
