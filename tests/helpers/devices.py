"""Both ways to run a program on several devices."""

from pulse3d.mapping import fast_cells, fast_patches, spread

WAYS = ["spread", "spread_by_shard_map"]


def take(way, monkeypatch):
    """Programs made from now on, in this test, are spread that way."""
    for program in (fast_cells._map_program, fast_patches._spread_program):
        program.cache_clear()
    monkeypatch.setattr(spread, "spread", getattr(spread, way))
