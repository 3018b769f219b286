import json

import numpy as np
import pytest

from pulse3d import archive, files, pipeline
from pulse3d.errors import InputError
from pulse3d.reading.readout import NO_PULSE, Reading


def test_npz_stream_equals_numpys_own(tmp_path):
    rng = np.random.default_rng(0)
    maps = rng.random((5, 3, 4)).astype(np.float16)
    with archive.NpzStream(tmp_path / "map.npz") as store:
        store.put(axis=np.arange(3.0), name="paper")
        for index, entry in enumerate(maps):
            store.append(probability=entry, time_s=float(index))
    with np.load(tmp_path / "map.npz", allow_pickle=False) as loaded:
        assert set(loaded.files) == {"axis", "name", "probability", "time_s"}
        np.testing.assert_array_equal(loaded["probability"], maps)
        assert loaded["probability"].dtype == np.float16
        np.testing.assert_array_equal(loaded["time_s"], np.arange(5.0))
        assert str(loaded["name"]) == "paper"
    assert [p.name for p in tmp_path.iterdir()] == ["map.npz"]


def test_npz_stream_leaves_nothing_half_written(tmp_path):
    (tmp_path / "map.npz").write_bytes(b"before")

    def interrupted():
        with archive.NpzStream(tmp_path / "map.npz") as store:
            store.append(a=1.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("map.npz", b"before")]


def test_npz_stream_refuses_entries_of_another_shape(tmp_path):
    with archive.NpzStream(tmp_path / "a.npz") as store:
        store.append(a=np.zeros(3))
        with pytest.raises(ValueError, match="differs from the entries before"):
            store.append(a=np.zeros(4))


def test_rates_rows(tmp_path):
    rows = [pipeline.rates_row(1.0, Reading(72.04, 70.0, 75.5, 0.91234)), pipeline.rates_row(2.5, NO_PULSE)]
    files.write_csv(tmp_path / "rates.csv", pipeline.RATES_HEADER, rows)
    assert (tmp_path / "rates.csv").read_text().splitlines() == [
        "time_s,pulse_rate_bpm,low_bpm,high_bpm,confidence",
        "1.000,72.0,70.0,75.5,0.912",
        "2.500,,,,0.000",
    ]


def test_json_has_no_nan(tmp_path):
    files.write_json(tmp_path / "a.json", {"rate_bpm": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"rate_bpm": None}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"rate_bpm": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"rate_bpm": None}


def test_output_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        files.make_folder(tmp_path / "file" / "out")


def test_arrays_come_back_only_for_the_settings_that_made_them(tmp_path):
    path, made_by = tmp_path / "a.npz", {"source": "pos", "window_s": 10.0, "stride_px": None}
    assert archive.read_npz(path, made_by=made_by) is None
    archive.write_npz(path, {"rate_bpm": np.array([60.0, np.nan]), "fps": 30.0}, made_by=made_by)
    arrays = archive.read_npz(path, made_by=dict(reversed(made_by.items())))
    assert set(arrays) == {"rate_bpm", "fps"}
    np.testing.assert_array_equal(arrays["rate_bpm"], [60, np.nan])
    assert archive.read_npz(path, made_by=made_by | {"window_s": 8.0}) is None
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"xyz"]
)
def test_damaged_arrays_are_none(tmp_path, damage):
    path = tmp_path / "a.npz"
    archive.write_npz(path, {"rate_bpm": np.arange(1000.0)}, made_by={})
    path.write_bytes(damage(path.read_bytes()))
    assert archive.read_npz(path, made_by={}) is None


def test_flipped_bytes_are_noticed(tmp_path):
    path = tmp_path / "a.npz"
    archive.write_npz(path, {"rate_bpm": np.random.default_rng(0).random(1000)}, made_by={})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    assert archive.read_npz(path, made_by={}) is None


def test_tables_keep_commas_and_leave_undefined_numbers_empty(tmp_path):
    rows = [
        ["a, b", files.number(1.2345, 2)],
        ["c", files.number(np.nan, 2)],
        ["d", files.number(-np.inf, 2)],
    ]
    files.write_csv(tmp_path / "t.csv", "clip,mae_bpm", rows)
    assert (tmp_path / "t.csv").read_text() == 'clip,mae_bpm\n"a, b",1.23\nc,\nd,\n'


def test_safe_names_have_no_folders_and_do_not_collide():
    names = ["1/0", "1_0", "1 0", "..", "a.b-c", "runs/paper"]
    safe = [files.safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert not any("/" in name for name in safe)
    assert safe[4] == "a.b-c"
