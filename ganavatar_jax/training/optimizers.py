"""Adam as the original uses it: lazy-regularisation rescaling, and parameters that may sit out.

PyTorch skips a parameter that got no gradient: neither its moments nor its step count move. The
phases of a GAN differ in which parameters that concerns, so `update` takes a static mask.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ganavatar_jax.core import trees
from ganavatar_jax.core.arrays import Array, PyTree
from ganavatar_jax.training import adam_config

# What the original does to gradients before each step (quirk Q13).
_POSINF, _NEGINF = 1e5, -1e5


@trees.pytree_dataclass
class AdamState:
    """Moments and step counts, one of each per parameter.

    Attributes:
      mean: First moments; an empty tree when beta1 is 0, where it equals the gradient.
      square: Second moments.
      count: Steps taken, int32 scalars.
    """

    mean: Any
    square: Any
    count: Any


def init(params: PyTree, config: adam_config.AdamConfig) -> AdamState:
    """Makes the initial optimiser state.

    Args:
      params: Parameters.
      config: Hyperparameters.

    Returns:
      Zero moments and counts.

    Source: Kingma and Ba 2015.
    """
    return AdamState(
        mean={} if config.beta1 == 0 else jax.tree.map(jnp.zeros_like, params),
        square=jax.tree.map(jnp.zeros_like, params),
        count=jax.tree.map(lambda p: jnp.zeros((), jnp.int32), params),
    )


def clean(gradients: PyTree) -> PyTree:
    """Replaces NaN by 0, +inf by 1e5 and -inf by -1e5.

    Args:
      gradients: Any gradients.

    Returns:
      Finite gradients.

    Source: EG3D reference behaviour.
    """
    return jax.tree.map(
        lambda g: jnp.nan_to_num(g, nan=0.0, posinf=_POSINF, neginf=_NEGINF), gradients
    )


def update(
    params: PyTree,
    gradients: PyTree,
    state: AdamState,
    config: adam_config.AdamConfig,
    *,
    active: PyTree | None = None,
    lr_scale: float | Array = 1.0,
) -> tuple[PyTree, AdamState]:
    """Takes one Adam step on the active parameters.

    Args:
      params: Parameters.
      gradients: Their gradients.
      state: Optimiser state.
      config: Hyperparameters, already rescaled for lazy regularisation.
      active: Tree of Python bools; an inactive parameter and its state stay as they are. None
        means all are active.
      lr_scale: Multiplies the learning rate (warm-up).

    Returns:
      New parameters and state.

    Source: Kingma and Ba 2015; PyTorch's skipping of parameters without gradient.
    """
    leaves, structure = jax.tree.flatten(params)
    grads = structure.flatten_up_to(gradients)
    squares = structure.flatten_up_to(state.square)
    counts = structure.flatten_up_to(state.count)
    means = grads if config.beta1 == 0 else structure.flatten_up_to(state.mean)
    flags = [True] * len(leaves) if active is None else structure.flatten_up_to(active)
    new_params, new_means, new_squares, new_counts = [], [], [], []
    for p, g, m, v, n, flag in zip(leaves, grads, means, squares, counts, flags, strict=True):
        if flag:
            n = n + 1
            step = n.astype(jnp.float32)
            m = g if config.beta1 == 0 else config.beta1 * m + (1 - config.beta1) * g
            v = config.beta2 * v + (1 - config.beta2) * jnp.square(g)
            root = jnp.sqrt(v) / jnp.sqrt(1 - config.beta2**step) + config.epsilon
            rate = config.lr * lr_scale / (1 - config.beta1**step)
            p = p - rate * m / root
        new_params.append(p)
        new_means.append(m)
        new_squares.append(v)
        new_counts.append(n)
    rebuild = structure.unflatten
    return rebuild(new_params), AdamState(
        mean={} if config.beta1 == 0 else rebuild(new_means),
        square=rebuild(new_squares),
        count=rebuild(new_counts),
    )


def mask_names(params: PyTree, *, inactive: tuple[str, ...]) -> PyTree:
    """Marks parameters by the start or end of their dotted names.

    Args:
      params: Nested dict of parameters.
      inactive: Patterns "prefix*" or "*suffix" or exact dotted names.

    Returns:
      Tree of bools, False where a pattern matches.
    """

    def matches(name: str, pattern: str) -> bool:
        if pattern.endswith("*"):
            return name.startswith(pattern[:-1])
        return name.endswith(pattern[1:]) if pattern.startswith("*") else name == pattern

    return trees.unflatten_names(
        {
            name: not any(matches(name, pattern) for pattern in inactive)
            for name, _ in trees.flatten_names(params)
        }
    )
