"""StyleGAN2 synthesis network: ws to a feature image (the tri-planes)."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax

from ganavatar_jax.core import rng
from ganavatar_jax.core.arrays import Array, Float, Int, PRNGKeyArray
from ganavatar_jax.models import generator_config, layers

Noise = Mapping[str, Mapping[str, Array]] | Literal["const", "none"]


def block_resolutions(resolution: int, *, first: int = 4) -> tuple[int, ...]:
    """Lists the sides of the blocks up to a resolution.

    Args:
      resolution: Side of the last block, pixels; a power of two.
      first: Side of the first block, pixels.

    Returns:
      4, 8, ..., resolution.

    Source: Karras et al. 2020.
    """
    return tuple(2**k for k in range(int(math.log2(first)), int(math.log2(resolution)) + 1))


def channels_at(resolution: int, *, base: int, maximum: int) -> int:
    """Computes the channels of a block.

    Args:
      resolution: Side of the block, pixels.
      base: Channels times side, above which the maximum rules.
      maximum: Most channels.

    Returns:
      min(base // resolution, maximum).

    Source: Karras et al. 2020.
    """
    return min(base // resolution, maximum)


class Synthesis(nn.Module):
    """Stack of synthesis blocks from a learnt 4x4 constant.

    Attributes:
      resolution: Side of the output, pixels; a power of two.
      image_channels: Channels of the output.
      channel_base: Channels times side, see `channels_at`.
      channel_max: Most channels of a block.
      num_half_res: How many of the largest blocks use half_dtype.
      half_dtype: Low precision, or "float32".
      clamp: Limit of activations, or None.

    Source: Karras et al. 2020; EG3D (Chan et al. 2022), section 4.1.
    """

    resolution: int
    image_channels: int
    channel_base: int
    channel_max: int
    num_half_res: int = 0
    half_dtype: generator_config.HalfDtype = "float32"
    clamp: float | None = None

    @nn.compact
    def __call__(self, ws: Float[Array, "b l d"], noise: Noise) -> Float[Array, "b h w o"]:
        """Synthesises the feature image."""
        ws = ws.astype("float32")
        x: Any = None
        image: Any = None
        row = 0
        for side in block_resolutions(self.resolution):
            first = side == 4
            convs = 1 if first else 2
            half = side >= max(2 ** (int(math.log2(self.resolution)) + 1 - self.num_half_res), 8)
            block = layers.SynthesisBlock(
                channels_at(side, base=self.channel_base, maximum=self.channel_max),
                side,
                self.image_channels,
                first=first,
                clamp=self.clamp,
                dtype=self.half_dtype if half else "float32",
                name=f"b{side}",
            )
            # A block's toRGB reads the row that the next block's first convolution reads too.
            x, image = block(
                x,
                image,
                ws[:, row : row + convs + 1],
                noise if isinstance(noise, str) else noise[f"b{side}"],
            )
            row += convs
        return image


def draw_noise(
    key: PRNGKeyArray, ids: Int[Array, " b"], *, resolution: int
) -> dict[str, dict[str, Float[Array, "b h w"]]]:
    """Draws one noise map for each sample and convolution.

    Args:
      key: Random key.
      ids: Global sample ids.
      resolution: Side of the synthesis network's output, pixels.

    Returns:
      {"b8": {"conv0": maps, "conv1": maps}, ...}.

    Source: Karras et al. 2019 (per-pixel noise); keyed by sample, so device layout is irrelevant.
    """
    names = [
        (f"b{side}", name, side)
        for side in block_resolutions(resolution)
        for name in (("conv1",) if side == 4 else ("conv0", "conv1"))
    ]
    # One draw, then cut: each random call costs compile time.
    total = sum(side * side for _, _, side in names)
    flat = jax.vmap(lambda k: jax.random.normal(k, (total,)))(rng.per_sample(key, ids))
    noise: dict[str, dict[str, Array]] = {}
    start = 0
    for block, name, side in names:
        part = flat[:, start : start + side * side]
        noise.setdefault(block, {})[name] = part.reshape(-1, side, side)
        start += side * side
    return noise
