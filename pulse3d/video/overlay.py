"""Puts layers over a video: pictures stay as they were decoded, and FFmpeg blends the layers in."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8

from pulse3d.video.encoding import new_mp4
from pulse3d.video.frames import Frame, Picture, Video, to_bytes
from pulse3d.video.reading_ahead import frames_ahead, read_ahead, what_is_there

TICKS = Fraction(1, 1000)
ROUNDING_S = 2e-3  # of time stamps in whole milliseconds
_BT709, _UNNAMED = 1, 2  # codes of matrix coefficients (ITU-T H.273, Table 4)


class Film(NamedTuple):
    """A small copy of a video without sound: its file, and at most so wide, so large and so many frames."""

    path: Path
    width_px: int
    most_kbit_s: float
    most_fps: float


def overlay_shape(source: Video, *, max_width_px: int, least_px: int = 1) -> tuple[int, int]:
    """Height and width of an overlay: even, in proportion, at most `max_width_px` wide.

    least_px: of the longer side, as far as that width allows.
    """
    least = max(1.0, least_px / max(source.height, source.width))
    scale = min(least, max_width_px / source.width)
    height, width = (max(2, round(n * scale) // 2 * 2) for n in (source.height, source.width))
    return height, width


def write_overlay(
    path: Path,
    source: Video,
    layers: Iterable[tuple[float, UInt8[np.ndarray, "height width 4"]]],
    *,
    film: Film | None = None,
    watch: Callable[[Iterator[Picture]], Iterable[Picture]] = iter,
) -> None:
    """Writes the source with layers over it as H.264, yuv420p, without sound, with the source's times.

    layers: (time in s from which it is shown, RGBA image) in order, of the size that `overlay_shape` gives;
    the first is shown from the beginning. film: the same pictures without layers, in small, are written
    there, too. watch: wraps the iterator of pictures, as a progress bar does.
    """
    upcoming = iter(layers)
    layer, following = next(upcoming)[1], next(upcoming, None)
    shape, shown, blend = layer.shape[:2], None, None
    pictures = source.pictures() if source.pictures else map(_picture, source.frames())
    shrink, filmed_s = None, -math.inf
    with contextlib.ExitStack() as opened:
        encode = opened.enter_context(new_mp4(path, source.fps))
        if film:
            small = new_mp4(film.path, source.fps, crf=30, most_kbit_s=film.most_kbit_s)
            encode_small = opened.enter_context(small)
        passing = read_ahead(what_is_there(pictures, []), ahead=frames_ahead(source, 8))
        for time_s, frame in watch(passing):
            while following is not None and time_s >= following[0]:
                layer, following, shown = following[1], next(upcoming, None), None
            blend = blend or _make_blend(frame, shape)
            shown = shown or _as_layer(layer, frame)
            # by the time stamps: a file may declare any frame rate, as 1000 of a browser's recording
            if film and time_s - filmed_s >= 1 / film.most_fps - ROUNDING_S:
                filmed_s = time_s
                shrink = shrink or _make_scale(frame, overlay_shape(source, max_width_px=film.width_px))
                encode_small(Picture(time_s, shrink(frame)))
            encode(Picture(time_s, blend(frame, shown)))


def _add_chain(
    graph: av.filter.Graph, like: av.VideoFrame, shape: tuple[int, int], *, method: str = "bicubic"
) -> list[av.filter.context.FilterContext]:
    """Adds what turns pictures upright and scales them to (height, width)."""
    height, width = shape
    chain = [graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=TICKS)]
    turns = {1: ["transpose=cclock"], 2: ["hflip", "vflip"], 3: ["transpose=clock"]}
    scale = f"scale={width}:{height}:flags={method}"
    steps = [*turns.get(round(like.rotation / 90) % 4, []), scale, "format=yuv420p"]
    for name, _, options in (step.partition("=") for step in steps):
        chain.append(graph.add(name, options))
    return chain


def _make_scale(like: av.VideoFrame, shape: tuple[int, int]) -> Callable[[av.VideoFrame], av.VideoFrame]:
    """A function from a frame to the frame turned upright and scaled to (height, width)."""
    graph = av.filter.Graph()
    chain = [*_add_chain(graph, like, shape, method="fast_bilinear"), graph.add("buffersink")]
    for first, second in pairwise(chain):
        first.link_to(second)
    graph.configure()
    count = itertools.count()

    def scale(frame: av.VideoFrame) -> av.VideoFrame:
        frame.pts, frame.time_base = next(count), TICKS
        chain[0].push(frame)
        return graph.vpull()

    return scale


def _picture(frame: Frame) -> Picture:
    image = np.ascontiguousarray(to_bytes(frame.image))
    return Picture(frame.time_s, av.VideoFrame.from_ndarray(image, format="rgb24"))


def _as_layer(image: np.ndarray, beneath: av.VideoFrame) -> av.VideoFrame:
    """Converts an RGBA image to the colour space of the frame beneath: as declared, else the usual one."""
    high_definition = beneath.height > 576 if beneath.colorspace == _UNNAMED else beneath.colorspace == _BT709
    layer = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgba")
    return layer.reformat(
        format="yuva420p",
        dst_colorspace=Colorspace.ITU709 if high_definition else Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
    )


def _make_blend(
    like: av.VideoFrame, shape: tuple[int, int]
) -> Callable[[av.VideoFrame, av.VideoFrame], av.VideoFrame]:
    """A function (frame, layer) -> the frame rotated upright and scaled to (height, width), under the layer.

    FFmpeg blends the colours of a video as they are stored, in a tenth of the time that RGB would take.
    """
    graph, (height, width) = av.filter.Graph(), shape
    chain = _add_chain(graph, like, shape)
    layers = graph.add_buffer(width=width, height=height, format=av.VideoFormat("yuva420p"), time_base=TICKS)
    over, sink = graph.add("overlay", "format=yuv420"), graph.add("buffersink")
    for first, second in pairwise([*chain, over, sink]):
        first.link_to(second)
    layers.link_to(over, 0, 1)
    graph.configure()
    count = itertools.count()

    def blend(frame: av.VideoFrame, layer: av.VideoFrame) -> av.VideoFrame:
        frame.pts = layer.pts = next(count)
        frame.time_base = layer.time_base = TICKS
        chain[0].push(frame)
        layers.push(layer)
        return graph.vpull()  # the graph, not only its sink: it must outlive this function

    return blend
