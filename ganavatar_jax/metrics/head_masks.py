"""Which pixels show the head: the matte without the torso, which does not turn with the head.

Where the torso begins follows from the camera alone, so that all captures are cut alike: a pixel
lies below the cut where its ray passes the head's vertical axis lower than the chin.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ganavatar_jax.core import image_sequences
from ganavatar_jax.core.arrays import Bool, Float, UInt8

# The axis and the height of the cut in the world of CONVENTIONS.md, world units.
AXIS_Z = 0.05
CUT_Y = -0.29
_COVERED = 128  # alpha of a pixel that is half head


class HeadMasks:
    """Masks of some frames, made when they are asked for.

    Attributes:
      shape: As that of the array they would make.
    """

    def __init__(
        self,
        alpha: image_sequences.Images,
        label25: Float[np.ndarray, "f 25"],
        *,
        filmed: image_sequences.Images | None = None,
    ) -> None:
        """Keeps what the masks follow from.

        Args:
          alpha: Mattes of the frames, 0..255, [f h w].
          label25: Their cameras.
          filmed: Pixels of the frames that count at all, those above 0; None counts all.
        """
        self._alpha, self._label25, self._filmed = alpha, np.asarray(label25), filmed
        self.shape: tuple[int, ...] = alpha.shape

    def __len__(self) -> int:
        return len(self._label25)

    def __getitem__(self, key: Any, /) -> UInt8[np.ndarray, "..."]:
        alpha, label25 = self._alpha[key], self._label25[key]
        several = label25.ndim == 2
        cut = [above_cut(label, alpha.shape[-2:]) for label in label25.reshape(-1, 25)]
        shown = (alpha >= _COVERED) & (np.stack(cut) if several else cut[0])
        if self._filmed is not None:
            shown &= self._filmed[key] > 0
        return np.where(shown, np.uint8(255), np.uint8(0))

    def __iter__(self) -> Iterator[Any]:
        return image_sequences.iterate(self)


def above_cut(label25: Float[np.ndarray, "25"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Tells which pixels of a camera lie above the torso.

    Args:
      label25: The camera.
      size: Height and width, pixels.

    Returns:
      Whether the ray of the pixel's centre is at CUT_Y or higher where it passes nearest to the
      vertical axis through (0, 0, AXIS_Z).
    """
    label = np.asarray(label25, np.float64)
    cam2world, intrinsics = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    height, width = size
    u, v = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    rays = pixels @ np.linalg.inv(intrinsics).T @ cam2world[:3, :3].T
    start = cam2world[:3, 3] - [0.0, 0.0, AXIS_Z]
    across = rays[..., [0, 2]]
    # A ray straight down never nears the axis; what it shows is the head's top.
    run = np.maximum(np.sum(np.square(across), axis=-1), 1e-9)
    t = np.maximum(-(across @ start[[0, 2]]) / run, 0.0)
    return start[1] + t * rays[..., 1] >= CUT_Y
