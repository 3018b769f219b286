import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.inputs import encode
from helpers.results import make_result
from helpers.sandbox import uniform_mapper
from matplotlib.figure import Figure

import pulse3d
from pulse3d import files, pipeline, stream, video
from pulse3d.errors import InputError
from pulse3d.network import model, weights_file
from pulse3d.network.weights_file import Weights
from pulse3d.reading import amplitude, regions, tracking
from pulse3d.reading.readout import NO_PULSE, Reading
from pulse3d.reading.regions import Region
from pulse3d.result import LIMITS_BPM
from pulse3d.settings import override_use


@pytest.fixture(scope="module")
def weights(toy):
    return Weights(model.init_params(jax.random.key(0), toy), toy, {}, "toy")


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 255, (60, 14, 20, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def found(weights, frames):
    return pulse3d.map_video(frames, weights, fps=15.0, step_s=0.4)


def test_result_is_what_the_stream_says(found, weights, frames, toy):
    pairs = [(i / 15, image) for i, image in enumerate(frames)]
    windows = list(stream.map_stream(pairs, weights, step_s=0.4))
    assert len(windows) == len(found.time_s) == 7
    np.testing.assert_allclose(found.time_s, [w.time_s for w in windows])
    for name in ("rate_bpm", "confidence"):
        np.testing.assert_allclose(getattr(found, name), [getattr(w, name) for w in windows], rtol=1e-4)
    whole = np.array([w.probability for w in windows])
    np.testing.assert_allclose(found.probability, whole[..., :-1], atol=1e-3)
    np.testing.assert_allclose(found.no_pulse, whole[..., -1], atol=1e-3)
    np.testing.assert_allclose(list(found.maps()), whole, atol=1e-3)
    read = tracking.readings(
        np.stack([w.evidence for w in windows]), toy.clip.rate_axis_bpm, toy.readout, step_s=0.4, window_s=1.6
    )
    np.testing.assert_allclose(found.pulse_rate_bpm, [r.rate_bpm for r in read])
    # at the rates that all windows together tell, also where an earlier reading knew none
    again = [amplitude.at_rate(w.green, 15.0, r.rate_bpm) for w, r in zip(windows, read, strict=True)]
    np.testing.assert_allclose(
        found.amplitude_percent, [percent for percent, _ in again], rtol=0.01, atol=1e-3
    )
    np.testing.assert_allclose(found.snr_db, [snr_db for _, snr_db in again], atol=0.1)
    np.testing.assert_array_equal(found.frame, frames[0])
    rows, cols = found.rate_bpm.shape[1:]
    left, right, bottom, top = found.extent_px
    assert (right - left, bottom - top) == (cols * 3, rows * 3)
    assert (left + right) / 2 == pytest.approx(np.mean(found.col_px))


def test_saved_results_load_again(found, tmp_path):
    again = pulse3d.Result.load(found.save(tmp_path / "kept"))
    assert {p.name for p in again.folder.iterdir()} == {"rates.csv", "map.npz", "summary.json"}
    for name, value in vars(found).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value)
    np.testing.assert_array_equal(again.probability, found.probability)
    assert again.summary == found.summary


def test_files_go_with_the_result(weights, frames):
    short = pulse3d.map_video(frames[:30], weights, fps=15.0)
    folder = short.folder
    assert folder.is_dir()
    del short
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["missing", "no map", "no json", "cut", "another map"])
def test_other_folders_are_refused(found, tmp_path, damage):
    folder = tmp_path / "results"
    if damage != "missing":
        found.save(folder)
    if damage == "no map":
        (folder / "map.npz").unlink()
    elif damage == "no json":
        (folder / "summary.json").write_text("{")
    elif damage == "cut":
        (folder / "map.npz").write_bytes((folder / "map.npz").read_bytes()[:2000])
    elif damage == "another map":
        np.savez(folder / "map.npz", frame=found.frame)
    with pytest.raises(InputError, match=r"results: (not a folder of results|no such folder)"):
        pulse3d.Result.load(folder)


def test_result_draws_itself(found, tmp_path):
    assert isinstance(found.plot(), Figure)
    assert found.report(tmp_path / "report.html").stat().st_size > 1000
    assert 'src="data:image/png;base64,' in found._repr_html_()
    found.summary["video"] = "<b>me.mp4"
    assert "&lt;b&gt;me.mp4" in found._repr_html_()


@pytest.mark.parametrize(
    ("source", "fps", "message"),
    [
        (np.zeros((60, 14, 20)), None, " fps=30"),
        (np.zeros((10, 14, 20)), 15.0, "one window needs 1.6 s"),
        (np.zeros((60, 4, 20)), 15.0, "smaller than the network's patch"),
        (np.full((60, 14, 20), 255.0), 15.0, r"outside 0\.\.\.1"),
        ("missing.mp4", None, "missing.mp4: no such file"),
    ],
)
def test_what_cannot_be_mapped_is_refused(weights, source, fps, message):
    with pytest.raises(InputError, match=message):
        pulse3d.map_video(source, weights, fps=fps)


WRONG_CALLS = """
import numpy as np, pulse3d

clip, result = np.zeros((60, 48, 64, 3), np.uint8), pulse3d.Result.load("kept")
CALLS = {
    "source = 5: expected a path or an array": lambda: pulse3d.map_video(5),
    "fps = '30': expected frames per second": lambda: pulse3d.map_video(clip, fps="30"),
    "weights = 5: expected a name, a path": lambda: pulse3d.map_video(clip, 5, fps=30),
    "stride_px = 'a': expected a whole number": lambda: pulse3d.map_video(clip, fps=30, stride_px="a"),
    "step_s = 'a': expected seconds": lambda: pulse3d.map_video(clip, fps=30, step_s="a"),
    "progress = 5: expected a function": lambda: pulse3d.map_video(clip, fps=30, progress=5),
    "expected a list, as in": lambda: pulse3d.map_video(clip, fps=30, settings="map.cells=60"),
    "weights=bogus: no such file": lambda: pulse3d.map_video(clip, "bogus", fps=30),
    "frames = 5: expected pairs of (time": lambda: list(pulse3d.map_stream(5)),
    "frames = 'a.mp4': expected pairs": lambda: list(pulse3d.map_stream("a.mp4")),
    "window = 'a': expected the number": lambda: result.plot(window="a"),
    "limits_bpm = 5: expected two": lambda: result.plot(limits_bpm=5),
    "limits_bpm = 140, 40: expected two ascending": lambda: result.plot(limits_bpm=(140, 40)),
    "path = 5: expected a path": lambda: result.report(5),
    "page.txt: a page is HTML": lambda: result.report("page.txt"),
    "folder = None: expected a path": lambda: result.save(None),
    "over.txt: an overlay is an MP4": lambda: result.overlay("over.txt", video=clip[:, :14, :20]),
    "nowhere: no such folder": lambda: pulse3d.Result.load("nowhere"),
}
for expected, call in CALLS.items():
    try:
        call()
    except pulse3d.InputError as error:
        assert expected in str(error), f"{expected!r} is not in {error}"
    else:
        raise AssertionError(f"{expected}: no error")
"""


def test_wrong_arguments_are_named(found, tmp_path):
    """In a process of its own, without the types that the tests check at every call."""
    found.save(tmp_path / "kept")
    subprocess.run([sys.executable, "-c", WRONG_CALLS], check=True, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_weights_may_be_a_path(weights, frames, tmp_path):
    weights_file.save_weights(tmp_path / "toy.npz", weights.params, weights.config, {})
    settings = ["map.cells=0", "map.centre=window"]
    by_path, by_name = (
        pulse3d.map_video(frames, kind(tmp_path / "toy.npz"), fps=15.0, settings=settings)
        for kind in (Path, str)
    )
    assert by_path == by_name


def test_a_result_needs_no_pictures():
    program = "import sys, pulse3d.result; assert not {'matplotlib', 'xarray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_failed_map_leaves_nothing(toy, frames, tmp_path):
    def broken():
        yield from (video.Frame(i / 15, image) for i, image in enumerate(frames[:40]))
        raise RuntimeError

    source = video.Video("broken", 14, 20, 15.0, 4.0, broken)
    with pytest.raises(RuntimeError):
        pipeline.write_map(
            files.make_folder(tmp_path), source, uniform_mapper(toy, (14, 20)), weights="toy", step_s=0.4
        )
    assert list(tmp_path.iterdir()) == []


def test_weights_go_by_name(monkeypatch, weights, frames):
    asked = []
    monkeypatch.setattr(weights_file, "load_weights", lambda name: asked.append(name) or weights)
    pulse3d.map_video(frames[:30], "paper", fps=15.0)
    assert asked == ["paper"]


def test_what_fails_beside_a_result_does_not_cost_it(tmp_path, toy, frames):
    source = video.from_array(frames, fps=15.0)
    mapper = uniform_mapper(toy, (source.height, source.width))

    def beside(made):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.write_map(tmp_path, source, mapper, weights="toy", beside=beside)
    kept = pulse3d.Result.load(tmp_path)
    assert kept.summary["windows"] == len(kept.time_s) > 0
    said = pipeline.write_map(tmp_path, source, mapper, weights="toy", beside=lambda made: {"regions": 7})
    assert said.summary == pulse3d.Result.load(tmp_path).summary == kept.summary | {
        "regions": 7, "seconds": said.summary["seconds"],
    }  # fmt: skip


def test_a_result_says_itself_in_five_lines(found, tmp_path):
    lines = str(make_result(tmp_path, gaps=(2,))).splitlines()
    assert lines == [
        "me.mp4: 160x120 px, 16.0 s, mapped by default",
        "pulse rate: 71.0 bpm, median over windows (90% interval 66 to 77)",
        "5 of 6 windows of 10 s with a pulse, in 83% of the frame",
        "maps: 6 windows x 4 rows x 5 columns, 81 rates of 40 to 200 bpm",
        f"files in {tmp_path}; not a medical device",
    ]
    assert "pulse rate: no pulse found" in str(make_result(tmp_path, pulse=False))
    assert len(repr(found).splitlines()) == 5


def test_the_median_is_over_windows_with_a_pulse(tmp_path):
    result = make_result(tmp_path)
    rates = np.array([60.0, np.nan, 70.0, 90.0, np.nan, np.nan])
    assert dataclasses.replace(result, pulse_rate_bpm=rates).median_bpm == 70
    assert np.isnan(make_result(tmp_path, pulse=False).median_bpm)


def test_results_are_equal_if_all_they_say_is(tmp_path):
    result = make_result(tmp_path, gaps=(1,))
    assert result == make_result(tmp_path, gaps=(1,))
    assert result == dataclasses.replace(result, folder=tmp_path / "elsewhere")
    assert result != dataclasses.replace(result, snr_db=result.snr_db + 1)
    assert result != dataclasses.replace(result, summary=result.summary | {"windows": 7})
    assert result != "a result"
    assert result == dataclasses.replace(result, summary=result.summary | {"seconds": 7.5})


def test_readings_as_a_table_of_pandas(tmp_path):
    result = make_result(tmp_path, gaps=(1,))
    table = result.to_dataframe()
    assert table.index.name == "time_s"
    np.testing.assert_array_equal(table.index, result.time_s)
    for name in ("pulse_rate_bpm", "low_bpm", "high_bpm", "pulse_confidence"):
        np.testing.assert_array_equal(table[name], getattr(result, name))


def test_arrays_with_coordinates_survive_a_file_of_other_programs(tmp_path):
    xarray = pytest.importorskip("xarray")
    result = make_result(tmp_path, gaps=(1,))
    result.to_xarray().to_netcdf(tmp_path / "me.nc")
    with xarray.open_dataset(tmp_path / "me.nc") as found:
        assert dict(found.sizes) == {
            "time_s": 6,
            "row_px": 4,
            "col_px": 5,
            "rate_axis_bpm": 81,
            "frame_s": 225,
        }
        place = found.sel(row_px=56.0, col_px=80.0)
        np.testing.assert_array_equal(place.rate_bpm, result.rate_bpm[:, 1, 2])
        np.testing.assert_allclose(place.probability, result.probability[:, 1, 2], rtol=1e-3)
        np.testing.assert_allclose(found.bvp_percent, result.bvp.percent)
        assert (found.rate_bpm.units, found.bvp_percent.units, found.confidence.units) == ("1/min", "%", "1")
        assert found.attrs["window_s"] == 10
        assert found.trust.long_name == "how far a rate that most of the frame has is believed"
        assert all("long_name" in variable.attrs for variable in found.variables.values())


def test_what_a_result_holds_prints_in_a_line(tmp_path):
    result = make_result(tmp_path, gaps=(2,))
    wave = result.bvp
    assert (
        repr(wave)
        == f"PulseWave({len(wave.time_s)} values from {wave.time_s[0]:.1f} to {wave.time_s[-1]:.1f} s)"
    )
    median = np.nanmedian(result.beats.interval_ms)
    assert repr(result.beats) == f"Beats({len(result.beats.time_s)} beats, median interval {median:.0f} ms)"
    places_, known = np.ones((2, 3), bool), Reading(71.04, 66.0, 77.0, 0.9)
    assert repr(Region(places_, [known, NO_PULSE])) == "Region(6 places, 71.0 bpm in 1 of 2 windows)"
    assert repr(Region(places_, [NO_PULSE])) == "Region(6 places, no rate in 0 of 1 windows)"
    measures, *warnings = repr(result.heart_rate_variability()).splitlines()
    assert measures.startswith("RMSSD ")
    assert warnings == [f"warning: {line}" for line in result.heart_rate_variability().warnings]


def test_a_temporary_folder_is_said_to_be_one(found, tmp_path):
    assert f"files in {found.folder} until this result is gone (save keeps them)" in str(found)
    assert "save keeps" not in str(pulse3d.Result.load(found.save(tmp_path / "kept")))


def test_a_window_prints_in_a_line(weights, frames):
    pairs = ((i / 15, image) for i, image in enumerate(frames))
    window = next(iter(stream.map_stream(pairs, weights)))
    rows, cols = window.rate_bpm.shape
    assert repr(window).startswith("WindowResult(at 0.80 s: ")
    assert repr(window).endswith(f"; {rows} x {cols} places)")


@pytest.mark.parametrize("name", ["pandas", "xarray"])
def test_without_the_library_one_line_says_so(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    result = make_result(tmp_path)
    with pytest.raises(InputError, match=rf"needs {name}; python -m pip install {name}$"):
        result.to_dataframe() if name == "pandas" else result.to_xarray()


def test_one_layer_is_drawn_alone_or_into_given_axes(tmp_path):
    result = make_result(tmp_path)
    figure = result.plot("snr", window=2)
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.images[-1].get_array(), result.snr_db[2])
    assert axes.get_title("left") == "SNR at the frame's pulse rate (dB)"
    whole = Figure()
    left, right = whole.subplots(1, 2)
    assert result.plot("rate", ax=right) is whole
    assert not left.images
    np.testing.assert_array_equal(right.images[-1].get_array(), np.median(result.rate_bpm, 0))
    confidence = result.plot("confidence").axes[0].images[-1].get_array()
    np.testing.assert_array_equal(confidence, result.confidence.mean(0))
    assert result.plot("rate", limits_bpm=(50.0, 90.0)).axes[0].images[-1].get_clim() == (50, 90)
    assert result.plot("rate").axes[0].images[-1].get_clim() == LIMITS_BPM
    for options, message in (({"layer": "snrr"}, "did you mean snr"), ({"window": 6}, "there are 6")):
        with pytest.raises(InputError, match=message):
            result.plot(**options)


def test_phases_are_those_of_places_with_the_rate_of_the_frame(tmp_path):
    """All places but one beat at 70 bpm, in step."""
    result = make_result(tmp_path, gaps=(2,))
    phases = result.phase_deg
    known = np.isfinite(phases)
    assert not known[2].any()
    assert (known[[0, 1, 3, 4, 5]] == (np.arange(20).reshape(4, 5) != 7)).all()
    assert abs(phases[known]).max() < 1
    drawn = result.plot("phase").axes[0].images[-1]
    assert drawn.get_clim() == (-180, 180)
    assert abs(drawn.get_array()).max() < 1


def test_the_wave_of_a_place_is_at_its_own_rate(tmp_path):
    result = make_result(tmp_path)
    for place, bpm in ((7, 90), (8, 70)):
        (wave,) = result.place_waves(np.array([place]))
        inside = slice(60, -60)
        expected = 0.5 * np.sin(2 * np.pi * bpm / 60 * wave.time_s)
        np.testing.assert_allclose(wave.percent[inside], expected[inside], atol=0.05)


def test_regions_survive_saving(tmp_path):
    sides = np.tile(np.arange(5) < 2, (4, 1))
    parts = [
        Region(places, [Reading(rate, rate - 1, rate + 1, 0.9)] * 5 + [Reading(np.nan, np.nan, np.nan, 0.1)])
        for places, rate in ((sides, 70.0), (~sides, 120.0))
    ]
    for given in (parts, []):
        found = make_result(tmp_path, parts=given).regions
        assert len(found) == len(given)
        for region, known in zip(found, given, strict=True):
            np.testing.assert_array_equal(region.places, known.places)
            np.testing.assert_array_equal(region.readings, known.readings)
            assert region.readings[0].rate_bpm == known.readings[0].rate_bpm


def test_regions_are_those_that_the_maps_have(weights, frames):
    settings = ["readout.region_confidence=0", "readout.region_places=1"]
    found = pulse3d.map_video(frames, weights, fps=15.0, step_s=0.4, settings=settings)
    config = override_use(weights.config, settings)
    expected = regions.find_regions(
        found.maps(), found.rate_bpm, found.confidence, found.rate_axis_bpm, config.readout,
        odds=config.odds, step_s=found.summary["step_s"], window_s=found.summary["window_s"],
    )  # fmt: skip
    assert len(found.regions) == len(expected) == found.summary["regions"] > 0
    for region, known in zip(found.regions, expected, strict=True):
        np.testing.assert_array_equal(region.places, known.places)
        np.testing.assert_allclose(region.readings, known.readings, rtol=1e-12)


def read_overlay(path):
    return np.stack([frame.image for frame in video.open_video(path).frames()])


def test_overlay_of_a_video_wherever_it_is_now(tmp_path, weights, monkeypatch):
    """By the path that was mapped, by another, opened, or as an array; the colours follow the limits."""
    pixels = np.random.default_rng(0).integers(60, 200, (40, 16, 24, 3)).astype(np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    result = pulse3d.map_video(tmp_path / "a.npy", weights, fps=15.0)
    shown = {"rate_bpm": 0 * result.rate_bpm + 70, "confidence": 0 * result.confidence + 1}
    result = dataclasses.replace(result, **shown)
    opened = video.open_video(tmp_path / "a.npy", fps=15.0)
    assert result.overlay(tmp_path / "a.mp4", video=opened) == tmp_path / "a.mp4"
    result.overlay(tmp_path / "b.mp4", video=pixels)
    result.overlay(tmp_path / "c.mp4", video=opened, limits_bpm=(60.0, 70.0))
    first, second, third = (read_overlay(tmp_path / f"{name}.mp4") for name in "abc")
    assert first.shape == (40, 320, 480, 3)
    np.testing.assert_array_equal(first, second)
    assert abs(first[20].astype(int) - third[20]).max() > 40
    encode(tmp_path / "d.mkv", pixels)
    elsewhere = dataclasses.replace(result, summary=result.summary | {"video": str(tmp_path / "d.mkv")})
    elsewhere.overlay(tmp_path / "e.mp4")
    (tmp_path / "link.mkv").symlink_to(tmp_path / "d.mkv")
    before = (tmp_path / "d.mkv").read_bytes()
    for name in ("d.mkv", "link.mkv"):
        with pytest.raises(InputError, match="is the video itself; choose another name"):
            elsewhere.overlay(tmp_path / name)
    assert (tmp_path / "d.mkv").read_bytes() == before
    (tmp_path / "d.mkv").rename(tmp_path / "f.mkv")
    with pytest.raises(InputError, match=r"d\.mkv: no such file.*; give it as video="):
        elsewhere.overlay(tmp_path / "g.mp4")
    elsewhere.overlay(tmp_path / "g.mp4", video=tmp_path / "f.mkv")
    np.testing.assert_array_equal(read_overlay(tmp_path / "e.mp4"), read_overlay(tmp_path / "g.mp4"))
    with pytest.raises(InputError, match="12x8 px, the result 24x16; give the video that was mapped"):
        result.overlay(tmp_path / "h.mp4", video=pixels[:, ::2, ::2])
    with pytest.raises(InputError, match="a live source is seen once"):
        result.overlay(tmp_path / "h.mp4", video=dataclasses.replace(opened, live=True))
    assert not (tmp_path / "h.mp4").exists()
