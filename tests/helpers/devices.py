"""Both ways to run a program on several devices."""

import pytest

from pulse3d.mapping import fast_cells, fast_patches, spread

COUNTS = [1, pytest.param(3, marks=pytest.mark.devices(3)), pytest.param(4, marks=pytest.mark.devices(4))]
WAYS = ["spread", "spread_by_shard_map"]


def take(way, monkeypatch):
    """In this test, programs are spread that way, and not those that others keep."""
    for module, name in ((fast_cells, "_map_program"), (fast_patches, "_spread_program")):
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)
    monkeypatch.setattr(spread, "spread", getattr(spread, way))
