import os
import struct
import threading
from dataclasses import replace
from fractions import Fraction

import av
import imageio.v3 as iio
import numpy as np
import pytest
from av.stream import Disposition

from pulse3d import video
from pulse3d.errors import InputError
from pulse3d.video import decoding


def squares(count, height=32, width=48):
    """Frames that tell their number by their grey, with a bright mark in the top left corner."""
    frames = (
        np.full((count, height, width, 3), 40, np.uint8)
        + np.arange(count, dtype=np.uint8)[:, None, None, None] * 4
    )
    frames[:, : height // 4, : width // 4] = 250
    return frames


def encode(path, frames, times_ms):
    """A file (.mkv: lossless) with the given time stamps."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if path.suffix == ".mkv" else "libx264", rate=1000)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0" if path.suffix == ".mkv" else "yuv420p"
        stream.time_base = Fraction(1, 1000)
        for image, time in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = int(time), stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_file_keeps_variable_time_stamps_and_pixels(tmp_path):
    frames, times = squares(6), np.array([0, 33, 70, 95, 160, 201])
    encode(tmp_path / "a.mkv", frames, times + 500)
    source = video.open_video(tmp_path / "a.mkv")
    assert (source.height, source.width) == (32, 48)
    for _ in range(2):  # a source can be read again
        read = list(source.frames())
        np.testing.assert_allclose([f.time_s for f in read], times / 1000, atol=1e-3)
        np.testing.assert_array_equal([f.image for f in read], frames)


def fed(path, data):
    """A named pipe that gives these bytes once."""
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()
    return path


@pytest.mark.parametrize("kind", ["mkv", "ts"])
def test_a_pipe_gives_the_frames_of_the_file(tmp_path, kind):
    file = tmp_path / f"a.{kind}"
    encode(file, squares(30), np.arange(30) * 40 + 500)
    live = video.open_video(fed(tmp_path / "pipe", file.read_bytes()))
    assert (live.live, live.height, live.width) == (True, 32, 48)
    for a, b in zip(live.frames(), video.open_video(file).frames(), strict=True):
        assert a.time_s == pytest.approx(b.time_s)
        np.testing.assert_array_equal(a.image, b.image)
    assert list(live.frames()) == [], "seen once"


def test_a_pipe_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match="pipe: not a readable video"):
        video.open_video(fed(tmp_path / "pipe", b"hello" * 1000))


def two_streams(path, first, second, *, cover=False):
    """A file with two video streams, 30 fps; cover: the first is the picture of a cover."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4" if not cover or i else "mjpeg", rate=30) for i in range(2)]
        for stream, images in zip(streams, (first, second), strict=True):
            stream.height, stream.width = images.shape[1:3]
            stream.pix_fmt = "yuvj420p" if stream.codec_context.name == "mjpeg" else "yuv420p"
        if cover:
            streams[0].disposition = Disposition.attached_pic
        for stream, images in zip(streams, (first, second), strict=True):
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())


def test_of_several_video_streams_that_with_most_data_is_read_and_said(tmp_path):
    grey, noise = np.full((40, 32, 48, 3), 128, np.uint8), squares(40, height=64, width=80)
    for name, pair in (("a.mkv", (grey, noise)), ("b.mp4", (noise, grey))):
        two_streams(tmp_path / name, *pair)
        found = video.open_video(tmp_path / name)
        assert (found.height, found.width) == (64, 80)
        number = 2 if name == "a.mkv" else 1
        [note] = found.notes
        which = f"number {number} is read, which has most data (80x64 px)"
        assert note.endswith(f"holds 2 videos; {which}; stream=N reads another")
        frames = [frame.image for frame in found.frames()]
        assert len(frames) == 40
        assert np.mean(np.ptp(frames, axis=(1, 2, 3))) > 100, "not the grey one"
    encode(tmp_path / "one.mkv", squares(5), np.arange(5) * 40)
    assert video.open_video(tmp_path / "one.mkv").notes == ()


def test_a_cover_is_no_video(tmp_path):
    two_streams(
        tmp_path / "a.mp4", squares(1, height=32, width=32), squares(20, height=64, width=80), cover=True
    )
    found = video.open_video(tmp_path / "a.mp4")
    assert (found.width, found.notes, len(list(found.frames()))) == (80, (), 20)


def test_a_camera_is_opened_by_number(tmp_path, monkeypatch):
    """No camera here: the device that FFmpeg is asked for is a file instead."""
    encode(tmp_path / "a.mkv", squares(5), np.arange(5) * 40)
    opened, real = [], av.open

    def fake(device, **options):
        opened.append((device, options))
        return real(str(tmp_path / "a.mkv"))

    monkeypatch.setattr(decoding.av, "open", fake)
    monkeypatch.setattr(decoding.sys, "platform", "linux")
    for name in ("<video2>", "2"):
        camera = video.open_video(name)
        assert (camera.name, camera.live) == ("video2", True)
        np.testing.assert_array_equal([f.image for f in camera.frames()], squares(5))
    assert opened == [("/dev/video2", {"format": "v4l2"})] * 4
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2").touch()
    assert video.open_video("2").name == "2"  # a file of that name is no camera
    monkeypatch.setattr(decoding.sys, "platform", "win32")
    with pytest.raises(InputError, match="elsewhere use a pipe"):
        video.open_video("<video0>")


def test_videos_of_a_folder_are_listed_in_order(tmp_path):
    assert video.list_videos(tmp_path) == [str(tmp_path)]
    for name in ("b.mp4", "a.MOV", "c.txt"):
        (tmp_path / name).touch()
    assert video.list_videos(tmp_path) == [str(tmp_path / "a.MOV"), str(tmp_path / "b.mp4")]
    assert video.list_videos(tmp_path / "b.mp4") == [str(tmp_path / "b.mp4")]
    with pytest.raises(InputError, match="a folder of 2 videos; give one of them"):
        video.open_video(tmp_path)
    (tmp_path / "._b.mp4").touch()  # as macOS leaves them
    assert len(video.list_videos(tmp_path)) == 2
    (tmp_path / "1.png").touch()
    with pytest.raises(InputError, match="holds 2 videos and 1 images; put either into its own folder"):
        video.list_videos(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").touch()
    assert video.list_videos(tmp_path / "images") == [str(tmp_path / "images")]


def test_a_missing_camera_gets_one_line():
    with pytest.raises(InputError, match="video97: "):
        video.open_video("<video97>")


def test_reading_ahead_ends_when_nobody_takes_the_frames_any_more():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield video.Frame(0.0, squares(1)[0])
        finally:
            closed.set()

    ahead = video.read_ahead(endless(), ahead=3)
    next(ahead)
    assert not closed.is_set()
    ahead.close()
    assert closed.wait(10)


def test_reading_ahead_keeps_order_raises_and_stops():
    frames = [video.Frame(float(i), squares(1)[0]) for i in range(200)]
    assert list(video.read_ahead(iter(frames), threading.Event(), ahead=3)) == frames

    def broken():
        yield frames[0]
        raise InputError("unplugged")

    ahead = video.read_ahead(broken(), threading.Event())
    assert next(ahead) is frames[0]
    with pytest.raises(InputError, match="unplugged"):
        next(ahead)

    def silent():
        yield frames[0]
        threading.Event().wait()

    stop = threading.Event()
    ahead = video.read_ahead(silent(), stop)
    assert next(ahead) is frames[0]
    threading.Timer(0.05, stop.set).start()
    assert list(ahead) == []


def test_fps_replaces_time_stamps(tmp_path):
    encode(tmp_path / "a.mkv", squares(4), [0, 33, 70, 95])
    read = list(video.open_video(tmp_path / "a.mkv", fps=10.0).frames())
    np.testing.assert_allclose([f.time_s for f in read], [0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("matrix", "clockwise"),
    [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 3)],
)
def test_rotation_metadata_turns_the_frame(tmp_path, matrix, clockwise):
    """A phone held upright: the track header's matrix (ISO 14496-12) says how to turn the picture."""
    path = tmp_path / "a.mp4"
    frames = squares(3)
    encode(path, frames, [0, 40, 80])
    data = path.read_bytes()
    header = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    path.write_bytes(
        data[:header] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[header + 36 :]
    )
    source = video.open_video(path)
    image = next(source.frames()).image
    expected = np.rot90(frames[0], -clockwise)
    assert (source.height, source.width) == expected.shape[:2] == image.shape[:2]
    assert abs(image.astype(float) - expected).mean() < 4
    nothing = np.zeros((*expected.shape[:2], 4), np.uint8)
    turned = overlaid(tmp_path / "out.mp4", source, [(0.0, nothing)])[0].image
    assert abs(turned.astype(float) - expected).mean() < 6


def test_other_time_stamps_can_be_given_and_only_rising_ones_count():
    source = video.from_array(squares(5), fps=30.0)
    timed = video.with_time_stamps(source, np.array([0.5, 0.6, 0.6, 0.65, 1.0]))
    read = list(timed.frames())
    assert [frame.time_s for frame in read] == [0.5, 0.6, 0.65, 1.0]
    np.testing.assert_array_equal([frame.image for frame in read], squares(5)[[0, 1, 3, 4]])
    assert (timed.fps, timed.duration_s) == (pytest.approx(8), pytest.approx(1.125))


@pytest.mark.parametrize(("count", "message"), [(4, "more frames"), (6, "fewer frames")])
def test_there_is_a_time_stamp_for_every_frame(count, message):
    timed = video.with_time_stamps(video.from_array(squares(5), fps=30.0), np.arange(count) / 30)
    with pytest.raises(InputError, match=message):
        list(timed.frames())


@pytest.mark.parametrize("time_s", [[0.0], [0.0, np.nan], [1.0, 0.0]])
def test_time_stamps_that_are_no_times_are_refused(time_s):
    with pytest.raises(InputError, match="time stamps that are no times"):
        video.with_time_stamps(video.from_array(squares(2), fps=30.0), np.array(time_s))


def test_folder_is_read_in_natural_order(tmp_path):
    frames = squares(12)
    for index, image in enumerate(frames):
        iio.imwrite(tmp_path / f"Image{index}.png", image)
    (tmp_path / "notes.txt").write_text("not an image")
    read = list(video.open_video(tmp_path, fps=20.0).frames())
    np.testing.assert_array_equal([f.image for f in read], frames)
    assert read[3].time_s == pytest.approx(0.15)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "grey", "npz"])
def test_arrays_of_every_kind_give_the_same_frames(tmp_path, kind):
    frames = squares(3)
    frames[..., 0] = frames[..., 2] = frames[..., 1]
    path = tmp_path / ("a.npz" if kind == "npz" else "a.npy")
    if kind == "npz":
        np.savez(path, frames)
    else:
        stored = {
            "uint8": frames,
            "uint16": frames.astype(np.uint16) * 257,
            "float32": (frames / 255).astype(np.float32),
            "grey": frames[..., 1],
        }[kind]
        np.save(path, stored)
    source = video.open_video(path, fps=25.0)
    assert (source.height, source.width, source.duration_s) == (32, 48, pytest.approx(3 / 25))
    for frame, expected in zip(source.frames(), frames, strict=True):
        np.testing.assert_allclose(video.to_unit(frame.image, 3), expected / 255, atol=1e-6)


def test_one_channel_means_green():
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    np.testing.assert_allclose(video.to_unit(image, 1)[..., 0], image[..., 1] / 255, rtol=1e-6)


def test_resampling_is_linear_interpolation():
    times = np.cumsum([0.0, 0.03, 0.05, 0.02, 0.04, 0.06])
    values = np.array([0.0, 1.0, -1.0, 4.0, 2.0, 3.0])
    frames = (video.Frame(t, np.full((1, 1, 1), v, np.float32)) for t, v in zip(times, values, strict=True))
    out = list(video.resample(frames, 50.0))
    np.testing.assert_allclose([f.time_s for f in out], np.arange(11) / 50)
    np.testing.assert_allclose(
        [f.image[0, 0, 0] for f in out], np.interp(np.arange(11) / 50, times, values), atol=1e-5
    )


def test_averaged_frames_are_means_of_pairs():
    images = np.random.default_rng(0).random((21, 2, 3, 1)).astype(np.float32)
    frames = (video.Frame(i / 30, image) for i, image in enumerate(images))
    out = list(video.resample(frames, 15.0, average=2))
    np.testing.assert_allclose([f.time_s for f in out], np.arange(10) / 15)
    np.testing.assert_allclose([f.image for f in out], (images[:20:2] + images[1:20:2]) / 2, atol=1e-6)


def test_averaged_frames_of_uneven_time_stamps_are_means_of_interpolated_ones():
    times = np.cumsum([0.0, 0.03, 0.05, 0.02, 0.04, 0.06, 0.03])
    values = np.array([0.0, 1.0, -1.0, 4.0, 2.0, 3.0, 5.0])
    frames = (video.Frame(t, np.full((1, 1, 1), v, np.float32)) for t, v in zip(times, values, strict=True))
    out = list(video.resample(frames, 15.0, average=3))
    finer = np.interp(np.arange(9) / 45, times, values).reshape(3, 3)
    np.testing.assert_allclose([f.time_s for f in out], np.arange(3) / 15)
    np.testing.assert_allclose([f.image[0, 0, 0] for f in out], finer.mean(1), atol=1e-5)


def test_resampling_at_the_same_rate_changes_nothing():
    images = np.random.default_rng(0).random((20, 2, 2, 1)).astype(np.float32)
    out = list(video.resample((video.Frame(i / 30, image) for i, image in enumerate(images)), 30.0))
    np.testing.assert_array_equal([f.image for f in out], images)


def test_written_mp4_plays_everywhere(tmp_path):
    frames = squares(15, height=33, width=49)
    video.write_mp4(tmp_path / "a.mp4", iter(frames), 29.97)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (48, 32)
        assert float(stream.average_rate) == pytest.approx(29.97, abs=0.01)
    read = [f.image for f in video.open_video(tmp_path / "a.mp4").frames()]
    assert abs(np.mean(read, (1, 2, 3)) - frames[:, :32, :48].mean((1, 2, 3))).max() < 4
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def flat_layer(height, width, colour, opacity):
    layer = np.zeros((height, width, 4), np.uint8)
    layer[: height // 2] = (*colour, opacity)
    return layer


def overlaid(path, source, layers):
    video.write_overlay(path, source, layers)
    return list(video.open_video(path).frames())


@pytest.mark.parametrize("kind", ["array", "file"])
def test_layers_are_blended_with_the_frames(tmp_path, kind):
    frames = np.broadcast_to(np.array([90, 120, 150], np.uint8), (20, 34, 50, 3))
    source = video.from_array(frames, fps=10.0)
    if kind == "file":
        video.write_mp4(tmp_path / "a.mp4", frames, 10.0)
        source = video.open_video(tmp_path / "a.mp4")
    layers = [(0.0, flat_layer(34, 50, (250, 40, 60), 102)), (1.0, flat_layer(34, 50, (10, 200, 90), 204))]
    out = overlaid(tmp_path / "out.mp4", source, layers)
    assert len(out) == 20
    np.testing.assert_allclose([f.time_s for f in out], np.arange(20) / 10, atol=1e-4)
    for frame in out:
        _, layer = layers[frame.time_s >= 1.0]
        opacity = layer[..., 3:] / 255
        expected = opacity * layer[..., :3] + (1 - opacity) * frames[0]
        for half in (slice(2, 15), slice(19, 32)):  # colours run over an edge
            np.testing.assert_allclose(frame.image[half], expected[half], atol=5)


def test_overlay_keeps_uneven_times_and_turns_frames_upright(tmp_path):
    times = np.cumsum([0.0, 0.03, 0.07, 0.05, 0.02, 0.1])
    frames = [video.Frame(t, np.full((16, 16, 3), 40 * i, np.uint8)) for i, t in enumerate(times)]
    source = video.Video("uneven", 16, 16, 20.0, 0.3, lambda: iter(frames))
    out = overlaid(tmp_path / "out.mp4", source, [(0.0, np.zeros((16, 16, 4), np.uint8))])
    np.testing.assert_allclose([f.time_s for f in out], times, atol=1e-4)
    np.testing.assert_allclose([f.image.mean() for f in out], 40 * np.arange(6), atol=4)


def test_a_film_beside_the_overlay_has_its_pictures_and_times_but_no_layers(tmp_path):
    colours = np.array([[90, 120, 150], [150, 90, 60]], np.uint8)
    frames = np.repeat(colours, 10, 0)[:, None, None] * np.ones((1, 36, 64, 1), np.uint8)
    source = video.from_array(frames, fps=10.0)
    film = video.Film(tmp_path / "film.mp4", 32, 100.0, 20.0)
    layers = [(0.0, flat_layer(36, 64, (255, 255, 255), 255))]
    video.write_overlay(tmp_path / "out.mp4", source, layers, film=film)
    read = list(video.open_video(film.path).frames())
    np.testing.assert_allclose([f.time_s for f in read], np.arange(20) / 10, atol=1e-3)
    assert read[0].image.shape == (18, 32, 3)
    np.testing.assert_allclose([f.image.mean((0, 1)) for f in read], np.repeat(colours, 10, 0), atol=6)


@pytest.mark.parametrize(("fps", "expected"), [(60.0, 15.0), (30.0, 15.0), (25.0, 12.5), (12.0, 12.0)])
@pytest.mark.parametrize("declared_fps", [None, 1000.0])
def test_a_film_has_so_many_frames_at_most_evenly(tmp_path, fps, expected, declared_fps):
    source = video.from_array(squares(48), fps=fps)
    source = replace(source, fps=declared_fps or fps)  # a browser's recording declares 1000
    film = video.Film(tmp_path / "film.mp4", 48, 300.0, 15.0)
    video.write_overlay(tmp_path / "out.mp4", source, [(0.0, flat_layer(32, 48, (0, 0, 0), 0))], film=film)
    times_s = [frame.time_s for frame in video.open_video(film.path).frames()]
    np.testing.assert_allclose(np.diff(times_s), 1 / expected, atol=2e-3)


@pytest.mark.parametrize("kbit_s", [60.0, 240.0])
def test_a_film_keeps_to_its_bit_rate(tmp_path, kbit_s):
    frames = np.random.default_rng(0).integers(0, 255, (150, 96, 128, 3)).astype(np.uint8)  # the worst case
    film = video.Film(tmp_path / "film.mp4", 128, kbit_s, 60.0)
    layers = [(0.0, flat_layer(96, 128, (0, 0, 0), 0))]
    video.write_overlay(tmp_path / "out.mp4", video.from_array(frames, fps=30.0), layers, film=film)
    assert film.path.stat().st_size < 1.6 * kbit_s * 1000 / 8 * 5 + 20_000
    assert film.path.stat().st_size < (tmp_path / "out.mp4").stat().st_size / 2


def test_overlay_is_even_and_not_wider_than_asked():
    for (height, width), expected in (
        ((480, 640), (480, 640)),
        ((33, 49), (32, 48)),
        ((1080, 1920), (540, 960)),
        ((1, 2), (2, 2)),
    ):
        source = video.from_array(np.zeros((2, height, width), np.uint8), fps=30.0)
        assert video.overlay_shape(source, max_width_px=960) == expected


def test_overlay_of_a_small_video_is_enlarged_as_far_as_its_width_allows():
    for (height, width), expected in (
        ((8, 8), (480, 480)),
        ((240, 320), (360, 480)),
        ((480, 640), (480, 640)),
        ((120, 30), (480, 120)),
        ((10, 2000), (4, 960)),
    ):
        source = video.from_array(np.zeros((2, height, width), np.uint8), fps=30.0)
        assert video.overlay_shape(source, max_width_px=960, least_px=480) == expected


def test_failed_writing_leaves_nothing(tmp_path):
    def images():
        yield squares(1)[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        video.write_mp4(tmp_path / "a.mp4", images(), 30.0)
    assert list(tmp_path.iterdir()) == []


def make_bad(tmp_path, name):
    path = tmp_path / name
    if name == "text.mp4":
        path.write_text("this is not a video")
    elif name == "empty.mp4":
        path.write_bytes(b"")
    elif name == "text.npy":
        path.write_text("this is not an array")
    elif name == "shape.npy":
        np.save(path, np.zeros((3, 4), np.uint8))
    elif name == "type.npy":
        np.save(path, np.zeros((3, 4, 5), complex))
    elif name == "pickled.npy":
        np.save(path, np.array([{}], object), allow_pickle=True)
    elif name in ("folder", "mixed"):
        path.mkdir()
        if name == "mixed":
            iio.imwrite(path / "1.png", np.zeros((8, 8), np.uint8))
            iio.imwrite(path / "2.png", np.zeros((8, 9), np.uint8))
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "no such file"),
        ("text.mp4", "a text file, not a video"),
        ("empty.mp4", "empty; copy it again"),
        ("text.npy", "not a readable array"),
        ("pickled.npy", "not a readable array"),
        ("shape.npy", r"shape \(3, 4\)"),
        ("type.npy", "type complex128"),
        ("folder", "an empty folder"),
        ("mixed", "9x8 px, the first image has 8x8"),
    ],
)
def test_bad_input_gets_one_line_that_names_it(tmp_path, name, message):
    path = make_bad(tmp_path, name)
    with pytest.raises(InputError, match=message) as error:
        list(video.open_video(path, fps=30.0).frames())
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_frame_rate_is_asked_for_where_there_is_none(tmp_path):
    np.save(tmp_path / "a.npy", squares(3))
    with pytest.raises(InputError, match=" fps=30"):
        video.open_video(tmp_path / "a.npy")
    with pytest.raises(InputError, match="must be positive"):
        video.open_video(tmp_path / "a.npy", fps=0.0)


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5])
def test_floats_outside_0_to_1_are_refused(bad):
    array = np.full((2, 4, 4), 0.5)
    array[1, 2, 2] = bad
    with pytest.raises(InputError, match=r"outside 0\.\.\.1"):
        list(video.from_array(array, fps=30.0).frames())
