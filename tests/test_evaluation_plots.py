import numpy as np

from pulse3d import evaluation, evaluation_plots


def scored(method, clip, truth, answer, *, half_bpm=5.0, confidence=0.8):
    truth, answer = np.array(truth, float), np.array(answer, float)
    time_s, nothing = 5.0 + np.arange(len(truth)), np.full(len(truth), np.nan)
    answers = evaluation.Answers(
        answer, answer - half_bpm, answer + half_bpm, confidence + 0 * answer, nothing
    )
    return evaluation.Scored(method, clip, "ppg", evaluation.Truth(time_s, truth, nothing), answers, 1.0)


METHODS = ["pos", "paper:eq8"]
SCORED = [
    scored("pos", "a", [60, 62, 64], [61, np.nan, 70]),
    scored("paper:eq8", "a", [60, 62, 64], [55, 55, 55]),
    scored("pos", "1/0", [80, 80], [80, 81]),
]


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_rates_are_drawn_over_time_with_gaps_and_bands():
    figure = evaluation_plots.rate_figure(SCORED[:2], METHODS)
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
        evaluation_plots.rate_figure(SCORED[:2], METHODS),
        evaluation_plots.rate_figure(SCORED[1:2], METHODS),
    )
    assert both.axes[0].get_lines()[2].get_color() == alone.axes[0].get_lines()[1].get_color()


def test_scatter_has_the_identity_line_and_every_window():
    first, second = evaluation_plots.scatter_figure(SCORED, METHODS).axes[:2]
    identity, points = (line.get_xydata() for line in first.get_lines())
    np.testing.assert_array_equal(identity[:, 0], identity[:, 1])
    assert identity.min() < 55
    assert identity.max() > 81
    np.testing.assert_array_equal(points[:, 0], [60, 62, 64, 80, 80])
    assert second.get_title() == "paper:eq8"


def test_bland_altman_says_bias_and_limits():
    axes = evaluation_plots.bland_altman_figure(SCORED, METHODS).axes[1]
    # differences -5, -7, -9: bias -7, SD 2
    assert "bias -7.0 ± 3.9 bpm" in axes.get_title()
    levels = sorted(line.get_ydata()[0] for line in axes.get_lines()[1:])
    np.testing.assert_allclose(levels, [-7 - 3.92, -7, -7 + 3.92])


def test_errors_have_a_point_per_recording_and_method():
    axes = evaluation_plots.errors_figure(SCORED, METHODS).axes[0]
    points = [line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(points, [3.5, 7, 0.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "1/0"]


def test_reliability_of_windows_with_an_answer():
    figure = evaluation_plots.reliability_figure(
        [SCORED[0], scored("paper:eq8", "a", [60], [90], confidence=np.nan)], METHODS
    )
    drawn = lines(figure.axes[0])
    assert list(drawn) == ["calibrated", "pos (error 0.30)"]
    np.testing.assert_allclose(drawn["pos (error 0.30)"], [[0.8, 0.5]])
