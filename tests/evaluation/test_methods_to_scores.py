from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
import skimage.data

from pulse3d import pipeline, stream, video
from pulse3d.config import ClipConfig, ReadoutConfig
from pulse3d.errors import InputError
from pulse3d.evaluation import (
    calibration,
    contact,
    datasets,
    map_truth,
    methods,
    own_videos,
    recordings,
)
from pulse3d.evaluation.answers import (
    Answers,
    Truth,
    intervals_hold,
    toolbox_answers,
    toolbox_truth,
    window_answers,
    window_truth,
)
from pulse3d.evaluation.evidence import (
    Evidence,
    fingerprint,
    from_arrays,
    network_evidence,
    patch_evidence,
    require_windows,
    skin_evidence,
    to_arrays,
)
from pulse3d.evaluation.scores import Scored, detect, mean_map_scores, score, score_places
from pulse3d.evaluation.traces import Traces, patch_traces, region_traces
from pulse3d.mapping import classical
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import model, weights_file
from pulse3d.reading import readout
from pulse3d.settings import override_use

nan = np.nan
AXIS = np.arange(50.0, 101.0)
READ = ReadoutConfig()


def peaked(rate_bpm):
    """A probability of 0.9 at the rate and 0.1 spread over all; zeros for nan."""
    return np.zeros(len(AXIS)) if np.isnan(rate_bpm) else 0.9 * (rate_bpm == AXIS) + 0.1 / len(AXIS)


def make_evidence(rates, *, window_s=2.0, step_s=1.0, shift_s=0.0, **given):
    """Evidence whose windows start at 0, step_s ... and say so many bpm; nan: no pulse."""
    rates = np.array(rates, float)
    values = {
        "time_s": shift_s + window_s / 2 + step_s * np.arange(len(rates)),
        "rate_axis_bpm": AXIS,
        "strength": np.stack([peaked(rate) for rate in rates]),
        "pulse_share": np.isfinite(rates).astype(float),
        "equation_8_bpm": rates,
        "median_bpm": rates,
        "signal": np.zeros((len(rates), 0), np.float32),
        "window_s": window_s,
        "step_s": step_s,
        "fps": 30.0,
        "end_s": 60.0,
        "seconds": 6.0,
    }
    return Evidence(**values | given)


def make_truth(time_s, rate_bpm, *, beats_bpm=nan):
    time_s, rate_bpm = np.array(time_s, float), np.array(rate_bpm, float)
    return Truth(time_s, rate_bpm, np.full(len(time_s), nan), beats_bpm + 0 * time_s)


def make_scored(
    truth,
    rate,
    *,
    kind=recordings.PPG,
    low=nan,
    high=nan,
    method="pos",
    clip="a",
    confidence=nan,
    log_odds=nan,
):
    rate = np.array(rate, float)
    low, high, sure, nothing = (value + 0 * rate for value in (low, high, confidence, nan))
    answers = Answers(rate, low, high, sure, nothing, log_odds + np.zeros(len(rate)))
    return Scored(method, clip, kind, make_truth(np.arange(len(rate)), truth), answers, 3.0)


def make_recording(
    rate_bpm=72.0, *, seconds=12.0, fps=25.0, truth=recordings.PPG, size=(16, 24), series=False
):
    """A skin-coloured video whose colour pulsates, and a contact pulse of the same rate."""

    def frames():
        rng = np.random.default_rng(0)
        for time in np.arange(round(seconds * fps)) / fps:
            pulse = np.sin(2 * np.pi * rate_bpm / 60 * time)
            colour = np.array([0.72, 0.52, 0.44]) * (1 - 0.01 * pulse * np.array([0.3, 1.0, 0.6]))
            yield video.Frame(time, (colour + rng.normal(0, 0.01, (*size, 3))).astype(np.float32))

    def reference():
        time = np.arange(0, seconds, 1 / 60)
        pulse = np.sin(2 * np.pi * rate_bpm / 60 * time)
        return recordings.Reference(time, pulse, np.full(len(time), rate_bpm + 1))

    return recordings.Recording(
        "a",
        "clips",
        lambda: video.Video("a", *size, fps, seconds, frames),
        reference if truth == recordings.PPG or series else lambda: None,
        truth,
        rate_bpm if truth in own_videos.ONE_RATE and not series else nan,
    )


@pytest.mark.parametrize(
    ("name", "source", "asked"),
    [
        ("pos", "pos", "peak"),
        ("pos:tracked", "pos", "tracked"),
        ("pos_map", "pos_map", "posterior"),
        ("default", "default", "own"),
        ("runs/a:eq8", "runs/a", "eq8"),
        ("open-rppg:FacePhys.rlap", "open-rppg:FacePhys.rlap", "median"),
        ("open-rppg:FacePhys.rlap:peak", "open-rppg:FacePhys.rlap", "peak"),
    ],
)
def test_methods_and_their_read_outs(name, source, asked):
    assert methods.parse_method(name) == (name, source, asked)


@pytest.mark.parametrize("name", ["pos:mean", "pos:", ":peak", "", "open-rppg:", "open-rppg:a:mean"])
def test_unknown_read_outs_are_refused(name):
    with pytest.raises(InputError, match=r"expected SOURCE or SOURCE:READOUT with peak"):
        methods.parse_method(name)


def test_answers_are_made_from_the_windows_inside():
    # windows of 2 s at 1, 2, 3 ... s; of 4 s around 2 s and 3 s lie the first three inside, then the next
    evidence = make_evidence([60, 62, 70, nan, 80])
    truth = make_truth([2, 3, 4], [60, 60, 60])

    def answer(asked):
        return window_answers(evidence, asked, truth, READ, window_s=4.0).rate_bpm

    np.testing.assert_allclose(answer("eq8"), [64, 66, 75])
    np.testing.assert_allclose(answer("median"), [62, 66, 75])
    # the mean has equal peaks; the first is taken
    np.testing.assert_allclose(answer("peak"), [60, 62, 70])
    near = np.array([60.0, 62.0])
    expected = (near * (0.9 / 3 + 0.1 / 51)).sum() + 0.1 / 51 * (55 + 56 + 57 + 58 + 59 + 61 + 63 + 64 + 65)
    expected /= 2 * 0.9 / 3 + 0.1 / 51 * 11
    assert answer("posterior")[0] == pytest.approx(expected)


def test_one_window_of_the_same_length_answers_each():
    evidence = make_evidence([60, nan, 70], window_s=10.0, shift_s=0.4 / 30)
    truth = make_truth([5, 6, 7, 8], [60, 60, 60, 60])
    answers = window_answers(evidence, "posterior", truth, READ, window_s=10.0)
    np.testing.assert_allclose(answers.rate_bpm, [60, nan, 70, nan], atol=0.01)
    assert (answers.low_bpm[[0, 2]] <= answers.rate_bpm[[0, 2]]).all()
    np.testing.assert_array_equal(np.isfinite(answers.confidence), [True, False, True, False])
    late = evidence._replace(time_s=evidence.time_s + 0.2 / 30)
    answers = window_answers(late, "peak", truth, READ, window_s=10.0)
    assert np.isnan(answers.rate_bpm).all(), "more than half a frame outside"


def test_too_few_patches_with_a_pulse_are_no_pulse():
    evidence = make_evidence([60, 60], window_s=10.0, pulse_share=np.array([0.2, 0.1]))
    truth, strict = make_truth([5, 6], [60, 60]), dataclasses.replace(READ, min_pulse_share=0.15)
    for asked in ("peak", "posterior", "tracked"):
        answers = window_answers(evidence, asked, truth, strict, window_s=10.0)
        np.testing.assert_array_equal(np.isfinite(answers.rate_bpm), [True, False], err_msg=asked)


def test_tracking_mends_a_single_wrong_window():
    evidence = make_evidence([60] * 4 + [90] + [60] * 4, step_s=2.0)
    truth = make_truth(evidence.time_s, [60] * 9)
    plain, tracked = (
        window_answers(evidence, asked, truth, READ, window_s=2.0).rate_bpm
        for asked in ("posterior", "tracked")
    )
    assert abs(plain[4] - 90) < 1
    np.testing.assert_allclose(tracked, 60, atol=1)


def test_snr_is_of_the_signal_inside_and_empty_without():
    time = np.arange(300) / 30
    signal = np.stack([np.sin(2 * np.pi * f * time) + 0.1 * np.sin(4.4 * np.pi * time) for f in (1.0, 1.5)])
    evidence = make_evidence([60, 90], window_s=10.0, signal=signal.astype(np.float32))
    truth = make_truth([5, 6], [60, 90])
    found = window_answers(evidence, "peak", truth, READ, window_s=10.0).snr_db
    np.testing.assert_allclose(
        found, [contact.snr_db(s, 30.0, r) for s, r in zip(signal, (60.0, 90.0), strict=True)], atol=1e-3
    )
    bare = window_answers(make_evidence([60], window_s=10.0), "peak", truth, READ, window_s=10.0)
    assert np.isnan(bare.snr_db).all()


def test_odds_of_a_pulse_are_those_that_the_answer_stands_on():
    # three windows: sure of 70; sure of nothing; 70 and 90 alike
    strength = np.stack([peaked(70.0), peaked(nan), peaked(70.0) + peaked(90.0)])
    evidence = make_evidence([70, nan, 90], pulse_share=np.array([0.8, 0.0, 0.5]), strength=strength)
    truth, config = make_truth(evidence.time_s, [70, 70, 70]), dataclasses.replace(READ, method="votes")

    def odds(asked):
        return window_answers(evidence, asked, truth, config, window_s=2.0).log_odds

    for asked in ("eq8", "median"):
        np.testing.assert_allclose(odds(asked)[[0, 2]], [np.log(4), 0])
        assert odds(asked)[1] < -500
    largest = 0.9 + 0.1 / len(AXIS)
    half = (largest + 0.1 / len(AXIS)) / 2
    np.testing.assert_allclose(odds("peak")[[0, 2]], [np.log(p / (1 - p)) for p in (largest, half)])
    assert odds("peak")[1] < -500
    for asked in ("posterior", "tracked"):
        assert (np.sign(odds(asked)) == [1, -1, 1]).all()


def test_detection_by_hand():
    # 20 windows without a pulse score 0 ... 19; with a pulse 18.5, 19.5, -1 and 30, the last unanswered
    absent = make_scored(
        np.full(20, nan), np.where(np.arange(20) < 19, nan, 80), kind=recordings.PULSELESS,
        log_odds=np.arange(20.0),
    )  # fmt: skip
    present = make_scored([70, 70, 70, 70], [70, 90, 70, nan], log_odds=np.array([18.5, 19.5, -1.0, 30.0]))
    neither = [
        make_scored([nan], [80], kind=kind, log_odds=100.0)
        for kind in (recordings.NO_PULSE, recordings.SCENE)
    ]
    found = detect([absent, present, *neither])
    assert found.roc_area == pytest.approx((19 + 20 + 0 + 20) / 80)
    assert found.answered_at_1_percent == pytest.approx(2 / 4), "none of 20 may pass"
    assert found.answered_at_5_percent == pytest.approx(3 / 4), "one of 20 may pass"
    assert (found.answered, found.made_up) == pytest.approx((3 / 4, 1 / 20))
    assert score([absent]).n_windows == 20


def test_scores_by_hand():
    first = make_scored([60, 60, 60, nan], [61, 63, nan, 200], low=50, high=62)
    second = make_scored([80], [90], low=85, high=95, confidence=0.7)
    one = score([first])
    assert (one.recordings, one.n_windows, one.answered) == (1, 3, 2)
    assert one.mae_bpm == pytest.approx(2)
    assert one.within_5bpm == pytest.approx(2 / 3), "no answer is a miss"
    both = score([first, second])
    assert (both.recordings, both.n_windows, both.answered) == (2, 4, 3)
    assert both.mae_bpm == pytest.approx((2 + 10) / 2), "recordings weigh the same"
    assert np.isnan(both.mae_low_bpm), "two recordings say nothing about others"
    many = score([make_scored([60], [60 + error]) for error in (1, 1, 1, 1, 1)])
    assert (many.mae_low_bpm, many.mae_high_bpm) == (1, 1)
    assert both.calibration_error == pytest.approx(0.7), "one answer states 0.7 and is wrong"
    assert both.rmse_bpm == pytest.approx(np.sqrt((1 + 9 + 100) / 3))
    assert both.recordings_rmse_bpm == pytest.approx(np.sqrt((2**2 + 10**2) / 2))
    assert both.within_5bpm == pytest.approx(2 / 4)
    assert both.coverage == pytest.approx(2 / 3)
    assert both.seconds_per_minute == pytest.approx(3)
    assert np.isnan(both.snr_db)


def test_answers_are_scored_against_both_truths():
    truth = make_truth([5, 6, 7], [60, 60, nan], beats_bpm=np.array([66, 62, 70]))
    one = make_scored([60, 60, nan], [66, nan, 71])._replace(truth=truth)
    scores = score([one])
    assert (scores.mae_bpm, scores.within_5bpm) == (6, 0)
    assert (scores.mae_beats_bpm, scores.within_5bpm_beats) == (pytest.approx(0.5), pytest.approx(2 / 3))
    assert scores.truth_gap_bpm == pytest.approx(4)
    other = make_scored([80], [80])._replace(truth=make_truth([5], [80], beats_bpm=82))
    assert score([one, other]).truth_gap_bpm == pytest.approx((4 + 2) / 2)
    assert np.isnan(score([make_scored([80], [80])]).truth_gap_bpm)


def test_intervals_hold_the_truth_from_some_level_on():
    # answers of 60 bpm; the truth is 60, then 64, then unknown, then there is no answer
    evidence = make_evidence([60, 60, 60, nan], window_s=10.0)
    truth = make_truth([5, 6, 7, 8], [60, 64, nan, 60])
    holds, answers = (
        ask(evidence, "posterior", truth, READ, window_s=10.0) for ask in (intervals_hold, window_answers)
    )
    assert holds.shape == (4, len(calibration.LEVELS))
    assert np.isnan(holds[2:]).all()
    assert (holds[0] == 1).all()
    # 0.9 at 60 and 0.1 spread over 51 bins: only the widest interval can reach 64
    assert (holds[1, calibration.LEVELS < 0.9] == 0).all()
    stated = np.flatnonzero(np.isclose(calibration.LEVELS, READ.interval))[0]
    inside = (answers.low_bpm <= truth.rate_bpm) & (truth.rate_bpm <= answers.high_bpm)
    np.testing.assert_array_equal(holds[:2, stated], inside[:2])
    nothing = intervals_hold(evidence, "eq8", truth, READ, window_s=10.0)
    assert np.isnan(nothing).all()


def test_windows_without_a_pulse_should_not_be_answered():
    scores = score([make_scored([nan, nan, nan], [nan, 70, nan], kind=recordings.NO_PULSE)])
    assert (scores.n_windows, scores.answered) == (3, 1)
    assert np.isnan([scores.mae_bpm, scores.within_5bpm]).all()


def test_truth_of_every_kind():
    truth = window_truth(make_recording(72.0), 11.96, window_s=10.0, step_s=1.0)
    np.testing.assert_allclose(truth.time_s, [5, 6], atol=1e-9)
    np.testing.assert_allclose(truth.rate_bpm, 72, atol=0.2)
    np.testing.assert_allclose(truth.device_bpm, 73)
    np.testing.assert_allclose(truth.beats_bpm, 72, atol=0.2)
    for kind, expected in (
        (recordings.CONSENSUS, 72.0),
        (recordings.DEVICE, 72.0),
        (recordings.NO_PULSE, nan),
    ):
        recording = make_recording(truth=kind)
        whole, truth = (
            toolbox_truth(recording, 11.96),
            window_truth(recording, 11.96, window_s=10.0, step_s=1.0),
        )
        np.testing.assert_array_equal(truth.rate_bpm, [expected, expected])
        np.testing.assert_array_equal(whole.rate_bpm, [expected])


def test_a_device_of_several_rates_is_the_truth():
    recording = make_recording(truth=recordings.DEVICE, series=True)
    truth = window_truth(recording, 11.96, window_s=10.0, step_s=1.0)
    np.testing.assert_allclose(truth.rate_bpm, 73)
    np.testing.assert_allclose(truth.device_bpm, 73)
    assert np.isnan(truth.beats_bpm).all()
    np.testing.assert_allclose(toolbox_truth(recording, 11.96).rate_bpm, 73)


def test_a_video_of_exactly_one_window_has_one():
    truth = window_truth(make_recording(), 299 / 30, window_s=10.0, step_s=1.0)
    np.testing.assert_allclose(truth.time_s, [5])
    assert np.isfinite(truth.rate_bpm).all()


def test_traces_are_the_mean_skin_on_a_regular_clock():
    stamps, levels = np.array([0.0, 0.05, 0.1, 0.3]), np.array([0.0, 1.0, 2.0, 6.0])
    skin = np.array([180.0, 130, 110])

    def frames():
        for time, level in zip(stamps, levels, strict=True):
            image = np.zeros((6, 8, 3), np.uint8)
            image[:, 4:] = skin + level
            yield video.Frame(time, image)

    source = video.Video("a", 6, 8, 20.0, 0.35, frames)
    skin_of, patches = (
        region_traces(source, "skin"),
        patch_traces(source, patch_px=2, stride_px=4),
    )
    grid = np.arange(10) / 30
    expected = skin + np.interp(grid, stamps, levels)[:, None]
    assert (skin_of.end_s, patches.end_s) == (0.3, 0.3)
    np.testing.assert_allclose(skin_of.colour, expected, rtol=1e-5)
    assert patches.colour.shape == (10, 2, 2, 3)
    np.testing.assert_allclose(patches.colour[:, 1, 1], expected, rtol=1e-5)
    assert (patches.colour[:, :, 0] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", methods.BASELINES)
def test_baselines_find_the_pulse_of_skin_and_patches(method):
    opened = make_recording(72.0).open_video()
    skin = skin_evidence(region_traces(opened, "skin"), method, window_s=10.0, step_s=1.0)
    np.testing.assert_allclose(skin.time_s, [5, 6])
    np.testing.assert_allclose(skin.equation_8_bpm, 72, atol=1)
    np.testing.assert_allclose(skin.strength.sum(1), 1, atol=1e-5)
    assert skin.signal.shape == (2, 300)
    traces = patch_traces(opened, patch_px=8, stride_px=8)
    patches = patch_evidence(traces, method, window_s=10.0, step_s=1.0)
    np.testing.assert_array_equal(patches.time_s, skin.time_s)
    np.testing.assert_allclose(patches.median_bpm, 72, atol=2)
    assert (patches.pulse_share > 0.5).all()
    assert patches.signal.shape == (2, 0)
    window = traces.colour[30:330]
    clip = ClipConfig(frames=300, low_bpm=40.0, high_bpm=240.0, rates=401)
    expected = readout.combine(np.asarray(classical.map_traces(window, clip, method)))
    np.testing.assert_allclose(patches.strength[1], expected, atol=1e-6)
    check_places(
        patches.places, np.asarray(classical.map_traces(window, clip, method)), clip.rate_axis_bpm, window=1
    )
    np.testing.assert_allclose(patches.places.col_px, [3.5, 11.5, 19.5])
    assert skin.places is None


@pytest.mark.slow
def test_the_map_of_predict_is_that_of_the_evaluation():
    rng = np.random.default_rng(0)
    absorbed = 0.02 * np.sin(2 * np.pi * 1.2 * np.arange(330) / 30)[:, None] * [0.3, 0.8, 0.5]
    skin = 255 * np.array([0.7, 0.5, 0.4]) * (1 - absorbed)
    frames = skin[:, None, None] + rng.normal(0, 4, (330, 40, 56, 3))
    frames = frames.round().clip(0, 255).astype(np.uint8)
    source = video.from_array(frames, fps=30.0)
    expected = patch_evidence(patch_traces(source, patch_px=8, stride_px=8), "pos", window_s=10.0, step_s=1.0)
    weights = weights_file.load_weights("pos")
    weights = weights._replace(config=override_use(weights.config, ["map.cells=5"]))
    windows = list(stream.map_stream(source.frames(), weights))
    result = pipeline.map_video(frames, weights, fps=30.0)
    assert result.summary["weights"] == "pos"
    np.testing.assert_allclose(result.time_s, expected.time_s)
    np.testing.assert_allclose(
        (result.row_px, result.col_px[:5]), (expected.places.row_px, expected.places.col_px[:5])
    )
    axis, maps = result.rate_axis_bpm, np.stack([window.probability for window in windows])
    np.testing.assert_allclose(result.probability, maps[..., :-1], atol=1e-3)
    np.testing.assert_allclose(axis[maps[..., :-1].argmax(-1)], expected.places.likeliest_bpm)
    np.testing.assert_allclose(1 - maps[..., -1], expected.places.pulse, atol=1e-4)
    np.testing.assert_allclose([readout.combine(m) for m in maps], expected.strength, atol=1e-4)
    np.testing.assert_allclose(result.pulse_rate_bpm, 72, atol=1)
    assert np.isfinite(result.bvp.percent).all()


def test_a_still_picture_has_no_pulse():
    traces = Traces(np.full((330, 3), [180.0, 130, 110], np.float32), 10.97, 0.0)
    evidence = skin_evidence(traces, "pos", window_s=10.0, step_s=1.0)
    truth = make_truth([5, 6], [nan, nan])
    for asked in methods.READOUTS:
        answers = window_answers(evidence, asked, truth, READ, window_s=10.0)
        assert np.isnan(answers.rate_bpm).all(), asked


def make_face(rate_bpm=72.0, *, seconds=11.0, fps=15.0):
    """A face that wanders before a wall of its own colour, which pulsates stronger, at 120 bpm."""
    face = skimage.data.astronaut()[0:280, 90:370].astype(np.float32) / 255

    def frames():
        rng = np.random.default_rng(0)
        for time in np.arange(round(seconds * fps)) / fps:
            skin, wall = (np.sin(2 * np.pi * rate / 60 * time) for rate in (rate_bpm, 120.0))
            frame = np.ones((320, 480, 3), np.float32) * [0.72, 0.52, 0.44] * (1 - 0.05 * wall)
            left = round(20 + 100 * time / seconds)
            frame[20:300, left : left + 280] = face * (1 - 0.01 * skin * np.array([0.3, 1.0, 0.6]))
            yield video.Frame(
                time, np.clip(frame + rng.normal(0, 0.01, frame.shape), 0, 1).astype(np.float32)
            )

    return video.Video("face", 320, 480, fps, seconds, frames)


@pytest.mark.slow
def test_the_face_is_followed_and_what_is_around_it_left_out():
    source = make_face()

    def rate(region):
        traces = region_traces(source, region)
        evidence = skin_evidence(traces, "green", window_s=10.0, step_s=1.0)
        assert evidence.face_share == pytest.approx(traces.face_share, nan_ok=True)
        return evidence.median_bpm[0], traces.face_share

    found, share = rate("face")
    assert found == pytest.approx(72, abs=2)
    assert share == 1
    for region in ("skin", "frame"):
        found, share = rate(region)
        assert found == pytest.approx(120, abs=2)
        assert np.isnan(share)


def test_without_a_face_the_skin_of_the_frame_is_taken():
    source = make_recording().open_video()
    face, skin = (region_traces(source, region) for region in ("face", "skin"))
    assert (face.face_share, np.isnan(skin.face_share)) == (0, True)
    np.testing.assert_array_equal(face.colour, skin.colour)


def test_the_whole_frame_is_the_mean_of_all_its_pixels():
    source = make_recording().open_video()
    traces = region_traces(source, "frame")
    first = next(iter(source.frames())).image
    np.testing.assert_allclose(traces.colour[0], first.mean((0, 1)), rtol=1e-5)


def test_too_short_a_recording_is_refused():
    traces = region_traces(make_recording(seconds=4.0).open_video(), "skin")
    with pytest.raises(InputError, match=r"4.0 s long; one window needs 10 s"):
        skin_evidence(traces, "pos", window_s=10.0, step_s=1.0)


def test_network_evidence_is_what_its_maps_say(toy):
    params = model.init_params(jax.random.key(0), toy)
    opened = make_recording(72.0, seconds=4.0, fps=15.0).open_video()
    mapper = make_mapper(params, toy, (16, 24))
    evidence = network_evidence(opened, mapper, step_s=1.0)
    np.testing.assert_allclose(evidence.time_s, [0.8, 1.8, 2.8])
    assert (evidence.window_s, evidence.fps) == (1.6, 15.0)
    assert evidence.end_s == pytest.approx(59 / 15)
    window = np.stack([video.to_unit(frame.image, 1) for frame in opened.frames()])[15:39]
    expected = mapper(window)
    rates = readout.patch_rates(expected, toy.clip.rate_axis_bpm)
    np.testing.assert_allclose(evidence.strength[1], readout.combine(expected), atol=1e-5)
    assert evidence.pulse_share[1] == pytest.approx(np.isfinite(rates).mean())
    assert evidence.equation_8_bpm[1] == pytest.approx(np.nanmean(rates))
    assert evidence.median_bpm[1] == pytest.approx(np.nanmedian(rates))
    check_places(evidence.places, expected, toy.clip.rate_axis_bpm, window=1)
    np.testing.assert_array_equal(evidence.places.row_px, mapper.layout.centres_px()[0])
    np.testing.assert_array_equal(evidence.places.frame_px, [16, 24])
    again = from_arrays(to_arrays(evidence))
    jax.tree.map(np.testing.assert_array_equal, again, evidence)


def check_places(places, probability, axis, *, window):
    """Places of that window as the probability has them."""
    for found, expected in (
        (places.rate_bpm, readout.patch_rates(probability, axis)),
        (places.likeliest_bpm, axis[probability[..., :-1].argmax(-1)]),
        (places.pulse, 1 - probability[..., -1]),
        (places.confidence, readout.patch_confidence(probability, axis, 5.0)),
    ):
        np.testing.assert_allclose(found[window], expected, atol=1e-4)


def test_maps_are_scored_at_the_truth_of_their_own_windows():
    # the map's windows are at 1, 2, 3 s, the truth's at 1 and 3 s: 60 and 80 bpm, so 70 between
    shown = np.array([60.0, 70.0, 90.0])[:, None, None] * np.ones((1, 1, 2))
    shown[:, 0, 1] = nan
    sure = np.isfinite(shown).astype(float)
    places = map_truth.Places(
        np.array([10.0, 20.0]), np.array([5.0]), np.array([5.0, 15.0]), shown, shown, sure, sure
    )
    evidence = make_evidence([60, 70, 90], places=places)
    truth = make_truth([1, 3], [60, 80])
    mask = map_truth.Mask(np.repeat([255, 0], 10).astype(np.uint8) * np.ones((10, 1), np.uint8))
    one = score_places(evidence, truth, mask, by="pulse")
    assert one.scores.found == pytest.approx(2 / 3)
    unknown = score_places(evidence, make_truth([], []), mask, by="pulse")
    assert np.isnan(unknown.scores.found), "too short for a window with a truth"
    assert unknown.scores.painted == one.scores.painted
    assert score_places(evidence, truth, None, by="pulse") is None
    assert score_places(make_evidence([60]), truth, mask, by="pulse") is None
    scored = [make_scored([60], [60])._replace(map=found) for found in (one, None, one)]
    scored[2] = scored[2]._replace(map=one._replace(scores=one.scores._replace(found=1.0, iou=nan)))
    mean = mean_map_scores(scored)
    assert mean.found == pytest.approx((2 / 3 + 1) / 2)
    assert mean.iou == one.scores.iou, "what is not known is left out"


def test_sources_whose_windows_do_not_fit_are_refused():
    clip = ClipConfig(frames=300)
    require_windows(clip, window_s=10.0, step_s=0.5)
    with pytest.raises(InputError, match="needs windows of 10 s"):
        require_windows(clip, window_s=9.9, step_s=1.0)
    with pytest.raises(InputError, match="not a whole number of frames"):
        require_windows(clip, window_s=10.0, step_s=0.25)


def test_fingerprint_is_of_the_network_not_of_its_use(toy):
    weights = weights_file.Weights(model.init_params(jax.random.key(0), toy), toy, {}, "toy")
    other = weights._replace(params=model.init_params(jax.random.key(1), toy))
    used = weights._replace(config=dataclasses.replace(toy, readout=ReadoutConfig(tolerance_bpm=1.0)))
    assert fingerprint(used) == fingerprint(weights)
    assert fingerprint(other) != fingerprint(weights)


def test_toolbox_protocol_compares_whole_recordings_by_the_same_path():
    recording = make_recording(72.0, seconds=20.0)
    traces = region_traces(recording.open_video(), "skin")
    evidence = skin_evidence(traces, "chrom", window_s=None, step_s=1.0)
    truth = toolbox_truth(recording, traces.end_s)
    answers = toolbox_answers(evidence, "peak", truth, READ)
    width = 60 * 30 / 1024
    assert evidence.signal.shape == (1, len(traces.colour))
    np.testing.assert_allclose(truth.rate_bpm, round(72 / width) * width)
    np.testing.assert_allclose(answers.rate_bpm, truth.rate_bpm)
    np.testing.assert_allclose(truth.device_bpm, 73)
    assert answers.snr_db[0] > 10


def test_toolbox_protocol_without_a_signal_takes_the_median_window():
    evidence = make_evidence([60, 62, 70, nan, 80])
    truth = make_truth([30], [60])
    for asked in ("eq8", "peak"):
        answers = toolbox_answers(evidence, asked, truth, READ)
        np.testing.assert_allclose(answers.rate_bpm, [66], err_msg=asked)


@pytest.mark.slow
def test_truth_of_the_real_clips(shared):
    """The tables of rates were made apart from this code; they agree to 0.11 bpm."""
    compared = 0
    for recording in datasets.find_recordings("clips", shared / "clips"):
        if recording.truth == recordings.PPG:
            table = np.loadtxt(shared / "clips" / f"{recording.name}_hr10s.csv", delimiter=",", skiprows=1)
            end_s = recording.reference().time_s[-1]
            truth = window_truth(recording, end_s, window_s=10.0, step_s=1.0)
            np.testing.assert_allclose(truth.time_s[: len(table)], table[:, 0])
            np.testing.assert_allclose(truth.rate_bpm[: len(table)], table[:, 1], atol=0.11)
            compared += len(table)
    assert compared > 300
