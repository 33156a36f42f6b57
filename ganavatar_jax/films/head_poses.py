"""Head poses from the landmarks of a film: one person, one pose and one expression a frame.

The landmarker's x, y and depth of every frame are explained together by `face_model`: the person's
shape (and what stays of the expression) once, a pose and the rest of the expression in each frame,
all with their priors. The most probable explanation is found by Gauss-Newton; what belongs to one
frame is eliminated from the equations (Schur complement), so that the shape is solved with all
frames' knowledge, and the inverse of the same equations says how sure each pose is. Where motion
shows nothing, the priors decide: a face like other people's faces seen from the front is frontal.

The shape is learnt from frames near the front, where landmarks can be trusted. Poses are smoothed
in time afterwards, each as far as it is unsure, and not across cuts.

Focal length and distance cannot be told apart from a head; one of them is given. Axes are OpenCV's
in the camera; the head frame is y up, z out of the face. All in float64 on the host.

Source: Triggs et al. 2000, "Bundle Adjustment"; Geman and McClure 1987 (robust weights).
"""

import dataclasses

import numpy as np

from ganavatar_jax.core.arrays import Float, Int
from ganavatar_jax.films import face_model, pose_smoothing
from ganavatar_jax.geometry import head_angles, rotation_vectors

_SHAPE_FRAMES = 60
# Frames that make the person's shape surer. Mistakes are alike in all frames of a film: the error
# over people hardly falls with further views.
_PERSON_FRAMES = 6
# Who is filmed looks at the camera: the deviation of a film's mean pitch from level, and the place
# about which the head is turned where that decides.
_LEVEL_DEG = 5.0
_FACE_CENTER = np.array([0.0, -0.06, 0.16])
_FRONT_DEG, _FEWEST_FRONT = 25.0, 20
_NOD_COUNTS = 2.0  # A nod is as far from the front as twice the turn: people hardly nod.
_CHOICES, _ITERATIONS = 2, 25
_LEAST_NOISE = 0.004  # Real faces leave more than the modes of synthetic people do; world units.
_ROBUST = 3.0  # Deviations at which a landmark has lost half of its say.
_LASTING = 0.5  # Share of the variance between a person's views that lasts through a film.
_DEPTH_SHARE = 0.03  # How much a frame's depth may differ from what its scale says.
# Errors over what the equations say of them, from clips of people with known cameras: mistakes of
# neighbouring landmarks are alike, which the noise of single landmarks does not know.
_CAUTION = 1.4
# How a face sits on its skull, nods: the error over held-out people, which wider films do not mend.
_SKULL_DEG = 3.0


@dataclasses.dataclass(frozen=True)
class HeadPoses:
    """Poses of all frames.

    Attributes:
      rotation: Head to camera.
      translation: Head to camera, world units.
      focal_px: Focal length.
      residual_px: Median distance of explained landmarks from read ones, each frame.
      sigma_deg: Standard deviations of yaw, pitch and roll, degrees.
      shared_deg: The part of them that all frames have in common: the person's shape.
    """

    rotation: Float[np.ndarray, "f 3 3"]
    translation: Float[np.ndarray, "f 3"]
    focal_px: float
    residual_px: Float[np.ndarray, " f"]
    sigma_deg: Float[np.ndarray, "f 3"]
    shared_deg: Float[np.ndarray, "f 3"]

    def take(self, which: Int[np.ndarray, " k"]) -> "HeadPoses":
        """Chooses frames.

        Args:
          which: Their places.

        Returns:
          The poses of these.
        """
        each = {
            field.name: getattr(self, field.name)[which]
            for field in dataclasses.fields(self)
            if field.name != "focal_px"
        }
        return dataclasses.replace(self, **each)


@dataclasses.dataclass
class _State:
    """What is being solved for."""

    rotation: np.ndarray
    translation: np.ndarray
    expression: np.ndarray  # [f v]
    person: np.ndarray  # [g]

    def take(self, which: np.ndarray) -> "_State":
        return _State(
            self.rotation[which], self.translation[which], self.expression[which], self.person
        )


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Landmarks and what is known of them; rows of x, y and depth, pixels."""

    seen: np.ndarray  # [f n 3], from the principal point; depth from its mean
    focal: float
    noise: np.ndarray  # [f n 3]
    depth: np.ndarray  # [f], expected
    model: face_model.FaceModel
    lasting: np.ndarray  # [n 3 g]: modes of the person
    passing: np.ndarray  # [n 3 v]: modes of a frame

    def take(self, which: np.ndarray) -> "_Problem":
        return dataclasses.replace(
            self, seen=self.seen[which], noise=self.noise[which], depth=self.depth[which]
        )


def solve(
    landmarks_px: Float[np.ndarray, "f 478 3"],
    model: face_model.FaceModel,
    *,
    center_px: Float[np.ndarray, "2"],
    distance: float,
    focal_px: float | None = None,
    starts: Int[np.ndarray, " s"],
) -> HeadPoses:
    """Finds the head's pose in every frame.

    Args:
      landmarks_px: x and y in pixels, z in the same unit, away from the camera.
      model: Where landmarks lie on heads.
      center_px: Principal point.
      distance: Of the camera in the median frame, world units; it sets the focal length.
      focal_px: Focal length where it is known; sets the distance instead.
      starts: Numbers of the frames at which a continuous recording begins; poses are not
        smoothed across them.

    Returns:
      Poses, and how sure they are.

    Source: module text.
    """
    seen = landmarks_px[:, model.indices].astype(np.float64)
    rotation, scale, shift = fit_mean(seen, model.mean)
    focal = focal_px or float(distance * np.median(scale))
    depth = focal / scale
    centred = np.concatenate(
        [seen[..., :2] - center_px, seen[..., 2:] - seen[..., 2:].mean(axis=1, keepdims=True)], 2
    )
    noise = np.hypot(model.noise, _LEAST_NOISE) * scale[:, None, None]
    problem = _Problem(
        centred,
        focal,
        noise,
        depth,
        model,
        np.concatenate([model.identity, np.sqrt(_LASTING) * model.frame], axis=-1),
        np.sqrt(1.0 - _LASTING) * model.frame,
    )
    state = _State(
        rotation,
        np.concatenate([(shift - center_px) / scale[:, None], depth[:, None]], axis=1),
        np.zeros((len(seen), model.frame.shape[-1])),
        np.zeros(problem.lasting.shape[-1]),
    )
    few, told = _find_person(problem, state)
    own, shared = _pose_covariance(problem, state, np.linalg.inv(told + np.eye(len(told))))
    rotation, translation = pose_smoothing.smooth(
        state.rotation, state.translation, np.linalg.inv(own), starts
    )
    sure = _shared_sigma_deg(head_angles.turn_slopes(rotation), shared)[few, 1]
    level = _level_turn(rotation, float(np.median(sure)))
    smooth = dataclasses.replace(state, rotation=rotation, translation=translation)
    predicted, _, _ = _project(problem, smooth)
    residual = np.linalg.norm((predicted - centred)[..., :2], axis=-1)
    translation = translation + rotation @ (_FACE_CENTER - level @ _FACE_CENTER)
    rotation = rotation @ level
    angles = head_angles.turn_slopes(rotation)
    common = _shared_sigma_deg(angles, shared)
    single = _CAUTION * _angle_sigma_deg(angles, own[:, :3, :3])
    return HeadPoses(
        rotation,
        translation,
        focal,
        np.median(residual, axis=1),
        np.hypot(single, common),
        common,
    )


def _find_person(problem: _Problem, state: _State) -> tuple[np.ndarray, np.ndarray]:
    """Solves for the person and for all poses in place; frames that told, and how much they did."""
    few, told = np.zeros(0, np.int64), np.zeros((0, 0))
    # The mean face takes many a person's nods for level ones: frames are chosen again.
    for _ in range(_CHOICES):
        chosen = _choose_frames(state.rotation)
        if np.array_equal(chosen, few):
            break
        few, part = chosen, state.take(chosen)
        told = _iterate(problem.take(few), part, with_person=True)
        state.person = part.person
        _iterate(problem, state, with_person=False)
    return few, min(1.0, _PERSON_FRAMES / len(few)) * told


def _level_turn(rotation: np.ndarray, sigma_deg: float) -> np.ndarray:
    """The nod of the head frame that the camera's usual height asks for, as far as it is unsure."""
    yaw, pitch = head_angles.view_angles(np.swapaxes(rotation, 1, 2))
    share = sigma_deg**2 / (sigma_deg**2 + _LEVEL_DEG**2)
    # Whoever looks aside does not look at the camera. Nods do not choose: a mean over frames that
    # seem level would be level itself.
    usual = np.average(pitch, weights=1.0 / (1.0 + (np.degrees(yaw) / _FRONT_DEG) ** 2))
    return rotation_vectors.exp(np.array([[-share * usual, 0.0, 0.0]]))[0]


def fit_mean(
    seen: Float[np.ndarray, "f n 3"], points: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "f 3 3"], Float[np.ndarray, " f"], Float[np.ndarray, "f 2"]]:
    """Fits scale * rotation @ point + shift to each frame's landmarks, depth included.

    Args:
      seen: Landmarks, pixels.
      points: The same points of some head, y up, z out of the face.

    Returns:
      rotation: Head to camera.
      scale: Pixels a unit.
      shift: Where the origin is seen, pixels.

    Source: Umeyama 1991.
    """
    middle = points.mean(axis=0)
    centred = points - middle
    target = seen - seen.mean(axis=1, keepdims=True)
    u, singular, vt = np.linalg.svd(np.einsum("fni,nj->fij", target, centred))
    signs = np.ones((len(seen), 3))
    signs[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * signs[:, None]) @ vt
    scale = (singular * signs).sum(axis=1) / (centred**2).sum()
    shift = seen[..., :2].mean(axis=1) - scale[:, None] * (rotation @ middle)[:, :2]
    return rotation, scale, shift


def _choose_frames(rotation: np.ndarray) -> np.ndarray:
    """Chooses frames near the front, or the nearest ones, spread over the film."""
    yaw, pitch = head_angles.view_angles(np.swapaxes(rotation, 1, 2))
    away = np.degrees(np.hypot(yaw, _NOD_COUNTS * pitch))
    limit = max(_FRONT_DEG, np.sort(away)[:_FEWEST_FRONT].max())
    near = np.flatnonzero(away <= limit)
    spread = np.linspace(0, len(near) - 1, min(_SHAPE_FRAMES, len(near)))
    return near[np.unique(spread.round().astype(int))]


def _points(problem: _Problem, state: _State) -> np.ndarray:
    """Landmarks of all frames in the head frame, [f n 3]."""
    yaw, pitch = head_angles.view_angles(np.swapaxes(state.rotation, 1, 2))
    drift = face_model.drift_features(yaw, pitch)
    person = problem.model.mean + problem.lasting @ state.person
    return (
        person
        + np.einsum("ncv,fv->fnc", problem.passing, state.expression)
        + np.einsum("ncd,fd->fnc", problem.model.drift, drift)
    )


def _project(problem: _Problem, state: _State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted x, y, depth; their derivatives by the point in the camera; the turned points."""
    turned = np.einsum("fij,fnj->fni", state.rotation, _points(problem, state))
    z = turned[..., 2] + state.translation[:, None, 2]
    lateral = (turned + state.translation[:, None])[..., :2]
    size = (problem.focal / state.translation[:, 2])[:, None]
    xy = problem.focal * lateral / z[..., None]
    depth = size * (turned[..., 2] - turned[..., 2].mean(axis=1, keepdims=True))
    step = np.zeros((*z.shape, 3, 3))
    step[..., 0, 0] = step[..., 1, 1] = problem.focal / z
    step[..., :2, 2] = -xy / z[..., None]
    step[..., 2, 2] = size
    return np.concatenate([xy, depth[..., None]], axis=-1), step, turned


def _turn_slopes(problem: _Problem, state: _State, turned: np.ndarray) -> np.ndarray:
    """Derivatives of turned points by a turn applied last, drift included: [f n 3 3]."""
    yaw, pitch = head_angles.view_angles(np.swapaxes(state.rotation, 1, 2))
    by_yaw, by_pitch = face_model.drift_slopes(yaw, pitch)
    angles = head_angles.turn_slopes(state.rotation)
    slopes = by_yaw[..., None] * angles[:, None, 0] + by_pitch[..., None] * angles[:, None, 1]
    moved = np.einsum("ncd,fdk->fnck", problem.model.drift, slopes)
    return rotation_vectors.cross_slopes(turned) + np.einsum(
        "fij,fnjk->fnik", state.rotation, moved
    )


def _angle_sigma_deg(slopes: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Standard deviations of the angles, degrees."""
    variance = np.einsum("fai,fij,faj->fa", slopes, covariance, slopes)
    return np.degrees(np.sqrt(np.maximum(variance, 0.0)))


def _shared_sigma_deg(slopes: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Standard deviations of what all frames have in common, degrees."""
    sigma = _CAUTION * _angle_sigma_deg(slopes, covariance[:, :3, :3])
    sigma[:, 1] = np.maximum(sigma[:, 1], _SKULL_DEG)
    return sigma


def _linearize(
    problem: _Problem, state: _State, *, with_person: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Weighted residuals, and derivatives by a frame's unknowns and by the person's."""
    predicted, step, turned = _project(problem, state)
    residual = (problem.seen - predicted) / problem.noise
    # Depth says less of a landmark that is out of place than x and y do.
    weight = 1.0 / (1.0 + (residual[..., :2] ** 2).sum(axis=-1) / (2.0 * _ROBUST**2)) ** 2
    factor = np.sqrt(weight)[..., None] / problem.noise
    by_turn = _center_depth(step @ _turn_slopes(problem, state, turned))
    by_shift = step.copy()
    by_shift[..., 2, :] = 0.0
    by_shift[..., 2, 2] = -predicted[..., 2] / state.translation[:, None, 2]
    by_point = step @ state.rotation[:, None]
    by_mode = _center_depth(np.einsum("fnac,ncv->fnav", by_point, problem.passing, optimize=True))
    own = np.concatenate([by_turn, by_shift, by_mode], axis=-1) * factor[..., None]
    rows = (len(own), -1)
    person = None
    if with_person:
        person = _center_depth(
            np.einsum("fnac,ncg->fnag", by_point, problem.lasting, optimize=True)
        )
        person = (person * factor[..., None]).reshape(*rows, problem.lasting.shape[-1])
    scaled = (residual * np.sqrt(weight)[..., None]).reshape(rows)
    return scaled, own.reshape(*rows, own.shape[-1]), person


def _center_depth(slopes: np.ndarray) -> np.ndarray:
    """Depth is read up to a constant of each frame."""
    slopes[..., 2, :] -= slopes[..., 2, :].mean(axis=1, keepdims=True)
    return slopes


def _own_normal(
    problem: _Problem, state: _State, residual: np.ndarray, slopes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of each frame's pose and expression, priors included."""
    normal = np.swapaxes(slopes, 1, 2) @ slopes
    right = np.einsum("frk,fr->fk", slopes, residual)
    places = np.arange(6, slopes.shape[-1])
    normal[:, places, places] += 1.0
    right[:, 6:] -= state.expression
    firm = 1.0 / (_DEPTH_SHARE * problem.depth) ** 2
    normal[:, 5, 5] += firm
    right[:, 5] -= firm * (state.translation[:, 2] - problem.depth)
    return normal, right


def _iterate(problem: _Problem, state: _State, *, with_person: bool) -> np.ndarray:
    """Solves in place; returns what frames tell of the person (empty without the person)."""
    left = np.zeros((0, 0))
    for _ in range(_ITERATIONS):
        residual, slopes, person = _linearize(problem, state, with_person=with_person)
        normal, right = _own_normal(problem, state, residual, slopes)
        if person is None:
            moves = np.linalg.solve(normal, right[..., None])[..., 0]
            change = np.zeros(1)
        else:
            cross = np.swapaxes(slopes, 1, 2) @ person
            solved = np.linalg.solve(normal, np.concatenate([cross, right[..., None]], axis=2))
            left = np.einsum("frg,frh->gh", person, person, optimize=True)
            left -= np.einsum("fkg,fkh->gh", cross, solved[..., :-1], optimize=True)
            target = np.einsum("frg,fr->g", person, residual)
            target -= np.einsum("fkg,fk->g", cross, solved[..., -1]) + state.person
            change = np.linalg.solve(left + np.eye(len(left)), target)
            state.person = state.person + change
            moves = solved[..., -1] - solved[..., :-1] @ change
        state.rotation = rotation_vectors.exp(moves[:, :3]) @ state.rotation
        state.translation = state.translation + moves[:, 3:6]
        state.expression = state.expression + moves[:, 6:]
        if np.abs(moves[:, :3]).max() < 1e-4 and np.abs(change).max() < 1e-2:
            break
    return left


def _pose_covariance(
    problem: _Problem, state: _State, person: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Covariances of each pose: its own, and what the person's shape adds, [f 6 6] each."""
    own, shared = [], []
    for begin in range(0, len(state.rotation), _SHAPE_FRAMES):
        which = np.arange(begin, min(begin + _SHAPE_FRAMES, len(state.rotation)))
        part, frames = problem.take(which), state.take(which)
        residual, slopes, by_person = _linearize(part, frames, with_person=True)
        assert by_person is not None
        inverse = np.linalg.inv(_own_normal(part, frames, residual, slopes)[0])[:, :6]
        gain = inverse @ (np.swapaxes(slopes, 1, 2) @ by_person)
        own.append(inverse[:, :, :6])
        shared.append(gain @ person @ np.swapaxes(gain, 1, 2))
    return np.concatenate(own), np.concatenate(shared)
