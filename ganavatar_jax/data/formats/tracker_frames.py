"""Reads the checkpoints of the metrical tracker: cameras only, and no code of theirs is run.

    checkpoint/00001.frame   torch's zip around a pickle of NumPy arrays: "opencv": {"R" [1 3 3],
                             "t" [1 3], "K" [1 3 3]}, "img_size" [height, width]
    images/00001.png         or source/, input/: the frame of the same name; RGBA or RGB
    alpha/00001.png          optional mattes; also matted/

R and t are world-to-camera with OpenCV axes, the world is FLAME's. INSTA's converter reads these
files, too; captures it has converted are read as `insta`, with their codes.

Source: the metrical tracker (Zielonka et al. 2022), its checkpoints.
"""

import io
import zipfile
import zlib
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.core.readers import numpy_pickle, pickle_values, safe_pickle
from ganavatar_jax.data import data_config, records
from ganavatar_jax.data.formats import (
    assembly,
    conventions,
    file_tree,
    json_files,
    matte_files,
    names,
)

_ENDING = ".frame"
_IMAGE_FOLDERS = ("images", "source", "input", "")
_LIMIT_BYTES = 1 << 26  # A checkpoint has less than a megabyte.
_DAMAGE = (zipfile.BadZipFile, OSError, ValueError, EOFError, RuntimeError, zlib.error)


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads a folder of the metrical tracker.

    Args:
      tree: Folder or zip with checkpoint/*.frame and the images.
      options: Not needed here.

    Returns:
      The capture, in FLAME's frame.

    Raises:
      DataFormatError: the capture breaks the layout, or a checkpoint holds anything but data.

    Source: the metrical tracker.
    """
    del options
    found = sorted((n for n in tree.names if n.endswith(_ENDING)), key=json_files.by_number)
    if not found:
        raise errors.DataFormatError(
            f"{tree.path}: there are no checkpoint/<number>.frame. Set data.source to the actor's "
            "folder with the tracker's output in it, or check data.format."
        )
    return assembly.make_capture(
        tree, [_read_frame(tree, name) for name in found], unused="they have no .frame file"
    )


open_capture = assembly.opener(read_capture)


def _read_frame(tree: file_tree.FileTree, name: str) -> assembly.Entry:
    """Reads one checkpoint and finds its image by its number."""
    where = f"{tree.path}: {name}"
    content = _unpickle(tree.read(name), where)
    parts = content.get("opencv") if isinstance(content, dict) else None
    if not isinstance(parts, dict):
        raise errors.DataFormatError(
            f'{where}: expected "opencv" with R, t and K, as the tracker saves it. Track the '
            "frame again."
        )
    world2cam = np.eye(4)
    world2cam[:3, :3] = _array(parts, "R", 9, where).reshape(3, 3)
    world2cam[:3, 3] = _array(parts, "t", 3, where)
    intrinsics = _array(parts, "K", 9, where).reshape(3, 3)
    height, width = (round(side) for side in _array(content, "img_size", 2, where))
    if min(height, width) < 1:
        raise errors.DataFormatError(f"{where}: img_size must be positive. Track the frame again.")
    image = _find_image(tree, name, where)
    return assembly.Entry(
        frame_id=image,
        image=image,
        matte=matte_files.find(tree, image),
        cam2world=conventions.from_world2cam(world2cam),
        intrinsics=conventions.normalize_intrinsics(
            intrinsics[[0, 1], [0, 1]],
            intrinsics[:2, 2],
            size=(width, height),
            skew_px=float(intrinsics[0, 1]),
        ),
        size=(width, height),
    )


def _find_image(tree: file_tree.FileTree, name: str, where: str) -> str:
    folder, _, file = name.removesuffix(_ENDING).rpartition("/")
    actor = folder.rpartition("/")[0] if folder.endswith("checkpoint") else folder
    for place in _IMAGE_FOLDERS:
        base = f"{actor}/{place}".strip("/")
        found = names.find(tree, file, base=base, where=where, endings=True)
        if found is not None:
            return found
    return names.find_image(tree, f"images/{file}", where=where)


def _unpickle(data: bytes, where: str) -> Any:
    """Reads torch's zip as data: only NumPy's arrays are built."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pickles = [i for i in archive.infolist() if i.filename.endswith("data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > _LIMIT_BYTES:
                raise ValueError("no data.pkl, or one that is too large")
            buffer = memoryview(archive.read(pickles[0]))
    except _DAMAGE as error:
        raise errors.DataFormatError(
            f"{where}: expected a file that torch.save wrote ({error}). Track the frame again."
        ) from error
    try:
        lookup = pickle_values.table_lookup(numpy_pickle.NUMPY_RULES)
        value, _ = safe_pickle.load(buffer, label=where, lookup=lookup)
        return pickle_values.to_plain(value, budget=2 * len(buffer))
    except errors.WeightError as error:
        raise errors.DataFormatError(
            f"{where}: expected a pickle of arrays and nothing else ({error}). Track the frame "
            "again."
        ) from error


def _array(content: dict[Any, Any], key: str, count: int, where: str) -> Float[np.ndarray, " n"]:
    """Takes an array of so many numbers; leading axes of length 1 do not matter."""
    value = content.get(key)
    array = np.asarray(value) if isinstance(value, np.ndarray | list | tuple) else np.zeros(0)
    if array.size != count or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise errors.DataFormatError(
            f"{where}: {key} must hold {count} finite numbers. Track the frame again."
        )
    return array.astype(np.float64).ravel()
