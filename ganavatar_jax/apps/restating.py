"""Brings a driver's codes to the units of the avatar's own, see `evaluation.driver_statistics`.

An avatar is mapped with what one estimator reads off its renders. What the same estimator reads off
other pictures is in the same units already, whatever the driver does; weights from elsewhere are
not.
"""

import logging

import numpy as np

from ganavatar_jax.apps import avatar, experiment_config
from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.faces import weight_table

_LOG = logging.getLogger(__name__)
_FEW_FRAMES = 25
_STILL = 1e-3  # as in faces.normalization: less is no movement
_AS_THEY_ARE = "--config.evaluation.driver_statistics=pairs takes codes as they are"


def restate(
    codes: Float[np.ndarray, "f e"],
    person: avatar.Avatar,
    resolved: experiment_config.ExperimentConfig,
    *,
    read: bool,
    label25: Float[np.ndarray, "f 25"] | None = None,
    of_driver: Float[np.ndarray, "n e"] | None = None,
    at_rest: Float[np.ndarray, "m e"] | None = None,
) -> Float[np.ndarray, "f e"]:
    """Restates codes in the avatar's units.

    Args:
      codes: Codes with the avatar's coefficients.
      person: The avatar.
      resolved: `evaluation.driver_statistics` says how; `estimator` what the avatar's codes are.
      read: Whether the avatar's estimator read the codes; others come from elsewhere.
      label25: Cameras of the frames they were read off, in the driver's head frame: what turning
        the head did to the reading is undone; None leaves codes as they were read.
      of_driver: All codes of the driver, of frames that have one, where more is known of him than
        is shown; for "driver".
      at_rest: Codes of the driver's face at rest; None where no such frames are known.

    Returns:
      Codes for `Avatar.encode`.

    Raises:
      ConfigError: a driver is to be brought to what nobody knows of the avatar's pairs.
    """
    how = resolved.evaluation.driver_statistics
    if how == "driver":
        known = codes if of_driver is None else of_driver
        return person.normalizer.restate(codes, *_statistics(known, person, resolved))
    if read and label25 is not None and person.turned is not None:
        codes = person.turned.to_front(codes, label25)
    slopes = None if how == "pairs" or (how == "auto" and read) else _slopes(person, resolved)
    if slopes is not None:
        codes = person.neutral_code + codes * slopes
        at_rest = None if at_rest is None else person.neutral_code + at_rest * slopes
    if at_rest is not None:
        codes = codes - at_rest.mean(axis=0) + person.neutral_code
    return np.asarray(codes, np.float32)


def refuse_unknown(person: avatar.Avatar, resolved: experiment_config.ExperimentConfig) -> None:
    """Insists that a driver can be brought to the avatar's units, where that is asked for.

    Args:
      person: The avatar.
      resolved: The configuration.

    Raises:
      ConfigError: nobody knows where the codes of the avatar's pairs lay, or which weights its
        codes stand for.
    """
    if resolved.evaluation.driver_statistics in ("driver", "weights"):
        person.normalizer.require_statistics()
    if resolved.evaluation.driver_statistics == "weights":
        _slopes(person, resolved)


def weight_slopes(
    person: avatar.Avatar, resolved: experiment_config.ExperimentConfig
) -> Float[np.ndarray, " e"] | None:
    """Looks up how far the avatar's codes move for an ARKit weight of 1.

    Args:
      person: The avatar.
      resolved: `estimator` says what its codes are.

    Returns:
      One slope a coefficient; None where no table ships for its estimator and coefficients.
    """
    config = resolved.estimator
    fits = (config.name, config.calibration) == weight_table.ESTIMATOR
    fits = fits and person.normalizer.statistics is not None
    return weight_table.load().of(person.names) if fits else None


def _slopes(
    person: avatar.Avatar, resolved: experiment_config.ExperimentConfig
) -> Float[np.ndarray, " e"] | None:
    """Looks the table up; None where "auto" has none for this avatar, which is then told."""
    slopes = weight_slopes(person, resolved)
    if slopes is not None:
        return slopes
    config = resolved.estimator
    if resolved.evaluation.driver_statistics == "weights":
        raise errors.ConfigError(
            'evaluation.driver_statistics="weights": expected an avatar that was mapped with '
            f"readings of the estimator {weight_table.ESTIMATOR[0]!r}, calibration "
            f"{weight_table.ESTIMATOR[1]!r}, for which a table ships; got {config.name!r}, "
            f"{config.calibration!r}, and {', '.join(person.names[:3])}, .... Set it to pairs or "
            "driver."
        )
    _LOG.warning(
        "no table says what weights mean to this avatar's estimator: codes are taken as they are; "
        "--config.evaluation.driver_statistics=driver brings them to the avatar's mean and spread"
    )
    return None


def _statistics(
    codes: Float[np.ndarray, "f e"],
    person: avatar.Avatar,
    resolved: experiment_config.ExperimentConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Makes the mean and the spread that bring a driver to the avatar's own, within limits."""
    if len(codes) < _FEW_FRAMES:
        _LOG.warning(
            "%d frames say little of how the driver moves, and their mean becomes the avatar's; %s",
            len(codes),
            _AS_THEY_ARE,
        )
    if np.ptp(codes, axis=0).max() < _STILL:
        _LOG.warning(
            "no coefficient moves, and what never moves becomes the avatar's mean face; %s",
            _AS_THEY_ARE,
        )
    least = person.normalizer.require_statistics().std / resolved.drive.largest_gain
    return codes.mean(axis=0), np.maximum(codes.std(axis=0), least)
