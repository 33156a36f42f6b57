"""Writes the actor's frames and exact cameras as phones' apps and head trackers export them."""

import json
import pathlib
import pickle
import zipfile

import numpy as np

from helpers import layouts
from helpers.layouts import Shot


def pixel_intrinsics(shot: Shot) -> tuple[float, float, float, float]:
    side, k = shot.image.shape[0], shot.intrinsics
    return k[0, 0] * side, k[1, 1] * side, k[0, 2] * side, k[1, 2] * side


def write_nerfstudio(folder: pathlib.Path, shots: list[Shot]) -> pathlib.Path:
    """What nerfstudio's own processing leaves: smaller copies beside the images, a turned world."""
    turn = np.eye(4)[[0, 2, 1, 3]] * np.array([[1.0], [1.0], [-1.0], [1.0]])
    fx, fy, cx, cy = pixel_intrinsics(shots[0])
    frames = []
    for index, shot in enumerate(shots, start=1):
        name = f"frame_{index:05d}.png"
        layouts.save_png(folder / "images" / name, shot.image)
        layouts.save_png(folder / "images_2" / name, shot.image[::2, ::2])
        layouts.save_png(folder / "masks" / name, shot.alpha)
        pose = turn @ layouts.to_opengl(shot.cam2world)
        frames.append(
            {
                "file_path": f"images/{name}",
                "transform_matrix": pose.tolist(),
                "mask_path": f"masks/{name}",
                "colmap_im_id": index,
            }
        )
    side = shots[0].image.shape[0]
    content = {"w": side, "h": side, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}
    content |= dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0) | {"camera_model": "OPENCV"}
    content |= {"applied_transform": turn[:3].tolist(), "ply_file_path": "sparse_pc.ply"}
    layouts.save_json(folder / "transforms.json", content | {"frames": frames})
    return folder


def write_polycam(folder: pathlib.Path, shots: list[Shot]) -> pathlib.Path:
    for index, shot in enumerate(shots):
        stem = f"{21000000 + 350 * index}"
        layouts.save_png(folder / f"keyframes/corrected_images/{stem}.png", shot.image)
        layouts.save_png(folder / f"keyframes/images/{stem}.png", shot.image // 2)
        fx, fy, cx, cy = pixel_intrinsics(shot)
        side = shot.image.shape[0]
        content = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": side, "height": side}
        pose = layouts.to_opengl(shot.cam2world)
        content |= {f"t_{row}{col}": pose[row, col] for row in range(3) for col in range(4)}
        content |= {"blur_score": 120.0, "manual_keyframe": False, "neighbors": [1, 2]}
        layouts.save_json(folder / f"keyframes/corrected_cameras/{stem}.json", content)
    layouts.save_json(folder / "mesh_info.json", {"alignmentTransform": [1.0] * 16})
    return folder


def write_record3d(
    folder: pathlib.Path, shots: list[Shot], *, own_lenses: bool = True
) -> pathlib.Path:
    poses = []
    for index, shot in enumerate(shots):
        layouts.save_png(folder / f"rgb/{index}.png", shot.image)
        pose = layouts.to_opengl(shot.cam2world)
        w, x, y, z = layouts.quaternion(pose[:3, :3])
        poses.append([x, y, z, w, *pose[:3, 3]])
    side = shots[0].image.shape[0]
    fx, fy, cx, cy = pixel_intrinsics(shots[0])
    content = {
        "w": side,
        "h": side,
        "dw": 192,
        "dh": 256,
        "fps": 60,
        "poses": np.array(poses).tolist(),
    }
    content |= {"K": [fx, 0, 0, 0, fy, 0, cx, cy, 1], "initPose": poses[0], "cameraType": 0}
    content |= {"frameTimestamps": [index / 60 for index in range(len(shots))]}
    if own_lenses:
        content["perFrameIntrinsicCoeffs"] = [pixel_intrinsics(shot) for shot in shots]
        content["K"] = [1.0] * 9
    layouts.save_json(folder / "metadata.json", json.loads(json.dumps(content, default=float)))
    return folder


def write_tracker(folder: pathlib.Path, shots: list[Shot]) -> pathlib.Path:
    for index, shot in enumerate(shots, start=1):
        layouts.save_png(folder / f"images/{index:05d}.png", shot.image)
        layouts.save_png(folder / f"alpha/{index:05d}.png", shot.alpha)
        world2cam = layouts.to_world2cam(shot.cam2world)
        side = shot.image.shape[0]
        k = shot.intrinsics * np.array([[side], [side], [1.0]])
        content = {
            "flame": {"exp": np.zeros((1, 100), np.float32), "jaw": np.zeros((1, 6), np.float32)},
            "camera": {"R": np.eye(3)[None], "t": np.zeros((1, 3)), "fl": np.ones((1, 1))},
            "opencv": {"R": world2cam[None, :3, :3], "t": world2cam[None, :3, 3], "K": k[None]},
            "img_size": np.array([side, side]),
            "frame_id": f"{index:05d}",
            "global_step": 300 * index,
        }
        save_torch(folder / f"checkpoint/{index:05d}.frame", content)
    return folder


def save_torch(path: pathlib.Path, content: object) -> None:
    """torch.save's zip of a value that holds no tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr(f"{path.stem}/version", "3\n")


JOINTS = (0.001, -0.15, -0.012, 0.0, -0.05, -0.02)  # Root and neck, x y z each.


def write_vhap(folder: pathlib.Path, shots: list[Shot], *, turns: bool = True) -> pathlib.Path:
    """A head that turns at root and neck before cameras; a time step a shot."""
    frames = []
    for index, shot in enumerate(shots):
        stem = f"{index:05d}_00"
        layouts.save_png(folder / f"images/{stem}.png", shot.image)
        layouts.save_png(folder / f"fg_masks/{stem}.png", shot.alpha)
        generator = np.random.default_rng(index)
        scale = 0.4 if turns else 0.0
        rotation, neck = scale * generator.normal(size=(2, 3))
        translation = generator.normal(size=3)
        root_joint, neck_joint = np.array(JOINTS[:3]), np.array(JOINTS[3:])
        # x -> R0 (R1 (x - j1) + j1 - j0) + j0 + t
        outer, inner = rodrigues(rotation), rodrigues(neck)
        head = np.eye(4)
        head[:3, :3] = outer @ inner
        head[:3, 3] = outer @ (neck_joint - inner @ neck_joint - root_joint) + root_joint
        head[:3, 3] += translation
        path = folder / f"flame_param/{index:05d}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = {"rotation": rotation, "neck_pose": neck, "translation": translation}
        rows |= {
            "jaw_pose": np.zeros(3),
            "eyes_pose": np.zeros(6),
            "expr": np.resize(shot.code, 100),
        }
        np.savez(path, shape=np.zeros(300), **{key: row[None] for key, row in rows.items()})
        fx, fy, cx, cy = pixel_intrinsics(shot)
        side = shot.image.shape[0]
        frames.append(
            {
                **{"timestep_index": index, "timestep_id": f"{index:05d}", "camera_index": 0},
                **{"camera_id": "222200037", "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy},
                **{"w": side, "h": side, "camera_angle_x": 2 * np.arctan(0.5 * side / fx)},
                "transform_matrix": layouts.to_opengl(head @ shot.cam2world).tolist(),
                "file_path": f"images/{stem}.png",
                "fg_mask_path": f"fg_masks/{stem}.png",
                "flame_param_path": f"flame_param/{index:05d}.npz",
            }
        )
    shared = {key: frames[0][key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    for name, part in {"train": frames[:-1], "test": frames[-1:], "val": frames[:1]}.items():
        content = shared | {"frames": part, "timestep_indices": [0], "camera_indices": [0]}
        layouts.save_json(folder / f"transforms_{name}.json", content)
    return folder


def rodrigues(rotation: np.ndarray) -> np.ndarray:
    angle = np.linalg.norm(rotation)
    if angle == 0:
        return np.eye(3)
    x, y, z = rotation / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def write_nersemble_raw(
    folder: pathlib.Path, shots: list[Shot], *, sequences: tuple[str, ...] = ("EXP-1-head",)
) -> pathlib.Path:
    """A camera a shot, all with one lens; the first frame is the shot, the others are grey."""
    side = shots[0].image.shape[0]
    k = shots[0].intrinsics * np.array([[side], [side], [1.0]])
    k[:2, 2] -= 0.5
    poses = {}
    for index, shot in enumerate(shots):
        serial = str(222200036 + index)
        poses[serial] = layouts.to_world2cam(shot.cam2world).tolist()
        grey = np.full_like(shot.image, 128)
        matte = np.repeat(shot.alpha[..., None], 3, axis=2)
        for sequence in sequences:
            place = folder / "sequences" / sequence
            layouts.save_video(place / f"images/cam_{serial}.mp4", [shot.image, grey, grey])
            layouts.save_video(place / f"alpha_maps/cam_{serial}.mp4", [matte, grey, grey])
    content = {"world_2_cam": poses, "intrinsics": k.tolist()}
    layouts.save_json(folder / "calibration/camera_params.json", content)
    return folder
