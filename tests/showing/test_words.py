from dataclasses import replace
from pathlib import Path

import pytest
from helpers.results import make_result

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
            [
                "note: the light, or the camera's exposure, changes in 3 of 9 windows; there, a rate counts"
                " only if it is in a part of the frame, not all over it"
            ],
        ),
        ({"notes": ["a"], "lost": ["b"]}, ["note: a", "warning: b"]),
        (
            {"windows_without_enough_video": 2},
            ["warning: 2 windows have no pulse because frames are missing"],
        ),
        ({"windows_with_pulse": 0}, [words.ADVICE]),
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
    errors = {"truth_windows": 8, "truth_mae_bpm": 1.46, "truth_within_5bpm": 0.875}
    against = words.of_summary(SAID | errors, Path("out")).splitlines()
    assert against[2] == "against the truth, in 8 windows: 1.5 bpm off on average, 88% of them within 5 bpm"
    none = words.of_summary(SAID | {"windows_with_pulse": 0, "regions": 0}, Path("out")).splitlines()
    assert none[0] == "pulse rate, median over windows: no pulse found"


def test_a_page_without_a_pulse_says_why_and_what_helps(tmp_path):
    found = make_result(tmp_path, pulse=False)
    said = words.in_sentences(replace(found, summary=found.summary | {"windows_of_unsteady_light": 6}))
    assert said[0] == "No pulse was found in any of 6 windows of 10 s."
    assert [line[:16] for line in said[1:]] == ["Note: the light,", "What helps: stea"]
    table = dict(words.of_table(found.summary))
    assert table["pulse rate, median over windows"] == "none"
    assert not [name for name in table if "equation 8" in name]


def test_a_table_has_every_value_in_words(tmp_path):
    table = dict(words.of_table(make_result(tmp_path).summary))
    assert table["pulse rate, median over windows"] == "71.0 bpm (90 % interval 66 to 77, confidence 0.70)"
    assert table["windows"] == "10 s, one every 1 s"
    assert table["the same by the paper's equation 8"] == "72.5 bpm"
    assert table["frame with a pulse"] == "100.0%"
