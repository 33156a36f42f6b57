"""What the perceptual loss sees of real images, computed once for each frame instead of each step.

The network's weights never move, and a frame is always seen by the same camera: what it tells of it
in the first epoch holds for all others.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core.arrays import Float, Int
from ganavatar_jax.metrics import lpips
from ganavatar_jax.training import recon_step, reconstruction_config


class Truth:
    """Remembers what the perceptual loss sees of frames."""

    def __init__(
        self,
        options: reconstruction_config.ReconstructionConfig,
        params: lpips.LpipsParams,
    ) -> None:
        self._seen: dict[int, Float[np.ndarray, " n"]] = {}
        self._params = params
        self._look = jax.jit(functools.partial(recon_step.describe_truth, options=options))

    def fits(self, limit_mb: int, *, frames: int, side: int) -> bool:
        """Tells whether all frames may be remembered.

        Args:
          limit_mb: Bound, MB (2^20 bytes).
          frames: Frames of the dataset, mirror images among them.
          side: Side of the images, pixels.

        Returns:
          Whether they take no more.
        """
        image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
        label25 = jax.ShapeDtypeStruct((1, 25), jnp.float32)
        row = jax.eval_shape(self._look, self._params, image, label25)
        return frames * row.size * row.dtype.itemsize <= limit_mb * 2**20

    def of(
        self, numbers: Int[np.ndarray, " b"], frames: dict[str, Any]
    ) -> Float[np.ndarray, "b n"]:
        """Gives what is seen of frames; looks at them where one of them is new.

        Args:
          numbers: The frames' numbers, those of mirror images after all others.
          frames: Their {"image" u8 [b h w 3], "label25" [b 25]}.

        Returns:
          The batch's "truth"; see `recon_step.describe_truth`.
        """
        keys = [int(number) for number in numbers]
        if any(key not in self._seen for key in keys):
            found = np.asarray(self._look(self._params, frames["image"], frames["label25"]))
            self._seen |= {key: row.copy() for key, row in zip(keys, found, strict=True)}
        return np.stack([self._seen[key] for key in keys])


def make(
    options: reconstruction_config.ReconstructionConfig,
    params: lpips.LpipsParams | None,
    *,
    frames: int,
    side: int,
) -> Truth | None:
    """Prepares to remember what the perceptual loss sees of frames.

    Args:
      options: Where images count more, and truth_limit_mb.
      params: AlexNet's weights; None where there is no such loss.
      frames: Frames of the dataset, mirror images among them.
      side: Side of the images, pixels.

    Returns:
      An empty memory; None where there is nothing to remember, or more than the limit allows.
    """
    if params is None:
        return None
    truth = Truth(options, params)
    return truth if truth.fits(options.truth_limit_mb, frames=frames, side=side) else None
