"""Random numbers that are drawn all at once and handed out one after another.

XLA compiles each draw separately and fuses it with what follows. With some 160 draws, the default scenes take
215 s to compile on one core; drawn as two arrays, they take 16 s.
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
    """Random numbers from one key, consumed while a program is traced; none is used twice.

    A function takes the numbers it needs, in an order that does not depend on data, and passes the draws on
    to the functions it calls. `at_once` turns it into a function of a key.
    """

    def __init__(self, uniform: Array | None, normal: Array | None) -> None:
        """uniform: (number,) between 0 and 1. normal: (number,). None: only count the numbers requested."""
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
        """Uniform numbers between low and high."""
        return low + self._take("uniform", shape) * (high - low)

    def log_uniform(self, low: Number, high: Number, *shape: int) -> Float[Array, "..."]:
        """Log-uniform numbers between low and high."""
        return jnp.exp(self.uniform(math.log(low), math.log(high), *shape))

    def chance(self, share: Number, *shape: int) -> Bool[Array, "..."]:
        """True with a probability of `share`."""
        return self._take("uniform", shape) < share

    def integer(self, low: int, high: int, *shape: int) -> Int[Array, "..."]:
        """Integers low, ..., high - 1, all equally likely."""
        return jnp.floor(self.uniform(low, high, *shape)).astype(jnp.int32)


def at_once(
    function: Callable[Concatenate[Draws, P], R],
) -> Callable[Concatenate[PRNGKeyArray | Draws, P], R]:
    """Turns a function of draws into one of a key; all its random numbers are drawn before it starts.

    If it is called with draws instead of a key, it uses those.
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
