"""Mattes by ONNX files: tiny networks of the two known layouts, and files that are refused."""

import sys

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data import data_config
from ganavatar_jax.films import matters, onnx_matting

SIDE = 64


@pytest.fixture(scope="module")
def onnx():
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnx")


def save_network(onnx, path, *, inputs, outputs, nodes, constants=()):
    """Writes a network; inputs and outputs are (name, type, shape)."""
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if node[3:] else {})) for node in nodes],
        "tiny",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return str(path)


def single(onnx, path, *, sides=("h", "w"), kind="FLOAT", last="Identity"):
    """Returns how bright each pixel is: (mean of the colours + 1) / 2."""
    number = getattr(onnx.TensorProto, kind)
    half = np.array(0.5, onnx.helper.tensor_dtype_to_np_dtype(number))
    return save_network(
        onnx,
        path,
        inputs=[("input", number, ["batch", 3, *sides])],
        outputs=[("output", number, ["batch", 1, *sides])],
        nodes=[
            ("ReduceMean", ["input"], ["mean"], {"axes": [1], "keepdims": 1}),
            ("Mul", ["mean", "half"], ["level"]),
            ("Add", ["level", "half"], ["moved"]),
            (last, ["moved"], ["output"]),
        ],
        constants=[("half", half)],
    )


def recurrent(onnx, path):
    """Matte: brightness times the ratio. Colours: how many frames it remembers, at most one."""
    number, states = onnx.TensorProto.FLOAT, ("r1", "r2", "r3", "r4")
    return save_network(
        onnx,
        path,
        inputs=[
            ("src", number, [1, 3, "h", "w"]),
            *((f"{name}i", number, ["a", "b", "c", "d"]) for name in states),
            ("downsample_ratio", number, [1]),
        ],
        outputs=[
            ("fgr", number, [1, 3, "h", "w"]),
            ("pha", number, [1, 1, "h", "w"]),
            *((f"{name}o", number, ["a", "b", "c", "d"]) for name in states),
        ],
        nodes=[
            ("ReduceMean", ["src"], ["mean"], {"axes": [1], "keepdims": 1}),
            ("Mul", ["mean", "downsample_ratio"], ["pha"]),
            ("Mul", ["src", "zero"], ["black"]),
            ("Add", ["black", "r1i"], ["fgr"]),
            *(("Add", [f"{name}i", "one"], [f"{name}o"]) for name in states),
        ],
        constants=[("zero", np.float32(0).reshape(1)), ("one", np.float32(1).reshape(1))],
    )


def ramp(side=SIDE):
    grey = np.broadcast_to(np.linspace(20, 230, side).astype(np.uint8), (side, side))
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16"])
def test_a_single_network_sees_colors_from_minus_one_to_one(onnx, tmp_path, kind):
    pytest.importorskip("pymatting")
    path = single(onnx, tmp_path / "net.onnx", sides=(SIDE, SIDE), kind=kind)
    matter = matters.make_matter("onnx", model_path=path)
    assert not matter.remembers
    matte = matter.matte(ramp())
    assert np.abs(matte.alpha.astype(int) - ramp()[..., 0]).max() <= 1
    assert matte.foreground.shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("sides", [("h", "w"), (32, 32), (128, 128)])
def test_images_are_resized_to_what_a_network_takes(onnx, tmp_path, sides):
    pytest.importorskip("pymatting")
    path = single(onnx, tmp_path / "net.onnx", sides=sides)
    matte = matters.make_matter("onnx", model_path=path).matte(ramp())
    assert matte.alpha.shape == (SIDE, SIDE)
    inner = np.abs(matte.alpha.astype(int) - ramp()[..., 0])[:, 2:-2]
    assert inner.max() <= 3


def test_a_recurrent_network_remembers_and_brings_its_own_colors(onnx, tmp_path):
    matter = matters.make_matter("onnx", model_path=recurrent(onnx, tmp_path / "net.onnx"))
    first, second = matter.matte(ramp()), matter.matte(ramp())
    np.testing.assert_array_equal(first.alpha, ramp()[..., 0])
    np.testing.assert_array_equal(second.alpha, first.alpha)
    assert matter.remembers
    assert first.foreground.max() == 0
    assert second.foreground.min() == 255
    matter.forget()
    assert matter.matte(ramp()).foreground.max() == 0


def test_a_recurrent_network_looks_at_large_images_from_afar(onnx, tmp_path):
    matter = matters.make_matter("onnx", model_path=recurrent(onnx, tmp_path / "net.onnx"))
    matte = matter.matte(np.full((1024, 1024, 3), 200, np.uint8))
    np.testing.assert_array_equal(matte.alpha, 100)


def two_images(onnx, path):
    number = onnx.TensorProto.FLOAT
    values = [(name, number, [1, 3, "h", "w"]) for name in ("src", "bgr", "pha")]
    nodes = [("Sub", ["src", "bgr"], ["pha"])]
    return save_network(onnx, path, inputs=values[:2], outputs=values[2:], nodes=nodes)


def no_network(onnx, path):
    del onnx
    path.write_bytes(b"weights")
    return str(path)


REFUSED = {
    "missing": (lambda _, path: str(path), r"net\.onnx: expected an ONNX file.*there is none"),
    "no network": (no_network, r"net\.onnx: .*cannot be loaded.*[Pp]rotobuf"),
    "two images": (two_images, r"one image.*got inputs src .*bgr .*outputs pha"),
    "bytes": (lambda o, p: single(o, p, kind="INT32", last="Identity"), r"takes tensor\(int32\)"),
    "not square": (lambda o, p: single(o, p, sides=(32, 64)), "square images; it takes 64x32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_are_refused_by_name(onnx, tmp_path, case):
    write, message = REFUSED[case]
    path = write(onnx, tmp_path / "net.onnx")
    with pytest.raises(errors.EstimatorError, match=message):
        onnx_matting.OnnxMatter(path)


def test_a_network_that_returns_no_numbers_is_refused(onnx, tmp_path):
    pytest.importorskip("pymatting")
    path = single(onnx, tmp_path / "net.onnx", last="Log")
    matter = onnx_matting.OnnxMatter(path)
    with pytest.raises(errors.EstimatorError, match="expected finite numbers"):
        matter.matte(np.zeros((SIDE, SIDE, 3), np.uint8))


def test_a_missing_onnx_runtime_is_named_with_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(errors.MissingDependencyError, match=r"\[preprocess\].*closed_form"):
        matters.make_matter("onnx", model_path=str(tmp_path / "net.onnx"))


def test_the_onnx_method_needs_a_file():
    with pytest.raises(ValueError, match=r"video\.matte_model"):
        data_config.VideoConfig(matte="onnx")
