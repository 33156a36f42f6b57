"""Inception-V3 up to its pooled features, in the form the FID is defined with.

Weights are the user's: an .npz under the names of the widely used PyTorch state dict
(`Conv2d_1a_3x3.conv.weight`, OIHW, ...), which `weight_port` makes from it. FID's network differs
from the one of the paper as distributed: average pooling does not count the padding, and the last
block pools by the maximum. Images are resized bilinearly to 299 pixels without antialiasing.

Source: Szegedy et al. 2016, "Rethinking the Inception Architecture"; Heusel et al. 2017 (FID).
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganavatar_jax.core import chunks, errors, image_sequences
from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.core.readers import npz_files
from ganavatar_jax.metrics import frechet

_SIDE_PX = 299
_EPSILON = 1e-3  # of the batch normalisation
_LEFT_OUT = ("AuxLogits.", "fc.")

Params = Mapping[str, Float[Array, "..."]]


class _Conv(NamedTuple):
    """A convolution with batch normalisation and ReLU."""

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    same: bool = True  # whether zeros keep the size


class _Branch(NamedTuple):
    """Convolutions in a row after an optional pooling; `fork` are two on the last one's output."""

    convs: tuple[_Conv, ...] = ()
    pool: str = ""
    fork: tuple[_Conv, ...] = ()


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Lists the tensors that features need.

    Returns:
      Shape by name, OIHW.

    Source: Szegedy et al. 2016, table 1 and figures 5 to 7.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for conv in _all_convs():
        shapes[f"{conv.name}.conv.weight"] = (conv.outputs, conv.inputs, *conv.kernel)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{conv.name}.bn.{leaf}"] = (conv.outputs,)
    return shapes


def is_left_out(name: str) -> bool:
    """Tells whether features do without a tensor of the state dict.

    Args:
      name: The tensor's name.

    Returns:
      True for the classifiers and for training's counters.
    """
    return name.startswith(_LEFT_OUT) or name.endswith(".num_batches_tracked")


def load_params(path: str | pathlib.Path) -> Params:
    """Reads the weights.

    Args:
      path: The .npz.

    Returns:
      float32 arrays by name; kernels HWIO.

    Raises:
      WeightError: the file is damaged, or lacks a tensor, or one has the wrong shape.
    """
    found = npz_files.read(pathlib.Path(path))
    params = {}
    for name, shape in expected_shapes().items():
        array = found.get(name)
        if array is None or array.shape != shape:
            got = "nothing" if array is None else f"shape {array.shape}"
            raise errors.WeightError(
                f"{path}: Inception weight {name} should have shape {shape}; got {got}. Convert "
                f"FID's network with python -m weight_port.convert --kind=inception."
            )
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        params[name] = jnp.asarray(array, jnp.float32)
    return params


def features(params: Params, image: Float[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
    """Gives the pooled features that the FID compares.

    Args:
      params: Weights of `load_params`.
      image: Images, [-1, 1].

    Returns:
      One non-negative vector per image.

    Source: Szegedy et al. 2016; Heusel et al. 2017.
    """
    shape = (image.shape[0], _SIDE_PX, _SIDE_PX, 3)
    x = jax.image.resize(image, shape, method="linear", antialias=False)
    for step in _STEM:
        x = _apply_conv(params, x, step) if isinstance(step, _Conv) else _pool(x, step)
    for block in _BLOCKS:
        x = jnp.concatenate([_apply_branch(params, x, branch) for branch in block], axis=-1)
    return jnp.mean(x, axis=(1, 2))


def from_images(
    params: Params, images_u8: image_sequences.Images, *, chunk: int = 16
) -> frechet.FeatureStatistics:
    """Sums the features of images into statistics for `frechet.fid`.

    Args:
      params: Weights of `load_params`.
      images_u8: Images, 0..255, [f h w 3].
      chunk: Images per device call.

    Returns:
      Statistics in float64.
    """
    apply = jax.jit(lambda p, x: features(p, x.astype(jnp.float32) / 127.5 - 1.0))
    return frechet.from_features(
        chunks.map_in_chunks(lambda x: apply(params, x), images_u8, chunk=chunk)
    )


def _apply_branch(params: Params, x: Array, branch: _Branch) -> Array:
    if branch.pool:
        x = _pool(x, branch.pool)
    for conv in branch.convs:
        x = _apply_conv(params, x, conv)
    if branch.fork:
        x = jnp.concatenate([_apply_conv(params, x, conv) for conv in branch.fork], axis=-1)
    return x


def _apply_conv(params: Params, x: Array, conv: _Conv) -> Array:
    """Convolves, with the batch norm of evaluation and a ReLU."""
    pads = [(side // 2, side // 2) if conv.same else (0, 0) for side in conv.kernel]
    x = jax.lax.conv_general_dilated(
        x,
        params[f"{conv.name}.conv.weight"],
        window_strides=(conv.stride, conv.stride),
        padding=pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    norm = {leaf: params[f"{conv.name}.bn.{leaf}"] for leaf in ("weight", "bias")}
    scale = norm["weight"] * jax.lax.rsqrt(params[f"{conv.name}.bn.running_var"] + _EPSILON)
    offset = norm["bias"] - params[f"{conv.name}.bn.running_mean"] * scale
    return jax.nn.relu(x * scale[None, None, None] + offset[None, None, None])


def _pool(x: Array, kind: str) -> Array:
    """Pools 3 x 3 windows: "reduce" the maximum with stride 2, "max" and "mean" at full size."""
    if kind == "reduce":
        window, step = (1, 3, 3, 1), (1, 2, 2, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, step, "VALID")
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    window, step = (1, 3, 3, 1), (1, 1, 1, 1)
    if kind == "max":
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, step, pads)
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, step, pads)
    ones = jnp.ones_like(x[:1, :, :, :1])
    return total / jax.lax.reduce_window(ones, 0.0, jax.lax.add, window, step, pads)


def _chain(
    prefix: str, names: str, widths: str, kernels: str, stride: int = 1
) -> tuple[_Conv, ...]:
    """Builds a row of convolutions; a stride belongs to the last one, which then has no zeros."""
    sizes = [int(width) for width in widths.split()]
    shapes = [(int(kernel[0]), int(kernel[-1])) for kernel in kernels.split()]
    last = len(shapes) - 1
    return tuple(
        _Conv(
            f"{prefix}.{name}",
            sizes[i],
            sizes[i + 1],
            shapes[i],
            stride=stride if i == last else 1,
            same=stride == 1 or i < last,
        )
        for i, name in enumerate(names.split())
    )


def _block_a(name: str, inputs: int, pooled: int) -> tuple[_Branch, ...]:
    triple = "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"
    return (
        _Branch(_chain(name, "branch1x1", f"{inputs} 64", "1")),
        _Branch(_chain(name, "branch5x5_1 branch5x5_2", f"{inputs} 48 64", "1 5")),
        _Branch(_chain(name, triple, f"{inputs} 64 96 96", "1 3 3")),
        _Branch(_chain(name, "branch_pool", f"{inputs} {pooled}", "1"), pool="mean"),
    )


def _block_b(name: str, inputs: int) -> tuple[_Branch, ...]:
    triple = "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3"
    return (
        _Branch(_chain(name, "branch3x3", f"{inputs} 384", "3", 2)),
        _Branch(_chain(name, triple, f"{inputs} 64 96 96", "1 3 3", 2)),
        _Branch(pool="reduce"),
    )


def _block_c(name: str, inputs: int, width: int) -> tuple[_Branch, ...]:
    triple = "branch7x7_1 branch7x7_2 branch7x7_3"
    five = " ".join(f"branch7x7dbl_{i}" for i in range(1, 6))
    inner = f"{inputs} " + f"{width} " * 4 + "192"
    return (
        _Branch(_chain(name, "branch1x1", f"{inputs} 192", "1")),
        _Branch(_chain(name, triple, f"{inputs} {width} {width} 192", "1 1x7 7x1")),
        _Branch(_chain(name, five, inner, "1 7x1 1x7 7x1 1x7")),
        _Branch(_chain(name, "branch_pool", f"{inputs} 192", "1"), pool="mean"),
    )


def _block_d(name: str, inputs: int) -> tuple[_Branch, ...]:
    four = " ".join(f"branch7x7x3_{i}" for i in range(1, 5))
    return (
        _Branch(_chain(name, "branch3x3_1 branch3x3_2", f"{inputs} 192 320", "1 3", 2)),
        _Branch(_chain(name, four, f"{inputs} 192 192 192 192", "1 1x7 7x1 3", 2)),
        _Branch(pool="reduce"),
    )


def _block_e(name: str, inputs: int, pool: str) -> tuple[_Branch, ...]:
    """Splits two of its branches once more, as the last blocks of Inception do."""

    def fork(*names: str) -> tuple[_Conv, ...]:
        first, second = (
            _chain(name, n, "384 384", k)[0] for n, k in zip(names, ("1x3", "3x1"), strict=True)
        )
        return first, second

    double = "branch3x3dbl_1 branch3x3dbl_2"
    return (
        _Branch(_chain(name, "branch1x1", f"{inputs} 320", "1")),
        _Branch(
            _chain(name, "branch3x3_1", f"{inputs} 384", "1"),
            fork=fork("branch3x3_2a", "branch3x3_2b"),
        ),
        _Branch(
            _chain(name, double, f"{inputs} 448 384", "1 3"),
            fork=fork("branch3x3dbl_3a", "branch3x3dbl_3b"),
        ),
        _Branch(_chain(name, "branch_pool", f"{inputs} 192", "1"), pool=pool),
    )


_STEM: tuple[_Conv | str, ...] = (
    _Conv("Conv2d_1a_3x3", 3, 32, (3, 3), stride=2, same=False),
    _Conv("Conv2d_2a_3x3", 32, 32, (3, 3), same=False),
    _Conv("Conv2d_2b_3x3", 32, 64, (3, 3)),
    "reduce",
    _Conv("Conv2d_3b_1x1", 64, 80),
    _Conv("Conv2d_4a_3x3", 80, 192, (3, 3), same=False),
    "reduce",
)
_BLOCKS = (
    _block_a("Mixed_5b", 192, 32),
    _block_a("Mixed_5c", 256, 64),
    _block_a("Mixed_5d", 288, 64),
    _block_b("Mixed_6a", 288),
    _block_c("Mixed_6b", 768, 128),
    _block_c("Mixed_6c", 768, 160),
    _block_c("Mixed_6d", 768, 160),
    _block_c("Mixed_6e", 768, 192),
    _block_d("Mixed_7a", 768),
    _block_e("Mixed_7b", 1280, "mean"),
    _block_e("Mixed_7c", 2048, "max"),
)


def _all_convs() -> Iterator[_Conv]:
    for step in _STEM:
        if isinstance(step, _Conv):
            yield step
    for block in _BLOCKS:
        for branch in block:
            yield from branch.convs
            yield from branch.fork
