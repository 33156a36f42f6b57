"""Which pixels of a picture show the part of a head that moves as one body.

Jaw, mouth and neck move on their own; eyes turn and blink. What lies above the base of the nose and
outside of the eyes (forehead, nose, ears, hair) follows the skull.

Source: GAN-Avatar (Kabadayi et al. 2024), appendix C, masks what is not the head; the cut is ours.
"""

import numpy as np

from ganavatar_jax.core.arrays import Bool, Float

_NOSE_BASE, _FOREHEAD, _CHIN = 2, 10, 152  # landmarks
_EYE_CORNERS = ((33, 133), (263, 362))
_EYE_WIDTH, _EYE_HEIGHT = 0.6, 0.4  # Half axes of what is left out, in lengths of the eye.


def rigid_mask(
    landmarks_px: Float[np.ndarray, "478 d"], *, size_px: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Marks pixels on the skull's side of the nose, without eyes.

    Args:
      landmarks_px: MediaPipe's landmarks, pixels of the picture; x and y are used.
      size_px: Width and height of the picture.

    Returns:
      True where whatever is seen of the head moves with the skull. The background is marked, too.

    Source: module text.
    """
    points = landmarks_px[:, :2].astype(np.float64)
    columns, rows = np.arange(size_px[0]) + 0.5, np.arange(size_px[1]) + 0.5
    up = points[_FOREHEAD] - points[_CHIN]
    x, y = columns[None] - points[_NOSE_BASE, 0], rows[:, None] - points[_NOSE_BASE, 1]
    kept = x * up[0] + y * up[1] >= 0.0
    for corners in _EYE_CORNERS:
        first, second = points[list(corners)]
        along = (second - first) / max(float(np.linalg.norm(second - first)), 1e-6)
        length = max(float(np.linalg.norm(second - first)), 1.0)
        x, y = columns[None] - (first + second)[0] / 2, rows[:, None] - (first + second)[1] / 2
        across = (x * along[0] + y * along[1]) / (_EYE_WIDTH * length)
        upward = (y * along[0] - x * along[1]) / (_EYE_HEIGHT * length)
        kept &= across**2 + upward**2 > 1.0
    return kept
