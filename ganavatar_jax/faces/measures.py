"""Distances between landmarks as coefficients: gaps, heights and widths of mouth, eyes and brows.

They are unitless (divided by the distance of the outer eye corners, eye gaps by the eye's own
width), do not change under shift, scale and rotation of the face, and are not offset-free: a
person's neutral value is that person's shape. On 150 rendered frames of one actor at 64 px, ridge
regression from these twelve explains 0.18 of the variance of the true ARKit weights (mean R2 of
25 coefficients, blocked cross-validation), from MediaPipe's 52 blendshapes 0.12; at 128 px the
figures are 0.20 and 0.13. Landmark sides are the person's.
"""

import numpy as np

from ganavatar_jax.core.arrays import Float

# Landmark indices of MediaPipe's 478-point mesh.
_RIGHT_EYE_OUTER, _RIGHT_EYE_INNER = 33, 133
_LEFT_EYE_OUTER, _LEFT_EYE_INNER = 263, 362
_RIGHT_LIDS = ((160, 144), (158, 153))  # (upper, lower)
_LEFT_LIDS = ((385, 380), (387, 373))
_RIGHT_BROW = (52, 65, 53, 55, 46)
_LEFT_BROW = (282, 295, 283, 285, 276)
_RIGHT_BROW_INNER, _LEFT_BROW_INNER = 55, 285
_RIGHT_MOUTH_CORNER, _LEFT_MOUTH_CORNER = 61, 291
_UPPER_LIP_INNER, _LOWER_LIP_INNER = 13, 14
_UPPER_LIP_OUTER, _LOWER_LIP_OUTER = 0, 17
_NOSE_BASE, _NOSE_BRIDGE, _FOREHEAD, _CHIN = 2, 6, 10, 152

NAMES = (
    "mouthGap",
    "mouthOuterGap",
    "mouthWidth",
    "jawDrop",
    "mouthCornerLeft",
    "mouthCornerRight",
    "eyeGapLeft",
    "eyeGapRight",
    "browHeightLeft",
    "browHeightRight",
    "browInnerHeight",
    "browDistance",
)
OPENINGS = ("lidLeft", "lidRight", "mouth")


def measure(landmarks: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, " 12"]:
    """Returns the measures of one face, named by `NAMES`.

    Args:
      landmarks: MediaPipe's landmarks, pixels.

    Returns:
      Inner and outer lip distance, mouth width, chin below the nose, mouth corners above the
      middle of the lips, lid gaps, brows above the eyes, inner brows above the nose bridge, and
      the distance of the inner brows.
    """
    points = landmarks.astype(np.float64)
    unit = _distance(points, _RIGHT_EYE_OUTER, _LEFT_EYE_OUTER)
    up = points[_FOREHEAD] - points[_CHIN]
    up /= np.linalg.norm(up) * unit
    lips = (points[_UPPER_LIP_INNER] + points[_LOWER_LIP_INNER]) / 2
    left_eye = (points[_LEFT_EYE_INNER] + points[_LEFT_EYE_OUTER]) / 2
    right_eye = (points[_RIGHT_EYE_INNER] + points[_RIGHT_EYE_OUTER]) / 2
    inner_brows = (points[_LEFT_BROW_INNER] + points[_RIGHT_BROW_INNER]) / 2
    return np.array(
        [
            _distance(points, _UPPER_LIP_INNER, _LOWER_LIP_INNER) / unit,
            _distance(points, _UPPER_LIP_OUTER, _LOWER_LIP_OUTER) / unit,
            _distance(points, _LEFT_MOUTH_CORNER, _RIGHT_MOUTH_CORNER) / unit,
            _distance(points, _NOSE_BASE, _CHIN) / unit,
            (points[_LEFT_MOUTH_CORNER] - lips) @ up,
            (points[_RIGHT_MOUTH_CORNER] - lips) @ up,
            _lid_gap(points, _LEFT_LIDS, _LEFT_EYE_INNER, _LEFT_EYE_OUTER),
            _lid_gap(points, _RIGHT_LIDS, _RIGHT_EYE_INNER, _RIGHT_EYE_OUTER),
            (points[list(_LEFT_BROW)].mean(axis=0) - left_eye) @ up,
            (points[list(_RIGHT_BROW)].mean(axis=0) - right_eye) @ up,
            (inner_brows - points[_NOSE_BRIDGE]) @ up,
            _distance(points, _LEFT_BROW_INNER, _RIGHT_BROW_INNER) / unit,
        ],
        np.float32,
    )


def openings_px(landmarks: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, " 3"]:
    """Returns how far lids and lips are apart, named by `OPENINGS`.

    Args:
      landmarks: MediaPipe's landmarks, pixels.

    Returns:
      Mean distance of upper and lower lid of each eye, and the distance of the inner lips, pixels
      in the image plane.
    """
    flat = landmarks.astype(np.float64) * [1.0, 1.0, 0.0]
    lids = [
        np.mean([_distance(flat, upper, lower) for upper, lower in gaps])
        for gaps in (_LEFT_LIDS, _RIGHT_LIDS)
    ]
    return np.array([*lids, _distance(flat, _UPPER_LIP_INNER, _LOWER_LIP_INNER)], np.float32)


def _distance(points: Float[np.ndarray, "478 3"], first: int, second: int) -> float:
    return float(np.linalg.norm(points[first] - points[second]))


def _lid_gap(
    points: Float[np.ndarray, "478 3"],
    lids: tuple[tuple[int, int], ...],
    inner: int,
    outer: int,
) -> float:
    gaps = [_distance(points, upper, lower) for upper, lower in lids]
    return sum(gaps) / len(gaps) / _distance(points, inner, outer)
