"""The dual discriminator in plain PyTorch."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch_baseline import layers
from torch_baseline.generator import Mapping


class _Block(nn.Module):
    """Residual block that halves the size."""

    def __init__(self, inputs: int, inner: int, outer: int, clamp: float | None) -> None:
        super().__init__()
        if inputs:
            self.fromrgb = layers.Conv(inputs, inner, 1, clamp=clamp)
        self.conv0 = layers.Conv(inner, inner, 3, clamp=clamp)
        self.conv1 = layers.Conv(inner, outer, 3, down=True, clamp=clamp)
        self.skip = layers.Conv(inner, outer, 1, down=True, plain=True)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the block."""
        if hasattr(self, "fromrgb"):
            x = self.fromrgb(x)
        gain = math.sqrt(0.5)
        return self.skip(x, gain) + self.conv1(self.conv0(x), gain)


class _Epilogue(nn.Module):
    """Features of 4 x 4 to a logit that depends on the camera."""

    def __init__(self, width: int, clamp: float | None) -> None:
        super().__init__()
        self.conv = layers.Conv(width + 1, width, 3, clamp=clamp)
        self.fc = layers.Linear(width * 16, width, lrelu=True)
        self.out = layers.Linear(width, width)

    def forward(self, x: Tensor, camera: Tensor, group: int) -> Tensor:
        """Applies the epilogue."""
        batch = len(x)
        size = min(group, batch)
        members = x.view(size, -1, *x.shape[1:])
        deviation = (members.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        extra = deviation.repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        x = self.conv(torch.cat([x, extra], dim=1))
        x = self.out(self.fc(x.flatten(1)))
        return (x * camera).sum(1, keepdim=True) / math.sqrt(camera.shape[1])


class Discriminator(nn.Module):
    """Judges images and their rendered copies."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        self.side, self.group = sizes["img_resolution"], sizes["mbstd_group_size"]
        self.sides = [2**k for k in range(int(math.log2(self.side)), 2, -1)]
        clamp = sizes["conv_clamp"]

        def width(side: int) -> int:
            return min(sizes["channel_base"] // side, sizes["channel_max"])

        for side in self.sides:
            inputs = 6 if side == self.side else 0
            self.add_module(f"b{side}", _Block(inputs, width(side), width(side // 2), clamp))
        self.mapping = Mapping(0, sizes["label_dim"], width(4), sizes["mapping_layers"])
        self.b4 = _Epilogue(width(4), clamp)

    def forward(self, image: Tensor, image_raw: Tensor, label: Tensor) -> Tensor:
        """Computes one logit a sample."""
        x = torch.cat([image, layers.resize(image_raw, self.side)], dim=1)
        for side in self.sides:
            x = getattr(self, f"b{side}")(x)
        return self.b4(x, self.mapping(None, label), self.group)
