"""Which video of a file is read, and by which clock: the right rate, and what was assumed."""

import contextlib
import os
import re
import threading

import imageio.v3 as iio
import numpy as np
import pytest
from helpers.inputs import pulse, rate_of, write_films
from helpers.sandbox import uniform_mapper

from pulse3d import pipeline, stream, video
from pulse3d.errors import InputError

FPS, SECONDS = 30, 5
EVEN = np.arange(FPS * SECONDS) / FPS
UNEVEN = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.05, 140))
DIM = np.r_[np.arange(50) / 30, 50 / 30 + np.arange(51) / 15]
FIRST_NS = 1_392_643_993_642_815_000  # of a recording of PURE


def two_films(path):
    """The first has 72 bpm, the second 90 and more data."""
    return write_films(path, pulse(EVEN), pulse(EVEN, 90, 48, 64))


def two_sizes(path):
    """Pictures one after the other, from the middle on half as wide and high."""
    films = (pulse(EVEN[:75]), pulse(EVEN[75:], height=16, width=16))
    pictures = (
        iio.imwrite("<bytes>", image, extension=".jpg", quality=97) for film in films for image in film
    )
    path.write_bytes(b"".join(pictures))
    return path


def joined(path, *, side_px=32, **options):
    """Two recordings, one after the other as `cat` joins them: the wave goes on, the clock starts anew.

    side_px: of the second.
    """
    films = np.split(pulse(np.arange(2 * len(EVEN)) / FPS), 2)
    films[1] = films[1][:, :side_px, :side_px]
    parts = [write_films(path.with_stem(f"part{n}"), film, **options) for n, film in enumerate(films)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def piped(path):
    """A named pipe that gives this file once."""
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)

    def feed():
        with contextlib.suppress(BrokenPipeError):
            pipe.write_bytes(path.read_bytes())

    threading.Thread(target=feed, daemon=True).start()
    return pipe


def images(path, names, times_s=UNEVEN):
    path.mkdir()
    for name, image in zip(names, pulse(times_s), strict=True):
        iio.imwrite(path / name, image)
    return path


def stamps(unit_ns, times_s=UNEVEN):
    return [(FIRST_NS + round(1e9 * time_s)) // unit_ns for time_s in times_s]


BOTH = r"clock starts anew at 5.00 s, as where recordings are joined \(all is read"
FIRST = "two recordings joined, of which the first is read"
NAMES = "the names of its images, which count {} since 1970, are its clock"
# what is written; options of `open_video`; the right rate; seconds that are read; what is said
READ = {
    "the heaviest": (lambda tmp: two_films(tmp / "a.mkv"), {}, 90, 5, r"number 2 is .*64x48 px.*; stream=N"),
    "number 1": (lambda tmp: two_films(tmp / "a.mkv"), {"stream": 1}, 72, 5, ""),
    "number 2": (lambda tmp: two_films(tmp / "a.mp4"), {"stream": 2}, 90, 5, ""),
    "of a pipe the first": (
        lambda tmp: piped(two_films(tmp / "a.mkv")), {}, 72, 5, "number 1 is read, which comes first",
    ),
    "of a pipe number 2": (lambda tmp: piped(two_films(tmp / "a.mkv")), {"stream": 2}, 90, 5, ""),
    "of one number 1": (lambda tmp: write_films(tmp / "a.mp4", pulse(EVEN)), {"stream": 1}, 72, 5, ""),
    "stamps beside a header": (
        lambda tmp: write_films(tmp / "a.mkv", pulse(UNEVEN), times_s=UNEVEN, fps=25), {}, 72, 4.86,
        r"declares 25 frames a second, its time stamps come to 27.\d+; the time stamps are its clock$",
    ),
    "a rate instead of stamps": (
        lambda tmp: write_films(tmp / "a.mp4", pulse(EVEN)), {"fps": 60.0}, 144, 2.5,
        "is read at 60 frames a second, as given; its own time stamps are not used$",
    ),
    "a browser's recording": (
        lambda tmp: write_films(tmp / "a.webm", pulse(EVEN), codec="libvpx", fps=1000, times_s=EVEN),
        {}, 72, 5,
        "declares 1000 frames a second, its time stamps come to 30; the time stamps are its clock$",
    ),
    "a rate that halves in the dark": (
        lambda tmp: write_films(tmp / "a.mkv", pulse(DIM), times_s=DIM), {}, 72, 5.1,
        "declares 30 frames a second, its time stamps come to 20; the time stamps are its clock$",
    ),
    "a call whose size adapts": (
        lambda tmp: two_sizes(tmp / "a.mjpeg"), {"fps": 30.0}, 72, 5,
        r"^\S+: 16x16 px at 2.50 s, before it 32x32 \(scaled to that\); everything in it was read$",
    ),
    "nanoseconds": (
        lambda tmp: images(tmp / "a", [f"Image{n}.png" for n in stamps(1)]), {}, 72, 4.86, NAMES.format("ns"),
    ),
    "microseconds": (
        lambda tmp: images(tmp / "a", [f"{n}.png" for n in stamps(10**3)]), {}, 72, 4.86, NAMES.format("µs"),
    ),
    "milliseconds": (
        lambda tmp: images(tmp / "a", [f"f_{n}_left.png" for n in stamps(10**6)]), {}, 72, 4.86,
        NAMES.format("ms"),
    ),
    "seconds": (
        lambda tmp: images(tmp / "a", [f"{n // 10**6}.{n % 10**6:06}.png" for n in stamps(10**3)]), {}, 72,
        4.86, NAMES.format("s"),
    ),
    "a rate instead of names": (
        lambda tmp: images(tmp / "a", [f"Image{n}.png" for n in stamps(1, EVEN)], EVEN), {"fps": 60.0}, 144,
        2.5, "is read at 60 frames a second, as given; its names are time stamps, not used$",
    ),
    "numbers of frames": (
        lambda tmp: images(tmp / "a", [f"{n}.png" for n in range(150)], EVEN), {"fps": 30.0}, 72, 5, "",
    ),
    "joined.ts": (lambda tmp: joined(tmp / "a.ts"), {}, 72, 10, BOTH),
    "joined.mkv": (lambda tmp: joined(tmp / "a.mkv"), {}, 72, 10, BOTH),
    "joined in two sizes": (
        lambda tmp: joined(tmp / "a.ts", side_px=16), {}, 72, 10,
        r"16x16 px at 5.00 s, before it 32x32 \(scaled to that\), its clock starts anew at 5.00 s.*was read$",
    ),
    "joined.mpg": (lambda tmp: joined(tmp / "a.mpg", codec="mpeg2video"), {}, 72, 10, BOTH),
    "joined.avi": (lambda tmp: joined(tmp / "a.avi", codec="mjpeg"), {}, 72, 10, ""),
    "a joined pipe": (lambda tmp: piped(joined(tmp / "a.ts")), {}, 72, 10, BOTH),
    "joined.mp4": (lambda tmp: joined(tmp / "a.mp4"), {}, 72, 5, FIRST),
    "joined.mov": (lambda tmp: joined(tmp / "a.mov", codec="mjpeg"), {}, 72, 5, FIRST),
    "joined.flv": (lambda tmp: joined(tmp / "a.flv"), {}, 72, 5, FIRST),
    "joined.wmv": (lambda tmp: joined(tmp / "a.wmv", codec="wmv2"), {}, 72, 5, FIRST),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_every_input_has_its_right_rate_and_says_what_was_assumed(tmp_path, toy, name):
    make, options, rate_bpm, seconds, said = READ[name]
    source, read = video.open_video(make(tmp_path), **options), []

    def frames():
        for frame in opened():
            read.append(frame)
            yield frame

    opened, mapper = source.frames, uniform_mapper(toy, (source.height, source.width))
    (tmp_path / "out").mkdir()
    source = video.Video(**vars(source) | {"frames": frames})
    summary = pipeline.write_map(tmp_path / "out", source, mapper, weights="toy").summary
    assert rate_of(read) == pytest.approx(rate_bpm, abs=2)
    assert summary["video_seconds_read"] == pytest.approx(seconds, abs=0.2)
    lines = [*summary["notes"], *summary["lost"]]
    assert any(re.search(said, line) for line in lines) if said else not lines, lines


NONE = {
    "no third": ("a.mkv", {"stream": 3}, r"holds 2 videos: 1 \(32x32 px\), 2 \(64x48 px\)$"),
    "counted from 1": ("a.mkv", {"stream": 0}, "stream=0: no such video"),
    "an array": (
        "a.npy",
        {"stream": 2, "fps": 30.0},
        "a.npy: stream=2: no such video; it holds one video: 1$",
    ),
    "a camera": ("<video0>", {"stream": 2}, "<video0>: stream=2: no such video"),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_video_of_an_input_is_refused_with_those_that_are(tmp_path, monkeypatch, name):
    given, options, message = NONE[name]
    monkeypatch.chdir(tmp_path)
    two_films(tmp_path / "a.mkv")
    np.save("a.npy", pulse(EVEN))
    with pytest.raises(InputError, match=message):
        video.open_video(given, **options)


def test_a_pipe_has_no_third_video_either(tmp_path):
    with pytest.raises(InputError, match="pipe: stream=3: no such video; it holds 2 videos"):
        video.open_video(piped(two_films(tmp_path / "a.mkv")), stream=3)


NO_STAMPS = {
    "numbers": [f"frame_{n:06}.png" for n in range(20)],
    "long numbers": [f"{FIRST_NS + n}.png" for n in range(20)],
    "days and numbers": [f"20140217{n:05}.png" for n in range(20)],
    "calendar": [f"20140217_1733{n / 10:06.3f}.png" for n in range(20)],
    "one a minute": [f"{(FIRST_NS + 60 * 10**9 * n) // 10**6}.png" for n in range(20)],
    "one without": [*(f"{n}.png" for n in stamps(1)[:19]), "last.png"],
}


@pytest.mark.parametrize("name", NO_STAMPS)
def test_names_that_are_no_time_stamps_ask_for_a_rate(tmp_path, name):
    images(tmp_path / "a", NO_STAMPS[name], np.arange(20) / FPS)
    with pytest.raises(InputError, match=r"images have no time stamps; .* as in fps=30$"):
        video.open_video(tmp_path / "a")


def test_images_of_another_day_end_the_video(tmp_path):
    times_s = np.r_[EVEN[:100], 86_400 + EVEN[:50]]
    images(tmp_path / "a", [f"{n}.png" for n in stamps(1, times_s)], times_s)
    lost, opened = [], video.open_video(tmp_path / "a")
    assert len(list(video.what_is_there(opened.frames(), lost))) == 100
    assert (opened.fps, opened.duration_s) == pytest.approx((FPS, 100 / FPS), rel=1e-6)
    assert re.search(r"\.png: 86397 s after the image before it; put what follows", lost[0])


@pytest.mark.parametrize("offset_s", [0.0, -1000.0, 3.0])
def test_frames_from_code_whose_clock_starts_anew_go_on(toy, offset_s):
    """A camera that is plugged in again: its clock begins elsewhere, below where it was."""
    whole = np.arange(2 * len(EVEN)) / FPS
    given = zip(np.r_[EVEN, EVEN + offset_s], pulse(whole), strict=True)
    windows = list(stream.map_windows(given, uniform_mapper(toy, (32, 32))))
    once = list(stream.map_windows(zip(whole, pulse(whole), strict=True), uniform_mapper(toy, (32, 32))))
    for found, expected in zip(windows, once, strict=True):
        assert found.time_s == expected.time_s
        np.testing.assert_allclose(found.green, expected.green, atol=1e-6)


def test_single_stamps_that_fall_start_no_clock_anew():
    restarts = []
    times_s = [*EVEN[:60], 0.1, 0.2, *EVEN[60:90], 0.3, 0.2, 0.1, *EVEN[90:]]
    passed = list(video.continued([(time_s, None) for time_s in times_s], restarts))
    assert ([time_s for time_s, _ in passed], restarts) == (times_s, [])
    again = list(video.continued([(time_s, None) for time_s in (*EVEN, *EVEN, *EVEN)], restarts))
    np.testing.assert_allclose([time_s for time_s, _ in again], np.arange(450) / FPS)
    np.testing.assert_allclose(restarts, [5, 10])


def test_a_single_stamp_that_jumps_up_is_a_gap_of_its_own_height():
    restarts = []
    times_s = [*EVEN[:60], 300.0, *EVEN[61:]]
    passed = [time_s for time_s, _ in video.continued([(time_s, None) for time_s in times_s], restarts)]
    np.testing.assert_allclose(passed[:61], times_s[:61])
    np.testing.assert_allclose(passed[61:], 300 + np.arange(1, len(EVEN) - 60) / FPS)


def test_decimals_of_any_length_are_in_order_and_hidden_files_no_images(tmp_path):
    """As Python prints times: 0.5 after 0.25."""
    images(tmp_path / "a", [f"{1_700_000_000 + n / 8}.png" for n in range(16)], np.arange(16) / 8)
    (tmp_path / "a" / "._1700000000.125.png").write_bytes(b"of another program")
    found = video.open_video(tmp_path / "a")
    np.testing.assert_allclose([frame.time_s for frame in found.frames()], np.arange(16) / 8, atol=1e-6)
