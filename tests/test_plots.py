import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pulse3d import evaluation, plots
from pulse3d.readout import Reading
from pulse3d.result import Result


def made_result(rate_bpm, confidence):
    """Left and right halves, of 3 x 4 places that cover columns 4...36 and rows 4...28 of a frame."""
    rate_bpm, confidence = (np.repeat(np.repeat(v[:, None], 3, 1), 2, 2) for v in (rate_bpm, confidence))
    unknown, zeros = np.full(len(rate_bpm), np.nan), np.zeros(rate_bpm.shape)
    return Result(
        frame=np.zeros((32, 40, 3), np.uint8),
        time_s=2.0 * np.arange(len(rate_bpm)),
        pulse_rate_bpm=unknown, low_bpm=unknown, high_bpm=unknown,
        pulse_confidence=0 * unknown, equation_8_bpm=unknown,
        rate_bpm=rate_bpm, confidence=confidence,
        no_pulse=zeros, amplitude_percent=zeros, snr_db=zeros,
        row_px=8.0 * np.arange(1, 4), col_px=8.0 * np.arange(1, 5),
        rate_axis_bpm=np.array([60.0, 70.0]), summary={"stride_px": 8}, folder=Path("nowhere"),
    )  # fmt: skip


def layers(rate_bpm, confidence, shape=(320, 400)):
    return list(plots.overlay_layers(made_result(rate_bpm, confidence), shape))


def test_map_lies_over_places_with_a_pulse_as_opaque_as_they_are_sure():
    rate = np.array([[70.0, np.nan], [70.0, 70.0]])
    confidence = np.array([[1.0, 1.0], [0.0, 0.5]])
    (start, first), (change, last) = layers(rate, confidence)
    assert (start, change) == (0.0, 1.0), "changes half way between the windows"
    opacity = first[..., 3].astype(float)
    np.testing.assert_allclose(opacity[100:240, 80:160], 255 * plots.MAP_OPACITY, atol=2)
    assert (opacity[100:240, 260:340] == 0).all(), "right half: no pulse"
    assert (opacity[:, 370:][100:240] == 0).all(), "beyond the map"
    opacity = last[..., 3].astype(float)
    assert (opacity[100:240, 80:160] == 0).all(), "left half: confidence 0"
    np.testing.assert_allclose(opacity[100:240, 260:340], 0.5 * 255 * plots.MAP_OPACITY, atol=2)


def test_layers_say_the_rate_or_that_there_is_none():
    known = made_result(np.full((3, 2), 70.0), np.ones((3, 2)))
    read = {"pulse_rate_bpm": np.array([70.0, 72.0, np.nan]), "low_bpm": np.array([66.0, 67.0, np.nan])}
    known = dataclasses.replace(known, **read, high_bpm=np.array([75.0, 76.0, np.nan]))
    images = [image for _, image in plots.overlay_layers(known, (320, 400))]
    captions = [image[:40, :200] for image in images]
    assert all((caption[..., 3] > 0).any() for caption in captions)
    assert (captions[0] != captions[1]).any()
    assert (captions[1] != captions[2]).any()
    assert plots.caption(Reading(70.0, 66.0, 75.0, 0.9)) == "70 bpm (66-75)"
    assert plots.caption(Reading(np.nan, np.nan, np.nan, 0.0)) == "no pulse"


@pytest.mark.parametrize("shape", [(2, 2), (8, 8), (32, 1920), (1080, 1920)])
def test_layers_have_any_shape(shape):
    for _, image in layers(np.full((2, 2), 70.0), np.ones((2, 2)), shape):
        assert (image.shape, image.dtype) == ((*shape, 4), np.uint8)


def test_the_colour_bar_is_about_the_sure_places():
    rates, confidence = np.array([60.0, 62.0, 190.0]), np.array([0.9, 0.8, 0.1])
    np.testing.assert_allclose(plots.rate_range(rates, confidence), (41, 81), atol=0.1)


def test_median_map_needs_most_windows():
    values = np.array([[[1.0, np.nan]], [[3.0, np.nan]], [[np.nan, 5.0]]])
    np.testing.assert_array_equal(plots.median_map(values), [[2.0, np.nan]])


@pytest.mark.parametrize("rate", [70.0, np.nan])
def test_figures_are_written_in_every_format_whole_or_not_at_all(tmp_path, rate):
    known = made_result(np.full((2, 2), rate), np.ones((2, 2)))
    for make in (plots.map_figure, plots.companion_figure):
        figure = make(known, title="a")
        for kind in ("png", "pdf", "svg"):
            plots.save_figure(figure, tmp_path / f"{make.__name__}.{kind}", dpi=50)
        with pytest.raises(ValueError, match="format"):
            plots.save_figure(figure, tmp_path / "map.unknown")
    assert len(list(tmp_path.iterdir())) == 6
    assert "not a map of perfusion" in (tmp_path / "companion_figure.svg").read_text()


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([np.nan, np.nan], (60, 100)),
        ([70, 72, np.nan], (51, 91)),
        ([50, 150], (52, 148)),
    ],
)
def test_colour_bar_spans_the_rates_shown_and_at_least_40_bpm(rates, expected):
    np.testing.assert_allclose(plots.rate_range(np.array(rates, float)), expected, atol=1e-6)


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
    figure = plots.rate_figure(SCORED[:2], METHODS)
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
    both, alone = plots.rate_figure(SCORED[:2], METHODS), plots.rate_figure(SCORED[1:2], METHODS)
    assert both.axes[0].get_lines()[2].get_color() == alone.axes[0].get_lines()[1].get_color()


def test_scatter_has_the_identity_line_and_every_window():
    first, second = plots.scatter_figure(SCORED, METHODS).axes[:2]
    identity, points = (line.get_xydata() for line in first.get_lines())
    np.testing.assert_array_equal(identity[:, 0], identity[:, 1])
    assert identity.min() < 55
    assert identity.max() > 81
    np.testing.assert_array_equal(points[:, 0], [60, 62, 64, 80, 80])
    assert second.get_title() == "paper:eq8"


def test_bland_altman_says_bias_and_limits():
    axes = plots.bland_altman_figure(SCORED, METHODS).axes[1]
    # differences -5, -7, -9: bias -7, SD 2
    assert "bias -7.0 ± 3.9 bpm" in axes.get_title()
    levels = sorted(line.get_ydata()[0] for line in axes.get_lines()[1:])
    np.testing.assert_allclose(levels, [-7 - 3.92, -7, -7 + 3.92])


def test_errors_have_a_point_per_recording_and_method():
    axes = plots.errors_figure(SCORED, METHODS).axes[0]
    points = [line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(points, [3.5, 7, 0.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "1/0"]


def test_reliability_of_windows_with_an_answer():
    figure = plots.reliability_figure(
        [SCORED[0], scored("paper:eq8", "a", [60], [90], confidence=np.nan)], METHODS
    )
    drawn = lines(figure.axes[0])
    assert list(drawn) == ["calibrated", "pos (error 0.30)"]
    np.testing.assert_allclose(drawn["pos (error 0.30)"], [[0.8, 0.5]])
