from pathlib import Path

import pytest

from pulse3d.showing import words

SAID = {
    "windows": 9, "windows_with_pulse": 9, "pulse_rate_median_bpm": 65.04, "pulse_rate_low_median_bpm": 61.0,
    "pulse_rate_high_median_bpm": 69.0, "confidence_median": 0.9, "interval": 0.9,
    "share_of_frame_with_pulse": 0.081, "seconds": 3.2, "files": ["rates.csv"], "live": False, "regions": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"windows_of_unsteady_light": 0}, []),
        (
            {"windows_of_unsteady_light": 3},
            ["note: the light changes in 3 of 9 windows; what most of the frame shows there is no pulse"],
        ),
        ({"notes": ["a"], "lost": ["b"]}, ["note: a", "warning: b"]),
        (
            {"windows_without_enough_video": 2},
            ["warning: 2 windows have no pulse because frames are missing"],
        ),
    ],
)
def test_what_to_know_about_a_result_is_a_line_each(changed, expected):
    assert words.warnings(SAID | changed) == expected


def test_a_summary_says_the_rate_and_where_to_look():
    first, *rest = words.of_summary(SAID, Path("out")).splitlines()
    assert first == "pulse rate, median over windows: 65.0 bpm (90 % interval 61 to 69, confidence 0.90)"
    assert rest == ["9 of 9 windows with a pulse, in 8% of the frame; 3.2 s", "written to out: rates.csv"]
    several = words.of_summary(SAID | {"regions": 3, "files": ["report.html"]}, Path("out")).splitlines()
    assert several[1] == "3 regions have rates of their own: see regions.csv"
    assert several[-1] == f"to look at it, open {Path('out') / 'report.html'}"
    none = words.of_summary(SAID | {"windows_with_pulse": 0, "regions": 0}, Path("out")).splitlines()
    assert none[0] == "pulse rate, median over windows: no pulse found"
