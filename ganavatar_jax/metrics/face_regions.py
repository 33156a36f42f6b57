"""PSNR of mouth and eyes: the few pixels that show whether an avatar obeys.

Heads are aligned and cameras known, so that the place of a mouth in an image follows from its
place in the world; nothing is detected.
"""

import dataclasses
from typing import Any

import numpy as np

from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.geometry import triangulation

MAX_ANGLE_DEG = 60.0  # beyond it a region is foreshortened to a sliver


@dataclasses.dataclass(frozen=True)
class Region:
    """A rectangle that always faces the camera.

    Attributes:
      centre: In the world of CONVENTIONS.md, world units.
      half_width: Half of its width, world units.
      half_height: Half of its height, world units.
    """

    centre: tuple[float, float, float]
    half_width: float
    half_height: float


REGIONS = {
    "mouth": Region((0.0, -0.165, 0.17), 0.08, 0.06),
    "eyes": Region((0.0, -0.022, 0.155), 0.1, 0.04),
}


def psnr(
    candidate_u8: UInt8[np.ndarray, "n h w 3"],
    truth_u8: UInt8[np.ndarray, "f h w 3"],
    label25: Float[np.ndarray, "f 25"],
    region: Region,
    *,
    filmed: UInt8[np.ndarray, "f h w"] | None = None,
) -> Float[np.ndarray, " f"]:
    """Measures a region of every frame.

    Args:
      candidate_u8: Images, 0..255; one for each frame, or one for all.
      truth_u8: Real frames, 0..255.
      label25: Their cameras.
      region: What to measure.
      filmed: Pixels of the real frames that count, those above 0; None counts all.

    Returns:
      Decibel with a data range of 1; NaN where the face is turned further than MAX_ANGLE_DEG from
      the camera or nothing of the region is seen; infinite where it is equal.

    Source: ours; the textbook definition of PSNR.
    """
    height, width = truth_u8.shape[1:3]
    values = np.full(len(truth_u8), np.nan)
    for index, label in enumerate(np.asarray(label25, np.float64)):
        left, top, right, bottom = _rectangle(label, region, width, height)
        if not _faces(label) or right <= left or bottom <= top:
            continue
        shown = candidate_u8[index if len(candidate_u8) > 1 else 0, top:bottom, left:right]
        apart = (shown.astype(np.float64) - truth_u8[index, top:bottom, left:right]) / 255.0
        if filmed is not None:
            apart = apart[filmed[index, top:bottom, left:right] > 0]
            if not len(apart):
                continue
        with np.errstate(divide="ignore"):
            values[index] = -10.0 * np.log10(np.mean(np.square(apart)))
    return values


def describe() -> dict[str, Any]:
    """States the protocol.

    Returns:
      JSON-serialisable facts.
    """
    return {
        "regions": {name: dataclasses.asdict(region) for name, region in REGIONS.items()},
        "regions_within_deg": MAX_ANGLE_DEG,
    }


def _faces(label: np.ndarray) -> bool:
    centre = label[3:12:4]
    return bool(centre[2] >= np.cos(np.radians(MAX_ANGLE_DEG)) * np.linalg.norm(centre))


def _rectangle(
    label: np.ndarray, region: Region, width: int, height: int
) -> tuple[int, int, int, int]:
    cam2world, intrinsics = label[:16].reshape(1, 4, 4), label[16:].reshape(1, 3, 3)
    uv, depth = triangulation.project(np.asarray([region.centre]), cam2world, intrinsics)
    u, v = uv[0, 0]
    across = intrinsics[0, 0, 0] * region.half_width / depth[0, 0]
    down = intrinsics[0, 1, 1] * region.half_height / depth[0, 0]
    edges = (u - across) * width, (v - down) * height, (u + across) * width, (v + down) * height
    limits = (width, height, width, height)
    left, top, right, bottom = (
        int(np.clip(round(edge), 0, limit)) for edge, limit in zip(edges, limits, strict=True)
    )
    return left, top, right, bottom
