"""The command line as values: a locked config with its overrides, a run folder, a task.

absl and ml_collections parse and check types. The config file is loaded and the names of
overridden keys are checked here, because there the libraries answer with a traceback.
"""

import dataclasses
import importlib.util
import pathlib
import re
import runpy
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from ganavatar_jax.apps import config_help, registry
from ganavatar_jax.core import errors

_HELP = ("--help", "-h", "-help", "--helpfull", "--helpshort")


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """What the user asked for.

    Attributes:
      config: The config with its overrides, locked.
      workdir: The run folder as it was given.
      task: One of registry.TASKS.
    """

    config: ml_collections.ConfigDict
    workdir: pathlib.Path
    task: str


def parse(argv: Sequence[str]) -> CommandLine | str:
    """Reads the command line and loads the config it names.

    Args:
      argv: Program name and arguments.

    Returns:
      What the user asked for; the text to show if it was help.

    Raises:
      ConfigError: something is missing, unknown or mistyped; names it.
    """
    if (answer := _answer_help(argv[1:])) is not None:
        return answer
    if any(f"--task={task}" in argv for task in registry.READING):
        argv = [*argv, *(["--config=configs/quickstart.py"] if not _names_config(argv) else [])]
    spec, rest = _split_config(argv)
    config = load_config(spec)
    _check_overrides(config, rest)
    values: Any = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, lock_config=True, sys_argv=rest
        )
        flags.DEFINE_string("workdir", None, "", flag_values=values)
        flags.DEFINE_enum("task", registry.DEFAULT, list(registry.TASKS), "", flag_values=values)
        left = values(rest)[1:]
    except (flags.Error, ValueError, TypeError) as error:
        raise errors.ConfigError(f"{_last_line(error)}; see --help.") from error
    if left:
        raise errors.ConfigError(
            f'unexpected argument "{left[0]}": all options are written --name=value; see --help.'
        )
    if not values["workdir"].value:
        raise errors.ConfigError(
            "--workdir is missing: name the folder of the run, e.g. --workdir=runs/my_avatar"
        )
    _refuse_unwritable_names(values["config"].value, values["workdir"].value)
    # Libraries (grain, orbax) read the global flags and want them parsed.
    flags.FLAGS.mark_as_parsed()
    return CommandLine(
        config=values["config"].value,
        workdir=pathlib.Path(values["workdir"].value),
        task=values["task"].value,
    )


def _answer_help(arguments: Sequence[str]) -> str | None:
    """Returns the text that --help asks for, or None without --help."""
    for index, argument in enumerate(arguments):
        flag, _, name = argument.partition("=")
        if flag not in _HELP:
            continue
        others = [*arguments[:index], *arguments[index + 1 :]]
        after = arguments[index + 1] if index + 1 < len(arguments) else ""
        if not name and re.fullmatch(r"(--?config\.)?\w[^=]*", after):
            name = after
            others.remove(after)
        if not name:
            return config_help.overview()
        if not _names_config(others):
            return config_help.describe(name)
        spec, _ = _split_config(others)
        return config_help.describe(name, load_config(spec), source=spec)
    return None


def _names_config(argv: Sequence[str]) -> bool:
    return any(re.match(r"--?config(=|$)", argument) for argument in argv)


def _split_config(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Takes --config out of the arguments: the file is loaded before absl sees the others."""
    found, rest = [], []
    remaining = iter(argv)
    for argument in remaining:
        if re.fullmatch(r"--?config", argument):
            found.append(next(remaining, ""))
        elif match := re.match(r"--?config=(.*)", argument):
            found.append(match[1])
        else:
            rest.append(argument)
    if not found or not found[0]:
        raise errors.ConfigError(
            "--config is missing: name a config file, e.g. --config=configs/quickstart.py; "
            "see --help."
        )
    if len(found) > 1:
        raise errors.ConfigError(f"--config is given {len(found)} times; give it once.")
    return found[0], rest


def _check_overrides(config: ml_collections.ConfigDict, arguments: Sequence[str]) -> None:
    known = _keys(config)
    for argument in arguments:
        match = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        if match and match[1] not in known:
            raise config_help.unknown_key(match[1], known)


def _refuse_unwritable_names(config: ml_collections.ConfigDict, workdir: str) -> None:
    """Refuses names that are no UTF-8: reports and datasets could not name them."""
    texts = {"--workdir": str(pathlib.Path(workdir).absolute())}
    for name in _keys(config):
        value: Any = config
        for part in name.split("."):
            value = value[part]
        if isinstance(value, str):
            texts[f"--config.{name}"] = value
    for name, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise errors.ConfigError(
                f"{name}: expected a name in UTF-8; got {ascii(text)}. Rename the folder, or make "
                "a link to it with another name."
            ) from error


def load_config(spec: str) -> ml_collections.ConfigDict:
    """Loads a config file without overrides.

    Args:
      spec: Path of the file and, after a colon, the variant for its `get_config`. "configs/NAME.py"
        is also found where the package is installed.

    Returns:
      The config.

    Raises:
      ConfigError: the file is missing, fails, or does not know the variant.
    """
    name, *variant = spec.split(":", 1)
    path = _find_config(pathlib.Path(name))
    if not path.is_file():
        raise errors.ConfigError(
            f"{path}: no such config file; paths are relative to the current folder, e.g. "
            f"--config=configs/quickstart.py"
        )
    try:
        config = runpy.run_path(str(path))["get_config"](*variant)
    except errors.GanAvatarError:
        raise
    except Exception as error:  # a config file is a program: it may fail in any way
        hint = ""
        if isinstance(error, ImportError) and "presets" in str(error):
            hint = ". Presets have moved: from ganavatar_jax.apps import presets"
        message = f"{spec}: {type(error).__name__}: {_last_line(error)}{hint}"
        raise errors.ConfigError(message) from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise errors.ConfigError(f"{spec}: get_config must return a ConfigDict, got {config!r}.")
    return config


def _find_config(path: pathlib.Path) -> pathlib.Path:
    """Falls back to the configs that are installed beside the package."""
    if path.is_file() or path.parent != pathlib.Path("configs"):
        return path
    spec = importlib.util.find_spec("configs")
    folders = (spec and spec.submodule_search_locations) or []
    installed = [pathlib.Path(folder) / path.name for folder in folders]
    return next((candidate for candidate in installed if candidate.is_file()), path)


def _keys(config: ml_collections.ConfigDict, prefix: str = "") -> list[str]:
    names = []
    for name in config:
        names.append(prefix + name)
        if isinstance(section := config[name], ml_collections.ConfigDict):
            names += _keys(section, f"{prefix}{name}.")
    return names


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].rstrip(".")
