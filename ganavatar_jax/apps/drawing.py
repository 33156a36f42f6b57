"""How an avatar's frames are drawn: by few programs, and with planes kept while a camera moves.

Frames are drawn in batches of 1, 2, 4, ... up to the size asked for, so that calls of any length
share these programs. Where all frames of a batch have one latent its planes are made once, and kept
for the next batch and the next call.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import chunks, images
from ganavatar_jax.core.arrays import Array, Float, UInt8
from ganavatar_jax.models import generator, generator_config
from ganavatar_jax.ops import resize

_NOTHING = 1e-4  # opacity below which a ray has hit nothing


class Rendered(NamedTuple):
    """Frames of an avatar.

    Attributes:
      image: 0..255.
      alpha: How much of the avatar covers a pixel, 0..1; the rest of `image` is its background.
      depth: Mean distance from the camera along a pixel's ray, world units; inf where there is
        nothing.
    """

    image: UInt8[np.ndarray, "f h w 3"]
    alpha: Float[np.ndarray, "f h w"]
    depth: Float[np.ndarray, "f h w"]


@dataclasses.dataclass(frozen=True)
class Drawer:
    """Draws the frames of one generator.

    Attributes:
      g: Generator variables.
      config: Generator options.
    """

    g: Mapping[str, Any]
    config: generator_config.GeneratorConfig

    def draw(
        self, w: Float[np.ndarray, "f d"], label25: Float[np.ndarray, "f 25"], *, batch_size: int
    ) -> Rendered:
        """Draws frames.

        Args:
          w: One latent a frame.
          label25: One camera a frame.
          batch_size: Most frames at once.

        Returns:
          The frames.

        Source: EG3D (Chan et al. 2022).
        """
        size = min(batch_size, 1 << (len(w) - 1).bit_length())
        short = -len(w) % size
        rows = np.minimum(np.arange(len(w) + short), len(w) - 1)
        drawn = chunks.map_in_chunks(
            self._draw_batch, (np.float32(w[rows]), np.float32(label25[rows])), chunk=size
        )
        return Rendered(*(part[: len(w)] for part in drawn))

    def _draw_batch(
        self, arrays: tuple[Float[np.ndarray, "b d"], Float[np.ndarray, "b 25"]]
    ) -> tuple[np.ndarray, ...]:
        w, label25 = arrays
        one = bool((w == w[:1]).all())
        planes = self._keep_planes(w[:1]) if one else self._program("planes")(dict(self.g), w)
        # Not inside of the program, which would be another one.
        planes = jnp.broadcast_to(planes, (len(w), *planes.shape[1:]))
        image, alpha, depth = self._program("draw")(dict(self.g), planes, w, label25)
        return images.to_u8(image), np.asarray(alpha), np.asarray(depth)

    def _keep_planes(self, w: Float[np.ndarray, "1 d"]) -> Array:
        """Returns the planes of a latent: those of the last one, if it is the same."""
        key = w.tobytes()
        if self._kept.get("key") != key:
            self._kept.clear()
            self._kept.update(key=key, planes=self._program("planes")(dict(self.g), w))
        return self._kept["planes"]

    def _program(self, name: str) -> Any:
        if name not in self._compiled:
            function = {"planes": _make_planes, "draw": _draw}[name]
            self._compiled[name] = jax.jit(function, static_argnames="config")
        program = self._compiled[name]
        return lambda *arguments: program(*arguments, config=self.config)

    _compiled: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    _kept: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


def _make_planes(g: dict[str, Any], w: Array, config: generator_config.GeneratorConfig) -> Array:
    return generator.make_planes(g, generator.broadcast(w, config), config)


def _draw(
    g: dict[str, Any],
    planes: Array,
    w: Array,
    label25: Array,
    config: generator_config.GeneratorConfig,
) -> tuple[Array, Array, Array]:
    """Renders planes; alpha and depth become as large as the image."""
    out = generator.render_planes(g, planes, generator.broadcast(w, config), label25, config)
    side = out.image.shape[1]
    alpha = resize.resize(out.opacity[..., None], side)[..., 0]
    depth = jnp.where(out.opacity < _NOTHING, jnp.inf, out.depth)
    # The nearest ray's: a mean over the outline would lie in the air.
    depth = jax.image.resize(depth, (len(label25), side, side), method="nearest")
    return out.image, jnp.clip(alpha, 0.0, 1.0), depth


def draw_frame(
    g: dict[str, Any],
    w: Float[Array, "b d"],
    label25: Float[Array, "b 25"],
    config: generator_config.GeneratorConfig,
) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w"], Float[Array, "b h w"]]:
    """Draws frames in one program, for who compiles it elsewhere.

    Args:
      g: Generator variables.
      w: One latent a frame.
      label25: One camera a frame.
      config: Options.

    Returns:
      Image, nominally in [-1, 1], alpha and depth as in `Rendered`.

    Source: EG3D (Chan et al. 2022).
    """
    return _draw(g, _make_planes(g, w, config), w, label25, config)
