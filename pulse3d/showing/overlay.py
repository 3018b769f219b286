"""The layers that are laid over a video: its map at the moment, and the rate so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pulse3d.reading.readout import Reading
from pulse3d.result import Result
from pulse3d.showing.figures import FONT, RATE_COLOURS, caption, rate_range

MAP_OPACITY = 0.7  # of what is certain, over the video


def overlay_layers(result: Result, shape: tuple[int, int]) -> Iterator[tuple[float, np.ndarray]]:
    """What lies over the frames: (time in s from which it is shown, RGBA image of `shape`), one per window.

    The rate map, as opaque as it is sure; the running rate; the rate over time; a scale of colours. A
    window is shown until the middle between its centre and the next one's.
    """
    between = (result.time_s[1:] + result.time_s[:-1]) / 2
    strip = _trace_strip(result, shape)
    for index, time_s in enumerate([0.0, *between.tolist()]):
        layer = _map_layer(result, index, shape)
        strip(layer, index)
        yield time_s, np.asarray(layer)


def _map_layer(result: Result, index: int, shape: tuple[int, int]) -> Image.Image:
    """The map of one window over a frame of that shape, smooth between the places."""
    (height, width), (low, high) = shape, rate_range(result.rate_bpm, result.confidence)
    scale = width / result.frame.shape[1]
    rate_bpm, confidence = result.rate_bpm[index], result.confidence[index]
    known = np.isfinite(rate_bpm)
    colours = matplotlib.colormaps[RATE_COLOURS]((np.where(known, rate_bpm, low) - low) / (high - low))
    colours[..., 3] = MAP_OPACITY * confidence * known
    # Colours are stretched as far as they are opaque: what has no pulse has no colour to give.
    small = Image.fromarray((255 * colours).astype(np.uint8)).convert("RGBa")
    left, right, bottom, top = (round(v * scale) for v in result.extent_px)
    stretched = small.resize((right - left, bottom - top), Image.Resampling.BILINEAR).convert("RGBA")
    layer = Image.new("RGBA", (width, height))
    layer.paste(stretched, (left, top))
    return layer


def _trace_strip(result: Result, shape: tuple[int, int]) -> Callable[[Image.Image, int], None]:
    """A function that draws on a window's layer its rate, the rate over time and the scale of colours."""
    (height, width), (low, high) = shape, rate_range(result.rate_bpm, result.confidence)
    size = max(9, round(min(height, width) / 24))
    font, small = (ImageFont.truetype(FONT, n) for n in (size, max(8, round(0.75 * size))))
    dark, light, margin = (0, 0, 0, 150), (255, 255, 255, 255), max(2, size // 3)
    readings = zip(
        result.pulse_rate_bpm, result.low_bpm, result.high_bpm, result.pulse_confidence, strict=True
    )
    captions = [caption(Reading(*map(float, reading))) for reading in readings]
    box = (round(0.62 * width), height - 4 * size, width - margin, height - margin)
    answered = np.isfinite(result.pulse_rate_bpm)
    floor, ceiling = rate_range(np.concatenate([result.low_bpm[answered], result.high_bpm[answered]]))
    span_s = max(float(np.ptp(result.time_s)), 1e-6)

    def place(time_s: float, rate_bpm: float) -> tuple[float, float]:
        inner = size // 2
        x = box[0] + inner + (box[2] - box[0] - 2 * inner) * (time_s - result.time_s[0]) / span_s
        share = np.clip((rate_bpm - floor) / (ceiling - floor), 0, 1)
        return x, box[3] - inner - (box[3] - box[1] - 2 * inner) * share

    def background() -> Image.Image:
        """What is the same for all windows: the band, the line and the scale of colours."""
        under = Image.new("RGBA", (width, height))
        draw = ImageDraw.Draw(under)
        if len(result.time_s) > 1 and answered.any():
            draw.rounded_rectangle(box, size // 3, fill=dark)
            for first, last in _runs(answered):
                every = range(first, last)
                band = [place(result.time_s[i], result.low_bpm[i]) for i in every]
                band += [place(result.time_s[i], result.high_bpm[i]) for i in reversed(every)]
                if last - first > 1:
                    draw.polygon(band, fill=(255, 255, 255, 70))
                    line = [place(result.time_s[i], result.pulse_rate_bpm[i]) for i in every]
                    draw.line(line, fill=light, width=max(1, size // 9))
        if np.isfinite(result.rate_bpm).any():
            ends = [f"{low:.0f}", f"{high:.0f} bpm"]
            lengths = [round(draw.textlength(text, font=small)) for text in ends]
            x, y, length = margin, height - round(1.6 * size), round(0.16 * width)
            edge = x + sum(lengths) + length + 4 * margin
            draw.rounded_rectangle((x, y, edge, height - margin), size // 3, fill=dark)
            middle = (y + height - margin) / 2
            draw.text((x + margin, middle), ends[0], font=small, fill=light, anchor="lm")
            start = x + 2 * margin + lengths[0]
            for step in range(length):
                red, green, blue, _ = matplotlib.colormaps[RATE_COLOURS](step / length)
                colour = tuple(round(255 * value) for value in (red, green, blue))
                draw.line([(start + step, middle - size / 4), (start + step, middle + size / 4)], fill=colour)
            draw.text((start + length + margin, middle), ends[1], font=small, fill=light, anchor="lm")
        return under

    under = background()

    def draw_on(layer: Image.Image, index: int) -> None:
        layer.alpha_composite(under)
        draw = ImageDraw.Draw(layer)
        words = captions[index]
        left, top, right, bottom = draw.textbbox((2 * margin, 2 * margin), words, font=font)
        draw.rounded_rectangle(
            (left - margin, top - margin, right + margin, bottom + margin), size // 3, fill=dark
        )
        draw.text((2 * margin, 2 * margin), words, font=font, fill=light)
        if answered[index] and len(result.time_s) > 1:
            x, y = place(result.time_s[index], result.pulse_rate_bpm[index])
            radius = max(2, size // 4)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 210, 60, 255))

    return draw_on


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and end (exclusive) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
