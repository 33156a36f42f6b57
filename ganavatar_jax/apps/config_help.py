"""The answers of --help: tasks and sections, the keys of a section, all about one key."""

import difflib
import json
import re
import textwrap
from typing import Any

import ml_collections

from ganavatar_jax.apps import experiment_config, registry
from ganavatar_jax.core import config_schema, errors

_WIDTH = 100
_USAGE = """usage: python -m ganavatar_jax.main --config=FILE.py[:VARIANT] --workdir=DIR
         [--task=TASK] [--config.KEY=VALUE ...]

  --config        a config file, e.g. configs/quickstart.py, and optionally one of its variants
  --config.KEY    replaces a value of the config, e.g. --config.gan.total_kimg=50
  --workdir       folder of the run; made if missing, continued if it holds an unfinished run
  --task          one of those below (default: {default})
  --help          this text; --help SECTION lists its keys, --help SECTION.KEY tells what one means,
                  and, with --config, what it is there
"""


def overview() -> str:
    """Writes how to call the program, its tasks and the sections of a config.

    Returns:
      Lines for the terminal.
    """
    tasks = [(name, task.meaning) for name, task in registry.TASKS.items()]
    top = [key for key in _keys().values() if "." not in key.path]
    sections = [(key.path, key.meaning) for key in top if key.is_section]
    others = [(key.path, key.meaning) for key in top if not key.is_section]
    return "\n".join(
        [
            _USAGE.format(default=registry.DEFAULT),
            f"tasks:\n{_table(tasks)}",
            f"sections of a config (--help SECTION):\n{_table(sections)}",
            f"and keys beside them:\n{_table(others)}",
        ]
    )


def describe(
    name: str, config: ml_collections.ConfigDict | None = None, *, source: str = ""
) -> str:
    """Writes what a key means, or which keys a section has.

    Args:
      name: Dotted name, with or without "config." or "--config." before it.
      config: Where to look its value up, if anywhere.
      source: What to call that.

    Returns:
      Lines for the terminal.

    Raises:
      ConfigError: there is no such key; names the nearest one.
    """
    known = _keys()
    path = re.sub(r"^(--?)?config\.", "", name)
    if path not in known:
        raise unknown_key(path, list(known))
    key = known[path]
    if key.is_section:
        return _describe_section(key, known)
    lines = [f"{path}: {config_schema.type_text(key.hint)}", *_wrap(key.meaning, indent=2)]
    lines.append(f"  default: {_value(key.default)}")
    if config is not None:
        lines.append(f"  {source}: {_look_up(config, path)}")
    return "\n".join(lines) + "\n"


def unknown_key(path: str, known: list[str]) -> errors.ConfigError:
    """Makes the error for a key that does not exist.

    Args:
      path: Its dotted name.
      known: Dotted names of those that do.

    Returns:
      The error, with the nearest known key, or else the outermost ones.
    """
    near = difflib.get_close_matches(path, known, n=1)
    top = [name for name in known if "." not in name]
    hint = f'did you mean "config.{near[0]}"?' if near else f"known: {', '.join(top)}."
    return errors.ConfigError(f'unknown config key "config.{path}"; {hint}')


def _keys() -> dict[str, config_schema.Key]:
    """Returns all keys there are, by dotted name."""
    return {key.path: key for key in config_schema.keys(experiment_config.ExperimentConfig)}


def _describe_section(section: config_schema.Key, known: dict[str, config_schema.Key]) -> str:
    """Lists the keys of a section with type, default and first sentence."""
    lines = [f"{section.path}: {section.meaning}"]
    for key in known.values():
        if key.path.rpartition(".")[0] != section.path:
            continue
        kind = f"{config_schema.type_text(key.hint)} = {_value(key.default)}"
        what = f"section; see --help {key.path}" if key.is_section else kind
        lines.append(f"  {key.path.rpartition('.')[2]}: {what}")
        lines += _wrap(_first_sentence(key.meaning), indent=6)
    return "\n".join(lines) + "\n"


def _first_sentence(text: str) -> str:
    """Returns a text up to its first full stop."""
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def _look_up(config: ml_collections.ConfigDict, path: str) -> str:
    """Returns the value of a key in a config, which may lack it."""
    holder: Any = config
    for name in path.split("."):
        if not isinstance(holder, ml_collections.ConfigDict) or name not in holder:
            return "missing"
        holder = holder[name]
    return _value(holder)


def _value(value: Any) -> str:
    """Writes a value as a user would."""
    if value is config_schema.NOT_SET:
        return "none; it must be set"
    if isinstance(value, str):
        return json.dumps(value)
    return str(value)


def _table(rows: list[tuple[str, str]]) -> str:
    """Writes names and their meanings, one line each."""
    width = max(len(name) for name, _ in rows) + 2
    return "".join(f"  {name:<{width}}{meaning}\n" for name, meaning in rows)


def _wrap(text: str, *, indent: int) -> list[str]:
    """Breaks a text into lines."""
    space = " " * indent
    return textwrap.wrap(
        text, _WIDTH, initial_indent=space, subsequent_indent=space, break_on_hyphens=False
    )
