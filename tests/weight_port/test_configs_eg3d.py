"""EG3D's options as configurations of ours."""

import dataclasses

import jax
import pytest

from ganavatar_jax.apps import experiment, presets
from ganavatar_jax.core import errors, trees
from ganavatar_jax.models import discriminator, generator
from helpers import full_size, golden, torch_files
from weight_port import configs_eg3d, names_eg3d, torch_pickle


@pytest.fixture
def imported(tmp_path):
    def load(**changes):
        tensors = torch_files.generator_tensors()
        network = torch_files.generator(tensors, **changes)
        path = tmp_path / "snapshot.pkl"
        path.write_bytes(torch_files.snapshot(G=network))
        return names_eg3d.import_generator(torch_pickle.read_snapshot(path)["G"])

    return load


def _config(found):
    return configs_eg3d.to_generator_config(found.architecture, found.rendering)


@pytest.mark.parametrize("case", ["eg3d_128", "eg3d_ffhq512"])
def test_a_golden_snapshot_says_what_the_parity_tests_were_told(case, golden_dir):
    path = golden_dir / f"{case}.pkl"
    if not path.is_file():
        pytest.skip("the golden snapshots are not here")
    expected, snapshot = golden.load(golden_dir, case), torch_pickle.read_snapshot(path)
    g = _config(names_eg3d.import_generator(snapshot["G_ema"]))
    assert dataclasses.replace(g, superresolution_half=True) == expected.config
    d = names_eg3d.import_discriminator(snapshot["D"])
    config = configs_eg3d.to_discriminator_config(d.architecture)
    assert dataclasses.replace(config, num_half_res=4) == expected.d_config


@pytest.mark.parametrize("case", ["eg3d_128", "eg3d_ffhq512"])
def test_the_networks_of_a_golden_snapshot_come_back_bit_for_bit(case, golden_dir):
    path = golden_dir / f"{case}.pkl"
    if not path.is_file():
        pytest.skip("the golden snapshots are not here")
    snapshot = torch_pickle.read_snapshot(path)
    w_avg = set()
    for network, kind in (("G", "generator"), ("G_ema", "generator"), ("D", "discriminator")):
        found = names_eg3d.IMPORTERS[kind](snapshot[network])
        exported = names_eg3d.export_names(found.variables, kind=kind, extras=found.extras)
        expected = torch_pickle.state_dict(snapshot[network])
        assert exported.keys() == expected.keys()
        assert all(exported[name].tobytes() == value.tobytes() for name, value in expected.items())
        if kind == "generator":
            w_avg.add(exported["backbone.synthesis.b4.const"].tobytes())
    assert len(w_avg) == (2 if case == "eg3d_128" else 1)  # in the other, G equals G_ema


def test_half_precision_in_the_original_means_its_clamp(imported):
    options = {"channel_base": 32, "channel_max": 4, "sr_num_fp16_res": 4}
    assert _config(imported(_init_kwargs=options)).superresolution_clamp == 256.0
    assert _config(imported()).superresolution_clamp is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clamp_mode": "relu"}, "clamp_mode is 'relu'"),
        ({"superresolution_noise_mode": "random"}, "noise_mode is 'random'"),
        ({"ray_start": "auto"}, "must both be distances or both be 'auto'"),
        ({"box_warp": "wide"}, "options.render.box_warp: expected float"),
    ],
)
def test_options_without_counterpart_are_refused(imported, changes, message):
    found = imported(rendering_kwargs={**torch_files.RENDERING, **changes})
    with pytest.raises(errors.WeightError, match=message):
        _config(found)


def test_missing_options_are_named(imported):
    with pytest.raises(errors.WeightError, match="lack depth_resolution_importance, ray_start"):
        _config(imported(rendering_kwargs={"depth_resolution": 4}))


def test_noise_on_the_discriminators_camera_is_refused():
    with pytest.raises(errors.WeightError, match="disc_c_noise is 0.5"):
        configs_eg3d.to_discriminator_config({"disc_c_noise": 0.5})


def test_the_networks_of_the_paper_size_config_are_the_originals():
    """So that an imported FFHQ 512-128 start fits `configs/monocular.py`."""
    values = presets.full()
    values.data.source = "captures/me"
    resolved = experiment.resolve(values)
    key = jax.random.key(0)
    ours = {
        "G_ema": jax.eval_shape(lambda k: generator.init(k, resolved.generator), key),
        "D": jax.eval_shape(lambda k: discriminator.init(k, resolved.discriminator), key),
    }
    for network, tree in ours.items():
        rows = [row for row in full_size.rows(network) if full_size.is_variable(row)]
        found = {name: (leaf.shape, str(leaf.dtype)) for name, leaf in trees.flatten_names(tree)}
        assert found.keys() == {full_size.our_name(row["key"]) for row in rows}
        for row in rows:
            shape, dtype = found[full_size.our_name(row["key"])]
            # Axes are in another order; test_names_eg3d checks which.
            assert sorted(shape) == sorted(full_size.shape_of(row)), row["key"]
            assert dtype == row["dtype"]
