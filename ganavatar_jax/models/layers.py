"""Flax shells of the primitives in ops; they declare parameters and do nothing else.

Parameter names follow the original's state dict, so that a dotted name means the same tensor in
both; layouts differ (HWIO kernels, [in, out] matrices, NHWC constants).
"""

from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import generator_config
from ganavatar_jax.ops import bias_act, conv, fir, modulated_conv
from ganavatar_jax.ops import linear as linear_lib

Activation = Literal["linear", "lrelu"]


class Linear(nn.Module):
    """Equalised fully connected layer.

    Attributes:
      features: Output size.
      activation: "linear" or "lrelu" (slope 0.2, gain sqrt(2)).
      lr_multiplier: Run-time scale of weight and bias; weights start 1 / lr_multiplier larger.
      bias_init: Initial bias.
      use_bias: Whether there is a bias.

    Source: Karras et al. 2018 (equalised learning rate).
    """

    features: int
    activation: Activation = "linear"
    lr_multiplier: float = 1.0
    bias_init: float = 0.0
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        """Applies the layer."""
        init = nn.initializers.normal(1.0 / self.lr_multiplier)
        weight = self.param("weight", init, (x.shape[-1], self.features))
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.constant(self.bias_init), (self.features,))
        return linear_lib.linear(
            x, weight, bias, lr_multiplier=self.lr_multiplier, activation=self.activation
        )


class Conv(nn.Module):
    """Equalised convolution of the discriminator, optionally halving the size.

    Attributes:
      features: Output channels.
      kernel: 1 or 3.
      down: Whether the size halves.
      activation: "linear" or "lrelu".
      use_bias: Whether there is a bias.
      clamp: Limit of the output, or None.

    Source: Karras et al. 2020.
    """

    features: int
    kernel: int
    down: bool = False
    activation: Activation = "lrelu"
    use_bias: bool = True
    clamp: float | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], *, gain: float = 1.0
    ) -> Float[Array, "b h2 w2 o"]:
        """Applies the layer; `gain` scales the activation gain and the clamp."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        weight = self.param("weight", nn.initializers.normal(1.0), shape)
        weight = weight * (shape[0] * shape[1] * shape[2]) ** -0.5
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = conv.conv2d_down2(x, weight) if self.down else conv.conv2d(x, weight)
        return bias_act.bias_act(y, bias, activation=self.activation, gain=gain, clamp=self.clamp)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution with noise, bias and leaky ReLU.

    Attributes:
      features: Output channels.
      resolution: Output height and width, pixels.
      up: Whether the size doubles.
      clamp: Limit of the output, or None.

    Source: Karras et al. 2020, section 2.
    """

    features: int
    resolution: int
    up: bool = False
    clamp: float | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w i"],
        w: Float[Array, "b d"],
        noise: Float[Array, "b h2 w2"] | Literal["const", "none"],
    ) -> Float[Array, "b h2 w2 o"]:
        """Applies the layer; `noise` is a map per sample, the stored map, or nothing."""
        channels = x.shape[-1]
        size = (self.resolution, self.resolution)
        weight = self.param("weight", nn.initializers.normal(1.0), (3, 3, channels, self.features))
        strength = self.param("noise_strength", nn.initializers.zeros, ())
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        constant = self.variable(
            "buffers",
            "noise_const",
            lambda: jax.random.normal(self.make_rng("params"), size),
        )
        style = Linear(channels, bias_init=1.0, name="affine")(w)
        y = modulated_conv.modulated_conv2d(x, weight, style, up=self.up)
        if isinstance(noise, str):
            if noise == "const":
                y = y + (constant.value * strength).astype(y.dtype)[None, :, :, None]
        else:
            y = y + (noise * strength).astype(y.dtype)[..., None]
        return bias_act.bias_act(y, bias, activation="lrelu", clamp=self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to image (or plane) channels, without demodulation.

    Attributes:
      features: Output channels.
      clamp: Limit of the output, or None.

    Source: Karras et al. 2020.
    """

    features: int
    clamp: float | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], w: Float[Array, "b d"]
    ) -> Float[Array, "b h w o"]:
        """Applies the layer."""
        channels = x.shape[-1]
        weight = self.param("weight", nn.initializers.normal(1.0), (1, 1, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        style = Linear(channels, bias_init=1.0, name="affine")(w) * channels**-0.5
        y = modulated_conv.modulated_conv2d(x, weight, style, demodulate=False)
        return bias_act.bias_act(y, bias, clamp=self.clamp)


class SynthesisBlock(nn.Module):
    """Two modulated convolutions and a toRGB that adds to the image so far ("skip" architecture).

    Attributes:
      features: Output channels of both convolutions.
      resolution: Output height and width, pixels.
      image_channels: Channels of the accumulated image.
      up: Whether the block doubles the size.
      first: Whether the block starts from its own constant (then there is no conv0).
      clamp: Limit of activations, or None.
      dtype: Precision of the convolutions; the image is always float32.

    Source: Karras et al. 2020, section 4.1.
    """

    features: int
    resolution: int
    image_channels: int
    up: bool = True
    first: bool = False
    clamp: float | None = None
    dtype: generator_config.HalfDtype = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w i"] | None,
        image: Float[Array, "b h w o"] | None,
        ws: Float[Array, "b l d"],
        noise: Mapping[str, Array] | Literal["const", "none"],
    ) -> tuple[Float[Array, "b h2 w2 k"], Float[Array, "b h2 w2 o"]]:
        """Applies the block; `ws` holds one row for each of its layers, in order."""

        def noise_of(name: str) -> Array | Literal["const", "none"]:
            return noise if isinstance(noise, str) else noise[name]

        if self.first:
            shape = (self.resolution, self.resolution, self.features)
            const = self.param("const", nn.initializers.normal(1.0), shape)
            x = jnp.broadcast_to(const[None], (ws.shape[0], *shape)).astype(self.dtype)
            rows = iter(range(ws.shape[1]))
        else:
            rows = iter(range(ws.shape[1]))
            assert x is not None  # only the first block starts from nothing
            x = x.astype(self.dtype)
            x = SynthesisLayer(
                self.features, self.resolution, up=self.up, clamp=self.clamp, name="conv0"
            )(x, ws[:, next(rows)], noise_of("conv0"))
        x = SynthesisLayer(self.features, self.resolution, clamp=self.clamp, name="conv1")(
            x, ws[:, next(rows)], noise_of("conv1")
        )
        y = ToRGB(self.image_channels, clamp=self.clamp, name="torgb")(x, ws[:, next(rows)])
        y = y.astype(jnp.float32)
        if image is not None:
            y = (fir.upsample_2x(image) if self.up else image) + y
        return x, y
