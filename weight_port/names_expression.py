"""GAN-Avatar's mapping network to our mapping.safetensors and back.

The original is a bare state dict: `network.{i}` are the hidden layers, `output` the last. It takes
the 64 raw expression coefficients of Deep3DFace and gives w itself, so the imported file says: no
normalisation, no mean w, coefficients named as the estimator "deep3dface" names them, and the
frontal camera of the original's sampling. Nobody knows the mean and spread of the codes it was
trained on: codes are taken as they are, nothing is cut off, and no driver is brought to its spread.

On the way back, what our training puts around the network (an affine normalisation of the codes,
a mean w that is added) is folded into the first and the last layer. Where there is neither, the
numbers come back bit for bit.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganavatar_jax.apps import avatar
from ganavatar_jax.core import errors, trees
from ganavatar_jax.faces import deep3dface, normalization
from weight_port import layouts, state_dicts, wrappers

KIND = avatar.MAPPING_KIND
_SIGNS = ("network.0.weight", "output.weight")
_LAYER = re.compile(r"network\.(\d{1,3})\.weight")


def import_state_dict(tensors: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """Converts the original's state dict.

    Args:
      tensors: The state dict, as it is or within an entry; see `wrappers`.

    Returns:
      variables: {"params": {"network", "output"}, "buffers": {"mean_w"}}, our layouts.
      sizes: code_dim, width, hidden_layers and w_dim.

    Raises:
      WeightError: It is another kind of file, or tensors are missing, unexpected or misshapen.

    Source: GAN-Avatar's released code (behaviour).
    """
    tensors = wrappers.unwrap(tensors, _SIGNS, what="a mapping network").tensors
    sizes = _sizes(tensors)
    expected = _expected(sizes)
    state_dicts.check(tensors, expected, "mapping network")
    params = trees.unflatten_names({n: layouts.to_ours(n, tensors[n]) for n in expected})
    variables = {"params": params, "buffers": {"mean_w": np.zeros(sizes["w_dim"], np.float32)}}
    return variables, sizes


def make_metadata(
    sizes: Mapping[str, int], activation: str, frontal_label25: np.ndarray
) -> dict[str, Any]:
    """Describes an imported network as our training describes its own.

    Args:
      sizes: Of `import_state_dict`.
      activation: "lrelu" (the released code) or "relu" (the paper's text).
      frontal_label25: The frontal camera it was trained with.

    Returns:
      kind, mapping, normalizer and frontal_label25.

    Raises:
      WeightError: The network does not take Deep3DFace's 64 coefficients.

    Source: GAN-Avatar's released code (behaviour).
    """
    count = sizes["code_dim"]
    if count != len(deep3dface.NAMES):
        raise errors.WeightError(
            f"the network takes {count} coefficients; expected Deep3DFace's 64 ('exp')"
        )
    network = {
        "width": sizes["width"],
        "hidden_layers": sizes["hidden_layers"],
        "activation": activation,
        "output_scale": 0.25,
    }
    mapping = {"network": network, "normalization": "none", "center_on_mean": False}
    identity = np.eye(count, dtype=np.float32)
    zeros = np.zeros(count, np.float32)
    normalizer = normalization.CodeNormalizer(deep3dface.NAMES, zeros, identity, identity)
    return {
        "kind": KIND,
        "mapping": mapping,
        "normalizer": normalizer.to_dict(),
        "frontal_label25": [float(value) for value in frontal_label25],
    }


def export_names(
    variables: Mapping[str, Any], normalizer: normalization.CodeNormalizer
) -> dict[str, np.ndarray]:
    """Converts our mapping network to the original's state dict, which takes raw codes.

    Args:
      variables: Of a mapping.safetensors.
      normalizer: What our network's codes are normalised with.

    Returns:
      Arrays under the original names, in the original layouts and order.

    Raises:
      WeightError: Variables are missing, unexpected or misshapen.
    """
    flat = {name: np.asarray(leaf) for name, leaf in trees.flatten_names(variables["params"])}
    first, mean_w = flat["network.0.weight"], np.asarray(variables["buffers"]["mean_w"])
    identity = np.array_equal(normalizer.forward, np.eye(len(normalizer.names)))
    if not identity or np.any(normalizer.mean):
        forward = normalizer.forward.astype(np.float64)
        weight = forward @ first
        shifted = flat["network.0.bias"] - normalizer.mean.astype(np.float64) @ weight
        flat["network.0.weight"] = weight.astype(np.float32)
        flat["network.0.bias"] = shifted.astype(np.float32)
    if np.any(mean_w):
        flat["output.bias"] = flat["output.bias"] + mean_w
    tensors = {name: layouts.to_original(name, array) for name, array in flat.items()}
    expected = _expected(_sizes(tensors))
    state_dicts.check(tensors, expected, "mapping variables")
    return {name: tensors[name] for name in expected}


def _sizes(tensors: Mapping[str, Any]) -> dict[str, int]:
    layers = sum(isinstance(name, str) and bool(_LAYER.fullmatch(name)) for name in tensors)
    first, last = (_matrix(tensors, name) for name in ("network.0.weight", "output.weight"))
    return {
        "code_dim": first.shape[1],
        "width": first.shape[0],
        "hidden_layers": layers,
        "w_dim": last.shape[0],
    }


def _matrix(tensors: Mapping[str, Any], name: str) -> np.ndarray:
    value = tensors.get(name)
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        raise errors.WeightError(f"{name} is missing or not a matrix; not a mapping network")
    return value


def _expected(sizes: Mapping[str, int]) -> dict[str, state_dicts.Spec]:
    width, inputs = sizes["width"], sizes["code_dim"]
    listed: dict[str, state_dicts.Spec] = {}
    for index in range(sizes["hidden_layers"]):
        listed[f"network.{index}.weight"] = ((width, inputs), "float32")
        listed[f"network.{index}.bias"] = ((width,), "float32")
        inputs = width
    listed["output.weight"] = ((sizes["w_dim"], inputs), "float32")
    listed["output.bias"] = ((sizes["w_dim"],), "float32")
    return listed
