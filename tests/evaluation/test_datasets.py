from __future__ import annotations

import json
import re
import sys

import av
import h5py
import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from pulse3d import config
from pulse3d.errors import InputError
from pulse3d.evaluation import contact, datasets, metrics, own_videos

START_NS = 1392643993642815123


def pulse(time_s, rate_bpm=72.0):
    return np.sin(2 * np.pi * rate_bpm / 60 * np.asarray(time_s))


def make_video(path, *, frames=60, fps=30):
    """A small video whose frames grow brighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=fps)
        stream.height, stream.width, stream.pix_fmt = 16, 24, "yuvj420p"
        for index in range(frames):
            image = np.full((16, 24, 3), 40 + 2 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def make_ubfc1(root, name="after-exercise"):
    folder = root / name
    folder.mkdir(parents=True)
    make_video(folder / "vid.avi")
    rows = [f"{16 * i},{1 if i < 3 else 72},98,{pulse(0.016 * i):.6f}" for i in range(125)]
    (folder / "gtdump.xmp").write_text("\n".join(rows) + "\n")
    return folder


def make_ubfc2(root, name="subject1", *, start_s=0.0, frames=60):
    folder = root / name
    folder.mkdir(parents=True)
    make_video(folder / "vid.avi")
    time_s = np.arange(frames) / 30
    rate = np.full(frames, 72.0)
    rate[[4, 5]] = 1, 7
    lines = ("   ".join(f"{v: .7e}" for v in row) for row in (pulse(time_s), rate, start_s + time_s))
    (folder / "ground_truth.txt").write_text("\n".join(lines))
    return folder


def make_pure(root, name="01-01", *, beside=False, images=6):
    """Images every 1/30 s, but the fourth late by 20 ms; the pulse starts 0.5 s before them."""
    folder = root / name
    (folder if beside else folder / name).mkdir(parents=True)
    stamps = START_NS + np.arange(images) * 33_333_333
    stamps[3] += 20_000_000
    for index, stamp in enumerate(stamps.tolist()):
        image = np.full((8, 10, 3), 10 * index, np.uint8)
        iio.imwrite((folder if beside else folder / name) / f"Image{stamp}.png", image)
    packages = [
        {
            "Timestamp": START_NS - 500_000_000 + i * 16_666_667,
            "Value": {
                "waveform": i % 50,
                "pulseRate": 0 if i == 2 else 72,
                "o2saturation": 98,
                "signalStrength": 5,
            },
        }
        for i in range(60)
    ]
    record = {
        "/FullPackage": packages,
        "/Image": [{"Timestamp": stamp, "Source": "cam"} for stamp in stamps.tolist()],
    }
    (folder / f"{name}.json").write_text(json.dumps(record))
    return folder


def make_cohface(root, name="1/0"):
    folder = root / name
    folder.mkdir(parents=True)
    make_video(folder / "data.avi", frames=40, fps=20)
    time_s = np.arange(512) / 256
    with h5py.File(folder / "data.hdf5", "w") as file:
        file["time"], file["pulse"] = time_s, pulse(time_s)
    return folder


def make_clips(root):
    root.mkdir(exist_ok=True)
    make_video(root / "face.avi")
    rows = [f"{i / 30:.4f},{pulse(i / 30):.5f}" for i in range(60)]
    (root / "face_ppg.csv").write_text("t_s,ppg\n" + "\n".join(rows) + "\n")
    np.save(root / "cells.npy", np.full((4, 2, 2, 3), (150, 110, 150), np.uint8))
    (root / "cells_timestamps.txt").write_text("0.0\n3.2e-02\n7.0e-02\n9.6e-02\n")
    make_video(root / "wrist.avi")
    make_video(root / "wall.avi")
    manifest = [
        {"name": "face", "file": "face.avi", "truth_kind": "ppg"},
        {"name": "cells", "file": "cells.npy", "truth_kind": "ppg", "note": "uint8 YUV cells"},
        {"name": "wrist", "file": "wrist.avi", "truth_kind": "consensus", "hr_consensus": 55.1},
        {"name": "wall", "file": "wall.avi", "truth_kind": "no measurable pulse"},
        {"name": "finger", "file": "wall.avi", "truth_kind": "device", "rate_bpm": 63, "skin_mask": "m.png"},
    ]
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


def read(recording):
    return recording.open_video(), recording.reference()


def stamps(source):
    return [frame.time_s for frame in source.frames()]


def test_ubfc1(tmp_path):
    make_ubfc1(tmp_path)
    (tmp_path / "notes").mkdir()
    (recording,) = datasets.find_recordings("ubfc1", tmp_path)
    assert (recording.name, recording.dataset, recording.truth) == ("after-exercise", "ubfc1", "ppg")
    np.testing.assert_allclose(stamps(recording.open_video()), np.arange(60) / 30, atol=1e-3)
    reference = recording.reference()
    np.testing.assert_allclose(reference.time_s, 0.016 * np.arange(125))
    np.testing.assert_allclose(reference.pulse, pulse(reference.time_s), atol=1e-6)
    np.testing.assert_array_equal(reference.rate_bpm, [np.nan] * 3 + [72] * 122)


@pytest.mark.parametrize("start_s", [0.0, 3.7])
def test_ubfc2_aligns_by_index_however_late_its_clock_starts(tmp_path, start_s):
    make_ubfc2(tmp_path, start_s=start_s)
    (recording,) = datasets.find_recordings("ubfc2", tmp_path)
    reference = recording.reference()
    np.testing.assert_allclose(reference.time_s, stamps(recording.open_video()), atol=1e-3)
    np.testing.assert_allclose(reference.pulse, pulse(reference.time_s), atol=1e-6)


def test_device_drop_outs_are_masked(tmp_path):
    make_ubfc2(tmp_path)
    rate = datasets.find_recordings("ubfc2", tmp_path)[0].reference().rate_bpm
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(rate)), [4, 5])
    np.testing.assert_array_equal(rate[~np.isnan(rate)], 72)


def test_ubfc2_needs_a_value_per_frame(tmp_path):
    make_ubfc2(tmp_path, frames=100)
    (recording,) = datasets.find_recordings("ubfc2", tmp_path)
    with pytest.raises(InputError, match="100 values for 60 frames"):
        recording.reference()


@pytest.mark.parametrize("beside", [False, True])
def test_pure_images_and_pulse_share_a_clock(tmp_path, beside):
    make_pure(tmp_path, beside=beside)
    (recording,) = datasets.find_recordings("pure", tmp_path)
    source, reference = recording.open_video(), recording.reference()
    expected = np.arange(6) / 30 + [0, 0, 0, 0.02, 0, 0]
    np.testing.assert_allclose(stamps(source), expected, atol=1e-8)
    assert [frame.image[0, 0, 0] for frame in source.frames()] == [0, 10, 20, 30, 40, 50]
    assert source.fps == pytest.approx(30)
    np.testing.assert_allclose(reference.time_s, np.arange(60) / 60 - 0.5, atol=1e-7)
    np.testing.assert_array_equal(reference.pulse, np.arange(60) % 50)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(reference.rate_bpm)), [2])


def test_pure_with_an_image_missing_is_no_recording(tmp_path):
    folder = make_pure(tmp_path)
    next((folder / folder.name).iterdir()).unlink()
    (recording,) = datasets.find_recordings("pure", tmp_path)
    with pytest.raises(InputError, match=r"01-01: fewer frames than time stamps \(6\)"):
        stamps(recording.open_video())


def test_cohface_pulse_is_faster_than_its_video(tmp_path):
    make_cohface(tmp_path, "1/0")
    make_cohface(tmp_path, "12/3")
    (tmp_path / "protocols" / "all").mkdir(parents=True)
    recordings = datasets.find_recordings("cohface", tmp_path)
    assert [recording.name for recording in recordings] == ["1/0", "12/3"]
    reference = recordings[0].reference()
    np.testing.assert_allclose(reference.time_s, np.arange(512) / 256)
    np.testing.assert_allclose(reference.pulse, pulse(reference.time_s))
    assert np.isnan(reference.rate_bpm).all()
    np.testing.assert_allclose(stamps(recordings[0].open_video()), np.arange(40) / 20, atol=1e-3)


def test_without_h5py_cohface_says_what_to_install(tmp_path, monkeypatch):
    make_cohface(tmp_path)
    (recording,) = datasets.find_recordings("cohface", tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install h5py"):
        recording.reference()


def test_clips_of_every_kind_of_truth(tmp_path):
    make_clips(tmp_path)
    face, cells, wrist, wall, finger = datasets.find_recordings("clips", tmp_path)
    assert [r.truth for r in (face, cells, wrist, wall, finger)] == [
        "ppg",
        "ppg",
        "consensus",
        "no measurable pulse",
        "device",
    ]
    assert (finger.rate_bpm, finger.reference()) == (63, None)
    np.testing.assert_allclose(face.reference().pulse, pulse(np.arange(60) / 30), atol=1e-3)
    np.testing.assert_allclose(stamps(face.open_video()), np.arange(60) / 30, atol=1e-3)
    assert (wrist.rate_bpm, wrist.reference()) == (55.1, None)
    assert wall.reference() is None
    assert np.isnan(wall.rate_bpm)


def test_arrays_take_their_time_stamps_and_become_rgb(tmp_path):
    make_clips(tmp_path)
    source = datasets.find_recordings("clips", tmp_path)[1].open_video()
    frames = list(source.frames())
    np.testing.assert_allclose([frame.time_s for frame in frames], [0, 0.032, 0.07, 0.096])
    assert source.fps == pytest.approx(3 / 0.096)
    red = (150 + 1.402 * 22) / 255
    assert frames[0].image[0, 0, 0] == pytest.approx(red, abs=1e-6)
    (tmp_path / "cells_timestamps.txt").unlink()
    with pytest.raises(InputError, match=r"cells\.npy: has no time stamps; add cells_timestamps\.txt"):
        datasets.find_recordings("clips", tmp_path)[1].open_video()


@pytest.mark.parametrize(
    ("yuv", "rgb"),
    [
        ((0, 128, 128), (0, 0, 0)),
        ((255, 128, 128), (255, 255, 255)),
        ((76, 85, 255), (254, 0, 0)),
        ((150, 44, 21), (0, 255, 1)),
        ((29, 255, 107), (0, 0, 254)),
    ],
)
def test_yuv_of_the_primaries(yuv, rgb):
    image = own_videos.rgb_from_yuv(np.full((2, 3, 3), yuv, np.uint8))
    np.testing.assert_allclose(255 * image, np.broadcast_to(rgb, (2, 3, 3)), atol=1)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path):
    path.write_bytes(b"\xff\xfe nothing that can be read")


def delete(path):
    path.unlink()


@pytest.mark.parametrize(
    ("dataset", "make", "file", "damage", "message"),
    [
        ("ubfc1", make_ubfc1, "gtdump.xmp", delete, "missing; copy the recording again"),
        ("ubfc1", make_ubfc1, "gtdump.xmp", scramble, "not a table of numbers"),
        ("ubfc1", make_ubfc1, "vid.avi", delete, "missing"),
        ("ubfc2", make_ubfc2, "ground_truth.txt", delete, "missing"),
        ("ubfc2", make_ubfc2, "ground_truth.txt", truncate, "not a table of numbers"),
        ("ubfc2", make_ubfc2, "vid.avi", scramble, "not a readable video"),
        ("pure", make_pure, "01-01.json", delete, "missing"),
        ("pure", make_pure, "01-01.json", truncate, "not JSON with PURE's"),
        ("cohface", make_cohface, "data.hdf5", delete, "missing"),
        ("cohface", make_cohface, "data.hdf5", truncate, "not an HDF5 file with `pulse` and `time`"),
        ("cohface", make_cohface, "data.avi", delete, "missing"),
    ],
)
def test_a_damaged_recording_is_named_when_opened_and_the_next_is_read(
    tmp_path, dataset, make, file, damage, message
):
    names = {"cohface": ("1/0", "2/0"), "pure": ("01-01", "01-02")}.get(dataset, ("subject1", "subject2"))
    folder = make(tmp_path, names[0])
    make(tmp_path, names[1])
    damage(folder / file)
    damaged, whole = datasets.find_recordings(dataset, tmp_path)
    with pytest.raises(InputError, match=message) as error:
        read(damaged)
    assert str(folder / file) in str(error.value)
    assert "\n" not in str(error.value)
    assert stamps(whole.open_video())
    assert len(whole.reference().pulse)


def test_a_reference_that_is_no_measurement_is_refused(tmp_path):
    folder = make_ubfc1(tmp_path)
    (recording,) = datasets.find_recordings("ubfc1", tmp_path)
    for rows, message in (
        ("0,72,98,0\n16,72,98,nan", "broken"),
        ("0,72,98,1", "no pulse"),
        ("16,72,98,1\n0,72,98,2", "clock runs backwards"),
        ("0,72,1\n16,72,2", "expected 4 columns"),
        ("", "expected 4 columns"),
    ):
        (folder / "gtdump.xmp").write_text(rows)
        with pytest.raises(InputError, match=message):
            recording.reference()


@pytest.mark.parametrize(
    "manifest",
    ["{", "{}", '[{"name": "a"}]', '["a"]', '[{"name": "a", "file": "a.avi", "truth_kind": "oracle"}]'],
)
def test_a_damaged_manifest_is_refused(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=r"manifest\.json") as error:
        datasets.find_recordings("clips", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"truth_kind": "oracle"}, "truth_kind 'oracle'; choose ppg, consensus, device, no measurable pulse"),
        ({"truth_kind": "device"}, "device needs rate_bpm, 30 to 240 bpm"),
        ({"truth_kind": "device", "rate_bpm": "63"}, "device needs rate_bpm"),
        ({"truth_kind": "device", "rate_bpm": 7}, "device needs rate_bpm"),
        ({"truth_kind": "consensus", "rate_bpm": 63}, "consensus needs hr_consensus"),
    ],
)
def test_a_wrong_entry_is_named_with_what_is_legal(tmp_path, entry, message):
    first = {"name": "a", "file": "a.avi", "truth_kind": "ppg"}
    (tmp_path / "manifest.json").write_text(json.dumps([first, {"name": "b", "file": "b.avi"} | entry]))
    with pytest.raises(InputError, match=re.escape(f"manifest.json: entry 2 (b): {message}")):
        datasets.find_recordings("clips", tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps([first, {"name": "b"}]))
    with pytest.raises(InputError, match=r"entry 2: has no file, truth_kind; add it"):
        datasets.find_recordings("clips", tmp_path)


def test_skin_masks_hold_three_values(tmp_path):
    make_clips(tmp_path)
    face, *_, finger = datasets.find_recordings("clips", tmp_path)
    assert face.mask() is None
    with pytest.raises(InputError, match=r"m\.png: missing"):
        finger.mask()
    mask = np.array([[0, 128, 255]], np.uint8)
    Image.fromarray(mask).save(tmp_path / "m.png")
    np.testing.assert_array_equal(finger.mask().skin, mask)
    Image.fromarray(mask // 2).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m\.png: holds 64; a skin mask holds 255 \(skin\), 0"):
        finger.mask()
    (tmp_path / "m.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"m\.png: not an image"):
        finger.mask()


def test_videos_with_tables_beside_them_need_no_manifest(tmp_path):
    seconds = np.arange(60) / 30
    tables = {
        "a": "time_s,ppg\n" + "".join(f"{t:.4f},{pulse(t):.5f}\n" for t in seconds),
        "b": "Time_s, rate_bpm\n0,70\n1,71\n2,7\n",
        "c": "rate_bpm\n66.5\n",
        "d": "72\n",
    }
    for name, table in tables.items():
        make_video(tmp_path / f"{name}.avi")
        (tmp_path / f"{name}.csv").write_text(table)
    Image.fromarray(np.full((2, 2), 255, np.uint8)).save(tmp_path / "b_skin.png")
    (tmp_path / "notes.txt").write_text("no video")
    a, b, c, d = found = datasets.find_recordings("clips", tmp_path)
    assert [(r.name, r.truth) for r in found] == [
        ("a", "ppg"),
        ("b", "device"),
        ("c", "device"),
        ("d", "device"),
    ]
    np.testing.assert_allclose(a.reference().pulse, pulse(seconds), atol=1e-3)
    np.testing.assert_array_equal(b.reference().rate_bpm, [70, 71, np.nan])
    assert (c.reference(), c.rate_bpm, d.rate_bpm) == (None, 66.5, 72)
    assert b.mask().skin.shape == (2, 2)
    assert a.mask() is None
    np.testing.assert_allclose(stamps(c.open_video()), seconds, atol=1e-3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, r"a\.csv: missing"),
        ("t,hr\n0,70\n", r"a\.csv: header 't,hr'; choose one of time_s,ppg; time_s,rate_bpm; rate_bpm"),
        ("", r"a\.csv: header ''; choose one of"),
        ("rate_bpm\n70\n71\n", r"a\.csv: expected one rate of 30 to 240 bpm; a series needs time_s,rate_bpm"),
        ("7\n", r"a\.csv: expected one rate"),
        ("time_s,ppg\n0,x\n", r"a\.csv: not a table of numbers"),
        ("time_s,ppg\n0\n", r"a\.csv: shape \(1, 1\); expected 2 columns"),
        ("time_s,ppg\n1,0\n0,1\n", r"a\.csv: its clock runs backwards"),
    ],
)
def test_a_wrong_table_is_named_when_its_video_is_asked_for(tmp_path, table, message):
    make_video(tmp_path / "a.avi")
    if table is not None:
        (tmp_path / "a.csv").write_text(table)
    (recording,) = datasets.find_recordings("clips", tmp_path)
    with pytest.raises(InputError, match=message):
        recording.reference()


def test_two_videos_cannot_share_a_table(tmp_path):
    make_video(tmp_path / "a.avi")
    make_video(tmp_path / "a.mkv")
    with pytest.raises(InputError, match=r"a\.avi, a\.mkv would share one table"):
        datasets.find_recordings("clips", tmp_path)


@pytest.mark.long
def test_the_demo_scene_knows_where_which_rate_is():
    (demo,) = datasets.find_recordings("demo", "nowhere")
    settings = config.SceneConfig()
    source, (skin, rate_bpm) = demo.open_video(), demo.mask()
    assert (demo.name, demo.truth, demo.reference()) == ("demo", "scene", None)
    assert skin.shape == rate_bpm.shape == (source.height, source.width)
    assert (source.fps, source.duration_s) == (settings.fps, settings.duration_s)
    assert set(rate_bpm[skin == 255]) == set(settings.rates_bpm)
    assert np.isnan(rate_bpm[skin == 0]).all()
    assert np.isnan(demo.rate_bpm)


@pytest.mark.parametrize("dataset", [name for name in datasets.DATASETS if name != "demo"])
def test_a_folder_without_recordings_is_refused(tmp_path, dataset):
    with pytest.raises(InputError, match="holds no recording of"):
        datasets.find_recordings(dataset, tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        datasets.find_recordings(dataset, tmp_path / "elsewhere")


def test_an_unknown_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="data set mahnob: unknown; choose ubfc1, ubfc2"):
        datasets.find_recordings("mahnob", tmp_path)


@pytest.mark.slow
def test_the_real_clips_hold_the_rates_beside_them(shared):
    recordings = datasets.find_recordings("clips", shared / "clips")
    assert {r.truth for r in recordings} == {"ppg", "consensus", "device", "no measurable pulse"}
    for recording in recordings:
        source = recording.open_video()
        first = next(source.frames())
        assert first.image.shape == (source.height, source.width, 3)
        reference = recording.reference()
        assert (reference is not None) == (recording.truth == "ppg")
        assert np.isfinite(recording.rate_bpm) == (recording.truth in ("consensus", "device"))
        mask = recording.mask()
        assert mask is None or mask.skin.shape == (source.height, source.width)
        if reference is not None:
            assert reference.time_s[-1] == pytest.approx(source.duration_s, abs=0.5)
            path = shared / "clips" / f"{recording.name}_hr10s.csv"
            centre_s, rate_bpm = np.loadtxt(path, delimiter=",", skiprows=1).T
            pulse, time_s = reference.pulse, reference.time_s
            found = contact.window_rates(contact.reference_rate, pulse, time_s, centre_s, length_s=10.0)
            assert metrics.within(rate_bpm, found, tolerance_bpm=1.0) > 0.9


def test_the_real_face_cells_have_the_colour_of_skin(shared):
    (cells,) = (r for r in datasets.find_recordings("clips", shared / "clips") if r.name.startswith("vipl"))
    red, green, blue = np.median([frame.image[3:5, 2:6] for frame in cells.open_video().frames()], (0, 1, 2))
    assert red > green > blue
