# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""The complete default configuration: every key a config file or the command line can set.

Values are those of the method at paper size (512 pixels); the meaning and unit of each key stand in
the dataclass it becomes (DataConfig, GeneratorConfig, ...). A test keeps the two in step. Files in
configs/ start from `full()` and change what differs.
"""

import ml_collections
from ml_collections import config_dict


def full() -> ml_collections.ConfigDict:
    """Returns every key at its paper-size value.

    Returns:
      A fresh, unlocked ConfigDict.

    Source: GAN-Avatar (Kabadayi et al. 2024) and its released code; EG3D (Chan et al. 2022).
    """
    return ml_collections.ConfigDict(
        {
            "data": _data(),
            "generator": _generator(),
            "discriminator": _discriminator(),
            "gan": _gan(),
            "frontal": {
                "count": 1001,
                "first_seed": 0,
                "psi": 0.7,
                "cutoff": 14,
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
                "batch_size": 8,
            },
            "render": {"frames": 96, "fps": 24, "radius": 2.7, "strength": 2.5, "coefficients": ()},
            "devices": {"cpu_virtual": 0, "distributed": False},
            "parallel": "jit",
            "compile_cache": True,
            "tensorboard": True,
        }
    )


def _data() -> dict:
    return {
        "source": config_dict.placeholder(str),  # a folder or zip; "package:actor" is the sample
        "resolution": 512,
        "format": "eg3d",
        "reader": {"cameras": (), "sequences": (), "gamma": 2.0},
        "video": {
            "stride": 1,
            "max_frames": 0,
            "matte": "closed_form",
            "matte_model": config_dict.placeholder(str),
            "cameras": "colmap",
            "pitch_response": 0.6,
            "yaw_response": 0.93,
            "truth": "",
            "fewest_frames": 10,
        },
        "align": {
            "method": "default",
            "source_file": "",
            "target_file": "",
            "scale": 0.0,
            "views": 240,
        },
        "crop": "auto",
        "crop_extent": 0.633,
        "background": "keep",
        "source_background": "auto",
        "linear_light": False,
        "resample": "lanczos",
        "mirror": False,
        "split": {
            "policy": "auto",
            "test_frames": 350,
            "test_fraction": 0.1,
            "test_sequences": (),
            "train_stride": 1,
            "max_train_frames": 0,
            "max_test_frames": 0,
        },
        "cache_limit_mb": 4096,
    }


def _generator() -> dict:
    return {
        "img_resolution": 512,
        "neural_resolution": 128,
        "z_dim": 512,
        "w_dim": 512,
        "label_dim": 25,
        "mapping_layers": 2,
        "plane_resolution": 256,
        "plane_channels": 32,
        "channel_base": 32768,
        "channel_max": 512,
        "num_half_res": 0,
        "half_dtype": "float32",
        "conv_clamp": config_dict.placeholder(float),
        "decoder_hidden": 64,
        "decoder_features": 32,
        "decoder_lr_multiplier": 1.0,
        "superresolution": "8XDC",
        "superresolution_channels": (),
        "superresolution_half": True,
        "superresolution_clamp": 256.0,
        "superresolution_antialias": True,
        "condition_on_camera": False,
        "condition_scale": 1.0,
        "render": {
            "depth_resolution": 48,
            "depth_resolution_importance": 48,
            "ray_start": "auto",
            "ray_end": "auto",
            "box_warp": 1.0,
            "white_back": False,
            "disparity": False,
            "plane_axes": "fixed",
            "ray_chunk": 0,
        },
    }


def _discriminator() -> dict:
    return {
        "img_resolution": 512,
        "channel_base": 32768,
        "channel_max": 512,
        "mapping_layers": 8,
        "mbstd_group_size": 4,
        "mbstd_block_size": 4,  # groups as on the original's eight GPUs of four images
        "num_half_res": 4,
        "half_dtype": "float32",
        "conv_clamp": 256.0,
        "label_dim": 25,
    }


def _gan() -> dict:
    return {
        "init": "",
        "seed": 0,
        "batch_size": 32,
        "total_kimg": 80.0,
        "g_lr": 0.0025,
        "d_lr": 0.002,
        "beta1": 0.0,
        "beta2": 0.99,
        "lr_warmup_kimg": 0.0,
        "gamma": 5.0,
        "g_reg_interval": 4,
        "d_reg_interval": 16,
        "density": {"weight": 0.25, "kind": "l1", "perturbation": 0.004},
        "ema_kimg": 10.0,
        "ema_rampup": config_dict.placeholder(float),
        "style_mixing_p": 0.0,
        "swapping_p": 0.5,
        "swapping_fade_kimg": 0.0,
        "blur_init_sigma": 0.0,
        "blur_fade_kimg": 200.0,
        "neural_resolution_initial": 0,
        "neural_resolution_fade_kimg": 1000.0,
        "augment": "none",
        "augment_p": 0.0,
        "augment_pipe": {
            "xflip": 1.0,
            "rotate90": 1.0,
            "xint": 1.0,
            "scale": 1.0,
            "rotate": 1.0,
            "aniso": 1.0,
            "xfrac": 1.0,
            "brightness": 1.0,
            "contrast": 1.0,
            "lumaflip": 1.0,
            "hue": 1.0,
            "saturation": 1.0,
        },
        "ada_target": 0.6,
        "ada_kimg": 500.0,
        "ada_interval": 4,
        "freeze_d": 0,
        "microbatch": 0,
        "reconstruct": False,
        "reconstruction": {
            "encoder": {
                "channel_base": 1024,
                "channel_max": 128,
                "face_dim": 0,
                "face_fit": "pixels",
                "identity": "learned",
            },
            "warmup_iterations": 0,
            "noise": 0.2,
            "encoded_p": 0.5,
            "random_p": 0.1,
            "adam": {"lr": 0.004, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8},
            "final_lr_scale": 0.1,
            "focus_point": (0.0, -0.1, 0.19),
            "focus_radius": 0.1,
            "focus_weight": 8.0,
            "eyes_point": (0.0, -0.022, 0.155),
            "eyes_radius": 0.05,
            "eyes_weight": 0.0,
            "l1_weight": 1.0,
            "lpips_weight": 0.5,
            "uniformity_weight": 0.0,
            "camera_weight": 0.0,
        },
        "snapshot_kimg": 40.0,
        "sample_kimg": 20.0,
        "log_iterations": 10,
    }


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
    # Few pairs: without noise on the codes, a wink that none of them shows leaves all faces behind.
    config.mapping.update({"latent_steps": 2000, "steps": 100, "code_noise": 0.22})
    config.evaluation.driver_gain = 1.25  # renders move a quarter less than the person (E010)
    return config


def _start_from_base(config: ml_collections.ConfigDict) -> None:
    # The latent holds the expression alone, since camera and person are known.
    config.generator.z_dim = 32
    config.gan.init = "synthetic-heads-64"
    config.gan.reconstruct = True
    config.gan.reconstruction.encoder.update(
        {"channel_base": 2048, "channel_max": 128, "face_dim": 16, "identity": "face"}
    )
    config.gan.reconstruction.update(
        {
            "warmup_iterations": 480,
            "noise": 0.05,
            "random_p": 0.05,
            "lpips_weight": 1.0,
            "focus_weight": 16.0,
            "eyes_weight": 16.0,
        }
    )
    config.gan.reconstruction.adam.lr = 0.01


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
    # Three iterations, so that every phase runs, also after a warm-up of one; up to eight devices.
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
