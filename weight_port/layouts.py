"""Array layouts of PyTorch and ours: the same numbers in another axis order, bit for bit.

Ours is channels-last, as the networks here compute: convolutions HWIO, linear layers [in, out], the
learned constant HWC. PyTorch has OIHW, [out, in] and CHW. The layout follows from the name and the
rank; the discriminator's `b4.fc` is special because its input is a flattened image, channel-major
there and channel-minor here.
"""

import numpy as np

from ganavatar_jax.core import errors

_FLAT_IMAGE = "b4.fc.weight"
_FLAT_SIDE = 4  # the image that b4.fc flattens is 4 x 4
_CONST = "b4.const"


def to_ours(name: str, array: np.ndarray) -> np.ndarray:
    """Reorders one of PyTorch's arrays to our layout.

    Args:
      name: The tensor's dotted name.
      array: The tensor.

    Returns:
      A C-contiguous array; the input itself if nothing moves.

    Raises:
      WeightError: The array's rank does not suit its name.
    """
    leaf = name.rsplit(".", 1)[-1]
    if name == _FLAT_IMAGE:
        _check_flat_image(name, array.shape[-1])
        image = array.reshape(array.shape[0], -1, _FLAT_SIDE, _FLAT_SIDE)
        return np.ascontiguousarray(image.transpose(2, 3, 1, 0).reshape(-1, array.shape[0]))
    if name.endswith(_CONST):
        return np.ascontiguousarray(array.transpose(1, 2, 0))
    if leaf == "weight" and array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    if leaf == "weight" and array.ndim == 2:
        return np.ascontiguousarray(array.T)
    return array


def to_original(name: str, array: np.ndarray) -> np.ndarray:
    """Reorders one of our arrays to PyTorch's layout; the inverse of `to_ours`.

    Args:
      name: The tensor's dotted name.
      array: The array in our layout.

    Returns:
      A C-contiguous array; the input itself if nothing moves.

    Raises:
      WeightError: The array's rank does not suit its name.
    """
    leaf = name.rsplit(".", 1)[-1]
    if name == _FLAT_IMAGE:
        _check_flat_image(name, array.shape[0])
        image = array.reshape(_FLAT_SIDE, _FLAT_SIDE, -1, array.shape[-1])
        return np.ascontiguousarray(image.transpose(3, 2, 0, 1).reshape(array.shape[-1], -1))
    if name.endswith(_CONST):
        return np.ascontiguousarray(array.transpose(2, 0, 1))
    if leaf == "weight" and array.ndim == 4:
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    if leaf == "weight" and array.ndim == 2:
        return np.ascontiguousarray(array.T)
    return array


def _check_flat_image(name: str, length: int) -> None:
    if length % _FLAT_SIDE**2:
        raise errors.WeightError(
            f"{name}: expected 16 inputs a channel (a flattened 4 x 4 image), got {length} inputs"
        )
