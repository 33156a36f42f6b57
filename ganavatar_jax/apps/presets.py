# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""The configurations that files in configs/ start from.

`full` is every key at its default, which is the method at paper size (512 pixels); what differs
from it stands in the functions below and in the files.
"""

import ml_collections

from ganavatar_jax.apps import experiment_config
from ganavatar_jax.core import config_schema


def full() -> ml_collections.ConfigDict:
    """Returns every key at its paper-size value, the default of its dataclass.

    Returns:
      A fresh, unlocked ConfigDict.

    Source: GAN-Avatar (Kabadayi et al. 2024) and its released code; EG3D (Chan et al. 2022).
    """
    return config_schema.defaults(experiment_config.ExperimentConfig)


def small(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Shrinks a full configuration to 64 pixels, so that it trains on two CPU cores.

    Args:
      config: What `full` returned; changed in place.

    Returns:
      The same object.

    Source: ours; measured for CPUs.
    """
    config.data.resolution = 64
    config.generator.update(
        {
            "img_resolution": 64,
            "neural_resolution": 32,
            "w_dim": 128,
            "plane_resolution": 64,
            "plane_channels": 16,
            "channel_base": 2048,
            "channel_max": 128,
            "decoder_hidden": 32,
            "decoder_features": 16,
            "superresolution": "2X",
            "superresolution_channels": (64, 32),
        }
    )
    # The head stays within 0.5 of the origin: fixed bounds waste no samples at the cube's corners.
    config.generator.render.update({"ray_start": 2.25, "ray_end": 3.2})
    config.generator.render.update(
        {"depth_resolution": 8, "depth_resolution_importance": 8, "white_back": True}
    )
    config.discriminator.update(
        {"img_resolution": 64, "channel_base": 2048, "channel_max": 128, "mapping_layers": 2}
    )
    config.gan.update({"batch_size": 8, "gamma": 1.0, "ema_kimg": 0.25, "ema_rampup": 0.3})
    _start_from_base(config)
    config.frontal.update(
        {"latents": "encoder", "count": 700, "psi": 1.0, "rare": 300, "turned": 300}
    )
    # Much of the renderer runs on one thread: two virtual devices keep two cores busy.
    config.devices.cpu_virtual = 2
    config.parallel = "shard_map"
    _map_what_obeys(config)
    return config


def _start_from_base(config: ml_collections.ConfigDict) -> None:
    # The latent holds the expression alone, since camera and person are known.
    """Takes the sizes of the base generator that ships, and starts from it."""
    config.generator.z_dim = 32
    config.gan.init = "synthetic-heads-64"
    config.gan.update(
        {"total_kimg": 10.0, "snapshot_kimg": 2.0, "sample_kimg": 1.0, "reconstruct": True}
    )
    config.gan.reconstruction.encoder.update(
        {"channel_base": 2048, "channel_max": 128, "face_dim": 16, "identity": "face"}
    )
    config.gan.reconstruction.update(
        {
            # A fresh discriminator learns nothing in minutes, and blurs what is there (E009).
            "warmup_iterations": -1,
            "noise": 0.05,
            "random_p": 0.05,
            "lpips_weight": 1.0,
            "focus_weight": 16.0,
            "eyes_weight": 16.0,
            "unseen_interval": 8,
        }
    )
    config.gan.reconstruction.adam.lr = 0.01


def _map_what_obeys(config: ml_collections.ConfigDict) -> None:
    """Takes the coefficients that small renders show, and does all of what they ask."""
    config.mapping.update(
        {
            # What is read off renders follows these; the others (lips with the jaw, cheeks with the
            # smile) say the same again, and codes that tell them apart would go anywhere (E010).
            "coefficients": (
                "jawOpen",
                "eyeBlinkLeft",
                "eyeBlinkRight",
                "mouthSmileLeft",
                "mouthSmileRight",
                "browDownLeft",
                "browDownRight",
            ),
            "invert": True,
            "steps": 100,
        }
    )


def smoke(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Shrinks any configuration to seconds on the shipped sample: does everything run?

    Args:
      config: Any configuration; changed in place.

    Returns:
      The same object.
    """
    small(config)
    config.data.update({"source": "package:actor", "resolution": 32})
    config.data.split.update({"max_train_frames": 24, "max_test_frames": 6})
    config.generator.update(
        {
            "img_resolution": 32,
            "neural_resolution": 16,
            "z_dim": 16,
            "w_dim": 16,
            "plane_resolution": 16,
            "plane_channels": 4,
            "channel_base": 128,
            "channel_max": 8,
            "decoder_hidden": 8,
            "decoder_features": 6,
            "superresolution_channels": (8, 8),
        }
    )
    config.generator.render.update({"depth_resolution": 4, "depth_resolution_importance": 4})
    config.discriminator.update({"img_resolution": 32, "channel_base": 128, "channel_max": 8})
    config.discriminator.mbstd_block_size = 1  # up to eight devices share a batch of eight
    # Three iterations, so that every phase runs, also after a warm-up of one.
    config.gan.update(
        {
            "init": "",
            "total_kimg": 0.024,
            "g_reg_interval": 2,
            "d_reg_interval": 2,
            "reconstruction": {
                "warmup_iterations": 1,
                "encoder": {"channel_base": 128, "channel_max": 8, "face_dim": 4},
            },
            "snapshot_kimg": 0.008,
            "sample_kimg": 0.016,
            "log_iterations": 1,
        }
    )
    config.gan.reconstruction.unseen_interval = 0  # there is no start to fill in from
    config.gan.reconstruction.encoder.identity = "mean"  # 24 frames are too few for components
    # Three steps make no face. The face networks run all the same, on whatever there is: every
    # stage works on real readings, which mean nothing.
    config.frontal.update({"count": 12, "batch_size": 4, "rare": 4, "turned": 4})
    config.estimator.update(
        {"name": "mediapipe", "min_confidence": 0.0, "tile_levels": 0, "assume_face": True}
    )
    config.mapping.update({"latent_steps": 3, "steps": 2, "batch_size": 4, "validate_every": 2})
    config.evaluation.lpips_vgg = False
    config.render.frames = 4
    return config
