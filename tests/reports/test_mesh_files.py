"""Mesh files say what the mesh is, byte by byte, as their formats ask."""

import json
import struct

import numpy as np
import pytest

from ganavatar_jax.reports import mesh_files

CORNERS = np.float32([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
MESH = mesh_files.Mesh(
    CORNERS,
    CORNERS / np.float32(np.sqrt(3)),
    np.float32([[0, 0, 0], [1, 1, 1], [0.5, 0.25, 0.75], [0.2, 0.4, 0.6]]),
    np.int32([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]),
)


def read_glb(content):
    """Takes a .glb apart as its specification says."""
    magic, version, length = struct.unpack("<III", content[:12])
    assert (magic, version, length) == (0x46546C67, 2, len(content))
    size, kind = struct.unpack("<II", content[12:20])
    assert kind == 0x4E4F534A
    assert size % 4 == 0
    document = json.loads(content[20 : 20 + size])
    blob_size, kind = struct.unpack("<II", content[20 + size : 28 + size])
    assert kind == 0x004E4942
    blob = content[28 + size :]
    assert len(blob) == blob_size == document["buffers"][0]["byteLength"]
    arrays = {}
    for index, accessor in enumerate(document["accessors"]):
        view = document["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        part = blob[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        width = {"SCALAR": 1, "VEC3": 3}[accessor["type"]]
        dtype = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        arrays[index] = np.frombuffer(part, dtype).reshape(accessor["count"], width)
    return document, arrays


def test_a_glb_holds_the_mesh():
    document, arrays = read_glb(mesh_files.to_glb(MESH, name="me"))
    [primitive] = document["meshes"][0]["primitives"]
    found = {kind: arrays[place] for kind, place in primitive["attributes"].items()}
    np.testing.assert_array_equal(found["POSITION"], MESH.vertices)
    np.testing.assert_array_equal(found["NORMAL"], MESH.normals)
    np.testing.assert_array_equal(arrays[primitive["indices"]].reshape(-1, 3), MESH.triangles)
    accessor = document["accessors"][primitive["attributes"]["POSITION"]]
    assert (accessor["min"], accessor["max"]) == ([-1, -1, -1], [1, 1, 1])
    # sRGB's middle grey is a fifth of the light.
    assert found["COLOR_0"][2] == pytest.approx([0.2140, 0.0508, 0.5225], abs=1e-3)
    assert document["nodes"][0]["name"] == "me"


def test_a_ply_holds_the_mesh():
    head, _, body = mesh_files.to_ply(MESH).partition(b"end_header\n")
    assert b"format binary_little_endian 1.0" in head
    assert b"element vertex 4\n" in head
    assert b"element face 4\n" in head
    kind = [("place", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)]
    rows = np.frombuffer(body[: 4 * 27], kind)
    np.testing.assert_array_equal(rows["place"], MESH.vertices)
    np.testing.assert_array_equal(rows["normal"], MESH.normals)
    np.testing.assert_array_equal(rows["color"][1:3], [[255, 255, 255], [128, 64, 191]])
    faces = np.frombuffer(body[4 * 27 :], [("count", "u1"), ("corners", "<i4", 3)])
    np.testing.assert_array_equal(faces["corners"], MESH.triangles)
    assert (faces["count"] == 3).all()
