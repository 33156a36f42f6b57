"""Archives of arrays from strangers."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import npz_files

ARRAYS = {
    "a.b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.asarray(2, np.int64),
    "flat": np.array([True, False]),
    "big": np.arange(3, dtype=">i2"),
    "empty": np.zeros((0, 2), np.float16),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpys_own_archives_are_read(save, tmp_path):
    save(tmp_path / "x.npz", **ARRAYS)
    found = npz_files.read(tmp_path / "x.npz")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)


def _array(header, data=b""):
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def _header(descr="'<f4'", order="False", shape="(2,)"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def _pickled():
    target = io.BytesIO()
    np.save(target, np.array([{}], object), allow_pickle=True)
    return target.getvalue()


HOSTILE = {
    "pickled": (_pickled(), "dtype 'O' is not|is not a plain array"),
    "object": (_array(_header("'|O'")), "is not a plain array"),
    "record": (_array(_header("[('a', '<f4')]")), "is not a plain array"),
    "void": (_array(_header("'|V8'")), "is not a plain array"),
    "code": (
        _array("{'descr': __import__('os'), 'fortran_order': False, 'shape': (2,), }"),
        "is n",
    ),
    "nested": (_array("(" * 100), "is not a plain array"),
    "huge": (_array(_header(shape="(999999999999, 9999)")), "declares"),
    "larger": (_array(_header(shape="(3,)"), bytes(8)), "declares"),
    "negative": (_array(_header(shape="(-2,)"), bytes(8)), "is not a plain array"),
    "odd": (_array(_header(), bytes(7)), "whole number"),
    "text": (b"text", "is not a plain array"),
    "nothing": (b"", "is not a plain array"),
}


@pytest.mark.attack
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arrays_are_refused(name, tmp_path):
    data, message = HOSTILE[name]
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", data)
    tracemalloc.start()
    with pytest.raises(errors.WeightError, match=message) as caught:
        npz_files.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert peak < 1 << 20


@pytest.mark.attack
def test_archives_that_unpack_too_far_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros(1 << 20, np.float64))
    assert path.stat().st_size < 1 << 15
    monkeypatch.setattr(npz_files, "_LIMIT_BYTES", 1 << 20)
    with pytest.raises(errors.WeightError, match="unpacks to more than"):
        npz_files.read(path)


@pytest.mark.attack
def test_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **ARRAYS)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    messages = []
    for index in range(300):
        changed = bytearray(data)
        if index % 3:
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
        else:
            del changed[rng.integers(len(changed)) :]
        path.write_bytes(bytes(changed))
        try:
            npz_files.read(path)
        except errors.WeightError as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert not any("\n" in message for message in messages)


def test_other_entries_and_missing_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(errors.WeightError, match="'readme.txt' is no array"):
        npz_files.read(tmp_path / "x.npz")
    with pytest.raises(errors.WeightError, match="expected an .npz of arrays"):
        npz_files.read(tmp_path / "missing.npz")
