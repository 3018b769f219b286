import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.configs import replace
from helpers.devices import COUNTS, WAYS, take

from pulse3d.errors import InputError
from pulse3d.mapping import definition, tiles
from pulse3d.mapping.layout import make_layout, make_reader
from pulse3d.mapping.mapper import make_mapper, sliding_windows
from pulse3d.network import model
from pulse3d.synthetic import paper_clips


@pytest.fixture(scope="module")
def params(toy):
    """Random parameters, large enough that probabilities are far from uniform."""
    return jax.tree.map(lambda x: 4 * x, model.init_params(jax.random.key(3), toy))


def random_window(toy, height, width, seed):
    rng = np.random.default_rng(seed)
    texture = rng.uniform(0, 1, (1, height, width, 1))
    return (texture + rng.normal(0, 0.1, (toy.clip.frames, height, width, 1))).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("centre", ["pixel", "window"])
@pytest.mark.parametrize(
    ("height", "width", "stride", "tile"),
    [(8, 8, 1, 16), (17, 23, 1, 16), (31, 40, 2, 16), (33, 20, 3, 12), (29, 37, 4, 16), (40, 26, 5, 9),
     (9, 41, 6, 24), (23, 24, 7, 8)],
)  # fmt: skip
def test_dense_map_equals_the_definition(toy, params, centre, height, width, stride, tile):
    settings = replace(toy, map={"centre": centre, "tile_px": tile})
    window = random_window(toy, height, width, seed=height)
    expected = definition.map_by_definition(params, window, settings, stride=stride)
    assert expected.max() - expected.min() > 0.1
    assert expected.shape[:2] == tiles.grid_shape((height, width), 8, stride)
    dense = make_mapper(params, settings, (height, width), stride_px=stride)(window)
    np.testing.assert_allclose(dense, expected, atol=1e-5)


def test_definition_is_the_network_on_every_patch(toy, params, toy_window):
    found = definition.map_by_definition(params, toy_window, toy, stride=5)
    for row, col in ((0, 0), (1, 3), (2, 5)):
        patch = jnp.asarray(toy_window[:, row * 5 : row * 5 + 8, col * 5 : col * 5 + 8])
        logits = model.apply_logits(params, (tiles.centre_patch(patch, toy.map.centre)[None],), toy)
        np.testing.assert_allclose(found[row, col], jax.nn.softmax(logits[0]), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", COUNTS)
def test_devices_and_ways_to_use_them_agree(toy, params, toy_window, way, count, monkeypatch):
    alone = make_mapper(params, toy, (21, 33), devices=jax.devices()[:1])
    take(way, monkeypatch)
    spread = make_mapper(params, toy, (21, 33), devices=jax.devices()[:count])
    np.testing.assert_allclose(spread(toy_window), alone(toy_window), atol=1e-6)


@pytest.mark.slow
def test_dense_map_equals_the_definition_for_the_paper(paper):
    params = model.init_params(jax.random.key(0), paper)
    rng = np.random.default_rng(1)
    window = rng.uniform(0, 1, (60, 40, 47, 1)).astype(np.float32)
    for centre in ("pixel", "window"):
        settings = replace(paper, map={"centre": centre, "tile_px": 32})
        expected = definition.map_by_definition(params, window, settings, stride=5, batch_size=10)
        dense = make_mapper(params, settings, (40, 47), stride_px=5)(window)
        np.testing.assert_allclose(dense, expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 7])
@pytest.mark.parametrize("tile", [8, 11, 16])
def test_tiles_hold_every_patch_once(stride, tile):
    height, width, patch = 30, 37, 8
    window = np.arange(height * width, dtype=np.float32).reshape(1, height, width, 1)
    cut, counts = tiles.cut_tiles(window, (tile, tile), patch, stride)
    assert cut.shape[1:] == (1, tile, tile, 1)
    per_tile = tiles.grid_shape((tile, tile), patch, stride)
    corners = np.stack([t[0, ::stride, ::stride][: per_tile[0], : per_tile[1]] for t in cut])
    grid = tiles.grid_shape((height, width), patch, stride)
    joined = tiles.join_tiles(corners, counts, grid)
    np.testing.assert_array_equal(joined[..., 0], window[0, ::stride, ::stride, 0][: grid[0], : grid[1]])


@pytest.mark.slow
def test_shuffle_moves_pixels_within_their_frame_only(toy, params, toy_window):
    patch = jnp.asarray(toy_window[:, :8, :8])
    shuffled = definition.shuffle_pixels(jax.random.key(0), patch)
    assert not np.array_equal(shuffled, patch)
    np.testing.assert_array_equal(np.sort(shuffled.reshape(24, -1)), np.sort(patch.reshape(24, -1)))
    moved = np.asarray(shuffled.reshape(24, -1) != patch.reshape(24, -1))
    assert (moved[0] != moved[1]).any(), "frames are shuffled independently"
    a, b, again = (
        definition.map_by_definition(params, toy_window, toy, stride=6, shuffle_key=jax.random.key(i))
        for i in (0, 1, 0)
    )
    assert abs(a - b).max() > 1e-3
    np.testing.assert_array_equal(a, again)


@pytest.mark.slow
def test_shuffling_uniform_patches_changes_nothing(toy, params):
    trace = np.asarray(paper_clips.make_clip(jax.random.key(0), toy, label=2)[0]).mean((1, 2, 3))
    window = np.broadcast_to(trace[:, None, None, None], (24, 10, 12, 1)).astype(np.float32)
    plain = definition.map_by_definition(params, window, toy, stride=2)
    shuffled = definition.map_by_definition(params, window, toy, stride=2, shuffle_key=jax.random.key(0))
    np.testing.assert_allclose(plain, shuffled, atol=1e-6)


def test_centring_by_pixel_ignores_static_texture(toy, params, toy_window):
    mapper = make_mapper(params, toy, (21, 33))
    brighter = toy_window + np.random.default_rng(5).uniform(0, 1, (1, 21, 33, 1)).astype(np.float32)
    np.testing.assert_allclose(mapper(toy_window), mapper(brighter), atol=1e-4)


@pytest.mark.parametrize(("kind", "stride_px"), [("toy", 3), ("toy", 4), ("toy_cells", 8), ("toy_cells", 20)])
def test_centres_are_the_mean_coordinates_of_what_a_patch_reads(kind, stride_px, request):
    """Read from images whose brightness is the coordinate."""
    settings, frame = request.getfixturevalue(kind), (61, 90)
    layout = make_layout(frame, settings, stride_px=stride_px)
    read = make_reader(frame, settings)
    size, shape = layout.patch, tiles.grid_shape(layout.grid, layout.patch, layout.stride)
    for coordinate, centres, axis in zip(np.indices(frame) / 100, layout.centres_px(), (0, 1), strict=True):
        cells = read(np.repeat(coordinate[..., None], 3, -1).astype(np.float32))
        for row, col in np.ndindex(shape):
            y, x = row * layout.stride, col * layout.stride
            seen = 100 * cells[y : y + size, x : x + size].mean()
            assert centres[(row, col)[axis]] == pytest.approx(seen, abs=1e-3)
    assert np.diff(layout.centres_px()[0]) == pytest.approx(layout.stride_px)


def test_small_frames_are_refused(toy, params):
    with pytest.raises(InputError, match=r"40x7 px: smaller than the network's patch of 8 px"):
        make_mapper(params, toy, (7, 40))


@pytest.mark.parametrize("step", range(1, 8))
def test_sliding_windows_are_slices_in_constant_memory(step):
    frames = np.arange(30)[:, None, None, None] * np.ones((1, 2, 2, 1))
    read = 0

    def stream():
        nonlocal read
        for frame in frames:
            read += 1
            yield frame

    starts = []
    for start, window in sliding_windows(stream(), 9, step):
        assert read == start + 9, "a window comes as soon as its last frame"
        np.testing.assert_array_equal(window, frames[start : start + 9])
        starts.append(start)
    assert starts == list(range(0, 22, step))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["toy", "toy_cells"])
def test_a_window_comes_with_its_own_cells(kind, request):
    """Those of its frames, of which the amplitude is taken."""
    settings = request.getfixturevalue(kind)
    length, channels = settings.clip.frames, settings.clip.channels
    mapper = make_mapper(model.init_params(jax.random.key(0), settings), settings, (12, 16))
    frames = np.random.default_rng(0).uniform(0.2, 0.8, (length + 31, *mapper.layout.grid, channels))
    frames, starts = frames.astype(np.float32), []
    for start, cells, _ in mapper.windows(iter(frames), 10):
        np.testing.assert_array_equal(cells, frames[start : start + length])
        starts.append(start)
    assert starts == [0, 10, 20, 30]
    with pytest.raises(dataclasses.FrozenInstanceError):
        mapper.config = None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["toy", "toy_cells"])
def test_a_frame_size_seen_before_compiles_nothing(kind, request, caplog):
    settings = request.getfixturevalue(kind)
    first = model.init_params(jax.random.key(0), settings)
    second = jax.tree.map(lambda x: 2 * x, first)

    def compiled(params, height):
        caplog.clear()
        with jax.log_compiles():
            mapper = make_mapper(params, settings, (height, 16), devices=jax.devices()[:1])
            mapper(np.full(mapper.window_shape, 0.5, np.float32))
        return [message for message in caplog.messages if message.startswith("Compiling ")]

    assert compiled(first, 16) != []
    assert compiled(second, 16) == []
    assert compiled(first, 64) != []
