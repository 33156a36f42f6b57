"""Small and full-size regressors of Deep3DFace with random weights, under the original names."""

import numpy as np

from ganavatar_jax.core import trees
from weight_port import layouts, names_deep3d, state_dicts

SMALL_WIDTHS = (4, 4, 8, 8)


def random_tensors(expected: dict[str, state_dicts.Spec], seed: int) -> dict[str, np.ndarray]:
    """Draws weights with which activations neither die nor explode over 50 layers."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, (shape, dtype) in expected.items():
        leaf = name.rsplit(".", 1)[-1]
        normal = rng.standard_normal(shape, np.float32)
        if dtype == "int64":
            found[name] = np.asarray(7, np.int64)
        elif len(shape) == 4:
            found[name] = normal * np.float32(np.sqrt(2.0 / np.prod(shape[1:])))
        elif leaf in ("running_var", "weight"):
            found[name] = np.float32(0.5) + rng.random(shape, np.float32)
        else:
            found[name] = np.float32(0.1) * normal
    return found


def variables(tensors: dict[str, np.ndarray]) -> dict:
    """Nests tensors as the regressor takes them, without training's counters."""
    flat = {}
    for name, value in tensors.items():
        leaf = name.rsplit(".", 1)[-1]
        if leaf != "num_batches_tracked":
            collection = "buffers" if leaf.startswith("running") else "params"
            flat[f"{collection}.{name}"] = layouts.to_ours(name, value)
    return trees.unflatten_names(flat)


def small_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """A regressor with few channels and all of its layers."""
    return random_tensors(names_deep3d.expected(SMALL_WIDTHS), seed)
