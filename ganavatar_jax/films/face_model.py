"""Where a landmarker puts its landmarks on heads: mean, drift with the pose, two kinds of modes.

Landmarks are not places on a skull. People's faces differ, expressions move them, contours slide
as a head turns, and the landmarker pulls unusual views towards the usual ones. The model knows all
four, learnt from people whose cameras are known: in the head frame of the base generator, landmarks
of one view are

    mean + identity @ a + frame @ b + drift @ features(yaw, pitch) + noise,

a standard normal for each person, b for each view. A pose found with it needs no factor that
undoes the landmarker's habits.

Source: probabilistic principal components of two levels (Tipping and Bishop 1999; Prince and Elder
2007).
"""

import dataclasses
import functools
import importlib.resources

import numpy as np

from ganavatar_jax.core.arrays import Float, Int
from ganavatar_jax.faces import canonical_face, estimator_config, model_files
from ganavatar_jax.geometry import point_models, similarity

ASSET = "face_model.npz"


@dataclasses.dataclass(frozen=True)
class FaceModel:
    """Landmarks of people's heads, in units of the head frame.

    Attributes:
      indices: Numbers of the landmarks among the detector's 478.
      mean: Of all people, seen from the front.
      drift: Displacement by each of `drift_features`.
      identity: Displacement for each standard deviation of a person's modes.
      frame: The same for what differs between views of a person.
      noise: Standard deviation of what is left, each coordinate.
    """

    indices: Int[np.ndarray, " n"]
    mean: Float[np.ndarray, "n 3"]
    drift: Float[np.ndarray, "n 3 d"]
    identity: Float[np.ndarray, "n 3 i"]
    frame: Float[np.ndarray, "n 3 v"]
    noise: Float[np.ndarray, "n 3"]


@functools.cache
def load_face_model() -> FaceModel:
    """Reads the model that ships with the package.

    Returns:
      The model, float64.

    Source: experiments/make_face_model.py.
    """
    asset = importlib.resources.files("ganavatar_jax") / "assets" / ASSET
    with asset.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        content = {field.name: stored[field.name] for field in dataclasses.fields(FaceModel)}
    indices = content.pop("indices").astype(np.int64)
    return FaceModel(indices, **{name: v.astype(np.float64) for name, v in content.items()})


def load_canonical(
    estimator: estimator_config.EstimatorConfig,
) -> Float[np.ndarray, "468 3"]:
    """Reads MediaPipe's canonical face, carried to where people's landmarks are in the mean.

    Args:
      estimator: Where the landmarker's model file is; it holds the face.

    Returns:
      Vertices in the head frame; vertex i is landmark i.

    Raises:
      EstimatorError: the model file is missing.
    """
    task = model_files.find(
        model_files.FACE_LANDMARKER,
        path=estimator.model_path,
        allow_download=estimator.allow_download,
    )
    face, model = canonical_face.load(task), load_face_model()
    mean = point_models.PointModel(model.mean, model.identity[..., :0], 1.0)
    return similarity.move_points(face, point_models.align(face[model.indices], mean))


def drift_features(
    yaw: Float[np.ndarray, " f"], pitch: Float[np.ndarray, " f"]
) -> Float[np.ndarray, "f 7"]:
    """Polynomial of the view with which landmarks drift.

    Args:
      yaw: Radians.
      pitch: Radians.

    Returns:
      Zero for a frontal view.
    """
    return np.stack([yaw, pitch, yaw**2, yaw * pitch, pitch**2, yaw**3, yaw**2 * pitch], axis=-1)


def drift_slopes(
    yaw: Float[np.ndarray, " f"], pitch: Float[np.ndarray, " f"]
) -> tuple[Float[np.ndarray, "f 7"], Float[np.ndarray, "f 7"]]:
    """Derivatives of `drift_features`.

    Args:
      yaw: Radians.
      pitch: Radians.

    Returns:
      by_yaw: Each radian.
      by_pitch: Each radian.
    """
    none, one = np.zeros_like(yaw), np.ones_like(yaw)
    by_yaw = [one, none, 2 * yaw, pitch, none, 3 * yaw**2, 2 * yaw * pitch]
    by_pitch = [none, one, none, yaw, 2 * pitch, none, yaw**2]
    return np.stack(by_yaw, axis=-1), np.stack(by_pitch, axis=-1)
