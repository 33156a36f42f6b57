"""Counts what a training step keeps in memory, without running it and without the memory.

python experiments/memory_by_tracing.py [--phase=g_main] [--batch=4 8 16 32] [--microbatch=0] \
    [--memory_gib=40] [--ray_chunk=0] [--half_dtype=bfloat16] [--largest=10]

A phase of configs/monocular.py is traced at paper size on abstract arrays, and two things are
counted at one device with that many images, handled at once as far as gan.memory_gib allows:

residuals  what the forward pass of the loss leaves for the backward pass, every array once
live       the most that is alive at a time if operations run in the order of the trace, each
           writing its result; arrays that are only seen in another shape cost nothing

Neither counts the state (parameters, moments, averages), which is printed by itself. A compiler
fuses operations and reorders them, so both are estimates; GiB are 2^30 bytes.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

import bench_counts
import jax
import script
from jax.extend import core as jex

from configs import monocular
from ganavatar_jax.apps import experiment_config
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.training import gan_step, loop, state, step_inputs, step_memory

GIB = 2.0**30
# XLA never writes these by themselves: they only say how an array is read.
VIEWS = ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "transpose", "copy")


@dataclasses.dataclass(frozen=True)
class Traced:
    """What was counted, bytes.

    Attributes:
      told: How many images are handled at once, as a training says it.
      residuals: Left by the forward pass for the backward pass of one microbatch.
      live: Largest sum of values alive at a time, without the state.
      largest: The largest residuals, shape and type, with their number.
    """

    told: str
    residuals: int
    live: int
    largest: list[tuple[str, int, int]]


def live_bytes(jaxpr: jex.Jaxpr) -> int:
    """Finds the most that a jaxpr's own values take at a time; its inputs are its caller's."""
    root: dict[Any, Any] = {}
    last: dict[Any, int] = {}
    for index, equation in enumerate(jaxpr.eqns):
        for var in _variables(equation.invars):
            last[root.get(var, var)] = index
        if equation.primitive.name in VIEWS and isinstance(equation.invars[0], jex.Var):
            root[equation.outvars[0]] = root.get(equation.invars[0], equation.invars[0])
    for var in _variables(jaxpr.outvars):
        last[root.get(var, var)] = len(jaxpr.eqns)
    now = most = 0
    own: dict[Any, int] = {}
    for index, equation in enumerate(jaxpr.eqns):
        new = [var for var in equation.outvars if var not in root]
        written = sum(step_memory.count_bytes(var.aval) for var in new)
        inside = max((live_bytes(body) for body in bench_counts.bodies(equation)), default=0)
        # What a loop collects stands beside one turn of its body; a call's results are its body's.
        loop_body = equation.primitive.name in ("scan", "while")
        most = max(most, now + (inside + written if loop_body else max(inside, written)))
        own |= {var: step_memory.count_bytes(var.aval) for var in new}
        now += written
        for var in [v for v in own if last.get(v, -1) <= index]:
            now -= own.pop(var)
    return most


def _variables(atoms: list[Any]) -> Iterator[Any]:
    return (atom for atom in atoms if isinstance(atom, jex.Var))


def paper_size(options: argparse.Namespace) -> experiment_config.ExperimentConfig:
    """Returns the configuration with the options that change memory."""
    config = monocular.get_config()
    config.data.source = "none"  # nothing is read
    config.gan.microbatch, config.gan.memory_gib = options.microbatch, options.memory_gib
    config.generator.render.ray_chunk = options.ray_chunk
    config.generator.half_dtype = config.discriminator.half_dtype = options.half_dtype
    return config_lib.resolve(experiment_config.ExperimentConfig, config)


def trace(config: experiment_config.ExperimentConfig, name: str, batch: int) -> Traced:
    """Traces one phase on one device with that many images."""
    side = config.generator.img_resolution
    current, key = make_state(config), jax.random.key(0)
    schedule = loop.schedule_at(config.gan, current_images=1e6, condition_on_camera=False)
    gan = dataclasses.replace(config.gan, batch_size=batch)
    options = dataclasses.replace(config.gan_step, gan=gan)
    options, told = step_memory.settle_microbatch(options, current, schedule, devices=1)
    program = step_inputs.Program(name, options, config.generator.neural_resolution)

    def run(current: Any, batch: Any, key: Any) -> Any:
        return gan_step.take_step(current, batch, key, schedule, program=program, axis=None)

    residuals = step_memory.list_residuals(
        gan_step.PHASES[name],
        current,
        step_memory.make_batch(side, min(options.gan.microbatch or batch, batch)),
        step_inputs.Step(key, schedule, program),
    )
    traced = jax.make_jaxpr(run)(current, step_memory.make_batch(side, batch), key)
    kinds: dict[str, list[int]] = {}
    for leaf in residuals:
        kinds.setdefault(f"{leaf.dtype}{list(leaf.shape)}", []).append(
            step_memory.count_bytes(leaf)
        )
    largest = sorted(((k, len(v), sum(v)) for k, v in kinds.items()), key=lambda row: -row[2])
    return Traced(
        told, sum(map(step_memory.count_bytes, residuals)), live_bytes(traced.jaxpr), largest
    )


def make_state(config: experiment_config.ExperimentConfig) -> state.GanState:
    """Returns the abstract state of a run."""
    return jax.eval_shape(
        lambda: state.make_state(
            jax.random.key(0),
            config.generator,
            config.discriminator,
            config.gan.g_adam,
            config.gan.d_adam,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    phases = ("g_main", "g_reg", "d_main", "d_reg")
    parser.add_argument("--phase", choices=phases, nargs="+", default=["g_main"])
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--microbatch", type=int, default=0)
    parser.add_argument("--memory_gib", type=float, default=40.0, help="0: all images at once")
    parser.add_argument("--ray_chunk", type=int, default=0)
    parser.add_argument("--half_dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--largest", type=int, default=0, help="show so many kinds of residuals")
    options = parser.parse_args()
    config = paper_size(options)
    held = sum(map(step_memory.count_bytes, jax.tree.leaves(make_state(config))))
    print(f"state: {held / GIB:.2f} GiB")
    print("| phase | images | residuals GiB | live GiB | handled |\n|---|---|---|---|---|")
    for phase in options.phase:
        for batch in options.batch:
            found = trace(config, phase, batch)
            print(
                f"| {phase} | {batch} | {found.residuals / GIB:.1f} | {found.live / GIB:.1f} | "
                f"{found.told} |",
                flush=True,
            )
            for kind, count, size in found.largest[: options.largest]:
                print(f"    {count} x {kind}: {size / GIB:.2f}")


if __name__ == "__main__":
    script.run(main)
