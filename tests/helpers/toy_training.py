"""A toy training problem for tests of everything around a step.

Run as a program (PORT PROCESS_ID PROCESS_COUNT BACKEND OUT.npz) it is one process of several that
train together, and process 0 writes the parameters.
"""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ganavatar_jax.core import rng, trees
from ganavatar_jax.training import parallel

OPTIMIZER = optax.adam(1e-2)
BATCH = 16


@trees.pytree_dataclass
class ToyState:
    step: jax.Array
    params: dict
    ema: dict
    opt: optax.OptState
    key: jax.Array


def make_state():
    params = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "b": jnp.zeros(3)}
    return ToyState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=params,  # the same arrays twice: donating them as they are would fail
        opt=OPTIMIZER.init(params),
        key=jax.random.key(7),
    )


def toy_loss(params, batch, key):
    noise = jax.vmap(lambda k: jax.random.normal(k, (4,)))(rng.per_sample(key, batch["sample_id"]))
    outputs = jnp.tanh((batch["x"] + noise) @ params["w"] + params["b"][None])
    return jnp.mean(jnp.square(outputs - batch["y"]))


def toy_step(state, batch, key, scale, *, axis):
    key = rng.stream(key, "noise", state.step)
    loss, grads = jax.value_and_grad(toy_loss)(state.params, batch, key)
    loss, grads = parallel.pmean_if((loss, grads), axis)
    updates, opt = OPTIMIZER.update(jax.tree.map(lambda g: g * scale, grads), state.opt)
    params = optax.apply_updates(state.params, updates)
    ema = optax.incremental_update(params, state.ema, 0.1)
    largest = jnp.max(parallel.all_gather_if(batch["x"], axis))
    state = ToyState(step=state.step + 1, params=params, ema=ema, opt=opt, key=state.key)
    return state, {"loss": loss, "largest": largest}


def batches(count):
    draws = np.random.default_rng(0)
    for _ in range(count):
        yield {
            "x": draws.normal(size=(BATCH, 4)).astype(np.float32),
            "y": draws.normal(size=(BATCH, 3)).astype(np.float32),
        }


def train(backend, devices, *, steps=5):
    """Trains on this process's part of the batches; returns the whole state and the metrics."""
    layout = parallel.make_layout(backend, devices)
    step = parallel.make_step(toy_step, layout=layout)
    state = layout.place_state(make_state())
    history = []
    part = BATCH // jax.process_count()
    first = jax.process_index() * part
    for batch in batches(steps):
        batch = {name: value[first : first + part] for name, value in batch.items()}
        state, metrics = step(state, layout.place_batch(batch), jax.random.key(3), 0.5)
        history.append(jax.device_get(metrics))
    return layout.unplace_state(state), history


def main(port, process_id, process_count, backend, out):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        coordinator_address=f"127.0.0.1:{port}",
        num_processes=int(process_count),
        process_id=int(process_id),
    )
    state, history = train(backend, jax.devices())
    if jax.process_index() == 0:
        np.savez(out, loss=[m["loss"] for m in history], **jax.device_get(state.params))
    jax.distributed.shutdown()


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    main(*sys.argv[1:])
