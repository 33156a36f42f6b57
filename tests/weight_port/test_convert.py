"""The command line of the weight port: one network, a whole start, and back."""

import hashlib
import os

import numpy as np
import pytest
import safetensors.numpy

from ganavatar_jax.apps import weights
from ganavatar_jax.core import config, errors, portable, trees
from ganavatar_jax.models import discriminator_config, generator_config
from helpers import torch_files
from weight_port import convert, list_keys, names_eg3d, torch_pickle, verify


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "network-snapshot.pkl"
    path.write_bytes(torch_files.tiny_snapshot())
    return path


def _convert(source, target, *options):
    return convert.main(["--kind=eg3d", f"--src={source}", f"--dst={target}", *options])


def _assert_same(actual, expected):
    first, second = dict(trees.flatten_names(actual)), dict(trees.flatten_names(expected))
    assert first.keys() == second.keys()
    for name, array in second.items():
        assert np.asarray(first[name]).tobytes() == array.tobytes(), name


@pytest.mark.parametrize(
    ("network", "kind"), [("G_ema", "generator"), ("G", "generator"), ("D", "discriminator")]
)
def test_a_converted_network_holds_the_imported_numbers(source, tmp_path, network, kind, capsys):
    target = tmp_path / "weights.safetensors"
    assert _convert(source, target, f"--network={network}") == 0
    assert kind in capsys.readouterr().out
    variables, metadata = portable.load_params(target)
    imported = names_eg3d.IMPORTERS[kind](torch_pickle.read_snapshot(source)[network])
    _assert_same(variables, imported.variables)
    assert metadata["kind"] == kind
    assert metadata["original"]["architecture"] == imported.architecture
    assert metadata["original"]["rendering"] == imported.rendering
    assert metadata["provenance"] == {
        "file": "network-snapshot.pkl",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "network": network,
        "format": "eg3d",
    }


def test_the_three_networks_of_a_snapshot_differ(source, tmp_path):
    w_avg = {}
    for network in ("G", "G_ema"):
        assert _convert(source, tmp_path / f"{network}.safetensors", f"--network={network}") == 0
        variables, _ = portable.load_params(tmp_path / f"{network}.safetensors")
        w_avg[network] = variables["buffers"]["backbone"]["mapping"]["w_avg"]
    expected = {"G": torch_files.generator_tensors(1), "G_ema": torch_files.generator_tensors(3)}
    for network, value in w_avg.items():
        np.testing.assert_array_equal(value, expected[network]["backbone.mapping.w_avg"])


@pytest.fixture
def start(source, tmp_path):
    """A folder that gan.init takes, and the configurations its files name."""
    folder = tmp_path / "start"
    assert _convert(source, folder) == 0
    g, d = (
        portable.read_metadata(folder / name)["architecture"]
        for name in (weights.GENERATOR, weights.DISCRIMINATOR)
    )
    return (
        folder,
        config.resolve(generator_config.GeneratorConfig, g),
        config.resolve(discriminator_config.DiscriminatorConfig, d),
    )


def test_a_folder_starts_a_run(start, source):
    folder, g_config, d_config = start
    g, d, _ = weights.load_start(str(folder), g_config, d_config)
    snapshot = torch_pickle.read_snapshot(source)
    _assert_same(names_eg3d.export_names(g), torch_pickle.state_dict(snapshot["G_ema"]))
    _assert_same(d, names_eg3d.import_discriminator(snapshot["D"]).variables)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plane_axes": "original"}, "was trained with render.plane_axes 'fixed'"),
        ({"box_warp": 2.0}, r"set --config.generator.render.box_warp=1.0\.$"),
    ],
)
def test_a_start_that_means_something_else_is_refused(start, changes, message):
    folder, g_config, d_config = start
    values = config.to_dict(g_config)
    values["render"].update(changes)
    with pytest.raises(errors.WeightError, match=message):
        weights.load_start(
            str(folder), config.resolve(generator_config.GeneratorConfig, values), d_config
        )


def test_axes_that_contradict_the_file_are_refused_unless_overridden(source, tmp_path, capsys):
    folder = tmp_path / "start"
    assert _convert(source, folder, "--plane_axes=fixed") == 0
    assert _convert(source, folder, "--plane_axes=original") == 2
    assert "trained with the axes 'fixed', not 'original'" in capsys.readouterr().err
    options = ["--plane_axes=original", "--override_axes"]
    assert _convert(source, folder, *options) == 2  # the folder holds the honest import
    assert _convert(source, folder, *options, "--overwrite") == 0
    metadata = portable.read_metadata(folder / weights.GENERATOR)
    assert metadata["architecture"]["render"]["plane_axes"] == "original"
    assert metadata["original"]["architecture"]["plane_axes"] == "fixed"
    assert metadata["provenance"]["plane_axes_overridden"] == "original"


def test_finished_files_are_recognised_and_missing_ones_made(source, tmp_path, capsys):
    folder, renamed = tmp_path / "start", tmp_path / "renamed.pkl"
    renamed.write_bytes(source.read_bytes())
    assert _convert(source, folder) == 0
    os.utime(folder / weights.GENERATOR, ns=(1, 1))
    (folder / weights.DISCRIMINATOR).unlink()  # as if the first run had been killed
    capsys.readouterr()
    assert _convert(renamed, folder) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("unchanged (made from the same snapshot before)")
    assert "unchanged" not in second
    assert (folder / weights.GENERATOR).stat().st_mtime_ns == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [weights.GENERATOR, weights.DISCRIMINATOR]
    )


def test_files_of_another_origin_are_not_replaced(source, tmp_path, capsys):
    other, target = tmp_path / "other.pkl", tmp_path / "x.safetensors"
    other.write_bytes(
        torch_files.snapshot(G_ema=torch_files.generator(torch_files.generator_tensors(9)))
    )
    assert _convert(source, target) == 0
    assert _convert(other, target) == 2
    assert "was made from another file or with other options" in capsys.readouterr().err
    target.write_bytes(target.read_bytes()[:-4])
    assert _convert(source, target) == 2
    assert "is damaged or of another format" in capsys.readouterr().err
    assert _convert(other, target, "--overwrite") == 0
    variables, _ = portable.load_params(target)
    _assert_same(names_eg3d.export_names(variables), torch_files.generator_tensors(9))


def test_the_label_std_survives_the_way_in_and_out(tmp_path):
    std = np.array([0.1, 1 / 3, *range(23)], np.float32)
    tensors = {"dataset_label_std": std, **torch_files.generator_tensors()}
    source, ours = tmp_path / "snapshot.pkl", tmp_path / "x.safetensors"
    source.write_bytes(torch_files.snapshot(G_ema=torch_files.generator(tensors)))
    assert _convert(source, ours) == 0
    assert _convert(ours, tmp_path / "x.npz", "--export") == 0
    with np.load(tmp_path / "x.npz") as archive:
        _assert_same({name: archive[name] for name in archive.files}, tensors)


@pytest.mark.parametrize("network", ["G", "D"])
def test_exports_of_every_form_hold_the_originals_bytes(source, tmp_path, network):
    ours = tmp_path / "ours.safetensors"
    assert _convert(source, ours, f"--network={network}") == 0
    for suffix in (".npz", ".pth", ".safetensors"):
        assert _convert(ours, tmp_path / f"theirs{suffix}", "--export") == 0
    with np.load(tmp_path / "theirs.npz") as archive:
        forms = [{name: archive[name] for name in archive.files}]
    forms.append(torch_pickle.read_checkpoint(tmp_path / "theirs.pth"))
    forms.append(safetensors.numpy.load_file(tmp_path / "theirs.safetensors"))
    expected = torch_pickle.state_dict(torch_pickle.read_snapshot(source)[network])
    for form in forms:
        assert form.keys() == expected.keys()
        for name, array in expected.items():
            assert (form[name].dtype, form[name].shape) == (array.dtype, array.shape), name
            assert form[name].tobytes() == array.tobytes(), name


@pytest.mark.slow  # that what differs is told, is tried always
def test_verifying_finds_no_difference(source, capsys):
    arguments = ["--kind=eg3d", f"--src={source}", "--resolution=8"]
    assert verify.main(arguments) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["unchanged tensors", "w", "planes", "image_raw", "image"]
    assert all(row[1] == "0" for row in rows)
    assert all(float(row[2]) > 0 for row in rows)


def test_verifying_tells_what_differs(source, capsys, monkeypatch):
    import_names = names_eg3d.import_names

    def damaged(tensors, *, kind):
        variables = import_names(tensors, kind=kind)
        bias = variables["params"]["b4"]["out"]["bias"] + 1
        variables["params"]["b4"]["out"]["bias"] = bias
        return variables

    monkeypatch.setattr(names_eg3d, "import_names", damaged)
    assert verify.main(["--kind=eg3d", f"--src={source}", "--network=D", "--resolution=8"]) == 1
    _, tensors, logits = capsys.readouterr().out.splitlines()
    assert tensors.startswith("unchanged tensors\t1\t")
    assert float(logits.split("\t")[1]) > 0


def test_errors_are_one_line_and_exit_with_2(source, tmp_path, capsys):
    target = tmp_path / "weights.safetensors"
    assert _convert("missing.pkl", target) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: missing.pkl: weight file cannot be read (No such file")
    assert message.count("\n") == 1
    hostile = tmp_path / "hostile.pkl"
    state = torch_files.module_state({}, {}, {}, {})
    hostile.write_bytes(torch_files.snapshot(G_ema=torch_files.persistent("Other", state)))
    assert _convert(hostile, target) == 2
    assert "expected a TriPlaneGenerator, got a Other" in capsys.readouterr().err
    assert verify.main(["--kind=eg3d", f"--src={hostile}"]) == 2
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind=eg3d", "--dst=x.npz"], "must end in no suffix (a folder) or .safetensors"),
        (["--kind=eg3d", "--dst=x", "--network=D"], "a folder takes D anyway"),
        (["--kind=eg3d", "--dst=x", "--override_axes"], "needs --plane_axes"),
        (["--kind=eg3d", "--dst=x", "--export"], "must end in .safetensors or .npz or .pth"),
        (["--kind=lpips", "--dst=x.npz", "--export"], "--export knows eg3d, deep3d, mapping"),
        (["--kind=lpips", "--dst=x.pth"], "must end in .npz"),
        (["--kind=guess", "--dst=x"], "invalid choice"),
    ],
)
def test_impossible_requests_are_refused_before_reading(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        convert.main([*arguments, "--src=missing"])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_only_networks_are_exported_as_eg3d(tmp_path, capsys):
    portable.save_params(tmp_path / "x.safetensors", {"params": {}}, {"kind": "deep3dface"})
    assert _convert(tmp_path / "x.safetensors", tmp_path / "x.npz", "--export") == 2
    assert "expected the weights of a generator or discriminator" in capsys.readouterr().err


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
    assert capsys.readouterr().err.startswith(f"error: {path}: expected a file of torch.save")
