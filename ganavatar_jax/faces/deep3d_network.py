"""The regressor of Deep3DFaceRecon: an aligned face to 257 coefficients of a 3D face model.

A ResNet-50 whose stride lies on the 3 x 3 convolution, global average pooling, and seven parallel
1 x 1 convolutions. Variables are {"params", "buffers"}, nested by the original's names, kernels
HWIO; widths and depths are read off them. Batch normalisation uses the stored statistics.

Source: Deng et al. 2019, "Accurate 3D Face Reconstruction with Weakly-Supervised Learning"; He et
al. 2016 (ResNet).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core.arrays import Array, Float

INPUT_PX = 224
BLOCKS = (3, 4, 6, 3)  # of ResNet-50
# Name and size of each head, in the order in which they are concatenated.
HEADS = (
    ("identity", 80),
    ("expression", 64),
    ("texture", 80),
    ("angles", 3),
    ("lighting", 27),
    ("translation_xy", 2),
    ("translation_z", 1),
)
_EPSILON = 1e-5  # of the batch normalisation

Variables = Mapping[str, Any]


class Coefficients(NamedTuple):
    """The regressor's output by meaning.

    Attributes:
      identity: Shape of the person.
      expression: Shape of the expression; what drives an avatar.
      texture: Albedo.
      angles: Euler angles of the head, radians.
      lighting: Spherical harmonics, nine for each of three colours.
      translation: Position of the head, decimetres, z towards the camera.
    """

    identity: Float[np.ndarray | Array, "b 80"]
    expression: Float[np.ndarray | Array, "b 64"]
    texture: Float[np.ndarray | Array, "b 80"]
    angles: Float[np.ndarray | Array, "b 3"]
    lighting: Float[np.ndarray | Array, "b 27"]
    translation: Float[np.ndarray | Array, "b 3"]


def apply(variables: Variables, image: Float[Array, "b h w 3"]) -> Float[Array, "b k"]:
    """Regresses coefficients.

    Args:
      variables: Parameters and running statistics.
      image: Aligned faces, RGB in [0, 1], without any other normalisation.

    Returns:
      All heads' coefficients, concatenated; 257 with the published sizes.

    Source: Deng et al. 2019, section 3; spatial sizes as in He et al. 2016.
    """
    params, statistics = variables["params"], variables["buffers"]
    backbone, moments = params["backbone"], statistics["backbone"]
    x = _conv(image, backbone["conv1"]["weight"], stride=2)
    x = jax.nn.relu(_normalize(x, backbone["bn1"], moments["bn1"]))
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)
    for stage in range(1, len(BLOCKS) + 1):
        blocks, block_moments = backbone[f"layer{stage}"], moments[f"layer{stage}"]
        for index in range(len(blocks)):
            stride = 2 if stage > 1 and index == 0 else 1
            x = _bottleneck(x, blocks[str(index)], block_moments[str(index)], stride=stride)
    pooled = jnp.mean(x, axis=(1, 2), keepdims=True)
    heads = params["final_layers"]
    outputs = [
        _conv(pooled, heads[str(i)]["weight"]) + heads[str(i)]["bias"][None, None, None]
        for i in range(len(heads))
    ]
    return jnp.concatenate(outputs, axis=-1)[:, 0, 0]


def split(coefficients: Float[np.ndarray | Array, "b 257"]) -> Coefficients:
    """Names the parts of the regressor's output.

    Args:
      coefficients: Output of `apply`.

    Returns:
      The parts.

    Source: Deng et al. 2019, section 3.
    """
    parts, start = {}, 0
    for name, size in HEADS:
        parts[name] = coefficients[:, start : start + size]
        start += size
    xy, z = parts.pop("translation_xy"), parts.pop("translation_z")
    join = np.concatenate if isinstance(xy, np.ndarray) else jnp.concatenate
    return Coefficients(**parts, translation=join([xy, z], axis=1))


def _bottleneck(x: Array, block: Variables, moments: Variables, *, stride: int) -> Array:
    skip = x
    if "downsample" in block:
        skip = _conv(x, block["downsample"]["0"]["weight"], stride=stride)
        skip = _normalize(skip, block["downsample"]["1"], moments["downsample"]["1"])
    x = jax.nn.relu(_normalize(_conv(x, block["conv1"]["weight"]), block["bn1"], moments["bn1"]))
    x = _conv(x, block["conv2"]["weight"], stride=stride)
    x = jax.nn.relu(_normalize(x, block["bn2"], moments["bn2"]))
    x = _normalize(_conv(x, block["conv3"]["weight"]), block["bn3"], moments["bn3"])
    return jax.nn.relu(x + skip)


def _conv(x: Array, kernel: Array, *, stride: int = 1) -> Array:
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,  # the default is less than float32 on accelerators
    )


def _normalize(x: Array, layer: Variables, moments: Variables) -> Array:
    scale = layer["weight"] * jax.lax.rsqrt(moments["running_var"] + _EPSILON)
    offset = layer["bias"] - moments["running_mean"] * scale
    return x * scale[None, None, None] + offset[None, None, None]
