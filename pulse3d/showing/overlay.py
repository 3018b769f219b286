"""The overlay: a video with the current map, and the rate over time, over its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from pulse3d import video
from pulse3d.reading.readout import Reading
from pulse3d.result import LIMITS_BPM, Result
from pulse3d.showing.figures import caption
from pulse3d.showing.scales import FONT, RATE_COLOURS, rate_range

WIDTH_PX, LEAST_PX = 960, 480  # at most; of the longer side, at least
MAP_OPACITY = 0.7  # of places with confidence 1
DARK, LIGHT = (0, 0, 0, 150), (255, 255, 255, 255)  # background and colour of text


def write_overlay(
    result: Result,
    source: video.Video,
    path: Path,
    *,
    limits_bpm: tuple[float, float] = LIMITS_BPM,
    film: video.Film | None = None,
    watch: Callable[[Iterator[video.Picture]], Iterable[video.Picture]] = iter,
) -> None:
    """Writes the overlay of a result, as H.264.

    source: the result's video. limits_bpm: of the colours of rates. film, watch: as in `video.write_overlay`.
    """
    shape = video.overlay_shape(source, max_width_px=WIDTH_PX, least_px=LEAST_PX)
    layers = overlay_layers(result, shape, limits_bpm=limits_bpm)
    video.write_overlay(path, source, layers, film=film, watch=watch)


def overlay_layers(
    result: Result, shape: tuple[int, int], *, limits_bpm: tuple[float, float] = LIMITS_BPM
) -> Iterator[tuple[float, np.ndarray]]:
    """The layers over the frames, one per window: (time in s from which it is shown, RGBA image of `shape`).

    A layer has the rate map, with confidence as opacity, the current rate, the rate over time and a colour
    scale. It is shown until halfway between its window's centre and the next one's. Before the centre of the
    first window there is a layer without a map, and a dash for the rate. limits_bpm: of the colours.
    """
    between = (result.time_s[1:] + result.time_s[:-1]) / 2
    strip = _Strip(result, shape, limits_bpm)
    first_s = float(result.time_s[0])
    if first_s > 0:
        nothing = Image.new("RGBA", shape[::-1])
        strip(nothing, None)
        yield 0.0, np.asarray(nothing)
    for index, time_s in enumerate([first_s, *between.tolist()]):
        layer = _map_layer(result, index, shape, limits_bpm)
        strip(layer, index)
        yield time_s, np.asarray(layer)


def _map_layer(
    result: Result, index: int, shape: tuple[int, int], limits_bpm: tuple[float, float]
) -> Image.Image:
    """The map of one window over a frame of that shape, interpolated between places."""
    (height, width), (low, high) = shape, limits_bpm
    scale = width / result.frame.shape[1]
    rate_bpm, confidence = result.rate_bpm[index], result.confidence[index]
    known = np.isfinite(rate_bpm)
    colours = matplotlib.colormaps[RATE_COLOURS]((np.where(known, rate_bpm, low) - low) / (high - low))
    colours[..., 3] = MAP_OPACITY * confidence * known
    # Premultiplied by opacity before resizing, so that places without a pulse add no colour.
    small = Image.fromarray((255 * colours).astype(np.uint8)).convert("RGBa")
    left, right, bottom, top = (round(v * scale) for v in result.extent_px)
    stretched = small.resize((right - left, bottom - top), Image.Resampling.BILINEAR).convert("RGBA")
    layer = Image.new("RGBA", (width, height))
    layer.paste(stretched, (left, top))
    return layer


class _Strip:
    """Draws the rate, the rate over time and the colour scale on the layer of every window."""

    def __init__(self, result: Result, shape: tuple[int, int], limits_bpm: tuple[float, float]):
        height, width = shape
        self._result, self._size = result, max(9, round(min(height, width) / 24))
        self._margin = max(2, self._size // 3)
        self._font = ImageFont.truetype(FONT, self._size)
        self._small = ImageFont.truetype(FONT, max(8, round(0.75 * self._size)))
        readings = zip(
            result.pulse_rate_bpm, result.low_bpm, result.high_bpm, result.pulse_confidence, strict=True
        )
        self._captions = [caption(Reading(*map(float, reading))) for reading in readings]
        left, top = round(0.62 * width), height - 4 * self._size
        self._box = (left, top, width - self._margin, height - self._margin)
        self._answered = np.isfinite(result.pulse_rate_bpm)
        bounds = (x[self._answered] for x in (result.low_bpm, result.high_bpm))
        floor, ceiling = rate_range(np.concatenate(list(bounds)))
        self._floor, self._ceiling = np.floor(floor), np.ceil(ceiling)
        self._axis = round(self._small.getlength(f"{self._ceiling:.0f}")) + 2 * self._margin
        # what is the same for all windows
        self._under = Image.new("RGBA", (width, height))
        if len(result.time_s) > 1 and self._answered.any():
            self._draw_trace(ImageDraw.Draw(self._under))
        if np.isfinite(result.rate_bpm).any():
            self._draw_scale(ImageDraw.Draw(self._under), shape, limits_bpm)

    def __call__(self, layer: Image.Image, index: int | None) -> None:
        """Draws on the layer of one window, or (None) on that before the first."""
        layer.alpha_composite(self._under)
        draw, size, margin, result = ImageDraw.Draw(layer), self._size, self._margin, self._result
        corner, text = (2 * margin, 2 * margin), "- bpm" if index is None else self._captions[index]
        left, top, right, bottom = draw.textbbox(corner, text, font=self._font)
        frame = (left - margin, top - margin, right + margin, bottom + margin)
        draw.rounded_rectangle(frame, size // 3, fill=DARK)
        draw.text(corner, text, font=self._font, fill=LIGHT)
        if index is not None and self._answered[index] and len(result.time_s) > 1:
            x, y = self._at(result.time_s[index], result.pulse_rate_bpm[index])
            radius = max(2, size // 4)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 210, 60, 255))

    def _at(self, time_s: float, rate_bpm: float) -> tuple[float, float]:
        """The position of a rate at a time in the box of the trace."""
        (left, top, right, bottom), inner, times_s = self._box, self._size // 2, self._result.time_s
        span_s = max(float(np.ptp(times_s)), 1e-6)
        share = np.clip((rate_bpm - self._floor) / (self._ceiling - self._floor), 0, 1)
        x = left + self._axis + (right - left - self._axis - inner) * (time_s - times_s[0]) / span_s
        return x, bottom - inner - (bottom - top - 2 * inner) * share

    def _draw_trace(self, draw: ImageDraw.ImageDraw) -> None:
        """The rate over time with its interval, and the least and the highest rate of its axis."""
        result, size, (left, _, right, _) = self._result, self._size, self._box
        draw.rounded_rectangle(self._box, size // 3, fill=DARK)
        for rate in (self._floor, self._ceiling):
            y = self._at(result.time_s[0], rate)[1]
            end = left + self._axis - self._margin
            draw.text((end, y), f"{rate:.0f}", font=self._small, fill=LIGHT, anchor="rm")
            draw.line([(end + self._margin, y), (right - size // 2, y)], fill=(255, 255, 255, 60))
        for (run,) in ndimage.find_objects(ndimage.label(self._answered)[0]):
            if run.stop - run.start > 1:
                low, line, high = (
                    [self._at(*point) for point in zip(result.time_s[run], rates[run], strict=True)]
                    for rates in (result.low_bpm, result.pulse_rate_bpm, result.high_bpm)
                )
                draw.polygon([*low, *reversed(high)], fill=(255, 255, 255, 70))
                draw.line(line, fill=LIGHT, width=max(1, size // 9))

    def _draw_scale(
        self, draw: ImageDraw.ImageDraw, shape: tuple[int, int], limits_bpm: tuple[float, float]
    ) -> None:
        """The colours of the map, with the rates at both ends."""
        (height, width), size, margin = shape, self._size, self._margin
        font, (low, high) = self._small, limits_bpm
        ends = [f"{low:.0f}", f"{high:.0f} bpm"]
        lengths = [round(draw.textlength(text, font=font)) for text in ends]
        x, y, length = margin, height - round(1.6 * size), round(0.16 * width)
        edge = x + sum(lengths) + length + 4 * margin
        draw.rounded_rectangle((x, y, edge, height - margin), size // 3, fill=DARK)
        middle, start = (y + height - margin) / 2, x + 2 * margin + lengths[0]
        draw.text((x + margin, middle), ends[0], font=font, fill=LIGHT, anchor="lm")
        for step in range(length):
            red, green, blue, _ = matplotlib.colormaps[RATE_COLOURS](step / length)
            colour = tuple(round(255 * value) for value in (red, green, blue))
            draw.line([(start + step, middle - size / 4), (start + step, middle + size / 4)], fill=colour)
        draw.text((start + length + margin, middle), ends[1], font=font, fill=LIGHT, anchor="lm")
