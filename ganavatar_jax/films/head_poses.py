"""Head poses from the landmarks of a video: bundle adjustment of a rigid face that moves.

One person-specific set of rigid points, one pose a frame, one focal length that is fixed: from a
head alone it cannot be seen. First poses and points are solved together on a few frames, with the
points tied to the canonical face; then all poses with the points fixed, robustly and smoothly in
time. Points are in centimetres of the canonical face (y up, z out of the face); poses map them into
the camera (OpenCV axes).

Source: Triggs et al. 2000, "Bundle Adjustment"; Huber 1964; Umeyama 1991 for the start.
"""

import dataclasses

import numpy as np
from scipy import linalg

from ganavatar_jax.core.arrays import Float, Int

_SHAPE_FRAMES = 120
_SHAPE_PRIOR_CM = 0.5
_ITERATIONS = 25
_HUBER_PX = 1.5  # At a face of 100 px between the eyes; scaled with the face.
_EYES_PX = 100.0
# Least deviation of second differences from frame to frame; a head that moves more than that sets
# its own, so that quick turns are not flattened.
_SMOOTH_ROTATION, _SMOOTH_SHIFT_CM = np.radians(0.2), 0.1
_MEDIAN_TO_DEVIATION = 1.4826
_DAMPING = 1e-3
_FLIP = np.diag([1.0, -1.0, -1.0])  # Canonical axes (y up, z towards the camera) to OpenCV's.


@dataclasses.dataclass(frozen=True)
class HeadPoses:
    """Poses of all frames and the person's rigid face.

    Attributes:
      rotation: Face to camera.
      translation: Face to camera, centimetres.
      points: The person's rigid points, centimetres.
      focal_px: Focal length used.
      residual_px: Median distance of projected points from landmarks, each frame.
    """

    rotation: Float[np.ndarray, "f 3 3"]
    translation: Float[np.ndarray, "f 3"]
    points: Float[np.ndarray, "n 3"]
    focal_px: float
    residual_px: Float[np.ndarray, " f"]


def solve(
    landmarks_px: Float[np.ndarray, "f n 3"],
    canonical_cm: Float[np.ndarray, "n 3"],
    *,
    center_px: Float[np.ndarray, "2"],
    distance_cm: float,
    starts: Int[np.ndarray, " s"],
) -> HeadPoses:
    """Finds the head's pose in every frame.

    Args:
      landmarks_px: Rigid landmarks; x and y in pixels, z in the same unit, away from the camera.
      canonical_cm: The same points of the canonical face.
      center_px: Principal point.
      distance_cm: Distance at which the head shall stand in the median frame; it sets the focal
        length.
      starts: Numbers of the frames at which a continuous recording begins; poses are not
        smoothed across them.

    Returns:
      Poses, points and residuals.

    Source: module text.
    """
    seen = landmarks_px.astype(np.float64)
    rotation, scale, shift = _weak_perspective(seen, canonical_cm)
    focal = float(distance_cm * np.median(scale))
    eyes_px = float(np.median(scale) * 8.9)  # The canonical outer eye corners are 8.9 cm apart.
    huber = _HUBER_PX * eyes_px / _EYES_PX
    depth = focal / scale
    translation = np.concatenate([(shift - center_px) / scale[:, None], depth[:, None]], axis=1)
    uv = seen[..., :2] - center_px
    state = rotation, translation
    few = np.unique(np.linspace(0, len(uv) - 1, min(_SHAPE_FRAMES, len(uv))).round().astype(int))
    points = _solve_shape(
        uv[few], (rotation[few], translation[few]), canonical_cm, focal=focal, huber=huber
    )
    inner = np.setdiff1d(np.arange(1, len(uv) - 1), np.concatenate([starts, starts - 1]))
    none = np.full(6, np.inf)
    state = _solve_poses(uv, state, points, focal=focal, huber=huber, inner=inner[:0], bend=none)
    usual = none
    if len(inner):
        bends = np.abs(_second_differences(state, inner))
        floor = np.repeat([_SMOOTH_ROTATION, _SMOOTH_SHIFT_CM], 3)
        usual = np.maximum(_MEDIAN_TO_DEVIATION * np.median(bends, axis=0), floor)
    state = _solve_poses(uv, state, points, focal=focal, huber=huber, inner=inner, bend=usual)
    predicted, _, _ = _project(state, points, focal)
    residual = np.median(np.linalg.norm(predicted - uv, axis=-1), axis=1)
    return HeadPoses(*state, points, focal, residual)


def amplify_turns(
    cam2world: Float[np.ndarray, "f 4 4"], response: tuple[float, float]
) -> Float[np.ndarray, "f 4 4"]:
    """Undoes a detector's pull towards the frontal view.

    Args:
      cam2world: Cameras in the head frame.
      response: Shares of true yaw and pitch that the cameras show.

    Returns:
      Cameras whose yaw and pitch are divided by the responses; roll, and the place and depth at
      which they see the origin, stay.
    """
    rotation = cam2world[:, :3, :3]
    backward = -rotation[:, :, 2]
    yaw = np.arctan2(backward[:, 0], backward[:, 2])
    pitch = np.arcsin(np.clip(backward[:, 1], -1.0, 1.0))
    upright = _facing(yaw, pitch)
    roll = np.swapaxes(upright, 1, 2) @ rotation
    amplified = cam2world.copy()
    amplified[:, :3, :3] = _facing(yaw / response[0], pitch / response[1]) @ roll
    local = -np.einsum("fji,fj->fi", rotation, cam2world[:, :3, 3])
    amplified[:, :3, 3] = -np.einsum("fij,fj->fi", amplified[:, :3, :3], local)
    return amplified


def _facing(yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Axes of an upright camera that looks back along yaw and pitch."""
    zero = np.zeros_like(yaw)
    right = np.stack([np.cos(yaw), zero, -np.sin(yaw)], axis=-1)
    forward = -np.stack(
        [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], axis=-1
    )
    return np.stack([right, np.cross(forward, right), forward], axis=-1)


def _weak_perspective(
    seen: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits scale * rotation @ point + shift to each frame's landmarks, z included."""
    centred = points - points.mean(axis=0)
    rotations, scales, shifts = [], [], []
    for frame in seen:
        target = frame - frame.mean(axis=0)
        u, singular, vt = np.linalg.svd(target.T @ (centred @ _FLIP))
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
        turn = (u * signs) @ vt
        scale = singular @ signs / (centred**2).sum()
        rotations.append(turn @ _FLIP)
        scales.append(scale)
        shifts.append(frame[:, :2].mean(axis=0) - scale * (rotations[-1] @ points.mean(axis=0))[:2])
    return np.stack(rotations), np.array(scales), np.stack(shifts)


def _project(
    state: tuple[np.ndarray, np.ndarray], points: np.ndarray, focal: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projects points; also derivatives by the point in the camera, and the rotated points."""
    rotation, translation = state
    rotated = np.einsum("fij,nj->fni", rotation, points)
    local = rotated + translation[:, None]
    z = local[..., 2:]
    uv = focal * local[..., :2] / z
    step = np.zeros((*local.shape[:2], 2, 3))
    step[..., 0, 0] = step[..., 1, 1] = focal / z[..., 0]
    step[..., :, 2] = -uv / z
    return uv, step, rotated


def _pose_jacobian(step: np.ndarray, rotated: np.ndarray) -> np.ndarray:
    """Derivatives by a turn applied last (3) and a shift (3): [f n 2 6]."""
    x, y, z = np.moveaxis(rotated, -1, 0)
    zero = np.zeros_like(x)
    turn = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=-1).reshape(*x.shape, 3, 3)
    return np.concatenate([step @ turn, step], axis=-1)


def _huber_weights(residual: np.ndarray, huber: float) -> np.ndarray:
    size = np.linalg.norm(residual, axis=-1)
    return np.where(size <= huber, 1.0, huber / np.maximum(size, 1e-12)) / huber**2


def _solve_shape(
    uv: np.ndarray,
    state: tuple[np.ndarray, np.ndarray],
    canonical: np.ndarray,
    *,
    focal: float,
    huber: float,
) -> np.ndarray:
    """Solves poses and points together; the poses are eliminated (Schur complement)."""
    points = canonical.copy()
    count = len(points)
    for _ in range(_ITERATIONS):
        predicted, step, rotated = _project(state, points, focal)
        residual = uv - predicted
        weights = _huber_weights(residual, huber)
        by_pose = _pose_jacobian(step, rotated)
        by_point = np.einsum("fnab,fbc->fnac", step, state[0])
        pose_hessian = np.einsum("fn,fnai,fnaj->fij", weights, by_pose, by_pose)
        pose_hessian += _DAMPING * _diagonals(pose_hessian)
        cross = np.einsum("fn,fnai,fnaj->finj", weights, by_pose, by_point).reshape(
            len(uv), 6, 3 * count
        )
        pose_right = np.einsum("fn,fnai,fna->fi", weights, by_pose, residual)
        blocks = np.einsum("fn,fnai,fnaj->nij", weights, by_point, by_point)
        hessian = np.asarray(linalg.block_diag(*blocks)) + np.eye(3 * count) / _SHAPE_PRIOR_CM**2
        right = np.einsum("fn,fnai,fna->ni", weights, by_point, residual).reshape(-1)
        right -= (points - canonical).reshape(-1) / _SHAPE_PRIOR_CM**2
        solved = np.linalg.solve(pose_hessian, np.concatenate([cross, pose_right[..., None]], 2))
        hessian -= np.einsum("fip,fiq->pq", cross, solved[..., :-1])
        right -= np.einsum("fip,fi->p", cross, solved[..., -1])
        change = linalg.solve(hessian, right, assume_a="sym")
        moves = solved[..., -1] - solved[..., :-1] @ change
        points = points + change.reshape(count, 3)
        state = _move(state, moves)
        if np.abs(change).max() < 1e-4:
            break
    return points


def _solve_poses(
    uv: np.ndarray,
    state: tuple[np.ndarray, np.ndarray],
    points: np.ndarray,
    *,
    focal: float,
    huber: float,
    inner: np.ndarray,
    bend: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Solves all poses with fixed points and smoothness in time (a banded system).

    `inner` are the frames whose second differences count, `bend` the deviations of these.
    """
    frames = len(uv)
    precision = 1.0 / bend**2
    for _ in range(_ITERATIONS):
        predicted, step, rotated = _project(state, points, focal)
        residual = uv - predicted
        weights = _huber_weights(residual, huber)
        by_pose = _pose_jacobian(step, rotated)
        hessian = np.einsum("fn,fnai,fnaj->fij", weights, by_pose, by_pose)
        hessian += _DAMPING * _diagonals(hessian)
        right = np.einsum("fn,fnai,fna->fi", weights, by_pose, residual)
        bent = _second_differences(state, inner)
        bands = np.zeros((13, 6 * frames))  # Upper form: row 12 is the diagonal.
        for i in range(6):
            for j in range(i, 6):
                bands[12 - (j - i), j::6] += hessian[:, i, j]
        for place, weight in ((-1, 1.0), (0, -2.0), (1, 1.0)):
            np.add.at(right, inner + place, -weight * precision * bent)
            for other, factor in ((-1, 1.0), (0, -2.0), (1, 1.0)):
                if other >= place:
                    columns = (6 * (inner + other)[:, None] + np.arange(6)).reshape(-1)
                    value = np.tile(weight * factor * precision, len(inner))
                    np.add.at(bands[12 - 6 * (other - place)], columns, value)
        moves = linalg.solveh_banded(bands, right.reshape(-1)).reshape(frames, 6)
        state = _move(state, moves)
        if np.abs(moves).max() < 1e-5:
            break
    return state


def _second_differences(state: tuple[np.ndarray, np.ndarray], inner: np.ndarray) -> np.ndarray:
    rotation, translation = state
    later = _log(rotation[inner + 1] @ np.swapaxes(rotation[inner], 1, 2))
    earlier = _log(rotation[inner] @ np.swapaxes(rotation[inner - 1], 1, 2))
    shift = translation[inner + 1] - 2 * translation[inner] + translation[inner - 1]
    return np.concatenate([later - earlier, shift], axis=1)


def _diagonals(blocks: np.ndarray) -> np.ndarray:
    return blocks * np.eye(blocks.shape[-1])


def _move(state: tuple[np.ndarray, np.ndarray], moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _exp(moves[:, :3]) @ state[0], state[1] + moves[:, 3:]


def _exp(vectors: Float[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3 3"]:
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    return (
        np.eye(3)
        + np.sinc(angle / np.pi) * cross
        + (0.5 * np.sinc(angle / (2 * np.pi)) ** 2) * (cross @ cross)
    )


def _log(rotations: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, "f 3"]:
    skew = rotations - np.swapaxes(rotations, 1, 2)
    axis = 0.5 * np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)
    sine = np.linalg.norm(axis, axis=1)
    cosine = 0.5 * (np.trace(rotations, axis1=1, axis2=2) - 1.0)
    angle = np.arctan2(sine, cosine)
    return axis * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)[:, None]
