"""Rays, samples along them, lookups in planes and compositing in plain PyTorch."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_UV = {"original": ((0, 1), (0, 2), (2, 0)), "fixed": ((0, 1), (0, 2), (2, 1))}
Decoder = Callable[[Tensor], tuple[Tensor, Tensor]]


def make_rays(label: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Returns a ray through every pixel: origins and unit directions, [n m 3]."""
    pose, lens = label[:, :16].view(-1, 4, 4), label[:, 16:].view(-1, 3, 3)
    centres = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    u, v = u.reshape(1, -1), v.reshape(1, -1)
    fx, skew, cx = lens[:, 0, 0, None], lens[:, 0, 1, None], lens[:, 0, 2, None]
    fy, cy = lens[:, 1, 1, None], lens[:, 1, 2, None]
    x = (u - cx + cy * skew / fy - skew * v / fy) / fx
    y = ((v - cy) / fy).expand_as(x)
    local = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    directions = F.normalize(local @ pose[:, :3, :3].transpose(1, 2), dim=-1)
    return pose[:, None, :3, 3].expand_as(directions), directions


def box_limits(origins: Tensor, directions: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Bounds rays by a cube; rays that miss borrow bounds from the others."""
    first, second = (-side / 2 - origins) / directions, (side / 2 - origins) / directions
    near = torch.minimum(first, second).amax(-1)
    far = torch.maximum(first, second).amin(-1)
    hit = far > near
    start = torch.where(hit, near, -1.0)
    end = torch.where(hit, far, -2.0)
    if hit.any():
        start = torch.where(hit, start, start[hit].min())
        end = torch.where(hit, end, start[hit].max())
    return start, end


def stratify(near: Tensor, far: Tensor, count: int, *, random: bool) -> Tensor:
    """Places one sample a step, [n m s]."""
    jitter = torch.rand(*near.shape, count) if random else 0.5
    step = (far - near)[..., None] / (count - 1)
    return near[..., None] + (torch.arange(count) + jitter) * step


def look_up(planes: Tensor, points: Tensor, options: dict[str, Any]) -> Tensor:
    """Averages the planes' features at points, [n p c]."""
    scaled = points * (2.0 / options["box_warp"])
    grids = torch.stack([scaled[..., list(uv)] for uv in _UV[options["plane_axes"]]], dim=1)
    found = F.grid_sample(
        planes.flatten(0, 1).contiguous(memory_format=torch.channels_last),
        grids.flatten(0, 1)[:, None],
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return found[:, :, 0].unflatten(0, (-1, 3)).mean(1).transpose(1, 2)


def march(t: Tensor, density: Tensor) -> Tensor:
    """Weighs the intervals between samples, [n m s-1]."""
    middle = (density[..., :-1] + density[..., 1:]) / 2
    alpha = 1 - torch.exp(-F.softplus(middle - 1) * (t[..., 1:] - t[..., :-1]))
    through = torch.cumprod(1 - alpha + 1e-10, dim=-1)
    before = torch.cat([torch.ones_like(through[..., :1]), through[..., :-1]], dim=-1)
    return alpha * before


@torch.no_grad()
def resample(t: Tensor, weights: Tensor, count: int, *, random: bool) -> Tensor:
    """Draws samples where the weights are, [n m count]."""
    rays = t.shape[:2]
    t, weights = t.flatten(0, 1), weights.flatten(0, 1)
    peak = F.max_pool1d(weights[:, None], 2, stride=1, padding=1)
    pdf = F.avg_pool1d(peak, 2, stride=1)[:, 0, 1:-1] + 0.01 + 1e-5
    cdf = torch.cumsum(pdf / pdf.sum(-1, keepdim=True), dim=-1)
    cdf = F.pad(cdf, (1, 0))
    bins = (t[:, 1:] + t[:, :-1]) / 2
    if random:
        u = torch.rand(len(t), count)
    else:
        u = ((torch.arange(count) + 0.5) / count).expand(len(t), count).contiguous()
    above = torch.searchsorted(cdf, u, right=True)
    low, high = (above - 1).clamp(min=0), above.clamp(max=cdf.shape[-1] - 1)
    cdf_low, bin_low = cdf.gather(1, low), bins.gather(1, low)
    width = cdf.gather(1, high) - cdf_low
    width = torch.where(width < 1e-5, 1.0, width)
    samples = bin_low + (u - cdf_low) / width * (bins.gather(1, high) - bin_low)
    return samples.unflatten(0, rays)


def render(
    planes: Tensor,
    decoder: Decoder,
    label: Tensor,
    options: dict[str, Any],
    *,
    side: int,
    random: bool,
) -> Tensor:
    """Renders features of all rays, [n c r r]."""
    origins, directions = make_rays(label, side)
    if options["ray_start"] == "auto":
        near, far = box_limits(origins, directions, options["box_warp"])
    else:
        near = torch.full(origins.shape[:2], float(options["ray_start"]))
        far = torch.full(origins.shape[:2], float(options["ray_end"]))

    def query(t: Tensor) -> tuple[Tensor, Tensor]:
        points = origins[:, :, None] + t[..., None] * directions[:, :, None]
        colors, density = decoder(look_up(planes, points.flatten(1, 2), options))
        return colors.unflatten(1, t.shape[1:]), density[..., 0].unflatten(1, t.shape[1:])

    t = stratify(near, far, options["depth_resolution"], random=random)
    colors, density = query(t)
    count = options["depth_resolution_importance"]
    if count:
        fine = resample(t, march(t, density.detach()), count, random=random)
        fine_colors, fine_density = query(fine)
        t, order = torch.sort(torch.cat([t, fine], dim=-1), dim=-1)
        density = torch.cat([density, fine_density], dim=-1).gather(-1, order)
        colors = torch.cat([colors, fine_colors], dim=-2)
        colors = colors.gather(-2, order[..., None].expand_as(colors))
    weights = march(t, density)
    middle = (colors[..., :-1, :] + colors[..., 1:, :]) / 2
    features = (weights[..., None, :] @ middle)[..., 0, :]
    if options["white_back"]:
        features = features + 1 - weights.sum(-1, keepdim=True)
    return (2 * features - 1).transpose(1, 2).unflatten(2, (side, side))
