"""The one check of mattes over a capture: which of their levels means "head".

Masks of 0 and 1 are black to the eye, and heads vanished with them. A few mattes of the capture are
looked at when it is opened; masks of two levels are rescaled, and what cannot be told (maps of
classes, mattes that are white where the background is) is refused. Each matte is held to the same
rule when it is loaded.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import UInt8

_LOOKED_AT = 16
_CLASSES = 64  # Maps of classes have fewer levels, soft mattes more.
_WHITE = 230  # Soft mattes may miss 255, compressed ones do.
# Coverage of the upper border, and part of the picture without any, of a matte turned inside out.
_COVERED, _HOLE = 0.9, 0.01
_CLEARLY = 0.01  # Part of the picture above which a level is no accident.


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a capture's mattes are read.

    Attributes:
      white: The level that means "head".
      note: What to tell; empty where mattes are as they should be.
    """

    white: int = 255
    note: str = ""


def judge(readers: Sequence[Callable[[], UInt8[np.ndarray, "h w"]]], *, where: str) -> Rule:
    """Looks at some mattes of a capture.

    Args:
      readers: Read the mattes, in the order of frames.
      where: The capture, for messages.

    Returns:
      The rule for all of them.

    Raises:
      DataFormatError: they show no head, a map of classes, or the background instead of the head.
    """
    if not readers:
        return Rule()
    step = max(1, len(readers) // _LOOKED_AT)
    seen = [m for read in readers[::step][:_LOOKED_AT] if (m := _read_sound(read)) is not None]
    if not seen:
        return Rule()
    count = np.sum([np.bincount(matte.ravel(), minlength=256) for matte in seen], axis=0)
    levels = np.flatnonzero(count)
    white = int(levels[-1])
    if white == 0:
        raise errors.DataFormatError(
            f"{where}: its mattes are black: none of the {len(seen)} looked at shows a head. White "
            "(255) must be where the head is; make them again."
        )
    rule = Rule()
    if white < _WHITE:
        is_soft = white > 127 and len(levels) > _CLASSES
        if not is_soft and not set(levels.tolist()) <= {0, white}:
            raise errors.DataFormatError(
                f"{where}: its mattes have {len(levels)} levels up to {white} of 255, like a map "
                "of classes. Save mattes that are 255 where the head is and 0 elsewhere."
            )
        rule = (
            rule
            if is_soft
            else Rule(white, f"its mattes are masks of 0 and {white}; {white} is taken for 255.")
        )
    inside_out = [_is_inside_out(matte, rule.white) for matte in seen]
    if np.mean(inside_out) > 0.5:
        raise errors.DataFormatError(
            f"{where}: its mattes are inverted, white where the background is. White (255) must be "
            "where the head is; invert them."
        )
    return rule


def apply(matte: UInt8[np.ndarray, "h w"], rule: Rule, *, where: str) -> UInt8[np.ndarray, "h w"]:
    """Brings one matte to 0..255.

    Args:
      matte: Levels as stored.
      rule: Of its capture.
      where: The matte's file, for messages.

    Returns:
      Coverage, 255 = head.

    Raises:
      DataFormatError: the matte is unlike the others.
    """
    top = int(matte.max(initial=0))
    if rule.white == 255:
        alone = 0 < top < _WHITE and ((matte == 0) | (matte == top)).all()
        if not alone or (matte == top).mean() < _CLEARLY:
            return matte
    elif top in (0, rule.white) and ((matte == 0) | (matte == top)).all():
        return np.where(matte == rule.white, 255, 0).astype(np.uint8)
    raise errors.DataFormatError(
        f"{where}: the matte's levels reach {top} of 255, those of other frames {rule.white}. Save "
        "all mattes alike, 255 where the head is."
    )


def _is_inside_out(matte: np.ndarray, white: int) -> bool:
    """Whether the upper border is covered and something inside is not: no head does that."""
    coverage = matte / white
    half = max(1, len(matte) // 2)
    border = [coverage[0], coverage[:half, 0], coverage[:half, -1]]
    is_covered = min(part.mean() for part in border) > _COVERED
    return bool(is_covered and (coverage < 0.1).mean() > _HOLE)


def _read_sound(read: Callable[[], np.ndarray]) -> np.ndarray | None:
    """Reads a matte; a damaged one says nothing here, and is refused when its frame is loaded."""
    try:
        return read()
    except errors.DataFormatError:
        return None
