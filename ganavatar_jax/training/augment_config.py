"""Which augmentations, as factors on their probability."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """How probable each operation is, as a factor on p, 0..1; 0 switches it off.

    Attributes:
      xflip: Mirroring left and right.
      rotate90: Turning by multiples of 90 degrees.
      xint: Shifting by whole pixels.
      scale: Enlarging or shrinking, both sides alike.
      rotate: Turning by any angle.
      aniso: Stretching one side against the other.
      xfrac: Shifting by fractions of a pixel.
      brightness: Making lighter or darker.
      contrast: Spreading values or drawing them together.
      lumaflip: Turning light into dark, colours kept.
      hue: Turning colours around the grey axis.
      saturation: Making colours stronger or paler.
    """

    xflip: float = 1.0
    rotate90: float = 1.0
    xint: float = 1.0
    scale: float = 1.0
    rotate: float = 1.0
    aniso: float = 1.0
    xfrac: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    lumaflip: float = 1.0
    hue: float = 1.0
    saturation: float = 1.0

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(
                    f"{name} must be a factor on the probability, 0..1; got {value}. "
                    "Use 1 to keep the operation and 0 to drop it."
                )
