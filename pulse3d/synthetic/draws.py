"""Random numbers that are drawn at once and handed out one after the other.

XLA compiles every draw by itself and fuses it with what follows. The default scenes, some 160 draws, took
215 s of one core to compile; drawn as two arrays they take 16 s.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

Shape = tuple[int, ...]
Number = float | int | np.floating | Array
P, R = ParamSpec("P"), TypeVar("R")


class Draws:
    """Random numbers of one key, used up while a program is traced: nothing is handed out twice.

    A function asks for what it needs in an order that its data do not change, and passes the draws on to
    those that it calls. `at_once` makes a function of a key of it.
    """

    def __init__(self, uniform: Array | None, normal: Array | None) -> None:
        """uniform: (number,) between 0 and 1. normal: (number,). None: only counts what is asked for."""
        self._stock, self.used = {"uniform": uniform, "normal": normal}, {"uniform": 0, "normal": 0}

    def _take(self, kind: str, shape: Shape) -> Float[Array, "..."]:
        """The next numbers of a kind."""
        stock, first = self._stock[kind], self.used[kind]
        self.used[kind] += math.prod(shape)
        return jnp.zeros(shape) if stock is None else stock[first : self.used[kind]].reshape(shape)

    def normal(self, *shape: int) -> Float[Array, "..."]:
        """Standard normal numbers."""
        return self._take("normal", shape)

    def uniform(self, low: Number, high: Number, *shape: int) -> Float[Array, "..."]:
        """Numbers between low and high, all as likely."""
        return low + self._take("uniform", shape) * (high - low)

    def log_uniform(self, low: Number, high: Number, *shape: int) -> Float[Array, "..."]:
        """Numbers whose logarithm is uniform between those of low and high."""
        return jnp.exp(self.uniform(math.log(low), math.log(high), *shape))

    def chance(self, share: Number, *shape: int) -> Bool[Array, "..."]:
        """True with a probability of `share`."""
        return self._take("uniform", shape) < share

    def integer(self, low: int, high: int, *shape: int) -> Int[Array, "..."]:
        """Whole numbers low, ..., high - 1, all as likely."""
        return jnp.floor(self.uniform(low, high, *shape)).astype(jnp.int32)


def at_once(
    function: Callable[Concatenate[Draws, P], R],
) -> Callable[Concatenate[PRNGKeyArray | Draws, P], R]:
    """A function of draws as one of a key, all of whose numbers are drawn before it begins.

    Called with a caller's draws it takes these.
    """

    @functools.wraps(function)
    def from_key(key: PRNGKeyArray | Draws, *args: P.args, **kwargs: P.kwargs) -> R:
        if isinstance(key, Draws):
            return function(key, *args, **kwargs)
        asked = Draws(None, None)
        jax.eval_shape(lambda: function(asked, *args, **kwargs))
        uniform_key, normal_key = jax.random.split(key)
        uniform = jax.random.uniform(uniform_key, (asked.used["uniform"],))
        normal = jax.random.normal(normal_key, (asked.used["normal"],))
        return function(Draws(*jax.lax.optimization_barrier((uniform, normal))), *args, **kwargs)

    return from_key
