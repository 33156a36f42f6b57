"""One step, three backends, any number of devices: the same numbers."""

import os
import socket
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.training import parallel
from helpers import toy_training


@pytest.mark.parametrize(
    ("backend", "device_count"), [("jit", 8), ("shard_map", 1), ("shard_map", 8), ("pmap", 8)]
)
def test_every_backend_trains_like_one_device(backend, device_count):
    expected_state, expected_history = toy_training.train("jit", jax.devices()[:1])
    state, history = toy_training.train(backend, jax.devices()[:device_count])
    assert type(state) is toy_training.ToyState
    assert int(state.step) == 5
    chex.assert_trees_all_close(
        jax.device_get((state.params, state.ema, state.opt)),
        jax.device_get((expected_state.params, expected_state.ema, expected_state.opt)),
        atol=1e-6,
    )
    chex.assert_trees_all_close(history, expected_history, atol=1e-6)
    assert np.array_equal(jax.random.key_data(state.key), jax.random.key_data(jax.random.key(7)))


@pytest.mark.parametrize("backend", ["jit", "shard_map", "pmap"])
def test_placing_and_unplacing_a_state_is_the_identity(backend):
    layout = parallel.make_layout(backend)
    state = toy_training.make_state()
    back = layout.unplace_state(layout.place_state(state))
    chex.assert_trees_all_equal_structs(back, state)
    chex.assert_trees_all_equal(
        jax.device_get((back.params, back.opt)), jax.device_get((state.params, state.opt))
    )


@pytest.mark.parametrize("backend", ["jit", "shard_map", "pmap"])
def test_the_original_state_survives_donation_of_the_placed_one(backend):
    layout = parallel.make_layout(backend)
    state = toy_training.make_state()
    placed = layout.place_state(state)
    step = parallel.make_step(toy_training.toy_step, layout=layout)
    step(placed, layout.place_batch(next(toy_training.batches(1))), jax.random.key(0), 1.0)
    assert np.isfinite(np.asarray(state.params["w"])).all()
    assert jax.tree.leaves(placed.params)[0].is_deleted()


@pytest.mark.parametrize("backend", ["jit", "shard_map", "pmap"])
def test_a_step_makes_no_hidden_transfers_and_compiles_once(backend):
    layout = parallel.make_layout(backend)
    traces = []

    def counted(state, batch, key, scale, *, axis):
        traces.append(axis)
        return toy_training.toy_step(state, batch, key, scale, axis=axis)

    step = parallel.make_step(counted, layout=layout)
    state = layout.place_state(toy_training.make_state())
    key = jax.random.key(1)
    with jax.transfer_guard("disallow"):
        for batch in toy_training.batches(3):
            state, _ = step(state, layout.place_batch(batch), key, np.float32(0.5))
    assert len(traces) == 1


@pytest.mark.parametrize("backend", ["jit", "shard_map", "pmap"])
@pytest.mark.parametrize("fields", [("x",), ()])
def test_a_step_may_do_without_further_arguments_and_without_a_batch(backend, fields):
    layout = parallel.make_layout(backend)
    seen = []

    def step(state, batch, *, axis):
        seen.append((jax.tree.map(np.shape, state), {k: np.shape(v) for k, v in batch.items()}))
        return jax.tree.map(lambda x: x + 1.0, state), {}

    batch = {name: np.zeros((16, 3), np.float32) for name in fields}
    state = {"a": np.zeros(5, np.float32), "b": np.zeros(8, np.float32)}
    placed = layout.place_state(state), layout.place_batch(batch) if fields else {}
    new, _ = parallel.make_step(step, layout=layout)(*placed)
    assert seen[0][0] == {"a": (5,), "b": (8,)}
    rows = 16 if backend == "jit" else 2
    assert seen[0][1] == ({"x": (rows, 3), "sample_id": (rows,)} if fields else {})
    np.testing.assert_array_equal(layout.unplace_state(new)["b"], np.ones(8))


def test_samples_are_numbered_over_the_whole_batch_unless_they_bring_numbers():
    layout = parallel.make_layout("shard_map")
    batch = next(toy_training.batches(1))
    assert layout.place_batch(batch)["sample_id"].tolist() == list(range(toy_training.BATCH))
    own = np.arange(toy_training.BATCH, dtype=np.int32) + 100
    assert layout.place_batch(batch | {"sample_id": own})["sample_id"].tolist() == own.tolist()


def test_the_batch_is_split_and_the_state_is_on_every_device():
    layout = parallel.make_layout("jit")
    placed = layout.place_batch(next(toy_training.batches(1)))
    assert {shard.data.shape for shard in placed["x"].addressable_shards} == {(2, 4)}
    assert layout.place_state(toy_training.make_state()).params["w"].sharding.is_fully_replicated


def test_an_uneven_batch_is_refused_with_the_fix():
    layout = parallel.make_layout("jit")
    with pytest.raises(errors.ConfigError, match="6 samples cannot be split evenly over 8 devices"):
        layout.place_batch({"x": np.zeros((6, 2))})


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jit", "shard_map", "pmap"])
def test_two_processes_train_like_one_device(backend, tmp_path, repo_root):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    out = tmp_path / "params.npz"
    command = [sys.executable, toy_training.__file__, port]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(repo_root),
    }
    workers = [
        subprocess.Popen([*command, str(number), "2", backend, str(out)], env=environment)
        for number in range(2)
    ]
    assert [worker.wait(timeout=180) for worker in workers] == [0, 0]
    state, history = toy_training.train("jit", jax.devices()[:1])
    with np.load(out) as trained:
        np.testing.assert_allclose(trained["w"], state.params["w"], atol=1e-6)
        np.testing.assert_allclose(trained["loss"], [m["loss"] for m in history], atol=1e-6)
