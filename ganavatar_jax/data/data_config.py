"""What a run says about its data: where it comes from, how it is cut, cropped and coloured.

`DataConfig` is resolved from the `data` section of a config file by `core.config.resolve`.
"""

import dataclasses
from typing import Literal

from ganavatar_jax.geometry import ffhq_camera

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
    "record3d",
    "polycam",
    "tracker",
    "vhap",
    "video",
]
AlignMethod = Literal[
    "default", "auto", "points", "mesh", "scale", "none", "landmark_normalization"
]
SplitPolicy = Literal[
    "auto", "meta", "trailing_frames", "trailing_fraction", "blocks", "sequences", "none"
]


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Which frames train and which are held out; every policy is deterministic.

    Attributes:
      policy: "meta" takes the lists in meta.json; "trailing_frames" and "trailing_fraction" hold
        out the end of the recording; "blocks" holds out parts of its middle and its end;
        "sequences" holds out whole sequences; "none" trains on everything; "auto" is "meta" where
        the capture has it and "trailing_fraction" elsewhere.
      test_frames: Frames held out by "trailing_frames".
      test_fraction: Part of the frames held out by "trailing_fraction" and "blocks", 0..1.
      test_blocks: Equally long parts that "blocks" holds out: the last is the end of the recording,
        the others lie evenly before it. Frames that meta.json holds out take no part.
      guard_frames: Frames on either side of a block of "blocks" that take no part either: they
        hardly differ from those beside them.
      test_sequences: Names of the sequences held out by "sequences".
      train_stride: Keeps every n-th training frame.
      max_train_frames: Keeps at most this many training frames, evenly spaced; 0 keeps all.
      max_test_frames: The same for held-out frames.
    """

    policy: SplitPolicy = "auto"
    test_frames: int = 350  # INSTA's held-out length
    test_fraction: float = 0.1
    test_blocks: int = 4
    guard_frames: int = 12
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
        if self.test_blocks < 1 or self.guard_frames < 0:
            raise ValueError(
                "split.test_blocks must be at least 1 and split.guard_frames not negative; got "
                f"{self.test_blocks} and {self.guard_frames}."
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
      flame_joints: Root and neck joint of the person's FLAME, x y z x y z in its units, around
        which the heads of "vhap" turn; needed where they turn.
      gamma: Tone curve that brightens raw images of "multiface"; 0 leaves them as they are.
    """

    cameras: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    flame_joints: tuple[float, ...] = ()
    gamma: float = 2.0  # as the data set's viewer

    def __post_init__(self) -> None:
        """Refuses curves that do not brighten."""
        if self.gamma != 0.0 and self.gamma < 1.0:
            raise ValueError(f"reader.gamma must be 0 (off) or at least 1; got {self.gamma}.")
        if len(self.flame_joints) not in (0, 6):
            raise ValueError(
                "reader.flame_joints must be empty or 6 numbers, root x y z and neck x y z; got "
                f"{len(self.flame_joints)}."
            )


@dataclasses.dataclass(frozen=True)
class AlignConfig:
    """How cameras come into the head frame of the base generator.

    Attributes:
      method: "auto" compares landmarks, triangulated over the capture, with the mean head;
        "points" and "mesh" take pairs of points from files; "scale" only scales, by `scale` or,
        if that is 0, by what "auto" finds (GAN-Avatar's script); "none" leaves cameras alone;
        "landmark_normalization" crops every image by its own landmarks, which the paper
        rejects; "default" is "none" for "eg3d" and "video" and "auto" for the others.
      source_file: "points": a JSON file with "source" and "target" (lists of [x, y, z]), or with
        "landmarks" (MediaPipe number -> [x, y, z]); "mesh": the capture's mesh, .obj or .npy.
      target_file: "mesh": the same mesh in the head frame, .obj or .npy.
      scale: Factor of "scale", world units per unit of the source; 0 finds it.
      views: Frames whose landmarks are read.
    """

    method: AlignMethod = "default"
    source_file: str = ""
    target_file: str = ""
    scale: float = 0.0
    views: int = 240

    def __post_init__(self) -> None:
        """Refuses methods without what they need."""
        if self.method in ("points", "mesh") and not self.source_file:
            raise ValueError(f'align.method "{self.method}" needs align.source_file; got none.')
        if self.method == "mesh" and not self.target_file:
            raise ValueError('align.method "mesh" needs align.target_file; got none.')
        if self.scale < 0 or self.views < 3:
            raise ValueError(
                "align.scale must not be negative and align.views at least 3; got "
                f"{self.scale} and {self.views}."
            )


@dataclasses.dataclass(frozen=True)
class VideoConfig:
    """How a bare recording (`format` "video") becomes a capture.

    Attributes:
      stride: Every n-th frame is used.
      max_frames: At most this many frames, from the beginning; 0 uses all.
      matte: "closed_form" (best), "fast", "onnx" (a network of yours), or "none": the background
        stays.
      matte_model: selfie_segmenter.tflite, None looks it up; with "onnx" the network's file, laid
        out as MODNet or Robust Video Matting export theirs.
      cameras: "colmap" refines the landmarks' cameras by features of the head where it turns far
        enough and both agree; "landmarks" (faster, no pycolmap) takes landmarks alone.
      fov_deg: Field of view across the picture's width, degrees, where it is known; 0 takes the
        distance that the base generator knows, which a head's picture cannot tell from others.
      truth: A capture in EG3D's layout whose frame i is frame i of the video; how far the result
        lies from it is reported.
      fewest_frames: Frames with a readable face below which the recording is refused.
    """

    stride: int = 1
    max_frames: int = 0
    matte: Literal["closed_form", "fast", "onnx", "none"] = "closed_form"
    matte_model: str | None = None
    cameras: Literal["colmap", "landmarks"] = "colmap"
    fov_deg: float = 0.0
    truth: str = ""
    fewest_frames: int = 10

    def __post_init__(self) -> None:
        """Refuses counts that leave nothing, and mattes without their file."""
        if self.matte == "onnx" and not self.matte_model:
            raise ValueError(
                'video.matte "onnx" needs video.matte_model, the path of an ONNX file; got none.'
            )
        if self.stride < 1 or self.max_frames < 0 or self.fewest_frames < 4:
            raise ValueError(
                "video.stride must be at least 1, video.max_frames not negative and "
                f"video.fewest_frames at least 4; got {self.stride}, {self.max_frames} and "
                f"{self.fewest_frames}."
            )
        if self.fov_deg and not 5.0 <= self.fov_deg <= 150.0:
            raise ValueError(
                f"video.fov_deg must be 0 (unknown) or lie between 5 and 150; got {self.fov_deg}."
            )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which capture to use and the canonical form of its frames.

    Attributes:
      source: Folder or zip of the capture, or "package:actor" for the sample that is installed
        with the package.
      resolution: Side of the training images, pixels; a power of two.
      format: Layout of the source; "video" is a bare recording.
      reader: What is taken of the source.
      video: How a bare recording becomes a capture.
      align: How cameras come into the head frame.
      crop: How images become square; "head" cuts around the head, "auto" does so where images are
        not square or of several sizes.
      crop_extent: Side of a "head" crop at the head's distance, world units; what FFHQ crops show.
      background: Colour behind the head in the training images; "keep" leaves it as stored.
      source_background: Colour behind the head in the stored images; "auto" asks meta.json, and
        "scene" means that a real background is still there, to be removed by alpha.
      linear_light: Exchange the background in linear light rather than in display values.
      resample: Filter that shrinks images to `resolution`; both are antialiased.
      mirror: Train on every frame and on its mirror image, cameras mirrored too.
      split: Which frames are held out.
      cache_limit_mb: Images of a split are kept in memory, decoded, if they take at most this many
        MB (2^20 bytes): 5,461 frames of 512 pixels with the default. More are decoded from disk
        batch by batch; the batches are the same.
      skip_damaged: How many training frames of the prepared dataset may turn out damaged: they are
        named, counted and left out. One more ends the training; --task=prepare_data makes the
        dataset again.
    """

    source: str
    resolution: int = 512
    format: FormatName = "eg3d"
    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)
    video: VideoConfig = dataclasses.field(default_factory=VideoConfig)
    align: AlignConfig = dataclasses.field(default_factory=AlignConfig)
    crop: Literal["auto", "none", "center", "head"] = "auto"
    crop_extent: float = ffhq_camera.EXTENT
    background: Background = "keep"
    source_background: SourceBackground = "auto"
    linear_light: bool = False
    resample: Literal["lanczos", "box"] = "lanczos"
    mirror: bool = False
    split: SplitConfig = dataclasses.field(default_factory=SplitConfig)
    cache_limit_mb: int = 4096
    skip_damaged: int = 4

    def __post_init__(self) -> None:
        """Refuses resolutions the networks do not have."""
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(
                "resolution must be a power of two of at least 8 pixels; got "
                f"{self.resolution}. Use 64, 128, 256 or 512."
            )
        if self.cache_limit_mb < 0:
            raise ValueError(
                f"cache_limit_mb must not be negative; got {self.cache_limit_mb}. 0 keeps all "
                "images on disk."
            )
        if self.skip_damaged < 0:
            raise ValueError(f"skip_damaged must not be negative; got {self.skip_damaged}.")
        if self.crop_extent <= 0:
            raise ValueError(f"crop_extent must be positive; got {self.crop_extent}.")
        if not self.source:
            raise ValueError('source must name a folder or zip, or be "package:actor"; got "".')
