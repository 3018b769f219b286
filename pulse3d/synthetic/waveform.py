"""One-dimensional signals in closed form: the pulse wave and the slow trends under it.

Times are in seconds, rates in beats per minute (bpm), values dimensionless.
Source of the formulas: Bousefsaf, Pruski, Maaoui, Applied Sciences 9(20) 4364, 2019.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def pulse_wave(
    time_s: Float[Array, "time"], rate_bpm: Float[Array, ""], fourier: tuple[float, ...]
) -> Float[Array, "time"]:
    """A pulse wave as a Fourier series of order 2.

        a0 + a1 cos(w t) + b1 sin(w t) + a2 cos(2 w t) + b2 sin(2 w t),  w = 2 pi rate / 60

    fourier: (a0, a1, b1, a2, b2).
    """
    a0, a1, b1, a2, b2 = fourier
    angle = 2 * jnp.pi * rate_bpm / 60 * time_s
    return a0 + a1 * jnp.cos(angle) + b1 * jnp.sin(angle) + a2 * jnp.cos(2 * angle) + b2 * jnp.sin(2 * angle)


def normalise(signal: Float[Array, "time"]) -> Float[Array, "time"]:
    """The signal shifted and scaled to 0...1; a constant signal becomes 0."""
    low, span = signal.min(), jnp.ptp(signal)
    return (signal - low) / jnp.where(span > 0, span, 1)


def trend(
    order: Int[Array, ""], centred: Bool[Array, ""], end: Float[Array, ""], frames: int
) -> Float[Array, "time"]:
    """A polynomial trend of order 1, 2 or 3.

        factor * end * base^order / max(base^order)

    base is linspace(-0.5, 0.5) with factor 0.5 where centred, else linspace(0, 1) with
    factor 1, so that the trend spans -end/2...end/2 (order 2: 0...end/2) or 0...end.
    """
    base = jnp.linspace(0.0, 1.0, frames) - jnp.where(centred, 0.5, 0.0)
    powers = jnp.where(order == 1, base, jnp.where(order == 2, base**2, base**3))
    return jnp.where(centred, 0.5, 1.0) * end * powers / powers.max()
