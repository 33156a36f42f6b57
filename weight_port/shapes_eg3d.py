"""Names and shapes of every tensor of EG3D's networks, from a few numbers about them.

An architecture is a plain dict (`z_dim`, `channel_base`, `superresolution`, ...). `*_shapes` lists
what a network with that architecture must hold, under the original names and in the original
layout; `*_architecture` goes the other way and reads the numbers off the shapes. Between them every
tensor of a file is accounted for.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ganavatar_jax.core import errors

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

FILTER = "resample_filter"
LABEL_STD = "dataset_label_std"
_FILTER_SHAPE = (4, 4)

# Class: (resolution, channels) of both blocks, and whether a filter is stored at the top.
SUPERRESOLUTIONS: dict[str, tuple[tuple[tuple[int, int], tuple[int, int]], bool]] = {
    "SuperresolutionHybrid8XDC": (((256, 256), (512, 128)), False),
    "SuperresolutionHybrid8X": (((256, 128), (512, 64)), True),
    "SuperresolutionHybrid4X": (((128, 128), (256, 64)), True),
    "SuperresolutionHybrid2X": (((64, 128), (128, 64)), True),
}


def channels_at(architecture: Mapping[str, Any], side: int) -> int:
    """Returns the number of channels at a resolution.

    Args:
      architecture: Has channel_base and channel_max.
      side: Resolution in pixels.

    Returns:
      The number of channels.

    Source: Karras et al. 2020 (StyleGAN2); EG3D reference behaviour.
    """
    return min(architecture["channel_base"] // side, architecture["channel_max"])


def generator_shapes(architecture: Mapping[str, Any]) -> Shapes:
    """Lists the tensors of a generator (without the optional dataset_label_std).

    Args:
      architecture: As `generator_architecture` returns it.

    Returns:
      Shape by original name, in the original layout.

    Raises:
      WeightError: The super-resolution class is not known.

    Source: EG3D reference behaviour.
    """
    w_dim, kind = architecture["w_dim"], architecture["superresolution"]
    if kind not in SUPERRESOLUTIONS:
        raise errors.WeightError(
            f"super-resolution {kind} is not supported; supported are {', '.join(SUPERRESOLUTIONS)}"
        )
    blocks, has_filter = SUPERRESOLUTIONS[kind]
    shapes: Shapes = {}
    inputs = 0
    for side in _sides_up_to(architecture["plane_resolution"]):
        outputs = channels_at(architecture, side)
        prefix = f"backbone.synthesis.b{side}."
        rgb = architecture["plane_channels"]
        shapes.update(_synthesis_block(prefix, (inputs, outputs, rgb), side, w_dim))
        inputs = outputs
    shapes["backbone.mapping.w_avg"] = (w_dim,)
    first = architecture["z_dim"] + w_dim
    shapes.update(_mapping("backbone.mapping.", architecture, w_dim, first))
    if has_filter:
        shapes[f"superresolution.{FILTER}"] = _FILTER_SHAPE
    inputs = architecture["decoder_features"]
    for index, (side, outputs) in enumerate(blocks):
        prefix = f"superresolution.block{index}."
        rgb = architecture["img_channels"]
        shapes.update(_synthesis_block(prefix, (inputs, outputs, rgb), side, w_dim))
        inputs = outputs
    hidden, plane = architecture["decoder_hidden"], architecture["plane_channels"] // 3
    shapes.update(_linear("decoder.net.0.", plane, hidden))
    shapes.update(_linear("decoder.net.2.", hidden, 1 + architecture["decoder_features"]))
    return shapes


def discriminator_shapes(architecture: Mapping[str, Any]) -> Shapes:
    """Lists the tensors of a dual discriminator.

    Args:
      architecture: As `discriminator_architecture` returns it.

    Returns:
      Shape by original name, in the original layout.

    Source: EG3D reference behaviour.
    """
    shapes: Shapes = {FILTER: _FILTER_SHAPE}
    for side in reversed(_sides_up_to(architecture["img_resolution"])[1:]):
        inputs, outputs = channels_at(architecture, side), channels_at(architecture, side // 2)
        prefix = f"b{side}."
        shapes[prefix + FILTER] = _FILTER_SHAPE
        if side == architecture["img_resolution"]:
            colors = 2 * architecture["img_channels"]
            shapes.update(_conv(f"{prefix}fromrgb.", colors, inputs, 1))
        shapes.update(_conv(f"{prefix}conv0.", inputs, inputs, 3))
        shapes.update(_conv(f"{prefix}conv1.", inputs, outputs, 3))
        shapes[f"{prefix}skip.weight"] = (outputs, inputs, 1, 1)
        shapes[f"{prefix}skip.{FILTER}"] = _FILTER_SHAPE
    last, cmap_dim = channels_at(architecture, 4), architecture["cmap_dim"]
    shapes.update(_mapping("mapping.", architecture, cmap_dim, cmap_dim))
    shapes.update(_conv("b4.conv.", last + 1, last, 3))
    shapes.update(_linear("b4.fc.", last * 16, last))
    shapes.update(_linear("b4.out.", last, cmap_dim))
    return shapes


def generator_architecture(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Reads the numbers of a generator off the shapes of its tensors.

    Args:
      shapes: Shape by original name, in the original layout.

    Returns:
      z_dim, w_dim, c_dim, img_channels, channel_base, channel_max, num_mapping_layers, num_ws,
      plane_resolution, plane_channels (of all three planes together), decoder_hidden,
      decoder_features, superresolution.

    Raises:
      WeightError: A tensor that says one of them is missing.

    Source: EG3D reference behaviour.
    """
    w_dim, c_dim = _shape(shapes, "backbone.mapping.embed.weight", 2)
    channels = _channels(shapes, r"backbone\.synthesis\.b(\d{1,4})\.conv1\.weight")
    blocks = (_superresolution_block(shapes, 0), _superresolution_block(shapes, 1))
    known = {entry[0]: name for name, entry in SUPERRESOLUTIONS.items()}
    return {
        "z_dim": _shape(shapes, "backbone.mapping.fc0.weight", 2)[1] - w_dim,
        "w_dim": w_dim,
        "c_dim": c_dim,
        "img_channels": _shape(shapes, "superresolution.block1.torgb.bias", 1)[0],
        **_channel_rule(channels),
        "num_mapping_layers": _count_layers(shapes, "backbone.mapping."),
        "num_ws": 2 * len(channels),
        "plane_resolution": max(channels),
        "plane_channels": _shape(shapes, "backbone.synthesis.b4.torgb.bias", 1)[0],
        "decoder_hidden": _shape(shapes, "decoder.net.0.bias", 1)[0],
        "decoder_features": _shape(shapes, "decoder.net.2.bias", 1)[0] - 1,
        "superresolution": known.get(blocks, f"with blocks {blocks}"),
    }


def discriminator_architecture(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Reads the numbers of a dual discriminator off the shapes of its tensors.

    Args:
      shapes: Shape by original name, in the original layout.

    Returns:
      c_dim, cmap_dim, img_resolution, img_channels, channel_base, channel_max, num_mapping_layers.

    Raises:
      WeightError: A tensor that says one of them is missing.

    Source: EG3D reference behaviour.
    """
    cmap_dim, c_dim = _shape(shapes, "mapping.embed.weight", 2)
    channels = _channels(shapes, r"b(\d{1,4})\.conv0\.weight")
    channels[4] = _shape(shapes, "b4.conv.weight", 4)[0]
    side = max(channels)
    return {
        "c_dim": c_dim,
        "cmap_dim": cmap_dim,
        "img_resolution": side,
        "img_channels": _shape(shapes, f"b{side}.fromrgb.weight", 4)[1] // 2,
        **_channel_rule(channels),
        "num_mapping_layers": _count_layers(shapes, "mapping."),
    }


def _sides_up_to(resolution: int) -> list[int]:
    return [1 << power for power in range(2, resolution.bit_length())]


def _linear(prefix: str, inputs: int, outputs: int) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}weight", (outputs, inputs)
    yield f"{prefix}bias", (outputs,)


def _conv(prefix: str, inputs: int, outputs: int, kernel: int) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}weight", (outputs, inputs, kernel, kernel)
    yield f"{prefix}bias", (outputs,)
    yield f"{prefix}{FILTER}", _FILTER_SHAPE


def _mapping(
    prefix: str, architecture: Mapping[str, Any], width: int, first: int
) -> Iterator[tuple[str, Shape]]:
    yield from _linear(f"{prefix}embed.", architecture["c_dim"], width)
    for index in range(architecture["num_mapping_layers"]):
        yield from _linear(f"{prefix}fc{index}.", width if index else first, width)


def _synthesis_layer(
    prefix: str, inputs: int, outputs: int, side: int, w_dim: int
) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}weight", (outputs, inputs, 3, 3)
    yield f"{prefix}noise_strength", ()
    yield f"{prefix}bias", (outputs,)
    yield f"{prefix}{FILTER}", _FILTER_SHAPE
    yield f"{prefix}noise_const", (side, side)
    yield from _linear(f"{prefix}affine.", w_dim, inputs)


def _synthesis_block(
    prefix: str, widths: tuple[int, int, int], side: int, w_dim: int
) -> Iterator[tuple[str, Shape]]:
    """Yields a block's tensors; widths are its inputs (0: starts from a constant), outputs, rgb."""
    inputs, outputs, rgb = widths
    if not inputs:
        yield f"{prefix}const", (outputs, side, side)
    yield f"{prefix}{FILTER}", _FILTER_SHAPE
    if inputs:
        yield from _synthesis_layer(f"{prefix}conv0.", inputs, outputs, side, w_dim)
    yield from _synthesis_layer(f"{prefix}conv1.", outputs, outputs, side, w_dim)
    yield f"{prefix}torgb.weight", (rgb, outputs, 1, 1)
    yield f"{prefix}torgb.bias", (rgb,)
    yield from _linear(f"{prefix}torgb.affine.", w_dim, outputs)


def _shape(shapes: Mapping[str, Shape], name: str, rank: int) -> Shape:
    if name not in shapes:
        raise errors.WeightError(f"missing: {name} (the architecture cannot be read without it)")
    if len(shapes[name]) != rank:
        raise errors.WeightError(f"wrong shape: {name} has {len(shapes[name])} axes, not {rank}")
    return shapes[name]


def _channels(shapes: Mapping[str, Shape], pattern: str) -> dict[int, int]:
    """Returns output channels by resolution; each resolution must be a power of two from 4 on."""
    found: dict[int, int] = {}
    for name in shapes:
        match = re.fullmatch(pattern, name)
        if match:
            found[int(match[1])] = _shape(shapes, name, 4)[0]
    if not found or any(side < 4 or side & (side - 1) for side in found):
        raise errors.WeightError(
            f"missing: blocks named like {pattern}, b4 and up; not an EG3D net"
        )
    return found


def _channel_rule(channels: Mapping[int, int]) -> dict[str, int]:
    """Returns a channel_base and channel_max that give these channels, if any pair does."""
    base = max(width * side for side, width in channels.items())  # side * (base // side) <= base
    return {"channel_base": base, "channel_max": max(channels.values())}


def _superresolution_block(shapes: Mapping[str, Shape], index: int) -> tuple[int, int]:
    """Returns a block's resolution and channels."""
    prefix = f"superresolution.block{index}.conv1"
    side, _ = _shape(shapes, f"{prefix}.noise_const", 2)
    return side, _shape(shapes, f"{prefix}.weight", 4)[0]


def _count_layers(shapes: Mapping[str, Shape], prefix: str) -> int:
    return sum(bool(re.fullmatch(re.escape(prefix) + r"fc\d{1,3}\.weight", n)) for n in shapes)
