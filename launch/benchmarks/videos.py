"""Mapping a video from the command line: time, its parts, and memory."""

import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pulse3d import config, pipeline, stream, video
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import weights_file
from pulse3d.showing import overlay
from pulse3d.showing.figures import map_figure, save_figure
from pulse3d.synthetic import demo_scene

from . import timing
from .base import Bench, Figure

VIDEO_FPS = 30.0


def make_video(path: Path, frame: tuple[int, int], seconds: float) -> Path:
    """Writes a video of the demo scene, enlarged, with noise in every pixel."""
    height, width = frame
    enlarged = 4
    small = config.SceneConfig(
        height_px=height // enlarged, width_px=width // enlarged, fps=VIDEO_FPS, duration_s=10.0
    )
    frames = demo_scene.make_scene(jax.random.key(0), small).frames
    noise = np.random.default_rng(0).normal(0, 2, (8, *frame, 3)).astype(np.int16)

    def images() -> Iterator[np.ndarray]:
        for index in range(round(seconds * VIDEO_FPS)):
            image = frames[index % len(frames)].repeat(enlarged, 0).repeat(enlarged, 1)
            yield np.clip(image + noise[index % len(noise)], 0, 255).astype(np.uint8)

    video.write_mp4(path, images(), VIDEO_FPS)
    return path


def predict(bench: Bench, path: Path, name: str, *options: str) -> timing.Usage:
    """Runs `launch.predict` on a video."""
    platform = {"JAX_PLATFORMS": "cpu"} if bench.on_cpu else {}
    command = [sys.executable, "-m", "pulse3d", "predict", f"--video={path}", f"--weights={name}"]
    command += [f"--out={bench.folder / 'out'}", "--overwrite", *options]
    return timing.measure_command(command, environment=os.environ | platform)


def predict_row(bench: Bench) -> list[Figure]:
    """The time from the command to the last file for a video, and where it goes."""
    length_s, short_s = bench.sizes.video_s, bench.sizes.short_s
    long = make_video(bench.folder / "long.mp4", bench.sizes.frame, length_s)
    short = make_video(bench.folder / "short.mp4", bench.sizes.frame, short_s)
    clip = make_video(bench.folder / "clip.mp4", bench.sizes.frame, 10.1)
    names = ("default", "paper")
    for name in names:
        predict(bench, clip, name)  # fills the cache of compiled programs
    used = dict[tuple[str, Path], list[timing.Usage]]()
    for _, name, path in itertools.product(range(bench.long_repeats), names, (clip, long)):
        used.setdefault((name, path), []).append(predict(bench, path, name))
    figures = []
    for name in names:
        seconds = np.array([usage.seconds for usage in used[name, long]])
        first = np.array([usage.seconds for usage in used[name, clip]])
        peak = np.array([usage.peak_bytes for usage in used[name, long]]) / 1e6
        size = f"{bench.sizes.frame[1]} x {bench.sizes.frame[0]} video"
        minute = length_s / 60
        figures += [
            Figure(
                f"launch.predict with `{name}`, {length_s:g} s of {size}, start included, times real time",
                timing.spread(length_s / seconds),
                {"minute of video": timing.spread(seconds / minute)},
                "s",
            ),
            Figure(
                f"`{name}` without the start (the time of a clip of 10 s taken off), times real time",
                timing.spread((length_s - 10.1) / np.maximum(seconds - first, 1e-9)),
                {"10 s clip, from command to end": timing.spread(first)},
                "s",
            ),
            Figure(
                f"its peak memory over 1.5 GB (`{name}`)",
                timing.spread(peak / 1500),
                {"peak memory": timing.spread(peak)},
                "MB",
            ),
        ]
    for name in names:
        figures += split(bench, short, name)
    return figures


def split(bench: Bench, path: Path, name: str) -> list[Figure]:
    """The shares of decoding, network, read-out and pictures, timed through the library."""
    measured = [time_pieces(bench, path, name) for _ in range(bench.long_repeats + 1)][1:]
    total = np.array([sum(pieces.values()) for pieces in measured])
    minute = bench.sizes.short_s / 60
    figures = []
    for piece in measured[0]:
        seconds = np.array([pieces[piece] for pieces in measured])
        what = f"share of {piece} in the mapping of video by `{name}`"
        costs = {"minute of video": timing.spread(seconds / minute)}
        figures.append(Figure(what, timing.spread(seconds / total), costs, "s"))
    return figures


def time_pieces(bench: Bench, path: Path, name: str) -> dict[str, float]:
    """Seconds of each part of mapping a video once, one part after the other."""
    weights, source = weights_file.load_weights(name), video.open_video(path)
    mapper = make_mapper(weights.params, weights.config, (source.height, source.width))
    spent = {"decoding": 0.0, "the network": 0.0, "averaging, resampling and read-out": 0.0, "pictures": 0.0}

    def timed(piece: str, run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = run()
        spent[piece] += time.perf_counter() - started
        return result

    def decode(frames: Iterator[Any]) -> Iterator[Any]:
        while (frame := timed("decoding", lambda: next(frames, None))) is not None:
            yield frame

    def follow(_, frames, mapper, *, step_s) -> Iterator[stream.WindowResult]:
        network = dataclasses.replace(
            mapper, map=lambda window: timed("the network", lambda: mapper.map(window))
        )
        return stream.map_windows(decode(iter(frames)), network, step_s=step_s)

    started = time.perf_counter()
    found = pipeline.write_map(bench.folder, source, mapper, weights=weights.name, follow=follow)
    mapped = time.perf_counter() - started
    spent["averaging, resampling and read-out"] = mapped - spent["decoding"] - spent["the network"]
    decoded_before, started = spent["decoding"], time.perf_counter()
    save_figure(map_figure(found, title=name), bench.folder / "map.png")
    shape = video.overlay_shape(source, max_width_px=960)
    video.write_overlay(
        bench.folder / "overlay.mp4", source, overlay.overlay_layers(found, shape), watch=decode
    )
    spent["pictures"] = time.perf_counter() - started - (spent["decoding"] - decoded_before)
    return spent


def memory_row(bench: Bench) -> list[Figure]:
    """The peak memory for a long video over that for a minute."""
    minutes, minute_s = bench.minutes, bench.sizes.minute_s
    one = make_video(bench.folder / "one.mp4", bench.sizes.frame, minute_s)
    many = make_video(bench.folder / "many.mp4", bench.sizes.frame, minutes * minute_s)
    predict(bench, one, "default", "--step_s=10")  # fills the cache of compiled programs
    peaks = np.array(
        [
            [predict(bench, path, "default", "--step_s=10").peak_bytes / 1e6 for path in (one, many)]
            for _ in range(bench.long_repeats)
        ]
    )
    what = f"peak memory for {minutes} minutes of video over that for one, a window every 10 s"
    costs = {"1 minute": timing.spread(peaks[:, 0]), f"{minutes} minutes": timing.spread(peaks[:, 1])}
    return [Figure(what, timing.spread(peaks[:, 1] / peaks[:, 0]), costs, "MB")]
