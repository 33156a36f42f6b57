"""What a stage was made from and what it made: a stage is complete only for that.

An identity is noted in the stage's marker. Compared with what lies in the folder now, it tells
whether the stage's results still stand, and if not, what has changed.
"""

import dataclasses
import fnmatch
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ganavatar_jax.core import trees

_LISTED = 3  # differing options shown, so that the message stays one line


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a stage was made from, and what it made.

    Attributes:
      consumed: Name of a thing -> what is equal for equal things; None where it cannot be told.
      options: Dotted key of the config -> value, of those that matter.
      made: Like `consumed`, of the results.
    """

    consumed: Mapping[str, str | None]
    options: Mapping[str, Any]
    made: Mapping[str, str | None]

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values; `from_json` reads them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def from_json(content: Any) -> Identity | None:
    """Reads what `Identity.to_json` wrote.

    Args:
      content: JSON values.

    Returns:
      The identity; None where it is something else.
    """
    names = [field.name for field in dataclasses.fields(Identity)]
    if not isinstance(content, Mapping):
        return None
    if not all(isinstance(content.get(name), Mapping) for name in names):
        return None
    return Identity(**{name: dict(content[name]) for name in names})


def digest_file(path: str | os.PathLike[str]) -> str | None:
    """Computes the checksum of a file.

    Args:
      path: The file.

    Returns:
      Hexadecimal SHA-256; None where there is no such file.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def digest_values(values: Any) -> str:
    """Computes the checksum of JSON values.

    Args:
      values: Anything JSON can hold; the order of keys does not matter.

    Returns:
      Hexadecimal SHA-256.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def select_options(
    config_json: Mapping[str, Any], patterns: Sequence[str], *, without: Sequence[str] = ()
) -> dict[str, Any]:
    """Takes the options that matter out of a config.

    Args:
      config_json: The config as nested JSON values.
      patterns: Dotted keys, `*` allowed.
      without: Those among them that do not matter.

    Returns:
      Dotted key -> value.
    """
    flat = dict(trees.flatten_names(json.loads(json.dumps(config_json))))
    return {
        key: v for key, v in flat.items() if matches(key, patterns) and not matches(key, without)
    }


def matches(key: str, patterns: Sequence[str]) -> bool:
    """Tells whether a dotted key is one of some.

    Args:
      key: The key.
      patterns: Dotted keys, `*` allowed.

    Returns:
      Whether one of the patterns fits.
    """
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def find_changed_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Words how options differ.

    Args:
      old: What a stage was made with.
      new: What is asked for now. Keys that one of the two lacks are of another version of the
        program and are passed over.

    Returns:
      E.g. "mapping.steps (was 10, now 20)"; None where they agree.
    """
    changed = [key for key in sorted(old.keys() & new.keys()) if old[key] != new[key]]
    if not changed:
        return None
    shown = [f"{key} (was {old[key]!r}, now {new[key]!r})" for key in changed[:_LISTED]]
    more = f" and {len(changed) - _LISTED} more" if len(changed) > _LISTED else ""
    return ", ".join(shown) + more
