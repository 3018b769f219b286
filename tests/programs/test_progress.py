"""Programs say how far they are: a bar on a terminal, lines elsewhere."""

import contextlib
import io
import re
import time

import numpy as np
import pytest
from helpers.browsing import wait
from helpers.launching import TOY, run, write_clips

from launch import common


@contextlib.contextmanager
def listening(*, terminal=False):
    """Standard error, with a line every 0.02 s."""
    err = io.StringIO()
    err.isatty = lambda: terminal
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stderr(err):
        patched.setattr(common, "LINE_S", 0.02)
        yield err


def test_a_line_says_what_is_done():
    with listening() as err:
        with common.progress("mapping", 5, "window") as bar:
            bar.update(3)
            wait(lambda: "mapping: window 3 of 5, 0 s\n" in err.getvalue())
            bar.set_postfix_str("me.mp4")
            wait(lambda: "mapping: window 3 of 5, 0 s, me.mp4\n" in err.getvalue())
        said = err.getvalue()
        with common.progress("other"):
            wait(lambda: "other: 0 s\n" in err.getvalue())
    assert "mapping" not in err.getvalue().removeprefix(said), "it is over"


@pytest.mark.parametrize(("of", "line"), [((), "making: 0 s"), ((0, "frame"), "making: frame 0, 0 s")])
def test_what_has_no_parts_or_no_end(of, line):
    with listening() as err, common.progress("making", *of):
        wait(lambda: line in err.getvalue().splitlines())


def test_a_terminal_has_a_bar_and_no_lines():
    with listening(terminal=True) as err, common.progress("mapping", 4, "window") as bar:
        bar.update(3)
        bar.refresh()
        time.sleep(0.1)
    assert "mapping:  75%" in err.getvalue()
    assert "window 3" not in err.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_said_when_it_is_hidden(terminal):
    with listening(terminal=terminal) as err, common.progress("mapping", 4, "window", hidden=True) as bar:
        bar.update(3)
        time.sleep(0.1)
    assert err.getvalue() == ""


CLIPS = ["--dataset=clips", "--root=clips"]
VIDEO = ["clip.npy", "--fps=30", "--weights=paper", "--stride=8", "--out=out"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("predict", VIDEO, ["mapping: window", "overlay: frame"]),
        ("predict", [*VIDEO, "--quiet"], []),
        ("predict", [*VIDEO, "--json"], []),
        ("synthesize", [*TOY[:9], "--out=out", "--clips=4"], ["making clips:"]),
        ("evaluate", [*CLIPS, "--out=out", "--methods=pos"], ["evaluating: evidence"]),
    ],
)  # fmt: skip
def test_programs_say_how_far_they_are(module, arguments, words, tmp_path):
    write_clips(tmp_path / "clips", names=("b",))
    frames = np.random.default_rng(0).integers(0, 255, (75, 32, 48, 3))
    np.save(tmp_path / "clip.npy", frames.astype(np.uint8))
    code, _, err = run(module, *arguments, cwd=tmp_path, line_s=0.001)
    assert code == 0, err
    assert all(re.search(rf"^{word} \d", err, re.MULTILINE) for word in words), err
    assert words or err == "", "it was asked to be quiet"
