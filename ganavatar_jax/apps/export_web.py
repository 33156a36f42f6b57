"""Task export_web: the avatar as one HTML file that any browser opens from disk.

samples/web/avatar.html   the field itself, ray-marched in WebGL2, with sliders and a camera
samples/web/avatar.json   how far it is from the full avatar, and what it holds

The page shows the volume-rendered image, without the super-resolution. It makes no request.
"""

import functools
import json
import logging
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ganavatar_jax.apps import avatar, experiment, experiment_config, prepare_data, render
from ganavatar_jax.core import chunks, errors, files
from ganavatar_jax.core.arrays import Array, Bool, Float
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.faces import code_range, coefficients
from ganavatar_jax.geometry import cameras, rays, trajectories
from ganavatar_jax.models import generator, generator_config, plane_basis
from ganavatar_jax.rendering import occupancy, volume
from ganavatar_jax.reports import web_page
from ganavatar_jax.runs import run_dir

_LOG = logging.getLogger(__name__)

_CELLS = 32
_THRESHOLD = 0.05  # A ray through the whole cube loses 5 % there.
_OCCUPANCY_CODES = 12
_DRAWN_CODES = 300  # Codes beside the pairs, from all that the sliders reach.
_DIRECTIONS = 16
_BATCH = 8
_LIMIT = 3.0  # Spreads of the pairs, as in Avatar.encode.
_MEASURED = 32
_TURNS_DEG = (0.0, 25.0, -25.0, 60.0)
_DEMO_FPS, _DEMO_SWEEP_S, _DEMO_SPREADS, _DEMO_MOVES = 25, 1.2, 2.5, 6
_OTHER_BYTES = 200_000  # Scripts and small tensors.


class Copy(NamedTuple):
    """The part of an avatar that makes pictures, as the page has it.

    Attributes:
      basis: Planes as mean and components.
      occupied: Cells in which rays are sampled, [z, y, x].
      empty_density: Raw density elsewhere.
    """

    basis: plane_basis.PlaneBasis
    occupied: Bool[np.ndarray, "z y x"]
    empty_density: float


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
        copy = copy_field(person, person.encode(shown), components=config.components)
        copy = _fit_size(copy, config.max_mb)
        report = measure(person, copy, person.encode(held_out[:_MEASURED]))
    about = (
        f"The field of {opened.path.name}, {len(copy.basis.components)} components: "
        f"{copy.basis.kept:.1%} of what the planes vary; images of held-out expressions "
        f"differ from the full avatar's by {report['psnr_db']:.1f} dB "
        f"(worst {report['worst_psnr_db']:.1f} dB). Drag to turn, wheel or two fingers to zoom."
    )
    info = {
        "title": config.title or opened.path.name,
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


def copy_field(person: avatar.Avatar, w: Float[np.ndarray, "n d"], *, components: int) -> Copy:
    """Copies the field of an avatar.

    Args:
      person: The avatar.
      w: Latents of all that is to be shown.
      components: Most components.

    Returns:
      The copy.

    Raises:
      RunError: there is nothing to be seen.
    """
    config = person.g_config
    make = _plane_maker(person)
    cells = min(_CELLS, config.plane_resolution)
    points = jnp.asarray(occupancy.cell_points(cells, box_warp=config.render.box_warp))[None]

    @jax.jit
    def density_of(g: dict[str, Any], planes: Array) -> Array:
        return generator.query(g, planes, points, config)[1]

    chosen = w[np.linspace(0, len(w) - 1, min(_OCCUPANCY_CODES, len(w))).round().astype(int)]
    highest = functools.reduce(
        np.maximum, (np.asarray(density_of(dict(person.g), make(row[None])))[0] for row in chosen)
    )
    occupied, empty = occupancy.find(highest, cells=cells, threshold=_THRESHOLD)
    if not occupied.any():
        raise errors.RunError(
            "the avatar's volume is empty: no ray is stopped anywhere. Train it further "
            "(--task=train_gan), then export it again."
        )
    used = occupancy.used_texels(
        occupied, axes=config.render.plane_axes, side=config.plane_resolution
    )
    basis = plane_basis.fit(
        w, make, components=components, directions=_DIRECTIONS, batch_size=_BATCH, used=used
    )
    return Copy(basis, occupied, empty)


def _plane_maker(person: avatar.Avatar) -> Callable[[np.ndarray], np.ndarray]:
    """Makes planes of any number of latents by few programs."""

    @jax.jit
    def make(g: dict[str, Any], w: Array) -> Array:
        return generator.make_planes(g, generator.broadcast(w, person.g_config), person.g_config)

    return lambda w: chunks.map_in_chunks(
        lambda part: make(dict(person.g), part), w, chunk=len(w) if len(w) == 1 else _BATCH
    )


def _fit_size(copy: Copy, max_mb: float) -> Copy:
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


def measure(person: avatar.Avatar, copy: Copy, w: Float[np.ndarray, "n d"]) -> dict[str, float]:
    """Compares images of the copy with the avatar's.

    Args:
      person: The avatar.
      copy: Its copy.
      w: Latents, none of which the copy was made of.

    Returns:
      Mean and lowest PSNR of raw images, dB, over several cameras; the variance kept.
    """
    config, g = person.g_config, dict(person.g)
    front = cameras.from_label25(person.frontal_label25)
    turns = np.array(_TURNS_DEG, np.float32)
    views = np.asarray(cameras.to_label25(trajectories.around(front, turns, np.zeros(len(turns)))))
    make = _plane_maker(person)

    @jax.jit
    def apart(g: dict[str, Any], planes: Array, copied: Array, w: Array, label25: Array) -> Array:
        ws = generator.broadcast(w, config)
        whole = generator.render_planes(g, planes, ws, label25, config).image_raw
        near = render_copy(g, config, copy, copied, label25)
        return jnp.mean(jnp.square(whole - near), axis=(1, 2, 3))

    squares = []
    for index, row in enumerate(w):
        label25 = views[index % len(views)][None]
        copied = copy.basis.planes(row[None]).astype(np.float32)
        squares.append(float(apart(g, make(row[None]), copied, row[None], label25)[0]))
    psnr = [10.0 * math.log10(4.0 / max(square, 1e-10)) for square in squares]
    return {
        "psnr_db": float(np.mean(psnr)),
        "worst_psnr_db": min(psnr),
        "variance_kept": copy.basis.kept,
    }


def render_copy(
    g: dict[str, Any],
    config: generator_config.GeneratorConfig,
    copy: Copy,
    planes: Float[Array, "b p h w c"],
    label25: Float[Array, "b 25"],
) -> Float[Array, "b r r 3"]:
    """Renders as the page does, at the neural resolution.

    Args:
      g: Generator variables, for the decoder.
      config: Options of the generator.
      copy: Where the field is empty.
      planes: Planes of the copy.
      label25: Cameras.

    Returns:
      Raw images, nominally in [-1, 1].
    """
    side, batch = config.neural_resolution, len(planes)
    origins, directions = rays.pixel_rays(
        label25[:, :16].reshape(batch, 4, 4), label25[:, 16:].reshape(batch, 3, 3), resolution=side
    )
    field = occupancy.mask_density(
        lambda points: generator.query(g, planes, points, config),
        jnp.asarray(copy.occupied),
        copy.empty_density,
        box_warp=config.render.box_warp,
    )
    draws = volume.RenderDraws(coarse=None, fine=None)
    out = volume.render(field, origins, directions, draws, config.render)
    return out.features[..., :3].reshape(batch, side, side, 3)


def pack_avatar(
    person: avatar.Avatar,
    copy: Copy,
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
