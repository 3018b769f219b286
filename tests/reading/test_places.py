import numpy as np
import pytest
from helpers.configs import replace

from pulse3d.reading import places, readout

TIMING = {"step_s": 1.0, "window_s": 10.0}


@pytest.fixture(scope="module")
def settings(toy_cells):
    return replace(toy_cells, clip={"low_bpm": 40.0, "high_bpm": 200.0, "rates": 65})


def chain(evidence, settings, **changed):
    grey = np.full((*evidence.shape[1:], 3), 0.5)
    return places.carries(evidence, grey, replace(settings, readout=changed).readout, **TIMING)


def test_without_evidence_a_place_is_as_likely_as_before(settings):
    probability = chain(np.zeros((20, 3, 4)), settings, place_gain=0.0, place_prior=0.3)
    np.testing.assert_allclose(probability, 0.3, atol=1e-9)


def test_evidence_adds_up_over_time(settings):
    evidence = np.full((60, 2, 2), -4.0)
    evidence[:, 0, 0] = 4.0
    probability = chain(evidence, settings)
    assert (probability[:, 0, 0] > 0.95).all()
    assert (probability[:, 1, 1] < 0.05).all()
    # a window counts as much as its share of video: two Bernoulli states, no change
    few = chain(evidence[:1], settings, place_bar_least=0.0, place_bar_drop=8.0)
    odds = 0.3 / 0.7 * np.exp(4.0)
    assert few[0, 0, 0] == pytest.approx(odds / (1 + odds))


def test_a_pulse_may_leave_a_place(settings):
    evidence = np.full((120, 1, 20), -4.0)
    evidence[:60, 0, :4] = 4.0
    probability = chain(evidence, settings, place_switch_s=60.0)
    assert (probability[:50, 0, :4] > 0.9).all()
    assert (probability[70:, 0, :4] < 0.1).all()


def test_the_bar_lies_between_the_frames_places(settings):
    changed = {"place_bar_least": -1.5, "place_bar_drop": 2.0, "place_bar_share": 0.5}
    config = replace(settings, readout=changed).readout
    frame = np.full((10, 10), -4.0)
    frame[:2] = 3.0
    assert places.bar(frame, config) == pytest.approx(-0.5)
    # a face that fills the frame, and is much clearer at its forehead: the best are those of all of it
    frame[:7], frame[0] = 2.0, 5.0
    assert places.bar(frame, config) == pytest.approx(-1.0)
    # all skin: the bar is below all of it
    assert places.bar(np.full((10, 10), 6.0), config) == pytest.approx(4.0)
    # nothing anywhere: never below the least
    assert places.bar(np.full((10, 10), -9.0), config) == -1.5


def test_following_counts_the_first_window_whole_and_others_by_their_share(settings):
    changed = {"place_bar_least": 0.0, "place_bar_drop": 50.0, "place_switch_s": 1e12}
    follow = places.Follower(replace(settings, readout=changed).readout, **TIMING)
    evidence = np.array([[2.0, -1.0]])
    for later in range(3):
        odds = 0.3 / 0.7 * np.exp(evidence * (1 + 0.1 * later))
        np.testing.assert_allclose(follow(evidence, np.ones((1, 2, 3))), odds / (1 + odds), rtol=1e-6)


def test_windows_without_a_rate_change_nothing(settings):
    rng = np.random.default_rng(0)
    evidence = rng.normal(0, 0.1, (30, 6, 8)) + np.where(np.arange(8) < 3, 0.2, -0.2)
    empty = np.zeros((40, 6, 8))
    config = replace(settings, readout={"place_switch_s": 1e12, "place_bar_drop": 0.1}).readout
    alone, after = (
        places.carries(each, np.ones((6, 8, 3)), config, step_s=10.0, window_s=10.0)
        for each in (evidence, np.concatenate([empty, evidence]))
    )
    np.testing.assert_allclose(after[40:], alone, rtol=1e-6)
    follow, follow_late = (
        places.Follower(replace(settings, readout={"place_switch_s": 1e12}).readout, **TIMING) for _ in "ab"
    )
    for window in empty:
        follow_late(window, np.ones((6, 8, 3)))
    for window in evidence:
        np.testing.assert_allclose(*(each(window, np.ones((6, 8, 3))) for each in (follow_late, follow)))


def test_the_bar_is_higher_where_the_colour_is_another(settings):
    """Skin above the bar; beside it, skin and cloth of equal evidence: only the cloth is left out."""
    evidence, skin, cloth = np.full((10, 10), -4.0), [0.8, 0.6, 0.5], [0.3, 0.4, 0.7]
    evidence[:3], evidence[3:6] = 6.0, 3.5
    colour = np.broadcast_to(skin, (10, 10, 3)).copy()
    colour[3:6, 5:] = colour[6:] = cloth
    config = replace(settings, readout={"place_bar_drop": 0.0, "place_bar_share": 0.6}).readout
    level = places.bar(evidence, config)
    assert level < 3.5
    np.testing.assert_array_equal(places.bars(evidence, colour, config), level)
    config = replace(settings, readout={"place_bar_drop": 0.0, "place_bar_share": 0.6, "place_unlike": 1.0})
    found = places.bars(evidence, colour, config.readout)
    assert (found[3:6, :5] < 3.5).all()
    assert (found[3:6, 5:] > 3.5).all()
    np.testing.assert_array_equal(places.bars(np.full((10, 10), -9.0), colour, config.readout), -1.5)
    same = places.bars(evidence, np.broadcast_to(skin, (10, 10, 3)), config.readout)
    np.testing.assert_allclose(same, level, atol=1e-5)


def make_map(axis, *regions, shape=(12, 16)):
    """Places of regions (rows, cols, rate) are sure of their rates, others of none."""
    probability = np.full((*shape, len(axis) + 1), 1e-4, np.float32)
    probability[..., -1] = 1
    for rows, cols, rate in regions:
        shares = np.exp(-0.5 * ((axis - rate) / 3) ** 2)
        probability[rows, cols, :-1] = 0.9 * shares / shares.sum()
        probability[rows, cols, -1] = 0.1
    return probability / probability.sum(-1, keepdims=True)


def find(maps, settings, trust=None, skin_of=lambda m: m[..., -1:] < 0.5):
    axis, skin, wall = settings.clip.rate_axis_bpm, [0.8, 0.6, 0.5], [0.3, 0.5, 0.5]
    colours = [np.where(skin_of(m), skin, wall).astype(np.float16) for m in maps]
    windows = list(map(places.Seen, maps, colours, [1.0] * len(maps) if trust is None else trust))
    believed = [seen.believed(settings) for seen in windows]
    strength = np.stack([readout.evidence(m, settings.readout, odds=settings.odds) for m in believed])
    return places.find_pulses(lambda: windows, strength, axis, settings, **TIMING)


def test_two_people_are_two_pulses_each_on_its_side(settings):
    left, right = (slice(2, 9), slice(1, 6)), (slice(3, 9), slice(10, 14))
    maps = [make_map(settings.clip.rate_axis_bpm, (*left, 70.0), (*right, 110.0))] * 30
    pulses = find(maps, settings)
    assert len(pulses) == 2
    rates = sorted(np.median([r.rate_bpm for r in pulse.readings]) for pulse in pulses)
    np.testing.assert_allclose(rates, [70, 110], atol=1)
    rate, probability = places.strongest(pulses)
    shown = places.shown(rate, probability)[15]
    np.testing.assert_allclose(shown[4:7, 2:5], 70, atol=1)
    np.testing.assert_allclose(shown[5:7, 11:13], 110, atol=1)
    assert np.isnan(shown[:, 7:9]).all()
    assert np.isnan(shown[-2:]).all()


def test_one_person_is_one_pulse(settings):
    maps = [make_map(settings.clip.rate_axis_bpm, (slice(3, 8), slice(4, 9), 84.0))] * 30
    (pulse,) = find(maps, settings)
    np.testing.assert_allclose([r.rate_bpm for r in pulse.readings], 84, atol=1)


def test_a_frame_without_a_pulse_has_none_anywhere(settings):
    maps = [make_map(settings.clip.rate_axis_bpm)] * 30
    (pulse,) = find(maps, settings)
    assert np.isnan([r.rate_bpm for r in pulse.readings]).all()
    np.testing.assert_array_equal(pulse.probability, 0)


def test_a_rate_all_over_the_frame_is_no_pulse_while_the_light_changes(settings):
    """All of the frame has 50 bpm, and in the second case a face 84 bpm."""
    chances = {"evidence_scale": 2.5, "evidence_power": 1.0, "no_pulse_prior": 0.95}
    settings = replace(settings, readout=chances)
    axis, face = settings.clip.rate_axis_bpm, (slice(3, 8), slice(4, 9), 84.0)
    light = (slice(0, 12), slice(0, 16), 50.0)
    at_84 = abs(axis - 84).argmin()
    for regions, trust, expected in [([light], 1.0, 50), ([light], 0.0, None), ([light, face], 0.0, 84)]:
        maps = [make_map(axis, *regions)] * 20
        pulse = find(maps, settings, [trust] * 20, skin_of=lambda m: m[..., at_84, None] > 0.1)[0]
        rates = [reading.rate_bpm for reading in pulse.readings]
        if expected:
            np.testing.assert_allclose(rates, expected, atol=1)
        else:
            assert np.isnan(rates).all()
            assert not (pulse.probability >= 0.5).any()


@pytest.mark.parametrize(("share", "found"), [(0.33, False), (0.0, True)])
def test_a_pulse_of_scattered_places_is_none(settings, share, found):
    """Single places of a steady rate, none beside another; and the same number side by side."""
    settings = replace(settings, readout={"place_together": share})
    axis = settings.clip.rate_axis_bpm
    spots = [(row, col) for row in (1, 3, 5, 7, 9) for col in (1, 3, 5, 7, 9)]
    scattered = make_map(axis, *((slice(r, r + 1), slice(c, c + 1), 84.0) for r, c in spots))
    (pulse,) = find([scattered] * 30, settings)
    assert np.isfinite([reading.rate_bpm for reading in pulse.readings]).all() == found
    assert (pulse.probability >= 0.5).any() == found
    (pulse,) = find([make_map(axis, (slice(1, 6), slice(1, 6), 84.0))] * 30, settings)
    np.testing.assert_allclose([reading.rate_bpm for reading in pulse.readings], 84, atol=1)


def test_places_lie_together_if_enough_of_them_touch(settings):
    config = replace(settings, readout={"place_together": 0.5}).readout
    places_ = np.zeros((6, 8))
    assert not places.lie_together(places_, config), "nowhere"
    places_[1, 1:5] = 0.5
    assert places.lie_together(places_, config)
    places_[3, ::2] = 0.9  # as many again, each alone
    assert places.lie_together(places_, config)
    places_[5, 0] = 0.9
    assert not places.lie_together(places_, config)
    places_[2, 4] = 0.9  # one beside those that touch, and beside a single one below
    assert places.lie_together(places_, config)


def make_pulse(rates_bpm, probability):
    readings = [readout.NO_PULSE if np.isnan(r) else readout.Reading(r, r, r, 1.0) for r in rates_bpm]
    return places.Pulse(readings, probability, np.zeros((len(rates_bpm), 1)))


def test_every_place_has_the_rate_of_its_likeliest_pulse():
    rng = np.random.default_rng(0)
    pulses = [make_pulse(rng.uniform(50, 150, 5), rng.uniform(0, 1, (5, 2, 3))) for _ in range(3)]
    rate_bpm, probability = places.strongest(pulses)
    for at in np.ndindex(5, 2, 3):
        best = max(pulses, key=lambda pulse: pulse.probability[at])
        assert probability[at] == best.probability[at]
        assert rate_bpm[at] == best.readings[at[0]].rate_bpm
        shown = places.shown(rate_bpm, probability)[at]
        assert shown == rate_bpm[at] if probability[at] >= 0.5 else np.isnan(shown)


@pytest.mark.parametrize(
    ("windows", "places_", "share", "counts"),
    [(11, 6, 11, True), (10, 6, 11, False), (11, 5, 11, False), (11, 6, 10, False), (20, 24, 20, True)],
)
def test_a_further_pulse_is_known_in_most_windows_and_fills_enough_places(
    settings, windows, places_, share, counts
):
    """In so many of 20 windows a rate; in so many, that many of 24 places at a probability of one half."""
    probability = np.full((20, 24), 0.49)
    probability[:share, :places_] = 0.5
    rates_bpm = np.where(np.arange(20) < windows, 80.0, np.nan)
    pulse = make_pulse(rates_bpm, probability.reshape(20, 4, 6))
    assert settings.readout.region_places == 6
    assert places._counts(pulse, settings.readout) == counts


def test_what_is_left_for_further_pulses_is_neither_near_the_known_rates_nor_in_their_places(settings):
    axis = settings.clip.rate_axis_bpm
    probability = np.full((2, 2, len(axis) + 1), 0.5, np.float16)
    probability[1, 1, -1] = 0
    taken = np.array([[0.2, 0.21], [0.0, 0.0]])
    config = replace(settings, readout={"region_tolerance_bpm": 5.0}).readout
    left = places._without(probability, taken, [80.0, np.nan, 120.0], axis, config)
    away = np.minimum(abs(axis - 80), abs(axis - 120)) > 10
    assert 0 < away.sum() < len(axis)
    for place in [(0, 0), (1, 0), (1, 1)]:
        np.testing.assert_array_equal(left[place][:-1], np.where(away, 0.5, 0))
    np.testing.assert_array_equal(left[0, 1], np.eye(len(axis) + 1)[-1])
    assert (left[1, 0, -1], left[1, 1, -1]) == (0.5, np.float32(readout.LEAST))


def test_votes_for_other_rates_speak_against_a_rate(settings):
    """A place that is sure of another rate does not carry this one, however sure it is of a pulse."""
    settings = replace(settings, readout={"method": "tracked_votes", "place_tolerance_bpm": 4.0})
    axis = settings.clip.rate_axis_bpm  # every 2.5 bpm: three are near 90
    probability = np.full((1, 3, 66), 1e-9)
    probability[0, 0, np.flatnonzero(axis == 90)] = 0.6
    probability[0, 1, np.flatnonzero(axis == 150)] = 1.0
    probability[0, 2, -1] = 1.0
    probability[0, 0, -1] = 0.4
    grey = np.full((1, 1, 3), 0.5)
    alone = [places.evidence(probability[:, i : i + 1], grey, axis, 90.0, settings)[0, 0] for i in range(3)]
    assert alone[0] == pytest.approx(np.log(0.6 / 0.4 * 62 / 3))
    assert max(alone[1:]) < -10
