"""Writes the synthetic actor's frames and exact cameras in the layouts of other data sets.

Each writer takes `Shot`s, converts our cameras to what the layout stores (the inverse of what its
reader does, written independently of it), and returns the folder.
"""

import dataclasses
import io
import json
import pathlib
import struct

import av
import numpy as np
from PIL import Image

from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.data.formats import eg3d

SIDE = 32
# Points in the head's cube whose projections are compared.
POINTS = np.random.default_rng(3).uniform(-0.4, 0.4, (20, 3))
# Points that all frontal cameras see, far enough apart to be told from one another.
LENS_POINTS = np.array([[x, y, 0.05 * x - 0.1 * y] for x in (-0.2, 0, 0.2) for y in (-0.2, 0, 0.2)])
_SPOT_PX = 6.0


@dataclasses.dataclass
class Shot:
    """One frame with everything a layout may store."""

    cam2world: np.ndarray  # OpenCV axes, float64
    intrinsics: np.ndarray  # normalised
    image: np.ndarray  # RGB
    alpha: np.ndarray
    code: np.ndarray  # 52 numbers


def actor_shots(count: int = 4, *, side: int = SIDE) -> list[Shot]:
    """Frames of the shipped actor from all over its recording, shrunk."""
    with eg3d.open_capture(gan_frames.source_path("package:actor")) as capture:
        step = len(capture.frames) // count
        shots = []
        for frame in (reference.load() for reference in capture.frames[::step][:count]):
            cam2world = exact_pose(frame.label25[:16].reshape(4, 4))
            intrinsics = frame.label25[16:].reshape(3, 3).astype(np.float64)
            resized = [
                np.asarray(Image.fromarray(pixels).resize((side, side)))
                for pixels in (frame.image, frame.alpha)
            ]
            shots.append(Shot(cam2world, intrinsics, *resized, frame.expression))
    return shots


def exact_pose(cam2world: np.ndarray) -> np.ndarray:
    """The rigid transform nearest to a rounded one."""
    pose = cam2world.astype(np.float64)
    u, _, vt = np.linalg.svd(pose[:3, :3])
    pose[:3, :3] = u @ vt
    return pose


def project(
    cam2world: np.ndarray,
    intrinsics: np.ndarray,
    *,
    size: tuple[int, int],
    points: np.ndarray = POINTS,
) -> np.ndarray:
    """Pixels of points, with the first pixel's centre at 0.5."""
    local = (points - cam2world[:3, 3]) @ cam2world[:3, :3]
    image = local @ intrinsics.T
    return image[:, :2] / image[:, 2:] * size


def through_lens(shot: Shot, coefficients: tuple[float, ...]) -> Shot:
    """The shot with spots at LENS_POINTS, as a lens with k1, k2, p1, p2 shows them."""
    side = shot.image.shape[0]
    centers = (np.arange(side) + 0.5) / side
    seen = np.stack(np.meshgrid(centers, centers), axis=-1)
    focal, center = shot.intrinsics[[0, 1], [0, 1]], shot.intrinsics[:2, 2]
    seen = (seen - center) / focal
    k1, k2, p1, p2 = (*coefficients, 0.0, 0.0, 0.0, 0.0)[:4]
    ideal = seen
    for _ in range(60):  # Each step shrinks the error by a tenth or more: float64 is reached.
        x, y = ideal[..., 0], ideal[..., 1]
        squared = x**2 + y**2
        tangential = np.stack(
            [
                2 * p1 * x * y + p2 * (squared + 2 * x**2),
                p1 * (squared + 2 * y**2) + 2 * p2 * x * y,
            ],
            axis=-1,
        )
        ideal = (seen - tangential) / (1 + k1 * squared + k2 * squared**2)[..., None]
    level = spots(shot, (ideal * focal + center) * side)
    alpha = np.rint(level).astype(np.uint8)
    return dataclasses.replace(shot, image=np.repeat(alpha[..., None], 3, axis=2), alpha=alpha)


def spots(shot: Shot, pixels: np.ndarray) -> np.ndarray:
    """Brightness at pixels of the ideal image: a soft spot at each of LENS_POINTS."""
    side = shot.image.shape[0]
    places = project(shot.cam2world, shot.intrinsics, size=(side, side), points=LENS_POINTS)
    squared = ((pixels[..., None, :] - places) ** 2).sum(axis=-1)
    return 20.0 + 200.0 * (1.0 - np.prod(1.0 - np.exp(-squared / (2 * _SPOT_PX**2)), axis=-1))


def rotation(seed: int, *, degrees: float = 360.0) -> np.ndarray:
    """A random rotation of at most so many degrees."""
    generator = np.random.default_rng(seed)
    axis = generator.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = np.radians(degrees) * generator.random()
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def save_png(path: pathlib.Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_json(path: pathlib.Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def rgba(shot: Shot) -> np.ndarray:
    return np.dstack([shot.image, shot.alpha])


def to_opengl(cam2world: np.ndarray) -> np.ndarray:
    return cam2world * np.array([1.0, -1.0, -1.0, 1.0])


def to_world2cam(cam2world: np.ndarray) -> np.ndarray:
    return np.linalg.inv(cam2world)


def write_eg3d(folder: pathlib.Path, shots: list[Shot]) -> pathlib.Path:
    labels = []
    for index, shot in enumerate(shots):
        name = f"images/{index:03d}.png"
        save_png(folder / name, shot.image)
        save_png(folder / f"alpha/{index:03d}.png", shot.alpha)
        values = [*shot.cam2world.ravel().tolist(), *shot.intrinsics.ravel().tolist()]
        labels.append([name, values])
    save_json(folder / "dataset.json", {"labels": labels})
    save_json(folder / "meta.json", {"background": "white"})
    return folder


def write_insta(folder: pathlib.Path, shots: list[Shot]) -> pathlib.Path:
    frames = []
    for index, shot in enumerate(shots, start=1):
        save_png(folder / f"images/{index:05d}.png", rgba(shot))
        code = folder / f"flame/exp/{index:05d}.txt"
        code.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(code, shot.code[:10])
        frames.append(
            {
                "transform_matrix": shot.cam2world.tolist(),
                "file_path": f"images/{index:05d}.png",
                "exp_path": f"flame/exp/{index:05d}.txt",
                "mesh_path": f"meshes/{index:05d}.obj",
                "depth_path": f"depth/{index:05d}.png",
                "seg_mask_path": f"seg_mask/{index:05d}.png",
            }
        )
    side, k = shots[0].image.shape[0], shots[0].intrinsics
    header = {
        **{"w": side, "h": side, "fl_x": k[0, 0] * side, "fl_y": k[1, 1] * side},
        **{"cx": k[0, 2] * side, "cy": k[1, 2] * side, "integer_depth_scale": 0.001},
    }
    save_json(folder / "transforms.json", header | {"frames": frames})
    save_json(folder / "transforms_train.json", header | {"frames": frames[:-1]})
    save_json(folder / "transforms_test.json", header | {"frames": frames[-1:]})
    save_json(folder / "transforms_val.json", header | {"frames": frames[-1:]})
    return folder


def write_nerface(folder: pathlib.Path, shots: list[Shot], *, sign: float = 1.0) -> pathlib.Path:
    """With sign -1 the tracker's x focal length is negative, and x of its cameras points left."""
    parts = {"train": shots[:-1], "test": shots[-1:]}
    side, k = shots[0].image.shape[0], shots[0].intrinsics
    for part, chosen in parts.items():
        frames = []
        for index, shot in enumerate(chosen):
            save_png(folder / part / f"f_{index:04d}.png", shot.image)
            pose = to_opengl(shot.cam2world) * np.array([sign, 1.0, 1.0, 1.0])
            frames.append(
                {
                    "file_path": f"./{part}/f_{index:04d}",
                    "bbox": [0.0, 1.0, 0.0, 1.0],
                    "transform_matrix": pose.tolist(),
                    "expression": np.resize(shot.code, 76).astype(float).tolist(),
                }
            )
        # Pixel j has its centre at j there, at j + 0.5 here.
        center = [k[0, 2] - 0.5 / side, k[1, 2] - 0.5 / side]
        focal = [sign * k[0, 0] * side, k[1, 1] * side]
        content = {"camera_angle_x": 0.2, "intrinsics": [*focal, *center], "frames": frames}
        save_json(folder / f"transforms_{part}.json", content)
    return folder


def write_imavatar(folder: pathlib.Path, shots: list[Shot]) -> pathlib.Path:
    side, k = shots[0].image.shape[0], shots[0].intrinsics
    for recording, chosen in {"MVI_1810": shots[:-1], "MVI_1814": shots[-1:]}.items():
        frames = []
        for index, shot in enumerate(chosen, start=1):
            save_png(folder / recording / f"image/{index}.png", shot.image)
            save_png(folder / recording / f"mask/{index}.png", shot.alpha)
            frames.append(
                {
                    "file_path": f"image/{index}",
                    "world_mat": to_world2cam(to_opengl(shot.cam2world))[:3].tolist(),
                    "expression": shot.code[:50].astype(float).tolist(),
                    "pose": [0.0] * 6 + [0.1 * index, 0.0, 0.0] + [0.0] * 6,
                    "bbox": [-1.0, -1.0, 1.0, 1.0],
                }
            )
        # u = cx + fx X / Z with Z < 0 in front and Y up: fx is negative.
        values = [-k[0, 0], k[1, 1], k[0, 2] - 0.5 / side, k[1, 2] - 0.5 / side]
        content = {"intrinsics": values, "shape_params": [0.0] * 100, "frames": frames}
        save_json(folder / recording / "flame_params.json", content)
    return folder


def write_transforms(folder: pathlib.Path, shots: list[Shot]) -> pathlib.Path:
    frames = []
    for index, shot in enumerate(shots):
        save_png(folder / f"images/r_{index}.png", rgba(shot))
        pose = to_opengl(shot.cam2world).tolist()
        frames.append({"file_path": f"./images/r_{index}", "transform_matrix": pose})
    angle = 2 * np.arctan(0.5 / shots[0].intrinsics[0, 0])
    save_json(folder / "transforms.json", {"camera_angle_x": angle, "frames": frames})
    return folder


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """[w, x, y, z] of a rotation matrix, by its eigenvector form."""
    m = matrix
    symmetric = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [0, m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2]],
            [0, 0, m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2]],
            [0, 0, 0, m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    symmetric = symmetric + symmetric.T - np.diag(np.diag(symmetric))
    return np.linalg.eigh(symmetric)[1][:, -1]


def write_colmap(
    folder: pathlib.Path,
    shots: list[Shot],
    *,
    binary: bool,
    model: str = "PINHOLE",
    coefficients: tuple[float, ...] = (),
) -> pathlib.Path:
    side = shots[0].image.shape[0]
    k = shots[0].intrinsics * np.array([[side], [side], [1.0]])
    focal = (
        [k[0, 0]]
        if model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
        else [*(k[0, 0], k[1, 1])]
    )
    parameters = [*focal, k[0, 2], k[1, 2], *coefficients]
    images = []
    for index, shot in enumerate(shots):
        save_png(folder / f"images/{index:03d}.png", shot.image)
        save_png(folder / f"masks/{index:03d}.png.png", shot.alpha)
        world2cam = to_world2cam(shot.cam2world)
        images.append((quaternion(world2cam[:3, :3]), world2cam[:3, 3], f"{index:03d}.png"))
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    if binary:
        number = ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"].index(model)
        cameras = struct.pack("<QiiQQ", 1, 1, number, side, side)
        cameras += struct.pack(f"<{len(parameters)}d", *parameters)
        (sparse / "cameras.bin").write_bytes(cameras)
        data = struct.pack("<Q", len(images))
        for index, (q, t, name) in enumerate(images, start=1):
            data += struct.pack("<i7di", index, *q, *t, 1) + name.encode() + b"\0"
            data += struct.pack("<Q", 2) + struct.pack("<ddqddq", 1.0, 2.0, -1, 3.0, 4.0, 7)
        (sparse / "images.bin").write_bytes(data)
        (sparse / "points3D.bin").write_bytes(struct.pack("<Q", 0))
        return folder
    listed = " ".join(repr(float(value)) for value in parameters)
    (sparse / "cameras.txt").write_text(f"# Camera list\n1 {model} {side} {side} {listed}\n")
    lines = ["# Image list with two lines of data per image:"]
    for index, (q, t, name) in enumerate(images, start=1):
        numbers = " ".join(repr(float(value)) for value in (*q, *t))
        lines += [f"{index} {numbers} 1 {name}", "1.0 2.0 -1 3.0 4.0 7" if index % 2 else ""]
    (sparse / "images.txt").write_text("\n".join(lines) + "\n")
    (sparse / "points3D.txt").write_text("")
    return folder


def write_multiface(folder: pathlib.Path, shots: list[Shot]) -> pathlib.Path:
    """One camera a shot, in a world of millimetres in which the head moves; wide images."""
    krt = []
    for index, shot in enumerate(shots):
        segment, frame = f"EXP_jaw{index % 2:03d}", f"{100 + index:06d}"
        camera = str(400262 + index)
        wide = np.pad(shot.image, ((0, 0), (8, 0), (0, 0)), constant_values=90)
        save_png(folder / "images" / segment / camera / f"{frame}.png", wide)
        head = np.eye(4)
        head[:3, :3], head[:3, 3] = rotation(index), [20.0 * index, -30.0, 1000.0]
        scaled = shot.cam2world.copy()
        scaled[:3, 3] *= 500.0  # The head's frame is in millimetres, too.
        world2cam = to_world2cam(scaled) @ np.linalg.inv(head)
        side = shot.image.shape[0]
        k = shot.intrinsics * np.array([[side], [side], [1.0]])
        k[:2, 2] += [8 - 0.5, -0.5]
        rows = [*k, np.zeros(5), *world2cam[:3]]
        krt += [camera, *(" ".join(repr(float(v)) for v in row) for row in rows), ""]
        path = folder / "tracked_mesh" / segment / f"{frame}_transform.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, head[:3], fmt="%.17g")
    (folder / "KRT").write_text("\n".join(krt) + "\n")
    return folder


def write_nersemble(folder: pathlib.Path, shots: list[Shot]) -> pathlib.Path:
    """One camera that stands still, and a head that turns before it."""
    serial, scale = "222200037", 1.7
    world2cam = np.eye(4)
    world2cam[:3, :3], world2cam[:3, 3] = rotation(5), [0.1, 0.2, 1.1]
    side = shots[0].image.shape[0]
    k = shots[0].intrinsics * np.array([[side], [side], [1.0]])
    k[:2, 2] -= 0.5
    content = {"world_2_cam": {serial: world2cam.tolist()}, "intrinsics": {serial: k.tolist()}}
    save_json(folder / "calibration" / "camera_params.json", content)
    for sequence, chosen in {"EXP-1-head": shots[:-1], "FREE": shots[-1:]}.items():
        place = folder / "sequences" / sequence
        save_video(place / "images" / f"cam_{serial}.mp4", [shot.image for shot in chosen])
        mattes = [np.repeat(shot.alpha[..., None], 3, axis=2) for shot in chosen]
        save_video(place / "alpha_maps" / f"cam_{serial}.mp4", mattes)
        turn, shift = world2cam[:3, :3], world2cam[:3, 3]
        rotations, translations = [], []
        for shot in chosen:
            head2cam = to_world2cam(shot.cam2world)
            rotations.append(turn.T @ head2cam[:3, :3])
            translations.append(turn.T @ (scale * head2cam[:3, 3] - shift))
        (place / "tracking").mkdir()
        np.savez(
            place / "tracking" / "flame2023_tracking.npz",
            **{"expression": np.resize(chosen[0].code, (len(chosen), 100))},
            **{"rotation_matrices": np.array(rotations), "translation": np.array(translations)},
            **{"rotation": np.zeros((len(chosen), 3)), "jaw": np.zeros((len(chosen), 3))},
            **{"scale": np.full((1, 1), scale), "shape": np.zeros((1, 300))},
            **{"frames": np.arange(len(chosen)), "neck": np.zeros((len(chosen), 3))},
            **{"eyes": np.zeros((len(chosen), 6))},
        )
    return folder


def save_video(
    path: pathlib.Path, images: list[np.ndarray], *, fps: int = 25, crf: int = 4
) -> None:
    """Writes an mp4 of even size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_video(images, fps=fps, crf=crf))


def encode_video(images: list[np.ndarray], *, fps: int = 25, crf: int = 4) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf)})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def turn_video(data: bytes, *, quarters: int) -> bytes:
    """Sets an mp4's rotation flag: players turn the frames clockwise by so many quarters."""
    matrices = {
        1: (0, 1, 0, -1, 0, 0),
        2: (-1, 0, 0, 0, -1, 0),
        3: (0, -1, 0, 1, 0, 0),
    }
    place = data.index(b"tkhd") + 4 + 40  # Version 0: the matrix follows 40 bytes of the box.
    a, b, u, c, d, v = matrices[quarters]
    packed = struct.pack(">9i", *(n << 16 for n in (a, b, u, c, d, v)), 0, 0, 1 << 30)
    return data[:place] + packed + data[place + 36 :]
