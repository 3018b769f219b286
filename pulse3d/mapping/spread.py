"""Runs a program on every device, each with an equal share of the items. The only module that uses `pmap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Program = Callable[[Any, Any], Any]

DEVICE = "device"  # the axis of devices


def spread(program: Program, devices: list[jax.Device]) -> Program:
    """Runs a per-device program(params, items) on every device; the first axis of all arrays is the device.

    The program may communicate with other devices along the axis `DEVICE`.
    """
    return jax.pmap(program, axis_name=DEVICE, devices=devices)


def spread_by_shard_map(program: Program, devices: list[jax.Device]) -> Program:
    """`spread` by `jit(shard_map)`, its replacement when jax drops `pmap`; tests check that they agree."""
    mesh = _mesh(devices)

    def on_one_device(params, items):
        own = jax.tree.map(lambda x: x[0], (params, items))
        return jax.tree.map(lambda x: x[None], program(*own))

    spec = PartitionSpec(DEVICE)
    return jax.jit(jax.shard_map(on_one_device, mesh=mesh, in_specs=(spec, spec), out_specs=spec))


def put_everywhere(values: Any, devices: list[jax.Device]) -> Any:
    """Copies a tree of arrays to every device, as `spread_evenly` needs it."""
    if len(devices) == 1:
        return jax.tree.map(lambda x: jax.device_put(x[None], devices[0]), values)
    return jax.device_put(
        jax.tree.map(lambda x: jnp.broadcast_to(x, (len(devices), *x.shape)), values),
        _split(devices),
    )


def spread_evenly(program: Program, devices: list[jax.Device]) -> Program:
    """A function (shared, items) -> program(shared, items) with an equal share of the items per device.

    shared: from `put_everywhere`. items and results: arrays or trees of arrays with the items
    along the first axis. Shares are padded with zeros to equal size, and the padding is cut off again.
    Arrays with different numbers of items are each split separately; there are as many results as
    the first has items.
    """
    run = spread(program, devices)
    split = _split(devices)

    def on_all(shared: Any, items: Any) -> Any:
        count = len(jax.tree.leaves(items)[0])

        def share(x):
            if missing := -len(x) % len(devices):
                x = np.pad(x, [(0, missing), *[(0, 0)] * (x.ndim - 1)])
            return jax.device_put(x.reshape(len(devices), -1, *x.shape[1:]), split)

        results = jax.device_get(run(shared, jax.tree.map(share, items)))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], results)

    return on_all


def _mesh(devices: list[jax.Device]) -> Mesh:
    return jax.make_mesh((len(devices),), (DEVICE,), axis_types=(AxisType.Auto,), devices=devices)


def _split(devices: list[jax.Device]) -> NamedSharding:
    """The sharding of arrays whose first axis is the device."""
    return NamedSharding(_mesh(devices), PartitionSpec(DEVICE))
