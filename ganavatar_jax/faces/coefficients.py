"""Names of expression coefficients, and choosing and mirroring columns by name.

Coefficients follow Apple's 52 ARKit blendshapes, nominally in [0, 1]; `...Left` is the person's
left. MediaPipe reads 51 of them under the same names: it has no `tongueOut`, and its first
output is `_neutral` instead.
"""

from collections.abc import Sequence

import numpy as np

from ganavatar_jax.core import coefficient_names
from ganavatar_jax.core.arrays import Float, Int

ARKIT_NAMES = coefficient_names.ARKIT_NAMES
MEDIAPIPE_NAMES = coefficient_names.MEDIAPIPE_NAMES


def select(
    codes: Float[np.ndarray, "*b e"], names: Sequence[str], wanted: Sequence[str]
) -> Float[np.ndarray, "*b k"]:
    """Returns the wanted columns in the wanted order.

    Args:
      codes: Codes whose last axis is named by `names`.
      names: Name of each coefficient.
      wanted: Names to return.

    Returns:
      The columns, as a copy.

    Raises:
      ValueError: a wanted name is not among `names`.
    """
    return codes[..., indices(names, wanted)]


def indices(names: Sequence[str], wanted: Sequence[str]) -> Int[np.ndarray, " k"]:
    """Returns where each wanted name stands in `names`.

    Args:
      names: Name of each coefficient.
      wanted: Names to look up.

    Returns:
      Positions.

    Raises:
      ValueError: a wanted name is not among `names`.
    """
    position = {name: index for index, name in enumerate(names)}
    missing = [name for name in wanted if name not in position]
    if missing:
        raise ValueError(
            f"expected coefficients {', '.join(missing)}; got {', '.join(names)}. "
            "Use an estimator that reads them, or select others."
        )
    return np.array([position[name] for name in wanted], np.int64)


def shared(names: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Returns the coefficients that two sets of names have in common.

    `shared(MEDIAPIPE_NAMES, ARKIT_NAMES)` are the 51 that MediaPipe and ARKit both have.

    Args:
      names: Names, which give the order.
      others: Names.

    Returns:
      The members of `names` that are in `others`.
    """
    known = set(others)
    return tuple(name for name in names if name in known)


def driving(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the coefficients that drive an avatar when none are chosen.

    Args:
      names: What an estimator or a file of codes offers.

    Returns:
      Those that ARKit has too, so that any source of ARKit weights can drive the avatar; all of
      them where there are none (Deep3DFace or FLAME codes).
    """
    return shared(names, ARKIT_NAMES) or tuple(names)


def mirror(codes: Float[np.ndarray, "*b e"], names: Sequence[str]) -> Float[np.ndarray, "*b e"]:
    """Returns the codes of the mirrored faces: Left and Right coefficients change places.

    Args:
      codes: Codes whose last axis is named by `names`.
      names: Name of each coefficient.

    Returns:
      Mirrored codes; mirroring twice gives the codes back.

    Raises:
      ValueError: a name's other side is not among `names`.
    """
    return select(codes, names, [other_side(name) for name in names])


def other_side(name: str) -> str:
    """Returns the coefficient that takes this one's place in a mirrored face.

    Args:
      name: A coefficient.

    Returns:
      The name with Left and Right exchanged; unchanged when it has no side.
    """
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name
