"""Cameras from what a head looks like: COLMAP's features, matches and bundle adjustment.

The head counts as static and the camera as moving, because all but the rigid part of the head is
masked out. Poses start where landmarks put them, so that no pair of views has to found a model:
points are triangulated from these poses, generously at first, and points and poses are adjusted
together. Which views are compared follows from the same poses: every view with the nearest of a few
dozen views that are spread over all sides.

Source: COLMAP (Schonberger and Frahm 2016) through pycolmap; masks as in GAN-Avatar (Kabadayi et
al. 2024), appendix C.
"""

import os
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Bool, Float, Int, UInt8
from ganavatar_jax.runs import signals

_WORKERS = min(os.cpu_count() or 1, 8)
_CHUNK = 20  # Pictures whose features are found between two reports of progress.
_PEAK = 0.0033  # Half of SIFT's usual contrast: skin is smooth.
_FEATURES = 2048
_REFERENCES, _REFERENCE_DEG = (20, 60), 10.0
_NEIGHBOURS, _NEIGHBOUR_DEG = 6, 30.0
_PATIENCE = (3.0, 2.0, 1.0)  # Factors on COLMAP's limits: landmark poses are rough.
_LIMIT_PX, _LIMIT_DEG = 4.0, 2.0  # COLMAP's.
_CAUCHY_PX = 1.0


class Structure(NamedTuple):
    """Adjusted cameras.

    Attributes:
      cam2world: Poses, in a world near the one that they started in.
      seen: How many points each picture sees.
      residual_px: Median distance of projected points from features; NaN without any.
    """

    cam2world: Float[np.ndarray, "f 4 4"]
    seen: Int[np.ndarray, " f"]
    residual_px: Float[np.ndarray, " f"]


def passes() -> int:
    """Says how often `adjust` should be called.

    Returns:
      The number of passes.
    """
    return len(_PATIENCE)


def check_available() -> None:
    """Refuses to begin what cannot be finished.

    Raises:
      MissingDependencyError: pycolmap is not installed.
    """
    _import_pycolmap()


def match_pictures(
    folder: pathlib.Path,
    pictures: Iterable[tuple[UInt8[np.ndarray, "s s 3"], Bool[np.ndarray, "s s"]]],
    cam2world: Float[np.ndarray, "f 4 4"],
    intrinsics_px: Float[np.ndarray, "f 3 3"],
    *,
    progress: Any = None,
) -> None:
    """Finds features of all pictures and which of them show the same spot.

    Args:
      folder: Where pictures, masks and COLMAP's database go; emptied first.
      pictures: Every frame's picture and where features count.
      cam2world: Rough poses.
      intrinsics_px: Of each picture.
      progress: Called with the stage, the number of finished pictures and of all.

    Raises:
      MissingDependencyError: pycolmap is not installed.
      RunError: the folder cannot be written.

    Source: module text.
    """
    pycolmap = _import_pycolmap()
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("pictures", "masks"):
        files.make_folder(folder / name)
    reading = pycolmap.ImageReaderOptions()
    reading.mask_path, reading.camera_model = folder / "masks", "PINHOLE"
    finding = pycolmap.FeatureExtractionOptions()
    finding.num_threads = _WORKERS
    finding.sift.peak_threshold, finding.sift.max_num_features = _PEAK, _FEATURES
    waiting: list[str] = []
    if progress is not None:
        progress("features", 0, len(cam2world))
    for index, (picture, mask) in enumerate(pictures):
        waiting.append(_name(index))
        _save(folder / "pictures" / _name(index), picture)
        _save(folder / "masks" / f"{_name(index)}.png", mask.astype(np.uint8) * 255)
        if len(waiting) == _CHUNK or index + 1 == len(cam2world):
            pycolmap.extract_features(
                _database(folder),
                folder / "pictures",
                image_names=waiting,
                camera_mode=pycolmap.CameraMode.PER_IMAGE,
                reader_options=reading,
                extraction_options=finding,
            )
            waiting = []
            if progress is not None:
                progress("features", index + 1, len(cam2world))
    with pycolmap.Database.open(_database(folder)) as database:
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
        for image in database.read_all_images():
            camera = cameras[image.camera_id]
            camera.params = _pinhole(intrinsics_px[_index(image.name)])
            camera.has_prior_focal_length = True
            database.update_camera(camera)
    if progress is not None:
        progress("matches", 0, len(cam2world))
    listed = "\n".join(f"{_name(i)} {_name(j)}" for i, j in choose_pairs(cam2world))
    files.write_atomic(folder / "pairs.txt", listed)
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = folder / "pairs.txt"
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = _WORKERS
    verification = pycolmap.TwoViewGeometryOptions()
    verification.detect_watermark = False  # Crops keep the head in place: not a watermark.
    verification.ransac.random_seed = 0
    pycolmap.match_image_pairs(_database(folder), matching, pairing, verification)


def adjust(
    folder: pathlib.Path,
    cam2world: Float[np.ndarray, "f 4 4"],
    intrinsics_px: Float[np.ndarray, "f 3 3"],
    *,
    index: int,
) -> Structure:
    """Triangulates matched features and adjusts points and poses.

    Args:
      folder: What `match_pictures` filled.
      cam2world: Poses to start from.
      intrinsics_px: Of each picture; they stay.
      index: Number of the pass; later ones are stricter.

    Returns:
      The cameras. A picture without features keeps its pose.

    Source: module text.
    """
    pycolmap = _import_pycolmap()
    patience = _PATIENCE[index]
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = _WORKERS, 0
    options.ba_refine_focal_length = options.ba_refine_extra_params = False
    options.extract_colors = False
    options.mapper.filter_max_reproj_error = _LIMIT_PX * patience
    triangulation = options.triangulation
    triangulation.random_seed = 0
    triangulation.create_max_angle_error = _LIMIT_DEG * patience
    triangulation.continue_max_angle_error = _LIMIT_DEG * patience
    triangulation.merge_max_reproj_error = _LIMIT_PX * patience
    triangulation.complete_max_reproj_error = _LIMIT_PX * patience
    model = pycolmap.triangulate_points(
        _start(pycolmap, folder, cam2world, intrinsics_px),
        _database(folder),
        folder / "pictures",
        files.make_folder(folder / "model"),
        options=options,
    )
    adjustment = pycolmap.BundleAdjustmentOptions()
    adjustment.refine_focal_length = adjustment.refine_extra_params = False
    adjustment.print_summary = False
    adjustment.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    adjustment.ceres.loss_function_scale = _CAUCHY_PX
    adjustment.ceres.solver_options.max_num_iterations = 50
    adjustment.ceres.solver_options.function_tolerance = 1e-5
    adjustment.ceres.solver_options.num_threads = _WORKERS
    if model.num_points3D():
        _adjust_bundle(pycolmap, model, adjustment)
    return _read(model, cam2world, intrinsics_px)


def choose_pairs(cam2world: Float[np.ndarray, "f 4 4"]) -> list[tuple[int, int]]:
    """Chooses which views are compared.

    Args:
      cam2world: Rough poses.

    Returns:
      Pairs of different numbers, the smaller first: each view with its followers and with the
      nearest of some views that are spread over all directions.

    Source: ours; farthest-point sampling (Gonzalez 1985).
    """
    forward = cam2world[:, :3, 2]
    count = len(forward)
    spread = [int(np.argmax(forward @ forward.sum(axis=0)))]
    nearest = forward @ forward[spread[0]]
    fewest, most = min(_REFERENCES[0], count), min(_REFERENCES[1], count)
    limit = np.cos(np.radians(_REFERENCE_DEG))
    while len(spread) < fewest or (nearest.min() < limit and len(spread) < most):
        nearest[spread] = 2.0  # Taken: never again.
        spread.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, forward @ forward[spread[-1]])
    likeness = forward @ forward[spread].T
    pairs = {(i, i + 1) for i in range(count - 1)}
    for i in range(count):
        order = [c for c in np.argsort(-likeness[i]) if spread[c] != i][:_NEIGHBOURS]
        near = np.cos(np.radians(_NEIGHBOUR_DEG))
        pairs |= {_ordered(i, spread[c]) for c in order if likeness[i, c] > near}
    return sorted(pairs)


def _ordered(i: int, j: int) -> tuple[int, int]:
    return (i, j) if i < j else (j, i)


def _start(
    pycolmap: Any, folder: pathlib.Path, cam2world: np.ndarray, intrinsics_px: np.ndarray
) -> Any:
    """A model of the given poses, without points."""
    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(_database(folder)) as database:
        images = database.read_all_images()
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
    for image in images:
        index = _index(image.name)
        camera = cameras[image.camera_id]
        camera.params = _pinhole(intrinsics_px[index])
        model.add_camera_with_trivial_rig(camera)
        world2cam = np.linalg.inv(cam2world[index])
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(world2cam[:3, :3]), world2cam[:3, 3])
        fresh = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image.image_id)
        model.add_image_with_trivial_frame(fresh, pose)
    return model


def _adjust_bundle(pycolmap: Any, model: Any, options: Any) -> None:
    """Does what `pycolmap.bundle_adjustment` does, which turns COLMAP's own log on again."""
    pycolmap.ObservationManager(model).filter_observations_with_negative_depth()
    scope = pycolmap.BundleAdjustmentConfig()
    for number in model.reg_image_ids():
        scope.add_image(number)
    scope.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, scope, model).solve()


def _read(model: Any, cam2world: np.ndarray, intrinsics_px: np.ndarray) -> Structure:
    """Takes poses out of COLMAP's model, and how well each view agrees with its points."""
    poses = cam2world.copy()
    seen = np.zeros(len(poses), np.int64)
    residual = np.full(len(poses), np.nan)
    places = {number: point.xyz for number, point in model.points3D.items()}
    for image in model.images.values():
        index = _index(image.name)
        world2cam = image.cam_from_world().matrix()
        poses[index, :3, :3] = world2cam[:, :3].T
        poses[index, :3, 3] = -world2cam[:, :3].T @ world2cam[:, 3]
        found = [(p.xy, places[p.point3D_id]) for p in image.points2D if p.has_point3D()]
        seen[index] = len(found)
        if found:
            pixels, points = (np.stack(part) for part in zip(*found, strict=True))
            local = points @ world2cam[:, :3].T + world2cam[:, 3]
            projected = (local @ intrinsics_px[index].T)[:, :2] / local[:, 2:]
            residual[index] = np.median(np.linalg.norm(projected - pixels, axis=1))
    return Structure(poses, seen, residual)


def _pinhole(intrinsics_px: Float[np.ndarray, "3 3"]) -> list[float]:
    return [float(intrinsics_px[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2))]


def _name(index: int) -> str:
    return f"{index:06d}.png"


def _index(name: str) -> int:
    return int(pathlib.PurePath(name).stem)


def _database(folder: pathlib.Path) -> pathlib.Path:
    return folder / "database.db"


def _save(path: pathlib.Path, pixels: np.ndarray) -> None:
    with files.atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)


def _import_pycolmap():  # noqa: ANN202 (an optional module)
    try:
        import pycolmap  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise errors.MissingDependencyError(
            "cameras of videos are found by pycolmap; it is not installed. pip install "
            "'ganavatar-jax[preprocess]', or set data.video.cameras=landmarks (less exact)."
        ) from error
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value  # others are raised
    signals.take_back()  # its log prints a stack for every signal, and ends the process
    return pycolmap
