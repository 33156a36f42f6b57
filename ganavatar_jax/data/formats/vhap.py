"""Reads what VHAP exports, GaussianAvatars' data sets: cameras that stand before a head that moves.

    transforms_train.json    and transforms_val.json, transforms_test.json; a camera a frame, OpenGL
    images/00000_00.png      time step and camera
    fg_masks/00000_00.png    "fg_mask_path": mattes
    flame_param/00000.npz    "flame_param_path": rotation [1 3], neck_pose [1 3] (axis-angle),
                             translation [1 3], expr [1 100], jaw_pose [1 3]

The tracked head carries the cameras into its own frame, FLAME's. FLAME turns a head around its root
joint and around its neck joint, whose places follow from the person's shape and are not in the
files: where a head turns, `data.reader.flame_joints` has to name them.

Source: VHAP (Qian 2024) and GaussianAvatars (Qian et al. 2024), layout of their data sets.
"""

import dataclasses

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.core.readers import npz_files
from ganavatar_jax.data import data_config, records
from ganavatar_jax.data.formats import (
    assembly,
    cameras,
    conventions,
    file_tree,
    json_files,
    names,
    transforms,
)

_STILL_RAD = 1e-3  # Turns below: where the joints are makes less than a tenth of a millimetre.
_SHAPES = {"rotation": 3, "neck_pose": 3, "translation": 3, "jaw_pose": 3}


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads an export of VHAP.

    Args:
      tree: Folder or zip with transforms_train.json.
      options: `flame_joints` places the joints around which heads turn.

    Returns:
      The capture, in FLAME's frame.

    Raises:
      DataFormatError: the capture breaks the layout, or a head turns and its joints are not named.

    Source: VHAP.
    """
    joints = np.array(options.flame_joints, np.float64).reshape(-1, 3)
    tracked: dict[str, dict[str, np.ndarray]] = {}
    entries = []
    found = transforms.read_frames(tree)
    for frame in found:
        where = f"{tree.path}: {frame.entry.frame_id}"
        given = json_files.text(frame.values, "flame_param_path", where=where)
        name = names.find(tree, given, where=where)
        if name is None:
            raise errors.DataFormatError(
                f"{where}: {given} is not there; the head's pose is needed for every frame. Export "
                "with --mode param."
            )
        if name not in tracked:
            tracked[name] = _read_parameters(tree, name)
        head = _place_head(tracked[name], joints, where=f"{tree.path}: {name}")
        code = np.concatenate([tracked[name]["expr"], tracked[name]["jaw_pose"]])
        entries.append(
            dataclasses.replace(
                frame.entry,
                cam2world=conventions.from_world2cam(head) @ frame.entry.cam2world,
                expression=code.astype(np.float32),
            )
        )
    return assembly.make_capture(
        tree,
        entries,
        name_code=_name_code,
        background="white",
        one_size=len({frame.camera.size for frame in found}) == 1,
        notes=cameras.describe([frame.camera for frame in found]),
    )


open_capture = assembly.opener(read_capture)


def _name_code(length: int) -> list[str]:
    names_ = [f"flame_exp_{index:02d}" for index in range(length - 3)]
    return [*names_, "flame_jaw_x", "flame_jaw_y", "flame_jaw_z"]


def _read_parameters(tree: file_tree.FileTree, name: str) -> dict[str, np.ndarray]:
    """Reads a time step's FLAME parameters, each as one row."""
    where = f"{tree.path}: {name}"
    try:
        arrays = npz_files.read_bytes(tree.read(name), label=where)
    except errors.WeightError as error:
        raise errors.DataFormatError(f"{error}. Export the capture again.") from error
    read = {}
    for key in (*_SHAPES, "expr"):
        array = arrays.get(key, np.zeros(0)).astype(np.float64).ravel()
        wanted = _SHAPES.get(key, len(array))
        if not len(array) or len(array) != wanted or not np.isfinite(array).all():
            raise errors.DataFormatError(
                f"{where}: {key} must hold {wanted or 'some'} finite numbers; got {len(array)}. "
                "Export the capture again."
            )
        read[key] = array
    return read


def _place_head(
    tracked: dict[str, np.ndarray], joints: Float[np.ndarray, "j 3"], *, where: str
) -> Float[np.ndarray, "4 4"]:
    """Head to world: the neck's turn, then the root's, each around its joint, then the shift."""
    head = np.eye(4)
    for index, key in ((1, "neck_pose"), (0, "rotation")):
        angles = tracked[key]
        if len(joints) == 0 and np.linalg.norm(angles) > _STILL_RAD:
            raise errors.DataFormatError(
                f"{where}: the head turns ({key}, {np.degrees(np.linalg.norm(angles)):.1f} "
                "degrees) around a joint of FLAME that the files do not place. Set "
                "data.reader.flame_joints to root x y z and neck x y z of the person's FLAME (its "
                "J_regressor on the shaped template)."
            )
        joint = joints[index] if len(joints) else np.zeros(3)
        turn = np.eye(4)
        turn[:3, :3] = conventions.from_axis_angle(angles)
        turn[:3, 3] = joint - turn[:3, :3] @ joint
        head = turn @ head
    head[:3, 3] += tracked["translation"]
    return head
