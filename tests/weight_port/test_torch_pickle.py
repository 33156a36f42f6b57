"""Snapshots and checkpoints, read without torch."""

import tracemalloc

import numpy as np
import pytest

from ganavatar_jax.core import errors
from helpers import torch_files
from helpers.torch_files import Call, Name, New
from weight_port import torch_pickle


@pytest.fixture
def write(tmp_path):
    """Writes bytes to a file and returns its path."""

    def to_file(data, name="file.pkl"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return to_file


def _layer(**changes):
    state = torch_files.module_state(
        {"weight": np.ones((2, 3), np.float32)}, {"mean": np.zeros(2)}, {}, {"gain": 0.5}
    )
    return torch_files.persistent("Layer", {**state, **changes})


def test_a_module_gives_its_tensors_and_attributes(write):
    snapshot = torch_pickle.read_snapshot(write(torch_files.snapshot(G=_layer())))
    tensors = torch_pickle.state_dict(snapshot["G"])
    assert {name: (x.shape, x.dtype) for name, x in tensors.items()} == {
        "weight": ((2, 3), np.float32),
        "mean": ((2,), np.float64),
    }
    assert torch_pickle.attributes(snapshot["G"]) == {"gain": 0.5}
    tensors["weight"][0, 0] = 5  # owned and writeable


def test_transient_and_empty_buffers_are_left_out(write):
    module = _layer(
        _buffers={"kept": np.ones(1), "transient": np.ones(2), "empty": None},
        _non_persistent_buffers_set={"transient"},
    )
    snapshot = torch_pickle.read_snapshot(write(torch_files.snapshot(G=module)))
    assert list(torch_pickle.state_dict(snapshot["G"])) == ["weight", "kept"]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_old_and_new_spellings_are_read(write, protocol):
    scalar_type = Call(
        Name("numpy", "dtype"), ("f8", False, True), (3, "<", *[None] * 3, -1, -1, 0)
    )
    half = Call(Name("_codecs", "encode"), ("\0\0\0\0\0\0à?", "latin1"))
    old = Call(Name("numpy.core.multiarray", "scalar"), (scalar_type, half))
    new = Call(Name("numpy._core.multiarray", "scalar"), (scalar_type, b"\0\0\0\0\0\0\xe0?"))
    pairs = Call(Name("collections", "OrderedDict"), ([["a", 1], ["b", 2]],))
    easy = New(Name("dnnlib.util", "EasyDict"), (), {"c": 3})
    data = {
        "old": old,
        "new": new,
        "pairs": pairs,
        "easy": easy,
        "set": Call(Name("__builtin__", "set"), (["x"],)),
        "type": Name("torch", "float32"),
        "size": Call(Name("torch", "Size"), ((2, 3),)),
        "place": Call(Name("torch", "device"), ("cpu",)),
    }
    stored = torch_files.persistent("M", torch_files.module_state({}, {}, {}, data))
    path = write(torch_files.dumps({"G": stored}, protocol=protocol))
    assert torch_pickle.attributes(torch_pickle.read_snapshot(path)["G"]) == {
        "old": 0.5,
        "new": 0.5,
        "pairs": {"a": 1, "b": 2},
        "easy": {"c": 3},
        "set": {"x"},
        "type": "torch.float32",
        "size": (2, 3),
        "place": ("cpu",),
    }


def test_classes_of_a_resaved_network_are_known_by_name(write):
    decoder = New(
        Name("_imported_module_0123abcdef", "OSGDecoder"),
        (),
        torch_files.module_state({}, {}, {}, {"hidden_dim": 64}),
    )
    snapshot = torch_pickle.read_snapshot(write(torch_files.snapshot(G=decoder)))
    assert torch_pickle.attributes(snapshot["G"]) == {"hidden_dim": 64}


def test_a_tensor_is_a_window_on_its_storage(write):
    numbers = np.arange(24, dtype=np.float32)
    window = torch_files.tensor(numbers, offset=2, size=(3, 2), stride=(1, 6))
    stored = torch_files.module_state({"w": window}, {}, {}, {})
    path = write(torch_files.snapshot(G=torch_files.persistent("M", stored)))
    found = torch_pickle.state_dict(torch_pickle.read_snapshot(path)["G"])["w"]
    np.testing.assert_array_equal(found, [[2, 8], [3, 9], [4, 10]])
    assert found.flags.c_contiguous


@pytest.mark.parametrize("dtype", sorted(torch_files.STORAGES))
def test_number_types_survive(write, dtype):
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    state = torch_files.module_state({}, {"x": array, "none": array[:0]}, {}, {})
    path = write(torch_files.snapshot(G=torch_files.persistent("M", state)))
    found = torch_pickle.state_dict(torch_pickle.read_snapshot(path)["G"])
    assert found["x"].dtype == dtype
    np.testing.assert_array_equal(found["x"], array)
    assert found["none"].shape == (0, 3)


def test_bfloat16_comes_as_the_float32_of_the_same_value(write):
    bits = np.array([0x3F80, 0xC000, 0x3E20], np.uint16).view(np.float16)  # 1, -2, 0.15625
    kind = Name("torch", "BFloat16Storage")
    stored = torch_files.stream(torch_files.storage_id(bits, kind=kind), {"0": bits})
    window = torch_files.tensor(bits, storage=Call(torch_files.LOAD_BYTES, (stored,)))
    state = torch_files.module_state({"w": window}, {}, {}, {})
    path = write(torch_files.snapshot(G=torch_files.persistent("M", state)))
    found = torch_pickle.state_dict(torch_pickle.read_snapshot(path)["G"])["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1, -2, 0.15625])


def _checkpoint():
    """A state dict with a tied tensor, in torch.save's way: storages by persistent id."""
    storages = {"0": np.arange(6, dtype=np.float32), "1": np.array([7], np.int64)}
    weight = torch_files.tensor(
        storages["0"].reshape(2, 3), storage=torch_files.storage_id(storages["0"], "0")
    )
    steps = torch_files.tensor(
        storages["1"].reshape(()), storage=torch_files.storage_id(storages["1"], "1")
    )
    net = Call(Name("collections", "OrderedDict"), ([["conv.weight", weight], ["tied", weight]],))
    net.state = {"_metadata": torch_files.ORDERED}
    return {"net_recon": net, "opt_00": {"state": {0: {"step": steps}}, "lr": 0.1}}, storages


@pytest.mark.parametrize("form", [torch_files.stream, torch_files.archive])
def test_checkpoints_are_nested_dicts_of_arrays(write, form):
    found = torch_pickle.read_checkpoint(write(form(*_checkpoint()), "epoch_20.pth"))
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(found["net_recon"]["conv.weight"], expected)
    np.testing.assert_array_equal(found["net_recon"]["tied"], expected)
    step = found["opt_00"]["state"][0]["step"]
    assert step.shape == ()
    assert step == 7
    assert found["opt_00"]["lr"] == 0.1


def test_a_whole_module_in_a_checkpoint_is_refused(write):
    path = write(torch_files.stream({"net": _layer()}, {}), "net.pth")
    with pytest.raises(errors.WeightError, match=r"net\.pth: holds a whole Layer module"):
        torch_pickle.read_checkpoint(path)


def test_a_checkpoint_is_not_a_snapshot_and_says_so(write):
    for form in (torch_files.stream, torch_files.archive):
        with pytest.raises(errors.WeightError, match="holds no network with its options"):
            torch_pickle.read_snapshot(write(form(*_checkpoint())))


def test_reading_takes_little_more_memory_than_the_arrays_asked_for(write):
    def network():
        layers = {f"w{i}": np.ones((512, 1024), np.float32) for i in range(4)}
        return torch_files.persistent("M", torch_files.module_state(layers, {}, {}, {}))

    path = write(torch_files.snapshot(G=network(), D=network(), G_ema=network()))
    size = path.stat().st_size
    tracemalloc.start()
    snapshot = torch_pickle.read_snapshot(path)
    tensors = torch_pickle.state_dict(snapshot["G_ema"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    wanted = sum(tensor.nbytes for tensor in tensors.values())
    assert size > 3 * wanted
    assert peak < 1.1 * wanted  # the mapped file is not counted: 1.4 times the file with it


def test_real_snapshots_of_the_original_load(golden_dir):
    paths = sorted(golden_dir.glob("*.pkl"))
    if not paths:
        pytest.skip("the full set of golden files is not beside the repository")
    expected = {"eg3d_128": (178, 74), "eg3d_ffhq512": (177, 92)}
    for path in paths:
        snapshot = torch_pickle.read_snapshot(path)
        tensors = {name: torch_pickle.state_dict(snapshot[name]) for name in ("G", "G_ema", "D")}
        counts = len(tensors["G_ema"]), len(tensors["D"])
        assert counts == expected[path.stem]
        assert list(tensors["G"]) == list(tensors["G_ema"])
        assert all(x.dtype == np.float32 for group in tensors.values() for x in group.values())
        differing = [
            name
            for name, x in tensors["G"].items()
            if not np.array_equal(x, tensors["G_ema"][name])
        ]
        assert bool(differing) == (path.stem == "eg3d_128")
