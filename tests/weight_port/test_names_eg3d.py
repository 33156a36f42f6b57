"""EG3D networks to our variables and back."""

import csv
import pathlib

import numpy as np
import pytest

from ganavatar_jax.core import errors, trees
from helpers import torch_files
from weight_port import layouts, names_eg3d, shapes_eg3d, torch_pickle

_FULL_GENERATOR = {
    **torch_files.TINY_GENERATOR,
    "z_dim": 512,
    "w_dim": 512,
    "channel_base": 32768,
    "channel_max": 512,
    "plane_resolution": 256,
    "plane_channels": 96,
    "decoder_hidden": 64,
    "decoder_features": 32,
    "superresolution": "SuperresolutionHybrid8XDC",
}
_FULL_DISCRIMINATOR = {
    **torch_files.TINY_DISCRIMINATOR,
    "cmap_dim": 512,
    "img_resolution": 512,
    "channel_base": 32768,
    "channel_max": 512,
    "num_mapping_layers": 8,
}


@pytest.fixture
def load(tmp_path):
    """Writes networks as a snapshot and reads it back."""

    def write(**networks):
        path = tmp_path / "snapshot.pkl"
        path.write_bytes(torch_files.snapshot(**networks))
        return torch_pickle.read_snapshot(path)

    return write


def _assert_same(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        assert actual[name].shape == array.shape, name
        assert actual[name].tobytes() == array.tobytes(), name


def test_a_generator_comes_back_bit_for_bit(load):
    tensors = torch_files.generator_tensors()
    std = np.linspace(0.1, 1, 25, dtype=np.float32)
    whole = {"dataset_label_std": std, **tensors}
    imported = names_eg3d.import_generator(load(G_ema=torch_files.generator(whole))["G_ema"])
    _assert_same(names_eg3d.export_names(imported.variables), tensors)
    _assert_same(names_eg3d.export_names(imported.variables, extras=imported.extras), whole)


def test_a_discriminator_comes_back_bit_for_bit(load):
    tensors = torch_files.discriminator_tensors()
    imported = names_eg3d.import_discriminator(load(D=torch_files.discriminator(tensors))["D"])
    _assert_same(names_eg3d.export_names(imported.variables, kind="discriminator"), tensors)


def test_layouts_are_channels_last(load):
    tensors = torch_files.generator_tensors()
    variables = names_eg3d.import_generator(load(G=torch_files.generator(tensors))["G"]).variables
    params = variables["params"]["backbone"]["synthesis"]
    original = tensors["backbone.synthesis.b8.conv0.weight"]
    assert params["b8"]["conv0"]["weight"][2, 1, 3, 0] == original[0, 3, 2, 1]
    assert params["b4"]["const"][1, 2, 3] == tensors["backbone.synthesis.b4.const"][3, 1, 2]
    linear = variables["params"]["decoder"]["net"]["0"]["weight"]
    assert linear.shape == (4, 5)
    assert linear[3, 1] == tensors["decoder.net.0.weight"][1, 3]
    buffers = variables["buffers"]["backbone"]
    np.testing.assert_array_equal(buffers["mapping"]["w_avg"], tensors["backbone.mapping.w_avg"])
    assert set(buffers["synthesis"]["b8"]["conv0"]) == {"noise_const"}


def test_the_discriminators_flat_image_is_channels_last_too():
    image = np.arange(3 * 16, dtype=np.float32).reshape(3, 4, 4)  # channel, row, column
    weight = np.zeros((2, 48), np.float32)
    weight[1, 2 * 16 + 1 * 4 + 3] = 1  # picks channel 2, row 1, column 3
    ours = layouts.to_ours("b4.fc.weight", weight)
    np.testing.assert_array_equal(
        image.transpose(1, 2, 0).reshape(-1) @ ours, image.reshape(-1) @ weight.T
    )
    assert layouts.to_original("b4.fc.weight", ours).tobytes() == weight.tobytes()
    with pytest.raises(errors.WeightError, match="expected 16 inputs a channel"):
        layouts.to_ours("b4.fc.weight", weight[:, :40])


def test_the_architecture_is_read_from_the_file(load):
    network = torch_files.generator(
        torch_files.generator_tensors(), plane_axes=torch_files.plane_axes("original")
    )
    imported = names_eg3d.import_generator(load(G=network)["G"])
    expected = {
        **torch_files.TINY_GENERATOR,
        "num_ws": 4,
        "plane_axes": "original",
        "img_resolution": 128,
        "neural_rendering_resolution": 32,
        "num_fp16_res": None,
        "sr_num_fp16_res": None,
        "conv_clamp": None,
    }
    assert imported.architecture == expected
    assert imported.rendering == torch_files.RENDERING


@pytest.mark.parametrize("name", list(shapes_eg3d.SUPERRESOLUTIONS))
def test_every_superresolution_is_recognised_by_its_shapes(name):
    architecture = {**torch_files.TINY_GENERATOR, "superresolution": name}
    shapes = shapes_eg3d.generator_shapes(architecture)
    assert shapes_eg3d.generator_architecture(shapes) == {**architecture, "num_ws": 4}
    assert ("superresolution.resample_filter" in shapes) == (not name.endswith("8XDC"))


@pytest.mark.parametrize("base", [512, 900, 1000, 1023])
def test_a_channel_rule_is_found_for_odd_bases_too(base):
    rule = {"channel_base": base, "channel_max": 11}
    shapes = shapes_eg3d.discriminator_shapes({**_FULL_DISCRIMINATOR, **rule})
    found = shapes_eg3d.discriminator_architecture(shapes)
    assert shapes_eg3d.discriminator_shapes(found) == shapes


@pytest.mark.parametrize(("kind", "network"), [("generator", "G_ema"), ("discriminator", "D")])
def test_full_size_names_equal_the_reference_list(kind, network):
    full = {"generator": _FULL_GENERATOR, "discriminator": _FULL_DISCRIMINATOR}[kind]
    list_shapes = getattr(shapes_eg3d, f"{kind}_shapes")
    nested = trees.unflatten_names(
        {  # a stride of zero stands for a whole tensor
            ("buffers." if name.endswith(("noise_const", "w_avg")) else "params.")
            + name: np.broadcast_to(np.float32(0), layouts.to_ours(name, _zeros(shape)).shape)
            for name, shape in list_shapes(full).items()
            if not name.endswith("resample_filter")
        }
    )
    extras = {"dataset_label_std": np.zeros(25, np.float32)} if kind == "generator" else None
    exported = names_eg3d.export_names(nested, kind=kind, extras=extras)
    path = pathlib.Path(__file__).parent / "eg3d_state_dict.tsv"
    with path.open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["network"] == network]
    assert [row["key"] for row in rows] == list(exported)
    for row in rows:
        array = exported[row["key"]]
        assert ("x".join(map(str, array.shape)) or "scalar") == row["shape"], row["key"]
        assert str(array.dtype) == row["dtype"]
    params = sum(exported[row["key"]].size for row in rows if row["kind"] == "param")
    assert params == {"generator": 30_662_136, "discriminator": 31_359_744}[kind]


def _zeros(shape):
    return np.zeros(shape, np.float32)


def test_missing_unexpected_and_misshapen_tensors_are_three_lists(load):
    tensors = torch_files.generator_tensors()
    del tensors["decoder.net.2.weight"]
    tensors["decoder.net.4.weight"] = np.zeros((2, 2), np.float32)
    tensors["backbone.mapping.fc1.bias"] = np.zeros(9, np.float32)
    tensors["backbone.mapping.embed.bias"] = np.zeros(8, np.int32)
    module = load(G=torch_files.generator(tensors))["G"]
    with pytest.raises(errors.WeightError) as caught:
        names_eg3d.import_generator(module)
    text = str(caught.value)
    assert "missing (1): decoder.net.2.weight;" in text
    assert "unexpected (1): 'decoder.net.4.weight';" in text
    assert "wrong shape (2): backbone.mapping.embed.bias (expected 8 float32, found 8 int32)" in (
        text
    )
    assert "backbone.mapping.fc1.bias (expected 8 float32, found 9 float32)" in text
    assert "\n" not in text


def test_a_tensor_that_defines_the_architecture_is_named_when_it_is_missing(load):
    tensors = torch_files.generator_tensors()
    del tensors["backbone.mapping.embed.weight"]
    module = load(G=torch_files.generator(tensors))["G"]
    with pytest.raises(errors.WeightError, match=r"missing: backbone\.mapping\.embed\.weight"):
        names_eg3d.import_generator(module)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plane_axes": torch_files.plane_axes("odd")}, "plane_axes are neither"),
        ({"plane_axes": 0.5 * torch_files.plane_axes("fixed")}, "plane_axes are neither"),
        ({"plane_axes": None}, "plane_axes are neither"),
        ({"z_dim": 7}, "attribute z_dim is 7 but the tensors say 6"),
        ({"img_resolution": "128"}, "img_resolution is not a positive integer"),
        ({"rendering_kwargs": None}, "rendering_kwargs is missing"),
        ({"rendering_kwargs": {"a": b"bytes"}}, "rendering_kwargs holds a bytes"),
    ],
)
def test_attributes_that_contradict_the_tensors_are_refused(load, changes, message):
    module = load(G=torch_files.generator(torch_files.generator_tensors(), **changes))["G"]
    with pytest.raises(errors.WeightError, match=message):
        names_eg3d.import_generator(module)


def test_another_filter_is_refused(load):
    tensors = torch_files.discriminator_tensors()
    tensors["b8.skip.resample_filter"] = np.full((4, 4), 1 / 16, np.float32)
    module = load(D=torch_files.discriminator(tensors))["D"]
    with pytest.raises(errors.WeightError, match=r"b8\.skip\.resample_filter is not the filter"):
        names_eg3d.import_discriminator(module)


def test_the_wrong_network_is_refused(load):
    snapshot = load(D=torch_files.discriminator(torch_files.discriminator_tensors()))
    with pytest.raises(errors.WeightError, match="expected a TriPlaneGenerator, got a Dual"):
        names_eg3d.import_generator(snapshot["D"])
    with pytest.raises(errors.WeightError, match="holds no network G_ema; there are: D"):
        snapshot["G_ema"]


def test_exporting_incomplete_variables_is_refused(load):
    module = load(G=torch_files.generator(torch_files.generator_tensors()))["G"]
    variables = names_eg3d.import_generator(module).variables
    del variables["params"]["backbone"]["synthesis"]["b8"]["torgb"]["affine"]["bias"]
    with pytest.raises(errors.WeightError, match=r"missing \(1\): backbone.synthesis.b8.torgb.aff"):
        names_eg3d.export_names(variables)
    with pytest.raises(errors.WeightError, match="'opt_state'"):
        names_eg3d.export_names({"opt_state": {}})
    with pytest.raises(ValueError, match="kind must be one of"):
        names_eg3d.export_names(variables, kind="G")
