"""The reconstruction of training images in plain PyTorch: face readings, weighted L1 and LPIPS."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_baseline import layers, perceptual


class Place(NamedTuple):
    """A place that counts more: (u, v, radius) in each image, how much, how often enlarged."""

    where: Tensor
    weight: float
    zoom: int


def project(label: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Projects points [m 3] into images: (u, v) [n m 2] and depth [n m]."""
    pose, lens = label[:, :16].view(-1, 4, 4), label[:, 16:].view(-1, 3, 3)
    local = (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    return ((local / local[..., 2:]) @ lens.transpose(1, 2))[..., :2], local[..., 2]


def read_faces(image: Tensor, label: Tensor, reader: dict[str, Tensor]) -> Tensor:
    """Looks images up on a patch in front of the face and maps the pixels linearly, [n k]."""
    points, normals = reader["points"], reader["normals"]
    uv, _ = project(label, points)
    grid = (2 * uv - 1)[:, None]
    colour = F.grid_sample(image, grid, align_corners=False)[:, :, 0].transpose(1, 2)
    towards = F.normalize(label[:, None, 3:12:4] - points, dim=-1)
    visible = (2 * (towards * normals).sum(-1, keepdim=True)).clamp(0, 1)
    pixels = torch.cat([colour * visible, visible], dim=-1).flatten(1)
    pixels = (pixels - reader["pixel_mean"]) / reader["pixel_spread"]
    return (pixels @ reader["weight"] - reader["centre"]) / reader["spread"]


def unit(z: Tensor) -> Tensor:
    """Scales rows to root mean square one."""
    return z * (z.square().mean(-1, keepdim=True) + 1e-8).rsqrt()


def find_places(label: Tensor, options: dict[str, Any]) -> list[Place]:
    """Projects face and eyes into the images."""
    places = []
    for name, zoom in (("focus", 2), ("eyes", 4)):
        if options[f"{name}_weight"]:
            point = torch.tensor([options[f"{name}_point"]])
            uv, depth = project(label, point)
            extent = label[:, 16:17] * options[f"{name}_radius"] / depth
            places.append(Place(torch.cat([uv[:, 0], extent], 1), options[f"{name}_weight"], zoom))
    return places


def weighted_l1(image: Tensor, target: Tensor, places: list[Place]) -> Tensor:
    """Averages differences, which count more around places."""
    side = image.shape[-1]
    centres = (torch.arange(side) + 0.5)[None] / side
    weight = torch.ones(len(image), side, side)
    for place in places:
        across = (centres - place.where[:, :1]).square()[:, None, :]
        down = (centres - place.where[:, 1:2]).square()[:, :, None]
        spread = 2 * place.where[:, 2].square()[:, None, None]
        weight = weight + place.weight * torch.exp(-(across + down) / spread)
    return ((image - target).abs() * weight[:, None]).mean()


def cut_out(image: Tensor, place: Place) -> Tensor:
    """Cuts a square around a place out of each image and enlarges it to the image's size."""
    side = image.shape[-1]
    part = side // place.zoom
    corner = (place.where[:, :2] * side - part / 2).round().long().clamp(0, side - part)
    parts = [
        x[:, row : row + part, column : column + part]
        for x, (column, row) in zip(image, corner.tolist(), strict=True)
    ]
    return layers.resize(torch.stack(parts), side)


def compare(
    shown: tuple[Tensor, Tensor],
    image: Tensor,
    label: Tensor,
    options: dict[str, Any],
    lpips: perceptual.Lpips,
) -> Tensor:
    """Compares the final and the rendered image with the truth."""
    final, raw = shown
    places = find_places(label, options)
    l1 = weighted_l1(final, image, places)
    l1 = l1 + weighted_l1(raw, layers.resize(image, raw.shape[-1]), places)
    pairs = [(final, image)] + [(cut_out(final, p), cut_out(image, p)) for p in places]
    looked_at, truth = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    distance = lpips(looked_at, truth).mean()
    return options["l1_weight"] * l1 + options["lpips_weight"] * distance
