"""MediaPipe's canonical face: 468 vertices in centimetres, y up, z out of the face.

It lies in the .task file beside the networks, as a protocol buffer of which only the vertices are
read: message field 1 is the mesh, whose repeated field 3 holds x, y, z, u, v of each vertex.

Source: MediaPipe's face geometry metadata; Protocol Buffers wire format.
"""

import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float

_MEMBER = "geometry_pipeline_metadata_landmarks.binarypb"
_MESH, _VERTICES, _NUMBERS = 1, 3, 5
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def load(task: str | pathlib.Path) -> Float[np.ndarray, "468 3"]:
    """Reads the canonical vertices.

    Args:
      task: face_landmarker.task, checked before.

    Returns:
      Vertices in centimetres; vertex i is landmark i.

    Raises:
      EstimatorError: the file holds no such mesh.

    Source: MediaPipe.
    """
    try:
        with zipfile.ZipFile(task) as archive:
            content = archive.read(_MEMBER)
        [mesh] = [value for field, value in _fields(content) if field == _MESH]
        parts = [value for field, value in _fields(mesh) if field == _VERTICES]
        vertices = np.frombuffer(b"".join(parts), "<f4").reshape(468, _NUMBERS)
    except (KeyError, ValueError, IndexError) as error:
        raise errors.EstimatorError(
            f"{task}: expected MediaPipe's canonical face in {_MEMBER} ({error}). Get the file "
            "again."
        ) from error
    return vertices[:, :3].astype(np.float64)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields field numbers and raw values; integers are passed over."""
    offset = 0
    while offset < len(data):
        key, offset = _varint(data, offset)
        kind = key & 7
        if kind == _VARINT:
            _, offset = _varint(data, offset)
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if length is None:
            if kind != _BYTES:
                raise ValueError(f"unknown wire type {kind}")
            length, offset = _varint(data, offset)
        yield key >> 3, data[offset : offset + length]
        offset += length


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[offset]
        value |= (byte & 127) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 128:
            return value, offset
