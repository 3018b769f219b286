"""Both ways to run a program on several devices."""

from pulse3d.mapping import fast_cells, fast_patches, spread

WAYS = ["spread", "spread_by_shard_map"]


def take(way, monkeypatch):
    """In this test, programs are spread that way, and not those that others keep."""
    for module, name in ((fast_cells, "_map_program"), (fast_patches, "_spread_program")):
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)
    monkeypatch.setattr(spread, "spread", getattr(spread, way))
