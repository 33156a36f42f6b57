"""A pickle machine that builds data and never runs code.

Weight files are pickles, and the stock unpickler imports and calls whatever a pickle names. This
machine interprets the opcodes itself. A global is looked up in a table of rules and becomes an
inert `Global`; a call goes to that rule's Python function or fails; object state is handed only to
our own `Node` classes. Nothing is imported, no attribute is fetched by a name from the file, and
sizes are checked against the bytes at hand before anything is allocated. Byte strings come out as
read-only views of the input, so a memory-mapped file is not copied.

Left out on purpose, because weight files do not need them: the text opcodes of protocols 0 and 1,
the extension registry, out-of-band buffers, instances by `INST`/`OBJ`, recursive objects.
"""

import struct
from collections.abc import Callable
from typing import Any

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import pickle_values

_PROTO = b"\x80"  # first opcode of every pickle since protocol 2
_MAX_NAME_BYTES = 255
_MAX_INT_BYTES = 16  # torch's stream magic, the largest integer in any weight file, has 10
_MAX_TEXT_BYTES = 1 << 24  # one embedded source text is about 100 kB


def load(
    buffer: memoryview,
    *,
    start: int = 0,
    label: str,
    lookup: pickle_values.Lookup,
    persistent: Callable[[Any], Any] | None = None,
    limits: pickle_values.Limits = pickle_values.Limits(),  # noqa: B008  (frozen)
) -> tuple[Any, int]:
    """Reads one pickle and returns its value and the offset just behind it.

    Args:
      buffer: Bytes that hold the pickle.
      start: Offset of its first byte.
      label: Name of the file (and part), used in messages.
      lookup: Says which globals are allowed.
      persistent: Resolves persistent ids; None refuses them.
      limits: Bounds on work and nesting.

    Returns:
      value: Python scalars, str, read-only memoryviews for bytes, containers, Nodes, Globals.
      end: Offset of the first byte after the pickle.

    Raises:
      WeightError: The data is damaged, too large, or asks for anything that is not allowed.

    Source: ours; opcodes as documented in the standard library's pickletools.
    """
    machine = _Machine(buffer, start, lookup=lookup, persistent=persistent, limits=limits)
    try:
        value = machine.run()
        pickle_values.check_nesting(value, limits.depth)
    except errors.WeightError as error:
        raise errors.WeightError(f"{label}: {error} (byte {machine.opcode_at})") from error
    return value, machine.position


class _Machine:
    """Stack machine for one pickle; every opcode handler is one small method."""

    def __init__(
        self,
        buffer: memoryview,
        start: int,
        *,
        lookup: pickle_values.Lookup,
        persistent: Callable[[Any], Any] | None,
        limits: pickle_values.Limits,
    ) -> None:
        self._buffer = buffer.toreadonly().cast("B")
        self.position = start
        self.opcode_at = start
        self._lookup = lookup
        self._persistent = persistent
        self._limits = limits
        self.stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        buffer, limits = self._buffer, self._limits
        if buffer[self.position : self.position + 1] != _PROTO:
            raise errors.WeightError("not a pickle of protocol 2 or newer; is this a weight file?")
        for _ in range(limits.opcodes):
            self.opcode_at = self.position
            if self.position >= len(buffer):
                raise errors.WeightError("the pickle has no end; truncated")
            opcode = buffer[self.position]
            self.position += 1
            if opcode == _STOP:
                return self._finish()
            if opcode not in _OPCODES:
                raise errors.WeightError(f"opcode 0x{opcode:02x} is not allowed in a weight file")
            operand, handler = _OPCODES[opcode]
            if operand is None:
                handler(self)
            elif self.position + operand.size > len(buffer):
                raise errors.WeightError("an opcode passes the end of the file; truncated")
            else:
                (number,) = operand.unpack_from(buffer, self.position)
                self.position += operand.size
                handler(self, number)
            if len(self.stack) > limits.stack or len(self._marks) > limits.depth:
                raise errors.WeightError("the pickle's stack is too deep; refused")
        raise errors.WeightError(f"more than {limits.opcodes} opcodes; refused")

    def _finish(self) -> Any:
        value = self._pop()
        if self.stack or self._marks:
            raise errors.WeightError("values are left over at the end; damaged pickle")
        return value

    def _take(self, count: int) -> memoryview:
        left = len(self._buffer) - self.position
        if count > left:
            raise errors.WeightError(f"{count} bytes are declared but {left} are left; truncated")
        self.position += count
        return self._buffer[self.position - count : self.position]

    def _line(self) -> str:
        start = self.position
        while self._take(1) != b"\n":
            if self.position - start > _MAX_NAME_BYTES:
                raise errors.WeightError("a global's name is too long; refused")
        return _decode(self._buffer[start : self.position - 1])

    def _pop(self) -> Any:
        if not self.stack:
            raise errors.WeightError("an opcode finds no value to work on; damaged pickle")
        return self.stack.pop()

    def _pop_mark(self) -> list[Any]:
        if not self._marks:
            raise errors.WeightError("an opcode finds no mark to go back to; damaged pickle")
        items, self.stack = self.stack, self._marks.pop()
        return items

    def _top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            got = type(self.stack[-1]).__name__ if self.stack else "nothing"
            raise errors.WeightError(f"a {got} is where a {kind.__name__} should be; refused")
        return self.stack[-1]

    # Opcodes, one method each ---------------------------------------------------------------------

    def proto(self, version: int) -> None:
        if not 2 <= version <= 5:
            raise errors.WeightError(f"pickle protocol {version} is not supported, use 2 to 5")

    def frame(self, length: int) -> None:
        if length > len(self._buffer) - self.position:
            raise errors.WeightError(f"a frame of {length} bytes passes the end; truncated")

    def mark(self) -> None:
        self._marks.append(self.stack)
        self.stack = []

    def push(self, number: int | float) -> None:
        self.stack.append(number)

    def integer(self, length: int) -> None:
        if length > _MAX_INT_BYTES:
            raise errors.WeightError(f"an integer of {length} bytes is too long; refused")
        self.stack.append(int.from_bytes(self._take(length), "little", signed=True))

    def text(self, length: int) -> None:
        if length > _MAX_TEXT_BYTES:
            raise errors.WeightError(f"a text of {length} bytes is too long; refused")
        self.stack.append(_decode(self._take(length)))

    def data(self, length: int) -> None:
        self.stack.append(self._take(length))

    def make_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise errors.WeightError("a tuple has too few values; damaged pickle")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def mark_tuple(self) -> None:
        items = self._pop_mark()  # changes which list the stack is
        self.stack.append(tuple(items))

    def append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def appends(self) -> None:
        items = self._pop_mark()
        self._top(list).extend(items)

    def setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self._top(dict)[pickle_values.checked_key(key)] = value

    def setitems(self) -> None:
        items = self._pop_mark()
        if len(items) % 2:
            raise errors.WeightError("a dict has a key without a value; damaged pickle")
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[pickle_values.checked_key(key)] = value

    def additems(self) -> None:
        items = self._pop_mark()
        self._top(set).update(map(pickle_values.checked_key, items))

    def put(self, index: int | None = None) -> None:
        self.memo[len(self.memo) if index is None else index] = self._top(object)

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise errors.WeightError(f"memo entry {index} was never stored; damaged pickle")
        self.stack.append(self.memo[index])

    def global_(self) -> None:
        module = self._line()
        self._push_global(module, self._line())

    def stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._push_global(module, name)

    def _push_global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise errors.WeightError("a global's name is not text; damaged pickle")
        rule = self._lookup(module, name)
        if rule is None:
            shown = pickle_values.printable(f"{module}.{name}")
            raise errors.WeightError(f"global {shown} is not on the allow-list; refused")
        self.stack.append(pickle_values.Global(module, name, rule))

    def reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        self._invoke(function, arguments, "call")

    def newobj(self) -> None:
        arguments, cls = self._pop(), self._pop()
        self._invoke(cls, arguments, "new")

    def _invoke(self, function: Any, arguments: Any, use: str) -> None:
        """Calls what the allow-list says for a global; nothing else is ever called."""
        if type(function) is not pickle_values.Global or type(arguments) is not tuple:
            raise errors.WeightError(
                f"{pickle_values.printable(function)} is called; only globals may be"
            )
        action = getattr(function.rule, use)
        if action is None:
            raise errors.WeightError(f"global {function.full_name} may not be called; refused")
        try:
            self.stack.append(action(*arguments))
        except (TypeError, ValueError, OverflowError) as error:
            shown = pickle_values.printable(str(error))
            raise errors.WeightError(
                f"global {function.full_name} gets unsuitable arguments: {shown}"
            ) from error

    def build(self) -> None:
        state = self._pop()
        self._top(pickle_values.Node).set_state(state)

    def persistent_id(self) -> None:
        if self._persistent is None:
            raise errors.WeightError("a persistent id is not expected here; refused")
        self.stack.append(self._persistent(self._pop()))


def _decode(data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise errors.WeightError("a text is not valid UTF-8; damaged pickle") from error


_STOP = ord(".")
_U1, _U2, _U4, _U8 = (struct.Struct(layout) for layout in ("<B", "<H", "<I", "<Q"))
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")


# The operand read from the file, if any, and what to do with it.
_OPCODES: dict[int, tuple[struct.Struct | None, Callable[..., None]]] = {
    0x80: (_U1, _Machine.proto),
    0x95: (_U8, _Machine.frame),
    ord("("): (None, _Machine.mark),
    ord("N"): (None, lambda machine: machine.stack.append(None)),
    0x88: (None, lambda machine: machine.stack.append(True)),
    0x89: (None, lambda machine: machine.stack.append(False)),
    ord("K"): (_U1, _Machine.push),
    ord("M"): (_U2, _Machine.push),
    ord("J"): (_I4, _Machine.push),
    ord("G"): (_F8, _Machine.push),
    0x8A: (_U1, _Machine.integer),
    0x8C: (_U1, _Machine.text),
    ord("X"): (_U4, _Machine.text),
    0x8D: (_U8, _Machine.text),
    ord("C"): (_U1, _Machine.data),
    ord("B"): (_U4, _Machine.data),
    0x8E: (_U8, _Machine.data),
    ord(")"): (None, lambda machine: machine.stack.append(())),
    0x85: (None, lambda machine: machine.make_tuple(1)),
    0x86: (None, lambda machine: machine.make_tuple(2)),
    0x87: (None, lambda machine: machine.make_tuple(3)),
    ord("t"): (None, _Machine.mark_tuple),
    ord("]"): (None, lambda machine: machine.stack.append([])),
    ord("a"): (None, _Machine.append),
    ord("e"): (None, _Machine.appends),
    ord("}"): (None, lambda machine: machine.stack.append({})),
    ord("s"): (None, _Machine.setitem),
    ord("u"): (None, _Machine.setitems),
    0x8F: (None, lambda machine: machine.stack.append(set())),
    0x90: (None, _Machine.additems),
    0x94: (None, _Machine.put),
    ord("q"): (_U1, _Machine.put),
    ord("r"): (_U4, _Machine.put),
    ord("h"): (_U1, _Machine.get),
    ord("j"): (_U4, _Machine.get),
    ord("c"): (None, _Machine.global_),
    0x93: (None, _Machine.stack_global),
    ord("R"): (None, _Machine.reduce),
    0x81: (None, _Machine.newobj),
    ord("b"): (None, _Machine.build),
    ord("Q"): (None, _Machine.persistent_id),
}
