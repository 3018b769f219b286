from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.configs import replace

from pulse3d.network import cell_input
from pulse3d.synthetic import examples, scene_laws, scenes
from pulse3d.synthetic.draws import at_once

pytestmark = pytest.mark.slow

QUIET = (1e-9, 2e-9)


@pytest.fixture(scope="module")
def quiet(toy_cells):
    """Scenes whose only change is the pulse."""
    still = dict.fromkeys(
        ("light", "texture", "edge", "pattern", "wander", "local", "sensor", "flicker"), QUIET
    )
    shares = dict.fromkeys(("wild_share", "codec_share", "black_share", "strong_share", "pattern_share"), 0.0)
    laws = still | shares | {"pulse_share": 1.0, "frames": 150}
    return replace(toy_cells, generator=laws, clip={"patch_px": 8, "frames": 150})


@pytest.fixture(scope="module")
def made(quiet):
    """64 quiet scenes and what was drawn for them."""

    @at_once
    def make(draw):
        drawn = scene_laws.sample_parameters(draw, quiet)
        return drawn, scenes.render(draw, drawn, quiet)

    return jax.device_get(jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(0), 64)))


def test_a_cell_pulsates_where_and_as_fast_as_its_label_says(made, quiet):
    drawn, scene = made
    basis = cell_input.fourier_basis(quiet.clip, 150)[:, 0]
    rates = cell_input.rates_bpm(quiet.clip)
    taper = np.asarray(cell_input.hann(0, 150, 150))
    power = (np.einsum("nthwc,t,tpr->nhwcpr", scene.video - 1, taper, basis)[..., 1, :, :] ** 2).sum(-2)
    loud = scene.video[..., 1].std(1)
    loudest = np.broadcast_to(loud.max((1, 2), keepdims=True), loud.shape)
    some = np.isin(scene.label, (0, 1)).any((1, 2))[:, None, None]
    dead, alive = some & (scene.label == scene_laws.REGIONS), np.isin(scene.label, (0, 1))
    # dead cells may be covered by 6 % of a strong pulse
    assert np.mean(loud[dead] < 0.15 * loudest[dead]) > 0.97
    assert np.median(loud[alive]) > 30 * np.median(loud[dead])
    near = 0
    for region in range(scene_laws.REGIONS):
        for index in np.flatnonzero((scene.label == region).any((1, 2))):
            found = rates[power[index][scene.label[index] == region].argmax(-1)]
            truth = scene.rate_bpm[index, region] @ taper
            near += np.mean(abs(found - np.clip(truth, rates[0], rates[-1])) <= 20)
    regions = sum((scene.label == region).any((1, 2)).sum() for region in range(scene_laws.REGIONS))
    assert near / regions > 0.9
    np.testing.assert_array_equal(drawn.alive[:, 0], True)


def test_cells_that_are_partly_alive_are_left_out(made):
    drawn, scene = made
    alive = drawn.cover * drawn.alive[:, :, None, None]
    unknown = scene.label == scenes.UNKNOWN
    assert (alive.max(1)[unknown] <= 0.75).all()
    assert (alive.max(1)[unknown] > 0.06).all()
    for region in range(scene_laws.REGIONS):
        assert (alive[:, region][scene.label == region] > 0.75).all()
    assert (alive.max(1)[scene.label == scene_laws.REGIONS] <= 0.06).all()


def test_regions_do_not_overlap_and_have_rates_of_their_own(made):
    drawn, _ = made
    assert drawn.cover.sum(1).max() <= 1 + 1e-5
    assert 0.3 < drawn.alive[:, 1].mean() < 0.9
    assert abs(drawn.rate_bpm[:, 0] - drawn.rate_bpm[:, 1]).min() > 0


def test_targets_are_the_mean_rate_of_the_window(quiet):
    rate = jnp.stack([jnp.linspace(80, 120, 150), jnp.full(150, 300.0)])
    label = jnp.array([[0, 1], [scene_laws.REGIONS, scenes.UNKNOWN]])
    scene = scenes.Scene(jnp.ones((150, 2, 2, 3)), rate, label)
    targets = examples.window_labels(scene, cell_input.hann(0, 150, 150), quiet)
    rates = cell_input.rates_bpm(quiet.clip)
    assert targets[0, 0, :-1] @ rates == pytest.approx(100, abs=1)
    assert targets[0, 1].argmax() == len(rates) - 1, "beyond the axis: its end"
    np.testing.assert_array_equal(targets[1, 0], np.eye(len(rates) + 1)[-1])
    np.testing.assert_array_equal(targets[1, 1], 0)
    sharp = examples.window_labels(
        scene, cell_input.hann(0, 150, 150), replace(quiet, train={"label_sd_bpm": 0.0})
    )
    np.testing.assert_array_equal(sharp[0, 0], np.eye(len(rates) + 1)[abs(rates - 100).argmin()])
    np.testing.assert_array_equal(sharp[1], targets[1])


def test_odds_are_those_of_the_laws(toy_cells):
    from pulse3d.config import get_preset

    config = get_preset("default")

    def shares(key):
        drawn = scene_laws.sample_parameters(key, config)
        alive = drawn.cover * drawn.alive[:, None, None]
        return (alive > 0.75).any(0).mean(), (alive.max(0) <= 0.06).mean()

    living, none = jax.jit(jax.vmap(shares))(jax.random.split(jax.random.key(0), 1024))
    odds = none.mean() / living.mean() * len(cell_input.rates_bpm(config.clip))
    assert odds == pytest.approx(config.odds, rel=0.15)


def test_black_and_saturated_channels(toy_cells):
    loud = replace(toy_cells, generator={"black_share": 1.0, "codec_share": 0.0, "sensor": QUIET})
    frames = loud.generator.frames + scenes.HISTORY

    def make(key):
        drawn = scene_laws.sample_parameters(key, loud)
        moving = 0.1 * jax.random.normal(key, (frames, 6, 6, 3))
        return drawn, scenes.film(key, drawn, moving, jnp.zeros((scene_laws.REGIONS, frames)), loud)

    drawn, scene = jax.device_get(jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(0), 32)))
    highest = scene.video.max((1, 2, 3)) - 1
    assert (highest <= drawn.ceiling + 1e-6).all()
    assert (drawn.channel_gain < 0.31).any(1).mean() > 0.5
    assert (drawn.ceiling < 0.02).any(1).mean() > 0.5


def test_patterns_follow_their_displacement_however_far(toy_cells):
    sample = jax.jit(partial(scene_laws.sample_parameters, config=toy_cells))
    shift = jnp.array([3.0, 0.0, 0.0])
    drawn = sample(jax.random.key(0))._replace(pattern=jnp.asarray(0.1), shift=shift)
    moved = jnp.zeros((6, 20)).at[0].set(jnp.linspace(0, 1, 20))
    where = jnp.ones((6, 6, 6))
    patterns = at_once(scenes._patterns)
    video = patterns(jax.random.key(1), drawn, moved, where)
    np.testing.assert_array_equal(video[0], 0)
    # rows move down by 3 cells: what a place shows at the end is what stood there, 3 rows further, at first
    full = video - video.mean(0)
    assert float(full.std()) > 0.01
    still = patterns(jax.random.key(1), drawn._replace(shift=jnp.zeros(3)), moved, where)
    np.testing.assert_array_equal(still, 0)


def test_patterns_have_waves_of_one_and_a_half_to_sixteen_cells(toy_cells):
    """So, moved by one cell, no part of them turns by more than 2 pi / 1.5, in whatever direction."""
    drawn = scene_laws.sample_parameters(jax.random.key(0), toy_cells)
    drawn = drawn._replace(pattern=jnp.asarray(0.1), shift=jnp.array([1.0, 0.0, 0.0]))
    where, speeds = jnp.ones((6, 6, 6)), []
    patterns = jax.jit(
        jax.vmap(lambda key, moved: at_once(scenes._patterns)(key, drawn, moved, where), (0, None))
    )
    cells_moved = jnp.linspace(0, 60, 1501)
    for axis in range(2):
        video = patterns(
            jax.random.split(jax.random.key(1), 8), jnp.zeros((6, 1501)).at[axis].set(cells_moved)
        )
        turning = np.sqrt((np.diff(video, axis=1) ** 2).mean((1, 2, 3, 4))) / (60 / 1500)
        speeds.append(turning / np.asarray(video - video.mean(1, keepdims=True)).std((1, 2, 3, 4)))
    assert np.max(speeds) < 2 * np.pi / 1.5
    assert np.median(speeds) > 2 * np.pi / 16


def test_flicker_is_nearly_the_same_in_all_cells(toy_cells):
    """Cells differ by a standard deviation of a fifth."""
    drawn = scene_laws.sample_parameters(jax.random.key(0), toy_cells)._replace(flicker=jnp.asarray(0.5))
    flicker = jax.jit(jax.vmap(lambda key: at_once(scenes._flicker)(key, drawn, toy_cells, 60)))
    found = np.asarray(flicker(jax.random.split(jax.random.key(1), 16)))
    strength = found.std(1)[..., 1]
    spread = strength.std((1, 2)) / strength.mean((1, 2))
    assert np.mean(spread) == pytest.approx(0.2, abs=0.03)
    # the whole frame's: flicker times the colour of a channel, which is 1 with a standard deviation of 0.4
    assert np.mean(found.mean((2, 3)).std(1) / 0.5) == pytest.approx(1, abs=0.2)


@pytest.mark.long
def test_a_batch_changes_nothing(toy_cells):
    key = jax.random.key(3)
    make = partial(examples.make_example, config=toy_cells)
    one, many = jax.jit(make)(key), jax.jit(jax.vmap(make))(jax.random.split(key, 2).at[1].set(key))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[1], atol=2e-4), one, many)


def test_golden_scenes(toy_cells):
    """Six scenes of fixed keys; change the numbers (printed where they differ) when the laws or the random
    draws of the default generator change on purpose."""
    make = jax.jit(jax.vmap(lambda key: scenes.make_scene(key, toy_cells)))
    made = jax.device_get(make(jax.random.split(jax.random.key(0), 6)))
    alive = np.isin(made.label, range(scene_laws.REGIONS)).mean((1, 2))
    rate_bpm, channels = made.rate_bpm.mean((1, 2)), 1000 * made.video.std(1).mean((1, 2))
    changes = 1000 * abs(np.diff(made.video, axis=1)).mean((1, 2, 3, 4))
    found = np.column_stack([alive, rate_bpm, channels, changes])
    np.testing.assert_allclose(found, GOLDEN, rtol=5e-3, err_msg=np.array2string(found, separator=", "))


# share of living cells; mean rate; SD of red, green and blue over time; mean change from frame to frame
GOLDEN = [
    [0.444444, 168.973, 12.9336, 13.5878, 9.45575, 2.96271],
    [0.805556, 65.3316, 8.59318, 8.66862, 10.6987, 3.12617],
    [0.444444, 94.7054, 7.62412, 6.64623, 6.79447, 3.76355],
    [0, 154.318, 25.7245, 22.1436, 21.7707, 10.5428],
    [0, 66.0130, 6.52481, 9.83374, 7.73447, 5.77141],
    [0.166667, 80.6290, 11.7451, 11.1871, 10.3636, 6.46550],
]
