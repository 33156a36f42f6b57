"""Building blocks of the plain PyTorch networks: equalised layers, filters, modulated convolutions.

Axes are NCHW, memory is channels last, where filters and lookups are two to three times as fast on
CPUs. Parameter names are the original's, so that a state dict fits. Forms were chosen by speed
among those that a PyTorch programmer would write.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAIN = math.sqrt(2.0)
TAPS = (0.125, 0.375, 0.375, 0.125)  # [1, 3, 3, 1] / 8


def activate(
    x: Tensor, bias: Tensor | None, *, lrelu: bool, gain: float = 1.0, clamp: float | None = None
) -> Tensor:
    """Adds a bias, applies leaky ReLU with gain sqrt(2) or nothing, then gain and clamp.

    Without gradients it works in place on x, which is always a layer's fresh result.
    """
    if torch.is_grad_enabled():
        x = x if bias is None else x + bias.view(1, -1, 1, 1)
        x = F.leaky_relu(x, 0.2) * (GAIN * gain) if lrelu else x if gain == 1.0 else x * gain
        return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)
    if bias is not None:
        x.add_(bias.view(1, -1, 1, 1))
    if lrelu:
        F.leaky_relu_(x, 0.2).mul_(GAIN * gain)
    elif gain != 1.0:
        x.mul_(gain)
    return x if clamp is None else x.clamp_(-clamp * gain, clamp * gain)


def kernel_2d(x: Tensor, gain: float) -> Tensor:
    """Returns the [1, 3, 3, 1] filter for every channel of x, as a depthwise kernel."""
    taps = x.new_tensor(TAPS)
    return (gain * torch.outer(taps, taps)).expand(x.shape[1], 1, 4, 4).contiguous()


def smooth(x: Tensor, *, pad: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Filters with [1, 3, 3, 1] after padding; a depthwise convolution."""
    return F.conv2d(x, kernel_2d(x, gain), stride=stride, padding=pad, groups=x.shape[1])


def enlarge(x: Tensor) -> Tensor:
    """Doubles the size with [1, 3, 3, 1]: bilinear, with zeros outside."""
    padded = F.pad(x, (1, 1, 1, 1))
    doubled = F.interpolate(padded, scale_factor=2, mode="bilinear", align_corners=False)
    return doubled[..., 2:-2, 2:-2]


def resize(x: Tensor, side: int) -> Tensor:
    """Resizes bilinearly with antialiasing."""
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)


class Linear(nn.Module):
    """Equalised fully connected layer."""

    def __init__(
        self, inputs: int, outputs: int, *, lrelu: bool = False, multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.lrelu, self.multiplier = lrelu, multiplier
        self.gain = multiplier / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer."""
        bias = self.bias if self.multiplier == 1.0 else self.bias * self.multiplier
        y = F.linear(x, self.weight * self.gain, bias)
        return F.leaky_relu(y, 0.2) * GAIN if self.lrelu else y


class Conv(nn.Module):
    """Equalised convolution of the discriminator, which may halve the size."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        down: bool = False,
        plain: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = None if plain else nn.Parameter(torch.zeros(outputs))
        self.down, self.plain, self.clamp = down, plain, clamp
        self.gain = 1.0 / math.sqrt(inputs * kernel**2)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Applies the layer."""
        weight, size = self.weight * self.gain, self.weight.shape[-1]
        if not self.down:
            y = F.conv2d(x, weight, padding=size // 2)
        elif size == 1:
            y = F.conv2d(smooth(x, pad=1, stride=2), weight)
        else:
            y = F.conv2d(smooth(x, pad=2), weight, stride=2)
        return activate(y, self.bias, lrelu=not self.plain, gain=gain, clamp=self.clamp)


def modulated_conv(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False
) -> Tensor:
    """Convolves with weights scaled for each sample.

    One image at inference has its own weights; otherwise the images are scaled before and after,
    which is the same in exact numbers and faster on CPUs than a group of weights a sample.
    """
    if len(x) > 1 or torch.is_grad_enabled():
        y = _convolve(x * style[:, :, None, None], weight, up=up)
        if demodulate:
            energy = F.linear(style.square(), weight.square().sum((2, 3)))
            y = y * (energy + 1e-8).rsqrt()[:, :, None, None]
        return y
    scaled = weight * style.view(1, -1, 1, 1)
    if demodulate:
        scaled = scaled * (scaled.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
    return _convolve(x, scaled, up=up)


def _convolve(x: Tensor, weight: Tensor, *, up: bool) -> Tensor:
    """Convolves, or doubles the size by a transposed convolution and the filter."""
    if not up:
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    return smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), pad=1, gain=4.0)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        side: int,
        *,
        up: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.affine = Linear(w_dim, inputs)
        self.side, self.up, self.clamp = side, up, clamp

    def forward(self, x: Tensor, w: Tensor, noise: str) -> Tensor:
        """Applies the layer; noise is "random", "const" or "none"."""
        y = modulated_conv(x, self.weight, self.affine(w), up=self.up)
        if noise == "random":
            drawn = torch.randn(len(x), 1, self.side, self.side)
            y = torch.addcmul(y, drawn, self.noise_strength)
        elif noise == "const":
            y = y + self.noise_const * self.noise_strength
        return activate(y, self.bias, lrelu=True, clamp=self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to an image."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = Linear(w_dim, inputs)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Applies the layer."""
        style = self.affine(w) / math.sqrt(self.weight.shape[1])
        y = modulated_conv(x, self.weight, style, demodulate=False)
        return activate(y, self.bias, lrelu=False, clamp=self.clamp)


class Block(nn.Module):
    """Two modulated convolutions and an image that is added to the one so far."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        side: int,
        channels: int,
        *,
        up: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.up = up
        if inputs:
            self.conv0 = SynthesisLayer(inputs, outputs, w_dim, side, up=up, clamp=clamp)
        else:
            self.const = nn.Parameter(torch.randn(outputs, side, side))
        self.conv1 = SynthesisLayer(outputs, outputs, w_dim, side, clamp=clamp)
        self.torgb = ToRGB(outputs, channels, w_dim, clamp)

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Tensor, noise: str
    ) -> tuple[Tensor, Tensor]:
        """Applies the block; ws has one row for each of its layers."""
        rows = iter(ws.unbind(1))
        if x is None:
            x = self.const.expand(len(ws), -1, -1, -1)
            x = x.contiguous(memory_format=torch.channels_last)
        else:
            x = self.conv0(x, next(rows), noise)
        x = self.conv1(x, next(rows), noise)
        y = self.torgb(x, next(rows))
        if image is not None:
            y = y + (enlarge(image) if self.up else image)
        return x, y
