"""Hostile and damaged files: refused in one line, nothing executed, nothing large allocated."""

import contextlib
import io
import re
import signal
import tracemalloc

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import pickle_values, safe_pickle
from helpers import attack_files, torch_files
from weight_port import convert, list_keys, names_eg3d, torch_modules, torch_pickle

pytestmark = pytest.mark.attack


def _read_everything(path):
    """Uses a snapshot in every way the package offers."""
    snapshot = torch_pickle.read_snapshot(path)
    for value in snapshot.entries.values():
        if isinstance(value, torch_modules.ModuleNode):
            torch_pickle.state_dict(value)
            torch_pickle.attributes(value)
            for load in names_eg3d.IMPORTERS.values():
                with contextlib.suppress(errors.WeightError):
                    load(value)


def _assert_refused(attack, tmp_path, read, kind):
    path, canary = tmp_path / "hostile.bin", tmp_path / "canary"
    path.write_bytes(attack.make(str(canary)))
    tracemalloc.start()
    try:
        with pytest.raises(errors.WeightError, match=re.escape(attack.message)) as caught:
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value) or "refused" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < 64 << 20
    target = tmp_path / "x.safetensors"
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        assert convert.main([f"--kind={kind}", f"--src={path}", f"--dst={target}"]) == 2
        assert list_keys.main([str(path)]) in (0, 2)  # some names are sound
    assert f"error: {path}: " in printed.getvalue()
    assert not target.exists()
    assert not canary.exists()


@pytest.mark.parametrize("name", attack_files.SNAPSHOTS)
def test_hostile_snapshots_are_refused(name, tmp_path):
    _assert_refused(attack_files.SNAPSHOTS[name], tmp_path, _read_everything, "eg3d")


@pytest.mark.parametrize("name", attack_files.CHECKPOINTS)
def test_hostile_checkpoints_are_refused(name, tmp_path):
    attack = attack_files.CHECKPOINTS[name]
    _assert_refused(attack, tmp_path, torch_pickle.read_checkpoint, "deep3d")


def test_source_text_inside_a_snapshot_is_never_run(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "snapshot.pkl"
    state = torch_files.module_state({"w": np.ones(3, np.float32)}, {}, {}, {})
    source = f"import os\nos.system('touch {canary}')\nclass Layer: pass\n"
    hostile = torch_files.persistent("Layer", state, source=source)
    path.write_bytes(torch_files.snapshot(G=hostile))
    snapshot = torch_pickle.read_snapshot(path)
    np.testing.assert_array_equal(torch_pickle.state_dict(snapshot["G"])["w"], [1, 1, 1])
    assert not canary.exists()


def test_a_huge_memo_index_takes_no_memory(tmp_path):
    path = tmp_path / "snapshot.pkl"
    path.write_bytes(torch_files.dumps({"x": torch_files.Opcodes(b"Nr\xff\xff\xff\xff")}))
    tracemalloc.start()
    with pytest.raises(errors.WeightError, match="holds no network"):
        torch_pickle.read_snapshot(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_endless_opcodes_are_refused():
    data = memoryview(b"\x80\x04" + b"N\x85" * 2000 + b".")
    limits = pickle_values.Limits(opcodes=1000)
    with pytest.raises(errors.WeightError, match="more than 1000 opcodes"):
        safe_pickle.load(data, label="x", lookup=lambda module, name: None, limits=limits)


def test_tensors_that_share_one_storage_too_often_are_refused(tmp_path):
    """Memory must not grow beyond the file by naming the same bytes again and again."""
    array = np.ones(1000, np.float32)
    shared = torch_files.Opcodes(torch_files.dumps(torch_files.tensor(array))[2:-1] + b"q\7")
    again = {f"w{i}": torch_files.Opcodes(b"h\7") for i in range(50)}
    state = torch_files.module_state({}, {"first": shared, **again}, {}, {})
    path = tmp_path / "snapshot.pkl"
    path.write_bytes(torch_files.snapshot(G=torch_files.persistent("M", state)))
    with pytest.raises(errors.WeightError, match="share their storages too often"):
        torch_pickle.state_dict(torch_pickle.read_snapshot(path)["G"])


def test_options_shared_exponentially_are_refused(tmp_path):
    doubling = torch_files.Opcodes(b")" + b"q\1h\1\x86" * 40)
    network = torch_files.generator(
        torch_files.generator_tensors(), rendering_kwargs={"x": doubling}
    )
    path = tmp_path / "snapshot.pkl"
    path.write_bytes(torch_files.snapshot(G=network))
    with pytest.raises(errors.WeightError, match="rendering_kwargs holds more than"):
        names_eg3d.import_generator(torch_pickle.read_snapshot(path)["G"])


# Mutations --------------------------------------------------------------------------------------


def _subjects():
    """Small sound files of every form, as (bytes, reader)."""
    array = np.arange(6, dtype=np.float32)
    layer = torch_files.module_state(
        {"weight": array.reshape(2, 3)}, {"mask": array > 2}, {}, {"options": {"a": [1, 2.5, "x"]}}
    )
    inner = torch_files.persistent("Layer", layer)
    outer = torch_files.module_state({}, {"w_avg": array}, {"layer": inner}, {"z_dim": 4})
    snapshot = torch_files.snapshot(G=torch_files.persistent("TriPlaneGenerator", outer))
    weight = torch_files.tensor(array, storage=torch_files.storage_id(array))
    checkpoint = {"net": {"conv.weight": weight}, "step": 3}
    storages = {"0": array}
    return [
        (snapshot, _read_everything),
        (torch_files.archive(checkpoint, storages), torch_pickle.read_checkpoint),
        (torch_files.stream(checkpoint, storages), torch_pickle.read_checkpoint),
    ]


def _mutate(data, rng):
    """Damages a few places: bits, bytes, runs removed, doubled, moved, cut, or made extreme."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, length = rng.integers(0, max(len(changed), 1)), rng.integers(1, 9)
        match rng.integers(0, 7):
            case 0:
                changed[at : at + 1] = bytes([rng.integers(0, 256)])
            case 1:
                changed[at : at + 1] = bytes([(changed[at] if at < len(changed) else 0) ^ 1])
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length]
            case 4:
                other = rng.integers(0, max(len(changed), 1))
                changed[at : at + length] = changed[other : other + length]
            case 5:
                changed[at : at + length] = bytes([rng.choice([0, 0xFF])]) * int(length)
            case 6:
                del changed[at:]
    return bytes(changed)


def _assert_survives(count, seed, tmp_path):
    rng = np.random.default_rng(seed)
    path, messages = tmp_path / "mutant", []
    subjects = _subjects()
    for data, read in subjects:
        path.write_bytes(data)
        read(path)  # sound before it is damaged
    for index in range(count):
        data, read = subjects[index % len(subjects)]
        path.unlink()  # a new file: the old one may still be mapped
        path.write_bytes(_mutate(data, rng))
        try:
            read(path)
        except errors.WeightError as error:
            messages.append(str(error))
    assert len(messages) > count // 3
    assert not any("\n" in message for message in messages)


def test_mutations_load_or_are_refused(tmp_path):
    _assert_survives(200, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_mutations_load_or_are_refused(seed, tmp_path):
    _assert_survives(2000, seed, tmp_path)


@contextlib.contextmanager
def _at_most(seconds):
    """Fails when the block computes longer; waiting for the machine does not count."""

    def stop(number, frame):
        raise AssertionError(f"still reading after {seconds} s")

    previous = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


@pytest.mark.slow
def test_mutations_of_a_golden_snapshot_load_or_are_refused(golden_dir, tmp_path):
    """2,000 damaged copies; half of them where the structure is, not the numbers."""
    golden, path = golden_dir / "eg3d_128.pkl", tmp_path / "mutant"
    sound = golden.read_bytes() if golden.is_file() else torch_files.tiny_snapshot()
    marks = [match.start() for match in re.finditer(rb"torch", sound)]
    rng, outcomes = np.random.default_rng(0), {"loaded": 0, "refused": 0}
    for index in range(2000):
        if index % 2:
            start = max(0, int(rng.choice(marks)) - 200)
            part = sound[start : start + 400]
            damaged = sound[:start] + _mutate(part, rng) + sound[start + 400 :]
        else:
            damaged = bytearray(sound)
            for _ in range(rng.integers(1, 4)):
                damaged[rng.integers(len(sound))] = rng.integers(0, 256)
        path.unlink(missing_ok=True)
        path.write_bytes(damaged)
        with _at_most(5.0):
            try:
                snapshot = torch_pickle.read_snapshot(path)
                names_eg3d.import_discriminator(snapshot["D"])
                names_eg3d.import_generator(snapshot[rng.choice(["G", "G_ema"])])
                outcomes["loaded"] += 1
            except errors.WeightError:
                outcomes["refused"] += 1
    print(outcomes)
    assert min(outcomes.values()) > 100


def test_every_truncation_is_refused(tmp_path):
    rng = np.random.default_rng(5)
    path = tmp_path / "cut"
    for data, read in _subjects():
        for length in rng.integers(0, len(data), 25):
            path.unlink(missing_ok=True)
            path.write_bytes(data[:length])
            with pytest.raises(errors.WeightError):
                read(path)
