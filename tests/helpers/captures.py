"""Makes tiny captures in the EG3D layout, to be read, or broken in one place and refused."""

import copy
import dataclasses
import io
import json
import pathlib
import zipfile
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight")
# A frontal camera at distance 2.7 with the focal length of FFHQ crops.
LABEL = [
    *(1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1),
    *(4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1),
]


@dataclasses.dataclass
class TinyCapture:
    """Files of a capture before they are written; change them at will."""

    files: dict[str, bytes]
    labels: list[Any]
    expressions: dict[str, Any] | None
    meta: dict[str, Any] | None

    def rename(self, old: str, new: str) -> None:
        """Renames an image and its label."""
        self.files[new] = self.files.pop(old)
        self.labels = [[new if name == old else name, value] for name, value in self.labels]

    def all_files(self) -> dict[str, bytes]:
        """Files by name, the .json ones included."""
        files = dict(self.files)
        for name, content in (
            ("dataset.json", {"labels": self.labels}),
            ("expressions.json", self.expressions),
            ("meta.json", self.meta),
        ):
            if content is not None and name not in files:
                files[name] = json.dumps(content).encode()
        return files

    def write_folder(self, path: pathlib.Path) -> pathlib.Path:
        """Writes the capture as a folder."""
        for name, data in self.all_files().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path

    def write_zip(self, path: pathlib.Path, *, method: int = zipfile.ZIP_STORED) -> pathlib.Path:
        """Writes the capture as an archive."""
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in self.all_files().items():
                archive.writestr(name, data)
        return path


def make(*, frames: int = 6, side: int = 16, alpha: bool = True) -> TinyCapture:
    """A sound capture: each frame has its own grey, a covered left half and its own code."""
    files, codes = {}, {}
    names = [f"images/{index:04d}.png" for index in range(frames)]
    for index, name in enumerate(names):
        files[name] = encode(image(index, side=side))
        codes[name] = [index / 10, 0.5, 0.25]
        if alpha:
            files[name.replace("images", "alpha")] = encode(matte(side))
    return TinyCapture(
        files=files,
        labels=[[name, label(index)] for index, name in enumerate(names)],
        expressions={"names": list(NAMES), "codes": codes},
        meta={"background": "white", "split": {"train": names[:-2], "test": names[-2:]}},
    )


def image(index: int, *, side: int = 16) -> np.ndarray:
    """White on the right, a grey that tells frames apart and a dark corner on the left."""
    pixels = np.full((side, side, 3), 255, np.uint8)
    pixels[:, : side // 2] = 40 + 8 * index
    pixels[: side // 4, : side // 4] = [10, 20, 30]
    return pixels


def matte(side: int = 16) -> np.ndarray:
    """Covers the left half."""
    alpha = np.zeros((side, side), np.uint8)
    alpha[:, : side // 2] = 255
    return alpha


def label(index: int) -> list[float]:
    """A camera turned and rolled by its index around the head, off-centre and skewed."""
    yaw, roll = 0.1 * index + 0.05, 0.2 * index + 0.1
    turned = np.array(
        [
            [np.cos(yaw), 0, -np.sin(yaw)],
            [0, -1, 0],
            [-np.sin(yaw), 0, -np.cos(yaw)],
        ]
    )
    rolled = np.array(
        [
            [np.cos(roll), -np.sin(roll), 0],
            [np.sin(roll), np.cos(roll), 0],
            [0, 0, 1],
        ]
    )
    rotation = turned @ rolled
    cam2world = np.eye(4)
    cam2world[:3, :3] = rotation
    cam2world[:3, 3] = -2.7 * rotation[:, 2]
    values = copy.copy(LABEL)
    values[:16] = cam2world.ravel().tolist()
    values[17], values[18] = 0.01, 0.45
    return values


def encode(pixels: np.ndarray, extension: str = "png", **options: Any) -> bytes:
    """Encodes pixels as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, extension, **options)
    return buffer.getvalue()
