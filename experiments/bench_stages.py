"""One side of `bench.py`: runs stages when told to, and says what each has cost.

It works with whatever `ganavatar_jax` its path finds, so it uses only what has been there for long.
Lines of JSON come in, {"stage": name}, and go out.
"""

import functools
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import script

from configs import monocular, quickstart
from ganavatar_jax.apps import experiment_config
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.geometry import cameras
from ganavatar_jax.metrics import lpips
from ganavatar_jax.models import discriminator, generator
from ganavatar_jax.training import gan_step, loop, state, step_inputs

Call = Callable[[], Any]
OF_GENERATOR = ("backbone", "query", "renderer", "superresolution", "generator")
STAGES = (*OF_GENERATOR, *(f"{name}_gradient" for name in OF_GENERATOR), "discriminator_gradient",
          "lpips_gradient", "recon", "g_main", "d_main", "d_reg")  # fmt: skip


def make_stages(size: str, batch: int) -> Callable[[str], Call]:
    """Returns what makes a call out of a stage's name; arguments are the same in every run."""
    raw = (quickstart if size == "small" else monocular).get_config()
    raw.data.source = "none"
    if size != "small":  # XLA on CPUs computes bfloat16 convolutions slower than float32
        raw.generator.half_dtype = raw.discriminator.half_dtype = "float32"
    config = config_lib.resolve(experiment_config.ExperimentConfig, raw)
    label = cameras.to_label25(
        cameras.Camera(
            cam2world=np.stack(
                [
                    cameras.look_at(1.3 + 0.05 * k, 1.6, pivot=(0.0, 0.0, 0.0), radius=2.7)
                    for k in range(batch)
                ]
            ),
            intrinsics=np.stack([cameras.intrinsics(4.2647)] * batch),
        )
    )

    def make(name: str) -> Call:
        if name in gan_step.PHASES:
            return make_phase(name, config, label)
        return make_part(name, config, label)

    return make


def make_part(name: str, config: experiment_config.ExperimentConfig, label: Any) -> Call:
    """Compiles a part of a network, forwards or with the gradients of weights and inputs."""
    g, d = config.generator, config.discriminator
    draws = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(draws.normal(size=shape), jnp.float32)  # noqa: E731
    batch, side, pixels = len(label), g.neural_resolution, g.img_resolution
    ws = generator.broadcast(normal(batch, g.w_dim), g)
    rays = side * side * g.render.depth_resolution
    planes = normal(batch, 3, g.plane_resolution, g.plane_resolution, g.plane_channels)
    variables = generator.init(jax.random.key(0), g)
    lpips_params = lpips.load_params("alex")
    points = jnp.asarray(draws.uniform(-0.5, 0.5, (batch, rays, 3)), jnp.float32)
    image, low = normal(batch, pixels, pixels, 3), normal(batch, side, side, 3)
    parts: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "backbone": (lambda v, ws: generator.make_planes(v, ws, g), (variables, ws)),
        "query": (lambda v, planes: generator.query(v, planes, points, g), (variables, planes)),
        "renderer": (
            lambda v, planes: generator.render_planes(v, planes, ws, label, g).image_raw,
            (variables, planes),
        ),
        "superresolution": (
            lambda v, features: generator.enlarge(v, features[..., :3], features, ws, g),
            (variables, normal(batch, side, side, g.decoder_features)),
        ),
        "generator": (lambda v, ws: generator.synthesize(v, ws, label, g).image, (variables, ws)),
        "discriminator": (
            lambda v, image, low: discriminator.apply(v, image, low, label, d),
            (discriminator.init(jax.random.key(1), d), image, low),
        ),
        "lpips": (
            lambda image: lpips.lpips(lpips_params, image, jnp.zeros_like(image), net="alex"),
            (image,),
        ),
    }
    function, arguments = parts[name.removesuffix("_gradient")]

    def loss(*arguments: Any) -> Any:
        return sum(jnp.sum(jnp.sin(out)) for out in jax.tree.leaves(function(*arguments)))

    if name.endswith("_gradient"):
        gradient = jax.grad(loss, argnums=tuple(range(len(arguments))))
        return functools.partial(jax.jit(gradient), *arguments)
    return functools.partial(jax.jit(function), *arguments)


def make_phase(name: Any, config: experiment_config.ExperimentConfig, label: Any) -> Call:
    """Compiles a training phase on this process's one device; each call takes a step."""
    gan, key, batch = config.gan, jax.random.key(0), len(label)
    pixels = config.generator.img_resolution
    recon = gan.reconstruction
    encoder = {}
    if gan.reconstruct:
        encoder = {
            "e": state.make_encoder(key, recon.encoder, config.generator),
            "recon_adam": recon.adam,
        }
    current = state.make_state(
        key, config.generator, config.discriminator, gan.g_adam, gan.d_adam, **encoder
    )
    frames = np.random.default_rng(0).integers(0, 256, (batch, pixels, pixels, 3), np.uint8)
    labels = dict.fromkeys(("label25", "gen_label25", "swap_label25"), jnp.asarray(label))
    arrays = {"image_u8": jnp.asarray(frames), "sample_id": jnp.arange(batch), **labels}
    schedule = loop.schedule_at(gan, current_images=1e4, condition_on_camera=False)
    resolution = config.generator.neural_resolution
    uses_lpips = gan.reconstruct and recon.lpips_weight
    program = step_inputs.Program(
        name,
        config.gan_step,
        resolution,
        lpips_params=lpips.load_params("alex") if uses_lpips else None,
    )
    step = jax.jit(
        functools.partial(gan_step.take_step, program=program, axis=None), donate_argnums=0
    )

    def advance() -> Any:
        nonlocal current
        current, metrics = step(current, arrays, key, schedule)
        return metrics, current

    return advance


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
    """Answers the lines that come in until there are no more; arguments: size, batch, cores."""
    size, batch, cores = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(cores) :])
    make, calls = make_stages(size, int(batch)), {}
    for line in sys.stdin:
        name = json.loads(line)["stage"]
        if name not in calls:
            calls = {name: make(name)}  # one at a time: memory is the next stage's
            measure(calls[name])
        print(json.dumps(measure(calls[name])), flush=True)


if __name__ == "__main__":
    script.run(main)
