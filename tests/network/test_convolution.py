from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pulse3d.network import convolution

pytestmark = pytest.mark.slow

SHAPES = [
    # video (batch, time, height, width, channels), kernel (taps, height, width, channels, filters)
    ((2, 13, 9, 10, 1), (12, 4, 5, 1, 3)),
    ((2, 12, 9, 10, 3), (12, 4, 5, 3, 3)),
    ((1, 10, 8, 8, 2), (3, 3, 3, 2, 4)),
    ((3, 9, 11, 7, 1), (4, 6, 7, 1, 2)),
    ((1, 5, 5, 5, 1), (5, 5, 5, 1, 1)),
    ((2, 8, 9, 7, 1), (3, 4, 3, 1, 2)),
    ((2, 8, 8, 9, 1), (4, 3, 4, 1, 2)),
]


def reference_convolution(video, kernel):
    """What the fast path has to equal."""
    layout = ("NDHWC", "DHWIO", "NDHWC")
    return jax.lax.conv_general_dilated(video, kernel, (1, 1, 1), "VALID", dimension_numbers=layout)


def random(shape, seed):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(("video", "kernel"), SHAPES)
def test_equals_lax_convolution_and_its_gradients(video, kernel):
    x, w = random(video, 0), random(kernel, 1)
    expected = reference_convolution(x, w)
    np.testing.assert_allclose(jax.jit(convolution.valid_convolution)(x, w), expected, atol=2e-4)

    def gradients(function):
        weights = random(expected.shape, 2)
        return jax.jit(jax.grad(lambda x, w: (function(x, w) * weights).sum(), argnums=(0, 1)))(x, w)

    for fast, slow in zip(
        gradients(convolution.valid_convolution), gradients(reference_convolution), strict=True
    ):
        np.testing.assert_allclose(fast, slow, atol=5e-4)


def test_equals_lax_at_the_papers_size(paper):
    x = random((1, 59, 25, 25, 1), 0) / 50
    w = random((*paper.model.kernel, 1, 4), 1)
    np.testing.assert_allclose(convolution.valid_convolution(x, w), reference_convolution(x, w), atol=2e-4)


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


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 8, 5), (2, 7, 5), (24, 5)])
def test_gradients_of_many_rows_are_those_of_one_product(shape, compute, monkeypatch):
    """However many parts they are added up in, and whatever number of rows these divide."""
    x, w, change = random(shape, 0), random((shape[-1], 4), 1), random((*shape[:-1], 4), 2)
    dims = (((x.ndim - 1,), (0,)), ((), ()))

    def gradients(x, w):
        of = lambda x, w: (convolution.product(x, w, dims, compute=compute) * change).sum()  # noqa: E731
        return jax.value_and_grad(of, argnums=(0, 1))(x, w)

    plain = gradients(x, w)
    monkeypatch.setattr(convolution, "MANY_ROWS", 1)
    tolerance = 1e-5 if compute == "float32" else 0.05
    for cut in (False, True):
        if cut:  # as on an accelerator
            monkeypatch.setattr(jax.lax, "platform_dependent", lambda *x, cpu, default: default(*x))
        found = jax.jit(lambda x, w: gradients(x, w))(x, w)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance), found, plain
        )
    checkpointed = jax.checkpoint(lambda x: convolution.product(x, w, dims, compute=compute))
    again = jax.grad(lambda x: (jax.vmap(checkpointed)(x[None]) * change).sum())(x)
    np.testing.assert_allclose(again, plain[1][0], atol=tolerance, rtol=tolerance)


def test_gradients_are_cut_on_accelerators_alone():
    """A gradient over 2^17 rows is one product on a CPU, and 1,024 elsewhere."""
    x, w = jax.ShapeDtypeStruct((2**17, 6), np.float32), jax.ShapeDtypeStruct((6, 4), np.float32)
    gradient = jax.grad(lambda w, x: convolution.product(x, w, (((1,), (0,)), ((), ()))).sum())
    traced = jax.jit(gradient).trace(w, x)
    texts = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    cut = {platform: "tensor<1024x6x4xf32>" in text for platform, text in texts.items()}
    assert cut == {"cpu": False, "cuda": True, "tpu": True}


def test_product_rounds_its_operands_and_adds_up_in_float32():
    x, w = random((5, 300), 0), random((300, 4), 1)
    dims = (((1,), (0,)), ((), ()))
    exact = convolution.product(x, w, dims)
    np.testing.assert_array_equal(exact, x @ w)
    rounded = convolution.product(x, w, dims, compute=jnp.bfloat16)
    assert rounded.dtype == jnp.float32
    x16, w16 = (np.asarray(a.astype(jnp.bfloat16), np.float64) for a in (x, w))
    np.testing.assert_allclose(rounded, x16 @ w16, rtol=2**-8)
    assert 1e-3 < np.abs(rounded - exact).max() < 0.02 * np.abs(exact).max() + 0.2
    # a sum kept in bfloat16 stops growing at 256
    ones = jnp.ones((1, 4096))
    assert convolution.product(ones, ones.T, dims, compute=jnp.bfloat16) == 4096


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_convolution_in_bfloat16_is_near(padding):
    x, w = random((2, 13, 9, 10, 1), 0), random((12, 4, 5, 1, 3), 1)
    options = {"padding": padding, "conv_general_dilated": convolution.convolve}
    network = nn.Conv(3, (12, 4, 5), **options)
    rounded = nn.Conv(
        3,
        (12, 4, 5),
        **options | {"conv_general_dilated": partial(convolution.convolve, compute=jnp.bfloat16)},
    )
    variables = {"params": {"kernel": w, "bias": jnp.zeros(3)}}
    exact, near = network.apply(variables, x), rounded.apply(variables, x)
    assert near.dtype == jnp.float32
    error = np.sqrt(np.mean((near - exact) ** 2) / np.mean(exact**2))
    assert 1e-4 < error < 0.01
