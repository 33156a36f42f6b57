"""Fits the calibration of the default estimator on rendered people, each seen once.

Ridge regression from the readings of degraded 64 px images to the true ARKit weights; every face
counts twice, as it is and with left and right exchanged, so that the map treats sides alike. The
penalty is chosen for each coefficient by cross-validation over people.
"""

import dataclasses

import estimator_readings as er
import numpy as np

from ganavatar_jax.core.arrays import Float
from ganavatar_jax.faces import calibration, coefficients, measures

READ_NAMES = (*coefficients.MEDIAPIPE_NAMES, *measures.NAMES)
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # over the variance of a standardised input
MIN_STD = 0.01  # inputs that vary less are not blown up: they may vary more on other faces
FOLDS = 5
MIN_CORRELATION = 0.4  # of a kept coefficient with the truth, on people left out of the fit
MIN_WITHIN = 0.5  # the same within one person, not in the fit, on frames that are not held out


@dataclasses.dataclass(frozen=True)
class Faces:
    """Readings (named READ_NAMES) and true weights (named as ARKit) of faces that were found."""

    readings: np.ndarray
    truth: np.ndarray
    rows: np.ndarray  # which image of the capture's part each is
    held_out: np.ndarray  # whether the capture holds it out

    def part(self, chosen: np.ndarray) -> "Faces":
        """Returns some of the faces."""
        values = {f.name: getattr(self, f.name)[chosen] for f in dataclasses.fields(self)}
        return Faces(**values)


def pair(people: er.People, readings: er.Readings, *, flip: bool = False) -> Faces:
    """Puts readings beside the truth, for images in which a face was found.

    Args:
      people: Frames and their codes.
      readings: Of these frames.
      flip: Whether the reading of the mirrored image is averaged in, where there is one.

    Returns:
      One row a face that was found.
    """
    found = np.flatnonzero(readings.found)
    codes = with_measures(readings.codes[found], readings.landmarks[found])
    if flip:
        also = readings.mirrored_found[found]
        other = with_measures(
            readings.mirrored_codes[found[also]], readings.mirrored_landmarks[found[also]]
        )
        codes[also] = (codes[also] + coefficients.mirror(other, READ_NAMES)) / 2
    truth = coefficients.select(people.codes[found], people.names, coefficients.ARKIT_NAMES)
    return Faces(codes, truth, found, people.held_out[found])


def with_measures(codes: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Appends the landmark distances to the 52 coefficients."""
    distances = [measures.measure(face) for face in landmarks]
    return np.concatenate([codes, np.reshape(distances, (-1, len(measures.NAMES)))], axis=1)


def correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns Pearson's r of each column; NaN where either hardly varies."""
    a, b = (x.astype(np.float64) - x.mean(axis=0) for x in (first, second))
    spread = np.sqrt((a**2).mean(axis=0) * (b**2).mean(axis=0))
    return np.where(spread > 1e-7, (a * b).mean(axis=0) / np.maximum(spread, 1e-7), np.nan)


def fit(
    parts: list[Faces], inputs: tuple[str, ...], *, provenance: dict
) -> tuple[calibration.Calibration, dict[str, float]]:
    """Fits the map and says how it does on people left out.

    Args:
      parts: Faces of people who differ from one another, within parts and between them.
      inputs: Members of READ_NAMES that the map takes.
      provenance: What the file shall say about the data.

    Returns:
      The calibration, all ARKit coefficients, and each one's correlation with the truth on
      people left out.
    """
    x = np.concatenate([coefficients.select(p.readings, READ_NAMES, inputs) for p in parts])
    y = np.concatenate([p.truth for p in parts])
    fold = np.arange(len(x)) % FOLDS
    x, y, fold = (
        np.concatenate([x, coefficients.mirror(x, inputs)]),
        np.concatenate([y, coefficients.mirror(y, coefficients.ARKIT_NAMES)]),
        np.concatenate([fold, fold]),
    )
    predicted = np.zeros((len(PENALTIES), *y.shape))
    for part in range(FOLDS):
        held_out = fold == part
        for index, penalty in enumerate(PENALTIES):
            matrix, offset = from_own(x[~held_out], y[~held_out], inputs, penalty)
            predicted[index, held_out] = x[held_out] @ matrix + offset
    error = ((predicted - y) ** 2).mean(axis=1)
    best = error.argmin(axis=0)
    fitted = [from_own(x, y, inputs, penalty) for penalty in PENALTIES]
    columns = np.arange(y.shape[1])
    matrix = np.stack([m for m, _ in fitted])[best, :, columns].T
    offset = np.stack([o for _, o in fitted])[best, columns]
    left_out = correlations(predicted[best, :, columns].T, y)
    names = coefficients.ARKIT_NAMES
    result = calibration.Calibration(inputs, names, matrix, offset, provenance)
    return result, dict(zip(names, left_out.tolist(), strict=True))


def from_own(
    x: Float[np.ndarray, "f e"],
    y: Float[np.ndarray, "f k"],
    inputs: tuple[str, ...],
    penalty: float,
) -> tuple[Float[np.ndarray, "e k"], Float[np.ndarray, " k"]]:
    """Regresses each coefficient on its own reading, and what that leaves on all, by ridge.

    The penalty thus draws towards the reading of the same name: people mostly close both eyes,
    and plain ridge would take one closed eye for two that are half closed.
    """
    own = np.zeros((x.shape[1], y.shape[1]))
    for column, name in enumerate(coefficients.ARKIT_NAMES):
        if name in inputs:
            row = inputs.index(name)
            covariance = np.mean(
                (x[:, row] - x[:, row].mean()) * (y[:, column] - y[:, column].mean())
            )
            own[row, column] = covariance / (x[:, row].var() + MIN_STD**2)
    matrix, offset = ridge(x, y - x @ own, penalty)
    return own + matrix, offset


def ridge(
    x: Float[np.ndarray, "f e"], y: Float[np.ndarray, "f k"], penalty: float
) -> tuple[Float[np.ndarray, "e k"], Float[np.ndarray, " k"]]:
    """Returns matrix and offset of a ridge regression on standardised inputs."""
    mean, std = x.mean(axis=0), x.std(axis=0).clip(MIN_STD)
    unit, offset = (x - mean) / std, y.mean(axis=0)
    gram = unit.T @ unit + penalty * len(x) * np.eye(x.shape[1])
    matrix = np.linalg.solve(gram, unit.T @ (y - offset)) / std[:, None]
    return matrix, offset - mean @ matrix


def keep(fitted: calibration.Calibration, names: tuple[str, ...]) -> calibration.Calibration:
    """Returns the calibration with some of its coefficients only."""
    columns = coefficients.indices(fitted.names, names)
    return dataclasses.replace(
        fitted, names=names, matrix=fitted.matrix[:, columns], offset=fitted.offset[columns]
    )
