"""Task export_web: the avatar as one HTML file that any browser opens from disk.

samples/web/avatar.html   the field itself, ray-marched in WebGL2, with sliders and a camera
samples/web/avatar.json   how far it is from the full avatar, and what it holds

The page shows the volume-rendered image, without the super-resolution. It makes no request.
"""

import json
import logging
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from ganavatar_jax.apps import (
    avatar,
    experiment,
    experiment_config,
    field_copy,
    prepare_data,
    render,
    restating,
)
from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.faces import code_range, coefficients
from ganavatar_jax.models import generator
from ganavatar_jax.reports import web_page
from ganavatar_jax.runs import run_dir

_LOG = logging.getLogger(__name__)

_DRAWN_CODES = 300  # Codes beside the pairs, from all that the sliders reach.
_LIMIT = 3.0  # Spreads of the pairs, as in Avatar.encode.
_MEASURED = 32
_DEMO_FPS, _DEMO_SWEEP_S, _DEMO_SPREADS, _DEMO_MOVES = 25, 1.2, 2.5, 6
_OTHER_BYTES = 200_000  # Scripts and small tensors.


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Writes samples/web of a run folder.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: the mapping has not been trained.
      ConfigError: the page cannot be as small as it is asked to be.
    """
    resolved, opened = experiment.read_run(config, workdir)
    export(avatar.load(resolved, opened), resolved, opened)


def export(
    person: avatar.Avatar,
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
) -> pathlib.Path:
    """Copies the avatar into a page and measures how near the copy is.

    Args:
      person: The avatar.
      resolved: The configuration.
      opened: The run, which holds the pairs that the avatar was mapped with.

    Returns:
      The HTML file.

    Raises:
      DataFormatError: there are no pairs.
      ConfigError: the page cannot be as small as it is asked to be.

    Source: principal components of planes and the page are ours; Sirovich 1987.
    """
    config = resolved.export_web
    folder = prepare_data.dataset_folder(opened)
    seen, held_out = (_pair_codes(folder, split, person) for split in ("train", "validation"))
    shown = np.concatenate([seen, draw_codes(person, min(_DRAWN_CODES, len(seen)))])
    with jax.default_matmul_precision(person.matmul_precision):
        copy = field_copy.copy_field(person, person.encode(shown), components=config.components)
        copy = _fit_size(copy, config.max_mb)
        report = field_copy.measure(person, copy, person.encode(held_out[:_MEASURED]))
    about = (
        f"The field of {opened.path.name}, {len(copy.basis.components)} components: "
        f"{copy.basis.kept:.1%} of what the planes vary; images of held-out expressions "
        f"differ from the full avatar's by {report['psnr_db']:.1f} dB "
        f"(worst {report['worst_psnr_db']:.1f} dB). Drag to turn, wheel or two fingers to zoom."
    )
    slopes = restating.weight_slopes(person, resolved)
    info = {
        "title": config.title or opened.path.name,
        "slopes": None if slopes is None else slopes.astype(float).tolist(),
        "about": about,
        "full_px": config.full_px,
        "face_script": config.face_script,
        "largest_gain": resolved.drive.largest_gain,
    }
    data = pack_avatar(person, copy, seen, info)
    page = web_page.assemble(data, title=info["title"], script_address=config.face_script)
    path = opened.folder("samples", "web") / "avatar.html"
    files.write_atomic(path, page)
    report = {**report, "bytes": len(page.encode()), "components": len(copy.basis.components)}
    files.write_atomic(path.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
    _LOG.info("%s (%.1f MB). %s", path, report["bytes"] / 1e6, about)
    return path


def _pair_codes(folder: pathlib.Path, split: str, person: avatar.Avatar) -> np.ndarray:
    pairs = expression_pairs.load_pairs(folder, split)
    return coefficients.select(pairs["code"], pairs["names"], person.names)


def draw_codes(person: avatar.Avatar, count: int) -> Float[np.ndarray, "n e"]:
    """Draws codes from all that the page's sliders reach.

    Args:
      person: The avatar.
      count: How many.

    Returns:
      Codes; ARKit's weights are at least 0.
    """
    reach = _LIMIT * _spread(person)
    drawn = np.random.default_rng(0).uniform(-1.0, 1.0, (count, len(person.names))) * reach
    codes = person.neutral_code + drawn
    return np.where(_are_weights(person), np.maximum(codes, 0.0), codes).astype(np.float32)


def _spread(person: avatar.Avatar) -> np.ndarray:
    return np.ones(len(person.names), np.float32) if person.code_std is None else person.code_std


def _are_weights(person: avatar.Avatar) -> np.ndarray:
    return np.array([name in coefficients.ARKIT_NAMES for name in person.names])


def _fit_size(copy: field_copy.Copy, max_mb: float) -> field_copy.Copy:
    """Leaves the last components out where the page would be larger than it may be."""
    left = max_mb * 1e6 - _OTHER_BYTES - web_page.packed_size(copy.basis.mean.astype(np.float16))
    kept = 0
    for component in copy.basis.components:
        left -= web_page.packed_size(component)
        if left < 0:
            break
        kept += 1
    if not kept:
        raise errors.ConfigError(
            f"export_web.max_mb={max_mb:g} is too small for the planes of this avatar. Set it "
            "higher."
        )
    if kept < len(copy.basis.components):
        _LOG.warning(
            "%d of %d components fit into export_web.max_mb=%g",
            kept, len(copy.basis.components), max_mb,
        )  # fmt: skip
    return copy._replace(basis=copy.basis.first(kept))


def pack_avatar(
    person: avatar.Avatar,
    copy: field_copy.Copy,
    seen: Float[np.ndarray, "n e"],
    info: dict[str, Any],
) -> str:
    """Packs all that the page needs to know.

    Args:
      person: The avatar.
      copy: Its field.
      seen: Codes of the pairs.
      info: What the page is told beside; title, about, sizes.

    Returns:
      What `web_page.assemble` takes.
    """
    normalizer, basis = person.normalizer, copy.basis
    known = code_range.fit(np.asarray(normalizer.apply(seen)))
    statistics = normalizer.statistics
    width = normalizer.forward.shape[1]
    center = np.zeros(width) if statistics is None else normalizer.apply(statistics.mean)
    reach = np.full(width, 1e9) if statistics is None else _LIMIT * statistics.normalized_std
    block, hidden_groups = web_page.decoder_block(
        generator.decoder_layers(dict(person.g), person.g_config)
    )
    layers = person.mapping["network"]
    small = {
        "neutral": person.neutral_code,
        "mean": person.neutral_code if statistics is None else statistics.mean,
        "std": _spread(person),
        "frontal_label25": person.frontal_label25,
        "demo": demo_codes(person),
        "code_offset": normalizer.mean,
        "code_forward": normalizer.forward,
        "code_center": center,
        "code_reach": reach,
        "mean_w": person.mean_w,
        "output.weight": person.mapping["output"]["weight"],
        "output.bias": person.mapping["output"]["bias"],
        "w_mean": basis.w_mean,
        "w_axes": basis.w_axes,
        "regression": basis.regression,
        "planes_scales": web_page.texels(basis.scales[:, :, None, None])[:, :, 1, 1],
        "seen": known.seen,
        "decoder": block,
        **{f"hidden.{i}.{part}": layers[str(i)][part] for i in range(len(layers))
           for part in ("weight", "bias")},
    }  # fmt: skip
    tensors: dict[str, Any] = {name: np.asarray(value, np.float32) for name, value in small.items()}
    tensors["planes_mean"] = web_page.texels(basis.mean).astype(np.float16)
    tensors["planes_components"] = web_page.texels(basis.components)
    tensors["occupancy"] = copy.occupied.astype(np.uint8) * np.uint8(255)
    info = (
        info
        | _describe(person)
        | {
            "hidden_groups": hidden_groups,
            "empty_density": copy.empty_density,
            "range_unit": known.unit,
            "range_neighbors": known.neighbors,
        }
    )
    return web_page.pack(tensors, {"avatar": json.dumps(info)})


def _describe(person: avatar.Avatar) -> dict[str, Any]:
    """Tells the page what it needs to know of the avatar besides tensors."""
    render_config = person.g_config.render
    return {
        "names": list(person.names),
        "weights": [name for name in person.names if name in coefficients.ARKIT_NAMES],
        "limit": _LIMIT,
        "slope": 0.2 if person.mapping_config.network.activation == "lrelu" else 0.0,
        "demo_fps": _DEMO_FPS,
        "render": {name: getattr(render_config, name) for name in (
            "depth_resolution", "depth_resolution_importance", "ray_start", "ray_end", "box_warp",
            "white_back", "disparity", "plane_axes")},
    }  # fmt: skip


def demo_codes(person: avatar.Avatar) -> Float[np.ndarray, "f e"]:
    """Moves the liveliest coefficients one after the other; what "Play" plays at first.

    Args:
      person: The avatar.

    Returns:
      One code a frame, 25 a second.
    """
    phase = np.linspace(0.0, np.pi, round(_DEMO_SWEEP_S * _DEMO_FPS), endpoint=False)
    moved = [column for _, column in render.lively_columns(person)][:_DEMO_MOVES]
    steps = _DEMO_SPREADS * np.sin(phase)
    bumps = [render.sheet_codes(person, columns, steps, unit=_spread(person)) for columns in moved]
    return np.concatenate(bumps).astype(np.float32)
