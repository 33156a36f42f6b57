"""Writes the files torch and EG3D write, opcode by opcode, without torch.

A value is plain Python data, a numpy array (written as a tensor), or one of the small classes
below, which stand for what an honest or hostile pickle may ask for.
"""

import dataclasses
import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from weight_port import shapes_eg3d

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
STORAGES = {
    "f8": "DoubleStorage",
    "f4": "FloatStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "i4": "IntStorage",
    "u1": "ByteStorage",
    "b1": "BoolStorage",
}
NO_HOOKS = ("_backward_hooks", "_forward_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks")


@dataclasses.dataclass
class Name:
    """A global, pushed as it is."""

    module: str
    name: str


@dataclasses.dataclass
class Call:
    """REDUCE of `function`, then BUILD if there is a state."""

    function: Any
    arguments: Any
    state: Any = None


@dataclasses.dataclass
class New:
    """NEWOBJ of `cls`, then BUILD if there is a state."""

    cls: Any
    arguments: Any = ()
    state: Any = None


@dataclasses.dataclass
class Persistent:
    """BINPERSID."""

    value: Any


@dataclasses.dataclass
class Opcodes:
    """Bytes put into the pickle as they are."""

    data: bytes


REBUILD = Name("torch._utils", "_rebuild_tensor_v2")
LOAD_BYTES = Name("torch.storage", "_load_from_bytes")
ORDERED = Call(Name("collections", "OrderedDict"), ())


def dumps(value: Any, *, protocol: int = 4) -> bytes:
    return bytes([0x80, protocol]) + _body(value, protocol) + b"."


def _body(value: Any, protocol: int) -> bytes:
    def body(part: Any) -> bytes:
        return _body(part, protocol)

    match value:
        case Opcodes():
            return value.data
        case Name():
            if protocol < 4:
                return f"c{value.module}\n{value.name}\n".encode()
            return body(value.module) + body(value.name) + b"\x93"
        case Call() | New():
            first, code = (
                (value.function, b"R") if isinstance(value, Call) else (value.cls, b"\x81")
            )
            built = b"" if value.state is None else body(value.state) + b"b"
            return body(first) + body(value.arguments) + code + built
        case Persistent():
            return body(value.value) + b"Q"
        case np.ndarray():
            return body(tensor(value))
        case dict():
            items = b"".join(body(key) + body(part) for key, part in value.items())
            return b"}(" + items + b"u"
        case tuple():
            return b"(" + b"".join(map(body, value)) + b"t"
        case list():
            return b"](" + b"".join(map(body, value)) + b"e"
        case set():
            return b"\x8f(" + b"".join(map(body, value)) + b"\x90"
    return _atom(value)


def _atom(value: Any) -> bytes:
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
    raise TypeError(f"cannot write a {type(value).__name__}")


def stream(value: Any, storages: Mapping[str, np.ndarray], **changes: Any) -> bytes:
    """A legacy torch.save stream; `changes` replace its parts: magic, protocol, system, keys."""
    parts = {"magic": MAGIC, "protocol": 1001, "system": SYSTEM, "keys": list(storages), **changes}
    head = [dumps(parts[name], protocol=2) for name in ("magic", "protocol", "system")]
    tail = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return b"".join(head) + dumps(value, protocol=2) + dumps(parts["keys"], protocol=2) + tail


def storage_id(array: np.ndarray, key: str = "0", **changes: Any) -> Persistent:
    kind = Name("torch", STORAGES[array.dtype.str[1:]])
    parts = {"tag": "storage", "kind": kind, "key": key, "place": "cpu", "length": array.size}
    parts.update(changes)
    return Persistent((*parts.values(), None))


def embedded(array: np.ndarray, **changes: Any) -> Call:
    """The storage of a tensor as snapshots hold it."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return Call(LOAD_BYTES, (stream(storage_id(flat), {"0": flat}, **changes),))


def tensor(array: np.ndarray, **changes: Any) -> Call:
    """A tensor; `changes` replace its parts: storage, offset, size, stride."""
    contiguous = np.ascontiguousarray(array).reshape(array.shape)
    parts = {
        "storage": embedded(array) if "storage" not in changes else None,
        "offset": 0,
        "size": array.shape,
        "stride": tuple(step // array.itemsize for step in contiguous.strides),
    }
    parts.update(changes)
    return Call(REBUILD, (*parts.values(), False, ORDERED))


def parameter(array: Any) -> Call:
    return Call(Name("torch._utils", "_rebuild_parameter"), (array, True, ORDERED))


def module_state(
    parameters: Mapping[str, Any],
    buffers: Mapping[str, Any],
    modules: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "training": False,
        "_parameters": {name: parameter(value) for name, value in parameters.items()},
        "_buffers": dict(buffers),
        "_non_persistent_buffers_set": set(),
        "_modules": dict(modules),
        **dict.fromkeys(NO_HOOKS, ORDERED),
        **attributes,
    }


def persistent(class_name: str, state: Any, *, source: str = "") -> Call:
    meta = {
        "type": "class",
        "version": 6,
        "module_src": source,
        "class_name": class_name,
        "state": state,
    }
    return Call(Name("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))


def archive(value: Any, storages: Mapping[str, np.ndarray], *, root: str = "archive") -> bytes:
    """A torch.save archive (zip)."""
    entries = {
        f"{root}/data.pkl": dumps(value, protocol=2),
        f"{root}/byteorder": b"little",
        **{f"{root}/data/{key}": array.tobytes() for key, array in storages.items()},
        f"{root}/version": b"3\n",
    }
    return zipped(entries)


def zipped(entries: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
    return target.getvalue()


# Networks ---------------------------------------------------------------------------------------

TINY_GENERATOR = {
    "z_dim": 6,
    "w_dim": 8,
    "c_dim": 25,
    "img_channels": 3,
    "channel_base": 32,
    "channel_max": 4,
    "num_mapping_layers": 2,
    "plane_resolution": 8,
    "plane_channels": 12,
    "decoder_hidden": 5,
    "decoder_features": 7,
    "superresolution": "SuperresolutionHybrid2X",
}
TINY_DISCRIMINATOR = {
    "c_dim": 25,
    "cmap_dim": 4,
    "img_resolution": 16,
    "img_channels": 3,
    "channel_base": 48,
    "channel_max": 4,
    "num_mapping_layers": 3,
}
RENDERING = {
    "depth_resolution": 4,
    "depth_resolution_importance": 4,
    "ray_start": 2.25,
    "ray_end": 3.3,
    "box_warp": 1,
    "white_back": False,
    "reg_type": "l1",
    "c_scale": 1.0,
    "superresolution_module": "training.superresolution.SuperresolutionHybrid2X",
}
_PLANES = {"fixed": ([2, 1, 0],), "original": ([2, 0, 1],), "odd": ([1, 2, 0],)}
_FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64
_CLASSES = {
    "": "TriPlaneGenerator",
    "superresolution": "SuperresolutionHybrid2X",
    "renderer": "ImportanceRenderer",
    "decoder": "OSGDecoder",
    "decoder.net": "Sequential",
}
_OWN = {
    "ImportanceRenderer": "training.volumetric_rendering.renderer",
    "OSGDecoder": "training.triplane",
    "Sequential": "torch.nn.modules.container",
}


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: _FILTER if name.endswith("resample_filter") else _normal(rng, shape)
        for name, shape in shapes.items()
    }


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape, np.float32))


def generator_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    return random_tensors(shapes_eg3d.generator_shapes(TINY_GENERATOR), seed)


def discriminator_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    return random_tensors(shapes_eg3d.discriminator_shapes(TINY_DISCRIMINATOR), seed)


def plane_axes(kind: str) -> np.ndarray:
    eye = np.eye(3, dtype=np.float32)
    return np.stack([eye, eye[[0, 2, 1]], eye[_PLANES[kind][0]]])


def network(
    tensors: Mapping[str, np.ndarray], attributes: Mapping[str, Any], class_name: str
) -> Any:
    """Nests flat tensors into modules, as EG3D pickles them."""
    extra = {"": dict(attributes), "renderer": {}}
    classes = {**_CLASSES, "": class_name}
    if class_name == "TriPlaneGenerator":
        classes["superresolution"] = extra[""].pop("sr_class", _CLASSES["superresolution"])
        extra["renderer"] = {"plane_axes": extra[""].pop("plane_axes", plane_axes("fixed"))}
    return _nest("", tensors, extra, classes)


def _nest(path: str, tensors: Mapping[str, Any], extra: Any, classes: Mapping[str, str]) -> Any:
    prefix = f"{path}." if path else ""
    inside = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
    children = {name.split(".")[0] for name in inside if "." in name}
    if not path and classes[""] == "TriPlaneGenerator":
        children.add("renderer")
    leaves = {name: tensors[prefix + name] for name in inside if "." not in name}
    buffers = {"noise_const", "w_avg", "resample_filter", "dataset_label_std"}
    state = module_state(
        {name: value for name, value in leaves.items() if name not in buffers},
        {name: value for name, value in leaves.items() if name in buffers},
        {name: _nest(prefix + name, tensors, extra, classes) for name in sorted(children)},
        extra.get(path, {}),
    )
    kind = classes.get(path, "Layer")
    return New(Name(_OWN[kind], kind), (), state) if kind in _OWN else persistent(kind, state)


def generator(tensors: Mapping[str, np.ndarray], **changes: Any) -> Any:
    """A tiny TriPlaneGenerator; `changes` replace or add attributes.

    Two are not attributes of the root: plane_axes (the renderer's) and sr_class (a class name).
    """
    easy = Name("dnnlib.util", "EasyDict")
    attributes = {
        **{name: TINY_GENERATOR[name] for name in ("z_dim", "w_dim", "c_dim", "img_channels")},
        "img_resolution": 128,
        "neural_rendering_resolution": 32,
        "rendering_kwargs": RENDERING,
        "_last_planes": None,
        "_init_args": (),
        "_init_kwargs": New(easy, (), {"channel_base": 32, "channel_max": 4}),
        **changes,
    }
    return network(tensors, attributes, "TriPlaneGenerator")


def discriminator(tensors: Mapping[str, np.ndarray], **changes: Any) -> Any:
    attributes = {"c_dim": 25, "img_resolution": 16, "img_channels": 6, **changes}
    return network(tensors, attributes, "DualDiscriminator")


def snapshot(**networks: Any) -> bytes:
    return dumps({"training_set_kwargs": {"path": "x"}, **networks, "augment_pipe": None})


def tiny_snapshot() -> bytes:
    """A complete small snapshot: G and G_ema differ, D is there."""
    return snapshot(
        G=generator(generator_tensors(1)),
        D=discriminator(discriminator_tensors(2)),
        G_ema=generator(generator_tensors(3)),
    )
