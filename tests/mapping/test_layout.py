import numpy as np
import pytest
from helpers.configs import replace

from pulse3d.errors import InputError
from pulse3d.mapping import layout


def test_places_are_single_cells_for_the_network_of_cells_and_patches_for_the_papers(toy, toy_cells):
    cells = layout.make_layout((60, 90), replace(toy_cells, map={"cells": 6}))
    assert (cells.grid, cells.cell_px, cells.patch, cells.patch_px) == ((6, 9), 10, 1, 10)
    assert cells.places == (6, 9)
    pixels = layout.make_layout((60, 90), toy)
    assert (pixels.grid, pixels.cell_px, pixels.patch_px) == ((60, 90), 1, 8)
    assert pixels.places == ((60 - 8) // 3 + 1, (90 - 8) // 3 + 1)


def test_centres_are_the_middles_of_patches(toy, toy_cells):
    row_px, col_px = layout.make_layout((20, 33), toy).centres_px()
    np.testing.assert_array_equal(row_px, [3.5, 6.5, 9.5, 12.5, 15.5])
    np.testing.assert_array_equal(col_px, 3.5 + 3 * np.arange(9))
    # cells of 10 px, one and four pixels left out before the first
    row_px, col_px = layout.make_layout((62, 98), replace(toy_cells, map={"cells": 6})).centres_px()
    np.testing.assert_array_equal(row_px, 1 + 4.5 + 10 * np.arange(6))
    np.testing.assert_array_equal(col_px, 4 + 4.5 + 10 * np.arange(9))


@pytest.mark.parametrize("stride_px", [0, -1])
def test_a_stride_is_at_least_a_pixel(toy, stride_px):
    with pytest.raises(InputError, match=rf"^stride_px = {stride_px}: must be at least 1$"):
        layout.make_layout((20, 33), toy, stride_px=stride_px)


@pytest.mark.parametrize(
    ("cells", "stride_px", "stride"), [(6, 10, 1), (6, 14, 1), (6, 16, 2), (6, 4, 1), (0, 1, 1), (0, 5, 5)]
)
def test_strides_are_whole_cells(toy, toy_cells, cells, stride_px, stride):
    config = replace(toy_cells, map={"cells": cells}) if cells else toy
    assert layout.make_layout((60, 90), config, stride_px=stride_px).stride == stride


def test_frames_and_maps_that_fit_no_memory_are_refused(toy, monkeypatch):
    """A window of 24 frames of 30 x 40 px; a map of 23 x 33 places of 5 or 401 classes; 4 bytes a number."""

    def make(limit, stride_px, **clip):
        monkeypatch.setattr(layout, "MAX_BYTES", limit)
        return layout.make_layout((30, 40), replace(toy, clip=clip), stride_px=stride_px)

    window, large_map = 4 * 24 * 30 * 40, 4 * 401 * 23 * 33
    assert make(window, 1).places == (23, 33)
    with pytest.raises(InputError, match=r"^40x30 px: too large for this network; scale it down$"):
        make(window - 1, 1)
    assert make(large_map, 1, rates=400).places == (23, 33)
    with pytest.raises(InputError, match=r"^23x33 places: too many for memory; take a larger stride$"):
        make(large_map - 1, 1, rates=400)
    assert make(large_map - 1, 2, rates=400).places == (12, 17)


def test_the_bound_is_four_gibibytes():
    assert layout.MAX_BYTES == 4 * 1024**3


@pytest.mark.parametrize("kind", ["toy", "toy_cells"])
def test_what_is_read_of_an_image_has_the_layouts_cells(kind, request):
    config = request.getfixturevalue(kind)
    image = np.random.default_rng(0).integers(0, 256, (61, 90, 3), np.uint8)
    found = layout.make_reader((61, 90), config)(image)
    assert found.shape == (*layout.make_layout((61, 90), config).grid, config.clip.channels)
    assert 0 <= found.min() < found.max() <= 1
