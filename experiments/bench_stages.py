"""One side of `bench.py`: runs stages when told to, and says what each has cost.

python experiments/bench_stages.py '{"size": "small", "batch": 8, "cores": 1}'

It works with whatever `ganavatar_jax` its path finds, so it uses only what has been there for long.
Lines of JSON come in, and go out: {"stage": name} runs a stage once, {"count": name} counts it,
{"export": file} writes weights and inputs for the other side. Beside the name, "batch" and "set"
(values of the config by dotted names) ask for other sizes than those of the start.
"""

import dataclasses
import functools
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import bench_ceilings
import bench_counts
import bench_parts
import jax
import jax.numpy as jnp
import numpy as np
import script

from configs import monocular, quickstart
from ganavatar_jax.apps import experiment_config, startup
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import trees
from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import discriminator, face_reader, generator
from ganavatar_jax.training import (
    gan_step,
    loop,
    parallel,
    recon_step,
    state,
    step_inputs,
)

Call = Callable[[], Any]
PHASES = ("recon", "g_main", "g_reg", "d_main", "d_reg")
PARTS = tuple(bench_parts.PARTS)
STAGES = (
    *PARTS,
    *(f"{name}_gradient" for name in PARTS),
    *PHASES,
    "mapping_step",
    *bench_ceilings.CEILINGS,
)
SIZES = ("small", "full", "thin", "half", "tiny")


def read_config(size: str, batch: int, changes: dict[str, Any]) -> Any:
    """Makes the config of a size.

    `small` is the quickstart's, `full` the paper's; `thin` is the paper's with an eighth of the
    channels, `half` the same with half the side everywhere, `tiny` is the smoke test's. All are in
    float32: XLA on CPUs computes bfloat16 convolutions slower.
    """
    module, variant = {"small": (quickstart, "full"), "tiny": (quickstart, "smoke")}.get(
        size, (monocular, "full")
    )
    raw = module.get_config(variant)
    raw.data.source = "none"
    raw.generator.half_dtype = raw.discriminator.half_dtype = "float32"
    if size in ("thin", "half"):
        raw.generator.channel_base = raw.discriminator.channel_base = 4096
        raw.gan.gamma = 1.0
    if size == "half":
        raw.generator.update({"img_resolution": 256, "neural_resolution": 64})
        raw.generator.plane_resolution = 128
    raw.gan.batch_size = batch
    if batch % 4:  # the batch is one block of the minibatch deviation
        raw.discriminator.mbstd_block_size = 0
    raw.update_from_flattened_dict(changes)
    raw.data.resolution = raw.discriminator.img_resolution = raw.generator.img_resolution
    return config_lib.resolve(experiment_config.ExperimentConfig, raw)


@dataclasses.dataclass
class Stage:
    """A stage that can be run, and what is to be counted in it.

    Attributes:
      call: Runs it once.
      function: What it computes.
      arguments: Of what.
      known: What the call costs by its making, where that is not to be counted.
    """

    call: Call
    function: Callable[..., Any] | None = None
    arguments: tuple[Any, ...] = ()
    known: bench_counts.Counts | None = None

    def count(self) -> bench_counts.Counts:
        """Counts it."""
        if self.known is not None:
            return self.known
        assert self.function is not None
        return bench_counts.count(self.function, *self.arguments)


def make_stage(name: str, config: Any, batch: int) -> Stage:
    """Makes a stage; arguments are the same in every run."""
    if name in bench_ceilings.CEILINGS:
        call, known = bench_ceilings.make(name)
        return Stage(call, known=bench_counts.Counts(**known))
    if name in PHASES:
        return make_phase(name, config, batch)
    if name == "mapping_step":
        function, arguments = bench_parts.mapping_step_of(config, batch)
        return Stage(functools.partial(function, *arguments), function, arguments)
    function, arguments = bench_parts.PARTS[name.removesuffix("_gradient")](config, batch)
    if name.endswith("_gradient"):
        function = bench_parts.gradient_of(function, len(arguments))
    return Stage(functools.partial(jax.jit(function), *arguments), function, arguments)


def make_phase(name: Any, config: Any, batch: int) -> Stage:
    """Makes a training phase on all of this process's devices; each call takes a step."""
    layout = parallel.make_layout(config.parallel if len(jax.devices()) > 1 else "jit")
    current, key = layout.place_state(make_state(config)), jax.random.key(0)
    schedule = loop.schedule_at(config.gan, current_images=1e4, condition_on_camera=False)
    frames = bench_parts.make_batch(config, batch)
    program = make_program(name, config, devices=len(jax.devices()))
    # What LPIPS sees of a real image is computed once a run, not once a step.
    if name == "recon" and hasattr(recon_step, "describe_truth"):
        describe = functools.partial(recon_step.describe_truth, options=config.gan.reconstruction)
        images = jnp.asarray(frames["image_u8"]), jnp.asarray(frames["label25"])
        frames["truth"] = np.asarray(jax.jit(describe)(program.lpips_params, *images))
    arrays = layout.place_batch(frames)
    take_step = functools.partial(gan_step.take_step, program=program)
    step = parallel.make_step(take_step, layout=layout)
    shared = layout.place_replicated((key, schedule))

    def advance() -> Any:
        nonlocal current
        current, metrics = step(current, arrays, *shared)
        return metrics, current

    def whole(state: Any, batch: Any) -> Any:
        alone = dataclasses.replace(program, devices=1)
        return gan_step.take_step(state, batch, *shared, program=alone, axis=None)

    abstract = jax.tree.map(_abstract, (layout.unplace_state(current), arrays))
    return Stage(advance, whole, abstract)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Keeps shape and type of an array alone."""
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype)


def make_program(name: Any, config: Any, *, devices: int) -> step_inputs.Program:
    """Gathers what is fixed in a phase."""
    recon = config.gan.reconstruction
    uses_lpips = config.gan.reconstruct and recon.lpips_weight
    return step_inputs.Program(
        name,
        config.gan_step,
        config.generator.neural_resolution,
        devices,
        lpips_params=lpips.load_params("alex") if uses_lpips else None,
    )


def make_state(config: Any) -> state.GanState:
    """Makes a fresh state."""
    gan, g, d, key = config.gan, config.generator, config.discriminator, jax.random.key(0)
    networks = [
        bench_parts.draw_weights(lambda: generator.init(key, g), 0),
        bench_parts.draw_weights(lambda: discriminator.init(key, d), 1),
    ]
    encoder = {}
    if gan.reconstruct:
        recon = gan.reconstruction
        encoder["recon_adam"] = recon.adam
        made = bench_parts.draw_weights(lambda: state.make_encoder(key, recon.encoder, g), 2)
        encoder["e"] = {"probes": {}} | made  # names leave out what is empty
    return state.from_networks(*networks, networks[0], gan.g_adam, gan.d_adam, **encoder)


def export(path: str, config: Any, batch: int, current: Any) -> dict[str, Any]:
    """Writes weights (under our names, in our layouts), inputs and sizes for the other side."""
    nets = {"g": current.g, "d": current.d, "e": current.e}
    arrays = {f"weights.{name}": leaf for name, leaf in trees.flatten_names(nets)}
    alex = lpips.load_params("alex")
    for kind in ("kernels", "biases", "heads"):
        arrays |= {f"lpips.{kind}.{i}": a for i, a in enumerate(getattr(alex, kind))}
    inputs = bench_parts.make_inputs(config, batch) | bench_parts.make_batch(config, batch)
    inputs |= dict(zip(("patch_points", "patch_normals"), face_reader._patch(), strict=True))
    arrays |= {f"inputs.{name}": leaf for name, leaf in inputs.items()}
    sizes = {k: dataclasses.asdict(getattr(config, k)) for k in ("generator", "discriminator")}
    sizes["gan"] = dataclasses.asdict(config.gan)
    sizes["gan"] |= {k: dataclasses.asdict(getattr(config.gan, k)) for k in ("g_adam", "d_adam")}
    np.savez(path, sizes=json.dumps(sizes), **{k: np.asarray(v) for k, v in arrays.items()})
    return {"export": path}


def measure(call: Call) -> dict[str, float]:
    """Runs a call and says its wall time, CPU time in programs and in the system, and faults."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    jax.block_until_ready(call())
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall": wall,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "faults": after.ru_minflt - before.ru_minflt,
        "peak_mib": after.ru_maxrss / 1024,
    }


def main() -> None:
    """Answers the lines that come in until there are no more."""
    setting = json.loads(sys.argv[1])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-setting["cores"] :])
    if setting.get("devices", 1) > 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = startup.virtual_device_flags(flags, setting["devices"])
    startup.settle_arithmetic()
    made: tuple[str, Stage | None] = ("", None)
    first: dict[str, float] = {}
    for line in sys.stdin:
        asked = setting | json.loads(line)
        config = read_config(asked["size"], asked["batch"], asked.get("set", {}))
        if "export" in asked:
            done = export(asked["export"], config, asked["batch"], make_state(config))
            print(json.dumps(done), flush=True)
            continue
        name = asked.get("stage") or asked["count"]
        known = json.dumps([name, asked["batch"], asked.get("set", {})])
        if made[0] != known:
            made = ("", None)  # one at a time: memory is the next stage's
            made = (known, make_stage(name, config, asked["batch"]))
        stage = made[1]
        assert stage is not None
        if "count" in asked:
            print(json.dumps(stage.count()._asdict()), flush=True)
            continue
        if known not in first:  # compiles; the second run finds everything warm
            first[known] = measure(stage.call)["wall"]
            measure(stage.call)
        print(json.dumps(measure(stage.call) | {"first": first[known]}), flush=True)


if __name__ == "__main__":
    script.run(main)
