"""Fast maps of cells for the default network: every frame is read once, however many windows contain it.

Frames of cells are taken one by one and turned into relative changes of colour, with a running mean. Runs of
frames, with the neighbours in time that the network sees, are turned into signals, and windows are cut out of
the signals. The maps equal those of `definition`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pulse3d.config import Config
from pulse3d.mapping.cells import Cells
from pulse3d.mapping.spread import put_everywhere, spread_evenly
from pulse3d.mapping.tiles import Map
from pulse3d.network import cell_input, model
from pulse3d.network.cell_net import Signals

RUN = 60  # frames whose signals are computed at a time


class Window(NamedTuple):
    """The input of a mapper: the signals of a window's frames, and their number (the rest is zeros)."""

    signals: Signals
    frames: int


def relative_frames(frames: Iterable[Cells], *, memory: int) -> Iterator[Cells]:
    """Computes `cell_input.relative_changes` frame by frame; holds `memory` frames."""
    held: deque[Cells] = deque()
    total = np.zeros(())

    def change(frame: Cells) -> Cells:
        mean = np.asarray(total / len(held), np.float32)
        lit = mean.max(-1, keepdims=True) >= cell_input.DARK
        return np.clip((frame - mean) / np.maximum(mean, cell_input.DARK), -1, 1) * lit

    for frame in frames:
        held.append(frame)
        total = total + frame.astype(np.float64)
        if len(held) == memory:
            yield from map(change, held)
        elif len(held) > memory:
            total = total - held.popleft()
            yield change(frame)
    if len(held) < memory:
        yield from map(change, held)


def signal_frames(
    frames: Iterable[Cells], program: Callable[[np.ndarray, np.ndarray], Signals], *, before: int, run: int
) -> Iterator[Signals]:
    """Turns relative changes into signals, `run` frames at a time, at the end fewer.

    program: takes a slab of frames and whether each belongs to the video; gives the signals of all but the
    first and last `before` frames.
    """
    size = run + 2 * before
    held: deque[Cells | None] = deque([None] * before)
    waiting = 0  # frames held whose signals are still to come

    def signals() -> Signals:
        nonlocal waiting
        slab = [*held, *[None] * (size - len(held))]
        nothing = np.zeros_like(next(frame for frame in slab if frame is not None))
        filled = np.stack([nothing if frame is None else frame for frame in slab])
        found = jax.device_get(program(filled, np.array([f is not None for f in slab], np.float32)))
        count = min(run, waiting)
        waiting -= run
        for _ in range(min(run, len(held))):
            held.popleft()
        return jax.tree.map(lambda x: x[:count], found)

    for frame in frames:
        held.append(frame)
        waiting += 1
        if len(held) == size:
            yield signals()
    while waiting > 0:
        yield signals()


def cut_windows(
    runs: Iterable[Signals], *, length: int, step: int, shortest: int
) -> Iterator[tuple[int, Window]]:
    """Windows of `length` frames every `step` frames, with the index of their first frame.

    A shorter video is one window if it has at least `shortest` frames. Windows share memory.
    """
    kept: Signals | None = None
    first = start = 0  # index of the first frame kept, and of the next window's

    def cut(signals: Signals, begin: int, end: int | None = None) -> Signals:
        return jax.tree.map(lambda x: x[begin:end], signals)

    for signals in runs:
        kept = signals if kept is None else jax.tree.map(lambda a, b: np.concatenate([a, b]), kept, signals)
        while start + length <= first + len(kept.wave):
            yield start, Window(cut(kept, start - first, start - first + length), length)
            start += step
        drop = min(start - first, len(kept.wave))
        kept, first = cut(kept, drop), first + drop
    if start == 0 and kept is not None and len(kept.wave) >= shortest:
        found = len(kept.wave)
        whole = jax.tree.map(lambda x: np.pad(x, [(0, length - found), *[(0, 0)] * (x.ndim - 1)]), kept)
        yield 0, Window(whole, found)


def make_windows(
    params: model.Params, config: Config
) -> Callable[[Iterable[Cells], int], Iterator[tuple[int, Window]]]:
    """A function from frames of cells and a step in frames to the windows of a video."""
    before, memory = cell_input.span(config), cell_input.memory_frames(config)
    program = _signal_program(config)

    def windows(frames: Iterable[Cells], step: int) -> Iterator[tuple[int, Window]]:
        changes = relative_frames(frames, memory=memory)
        runs = signal_frames(changes, partial(program, params), before=before, run=RUN)
        shortest = round(config.map.shortest_s * config.clip.fps)
        return cut_windows(runs, length=config.clip.frames, step=step, shortest=shortest)

    return windows


@lru_cache(maxsize=8)
def _signal_program(config: Config) -> Callable[[model.Params, np.ndarray, np.ndarray], Signals]:
    network, before = model.make_model(config), cell_input.span(config)

    @jax.jit
    def program(params, slab, valid):
        signals: Any = network.apply({"params": params}, slab[None], valid, method="signals")
        return jax.tree.map(lambda x: x[0, before:-before], signals)

    return program


def make_mapper(
    params: model.Params,
    config: Config,
    grid: tuple[int, int],
    *,
    devices: list[jax.Device],
) -> Callable[[Window], Map]:
    """A function from a window to its map; bands of rows, with their halos, are spread over devices."""
    rows, _ = grid
    count = min(len(devices), rows)
    halo, band = (cell_input.reach(config) if count > 1 else 0), -(-rows // count)
    run, shared = _map_program(config, tuple(devices)), put_everywhere(params, devices)
    # rows of the frame in every band; those outside are left out of all means
    wanted = [np.arange(i * band - halo, (i + 1) * band + halo) for i in range(count)]
    inside = np.stack([((r >= 0) & (r < rows)).astype(np.float32) for r in wanted])
    chosen = [np.clip(r, 0, rows - 1) for r in wanted]

    def mapper(window: Window) -> Map:
        bands = jax.tree.map(lambda x: np.stack([x[:, r] for r in chosen]), window.signals)
        length = np.full(count, window.frames, np.float32)
        maps = run(shared, (bands, inside, length))
        return np.concatenate([part[halo : halo + band] for part in maps])[:rows]

    return mapper


@lru_cache(maxsize=8)
def _map_program(config: Config, devices: tuple[jax.Device, ...]) -> Callable[[Any, Any], Any]:
    """The program shared by all mappers of a config, cached so that each grid size compiles once."""

    def program(params, items):
        return jax.lax.map(lambda item: map_signals(params, config, *item), items)

    return spread_evenly(program, list(devices))


def map_signals(
    params: model.Params, config: Config, signals: Signals, inside: Array, frames: Array
) -> Float[Array, "row col class"]:
    """The map of a window's signals; inside: whether each row belongs to the frame."""
    network, clip = model.make_model(config), config.clip
    taper = cell_input.hann(0, frames, len(signals.wave))[None]
    one = jax.tree.map(lambda x: x[None], signals)
    spectra: Any = network.apply(
        {"params": params}, one, taper, frames[None] / clip.fps, inside, method="spectra"
    )
    logits: Any = network.apply({"params": params}, spectra, method="logits")
    return cell_input.within_axis(jax.nn.softmax(logits[0]))


def map_window(
    params: model.Params, window: Float[Array, "time row col channel"], config: Config
) -> Float[Array, "row col class"]:
    """The map of a window of cells, taken as the whole video, as one traceable program on one device."""
    changes = cell_input.relative_changes(window, memory=cell_input.memory_frames(config))
    signals: Any = model.make_model(config).apply({"params": params}, changes[None], method="signals")
    one = jax.tree.map(lambda x: x[0], signals)
    frames, rows = window.shape[:2]
    return map_signals(params, config, one, jnp.ones(rows), jnp.float32(frames))
