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
    flat = {}
    for index, row in enumerate(rows(network)):
        if is_variable(row):
            value = _value(row["key"], shape_of(row), np.random.RandomState(1000 + index))
            ours = layouts.to_ours(row["key"], np.asarray(value, np.float32))
            flat[our_name(row["key"])] = jnp.asarray(ours)
    return trees.unflatten_names(flat)


def labels() -> np.ndarray:
    """Makes the two cameras, float32 [2, 25]."""
    angles = np.pi / 2 + np.array([[0.3, -0.1], [-0.5, 0.2]])
    poses = cameras.look_at(angles[:, 0], angles[:, 1], pivot=(0.0, 0.0, 0.2), radius=2.7)
    intrinsics = np.array([4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1], np.float32)
    flat = np.asarray(poses, np.float32).reshape(2, 16)
    return np.concatenate([flat, np.tile(intrinsics, (2, 1))], axis=1)


def _value(key: str, shape: tuple[int, ...], draws: np.random.RandomState) -> Any:
    value = draws.randn(*shape)
    *_, owner, leaf = key.split(".")
    if "mapping." in key and owner.startswith("fc"):
        return {"weight": 100.0, "bias": 10.0}[leaf] * value
    if key.endswith("affine.bias"):
        return 1.0 + 0.1 * value
    if leaf in ("bias", "noise_strength", "w_avg"):
        return 0.1 * value
    return value
