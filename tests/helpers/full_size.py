"""Makes the full-size networks with the reproducible weights that the reference was run with.

Row k of a network in the list of its tensors gets RandomState(1000 + k).randn, scaled by kind, so
that numbers computed elsewhere can be compared without shipping 250 MB of weights.
"""

import csv
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import trees
from ganavatar_jax.geometry import cameras
from helpers import torch_files
from weight_port import layouts

LIST = pathlib.Path(__file__).parents[1] / "weight_port" / "eg3d_state_dict.tsv"
# Not variables of ours: the fixed filter, and a statistic of the training set.
_LEFT_OUT = ("resample_filter", "dataset_label_std")
_BUFFERS = ("noise_const", "w_avg")


def rows(network: str) -> list[dict[str, str]]:
    """Lists the tensors of "G_ema" or "D", in the original's order."""
    with LIST.open() as file:
        return [row for row in csv.DictReader(file, delimiter="\t") if row["network"] == network]


def shape_of(row: dict[str, str]) -> tuple[int, ...]:
    """Reads a tensor's shape, in the original's layout."""
    return () if row["shape"] == "scalar" else tuple(int(n) for n in row["shape"].split("x"))


def is_variable(row: dict[str, str]) -> bool:
    """Tells whether we keep the tensor."""
    return not row["key"].endswith(_LEFT_OUT)


def our_name(key: str) -> str:
    """Puts the collection before the original's name."""
    return f"{'buffers' if key.endswith(_BUFFERS) else 'params'}.{key}"


def variables(network: str) -> dict[str, Any]:
    """Makes the variables of "G_ema" or "D"."""
    flat = {
        our_name(key): jnp.asarray(layouts.to_ours(key, value))
        for key, value in tensors(network).items()
        if not key.endswith(_LEFT_OUT)
    }
    return trees.unflatten_names(flat)


def tensors(network: str) -> dict[str, np.ndarray]:
    """Makes the state dict of "G_ema" or "D", under the original's names and layouts."""
    found = {}
    for index, row in enumerate(rows(network)):
        value = _value(row["key"], shape_of(row), np.random.RandomState(1000 + index))
        found[row["key"]] = np.asarray(value, np.float32)
    return found


def snapshot() -> bytes:
    """Writes the networks as a snapshot of the original, source texts blank; G equals G_ema."""
    rendering = {
        **torch_files.RENDERING,
        "depth_resolution": 48,
        "depth_resolution_importance": 48,
        "superresolution_module": "training.superresolution.SuperresolutionHybrid8XDC",
    }
    options = {"channel_base": 32768, "channel_max": 512, "sr_num_fp16_res": 4}
    attributes = {"z_dim": 512, "w_dim": 512, "img_resolution": 512, "_init_kwargs": options}
    g = torch_files.generator(
        tensors("G_ema"),
        sr_class="SuperresolutionHybrid8XDC",
        neural_rendering_resolution=128,
        rendering_kwargs=rendering,
        **attributes,
    )
    d_options = {**options, "num_fp16_res": 4, "conv_clamp": 256}
    d = torch_files.discriminator(tensors("D"), img_resolution=512, _init_kwargs=d_options)
    return torch_files.snapshot(G=g, D=d, G_ema=g)


def labels() -> np.ndarray:
    """Makes the two cameras, float32 [2, 25]."""
    angles = np.pi / 2 + np.array([[0.3, -0.1], [-0.5, 0.2]])
    poses = cameras.look_at(angles[:, 0], angles[:, 1], pivot=(0.0, 0.0, 0.2), radius=2.7)
    intrinsics = np.array([4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1], np.float32)
    flat = np.asarray(poses, np.float32).reshape(2, 16)
    return np.concatenate([flat, np.tile(intrinsics, (2, 1))], axis=1)


def _value(key: str, shape: tuple[int, ...], draws: np.random.RandomState) -> Any:
    if key.endswith("resample_filter"):
        return np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    value = draws.randn(*shape)
    owner, leaf = f".{key}".split(".")[-2:]
    if "mapping." in key and owner.startswith("fc"):
        return {"weight": 100.0, "bias": 10.0}[leaf] * value
    if key.endswith("affine.bias"):
        return 1.0 + 0.1 * value
    if leaf in ("bias", "noise_strength", "w_avg"):
        return 0.1 * value
    return value
