"""Whether an expression that was asked for can be read back from the rendered face."""

from collections.abc import Sequence

import numpy as np

from ganavatar_jax.core.arrays import Bool, Float

MIN_DEVIATION = 1e-3  # Codes are about 0..1; what moves less has no correlation worth stating.
MIN_FRAMES = 3
RANGE_PERCENT = (2.0, 98.0)  # a single misread frame is no range


def code_correlation(
    driving: Float[np.ndarray, "f e"],
    read_back: Float[np.ndarray, "f e"],
    used: Bool[np.ndarray, " f"],
    names: Sequence[str],
) -> dict[str, float | None]:
    """Correlates, coefficient by coefficient, what drove the face with what is read from it.

    Args:
      driving: Expression codes that the frames were rendered from.
      read_back: Codes that an estimator finds in the rendered frames.
      used: Frames to count, e.g. where a face was found near the front.
      names: Names of the coefficients.

    Returns:
      Name -> Pearson's r in [-1, 1], in the order of the names; None where fewer than 3 frames
      count or where either side deviates by less than 0.001 from its mean.

    Raises:
      ValueError: shapes do not fit each other.

    Source: ours; Pearson's product-moment coefficient.
    """
    asked, found, product = _second_moments(driving, read_back, used, names)
    defined = np.minimum(asked, found) >= MIN_DEVIATION
    correlation = np.clip(product / np.where(defined, asked * found, 1.0), -1.0, 1.0)
    return {
        name: float(r) if known else None
        for name, r, known in zip(names, correlation, defined, strict=True)
    }


def code_slope(
    asked: Float[np.ndarray, "f e"],
    read_back: Float[np.ndarray, "f e"],
    used: Bool[np.ndarray, " f"],
    names: Sequence[str],
) -> dict[str, float | None]:
    """Compares how far the face moves with how far it was asked to, which correlation ignores.

    Args:
      asked: Codes of what the face should do, in the units of those read back.
      read_back: Codes that an estimator finds in the rendered frames.
      used: Frames to count.
      names: Names of the coefficients.

    Returns:
      Name -> slope of the least-squares line of what is read back over what was asked for; 1 obeys
      in full. None where fewer than 3 frames count or where what is asked for deviates by less than
      0.001 from its mean.

    Raises:
      ValueError: shapes do not fit each other.
    """
    deviation, _, product = _second_moments(asked, read_back, used, names)
    return {
        name: float(p / a**2) if a >= MIN_DEVIATION else None
        for name, a, p in zip(names, deviation, product, strict=True)
    }


def code_range(
    asked: Float[np.ndarray, "f e"],
    read_back: Float[np.ndarray, "f e"],
    used: Bool[np.ndarray, " f"],
    names: Sequence[str],
) -> dict[str, dict[str, list[float]] | None]:
    """Tells between which values a coefficient moves, asked for and read back.

    Args:
      asked: Codes of what the face should do.
      read_back: Codes that an estimator finds in the rendered frames.
      used: Frames to count.
      names: Names of the coefficients.

    Returns:
      Name -> {"asked": [low, high], "read_back": [low, high]}, the 2nd and the 98th percentile;
      None where fewer than 3 frames count.

    Raises:
      ValueError: shapes do not fit each other.
    """
    _refuse_unequal(asked, read_back, used, names)
    if np.count_nonzero(used) < MIN_FRAMES:
        return dict.fromkeys(names)
    sides = {"asked": asked[used], "read_back": read_back[used]}
    ends = {side: np.percentile(codes, RANGE_PERCENT, axis=0).T for side, codes in sides.items()}
    return {
        name: {side: values[index].tolist() for side, values in ends.items()}
        for index, name in enumerate(names)
    }


def _second_moments(
    driving: Float[np.ndarray, "f e"],
    read_back: Float[np.ndarray, "f e"],
    used: Bool[np.ndarray, " f"],
    names: Sequence[str],
) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, " e"], Float[np.ndarray, " e"]]:
    """Gives both standard deviations (divisor n) and the covariance; zeros for too few frames."""
    _refuse_unequal(driving, read_back, used, names)
    asked = np.asarray(driving[used], np.float64)
    found = np.asarray(read_back[used], np.float64)
    if len(asked) < MIN_FRAMES:
        none = np.zeros(len(names))
        return none, none, none
    asked, found = asked - asked.mean(axis=0), found - found.mean(axis=0)
    asked_deviation, found_deviation = (np.sqrt((x**2).mean(axis=0)) for x in (asked, found))
    return asked_deviation, found_deviation, (asked * found).mean(axis=0)


def _refuse_unequal(
    driving: np.ndarray, read_back: np.ndarray, used: np.ndarray, names: Sequence[str]
) -> None:
    if driving.shape != read_back.shape or driving.shape != (len(used), len(names)):
        raise ValueError(
            f"codes are compared in two tables [{len(used)} frames, {len(names)} names]; "
            f"got {driving.shape} and {read_back.shape}."
        )


def join_sides(
    codes: Float[np.ndarray, "f e"], names: Sequence[str]
) -> tuple[Float[np.ndarray, "f k"], tuple[str, ...]]:
    """Averages coefficients that exist for both sides of the face.

    Args:
      codes: Expression codes.
      names: Names of the coefficients; sides end in Left and Right.

    Returns:
      Means of both sides, and their names without a side; nothing where there are no pairs.

    Source: ours; ARKit's naming.
    """
    position = {name: index for index, name in enumerate(names)}
    stems = [n.removesuffix("Left") for n in names if n.endswith("Left")]
    joined = tuple(stem for stem in stems if f"{stem}Right" in position)
    left, right = ([position[f"{s}{side}"] for s in joined] for side in ("Left", "Right"))
    return (codes[:, left] + codes[:, right]) / 2, joined
