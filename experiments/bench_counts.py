"""Counts what a program computes and moves at least, from its trace; nothing is run.

XLA's own analysis counts the body of a loop once and sees nothing in the calls of libraries, so
the trace is counted: every operation as often as it runs.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex

from ganavatar_jax.training import step_memory

# Their arguments and results have to lie in memory; everything else can at best be fused with them.
_MOVERS = (
    "reduce_sum reduce_max reduce_min reduce_and reduce_or argmax argmin cumsum cumprod sort "
    "reduce_window_max reduce_window_sum reduce_window select_and_scatter_add dynamic_slice "
    "dynamic_update_slice concatenate conv_general_dilated dot_general"
).split()
_FREE = (
    "reshape squeeze expand_dims broadcast_in_dim transpose copy slice pad convert_element_type "
    "stop_gradient iota concatenate dynamic_slice dynamic_update_slice"
).split()


class Counts(NamedTuple):
    """What is counted.

    Attributes:
      products: FLOP in matrix products and convolutions, zeros of dilation left out.
      elements: Results of all other arithmetic, one each.
      moved: Bytes that products, sums, orders and copies read and write, and what goes in and out.
      gathered: Bytes that lookups by index read, and additions by index add.
    """

    products: float = 0.0
    elements: float = 0.0
    moved: float = 0.0
    gathered: float = 0.0

    def plus(self, other: "Counts", times: float = 1.0) -> "Counts":
        """Adds other counts, so many times."""
        return Counts(*(a + times * b for a, b in zip(self, other, strict=True)))


def bodies(equation: Any) -> Iterator[jex.Jaxpr]:
    """Yields the bodies that run; of a function with rules of its own, the one for values."""
    names = ("call_jaxpr", "fun_jaxpr", "jaxpr", "body_jaxpr", "cond_jaxpr", "branches")
    for name in names:
        value = equation.params.get(name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, jex.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, jex.Jaxpr):
                yield item


def count(function: Callable[..., Any], *arguments: Any) -> Counts:
    """Counts a function of arrays, real or abstract ones."""
    traced = jax.make_jaxpr(function)(*arguments)
    ends = traced.in_avals + traced.out_avals
    return _count_jaxpr(traced.jaxpr).plus(
        Counts(moved=float(sum(map(step_memory.count_bytes, ends))))
    )


def _count_jaxpr(jaxpr: Any) -> Counts:
    total = Counts()
    for equation in jaxpr.eqns:
        inside = [_count_jaxpr(body) for body in bodies(equation)]
        if not inside:
            total = total.plus(_count_equation(equation))
        elif equation.primitive.name == "cond":  # one of the branches runs
            total = total.plus(max(inside, key=sum))
        else:
            times = equation.params["length"] if equation.primitive.name == "scan" else 1
            for counts in inside:
                total = total.plus(counts, times)
    return total


def _count_equation(equation: Any) -> Counts:
    """Counts one operation that has no program inside."""
    name = equation.primitive.name
    results = [var.aval for var in equation.outvars]
    size = float(sum(math.prod(aval.shape) for aval in results if hasattr(aval, "shape")))
    operands = [var.aval for var in equation.invars if hasattr(var.aval, "shape")]
    if name == "gather":
        return Counts(gathered=float(sum(map(step_memory.count_bytes, results))))
    if name.startswith("scatter"):
        return Counts(gathered=float(step_memory.count_bytes(operands[-1])))
    moved = float(sum(map(step_memory.count_bytes, operands + results))) if name in _MOVERS else 0.0
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        terms = math.prod(operands[0].shape[axis] for axis in contracted)
        return Counts(products=2.0 * size * terms, moved=moved)
    if name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        kernel = operands[1].shape
        terms = math.prod(kernel) / kernel[numbers.rhs_spec[0]]
        zeros = math.prod(equation.params["lhs_dilation"])
        return Counts(products=2.0 * size * terms / zeros, moved=moved)
    return Counts(elements=0.0 if name in _FREE else size, moved=moved)
