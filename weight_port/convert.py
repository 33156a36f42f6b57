"""Command line: one network of a PyTorch snapshot into our portable weight file.

python -m weight_port.convert --kind=eg3d --src=network-snapshot.pkl --dst=generator.safetensors

The file holds "params...." and "buffers....", and in its header the architecture, the rendering
options and where the numbers come from.
"""

import argparse
import hashlib
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from ganavatar_jax.core import errors, portable
from weight_port import names_eg3d, torch_pickle

NETWORKS = {"G_ema": "generator", "G": "generator", "D": "discriminator"}


def convert_eg3d(src: pathlib.Path, dst: pathlib.Path, *, network: str) -> dict[str, Any]:
    """Converts one network of an EG3D snapshot.

    Args:
      src: The snapshot.
      dst: The portable file to write.
      network: "G_ema", "G" or "D".

    Returns:
      The metadata written: kind, architecture, rendering, extras, provenance.

    Raises:
      WeightError: The snapshot cannot be read safely, or is not an EG3D network.
      RunError: The portable file cannot be written.

    Source: ours.
    """
    kind = NETWORKS[network]
    try:
        imported = names_eg3d.IMPORTERS[kind](torch_pickle.read_snapshot(src)[network])
    except errors.WeightError as error:
        text = str(error)
        named = text if text.startswith(str(src)) else f"{src}: {network}: {text}"
        raise errors.WeightError(named) from error
    with src.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    metadata = {
        "kind": kind,
        "architecture": imported.architecture,
        "rendering": imported.rendering,
        "extras": {name: array.tolist() for name, array in imported.extras.items()},
        "provenance": {"file": src.name, "sha256": digest, "network": network, "format": "eg3d"},
    }
    portable.save_params(dst, imported.variables, metadata)
    return metadata


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      arguments: Command-line arguments; None takes the process's.

    Returns:
      Exit code: 0, or 2 after a one-line error.

    Source: ours.
    """
    parser = argparse.ArgumentParser(prog="python -m weight_port.convert", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kind", required=True, choices=["eg3d"], help="what the source is")
    parser.add_argument("--src", required=True, type=pathlib.Path, help="network-snapshot-*.pkl")
    parser.add_argument("--dst", required=True, type=pathlib.Path, help="*.safetensors to write")
    parser.add_argument("--network", default="G_ema", choices=list(NETWORKS))
    options = parser.parse_args(arguments)
    if options.dst.suffix != ".safetensors":
        parser.error(f"--dst must end in .safetensors; got {options.dst}")
    try:
        metadata = convert_eg3d(options.src, options.dst, network=options.network)
    except errors.GanAvatarError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    summary = metadata["architecture"]
    axes = f", {summary['plane_axes']} plane axes" if "plane_axes" in summary else ""
    print(f"{options.dst}: {metadata['kind']}, {summary['img_resolution']} px{axes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
