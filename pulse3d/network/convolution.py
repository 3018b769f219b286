"""Fast convolutions with few channels and large kernels.

On a CPU, `lax.conv_general_dilated` runs such a convolution many times slower than matrix products
run. `valid_convolution` gives the same result from large matrix products; it is used as
`nn.Conv(conv_general_dilated=convolve)`, with the same parameters.

Two steps make it fast.
1. The kernel is laid out as a Toeplitz matrix along the width, so that a stack of image rows
   times this matrix yields a whole row of outputs.
2. Two neighbouring outputs along an axis cost three half-size convolutions instead of four.
   With x0, x1, x2 the even samples, the odd samples and the even samples one later, and w0, w1
   the even and odd taps,

       y_even = w0*x0 + w1*x1 = w0*(x0 - x1) + (w0 + w1)*x1
       y_odd  = w0*x1 + w1*x2 = w1*(x2 - x1) + (w0 + w1)*x1

   (the "fast FIR algorithm", Winograd 1980). It is applied along time and height.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# Decorator: the matrix products of a function, and their gradients, run in full precision. By default,
# accelerators round float32 operands (to TF32 on GPUs, to bfloat16 on TPUs). Operands that are already
# bfloat16 are multiplied as they are.
exact = jax.default_matmul_precision("highest")
MANY_ROWS, PARTS = 2**16, 1024  # number of rows from which a gradient is summed in parts, and the most parts


def convolve(lhs, rhs, window_strides, padding, *, compute=jnp.float32, **options):
    """Replaces `lax.conv_general_dilated` in `flax.linen.Conv`.

    Takes the fast path if it applies (3-D, valid, stride 1, no dilation, one group), else calls
    lax. compute: as in `product`.
    """
    plain = (
        lhs.ndim == 5
        and all(s == 1 for s in window_strides)
        and (padding == "VALID" or (not isinstance(padding, str) and not np.any(padding)))
        and all(d == 1 for d in (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ())))
        and options.get("feature_group_count", 1) == 1
    )
    if plain:
        return valid_convolution(lhs, rhs, compute=compute)
    rounded = lhs.astype(compute), rhs.astype(compute)
    return lax.conv_general_dilated(*rounded, window_strides, padding, **options).astype(lhs.dtype)


def product(lhs, rhs, dimension_numbers, *, compute=jnp.float32, **options):
    """`lax.dot_general` of operands rounded to the type `compute`; the result has the type of `lhs`.

    Accelerators multiply several times as fast in bfloat16; they sum in float32. Gradients are
    computed the same way. Used as `nn.Dense(dot_general=...)`.
    """
    rounded = lhs.astype(compute), rhs.astype(compute)
    is_layer = dimension_numbers == (((lhs.ndim - 1,), (0,)), ((), ())) and rhs.ndim == 2
    if is_layer and math.prod(lhs.shape[:-1]) >= MANY_ROWS:
        return _many_rows(*rounded).astype(lhs.dtype)
    return lax.dot_general(*rounded, dimension_numbers, **options).astype(lhs.dtype)


@jax.custom_vjp
def _many_rows(rows: Float[Array, "*row into"], kernel: Float[Array, "into out"]) -> Float[Array, "*row out"]:
    """rows @ kernel; on accelerators, the gradient of the kernel is summed over parts of the rows.

    A product of millions of rows into a small matrix keeps only one block of threads busy there: 0.36 s per
    step of the default network; in 1,024 parts, it takes 0.059 s (one H200). A CPU is faster with one.
    """
    return jnp.matmul(rows, kernel, precision=lax.Precision.HIGHEST)


def _many_rows_forward(rows, kernel):
    return _many_rows(rows, kernel), (rows, kernel)


def _many_rows_backward(saved, change):
    rows, kernel = saved
    flat = rows.reshape(-1, rows.shape[-1]), change.reshape(-1, change.shape[-1])
    parts = math.gcd(len(flat[0]), PARTS)

    # full precision set explicitly: gradients are traced outside of `exact`
    def multiply(rows, change, *, parts):
        cut = rows.reshape(parts, -1, rows.shape[-1]), change.reshape(parts, -1, change.shape[-1])
        dimensions = (((1,), (1,)), ((0,), (0,)))
        exactly = {"precision": lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}
        # the barrier keeps XLA from merging them into one product again
        return lax.optimization_barrier(lax.dot_general(*cut, dimensions, **exactly)).sum(0)

    of_kernel = lax.platform_dependent(
        *flat, cpu=functools.partial(multiply, parts=1), default=functools.partial(multiply, parts=parts)
    )
    of_rows = jnp.matmul(change, kernel.T, precision=lax.Precision.HIGHEST)
    return of_rows, of_kernel.astype(kernel.dtype)


_many_rows.defvjp(_many_rows_forward, _many_rows_backward)


def valid_convolution(
    video: Float[Array, "batch time height width channel"],
    kernel: Float[Array, "taps kernel_height kernel_width channel filters"],
    *,
    compute: DTypeLike = jnp.float32,
) -> Float[Array, "batch time_out height_out width_out filters"]:
    """Cross-correlation without padding, as `lax.conv_general_dilated` computes it.

    Applies step 2 (see the module) along time and height where outputs and taps are even.
    compute: as in `product`; sums around the products are not rounded.
    """
    halved = [
        axis
        for axis in (1, 2)
        if kernel.shape[axis - 1] % 2 == 0 and (video.shape[axis] - kernel.shape[axis - 1] + 1) % 2 == 0
    ]
    return _halve(video, kernel, halved, compute)


def _halve(video, kernel, axes, compute):
    """Applies step 2 along each of `axes`, then step 1."""
    if not axes:
        return _rows_product(video, kernel, compute)
    axis, *rest = axes

    def every_second(array, axis, start, length):
        return lax.slice_in_dim(array, start, start + 2 * length - 1, 2, axis)

    taps = kernel.shape[axis - 1] // 2
    outputs = (video.shape[axis] - kernel.shape[axis - 1] + 1) // 2
    w0, w1 = (every_second(kernel, axis - 1, start, taps) for start in (0, 1))
    x0, x1, x2 = (every_second(video, axis, start, outputs + taps - 1) for start in (0, 1, 2))
    common = _halve(x1, w0 + w1, rest, compute)
    even = _halve(x0 - x1, w0, rest, compute) + common
    odd = _halve(x2 - x1, w1, rest, compute) + common
    shape = list(common.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis + 1).reshape(shape)


def _rows_product(video, kernel, compute):
    """Step 1: stacks of rows times the Toeplitz matrix of the kernel."""
    batch, time, height, width, channels = video.shape
    taps, kernel_height, kernel_width, _, filters = kernel.shape
    time_out, height_out, width_out = time - taps + 1, height - kernel_height + 1, width - kernel_width + 1
    toeplitz = jnp.stack(
        [jnp.pad(kernel, ((0, 0), (0, 0), (x, width_out - 1 - x), (0, 0), (0, 0))) for x in range(width_out)],
        axis=4,
    ).reshape(taps * kernel_height * width * channels, width_out * filters)
    rows = jnp.stack(
        [
            video[:, t : t + taps, y : y + kernel_height].reshape(batch, -1)
            for t in range(time_out)
            for y in range(height_out)
        ],
        axis=1,
    )
    outputs = product(rows, toeplitz, (((2,), (0,)), ((), ())), compute=compute)
    return outputs.reshape(batch, time_out, height_out, width_out, filters)
