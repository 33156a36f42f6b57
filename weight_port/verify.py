"""Command line: does a network still compute the same after the way in, out and in again?

python -m weight_port.verify --kind=eg3d --src=network-snapshot.pkl

The source is imported; then it goes through the files: portable file, export under the original
names as *.pth, and from there back in. Both copies are run on fixed latents (or codes, or images),
and the largest difference of every stage is printed. Exit code: 0 where all of them are zero, 1
otherwise, 2 after a one-line error.
"""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.apps import avatar, experiment_config, startup
from ganavatar_jax.core import errors, portable, trees
from ganavatar_jax.faces import deep3d_network, normalization
from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import (
    discriminator,
    discriminator_config,
    expression_mapping,
    expression_mapping_config,
    generator,
    generator_config,
)
from weight_port import (
    eg3d_files,
    eg3d_sources,
    names_deep3d,
    names_eg3d,
    names_expression,
    names_features,
    outputs,
    torch_pickle,
)

KINDS = ("eg3d", "deep3d", "mapping", "lpips")
_BATCH = 2

Pairs = Iterator[tuple[str, Any, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      arguments: Command-line arguments; None takes the process's.

    Returns:
      Exit code: 0 where nothing differs, 1 where something does, 2 after a one-line error.
    """
    parser = argparse.ArgumentParser(prog="python -m weight_port.verify", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kind", required=True, choices=KINDS, help="what the source is")
    parser.add_argument("--src", required=True, type=pathlib.Path, help="file to import")
    parser.add_argument("--network", default="G_ema", choices=list(eg3d_files.NETWORKS))
    parser.add_argument(
        "--resolution", type=int, default=32, help="neural resolution of the renders, pixels"
    )
    options = parser.parse_args(arguments)
    same = True
    try:
        startup.settle_arithmetic()
        with tempfile.TemporaryDirectory() as folder:
            print("quantity\tlargest difference\tlargest value")
            for name, before, after in _COMPARE[options.kind](options, pathlib.Path(folder)):
                before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
                difference = float(np.max(np.abs(before - after)))
                same = same and difference == 0.0
                print(f"{name}\t{difference:.3g}\t{np.max(np.abs(before)):.6g}")
    except errors.GanAvatarError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if same else 1


def _compare_eg3d(options: argparse.Namespace, folder: pathlib.Path) -> Pairs:
    imported = eg3d_files.load_imported(options.src, options.network)
    kind = eg3d_files.NETWORKS[options.network]
    config = eg3d_sources.configure(imported, options.network)
    saved, exported = folder / "ours.safetensors", folder / "theirs.pth"
    portable.save_params(saved, imported.variables, {"kind": kind})
    eg3d_files.export(saved, exported)
    again = names_eg3d.import_names(torch_pickle.read_checkpoint(exported), kind=kind)
    yield _count_changed(imported.variables, again)
    stages = _generator_stages if kind == "generator" else _discriminator_stages
    yield from _paired(stages(config, options.resolution), imported.variables, again)


def _generator_stages(
    config: generator_config.GeneratorConfig, resolution: int
) -> Callable[[Any], Mapping[str, Any]]:
    """Splits the generator so that a difference shows the stage it comes from."""
    # Stage by stage: compiling a 512-pixel generator at once takes minutes on CPUs.
    z = jnp.asarray(np.random.RandomState(0).randn(_BATCH, config.z_dim), jnp.float32)
    frontal = avatar.frontal_label25(experiment_config.FrontalConfig())
    label25 = jnp.tile(frontal[None], (_BATCH, 1))
    map_latent = jax.jit(lambda v, z, c: generator.map_latent(v, z, c, config))
    make_planes = jax.jit(lambda v, ws: generator.make_planes(v, ws, config))
    render = jax.jit(
        lambda v, planes, ws, c: generator.render_planes(
            v, planes, ws, c, config, resolution=resolution
        )
    )

    def run(variables: Any) -> Mapping[str, Any]:
        w = map_latent(variables, z, label25)
        ws = generator.broadcast(w, config)
        planes = make_planes(variables, ws)
        out = render(variables, planes, ws, label25)
        return {"w": w, "planes": planes, "image_raw": out.image_raw, "image": out.image}

    return run


def _discriminator_stages(
    config: discriminator_config.DiscriminatorConfig, resolution: int
) -> Callable[[Any], Mapping[str, Any]]:
    draws = np.random.RandomState(0)
    image = jnp.asarray(
        draws.randn(_BATCH, config.img_resolution, config.img_resolution, 3), jnp.float32
    )
    raw = jnp.asarray(draws.randn(_BATCH, resolution, resolution, 3), jnp.float32)
    label25 = jnp.asarray(draws.randn(_BATCH, config.label_dim), jnp.float32)
    judge = jax.jit(lambda v, image, raw, c: discriminator.apply(v, image, raw, c, config))
    return lambda variables: {"logits": judge(variables, image, raw, label25)}


def _compare_deep3d(options: argparse.Namespace, folder: pathlib.Path) -> Pairs:
    """Sends the regressor out and in again, and through an image."""
    before, _ = names_deep3d.import_checkpoint(torch_pickle.read_checkpoint(options.src))
    exported = folder / "theirs.pth"
    outputs.write_named(exported, names_deep3d.export_names(before))
    state = torch_pickle.read_checkpoint(exported)
    after, _ = names_deep3d.import_checkpoint({names_deep3d.NETWORK: state})
    yield _count_changed(before, after)
    side = deep3d_network.INPUT_PX
    image = jnp.asarray(np.random.RandomState(0).rand(_BATCH, side, side, 3), jnp.float32)
    apply = jax.jit(deep3d_network.apply)

    def run(variables: Any) -> Mapping[str, Any]:
        return deep3d_network.split(np.asarray(apply(variables, image)))._asdict()

    yield from _paired(run, *(_without_counters(tree) for tree in (before, after)))


def _without_counters(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(trees.flatten_names(tree))
    return trees.unflatten_names(
        {name: value for name, value in flat.items() if value.dtype == np.float32}
    )


def _compare_mapping(options: argparse.Namespace, folder: pathlib.Path) -> Pairs:
    """Sends a mapping network out and in again, and through random codes."""
    before, sizes = names_expression.import_state_dict(torch_pickle.read_checkpoint(options.src))
    exported = folder / "theirs.pth"
    label25 = avatar.frontal_label25(experiment_config.FrontalConfig())
    metadata = names_expression.make_metadata(sizes, "lrelu", label25)
    normalizer = normalization.from_dict(metadata["normalizer"])
    outputs.write_named(exported, names_expression.export_names(before, normalizer))
    after, _ = names_expression.import_state_dict(torch_pickle.read_checkpoint(exported))
    yield _count_changed(before, after)
    code = jnp.asarray(np.random.RandomState(0).randn(16, sizes["code_dim"]), jnp.float32)
    config = expression_mapping_config.ExpressionMappingConfig(
        width=sizes["width"], hidden_layers=sizes["hidden_layers"]
    )
    apply = jax.jit(lambda v, x: expression_mapping.apply(v["params"], x, config))
    yield from _paired(lambda variables: {"w": apply(variables, code)}, before, after)


def _compare_lpips(options: argparse.Namespace, folder: pathlib.Path) -> Pairs:
    """Writes the weights out, reads them again and compares distances of random images."""
    saved = folder / "lpips.npz"
    tensors = names_features.read_lpips(str(options.src))
    outputs.write_named(saved, tensors)
    again = names_features.read_lpips(str(saved))
    yield _count_changed(tensors, again)
    draws = np.random.RandomState(0)
    image, target = (jnp.asarray(draws.rand(_BATCH, 64, 64, 3) * 2 - 1, jnp.float32) for _ in "ab")
    nets: tuple[lpips.NetName, ...] = ("alex", "vgg")
    src = None if str(options.src) == names_features.WHEEL else options.src
    for net in nets:
        if f"{net}.conv0.kernel" in tensors:
            before, after = (
                lpips.lpips(lpips.load_params(net, path=path), image, target, net=net)
                for path in (src, saved)
            )
            yield f"distance ({net})", before, after


def _count_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, Any, Any]:
    first, second = (dict(trees.flatten_names(tree)) for tree in (before, after))
    changed = [
        name
        for name in first.keys() | second.keys()
        if name not in first
        or name not in second
        or first[name].dtype != second[name].dtype
        or first[name].tobytes() != second[name].tobytes()
    ]
    return "unchanged tensors", len(first), len(first) - len(changed)


def _paired(run: Callable[[Any], Mapping[str, Any]], before: Any, after: Any) -> Pairs:
    first = {name: np.asarray(value) for name, value in run(before).items()}
    second = run(after)
    for name, value in first.items():
        yield name, value, second[name]


_COMPARE: dict[str, Callable[[argparse.Namespace, pathlib.Path], Pairs]] = {
    "eg3d": _compare_eg3d,
    "deep3d": _compare_deep3d,
    "mapping": _compare_mapping,
    "lpips": _compare_lpips,
}


if __name__ == "__main__":
    sys.exit(main())
