"""Expression codes by Deep3DFaceRecon, whose weights the user brings.

MediaPipe's landmarker finds the face and gives the five points of the alignment; the regressor
reads the aligned crop. The 64 expression coefficients are raw, as GAN-Avatar's mapping network
takes them, and have no sides: a mirrored face's code is no permutation of them.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import errors, portable
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.faces import (
    deep3d_alignment,
    deep3d_network,
    estimation,
    estimator_config,
    measures,
    mediapipe_face,
)

KIND = "deep3dface"  # in the header of the converted weights
NAMES = tuple(f"exp{index:02d}" for index in range(64))

# Landmarks of MediaPipe's mesh: eye corners, nose tip, mouth corners; left as seen in the image.
_EYES = ((33, 133), (362, 263))
_NOSE_TIP, _MOUTH_CORNERS = 1, (61, 291)


class Deep3dFace:
    """An `estimation.Estimator` of 64 expression coefficients. Not safe to share by threads."""

    def __init__(self, config: estimator_config.EstimatorConfig) -> None:
        """Loads the converted weights and the landmarker.

        Args:
          config: `model_path` names the converted regressor; the landmarker's own file is looked
            up as for "mediapipe", whose options on how carefully to look apply. Averaging over the
            mirror image and calibration do not: these coefficients have no sides.

        Raises:
          EstimatorError: model_path or the landmarker is missing.
          WeightError: the file is damaged or not a converted regressor.
        """
        if config.model_path is None:
            raise errors.EstimatorError(
                'estimator "deep3dface" needs model_path; got None. Convert the original\'s '
                "epoch_20.pth (python -m weight_port.convert --kind=deep3d) and name the result."
            )
        self._config = config
        extra = measures.NAMES if config.measures else ()
        self.names: tuple[str, ...] = (*NAMES, *extra)
        self._variables = load(config.model_path)
        self._apply = jax.jit(deep3d_network.apply)
        self._landmarker = mediapipe_face.MediaPipeFace(
            dataclasses.replace(
                config,
                name="mediapipe",
                model_path=None,
                measures=False,
                flip_average=False,
                calibration="none",
            )
        )

    def estimate(
        self, image_u8: UInt8[np.ndarray, "h w 3"], *, frame: str | None = None
    ) -> estimation.Reading | None:
        """Reads the most face-like face of an image.

        Args:
          image_u8: RGB image, 0..255.
          frame: Not needed; the image says it all.

        Returns:
          The reading, or None when no face is found.
        """
        found = self._landmarker.estimate(image_u8, frame=frame)
        if found is None or found.landmarks is None:
            return None
        aligned = deep3d_alignment.align(image_u8, five_points(found.landmarks))
        if aligned is None:
            return None
        code = np.asarray(self.coefficients(aligned[None]).expression[0])
        if self._config.measures:
            code = np.concatenate([code, measures.measure(found.landmarks)]).astype(np.float32)
        return estimation.Reading(code, found.confidence, found.landmarks)

    def coefficients(
        self, aligned_u8: UInt8[np.ndarray, "b 224 224 3"]
    ) -> deep3d_network.Coefficients:
        """Regresses all coefficients of aligned faces.

        Args:
          aligned_u8: Crops of `deep3d_alignment.align`.

        Returns:
          Identity, expression, texture, angles, lighting and translation.
        """
        image = jnp.asarray(aligned_u8, jnp.float32) / 255.0
        return deep3d_network.split(np.asarray(self._apply(self._variables, image)))


def five_points(landmarks: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, "5 2"]:
    """Picks the alignment's five points of MediaPipe's landmarks.

    Args:
      landmarks: MediaPipe's landmarks, pixels with centres at +0.5.

    Returns:
      Eyes, nose and mouth corners as `deep3d_alignment` wants them: first pixel's centre at 0.

    Source: ours; eyes are the means of their corners, as in the template.
    """
    points = landmarks[:, :2].astype(np.float64) - 0.5
    eyes = [points[list(corners)].mean(axis=0) for corners in _EYES]
    return np.stack([*eyes, *(points[index] for index in (_NOSE_TIP, *_MOUTH_CORNERS))])


def load(path: str | pathlib.Path) -> deep3d_network.Variables:
    """Loads converted weights.

    Args:
      path: What `weight_port.convert --kind=deep3d` wrote.

    Returns:
      The regressor's variables, float32, on the default device.

    Raises:
      WeightError: the file is missing, damaged, or holds another network.
    """
    path = pathlib.Path(path)
    if path.suffix == ".pth":
        raise errors.WeightError(
            f"{path}: is a PyTorch checkpoint; expected a converted one. Run python -m "
            f"weight_port.convert --kind=deep3d --src={path} --dst=deep3d.safetensors and name "
            f"the result."
        )
    variables, metadata = portable.load_params(path)
    if metadata.get("kind") != KIND:
        raise errors.WeightError(
            f"{path}: expected weights of kind {KIND!r}; got {metadata.get('kind')!r}. Convert "
            f"epoch_20.pth with python -m weight_port.convert --kind=deep3d."
        )
    counters = "num_batches_tracked"  # training's bookkeeping, kept for a bit-exact way back

    def to_device(tree: dict) -> dict:
        return {
            name: to_device(value) if isinstance(value, dict) else jnp.asarray(value, jnp.float32)
            for name, value in tree.items()
            if name != counters
        }

    return to_device(variables)
