"""A GAN training small enough to compile in seconds, on any number of devices.

Run as a program (RADIUS OUT.npz) it trains on one device and on eight, spread in three ways, and
writes what became of the parameters. A process of its own can have compiler flags of its own:
compiling is all the time it takes.
"""

import dataclasses
import functools
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.apps import avatar, experiment_config, startup
from ganavatar_jax.core import rng, trees
from ganavatar_jax.faces import normalization
from ganavatar_jax.geometry import cameras
from ganavatar_jax.models import (
    discriminator,
    discriminator_config,
    expression_mapping,
    generator,
    generator_config,
)
from ganavatar_jax.training import (
    gan_config,
    gan_step,
    mapping_config,
    parallel,
    phase_config,
    step_inputs,
)
from ganavatar_jax.training import state as state_lib

SIDE = 8
BATCH = 16
LAYOUTS = (("jit", 1), ("jit", 8), ("shard_map", 8), ("pmap", 8))
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": startup.virtual_device_flags("", 8),
}

GENERATOR = dataclasses.replace(
    generator_config.GeneratorConfig.tiny(),
    img_resolution=SIDE,
    neural_resolution=SIDE,
    z_dim=8,
    w_dim=8,
    plane_resolution=8,
    channel_base=32,
    channel_max=4,
    decoder_hidden=4,
    decoder_features=3,
    superresolution="none",
)
DISCRIMINATOR = discriminator_config.DiscriminatorConfig(
    img_resolution=SIDE,
    channel_base=32,
    channel_max=4,
    mapping_layers=1,
    mbstd_group_size=2,
    mbstd_block_size=2,  # what each of eight devices holds of the batch
)
CONFIG = phase_config.StepOptions(
    gan=gan_config.GanConfig(batch_size=BATCH, g_reg_interval=2, d_reg_interval=2, gamma=1.0),
    g=GENERATOR,
    d=DISCRIMINATOR,
)


def options(
    *, g: dict[str, Any] | None = None, d: dict[str, Any] | None = None, **gan: Any
) -> phase_config.StepOptions:
    """CONFIG with other values in some fields of its parts."""
    return phase_config.StepOptions(
        gan=dataclasses.replace(CONFIG.gan, **gan),
        g=dataclasses.replace(GENERATOR, **(g or {})),
        d=dataclasses.replace(DISCRIMINATOR, **(d or {})),
    )


def fill(shapes: Any, seed: int) -> Any:
    """Draws variables in NumPy, as init would, which takes seconds to compile."""
    draws = np.random.default_rng(seed)
    flat = {}
    for name, leaf in trees.flatten_names(shapes):
        value = draws.normal(size=leaf.shape)
        if name.endswith("affine.bias"):
            value = np.ones(leaf.shape)
        elif name.endswith(("bias", "noise_strength")):
            value = 0.1 * value
        elif ".fc" in name and "mapping" in name:
            value = 100.0 * value
        elif name.endswith("w_avg"):
            value = np.zeros(leaf.shape)
        flat[name] = jnp.asarray(value, jnp.float32)
    return trees.unflatten_names(flat)


@functools.cache
def make_state(config: phase_config.StepOptions = CONFIG) -> state_lib.GanState:
    """Makes the initial state."""
    key = jax.random.key(0)
    g = fill(jax.eval_shape(lambda: generator.init(key, config.g)), 0)
    d = fill(jax.eval_shape(lambda: discriminator.init(key, config.d)), 1)
    return state_lib.from_networks(g, d, g, config.gan.g_adam, config.gan.d_adam)


def make_avatar(codes: np.ndarray, names: tuple[str, ...]) -> avatar.Avatar:
    """Makes an avatar that was mapped with some codes and never trained."""
    config = mapping_config.MappingConfig()
    params = expression_mapping.init(
        jax.random.key(0), config.network, code_dim=len(names), w_dim=GENERATOR.w_dim
    )
    return avatar.Avatar(
        make_state().g,
        GENERATOR,
        params,
        config,
        normalization.fit(codes, names),
        np.zeros(GENERATOR.w_dim, np.float32),
        avatar.frontal_label25(experiment_config.FrontalConfig()),
    )


def make_batch(seed: int = 0, *, batch: int = BATCH, radius: float = 2.7) -> dict[str, np.ndarray]:
    """Draws images and cameras."""
    draws = np.random.default_rng(seed)
    angles = draws.uniform(-0.3, 0.3, size=(batch, 2)) + np.pi / 2
    poses = cameras.look_at(angles[:, 0], angles[:, 1], radius=radius)
    lens = np.broadcast_to(np.asarray(cameras.intrinsics(4.2647)), (batch, 3, 3))
    label = np.asarray(cameras.to_label25(cameras.Camera(poses, jnp.asarray(lens))))
    generated = np.roll(label, 3, axis=0)
    return {
        "image_u8": draws.integers(0, 256, size=(batch, SIDE, SIDE, 3), dtype=np.uint8),
        "label25": label,
        "gen_label25": generated,
        "swap_label25": np.roll(generated, 1, axis=0),
    }


def schedule(**changes: float) -> dict[str, jax.Array]:
    """Numbers that change over a run."""
    values = {"ema_decay": 0.9, "lr_scale": 1.0, "recon_lr_scale": 1.0, "swapping_p": 0.5} | changes
    return {name: jnp.float32(value) for name, value in values.items()}


@functools.cache
def phase(
    name: phase_config.Phase,
    backend: str = "jit",
    devices: int = 1,
    config: phase_config.StepOptions = CONFIG,
) -> Any:
    """Compiles a phase on first use; the state that goes in survives."""
    layout = make_layout(backend, devices)
    program = step_inputs.Program(name, config, config.g.neural_resolution, devices)
    step = functools.partial(gan_step.take_step, program=program)
    return parallel.make_step(step, layout=layout, donate=False)


def step(
    key: jax.Array,
    *,
    config: phase_config.StepOptions = CONFIG,
    numbers: Any = None,
    resolution: int = SIDE,
) -> step_inputs.Step:
    """What a phase on one device sees besides state and batch."""
    program = step_inputs.Program("g_main", config, resolution)
    return step_inputs.Step(key, schedule() if numbers is None else numbers, program)


@functools.cache
def make_layout(backend: str = "jit", devices: int = 1) -> parallel.Layout:
    """Lays the work out over the first devices."""
    return parallel.make_layout(backend, jax.devices()[:devices])


def run(
    name: str, state: state_lib.GanState, batch: Any, *, config: phase_config.StepOptions = CONFIG
) -> Any:
    """Runs one phase on one device; returns the new state and the metrics, in NumPy."""
    layout = make_layout()
    placed = layout.place_state(state), layout.place_batch(batch)
    return jax.device_get(phase(name, config=config)(*placed, jax.random.key(0), schedule()))


def train(backend: str, devices: int, *, radius: float, steps: int = 5) -> dict[str, Any]:
    """Trains for some iterations; returns the networks and all metrics by dotted names."""
    layout = make_layout(backend, devices)
    state = layout.place_state(make_state())
    flat: dict[str, Any] = {}
    for iteration in range(steps):
        batch = layout.place_batch(make_batch(iteration, radius=radius))
        for name in gan_step.phases_due(iteration, CONFIG):
            key = rng.stream(jax.random.key(1), name, iteration)
            state, metrics = phase(name, backend, devices)(state, batch, key, schedule())
            flat |= {f"metrics.{iteration}.{name}.{k}": v for k, v in metrics.items()}
    return flat | networks(layout.unplace_state(state))


def networks(state: state_lib.GanState) -> dict[str, Any]:
    """Names the variables of all networks of a state."""
    return dict(trees.flatten_names({"g": state.g, "d": state.d, "g_ema": state.g_ema}))


def train_everywhere(folder: pathlib.Path, *, radius: float) -> dict[str, dict[str, np.ndarray]]:
    """Runs this file as a program; returns what `train` returned in every layout."""
    root = pathlib.Path(__file__).parents[2]
    out = folder / "trained.npz"
    path = os.pathsep.join([str(root), str(root / "tests")])
    subprocess.run(
        [sys.executable, __file__, str(radius), str(out)],
        env=os.environ | _ENVIRONMENT | {"PYTHONPATH": path},
        check=True,
    )
    trained: dict[str, dict[str, np.ndarray]] = {}
    with np.load(out) as arrays:
        for name in arrays.files:
            layout, _, variable = name.partition("/")
            trained.setdefault(layout, {})[variable] = arrays[name]
    return trained


def main(radius: str, out: str) -> None:
    """Trains in every layout and writes the results."""
    results = {
        f"{backend} on {devices}/{name}": np.asarray(value)
        for backend, devices in LAYOUTS
        for name, value in train(backend, devices, radius=float(radius)).items()
    }
    np.savez(out, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
