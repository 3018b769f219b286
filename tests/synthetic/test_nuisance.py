import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pulse3d.synthetic import nuisance

KEY = jax.random.key(0)
FPS = 15.0


def spectra(series, padded):
    """Frequencies in Hz, and the power spectra of series (series, time) under a Hann window."""
    windowed = np.asarray(series) * np.hanning(series.shape[1])
    return np.fft.rfftfreq(padded, 1 / FPS), abs(np.fft.rfft(windowed, padded)) ** 2


def assert_standard(series):
    np.testing.assert_allclose(series.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(series.std(-1), 1, atol=1e-3)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_power_law_has_its_slope_and_unit_sd(exponent):
    series = nuisance.power_law(KEY, jnp.full(400, exponent), frames=512, fps=FPS)
    assert series.shape == (400, 512)
    assert_standard(series)
    frequency, power = spectra(series, 512)
    band = (frequency > 0.3) & (frequency < 5)
    slope = np.polyfit(np.log(frequency[band]), np.log(power.mean(0)[band]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)


def test_ends_of_a_power_law_do_not_meet():
    series = nuisance.power_law(KEY, jnp.full(200, 2.0), frames=150, fps=FPS)
    assert abs(series[:, -1] - series[:, 0]).mean() > 4 * abs(jnp.diff(series)).mean()


@pytest.mark.slow
def test_rhythms_have_their_peak_in_the_band():
    series = nuisance.quasi_periodic(KEY, 200, low_hz=1.0, high_hz=1.5, frames=300, fps=FPS)
    assert_standard(series)
    frequency, power = spectra(series, 4096)
    peak = frequency[power.argmax(-1)]
    # the rest has a second harmonic above the first
    assert ((peak > 0.9) & (peak < 1.6)).mean() > 0.9
    assert peak.std() > 0.05


def test_jerks_are_standard_and_local():
    series = nuisance.jerks(KEY, 100, frames=150, fps=FPS)
    assert series.shape == (100, 150)
    assert_standard(series)
    steepest = np.sort(abs(np.diff(series)), axis=-1)
    assert (steepest[:, -30:].sum(-1) / steepest.sum(-1)).mean() > 0.5


def test_a_constant_is_standardised_to_zero():
    np.testing.assert_array_equal(nuisance.standardise(jnp.full((2, 9), 0.5)), 0)


def test_one_of_picks_whole_series_of_every_kind():
    kinds = [jnp.full((900, 5), float(kind)) for kind in range(3)]
    picked = np.asarray(nuisance.one_of(KEY, *kinds))
    assert (picked == picked[:, :1]).all()
    np.testing.assert_allclose(np.bincount(picked[:, 0].astype(int)) / 900, 1 / 3, atol=0.05)


def test_fields_have_unit_root_mean_square_and_differ():
    found = nuisance.fields(KEY, 50, cells=4)
    np.testing.assert_allclose(jnp.sqrt((found**2).mean((1, 2))), 1, atol=1e-5)
    assert abs(np.corrcoef(found.reshape(50, -1))[0, 1:]).max() < 0.99


def test_smooth_fields_have_details_of_one_size_in_every_direction():
    """The correlation of cells d apart is exp(-d^2 / size^2)."""
    found = nuisance.smooth_fields(KEY, 100, cells=64, finest=7.999)
    np.testing.assert_allclose(jnp.sqrt((found**2).mean((1, 2))), 1, atol=1e-5)
    for along in (found, found.swapaxes(1, 2)):
        for away in (2, 5):
            alike = (along[:, away:] * along[:, :-away]).mean()
            assert alike / (along**2).mean() == pytest.approx(np.exp(-((away / 8) ** 2)), abs=0.04)


def changes(frames=40, size=0.01):
    """Relative changes of colour (time, 2, 2, 3)."""
    return size * jax.random.normal(jax.random.key(1), (frames, 2, 2, 3))


def test_a_codec_of_tiny_steps_changes_nothing():
    found = nuisance.codec(KEY, changes(), step=(1e-8, 1e-8))
    np.testing.assert_allclose(found, changes(), atol=1e-6)


@pytest.mark.slow
def test_a_codec_errs_by_less_than_its_dead_zone():
    step, source = 0.004, changes()
    keys = jax.random.split(KEY, 50)
    found = jax.vmap(lambda key: nuisance.codec(key, source, step=(step, step)))(keys)
    luma = (found - source) @ np.array([0.299, 0.587, 0.114])
    # a dead zone of up to 1.2 steps, each up to 1.7 times as wide
    assert 0.5 * step < abs(luma).max() < 1.2 * 1.7 * step


@pytest.mark.slow
def test_a_codec_holds_what_is_small_unless_it_leaks_or_refreshes():
    ramp = jnp.arange(5.0)[:, None, None, None] * jnp.full((1, 2, 2, 3), 1e-3)
    keys = jax.random.split(KEY, 400)
    found = jax.vmap(lambda key: nuisance.codec(key, ramp, step=(1.0, 1.0)))(keys)
    shown = found[:, 1:, 0, 0, 1] / ramp[1:, 0, 0, 1]
    # where all is held, the share of the original that remains is all that moves
    held = np.ptp(shown, axis=1) < 1e-4
    assert (shown[held] < 0.7 + 1e-4).all()
    assert 0.4 < held.mean() < 0.55, "half of them leak, some are refreshed"


@pytest.mark.slow
def test_a_codec_sends_the_picture_anew_every_so_often():
    """Of a slow ramp below the dead zone: then, and only then, what is shown is what is."""
    ramp = jnp.arange(410.0)[:, None, None, None] * jnp.full((1, 1, 1, 3), 1e-3)
    keys = jax.random.split(KEY, 300)
    found = jax.jit(jax.vmap(lambda key: nuisance.codec(key, ramp, step=(1.0, 1.0))))(keys)
    anew = abs(found[:, 1:, 0, 0, 1] / ramp[1:, 0, 0, 1] - 1) < 1e-4
    times = [1 + np.flatnonzero(row) for row in anew]
    periods = np.array([np.diff(t)[0] for t in times])
    for t in times:
        assert np.ptp(np.diff(t)) == 0, "one period"
        assert t[0] <= np.diff(t)[0]
    assert 8 <= periods.min() < 15
    assert 190 < periods.max() <= 199
    assert periods.mean() == pytest.approx(103.5, abs=12)
    assert np.std([t[0] / p for t, p in zip(times, periods, strict=True)]) > 0.2, "begun at any time"


@pytest.mark.slow
def test_a_codec_keeps_grey_grey():
    """Of which both colour differences are zero, however coarse the steps."""
    grey = jnp.broadcast_to(changes()[..., :1], (40, 2, 2, 3))
    found = jax.vmap(lambda key: nuisance.codec(key, grey, step=(0.001, 0.01)))(jax.random.split(KEY, 20))
    assert abs(found - grey).max() > 1e-3
    np.testing.assert_allclose(found[..., 0], found[..., 1], atol=1e-6)
    np.testing.assert_allclose(found[..., 2], found[..., 1], atol=1e-6)


def test_a_codec_leaves_a_still_picture_alone():
    still = jnp.broadcast_to(changes(1), (30, 2, 2, 3))
    np.testing.assert_allclose(nuisance.codec(KEY, still, step=(0.001, 0.01)), still, atol=1e-7)


@pytest.mark.slow
def test_a_codec_is_the_same_jitted_and_mapped():
    keys = jax.random.split(KEY, 3)

    def code(key):
        return nuisance.codec(key, changes(), step=(0.001, 0.01))

    alone = np.stack([code(key) for key in keys])
    np.testing.assert_allclose(np.stack([jax.jit(code)(key) for key in keys]), alone, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(code)(keys), alone, atol=1e-6)


@pytest.mark.slow
def test_golden_series():
    """A few values of every law for a fixed key; change the numbers (printed where they differ) when a law
    or its random draws change on purpose."""
    time = {"frames": 60, "fps": FPS}

    @jax.jit
    def make(key):
        return (
            nuisance.power_law(key, jnp.array([0.5, 2.0]), **time)[:, 20:23],
            nuisance.quasi_periodic(key, 2, low_hz=0.5, high_hz=3.0, **time)[:, 20:23],
            nuisance.jerks(key, 2, **time)[:, 20:23],
            jnp.stack([nuisance.flicker(key, **time)[20:23] for key in jax.random.split(key)]),
            nuisance.fields(key, 2, cells=4)[:, 1, :3],
            100 * nuisance.codec(key, changes(400), step=(0.01, 0.03))[100::299, 1, 1],
        )

    series = make(KEY)
    found = np.stack(series).reshape(-1, 6)
    np.testing.assert_allclose(found, GOLDEN, atol=2e-3, err_msg=np.array2string(found, separator=", "))


GOLDEN = [
    [-1.5824, -0.9661, 1.5991, -0.7969, -0.5254, -0.4780],
    [-1.0362, -0.9387, 0.3994, 0.7589, 1.0335, 1.1983],
    [0.7682, 0.7611, 0.7533, 1.0137, 1.0121, 1.0080],
    [-0.2597, -0.4782, -0.3610, 1.0214, -0.0141, -0.4942],
    [-0.9370, -0.9175, -1.0642, 0.0642, 0.4466, -0.8016],
    [-0.0929, 1.8786, 0.1325, -1.4637, 0.0023, -3.1151],
]
