"""Keys, defaults and meanings of config dataclasses."""

import dataclasses
from typing import Literal

import pytest

from ganavatar_jax.core import config, config_schema, errors


@dataclasses.dataclass(frozen=True)
class Inner:
    """How it turns.

    Attributes:
      speed: Turns a second; 0
        stands still.
      left, right: Which sides.
    """

    speed: float = 1
    left: bool = True
    right: bool = False


@dataclasses.dataclass(frozen=True)
class Outer:
    """All of it.

    Attributes:
      name: What it is called.
      limit: Most of it, or None.
      start: Where it begins, or "auto".
      turns: How it turns.

    Raises:
      nothing: At all.
    """

    name: str
    limit: float | None = 3.0
    seed: int | None = None
    start: float | Literal["auto"] = "auto"
    kind: Literal["a", "b"] | None = None
    turns: Inner = Inner(speed=2.0)
    sides: tuple[int, ...] = (1,)


def test_every_key_stands_with_its_default_and_its_meaning():
    found = {key.path: (key.default, key.meaning) for key in config_schema.keys(Outer)}
    assert found == {
        "name": (config_schema.NOT_SET, "What it is called."),
        "limit": (3.0, "Most of it, or None."),
        "seed": (None, ""),
        "start": ("auto", 'Where it begins, or "auto".'),
        "kind": (None, ""),
        "turns": (Inner(speed=2.0), "How it turns."),
        "turns.speed": (2.0, "Turns a second; 0 stands still."),
        "turns.left": (True, "Which sides."),
        "turns.right": (False, "Which sides."),
        "sides": ((1,), ""),
    }


def test_defaults_resolve_to_what_the_dataclass_is_without_arguments():
    values = config_schema.defaults(Outer)
    with pytest.raises(errors.ConfigError, match="config.name: expected str; got None"):
        config.resolve(Outer, values)
    values.name = "x"
    assert config.resolve(Outer, values) == Outer("x")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("name", "x", 1), ("limit", None, "x"), ("seed", 3, 1.5), ("kind", "a", 1), ("sides", (), 2)],
)
def test_keys_keep_the_type_they_are_meant_for(name, good, bad):
    values = config_schema.defaults(Outer)
    values[name] = good
    assert values[name] == good
    with pytest.raises(TypeError):
        values[name] = bad


def test_a_number_or_a_word_may_change_into_each_other():
    values = config_schema.defaults(Outer)
    values.name = "x"
    for good in (2, "auto", 2.5):
        values.start = good
        assert config.resolve(Outer, values).start == good
    values.start = "soon"
    with pytest.raises(errors.ConfigError, match="expected float or 'auto'; got 'soon'"):
        config.resolve(Outer, values)


def test_defaults_are_made_anew_each_time():
    first, second = config_schema.defaults(Outer), config_schema.defaults(Outer)
    first.turns.speed = 7.0
    assert second.turns.speed == 2.0
