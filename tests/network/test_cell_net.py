from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.configs import replace

from pulse3d.mapping import fast_cells
from pulse3d.network import cell_input, cell_net, model

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def params(toy_cells):
    """Of random size, biases too, so that nothing is 0 by accident."""
    fresh = model.init_params(jax.random.key(0), toy_cells)
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), fresh)


@pytest.mark.slow
def test_changes_are_relative_to_the_mean_of_the_last_frames():
    cells = jnp.asarray(RNG.uniform(0.2, 0.8, (20, 2, 3, 3)), jnp.float32)
    changes = cell_input.relative_changes(cells, memory=8)
    for t in range(20):
        mean = cells[max(0, t - 7) : t + 1].mean(0) if t >= 8 else cells[:8].mean(0)
        np.testing.assert_allclose(changes[t], (cells[t] - mean) / mean, atol=2e-6)
    # dark channels are divided by 0.03, cells that are dark in all change nothing, and nothing is beyond 1
    dark = np.full((20, 1, 1, 3), 0.001, np.float32)
    dark[10] = 0.0025
    np.testing.assert_array_equal(cell_input.relative_changes(jnp.asarray(dark), memory=8), 0)
    dark[..., 0] = 0.5
    found = cell_input.relative_changes(jnp.asarray(dark), memory=8)[10, 0, 0]
    np.testing.assert_allclose(found, [0, *[0.0015 * 7 / 8 / 0.03] * 2], atol=1e-6)
    flash = np.full((20, 1, 1, 3), 0.1, np.float32)
    flash[10] = 1.0
    np.testing.assert_array_equal(cell_input.relative_changes(jnp.asarray(flash), memory=8)[10], 1)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_picture_that_stands_has_no_pulse(level, params, toy_cells):
    window = jnp.full((45, 6, 6, 3), level)
    probability = jax.jit(lambda window: fast_cells.map_window(params, window, toy_cells))(window)
    np.testing.assert_allclose(probability[..., -1], 1, atol=1e-4)


def test_taper_is_a_hann_window_of_its_length():
    taper = np.asarray(cell_input.hann(3, 10, 20))
    assert taper.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(taper > 0, (np.arange(20) >= 3) & (np.arange(20) < 13))
    np.testing.assert_allclose(taper[3:13], taper[3:13][::-1], atol=1e-7)


def test_spectrum_of_a_cosine_is_its_amplitude_at_its_rate(toy_cells):
    clip = replace(toy_cells, clip={"frames": 150}).clip
    rates = cell_input.rates_bpm(clip)
    time_s = (np.arange(150) - 149 / 2) / clip.fps
    wave = 3 * np.cos(2 * np.pi * rates[4] / 60 * time_s + 0.7)
    basis = cell_input.fourier_basis(clip, 150)
    found = np.einsum("t,tvpr->vpr", wave * cell_input.hann(0, 150, 150), basis)
    # f, 2f, f/2: half of the amplitude at the rate itself, in the first view
    size = np.hypot(found[:, 0], found[:, 1])
    assert size[0].argmax() == 4
    assert size[0, 4] == pytest.approx(1.5, rel=1e-2)
    slow = replace(toy_cells, clip={"fps": 8.0}).clip
    twice = cell_input.fourier_basis(slow, 150)
    np.testing.assert_array_equal(twice[:, 1][:, :, 2 * cell_input.rates_bpm(slow) >= 240], 0)


def test_rates_beyond_the_axis_are_no_pulse(toy_cells):
    rates = cell_input.rates_bpm(toy_cells.clip)
    np.testing.assert_allclose(np.diff(rates), 20)
    np.testing.assert_allclose(rates[2:-2], toy_cells.clip.rate_axis_bpm)
    probability = jnp.asarray(RNG.dirichlet(np.ones(13), size=5))
    merged = cell_input.within_axis(probability)
    np.testing.assert_allclose(merged[:, :-1], probability[:, 2:-3], atol=1e-6)
    np.testing.assert_allclose(merged.sum(1), 1, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_weighted_means_are_those_of_the_neighbourhoods(batch):
    values, weight = RNG.normal(size=(batch, 5, 7, 2, 3)), RNG.uniform(0.1, 1, (batch, 5, 7, 2))
    near, found = cell_net.weighted_means(jnp.asarray(values), jnp.asarray(weight), (1, 3))
    np.testing.assert_allclose(near, values, rtol=1e-4, err_msg="a cell alone")
    for row, col in ((0, 0), (2, 3), (4, 6)):
        near = np.zeros((5, 7))
        for r, c in np.ndindex(5, 7):
            away = abs(r - row), abs(c - col)
            near[r, c] = np.prod([0.5 + 0.5 * np.cos(np.pi * a / 3) if a < 3 else 0 for a in away])
        used = near[..., None] * weight[0]
        expected = (used[..., None] * values[0]).sum((0, 1)) / used.sum((0, 1))[:, None]
        np.testing.assert_allclose(found[0, row, col], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_strong_cell_counts_no_more_than_its_neighbours():
    """What spectra say does not depend on how strong the pulse of any one cell is."""
    wave = jnp.asarray(RNG.normal(size=(1, 5, 6, 2, 3, 2, 9)), jnp.float32)
    weight = jnp.asarray(RNG.uniform(0.5, 1, (1, 5, 6, 2)), jnp.float32)
    strength = jnp.exp(jnp.asarray(RNG.normal(size=(1, 5, 6, 2, 1, 1, 1)), jnp.float32))
    compare = jax.jit(cell_net.compare, static_argnames="reaches")
    said = compare(wave, weight, reaches=(2, 3))
    # of every signal, 3 powers, and for the two neighbourhoods coherence and phase
    assert said.shape == (1, 5, 6, 9, 3 * 2 * 3 + 2 * 2 * 2)
    np.testing.assert_allclose(compare(strength * wave, weight, reaches=(2, 3)), said, atol=2e-3)
    # cells in phase are coherent to 1, and in phase with each other
    alike = jnp.broadcast_to(wave[:, :1, :1], wave.shape)
    coherence, phase = jnp.split(compare(alike, weight, reaches=(3,))[..., 12:], 2, axis=-1)
    np.testing.assert_allclose(coherence, 1, atol=1e-3)
    np.testing.assert_allclose(phase, 1, atol=1e-3)


def test_signals_know_the_frames_around_and_no_others(params, toy_cells):
    network, span = model.make_model(toy_cells), cell_input.span(toy_cells)
    video = jnp.asarray(0.02 * RNG.normal(size=(1, 40, 3, 3, 3)), jnp.float32)
    run = jax.jit(lambda x: network.apply({"params": params}, x, method="signals").wave)
    changed = np.asarray(abs(run(video) - run(video.at[:, 20].add(0.5))).max((0, 2, 3, 4)))
    np.testing.assert_array_equal(changed > 0, abs(np.arange(40) - 20) <= span)


@pytest.mark.slow
def test_frames_that_are_not_of_the_video_are_as_if_they_were_not(params, toy_cells):
    signals = jax.jit(partial(model.make_model(toy_cells).apply, method="signals"))
    video = jnp.asarray(0.02 * RNG.normal(size=(1, 20, 3, 3, 3)), jnp.float32)
    alone = signals({"params": params}, video)
    longer = jnp.pad(video, [(0, 0), (5, 7), (0, 0), (0, 0), (0, 0)])
    valid = jnp.pad(jnp.ones(20), (5, 7))
    within = signals({"params": params}, longer, valid)
    np.testing.assert_allclose(within.wave[:, 5:-7], alone.wave, atol=1e-5)


@pytest.mark.slow
def test_the_brightness_of_a_video_does_not_matter(params, toy_cells):
    window = jnp.asarray(RNG.uniform(0.3, 0.5, (45, 6, 6, 3)), jnp.float32)
    run = jax.jit(lambda window: fast_cells.map_window(params, window, toy_cells))
    dim, bright = run(window), run(1.7 * window)
    np.testing.assert_allclose(dim, bright, atol=1e-4)


def test_one_window_alone_is_compared_as_among_others():
    rng = np.random.default_rng(0)
    wave = jnp.asarray(rng.normal(size=(2, 6, 7, 4, 3, 2, 11)), jnp.float32)
    weight = jnp.asarray(rng.uniform(size=(2, 6, 7, 4)), jnp.float32)
    layer = cell_net.Compared(5, (2, 3))
    params = layer.init(jax.random.key(0), wave, weight)
    inner = params["params"]
    expected = cell_net.compare(wave, weight, reaches=(2, 3)) @ inner["kernel"] + inner["bias"]
    np.testing.assert_allclose(layer.apply(params, wave, weight), expected, atol=1e-5)
    alone = [layer.apply(params, wave[i : i + 1], weight[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(jnp.concatenate(alone), expected, atol=1e-5)
