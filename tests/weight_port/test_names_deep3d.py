"""Deep3DFace checkpoints to our files and back."""

import numpy as np
import pytest

from ganavatar_jax.core import errors, portable
from helpers import deep3d, torch_files
from weight_port import convert, names_deep3d, outputs, torch_pickle, verify


@pytest.fixture
def small(monkeypatch):
    """The regressor with few channels, everywhere."""
    tensors, expected = deep3d.small_tensors(), names_deep3d.expected(deep3d.SMALL_WIDTHS)
    monkeypatch.setattr(names_deep3d, "expected", lambda: expected)
    return tensors


def _write(path, tensors, *, form=torch_files.archive, **others):
    """Writes a checkpoint as torch.save does."""
    storages = {str(i): np.ravel(array) for i, array in enumerate(tensors.values())}
    network = {
        name: torch_files.tensor(array, storage=torch_files.storage_id(np.ravel(array), str(i)))
        for i, (name, array) in enumerate(tensors.items())
    }
    path.write_bytes(form({"net_recon": network, **others}, storages))


@pytest.mark.parametrize("form", [torch_files.archive, torch_files.stream])
def test_a_checkpoint_comes_back_bit_for_bit(small, tmp_path, capsys, form):
    source, ours, theirs = (tmp_path / name for name in ("epoch_20.pth", "a.safetensors", "b.pth"))
    _write(source, small, form=form, opt_00={"state": {}, "lr": 1e-4}, sched_00={"last_epoch": 20})
    assert convert.main(["--kind=deep3d", f"--src={source}", f"--dst={ours}"]) == 0
    assert "left out: opt_00, sched_00" in capsys.readouterr().out
    arguments = ["--kind=deep3d", "--export", f"--src={ours}", f"--dst={theirs}"]
    assert convert.main(arguments) == 0
    exported = torch_pickle.read_checkpoint(theirs)
    assert list(exported) == list(small)
    for name, array in small.items():
        assert exported[name].dtype == array.dtype
        assert exported[name].tobytes() == array.tobytes(), name
    assert convert.main(["--kind=deep3d", f"--src={source}", f"--dst={ours}"]) == 0
    assert "unchanged" in capsys.readouterr().out
    assert portable.read_metadata(ours)["left_out"] == ["opt_00", "sched_00"]


def test_verifying_finds_no_difference(small, tmp_path, capsys):
    source = tmp_path / "epoch_20.pth"
    _write(source, small)
    assert verify.main(["--kind=deep3d", f"--src={source}"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[2:]] == [
        "identity", "expression", "texture", "angles", "lighting", "translation"
    ]  # fmt: skip


def test_tensors_that_do_not_fit_are_listed(small, tmp_path, capsys):
    del small["backbone.bn1.running_var"]
    small["backbone.fc.weight"] = np.zeros((2, 2), np.float32)
    small["final_layers.1.bias"] = np.zeros(65, np.float32)
    source = tmp_path / "epoch_20.pth"
    _write(source, small)
    assert convert.main(["--kind=deep3d", f"--src={source}", "--dst=x.safetensors"]) == 2
    message = capsys.readouterr().err
    assert f"error: {source}: net_recon" in message
    assert "missing (1): backbone.bn1.running_var;" in message
    assert "unexpected (1): 'backbone.fc.weight';" in message
    assert "final_layers.1.bias (expected 64 float32, found 65 float32)" in message


def test_other_checkpoints_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    outputs.write_named(path, {"network.0.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(
        errors.WeightError, match=r"the state dict of net_recon .*; got a dict with"
    ):
        names_deep3d.import_checkpoint(torch_pickle.read_checkpoint(path))
    with pytest.raises(errors.WeightError, match="got a list"):
        names_deep3d.import_checkpoint([])
