"""The tri-plane generator in plain PyTorch."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_baseline import layers, renderer

_LAYOUTS = {
    "2X": (2, (128, 64)),
    "4X": (2, (128, 64)),
    "8X": (4, (128, 64)),
    "8XDC": (4, (256, 128)),
}


def normalize(x: Tensor) -> Tensor:
    """Scales rows to a mean square of one."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Mapping(nn.Module):
    """Latent (or none) and camera to w."""

    def __init__(self, z_dim: int, label_dim: int, width: int, count: int) -> None:
        super().__init__()
        self.embed = layers.Linear(label_dim, width)
        self.count = count
        for k in range(count):
            inputs = width + z_dim if k == 0 else width
            self.add_module(f"fc{k}", layers.Linear(inputs, width, lrelu=True, multiplier=0.01))
        if z_dim:
            self.register_buffer("w_avg", torch.zeros(width))

    def forward(self, z: Tensor | None, label: Tensor) -> Tensor:
        """Maps."""
        x = normalize(self.embed(label))
        if z is not None:
            x = torch.cat([normalize(z), x], dim=1)
        for k in range(self.count):
            x = getattr(self, f"fc{k}")(x)
        return x


class Synthesis(nn.Module):
    """ws to the planes' channels."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        self.sides = [2**k for k in range(2, int(math.log2(sizes["plane_resolution"])) + 1)]
        inputs = 0
        for side in self.sides:
            outputs = min(sizes["channel_base"] // side, sizes["channel_max"])
            channels = 3 * sizes["plane_channels"]
            block = layers.Block(
                inputs, outputs, sizes["w_dim"], side, channels, clamp=sizes["conv_clamp"]
            )
            self.add_module(f"b{side}", block)
            inputs = outputs

    def forward(self, ws: Tensor, noise: str) -> Tensor:
        """Synthesises."""
        x = image = None
        row = 0
        for side in self.sides:
            convolutions = 1 if side == 4 else 2
            part = ws[:, row : row + convolutions + 1]
            x, image = getattr(self, f"b{side}")(x, image, part, noise)
            row += convolutions
        assert image is not None
        return image


class Decoder(nn.Module):
    """Features of points to colours and densities."""

    def __init__(self, inputs: int, hidden: int, outputs: int, multiplier: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            layers.Linear(inputs, hidden, multiplier=multiplier),
            nn.Softplus(),
            layers.Linear(hidden, 1 + outputs, multiplier=multiplier),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Decodes [n m c]."""
        out = self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return torch.sigmoid(out[..., 1:]) * 1.002 - 0.001, out[..., :1]


class SuperResolution(nn.Module):
    """Features and a small image to the final image."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        self.kind = sizes["superresolution"]
        self.factor, widths = _LAYOUTS[self.kind]
        widths = tuple(sizes["superresolution_channels"]) or widths
        side, w_dim = sizes["img_resolution"] // self.factor, sizes["w_dim"]
        clamp = sizes["superresolution_clamp"]
        self.side, self.antialias = side, sizes["superresolution_antialias"]
        first = side * 2 if self.factor == 4 else side
        self.block0 = layers.Block(
            sizes["decoder_features"], widths[0], w_dim, first, 3, up=self.factor == 4, clamp=clamp
        )
        self.block1 = layers.Block(*widths, w_dim, sizes["img_resolution"], 3, clamp=clamp)

    def forward(self, x: Tensor, ws: Tensor) -> Tensor:
        """Enlarges features, whose first three are the image."""
        have = x.shape[-1]
        if have < self.side or (have > self.side and self.kind != "4X"):
            x = F.interpolate(
                x,
                (self.side, self.side),
                mode="bilinear",
                align_corners=False,
                antialias=self.antialias,
            )
        last = ws[:, -1:].expand(-1, 3, -1)
        y, image = self.block0(x, x[:, :3], last, "none")
        return self.block1(y, image, last, "none")[1]


class Generator(nn.Module):
    """Latent and camera to images."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        self.sizes = sizes
        self.num_ws = 2 * int(math.log2(sizes["plane_resolution"])) - 2
        self.backbone = nn.Module()
        self.backbone.mapping = Mapping(
            sizes["z_dim"], sizes["label_dim"], sizes["w_dim"], sizes["mapping_layers"]
        )
        self.backbone.synthesis = Synthesis(sizes)
        self.decoder = Decoder(
            sizes["plane_channels"],
            sizes["decoder_hidden"],
            sizes["decoder_features"],
            sizes["decoder_lr_multiplier"],
        )
        if sizes["superresolution"] != "none":
            self.superresolution = SuperResolution(sizes)

    def map(self, z: Tensor, label: Tensor) -> Tensor:
        """Maps latents; the camera counts only where the sizes say so."""
        scale = self.sizes["condition_scale"] if self.sizes["condition_on_camera"] else 0.0
        return self.backbone.mapping(z, label * scale)

    def broadcast(self, w: Tensor) -> Tensor:
        """Repeats w for every layer."""
        return w[:, None].expand(-1, self.num_ws, -1)

    def planes(self, ws: Tensor, noise: str) -> Tensor:
        """Synthesises the planes, [n 3 c h w]."""
        return self.backbone.synthesis(ws, noise).unflatten(1, (3, -1))

    def render(self, planes: Tensor, label: Tensor, *, random: bool, side: int = 0) -> Tensor:
        """Renders features, [n c r r]."""
        side = side or self.sizes["neural_resolution"]
        return renderer.render(
            planes, self.decoder, label, self.sizes["render"], side=side, random=random
        )

    def enlarge(self, features: Tensor, ws: Tensor) -> Tensor:
        """Makes the final image of features."""
        if self.sizes["superresolution"] == "none":
            return features[:, :3]
        return self.superresolution(features, ws)

    def forward(
        self, ws: Tensor, label: Tensor, *, noise: str = "const", random: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Synthesises the final image and the rendered one."""
        features = self.render(self.planes(ws, noise), label, random=random)
        return self.enlarge(features, ws), features[:, :3]
