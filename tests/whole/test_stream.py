import tracemalloc

import jax
import numpy as np
import pytest
from helpers.sandbox import uniform_mapper

from pulse3d import stream, video
from pulse3d.errors import InputError
from pulse3d.mapping.layout import make_layout
from pulse3d.mapping.mapper import make_mapper, window_mapper
from pulse3d.network import model
from pulse3d.network.weights_file import Weights
from pulse3d.reading import amplitude, readout, tracking


@pytest.fixture(scope="module")
def weights(toy):
    return Weights(model.init_params(jax.random.key(0), toy), toy, {}, "toy")


def test_windows_come_in_time_and_equal_the_mapper(toy, weights):
    frames = np.random.default_rng(0).integers(0, 255, (60, 14, 20, 3)).astype(np.uint8)
    source = video.from_array(frames, fps=toy.clip.fps)
    results = list(stream.map_stream(source.frames(), weights, step_s=0.4))
    np.testing.assert_allclose([r.time_s for r in results], 0.8 + np.arange(7) * 0.4)
    mapper = make_mapper(weights.params, toy, (14, 20))
    follow = tracking.Follower(toy.clip.rate_axis_bpm, toy.readout, step_s=0.4, window_s=1.6)
    for index, result in enumerate(results):
        window = frames[index * 6 : index * 6 + 24, ..., 1:2].astype(np.float32) / 255
        np.testing.assert_allclose(result.probability, mapper(window), atol=1e-6)
        np.testing.assert_array_equal(
            result.evidence, readout.evidence(result.probability, toy.readout, odds=1)
        )
        np.testing.assert_array_equal(result.reading, follow(result.evidence))


def test_the_companion_maps_are_of_the_rate_that_was_read(toy):
    """A change of 1 % at 120 bpm; the network is certain of 120 bpm, of 60, and of no pulse."""
    trace = 0.5 * (1 + 0.01 * np.sin(2 * np.pi * 2 * np.arange(24) / 15))
    frames = np.broadcast_to(trace[:, None, None], (24, 8, 8)).astype(np.float32)

    def companions(label):
        certain = np.eye(5, dtype=np.float32)[label][None, None]
        source = video.from_array(frames, fps=15.0).frames()
        layout = make_layout((8, 8), toy)
        mapper = window_mapper(toy, layout, lambda window: certain, lambda window: certain)
        [window] = stream.map_windows(source, mapper)
        return window.reading.rate_bpm, window.amplitude_percent.item(), window.snr_db.item()

    for label, rate_bpm in ((1, 120.0), (0, 60.0)):
        rate, percent, snr_db = companions(label)
        assert rate == rate_bpm
        expected = amplitude.at_rate(trace[:, None], 15.0, rate_bpm)
        np.testing.assert_allclose([percent, snr_db], np.ravel(expected), rtol=1e-3)
        assert (0.9 < percent < 1.1) == (rate_bpm == 120.0)
    assert np.isnan(companions(4)).all()


def test_other_frame_rates_are_resampled(toy, weights):
    trace = 0.5 + 0.1 * np.sin(np.arange(200) / 30 * 2 * np.pi * 1.5)
    fast = np.broadcast_to(trace[:, None, None], (200, 8, 8)).astype(np.float32)
    twice = stream.map_stream(video.from_array(fast, fps=30.0).frames(), weights)
    once = stream.map_stream(video.from_array(fast[::2], fps=15.0).frames(), weights)
    for a, b in zip(twice, once, strict=True):
        np.testing.assert_allclose(a.probability, b.probability, atol=1e-5)


def test_any_clock_and_grey_images_will_do(toy, weights):
    frames = np.random.default_rng(0).integers(0, 255, (30, 8, 8)).astype(np.uint8)
    expected = list(stream.map_stream(video.from_array(frames, fps=15.0).frames(), weights, step_s=0.2))
    times = 1e6 + np.arange(30) / 15
    pairs = list(zip(times, frames, strict=True))
    pairs.insert(7, (times[3], frames[0]))  # a step back in time is left out
    results = list(stream.map_stream(pairs, weights, step_s=0.2))
    np.testing.assert_allclose([r.time_s for r in results], 1e6 + 0.8 + np.arange(3) * 0.2)
    for a, b in zip(results, expected, strict=True):
        np.testing.assert_allclose(a.probability, b.probability, atol=1e-4)


def test_windows_can_start_at_a_time_of_the_clock(weights):
    pairs = [(0.5 + i / 15, np.zeros((8, 8), np.uint8)) for i in range(40)]
    assert next(stream.map_stream(pairs, weights)).time_s == pytest.approx(0.5 + 0.8)
    assert next(stream.map_stream(pairs, weights, start_s=0.0)).time_s == pytest.approx(0.8)


def test_a_window_comes_with_its_last_frame(weights):
    given = []

    def frames():
        for index in range(40):
            given.append(index)
            yield index / 15, np.zeros((8, 8), np.uint8)

    windows = stream.map_stream(frames(), weights, step_s=0.4)
    for count in (24, 30, 36):
        next(windows)
        assert len(given) == count


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(toy):
    def peak(count):
        frames = ((i / 15, np.full((64, 64, 3), i % 256, np.uint8)) for i in range(count))
        mapper = uniform_mapper(toy, (64, 64), stride_px=64)
        tracemalloc.start()
        for _ in stream.map_windows(frames, mapper):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(60) > 24 * 64 * 64 * 4
    assert peak(2000) == pytest.approx(peak(200), rel=0.1)


def test_frames_of_another_size_are_refused(weights):
    pairs = [(0.0, np.zeros((8, 9), np.uint8)), (0.1, np.zeros((8, 8), np.uint8))]
    with pytest.raises(InputError, match=r"8x8 px at 0.10 s, before it 9x8"):
        list(stream.map_stream(pairs, weights))
    with pytest.raises(InputError, match=r"int64\(8, 8\) is no image"):
        list(stream.map_stream([(0.0, np.zeros((8, 8), np.int64))], weights))


@pytest.mark.slow
def test_weights_go_by_name():
    frames = [(i / 30, np.zeros((25, 25), np.uint8)) for i in range(60)]
    [window] = stream.map_stream(frames, "paper")
    assert window.probability.shape == (1, 1, 76)
    with pytest.raises(InputError, match="no such file"):
        next(stream.map_stream(frames, "papper"))


def test_too_short_a_video_has_no_window(toy, weights):
    source = video.from_array(np.zeros((10, 8, 8), np.uint8), fps=15.0)
    assert list(stream.map_stream(source.frames(), weights)) == []


def test_mapping_ahead_changes_nothing(toy, weights):
    frames = np.random.default_rng(0).integers(0, 255, (60, 14, 20, 3)).astype(np.uint8)
    pairs = [(index / 15, frame) for index, frame in enumerate(frames)]
    one = jax.devices()[:1]
    alone, ahead = (list(stream.map_stream(pairs, weights, step_s=0.4, devices=one, ahead=n)) for n in (0, 2))
    assert len(alone) == 7
    jax.tree.map(np.testing.assert_array_equal, alone, ahead)


@pytest.mark.parametrize(("spots", "found"), [("scattered", False), ("together", True)])
def test_a_live_pulse_of_scattered_places_is_none(toy_cells, spots, found):
    """A network that is sure of 120 bpm at eight places; these have a colour of their own."""
    layout = make_layout((48, 64), toy_cells)
    rows, cols = np.indices(layout.places)
    chosen = (rows % 3 == 1) & (cols % 3 == 1) if spots == "scattered" else (rows < 2) & (cols < 4)
    assert chosen.sum() >= 6
    answer = np.full((*layout.places, toy_cells.clip.classes), 1e-4, np.float32)
    answer[..., -1] = 1
    answer[chosen] = np.append(np.where(toy_cells.clip.rate_axis_bpm == 120, 1, 1e-4), 1e-4)
    size = layout.cell_px
    image = np.full((48, 64, 3), 0.3, np.float32)
    for row, col in np.argwhere(chosen):
        top, left = layout.top + row * size, layout.left + col * size
        image[top : top + size, left : left + size] = (0.8, 0.6, 0.5)
    mapper = window_mapper(toy_cells, layout, lambda window: answer, lambda window: answer)
    windows = list(stream.map_windows(((i / 15, image) for i in range(90)), mapper, step_s=1.0))
    assert len(windows) == 4
    rates = [window.reading.rate_bpm for window in windows]
    np.testing.assert_allclose(rates, 120.0 if found else np.nan, atol=3)
    assert (np.isfinite(windows[-1].rate_bpm) == (chosen & found)).all()
