"""What can be wrong with a frame and be told from its numbers: blur, holes in the matte, jumps.

A check compares a frame with the rest of its capture, so that soft lenses and quick heads are not
faults in themselves. Flags are hints for the eye, nothing is left out because of them.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ganavatar_jax.core.arrays import Bool, Float, UInt8
from ganavatar_jax.geometry import rotation_vectors

_BLURRED = 0.35  # Share of the median sharpness below which a frame counts as blurred.
_HOLE_SHARE = 0.005  # Of the matte's area.
# A ball that every head fills, world units. Gaps between hair and neck pass this centre at 0.136 or
# more in 1,849 frames of the actor and of synthetic people.
_SOLID_CENTER, _SOLID_RADIUS = (0.0, -0.04, 0.05), 0.12
_JUMP_DEG, _JUMP_TIMES = 4.0, 6.0  # A jump is larger than both, in degrees and medians.
# A ball around skull and usual hair, world units; pictures of the actor end 0.28 from its centre.
_HEAD_CENTER, _HEAD_RADIUS = (0.0, 0.03, -0.02), 0.22
_CUT_SHARE = 0.25  # Of the image's side or top border covered by the matte where the head is.


def sharpness(image: UInt8[np.ndarray, "h w 3"], alpha: UInt8[np.ndarray, "h w"] | None) -> float:
    """Measures how much fine detail an image has.

    Args:
      image: The image.
      alpha: Its matte, or None to measure everywhere.

    Returns:
      Mean absolute Laplacian inside the head, grey levels.

    Source: Pech-Pacheco et al. 2000, variance of the Laplacian; the mean resists highlights.
    """
    grey = image.astype(np.float32).mean(axis=-1)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    detail = np.abs(around - 4.0 * grey[1:-1, 1:-1])
    if alpha is None:
        return float(detail.mean())
    inside = np.asarray(alpha[1:-1, 1:-1] > 250)
    return float(detail[inside].mean()) if inside.any() else 0.0


def hole_share(alpha: UInt8[np.ndarray, "h w"], label25: Float[np.ndarray, "25"]) -> float:
    """Measures holes in a matte where the head is solid.

    Args:
      alpha: Coverage, 0..255.
      label25: The camera, in the head frame.

    Returns:
      Area of uncovered pixels that covered ones surround and that lie inside the head, over the
      covered area; 0 for an empty matte. Gaps between hair and neck do not count.

    Source: flood fill from outside.
    """
    covered = alpha > 127
    if not covered.any():
        return 0.0
    padded = np.pad(np.where(covered, 255, 0).astype(np.uint8), 1)
    picture = Image.fromarray(padded).copy()  # one made of an array cannot be painted on
    ImageDraw.floodfill(picture, (0, 0), 128)
    holes = np.asarray(picture)[1:-1, 1:-1] == 0
    solid = _inside_ball(alpha.shape, label25, _SOLID_CENTER, _SOLID_RADIUS)
    return float((holes & solid).sum() / covered.sum())


def _inside_ball(
    size: tuple[int, ...],
    label25: Float[np.ndarray, "25"],
    ball_center: tuple[float, float, float],
    radius: float,
) -> Bool[np.ndarray, "h w"]:
    """Marks pixels that a ball of the head frame covers."""
    cam2world = label25[:16].reshape(4, 4).astype(np.float64)
    local = (np.array(ball_center) - cam2world[:3, 3]) @ cam2world[:3, :3]
    if local[2] <= 0.0:
        return np.zeros(size, bool)  # Behind the camera.
    intrinsics = label25[16:].reshape(3, 3).astype(np.float64)
    center = (intrinsics @ local)[:2] / local[2]
    v, u = ((np.arange(side) + 0.5) / side for side in size)
    across = (u[None] - center[0]) / intrinsics[0, 0]
    down = (v[:, None] - center[1]) / intrinsics[1, 1]
    return np.hypot(across, down) <= radius / local[2]


def cut_share(alpha: UInt8[np.ndarray, "h w"], label25: Float[np.ndarray, "25"]) -> float:
    """Measures how much of the image's left, right and top borders cuts through the head.

    Args:
      alpha: Coverage, 0..255.
      label25: The camera, in the head frame.

    Returns:
      The largest share of one of the three borders that the matte covers where the head is. The
      neck may leave below, and ponytails and shoulders on any side.
    """
    head = _inside_ball(alpha.shape, label25, _HEAD_CENTER, _HEAD_RADIUS) & (alpha > 127)
    return float(max(side.mean() for side in (head[0], head[:, 0], head[:, -1])))


def turns_deg(
    label25: Float[np.ndarray, "f 25"], sequence: Sequence[str]
) -> Float[np.ndarray, " f"]:
    """Measures how far each camera turned since the frame before it.

    Args:
      label25: Cameras in order of time.
      sequence: Recording of each frame.

    Returns:
      Degrees; 0 for the first frame of a recording.

    Source: angle of the relative rotation.
    """
    turns = np.zeros(len(label25))
    rotation = label25[:, :16].reshape(-1, 4, 4)[:, :3, :3].astype(np.float64)
    if len(label25) > 1:
        turns[1:] = rotation_vectors.angle_deg(rotation[1:], rotation[:-1])
        same = np.array([a == b for a, b in zip(sequence[1:], sequence[:-1], strict=True)])
        turns[1:][~same] = 0.0
    return turns


def find_jumps(turns: Float[np.ndarray, " f"]) -> Bool[np.ndarray, " f"]:
    """Finds frames before which the head turned far more than it usually does between two.

    Args:
      turns: From `turns_deg`.

    Returns:
      Whether each frame comes after a jump.
    """
    usual = np.median(turns[turns > 0]) if (turns > 0).any() else 0.0
    return turns > max(_JUMP_DEG, _JUMP_TIMES * usual)


def find_flags(
    *,
    sharp: Float[np.ndarray, " f"],
    holes: Float[np.ndarray, " f"],
    cut: Float[np.ndarray, " f"],
    turns: Float[np.ndarray, " f"],
) -> list[tuple[str, ...]]:
    """Names what is suspicious about each frame.

    Args:
      sharp: From `sharpness`.
      holes: From `hole_share`.
      cut: From `cut_share`.
      turns: From `turns_deg`.

    Returns:
      For each frame, some of "blur", "alpha holes", "head cut off" and "pose jump".
    """
    marks = {
        "blur": sharp < _BLURRED * np.median(sharp),
        "alpha holes": holes > _HOLE_SHARE,
        "head cut off": cut > _CUT_SHARE,
        "pose jump": find_jumps(turns),
    }
    return [tuple(k for k, found in marks.items() if found[i]) for i in range(len(sharp))]
