"""What the machine can do at best, measured beside the stages: matrix products, copies, lookups."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_SIDE = 1024  # of the matrices
_COPIED = 2**25  # numbers; 128 MiB, far beyond every cache
_TEXELS, _WIDTH, _ROWS = 3 * 256 * 256, 32, 2**19  # planes at paper size, and lookups in them
CEILINGS = ("ceiling_matmul", "ceiling_copy", "ceiling_gather")


def make(name: str) -> tuple[Callable[[], Any], dict[str, float]]:
    """Compiles a measure; returns its call, and the FLOP or bytes of one call."""
    key = jax.random.key(0)
    if name == "ceiling_matmul":
        x = jax.random.normal(key, (_SIDE, _SIDE))
        product = jax.jit(jnp.matmul)
        return lambda: product(x, x), {"products": 2.0 * _SIDE**3}
    if name == "ceiling_copy":
        line = jnp.zeros((_COPIED,), jnp.float32)
        add = jax.jit(lambda x: x + 1.0, donate_argnums=0)

        def copy() -> Any:
            nonlocal line
            line = add(line)  # in place, as what is fused does: each number is read and written
            return line

        return copy, {"moved": 8.0 * _COPIED}
    table = jnp.zeros((_TEXELS, _WIDTH), jnp.float32)
    index = jax.random.randint(key, (4, _ROWS), 0, _TEXELS)

    def look_up(table: Any, index: Any) -> Any:
        rows = [table.at[i].get(mode="promise_in_bounds") for i in index]
        return rows[0] + rows[1] + rows[2] + rows[3]  # as a bilinear lookup does

    take = jax.jit(look_up)
    return lambda: take(table, index), {"gathered": 4.0 * 4 * _ROWS * _WIDTH}
