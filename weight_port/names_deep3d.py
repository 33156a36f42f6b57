"""Deep3DFaceRecon's regressor to our variables and back, bit for bit.

A checkpoint (`epoch_20.pth`) is a dict: `net_recon` is the network, the rest (optimiser, schedule)
is not needed here and is named in the header of the converted file. Running statistics and their
counters are buffers; every tensor of the network is either used or named in an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ganavatar_jax.core import trees
from ganavatar_jax.faces import deep3d_network
from weight_port import layouts, state_dicts, wrappers

NETWORK = "net_recon"
_SIGNS = ("backbone.conv1.weight", "final_layers.0.weight")
_WIDTHS = (64, 128, 256, 512)
_EXPANSION = 4
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_COUNTER = "num_batches_tracked"


def expected(widths: Sequence[int] = _WIDTHS) -> dict[str, state_dicts.Spec]:
    """Lists the regressor's tensors.

    Args:
      widths: Inner channels of the four stages.

    Returns:
      Shape and type by original name, in the original layout.

    Source: the original's behaviour; He et al. 2016 (ResNet-50).
    """
    listed = dict(_conv("backbone.conv1", 3, widths[0], 7))
    listed |= dict(_norm("backbone.bn1", widths[0]))
    inputs = widths[0]
    for stage, (count, width) in enumerate(zip(deep3d_network.BLOCKS, widths, strict=True), 1):
        for index in range(count):
            prefix = f"backbone.layer{stage}.{index}"
            listed |= dict(_block(prefix, inputs, width))
            inputs = width * _EXPANSION
    for index, (_, size) in enumerate(deep3d_network.HEADS):
        listed |= dict(_conv(f"final_layers.{index}", inputs, size, 1))
        listed[f"final_layers.{index}.bias"] = ((size,), "float32")
    return listed


def import_checkpoint(checkpoint: Any) -> tuple[dict[str, Any], list[str]]:
    """Converts a checkpoint.

    Args:
      checkpoint: The original's, or the state dict as it is or within an entry; see `wrappers`.

    Returns:
      variables: {"params", "buffers"}, nested by the original names, our layouts.
      left_out: Names of the checkpoint's other entries.

    Raises:
      WeightError: There is no network in it, or tensors are missing, unexpected or misshapen.
    """
    found = wrappers.unwrap(checkpoint, _SIGNS, what=NETWORK, entries=_preferred(checkpoint))
    tensors = found.tensors
    state_dicts.check(tensors, expected(), NETWORK)
    flat = {_our_name(name): layouts.to_ours(name, tensors[name]) for name in expected()}
    return trees.unflatten_names(flat), found.left_out


def _preferred(checkpoint: Any) -> tuple[str, ...]:
    """The original's own entry, where it is there."""
    return (NETWORK,) if isinstance(checkpoint, dict) and NETWORK in checkpoint else ()


def export_names(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts our variables back to the original's `net_recon`.

    Args:
      variables: {"params", "buffers"} of arrays.

    Returns:
      Arrays under the original names, in the original layouts and order.

    Raises:
      WeightError: Variables are missing, unexpected or misshapen.
    """
    leaves = [pair for tree in variables.values() for pair in trees.flatten_names(tree)]
    tensors = {name: layouts.to_original(name, np.asarray(leaf)) for name, leaf in leaves}
    state_dicts.check(tensors, expected(), "deep3dface variables")
    return {name: tensors[name] for name in expected()}


def _our_name(name: str) -> str:
    collection = "buffers" if name.rsplit(".", 1)[-1] in _BUFFERS else "params"
    return f"{collection}.{name}"


def _conv(
    name: str, inputs: int, outputs: int, kernel: int
) -> Iterator[tuple[str, state_dicts.Spec]]:
    yield f"{name}.weight", ((outputs, inputs, kernel, kernel), "float32")


def _norm(name: str, width: int) -> Iterator[tuple[str, state_dicts.Spec]]:
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{leaf}", ((width,), "float32")
    yield f"{name}.{_COUNTER}", ((), "int64")


def _block(prefix: str, inputs: int, width: int) -> Iterator[tuple[str, state_dicts.Spec]]:
    outputs = width * _EXPANSION
    sizes = ((inputs, width, 1), (width, width, 3), (width, outputs, 1))
    for index, (before, after, kernel) in enumerate(sizes, start=1):
        yield from _conv(f"{prefix}.conv{index}", before, after, kernel)
        yield from _norm(f"{prefix}.bn{index}", after)
    if prefix.endswith(".0"):
        yield from _conv(f"{prefix}.downsample.0", inputs, outputs, 1)
        yield from _norm(f"{prefix}.downsample.1", outputs)
