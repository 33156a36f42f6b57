"""EG3D's networks to our variables and back, bit for bit.

Our variables are `{"params": ..., "buffers": ...}`, nested by the original dotted names. Buffers
are `noise_const` and `w_avg`. The constant `resample_filter` is checked and dropped on the way in
and made again on the way out; `dataset_label_std`, which only some files have, comes apart in
`extras`. Every tensor of a file is either used or named in an error.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ganavatar_jax.core import errors, trees
from weight_port import layouts, shapes_eg3d, state_dicts, torch_modules, torch_pickle, wrappers

KINDS = ("generator", "discriminator")
_BUFFERS = ("noise_const", "w_avg")
_MAX_OPTIONS = 10_000

# (u, v) of each plane's image as axes of the world point: 0 is x, 1 is y, 2 is z.
_PLANE_AXES = {
    "original": ((0, 1), (0, 2), (2, 0)),
    "fixed": ((0, 1), (0, 2), (2, 1)),
}


@dataclasses.dataclass(frozen=True)
class Imported:
    """A network in our terms.

    Attributes:
      variables: {"params": ..., "buffers": ...}, nested by the original names, our layouts.
      architecture: Plain numbers and names; see shapes_eg3d, plus what the file says besides.
      rendering: The generator's rendering options as stored (EG3D's rendering_kwargs), plain.
      extras: dataset_label_std [c_dim] if the file has it.
    """

    variables: dict[str, Any]
    architecture: dict[str, Any]
    rendering: dict[str, Any]
    extras: dict[str, np.ndarray]


def resample_filter() -> np.ndarray:
    """Returns the fixed low-pass filter that every resampling layer stores.

    Returns:
      outer([1, 3, 3, 1]) / 64, float32 [4, 4].

    Source: Karras et al. 2020 (StyleGAN2); EG3D reference behaviour.
    """
    taps = np.array([1, 3, 3, 1], np.float32)
    return np.outer(taps, taps) / np.float32(64)


def import_generator(
    module: torch_modules.ModuleNode, *, on_bytes: Callable[[int], None] | None = None
) -> Imported:
    """Converts a snapshot's G or G_ema.

    Args:
      module: A TriPlaneGenerator, inert.
      on_bytes: Called after each tensor with its size, to show progress.

    Returns:
      Its variables, architecture and rendering options.

    Raises:
      WeightError: It is another kind of module, or tensors are missing, unexpected or misshapen.

    Source: EG3D reference behaviour.
    """
    _check_class(module, "TriPlaneGenerator")
    tensors = torch_pickle.state_dict(module, on_bytes=on_bytes)
    attributes = torch_pickle.attributes(module)
    tensors = wrappers.as_float32(tensors)
    extras = {name: tensors.pop(name) for name in [shapes_eg3d.LABEL_STD] if name in tensors}
    architecture = shapes_eg3d.generator_architecture(_shapes(tensors))
    _take_stored(architecture, attributes, ("z_dim", "w_dim", "c_dim", "img_channels"))
    architecture["superresolution"] = module.child("superresolution").class_name
    architecture["plane_axes"] = read_plane_axes(
        torch_pickle.attributes(module.child("renderer")).get("plane_axes")
    )
    architecture["img_resolution"] = _integer(attributes, "img_resolution")
    architecture["neural_rendering_resolution"] = _integer(
        attributes, "neural_rendering_resolution"
    )
    for name in ("num_fp16_res", "sr_num_fp16_res", "conv_clamp"):
        architecture[name] = _init_kwargs(attributes).get(name)
    expected = shapes_eg3d.generator_shapes(architecture)
    variables = _to_variables(tensors, expected, module.class_name)
    rendering = _plain_options(attributes.get("rendering_kwargs"), "rendering_kwargs")
    return Imported(variables, _plain_options(architecture, "options"), rendering, extras)


def import_discriminator(
    module: torch_modules.ModuleNode, *, on_bytes: Callable[[int], None] | None = None
) -> Imported:
    """Converts a snapshot's D.

    Args:
      module: A DualDiscriminator, inert.
      on_bytes: Called after each tensor with its size, to show progress.

    Returns:
      Its variables and architecture; rendering and extras are empty.

    Raises:
      WeightError: It is another kind of module, or tensors are missing, unexpected or misshapen.

    Source: EG3D reference behaviour.
    """
    _check_class(module, "DualDiscriminator")
    tensors = torch_pickle.state_dict(module, on_bytes=on_bytes)
    attributes = torch_pickle.attributes(module)
    architecture = shapes_eg3d.discriminator_architecture(_shapes(tensors))
    _take_stored(architecture, attributes, ("c_dim", "img_resolution"))
    options = _init_kwargs(attributes)
    epilogue = options.get("epilogue_kwargs", {})
    architecture["mbstd_group_size"] = _integer(
        {"mbstd_group_size": 4, **epilogue}, "mbstd_group_size"
    )
    architecture["disc_c_noise"] = attributes.get("disc_c_noise", 0)
    for name in ("num_fp16_res", "conv_clamp"):
        architecture[name] = options.get(name)
    expected = shapes_eg3d.discriminator_shapes(architecture)
    variables = _to_variables(tensors, expected, module.class_name)
    return Imported(variables, _plain_options(architecture, "options"), {}, {})


def export_names(
    variables: Mapping[str, Any],
    *,
    kind: str = "generator",
    extras: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Converts our variables back to the original state dict.

    Args:
      variables: {"params": ..., "buffers": ...} of arrays.
      kind: "generator" or "discriminator".
      extras: dataset_label_std, if it shall be in the result.

    Returns:
      Arrays under the original names, in the original layouts and order, filters included.

    Raises:
      WeightError: Variables are missing, unexpected or misshapen.
      ValueError: kind is unknown.

    Source: EG3D reference behaviour.
    """
    tensors = {
        name: layouts.to_original(name, np.asarray(leaf)) for name, leaf in _leaves(variables)
    }
    expected = _expected_shapes(_shapes(tensors), kind)
    stored = {name: shape for name, shape in expected.items() if not _is_filter(name)}
    _check_tensors(tensors, stored, f"{kind} variables")
    whole = {**extras} if extras else {}
    for name in expected:
        whole[name] = resample_filter() if _is_filter(name) else tensors[name]
    return whole


def import_names(tensors: Mapping[str, np.ndarray], *, kind: str = "generator") -> dict[str, Any]:
    """Converts a state dict under the original names; the inverse of `export_names`.

    Args:
      tensors: Arrays by original name, in the original layouts; dataset_label_std is optional.
      kind: "generator" or "discriminator".

    Returns:
      {"params": ..., "buffers": ...}.

    Raises:
      WeightError: Tensors are missing, unexpected or misshapen.
      ValueError: kind is unknown.

    Source: EG3D reference behaviour.
    """
    kept = {name: array for name, array in tensors.items() if name != shapes_eg3d.LABEL_STD}
    return _to_variables(kept, _expected_shapes(_shapes(kept), kind), kind)


def read_plane_axes(matrices: Any) -> str:
    """Tells which of the two known plane orientations a renderer holds.

    Args:
      matrices: The stored axes [3, 3, 3]; plane k takes (u, v) from point @ inverse(matrices[k]).

    Returns:
      "original" (XY, XZ, ZX) or "fixed" (XY, XZ, ZY).

    Raises:
      WeightError: They are neither.

    Source: EG3D reference behaviour; the fix its maintainers describe.
    """
    if isinstance(matrices, np.ndarray) and matrices.shape == (3, 3, 3):
        permutes = np.all((matrices == 0) | (matrices == 1)) and all(
            np.all(matrices.sum(axis) == 1) for axis in (1, 2)
        )
        # The inverse of a permutation is its transpose: column j of it is row j of the matrix.
        found = tuple((int(rows[0].argmax()), int(rows[1].argmax())) for rows in matrices)
        for name, axes in _PLANE_AXES.items():
            if permutes and found == axes:
                return name
    raise errors.WeightError(
        "the renderer's plane_axes are neither EG3D's original ones (XY, XZ, ZX) nor the fixed "
        "ones (XY, XZ, ZY); planes would be sampled wrongly"
    )


def _expected_shapes(shapes: shapes_eg3d.Shapes, kind: str) -> shapes_eg3d.Shapes:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}.")
    if kind == "generator":
        return shapes_eg3d.generator_shapes(shapes_eg3d.generator_architecture(shapes))
    return shapes_eg3d.discriminator_shapes(shapes_eg3d.discriminator_architecture(shapes))


def _check_class(module: torch_modules.ModuleNode, expected: str) -> None:
    if module.class_name != expected:
        raise errors.WeightError(f"expected a {expected}, got a {module.class_name}")


def _is_filter(name: str) -> bool:
    return name.rsplit(".", 1)[-1] == shapes_eg3d.FILTER


def _shapes(tensors: Mapping[str, np.ndarray]) -> shapes_eg3d.Shapes:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _leaves(variables: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    unknown = sorted(set(variables) - {"params", "buffers"})
    if unknown:
        raise errors.WeightError(f"collections {unknown} are unknown; params and buffers are known")
    for collection in variables.values():
        yield from trees.flatten_names(collection)


def _to_variables(
    tensors: Mapping[str, np.ndarray], expected: shapes_eg3d.Shapes, what: str
) -> dict[str, Any]:
    """Checks all tensors, drops the filters and puts the rest into our layouts and tree."""
    tensors = wrappers.as_float32(tensors)
    _check_tensors(tensors, expected, what)
    flat: dict[str, np.ndarray] = {}
    for name in expected:
        if not _is_filter(name):
            collection = "buffers" if name.rsplit(".", 1)[-1] in _BUFFERS else "params"
            flat[f"{collection}.{name}"] = layouts.to_ours(name, tensors[name])
        elif not np.array_equal(tensors[name], resample_filter()):
            raise errors.WeightError(f"{what}: {name} is not the filter [1, 3, 3, 1]; unsupported")
    return trees.unflatten_names(flat)


def _check_tensors(
    tensors: Mapping[str, np.ndarray], expected: shapes_eg3d.Shapes, what: str
) -> None:
    state_dicts.check(tensors, {name: (s, "float32") for name, s in expected.items()}, what)


def _init_kwargs(attributes: Mapping[str, Any]) -> dict[str, Any]:
    options = attributes.get("_init_kwargs", {})
    return options if isinstance(options, dict) else {}


def _integer(attributes: Mapping[str, Any], name: str) -> int:
    value = attributes.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1 << 16:
        raise errors.WeightError(f"attribute {name} is not a positive integer; damaged file")
    return value


def _take_stored(
    architecture: dict[str, Any], attributes: Mapping[str, Any], names: Iterable[str]
) -> None:
    """Checks numbers read off the shapes against the stored ones; takes over the channel rule."""
    for name in names:
        if _integer(attributes, name) != architecture[name]:
            raise errors.WeightError(
                f"attribute {name} is {attributes[name]} but the tensors say {architecture[name]}"
            )
    for name in ("channel_base", "channel_max"):
        if name in _init_kwargs(attributes):
            architecture[name] = _integer(_init_kwargs(attributes), name)


def _plain_options(value: Any, what: str) -> Any:
    """Copies options as JSON-like data, counting parts because shared ones may be many."""
    counter = iter(range(_MAX_OPTIONS))

    def copy(part: Any) -> Any:
        if next(counter, None) is None:
            raise errors.WeightError(f"{what} holds more than {_MAX_OPTIONS} values; refused")
        if isinstance(part, dict) and all(isinstance(key, str) for key in part):
            return {key: copy(item) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [copy(item) for item in part]
        if part is None or isinstance(part, bool | int | float | str):
            return part
        raise errors.WeightError(f"{what} holds a {type(part).__name__}, which is not an option")

    if not isinstance(value, dict):
        raise errors.WeightError(f"{what} is missing or not a dict; damaged file")
    return copy(value)


IMPORTERS: dict[str, Callable[..., Imported]] = {
    "generator": import_generator,
    "discriminator": import_discriminator,
}
