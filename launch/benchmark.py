r"""How fast it is, as ratios: what is compared takes turns in one run.

    python -m launch.benchmark --out=benchmark

Writes benchmark.json and table.md (also printed) into --out, after every row. Rows, chosen with
--rows=dense,training: dense (the dense map against the definition), keras (against the same weights
in Keras), training (clips per second against Keras fed by NumPy), generator (its share of a step),
precision (bfloat16 against float32), work (cost against work), predict (a minute of 640 x 480 video
from the command line, and its pieces), memory (one minute of video against --minutes), roofline
(against the ceilings of this machine), schedule (the paper's whole training; accelerators only).

keras and training compare with Keras where `pip install 'pulse3d[bench]'` put it. Other load on the
machine falls on all that is compared but widens the spread: leave it alone meanwhile. --small runs
everything in small, to try it; its figures mean nothing.
"""

import dataclasses
import functools
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from launch import common
from pulse3d import (
    checkpoint,
    config,
    files,
    generator,
    mapping,
    model,
    original,
    plots,
    result,
    scene,
    stream,
    tiles,
    timing,
    train,
    video,
)
from pulse3d.errors import InputError
from pulse3d.timing import Contender, Seconds, Spread

_OUT = flags.DEFINE_string("out", "pulse3d_out/benchmark", "Output folder.")
_ROWS = flags.DEFINE_list("rows", None, "Which rows; default: all that this machine can have.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Repetitions of every measurement.", lower_bound=1)
_DEVICE = flags.DEFINE_enum("device", None, ["cpu", "gpu", "tpu"], "Where it runs; default: as JAX chooses.")
_MINUTES = flags.DEFINE_integer("minutes", 2, "Length of the long video of the row memory.", lower_bound=2)
_SMALL = flags.DEFINE_bool("small", False, "Everything in small, to try the program.")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much work the rows do.

    frame: height, width. batch, single: patches of the definition, in one batch and one by one.
    clips: of a training step, for each preset. video_s, short_s: length of the videos mapped.
    minute_s: what counts as a minute of video in the row memory.
    matrix, array: size of the matrices and of the arrays by which the ceilings are measured.
    """

    frame: tuple[int, int] = (480, 640)
    batch: int = 256
    single: int = 16
    keras_single: int = 8
    clips: int = 152
    default_clips: int = 128
    video_s: float = 60.0
    short_s: float = 14.0
    minute_s: float = 60.0
    matrix: int = 2048
    array: int = 2**26


SMALL = Sizes((96, 128), 16, 2, 2, 4, 4, 12.0, 11.0, 11.0, 256, 2**20)
ACCELERATOR = Sizes(batch=4096, clips=15_200, default_clips=4096, matrix=8192, array=2**28)
VIDEO_FPS = 30.0


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all rows share."""

    sizes: Sizes
    repeats: int
    devices: tuple[jax.Device, ...]
    minutes: int
    folder: Path

    @property
    def on_cpu(self) -> bool:
        """Whether this is no accelerator."""
        return self.devices[0].platform == "cpu"

    @property
    def long_repeats(self) -> int:
        """Repetitions of what takes a minute each."""
        return max(1, self.repeats // 2)


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table: what is compared, the ratio, and what each side costs."""

    what: str
    ratio: Spread
    costs: dict[str, Spread]
    unit: str


class NotHere(Exception):
    """A row that this machine cannot have; the message says why."""


def main() -> None:
    started = time.time()
    bench = make_bench(Path(tempfile.gettempdir()))
    rows = list(ROWS) if _ROWS.value is None else _ROWS.value
    for row in rows:
        if row not in ROWS:
            raise InputError(f"--rows={row}: no such row; there are {', '.join(ROWS)}")
    out = files.make_folder(Path(_OUT.value))
    result: dict[str, Any] = {
        "machine": timing.describe_machine(bench.devices[0]) | {"devices": len(bench.devices)},
        "repeats": bench.repeats,
        "sizes": dataclasses.asdict(bench.sizes),
        "skipped": {},
        "figures": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        bench = dataclasses.replace(bench, folder=Path(folder))
        for row in rows:
            print(f"{row} ...", file=sys.stderr, flush=True)
            try:
                figures = ROWS[row](bench)
            except NotHere as why:
                result["skipped"][row] = str(why)
                print(f"{row} skipped: {why}", file=sys.stderr)
                continue
            result["figures"] += [{"row": row} | as_json(figure) for figure in figures]
            result["seconds"] = round(time.time() - started, 1)
            files.write_json(out / "benchmark.json", result)
            files.write_atomically(out / "table.md", make_table(result).encode())
    files.write_json(out / "benchmark.json", result)
    files.write_atomically(out / "table.md", make_table(result).encode())
    print(make_table(result))
    print(f"written to {out}: benchmark.json, table.md")


def make_bench(folder: Path) -> Bench:
    """The devices and sizes that the flags ask for; raises InputError where there is no such device."""
    try:
        devices = tuple(jax.devices(_DEVICE.value))
    except RuntimeError:
        raise InputError(f"--device={_DEVICE.value}: JAX sees none; choose cpu") from None
    jax.config.update("jax_default_device", devices[0])
    sizes = Sizes() if devices[0].platform == "cpu" else ACCELERATOR
    return Bench(SMALL if _SMALL.value else sizes, _REPEATS.value, devices, _MINUTES.value, folder)


def as_json(figure: Figure) -> dict[str, Any]:
    """A figure as benchmark.json has it."""
    return {
        "what": figure.what,
        "ratio": figure.ratio._asdict(),
        "costs": {name: cost._asdict() for name, cost in figure.costs.items()},
        "cost_unit": figure.unit,
    }


def make_table(result: dict[str, Any]) -> str:
    """The figures as a Markdown table, under a line about the machine."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores; {machine['devices']} x {machine['device']}; {versions};"
        f" {result['repeats']} repetitions, load before {machine.get('load_before', 'unknown')}.",
        "",
        "| row | what | ratio | lowest to highest | costs, medians |",
        "|---|---|---|---|---|",
    ]
    for figure in result["figures"]:
        ratio = figure["ratio"]
        costs = "; ".join(f"{name} {cost['median']:.3g}" for name, cost in figure["costs"].items())
        unit = f" ({figure['cost_unit']})" if costs else ""
        lines.append(
            f"| {figure['row']} | {figure['what']} | {ratio['median']:.4g} |"
            f" {ratio['lowest']:.4g} to {ratio['highest']:.4g} | {costs}{unit} |"
        )
    lines += [f"| {row} | skipped: {why} | | | |" for row, why in result["skipped"].items()]
    return "\n".join(lines) + "\n"


def compare(times: dict[str, Seconds], what: str, slow: str, fast: str, unit: str) -> Figure:
    """How many times as long `slow` takes as `fast`, per unit of work."""
    costs = {name: timing.spread(times[name]) for name in (slow, fast)}
    return Figure(what, timing.spread(times[slow] / times[fast]), costs, unit)


# The map


def make_patches(bench: Bench, settings: config.Config, count: int) -> np.ndarray:
    """Random patches as the network reads them, means subtracted."""
    shape = (count, *model.clip_shape(settings.clip))
    patches = np.random.default_rng(0).normal(0, 1 / 50, shape).astype(np.float32)
    return patches - patches.mean((1, 2, 3, 4), keepdims=True)


def make_map(bench: Bench, settings: config.Config, params: Any, frame: tuple[int, int]) -> Contender:
    """The dense map of a random window of such frames; its work is one window."""
    layout = mapping.make_layout(frame, settings)
    mapper = mapping.make_mapper(params, settings, layout, devices=list(bench.devices))
    shape = (settings.clip.frames, *layout.grid, settings.clip.channels)
    window = np.random.default_rng(1).uniform(0.3, 0.7, shape).astype(np.float32)
    return Contender(lambda: mapper(window))


def map_at_stride_1(bench: Bench, weights: checkpoint.Weights) -> Contender:
    """The dense map with a patch at every pixel; its work is the number of patches."""
    settings = config.override(weights.config, ["map.stride_px=1"])
    rows, cols = tiles.grid_shape(bench.sizes.frame, settings.clip.patch_px, 1)
    contender = make_map(bench, settings, weights.params, bench.sizes.frame)
    return dataclasses.replace(contender, work=rows * cols)


def dense_row(bench: Bench) -> list[Figure]:
    """The dense map against the network on every patch, and against the video's own time."""
    paper = checkpoint.load_weights("paper")
    patches = make_patches(bench, paper.config, bench.sizes.batch)
    network = jax.jit(lambda x: jax.nn.softmax(model.apply_logits(paper.params, x, paper.config)))

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
        weights = checkpoint.load_weights(name)
        contender = make_map(bench, weights.config, weights.params, bench.sizes.frame)
        seconds = timing.side_by_side({name: contender}, repeats=bench.repeats)[name]
        what = f"map of `{name}` at its own stride, times real time, with a window every {{:g}} s"
        step_s = weights.config.map.step_s
        figures.append(
            Figure(
                what.format(step_s),
                timing.spread(step_s / seconds),
                {"window": timing.spread(seconds)},
                "s",
            )
        )
    return figures


def make_keras(bench: Bench, weights: checkpoint.Weights) -> Any:
    """The Keras model of these weights; raises NotHere where there is none to compare with."""
    if not bench.on_cpu:
        raise NotHere("Keras is compared on the CPU")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return original.make_network(weights.params, weights.config)
    except InputError as error:
        raise NotHere(str(error)) from None


def keras_row(bench: Bench) -> list[Figure]:
    """The dense map against Keras with the same weights, as the original program uses it."""
    paper = checkpoint.load_weights("paper")
    network = make_keras(bench, paper)
    patches = make_patches(bench, paper.config, bench.sizes.batch)
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


# Training


def training_config(bench: Bench, preset: str, *, compute: str = "float32") -> config.Config:
    """A preset with the batch of this benchmark and the random generator that is fast here."""
    clips = bench.sizes.clips if preset == "paper" else bench.sizes.default_clips
    prng = "philox2x32" if bench.on_cpu and len(bench.devices) == 1 else "threefry2x32"
    changes = [f"train.batch_size={clips}", f"train.prng={prng}", f"train.compute={compute}"]
    return config.override(config.get_preset(preset), changes)


@functools.cache
def make_step(bench: Bench, settings: config.Config) -> tuple[Contender, jax.stages.Lowered]:
    """A training step, generator inside, and its program; its work is the number of clips."""
    step: Any = train.make_train_step(settings, train.make_mesh(list(bench.devices)))
    state = train.init_state(settings, params=checkpoint.load_weights(settings.preset).params)
    lowered = step.lower(state)

    def run():
        nonlocal state
        state, metrics = step(state)
        return metrics

    return Contender(run, settings.train.batch_size), lowered


def make_generator(settings: config.Config) -> Contender:
    """The generator of a training step alone; its work is the number of clips."""
    key = train.step_key(settings.train, jnp.asarray(0))
    size = settings.train.batch_size
    make = jax.jit(lambda key: generator.make_batch(key, settings, size=size))
    return Contender(lambda: make(key), size)


def training_row(bench: Bench) -> list[Figure]:
    """A training step against Keras, which is fed by NumPy."""
    settings = training_config(bench, "paper")
    size = settings.train.batch_size
    network = make_keras(bench, checkpoint.load_weights("paper"))
    rng = np.random.default_rng(0)
    classes = np.eye(settings.clip.classes, dtype=np.float32)

    def fed_by_numpy():
        clips, labels = original.make_batch(rng, settings, size=size)
        network.train_on_batch(clips, classes[labels])

    clips, labels = original.make_batch(rng, settings, size=size)
    ours, fed, alone = "training step, generator inside", "Keras fed by NumPy", "Keras without a generator"
    times = timing.side_by_side(
        {
            ours: make_step(bench, settings)[0],
            fed: Contender(fed_by_numpy, size),
            alone: Contender(lambda: network.train_on_batch(clips, classes[labels]), size),
        },
        repeats=bench.repeats,
    )
    what = f"training of `paper`, batch {size}, times faster than"
    return [compare(times, f"{what} {slow}", slow, ours, "s per clip") for slow in (fed, alone)]


def generator_row(bench: Bench) -> list[Figure]:
    """What the generator takes of a training step, and against NumPy."""
    figures = []
    for preset in ("paper", "default"):
        settings = training_config(bench, preset)
        step, alone, in_numpy = "training step", "generator alone", "generator in NumPy"
        contenders = {step: make_step(bench, settings)[0], alone: make_generator(settings)}
        if preset == "paper":
            rng, size = np.random.default_rng(0), bench.sizes.batch
            contenders[in_numpy] = Contender(
                functools.partial(original.make_batch, rng, settings, size=size), size
            )
        times = timing.side_by_side(contenders, repeats=bench.repeats)
        what = f"generator's share of a training step of `{preset}`, batch {settings.train.batch_size}"
        figures.append(compare(times, what, alone, step, "s per clip"))
        if in_numpy in times:
            what = "generator of `paper`, times faster than in NumPy"
            figures.append(compare(times, what, in_numpy, alone, "s per clip"))
    return figures


def precision_row(bench: Bench) -> list[Figure]:
    """Training in bfloat16 against float32, and what the rounding costs trained weights."""
    exact, rounded = "float32", "bfloat16"
    times = timing.side_by_side(
        {
            compute: make_step(bench, training_config(bench, "paper", compute=compute))[0]
            for compute in (exact, rounded)
        },
        repeats=bench.repeats,
    )
    what = "training of `paper` in bfloat16, times faster than in float32"
    figures = [compare(times, what, exact, rounded, "s per clip")]
    weights = checkpoint.load_weights("paper")

    @functools.partial(jax.jit, static_argnums=1)
    def accuracy(key, compute):
        clips, labels = generator.make_batch(key, weights.config, size=bench.sizes.batch)
        network = model.make_model(weights.config, compute=compute)
        logits = jnp.asarray(network.apply({"params": weights.params}, clips))
        return jnp.mean(logits.argmax(-1) == labels)

    keys = jax.random.split(jax.random.key(1), bench.repeats)
    shares = {c: np.array([float(accuracy(key, c)) for key in keys]) for c in (exact, rounded)}
    figures.append(
        Figure(
            f"exact classes by `paper` in bfloat16 over float32, {bench.sizes.batch} clips each time",
            timing.spread(shares[rounded] / np.maximum(shares[exact], 1e-9)),
            {name: timing.spread(share) for name, share in shares.items()},
            "share of clips",
        )
    )
    return figures


# Cost against work


def random_params(settings: config.Config) -> model.Params:
    """Parameters of the right shapes, for networks that nobody trained."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init_params(jax.random.key(0), settings))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.05, leaf.shape), jnp.float32), shapes)


def work_row(bench: Bench) -> list[Figure]:
    """How the cost of a window's map grows with the frame, the window, the stride and the rates."""
    (height, width), figures = bench.sizes.frame, []
    quarter = (height // 2, width // 2)
    cells = config.get_preset("default").map.cells
    # its kernel spans the whole clip but two frames, whatever the length
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
                settings = config.override(config.get_preset(preset), changes)
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


# A video from the command line


def make_video(path: Path, frame: tuple[int, int], seconds: float) -> Path:
    """Writes a video of the demo scene, enlarged, with noise in every pixel."""
    height, width = frame
    enlarged = 4
    small = config.SceneConfig(
        height_px=height // enlarged, width_px=width // enlarged, fps=VIDEO_FPS, duration_s=10.0
    )
    frames = scene.make_scene(jax.random.key(0), small).frames
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
    command = [sys.executable, "-m", "launch.predict", f"--video={path}", f"--weights={name}"]
    return timing.measure_command(
        [*command, f"--out={bench.folder / 'out'}", *options], environment=os.environ | platform
    )


def predict_row(bench: Bench) -> list[Figure]:
    """A video from the command to the last file, and where its time goes."""
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
    """Seconds of each piece of the mapping of a video, once; one piece after the other."""
    weights, source = checkpoint.load_weights(name), video.open_video(path)
    spent = {"decoding": 0.0, "the network": 0.0, "averaging, resampling and read-out": 0.0, "pictures": 0.0}

    def timed(piece: str, run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = run()
        spent[piece] += time.perf_counter() - started
        return result

    def decode(frames: Iterator[video.Frame]) -> Iterator[video.Frame]:
        while (frame := timed("decoding", lambda: next(frames, None))) is not None:
            yield frame

    def follow(_, frames, weights, step_s, mapper) -> Iterator[stream.WindowResult]:
        def network(window):
            return timed("the network", lambda: mapper(window))

        return stream.map_stream(decode(iter(frames)), weights, step_s=step_s, mapper=network)

    started = time.perf_counter()
    found = result.write_map(bench.folder, source, weights, follow=follow)
    mapped = time.perf_counter() - started
    spent["averaging, resampling and read-out"] = mapped - spent["decoding"] - spent["the network"]
    decoded_before, started = spent["decoding"], time.perf_counter()
    plots.save_figure(plots.map_figure(found, title=name), bench.folder / "map.png")
    overlay = plots.overlay_frames(decode(source.frames()), found)
    video.write_mp4(bench.folder / "overlay.mp4", overlay, source.fps)
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


# The ceilings


def count(program: jax.stages.Lowered | jax.stages.Compiled, what: str) -> float:
    """What XLA counts in a program: "flops", of Lowered, or "bytes accessed", of Compiled; nan if nothing."""
    return float((program.cost_analysis() or {}).get(what, np.nan))


def make_ceilings(bench: Bench) -> dict[str, Contender]:
    """A matrix product (its work is FLOP) and a sweep through memory (bytes)."""
    size = bench.sizes.matrix
    multiply = jax.jit(lambda a, b: a @ b)
    sweep = jax.jit(lambda x: x + 1)
    array = jnp.zeros(bench.sizes.array, jnp.float32)
    contenders = {"memory": Contender(lambda: sweep(array), 2 * array.nbytes)}
    for kind in ("float32", "bfloat16"):
        matrix = jax.random.normal(jax.random.key(0), (size, size)).astype(kind)
        contenders[f"matrix product in {kind}"] = Contender(
            functools.partial(multiply, matrix, matrix), 2 * size**3
        )
    return contenders


def roofline_row(bench: Bench) -> list[Figure]:
    """Training and the dense map against the matrix product and the memory of this machine."""
    ceilings = make_ceilings(bench)
    contenders, peak = dict(ceilings), "matrix product in float32"
    floors = {}
    for preset in ("paper", "default"):
        for compute in ("float32",) if bench.on_cpu else ("float32", "bfloat16"):
            settings = training_config(bench, preset, compute=compute)
            step, lowered = make_step(bench, settings)
            flops = count(lowered, "flops")
            name = f"training of `{preset}` in {compute}"
            contenders[name] = dataclasses.replace(step, work=flops)
            floors[name] = flops, count(lowered.compile(), "bytes accessed")
    paper = checkpoint.load_weights("paper")
    dense = map_at_stride_1(bench, paper)
    # What no sharing removes: two dense layers for every patch. The shared convolution is not counted.
    per_patch = 2 * sum(paper.params[layer]["kernel"].size for layer in ("hidden", "classes"))
    name = "dense map of `paper` at stride 1 px, its dense layers alone"
    contenders[name] = dataclasses.replace(dense, work=dense.work * per_patch)
    floors[name] = float(contenders[name].work), 0.0
    times = timing.side_by_side(contenders, repeats=bench.repeats)
    half = "matrix product in bfloat16"
    rates = {n: timing.spread(1e-9 / times[n]) for n in (half, peak)}
    figures = [Figure(f"{half} over float32", timing.spread(times[peak] / times[half]), rates, "GFLOP/s")]
    for name, (flops, moved) in floors.items():
        product = half if "bfloat16" in name else peak
        rates = {n: timing.spread(1e-9 / times[n]) for n in (name, product)}
        ratio = timing.spread(times[product] / times[name])
        figures.append(Figure(f"{name}: share of the {product}", ratio, rates, "GFLOP/s"))
        if moved:
            rate = timing.spread(1e-9 * moved / flops / times[name])
            figures.append(
                Figure(
                    f"{name}: share of the memory's rate, by XLA's count of bytes",
                    timing.spread(times["memory"] * moved / flops / times[name]),
                    {name: rate, "memory": timing.spread(1e-9 / times["memory"])},
                    "GB/s",
                )
            )
    return figures


def schedule_row(bench: Bench) -> list[Figure]:
    """The paper's whole training, from the time of its steps."""
    if bench.on_cpu:
        raise NotHere("the paper's 76 million clips are for an accelerator")
    paper = config.get_preset("paper")
    clips = paper.train.steps * paper.train.batch_size
    times = timing.side_by_side(
        {
            compute: make_step(bench, training_config(bench, "paper", compute=compute))[0]
            for compute in ("float32", "bfloat16")
        },
        repeats=bench.repeats,
    )
    return [
        Figure(
            f"five minutes over the paper's {paper.train.steps} steps of {paper.train.batch_size} clips in"
            f" {compute}",
            timing.spread(300 / (seconds * clips)),
            {"all steps": timing.spread(seconds * clips)},
            "s",
        )
        for compute, seconds in times.items()
    ]


ROWS: dict[str, Callable[[Bench], list[Figure]]] = {
    "dense": dense_row,
    "keras": keras_row,
    "training": training_row,
    "generator": generator_row,
    "precision": precision_row,
    "work": work_row,
    "predict": predict_row,
    "memory": memory_row,
    "roofline": roofline_row,
    "schedule": schedule_row,
}


if __name__ == "__main__":
    common.run(main)
