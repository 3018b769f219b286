import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.configs import replace

from launch.benchmarks import original
from pulse3d.errors import InputError
from pulse3d.network import model
from pulse3d.synthetic import paper_clips

FIXED = {
    "phases": 1,
    "linear_trend": 0.0,
    "curved_trend": 0.0,
    "amplitude_low": 3.0,
    "amplitude_high": 3.0,
    "noise_low_percent": 0.0,
    "noise_high_percent": 0.0,
}


@pytest.mark.parametrize("label", [0, 18, 74])
def test_a_clip_without_chance_equals_the_generators(paper, label):
    settings = replace(paper, generator=FIXED)
    found = original.make_clip(np.random.default_rng(0), settings, label=label)
    expected, _ = paper_clips.make_clip(jax.random.key(0), settings, label=label)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    # at the edge of a grey level the roundings of float32 and float64 differ, and with them the mean
    difference = found - np.asarray(expected)
    off = abs(difference - np.median(difference)) > 1e-6
    assert off.mean() < 0.05
    assert abs(found.mean()) < 1e-6


@pytest.mark.slow
def test_clips_obey_the_laws_of_the_generator(paper):
    """Statistics of many clips of one class, by both ways; tolerances are 4 standard errors."""
    small = replace(paper, clip={"patch_px": 21})
    count, rng = 600, np.random.default_rng(1)
    keys = jax.random.split(jax.random.key(1), count)
    for label in (30, 75):
        ours = jax.jit(jax.vmap(lambda k, label=label: paper_clips.make_clip(k, small, label=label)[0]))(keys)
        theirs = np.stack([original.make_clip(rng, small, label=label) for _ in range(count)])
        for statistic in (
            lambda clips: clips.std((1, 2, 3, 4)),
            lambda clips: clips.mean((2, 3, 4)).std(1),
            lambda clips: (clips - clips.mean((2, 3), keepdims=True)).std((1, 2, 3, 4)),
            lambda clips: clips[:, -1].mean((1, 2, 3)) - clips[:, 0].mean((1, 2, 3)),
            lambda clips: clips[:, -1].mean((1, 2, 3)) ** 2,
        ):
            a, b = statistic(np.asarray(ours, np.float64)), statistic(theirs.astype(np.float64))
            error = np.sqrt((a.var() + b.var()) / count)
            assert abs(a.mean() - b.mean()) < 4 * error + 1e-9


def test_pulse_clips_are_whole_grey_levels_and_clips_without_are_not(paper):
    for label, whole in ((10, True), (75, False)):
        clip = original.make_clip(np.random.default_rng(2), paper, label=label).astype(np.float64)
        grey = (clip - clip.min()) * 255
        assert (abs(grey - np.round(grey)).max() < 1e-3) == whole


def test_a_batch_has_the_classes_in_turn(toy):
    clips, labels = original.make_batch(np.random.default_rng(0), toy, size=7)
    assert clips.shape == (7, *model.clip_shape(toy.clip))
    np.testing.assert_array_equal(labels, [0, 1, 2, 3, 4, 0, 1])


@pytest.mark.filterwarnings("ignore")
def test_keras_gives_our_probabilities_and_trains_as_we_do(toy):
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    pytest.importorskip("tensorflow")
    pytest.importorskip("keras")
    params = jax.tree.map(lambda x: 4 * x, model.init_params(jax.random.key(3), toy))
    network = original.make_network(params, replace(toy, model={"dropout": 0.0}))
    clips, labels = original.make_batch(np.random.default_rng(0), toy, size=12)
    clips = 20 * clips
    expected = jax.nn.softmax(model.apply_logits(params, (jnp.asarray(clips),), toy))
    assert np.ptp(expected) > 0.3
    np.testing.assert_allclose(network.predict(clips, verbose=0), expected, atol=1e-5)
    loss, _ = network.train_on_batch(clips, np.eye(toy.clip.classes)[labels])
    assert loss == pytest.approx(float(-np.log(expected[np.arange(12), labels]).mean()), rel=1e-4)


def test_without_keras_one_line_says_what_to_do(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(InputError, match=r"pip install keras tensorflow-cpu"):
        original.make_network({}, toy)
