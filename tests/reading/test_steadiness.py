import numpy as np
import pytest
from helpers.configs import replace

from pulse3d.reading import steadiness

FPS, FRAMES = 15.0, 150
TIME_S = np.arange(FRAMES) / FPS


def lit(*channels, shape=(6, 8)):
    """A window of a frame of many colours, each channel of which is multiplied by its share."""
    colours = np.random.default_rng(0).uniform(0.2, 0.8, (*shape, 3))
    return (colours * np.stack(channels, -1)[:, None, None]).astype(np.float32)


def wave(per_min, share):
    return 1 + share * np.sin(2 * np.pi * per_min / 60 * TIME_S)


@pytest.mark.parametrize("per_min", [6.0, 12.0, 20.0])
def test_the_change_of_a_slow_wave_is_its_standard_deviation(per_min):
    """Under a Hann window, and but for what a straight line explains of the wave."""
    share = 0.1 * np.sin(2 * np.pi * per_min / 60 * TIME_S)
    weight = 1 - np.cos(2 * np.pi * (np.arange(FRAMES) + 0.5) / FRAMES)
    rest = share - np.polyval(np.polyfit(TIME_S, share, 1, w=np.sqrt(weight)), TIME_S)
    expected = np.sqrt((weight * rest**2).sum() / weight.sum())
    assert steadiness.slow_change(lit(*[1 + share] * 3), FPS) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("per_min", [45.0, 70.0, 180.0])
def test_a_pulse_and_a_drift_are_no_change_of_light(per_min):
    drift = np.linspace(0.8, 1.2, FRAMES)
    assert steadiness.slow_change(lit(*[drift] * 3), FPS) < 1e-6
    assert steadiness.slow_change(lit(*[wave(per_min, 0.03)] * 3), FPS) < 0.05 * 0.03
    assert steadiness.slow_change(lit(*[np.ones(FRAMES)] * 3), FPS) < 1e-6


def test_the_channel_that_changes_least_counts():
    breath, light = wave(12.0, 0.3), wave(9.0, 0.02)
    alone = steadiness.slow_change(lit(light, light, light), FPS)
    assert steadiness.slow_change(lit(breath, light, breath), FPS) == pytest.approx(alone, rel=1e-4)


def test_what_moves_in_less_than_half_of_the_frame_does_not_count():
    window = np.full((FRAMES, 6, 8, 3), 0.5, np.float32)
    moves = wave(9.0, 0.3)[:, None, None, None].astype(np.float32)
    window[:, :, :3] *= moves
    assert steadiness.slow_change(window, FPS) < 1e-6
    window[:, :, 3:5] *= moves
    assert steadiness.slow_change(window, FPS) > 0.1


def test_trust_is_a_half_at_the_setting_and_falls_with_the_fourth_power(toy_cells):
    window = lit(*[wave(9.0, 0.02)] * 3)
    change = steadiness.slow_change(window, FPS)

    def trust(unsteady):
        settings = replace(toy_cells, clip={"fps": FPS}, readout={"unsteady": unsteady})
        return steadiness.trust(window, settings)

    assert trust(0.0) == 1
    assert trust(change) == pytest.approx(0.5)
    assert trust(change / 2) == pytest.approx(1 / 17)
    assert trust(2 * change) == pytest.approx(16 / 17)


def test_a_map_is_believed_as_far_as_it_is_trusted():
    """A rate in nine of ten places, another in one: only the former is taken for the light's."""
    probability = np.full((5, 10, 4), 0.05, np.float32)
    probability[:, :9, 0], probability[:, 9, 1] = 0.7, 0.7
    probability[..., -1] = 1 - probability[..., :-1].sum(-1)
    odds = 6.0

    def ratios(trust):
        believed = steadiness.believe(probability, trust, odds=odds)
        np.testing.assert_allclose(believed.sum(-1), 1, rtol=1e-6)
        assert believed.dtype == probability.dtype
        return odds * believed[..., :-1] / believed[..., -1:]

    before = odds * probability[..., :-1] / probability[..., -1:]
    np.testing.assert_allclose(ratios(1.0), before)
    np.testing.assert_allclose(ratios(0.0)[:, :9, 0], 1, rtol=1e-5)
    np.testing.assert_allclose(ratios(0.5)[:, :9, 0], np.sqrt(before[:, :9, 0]), rtol=1e-5)
    np.testing.assert_allclose(ratios(0.0)[..., 1], before[..., 1] / max(1, before[0, 0, 1]), rtol=1e-5)
