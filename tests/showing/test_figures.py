import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.results import make_result

from pulse3d.reading import readout
from pulse3d.reading.readout import Reading
from pulse3d.result import Result
from pulse3d.showing import figures, overlay


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


def test_the_colour_bar_is_about_the_sure_places():
    rates, confidence = np.array([60.0, 62.0, 190.0]), np.array([0.9, 0.8, 0.1])
    np.testing.assert_allclose(figures.rate_range(rates, confidence), (41, 81), atol=0.1)


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
def test_colour_bar_spans_the_rates_shown_and_at_least_40_bpm(rates, expected):
    np.testing.assert_allclose(figures.rate_range(np.array(rates, float)), expected, atol=1e-6)
