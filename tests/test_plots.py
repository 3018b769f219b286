import numpy as np
import pytest

from pulse3d import plots
from pulse3d.video import Frame

EXTENT = (4.0, 36.0, 28.0, 4.0)  # left, right, bottom, top


def overlay(rate_bpm, confidence, **options):
    frames = [Frame(t, np.full((32, 40, 3), 100, np.uint8)) for t in (0.0, 1.0, 2.0)]
    times = np.array([0.0, 2.0])
    return list(plots.overlay_frames(frames, times, rate_bpm, confidence, ["", ""], EXTENT, **options))


def test_overlay_tints_only_where_there_is_a_pulse_and_confidence():
    rate = np.array([[[70.0, np.nan]], [[70.0, 70.0]]])
    confidence = np.array([[[1.0, 1.0]], [[0.0, 1.0]]])
    first, _, last = overlay(rate, confidence)
    assert (first[6:26, 6:18] != 100).any(-1).all(), "left half: sure"
    assert (first[6:26, 22:34] == 100).all(), "right half: no pulse"
    assert (last[6:26, 6:18] == 100).all(), "left half: confidence 0"
    assert (last[6:26, 22:34] != 100).any(-1).all(), "right half: sure"
    for image in (first, last):
        outside = np.ones((32, 40), bool)
        outside[4:28, 4:36] = False
        assert (image[outside] == 100).all()


def test_overlay_is_as_opaque_as_it_is_confident():
    rate = np.full((2, 1, 1), 70.0)
    weak, strong = (overlay(rate, np.full((2, 1, 1), c))[0][10, 10].astype(float) for c in (0.3, 0.9))
    np.testing.assert_allclose((strong - 100) / (weak - 100), 3, rtol=0.15)


def test_overlay_of_large_video_is_shrunk_in_proportion():
    image = overlay(np.full((2, 1, 1), 70.0), np.ones((2, 1, 1)), max_width_px=20)[0]
    assert image.shape == (16, 20, 3)


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


def test_figure_is_written_whole_or_not_at_all(tmp_path):
    image, one = np.zeros((32, 40, 3), np.uint8), np.ones((2, 3))
    figure = plots.map_figure(image, 70 * one, one, EXTENT, title="a")
    plots.save_figure(figure, tmp_path / "map.png")
    assert [p.name for p in tmp_path.iterdir()] == ["map.png"]
    with pytest.raises(ValueError, match="format"):
        plots.save_figure(figure, tmp_path / "map.unknown")
    assert [p.name for p in tmp_path.iterdir()] == ["map.png"]
