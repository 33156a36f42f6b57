"""Carries a capture from its tracker's world into the head frame of the base generator.

One similarity for all cameras of a capture; images and intrinsics stay. It is found from landmarks
(triangulated over the capture's views and compared with the mean head and its modes, see
`geometry.point_models`), from pairs of points, or from two meshes of one topology.

Source: GAN-Avatar (Kabadayi et al. 2024), section 3.1.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.core.readers import text_files
from ganavatar_jax.data import (
    cropping,
    data_config,
    head_landmarks,
    landmark_normalization,
    records,
)
from ganavatar_jax.data.formats import json_files, reader_table
from ganavatar_jax.geometry import ffhq_camera, point_models, similarity, triangulation

_FEWEST_VIEWS = 3
_FRONT_DEG = 50.0  # Beyond, the detector guesses the hidden half of the face.
# What a look at the numbers can tell to be wrong, in world units.
_LARGEST_RESIDUAL = 0.03
_DISTANCES = (1.5, 6.0)
_LARGEST_OUTSIDE = 0.02


@dataclasses.dataclass(frozen=True)
class HeadFit:
    """How the landmarks of a capture lie on the model of heads.

    Attributes:
      alignment: The similarity, and the person's shape.
      reprojection: Median distance of triangulated landmarks from seen ones, image sides.
      views: Views that look at the face.
    """

    alignment: point_models.Alignment
    reprojection: float
    views: int


@dataclasses.dataclass(frozen=True)
class Report:
    """How a capture was aligned.

    Attributes:
      method: The method used.
      scale: World units per unit of the source.
      rotation: Of the source's world into the head frame.
      translation: World units.
      residual: Median distance of aligned points from where they belong, world units; NaN where
        nothing was compared.
      reprojection: Median distance of triangulated landmarks from seen ones, image sides; NaN
        where nothing was seen.
      views: Frames whose landmarks were used.
      warnings: One line each, with what to change.
    """

    method: str
    scale: float = 1.0
    rotation: tuple[tuple[float, ...], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    translation: tuple[float, ...] = (0.0, 0.0, 0.0)
    residual: float = float("nan")
    reprojection: float = float("nan")
    views: int = 0
    warnings: tuple[str, ...] = ()


def align_capture(
    capture: records.Capture,
    config: data_config.DataConfig,
    *,
    find_landmarks: head_landmarks.FindLandmarks | None = None,
    box_side: float = 1.0,
) -> tuple[records.Capture, Report]:
    """Brings all cameras of a capture into the head frame.

    Args:
      capture: Frames in the source's world.
      config: `align` says how.
      find_landmarks: Face detector; needed by "auto", "scale" without a number, and
        "landmark_normalization".
      box_side: Edge of the generator's cube, world units.

    Returns:
      capture: The same frames with moved cameras.
      report: The similarity, residuals and warnings.

    Raises:
      DataFormatError: no face is found, a file is wrong, or points do not fix a similarity.

    Source: similarity of cameras as in CONVENTIONS.md.
    """
    method = resolve_method(config)
    align = config.align
    if method == "none":
        report = Report(method)
    elif method in ("points", "mesh"):
        report = _align_by_files(align, method)
    elif method == "scale" and align.scale > 0:
        report = Report(method, scale=align.scale)
    else:
        report = _align_by_landmarks(capture, align, _needed(find_landmarks, method))
        report = dataclasses.replace(report, method=method)
        if method == "scale":
            report = dataclasses.replace(
                report, rotation=Report.rotation, translation=Report.translation
            )
    moved = move_cameras(capture, report)
    if method == "landmark_normalization":
        moved = landmark_normalization.normalize(moved, _needed(find_landmarks, method))
    return moved, dataclasses.replace(report, warnings=_warnings(moved, report, box_side))


def resolve_method(config: data_config.DataConfig) -> str:
    """Says which method "default" stands for.

    Args:
      config: Format and method.

    Returns:
      "none" for layouts whose cameras are in the head frame, "auto" for the others; or the method
      that was asked for.
    """
    if config.align.method != "default":
        return config.align.method
    return "none" if config.format in reader_table.ALIGNED else "auto"


def move_cameras(capture: records.Capture, report: Report) -> records.Capture:
    """Applies a similarity to all cameras.

    Args:
      capture: Frames in the source's world.
      report: The similarity.

    Returns:
      Frames whose cameras have rotation Q R and centre s Q o + t.

    """
    found = similarity.Similarity(
        report.scale, np.array(report.rotation), np.array(report.translation)
    )
    frames = []
    for frame in capture.frames:
        label25 = frame.label25.astype(np.float64)
        label25[:16] = similarity.move_cameras(label25[:16].reshape(4, 4), found).ravel()
        frames.append(dataclasses.replace(frame, label25=label25.astype(np.float32)))
    return dataclasses.replace(capture, frames=tuple(frames))


def _needed(
    find_landmarks: head_landmarks.FindLandmarks | None, method: str
) -> head_landmarks.FindLandmarks:
    if find_landmarks is None:
        raise ValueError(f"align.method {method!r} needs a face detector; got None.")
    return find_landmarks


def _align_by_landmarks(
    capture: records.Capture,
    align: data_config.AlignConfig,
    find_landmarks: head_landmarks.FindLandmarks,
) -> Report:
    """Aligns by the face itself, read in frames spread over the capture."""
    head = head_landmarks.load_head_landmarks()
    chosen = np.linspace(0, len(capture.frames) - 1, min(align.views, len(capture.frames)))
    seen, labels = [], []
    for index in np.unique(chosen.round().astype(int)):
        frame = capture.frames[index]
        points = _read_twice(frame.read_pixels()[0], find_landmarks, head)
        if points is not None:
            seen.append(points / frame.size)
            labels.append(frame.label25.astype(np.float64))
    if len(seen) < _FEWEST_VIEWS:
        raise errors.DataFormatError(
            f"{capture.name}: aligning it needs a readable face in at least {_FEWEST_VIEWS} frames "
            f"from different sides; got {len(seen)} of {len(chosen)} frames tried. Raise "
            "data.align.views, or set data.align.method to points, mesh, scale or none."
        )
    uv, label25 = np.stack(seen).astype(np.float64), np.stack(labels)
    poses, intrinsics = label25[:, :16].reshape(-1, 4, 4), label25[:, 16:].reshape(-1, 3, 3)
    try:
        found = fit_head(uv, poses, intrinsics)
    except ValueError as error:
        raise errors.DataFormatError(
            f"{capture.name}: its landmarks do not fix an alignment ({error})"
        ) from error
    return Report(
        "auto",
        found.alignment.scale,
        tuple(map(tuple, found.alignment.rotation.tolist())),
        tuple(found.alignment.translation.tolist()),
        residual=float(np.median(found.alignment.residual)),
        reprojection=found.reprojection,
        views=found.views,
    )


def _read_twice(
    image: UInt8[np.ndarray, "h w 3"],
    find_landmarks: head_landmarks.FindLandmarks,
    head: head_landmarks.HeadLandmarks,
) -> Float[np.ndarray, "n 2"] | None:
    """Averages what is read in an image and in its mirror image: the detector takes sides."""
    points, mirrored = find_landmarks(image), find_landmarks(np.ascontiguousarray(image[:, ::-1]))
    if points is None or mirrored is None:
        return None
    back = mirrored[head.indices[head.partners], :2].astype(np.float64)
    back[:, 0] = image.shape[1] - back[:, 0]
    return 0.5 * (points[head.indices, :2] + back)


def fit_head(
    uv: Float[np.ndarray, "v n 2"],
    cam2world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
) -> HeadFit:
    """Finds the similarity that carries a capture's world into the head frame.

    Args:
      uv: Where each view sees the landmarks of `head_landmarks`, 0..1 across the image.
      cam2world: Poses in the capture's world.
      intrinsics: Normalised by the image size.

    Returns:
      The similarity, from the views that look at the face.

    Raises:
      ValueError: the views do not fix the landmarks' places, or these no similarity.

    Source: triangulation, then the model of heads; see geometry.point_models.
    """
    model = head_landmarks.load_head_landmarks().model
    points, residual = triangulation.triangulate(uv, cam2world, intrinsics)
    found = point_models.align(points, model)
    front = _is_frontal(cam2world, found.rotation)
    if front.sum() >= _FEWEST_VIEWS and not front.all():
        points, residual = triangulation.triangulate(uv[front], cam2world[front], intrinsics[front])
        found = point_models.align(points, model)
    return HeadFit(found, float(np.nanmedian(residual)), int(front.sum()))


def _is_frontal(poses: Float[np.ndarray, "v 4 4"], rotation: Float[np.ndarray, "3 3"]):  # noqa: ANN202
    backward = -(rotation @ poses[:, :3, 2].T).T
    return backward[:, 2] > np.cos(np.radians(_FRONT_DEG))


def _align_by_files(align: data_config.AlignConfig, method: str) -> Report:
    """Aligns by pairs of points that the user vouches for."""
    if method == "mesh":
        source, target = read_vertices(align.source_file), read_vertices(align.target_file)
    else:
        source, target = _read_pairs(align.source_file)
    if source.shape != target.shape:
        raise errors.DataFormatError(
            f"{align.source_file}: expected as many points as in the target; got {len(source)} and "
            f"{len(target)}. Both must have the same points in the same order."
        )
    plain = point_models.PointModel(target, np.zeros((*target.shape, 0)), 1.0)
    try:
        found = point_models.align(source, plain)
    except ValueError as error:
        raise errors.DataFormatError(f"{align.source_file}: {error}") from error
    return Report(
        method,
        found.scale,
        tuple(map(tuple, found.rotation.tolist())),
        tuple(found.translation.tolist()),
        residual=float(np.median(found.residual)),
    )


def read_vertices(path: str | pathlib.Path) -> Float[np.ndarray, "n 3"]:
    """Reads the vertices of a mesh.

    Args:
      path: An .obj file, or an .npy array of shape [n, 3].

    Returns:
      The vertices.

    Raises:
      DataFormatError: there is no such file, or it holds no vertices.

    Source: Wavefront OBJ.
    """
    try:
        if pathlib.Path(path).suffix == ".npy":
            found = np.load(path, allow_pickle=False).astype(np.float64)
        else:
            lines = text_files.read_text(path).splitlines()
            rows = [line.split()[1:4] for line in lines if line.startswith("v ")]
            found = np.array(rows, np.float64)
    except (OSError, ValueError) as error:
        raise errors.DataFormatError(
            f"{path}: vertices cannot be read ({error}). Give an .obj or .npy file in "
            "data.align.source_file and data.align.target_file."
        ) from error
    if found.ndim != 2 or found.shape[1] != 3 or not np.isfinite(found).all():
        raise errors.DataFormatError(
            f"{path}: expected finite vertices of shape nx3; got {found.shape}. Export it again."
        )
    return found


def _read_pairs(path: str) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Reads pairs of points, or points by landmark number, whose targets we know."""
    try:
        content: Any = text_files.parse_json(text_files.read_bytes(path))
    except (OSError, ValueError) as error:
        raise errors.DataFormatError(
            f"{path}: points cannot be read ({error}). Set data.align.source_file to a JSON file."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("landmarks"), Mapping):
        head = head_landmarks.load_head_landmarks()
        row = {str(index): place for place, index in enumerate(head.indices.tolist())}
        unknown = [name for name in content["landmarks"] if name not in row]
        if unknown:
            raise errors.DataFormatError(
                f"{path}: landmark {unknown[0]!r} is not one of the {len(row)} rigid ones. Use "
                f"numbers such as {', '.join(list(row)[:6])}."
            )
        listed = list(content["landmarks"].values())
        target = head.model.mean[[row[name] for name in content["landmarks"]]]
        return json_files.as_array(listed, (-1, 3), where=f'{path}: "landmarks"'), target
    if not isinstance(content, Mapping):
        content = {}
    return (
        json_files.array(dict(content), "source", (-1, 3), where=path),
        json_files.array(dict(content), "target", (-1, 3), where=path),
    )


def _warnings(capture: records.Capture, report: Report, box_side: float) -> tuple[str, ...]:
    """Says what the numbers alone show to be wrong, before hours of training do."""
    found = []
    if report.residual > _LARGEST_RESIDUAL:
        found.append(
            f"aligned points lie {report.residual:.3f} units off (median); up to "
            f"{_LARGEST_RESIDUAL} is usual. Check cameras, or align by points or mesh."
        )
    centers = np.stack([frame.label25[[3, 7, 11]] for frame in capture.frames])
    distance = float(np.median(np.linalg.norm(centers, axis=1)))
    if not _DISTANCES[0] <= distance <= _DISTANCES[1]:
        found.append(
            f"cameras stand {distance:.2f} units from the head (median); {ffhq_camera.RADIUS} is "
            "usual. Set data.align.method=auto, or data.align.scale."
        )
    if capture.has_alpha:
        shares = []
        for frame in capture.frames[:: max(1, len(capture.frames) // 8)]:
            alpha = frame.read_pixels()[1]
            if alpha is not None:
                shares.append(cropping.share_outside(alpha, frame.label25, side=box_side))
        if shares and np.median(shares) > _LARGEST_OUTSIDE:
            found.append(
                f"{np.median(shares):.0%} of the matte lies outside the box of {box_side:g} units. "
                "Take shoulders out of the matte, correct data.align, or enlarge "
                "generator.render.box_warp."
            )
    return tuple(found)
