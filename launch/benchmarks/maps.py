"""The dense map against its definition, against Keras, and against the amount of work."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pulse3d import config
from pulse3d.mapping import tiles
from pulse3d.mapping.mapper import make_mapper
from pulse3d.network import model, weights_file
from pulse3d.settings import override

from . import timing
from .base import Bench, Figure, compare, make_keras
from .timing import Contender


def make_patches(settings: config.Config, count: int) -> np.ndarray:
    """Random patches as the network reads them, means subtracted."""
    shape = (count, *model.clip_shape(settings.clip))
    patches = np.random.default_rng(0).normal(0, 1 / 50, shape).astype(np.float32)
    return patches - patches.mean((1, 2, 3, 4), keepdims=True)


def make_map(bench: Bench, settings: config.Config, params: Any, frame: tuple[int, int]) -> Contender:
    """The dense map of a random window of such frames; its work is one window."""
    mapper = make_mapper(params, settings, frame, devices=list(bench.devices))
    window = np.random.default_rng(1).uniform(0.3, 0.7, mapper.window_shape).astype(np.float32)
    return Contender(lambda: mapper(window))


def map_at_stride_1(bench: Bench, weights: weights_file.Weights) -> Contender:
    """The dense map with a patch at every pixel; its work is the number of patches."""
    settings = override(weights.config, ["map.stride_px=1"])
    rows, cols = tiles.grid_shape(bench.sizes.frame, settings.clip.patch_px, 1)
    contender = make_map(bench, settings, weights.params, bench.sizes.frame)
    return dataclasses.replace(contender, work=rows * cols)


def dense_row(bench: Bench) -> list[Figure]:
    """The dense map against the network on every patch, and against the video's own time."""
    paper = weights_file.load_weights("paper")
    patches = make_patches(paper.config, bench.sizes.batch)
    network = jax.jit(lambda x: jax.nn.softmax(model.apply_logits(paper.params, (x,), paper.config)))

    def one_by_one():
        return [network(patches[i : i + 1]) for i in range(bench.sizes.single)]

    dense, batched, single = "dense map", "definition, batched", "definition, one call per patch"
    times = timing.side_by_side(
        {
            dense: map_at_stride_1(bench, paper),
            batched: Contender(lambda: network(patches), bench.sizes.batch),
            single: Contender(one_by_one, bench.sizes.single),
        },
        repeats=bench.repeats,
    )
    figures = [
        compare(times, f"dense map at stride 1 px, times faster than the {slow}", slow, dense, "s per patch")
        for slow in (batched, single)
    ]
    for name in ("default", "paper"):
        weights = weights_file.load_weights(name)
        contender = make_map(bench, weights.config, weights.params, bench.sizes.frame)
        seconds = timing.side_by_side({name: contender}, repeats=bench.repeats)[name]
        step_s = weights.config.map.step_s
        what = f"map of `{name}` at its own stride, times real time, with a window every {step_s:g} s"
        costs = {"window": timing.spread(seconds)}
        figures.append(Figure(what, timing.spread(step_s / seconds), costs, "s"))
    return figures


def keras_row(bench: Bench) -> list[Figure]:
    """The dense map against Keras with the same weights, as the original program uses it."""
    paper = weights_file.load_weights("paper")
    network = make_keras(bench, paper)
    patches = make_patches(paper.config, bench.sizes.batch)
    size = paper.config.clip.patch_px
    window = np.random.default_rng(1).uniform(0.3, 0.7, (paper.config.clip.frames, size, 64, 1))

    def loop():
        for x in range(bench.sizes.keras_single):
            patch = window[:, :, x : x + size]
            network.predict((patch - patch.mean())[None], verbose=0)

    dense, batched, single = "dense map", "Keras, batched", "Keras, one predict per patch"
    times = timing.side_by_side(
        {
            dense: map_at_stride_1(bench, paper),
            batched: Contender(
                lambda: network.predict(patches, batch_size=len(patches), verbose=0), len(patches)
            ),
            single: Contender(loop, bench.sizes.keras_single),
        },
        repeats=bench.repeats,
    )
    return [
        compare(times, f"dense map at stride 1 px, times faster than {slow}", slow, dense, "s per patch")
        for slow in (batched, single)
    ]


def random_params(settings: config.Config) -> model.Params:
    """Random parameters of the right shapes, for untrained networks."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init_params(jax.random.key(0), settings))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.05, leaf.shape), jnp.float32), shapes)


def work_row(bench: Bench) -> list[Figure]:
    """How the cost of a window's map grows with the frame, the window, the stride and the rates."""
    (height, width), figures = bench.sizes.frame, []
    quarter = (height // 2, width // 2)
    cells = config.get_preset("default").map.cells
    # the kernel spans the whole clip but two frames, at any length
    time, *space = config.expect(config.get_preset("paper").model, config.ModelConfig).kernel
    longer = [f"clip.frames={2 * time + 2}", f"model.kernel={2 * time},{space[0]},{space[1]}"]
    # what grows, by how much; then the two sides: settings and frame
    steps = {
        "paper": [
            ("frame area", 4, ([], quarter), ([], None)),
            ("length of the clip", 2, ([], None), (longer, None)),
            ("patches, by the stride", 4, (["map.stride_px=16"], None), ([], None)),
            ("rates", 2, ([], None), (["clip.rates=150"], None)),
        ],
        "default": [
            ("frame area", 4, ([f"map.cells={cells // 2}"], quarter), ([], None)),
            ("length of the clip", 2, (["clip.frames=76"], None), (["clip.frames=152"], None)),
            ("patches, by the stride", 4, (["map.stride_px=32"], None), ([], None)),
            ("rates", 2, (["clip.rates=41"], None), (["clip.rates=82"], None)),
        ],
    }
    for preset, grown in steps.items():
        contenders = {}
        for _, _, *sides in grown:
            for changes, frame in sides:
                settings = override(config.get_preset(preset), changes)
                key = str((changes, frame))
                if key not in contenders:
                    params = random_params(settings)
                    contenders[key] = make_map(bench, settings, params, frame or bench.sizes.frame)
        times = timing.side_by_side(contenders, repeats=bench.repeats)
        for name, factor, less, more in grown:
            ratio = timing.spread(times[str(more)] / times[str(less)])
            costs = {"less": timing.spread(times[str(less)]), "more": timing.spread(times[str(more)])}
            what = f"`{preset}`: {name} x {factor}; cost of a window's map x"
            figures.append(Figure(what, ratio, costs, "s per window"))
    return figures
