"""torch.save archives: an uncompressed zip with a pickle and one entry a storage.

Nothing is extracted to disk. Only stored (uncompressed) entries inside one top folder are accepted,
and they are read as views of the mapped file, so an archive cannot grow in memory.
"""

import pathlib
import struct
import zipfile
import zlib
from typing import Any

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import pickle_values, safe_pickle
from weight_port import torch_tensors

_MAX_ENTRIES = 100_000
_MAX_PICKLE_BYTES = 1 << 28
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and the extra field
_ENCRYPTED = 0x1


def is_archive(buffer: memoryview) -> bool:
    """Tells whether the bytes begin like a zip archive.

    Args:
      buffer: A file's bytes.

    Returns:
      True for a zip.

    Source: the zip file format.
    """
    return bytes(buffer[:4]) == b"PK\x03\x04"


def read_archive(path: pathlib.Path, buffer: memoryview, lookup: pickle_values.Lookup) -> Any:
    """Reads a torch.save archive.

    Args:
      path: The archive.
      buffer: Its bytes.
      lookup: Globals allowed in its pickle, besides the storage classes.

    Returns:
      The pickled value, with torch_tensors.Tensor for tensors.

    Raises:
      WeightError: The archive is damaged, compressed, badly named, or asks for other globals.

    Source: torch's serialisation format.
    """
    try:
        entries = _list_entries(path, buffer)
        folder = _find_folder(entries)
        if bytes(entries.get(f"{folder}/byteorder", memoryview(b"little"))) != b"little":
            raise errors.WeightError("only little-endian archives are supported")
        pickled = entries[f"{folder}/data.pkl"]
        if len(pickled) > _MAX_PICKLE_BYTES:
            raise errors.WeightError("the archive's pickle is too large; refused")
    except errors.WeightError as error:
        raise errors.WeightError(f"{path}: {error}") from error

    def find_storage(value: Any) -> torch_tensors.Storage:
        kind, key, length = torch_tensors.parse_storage_id(value)
        data = entries.get(f"{folder}/data/{key}")
        if data is None:
            raise errors.WeightError(
                f"storage {pickle_values.printable(key)} is not in the archive"
            )
        return torch_tensors.Storage(kind, length, lambda: data)

    value, end = safe_pickle.load(
        pickled,
        label=str(path),
        lookup=lambda module, name: (
            torch_tensors.storage_lookup(module, name) or lookup(module, name)
        ),
        persistent=find_storage,
    )
    if end != len(pickled):
        raise errors.WeightError(f"{path}: data follows the archive's pickle; damaged file")
    return value


def _find_folder(entries: dict[str, memoryview]) -> str:
    """Returns the one top folder; torch names it after the file."""
    folders = {name.split("/")[0] for name in entries}
    folder = folders.pop() if len(folders) == 1 else ""
    if f"{folder}/data.pkl" not in entries:
        raise errors.WeightError("not a torch.save archive (no single folder with data.pkl)")
    if f"{folder}/constants.pkl" in entries:
        raise errors.WeightError("is a TorchScript archive, which holds code; save a state dict")
    return folder


def _list_entries(path: pathlib.Path, buffer: memoryview) -> dict[str, memoryview]:
    """Views every entry of the archive, by name, after checking names and checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            listing = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
        raise errors.WeightError(f"the zip directory is damaged: {error}") from error
    if len(listing) > _MAX_ENTRIES:
        raise errors.WeightError(f"more than {_MAX_ENTRIES} entries; refused")
    entries: dict[str, memoryview] = {}
    for info in listing:
        if info.filename in entries:
            shown = pickle_values.printable(info.filename)
            raise errors.WeightError(f"entry {shown} is there twice; refused")
        _check_entry(info)
        entries[info.filename] = _view_entry(info, buffer)
    return entries


def _check_entry(info: zipfile.ZipInfo) -> None:
    shown = pickle_values.printable(info.filename)
    parts = info.filename.split("/")
    if len(parts) < 2 or not all(parts) or {".", ".."} & set(parts) or "\\" in info.filename:
        raise errors.WeightError(f"entry {shown} is not a plain path inside one folder; refused")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise errors.WeightError(f"entry {shown} is compressed, which torch never does; refused")
    if info.flag_bits & _ENCRYPTED:
        raise errors.WeightError(f"entry {shown} is encrypted; refused")


def _view_entry(info: zipfile.ZipInfo, buffer: memoryview) -> memoryview:
    shown = pickle_values.printable(info.filename)
    start = info.header_offset
    if not 0 <= start <= len(buffer) - _LOCAL_HEADER.size:
        raise errors.WeightError(f"entry {shown} lies outside the file; damaged archive")
    signature, name_length, extra_length = _LOCAL_HEADER.unpack_from(buffer, start)
    start += _LOCAL_HEADER.size + name_length + extra_length
    data = buffer[start : start + info.file_size]
    if signature != b"PK\x03\x04" or len(data) != info.file_size:
        raise errors.WeightError(f"entry {shown} lies outside the file; damaged archive")
    if zlib.crc32(data) != info.CRC:
        raise errors.WeightError(f"entry {shown} has a wrong checksum; damaged archive")
    return data
