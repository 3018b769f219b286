from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from helpers.configs import replace
from helpers.devices import COUNTS

from pulse3d.config import CLASSICAL, CLASSICAL_METHODS, ClassicalConfig, ClipConfig
from pulse3d.errors import InputError
from pulse3d.evaluation import contact, traces
from pulse3d.mapping import classical
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import weights_file
from pulse3d.reading import readout
from pulse3d.settings import from_dict, to_dict

CLIP = ClipConfig(fps=30.0, frames=300, low_bpm=40.0, high_bpm=180.0, rates=141)
AXIS = CLIP.rate_axis_bpm
SKIN = np.array([0.7, 0.5, 0.4])
PULSE = np.array([0.33, 0.77, 0.53])  # what blood takes from red, green and blue, relatively


def wave(rate_bpm, *, frames=300, fps=30.0, phase=0.0):
    return np.sin(2 * np.pi * rate_bpm / 60 * np.arange(frames) / fps + phase)


def make_trace(rate_bpm, *, motion_bpm=100.0, motion=0.0, **timing):
    """Skin whose blood volume is `wave`, by 1 % in green, lit by a source that motion modulates."""
    absorbed = 0.01 * wave(rate_bpm, **timing)[:, None] * PULSE
    light = 1 + motion * wave(motion_bpm, phase=1.0, **timing)[:, None]
    return (SKIN * (1 - absorbed) * light).astype(np.float32)


def peak(probability):
    return AXIS[np.argmax(probability[: len(AXIS)])]


@pytest.mark.slow
@pytest.mark.parametrize("method", classical.METHODS)
@pytest.mark.parametrize("rate_bpm", [52.0, 84.0, 143.0])
def test_a_pulse_alone_is_recovered_in_phase_with_the_blood(method, rate_bpm):
    signal = np.asarray(classical.METHODS[method](make_trace(rate_bpm), fps=30.0))
    assert np.corrcoef(signal[30:-30], wave(rate_bpm)[30:-30])[0, 1] > 0.98
    probability = classical.trace_probability(make_trace(rate_bpm), CLIP, method)
    assert abs(peak(probability) - rate_bpm) <= 1
    assert probability[-1] < 0.01
    assert float(probability.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fps", [20.0, 30.0, 60.0])
def test_motion_ten_times_the_pulse_deceives_green_alone(fps):
    clip = ClipConfig(fps=fps, frames=round(10 * fps), low_bpm=40.0, high_bpm=180.0, rates=141)
    trace = make_trace(72.0, motion_bpm=110.0, motion=0.1, frames=clip.frames, fps=fps)
    found = {name: peak(classical.trace_probability(trace, clip, name)) for name in classical.METHODS}
    assert abs(found["green"] - 110) <= 1
    assert abs(found["chrom"] - 72) <= 1
    assert abs(found["pos"] - 72) <= 1


def test_pos_is_algorithm_1_written_as_a_loop():
    trace = make_trace(72.0, motion=0.05) + np.random.default_rng(0).normal(0, 0.001, (300, 3))
    expected, length = np.zeros(300), 48
    for start in range(300 - length + 1):
        colour = trace[start : start + length] / trace[start : start + length].mean(0)
        s1, s2 = np.array([[0, 1, -1], [-2, 1, 1]]) @ colour.T
        h = s1 + s1.std() / s2.std() * s2
        expected[start : start + length] -= (h - h.mean()) / length
    np.testing.assert_allclose(classical.pos(trace, fps=30.0), expected, atol=2e-5)


@pytest.mark.parametrize("method", classical.METHODS)
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_scale_of_a_channel_does_not_matter(method, scale):
    trace = make_trace(72.0, motion=0.02)
    scaled = trace * np.float32([scale, 0.5 * scale, 2 * scale])
    make = classical.METHODS[method]
    np.testing.assert_allclose(make(scaled, fps=30.0), make(trace, fps=30.0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", classical.METHODS)
def test_jitted_vmapped_and_looped_are_the_same(method):
    given = np.stack([make_trace(rate, motion=0.02) for rate in (60.0, 75.0, 90.0)])

    def make(trace):
        return classical.METHODS[method](trace, fps=30.0)

    looped = np.stack([make(trace) for trace in given])
    np.testing.assert_allclose(jax.vmap(make)(given), looped, atol=1e-6)
    np.testing.assert_allclose(jax.jit(make)(given[0]), looped[0], atol=1e-6)


@pytest.mark.parametrize("method", classical.METHODS)
@pytest.mark.parametrize("level", [0.0, 0.5, 255.0])
def test_a_still_picture_has_no_pulse(method, level):
    trace = np.full((300, 3), level, np.float32)
    assert np.abs(classical.METHODS[method](trace, fps=30.0)).max() < 1e-5
    probability = np.asarray(classical.trace_probability(trace, CLIP, method))
    assert probability[-1] == 1
    assert np.isfinite(probability).all()


def test_spectrum_is_the_power_at_the_rates():
    signal = (wave(72.0) + 0.5 * wave(120.0) + np.linspace(3, 9, 300)).astype(np.float32)
    spectrum = classical.spectrum_probability(signal, 30.0, AXIS)
    without_trend = classical.detrend(wave(72.0) + 0.5 * wave(120.0), smoothness=100.0)
    rates, power = contact.power_spectrum(without_trend, 30.0)
    _, response = scipy.signal.freqs(*scipy.signal.butter(1, (36, 198), "bandpass", analog=True), AXIS)
    expected = np.interp(AXIS, rates, power) * abs(response) ** 4
    np.testing.assert_allclose(spectrum, expected / expected.sum(), atol=2e-4)


def test_a_slow_drift_does_not_hide_the_pulse_at_any_frame_rate():
    for fps in (15.0, 30.0, 60.0):
        time_s = np.arange(round(10 * fps)) / fps
        signal = np.sin(2 * np.pi * 72 / 60 * time_s) + 60 * (time_s / 10) ** 2
        spectrum = classical.spectrum_probability(signal.astype(np.float32), fps, AXIS)
        assert AXIS[spectrum.argmax()] == pytest.approx(72, abs=1)


def test_a_signal_without_power_has_a_flat_spectrum():
    spectrum = classical.spectrum_probability(np.full(300, 7.0, np.float32), 30.0, AXIS)
    np.testing.assert_allclose(spectrum, 1 / len(AXIS))


@pytest.mark.parametrize("duration_s", [5.0, 10.0, 20.0])
def test_white_noise_rarely_looks_like_a_pulse(duration_s):
    noise = np.random.default_rng(0).normal(size=(2000, round(30 * duration_s))).astype(np.float32)

    def p_value(signal):
        spectrum = classical.spectrum_probability(signal, 30.0, AXIS)
        return classical.no_pulse_probability(spectrum, duration_s, AXIS)

    values = np.asarray(jax.jit(jax.vmap(p_value))(noise))
    for level in (0.02, 0.1):
        assert 0.6 * level < (values < level).mean() < 1.7 * level
    assert (values > 0.5).mean() > 0.45


def test_each_region_of_a_map_has_its_own_rate():
    left, right = (make_trace(rate, motion_bpm=130.0, motion=0.05) for rate in (66.0, 96.0))
    window = np.empty((300, 16, 32, 3), np.float32)
    window[:, :, :16], window[:, :, 16:] = left[:, None, None], right[:, None, None]
    window += np.random.default_rng(0).normal(0, 0.002, window.shape).astype(np.float32)
    patches = np.stack([traces.patch_means(image, patch_px=8, stride_px=8) for image in window])
    for method in ("chrom", "pos"):
        probability = np.asarray(classical.map_traces(patches, CLIP, method))
        assert probability.shape == (2, 4, CLIP.classes)
        rates = readout.patch_rates(probability, AXIS)
        np.testing.assert_allclose(rates, [[66, 66, 96, 96]] * 2, atol=1.5)


def test_a_map_does_not_depend_on_the_batches():
    given = np.stack([make_trace(rate) for rate in (60.0, 75.0, 90.0)], 1)[:, None]
    whole, parts = (classical.map_traces(given, CLIP, "pos", batch_size=size) for size in (256, 2))
    assert whole.shape == (1, 3, CLIP.classes)
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    np.testing.assert_allclose(
        whole[0, 1], classical.trace_probability(given[:, 0, 1], CLIP, "pos"), atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["chrom", "pos"])
def test_traces_that_are_too_short_or_slow_are_refused(method):
    with pytest.raises(InputError, match=r"trace of 47 frames: too short.* 48 \(1.6 s\)"):
        classical.METHODS[method](jnp.ones((47, 3)), fps=30.0)
    with pytest.raises(InputError, match="trace at 8 fps: too slow"):
        classical.METHODS[method](jnp.ones((100, 3)), fps=8.0)
    assert classical.METHODS[method](jnp.ones((48, 3)), fps=30.0).shape == (48,)


def test_unknown_methods_are_refused():
    with pytest.raises(InputError, match="method ica: unknown; choose green, chrom, pos"):
        classical.trace_probability(make_trace(72.0), CLIP, "ica")


def test_skin_mask_on_known_colours():
    skin = [(255, 219, 195), (224, 172, 140), (198, 134, 100), (141, 85, 60), (90, 56, 40)]
    other = [(255, 255, 255), (0, 0, 0), (128, 128, 128), (0, 128, 0), (40, 80, 200), (255, 0, 0)]
    image = np.array([skin + other], np.uint8)
    expected = [[True] * len(skin) + [False] * len(other)]
    np.testing.assert_array_equal(classical.skin_mask(image), expected)
    np.testing.assert_array_equal(classical.skin_mask((image / 255).astype(np.float32)), expected)


def two_colours(fps=30.0):
    """Skin with a pulse of 72 bpm in the left half, a wall that flickers at 110 in the right one."""
    wall = np.array([0.3, 0.4, 0.5]) * (1 + 0.02 * wave(110.0)[:, None])
    window = np.repeat(make_trace(72.0)[:, None, None], 4, axis=2)
    window[:, :, 2:] = wall[:, None, None]
    return window + np.random.default_rng(0).normal(0, 1e-3, window.shape).astype(np.float32)


@pytest.mark.slow
def test_the_frame_is_read_from_places_with_the_colour_of_skin():
    window = two_colours()
    expected = classical.trace_probability(window[:, :, :2].mean((1, 2)), CLIP, "green")[:-1]
    found = classical.skin_evidence(window, CLIP, "green")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert peak(found) == pytest.approx(72, abs=1)
    no_skin = classical.skin_evidence(window[:, :, 2:], CLIP, "green")
    assert peak(no_skin) == pytest.approx(110, abs=1)


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_a_classical_mapper_maps_every_place_on_all_devices(count):
    weights = weights_file.load_weights("green")
    window = np.random.default_rng(0).uniform(0.3, 0.7, (300, 5, 7, 3)).astype(np.float32)
    settings = replace(weights.config, map={"cells": 5})
    devices = jax.devices()[:count]
    mapper = make_mapper(weights.params, settings, (10, 14), stride_px=4, devices=devices)
    assert (mapper.layout.places, mapper.layout.cell_px) == ((3, 4), 2)
    expected = classical.map_traces(window[:, ::2, ::2], settings.clip, "green")
    np.testing.assert_allclose(mapper(window), expected, atol=1e-6)
    np.testing.assert_allclose(mapper.program(window), expected, atol=1e-6)
    evidence = classical.skin_evidence(window, settings.clip, "green")
    np.testing.assert_allclose(mapper.evidence(window), evidence, atol=1e-6)


def test_every_method_can_be_asked_for_and_no_other():
    assert list(CLASSICAL) == list(CLASSICAL_METHODS) == list(classical.METHODS)
    for name, settings in CLASSICAL.items():
        assert weights_file.load_weights(name)[:2] == ({}, settings)
        assert (settings.preset, settings.model.method, settings.odds) == (name, name, 401)
        assert from_dict(to_dict(settings)) == settings
    with pytest.raises(InputError, match=r"model.method = ica: unknown; choose green or chrom or pos"):
        ClassicalConfig("ica")
    with pytest.raises(InputError, match=r"no such file; name .* one of chrom, default, green, paper, pos"):
        weights_file.load_weights("poss")


@pytest.mark.parametrize("method", ["chrom", "pos"])
def test_a_grey_video_has_no_pulse_in_differences_of_colours(method):
    rng = np.random.default_rng(0)
    clip = ClipConfig(frames=300, fps=30.0, channels=3, low_bpm=40.0, high_bpm=240.0, rates=101)
    grey = 0.5 + 0.01 * np.sin(2 * np.pi * 1.2 * np.arange(300) / 30) + rng.normal(0, 0.002, 300)
    trace = np.repeat(grey[:, None], 3, 1).astype(np.float32)
    probability = np.asarray(jax.jit(partial(classical.trace_probability, clip=clip, method=method))(trace))
    assert probability[-1] == 1
    lit = trace * np.array([0.8, 1.0, 0.9], np.float32)
    lit[:, 1] += 0.005 * np.sin(2 * np.pi * 1.2 * np.arange(300) / 30)
    seen = np.asarray(classical.trace_probability(lit, clip, method))
    assert seen[-1] < 0.1
