import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.devices import WAYS, take

from pulse3d import stream
from pulse3d.mapping import definition, fast_cells
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import cell_input, model

RNG = np.random.default_rng(0)
GRID = (11, 6)  # rows for several devices; the definition compiles once for every shape that it cuts
VIDEO = (0.5 + 0.02 * RNG.normal(size=(100, *GRID, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def params(toy_cells):
    fresh = model.init_params(jax.random.key(0), toy_cells)
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), fresh)


def windows(params, config, video, step=15):
    return list(fast_cells.make_windows(params, config)(iter(video), step))


@pytest.fixture(scope="module")
def by_definition(params, toy_cells):
    memory = cell_input.memory_frames(toy_cells)
    changes = np.asarray(cell_input.relative_changes(jnp.asarray(VIDEO), memory=memory))
    return definition.map_cells_by_definition(params, changes, toy_cells, start=15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "way"),
    [
        (1, WAYS[0]),
        *(
            pytest.param(*of, marks=pytest.mark.devices(4))
            for of in ((3, WAYS[0]), (4, WAYS[0]), (4, WAYS[1]))
        ),
    ],
)
def test_fast_map_equals_the_definition_on_any_number_of_devices(
    count, way, params, toy_cells, by_definition, monkeypatch
):
    take(way, monkeypatch)
    mapper = fast_cells.make_mapper(params, toy_cells, GRID, devices=jax.devices()[:count])
    (start, window) = windows(params, toy_cells, VIDEO)[1]
    assert start == 15
    found = mapper(window)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found, by_definition, atol=1e-5)
    assert found[..., :-1].std() > 1e-4, "the maps of these parameters are not flat"


@pytest.mark.slow
def test_frames_one_by_one_are_relative_as_all_at_once(toy_cells):
    for frames in (10, 30, 31, 100):
        expected = cell_input.relative_changes(jnp.asarray(VIDEO[:frames]), memory=30)
        found = np.stack(list(fast_cells.relative_frames(iter(VIDEO[:frames]), memory=30)))
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_signals_do_not_depend_on_the_run(params, toy_cells, monkeypatch):
    expected = windows(params, toy_cells, VIDEO)
    for run in (7, 200):
        monkeypatch.setattr(fast_cells, "RUN", run)
        fast_cells._signal_program.cache_clear()
        found = windows(params, toy_cells, VIDEO)
        assert [start for start, _ in found] == [start for start, _ in expected] == [0, 15, 30, 45]
        for (_, a), (_, b) in zip(found, expected, strict=True):
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a.signals, b.signals)


def test_a_window_does_not_see_video_far_from_it(params, toy_cells):
    other = VIDEO.copy()
    end = 15 + toy_cells.clip.frames + cell_input.span(toy_cells)
    other[end:] = 0.9
    mapper = fast_cells.make_mapper(params, toy_cells, GRID, devices=jax.devices()[:1])
    first, second = (mapper(windows(params, toy_cells, video)[1][1]) for video in (VIDEO, other))
    np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "found"), [(29, 0), (30, 1), (45, 1), (60, 2)])
def test_a_video_shorter_than_a_clip_is_one_window(frames, found, params, toy_cells):
    cut = windows(params, toy_cells, VIDEO[:frames])
    assert len(cut) == found
    if cut:
        assert cut[0][1].frames == min(frames, 45)
        mapper = fast_cells.make_mapper(params, toy_cells, GRID, devices=jax.devices()[:1])
        alone = jax.jit(lambda video: fast_cells.map_window(params, video, toy_cells))(VIDEO[:frames])
        if frames <= 45:
            np.testing.assert_allclose(mapper(cut[0][1]), alone, atol=1e-5)


@pytest.mark.slow
def test_stride_takes_every_so_many_places(params, toy_cells):
    shape = (80, 96)  # cells of 10 px
    every, third = (make_mapper(params, toy_cells, shape, stride_px=px) for px in (10, 30))
    window = RNG.uniform(0.3, 0.6, every.window_shape).astype(np.float32)
    np.testing.assert_allclose(third(window), every(window)[::3, ::3], atol=1e-6)
    assert third(window).shape[:2] == third.layout.places
    np.testing.assert_array_equal(third.layout.centres_px()[0], every.layout.centres_px()[0][::3])


def test_a_short_video_is_answered_at_its_middle(params, toy_cells):
    frames = [(i / 30, RNG.integers(0, 255, (40, 40, 3), np.uint8)) for i in range(76)]
    mapper = make_mapper(params, toy_cells, (40, 40), devices=jax.devices()[:1])
    (window,) = stream.map_windows(frames, mapper)
    assert window.enough_video
    assert window.time_s == pytest.approx(76 / 30 / 2, abs=0.05)
