"""LPIPS on AlexNet's features in plain PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Stride, padding, and whether a 3x3 pooling with stride 2 comes before.
_LAYERS = ((4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False))
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips:
    """The distance, with weights that are read from elsewhere."""

    def __init__(self, kernels: list[Tensor], biases: list[Tensor], heads: list[Tensor]) -> None:
        self.kernels, self.biases, self.heads = kernels, biases, heads
        self.shift = torch.tensor(_SHIFT).view(1, 3, 1, 1)
        self.scale = torch.tensor(_SCALE).view(1, 3, 1, 1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Gives features of unit length, image in [-1, 1]."""
        x, found = (image - self.shift) / self.scale, []
        for (stride, pad, pool), kernel, bias in zip(
            _LAYERS, self.kernels, self.biases, strict=True
        ):
            if pool:
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(F.conv2d(x, kernel, bias, stride=stride, padding=pad))
            found.append(F.normalize(x, dim=1, eps=1e-10))
        return found

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """Gives one distance an image; no gradient reaches the target."""
        with torch.no_grad():
            wanted = self.features(target)
        distances = [
            F.conv2d((a - b).square(), head.view(1, -1, 1, 1)).mean((1, 2, 3))
            for a, b, head in zip(self.features(image), wanted, self.heads, strict=True)
        ]
        return torch.stack(distances).sum(0)
