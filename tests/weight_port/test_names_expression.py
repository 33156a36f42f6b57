"""GAN-Avatar's mapping network to our file and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.apps import avatar
from ganavatar_jax.core import config, errors, portable
from ganavatar_jax.faces import deep3dface, normalization
from ganavatar_jax.training import mapping_config, mapping_step
from helpers import torch_files
from weight_port import convert, outputs, torch_pickle, verify


@pytest.fixture
def tensors():
    """A state dict with the published names and shapes."""
    rng = np.random.default_rng(0)
    shapes = {
        "network.0.weight": (64, 64),
        "network.0.bias": (64,),
        "network.1.weight": (64, 64),
        "network.1.bias": (64,),
        "output.weight": (512, 64),
        "output.bias": (512,),
    }
    found = {k: rng.standard_normal(v, np.float32) * np.float32(0.2) for k, v in shapes.items()}
    assert sum(value.size for value in found.values()) == 41_600
    return found


@pytest.fixture
def source(tensors, tmp_path):
    path = tmp_path / "mapping.pth"
    outputs.write_named(path, tensors)
    return path


def _original(tensors, code, slope=0.2):
    """The original's network in NumPy."""
    for index in range(2):
        code = code @ tensors[f"network.{index}.weight"].T + tensors[f"network.{index}.bias"]
        code = np.where(code >= 0, code, slope * code)
    return code @ tensors["output.weight"].T + tensors["output.bias"]


def _predict(path, code):
    """What apps.avatar does with a mapping file."""
    variables, metadata = portable.load_params(path)
    resolved = config.resolve(mapping_config.MappingConfig, metadata["mapping"])
    normalized = normalization.from_dict(metadata["normalizer"]).apply(code)
    mean_w = jnp.asarray(variables["buffers"]["mean_w"])
    return mapping_step.predict_w(
        variables["params"], mean_w, jnp.asarray(normalized, jnp.float32), resolved
    )


@pytest.mark.parametrize(("activation", "slope"), [("lrelu", 0.2), ("relu", 0.0)])
def test_an_imported_network_maps_raw_codes_as_the_original(
    tensors, source, tmp_path, activation, slope
):
    target = tmp_path / "mapping.safetensors"
    arguments = ["--kind=mapping", f"--src={source}", f"--dst={target}"]
    assert convert.main([*arguments, f"--activation={activation}"]) == 0
    code = np.random.default_rng(1).standard_normal((5, 64), np.float32)
    actual, expected = _predict(target, code), _original(tensors, code, slope)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    metadata = portable.read_metadata(target)
    assert tuple(metadata["normalizer"]["names"]) == deep3dface.NAMES
    np.testing.assert_allclose(metadata["frontal_label25"][11], 3.6873586389753408)
    np.testing.assert_allclose(metadata["frontal_label25"][16], 4.2647)


def test_an_imported_network_comes_back_bit_for_bit(tensors, source, tmp_path):
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.pth"
    assert convert.main(["--kind=mapping", f"--src={source}", f"--dst={ours}"]) == 0
    assert convert.main(["--kind=mapping", "--export", f"--src={ours}", f"--dst={theirs}"]) == 0
    exported = torch_pickle.read_checkpoint(theirs)
    assert list(exported) == list(tensors)
    assert all(exported[name].tobytes() == tensors[name].tobytes() for name in tensors)
    assert theirs.read_bytes() == source.read_bytes()
    assert verify.main(["--kind=mapping", f"--src={source}"]) == 0


def test_a_network_of_ours_is_exported_as_a_function_of_raw_codes(tensors, source, tmp_path):
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.npz"
    assert convert.main(["--kind=mapping", f"--src={source}", f"--dst={ours}"]) == 0
    variables, metadata = portable.load_params(ours)
    rng = np.random.default_rng(2)
    codes = rng.standard_normal((50, 64)) * rng.uniform(0.1, 3, 64) + rng.standard_normal(64)
    normalizer = normalization.fit(codes, deep3dface.NAMES, method="pca")
    variables["buffers"]["mean_w"] = rng.standard_normal(512).astype(np.float32)
    portable.save_params(ours, variables, {**metadata, "normalizer": normalizer.to_dict()})
    assert convert.main(["--kind=mapping", "--export", f"--src={ours}", f"--dst={theirs}"]) == 0
    with np.load(theirs) as exported:
        expected = _predict(ours, codes[:7].astype(np.float32))
        actual = _original(exported, codes[:7])
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_imported_files_make_an_avatar_without_a_run(tensors, tmp_path):
    snapshot, mapping = tmp_path / "snapshot.pkl", tmp_path / "mapping.pth"
    snapshot.write_bytes(torch_files.tiny_snapshot())
    tensors["output.weight"], tensors["output.bias"] = (
        tensors["output.weight"][:8],
        tensors["output.bias"][:8],
    )
    outputs.write_named(mapping, tensors)
    ours = tmp_path / "g.safetensors", tmp_path / "m.safetensors"
    assert convert.main(["--kind=eg3d", f"--src={snapshot}", f"--dst={ours[0]}"]) == 0
    assert convert.main(["--kind=mapping", f"--src={mapping}", f"--dst={ours[1]}"]) == 0
    found = avatar.Avatar.from_files(*ours)
    assert found.names == deep3dface.NAMES
    code = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    w = found.encode(code)
    np.testing.assert_allclose(w, _original(tensors, code), rtol=1e-5, atol=1e-5)
    # Nobody knows the codes it was trained on: none is too far, and no driver is brought to them.
    np.testing.assert_allclose(found.encode(20 * code), _original(tensors, 20 * code), rtol=1e-4)
    np.testing.assert_array_equal(found.neutral_code, np.zeros(64))
    assert found.code_std is None
    with pytest.raises(errors.ConfigError, match='driver_statistics="pairs"'):
        found.encode(code, statistics=(code[0], np.ones(64)))
    frames = found.render(w, np.repeat(found.frontal_label25[None], 2, axis=0)).image
    assert frames.shape == (2, 128, 128, 3)
    with pytest.raises(errors.WeightError, match="expected the weights of a generator"):
        avatar.Avatar.from_files(ours[1], ours[1])
    with pytest.raises(errors.WeightError, match="expected a mapping network"):
        avatar.Avatar.from_files(ours[0], ours[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network.1.bias": None}, "missing (1): network.1.bias"),
        ({"network.3.weight": (64, 64)}, "missing (2): network.2.weight, network.2.bias"),
        ({"output.weight": None}, "expected the state dict of a mapping network"),
        ({"network.0.weight": (64,)}, "network.0.weight is missing or not a matrix"),
        ({"network.0.weight": (64, 52)}, "takes 52 coefficients; expected Deep3DFace's 64"),
    ],
)
def test_other_networks_are_refused(tensors, tmp_path, capsys, changes, message):
    for name, shape in changes.items():
        if shape is None:
            del tensors[name]
        else:
            tensors[name] = np.zeros(shape, np.float32)
    source = tmp_path / "mapping.pth"
    outputs.write_named(source, tensors)
    target = tmp_path / "x.safetensors"
    assert convert.main(["--kind=mapping", f"--src={source}", f"--dst={target}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {source}: ")
    assert message in error


def test_the_frontal_camera_must_stand_somewhere(source, capsys):
    arguments = ["--kind=mapping", f"--src={source}", "--dst=x.safetensors"]
    assert convert.main([*arguments, "--frontal_radius=0"]) == 2
    assert "--frontal_radius must be positive" in capsys.readouterr().err
    assert convert.main([*arguments, "--frontal_focal=0"]) == 2
    assert "--frontal_focal must be positive" in capsys.readouterr().err
