"""Writes H.264 files, which appear only when they are complete, and passes video through the encoder."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from pulse3d.files import cannot_write, whole_file
from pulse3d.video.frames import Picture


def write_mp4(path: Path, images: Iterable[np.ndarray], fps: float) -> None:
    """Writes uint8 RGB images as H.264, yuv420p; odd sizes lose a row or column."""
    with new_mp4(path, fps) as encode:
        for index, image in enumerate(images):
            height, width = (n // 2 * 2 for n in image.shape[:2])
            even = np.ascontiguousarray(image[:height, :width])
            encode(Picture(index / fps, av.VideoFrame.from_ndarray(even, format="rgb24")))


def through_x264(
    images: Iterable[UInt8[np.ndarray, "height width 3"]], *, fps: float, kbit_s: float
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Encodes RGB images of even size with x264 (mean bit rate, yuv420p) and decodes them, without a file."""
    coded = io.BytesIO()
    with av.open(coded, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000))
        stream.pix_fmt, stream.bit_rate = "yuv420p", round(1000 * kbit_s)
        for image in images:
            if not stream.codec_context.is_open:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    coded.seek(0)
    with av.open(coded, "r") as written:
        for frame in written.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


@contextlib.contextmanager
def new_mp4(
    path: Path, fps: float, *, crf: int = 25, most_kbit_s: float | None = None
) -> Iterator[Callable[[Picture], None]]:
    """Yields a function that encodes pictures into a file; it appears if the context ends without error."""
    ticks = Fraction(1, 90_000)
    with whole_file(path) as temporary, _written(path):
        target = f"file:{temporary.absolute()}"
        with av.open(target, "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000))
            stream.pix_fmt = "yuv420p"
            # takes half the time of "veryfast", at about the same size
            stream.options = {"preset": "superfast", "crf": str(crf)}
            if most_kbit_s:
                stream.options |= {"maxrate": f"{most_kbit_s:.0f}k", "bufsize": f"{2 * most_kbit_s:.0f}k"}
            stream.codec_context.time_base = ticks

            def encode(picture: Picture) -> None:
                time_s, frame = picture
                if not stream.codec_context.is_open:
                    stream.height, stream.width = frame.height, frame.width
                frame.pts, frame.time_base = round(time_s / ticks), ticks
                container.mux(stream.encode(frame))

            yield encode
            container.mux(stream.encode())


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise cannot_write(path, error) from None
