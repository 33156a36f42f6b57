"""The whole configuration of a run: every section of a config file."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from ganavatar_jax.apps import startup, use_config
from ganavatar_jax.core import trees
from ganavatar_jax.data import data_config
from ganavatar_jax.faces import estimator_config
from ganavatar_jax.geometry import ffhq_camera
from ganavatar_jax.models import discriminator_config, generator_config
from ganavatar_jax.training import backends, gan_config, mapping_config, phase_config

# Keys that run folders of earlier versions have.
GONE = ("data.video.pitch_response", "data.video.yaw_response", "evaluation.driver_gain")


@dataclasses.dataclass(frozen=True)
class FrontalConfig:
    """How frontal faces are sampled for the mapping stage.

    Attributes:
      count: Latents sampled; frames the estimator cannot read are skipped and counted.
      first_seed: Seed of the first latent; latent i is numpy's RandomState(first_seed + i).
      psi: Truncation; 1 keeps the full variety.
      cutoff: Rows of ws truncated; 0 means all. Fewer than the generator has are refused: a pair
        holds one w, which would not be that of its image. The original's 14 are all of its 14.
      camera: "capture" stands as far away as the training cameras and sees with their lens, the
        medians of both; "fixed" takes radius, focal and principal_point, whose defaults are the
        original's, for FFHQ's cameras.
      radius: Distance of the fixed camera from the world origin, world units.
      pivot: Point the camera looks at, world units; of both.
      focal: Normalised focal length of the fixed camera.
      principal_point: Normalised principal point of the fixed camera.
      random_noise: Whether synthesis noise and ray jitter are random (not reproducible in the
        original; keyed by seed here) instead of deterministic.
      latents: "prior" samples latents; "encoder" takes those of training images, where the run
        trained an encoder (images are encoded, faces in them are not tracked).
      rare: Further pairs for the mapping's training, of expressions that the others hardly show:
        some of their latents, moved on from the face at rest, spread evenly over codes.
      rare_gain: How far these move on at most: what is beyond rest is multiplied by 1 to this.
      rare_reach: How far their codes may lie from the mean, in spreads of w.
      turned: Renders of pairs seen by training cameras off the front, which tell what turning a
        head does to the codes that are read off it (`faces.turned_readings`); 0 asks nothing.
      validation_fraction: Part of the pairs held out from the mapping's training, 0..1.
      batch_size: Images rendered at once.
    """

    count: int = 1001
    first_seed: int = 0
    psi: float = 0.7
    cutoff: int = 14
    camera: Literal["capture", "fixed"] = "capture"
    radius: float = ffhq_camera.RADIUS
    pivot: tuple[float, float, float] = (0.0, 0.0, 0.0)
    focal: float = ffhq_camera.FOCAL
    principal_point: tuple[float, float] = (0.5, 0.5)
    random_noise: bool = False
    latents: Literal["prior", "encoder"] = "prior"
    rare: int = 0
    rare_gain: float = 2.5
    rare_reach: float = 6.0
    turned: int = 0
    validation_fraction: float = 0.1
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.turned < 0:
            raise ValueError(f"turned must not be negative; got {self.turned}.")
        if self.rare < 0 or self.rare_gain < 1 or self.rare_reach <= 0:
            raise ValueError(
                "rare must not be negative, rare_gain at least 1 and rare_reach above 0; got "
                f"{self.rare}, {self.rare_gain} and {self.rare_reach}."
            )
        if self.count < 8:
            raise ValueError(f"count must be at least 8; got {self.count}.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {self.batch_size}.")
        if self.first_seed < 0:
            raise ValueError(f"first_seed must not be negative; got {self.first_seed}.")
        if not 0.0 < self.validation_fraction < 1.0:
            raise ValueError(
                f"validation_fraction must lie between 0 and 1; got {self.validation_fraction}."
            )
        if self.cutoff < 0 or self.radius <= 0 or self.focal <= 0:
            raise ValueError(
                f"cutoff must not be negative, radius and focal must be positive; got "
                f"{self.cutoff}, {self.radius} and {self.focal}."
            )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How held-out frames are reenacted and compared.

    Attributes:
      codes: Which codes drive the avatar: "estimate" (read off the held-out frames by the
        estimator that read the avatar's renders) or "dataset" (stored with the frames).
      driver_statistics: How driving codes come to the units of the avatar's: "pairs" takes them as
        they are (right when both were read by one estimator), "weights" takes them for ARKit
        weights and says by a table what the estimator reads off such faces, "driver" brings their
        own mean and spread to those of the pairs (wrong where the driver does other things than
        the avatar's person did). "auto" is "pairs" for codes that were read, "weights" for others.
      stride: Every n-th held-out frame is evaluated.
      fps: Frame rate of the comparison video, frames a second.
      lpips_vgg: Whether LPIPS is also computed with VGG16 (slow on CPUs).
      frechet: Whether the Frechet distance of AlexNet features between the set of renders and the
        set of held-out frames is computed. It is not the FID.
      inception: Inception weights (.npz, made by weight_port) to compute the FID with; None leaves
        it out. It means little below thousands of frames.
      batch_size: Images rendered at once.
    """

    codes: Literal["estimate", "dataset"] = "estimate"
    driver_statistics: Literal["auto", "pairs", "weights", "driver"] = "auto"
    stride: int = 1
    fps: int = 25
    lpips_vgg: bool = True
    frechet: bool = True
    inception: str | None = None
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.stride < 1 or self.fps < 1 or self.batch_size < 1:
            raise ValueError("stride, fps and batch_size must be at least 1.")


@dataclasses.dataclass(frozen=True)
class RenderTaskConfig:
    """What the render task makes.

    Attributes:
      frames: Frames of the turntable video.
      fps: Frame rate, frames a second.
      radius: Distance of the camera from the world origin, world units; 0 takes the frontal
        camera's.
      strength: How far each coefficient is pushed in the expression sheet, in standard deviations
        of the pairs' codes; in units of the code where the mapping does not know them (imported).
      coefficients: Coefficients shown in the expression sheet; empty takes the most lively ones.
    """

    frames: int = 96
    fps: int = 24
    radius: float = 0.0
    strength: float = 2.5
    coefficients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.frames < 1 or self.fps < 1 or self.radius < 0:
            raise ValueError(
                f"frames and fps must be at least 1, radius not negative; got {self.frames}, "
                f"{self.fps} and {self.radius}."
            )


@dataclasses.dataclass(frozen=True)
class DriveConfig:
    """What drives the avatar in the drive task, and from where it is seen.

    Attributes:
      source: A video; a folder or zip of pictures; a capture in EG3D's layout ("package:actor" is
        the shipped one); a codes file (.json, .npz); a recording of Live Link Face (.csv).
      codes: "stored" takes the codes a capture carries, if it does; "estimate" reads them off its
        pictures all the same.
      start_s: Where in the source to begin, seconds.
      end_s: Where to end, seconds; 0 is its end.
      fps: Frames a second of the result; 0 takes the source's. Pictures, and codes without a rate,
        are taken to follow each other at this rate, or at 25 without one.
      smoothing_s: Standard deviation of the Gaussian that smooths codes over time, seconds; 0.03
        halves a real talker's jitter from frame to frame and leaves 95 % of the spread. Pictures
        and codes without a rate are smoothed only where `fps` says that they are frames of a film.
      neutral_s: Length of the part, from `start_s` on, in which the driver's face is at rest: its
        mean there becomes the avatar's face at rest. 0 knows of none, and takes the driver's face
        to read like the avatar's.
      largest_gain: With driver_statistics="driver", most times a coefficient is amplified when the
        driver's spread is brought to the avatar's own: what a driver hardly moves is noise, not a
        face.
      clamp: Whether codes unlike those that the avatar has seen are brought back to the nearest of
        these; range.json tells how far they were.
      camera: "front", "orbit" (all around) or "sway" (from side to side).
      yaw_deg: Turn of the camera to the side, degrees; positive towards the person's left.
      pitch_deg: Lift of the camera, degrees; positive looks down from above.
      sway_deg: How far "sway" goes to each side, degrees.
      period_s: Time that "orbit" and "sway" take for one round, seconds.
      batch_size: Images rendered at once.
    """

    source: str = ""
    codes: Literal["stored", "estimate"] = "stored"
    start_s: float = 0.0
    end_s: float = 0.0
    fps: float = 0.0
    smoothing_s: float = 0.03
    neutral_s: float = 0.0
    largest_gain: float = 2.0
    clamp: bool = False
    camera: Literal["front", "orbit", "sway"] = "front"
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    sway_deg: float = 20.0
    period_s: float = 8.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not self.start_s >= 0 or not (self.end_s == 0 or self.end_s > self.start_s):
            raise ValueError(
                "start_s must not be negative and end_s must be 0 or later; got "
                f"{self.start_s} and {self.end_s}."
            )
        if not 0.0 <= self.fps <= 240.0 or not 0.0 <= self.smoothing_s <= 1.0:
            raise ValueError(
                "fps must lie in 0..240 and smoothing_s in 0..1; got "
                f"{self.fps} and {self.smoothing_s}."
            )
        if not self.neutral_s >= 0:
            raise ValueError(f"neutral_s must not be negative; got {self.neutral_s}.")
        if not -80.0 <= self.pitch_deg <= 80.0:
            raise ValueError(f"pitch_deg must lie in -80..80; got {self.pitch_deg}.")
        if self.largest_gain <= 0 or self.period_s <= 0 or self.batch_size < 1:
            raise ValueError(
                "largest_gain and period_s must be above 0, batch_size at least 1; got "
                f"{self.largest_gain}, {self.period_s} and {self.batch_size}."
            )


def leave_gone_out(config_json: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves keys out that earlier versions had.

    Args:
      config_json: A run's config as nested JSON values.

    Returns:
      The config without the keys in GONE.
    """
    flat = dict(trees.flatten_names(config_json))
    return trees.unflatten_names({key: value for key, value in flat.items() if key not in GONE})


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """All sections of a config file.

    Attributes:
      data: The capture, its size, background and which frames are held out.
      generator: Sizes of mapping, synthesis, planes, decoder, super-resolution; the renderer.
      discriminator: Its sizes and minibatch statistics.
      gan: GAN training: start, length, rates, regularisers, fades, augmentation.
      frontal: Latents and camera of the frontal renders.
      estimator: What reads expression codes off pictures, and how carefully.
      mapping: The network from code to w, its normalisation and training.
      evaluation: Which codes drive the held-out frames, and what is measured.
      render: Turntable and expression sheet.
      drive: What drives a finished avatar, which part of it, from which camera (--task=drive).
      novel_view: Cameras around a finished avatar (--task=novel_view).
      interpolate: From face to face (--task=interpolate).
      reenact: Whose film a finished avatar shows again (--task=reenact).
      export_web: The page of a finished avatar (--task=export_web).
      export_mesh: Its surface (--task=export_mesh).
      devices: Virtual CPU devices, several processes, how networks multiply.
      parallel: How a step is spread over devices; the numbers are the same.
      compile_cache: Whether compiled programs are kept between runs.
      tensorboard: Whether TensorBoard events are written beside metrics.jsonl.
      wandb: Project of Weights & Biases that metrics go to, too (extra "wandb"); "" for none.
      mirror: Place the run is copied to and fetched from, e.g. gs://bucket/run; "" for none.
    """

    data: data_config.DataConfig
    generator: generator_config.GeneratorConfig
    discriminator: discriminator_config.DiscriminatorConfig
    gan: gan_config.GanConfig
    frontal: FrontalConfig
    estimator: estimator_config.EstimatorConfig
    mapping: mapping_config.MappingConfig
    evaluation: EvaluationConfig
    render: RenderTaskConfig
    drive: DriveConfig = dataclasses.field(default_factory=DriveConfig)
    novel_view: use_config.NovelViewConfig = dataclasses.field(
        default_factory=use_config.NovelViewConfig
    )
    interpolate: use_config.InterpolateConfig = dataclasses.field(
        default_factory=use_config.InterpolateConfig
    )
    reenact: use_config.ReenactConfig = dataclasses.field(default_factory=use_config.ReenactConfig)
    export_web: use_config.ExportWebConfig = dataclasses.field(
        default_factory=use_config.ExportWebConfig
    )
    export_mesh: use_config.ExportMeshConfig = dataclasses.field(
        default_factory=use_config.ExportMeshConfig
    )
    devices: startup.DevicesConfig = dataclasses.field(default_factory=startup.DevicesConfig)
    parallel: backends.Backend = "jit"
    compile_cache: bool = True
    tensorboard: bool = True
    wandb: str = ""
    mirror: str = ""

    def __post_init__(self) -> None:
        sides = (
            self.data.resolution,
            self.generator.img_resolution,
            self.discriminator.img_resolution,
        )
        if len(set(sides)) != 1:
            raise ValueError(
                f"data.resolution, generator.img_resolution and discriminator.img_resolution must "
                f"be equal; got {sides[0]}, {sides[1]} and {sides[2]}."
            )
        if 0 < self.frontal.cutoff < self.generator.num_ws:
            raise ValueError(
                f"frontal.cutoff must be 0 (all rows) or at least the generator's "
                f"{self.generator.num_ws} rows, so that one w gives the image it is stored with; "
                f"got {self.frontal.cutoff}. Set frontal.cutoff=0."
            )
        _ = self.gan_step  # refuses what does not fit together

    @property
    def gan_step(self) -> phase_config.StepOptions:
        """What the phases of the GAN training take."""
        return phase_config.StepOptions(self.gan, self.generator, self.discriminator)
