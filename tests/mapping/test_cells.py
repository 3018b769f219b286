import numpy as np
import pytest

from pulse3d.mapping import cells


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_cells_are_means_of_pixels_and_are_centred(kind):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (61, 90, 3)).astype(kind)
    image = image if kind == np.uint8 else image / kind(255)
    assert cells.cell_size((61, 90), 8) == 8
    assert cells.cell_grid((61, 90), 8) == (7, 11, 2, 1)
    found = cells.make_averager((61, 90), 8)(image)
    assert (found.shape, found.dtype) == ((7, 11, 3), np.float32)
    unit = image / 255 if kind == np.uint8 else image
    for row, col in np.ndindex(7, 11):
        square = unit[2 + 8 * row : 10 + 8 * row, 1 + 8 * col : 9 + 8 * col]
        np.testing.assert_allclose(found[row, col], square.mean((0, 1)), atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 257, 258])
def test_the_brightest_cells_do_not_overflow(size):
    image = np.full((2 * size, 3 * size, 3), 255, np.uint8)
    image[:size, :size] = 0
    found = cells.make_averager(image.shape[:2], 2)(image)
    assert found.shape == (2, 3, 3)
    np.testing.assert_array_equal(found[0, 0], 0)
    np.testing.assert_array_equal(found[1:], 1)


def test_a_cell_is_never_smaller_than_a_pixel():
    assert cells.cell_size((4, 6), 30) == 1
    assert cells.cell_grid((4, 6), 30) == (4, 6, 0, 0)
