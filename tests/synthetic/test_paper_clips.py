import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.configs import parameters, replace

from pulse3d.synthetic import examples, paper_clips


def sample_many(config, count=4000):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.vmap(lambda key: paper_clips.sample_parameters(key, config))(keys)


@pytest.mark.slow
def test_noiseless_clip_equals_the_original_procedure(paper):
    a0, a1, b1, a2, b2 = paper.generator.fourier
    drawn = parameters(label=18, phase=7, trend_order=2, trend_centred=True, trend_end=-0.8, amplitude=3.0)
    w = 2 * np.pi * 100 / 60
    t = (np.arange(60) + 7) / 30
    wave = a0 + a1 * np.cos(w * t) + b1 * np.sin(w * t) + a2 * np.cos(2 * w * t) + b2 * np.sin(2 * w * t)
    wave = (wave - wave.min()) / np.ptp(wave)
    base = np.linspace(-0.5, 0.5, 60)
    value = wave + 0.5 * -0.8 * base**2 / (base**2).max()
    value = (value - value.min()) / 625 * 3.0
    trace = paper_clips.pulse_trace(drawn, paper)
    np.testing.assert_allclose(trace / 625 * 3.0, value, atol=1e-6)
    clip = paper_clips.render(jax.random.key(0), drawn, paper)
    grey = np.trunc(value * 255)
    near_a_step = abs(value * 255 - np.round(value * 255)) < 1e-3
    expected = (grey - grey.mean()) / 255
    difference = np.asarray(clip[:, 0, 0, 0]) - expected
    assert abs(np.median(difference)) < 1e-2 / 255
    assert (abs(difference - np.median(difference))[~near_a_step] < 1e-4 / 255).all()
    assert (clip == clip[:, :1, :1]).all()


def test_noise_has_the_stated_law(paper):
    drawn = parameters(amplitude=4.0, noise_percent=10.0)
    z = jax.random.normal(jax.random.key(1), (60, 25, 25, 1))
    clip = paper_clips.render(jax.random.key(1), drawn, paper)
    noise = (0.5 + 0.25 * z) * 4 * 0.25 * 0.10 * 255
    signal = paper_clips.pulse_trace(drawn, paper)[:, None, None, None] * 4 / 625 * 255
    expected = jnp.trunc(jnp.maximum(noise + signal, 0)) / 255
    np.testing.assert_allclose(clip, expected - expected.mean(), atol=1.01 / 255)
    assert float((abs(clip - (expected - expected.mean())) < 1e-6).mean()) > 0.999


def test_sensor_noise_spans_a_quarter_to_six_grey_levels(paper):
    for amplitude, percent, expected in ((1.5, 1.0, 0.239), (4.0, 10.0, 6.375)):
        gain = amplitude * paper.generator.noise_scale * percent / 100
        assert gain * paper.generator.noise_sd * 255 == pytest.approx(expected, abs=1e-3)


def test_pulse_clips_are_8_bit_and_no_pulse_clips_are_not(paper):
    def off_grid(config, label):
        clip, _ = paper_clips.make_clip(jax.random.key(3), config, label=label)
        grey = np.asarray(clip - clip.min(), np.float64) * 255
        return np.abs(grey - np.round(grey)).max()

    assert off_grid(paper, 10) < 1e-3
    assert off_grid(paper, 75) > 0.4
    assert off_grid(replace(paper, generator={"quantise_no_pulse": True}), 75) < 1e-3


def test_no_pulse_clip_is_white_noise_of_1_in_50_and_a_weak_trend(paper):
    drawn = parameters(label=75, trend_end=3.0)
    clip = np.asarray(paper_clips.render(jax.random.key(5), drawn, paper))
    assert clip.std() == pytest.approx(1 / 50, rel=0.02)
    trace = clip.mean((1, 2, 3))
    expected = np.linspace(0, 3, 60) / 625
    np.testing.assert_allclose(trace, expected - expected.mean(), atol=5 / 50 / 25)


@pytest.mark.slow
def test_every_law_covers_its_range(paper):
    drawn = sample_many(paper)
    assert set(np.unique(drawn.label)) == set(range(76))
    assert set(np.unique(drawn.phase)) == set(range(33))
    np.testing.assert_allclose(np.bincount(drawn.trend_order)[1:] / 4000, 1 / 3, atol=0.03)
    for values, low, high in (
        (drawn.amplitude, 1.5, 4),
        (drawn.noise_percent, 1, 10),
        (drawn.trend_end[drawn.trend_order == 1], -3, 3),
        (drawn.trend_end[drawn.trend_order > 1], -1, 1),
    ):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))


def test_every_draw_is_by_itself(paper):
    drawn = sample_many(replace(paper, generator={"centre_linear_trend": True, "linear_trend": 1.0}))
    correlation = np.corrcoef(np.stack(drawn)) - np.eye(len(drawn))
    assert abs(correlation).max() < 0.06


def test_centring_leaves_linear_trends_alone_unless_asked(paper):
    for setting, expected in ((False, 0.0), (True, 0.5)):
        drawn = sample_many(replace(paper, generator={"centre_linear_trend": setting}))
        assert drawn.trend_centred[drawn.trend_order == 1].mean() == pytest.approx(expected, abs=0.05)
        assert drawn.trend_centred[drawn.trend_order > 1].mean() == pytest.approx(0.5, abs=0.05)


def test_clips_have_no_mean(paper):
    clip, _ = paper_clips.make_clip(jax.random.key(0), paper)
    assert abs(float(clip.mean())) < 1e-6


@pytest.mark.slow
def test_batch_is_balanced(toy):
    for size in (toy.clip.classes * 3, 7):
        counts = np.bincount(examples.plan_batch(jax.random.key(1), toy, size=size).labels, minlength=5)
        assert counts.max() - counts.min() <= (size % toy.clip.classes > 0)
    firsts = [int(examples.plan_batch(jax.random.key(i), toy, size=1).labels[0]) for i in range(40)]
    assert set(firsts) == set(range(toy.clip.classes))
    _, targets = examples.make_batch(jax.random.key(1), toy, size=7)
    planned = examples.plan_batch(jax.random.key(1), toy, size=7).labels
    np.testing.assert_array_equal(targets.argmax(-1), planned)


@pytest.mark.slow
@pytest.mark.parametrize("prng", ["threefry2x32", "philox2x32"])
def test_batch_equals_single_clips_jitted_or_not(toy, prng):
    keys = jax.random.split(jax.random.key(2, impl=prng), 3)
    together, labels = jax.jit(jax.vmap(lambda key: paper_clips.make_clip(key, toy)))(keys)
    for key, clip, label in zip(keys, together, labels, strict=True):
        alone, alone_label = paper_clips.make_clip(key, toy)
        assert alone_label == label
        differs = abs(alone - clip) > 1e-5
        assert differs.mean() < 1e-3, "only roundings at the edge of a grey level may differ"


def test_functions_take_the_key_first_and_options_by_keyword():
    functions = (
        paper_clips.sample_parameters,
        paper_clips.render,
        paper_clips.make_clip,
        examples.make_batch,
    )
    for function in functions:
        names = list(inspect.signature(function).parameters.values())
        assert names[0].name == "key"
        assert all(p.kind is p.KEYWORD_ONLY for p in names if p.name in ("label", "size"))
