"""The one canonical form of a captured frame, whatever format it was stored in.

Readers in `formats` produce a `Capture`; `canonicalize` brings its frames to the training
resolution and background; `builders` store them and `pipeline` serves them. Images are uint8
height x width x 3, alpha is uint8 height x width (255 = head), labels are `label25`, and
`expression` holds one number for each of the capture's `expression_names`.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from ganavatar_jax.core.arrays import Float, UInt8

SplitName = Literal["train", "test"]
# What lies behind the head in an image. "scene": a real background. "straight": nothing, the
# colours are unassociated (RGBA files). "unknown": the capture does not say.
ImageBackground = Literal["white", "black", "scene", "straight", "unknown"]


@dataclasses.dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
      image: Pixels, 0..255.
      alpha: How much of each pixel the head covers, 0..255; None when the capture has no matte.
      label25: Camera, see `geometry.cameras`.
      expression: Expression code; None when the frame has none.
      frame_id: Name within the capture; unique.
      sequence: Name of the recording the frame belongs to.
      split: "train" or "test"; None when the capture does not assign the frame.
      filmed: 255 where the camera saw something, 0 where the image reaches beyond its picture;
        None when all of it was filmed.
    """

    image: UInt8[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"] | None
    label25: Float[np.ndarray, " 25"]
    expression: Float[np.ndarray, " e"] | None
    frame_id: str
    sequence: str
    split: SplitName | None
    filmed: UInt8[np.ndarray, "h w"] | None = None


@dataclasses.dataclass(frozen=True)
class FrameReference:
    """A frame whose pixels are still on disk; everything else is loaded and checked.

    Attributes:
      label25: Camera.
      expression: Expression code or None.
      frame_id: Name within the capture; unique.
      sequence: Name of the recording the frame belongs to.
      split: "train", "test" or None.
      size: Width and height, pixels.
      read_pixels: Reads image and alpha; raises DataFormatError for a damaged file.
      read_filmed: Reads which pixels were filmed, likewise; None when all of them were.
      time_s: When it was shown, seconds after the recording's first frame; None where nobody knows.
    """

    label25: Float[np.ndarray, " 25"]
    expression: Float[np.ndarray, " e"] | None
    frame_id: str
    sequence: str
    split: SplitName | None
    size: tuple[int, int]
    read_pixels: Callable[[], tuple[np.ndarray, np.ndarray | None]]
    read_filmed: Callable[[], np.ndarray] | None = None
    time_s: float | None = None

    def load(self) -> Frame:
        """Decodes the frame.

        Returns:
          The same frame with its pixels.

        Raises:
          DataFormatError: one of its files is damaged.
        """
        image, alpha = self.read_pixels()
        return Frame(
            image=image,
            alpha=alpha,
            label25=self.label25,
            expression=self.expression,
            frame_id=self.frame_id,
            sequence=self.sequence,
            split=self.split,
            filmed=None if self.read_filmed is None else self.read_filmed(),
        )


@dataclasses.dataclass(frozen=True)
class Capture:
    """All frames of a source, in the order of their names.

    Attributes:
      name: Path of the source, for messages.
      frames: The frames; readable while the source is open.
      expression_names: What the numbers of an expression code mean; empty without codes.
      resolution: Shortest side of the stored images, pixels.
      background: What lies behind the head in the stored images.
      has_alpha: Whether every frame has an alpha.
      digest: Hash that changes when the source does.
      notes: What a user should know of how it was read: what was undone, what was left out and why.
    """

    name: str
    frames: tuple[FrameReference, ...]
    expression_names: tuple[str, ...]
    resolution: int
    background: ImageBackground
    has_alpha: bool
    digest: str
    notes: tuple[str, ...] = ()
