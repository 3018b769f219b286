"""Draws the pictures of the README: python .github/demo.py

demo.webp: the demo scene as a camera sees it, its blurred changes 80 times as strong, and the pulse-rate
map that the `default` network makes of the former. how.svg: how it works.
"""

from pathlib import Path

import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import pulse3d
from pulse3d.config import SceneConfig
from pulse3d.showing import figures, scales
from pulse3d.synthetic import demo_scene

HERE = Path(__file__).parent
SHOWN_S, FPS, GAIN = 4.0, 15.0, 80.0
LOW_BPM, HIGH_BPM = 50.0, 150.0


def panels(settings: SceneConfig) -> list[Image.Image]:
    """The frames of the animation."""
    demo = demo_scene.make_scene(jax.random.key(0), settings)
    result = pulse3d.map_video(demo.frames, fps=settings.fps)
    smooth = ndimage.uniform_filter(demo.frames[..., 1].astype(np.float32), (3, 31, 31))
    change = smooth - ndimage.uniform_filter1d(smooth, round(2 * settings.fps), axis=0)
    font = ImageFont.truetype(scales.FONT, 13)
    rate_map = _map_panel(demo, result, font)
    names = ("what the camera sees", f"its changes, blurred, x {GAIN:.0f}", "pulse-rate map")
    images = []
    for index in range(round(SHOWN_S * FPS)):
        number = round((1.0 + index / FPS) * settings.fps)
        frame = Image.fromarray(demo.frames[number])
        strong = Image.fromarray(np.clip(128 + GAIN * change[number], 0, 255).astype(np.uint8)).convert("RGB")
        image = Image.new("RGB", (3 * settings.width_px + 16, settings.height_px + 26), "white")
        draw = ImageDraw.Draw(image)
        for column, (name, part) in enumerate(zip(names, (frame, strong, rate_map), strict=True)):
            left = column * (settings.width_px + 8)
            image.paste(part, (left, 26))
            draw.text((left + 2, 5), name, font=font, fill=(30, 36, 48))
        images.append(image)
    return images


def _map_panel(demo: demo_scene.Scene, result: pulse3d.Result, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The map of the middle window on a dark ground, with the rate of every ellipse."""
    height, width = demo.frames.shape[1:3]
    rate_bpm = result.rate_bpm[len(result.time_s) // 2]
    scaled = (np.nan_to_num(rate_bpm) - LOW_BPM) / (HIGH_BPM - LOW_BPM)
    colours = matplotlib.colormaps[scales.RATE_COLOURS](scaled)
    colours[..., 3] = np.isfinite(rate_bpm)
    cell_px = round(result.col_px[1] - result.col_px[0])
    layer = Image.fromarray((255 * colours).astype(np.uint8))
    layer = layer.resize((cell_px * layer.width, cell_px * layer.height), Image.Resampling.NEAREST)
    panel = Image.new("RGB", (width, height), (40, 44, 52))
    corner = round(result.col_px[0] - cell_px / 2), round(result.row_px[0] - cell_px / 2)
    panel.paste(layer, corner, layer)
    draw = ImageDraw.Draw(panel)
    for mask in demo.masks:
        under = mask[np.ix_(result.row_px.astype(int), result.col_px.astype(int))]
        words, edge = f"{np.nanmedian(rate_bpm[under]):.0f} bpm", {"stroke_width": 2, "stroke_fill": "black"}
        middle = np.nonzero(mask)[1].mean(), height / 2
        draw.text(middle, words, font=font, fill="white", anchor="mm", **edge)
    return panel


def how_it_works() -> Figure:
    """The two flows of the package in one figure: what goes in, what each room makes of it."""
    steps = {
        "training, no data set": [
            ("key", "", "a seed and the\nnumber of a step"),
            ("scene", "synthetic/", "pulse, light, motion,\ncodec, noise; the truth"),
            ("logits", "network/", "one for every rate,\none for no pulse"),
            ("loss", "training/", "one jitted step; no\nclip is ever stored"),
        ],
        "mapping a video": [
            ("video", "video/", "file, folder, array,\ncamera; time stamps"),
            ("windows", "mapping/", "10 s of cells, one\nevery second"),
            ("map", "mapping/", "a probability for every\nrate at every place"),
            ("readings", "reading/", "one rate a window, with\ninterval, or no pulse"),
            ("result", "pipeline.py", "named arrays\nand their folder"),
            ("files", "showing/", "page, overlay,\nfigures, tables"),
        ],
    }
    figure = Figure(figsize=(12, 3.6), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 12), ylim=(0, 3.6))
    axes.axis("off")
    for row, (title, boxes) in enumerate(steps.items()):
        middle = 2.55 - 1.75 * row
        axes.text(0.2, middle + 0.72, title, fontsize=11, weight="bold", color="#1c2430")
        for column, (name, room, about) in enumerate(boxes):
            left = 0.2 + 1.98 * column
            box = {"boxstyle": "round,pad=0,rounding_size=0.08", "fc": "#f4f6f8", "ec": "#0072b2"}
            axes.add_patch(FancyBboxPatch((left, middle - 0.55), 1.65, 1.1, **box))
            centred = {"ha": "center", "va": "center"}
            axes.text(left + 0.825, middle + 0.36, name, size=10.5, color="#0072b2", weight="bold", **centred)
            axes.text(
                left + 0.825, middle + 0.1, room, size=8, color="#5a6675", family="monospace", **centred
            )
            axes.text(left + 0.825, middle - 0.28, about, size=7.6, color="#1c2430", **centred)
            if column:
                arrow = {"arrowstyle": "-|>", "color": "#5a6675"}
                axes.annotate("", (left - 0.02, middle), (left - 0.32, middle), arrowprops=arrow)
    return figure


if __name__ == "__main__":
    first, *rest = panels(SceneConfig())
    animation = {"save_all": True, "append_images": rest, "duration": round(1000 / FPS), "loop": 0}
    first.save(HERE / "demo.webp", quality=60, method=4, **animation)
    figures.save_figure(how_it_works(), HERE / "how.svg")
