import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pulse3d import convolution

SHAPES = [
    # video (batch, time, height, width, channels), kernel (taps, height, width, channels, filters)
    ((2, 13, 9, 10, 1), (12, 4, 5, 1, 3)),
    ((2, 12, 9, 10, 3), (12, 4, 5, 3, 3)),
    ((1, 10, 8, 8, 2), (3, 3, 3, 2, 4)),
    ((3, 9, 11, 7, 1), (4, 6, 7, 1, 2)),
    ((1, 5, 5, 5, 1), (5, 5, 5, 1, 1)),
]


def random(shape, seed):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(("video", "kernel"), SHAPES)
def test_equals_lax_convolution_and_its_gradients(video, kernel):
    x, w = random(video, 0), random(kernel, 1)
    expected = convolution.reference_convolution(x, w)
    np.testing.assert_allclose(jax.jit(convolution.valid_convolution)(x, w), expected, atol=2e-4)

    def gradients(function):
        weights = random(expected.shape, 2)
        return jax.jit(jax.grad(lambda x, w: (function(x, w) * weights).sum(), argnums=(0, 1)))(x, w)

    for fast, slow in zip(
        gradients(convolution.valid_convolution), gradients(convolution.reference_convolution), strict=True
    ):
        np.testing.assert_allclose(fast, slow, atol=5e-4)


def test_equals_lax_at_the_papers_size(paper):
    x = random((1, 59, 25, 25, 1), 0) / 50
    w = random((*paper.model.kernel, 1, 4), 1)
    np.testing.assert_allclose(
        convolution.valid_convolution(x, w), convolution.reference_convolution(x, w), atol=2e-4
    )


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "VALID"},
        {"padding": [(0, 0)] * 3},
        {"padding": "SAME"},
        {"padding": "VALID", "strides": (2, 1, 1)},
        {"padding": "VALID", "kernel_dilation": (1, 2, 1)},
        {"padding": "VALID", "feature_group_count": 2},
    ],
)
def test_drops_into_flax_with_the_same_parameters(options):
    x = random((2, 9, 8, 8, 2), 0)
    ours = nn.Conv(4, (4, 3, 3), conv_general_dilated=convolution.convolve, **options)
    theirs = nn.Conv(4, (4, 3, 3), **options)
    variables = theirs.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)) == jax.tree.map(jnp.shape, variables)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-4)


@pytest.mark.parametrize("sizes", [{"taps": 5, "dilation": 2}, {"taps": 3}, {"square": 3}, {"square": 1}])
def test_small_convolutions_equal_their_definition(sizes):
    """Position by position: the sum over neighbours, zeros outside of time."""
    x, taps, square = random((2, 12, 5, 6, 3), 0), sizes.get("taps", 1), sizes.get("square", 1)
    kernel = random((taps * square**2 * 3, 4), 1)
    found = [
        jax.jit(function, static_argnames=sizes)(x, kernel, **sizes)
        for function in (convolution.neighbours_product, convolution.neighbours_convolution)
    ]
    dilation, parts = sizes.get("dilation", 1), np.asarray(kernel).reshape(taps, square, square, 3, 4)
    assert found[0].shape == found[1].shape == (2, 12, 6 - square, 7 - square, 4)
    for time, row, col in [(0, 0, 0), (6, 1, 2), (11, 5 - square, 6 - square)]:
        expected = np.zeros((2, 4))
        for tap in range(taps):
            seen = time + (tap - taps // 2) * dilation
            if 0 <= seen < 12:
                part = np.asarray(x)[:, seen, row : row + square, col : col + square]
                expected += np.einsum("byxc,yxcf->bf", part, parts[tap])
        for result in found:
            np.testing.assert_allclose(result[:, time, row, col], expected, atol=1e-5)
