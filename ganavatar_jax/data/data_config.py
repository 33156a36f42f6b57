"""What a run says about its data: where it comes from, how it is cut, cropped and coloured.

`DataConfig` is resolved from the `data` section of a config file by `core.config.resolve`.
"""

import dataclasses
from typing import Literal

Background = Literal["white", "black", "keep"]
# What lies behind the head in the images as they are stored; see `canonicalize`.
SourceBackground = Literal["auto", "white", "black", "scene"]
# Layouts of sources, see data/formats/README.md. "video" is a bare recording.
FormatName = Literal[
    "eg3d",
    "insta",
    "nerface",
    "imavatar",
    "multiface",
    "colmap",
    "nersemble",
    "transforms",
    "video",
]
SplitPolicy = Literal["auto", "meta", "trailing_frames", "trailing_fraction", "sequences", "none"]


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Which frames train and which are held out; every policy is deterministic.

    Attributes:
      policy: "meta" takes the lists in meta.json; "trailing_frames" and "trailing_fraction" hold
        out the end of the recording; "sequences" holds out whole sequences; "none" trains on
        everything; "auto" is "meta" where the capture has it and "trailing_fraction" elsewhere.
      test_frames: Frames held out by "trailing_frames".
      test_fraction: Part of the frames held out by "trailing_fraction", 0..1.
      test_sequences: Names of the sequences held out by "sequences".
      train_stride: Keeps every n-th training frame.
      max_train_frames: Keeps at most this many training frames, evenly spaced; 0 keeps all.
      max_test_frames: The same for held-out frames.
    """

    policy: SplitPolicy = "auto"
    test_frames: int = 350  # INSTA's held-out length
    test_fraction: float = 0.1
    test_sequences: tuple[str, ...] = ()
    train_stride: int = 1
    max_train_frames: int = 0
    max_test_frames: int = 0

    def __post_init__(self) -> None:
        """Refuses values no capture could satisfy."""
        if self.test_frames < 1 or self.train_stride < 1:
            raise ValueError(
                "split.test_frames and split.train_stride must be at least 1; got "
                f"{self.test_frames} and {self.train_stride}."
            )
        if not 0.0 < self.test_fraction < 1.0:
            raise ValueError(
                f"split.test_fraction must lie between 0 and 1; got {self.test_fraction}."
            )
        if self.max_train_frames < 0 or self.max_test_frames < 0:
            raise ValueError(
                "split.max_train_frames and split.max_test_frames must not be negative; got "
                f"{self.max_train_frames} and {self.max_test_frames}. 0 keeps all frames."
            )
        if self.policy == "sequences" and not self.test_sequences:
            raise ValueError(
                'split.policy "sequences" needs split.test_sequences; got none. '
                "Name the sequences to hold out."
            )


@dataclasses.dataclass(frozen=True)
class ReaderConfig:
    """What a reader takes of a capture that holds more than one needs.

    Attributes:
      cameras: Names of the cameras used ("multiface", "nersemble"); empty uses all.
      sequences: Names of the segments, sequences or recordings used ("multiface", "nersemble",
        "imavatar"); empty uses all.
      gamma: Tone curve that brightens raw images of "multiface"; 0 leaves them as they are.
    """

    cameras: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    gamma: float = 2.0  # as the data set's viewer

    def __post_init__(self) -> None:
        """Refuses curves that do not brighten."""
        if self.gamma != 0.0 and self.gamma < 1.0:
            raise ValueError(f"reader.gamma must be 0 (off) or at least 1; got {self.gamma}.")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which capture to use and the canonical form of its frames.

    Attributes:
      source: Folder or zip of the capture, or "package:actor" for the sample that is installed
        with the package.
      resolution: Side of the training images, pixels; a power of two.
      format: Layout of the source; "video" is a bare recording.
      reader: What is taken of the source.
      background: Colour behind the head in the training images; "keep" leaves it as stored.
      source_background: Colour behind the head in the stored images; "auto" asks meta.json, and
        "scene" means that a real background is still there, to be removed by alpha.
      linear_light: Exchange the background in linear light rather than in display values.
      resample: Filter that shrinks images to `resolution`; both are antialiased.
      mirror: Train on every frame and on its mirror image, cameras mirrored too.
      split: Which frames are held out.
      cache_limit_mb: Decoded frames are kept in memory up to this many MB; larger sets are
        decoded while training.
    """

    source: str
    resolution: int
    format: FormatName = "eg3d"
    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)
    background: Background = "keep"
    source_background: SourceBackground = "auto"
    linear_light: bool = False
    resample: Literal["lanczos", "box"] = "lanczos"
    mirror: bool = False
    split: SplitConfig = dataclasses.field(default_factory=SplitConfig)
    cache_limit_mb: int = 4096

    def __post_init__(self) -> None:
        """Refuses resolutions the networks do not have."""
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(
                "resolution must be a power of two of at least 8 pixels; got "
                f"{self.resolution}. Use 64, 128, 256 or 512."
            )
        if not self.source:
            raise ValueError('source must name a folder or zip, or be "package:actor"; got "".')
