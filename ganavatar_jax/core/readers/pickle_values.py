"""What a restricted pickle may consist of: inert globals, nodes that take state, limits.

`safe_pickle` builds these; readers of a particular kind of file supply the rules and their own
`Node` subclasses.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ganavatar_jax.core import errors

_MAX_KEY_INT = 1 << 63  # integers below hash to (almost) distinct values


class Node:
    """An object of the pickle that may receive state; subclasses say what the state must be."""

    def set_state(self, state: Any) -> None:
        """Refuses state; subclasses that accept it override this.

        Args:
          state: What the pickle wants to store in the object.

        Raises:
          WeightError: This kind of object takes no state.
        """
        raise errors.WeightError(f"state of type {type(state).__name__} is not expected here")

    def children(self) -> tuple[Any, ...]:
        """Lists the values inside, for the nesting check.

        Returns:
          The values; empty for a leaf.
        """
        return ()

    def to_plain(self) -> Any:
        """Returns the object as plain data, usually an array.

        Returns:
          Plain data that owns its memory.

        Raises:
          WeightError: It cannot be shown as plain data.
        """
        raise errors.WeightError(f"holds a {type(self).__name__} where plain data should be")

    @property
    def nbytes(self) -> int:
        """Memory that `to_plain` takes."""
        return 0


@dataclasses.dataclass(frozen=True)
class Rule:
    """What an allowed global may be used for; `None` means that this use is refused."""

    call: Callable[..., Any] | None = None  # REDUCE: global(*args)
    new: Callable[..., Any] | None = None  # NEWOBJ: cls.__new__(cls, *args)


@dataclasses.dataclass(frozen=True)
class Global:
    """A named global of the pickle, inert: the name and the rule, never the real object."""

    module: str
    name: str
    rule: Rule

    @property
    def full_name(self) -> str:
        """The dotted name as written in the file."""
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(frozen=True)
class Limits:
    """Upper bounds that no honest file comes near."""

    opcodes: int = 2_000_000  # a full EG3D snapshot has about 41,000
    depth: int = 96  # nested containers; EG3D needs about 30
    stack: int = 100_000


class MapNode(dict[Any, Any], Node):
    """Base of nodes that are dicts and may also receive state."""

    def children(self) -> tuple[Any, ...]:
        """Lists the dict's values.

        Returns:
          The values.
        """
        return tuple(self.values())


class OrderedMap(MapNode):
    """Stands for collections.OrderedDict; extra state (torch's `_metadata`) is dropped."""

    def set_state(self, state: Any) -> None:
        """Ignores the attributes that torch hangs on a state dict.

        Args:
          state: A dict of attributes.

        Raises:
          WeightError: The state is not a dict.

        Source: torch.nn.Module.state_dict documentation (`_metadata`).
        """
        if not isinstance(state, dict):
            super().set_state(state)


Lookup = Callable[[str, str], Rule | None]


def table_lookup(table: Mapping[tuple[str, str], Rule]) -> Lookup:
    """Makes a lookup that allows exactly the globals of a table.

    Args:
      table: Rules by (module, name).

    Returns:
      A function from (module, name) to the rule or None.
    """
    return lambda module, name: table.get((module, name))


def checked_key(key: Any) -> Any:
    """Passes dict keys and set members that hash quickly and without recursion.

    Args:
      key: Anything.

    Returns:
      The same key.

    Raises:
      WeightError: It is neither text nor an integer below 2**63.
    """
    if type(key) is str or (isinstance(key, int) and -_MAX_KEY_INT <= key < _MAX_KEY_INT):
        return key
    raise errors.WeightError(f"a {type(key).__name__} is used as a key; only text and integers are")


def check_nesting(value: Any, depth: int) -> None:
    """Refuses values that are nested too deeply or contain themselves.

    Args:
      value: Result of the machine.
      depth: Allowed number of containers inside each other.

    Raises:
      WeightError: The value is too deep or cyclic.

    Source: ours; iterative depth-first search, each container visited once.
    """
    heights: dict[int, int] = {}  # finished containers: containers on the longest way down
    on_path: set[int] = set()
    pending: list[tuple[Any, tuple[Any, ...] | None]] = [(value, None)]
    while pending:
        item, parts = pending.pop()
        if parts is not None:  # all parts are done
            on_path.discard(id(item))
            heights[id(item)] = 1 + max(heights.get(id(part), 0) for part in parts)
            if heights[id(item)] > depth:
                raise errors.WeightError(f"containers are nested more than {depth} deep; refused")
        elif id(item) not in heights:
            parts = _PARTS.get(type(item), _parts_of_node)(item)
            if id(item) in on_path:
                raise errors.WeightError("an object contains itself; refused")
            if parts:
                on_path.add(id(item))
                pending.append((item, parts))
                pending.extend((part, None) for part in parts)


def _parts_of_node(item: Any) -> tuple[Any, ...]:
    return item.children() if isinstance(item, Node) else ()


_PARTS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    dict: lambda item: tuple(item.values()),  # keys are text and integers
    list: tuple,
    tuple: tuple,
    **dict.fromkeys((bool, int, float, str, bytes, type(None), set), lambda item: ()),
}


def printable(value: Any) -> str:
    """Formats text from a file so that it stays short and on one line.

    Args:
      value: Anything; strings come from the file.

    Returns:
      ASCII text of at most 80 characters.
    """
    text = ascii(value) if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


def to_plain(value: Any, *, budget: int) -> Any:
    """Turns a result of the machine into plain containers, numbers, text and arrays.

    Args:
      value: The result, or a part of it.
      budget: Bytes that the arrays may take together; views that share data are copied.

    Returns:
      The plain value; containers that were shared stay shared, so the work is linear.

    Raises:
      WeightError: A part has no plain form, or the arrays exceed the budget.
    """
    return _Converter(budget).convert(value)


class _Converter:
    """Recursion of `to_plain`; its depth is bounded because `check_nesting` came before."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._done: dict[int, Any] = {}

    def convert(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = self._fresh(value)
        return self._done[id(value)]

    def _fresh(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.convert(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.convert(part) for part in value]
        if isinstance(value, tuple):
            return tuple(self.convert(part) for part in value)
        if isinstance(value, Global):
            return value.full_name
        return self._spend(value)

    def _spend(self, value: Any) -> Any:
        self._budget -= value.nbytes if isinstance(value, Node | memoryview) else 0
        if self._budget < 0:
            raise errors.WeightError("its arrays are larger than the file that holds them; refused")
        if isinstance(value, Node):
            return value.to_plain()
        return bytes(value) if isinstance(value, memoryview) else set(value)
