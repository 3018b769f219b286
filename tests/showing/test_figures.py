import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from helpers.results import make_result

from pulse3d.errors import InputError
from pulse3d.reading import readout
from pulse3d.reading.readout import Reading
from pulse3d.reading.regions import Region
from pulse3d.result import Result
from pulse3d.showing import figures, overlay, scales


def made_result(rate_bpm, confidence):
    """Left and right halves, of 3 x 4 places that cover columns 4...36 and rows 4...28 of a frame."""
    rate_bpm, confidence = (np.repeat(np.repeat(v[:, None], 3, 1), 2, 2) for v in (rate_bpm, confidence))
    unknown, zeros = np.full(len(rate_bpm), np.nan), np.zeros(rate_bpm.shape)
    return Result(
        frame=np.zeros((32, 40, 3), np.uint8),
        time_s=2.0 * np.arange(len(rate_bpm)),
        pulse_rate_bpm=unknown, low_bpm=unknown, high_bpm=unknown,
        pulse_confidence=0 * unknown, equation_8_bpm=unknown,
        trust=np.ones(len(rate_bpm)),
        rate_bpm=rate_bpm, confidence=confidence,
        no_pulse=zeros, network_no_pulse=zeros, amplitude_percent=zeros, snr_db=zeros,
        row_px=8.0 * np.arange(1, 4), col_px=8.0 * np.arange(1, 5),
        rate_axis_bpm=np.array([60.0, 70.0]), frame_s=np.arange(2.0),
        summary={"stride_px": 8}, folder=Path("nowhere"),
    )  # fmt: skip


def layers(rate_bpm, confidence, shape=(320, 400)):
    return list(overlay.overlay_layers(made_result(rate_bpm, confidence), shape))


def test_map_lies_over_places_with_a_pulse_as_opaque_as_they_are_sure():
    rate = np.array([[70.0, np.nan], [70.0, 70.0]])
    confidence = np.array([[1.0, 1.0], [0.0, 0.5]])
    (start, first), (change, last) = layers(rate, confidence)
    assert (start, change) == (0.0, 1.0), "changes half way between the windows"
    opacity = first[..., 3].astype(float)
    np.testing.assert_allclose(opacity[100:240, 80:160], 255 * overlay.MAP_OPACITY, atol=2)
    assert (opacity[100:240, 260:340] == 0).all(), "right half: no pulse"
    assert (opacity[:, 370:][100:240] == 0).all(), "beyond the map"
    opacity = last[..., 3].astype(float)
    assert (opacity[100:240, 80:160] == 0).all(), "left half: confidence 0"
    np.testing.assert_allclose(opacity[100:240, 260:340], 0.5 * 255 * overlay.MAP_OPACITY, atol=2)


def test_layers_say_the_rate_or_that_there_is_none():
    known = made_result(np.full((3, 2), 70.0), np.ones((3, 2)))
    read = {"pulse_rate_bpm": np.array([70.0, 72.0, np.nan]), "low_bpm": np.array([66.0, 67.0, np.nan])}
    known = dataclasses.replace(known, **read, high_bpm=np.array([75.0, 76.0, np.nan]))
    images = [image for _, image in overlay.overlay_layers(known, (320, 400))]
    captions = [image[:40, :200] for image in images]
    assert all((caption[..., 3] > 0).any() for caption in captions)
    assert (captions[0] != captions[1]).any()
    assert (captions[1] != captions[2]).any()
    assert figures.caption(Reading(70.0, 66.0, 75.0, 0.9)) == "70 bpm (66-75)"
    assert figures.caption(Reading(np.nan, np.nan, np.nan, 0.0)) == "no pulse"


@pytest.mark.parametrize("shape", [(2, 2), (8, 8), (32, 1920), (1080, 1920)])
def test_layers_have_any_shape(shape):
    for _, image in layers(np.full((2, 2), 70.0), np.ones((2, 2)), shape):
        assert (image.shape, image.dtype) == ((*shape, 4), np.uint8)


def test_before_the_first_window_there_is_no_map_and_no_rate():
    known = made_result(np.full((2, 2), 70.0), np.ones((2, 2)))
    rates = {name: np.array([70.0, 70.0]) for name in ("pulse_rate_bpm", "low_bpm", "high_bpm")}
    known = dataclasses.replace(known, time_s=np.array([5.0, 6.0]), **rates)
    (start, before), (first, at), (second, _) = overlay.overlay_layers(known, (320, 400))
    assert (start, first, second) == (0.0, 5.0, 5.5)
    assert not before[100:240, :, 3].any()
    assert at[100:240, 80:160, 3].all()
    # the caption, a dash, is shorter than the rate
    assert (before[:40, :160, 3] > 0).sum() < (at[:40, :160, 3] > 0).sum()


def test_the_trace_has_an_axis():
    """From 50 to 90 bpm, with numbers at its left."""
    known = made_result(np.full((2, 2), 70.0), np.ones((2, 2)))
    rates = {name: np.array([70.0, 70.0]) for name in ("pulse_rate_bpm", "low_bpm", "high_bpm")}
    (_, layer), _ = overlay.overlay_layers(dataclasses.replace(known, **rates), (320, 400))
    left, box = round(0.62 * 400), layer[-52:]
    beside = box[:, left + 2 : left + 17, :3].min(-1)
    assert (beside[:26] > 200).any()
    assert (beside[26:] > 200).any()


@pytest.mark.parametrize("limits_bpm", [(100.0, 100.0), (140.0, 40.0), (-1.0, 40.0), (np.nan, 90.0)])
def test_limits_that_are_none_are_refused(tmp_path, limits_bpm):
    found = make_result(tmp_path)
    with pytest.raises(InputError, match="expected two ascending rates"):
        found.plot(limits_bpm=limits_bpm)
    with pytest.raises(InputError, match="expected two ascending rates"):
        found.report(tmp_path / "page.html", limits_bpm=limits_bpm)


@pytest.mark.parametrize("limits_bpm", [(40.0, 140.0), (60.0, 80.0)])
def test_colours_of_the_overlay_are_between_the_limits(limits_bpm):
    known = made_result(np.full((1, 2), 70.0), np.ones((1, 2)))
    ((_, layer),) = overlay.overlay_layers(known, (320, 400), limits_bpm=limits_bpm)
    low, high = limits_bpm
    colour = 255 * np.array(matplotlib.colormaps["viridis"]((70 - low) / (high - low))[:3])
    np.testing.assert_allclose(layer[160, 200, :3], colour, atol=3)


def region(places, rates):
    return Region(places, [Reading(rate, rate - 1, rate + 1, 0.9) for rate in rates])


def test_every_region_of_several_has_a_line_and_a_number(tmp_path):
    sides = np.arange(5) < 2
    parts = [region(np.tile(sides, (4, 1)), [70.0] * 6), region(np.tile(~sides, (4, 1)), [120.0] * 6)]
    figure = figures.map_figure(make_result(tmp_path, parts=parts))
    rates = figure.axes[3]
    assert [line.get_label() for line in rates.lines] == ["frame", "region 1", "region 2"]
    assert [line.get_ydata()[0] for line in rates.lines] == [71, 70, 120]
    assert rates.get_ylim()[1] > 120
    assert [text.get_text() for text in figure.axes[1].texts] == ["1", "2"]
    (alone,) = figures.map_figure(make_result(tmp_path, parts=parts[:1])).axes[3].lines
    assert alone.get_label() == "rate"


def test_of_one_window_the_figure_says_a_number(tmp_path):
    axes = figures.map_figure(make_result(tmp_path, windows=1)).axes[3]
    assert [text.get_text() for text in axes.texts] == ["71 bpm (90 % interval 66 to 77)"]
    assert not axes.axison


def test_text_stays_text_in_vector_graphics(tmp_path):
    figure = figures.companion_figure(make_result(tmp_path))
    for kind in ("svg", "pdf"):
        figures.save_figure(figure, tmp_path / f"a.{kind}")
    assert ">phase against the frame's pulse (degrees)</text>" in (tmp_path / "a.svg").read_text()
    assert b"/Type3" not in (tmp_path / "a.pdf").read_bytes()


def test_colours_of_every_scale_go_from_end_to_end():
    for name in ("viridis", "twilight_shifted"):
        table = scales.colour_table(name)
        np.testing.assert_allclose(
            table[[0, -1]], 255 * matplotlib.colormaps[name]([0.0, 1.0])[:, :3], atol=1
        )


def test_median_map_needs_most_windows():
    values = np.array([[[1.0, np.nan]], [[3.0, np.nan]], [[np.nan, 5.0]]])
    np.testing.assert_array_equal(readout.median_map(values), [[2.0, np.nan]])


@pytest.mark.slow
@pytest.mark.parametrize("pulse", [True, False])
def test_figures_are_written_in_every_format_whole_or_not_at_all(tmp_path, pulse):
    (tmp_path / "result").mkdir()
    known = make_result(tmp_path / "result", pulse=pulse)
    for make in (figures.map_figure, figures.companion_figure):
        figure = make(known, title="a")
        for kind in ("png", "pdf", "svg"):
            figures.save_figure(figure, tmp_path / f"{make.__name__}.{kind}", dpi=50)
        with pytest.raises(ValueError, match="format"):
            figures.save_figure(figure, tmp_path / "map.unknown")
    assert len(list(tmp_path.glob("*.*"))) == 6
    assert "not a map of perfusion" in (tmp_path / "companion_figure.svg").read_text()


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([np.nan, np.nan], (60, 100)),
        ([70, 72, np.nan], (51, 91)),
        ([50, 150], (52, 148)),
    ],
)
def test_an_axis_of_rates_spans_them_shown_and_at_least_40_bpm(rates, expected):
    np.testing.assert_allclose(scales.rate_range(np.array(rates, float)), expected, atol=1e-6)
