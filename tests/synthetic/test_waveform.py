import jax.numpy as jnp
import numpy as np
import pytest

from pulse3d.synthetic import waveform


def test_pulse_wave_equals_its_formula(paper):
    a0, a1, b1, a2, b2 = paper.generator.fourier
    assert (a0, b2) == (0.440240602542388, 0.099347477830878)
    t = np.arange(60) / 30
    for rate in (55.0, 102.5, 240.0):
        w = 2 * np.pi * rate / 60
        expected = (
            a0 + a1 * np.cos(w * t) + b1 * np.sin(w * t) + a2 * np.cos(2 * w * t) + b2 * np.sin(2 * w * t)
        )
        wave = waveform.pulse_wave(jnp.asarray(t), jnp.asarray(rate), paper.generator.fourier)
        np.testing.assert_allclose(wave, expected, atol=3e-6)


def test_pulse_wave_repeats_after_one_period(paper):
    t = jnp.arange(50) / 30
    first = waveform.pulse_wave(t, jnp.asarray(75.0), paper.generator.fourier)
    later = waveform.pulse_wave(t + 60 / 75, jnp.asarray(75.0), paper.generator.fourier)
    np.testing.assert_allclose(first, later, atol=1e-5)


def test_normalise_spans_0_to_1_and_keeps_shape():
    x = jnp.asarray([3.0, -1.0, 5.0])
    np.testing.assert_allclose(waveform.normalise(x), [4 / 6, 0, 1], rtol=1e-6)
    np.testing.assert_array_equal(waveform.normalise(jnp.ones(4)), 0)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("end", [-0.7, 3.0])
def test_trend_equals_its_formula(order, centred, end):
    base = np.linspace(-0.5, 0.5, 60) if centred else np.linspace(0, 1, 60)
    expected = (0.5 if centred else 1) * end * base**order / (base**order).max()
    trend = waveform.trend(jnp.asarray(order), jnp.asarray(centred), jnp.asarray(end), 60)
    np.testing.assert_allclose(trend, expected, atol=1e-6)
