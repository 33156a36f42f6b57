"""Tri-plane generator: latent and camera to image, rendered image and depth.

`init` makes variables {"params", "buffers"}; everything else is a pure function of them. Random
draws come in as `GeneratorDraws`; `draws=None` renders deterministically (midpoint samples and the
stored noise maps).
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganavatar_jax.core import rng, trees
from ganavatar_jax.core.arrays import Array, Float, Int, PRNGKeyArray
from ganavatar_jax.geometry import rays
from ganavatar_jax.models import decoder, layers, mapping, synthesis
from ganavatar_jax.models import superresolution as superresolution_lib
from ganavatar_jax.rendering import triplane, volume

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Sizes and options of the generator.

    Attributes:
      img_resolution: Side of the final image, pixels.
      neural_resolution: Side of the rendered image, pixels (a training schedule may override it).
      z_dim: Length of the latent.
      w_dim: Length of the intermediate latent.
      label_dim: Length of the camera label.
      mapping_layers: Fully connected layers of the mapping.
      plane_resolution: Side of the planes, texels.
      plane_channels: Features of one plane.
      channel_base: Channels times side of a synthesis block.
      channel_max: Most channels of a synthesis block.
      num_half_res: How many of the largest synthesis blocks use half_dtype.
      half_dtype: Low precision for the convolutions that may have it, or "float32".
      conv_clamp: Limit of the synthesis activations, or None.
      decoder_hidden: Hidden width of the decoder.
      decoder_features: Colour features of a sample; the first three are the rendered image.
      decoder_lr_multiplier: Run-time scale of the decoder's weights.
      superresolution: Kind, "none" to put out the rendered image.
      superresolution_channels: Channels of its blocks; empty means the kind's own.
      superresolution_half: Whether it uses half_dtype.
      superresolution_clamp: Limit of its activations, or None.
      superresolution_antialias: Whether resizing its input is antialiased.
      condition_on_camera: Whether the mapping sees the camera; GAN-Avatar's does not.
      condition_scale: Multiplies the camera label of the mapping.
      render: Ray sampling.
    """

    img_resolution: int = 512
    neural_resolution: int = 128
    z_dim: int = 512
    w_dim: int = 512
    label_dim: int = 25
    mapping_layers: int = 2
    plane_resolution: int = 256
    plane_channels: int = 32
    channel_base: int = 32768
    channel_max: int = 512
    num_half_res: int = 0
    half_dtype: layers.HalfDtype = "float32"
    conv_clamp: float | None = None
    decoder_hidden: int = 64
    decoder_features: int = 32
    decoder_lr_multiplier: float = 1.0
    superresolution: superresolution_lib.Kind = "8XDC"
    superresolution_channels: tuple[int, ...] = ()
    superresolution_half: bool = True
    superresolution_clamp: float | None = 256.0
    superresolution_antialias: bool = True
    condition_on_camera: bool = False
    condition_scale: float = 1.0
    render: volume.RenderConfig = dataclasses.field(default_factory=volume.RenderConfig)

    def __post_init__(self) -> None:
        for name in ("img_resolution", "plane_resolution"):
            side = getattr(self, name)
            if side < 8 or side & (side - 1):
                raise ValueError(f"{name} must be a power of two and at least 8; got {side}.")
        if self.superresolution == "none" and self.neural_resolution != self.img_resolution:
            raise ValueError(
                f"without super-resolution neural_resolution must equal img_resolution; got "
                f"{self.neural_resolution} and {self.img_resolution}."
            )
        if self.superresolution == "4X" and 2 * self.neural_resolution > self.img_resolution:
            raise ValueError(
                f"4X only enlarges: neural_resolution must be at most half of img_resolution; got "
                f"{self.neural_resolution} and {self.img_resolution}."
            )
        if len(self.superresolution_channels) not in (0, 2):
            raise ValueError(
                f"superresolution_channels must be empty or two numbers; got "
                f"{self.superresolution_channels}."
            )
        if self.decoder_features < 3:
            raise ValueError(f"decoder_features must be at least 3; got {self.decoder_features}.")

    @property
    def num_ws(self) -> int:
        """Number of latents the synthesis network takes."""
        return synthesis.count_ws(self.plane_resolution)

    @classmethod
    def tiny(cls) -> "GeneratorConfig":
        """Returns a configuration small enough for unit tests."""
        return cls(
            img_resolution=32,
            neural_resolution=16,
            z_dim=16,
            w_dim=16,
            plane_resolution=16,
            plane_channels=4,
            channel_base=128,
            channel_max=8,
            decoder_hidden=8,
            decoder_features=6,
            superresolution="2X",
            superresolution_channels=(8, 8),
            render=volume.RenderConfig(depth_resolution=4, depth_resolution_importance=4),
        )


@trees.pytree_dataclass
class GeneratorDraws:
    """Random draws of one synthesis.

    Attributes:
      noise: Noise maps of the synthesis layers, [b h w] each.
      render: Draws of the renderer.
    """

    noise: Any
    render: volume.RenderDraws


@trees.pytree_dataclass
class GeneratorOutput:
    """Images of one synthesis.

    Attributes:
      image: Final image, nominally in [-1, 1], not clamped.
      image_raw: Rendered image at the neural resolution.
      depth: Mean distance from the camera, world units.
      opacity: Sum of compositing weights in [0, 1].
    """

    image: Float[Array, "b h w 3"]
    image_raw: Float[Array, "b r r 3"]
    depth: Float[Array, "b r r"]
    opacity: Float[Array, "b r r"]


class _Backbone(nn.Module):
    config: GeneratorConfig

    def setup(self) -> None:
        cfg = self.config
        self.mapping = mapping.Mapping(
            cfg.w_dim, cfg.mapping_layers, has_latent=True, has_average=True
        )
        self.synthesis = synthesis.Synthesis(
            cfg.plane_resolution,
            3 * cfg.plane_channels,
            cfg.channel_base,
            cfg.channel_max,
            num_half_res=cfg.num_half_res,
            half_dtype=cfg.half_dtype,
            clamp=cfg.conv_clamp,
        )


class Generator(nn.Module):
    """The generator's parameters; its methods are the stages.

    Attributes:
      config: Sizes and options.

    Source: EG3D (Chan et al. 2022); GAN-Avatar (Kabadayi et al. 2024) for the options.
    """

    config: GeneratorConfig

    def setup(self) -> None:
        """Declares the submodules under the original's names."""
        cfg = self.config
        self.backbone = _Backbone(cfg)
        self.decoder = decoder.Decoder(
            cfg.decoder_hidden, cfg.decoder_features, cfg.decoder_lr_multiplier
        )
        if cfg.superresolution != "none":
            self.superresolution = superresolution_lib.SuperResolution(
                cfg.superresolution,
                cfg.img_resolution,
                cfg.superresolution_channels,
                antialias=cfg.superresolution_antialias,
                clamp=cfg.superresolution_clamp,
                dtype=cfg.half_dtype if cfg.superresolution_half else "float32",
            )

    def map(self, z: Float[Array, "b z"], label25: Float[Array, "b 25"]) -> Float[Array, "b d"]:
        """Maps latent and conditioning label to one w a sample."""
        cfg = self.config
        scale = cfg.condition_scale if cfg.condition_on_camera else 0.0
        return self.backbone.mapping(z, label25 * scale)

    def planes(
        self, ws: Float[Array, "b l d"], noise: synthesis.Noise
    ) -> Float[Array, "b p h w c"]:
        """Synthesises the three feature planes."""
        flat = self.backbone.synthesis(ws, noise)
        batch, side = flat.shape[:2]
        split = flat.reshape(batch, side, side, 3, self.config.plane_channels)
        return jnp.moveaxis(split, 3, 1)

    def decode(self, plane_features: Float[Array, "b p n c"]) -> tuple[Array, Array]:
        """Decodes plane features of points to (colour features, raw density)."""
        return self.decoder(plane_features)

    def enlarge(
        self, rgb: Float[Array, "b h w 3"], features: Float[Array, "b h w c"], ws: Array
    ) -> Float[Array, "b h2 w2 3"]:
        """Applies the super-resolution, or returns rgb where there is none."""
        if self.config.superresolution == "none":
            return rgb
        return self.superresolution(rgb, features, ws)

    def __call__(self, z: Array, label25: Array) -> Array:
        """Runs every submodule once on tiny inputs, to create the variables."""
        cfg = self.config
        w = self.map(z, label25)
        ws = jnp.repeat(w[:, None], cfg.num_ws, axis=1)
        plane_features = self.planes(ws, "const")[:, :, :1, 0]
        colors, _ = self.decode(plane_features)
        side = 8
        features = jnp.zeros((z.shape[0], side, side, cfg.decoder_features)) + colors[:, :, None]
        return self.enlarge(features[..., :3], features, ws)


def init(key: PRNGKeyArray, config: GeneratorConfig) -> Variables:
    """Makes fresh variables.

    Args:
      key: Random key.
      config: Sizes.

    Returns:
      {"params": ..., "buffers": ...} as plain nested dicts.

    Source: Karras et al. 2020 (unit normal weights, equalised at run time).
    """
    z = jnp.zeros((1, config.z_dim))
    label = jnp.zeros((1, config.label_dim))
    return jax.jit(Generator(config).init)(key, z, label)


def map_latent(
    variables: Variables,
    z: Float[Array, "b z"],
    label25: Float[Array, "b 25"],
    config: GeneratorConfig,
) -> Float[Array, "b d"]:
    """Maps latents to w.

    Args:
      variables: Generator variables.
      z: Standard normal latents.
      label25: Conditioning cameras; ignored unless config.condition_on_camera.
      config: Options.

    Returns:
      One w a sample.

    Source: EG3D (Chan et al. 2022), section 4.
    """
    return Generator(config).apply(variables, z, label25, method="map")


def broadcast(w: Float[Array, "b d"], config: GeneratorConfig) -> Float[Array, "b l d"]:
    """Repeats w for every layer.

    Args:
      w: One latent a sample.
      config: Sizes.

    Returns:
      ws, identical rows.

    Source: Karras et al. 2019.
    """
    return jnp.repeat(w[:, None], config.num_ws, axis=1)


def make_draws(
    key: PRNGKeyArray | None, ids: Int[Array, " b"], config: GeneratorConfig, *, resolution: int
) -> GeneratorDraws | None:
    """Draws what one synthesis needs, per sample.

    Args:
      key: Random key; None stands for the deterministic synthesis.
      ids: Global sample ids.
      config: Options.
      resolution: Neural resolution, pixels.

    Returns:
      The draws, or None.

    Source: ours.
    """
    if key is None:
        return None
    noise = make_noise(rng.stream(key, "noise"), ids, config)
    render = volume.make_draws(
        rng.stream(key, "render"), ids, config.render, rays=resolution * resolution
    )
    return GeneratorDraws(noise=noise, render=render)


def make_noise(
    key: PRNGKeyArray, ids: Int[Array, " b"], config: GeneratorConfig
) -> dict[str, dict[str, Float[Array, "b h w"]]]:
    """Draws the noise maps of the synthesis layers.

    Args:
      key: Random key.
      ids: Global sample ids.
      config: Sizes.

    Returns:
      One map for each sample and convolution.

    Source: Karras et al. 2019.
    """
    return synthesis.draw_noise(key, ids, resolution=config.plane_resolution)


def make_planes(
    variables: Variables,
    ws: Float[Array, "b l d"],
    config: GeneratorConfig,
    *,
    noise: synthesis.Noise = "const",
) -> Float[Array, "b p h w c"]:
    """Synthesises the feature planes of latents.

    Args:
      variables: Generator variables.
      ws: One latent per layer.
      config: Options.
      noise: Drawn maps, "const" (stored maps) or "none".

    Returns:
      Three planes a sample.

    Source: EG3D (Chan et al. 2022), section 4.1.
    """
    return Generator(config).apply(variables, ws, noise, method="planes")


def query(
    variables: Variables,
    planes: Float[Array, "b p h w c"],
    points: Float[Array, "b n 3"],
    config: GeneratorConfig,
) -> tuple[Float[Array, "b n k"], Float[Array, "b n"]]:
    """Evaluates the radiance field at points.

    Args:
      variables: Generator variables.
      planes: Feature planes.
      points: World units.
      config: Options.

    Returns:
      colors: Colour features in (-0.001, 1.001).
      density: Raw density (before softplus).

    Source: EG3D (Chan et al. 2022), section 4.1.
    """
    features = triplane.lookup(
        planes, points, axes=config.render.plane_axes, box_warp=config.render.box_warp
    )
    return Generator(config).apply(variables, features, method="decode")


def render_planes(
    variables: Variables,
    planes: Float[Array, "b p h w c"],
    ws: Float[Array, "b l d"],
    label25: Float[Array, "b 25"],
    config: GeneratorConfig,
    *,
    draws: volume.RenderDraws | None = None,
    resolution: int | None = None,
) -> GeneratorOutput:
    """Renders given planes from cameras and applies the super-resolution.

    Args:
      variables: Generator variables.
      planes: Feature planes.
      ws: Latents, for the super-resolution.
      label25: Cameras to render from.
      config: Options.
      draws: Draws of the renderer; None is deterministic.
      resolution: Neural resolution, pixels; None takes the configured one.

    Returns:
      The images.

    Source: EG3D (Chan et al. 2022), sections 4.2 and 4.3.
    """
    side = config.neural_resolution if resolution is None else resolution
    batch = label25.shape[0]
    origins, directions = rays.pixel_rays(
        label25[:, :16].reshape(batch, 4, 4), label25[:, 16:].reshape(batch, 3, 3), resolution=side
    )
    with jax.named_scope("render"):
        out = volume.render(
            lambda points: query(variables, planes, points, config),
            origins,
            directions,
            draws if draws is not None else volume.RenderDraws(coarse=None, fine=None),
            config.render,
        )
    features = out.features.reshape(batch, side, side, -1)
    rgb = features[..., :3]
    with jax.named_scope("superresolution"):
        image = Generator(config).apply(variables, rgb, features, ws, method="enlarge")
    return GeneratorOutput(
        image=image,
        image_raw=rgb,
        depth=out.t_expected.reshape(batch, side, side),
        opacity=out.opacity.reshape(batch, side, side),
    )


def synthesize(
    variables: Variables,
    ws: Float[Array, "b l d"],
    label25: Float[Array, "b 25"],
    config: GeneratorConfig,
    *,
    draws: GeneratorDraws | None = None,
    noise: Literal["const", "none"] = "const",
    resolution: int | None = None,
) -> GeneratorOutput:
    """Synthesises images of latents seen from cameras.

    Args:
      variables: Generator variables.
      ws: One latent per layer.
      label25: Cameras to render from.
      config: Options.
      draws: Random draws; None is deterministic: midpoint samples and `noise`.
      noise: Which noise a deterministic synthesis adds: the stored maps or none.
      resolution: Neural resolution, pixels; None takes the configured one.

    Returns:
      The images.

    Source: EG3D (Chan et al. 2022), section 4.
    """
    with jax.named_scope("synthesis"):
        planes = make_planes(variables, ws, config, noise=noise if draws is None else draws.noise)
    return render_planes(
        variables,
        planes,
        ws,
        label25,
        config,
        draws=None if draws is None else draws.render,
        resolution=resolution,
    )
