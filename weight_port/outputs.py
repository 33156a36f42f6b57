"""What conversions share: hashing the source, recognising finished work, writing files whole.

A portable file names the sha256 of its source in its header, under "provenance". A conversion
that finds its output there, undamaged and with the provenance it would write itself, has nothing
to do; so an interrupted import goes on where it stopped. Files are written beside their place and
renamed into it, so that half a file never stands there.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from ganavatar_jax.core import errors, files, portable
from ganavatar_jax.runs import progress
from weight_port import torch_write

FACTS = "ganavatar_jax.export"  # in the header of exported safetensors files
NAMED_SUFFIXES = (".safetensors", ".npz", ".pth")
_CHUNK_BYTES = 1 << 22
_MEGABYTE = 1e6
_EVERY_S = 5.0


def bar(total_bytes: int, title: str) -> progress.Progress:
    """Starts a progress display in megabytes, on stderr.

    Args:
      total_bytes: Bytes of the whole work.
      title: What is done.

    Returns:
      The display; update it with `megabytes`.
    """
    return progress.Progress(total_bytes / _MEGABYTE, unit="MB", title=title, every_s=_EVERY_S)


def megabytes(count: int) -> float:
    """Turns bytes into the unit of `bar`.

    Args:
      count: Bytes.

    Returns:
      Megabytes.
    """
    return count / _MEGABYTE


def hash_source(path: pathlib.Path) -> str:
    """Computes the sha256 of a source file, showing progress.

    Args:
      path: The file.

    Returns:
      The digest in hexadecimal.

    Raises:
      WeightError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file, bar(path.stat().st_size, "sha256") as shown:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                shown.update(megabytes(len(chunk)))
    except OSError as error:
        raise errors.WeightError(
            f"{path}: weight file cannot be read ({error.strerror or error}); check the path"
        ) from error
    return digest.hexdigest()


def find_made(
    path: pathlib.Path, provenance: Mapping[str, Any], *, overwrite: bool
) -> dict[str, Any] | None:
    """Looks for a conversion's output that is there already.

    Args:
      path: The portable file to be written.
      provenance: What the conversion would write into its header; the source may have been
        renamed since.
      overwrite: Whether a file of another origin may be replaced.

    Returns:
      The file's metadata if it is whole and of this provenance, else None.

    Raises:
      WeightError: Another file is there and must not be replaced.
    """
    if not path.exists():
        return None
    try:
        _, metadata = portable.load_params(path)
        if _without_name(metadata.get("provenance", {})) == _without_name(provenance):
            return metadata
        reason = "was made from another file or with other options"
    except errors.WeightError:
        reason = "is damaged or of another format"
    if overwrite:
        return None
    raise errors.WeightError(f"{path}: is there and {reason}; give another --dst or --overwrite")


def _without_name(provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in provenance.items() if key != "file"}


def write_named(
    path: pathlib.Path,
    tensors: Mapping[str, np.ndarray],
    *,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Writes a flat state dict under the original names.

    Args:
      path: Ends in .safetensors, .npz or .pth (what torch.load reads), which is the format.
      tensors: Arrays by name, in the original layout.
      facts: What the names do not say, for the way back; only safetensors files can hold it.

    Raises:
      WeightError: The suffix is another one.
      RunError: The file cannot be written.

    Source: ours; the formats of safetensors, NumPy and torch.
    """
    if path.suffix not in NAMED_SUFFIXES:
        raise errors.WeightError(f"{path}: expected a name in {', '.join(NAMED_SUFFIXES)}")
    with files.atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            # "format" tells other readers that the layout is torch's.
            notes = {"format": "pt"} | ({FACTS: json.dumps(facts)} if facts else {})
            data = safetensors.numpy.save(dict(tensors), metadata=notes)
            temporary.write_bytes(data)
        elif path.suffix == ".npz":
            np.savez(temporary, allow_pickle=False, **tensors)
        else:
            torch_write.write_archive(temporary, tensors)
