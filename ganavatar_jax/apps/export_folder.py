"""Task export: one folder that renders the avatar where this program is not installed.

samples/export/
  avatar.safetensors   all numbers, and in its header what they mean
  program.bin          codes and cameras to image, alpha and depth: a jax.export artefact for CPUs,
                       CUDA and TPUs
  run.py               uses both; needs jax, numpy, safetensors and pillow
  README.md            a card: what it is, what it was made from, what it is good for
  third_party/         flatbuffers (Apache-2.0), which jax reads programs with

Needs the extra `export`.
"""

import functools
import importlib.metadata
import importlib.resources
import importlib.util
import json
import logging
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import safetensors.numpy

import ganavatar_jax
from ganavatar_jax.apps import avatar, drawing, experiment, experiment_config
from ganavatar_jax.core import errors, files, trees
from ganavatar_jax.core.arrays import Array, Float, UInt8
from ganavatar_jax.runs import run_dir
from ganavatar_jax.training import mapping_step

_LOG = logging.getLogger(__name__)
_PLATFORMS = ("cpu", "cuda", "tpu")
_LIMIT = 3.0  # Spreads of the pairs, as in Avatar.encode.
_CARD = """# {name}

A head avatar of one person, made with ganavatar_jax {version} (GAN-Avatar, Kabadayi et al. 2024).

```bash
python run.py out.png {first}=0.5 yaw=20      # needs jax, numpy, safetensors, pillow
```

| | |
|---|---|
| driven by | {names} |
| image | {side} x {side} pixels, with alpha and depth |
| programs for | {platforms}, jax {jax} or later within its promise of compatibility |
| made from | {source} |

`program.bin` takes the tensors of `avatar.safetensors` by name, codes [1, {count}] and cameras
[1, 25] (cam2world row by row, OpenCV axes, then normalised intrinsics row by row), and gives image
(uint8), alpha (0..1) and depth (world units, inf where nothing is). Codes further than {limit:g}
spreads from those that the avatar was mapped with are cut off. The header of `avatar.safetensors`
holds names, the neutral code and the frontal camera as JSON under `avatar`.

The avatar shows a person. Use it as that person allows.
`third_party/flatbuffers` is Google's FlatBuffers for Python, Apache-2.0.
"""


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Writes samples/export of a run folder.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: the mapping has not been trained.
      ConfigError: the extra is missing.
    """
    resolved, opened = experiment.read_run(config, workdir)
    person = avatar.load(resolved, opened)
    folder = export(person, resolved, opened)
    _LOG.info("python %s out.png %s=0.5", folder / "run.py", person.names[0])


def export(
    person: avatar.Avatar,
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
) -> pathlib.Path:
    """Writes the folder.

    Args:
      person: The avatar.
      resolved: The configuration.
      opened: The run.

    Returns:
      The folder.

    Raises:
      ConfigError: the extra is missing.
    """
    reader = importlib.util.find_spec("flatbuffers")
    if reader is None or not reader.submodule_search_locations:
        raise errors.ConfigError("export needs flatbuffers: pip install 'ganavatar_jax[export]'")
    params = flat_params(person)
    program = serialize(person, params)
    folder = opened.folder("samples", "export")
    card = {
        "names": list(person.names),
        "neutral": np.asarray(person.neutral_code).astype(float).tolist(),
        "frontal_label25": person.frontal_label25.astype(float).tolist(),
    }
    files.write_atomic(
        folder / "avatar.safetensors", safetensors.numpy.save(params, {"avatar": json.dumps(card)})
    )
    files.write_atomic(folder / "program.bin", program)
    script = importlib.resources.files("ganavatar_jax") / "assets" / "export_run.txt"
    files.write_atomic(folder / "run.py", script.read_text("utf-8"))
    text = _CARD.format(
        name=opened.path.name,
        version=ganavatar_jax.__version__,
        first=person.names[0],
        names=", ".join(person.names),
        side=person.g_config.img_resolution,
        platforms=", ".join(_PLATFORMS),
        jax=importlib.metadata.version("jax"),
        source=pathlib.PurePath(resolved.data.source).name,
        count=len(person.names),
        limit=_LIMIT,
    )
    files.write_atomic(folder / "README.md", text)
    shutil.copytree(
        reader.submodule_search_locations[0],
        folder / "third_party" / "flatbuffers",
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )
    return folder


def flat_params(person: avatar.Avatar) -> dict[str, np.ndarray]:
    """Names all numbers of an avatar in one flat dictionary.

    Args:
      person: The avatar.

    Returns:
      Tensors by dotted name.
    """
    normalizer, known = person.normalizer, person.normalizer.statistics
    width = normalizer.forward.shape[1]
    center = np.zeros(width) if known is None else normalizer.apply(known.mean)
    reach = np.full(width, 1e9) if known is None else _LIMIT * known.normalized_std
    tree = {
        "generator": dict(person.g),
        "mapping": dict(person.mapping),
        "code": {
            "offset": normalizer.mean,
            "forward": normalizer.forward,
            "center": np.float32(center),
            "reach": np.float32(reach),
            "mean_w": person.mean_w,
        },
    }
    return {name: np.asarray(leaf) for name, leaf in trees.flatten_names(tree)}


def serialize(person: avatar.Avatar, params: dict[str, np.ndarray]) -> bytes:
    """Compiles codes to frames for all platforms, with the numbers as arguments.

    Args:
      person: The avatar.
      params: What `flat_params` returned.

    Returns:
      The artefact.

    Raises:
      ConfigError: the extra is missing.
    """
    from jax import export as jax_export

    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in params.items()}
    code = jax.ShapeDtypeStruct((1, len(person.names)), np.float32)
    label25 = jax.ShapeDtypeStruct((1, 25), np.float32)
    program = jax.jit(functools.partial(_frame, person=person))
    with jax.default_matmul_precision(person.matmul_precision):
        made = jax_export.export(program, platforms=_PLATFORMS)(shapes, code, label25)
    try:
        return bytes(made.serialize())
    except ImportError as error:
        raise errors.ConfigError(
            "export needs flatbuffers: pip install 'ganavatar_jax[export]'"
        ) from error


def _frame(
    params: dict[str, Any],
    codes: Float[Array, "b e"],
    label25: Float[Array, "b 25"],
    *,
    person: avatar.Avatar,
) -> tuple[UInt8[Array, "b h w 3"], Float[Array, "b h w"], Float[Array, "b h w"]]:
    """Does what `Avatar.encode` and `Avatar.render` do, in one program."""
    tree = trees.unflatten_names(params)
    code = tree["code"]
    normalized = (codes - code["offset"][None]) @ code["forward"]
    low, high = code["center"] - code["reach"], code["center"] + code["reach"]
    normalized = jnp.clip(normalized, low[None], high[None])
    w = mapping_step.predict_w(tree["mapping"], code["mean_w"], normalized, person.mapping_config)
    image, alpha, depth = drawing.draw_frame(tree["generator"], w, label25, person.g_config)
    image_u8 = jnp.clip(image * 127.5 + 128.0, 0.0, 255.0).astype(jnp.uint8)
    return image_u8, alpha, depth
