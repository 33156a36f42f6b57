"""Super-resolution of the rendered features, in the sizes the original has and in others.

All kinds are two synthesis blocks fed with the last latent only. "8X" and "8XDC" double twice
(from a quarter of the output side), "2X" and "4X" double once (from half of it, their first block
keeps the size). "none" has no module: the rendered image is the output.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import generator_config, layers
from ganavatar_jax.ops import resize


@dataclasses.dataclass(frozen=True)
class _Layout:
    factor: int
    channels: tuple[int, int]
    only_enlarge: bool  # whether inputs larger than the module's input side are left as they are


_LAYOUTS = {
    "2X": _Layout(2, (128, 64), only_enlarge=False),
    "4X": _Layout(2, (128, 64), only_enlarge=True),
    "8X": _Layout(4, (128, 64), only_enlarge=False),
    "8XDC": _Layout(4, (256, 128), only_enlarge=False),
}


class SuperResolution(nn.Module):
    """Two synthesis blocks that turn features and a low image into the final image.

    Attributes:
      kind: Which layout.
      resolution: Side of the output, pixels.
      channels: Channels of the two blocks; empty means the kind's own.
      antialias: Whether resizing the input is antialiased.
      clamp: Limit of activations, or None.
      dtype: Precision of the convolutions.

    Source: EG3D (Chan et al. 2022), section 4.3.
    """

    kind: generator_config.SuperresolutionKind
    resolution: int
    channels: tuple[int, ...] = ()
    antialias: bool = True
    clamp: float | None = 256.0
    dtype: generator_config.HalfDtype = "float32"

    @nn.compact
    def __call__(
        self,
        rgb: Float[Array, "b h w 3"],
        features: Float[Array, "b h w c"],
        ws: Float[Array, "b l d"],
    ) -> Float[Array, "b h2 w2 3"]:
        """Produces the final image; noise is never added here."""
        layout = _LAYOUTS[self.kind]
        side = self.resolution // layout.factor
        have = features.shape[1]
        if have < side or (have > side and not layout.only_enlarge):
            features = resize.resize(features, side, antialias=self.antialias)
            rgb = resize.resize(rgb, side, antialias=self.antialias)
        last = jnp.repeat(ws[:, -1:], 3, axis=1)
        channels = self.channels or layout.channels
        up_first = layout.factor == 4
        sides = (2 * side if up_first else side, self.resolution)
        x, image = features, rgb
        for index, (width, up) in enumerate(zip(channels, (up_first, True), strict=True)):
            x, image = layers.SynthesisBlock(
                width,
                sides[index],
                rgb.shape[-1],
                up=up,
                clamp=self.clamp,
                dtype=self.dtype,
                name=f"block{index}",
            )(x, image, last, "none")
        return image
