"""Hostile and damaged weight files. Each entry tries to run code, to exhaust memory or to mislead.

Payloads create the file `canary`; whatever happens, it must not exist afterwards.
"""

import dataclasses
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

from helpers import torch_files as files
from helpers.torch_files import Call, Name, New, Opcodes, Persistent

_ARRAY = np.arange(6, dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Attack:
    """A file's bytes for a canary path, and a pattern of the message that must come."""

    make: Callable[[str], bytes]
    message: str


def _module(**parts):
    fields = {"parameters": {}, "buffers": {}, "modules": {}, "attributes": {}, **parts}
    return files.persistent("Layer", files.module_state(*fields.values()))


def _holding(value):
    """A snapshot with the value as an attribute of a module."""
    return files.snapshot(G=_module(attributes={"x": value}))


def _weight(value):
    """A snapshot with the value as a module's parameter."""
    return files.snapshot(G=_module(parameters={"weight": value}))


def _system(canary):
    return Call(Name("os", "system"), (f"touch {canary}",))


def _code(canary):
    return f"open({canary!r}, 'w')"


def _payload(module, name, *arguments):
    """An attack that calls a global; {canary} and {code} in its arguments are filled in."""

    def make(canary):
        filled = tuple(
            x.format(canary=canary, code=_code(canary)) if isinstance(x, str) else x
            for x in arguments
        )
        return _holding(Call(Name(module, name), filled))

    return Attack(make, f"global '{module}.{name}' is not on the allow-list")


def _storage(stream):
    return files.tensor(_ARRAY, storage=Call(files.LOAD_BYTES, (stream,)))


def _stream_attack(message, value=None, **changes):
    """An attack inside the stream of one embedded storage; `value` is made from the canary."""

    def make(canary):
        main = files.storage_id(_ARRAY) if value is None else value(canary)
        filled = {k: v(canary) if callable(v) else v for k, v in changes.items()}
        return _weight(_storage(files.stream(main, {"0": _ARRAY}, **filled)))

    return Attack(make, message)


def _window_attack(message, **changes):
    return Attack(lambda canary: _weight(files.tensor(_ARRAY, **changes)), message)


def _opcode_attack(message, data):
    return Attack(lambda canary: _holding(Opcodes(data)), message)


def _cut_stream(extra):
    stream = files.stream(files.storage_id(_ARRAY), {"0": _ARRAY})
    return stream[:extra] if extra < 0 else stream + bytes(extra)


def _count_changed():
    stream = files.stream(files.storage_id(_ARRAY), {"0": _ARRAY})
    at = len(stream) - _ARRAY.nbytes - 8
    return stream[:at] + struct.pack("<q", 1 << 40) + stream[at + 8 :]


def _deep_lists(depth):
    return Opcodes(b"]" * depth + b"a" * (depth - 1))


def _deep_tuples(depth):
    return Opcodes(b")" + b"\x85" * depth)


def _laughs(levels=12):
    """Every module holds the next one three times: 3^12 paths through few bytes."""
    inner = _module()
    for index in range(levels):
        stored = Opcodes(files.dumps(inner)[2:-1] + b"q" + bytes([index]))
        again = Opcodes(b"h" + bytes([index]))
        inner = _module(modules={"a": stored, "b": again, "c": again})
    return files.snapshot(G=inner)


def _dtype(state=(3, "<", None, None, None, -1, -1, 0), code="f8"):
    return Call(Name("numpy", "dtype"), (code, False, True), state)


def _scalar(dtype, data=bytes(8)):
    return Call(Name("numpy.core.multiarray", "scalar"), (dtype, data))


SNAPSHOTS = {
    # Code by a global ---------------------------------------------------------------------------
    "os_system": _payload("os", "system", "touch {canary}"),
    "posix_system": _payload("posix", "system", "touch {canary}"),
    "eval": _payload("builtins", "eval", "{code}"),
    "exec": _payload("builtins", "exec", "{code}"),
    "python2_eval": _payload("__builtin__", "eval", "{code}"),
    "getattr": _payload("builtins", "getattr", "x", "__class__"),
    "import": _payload("builtins", "__import__", "os"),
    "import_module": _payload("importlib", "import_module", "os"),
    "open": _payload("io", "open", "{canary}", "w"),
    "popen": _payload("subprocess", "Popen", "touch {canary}"),
    "runpy": _payload("runpy", "run_path", "{canary}"),
    "nested_loads": _payload("pickle", "loads", b"N."),
    "torch_load": _payload("torch", "load", "{canary}"),
    "torch_serialization_load": _payload("torch.serialization", "load", "{canary}"),
    "numpy_load": _payload("numpy", "load", "{canary}"),
    "attribute_of_an_allowed_global": _payload("numpy", "dtype.__reduce__"),
    "allowed_name_in_another_module": _payload("evil", "OSGDecoder"),
    "resaved_module_of_another_class": _payload("_imported_module_00ff", "TriPlaneGenerator"),
    "copyreg": _payload("copyreg", "_reconstructor", None, None, None),
    "partial": _payload("functools", "partial", "x"),
    "code_object": _payload("types", "CodeType", 0),
    "at_the_top": Attack(lambda canary: files.dumps(_system(canary)), "'os.system' is not on"),
    "in_training_set_kwargs": Attack(
        lambda canary: files.dumps({"training_set_kwargs": {"path": _system(canary)}}),
        "'os.system' is not on",
    ),
    # Code by other opcodes ----------------------------------------------------------------------
    "reduce_of_text": Attack(
        lambda canary: _holding(Call("os.system", (canary,))), "'os.system' is called"
    ),
    "reduce_of_a_plain_name": Attack(
        lambda canary: _holding(Call(Name("torch", "float32"), ())), "may not be called"
    ),
    "reduce_of_a_class": Attack(
        lambda canary: _holding(Call(Name("training.triplane", "OSGDecoder"), ())),
        "may not be called",
    ),
    "newobj_of_a_function": Attack(
        lambda canary: _holding(New(files.LOAD_BYTES, (b"",))), "may not be called"
    ),
    "newobj_with_arguments": Attack(
        lambda canary: _holding(New(Name("training.triplane", "OSGDecoder"), (1, 2))),
        "unsuitable arguments",
    ),
    "newobj_ex": _opcode_attack("opcode 0x92", b")}\x92"),
    "inst": _opcode_attack("opcode 0x69", b"(ios\nsystem\n"),
    "obj": _opcode_attack("opcode 0x6f", b"(ctraining.triplane\nOSGDecoder\no"),
    "ext1": _opcode_attack("opcode 0x82", b"\x82\x01"),
    "ext2": _opcode_attack("opcode 0x83", b"\x83\x01\x00"),
    "ext4": _opcode_attack("opcode 0x84", b"\x84\x01\x00\x00\x00"),
    "text_opcodes": _opcode_attack("opcode 0x49", b"I1\n"),
    "out_of_band_buffer": _opcode_attack("opcode 0x97", b"\x97"),
    "global_name_on_the_stack_is_no_text": _opcode_attack("name is not text", b"K\1K\1\x93"),
    "persistent_id": Attack(lambda canary: _holding(Persistent(("x",))), "persistent id"),
    "text_persistent_id": _opcode_attack("opcode 0x50", b"Pid\n"),
    "state_of_a_dict": _opcode_attack("a dict is where a Node", b"}}b"),
    "state_of_the_class_itself": Attack(
        lambda canary: _holding(
            Opcodes(b"ctraining.triplane\nOSGDecoder\n}X\x08\0\0\0__init__K\1sb")
        ),
        "a Global is where a Node",
    ),
    "state_set_twice": Attack(
        lambda canary: _holding(Call(_module().function, _module().arguments, {"x": 1})),
        "state of type dict is not expected",
    ),
    "state_of_a_tensor": Attack(
        lambda canary: _weight(Call(files.REBUILD, files.tensor(_ARRAY).arguments, {"x": 1})),
        "state of type dict is not expected",
    ),
    "setstate_by_slots": Attack(
        lambda canary: _holding(
            New(Name("training.triplane", "OSGDecoder"), (), ({}, {"__class__": 1}))
        ),
        "state of type tuple",
    ),
    "payload_in_ordered_dict_state": Attack(
        lambda canary: _holding(
            Call(Name("collections", "OrderedDict"), (), {"x": _system(canary)})
        ),
        "'os.system' is not on",
    ),
    "easy_dict_with_a_list_as_state": Attack(
        lambda canary: _holding(New(Name("dnnlib.util", "EasyDict"), (), ["x"])),
        "state of type list",
    ),
    "ordered_dict_of_no_pairs": Attack(
        lambda canary: _holding(Call(Name("collections", "OrderedDict"), ([1, 2],))),
        "unsuitable arguments",
    ),
    "codec": Attack(
        lambda canary: _holding(Call(Name("_codecs", "encode"), ("x", "zlib_codec"))),
        "_codecs.encode is used for something other",
    ),
    "persistent_object_that_is_a_function": Attack(
        lambda canary: _holding(
            Call(
                Name("torch_utils.persistence", "_reconstruct_persistent_obj"),
                ({"type": "func", "state": {}, "class_name": "x"},),
            )
        ),
        "not a class with state",
    ),
    "persistent_object_with_a_hostile_name": Attack(
        lambda canary: files.snapshot(G=files.persistent("a\nb", {})), "no proper class name"
    ),
    # Code inside an embedded storage ------------------------------------------------------------
    "stream_main_pickle": _stream_attack("'os.system' is not on", _system),
    "stream_magic": _stream_attack("'os.system' is not on", magic=_system),
    "stream_protocol": _stream_attack("'os.system' is not on", protocol=_system),
    "stream_system_info": _stream_attack("'os.system' is not on", system=_system),
    "stream_keys": _stream_attack("'os.system' is not on", keys=_system),
    "stream_storage_class": _stream_attack(
        "'os.system' is not on", lambda canary: files.storage_id(_ARRAY, kind=_system(canary))
    ),
    "stream_with_a_snapshot_global": _stream_attack(
        "'collections.OrderedDict' is not on", lambda canary: files.ORDERED
    ),
    "stream_is_no_bytes": Attack(
        lambda canary: _weight(files.tensor(_ARRAY, storage=Call(files.LOAD_BYTES, (7,)))),
        "not a byte string",
    ),
    # Damaged or lying streams -------------------------------------------------------------------
    "wrong_magic": _stream_attack("no magic number", magic=1),
    "wrong_protocol": _stream_attack("unknown torch.save protocol", protocol=1002),
    "big_endian": _stream_attack("only little-endian", system={"little_endian": False}),
    "unknown_key": _stream_attack("list of storages is wrong", keys=["1"]),
    "key_twice": _stream_attack("list of storages is wrong", keys=["0", "0"]),
    "no_storage": _stream_attack("list of storages is wrong", lambda canary: 1),
    "not_a_storage_id": _stream_attack(
        "not a torch storage", lambda canary: Persistent(("module", 1, 2, 3, 4))
    ),
    "storage_view": _stream_attack(
        "a view of another", lambda canary: Persistent((*_id_parts(), ("1", 0, 2)))
    ),
    "gigantic_storage": _stream_attack(
        "a storage passes the end", lambda canary: files.storage_id(_ARRAY, length=1 << 40)
    ),
    "negative_storage": _stream_attack(
        "not a short tuple of sizes", lambda canary: files.storage_id(_ARRAY, length=-1)
    ),
    "storage_count_differs": Attack(
        lambda canary: _weight(_storage(_count_changed())), "declares 6 values and holds"
    ),
    "storage_cut": Attack(lambda canary: _weight(_storage(_cut_stream(-1))), "passes the end"),
    "storage_padded": Attack(
        lambda canary: _weight(_storage(_cut_stream(3))), "3 bytes follow the last storage"
    ),
    # Lying tensors ------------------------------------------------------------------------------
    "gigantic_shape": _window_attack("does not fit", size=(1 << 20, 1 << 20), stride=(0, 0)),
    "gigantic_side": _window_attack("not a short tuple", size=(1 << 62,), stride=(1,)),
    "many_axes": _window_attack("not a short tuple", size=(1,) * 40, stride=(0,) * 40),
    "storage_smaller_than_window": _window_attack("does not fit", size=(7,), stride=(1,)),
    "window_leaves_storage_by_stride": _window_attack("does not fit", size=(2, 3), stride=(4, 1)),
    "window_leaves_storage_by_offset": _window_attack("does not fit", offset=1),
    "negative_stride": _window_attack("not a short tuple", stride=(-1,), offset=5),
    "negative_offset": _window_attack("not a short tuple", offset=-1),
    "negative_size": _window_attack("not a short tuple", size=(-6,)),
    "size_of_truth_values": _window_attack("not a short tuple", size=(True,)),
    "size_of_floats": _window_attack("not a short tuple", size=(6.0,)),
    "sides_without_strides": _window_attack("2 sides and 1 strides", size=(2, 3), stride=(1,)),
    "no_storage_in_tensor": _window_attack("has no storage", storage={}),
    "parameter_of_text": Attack(
        lambda canary: files.snapshot(G=_module(parameters={"w": "text"})), "holds no tensor"
    ),
    # Numpy --------------------------------------------------------------------------------------
    "object_dtype": Attack(
        lambda canary: _holding(_scalar(_dtype(code="O8"))), "dtype 'O8' is not"
    ),
    "void_dtype": Attack(lambda canary: _holding(_scalar(_dtype(code="V8"))), "dtype 'V8' is not"),
    "structured_dtype": Attack(
        lambda canary: _holding(
            _scalar(_dtype((3, "<", None, ("a",), {"a": (_dtype(), 0)}, 8, 1, 0)))
        ),
        "has fields",
    ),
    "dtype_with_an_unknown_order": Attack(
        lambda canary: _holding(_scalar(_dtype((3, "?", None, None, None, -1, -1, 0)))),
        "unknown byte order",
    ),
    "dtype_by_expression": Attack(
        lambda canary: _holding(_scalar(_dtype(code="f8,(2,3)f4"))), "not a plain number type"
    ),
    "scalar_of_two": Attack(
        lambda canary: _holding(_scalar(_dtype(), bytes(16))), "holds 2 values"
    ),
    "scalar_without_dtype": Attack(lambda canary: _holding(_scalar("f8")), "has no dtype"),
    "ndarray_subclass": Attack(
        lambda canary: _holding(
            Call(
                Name("numpy._core.multiarray", "_reconstruct"), (Name("torch", "Size"), (0,), b"b")
            )
        ),
        "other than an ndarray",
    ),
    # Exhaustion ---------------------------------------------------------------------------------
    "deep_lists": Attack(lambda canary: _holding(_deep_lists(3000)), "nested more than"),
    "deep_tuples": Attack(lambda canary: _holding(_deep_tuples(3000)), "nested more than"),
    "deep_key": _opcode_attack("used as a key", b"})" + b"\x85" * 3000 + b"Ns"),
    "deep_stack": _opcode_attack("stack is too deep", b"N" * 110_000),
    "deep_marks": _opcode_attack("stack is too deep", b"(" * 200),
    "list_in_itself": _opcode_attack("contains itself", b"]q\0h\0a"),
    "module_in_itself": _opcode_attack(
        "contains itself", b"ctraining.triplane\nOSGDecoder\n)\x81q\0}X\1\0\0\0xh\0sb"
    ),
    "modules_shared_exponentially": Attack(lambda canary: _laughs(), "modules; refused"),
    "long_integer": _opcode_attack("integer of 255 bytes", b"\x8a\xff" + bytes(255)),
    "long4": _opcode_attack("opcode 0x8b", b"\x8b\xff\xff\xff\x7f"),
    "gigantic_text": _opcode_attack("text of", b"\x8d" + struct.pack("<Q", 1 << 62)),
    "gigantic_bytes": _opcode_attack("bytes are declared", b"\x8e" + struct.pack("<Q", 1 << 62)),
    "gigantic_frame": _opcode_attack("frame of", b"\x95" + struct.pack("<Q", 1 << 62)),
    "text_that_is_no_utf8": _opcode_attack("not valid UTF-8", b"X\2\0\0\0\xff\xfe"),
    "endless_name": _opcode_attack("name is too long", b"c" + b"a" * 10_000),
    "unhashable_key": _opcode_attack("used as a key", b"}]Ns"),
    "float_key": _opcode_attack("used as a key", b"}G" + bytes(8) + b"Ns"),
    "gigantic_key": _opcode_attack("used as a key", b"}\x8a\x09" + b"\xff" * 8 + b"\0Ns"),
    "unknown_memo": _opcode_attack("never stored", b"j\xff\xff\xff\xff"),
    "pop_of_nothing": Attack(lambda canary: b"\x80\x04s.", "finds no value"),
    "mark_of_nothing": Attack(lambda canary: b"\x80\x04t.", "finds no mark"),
    "tuple_of_nothing": Attack(lambda canary: b"\x80\x04\x87.", "too few values"),
    "odd_items": _opcode_attack("without a value", b"}(Nu"),
    "append_to_text": _opcode_attack("where a list should be", b"X\1\0\0\0xNa"),
    "values_left_over": Attack(lambda canary: b"\x80\x04NN.", "left over"),
    # Other files --------------------------------------------------------------------------------
    "empty": Attack(lambda canary: b"", "is empty"),
    "protocol_0": Attack(lambda canary: b"I1\n.", "not a pickle of protocol 2"),
    "protocol_9": Attack(lambda canary: b"\x80\x09N.", "protocol 9 is not supported"),
    "image": Attack(lambda canary: b"\x89PNG\r\n\x1a\n", "not a pickle"),
    "list_at_the_top": Attack(lambda canary: files.dumps([1]), "holds no network with its options"),
    "second_pickle": Attack(
        lambda canary: files.snapshot() + files.dumps(_system(canary)), "data follows the pickle"
    ),
}


def _id_parts():
    return files.storage_id(_ARRAY).value[:5]


def _archive_with(**changes):
    """A sound archive whose entries are replaced or added to."""
    weight = files.tensor(_ARRAY, storage=files.storage_id(_ARRAY))
    entries = {
        "archive/data.pkl": files.dumps({"w": weight}, protocol=2),
        "archive/data/0": _ARRAY.tobytes(),
    }
    entries.update(changes)
    return files.zipped({name: data for name, data in entries.items() if data is not None})


def _patched(old, new, data):
    assert old in data
    return data.replace(old, new)


def _bomb(canary):
    entries = {"archive/data.pkl": files.dumps({}), "archive/data/0": bytes(1 << 24)}
    return files.zipped(entries, compression=zipfile.ZIP_DEFLATED)


def _twice(canary):
    data = _archive_with(**{"archive/data/1": b"x" * 24})
    return _patched(b"archive/data/1", b"archive/data/0", data)


CHECKPOINTS = {
    "zip_path_traversal": Attack(
        lambda canary: _archive_with(**{"archive/../../evil": b"x"}), "not a plain path"
    ),
    "zip_absolute_path": Attack(lambda canary: _archive_with(**{"/etc/evil": b"x"}), "not a plain"),
    "zip_backslash": Attack(
        lambda canary: _archive_with(**{"archive/..\\evil": b"x"}), "not a plain path"
    ),
    "zip_top_level_entry": Attack(lambda canary: _archive_with(evil=b"x"), "not a plain path"),
    "zip_two_folders": Attack(
        lambda canary: _archive_with(**{"other/data.pkl": b"x"}), "no single folder"
    ),
    "zip_bomb": Attack(_bomb, "is compressed"),
    "zip_entry_twice": Attack(_twice, "is there twice"),
    "zip_payload": Attack(
        lambda canary: files.archive({"w": _system(canary)}, {}), "'os.system' is not on"
    ),
    "zip_torchscript": Attack(
        lambda canary: _archive_with(**{"archive/constants.pkl": b"x"}), "TorchScript"
    ),
    "zip_storage_missing": Attack(
        lambda canary: _archive_with(**{"archive/data/0": None}), "storage '0' is not in"
    ),
    "zip_storage_short": Attack(
        lambda canary: _archive_with(**{"archive/data/0": b"1234"}), "comes with 4 bytes"
    ),
    "zip_storage_of_another_folder": Attack(
        lambda canary: files.archive(
            {"w": files.tensor(_ARRAY, storage=files.storage_id(_ARRAY, "../data.pkl"))}, {}
        ),
        "is not in the archive",
    ),
    "zip_checksum": Attack(
        lambda canary: _patched(_ARRAY.tobytes(), bytes(24), _archive_with()), "wrong checksum"
    ),
    "zip_declared_larger": Attack(
        lambda canary: _patched(
            struct.pack("<III", zlib.crc32(_ARRAY.tobytes()), 24, 24),
            struct.pack("<III", zlib.crc32(_ARRAY.tobytes()), 1 << 30, 1 << 30),
            _archive_with(),
        ),
        "outside the file",
    ),
    "zip_big_endian": Attack(
        lambda canary: _archive_with(**{"archive/byteorder": b"big"}), "only little-endian"
    ),
    "zip_without_directory": Attack(lambda canary: _archive_with()[:-30], "zip directory"),
    "zip_data_after_pickle": Attack(
        lambda canary: _archive_with(**{"archive/data.pkl": files.dumps({}) + b"x"}),
        "data follows the archive's pickle",
    ),
    "legacy_payload": Attack(
        lambda canary: files.stream({"w": _system(canary)}, {}), "'os.system' is not on"
    ),
    "legacy_storage_declared_twice": Attack(
        lambda canary: files.stream(
            [files.storage_id(_ARRAY), files.storage_id(_ARRAY, length=3)], {"0": _ARRAY}
        ),
        "declared twice",
    ),
    "truth_values_beyond_one": Attack(
        lambda canary: _patched(b"\1\0\1\1", b"\1\0\7\1", files.stream(*_truth())),
        "other than 0 and 1",
    ),
    "one_storage_many_times": Attack(
        lambda canary: files.stream(
            [files.tensor(_ARRAY.repeat(999), storage=files.storage_id(_ARRAY.repeat(999)))] * 99,
            {"0": _ARRAY.repeat(999)},
        ),
        "larger than the file",
    ),
}


def _truth():
    array = np.array([True, False, True, True])
    return {"x": files.tensor(array, storage=files.storage_id(array))}, {"0": array}
