"""The command line of the weight port."""

import hashlib

import numpy as np
import pytest

from ganavatar_jax.core import portable
from helpers import torch_files
from weight_port import convert, list_keys, names_eg3d, torch_pickle


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "network-snapshot.pkl"
    path.write_bytes(torch_files.tiny_snapshot())
    return path


@pytest.mark.parametrize(("network", "kind"), [("G_ema", "generator"), ("D", "discriminator")])
def test_a_converted_network_holds_the_imported_numbers(source, tmp_path, network, kind, capsys):
    target = tmp_path / "weights.safetensors"
    arguments = ["--kind=eg3d", f"--src={source}", f"--dst={target}", f"--network={network}"]
    assert convert.main(arguments) == 0
    assert kind in capsys.readouterr().out
    variables, metadata = portable.load_params(target)
    imported = names_eg3d.IMPORTERS[kind](torch_pickle.read_snapshot(source)[network])
    exported = names_eg3d.export_names(variables, kind=kind)
    for name, array in names_eg3d.export_names(imported.variables, kind=kind).items():
        assert exported[name].tobytes() == array.tobytes(), name
    assert metadata["kind"] == kind
    assert metadata["architecture"] == imported.architecture
    assert metadata["rendering"] == imported.rendering
    assert metadata["provenance"] == {
        "file": "network-snapshot.pkl",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "network": network,
        "format": "eg3d",
    }


def test_the_label_std_survives_in_the_header(tmp_path):
    std = np.array([0.1, 1 / 3, *range(23)], np.float32)
    network = torch_files.generator({"dataset_label_std": std, **torch_files.generator_tensors()})
    source = tmp_path / "snapshot.pkl"
    source.write_bytes(torch_files.snapshot(G_ema=network))
    metadata = convert.convert_eg3d(source, tmp_path / "x.safetensors", network="G_ema")
    _, stored = portable.load_params(tmp_path / "x.safetensors")
    assert stored["extras"] == metadata["extras"]
    np.testing.assert_array_equal(np.float32(stored["extras"]["dataset_label_std"]), std)


def test_errors_are_one_line_and_exit_with_2(source, tmp_path, capsys):
    target = tmp_path / "weights.safetensors"
    missing = ["--kind=eg3d", "--src=missing.pkl", f"--dst={target}"]
    assert convert.main(missing) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: missing.pkl: weight file cannot be read")
    assert message.count("\n") == 1
    hostile = tmp_path / "hostile.pkl"
    hostile.write_bytes(torch_files.snapshot(G_ema=torch_files.persistent("Other", {})))
    assert convert.main(["--kind=eg3d", f"--src={hostile}", f"--dst={target}"]) == 2
    assert "expected a TriPlaneGenerator, got a Other" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        convert.main(["--kind=eg3d", f"--src={source}", "--dst=weights.npz"])
    assert caught.value.code == 2
    assert not target.exists()


def test_keys_are_listed_by_network(source, capsys):
    assert list_keys.main([str(source)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "G_ema\tbackbone.synthesis.b8.conv0.noise_strength\tscalar\tFloat" in lines
    assert "D\tb4.fc.weight\t4x64\tFloat" in lines


def test_keys_of_a_checkpoint_are_listed(tmp_path, capsys):
    array = np.zeros((2, 3), np.float16)
    weight = torch_files.tensor(array, storage=torch_files.storage_id(array.reshape(-1)))
    path = tmp_path / "epoch_20.pth"
    path.write_bytes(torch_files.archive({"net": {"w": [weight]}}, {"0": array}))
    assert list_keys.main([str(path)]) == 0
    assert capsys.readouterr().out == "\tnet.w[0]\t2x3\tfloat16\n"
    path.write_bytes(b"text")
    assert list_keys.main([str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: not a pickle")
