"""EG3D's options as this package's configurations.

A snapshot says its sizes and rendering options under the original's names; the networks here take
a `GeneratorConfig` and a `DiscriminatorConfig`. Options that nothing here implements are refused,
because rendering without them would give other images.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors
from ganavatar_jax.models import discriminator_config, generator_config

PlaneAxes = Literal["original", "fixed"]
_KINDS = {
    "SuperresolutionHybrid8XDC": "8XDC",
    "SuperresolutionHybrid8X": "8X",
    "SuperresolutionHybrid4X": "4X",
    "SuperresolutionHybrid2X": "2X",
}
_REQUIRED = (
    "depth_resolution",
    "depth_resolution_importance",
    "ray_start",
    "ray_end",
    "box_warp",
)
_HALF_CLAMP = 256.0  # the original clamps its super-resolution exactly when it may use half


def to_generator_config(
    architecture: Mapping[str, Any], rendering: Mapping[str, Any]
) -> generator_config.GeneratorConfig:
    """Makes the configuration of an imported generator, as the file says it.

    Args:
      architecture: Of `names_eg3d.import_generator`.
      rendering: EG3D's rendering_kwargs.

    Returns:
      The configuration; float32 throughout.

    Raises:
      WeightError: An option has no counterpart, or is missing.

    Source: EG3D reference behaviour.
    """
    half = bool(architecture["sr_num_fp16_res"])
    values = {
        "img_resolution": architecture["img_resolution"],
        "neural_resolution": architecture["neural_rendering_resolution"],
        "z_dim": architecture["z_dim"],
        "w_dim": architecture["w_dim"],
        "label_dim": architecture["c_dim"],
        "mapping_layers": architecture["num_mapping_layers"],
        "plane_resolution": architecture["plane_resolution"],
        "plane_channels": architecture["plane_channels"] // 3,
        "channel_base": architecture["channel_base"],
        "channel_max": architecture["channel_max"],
        "num_half_res": architecture["num_fp16_res"] or 0,
        "conv_clamp": architecture["conv_clamp"],
        "decoder_hidden": architecture["decoder_hidden"],
        "decoder_features": architecture["decoder_features"],
        "decoder_lr_multiplier": rendering.get("decoder_lr_mul", 1.0),
        "superresolution": _KINDS[architecture["superresolution"]],
        "superresolution_half": half,
        "superresolution_clamp": _HALF_CLAMP if half else None,
        "superresolution_antialias": rendering.get("sr_antialias", True),
        "condition_on_camera": not rendering.get("c_gen_conditioning_zero", False),
        "condition_scale": rendering.get("c_scale", 0.0),  # the original's own default is 0
        "render": _render_values(rendering, architecture["plane_axes"]),
    }
    return _resolve(generator_config.GeneratorConfig, values)


def to_discriminator_config(
    architecture: Mapping[str, Any],
) -> discriminator_config.DiscriminatorConfig:
    """Makes the configuration of an imported discriminator, as the file says it.

    Args:
      architecture: Of `names_eg3d.import_discriminator`.

    Returns:
      The configuration; float32 throughout, minibatch groups over the whole batch.

    Raises:
      WeightError: An option has no counterpart.

    Source: EG3D reference behaviour.
    """
    if architecture["disc_c_noise"]:
        raise errors.WeightError(
            f"disc_c_noise is {architecture['disc_c_noise']}; only 0 (no noise on the camera) is "
            "supported"
        )
    values = {
        "img_resolution": architecture["img_resolution"],
        "channel_base": architecture["channel_base"],
        "channel_max": architecture["channel_max"],
        "mapping_layers": architecture["num_mapping_layers"],
        "mbstd_group_size": architecture["mbstd_group_size"],
        "mbstd_block_size": 0,
        "num_half_res": architecture["num_fp16_res"] or 0,
        "conv_clamp": architecture["conv_clamp"],
        "label_dim": architecture["c_dim"],
    }
    return _resolve(discriminator_config.DiscriminatorConfig, values)


def with_plane_axes(
    config: generator_config.GeneratorConfig, requested: PlaneAxes | None, *, override: bool
) -> generator_config.GeneratorConfig:
    """Insists on plane axes, or declares the file's own wrong.

    Args:
      config: As the file says it.
      requested: What the user wants to render with; None takes the file's.
      override: Whether a contradiction is meant.

    Returns:
      The configuration with the requested axes.

    Raises:
      WeightError: The file was trained with other axes and that is not overridden.

    Source: ours; the two conventions are quirk Q1.
    """
    found = config.render.plane_axes
    if requested is None or requested == found:
        return config
    if not override:
        raise errors.WeightError(
            f"its planes were trained with the axes {found!r}, not {requested!r}; rendered "
            f"otherwise they show something else. Leave out --plane_axes, or add --override_axes "
            f"if you know better than the file"
        )
    values = config_lib.to_dict(config)
    values["render"]["plane_axes"] = requested
    return cast(
        generator_config.GeneratorConfig, _resolve(generator_config.GeneratorConfig, values)
    )


def _render_values(rendering: Mapping[str, Any], plane_axes: str) -> dict[str, Any]:
    """Takes the rendering options over; refuses those that would silently render otherwise."""
    if rendering.get("clamp_mode", "softplus") != "softplus":
        raise errors.WeightError(
            f"clamp_mode is {rendering['clamp_mode']!r}; only 'softplus' is supported"
        )
    if rendering.get("superresolution_noise_mode", "none") != "none":
        raise errors.WeightError(
            f"superresolution_noise_mode is {rendering['superresolution_noise_mode']!r}; only "
            "'none' is supported"
        )
    missing = [key for key in _REQUIRED if key not in rendering]
    if missing:
        raise errors.WeightError(f"rendering_kwargs lack {', '.join(missing)}; damaged file")
    return {
        **{key: rendering[key] for key in _REQUIRED},
        "disparity": rendering.get("disparity_space_sampling", False),
        "white_back": rendering.get("white_back", False),
        "plane_axes": plane_axes,
    }


def _resolve(cls: type, values: Mapping[str, Any]) -> Any:
    try:
        return config_lib.resolve(cls, values, path="options")
    except errors.ConfigError as error:
        raise errors.WeightError(f"its options have no counterpart here: {error}") from error
