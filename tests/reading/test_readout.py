import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from pulse3d.config import ReadoutConfig
from pulse3d.reading import readout, tracking

AXIS = np.linspace(55, 240, 75)
VOTES = ReadoutConfig()


def certain(*classes):
    """A map of one row of patches, each certain of its class."""
    return np.eye(76)[list(classes)][None]


def test_equation_8_is_the_mean_of_hard_votes_without_noise():
    assert readout.equation_8(certain(0, 0, 2, 75, 75), AXIS) == pytest.approx((55 + 55 + 60) / 3)
    assert np.isnan(readout.equation_8(certain(75, 75), AXIS))


def test_the_typical_window_is_most_like_the_median_map():
    maps = np.full((5, 2, 2), 70.0)
    maps[0, 0, 0], maps[1, 1], maps[2, 0, 1], maps[3] = 78.0, np.nan, 71.0, np.nan
    assert readout.typical_window(maps, np.array([0.9, 0.9, 0.9, 0.9, 0.1])) == 4
    assert readout.typical_window(maps[:3], np.ones(3)) == 2
    assert readout.typical_window(maps[[4, 4, 4]], np.array([0.5, 0.9, np.nan])) == 1, (
        "of equal ones the surest"
    )
    assert readout.typical_window(maps[[0, 3, 1]], np.ones(3)) == 2, "a place without a rate is 20 bpm away"
    assert readout.typical_window(maps * np.nan, np.zeros(5)) == 0


def test_equation_8_counts_votes_not_probabilities():
    soft = certain(10, 10).copy()
    soft[0, 1] = 0.3 * np.eye(76)[10] + 0.29 * np.eye(76)[40] + 0.41 / 76
    assert readout.equation_8(soft, AXIS) == pytest.approx(AXIS[10])


def test_patch_rates_and_confidence():
    soft = 0.5 * certain(10, 75) + 0.3 * certain(12, 75) + 0.2 * certain(60, 20)
    np.testing.assert_array_equal(readout.patch_rates(soft, AXIS), [[80, np.nan]])
    np.testing.assert_allclose(readout.patch_confidence(soft, AXIS, 5.0), [[0.8, 0]])


def read(probability, settings=VOTES):
    """The reading of one map by the votes of its patches."""
    [reading] = tracking.readings(
        readout.evidence(probability, settings, odds=1)[None], AXIS, settings, step_s=1.0, window_s=2.0
    )
    return reading


def test_reading_of_one_sharp_peak():
    reading = read(certain(*[18] * 9, 75))
    assert reading.rate_bpm == pytest.approx(100)
    assert (reading.low_bpm, reading.high_bpm) == (98.75, 101.25)
    assert reading.confidence == pytest.approx(1)


def test_reading_lies_between_neighbouring_classes():
    reading = read(0.5 * certain(18) + 0.5 * certain(19))
    assert reading.rate_bpm == pytest.approx(101.25)


def test_interval_covers_both_of_two_rates():
    reading = read(certain(10, 10, 10, 40, 40))
    assert reading.rate_bpm == pytest.approx(AXIS[10])
    assert reading.low_bpm <= AXIS[10]
    assert reading.high_bpm >= AXIS[40]
    assert reading.confidence == pytest.approx(0.6)


def test_unsure_patches_say_little():
    flat = np.full((1, 20, 76), 1e-3)
    flat[..., 5] = 0.05
    mixed = np.concatenate([flat / flat.sum(-1, keepdims=True), certain(30, 30)], axis=1)
    assert read(mixed).rate_bpm == pytest.approx(AXIS[30])


def test_no_pulse_where_hardly_any_patch_has_one():
    settings = ReadoutConfig(min_pulse_share=0.1)
    nearly_nothing = certain(30, *[75] * 20)
    assert np.isnan(read(nearly_nothing, settings).rate_bpm)
    assert read(nearly_nothing, settings).confidence == 0
    assert read(certain(30, *[75] * 5), settings).rate_bpm == pytest.approx(AXIS[30])
    assert np.isnan(read(certain(75), ReadoutConfig(min_pulse_share=0.0)).rate_bpm)


def test_combined_probability_is_a_mixture_not_a_product():
    once = readout.combine(certain(3, 9))
    often = readout.combine(certain(*[3] * 50, *[9] * 50))
    np.testing.assert_allclose(once, often)
    assert once.sum() == pytest.approx(1)
    assert readout.combine(certain(75)).sum() == 0


FEW = np.linspace(60, 80, 4)  # rates of a problem that is small enough to sum over all paths
TRACKED = ReadoutConfig(method="tracked", no_pulse_prior=0.5)


@pytest.mark.parametrize(("prior", "power"), [(0.0, 0.5), (0.4, 0.0), (0.4, 0.5)])
def test_tracking_equals_the_sum_over_all_paths(prior, power):
    settings = ReadoutConfig(
        track_bpm=5.0,
        track_floor=0.2,
        track_weight=1.0,
        no_pulse_prior=prior,
        switch_s=10.0,
        evidence_scale=3.0,
        evidence_power=power,
    )
    evidence = 10 * np.random.default_rng(0).dirichlet(np.ones(4), size=5) * np.arange(1, 6)[:, None]
    # columns: from; the last is "no pulse", which comes and goes once in 10 s, that is in 5 steps
    walk = scipy.stats.norm.pdf(FEW[:, None] - FEW, scale=5 * 2**0.5)
    switch = 0.2 if prior else 0
    stay = (1 - switch) * walk / walk.sum(0)
    change = np.block([[stay, np.full((4, 1), switch / 4)], [np.full((1, 4), switch), 1 - switch]])
    # each half of a window counts 1 / the number of windows that see it
    weights = np.array([0.75, 0.5, 0.5, 0.5, 0.75])
    strength = (evidence.max(1, keepdims=True) / 3) ** power
    rates = strength * (evidence / evidence.mean(1, keepdims=True) + 0.2) / 1.2
    seen = np.concatenate([rates, np.ones((5, 1))], 1) ** weights[:, None]

    expected = np.zeros((5, 5))
    for path in itertools.product(range(5), repeat=5):
        first = prior if path[0] == 4 else (1 - prior) / 4
        steps = [change[b, a] for a, b in itertools.pairwise(path)]
        expected[range(5), path] += first * np.prod(steps) * np.prod(seen[range(5), path])

    tracked = tracking.track(evidence, FEW, settings, step_s=2.0, window_s=4.0)
    np.testing.assert_allclose(tracked, expected / expected.sum(1, keepdims=True))


def test_temperature_narrows_the_rates_and_leaves_no_pulse():
    evidence = 10 * np.random.default_rng(0).dirichlet(np.ones(4), size=5)
    evidence[3] = 0
    times = {"step_s": 2.0, "window_s": 4.0}
    wide, narrow = (
        tracking.track(evidence, FEW, replace(TRACKED, no_pulse_prior=0.1, temperature=temperature), **times)
        for temperature in (1.0, 0.5)
    )
    expected = wide[:, :-1] ** 2
    seen = [0, 1, 2, 4]
    expected *= wide[:, :-1].sum(1, keepdims=True) / np.where(evidence.any(1), expected.sum(1), 1)[:, None]
    np.testing.assert_allclose(narrow[seen, :-1], expected[seen])
    np.testing.assert_allclose(narrow[:, -1], wide[:, -1])
    np.testing.assert_array_equal(narrow[3], wide[3])
    settings = replace(TRACKED, no_pulse_prior=0.1)
    answers = [
        tracking.readings(evidence, FEW, replace(settings, temperature=t), **times)[0] for t in (1.0, 0.5)
    ]
    assert answers[1].confidence >= answers[0].confidence
    assert answers[1].high_bpm - answers[1].low_bpm <= answers[0].high_bpm - answers[0].low_bpm


@pytest.mark.parametrize("strength", [0.1, 1.0, 9.0])
def test_a_single_window_counts_whole_and_its_strength_decides(strength):
    share = np.random.default_rng(0).dirichlet(np.ones(75), size=1)
    settings = replace(TRACKED, track_floor=1e-9, evidence_scale=4.0, evidence_power=0.5)
    evidence = 4 * strength**2 * share / share.max()
    [found] = tracking.track(evidence, AXIS, settings, step_s=1.0, window_s=10.0)
    np.testing.assert_allclose(found[:-1], share[0] * strength / (1 + strength), rtol=1e-5)
    assert np.isnan(readout.read(found, AXIS, settings).rate_bpm) == (strength <= 1)


def rates_of(evidence, step_s=1.0, window_s=2.0):
    return np.array(
        [r.rate_bpm for r in tracking.readings(evidence, AXIS, TRACKED, step_s=step_s, window_s=window_s)]
    )


def test_tracking_mends_one_wrong_window_and_keeps_no_pulse():
    evidence = np.full((9, 75), 1e-3)
    evidence[:, 18] = 1
    evidence[4], evidence[4, 60] = 1e-3, 1
    evidence[7] = 0
    rates = rates_of(evidence)
    np.testing.assert_allclose(np.delete(rates, 7), AXIS[18], atol=2.5)
    assert np.isnan(rates[7])


def test_a_rate_that_stays_is_a_pulse_and_peaks_here_and_there_are_none():
    peak = np.full((20, 75), 0.2 / 74)
    peak[:, 0] = 0.8
    stays = np.roll(peak, 30, axis=1)
    wanders = np.stack(
        [
            np.roll(p, n)
            for p, n in zip(peak, np.random.default_rng(0).permuted([*range(5, 75, 7)] * 2), strict=True)
        ]
    )
    np.testing.assert_allclose(rates_of(stays, window_s=1.0), AXIS[30], atol=1)
    assert np.isnan(rates_of(wanders, window_s=1.0)).all()
    half = rates_of(np.concatenate([wanders, stays]), window_s=1.0)
    assert np.isnan(half[:15]).all()
    np.testing.assert_allclose(half[22:], AXIS[30], atol=1)


def test_tracking_follows_a_rate_that_changes():
    path = np.arange(10, 40)
    tracked = tracking.track(np.eye(75)[path], AXIS, TRACKED, step_s=1.0, window_s=1.0)
    np.testing.assert_array_equal(tracked.argmax(-1), path)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_shortest_interval_equals_a_search_over_all(share):
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.dirichlet(np.full(75, 0.2))
        low, high = readout.shortest_interval(p, AXIS, share)
        inside = (low < AXIS) & (high > AXIS)
        assert p[inside].sum() >= share - 1e-6
        runs = [j - i for i in range(75) for j in range(i + 1, 76) if p[i:j].sum() >= share - 1e-9]
        assert inside.sum() == min(runs)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_an_interval_holds_a_power_of_its_share(power):
    rng, settings = np.random.default_rng(0), ReadoutConfig(interval=0.8, interval_power=power)
    for _ in range(20):
        p = rng.dirichlet(np.full(75, 0.3))
        rate, low, high, _ = readout.read(np.append(0.9 * p, 0.1), AXIS, settings)
        expected = readout.shortest_interval(p, AXIS, 0.8**power)
        assert (low, high) == (min(expected[0], rate), max(expected[1], rate))


def test_likelihood_is_the_mean_square_of_what_exceeds_no_pulse():
    odds = 4
    nothing = np.full((2, 3, 6), 1.0)
    nothing[..., -1] = odds
    nothing /= nothing.sum(-1, keepdims=True)
    np.testing.assert_allclose(readout.likelihood(nothing, odds), 0, atol=1e-12)
    one = np.array([0.3, 0.1, 0.0, 0.05, 0.05, 0.5])
    expected = [(4 * 0.3 / 0.5 - 1) ** 2, 0, 0, 0, 0]
    np.testing.assert_allclose(readout.likelihood(one[None, None], odds), expected)
    both = np.concatenate([nothing[:, :1], np.broadcast_to(one, (2, 1, 6))], axis=1)
    np.testing.assert_allclose(readout.likelihood(both, odds), np.array(expected) / 2, atol=1e-12)


def test_likelihood_counts_what_exceeds_the_response_to_the_frame():
    """Of likelihood ratios 3 times as large at all rates, only what stands out is left."""
    ratio = np.array([9.0, 3.0, 3.0, 3.0, 3.0])
    same = np.append(ratio, 1.0)[None, None] / (ratio.sum() + 1)
    np.testing.assert_allclose(readout.likelihood(same, 1), [4, 0, 0, 0, 0], atol=1e-12)


def test_of_many_windows_each_says_for_itself_whether_it_has_a_pulse():
    strength = np.array([[0.0, 0.2, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 1.0]])
    share = np.array([0.5, 0.005, 0.01])
    np.testing.assert_array_equal(readout.is_pulse(strength, share, TRACKED), [True, False, True])
    np.testing.assert_array_equal(readout.is_pulse(strength, share, VOTES), [True, False, True])
    np.testing.assert_allclose(
        readout.alone(strength), [[0, 1, 0, 0], [0, 0, 0, 1], [0.75, 0, 0.25, 0]], atol=1e-12
    )


def test_evidence_is_zero_where_nothing_speaks_for_a_pulse():
    one = np.array([0.3, 0.1, 0.1, 0.5])[None, None]
    strength = readout.likelihood(one, 4)
    assert strength.max() > 0
    np.testing.assert_array_equal(readout.evidence(one, TRACKED, odds=4), strength)
    np.testing.assert_array_equal(readout.evidence(one, TRACKED, odds=1), 0)
    np.testing.assert_array_equal(readout.evidence(one, VOTES, odds=4), 0)
    votes = certain(30, *[75] * 9)
    for share, passes in ((0.1, True), (0.11, False)):
        for method in ("votes", "tracked_votes"):
            settings = ReadoutConfig(method=method, min_pulse_share=share)
            expected = readout.combine(votes) * passes
            np.testing.assert_array_equal(readout.evidence(votes, settings, odds=4), expected)


@pytest.mark.parametrize("method", ["votes", "tracked_votes", "tracked"])
@pytest.mark.parametrize("window_s", [0.6, 2.0, 4.0, 20.0])
def test_follower_reads_as_the_last_of_all_windows_so_far(method, window_s):
    settings = replace(TRACKED, method=method, evidence_scale=0.1, evidence_power=1.0, temperature=0.5)
    evidence = 5 * np.random.default_rng(0).dirichlet(np.full(75, 0.1), size=13)
    evidence[[2, 4]] = 0
    times = {"step_s": 1.0, "window_s": window_s}
    follow, found = tracking.Follower(AXIS, settings, **times), []
    for index, window in enumerate(evidence):
        found.append(follow(window))
        expected = tracking.readings(evidence[: index + 1], AXIS, settings, **times)[-1]
        np.testing.assert_allclose(found[-1], expected, rtol=1e-6)
        assert np.isnan(expected.rate_bpm) or index not in (2, 4)
    assert np.isfinite(found)[:, 0].any()
    whole = tracking.readings(evidence, AXIS, settings, **times)
    assert np.allclose(whole, found, equal_nan=True) == (method == "votes")


@pytest.mark.parametrize("method", ["votes", "tracked_votes", "tracked"])
def test_windows_without_a_pulse_have_no_rate(method):
    found = tracking.readings(
        np.zeros((3, 75)), AXIS, replace(TRACKED, method=method), step_s=1.0, window_s=4.0
    )
    np.testing.assert_array_equal(found, [readout.NO_PULSE] * 3)


def test_a_place_that_is_sure_counts_as_much_as_16_bits_can_say():
    """P(no pulse) of 0, as stored, is what 16 bits cannot tell from 6e-8."""
    sure = np.full((2, 2, 5), 1e-4)
    sure[0, 0] = [0.9, 0.1, 0, 0, 0]
    least = sure.copy()
    least[0, 0, -1] = 6e-8
    found, expected = (readout.likelihood(p.astype(np.float32), 20) for p in (sure, least))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isfinite(found).all()
