"""How rays are sampled; light to import, as every `*_config` module is: no JAX."""

import dataclasses
from typing import Literal

PlaneAxes = Literal["original", "fixed"]


@dataclasses.dataclass(frozen=True)
class RenderConfig:
    """How rays are sampled.

    Attributes:
      depth_resolution: Coarse samples a ray.
      depth_resolution_importance: Importance samples a ray; 0 keeps the coarse pass only.
      ray_start: First distance, world units, or "auto" for the ray-box intersection.
      ray_end: Last distance, world units, or "auto"; both or neither are "auto".
      box_warp: Side of the volume's cube, world units.
      white_back: Whether empty rays are white (+1) instead of black (-1).
      disparity: Whether coarse samples are even in 1 / distance.
      plane_axes: World axes of the planes; "fixed" are three orthogonal planes.
      ray_chunk: Rays of one image handled at a time; 0 takes all at once.
    """

    depth_resolution: int = 48
    depth_resolution_importance: int = 48
    ray_start: float | Literal["auto"] = "auto"
    ray_end: float | Literal["auto"] = "auto"
    box_warp: float = 1.0
    white_back: bool = False
    disparity: bool = False
    plane_axes: PlaneAxes = "fixed"
    ray_chunk: int = 0

    def __post_init__(self) -> None:
        if (self.ray_start == "auto") != (self.ray_end == "auto"):
            raise ValueError(
                f"ray_start and ray_end must both be distances or both be 'auto'; got "
                f"{self.ray_start!r} and {self.ray_end!r}."
            )
        if self.depth_resolution < 4:  # importance sampling needs a pdf of at least one bin
            raise ValueError(f"depth_resolution must be at least 4; got {self.depth_resolution}.")
        if self.box_warp <= 0:
            raise ValueError(f"box_warp must be positive; got {self.box_warp}.")
