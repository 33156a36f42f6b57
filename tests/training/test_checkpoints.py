"""What was saved comes back, even after a kill, and what does not fit is refused in one line."""

import dataclasses
import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.training import checkpoints, parallel
from helpers import toy_training

DATA = {"next_index": 7}
META = {"kimg": 1.5, "config": {"batch": 4}}


def abstract():
    return jax.eval_shape(toy_training.make_state)


def marked_state(mark):
    state = toy_training.make_state()
    return jax.tree.map(lambda x: x if _is_key(x) else jnp.full_like(x, mark), state)


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def save(folder, steps, **options):
    with checkpoints.Checkpoints(folder, **options) as store:
        for step in steps:
            store.save(step, marked_state(step), data_state=DATA, meta=META)


def restore(folder, target=None):
    with checkpoints.Checkpoints(folder) as store:
        return store.restore_latest(abstract() if target is None else target)


@pytest.mark.parametrize("data_state", [{"next_index": 7}, b"\x00\xffposition"])
def test_state_data_position_and_meta_come_back(tmp_path, data_state):
    state = toy_training.make_state()
    with checkpoints.Checkpoints(tmp_path) as store:
        store.save(3, state, data_state=data_state, meta=META)
    restored = restore(tmp_path)
    assert restored is not None
    assert restored.step == 3
    assert restored.data_state == data_state
    assert restored.meta == META
    chex.assert_trees_all_equal_structs(restored.state, state)
    assert np.array_equal(jax.random.key_data(restored.state.key), jax.random.key_data(state.key))
    chex.assert_trees_all_equal(
        jax.device_get((restored.state.params, restored.state.opt)),
        jax.device_get((state.params, state.opt)),
    )


def test_an_empty_folder_has_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "new") is None


def test_only_the_newest_and_the_periodic_steps_are_kept(tmp_path):
    save(tmp_path, [10, 15, 20, 25, 30, 35], keep=2, keep_period=20)
    with checkpoints.Checkpoints(tmp_path, keep=2, keep_period=20) as store:
        assert store.steps() == [20, 30, 35]


def test_saving_a_step_again_leaves_it_as_it_is(tmp_path):
    save(tmp_path, [5])
    with checkpoints.Checkpoints(tmp_path) as store:
        store.save(5, marked_state(99), data_state=DATA, meta=META)
    assert float(restore(tmp_path).state.params["w"][0, 0]) == 5.0


def test_donating_the_state_right_after_a_save_does_not_change_what_is_saved(tmp_path):
    layout = parallel.make_layout("jit")
    step = parallel.make_step(toy_training.toy_step, layout=layout)
    state = layout.place_state(marked_state(1))
    batch = layout.place_batch(next(toy_training.batches(1)))
    with checkpoints.Checkpoints(tmp_path) as store:
        store.save(1, layout.unplace_state(state), data_state=DATA, meta=META)
        for _ in range(20):
            state, _ = step(state, batch, jax.random.key(0), 1.0)
    assert np.all(np.asarray(restore(tmp_path).state.params["w"]) == 1.0)


@pytest.mark.parametrize("backend", ["jit", "pmap"])
def test_a_resumed_run_equals_one_that_ran_through(tmp_path, backend):
    layout = parallel.make_layout(backend)
    step = parallel.make_step(toy_training.toy_step, layout=layout)
    key = jax.random.key(1)
    state = layout.place_state(toy_training.make_state())
    for number, batch in enumerate(toy_training.batches(4), start=1):
        state, _ = step(state, layout.place_batch(batch), key, 1.0)
        if number == 2:
            with checkpoints.Checkpoints(tmp_path) as store:
                store.save(2, layout.unplace_state(state), data_state=DATA, meta=META)
    with checkpoints.Checkpoints(tmp_path) as store:
        restored = store.restore_latest(abstract(), sharding=layout.replicated)
    resumed = layout.place_state(restored.state)
    for batch in list(toy_training.batches(4))[2:]:
        resumed, _ = step(resumed, layout.place_batch(batch), key, 1.0)
    chex.assert_trees_all_equal(
        jax.device_get(layout.unplace_state(resumed).params),
        jax.device_get(layout.unplace_state(state).params),
    )


def test_a_state_of_another_shape_is_refused_by_name(tmp_path):
    save(tmp_path, [1])
    other = toy_training.make_state()
    params = {"w": jnp.zeros((4, 5)), "c": jnp.zeros(3)}
    target = toy_training.ToyState(other.step, params, other.ema, other.opt, other.key)
    with pytest.raises(errors.WeightError) as caught:
        restore(tmp_path, target)
    message = str(caught.value)
    assert "1 missing: params.c (3 float32)" in message
    assert "1 unexpected: params.b (3 float32)" in message
    assert "params.w (expected 4x5 float32, found 4x3 float32)" in message
    assert "\n" not in message


def test_another_dtype_is_refused_instead_of_cast(tmp_path):
    with checkpoints.Checkpoints(tmp_path) as store:
        store.save(1, {"w": jnp.zeros((4, 3))}, data_state=DATA, meta=META)
    half = {"w": jax.ShapeDtypeStruct((4, 3), jnp.bfloat16)}
    with pytest.raises(errors.WeightError, match="expected 4x3 bfloat16, found 4x3 float32"):
        restore(tmp_path, half)


@pytest.fixture
def late_callbacks():
    """Waits for reads that are still under way when the first of them has failed.

    They then find the event loop of orbax closed, which is reported as unraisable.
    """
    yield
    time.sleep(0.3)
    gc.collect()


ignore_late_callbacks = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@ignore_late_callbacks
@pytest.mark.usefixtures("late_callbacks")
@pytest.mark.parametrize("victim", ["state/manifest.ocdbt", "meta/metadata", "state/_METADATA"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_where_the_newest_checkpoint_is_damaged_the_one_before_is_taken(
    tmp_path, victim, damage, caplog
):
    folder = tmp_path / "gan"
    save(folder, [1, 2])
    path = folder / "2" / victim
    whole = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    assert restore(folder).step == 1
    ours = [r for r in caplog.records if r.name.startswith("ganavatar_jax")]
    [said] = [r.getMessage() for r in ours if r.levelname == "WARNING"]
    assert said.startswith(f"{folder / '2'}: damaged, or not a checkpoint of this program (")
    assert "; checkpoint 1 is taken instead, the damaged one is kept in" in said
    assert (tmp_path / "gan_damaged_2").is_dir()
    save(folder, [2])  # trained again
    assert restore(folder).step == 2


@ignore_late_callbacks
@pytest.mark.usefixtures("late_callbacks")
def test_where_all_checkpoints_are_damaged_it_is_told_in_one_line(tmp_path):
    save(tmp_path, [1, 2])
    for step in "12":
        path = tmp_path / step / "state" / "manifest.ocdbt"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(errors.RunError, match=r"2: damaged, or not a checkpoint") as caught:
        restore(tmp_path)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


@ignore_late_callbacks
@pytest.mark.usefixtures("late_callbacks")
def test_changed_bytes_in_an_array_are_noticed(tmp_path):
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    with checkpoints.Checkpoints(tmp_path) as store:
        store.save(1, {"w": jnp.asarray(weights)}, data_state=DATA, meta=META)
    largest = max((tmp_path / "1" / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(errors.RunError, match="damaged"):
        restore(tmp_path, {"w": jax.ShapeDtypeStruct((64, 64), jnp.float32)})


@pytest.mark.parametrize("foreign", ["empty", "text"])
def test_a_foreign_folder_is_refused_in_one_line(tmp_path, foreign):
    (tmp_path / "7").mkdir()
    if foreign == "text":
        (tmp_path / "7" / "model.pt").write_text("not ours")
    with pytest.raises(errors.RunError, match="not a checkpoint of this program"):
        restore(tmp_path)


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(errors.RunError, match="expected a folder"):
        checkpoints.Checkpoints(tmp_path / "checkpoints")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["params", "ema", "opt"])
def test_a_state_that_is_not_finite_is_not_saved_and_pushes_nothing_out(tmp_path, value, where):
    save(tmp_path, [1, 2], keep=2)
    state = toy_training.make_state()
    spoiled = jax.tree.map(
        lambda x: jnp.full_like(x, value) if x.dtype == jnp.float32 else x, getattr(state, where)
    )
    state = dataclasses.replace(state, **{where: spoiled})
    with pytest.raises(errors.RunError) as caught, checkpoints.Checkpoints(tmp_path) as store:
        store.save(3, state, data_state=DATA, meta=META)
    message = str(caught.value)
    assert f"diverged by step 3: {where}." in message
    assert "checkpoint 2 is the last good one" in message
    assert "gan.g_lr" in message
    assert "\n" not in message
    assert restore(tmp_path).step == 2
    with checkpoints.Checkpoints(tmp_path) as store:
        assert store.steps() == [1, 2]


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


EDITS = {
    "position": ("data/metadata", lambda c: c["json"].update(next_index=8), "data position"),
    "facts": ("meta/metadata", lambda c: c["meta"].update(kimg=3.0), "facts beside the state"),
    "no position": ("data/metadata", lambda c: c.clear(), "data position"),
    "no facts": ("meta/metadata", lambda c: c.pop("meta"), "it lacks 'meta'"),
    "no format": ("meta/metadata", lambda c: c.pop("format"), "it lacks 'format'"),
    "no sums": ("meta/metadata", lambda c: c["crc32"].clear(), "it lacks"),
}


@pytest.mark.parametrize(("name", "change", "message"), EDITS.values(), ids=EDITS)
def test_what_lies_beside_the_state_is_checked_too(tmp_path, name, change, message):
    save(tmp_path, [1])
    edit(tmp_path / "1" / name, change)
    with pytest.raises(errors.RunError, match="damaged, or not a checkpoint") as caught:
        restore(tmp_path)
    assert message in str(caught.value)


def test_a_checkpoint_without_a_checksum_of_its_texts_is_still_read(tmp_path):
    save(tmp_path, [1])
    edit(tmp_path / "1" / "meta" / "metadata", lambda content: content.pop("text_crc32"))
    assert restore(tmp_path).data_state == DATA


def test_the_facts_are_read_without_the_state(tmp_path):
    with checkpoints.Checkpoints(tmp_path) as store:
        assert store.latest_meta() is None
        store.save(1, marked_state(1), data_state=DATA, meta={"kimg": 1.0})
        store.save(2, marked_state(2), data_state=DATA, meta={"kimg": 2.0})
        assert store.latest_meta() == {"kimg": 2.0}


FULL = """
import resource, sys, jax.numpy as jnp, numpy as np
from ganavatar_jax.apps import startup
from ganavatar_jax.core import errors
from ganavatar_jax.training import checkpoints
startup.start_logging()
state = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32))}
try:
    with checkpoints.Checkpoints(sys.argv[1]) as store:
        store.save(1, state, data_state={}, meta={})
        store.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        store.save(2, state, data_state={}, meta={})
        store.wait()
except errors.RunError as error:
    print(error)
    sys.exit(2)
"""


def test_a_checkpoint_that_finds_no_room_is_told_in_one_line(tmp_path, repo_root):
    # A limit on the size of files stands for a full disk, which the storage tells in the same way.
    environment = os.environ | {"PYTHONPATH": str(repo_root)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # speaks up about other machines' programs
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == ""
    [line] = done.stdout.splitlines()
    assert "cannot be written (File too large)" in line
    target = {"w": jax.ShapeDtypeStruct((512, 512), jnp.float32)}
    assert restore(tmp_path, target).step == 1


KILLED = """
import sys, jax, jax.numpy as jnp
from ganavatar_jax.training import checkpoints
store = checkpoints.Checkpoints(sys.argv[1], keep=3)
for step in range(1, 1000):
    state = {"w": jnp.full((512, 512, 8), step, jnp.float32)}
    store.save(step, state, data_state={}, meta={})
    print(step, flush=True)
"""


def test_a_kill_during_saving_leaves_the_last_complete_step(tmp_path, repo_root):
    environment = os.environ | {"PYTHONPATH": str(repo_root)}
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    with worker.stdout as lines:
        for line in lines:
            if int(line) >= 4:
                time.sleep(0.01)  # into the background write of that step
                worker.send_signal(signal.SIGKILL)
                break
    assert worker.wait() == -signal.SIGKILL
    target = {"w": jax.ShapeDtypeStruct((512, 512, 8), jnp.float32)}
    restored = restore(tmp_path, target)
    assert restored is not None
    assert restored.step >= 2
    assert np.all(np.asarray(restored.state["w"]) == restored.step)
    assert pathlib.Path(tmp_path, str(restored.step)).is_dir()
