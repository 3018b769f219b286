"""The mapper of a video: frames to windows, windows to maps, on all devices.

It gives the same numbers as `definition`, but much faster, because neighbouring places share most of their
work (`fast_patches` for the paper's network, `fast_cells` for the default one). GREEN, CHROM and POS are in
`classical`. A mapper is made once for a video and passed on; only its layout defines where the places are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from pulse3d.config import CellNetConfig, ClassicalConfig, Config
from pulse3d.mapping import classical, fast_cells, fast_patches
from pulse3d.mapping.cells import Cells
from pulse3d.mapping.layout import Layout, make_layout, make_reader
from pulse3d.mapping.tiles import Map, Window
from pulse3d.network import model


@dataclass(frozen=True)
class Mapper:
    """Everything needed to map frames of one size with one network.

    config: the network's. layout: positions of the cells and of the places of the map. read: turns an image
    (height, width, 3) into its cells, float32 of 0...1. windows: takes the cells of all frames of a video and
    the number of frames from one window to the next; yields (index of the first frame, cells, input of `map`)
    of each window, and holds little more than one window. map: turns such an input into a map, on all
    devices. program: turns a window of cells into its map, as one traceable program for one device.
    evidence: turns a window of cells into the evidence of the whole frame for every rate, for methods that do
    not take it from the map (None: `readout.evidence` of the map).
    """

    config: Config
    layout: Layout
    read: Callable[[np.ndarray], Cells]
    windows: Callable[[Iterable[Cells], int], Iterator[tuple[int, Window, Any]]]
    map: Callable[[Any], Map]
    program: Callable[[Array], Array]
    evidence: Callable[[Window], np.ndarray] | None = None

    def __call__(self, window: Window) -> Map:
        """The map of a window of cells, as if it were the whole video."""
        return self.map(next(self.windows(window, 1))[2])

    @property
    def window_shape(self) -> tuple[int, int, int, int]:
        """Shape of a window of cells: (time, row, col, channel)."""
        return (self.config.clip.frames, *self.layout.grid, self.config.clip.channels)


def make_mapper(
    params: model.Params,
    config: Config,
    frame_shape: tuple[int, int],
    *,
    stride_px: int | None = None,
    devices: list[jax.Device] | None = None,
) -> Mapper:
    """The mapper for frames (height, width); its maps equal `map_by_definition` without shuffling.

    stride_px: as in `make_layout`, which raises InputError. devices: by default all local ones.
    """
    layout = make_layout(frame_shape, config, stride_px=stride_px)
    devices = jax.local_devices() if devices is None else devices
    if isinstance(config.model, ClassicalConfig):
        return _classical_mapper(config.model.method, config, layout, devices)
    make = _cells_mapper if isinstance(config.model, CellNetConfig) else _patch_mapper
    return make(params, config, layout, devices)


def _cells_mapper(params: model.Params, config: Config, layout: Layout, devices: list[jax.Device]) -> Mapper:
    """The mapper of the network that reads every cell of a video once."""
    stride, cut = layout.stride, fast_cells.make_windows(params, config)
    mapper = fast_cells.make_mapper(params, config, layout.grid, devices=devices)

    def windows(frames: Iterable[Cells], step: int) -> Iterator[tuple[int, Window, Any]]:
        held: deque[Cells] = deque()
        first = 0

        def hold(frame: Cells) -> Cells:
            held.append(frame)
            return frame

        for index, window in cut(map(hold, frames), step):
            while first < index:
                held.popleft()
                first += 1
            yield index, np.stack(list(islice(held, window.frames))), window

    return Mapper(
        config,
        layout,
        make_reader(layout.frame, config),
        windows,
        lambda window: mapper(window)[::stride, ::stride],
        lambda window: fast_cells.map_window(params, window, config)[::stride, ::stride],
    )


def _patch_mapper(params: model.Params, config: Config, layout: Layout, devices: list[jax.Device]) -> Mapper:
    """The mapper of a network that reads patches, each window from scratch."""
    stride = layout.stride
    return window_mapper(
        config,
        layout,
        fast_patches.make_mapper(params, config, layout.grid, stride=stride, devices=devices),
        lambda window: fast_patches.map_window(params, window, config, stride=stride),
    )


def _classical_mapper(method: str, config: Config, layout: Layout, devices: list[jax.Device]) -> Mapper:
    """The mapper of a classical method, each cell and window by itself; the frame is read from its skin."""
    stride, clip = layout.stride, config.clip
    mapper = classical.make_mapper(clip, method, tuple(devices))
    made = window_mapper(
        config,
        layout,
        lambda window: mapper(window[:, ::stride, ::stride]),
        lambda window: classical.map_traces(window[:, ::stride, ::stride], clip, method),
    )
    return replace(
        made, evidence=lambda window: np.asarray(classical.skin_evidence(window, clip, method), np.float64)
    )


def window_mapper(
    config: Config,
    layout: Layout,
    call: Callable[[Window], Map],
    program: Callable[[Array], Array],
) -> Mapper:
    """A mapper whose windows are mapped one by one, only from their cells, by `call`."""

    def windows(frames: Iterable[Cells], step: int) -> Iterator[tuple[int, Window, Any]]:
        for index, window in sliding_windows(frames, config.clip.frames, step):
            yield index, window, window

    return Mapper(config, layout, make_reader(layout.frame, config), windows, call, program)


def sliding_windows(
    frames: Iterable[np.ndarray], length: int, step: int
) -> Iterator[tuple[int, Float[np.ndarray, "time height width channel"]]]:
    """Windows of `length` frames every `step` frames, as (index of the first frame, window).

    Holds one window at a time, whatever the length of the video.
    """
    held: deque[np.ndarray] = deque(maxlen=length)
    for index, frame in enumerate(frames):
        held.append(frame)
        start = index + 1 - length
        if start >= 0 and start % step == 0:
            yield start, np.stack(held)
