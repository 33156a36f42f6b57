"""Carries cameras of a structure into the head frame, and tells where they agree with the face's.

A structure (COLMAP's) knows how a head moves, to fractions of a degree, but neither where the face
is nor how large it is; the model of landmarks knows that, but each frame's pose only to a degree or
two. One similarity carries the structure to where the face's poses are in the mean of many frames.
Frames in which both still differ by more than the face's poses are unsure of are not believed.

Source: chordal mean of rotations (Hartley et al. 2013); Geman and McClure 1987 (robust weights).
"""

import dataclasses

import numpy as np

from ganavatar_jax.core.arrays import Bool, Float
from ganavatar_jax.films import head_poses
from ganavatar_jax.geometry import head_angles, rotation_vectors

_ITERATIONS = 20
_FRONT_DEG = 25.0  # Landmarks of faces near the front are the most exact.
_LEAST_SAY = 0.02
_LATERAL, _DEPTH_SHARE = 0.01, 0.03  # Deviations of where a head is seen, world units and share.
_SIGMAS, _LEAST_DEG = 3.0, 3.0
_OWN_DEG = 0.7  # Deviation of a structure's cameras from one another.


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Cameras of the structure in the head frame.

    Attributes:
      cam2world: Poses.
      accepted: Whether a frame's camera agrees with the face's pose.
      share: Of accepted frames.
      median_deg: Median angle between both, of frames that the structure knows; NaN without any.
      sigma_deg: Standard deviation of yaw, pitch and roll of accepted cameras.
    """

    cam2world: Float[np.ndarray, "f 4 4"]
    accepted: Bool[np.ndarray, " f"]
    share: float
    median_deg: float
    sigma_deg: Float[np.ndarray, "f 3"]


def agree(
    face: head_poses.HeadPoses,
    cam2world: Float[np.ndarray, "f 4 4"],
    known: Bool[np.ndarray, " f"],
) -> Agreement:
    """Compares a structure's cameras with the face's poses.

    Args:
      face: Poses of the frames by landmarks.
      cam2world: The same frames' cameras in the structure's world.
      known: Frames that the structure knows; without any, no camera is believed.

    Returns:
      The cameras, moved, and which of them are believed.

    Source: module text.
    """
    rotation = np.swapaxes(cam2world[:, :3, :3], 1, 2)
    shift = -np.einsum("fij,fj->fi", rotation, cam2world[:, :3, 3])
    say = _say(face.rotation) * known
    own = np.sqrt(np.maximum(face.sigma_deg**2 - face.shared_deg**2, 0.0).sum(axis=1))
    limit = np.maximum(_SIGMAS * own, _LEAST_DEG)
    turn = _find_turn(rotation, face.rotation, say, limit)
    rotation = rotation @ turn
    apart = rotation_vectors.angle_deg(rotation, face.rotation)
    near = say * (apart <= limit) if (say * (apart <= limit)).any() else say
    translation = _find_place(rotation, shift, face.translation, near)
    away = np.abs(translation - face.translation)
    away[:, :2] /= _LATERAL
    away[:, 2] /= _DEPTH_SHARE * face.translation[:, 2]
    accepted = known & (apart <= limit) & (away.max(axis=1) <= 2.0 * _SIGMAS)
    # Frames that have a say have placed all others: their mistakes are everybody's.
    weight = near if near.any() else np.ones(len(near))
    common = np.sqrt(np.average(face.shared_deg**2, axis=0, weights=weight))
    return Agreement(
        head_angles.to_cameras(rotation, translation),
        accepted,
        float(accepted.mean()),
        float(np.median(apart[known])) if known.any() else np.nan,
        np.tile(np.hypot(common, _OWN_DEG), (len(rotation), 1)),
    )


def _say(rotation: np.ndarray) -> np.ndarray:
    """How much a frame counts: fully near the front, hardly from the side."""
    yaw, pitch = head_angles.view_angles(np.swapaxes(rotation, 1, 2))
    away = np.degrees(np.hypot(yaw, pitch)) / _FRONT_DEG
    return np.maximum(np.exp(-(away**2)), _LEAST_SAY)


def _find_turn(
    structure: np.ndarray, face: np.ndarray, say: np.ndarray, limit_deg: np.ndarray
) -> np.ndarray:
    """The turn of the head frame that carries the structure's rotations to the face's."""
    turns = np.swapaxes(structure, 1, 2) @ face
    weight = say
    for _ in range(_ITERATIONS):
        turn = rotation_vectors.mean(turns, weight)
        apart = rotation_vectors.angle_deg(turns, np.broadcast_to(turn, turns.shape))
        weight = say / (1.0 + (apart / limit_deg) ** 2) ** 2
    return turn


def _find_place(
    rotation: np.ndarray, shift: np.ndarray, target: np.ndarray, say: np.ndarray
) -> np.ndarray:
    """Where the structure's cameras see the head, once its origin and size are the face's."""
    slopes = np.concatenate([rotation, shift[..., None]], axis=-1)  # [f 3 4]: origin and scale
    precision = np.stack(
        [np.full(len(target), 1.0 / _LATERAL)] * 2 + [1.0 / (_DEPTH_SHARE * target[:, 2])], axis=-1
    )
    weight = say
    for _ in range(_ITERATIONS):
        rows = slopes * (precision * np.sqrt(weight)[:, None])[..., None]
        right = target * precision * np.sqrt(weight)[:, None]
        solved = np.linalg.lstsq(rows.reshape(-1, 4), right.ravel(), rcond=None)[0]
        rest = (((slopes @ solved) - target) * precision / _SIGMAS) ** 2
        weight = say / (1.0 + rest.sum(axis=1)) ** 2
    return slopes @ solved
