"""Image encoder: a posed image to the latent z that the generator turns back into it.

The first entries are a fixed reading of the face (`face_reader`): the expression. The others come
from a network that is trained: who it is; or, for one person, they are a constant, or tell how
this very face varies.

Not part of the original method. Where no pretrained generator is at hand, encoder and generator
trained together on the reconstruction of posed images learn a person's head in minutes, and the
adversarial phases then take over; see GanConfig.reconstruction.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import chunks, image_sequences, images
from ganavatar_jax.core.arrays import Array, Float, PRNGKeyArray
from ganavatar_jax.models import encoder_config, face_reader, layers, synthesis

_PROBE_WIDTH = 64
_IDENTITY_FRAMES = 256  # enough for the mean of a person
_READER_FRAMES = 2**14  # enough for the 2,304 pixels of a face; 1.1 GB while it is fitted
_CHUNK_PIXELS = 2**22  # of images in float32 that are looked at at once


class Probe(nn.Module):
    """A small network that tells something of the latent; trained beside the encoder.

    Attributes:
      features: How many numbers it tells.

    Source: ours; adversarial probes after Ganin and Lempitsky 2015.
    """

    features: int

    @nn.compact
    def __call__(self, z: Float[Array, "b z"]) -> Float[Array, "b e"]:
        """Tells the numbers."""
        hidden = layers.Linear(_PROBE_WIDTH, activation="lrelu", name="fc0")(z)
        return layers.Linear(self.features, name="out")(hidden)


class Encoder(nn.Module):
    """Strided convolutions down to 4x4, then one linear layer.

    Attributes:
      config: Sizes.
      resolution: Side of the images, pixels.
      z_dim: Length of the latent.

    Source: ours; equalised layers of Karras et al. 2018.
    """

    config: encoder_config.EncoderConfig
    resolution: int
    z_dim: int

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b z"]:
        """Encodes images to latents (of any length: the mapping normalises them)."""
        x = image
        for side in reversed(synthesis.block_resolutions(self.resolution, first=8)):
            width = synthesis.channels_at(
                side, base=self.config.channel_base, maximum=self.config.channel_max
            )
            x = layers.Conv(width, 3, down=True, name=f"b{side}")(x)
        return layers.Linear(self.z_dim, name="out")(x.reshape(x.shape[0], -1))


def init(
    key: PRNGKeyArray, config: encoder_config.EncoderConfig, *, resolution: int, z_dim: int
) -> dict[str, Any]:
    """Makes fresh variables; their buffers are to be filled by `settle`.

    Args:
      key: Random key.
      config: Sizes.
      resolution: Side of the images, pixels.
      z_dim: Length of the latent.

    Returns:
      {"params": ..., "buffers": {"reader": ..., "identity": ...}} as plain nested dicts.

    Source: Karras et al. 2018 (unit normal weights, equalised at run time).
    """
    image = jnp.zeros((1, resolution, resolution, 3))
    size, read = z_dim - config.face_dim, config.read_dim(z_dim)
    trunk = jax.jit(Encoder(config, resolution, size).init)(key, image)
    return {
        "params": trunk["params"],
        "buffers": {
            "reader": face_reader.blank(read) if read else {},
            "identity": jnp.zeros((size,)),
        },
    }


def settle(
    variables: dict[str, Any],
    config: encoder_config.EncoderConfig,
    image_u8: image_sequences.Images,
    label25: Float[np.ndarray, "f 25"],
    *,
    z_dim: int,
    codes: Float[np.ndarray, "f e"] | None = None,
    fitted: bool = False,
) -> dict[str, Any]:
    """Fills the buffers from the frames that will be trained on.

    Memory is bounded: of more than 16,384 frames, that many evenly chosen ones fit the reading of
    faces, and at most 256 tell who the person is. All others are not looked at.

    Args:
      variables: What `init` returned, or those of a start.
      config: Sizes.
      image_u8: Training frames, 0..255, [f h w 3].
      label25: Their cameras.
      z_dim: Length of the latent.
      codes: The frames' codes, to fit the reading of faces to.
      fitted: Whether the first numbers of the reading are fitted already, and only to be centred
        on these frames.

    Returns:
      The variables with new buffers.

    Raises:
      ValueError: there are too few frames or codes to fit the reading to.
    """
    reader = variables["buffers"].get("reader", {})  # files have no empty branches
    if config.face_dim:
        rows = image_sequences.spread_evenly(len(image_u8), most=_READER_FRAMES)
        seen = image_sequences.Rows(image_u8, rows), label25[rows]
        codes = None if codes is None else codes[rows]
        own = config.read_dim(z_dim) - config.face_dim
        if fitted:
            reader = face_reader.adapt(reader, *seen, size=config.face_dim)
        else:
            size = config.face_dim + (own if codes is None else 0)
            reader = face_reader.fit(*seen, size=size, codes=codes)
        if own and (fitted or codes is not None):
            reader = face_reader.extend(reader, *seen, size=own)
    network = Encoder(config, image_u8.shape[1], z_dim - config.face_dim)
    look = jax.jit(lambda p, i: _unit(network.apply({"params": p}, images.from_u8(i))))
    chosen = image_u8[:: -(-len(image_u8) // _IDENTITY_FRAMES)]
    chunk = max(1, _CHUNK_PIXELS // math.prod(image_u8.shape[1:3]))
    told = chunks.map_in_chunks(lambda i: look(variables["params"], i), chosen, chunk=chunk)
    mean = jnp.mean(told, axis=0, keepdims=True)
    return {
        **variables,
        "buffers": {"reader": jax.tree.map(jnp.asarray, reader), "identity": _unit(mean)[0]},
    }


def apply(
    variables: dict[str, Any],
    image: Float[Array, "b h w 3"],
    label25: Float[Array, "b 25"],
    config: encoder_config.EncoderConfig,
    *,
    z_dim: int,
) -> Float[Array, "b z"]:
    """Encodes images.

    Args:
      variables: Encoder variables.
      image: Images, [-1, 1].
      label25: Their cameras.
      config: Sizes.
      z_dim: Length of the latent.

    Returns:
      One latent an image, with root mean square one.
    """
    parts: list[Any] = []
    if config.face_dim:
        told = face_reader.read(variables["buffers"]["reader"], image, label25)
        parts.append(jax.lax.stop_gradient(told))
    size = z_dim - config.read_dim(z_dim)
    if config.identity == "mean":
        identity = variables["buffers"]["identity"][None]
        parts.append(jnp.broadcast_to(identity, (image.shape[0], size)))
    elif config.identity == "learned":
        network = Encoder(config, image.shape[1], size)
        parts.append(_unit(network.apply({"params": variables["params"]}, image)))
    return _unit(jnp.concatenate(parts, axis=-1))


def _unit(z: Any) -> Array:
    """Scales latents to root mean square one."""
    return z * jax.lax.rsqrt(jnp.mean(jnp.square(z), axis=-1, keepdims=True) + 1e-8)


def init_probe(key: PRNGKeyArray, *, z_dim: int, features: int) -> dict[str, Any]:
    """Makes fresh parameters of a probe.

    Args:
      key: Random key.
      z_dim: Length of the latent.
      features: How many numbers it tells.

    Returns:
      Parameters as plain nested dicts.

    Source: Karras et al. 2018 (unit normal weights, equalised at run time).
    """
    return jax.jit(Probe(features).init)(key, jnp.zeros((1, z_dim)))["params"]


def apply_probe(
    params: dict[str, Any], z: Float[Array, "b z"], *, features: int
) -> Float[Array, "b e"]:
    """Tells numbers of latents.

    Args:
      params: Parameters of the probe.
      z: Latents.
      features: How many numbers it tells.

    Returns:
      The numbers.
    """
    told: Any = Probe(features).apply({"params": params}, z)
    return told


def reverse_gradient(z: Float[Array, "b z"], strength: float) -> Float[Array, "b z"]:
    """Passes latents on and sends their gradient back with the opposite sign.

    Args:
      z: Latents.
      strength: Factor on the reversed gradient.

    Returns:
      The same values.

    Source: Ganin and Lempitsky 2015 (gradient reversal).
    """
    return z + (1.0 + strength) * (jax.lax.stop_gradient(z) - z)
