"""Sizes of the encoder, and what it tells."""

import dataclasses
from typing import Literal

Fit = Literal["codes", "pixels"]


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoder, and what it tells.

    Attributes:
      channel_base: Channels times side of a block.
      channel_max: Most channels of a block.
      face_dim: How many entries of z are the fixed reading of the face; 0 has none.
      face_fit: What a reading is fitted to where the start brings none: "codes", the frames' own
        expression codes (for base generators of rendered people, whose codes are exact), or
        "pixels" alone.
      identity: Whether the other entries are "learned" from the image, the person's "mean", or
        the principal components of the person's own "face".
    """

    channel_base: int = 1024
    channel_max: int = 128
    face_dim: int = 0
    face_fit: Fit = "pixels"
    identity: Literal["learned", "mean", "face"] = "learned"

    def __post_init__(self) -> None:
        if self.identity == "face" and not self.face_dim:
            raise ValueError('identity="face" extends a reading of faces; got face_dim=0.')

    def read_dim(self, z_dim: int) -> int:
        """Returns how many entries of a latent of length z_dim are read off the face."""
        return z_dim if self.identity == "face" else self.face_dim
