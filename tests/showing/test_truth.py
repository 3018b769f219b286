"""Reference rates beside a result."""

import numpy as np
import pytest
from helpers.results import make_result

from pulse3d.errors import InputError
from pulse3d.showing import figures, truth
from pulse3d.showing.truth import Truth

# a result of six windows of 10 s around 5 ... 10 s, all with 71 bpm, but for the third
EVERY_S = np.arange(0.0, 16.0)


def compare(tmp_path, time_s, rate_bpm, **options):
    return truth.compare(make_result(tmp_path, **options), Truth(np.asarray(time_s), np.asarray(rate_bpm)))


@pytest.mark.parametrize(
    ("rate", "mae", "within"), [(72.5, 1.5, 5 / 6), (66.5, 4.5, 5 / 6), (65.5, 5.5, 0.0)]
)
def test_errors_are_those_of_answered_windows_and_no_answer_is_a_miss(tmp_path, rate, mae, within):
    said = compare(tmp_path, EVERY_S, np.full(16, rate), gaps=[2])
    assert said["truth_windows"] == 6
    assert said["truth_mae_bpm"] == pytest.approx(mae)
    assert said["truth_within_5bpm"] == pytest.approx(within, abs=1e-4)


def test_the_truth_of_a_window_is_the_mean_in_it(tmp_path):
    # window k holds the times k ... k + 10, whose mean rate is 66 + k + 5
    said = compare(tmp_path, EVERY_S, 66 + EVERY_S)
    assert said["truth_mae_bpm"] == pytest.approx(np.mean(np.arange(6)))


def test_without_a_truth_or_an_answer_there_is_no_error(tmp_path):
    nowhere = compare(tmp_path, [90.0], [70.0])
    assert nowhere == {"truth_windows": 0, "truth_mae_bpm": None, "truth_within_5bpm": None}
    silent = compare(tmp_path, EVERY_S, np.full(16, 70.0), pulse=False)
    assert silent == {"truth_windows": 6, "truth_mae_bpm": None, "truth_within_5bpm": 0.0}


def test_the_truth_is_in_the_figure_and_within_its_axis(tmp_path):
    figure = figures.map_figure(make_result(tmp_path), truth=Truth(EVERY_S, np.full(16, 150.0)))
    [axes] = [axes for axes in figure.axes if axes.get_ylabel() == "pulse rate (bpm)"]
    [line] = [line for line in axes.lines if line.get_label() == "truth"]
    np.testing.assert_array_equal(line.get_xydata(), np.stack([EVERY_S, np.full(16, 150.0)], 1))
    assert axes.get_ylim()[1] > 150


@pytest.mark.parametrize("text", ["", "time,rate\n", "time,rate\na,b\n", "only one column\n1\n"])
def test_a_table_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(InputError, match=r"truth\.csv"):
        truth.read_truth(tmp_path / "truth.csv")
