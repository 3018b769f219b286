import numpy as np

from pulse3d.evaluation import calibration, map_truth, scores
from pulse3d.evaluation.answers import Answers, Truth
from pulse3d.showing import evaluation_figures


def scored(method, clip, truth, answer, *, half_bpm=5.0, confidence=0.8, kind="ppg", log_odds=0.0):
    truth, answer = np.array(truth, float), np.array(answer, float)
    time_s, nothing = 5.0 + np.arange(len(truth)), np.full(len(truth), np.nan)
    answers = Answers(
        answer,
        answer - half_bpm,
        answer + half_bpm,
        confidence + 0 * answer,
        nothing,
        log_odds + np.zeros(len(truth)),
    )
    known = Truth(time_s, truth, nothing, nothing)
    return scores.Scored(method, clip, kind, known, answers, 1.0)


METHODS = ["pos", "paper:eq8"]
SCORED = [
    scored("pos", "a", [60, 62, 64], [61, np.nan, 70]),
    scored("paper:eq8", "a", [60, 62, 64], [55, 55, 55]),
    scored("pos", "1/0", [80, 80], [80, 81]),
]


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_rates_are_drawn_over_time_with_gaps_and_bands():
    figure = evaluation_figures.rate_figure(SCORED[:2], METHODS)
    drawn = lines(figure.axes[0])
    assert list(drawn) == ["truth", *METHODS]
    np.testing.assert_array_equal(drawn["truth"], [[5, 60], [6, 62], [7, 64]])
    np.testing.assert_array_equal(drawn["pos"], [[5, 61], [6, np.nan], [7, 70]])
    bands = figure.axes[0].collections
    assert len(bands) == 2
    heights = np.concatenate([path.vertices[:, 1] for path in bands[1].get_paths()])
    assert (heights.min(), heights.max()) == (50, 60)
    assert "(s)" in figure.axes[0].get_xlabel()
    assert "(bpm)" in figure.axes[0].get_ylabel()


def test_a_method_keeps_its_colour_where_others_are_missing():
    both, alone = (
        evaluation_figures.rate_figure(SCORED[:2], METHODS),
        evaluation_figures.rate_figure(SCORED[1:2], METHODS),
    )
    assert both.axes[0].get_lines()[2].get_color() == alone.axes[0].get_lines()[1].get_color()


def test_scatter_has_the_identity_line_and_every_window():
    first, second = evaluation_figures.scatter_figure(SCORED, METHODS).axes[:2]
    identity, points = (line.get_xydata() for line in first.get_lines())
    np.testing.assert_array_equal(identity[:, 0], identity[:, 1])
    assert identity.min() < 55
    assert identity.max() > 81
    np.testing.assert_array_equal(points[:, 0], [60, 62, 64, 80, 80])
    assert second.get_title() == "paper:eq8"


def test_bland_altman_says_bias_and_limits():
    axes = evaluation_figures.bland_altman_figure(SCORED, METHODS).axes[1]
    # differences -5, -7, -9: bias -7, SD 2
    assert "bias -7.0 ± 3.9 bpm" in axes.get_title()
    levels = sorted(line.get_ydata()[0] for line in axes.get_lines()[1:])
    np.testing.assert_allclose(levels, [-7 - 3.92, -7, -7 + 3.92])


def test_errors_have_a_point_per_recording_and_method():
    axes = evaluation_figures.errors_figure(SCORED, METHODS).axes[0]
    points = [line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(points, [3.5, 7, 0.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "1/0"]


def test_reliability_of_windows_with_an_answer():
    figure = evaluation_figures.reliability_figure(
        [SCORED[0], scored("paper:eq8", "a", [60], [90], confidence=np.nan)], [*METHODS, "elsewhere"]
    )
    (axes,) = figure.axes
    drawn = {name: points for name, points in lines(axes).items() if not name.startswith("_")}
    assert list(drawn) == ["calibrated", "pos (error 0.30)"]
    np.testing.assert_allclose(drawn["pos (error 0.30)"], [[0.8, 0.5]])
    assert [text.get_text() for text in axes.texts] == ["2"]


def test_reliability_of_many_windows_has_bars_and_closed_points():
    levels = len(calibration.LEVELS)
    each = [
        scored("pos", f"clip {i}", np.full(6, 60.0), 60.0 + 4 * i * np.ones(6))._replace(
            holds=np.full((6, levels), float(i < 2))
        )
        for i in range(5)
    ]
    confidence, interval = evaluation_figures.reliability_figure(each, ["pos"]).axes
    hollow = [line for line in confidence.get_lines() if line.get_markerfacecolor() == "white"]
    assert all(len(line.get_xdata()) == 0 for line in hollow), "30 windows in one bin"
    (bars,) = confidence.collections
    ((low, high),) = [path.vertices[:, 1] for path in bars.get_paths() if np.isfinite(path.vertices).all()]
    assert 0 <= low < 0.4 < high <= 1
    np.testing.assert_allclose(lines(interval)[interval.get_lines()[1].get_label()][:, 1], 0.4)
    few = evaluation_figures.reliability_figure(each[:2], ["pos"]).axes[0]
    hollow = [line for line in few.get_lines() if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in hollow] == [1], "12 windows are drawn open"


def test_maps_are_drawn_with_their_mask_and_in_three_colours():
    shown = np.array([[[70, 90, np.nan, np.nan, 80, 70]]])
    sure = np.isfinite(shown).astype(float)
    places = map_truth.Places(
        np.array([10.0, 60.0]), np.array([4.5]), 4.5 + 10 * np.arange(6), shown, shown, sure, sure
    )
    skin = np.repeat(np.array([255, 255, 255, 0, 0, 128], np.uint8), 10) * np.ones((10, 1), np.uint8)
    one = map_truth.against(places, np.array([70.0]), map_truth.Mask(skin), by="pulse")
    bare = one._replace(skin=np.zeros_like(skin))
    assert evaluation_figures.map_figure([SCORED[0]._replace(map=bare)]).axes, "a mask without skin"
    figure = evaluation_figures.map_figure([SCORED[0]._replace(map=one)] * 2)
    rates, outcome = figure.axes[:2]
    assert len(figure.axes) == 2 * 2 + 2, "two methods, each with its colour bar"
    (image,) = outcome.get_images()
    colours = [image.cmap(image.norm(value))[:3] for value in image.get_array()[0]]
    named = dict(zip(("right", "wrong", "missed"), colours[:3], strict=True))
    assert len(set(named.values())) == 3
    assert colours[4] == named["wrong"]
    assert colours[5] == (1, 1, 1), "left out"
    assert "painted 50%, found 33%" in outcome.get_title()
    assert rates.get_xlim() == (0, 60)
    keys = [text.get_text() for text in figure.legends[0].get_texts()]
    assert keys[1:4] == ["right", "wrong", "missed"]


def test_detection_is_drawn_from_nothing_to_everything_and_as_it_stands():
    nan = np.nan
    given = [
        scored("pos", "a", [70, 70, 70, 70], [70, 70, nan, nan], log_odds=np.array([3.0, 2.0, 0.5, -1.0])),
        scored("pos", "still/1", [nan, nan], [nan, 80], kind="pulseless set", log_odds=np.array([0.0, 1.0])),
        scored("paper:eq8", "a", [70], [70]),
    ]
    (axes,) = evaluation_figures.detection_figure(given, METHODS).axes
    curve, cross = axes.get_lines()
    # made up, answered: by a bar that falls over 3, 2, 1, 0.5, 0, -1
    expected = [[0, 0], [0, 0.25], [0, 0.5], [0.5, 0.5], [0.5, 0.75], [1, 0.75], [1, 1]]
    np.testing.assert_array_equal(curve.get_xydata(), expected)
    np.testing.assert_array_equal(cross.get_xydata(), [[0.5, 0.5]])
    assert "area" in curve.get_label()
