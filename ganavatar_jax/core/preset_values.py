"""Paper-size values of the larger parts of the configuration; see core/presets.py."""

from ml_collections import config_dict


def data() -> dict:
    """Returns the values of `data`.

    Returns:
      A fresh nested dict.

    Source: GAN-Avatar (Kabadayi et al. 2024) and its released code; EG3D (Chan et al. 2022).
    """
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


def generator() -> dict:
    """Returns the values of `generator`.

    Returns:
      A fresh nested dict.

    Source: GAN-Avatar (Kabadayi et al. 2024) and its released code; EG3D (Chan et al. 2022).
    """
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


def discriminator() -> dict:
    """Returns the values of `discriminator`.

    Returns:
      A fresh nested dict.

    Source: GAN-Avatar (Kabadayi et al. 2024) and its released code; EG3D (Chan et al. 2022).
    """
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


def gan() -> dict:
    """Returns the values of `gan`.

    Returns:
      A fresh nested dict.

    Source: GAN-Avatar (Kabadayi et al. 2024) and its released code; EG3D (Chan et al. 2022).
    """
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
        "profile_iterations": 0,
    }
