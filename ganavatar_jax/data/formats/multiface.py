"""Reads captures in the layout of Multiface, version 2 (and 1).

    KRT                                          text: name, 3x3 K, distortion, 3x4 [R | t], blank
    images/<segment>/<camera>/<frame>.png        raw images
    tracked_mesh/<segment>/<frame>_transform.txt 3x4 head pose, head to world
    alpha/<segment>/<camera>/<frame>.png         optional mattes, ours

Cameras are world-to-camera with OpenCV axes in a world of millimetres; together with the head's
pose they become cameras in the head's frame, so that one alignment serves all frames. Raw colours
are linear and greenish: `data.reader.gamma` brightens them as the data set's own viewer does. A
segment is a sequence (`data.split.test_sequences`); `data.reader.cameras` and `.sequences` choose.

Source: Multiface (Wuu et al. 2022) and its documentation of the files.
"""

import functools
from typing import NamedTuple

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.data import data_config, records
from ganavatar_jax.data.formats import (
    assembly,
    conventions,
    file_tree,
    lenses,
    matte_files,
    pictures,
)

# The viewer's tone curve: (0.95 (s x - b) / (1 - b))^(1/gamma) - 15/255, with a scale s for each
# colour relative to green and the black level b. Measured by the data set's authors.
_COLOR_SCALE = np.array([1.4, 1.1, 1.6]) / 1.1
_BLACK = 3.0 / 255.0
_GAIN = 0.95
_OFFSET = 15.0 / 255.0


class Calibration(NamedTuple):
    """One camera of KRT: intrinsics in pixels, k1 k2 p1 p2 k3, world-to-camera [R | t]."""

    intrinsics_px: Float[np.ndarray, "3 3"]
    distortion: Float[np.ndarray, "5"]
    world2cam: Float[np.ndarray, "3 4"]


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads a capture in Multiface's layout.

    Args:
      tree: Folder or zip with the file KRT.
      options: `cameras` and `sequences` keep some, `gamma` brightens.

    Returns:
      The capture, in the tracked head's frame.

    Raises:
      DataFormatError: the capture breaks the layout.

    Source: Multiface.
    """
    cameras = read_krt(tree)
    found = [part for name in tree.names if (part := _parts(name)) is not None]
    if not found:
        raise errors.DataFormatError(
            f"{tree.path}: there are no images/<segment>/<camera>/<frame>.png. Check "
            "data.format and data.source."
        )
    segments = assembly.choose(
        tree, sorted({part[0] for part in found}), options.sequences, what="segment"
    )
    chosen = assembly.choose(
        tree, sorted({part[1] for part in found}), options.cameras, what="camera"
    )
    wanted = [part for part in found if part[0] in segments and part[1] in chosen]
    entries = [_make_entry(tree, part, cameras) for part in wanted]
    correct = functools.partial(brighten, gamma=options.gamma) if options.gamma else None
    return assembly.make_capture(tree, entries, correct=correct)


open_capture = assembly.opener(read_capture)


def read_krt(tree: file_tree.FileTree) -> dict[str, Calibration]:
    """Reads the calibration file.

    Args:
      tree: The capture.

    Returns:
      Calibrations by camera name.

    Raises:
      DataFormatError: there is no KRT, or a block is damaged.

    Source: Multiface.
    """
    if "KRT" not in tree.names:
        raise errors.DataFormatError(
            f"{tree.path}: there is no file KRT (camera calibration) at its root. Download it with "
            "the images, or check data.format."
        )
    text = file_tree.read_small(tree, "KRT").decode("utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    cameras = {}
    for start in range(0, len(lines), 8):
        name, *rows = lines[start : start + 8]
        try:
            numbers = [np.array(row.split(), np.float64) for row in rows]
            parts = np.stack(numbers[:3]), numbers[3], np.stack(numbers[4:])
            right = [part.shape for part in parts] == [(3, 3), (5,), (3, 4)]
        except ValueError:
            parts, right = (), False
        if not right or not all(np.isfinite(part).all() for part in parts):
            raise errors.DataFormatError(
                f"{tree.path}: KRT: camera {name.strip()!r:.80} must have 3 lines of intrinsics, "
                "one of 5 distortion coefficients and 3 of [R | t]. Download the file again."
            )
        cameras[name.strip()] = Calibration(*parts)
    return cameras


def brighten(image: UInt8[np.ndarray, "h w 3"], *, gamma: float) -> UInt8[np.ndarray, "h w 3"]:
    """Applies the tone curve of Multiface's viewer to a raw image.

    Args:
      image: Raw colours.
      gamma: Exponent's inverse; the viewer has 2.

    Returns:
      Display colours.

    Source: Multiface.
    """
    raw = image / 255.0 * _COLOR_SCALE - _BLACK
    display = (_GAIN / (1.0 - _BLACK) * np.maximum(raw, 0.0)) ** (1.0 / gamma) - _OFFSET
    return np.rint(np.clip(display, 0.0, 1.0) * 255.0).astype(np.uint8)


def _parts(name: str) -> tuple[str, str, str, str] | None:
    """Splits images/<segment>/<camera>/<frame>.png; None for other files."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "images" or not pictures.is_picture(name):
        return None
    return parts[1], parts[2], parts[3].rpartition(".")[0], name


def _make_entry(
    tree: file_tree.FileTree,
    part: tuple[str, str, str, str],
    cameras: dict[str, Calibration],
) -> assembly.Entry:
    """Places a camera around the head, which moves before fixed cameras."""
    segment, camera, frame, image = part
    if camera not in cameras:
        raise errors.DataFormatError(
            f"{tree.path}: {image}: KRT has no camera {camera}. Remove the folder or complete KRT."
        )
    intrinsics_px, distortion, world2cam = cameras[camera]
    head = _read_head_pose(tree, segment, frame)
    # Head to world, then world to camera: cameras in the head's frame.
    head2cam = conventions.homogeneous(world2cam) @ head
    return assembly.Entry(
        frame_id=image,
        image=image,
        matte=matte_files.find(tree, image),
        cam2world=conventions.from_world2cam(head2cam),
        intrinsics=conventions.normalize_intrinsics(
            np.array([intrinsics_px[0, 0], intrinsics_px[1, 1]]),
            intrinsics_px[:2, 2],
            size=assembly.image_size(tree, image),
            skew_px=float(intrinsics_px[0, 1]),
            first_pixel_at=0.0,
        ),
        lens=lenses.Lens(*distortion.tolist()),
        sequence=segment,
    )


def _read_head_pose(tree: file_tree.FileTree, segment: str, frame: str) -> Float[np.ndarray, "4 4"]:
    """Reads where the head is in one frame; without it, the cameras cannot follow."""
    name = f"tracked_mesh/{segment}/{frame}_transform.txt"
    if name not in tree.known:
        raise errors.DataFormatError(
            f"{tree.path}: {name} is not there; the head's pose is needed for every frame. "
            "Download tracked_mesh/ or leave the segment out (data.reader.sequences)."
        )
    try:
        pose = np.array(file_tree.read_small(tree, name).split(), np.float64).reshape(3, 4)
    except ValueError as error:
        raise errors.DataFormatError(
            f"{tree.path}: {name} must hold 3x4 numbers ({error!s:.200}). Download it again."
        ) from error
    return conventions.homogeneous(pose)
