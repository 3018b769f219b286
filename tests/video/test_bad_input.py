"""Videos and settings as they come: each gives a result that says what is missing, or one clear line."""

import csv
import json
import os
import tracemalloc
import wave

import av
import imageio.v3 as iio
import numpy as np
import pytest
from helpers.configs import replace
from helpers.inputs import COUNT, FPS, HEIGHT, WIDTH, encode, noise
from helpers.launching import files_up_to, start
from helpers.sandbox import uniform_mapper
from PIL import Image

from pulse3d import config, pipeline, stream, video
from pulse3d.errors import DamagedError, InputError
from pulse3d.mapping import layout
from pulse3d.settings import override


@pytest.fixture
def map_into(tmp_path, toy):
    """A function that maps a path or a source with a network that answers everywhere alike."""

    def run(source, *, fps=None, settings=toy, **options):
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        if not isinstance(source, video.Video):
            source = video.open_video(source, fps=fps)
        try:
            mapper = uniform_mapper(settings, (source.height, source.width))
            return pipeline.write_map(out, source, mapper, weights="toy", step_s=0.2, **options)
        except InputError:
            assert list(out.iterdir()) == [], "nothing is left half written"
            raise

    return run


def audio(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))


def folder_of(path, *images):
    path.mkdir()
    for index, image in enumerate(images):
        iio.imwrite(path / f"{index}.png", image)


def torn(path):
    folder_of(path, *noise(2))
    (path / "1.png").write_bytes(b"PNG")


def two_sizes(path):
    """JPEG images of two sizes one after the other, as a camera that is turned would send them."""
    images = [noise(1)[0]] * 30 + [noise(1, HEIGHT + 8)[0]] * 30
    path.write_bytes(b"".join(iio.imwrite("<bytes>", image, extension=".jpg") for image in images))


def cut(path, share, **options):
    encode(path, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def no_codec(path):
    encode(path, codec="mjpeg", pix_fmt="yuvj420p")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"zzzz"))


def bare_stream(path):
    """H.264 without a container, as a small computer's camera records it."""
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=round(FPS))
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for image in noise():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def save(values):
    return lambda path: np.save(path, values)


def floats(bad):
    array = np.full((COUNT, 16, 16), 0.5, np.float32)
    array[30, 3, 3] = bad
    return save(array)


REFUSED = {
    "missing.mp4": (lambda path: None, "no such file"),
    "empty.mp4": (lambda path: path.write_bytes(b""), "empty; copy it again"),
    "text.mp4": (
        lambda path: path.write_text("hello\n" * 1000),
        "text.mp4: a text file, not a video; give the video itself",
    ),
    "bare.h264": (bare_stream, r"bare.h264: a bare h264 stream, without a clock; .* as in fps=30$"),
    "zeros.mp4": (lambda path: path.write_bytes(bytes(100_000)), "not a readable video"),
    "codec.avi": (no_codec, "a codec that is not known"),
    "audio.wav": (audio, "a sound file, not a video"),
    "cut.mp4": (lambda path: cut(path, 0.5, codec="mpeg4"), "not a readable video"),
    "cut_soon.mkv": (lambda path: cut(path, 0.2), "damaged.*one window needs 1.6 s"),
    "header.avi": (lambda path: cut(path, 0.02), "cut_soon|no frames|not a readable|damaged"),
    "short.mkv": (lambda path: encode(path, noise(10)), "0.7 s long; one window needs 1.6 s"),
    "one.mkv": (lambda path: encode(path, noise(1)), "one window needs 1.6 s"),
    "one.gif": (lambda path: iio.imwrite(path, noise(1)[0]), "one window needs 1.6 s"),
    "small.mkv": (lambda path: encode(path, noise(COUNT, 6, 6)), "smaller than the network's patch"),
    "row.npy": (save(noise(COUNT, 1, 300)), "smaller than the network's patch"),
    "column.npy": (save(noise(COUNT, 300, 1)), "smaller than the network's patch"),
    "sizes.mjpeg": (two_sizes, "32x32 px at .* before it 32x24"),
    "list.m3u8": (lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n"), "not a"),
    "list.ffconcat": (lambda path: path.write_text("ffconcat version 1.0\nfile a.mkv\n"), "a text file"),
    "clock.mkv": (
        lambda path: encode(path, times_s=np.arange(COUNT) / FPS + 1e5 * (np.arange(COUNT) > 9)),
        r"time stamps jump from 0.60 s to 1000",
    ),
    "slow.npy": (save(noise(2)), "one window needs"),
    "nothing": (lambda path: path.mkdir(), "an empty folder"),
    "mixed": (lambda path: folder_of(path, *noise(2), noise(1, 8, 8)[0]), "2.png: 8x8 px, the first image"),
    "torn": (torn, "1.png: not a readable image"),
    "nan.npy": (floats(np.nan), r"outside 0\.\.\.1 or not finite"),
    "inf.npy": (floats(np.inf), r"outside 0\.\.\.1 or not finite"),
    "negative.npy": (floats(-0.1), r"outside 0\.\.\.1"),
    "255.npy": (save(noise().astype(np.float32)), r"outside 0\.\.\.1"),
    "rank.npy": (save(noise()[..., None]), "shape"),
    "flat.npy": (save(noise()[0, ..., 0]), "shape"),
    "channels.npy": (save(np.zeros((COUNT, 16, 16, 2), np.uint8)), "shape"),
    "void.npy": (save(np.zeros((0, 16, 16), np.uint8)), "shape"),
    "signed.npy": (save(noise().astype(np.int16)), "type int16"),
    "bool.npy": (save(noise() > 100), "type bool"),
    "complex.npy": (save(noise().astype(complex)), "type complex128"),
    "two.npz": (lambda path: np.savez(path, a=noise(), b=noise()), "holds 2 arrays"),
    "columns.npz": (lambda path: np.savez(path, np.asfortranarray(noise())), "by columns"),
    "new\nline.mp4": (lambda path: path.write_text("x"), r"new\\nline.mp4: a text file"),
    "\x1b[2J.mp4": (lambda path: path.write_text("x"), r"\\x1b\[2J.mp4"),
    "x" * 300: (lambda path: None, "no such file|cannot be read"),
    "http:x.mp4": (lambda path: path.write_text("x"), "a text file"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_one_line_that_names_it(tmp_path, map_into, name):
    make, message = REFUSED[name]
    make(tmp_path / name)
    fps = FPS if name.endswith(("npy", "npz", "mjpeg", "nothing", "mixed", "torn")) else None
    with pytest.raises(InputError, match=message) as error:
        map_into(tmp_path / name, fps=fps)
    assert str(error.value).isprintable()
    assert name.encode("unicode_escape").decode() in str(error.value) or "px" in str(error.value)


def test_a_bare_stream_has_the_clock_that_it_is_given(tmp_path):
    bare_stream(tmp_path / "bare.h264")
    source = video.open_video(tmp_path / "bare.h264", fps=30.0)
    np.testing.assert_allclose([frame.time_s for frame in source.frames()], np.arange(COUNT) / 30)
    assert source.fps == 30


@pytest.mark.parametrize("fps", [0.0, -1.0, np.nan, np.inf, 1e-9, 1e9])
def test_frame_rates_that_are_none_are_refused(fps):
    for open_ in (lambda: video.open_video("a", fps=fps), lambda: video.from_array(noise(), fps=fps)):
        with pytest.raises(InputError, match="must be positive"):
            open_()


@pytest.mark.parametrize(
    ("name", "make", "least_s"),
    [
        ("a.mkv", lambda path: cut(path, 0.6), 1.8),
        ("a.avi", lambda path: cut(path, 0.6, codec="mjpeg", pix_fmt="yuvj420p"), 1.8),
        ("a.mp4", lambda path: cut(path, 0.6, codec="mpeg4", options={"movflags": "faststart"}), 1.8),
        ("a.ts", lambda path: cut(path, 0.7, codec="mpeg4"), 1.8),
    ],
)
def test_of_a_file_that_breaks_off_what_is_there_is_mapped(tmp_path, map_into, name, make, least_s):
    make(tmp_path / name)
    found = map_into(tmp_path / name)
    assert least_s < found.summary["video_seconds_read"] < 3.2
    assert found.time_s[-1] + 0.8 <= found.summary["video_seconds_read"] + 1 / FPS
    if name != "a.ts":  # a transport stream does not say how long it is
        [lost] = found.summary["lost"]
        assert name in lost
        assert "damaged" in lost


def test_an_array_that_breaks_off_is_mapped_as_far_as_it_goes(tmp_path, map_into):
    np.savez(tmp_path / "a.npz", noise())
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.npz").write_bytes(data)
    whole = map_into(tmp_path / "a.npz", fps=FPS)  # the checksum comes last: all frames were there
    assert whole.summary["video_seconds_read"] >= 3.8


def test_packets_that_cannot_be_decoded_are_passed_over(tmp_path):
    encode(tmp_path / "a.mkv")
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    for start_ in range(len(data) // 2, len(data) // 2 + 3000):
        data[start_] ^= 0x55
    (tmp_path / "a.mkv").write_bytes(data)
    read = []
    with pytest.raises(DamagedError, match="damaged"):
        read.extend(video.open_video(tmp_path / "a.mkv").frames())
    assert COUNT - 20 < len(read) < COUNT


def windows_of(times_s, toy, *, seen=None, **settings):
    mapper = uniform_mapper(replace(toy, map=settings) if settings else toy, (8, 8))
    frames = [(time_s, np.zeros((8, 8), np.uint8)) for time_s in times_s]
    return list(stream.map_windows(frames, mapper, step_s=0.2))


def test_a_window_with_a_gap_has_no_pulse(toy):
    times = np.concatenate([np.arange(45) / FPS, 3 + 2.0 + np.arange(45) / FPS])
    windows = windows_of(times, toy)
    for window in windows:
        start_s, end_s = window.time_s - 0.8, window.time_s + 0.8 - 1 / FPS
        has_gap = start_s < 5.0 - 1e-6 and end_s > 44 / FPS + 1e-6
        assert window.enough_video == (not has_gap)
        if has_gap:
            assert window.reading == pytest.approx((np.nan, np.nan, np.nan, 0), nan_ok=True)
            assert np.isnan(window.rate_bpm).all()
            assert (window.probability[..., -1] == 1).all()
    assert {window.enough_video for window in windows} == {True, False}
    np.testing.assert_allclose(np.diff([window.time_s for window in windows]), 0.2)
    assert sum(w.enough_video for w in windows) < sum(
        w.enough_video for w in windows_of(times, toy, max_gap_s=2.5)
    )


def test_a_window_with_too_few_frames_has_no_pulse(toy):
    """The highest rate is 240 bpm: below 8 frames per second it cannot be seen."""
    assert all(window.enough_video for window in windows_of(np.arange(40) / 10, toy))
    assert not any(window.enough_video for window in windows_of(np.arange(40) / 5, toy))


def test_a_video_that_begins_late_has_no_pulse_before(toy):
    frames = [(3 + index / FPS, np.zeros((8, 8), np.uint8)) for index in range(45)]
    mapper = uniform_mapper(toy, (8, 8))
    windows = list(stream.map_windows(frames, mapper, start_s=0.0, step_s=0.2))
    for window in windows:
        start_s = window.time_s - 0.8
        assert window.enough_video or start_s < 3 - 1e-6
        assert not window.enough_video or start_s > 3 - toy.map.max_gap_s - 1e-6


def test_a_gap_is_counted_in_the_summary(tmp_path, map_into):
    times = np.concatenate([np.arange(40) / FPS, 6 + np.arange(40) / FPS])
    found = map_into(encode(tmp_path / "a.mkv", noise(80), times_s=times))
    assert 0 < found.summary["windows_without_enough_video"] < found.summary["windows"]
    assert np.isnan(found.pulse_rate_bpm).sum() >= found.summary["windows_without_enough_video"]
    assert found.summary["lost"] == []


@pytest.mark.parametrize("fps", [10, 24, 60, 120, 240])
def test_every_usual_frame_rate_is_mapped(map_into, fps):
    found = map_into(video.from_array(noise(3 * fps), fps=float(fps)))
    assert found.summary["windows_without_enough_video"] == 0
    assert len(found.time_s) in (7, 8)


def test_variable_frame_rates_are_mapped(tmp_path, map_into):
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.1, COUNT))
    found = map_into(encode(tmp_path / "a.mkv", times_s=times))
    assert found.summary["windows_without_enough_video"] == 0
    assert found.summary["lost"] == []


def test_frames_whose_time_does_not_rise_are_left_out_and_said(toy):
    rising = np.arange(40) / FPS
    falling = np.insert(rising, 20, rising[[3, 5, 19]])
    for a, b in zip(windows_of(falling, toy), windows_of(rising, toy), strict=True):
        assert a.time_s == b.time_s
        np.testing.assert_array_equal(a.probability, b.probability)


@pytest.mark.parametrize("times", [[0.0, np.nan, 0.1], [0.0, np.inf], [0.0, 1e12]])
def test_times_that_are_none_end_in_one_line_or_are_left_out(toy, times):
    if np.isnan(times).any():
        assert windows_of(times, toy) == []
    else:
        with pytest.raises(InputError, match="time stamps jump"):
            windows_of(times, toy)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.zeros(100), "the last 30 time stamps do not rise above 0.00 s; mend the clock$"),
        (np.r_[np.arange(30), np.zeros(80)] / FPS, "do not rise above 1.93 s"),
        (np.full(100, np.nan), "do not rise"),
        ([0.0, 700.0], "jump from 0.00 s to 700.00 s; mend the clock, which has to be in seconds$"),
        ([None], "None is no time stamp; give seconds"),
    ],
)
def test_a_clock_that_is_none_is_said_soon(toy, times, message):
    taken = []

    def frames():
        for time_s in times:
            taken.append(time_s)
            yield time_s, np.full((16, 16), 100, np.uint8)

    with pytest.raises(InputError, match=message):
        list(stream.map_windows(frames(), uniform_mapper(toy, (16, 16))))
    assert len(taken) <= 61


@pytest.mark.parametrize("step", [1.0, 1000 / 30])  # numbers of frames, milliseconds
def test_frames_from_code_come_in_seconds(step):
    frames = [(step * i, np.full((32, 32), 100, np.uint8)) for i in range(100)]
    with pytest.raises(InputError, match=f"one every {step:.1f} s; give time stamps in seconds$"):
        list(stream.map_stream(frames, "paper"))


def test_a_file_may_begin_with_few_frames(tmp_path, map_into):
    """As recordings of a screen on which nothing moves."""
    times = np.r_[np.arange(12) * 1.5, 18 + np.arange(COUNT - 12) / FPS]
    found = map_into(encode(tmp_path / "a.mkv", times_s=times))
    assert found.summary["windows_without_enough_video"] > 0
    assert found.summary["windows"] > found.summary["windows_without_enough_video"]


def test_video_without_time_stamps_takes_a_frame_rate(tmp_path, map_into):
    encode(tmp_path / "a.mjpeg", codec="mjpeg", pix_fmt="yuvj420p")
    found = map_into(tmp_path / "a.mjpeg", fps=FPS)
    assert found.summary["video_seconds_read"] == pytest.approx(COUNT / FPS, abs=1e-3)


def image_of(mode, grey):
    if mode == "P":
        return Image.fromarray(np.full((16, 16, 3), grey, np.uint8)).convert("P")
    if mode == "I;16":
        return Image.fromarray(np.full((16, 16), grey * 257, np.uint16))
    if mode == "F":
        return Image.fromarray(np.full((16, 16), grey / 255, np.float32))
    return Image.fromarray(np.full((16, 16, 3), grey, np.uint8)).convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGBA", "png"), ("L", "png"), ("LA", "png"), ("P", "png"), ("1", "png"), ("I;16", "png"),
     ("F", "tif"), ("CMYK", "jpg"), ("L", "jpg"), ("RGB", "webp"), ("RGB", "bmp")],
)  # fmt: skip
def test_images_of_every_kind_become_rgb(tmp_path, mode, kind):
    image_of(mode, 255).save(tmp_path / f"0.{kind}")
    image_of(mode, 0).save(tmp_path / f"1.{kind}")
    bright, dark = (video.to_unit(frame.image, 3) for frame in video.open_video(tmp_path, fps=30.0).frames())
    assert bright.shape == dark.shape == (16, 16, 3)
    assert bright.min() > 0.98
    assert dark.max() < 0.02


def test_images_are_turned_as_their_camera_says(tmp_path):
    picture = Image.fromarray(noise(1)[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    picture.save(tmp_path / "0.png", exif=exif)
    source = video.open_video(tmp_path, fps=30.0)
    assert (source.height, source.width) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(next(source.frames()).image, np.rot90(noise(1)[0], -1))


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv420p10le", "yuv444p16le", "gray", "gray16le", "yuva420p", "bgra"]
)
def test_pixels_of_every_kind_are_mapped(tmp_path, map_into, pix_fmt):
    found = map_into(encode(tmp_path / "a.mkv", pix_fmt=pix_fmt))
    assert found.frame.shape == (HEIGHT, WIDTH, 3)
    assert found.summary["lost"] == []


@pytest.mark.parametrize(
    "name",
    ["a b.mkv", "ünïcödé 脈拍.mkv", "-leading.mkv", "new\nline.mkv", "100%d%s.mkv", "$^$.mkv",
     "concat:a|b.mkv", "a'\"\\.mkv", "x" * 240 + ".mkv", "³.mkv", ".mkv"],
)  # fmt: skip
def test_unnatural_names_are_mapped(tmp_path, map_into, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "plain.mkv").rename(tmp_path / name)
    found = map_into(name)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["video"] == name
    assert len(found.time_s) >= 12


def test_unnatural_names_of_images_are_sorted(tmp_path):
    for name in ("³.png", "10.png", "9.png", "a٣.png", "a 2.png"):
        iio.imwrite(tmp_path / name, noise(1)[0])
    assert len(list(video.open_video(tmp_path, fps=30.0).frames())) == 5


def test_frames_of_8k_stay_within_memory(map_into, toy_cells):
    settings = replace(toy_cells, clip={"frames": 8}, map={"shortest_s": 0.5}, generator={"shortest_s": 0.5})
    frames = np.broadcast_to(np.uint8(100), (8, 4320, 7680, 3))
    source = video.from_array(frames, fps=15.0)
    assert video.frames_ahead(source, 8) == 2
    tracemalloc.start()
    found = map_into(source, settings=settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.time_s) == 1
    assert peak < 7 * frames[0].size


def test_what_does_not_fit_into_memory_is_refused(paper):
    with pytest.raises(InputError, match="7680x4320 px: too large for this network"):
        layout.make_layout((4320, 7680), paper)
    with pytest.raises(InputError, match="take a larger stride"):
        layout.make_layout((2880, 5120), paper, stride_px=1)
    with pytest.raises(InputError, match="scale it down"):
        video.from_array(np.broadcast_to(np.uint8(0), (2, 20_000, 20_000)), fps=30.0)


@pytest.mark.parametrize(
    "assignment",
    ["clip.fps=nan", "clip.fps=1e9", "clip.frames=1", "clip.frames=10000000", "clip.rates=1000000000",
     "clip.channels=2", "clip.low_bpm=-3", "clip.high_bpm=inf", "train.batch_size=0", "train.steps=-1",
     "train.learning_rate=nan", "train.learning_rate=-1", "train.average=1", "train.weight_decay=-1",
     "train.schedule=linear", "train.eval_every=0", "map.step_s=0", "map.max_gap_s=-1", "map.max_gap_s=nan",
     "map.stride_px=0", "map.centre=none", "readout.interval=2", "readout.interval_power=0",
     "readout.track_bpm=0", "model.hidden=x", "model.kernel=1", "train", "train.steps", "train.steps=1e3",
     "nothing.here=1", "=", "map.cells=-1"],
)  # fmt: skip
def test_settings_out_of_range_get_one_line(assignment):
    with pytest.raises(InputError) as error:
        override(config.get_preset("paper"), [assignment])
    assert str(error.value).isprintable()


@pytest.mark.parametrize("step_s", [0.0, -1.0, np.nan, np.inf])
def test_steps_that_are_none_are_refused(toy, step_s):
    frames = [(0.0, np.zeros((8, 8), np.uint8))]
    with pytest.raises(InputError, match="step_s"):
        next(stream.map_windows(frames, uniform_mapper(toy, (8, 8)), step_s=step_s))


def test_a_full_disk_leaves_nothing_half_written(tmp_path, map_into):
    with files_up_to(20_000), pytest.raises(InputError, match=r"map.npz: cannot be written .*make room"):
        map_into(video.from_array(noise(60, 120, 120), fps=FPS))
    with files_up_to(2000), pytest.raises(InputError, match=r"a.mp4: cannot be written"):
        video.write_mp4(tmp_path / "a.mp4", iter(noise(60)), 30.0)
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def launch(*commands):
    """Runs programs side by side; (exit code, lines of stderr) of each."""
    processes = [start(*command) for command in commands]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
    return [(code, err.strip().splitlines()) for err, code in ended]


@pytest.mark.slow
def test_the_programs_give_one_line_exit_code_2_and_no_files(tmp_path):
    (tmp_path / "text\n.mp4").write_text("hello")
    np.save(tmp_path / "a.npy", np.zeros((90, 40, 40), np.uint8))
    full = tmp_path / "full"
    full.mkdir()
    (full / "rates.csv").write_text("mine")
    array, paper = (f"--video={tmp_path / 'a.npy'}", "--fps=30"), "--weights=paper"
    none = f"--out={tmp_path / 'none'}"
    cases = [
        (("predict", f"--video={tmp_path / 'text'}\n.mp4", none), r"text\n.mp4: a text file"),
        (("predict", paper, *array, f"--out={full}"), f"--out={full}: holds results already (rates.csv)"),
        (("predict", paper, *array, "--step_s=nan", none), "step_s = nan: must be positive"),
        (("train", f"--workdir={tmp_path / 'a.npy'}", "--preset=paper"), "cannot be written"),
    ]  # fmt: skip
    for (code, lines), (command, message) in zip(launch(*(c for c, _ in cases)), cases, strict=True):
        assert code == 2, (command, lines)
        [line] = lines
        assert line.startswith("error: ")
        assert message in line
    assert (full / "rates.csv").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "full", "text\n.mp4"]
    assert [p.name for p in full.iterdir()] == ["rates.csv"]


@pytest.mark.slow
def test_the_programs_map_what_is_there_and_overwrite_where_asked(tmp_path):
    frames = np.repeat(np.repeat(noise(150, 10, 12), 4, 1), 4, 2)
    cut(tmp_path / "a.mkv", 0.6, frames=frames, times_s=np.arange(150) / 30)
    out = tmp_path / "out"
    out.mkdir()
    (out / "rates.csv").write_text("old")
    [(code, lines)] = launch(
        ("predict", "--weights=paper", f"--video={tmp_path / 'a.mkv'}", f"--out={out}", "--overwrite")
    )
    assert code == 0, lines
    [line] = [line for line in lines if line.startswith("warning")]
    assert "a.mkv: damaged" in line
    with (out / "rates.csv").open() as file:
        assert list(csv.DictReader(file))
    summary = json.loads((out / "summary.json").read_text())
    assert 2 < summary["video_seconds_read"] < 4
    assert not [name for name in os.listdir(out) if name.startswith(".")]
