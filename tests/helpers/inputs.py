"""Videos and archives as they come, well formed or not."""

import io
import zipfile
from fractions import Fraction

import av
import numpy as np

FPS, COUNT, HEIGHT, WIDTH = 15.0, 60, 24, 32


def noise(count=COUNT, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3)).astype(np.uint8)


def encode(path, frames=None, *, times_s=None, codec="ffv1", pix_fmt="yuv420p", options=None):
    """A video file; of time stamps that are given, to the millisecond."""
    frames = noise() if frames is None else frames
    ticks = Fraction(1, round(FPS)) if times_s is None else Fraction(1, 1000)
    times_s = np.arange(len(frames)) / FPS if times_s is None else times_s
    with av.open(str(path), "w", options=options or {}) as container:
        stream_ = container.add_stream(codec, rate=round(FPS))
        stream_.height, stream_.width, stream_.pix_fmt = *frames.shape[1:3], pix_fmt
        stream_.codec_context.time_base = ticks
        stream_.codec_context.gop_size = 1
        for image, time_s in zip(frames, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time_s / ticks), ticks
            container.mux(stream_.encode(frame))
        container.mux(stream_.encode())
    return path


def write_films(path, *films, codec="libx264", fps=30, times_s=None):
    """A file with one video stream after the other; of time stamps that are given, to the millisecond."""
    ticks = Fraction(1, fps) if times_s is None else Fraction(1, 1000)
    times_s = np.arange(len(films[0])) / fps if times_s is None else times_s
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=fps) for _ in films]
        for one, frames in zip(streams, films, strict=True):
            one.height, one.width = frames.shape[1:3]
            one.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            one.bit_rate, one.codec_context.time_base = 4_000_000, ticks
        for index, time_s in enumerate(times_s):
            for one, frames in zip(streams, films, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[index]), format="rgb24")
                frame.pts, frame.time_base = round(time_s / ticks), ticks
                container.mux(one.encode(frame))
        for one in streams:
            container.mux(one.encode())
    return path


def pulse(times_s, rate_bpm=72, height=32, width=32):
    """Frames of skin with a pulse, at these times."""
    wave = np.cos(2 * np.pi * rate_bpm / 60 * np.asarray(times_s))[:, None, None, None]
    noisy = np.random.default_rng(0).normal(0, 1, (len(wave), height, width, 3))
    frames = np.array([200, 150, 125]) * (1 - 0.02 * wave * np.array([0.33, 0.77, 0.53])) + noisy
    return np.clip(frames.round(), 0, 255).astype(np.uint8)


def rate_of(frames):
    """The pulse rate of frames of `pulse` in bpm: of the wave that fits green best, by their time stamps."""
    read = [(frame.time_s, frame.image[..., 1].mean()) for frame in frames]
    times_s, green = np.array(read).T
    axis_bpm = np.arange(40, 200, 0.5)
    angles = 2 * np.pi / 60 * np.outer(axis_bpm, times_s)
    return axis_bpm[abs(np.exp(1j * angles) @ ((green - green.mean()) * np.hanning(len(green)))).argmax()]


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, data in members:
            with archive.open(name, "w", force_zip64=True) as member:
                for piece in [data] if isinstance(data, bytes) else data:
                    member.write(piece)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def result_members():
    """The arrays of a map.npz that is as it should be, by name."""
    windows, rows, cols, rates = 3, 2, 2, 4
    arrays = dict.fromkeys(
        ("time_s", "pulse_rate_bpm", "low_bpm", "high_bpm", "pulse_confidence", "equation_8_bpm", "trust"),
        (windows,),
    )
    arrays |= dict.fromkeys(
        ("rate_bpm", "confidence", "no_pulse", "network_no_pulse", "amplitude_percent", "snr_db"),
        (windows, rows, cols),
    )
    arrays |= {"row_px": (rows,), "col_px": (cols,), "rate_axis_bpm": (rates,), "frame": (8, 8, 3)}
    arrays |= {"probability": (windows, rows, cols, rates), "frame_s": (45,), "green": (45, rows, cols)}
    arrays |= {"region_places": (1, rows, cols), "region_readings": (1, windows, 4)}
    return {f"{name}.npy": npy(np.zeros(shape, np.float32)) for name, shape in arrays.items()}
