from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from pulse3d.errors import InputError
from pulse3d.evaluation import traces

SKIN = np.array([0.7, 0.5, 0.4])


def test_patch_means_by_hand():
    image = np.random.default_rng(0).random((11, 17, 3)).astype(np.float32)
    means = traces.patch_means(image, patch_px=4, stride_px=3)
    assert means.shape == (3, 5, 3)
    np.testing.assert_allclose(means[2, 3], image[6:10, 9:13].mean((0, 1)), atol=1e-6)


def test_skin_mean_is_that_of_the_skin_in_the_box_or_of_all_in_it():
    image = np.full((4, 6, 3), 0.2, np.float32)
    image[1:3, 1:3] = SKIN
    image[3, 5] = 0.8
    for box, colour, share in (
        (None, SKIN, 4 / 24),
        ((0.0, 0.0, 2.0, 2.0), SKIN, 1 / 4),
        ((0.0, 3.0, 2.0, 6.0), [0.2] * 3, 0),
        ((3.0, 5.0, 9.0, 9.0), [0.8] * 3, 0),
        ((-5.0, -5.0, -1.0, -1.0), SKIN, 4 / 24),  # beyond the image: as without a box
    ):
        mean, found = traces.skin_mean(image, None if box is None else np.array(box))
        np.testing.assert_allclose(mean, colour, atol=1e-6)
        assert found == pytest.approx(share)
    without = traces.skin_mean(np.full((4, 4, 3), 0.2, np.float32))
    np.testing.assert_allclose(without[0], 0.2, atol=1e-6)
    assert without[1] == 0


def test_frames_smaller_than_a_patch_are_refused():
    with pytest.raises(InputError, match="frames of 7x5 px: smaller than a patch of 6 px"):
        traces.patch_means(jnp.ones((5, 7, 3)), patch_px=6, stride_px=1)
