# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""The complete default configuration: every key a config file or the command line can set.

Values are those of the method at paper size (512 pixels); the meaning and unit of each key stand in
the dataclass it becomes (DataConfig, GeneratorConfig, ...). A test keeps the two in step. Files in
configs/ start from `full()` and change what differs.
"""

import ml_collections
from ml_collections import config_dict

from ganavatar_jax.core import preset_values


def full() -> ml_collections.ConfigDict:
    """Returns every key at its paper-size value.

    Returns:
      A fresh, unlocked ConfigDict.

    Source: GAN-Avatar (Kabadayi et al. 2024) and its released code; EG3D (Chan et al. 2022).
    """
    return ml_collections.ConfigDict(
        {
            "data": preset_values.data(),
            "generator": preset_values.generator(),
            "discriminator": preset_values.discriminator(),
            "gan": preset_values.gan(),
            "frontal": {
                "count": 1001,
                "first_seed": 0,
                "psi": 0.7,
                "cutoff": 14,
                "camera": "capture",
                "radius": 2.7,
                "pivot": (0.0, 0.0, 0.0),
                "focal": 4.2647,
                "principal_point": (0.5, 0.5),
                "random_noise": False,
                "latents": "prior",
                "validation_fraction": 0.1,
                "batch_size": 8,
            },
            "estimator": {
                "name": "mediapipe",
                "model_path": config_dict.placeholder(str),
                "allow_download": True,
                "codes_path": config_dict.placeholder(str),
                "min_confidence": 0.5,
                "upsample_px": 256,
                "refine_passes": 1,
                "tile_levels": 2,
                "assume_face": False,
                "flip_average": True,
                "measures": False,
                "calibration": "synthetic-people",
                "num_threads": 1,
            },
            "mapping": {
                "network": {
                    "width": 64,
                    "hidden_layers": 2,
                    "activation": "lrelu",
                    "output_scale": 0.25,
                },
                "coefficients": (),
                "normalization": "standardize",
                "components": 0,
                "center_on_mean": True,
                "latent_steps": 0,
                "steps": 6000,
                "batch_size": 8,
                "lr": 1e-4,
                "latent_lr": 1e-3,
                "weight_decay": 0.0,
                "photometric_weight": 1.0,
                "latent_weight": 0.0,
                "code_noise": 0.0,
                "seed": 0,
                "validate_every": 200,
            },
            "evaluation": {
                "codes": "dataset",
                "driver_statistics": "driver",
                "driver_gain": 1.0,
                "stride": 1,
                "fps": 25,
                "lpips_vgg": True,
                "frechet": True,
                "inception": config_dict.placeholder(str),
                "batch_size": 8,
            },
            "render": {"frames": 96, "fps": 24, "radius": 0.0, "strength": 2.5, "coefficients": ()},
            "drive": {
                "source": "",
                "codes": "stored",
                "start_s": 0.0,
                "end_s": 0.0,
                "fps": 0.0,
                "smoothing_s": 0.03,
                "largest_gain": 2.0,
                "camera": "front",
                "yaw_deg": 0.0,
                "pitch_deg": 0.0,
                "sway_deg": 20.0,
                "period_s": 8.0,
                "batch_size": 8,
            },
            "devices": {"cpu_virtual": 0, "distributed": False, "matmul_precision": "highest"},
            "parallel": "jit",
            "compile_cache": True,
            "tensorboard": True,
        }
    )


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
    config.generator.render.update(
        {"depth_resolution": 8, "depth_resolution_importance": 8, "white_back": True}
    )
    with config.ignore_type():  # "auto" gives way to distances
        config.generator.render.update({"ray_start": 2.25, "ray_end": 3.2})
    config.discriminator.update(
        {"img_resolution": 64, "channel_base": 2048, "channel_max": 128, "mapping_layers": 2}
    )
    config.gan.update({"batch_size": 8, "gamma": 1.0, "ema_kimg": 0.25, "ema_rampup": 0.3})
    _start_from_base(config)
    config.frontal.update({"latents": "encoder", "count": 900, "psi": 1.0})
    # Much of the renderer runs on one thread: two virtual devices keep two cores busy.
    config.devices.cpu_virtual = 2
    config.parallel = "shard_map"
    _map_what_obeys(config)
    return config


def _start_from_base(config: ml_collections.ConfigDict) -> None:
    # The latent holds the expression alone, since camera and person are known.
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
        }
    )
    config.gan.reconstruction.adam.lr = 0.01


def _map_what_obeys(config: ml_collections.ConfigDict) -> None:
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
            "latent_steps": 2000,
            "steps": 100,
            # Few pairs: without noise, a wink that none of them shows leaves all faces behind.
            "code_noise": 0.3,
        }
    )
    config.evaluation.driver_gain = 1.25  # a person moves that much more than the renders (E010)


def smoke(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Shrinks any configuration to seconds on the shipped sample: does everything run?

    Args:
      config: Any configuration; changed in place.

    Returns:
      The same object.

    Source: ours.
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
            "batch_size": 8,
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
    config.gan.reconstruction.encoder.identity = "mean"  # 24 frames are too few for components
    # Three steps make no face. The face networks run all the same, on whatever there is: every
    # stage works on real readings, which mean nothing.
    config.frontal.update({"count": 12, "batch_size": 4})
    config.estimator.update(
        {"name": "mediapipe", "min_confidence": 0.0, "tile_levels": 0, "assume_face": True}
    )
    config.mapping.update({"latent_steps": 3, "steps": 2, "batch_size": 4, "validate_every": 2})
    config.evaluation.lpips_vgg = False
    config.render.frames = 4
    return config
