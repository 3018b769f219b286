"""Settings from text and JSON: `--set` assignments, and configs as plain dictionaries.

No library (tyro, ml_collections) is used, since configs also come from other people's weights files: unknown
names, wrong types and invalid values must each give an error of one clear line.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable
from typing import Any

from flax import traverse_util

from pulse3d.config import PRESETS, Config, get_preset
from pulse3d.errors import InputError, nearest


def override(config: Config, assignments: Iterable[str]) -> Config:
    """`config` with settings replaced by assignments like "train.steps=200".

    Values get the type of the setting they replace; tuples are written 58,20,20. Raises
    InputError for unknown names (with the nearest match), values of the wrong type, and values
    that the settings reject.
    """
    values = to_dict(config)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"setting {assignment}: expected name=value, as in train.steps=200")
        *sections, leaf = name.strip().split(".")
        node: Any = values
        owner: Any = Config
        for section in sections:
            node, owner = _child(node, owner, section, name)
            owner = type(getattr(config, section, None)) if typing.get_args(owner) else owner
        _, kind = _child(node, owner, leaf, name)
        if isinstance(node[leaf], dict):
            raise InputError(f"setting {name}: is a group; set one of {', '.join(node[leaf])}")
        node[leaf] = _parse(text.strip(), kind, name)
    return from_dict(values)


def override_use(trained: Config, assignments: Iterable[str]) -> Config:
    """`override` for settings of map and readout only; the rest belongs to the weights."""
    if isinstance(assignments, str):
        raise InputError(f'settings = "{assignments}": expected a list, as in ["map.cells=60"]')
    for assignment in assignments:
        if not assignment.startswith(("map.", "readout.")):
            raise InputError(f"setting {assignment}: here only the settings map.* and readout.* can be set")
    return override(trained, assignments)


def to_dict(config: Config) -> dict[str, Any]:
    """`config` as nested plain dictionaries, ready for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(values: Any) -> Config:
    """The inverse of `to_dict`; raises InputError for unknown names or invalid values."""
    return _build(Config, values, "config")


def differences(a: Config, b: Config) -> list[str]:
    """Names and values of the settings in which two configs differ, as "name: a -> b"."""
    flat_a, flat_b = (traverse_util.flatten_dict(to_dict(config), sep=".") for config in (a, b))
    return [f"{k}: {v} -> {flat_b.get(k)}" for k, v in flat_a.items() if flat_b.get(k) != v]


def list_settings() -> str:
    """A table of all settings: a line each, with its value in every preset; empty where it has none."""

    def text(value: Any) -> str:
        values = value if isinstance(value, (list, tuple)) else [value]
        return ",".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)

    presets = {name: traverse_util.flatten_dict(to_dict(get_preset(name)), sep=".") for name in PRESETS}
    names = dict.fromkeys(name for flat in presets.values() for name in flat if name != "preset")
    values = ([name, *(text(flat.get(name, "")) for flat in presets.values())] for name in names)
    rows = [["setting", *presets], *values]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _child(node: Any, owner: Any, key: str, full_name: str) -> tuple[Any, Any]:
    if not isinstance(node, dict):
        raise InputError(f"setting {full_name}: {key} is not part of a group")
    if key not in node:
        raise InputError(
            f"setting {full_name}: no setting {key}{nearest(key, node)}; there are {', '.join(node)}"
        )
    return node[key], typing.get_type_hints(owner)[key]


def _parse(text: str, kind: Any, name: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if typing.get_origin(kind) is tuple:
            inner = typing.get_args(kind)[0]
            return [inner(part) for part in text.strip("()[]").split(",")]
        return kind(text)
    except (KeyError, ValueError):
        kind_name = "true or false" if kind is bool else str(getattr(kind, "__name__", kind))
        raise InputError(f"setting {name}={text}: expected {kind_name}") from None


def _build(kind: Any, values: Any, name: str) -> Any:
    if isinstance(kind, types.UnionType):
        # the class that has all of the names; else the first, whose error says what is wrong
        known = [
            k
            for k in typing.get_args(kind)
            if isinstance(values, dict) and values.keys() <= set(k.__annotations__)
        ]
        kind = (known or typing.get_args(kind))[0]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(values, dict):
            raise InputError(f"{name}: expected a group of settings, found {values!r}")
        for key in values:
            if key not in hints:
                raise InputError(f"{name}: no setting {key}{nearest(key, hints)}")
        return kind(**{key: _build(hints[key], value, f"{name}.{key}") for key, value in values.items()})
    if typing.get_origin(kind) is tuple:
        if not isinstance(values, (list, tuple)):
            raise InputError(f"{name} = {values!r}: expected several values")
        inner = typing.get_args(kind)
        if inner[-1] is not Ellipsis and len(values) != len(inner):
            raise InputError(f"{name} = {values!r}: expected {len(inner)} values")
        return tuple(_build(inner[0], value, name) for value in values)
    if kind is float and isinstance(values, int) and not isinstance(values, bool):
        values = float(values) if abs(values) < 2**63 else math.inf
    if type(values) is not kind:
        raise InputError(f"{name} = {values!r}: expected {getattr(kind, '__name__', kind)}")
    if kind is float and not math.isfinite(values):
        raise InputError(f"{name} = {values}: must be finite")
    return values
