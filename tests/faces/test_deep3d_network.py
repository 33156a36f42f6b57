"""The regressor of Deep3DFace against a NumPy reference, written from the paper's description."""

import jax
import numpy as np
import pytest

from ganavatar_jax.faces import deep3d_network
from helpers import compare, deep3d
from weight_port import names_deep3d


def _conv(x, weight, stride=1):
    """Correlates NCHW with OIHW, zeros around, one kernel tap at a time."""
    pad = weight.shape[-1] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    size = [(side - weight.shape[-1]) // stride + 1 for side in x.shape[2:]]
    total = 0.0
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            window = x[:, :, row::stride, column::stride][:, :, : size[0], : size[1]]
            total = total + np.einsum("nihw,oi->nohw", window, weight[:, :, row, column])
    return total


def _reference(tensors, x):
    """The regressor in float64, NCHW, under the original names."""
    tensors = {name: value.astype(np.float64) for name, value in tensors.items()}

    def norm(x, name):
        mean, var, weight, bias = (
            tensors[f"{name}.{leaf}"][None, :, None, None]
            for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def layer(x, name, index, stride=1):
        convolved = _conv(x, tensors[f"{name}.conv{index}.weight"], stride)
        return norm(convolved, f"{name}.bn{index}")

    x = np.maximum(layer(x, "backbone", 1, 2), 0)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    taps = [padded[:, :, i::2, j::2][:, :, :rows, :columns] for i in range(3) for j in range(3)]
    x = np.max(taps, axis=0)
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        for index in range(count):
            name = f"backbone.layer{stage}.{index}"
            stride = 2 if index == 0 and stage > 1 else 1
            skip = x
            if index == 0:
                skip = _conv(x, tensors[f"{name}.downsample.0.weight"], stride)
                skip = norm(skip, f"{name}.downsample.1")
            y = np.maximum(layer(x, name, 1), 0)
            y = np.maximum(layer(y, name, 2, stride), 0)
            x = np.maximum(layer(y, name, 3) + skip, 0)
    pooled = x.mean(axis=(2, 3))
    heads = [
        pooled @ tensors[f"final_layers.{i}.weight"][:, :, 0, 0].T
        + tensors[f"final_layers.{i}.bias"]
        for i in range(7)
    ]
    return np.concatenate(heads, axis=1)


def test_coefficients_equal_the_reference():
    tensors = deep3d.small_tensors()
    image = np.random.default_rng(1).random((2, 64, 64, 3), np.float32)
    actual = jax.jit(deep3d_network.apply)(deep3d.variables(tensors), image)
    expected = _reference(tensors, np.moveaxis(image, -1, 1).astype(np.float64))
    assert actual.shape == (2, 257)
    compare.assert_parity(actual, expected, limit=1e-4, name="coefficients")


def test_coefficients_are_split_where_the_original_splits_them():
    parts = deep3d_network.split(np.arange(257, dtype=np.float32)[None])
    slices = {
        "identity": (0, 80),
        "expression": (80, 144),
        "texture": (144, 224),
        "angles": (224, 227),
        "lighting": (227, 254),
        "translation": (254, 257),
    }
    assert parts._fields == tuple(slices)
    for name, (start, end) in slices.items():
        np.testing.assert_array_equal(getattr(parts, name)[0], np.arange(start, end))
    assert sum(size for _, size in deep3d_network.HEADS) == 257


def test_the_full_size_regressor_is_a_resnet_50_with_seven_heads():
    expected = names_deep3d.expected()
    learned = [
        shape
        for name, (shape, _) in expected.items()
        if name.rsplit(".", 1)[-1] in ("weight", "bias")
    ]
    # ResNet-50 has 25,557,032 parameters, 2,049,000 of them in the classifier left out here.
    assert sum(map(np.prod, learned)) == 25_557_032 - 2_049_000 + 257 * 2048 + 257
    assert len(expected) == 53 + 53 * 5 + 7 * 2
    assert expected["backbone.layer4.2.conv3.weight"] == ((2048, 512, 1, 1), "float32")


@pytest.mark.slow
def test_features_equal_torch_at_full_size():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    tensors = deep3d.random_tensors(names_deep3d.expected(), seed=2)
    stored = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}

    def layer(x, conv, norm, **options):
        kernel = stored[f"{conv}.weight"]
        x = functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2, **options)
        parts = [stored[f"{norm}.{leaf}"] for leaf in ("running_mean", "running_var")]
        parts += [stored[f"{norm}.{leaf}"] for leaf in ("weight", "bias")]
        return functional.batch_norm(x, *parts, eps=1e-5)

    image = np.random.default_rng(3).random((2, 224, 224, 3), np.float32)
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 1)))
    with torch.no_grad():
        x = functional.relu(layer(x, "backbone.conv1", "backbone.bn1", stride=2))
        x = functional.max_pool2d(x, 3, 2, 1)
        for stage, count in enumerate((3, 4, 6, 3), start=1):
            for index in range(count):
                name, stride = f"backbone.layer{stage}.{index}", 1 + (index == 0 and stage > 1)
                skip = x
                if index == 0:
                    names = f"{name}.downsample.0", f"{name}.downsample.1"
                    skip = layer(x, *names, stride=stride)
                y = functional.relu(layer(x, f"{name}.conv1", f"{name}.bn1"))
                y = functional.relu(layer(y, f"{name}.conv2", f"{name}.bn2", stride=stride))
                x = functional.relu(layer(y, f"{name}.conv3", f"{name}.bn3") + skip)
        x = functional.adaptive_avg_pool2d(x, 1)
        heads = [
            functional.conv2d(
                x, stored[f"final_layers.{i}.weight"], stored[f"final_layers.{i}.bias"]
            )
            for i in range(7)
        ]
        expected = torch.cat(heads, 1).flatten(1).numpy()
    actual = jax.jit(deep3d_network.apply)(deep3d.variables(tensors), image)
    compare.assert_parity(actual, expected, limit=1e-4, name="coefficients")
