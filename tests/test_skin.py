import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import replace

from pulse3d import skin
from pulse3d.config import get_preset

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def default():
    return get_preset("default")


@pytest.fixture(scope="module")
def render(default):
    """`skin.render` for the default config, compiled once."""
    return jax.jit(lambda key, parameters: skin.render(key, parameters, default))


def sample_many(config, count, label=None):
    keys = jax.random.split(KEY, count)
    sample = jax.vmap(lambda key: skin.sample_parameters(key, config, label=label))
    return jax.jit(sample)(keys)


def only_pulse(parameters):
    """The same clip with all but its pulse taken away."""
    gone = {name: 0 * getattr(parameters, name) for name in ("light", "texture", "wander", "local", "sensor")}
    return parameters._replace(**gone, has_codec=jnp.zeros_like(parameters.has_codec))


def test_clips_are_changes_of_colour_centred_before_they_are_clipped(default, render):
    drawn, centred = sample_many(default, 6), 0
    for index in range(6):
        clip = render(jax.random.key(index), jax.tree.map(lambda x, i=index: x[i], drawn))
        assert clip.shape == (150, 4, 4, 3)
        assert clip.dtype == jnp.float32
        assert abs(clip).max() <= 1
        assert clip.std() > 1e-5
        whole = abs(clip).max(0) < 1
        np.testing.assert_allclose(clip.mean(0)[whole], 0, atol=1e-5)
        centred += whole.any()
    assert centred >= 4


def test_label_fixes_the_class_and_the_same_key_gives_the_same_clip(default, render):
    assert (sample_many(default, 500, label=3).label == 3).all()
    drawn = sample_many(default, 2, label=3)
    first, second = (jax.tree.map(lambda x, i=i: x[i], drawn) for i in (0, 1))
    np.testing.assert_array_equal(render(KEY, first), render(KEY, first))
    assert not np.allclose(render(KEY, first), render(KEY, second))
    assert not np.allclose(render(KEY, first), render(jax.random.key(1), first))
    assert set(np.unique(sample_many(default, 500).label)) > {0, 81}


def test_rates_lie_within_half_a_bin_of_their_class(default):
    axis = default.clip.rate_axis_bpm
    drawn = sample_many(default, 500)
    away = np.asarray(drawn.rate_bpm)[drawn.label < 81] - axis[drawn.label[drawn.label < 81]]
    assert -1.001 <= away.min() < -0.9
    assert 0.9 < away.max() <= 1.001


def test_clips_without_a_pulse_do_not_know_the_rate(default, render):
    drawn = skin.sample_parameters(KEY, default, label=81)
    np.testing.assert_array_equal(drawn.pulse, 0)
    slow, fast = (render(KEY, drawn._replace(rate_bpm=jnp.float32(rate))) for rate in (50.0, 150.0))
    np.testing.assert_array_equal(slow, fast)


@pytest.mark.parametrize("label", [5, 30, 60])
def test_pulse_alone_has_its_rate_and_colour(default, render, label):
    for seed in range(5):
        drawn = skin.sample_parameters(jax.random.key(seed), default, label=label)
        clip = np.asarray(render(jax.random.key(seed), only_pulse(drawn)))
        pulse = np.asarray(drawn.pulse)
        row, col, channel = np.unravel_index(pulse.argmax(), pulse.shape)
        trace = clip[:, row, col, channel]
        power = abs(np.fft.rfft(trace * np.hanning(150), 4096)) ** 2
        resolution_bpm = 60 / default.clip.duration_s
        peak_bpm = np.fft.rfftfreq(4096, 1 / 15)[power.argmax()] * 60
        assert peak_bpm == pytest.approx(float(drawn.rate_bpm), abs=resolution_bpm)
        expected = trace[:, None, None, None] * pulse / pulse.max()
        np.testing.assert_allclose(clip, expected, atol=1e-4 * abs(trace).max())


def test_mean_rate_of_the_counted_frames_is_the_given_one():
    """By the phase at 80 bpm, a second from both ends of the last two minutes."""
    fps, counted = 15.0, 1800
    keys = jax.random.split(KEY, 30)
    waves = jax.vmap(
        lambda key: skin.pulse_series(key, jnp.float32(80.0), frames=2700, fps=fps, counted=counted)
    )(keys)[:, -counted:]
    window = np.hanning(31)
    for wave in np.asarray(waves):
        turned = wave * np.exp(-2j * np.pi * 80 / 60 * np.arange(counted) / fps)
        phase = np.unwrap(np.angle(np.convolve(turned, window, mode="valid")))
        assert (phase[-1] - phase[0]) / (2 * np.pi) / (counted / fps) * 60 == pytest.approx(0, abs=0.2)


def test_mask_is_a_share_and_nearly_always_whole_somewhere():
    masks = np.asarray(jax.jit(jax.vmap(lambda key: skin.skin_mask(key, 4)))(jax.random.split(KEY, 1000)))
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6
    assert (masks.max((1, 2)) > 0.999).mean() > 0.98, "a half-plane may lie outside"
    assert 0.4 < (masks.min((1, 2)) == 1).mean() < 0.75
    assert masks.min() < 0.01


def test_laws_keep_their_bounds(default):
    plain = replace(
        default,
        generator={"calm_share": 0.0, "wild_share": 0.0, "pulse_spread": 0.0, "colour_spread": 0.0},
    )
    drawn, laws = sample_many(plain, 200, label=40), plain.generator
    strength = np.asarray(drawn.pulse / np.array(laws.pulse_colour)).max((1, 2, 3))
    for values, (low, high) in (
        (drawn.light, laws.light),
        (drawn.texture, laws.texture),
        (drawn.wander, laws.wander),
        (drawn.local, laws.local),
        (drawn.sensor, laws.sensor),
    ):
        assert low * 0.999 <= values.min() <= low * 1.5
        assert high * 0.5 <= values.max() <= high * 1.001
    assert strength.max() <= laws.strong[1] * 1.001
    assert (strength < laws.pulse[0] * 0.999).mean() < 0.02, "only where the mask is outside"
    assert 0.01 < (strength > laws.pulse[1] * 1.001).mean() < 0.12
    assert 0.6 < drawn.has_codec.mean() < 0.8


def test_some_clips_are_calmer_and_some_wilder(default):
    levels, laws = np.asarray(sample_many(default, 1000).light), default.generator
    assert (levels.min(1) < laws.light[0]).mean() > 0.1
    assert 0.01 < (levels.max(1) > laws.light[1]).mean() < 0.1
    assert levels.min() >= laws.light[0] * laws.calm[0] * 0.999
    assert levels.max() <= laws.light[1] * laws.wild[1] * 1.001
