"""launch.evaluate as a user runs it: tables, resuming, shards, damaged recordings."""

import re
import shutil

import av
import numpy as np
import pytest
from helpers.launching import evaluate, read_csv, run, write_clips
from PIL import Image

from launch import common

pytestmark = pytest.mark.slow


def without_timing(path):
    return [{k: v for k, v in row.items() if k != "seconds_per_minute"} for row in read_csv(path)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def evaluated(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    code, printed, err = evaluate(clips, out, "--methods=green,chrom,pos,pos:tracked,pos_map", "--patch=8")
    assert code == 0, err
    return out, printed


def test_evaluation_writes_everything(evaluated):
    out, printed = evaluated
    assert {p.name for p in out.iterdir()} == {
        "results.csv", "windows.csv", "table.md", "evidence",
        "rate_lab%2F1.png", "rate_b.png", "rate_c.png", "rate_still.png",
        "errors.png", "bland_altman.png", "scatter.png", "reliability.png",
    }  # fmt: skip
    results, windows = read_csv(out / "results.csv"), read_csv(out / "windows.csv")
    assert ",".join(results[0]) == (
        "method,clip,n_windows,answered,mae_bpm,rmse_bpm,within_5bpm,pearson,snr_db,coverage,seconds_per_minute,"
        "mae_beats_bpm,within_5bpm_beats,truth_gap_bpm,"
        "painted,found,found_at_3_percent,roc_area,roc_area_clip,iou"
    )
    assert ",".join(windows[0]) == (
        "method,clip,time_s,truth_bpm,device_bpm,beats_bpm,answer_bpm,low_bpm,high_bpm,confidence,log_odds"
    )
    assert len(results) == 5 * 4
    assert len(windows) == 5 * 4 * 3, "the last frame, at 12.93 s, ends the fourth window early"
    assert (out / "table.md").read_text().strip() in printed
    assert "95 % CI" in printed
    assert re.search(r"\(\d+\.\d to \d", printed) is None, "two recordings have no interval"
    contact = [row for row in results if row["clip"] in ("lab/1", "b")]
    assert all(float(row["mae_beats_bpm"]) < 1 and float(row["truth_gap_bpm"]) < 1 for row in contact)
    assert {row["within_5bpm_beats"] for row in contact} == {"1.0000"}
    assert {row["truth_gap_bpm"] for row in results if row["clip"] in ("c", "still")} == {""}
    assert {row["painted"] for row in results} == {""}, "no clip has a mask"
    for row in results:
        if row["clip"] == "still":
            assert (row["n_windows"], row["mae_bpm"]) == ("3", "")
        else:
            assert float(row["mae_bpm"]) < 1
            assert float(row["within_5bpm"]) == 1
            assert (float(row["snr_db"]) > 5) if row["method"] != "pos_map" else row["snr_db"] == ""
            assert bool(row["coverage"]) == (row["method"] in ("pos:tracked", "pos_map"))
    errors = {
        (row["method"], row["clip"]): abs(float(row["answer_bpm"]) - float(row["truth_bpm"]))
        for row in windows
        if row["clip"] != "still"
    }
    assert max(errors.values()) < 2


def write_lossless(path, frames, *, fps):
    with av.open(str(path), "w") as container:
        track = container.add_stream("ffv1", rate=fps)
        track.height, track.width, track.pix_fmt = *frames.shape[1:3], "bgr0"
        for image in frames:
            container.mux(track.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(track.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos of 72 bpm on their left halves with tables beside them, one of which is wrong, and a mask."""
    root, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    time_s, skin = np.arange(13 * 15) / 15, np.arange(48) < 24
    wave = np.sin(2 * np.pi * 72 / 60 * time_s)[:, None, None, None] * skin[:, None]
    frames = np.array([184, 133, 112]) - 0.25 * wave * np.array([0.3, 1.0, 0.6])  # half of it is found
    frames = frames + rng.normal(0, 2, (len(time_s), 24, 48, 3))
    for name in ("me", "you", "bad"):
        pixels = np.clip(frames.round(), 0, 255).astype(np.uint8)
        write_lossless(root / f"{name}.mkv", pixels, fps=15)
    rows = [f"{t:.3f},{np.sin(2 * np.pi * 72 / 60 * t):.4f}" for t in np.arange(0, 13, 1 / 60)]
    (root / "me.csv").write_text("\n".join(["time_s,ppg", *rows]))
    (root / "you.csv").write_text("rate_bpm\n70\n")
    (root / "bad.csv").write_text("seconds,bpm\n0,70\n")
    mask = np.where(skin, 255, 0).astype(np.uint8) * np.ones((24, 1), np.uint8)
    mask[:, 20:28] = 128
    Image.fromarray(mask).save(root / "me_skin.png")
    return root


def test_a_folder_of_videos_is_scored_and_its_maps_against_masks(videos, tmp_path):
    arguments = ("--methods=pos_map", "--patch=8", "--stride=4")
    code, printed, err = evaluate(videos, tmp_path, *arguments)
    assert code == 1
    assert "skipped bad: " in err
    assert "bad.csv: header 'seconds,bpm'; choose one of time_s,ppg; time_s,rate_bpm; rate_bpm" in err
    me, you = read_csv(tmp_path / "results.csv")
    assert (me["clip"], you["clip"]) == ("me", "you")
    assert float(me["mae_bpm"]) < 2
    assert float(you["mae_bpm"]) == pytest.approx(2, abs=2), "72 where the device says 70"
    assert you["painted"] == ""
    assert 0.3 < float(me["found"]) < 0.8
    assert float(me["painted"]) < 0.1
    assert float(me["roc_area"]) > 0.7
    assert (tmp_path / "map_me.png").exists()
    assert not (tmp_path / "map_you.png").exists()
    assert "Maps against skin masks" in printed
    assert "ranked by the probability of a pulse" in printed
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "evidence").iterdir()}
    code, printed, err = evaluate(videos, tmp_path, *arguments, "--place_score=confidence", "--recordings=me")
    assert code == 0, err
    assert made == {p: p.stat().st_mtime_ns for p in (tmp_path / "evidence").iterdir()}, "at no cost"
    (again,) = read_csv(tmp_path / "results.csv")
    changed = {name for name in me if me[name] != again[name]}
    assert "roc_area" in changed
    assert changed <= {"found_at_3_percent", "roc_area", "roc_area_clip", "iou"}
    assert "ranked by confidence" in printed


def test_a_mask_of_another_size_is_named_before_anything_is_computed(videos, tmp_path):
    root = shutil.copytree(videos, tmp_path / "videos")
    Image.new("L", (20, 10)).save(root / "me_skin.png")
    code, _, err = evaluate(root, tmp_path / "out", "--methods=pos_map", "--recordings=me")
    assert code == 2
    assert "skipped me: (pos_map) skin mask of 20x10 px for frames of 48x24 px; scale it" in err


def test_the_map_of_the_demo_scene_is_scored(tmp_path):
    code, printed, err = run("evaluate", "--dataset=demo", f"--out={tmp_path}", "--methods=pos_map")
    assert code == 0, err
    (row,) = read_csv(tmp_path / "results.csv")
    assert (row["clip"], row["n_windows"], row["mae_bpm"]) == ("demo", "0", "")
    assert float(row["painted"]) < 0.1
    assert float(row["found"]) > 0.95, "each ellipse at its own rate"
    assert float(row["roc_area"]) > 0.95
    assert {p.name for p in tmp_path.glob("*.png")} == {"map_demo.png", "rate_demo.png"}
    assert printed.startswith("MAE"), "there is no table of rates"


def test_windows_with_a_pulse_are_told_from_a_pulseless_set(videos, tmp_path):
    arguments = (
        "--methods=pos,pos_map:median",
        "--patch=8",
        "--recordings=me",
        "--roi=skin",
        "--pulseless=1",
    )
    code, printed, err = evaluate(videos, tmp_path, *arguments)
    assert code == 0, err
    rows = {(row["method"], row["clip"]): row for row in read_csv(tmp_path / "results.csv")}
    kinds = ["still", "moving camera", "flicker", "black", "saturated"]
    names = {f"{kind}{coded}/1" for kind in kinds for coded in ("", " x264")} | {"photograph/me"}
    assert {clip for _, clip in rows} == names | {"me"}, "its walls are too narrow"
    assert {(row["n_windows"], row["mae_bpm"]) for (_, clip), row in rows.items() if clip != "me"} == {
        ("6", "")
    }
    table = printed[printed.index("Whether there is a pulse") :].splitlines()
    found = {row[1]: row[2:-1] for row in ([cell.strip() for cell in line.split("|")] for line in table[4:6])}
    assert set(found) == {"pos", "pos_map:median"}
    for method, (area, *shares) in found.items():
        assert 0 <= float(area) <= 1
        at_1_percent, at_5_percent, answered, made_up = map(float, shares)
        assert 0 <= at_1_percent <= at_5_percent <= 100
        assert answered == 100
        windows = [int(rows[method, name]["answered"]) for name in names]
        assert made_up == pytest.approx(100 * sum(windows) / (6 * len(names)), abs=0.05)
    assert float(found["pos_map:median"][0]) > 0.7
    assert "| still " in printed
    assert "6 of 6" in printed
    assert printed.index("| recording") < printed.index("Whether there is a pulse")
    assert "photograph/me" not in printed, "the set has tables of its own"
    assert {p.name for p in tmp_path.glob("*.png")} == {
        "rate_me.png", "map_me.png", "errors.png", "bland_altman.png", "scatter.png", "detection.png",
    }  # fmt: skip
    code, _, err = evaluate(videos, tmp_path / "toolbox", "--pulseless=1", "--protocol=toolbox")
    assert code == 2
    assert "--pulseless: --protocol=toolbox answers always" in err


def test_recordings_of_which_nothing_was_answered_are_named(tmp_path):
    root = write_clips(tmp_path / "clips", names=("a", "b", "still"))
    frames = np.load(root / "b.npy")
    np.save(root / "b.npy", np.full_like(frames, 100))
    code, printed, err = evaluate(root, tmp_path / "out", "--methods=green,pos")
    assert code == 0, err
    assert "Recordings with a pulse of which nothing was answered: green: b; pos: b\n" in printed
    assert "No face found, the skin of the whole frame taken instead: a, b, still\n" in printed


def test_evaluation_resumes_and_makes_other_read_outs_at_no_cost(clips, evaluated, tmp_path):
    shutil.copytree(evaluated[0] / "evidence", tmp_path / "evidence")
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "evidence").iterdir()}
    assert len(made) == 4 * 4, "green, chrom, pos, pos_map; four clips"
    damaged = tmp_path / "evidence" / "pos,b.npz"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    code, _, err = evaluate(
        clips, tmp_path, "--methods=pos:posterior,pos_map:eq8,pos_map", "--patch=8", "--stride=4"
    )
    assert code == 0, err
    changed = {p.name for p, time_ns in made.items() if p.stat().st_mtime_ns != time_ns}
    names = ("lab%2F1", "b", "c", "still")
    assert changed == {"pos,b.npz", *(f"pos_map,{name}.npz" for name in names)}, "another stride"
    assert {row["method"] for row in read_csv(tmp_path / "results.csv")} == {
        "pos:posterior", "pos_map:eq8", "pos_map",
    }  # fmt: skip


def test_shards_come_together(clips, evaluated, tmp_path):
    arguments = ("--methods=green,chrom,pos,pos:tracked,pos_map", "--patch=8")
    code, printed, err = evaluate(clips, tmp_path, *arguments, "--shard=0/2")
    assert code == 0, err
    assert "2 of 4 recordings missing or not complete: b, still" in printed
    assert {row["clip"] for row in read_csv(tmp_path / "results.csv")} == {"lab/1", "c"}
    assert not list(tmp_path.glob("*.png")), "figures are drawn of the whole"
    code, printed, err = evaluate(clips, tmp_path, *arguments, "--shard=1/2")
    assert code == 0, err
    assert "missing" not in printed
    assert without_timing(tmp_path / "results.csv") == without_timing(evaluated[0] / "results.csv")
    assert read_csv(tmp_path / "windows.csv") == read_csv(evaluated[0] / "windows.csv")
    assert (tmp_path / "errors.png").exists()


@pytest.mark.parametrize(
    ("shard", "environment", "expected"),
    [
        (None, {}, (0, 1)),
        (None, {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, (3, 4)),
        ("1/2", {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, (1, 2)),
    ],
)
def test_shard_of_a_process(shard, environment, expected):
    assert common.parse_shard(shard, environment) == expected


def test_damaged_recordings_are_named_and_skipped(tmp_path):
    root = write_clips(tmp_path / "clips", names=("a", "b", "d", "e"))
    (root / "b_ppg.csv").write_text("t_s,ppg\n0,x\n")
    (root / "d.npy").unlink()
    np.savetxt(root / "e_timestamps.txt", np.arange(20) / 15)
    code, printed, err = evaluate(root, tmp_path / "out", "--methods=pos,chrom")
    assert code == 1
    skipped = [line for line in err.splitlines() if line.startswith("skipped")]
    assert [line.split(":")[0] for line in skipped] == ["skipped b", "skipped d", "skipped e"]
    assert "Traceback" not in err
    assert "3 of 4 recordings missing" in printed
    assert {row["clip"] for row in read_csv(tmp_path / "out" / "results.csv")} == {"a"}
    code, _, err = evaluate(root, tmp_path / "none", "--methods=pos", "--recordings=b,d")
    assert code == 2
    assert "no recording could be scored" in err


def test_toolbox_protocol_answers_once_per_recording(clips, tmp_path):
    code, _, err = evaluate(
        clips, tmp_path, "--protocol=toolbox", "--methods=chrom,pos_map:median", "--patch=8"
    )
    assert code == 0, err
    rows = read_csv(tmp_path / "windows.csv")
    assert [(row["method"], row["clip"]) for row in rows[:2]] == [
        ("chrom", "lab/1"),
        ("pos_map:median", "lab/1"),
    ]
    assert len(rows) == 2 * 4
    width = 60 * 30 / 512
    assert float(rows[0]["truth_bpm"]) == pytest.approx(round(66 / width) * width, abs=1e-3)
    assert rows[0]["answer_bpm"] == rows[0]["truth_bpm"]
    assert float(rows[1]["answer_bpm"]) == pytest.approx(66, abs=1)
    assert not list(tmp_path.glob("*.png"))
    code, _, err = evaluate(clips, tmp_path, "--protocol=toolbox", "--methods=chrom:tracked")
    assert code == 2
    assert "no read-out" in err
