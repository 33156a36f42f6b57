"""Command line: what a snapshot or checkpoint holds, one tensor a line, without running it.

python -m weight_port.list_keys network-snapshot.pkl

Prints tab-separated network, name, shape and type. Works on EG3D snapshots, torch.save
files, safetensors and .npz.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from weight_port import eg3d_sources, torch_modules, torch_pickle, weight_files


def list_keys(path: pathlib.Path) -> Iterator[tuple[str, str, tuple[int, ...], str]]:
    """Yields the tensors of a file.

    Args:
      path: A snapshot, or any file of weights.

    Returns:
      Tuples (network or top-level key, name, shape, type); shapes in the original layout.

    Raises:
      WeightError: The file cannot be read safely.
    """
    source = eg3d_sources.open_source(path)
    if isinstance(source.content, torch_pickle.Snapshot):
        for network, module in source.content.entries.items():
            if isinstance(module, torch_modules.ModuleNode):
                for name, tensor in torch_pickle.named_tensors(module).items():
                    yield network, name, tensor.shape, tensor.storage.kind.removesuffix("Storage")
        return
    for name, array in _arrays("", weight_files.read(path).content):
        yield "", name, array.shape, str(array.dtype)


def _arrays(prefix: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, np.ndarray):
        yield prefix, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _arrays(f"{prefix}.{key}" if prefix else str(key), part)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _arrays(f"{prefix}[{index}]", part)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      arguments: Command-line arguments; None takes the process's.

    Returns:
      Exit code: 0, or 2 after a one-line error.
    """
    parser = argparse.ArgumentParser(prog="python -m weight_port.list_keys", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("path", type=pathlib.Path, help="*.pkl snapshot or *.pth checkpoint")
    options = parser.parse_args(arguments)
    try:
        rows = [
            f"{network}\t{name}\t{'x'.join(map(str, shape)) or 'scalar'}\t{dtype}"
            for network, name, shape, dtype in list_keys(options.path)
        ]
    except errors.GanAvatarError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
