"""Coloured triangle meshes as files that other programs open: .ply and binary glTF (.glb)."""

import json
import struct
from typing import Any, NamedTuple

import numpy as np

from ganavatar_jax.core.arrays import Float, Int

_FLOAT, _U32 = 5126, 5125
_VERTICES, _INDICES = 34962, 34963


class Mesh(NamedTuple):
    """A coloured surface.

    Attributes:
      vertices: World units, y up.
      normals: Unit vectors out of the surface.
      colors: sRGB, 0..1.
      triangles: Vertices of each, counterclockwise from outside.
    """

    vertices: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    colors: Float[np.ndarray, "n 3"]
    triangles: Int[np.ndarray, "m 3"]


def to_ply(mesh: Mesh) -> bytes:
    """Writes a mesh as binary PLY with 8-bit vertex colours.

    Args:
      mesh: The mesh.

    Returns:
      The file's content.

    Source: Turk 1994 (the PLY polygon file format).
    """
    fields = [(axis, "<f4") for axis in ("x", "y", "z", "nx", "ny", "nz")]
    fields += [(name, "u1") for name in ("red", "green", "blue")]
    rows = np.empty(len(mesh.vertices), fields)
    for names, values in ((("x", "y", "z"), mesh.vertices), (("nx", "ny", "nz"), mesh.normals)):
        for axis, name in enumerate(names):
            rows[name] = values[:, axis]
    levels = np.rint(np.clip(mesh.colors, 0.0, 1.0) * 255.0).astype(np.uint8)
    for axis, name in enumerate(("red", "green", "blue")):
        rows[name] = levels[:, axis]
    faces = np.empty(len(mesh.triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind in fields]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    return "\n".join(lines).encode() + b"\n" + rows.tobytes() + faces.tobytes()


def to_glb(mesh: Mesh, *, name: str) -> bytes:
    """Writes a mesh as glTF 2.0 with vertex colours and no light of its own.

    Args:
      mesh: The mesh.
      name: What it is called.

    Returns:
      The file's content.

    Source: Khronos glTF 2.0 specification; KHR_materials_unlit.
    """
    # glTF's vertex colours are linear; ours are as screens show them.
    srgb = np.clip(mesh.colors, 0.0, 1.0)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    arrays = {
        "POSITION": mesh.vertices.astype("<f4"),
        "NORMAL": mesh.normals.astype("<f4"),
        "COLOR_0": linear.astype("<f4"),
        "indices": mesh.triangles.astype("<u4").reshape(-1),
    }
    views, accessors, blob = _lay_out(arrays)
    places = {kind: index for index, kind in enumerate(arrays)}
    primitive = {
        "attributes": {kind: place for kind, place in places.items() if kind != "indices"},
        "indices": places["indices"],
        "material": 0,
    }
    document = {
        "asset": {"version": "2.0", "generator": "ganavatar_jax"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [{
            "name": "as captured",
            "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
            "extensions": {"KHR_materials_unlit": {}},
        }],
        "buffers": [{"byteLength": len(blob)}],
        "bufferViews": views,
        "accessors": accessors,
    }  # fmt: skip
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(blob), 0x004E4942) + blob
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def _lay_out(
    arrays: dict[str, np.ndarray],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bytes]:
    """Puts arrays one after the other and describes where each lies."""
    views, accessors, blob = [], [], b""
    for kind, array in arrays.items():
        is_index = kind == "indices"
        views.append({
            "buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes,
            "target": _INDICES if is_index else _VERTICES,
        })  # fmt: skip
        accessor: dict[str, Any] = {
            "bufferView": len(accessors),
            "componentType": _U32 if is_index else _FLOAT,
            "count": len(array),
            "type": "SCALAR" if is_index else "VEC3",
        }
        if kind == "POSITION":
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        accessors.append(accessor)
        blob += array.tobytes()  # all sizes are multiples of four
    return views, accessors, blob
