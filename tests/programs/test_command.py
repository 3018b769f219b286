"""The command `pulse3d`: programs by name, several videos at once, help."""

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.inputs import encode
from helpers.launching import ROOT, read_csv, run

from launch import command
from pulse3d import settings
from pulse3d.config import PRESETS, get_preset

SPACES = 'my video.npy: has spaces in its name; put it into quotes: "my video.npy"'
SMALL = ("--weights=paper", "--stride=8")


def write_video(path, rate_bpm, *, seconds=4, fps=30):
    """A grey picture one half of which pulsates."""
    time_s = np.arange(seconds * fps) / fps
    frames = np.full((len(time_s), 32, 48, 3), 120.0)
    frames[:, :, :24] += 8 * np.sin(2 * np.pi * rate_bpm / 60 * time_s)[:, None, None, None]
    encode(path, frames.round().astype(np.uint8), times_s=time_s, codec="libx264")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of two videos and a note."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", 72)
    write_video(folder / "b.mp4", 96)
    (folder / "note.txt").write_text("of Tuesday")
    return folder


def test_the_module_is_the_command():
    said = subprocess.run([sys.executable, "-m", "pulse3d"], cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout.strip()) == (0, command.__doc__.strip())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["predct"], "predct: no such program, file or folder (did you mean predict?)"),
        (["my", "video.npy"], SPACES),
        (
            ["on.mp4", "my", "video.npy"],
            'my video.npy: has spaces in its name; put it into quotes: "my video.npy"',
        ),
        (["nothing"], "nothing: no such file or folder"),
    ],
)
def test_a_slip_of_the_hand_is_named(tmp_path, given, said):
    np.save(tmp_path / "my video.npy", np.zeros((9, 8, 8), np.uint8))
    code, out, err = run("command", *given, cwd=tmp_path)
    assert (code, out, err.strip()) == (2, "", f"error: {said}")
    assert [path.name for path in tmp_path.iterdir()] == ["my video.npy"]


@pytest.mark.parametrize("name", command.PROGRAMS)
def test_every_program_has_its_help(name):
    code, out, _ = run("command", name, "--help")
    module = (ROOT / "launch" / f"{name}.py").read_text()
    assert code == 0
    assert out.splitlines()[0] in module
    assert f"launch.{name}" in out or f"pulse3d {name}" in out


def test_the_list_of_settings_is_what_can_be_set():
    code, out, _ = run("command", "--list-settings")
    head, *rows = (line.split() for line in out.splitlines())
    assert (code, head) == (0, ["setting", *PRESETS])
    assert len(rows) > 80
    listed = {name for name, *_ in rows}
    for preset in PRESETS:
        groups = {k: v for k, v in settings.to_dict(get_preset(preset)).items() if isinstance(v, dict)}
        assert {f"{group}.{name}" for group, inner in groups.items() for name in inner} <= listed
    assert ["clip.fps", "30", "15"] in rows


@pytest.mark.slow
def test_one_video_by_its_name_and_again(videos, tmp_path):
    for expected in ("a", "a-2"):
        code, out, _ = run("command", videos / "a.mp4", *SMALL, cwd=tmp_path)
        assert code == 0
        assert f"written to pulse3d_out/{expected}:" in out
        assert ("pulse3d_out/a holds earlier results; these go to pulse3d_out/a-2" in out) == (
            expected == "a-2"
        )
    code, out, _ = run("command", videos / "a.mp4", *SMALL, "--overwrite", cwd=tmp_path)
    assert (code, "written to pulse3d_out/a:" in out) == (0, True)
    assert {path.name for path in (tmp_path / "pulse3d_out").iterdir()} == {"a", "a-2"}


@pytest.mark.slow
def test_videos_of_one_name_do_not_replace_each_other_and_one_of_a_folder_is_one_of_several(videos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write_video(other / "a.mp4", 96)
    for _ in range(2):
        code, _, _ = run("command", videos / "a.mp4", other, *SMALL, "--overwrite", "--out=all", cwd=tmp_path)
        assert code == 0
        rows = read_csv(tmp_path / "all" / "summary.csv")
        assert [(row["video"], row["out"]) for row in rows] == [
            (str(videos / "a.mp4"), "all/a"), (str(other / "a.mp4"), "all/a-2"),
        ]  # fmt: skip
        for row in rows:
            summary = json.loads((tmp_path / row["out"] / "summary.json").read_text())
            assert summary["video"] == row["video"]
    code, _, _ = run("command", other, *SMALL, "--out=one", cwd=tmp_path)
    assert code == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"a", "summary.csv"}


@pytest.mark.long
def test_the_demo_does_not_replace_a_video_of_that_name(videos, tmp_path):
    (tmp_path / "demo.mp4").write_bytes((videos / "a.mp4").read_bytes())
    assert run("command", "demo.mp4", *SMALL, cwd=tmp_path)[0] == 0
    folder = tmp_path / "pulse3d_out"
    mine = (folder / "demo" / "map.npz").read_bytes()
    for _ in range(2):
        assert run("predict", "--weights=paper", cwd=tmp_path)[0] == 0
        assert {path.name for path in folder.iterdir()} == {"demo", "demo-2"}
    assert (folder / "demo" / "map.npz").read_bytes() == mine


@pytest.mark.slow
def test_a_name_that_is_no_text_does_not_stop_the_others(videos, tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).write_bytes((videos / "a.mp4").read_bytes())
    code, _, err = run("command", tmp_path, videos / "b.mp4", *SMALL, "--out=all", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert [row["error"] for row in read_csv(tmp_path / "all" / "summary.csv")] == ["", ""]


@pytest.mark.slow
def test_several_videos_share_a_table_and_a_bad_one_does_not_stop_the_others(videos, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    code, out, err = run("command", "bad.mp4", videos, "bad.mp4", *SMALL, "--out=all", cwd=tmp_path)
    assert code == 2
    assert "note: a video that is given twice is mapped once" in err
    assert "1 of 3 videos could not be mapped; all/summary.csv says why" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert "2 of 3 videos" in out.splitlines()[-1]
    bad, first, second = read_csv(tmp_path / "all" / "summary.csv")
    assert (bad["video"], bad["out"], bad["windows"]) == ("bad.mp4", "", "")
    assert "bad.mp4" in bad["error"]
    for row, name in ((first, "a"), (second, "b")):
        assert (row["video"], row["out"], row["error"]) == (str(videos / f"{name}.mp4"), f"all/{name}", "")
        summary = json.loads((tmp_path / "all" / name / "summary.json").read_text())
        assert row["windows"] == str(summary["windows"])
        assert row["pulse_rate_median_bpm"] == str(summary["pulse_rate_median_bpm"] or "")
    table = (tmp_path / "all" / "summary.csv").read_bytes()
    code, out, err = run("command", videos, *SMALL, "--out=all", cwd=tmp_path)
    assert (code, "written to all/summary-2.csv: 2 of 2" in out) == (0, True)
    assert (tmp_path / "all" / "summary.csv").read_bytes() == table


@pytest.mark.slow
def test_every_video_of_several_is_a_line_of_json(videos, tmp_path):
    code, out, _ = run("predict", videos, *SMALL, "--json", f"--out={tmp_path}")
    assert code == 0
    assert [json.loads(line)["video"] for line in out.splitlines()] == [
        str(videos / f"{name}.mp4") for name in "ab"
    ]


def test_what_several_videos_cannot_have_is_refused(videos):
    code, _, err = run("predict", videos, "--truth=truth.csv")
    assert (code, "--truth=truth.csv: is of one video" in err) == (2, True)
    code, _, err = run("predict", videos / "a.mp4", f"--video={videos / 'b.mp4'}")
    assert (code, "give the videos without --video" in err) == (2, True)


def test_a_launcher_without_inputs_refuses_them():
    code, _, err = run("command", "train", "me.mp4", "--workdir=x")
    assert (code, err.strip()) == (
        2, "error: me.mp4: unexpected; every option is a flag, like --name=value (see --help)",
    )  # fmt: skip


def test_live_is_the_first_camera(monkeypatch):
    asked = []
    monkeypatch.setattr(sys, "argv", ["pulse3d", "live", "--quiet"])
    monkeypatch.setattr(command.common, "run", lambda main: asked.append((main.__module__, sys.argv[1:])))
    module = type(sys)("launch.predict")
    module.main = lambda: None
    module.main.__module__ = "launch.predict"
    monkeypatch.setattr(importlib, "import_module", {"launch.predict": module}.__getitem__)
    command.main()
    monkeypatch.setattr(sys, "argv", ["pulse3d", "live", "1"])
    command.main()
    assert [arguments for _, arguments in asked] == [["--video=<video0>", "--quiet"], ["--video=<video1>"]]
