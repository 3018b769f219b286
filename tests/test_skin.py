import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import replace

from pulse3d import generator, skin
from pulse3d.config import get_preset

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def default():
    return get_preset("patches")


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


@pytest.mark.parametrize(
    ("rate_bpm", "is_rich", "second", "third"),
    [(80.0, False, 0.6, 0.2), (80.0, True, 1.0, 0.6), (120.0, False, 0.3, 0.06), (120.0, True, 0.5, 0.18)],
)
def test_harmonics_reach_their_bounds_and_no_further(rate_bpm, is_rich, second, third):
    options = {"frames": 300, "fps": 15.0, "counted": 300} | ({"is_rich": True} if is_rich else {})

    def wave(key):
        return skin.pulse_series(key, jnp.float32(rate_bpm), **options)

    waves = np.asarray(jax.jit(jax.vmap(wave))(jax.random.split(KEY, 400)))
    np.testing.assert_allclose(np.sqrt((waves**2).mean(1)), 1, atol=0.5)
    assert np.sqrt((waves**2).mean()) == pytest.approx(1, abs=0.05)
    frequency = np.fft.rfftfreq(300, 1 / 15) * 60 / rate_bpm
    spectrum = abs(np.fft.rfft(waves * np.hanning(300))) ** 2
    first, *others = (np.sqrt(spectrum[:, abs(frequency - n) < 0.4].sum(1)) for n in (1, 2, 3))
    for found, bound in zip(others, (second, third), strict=True):
        ratio = found / first
        assert 0.9 * bound < np.quantile(ratio, 0.99) < 1.1 * bound
        assert np.median(ratio) == pytest.approx(bound / 2, rel=0.15)


def test_mask_is_a_share_and_nearly_always_whole_somewhere():
    masks = np.asarray(jax.jit(jax.vmap(lambda key: skin.skin_mask(key, 4)))(jax.random.split(KEY, 1000)))
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6
    assert (masks.max((1, 2)) > 0.999).mean() > 0.98, "a half-plane may lie outside"
    assert 0.4 < (masks.min((1, 2)) == 1).mean() < 0.75
    assert masks.min() < 0.01

    def rises(axis):
        """Whether a mask grows, or shrinks, all along: half-planes do, and few discs."""
        steps = np.diff(masks, axis=axis)
        return (steps > -1e-6).all((1, 2)) | (steps < 1e-6).all((1, 2))

    part = masks.min((1, 2)) < 0.99
    assert 0.4 < (rises(1) & rises(2))[part].mean() < 0.6


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


def test_every_draw_is_by_itself(default):
    """But for what all motion of a clip has in common."""
    same = {"calm_share": 0.0, "wild_share": 0.0, "strong_share": 0.5, "flicker_share": 0.5}
    drawn = sample_many(replace(default, generator=same), 2000, label=40)
    pulse = np.log(drawn.pulse[..., 1].max((1, 2)))
    levels = [np.log(x).reshape(2000, -1) for x in (drawn.light, drawn.texture, drawn.wander, drawn.local)]
    draws = np.column_stack([drawn.rate_bpm, *levels, np.log(drawn.sensor), drawn.has_codec, drawn.flicker])
    correlation = np.corrcoef(draws.T) - np.eye(draws.shape[1])
    assert abs(correlation).max() < 0.1
    assert abs(np.corrcoef(pulse, draws.T)[0, 1:]).max() < 0.1
    colours = np.log(drawn.pulse / drawn.pulse[..., :1])[:, 0, 0, 1:]
    assert abs(np.corrcoef(colours.T, draws.T)[:2, 2:]).max() < 0.1
    assert drawn.is_strong.mean() == pytest.approx(0.5, abs=0.05)
    assert (drawn.flicker > 0).mean() == pytest.approx(0.5, abs=0.05)
    red_gone = np.asarray(drawn.no_red)
    assert red_gone[drawn.is_strong].mean() == pytest.approx(0.3, abs=0.06)
    assert not red_gone[~drawn.is_strong].any()


def test_some_clips_are_calmer_and_some_wilder(default):
    levels, laws = np.asarray(sample_many(default, 1000).light), default.generator
    assert (levels.min(1) < laws.light[0]).mean() > 0.1
    assert 0.01 < (levels.max(1) > laws.light[1]).mean() < 0.1
    assert levels.min() >= laws.light[0] * laws.calm[0] * 0.999
    assert levels.max() <= laws.light[1] * laws.wild[1] * 1.001


FRAMES = 60


def many(part, count, level, config):
    """Many draws of one nuisance at its level: (draw, time, row, col, 3)."""
    draw = jax.jit(jax.vmap(lambda key: part(key, jnp.asarray(level), config, FRAMES)))
    return np.asarray(draw(jax.random.split(KEY, count)), np.float64)


def ranks(clips):
    """Of how many series the clips are made: (draw,)."""
    return np.linalg.matrix_rank(clips.reshape(len(clips), FRAMES, -1), rtol=1e-4)


def power(clips):
    return (clips**2).mean()


def levels(clips):
    """The root mean square of every draw and channel: (draw, 3)."""
    return np.sqrt((clips**2).mean((1, 2, 3)))


def test_light_is_grey_or_gloss_at_its_level(toy_skin):
    plain = replace(toy_skin, generator={"light_spread": 0.0})
    clips = many(skin._light, 100, (0.02, 0.0, 0.0, 0.0), plain)
    colour = levels(clips)
    grey = abs(colour / 0.02 - 1).max(1) < 1e-3
    gloss = abs(colour / 0.02 - [0.66, 1.0, 1.34]).max(1) < 1e-3
    assert (grey | gloss).all()
    assert 0.35 < grey.mean() < 0.65
    assert (ranks(clips) == 1).all()
    np.testing.assert_allclose(clips.mean(1), 0, atol=1e-5)
    assert (np.ptp(clips[..., 1].std(1), axis=(1, 2)) > 1e-3).all(), "uneven over the cells"


def test_light_spreads_about_these_colours_and_each_counts(toy_skin):
    one, four = (many(skin._light, 200, level, toy_skin) for level in ((0.01, 0.0, 0.0, 0.0), (0.01,) * 4))
    colour = levels(one) / 0.01
    nearest = np.minimum(abs(colour - 1), abs(colour - [0.66, 1.0, 1.34]))
    assert np.sqrt((nearest[:, 1] ** 2).mean()) == pytest.approx(0.12, rel=0.15)
    assert (ranks(four) == 4).all()
    assert power(four) == pytest.approx(4 * power(one), rel=0.15)


def test_texture_follows_its_motion_by_a_gradient_of_every_cell(toy_skin):
    still = replace(toy_skin, generator={"texture_spread": 0.0})
    clips = many(skin._texture, 400, (0.01, 0.0), still)
    assert (ranks(clips) == 1).all(), "all cells follow one motion"
    assert (abs(clips - clips.mean(1, keepdims=True)).max((1, 2, 3, 4)) > 1e-3).all(), "and all move"
    np.testing.assert_allclose(clips[..., 0], clips[..., 2], atol=1e-9)
    # motion of 1, 0.7 and 0.5; a gradient N(0, 1) with a log-normal factor of SD 0.7
    expected = 1e-4 * (1 + 0.7**2 + 0.5**2) * np.exp(2 * 0.7**2)
    assert power(clips) == pytest.approx(expected, rel=0.2)
    assert (ranks(many(skin._texture, 20, (0.01, 0.01), still)) == 2).all()
    colours = many(skin._texture, 400, (0.01, 0.0), toy_skin)
    assert power(colours) == pytest.approx(expected * (1 + 0.4**2), rel=0.25)
    traces = colours.transpose(0, 2, 3, 4, 1).reshape(-1, 3, FRAMES)
    red, green = traces[:, 0, 0], traces[:, 1, 0]
    assert np.corrcoef(red, green)[0, 1] == pytest.approx(1 / (1 + 0.4**2), abs=0.08)


def test_wander_is_of_any_colour(toy_skin):
    clips = many(skin._wander, 300, (0.0, 0.003, 0.0, 0.0), toy_skin)
    assert (ranks(clips) == 1).all()
    colour = levels(clips) / 0.003
    assert (colour**2).mean() == pytest.approx(1, abs=0.15)
    assert (abs(clips).max((1, 2, 3)).argmax(-1)[:, None] == np.arange(3)).mean(0).min() > 0.2
    assert (ranks(many(skin._wander, 20, (0.003,) * 4, toy_skin)) == 4).all()


def test_the_first_of_the_wanders_is_a_rhythm_for_half_of_the_clips(toy_skin):
    def steady(level):
        """Whether the strongest part is a rhythm above what a power law is strong in."""
        clips = many(skin._wander, 400, level, toy_skin)[:, :, 0, 0, 0]
        spectrum = abs(np.fft.rfft(clips * np.hanning(FRAMES))) ** 2
        return (spectrum[:, 4:].sum(1) > 0.9 * spectrum.sum(1)).mean()

    rhythm, wander = steady((0.003, 0.0, 0.0, 0.0)), steady((0.0, 0.003, 0.0, 0.0))
    assert rhythm > wander + 0.1


def test_local_changes_are_of_each_cell_and_mostly_grey(toy_skin):
    clips = many(skin._local, 400, 0.01, toy_skin)
    # a grey of SD 1 and a colour of 0.7 x 0.3, with a log-normal factor of SD 0.5
    expected = 1e-4 * (1 + 0.15**2 + (0.7 * 0.3) ** 2) * np.exp(2 * 0.5**2)
    assert power(clips) == pytest.approx(expected, rel=0.1)

    def correlation(a, b):
        return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])

    assert np.median(correlation(clips[:, :, 0, 0, 0], clips[:, :, 0, 0, 2])) > 0.9
    assert abs(correlation(clips[:, :, 0, 0, 1], clips[:, :, 0, 1, 1]).mean()) < 0.15
    assert abs(correlation(clips[:, :, 0, 0, 1], clips[:, :, 1, 0, 1]).mean()) < 0.15


def test_flicker_is_of_all_cells_at_once(toy_skin):
    clips = many(skin._flicker, 300, 0.1, toy_skin)
    assert (ranks(clips) == 1).all()
    assert power(clips) == pytest.approx(0.01 * (1 + 0.4**2) * (1 + 0.2**2), rel=0.1)
    spread = clips[..., 1].std(1)
    assert (spread.std((1, 2)) / spread.mean((1, 2))).mean() == pytest.approx(0.2, abs=0.03)


def test_sensor_noise_is_white_in_time_space_and_colour(default, render):
    quiet = skin.sample_parameters(KEY, default, label=81)
    off = {name: 0 * getattr(quiet, name) for name in ("light", "flicker", "texture", "wander", "local")}
    quiet = quiet._replace(**off, has_codec=jnp.asarray(False), no_red=jnp.asarray(False))
    clips = np.stack(
        [render(jax.random.key(i), quiet._replace(sensor=jnp.float32(0.002))) for i in range(60)]
    )
    level = clips.std((1, 2, 3)) / 0.002
    assert np.log(level).mean() == pytest.approx(0, abs=0.08)
    assert np.log(level).std() == pytest.approx(0.3, abs=0.06), "each channel has a factor of its own"
    unit = clips / clips.std((1, 2, 3), keepdims=True)
    for here, there in (
        (unit[:, 1:], unit[:, :-1]),
        (unit[:, :, 1:], unit[:, :, :-1]),
        (unit[:, :, :, 1:], unit[:, :, :, :-1]),
        (unit[..., 1:], unit[..., :-1]),
    ):
        # up to 3 % of the frames are repeated
        assert abs((here * there).mean()) < 0.03
    np.testing.assert_array_equal(render(KEY, quiet._replace(sensor=jnp.float32(0.0))), 0)


def test_codec_and_repeated_frames_act_where_they_should(default, render):
    drawn = skin.sample_parameters(KEY, default, label=40)
    plain, coded = (
        np.stack([render(jax.random.key(i), drawn._replace(has_codec=jnp.asarray(c))) for i in range(20)])
        for c in (False, True)
    )
    assert (abs(plain - coded).max((1, 2, 3, 4)) > 0).mean() > 0.9
    repeated = (np.diff(plain, axis=1) == 0).all((2, 3, 4)).mean(1)
    assert 0.004 < repeated.mean() < 0.03
    assert repeated.max() < 0.08


def test_a_saturated_red_is_gone(default, render):
    drawn = skin.sample_parameters(KEY, default, label=40)
    whole, clip = (render(KEY, drawn._replace(no_red=jnp.asarray(gone))) for gone in (False, True))
    assert abs(whole[..., 0]).max() > 0
    np.testing.assert_array_equal(clip[..., 0], 0)
    np.testing.assert_array_equal(clip[..., 1:], whole[..., 1:])


def test_golden_pulse():
    """A few values for fixed keys, slow and fast; change the numbers (printed where they differ) when the
    wave or its random draws change on purpose."""
    rates = jnp.array([70.0, 140.0])
    waves = jax.vmap(lambda k, r: skin.pulse_series(k, r, frames=90, fps=15.0, counted=60))
    found = np.asarray(waves(jax.random.split(KEY), rates)[:, 15::15])
    np.testing.assert_allclose(found, GOLDEN_PULSE, atol=2e-3, err_msg=np.array2string(found, separator=", "))


GOLDEN_PULSE = [
    [1.3934, 0.1315, -0.3662, -0.9629, -0.6078],
    [0.8194, -0.7776, -1.5961, 1.6739, -0.8667],
]


def test_golden_clips(toy_skin):
    """Six clips of fixed keys; change the numbers (printed where they differ) when the laws or the random
    draws of the default generator change on purpose."""
    make = jax.jit(jax.vmap(lambda key: generator.make_clip(key, toy_skin)))
    clips, labels = make(jax.random.split(KEY, 6))
    channels, changes = 1000 * clips.std((1, 2, 3)), 1000 * abs(jnp.diff(clips, axis=1)).mean((1, 2, 3, 4))
    found = np.column_stack([labels, channels, changes])
    np.testing.assert_allclose(found, GOLDEN, rtol=5e-3, err_msg=np.array2string(found, separator=", "))


# label; SD of red, green and blue; mean change from frame to frame
GOLDEN = [
    [7, 58.61, 64.79, 52.65, 20.83],
    [4, 14.47, 15.44, 16.03, 6.594],
    [2, 9.171, 10.61, 9.574, 4.211],
    [1, 88.35, 61.06, 79.76, 48.24],
    [4, 20.53, 24.03, 25.54, 8.801],
    [4, 32.72, 19.29, 26.06, 8.051],
]
