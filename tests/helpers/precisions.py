"""How a function multiplies: the precision of every matrix product and convolution in its jaxpr."""

from collections.abc import Callable, Iterator
from typing import Any

import jax

_PRODUCTS = ("dot_general", "conv_general_dilated")


def products(function: Callable[..., Any], *arguments: Any) -> list[tuple[str, bool]]:
    """Lists the products a function makes where nobody sets a precision for the whole process.

    Args:
      function: A function of arrays; its derivative can be another.
      *arguments: Arrays, or their shapes.

    Returns:
      The name of each operation and whether it runs in the highest precision.
    """
    with jax.default_matmul_precision("default"):  # conftest's "highest" would hide omissions
        jaxpr = jax.make_jaxpr(function)(*arguments)
    return [
        (equation.primitive.name, _is_highest(equation.params["precision"]))
        for equation in _equations(jaxpr.jaxpr)
        if equation.primitive.name in _PRODUCTS
    ]


def _is_highest(precision: Any) -> bool:
    sides = precision if isinstance(precision, tuple) else (precision,)
    return all(side == jax.lax.Precision.HIGHEST for side in sides)


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_has_equations):
            if _has_equations(inner):
                yield from _equations(getattr(inner, "jaxpr", inner))


def _has_equations(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
