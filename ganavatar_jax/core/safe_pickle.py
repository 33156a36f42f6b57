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

from ganavatar_jax.core import errors, pickle_values

_MAX_INT_BYTES = 16  # torch's stream magic, the largest integer in any weight file, has 10
_MAX_TEXT_BYTES = 1 << 24  # one embedded source text is about 100 kB


def load(
    buffer: memoryview,
    start: int = 0,
    *,
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
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(self._limits.opcodes):
            self.opcode_at = self.position
            opcode = self._take(1)[0]
            if opcode == _STOP:
                value = self._pop()
                if self._stack or self._marks:
                    raise errors.WeightError("values are left over at the end; damaged pickle")
                return value
            handler = _HANDLERS.get(opcode)
            if handler is None:
                raise errors.WeightError(f"opcode 0x{opcode:02x} is not allowed in a weight file")
            handler(self)
            if len(self._stack) > self._limits.stack or len(self._marks) > self._limits.depth:
                raise errors.WeightError("the pickle's stack is too deep; refused")
        raise errors.WeightError(f"more than {self._limits.opcodes} opcodes; refused")

    # Reading ------------------------------------------------------------------------------------

    def _take(self, count: int) -> memoryview:
        left = len(self._buffer) - self.position
        if count > left:
            raise errors.WeightError(f"{count} bytes are declared but {left} are left; truncated")
        self.position += count
        return self._buffer[self.position - count : self.position]

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _text(self, length: int) -> str:
        if length > _MAX_TEXT_BYTES:
            raise errors.WeightError(f"a text of {length} bytes is too long; refused")
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise errors.WeightError("a text is not valid UTF-8; damaged pickle") from error

    def _line(self) -> str:
        for length in range(256):
            if self._take(1)[0] == 0x0A:
                self.position -= length + 1
                return self._text(length + 1)[:-1]
        raise errors.WeightError("a global's name is longer than 255 bytes; refused")

    # Stack --------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack:
            raise errors.WeightError("an opcode finds no value to work on; damaged pickle")
        return self._stack.pop()

    def _pop_mark(self) -> list[Any]:
        if not self._marks:
            raise errors.WeightError("an opcode finds no mark to go back to; damaged pickle")
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) not in _CONTAINERS[kind]:
            got = type(self._stack[-1]).__name__ if self._stack else "nothing"
            raise errors.WeightError(f"items are added to {got} instead of a {kind.__name__}")
        return self._stack[-1]

    # Opcodes ------------------------------------------------------------------------------------

    def proto(self) -> None:
        version = self._number("<B")
        if not 2 <= version <= 5:
            raise errors.WeightError(f"pickle protocol {version} is not supported, use 2 to 5")

    def frame(self) -> None:
        length = self._number("<Q")
        if length > len(self._buffer) - self.position:
            raise errors.WeightError(f"a frame of {length} bytes passes the end; truncated")

    def mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def number(self, layout: str) -> None:
        self.push(self._number(layout))

    def long1(self) -> None:
        length = self._number("<B")
        if length > _MAX_INT_BYTES:
            raise errors.WeightError(f"an integer of {length} bytes is too long; refused")
        self.push(int.from_bytes(self._take(length), "little", signed=True))

    def text(self, layout: str) -> None:
        self.push(self._text(self._number(layout)))

    def data(self, layout: str) -> None:
        self.push(self._take(self._number(layout)))

    def make_tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def mark_tuple(self) -> None:
        self.push(tuple(self._pop_mark()))

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

    def memoize(self) -> None:
        self._put(len(self._memo))

    def put(self, layout: str) -> None:
        self._put(self._number(layout))

    def _put(self, index: int) -> None:
        if not self._stack:
            raise errors.WeightError("an opcode finds no value to remember; damaged pickle")
        self._memo[index] = self._stack[-1]

    def get(self, layout: str) -> None:
        index = self._number(layout)
        if index not in self._memo:
            raise errors.WeightError(f"memo entry {index} was never stored; damaged pickle")
        self.push(self._memo[index])

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
        self.push(pickle_values.Global(module, name, rule))

    def reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        self._invoke(function, arguments, "call")

    def newobj(self) -> None:
        arguments, cls = self._pop(), self._pop()
        self._invoke(cls, arguments, "new")

    def _invoke(self, function: Any, arguments: Any, use: str) -> None:
        if type(function) is not pickle_values.Global or type(arguments) is not tuple:
            raise errors.WeightError(
                f"{pickle_values.printable(function)} is called; only globals may be"
            )
        action = getattr(function.rule, use)
        if action is None:
            raise errors.WeightError(f"global {function.full_name} may not be called; refused")
        try:
            self.push(action(*arguments))
        except (TypeError, ValueError, OverflowError) as error:
            shown = pickle_values.printable(str(error))
            raise errors.WeightError(
                f"global {function.full_name} gets unsuitable arguments: {shown}"
            ) from error

    def build(self) -> None:
        state = self._pop()
        if not self._stack or not isinstance(self._stack[-1], pickle_values.Node):
            got = type(self._stack[-1]).__name__ if self._stack else "nothing"
            raise errors.WeightError(f"state is set on {got}, which takes none; refused")
        self._stack[-1].set_state(state)

    def persistent_id(self) -> None:
        if self._persistent is None:
            raise errors.WeightError("a persistent id is not expected here; refused")
        self.push(self._persistent(self._pop()))


_CONTAINERS: dict[type, tuple[type, ...]] = {
    list: (list,),
    set: (set,),
    dict: (dict, pickle_values.OrderedMap),
}
_STOP = ord(".")
_HANDLERS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.proto,
    0x95: _Machine.frame,
    ord("("): _Machine.mark,
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.number("<i"),
    ord("K"): lambda m: m.number("<B"),
    ord("M"): lambda m: m.number("<H"),
    0x8A: _Machine.long1,
    ord("G"): lambda m: m.number(">d"),
    0x8C: lambda m: m.text("<B"),
    ord("X"): lambda m: m.text("<I"),
    0x8D: lambda m: m.text("<Q"),
    ord("C"): lambda m: m.data("<B"),
    ord("B"): lambda m: m.data("<I"),
    0x8E: lambda m: m.data("<Q"),
    ord(")"): lambda m: m.push(()),
    0x85: lambda m: m.make_tuple(1),
    0x86: lambda m: m.make_tuple(2),
    0x87: lambda m: m.make_tuple(3),
    ord("t"): _Machine.mark_tuple,
    ord("]"): lambda m: m.push([]),
    ord("a"): _Machine.append,
    ord("e"): _Machine.appends,
    ord("}"): lambda m: m.push({}),
    ord("s"): _Machine.setitem,
    ord("u"): _Machine.setitems,
    0x8F: lambda m: m.push(set()),
    0x90: _Machine.additems,
    0x94: _Machine.memoize,
    ord("q"): lambda m: m.put("<B"),
    ord("r"): lambda m: m.put("<I"),
    ord("h"): lambda m: m.get("<B"),
    ord("j"): lambda m: m.get("<I"),
    ord("c"): _Machine.global_,
    0x93: _Machine.stack_global,
    ord("R"): _Machine.reduce,
    0x81: _Machine.newobj,
    ord("b"): _Machine.build,
    ord("Q"): _Machine.persistent_id,
}
