"""What --help says, and that it can say it about every key."""

import dataclasses
import importlib
import pathlib
import subprocess
import sys

import pytest

from ganavatar_jax import main
from ganavatar_jax.apps import experiment_config, registry
from ganavatar_jax.core import config_schema

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "ganavatar_jax").rglob("*_config.py")
)
HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "scipy", "tensorflow", "tensorflow_datasets",
         "grain", "av", "PIL")  # fmt: skip
KEYS = list(config_schema.keys(experiment_config.ExperimentConfig))


def config_classes():
    """All dataclasses of the config modules, and those that the whole configuration holds."""
    found = {key.hint for key in KEYS if key.is_section} | {experiment_config.ExperimentConfig}
    for name in MODULES:
        module = importlib.import_module(name)
        found |= {
            value
            for value in vars(module).values()
            if dataclasses.is_dataclass(value) and value.__module__ == name
        }
    return sorted(found, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", config_classes(), ids=lambda cls: cls.__name__)
def test_every_field_is_described_and_nothing_else_is(cls):
    fields = [field.name for field in dataclasses.fields(cls)]
    assert list(config_schema.attributes(cls)) == fields
    assert all(config_schema.attributes(cls).values())


def test_configs_are_light_to_import():
    """A config file is read, and --help answered, before anything heavy is needed."""
    names = [f"ganavatar_jax.{name}" for name in ("apps.command_line", "apps.presets", "main")]
    names += MODULES
    assert "ganavatar_jax.apps.experiment_config" in names
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[2:]:\n"
        "    importlib.import_module(name)\n"
        "    found = [heavy for heavy in sys.argv[1].split(',') if heavy in sys.modules]\n"
        "    assert not found, f'{name} imports {found}'\n"
    )
    command = [sys.executable, "-c", program, ",".join(HEAVY), *names]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture
def ask(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)

    def run(*arguments):
        code = main.main(["main", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_tasks_and_sections_one_line_each(ask, flag):
    code, out, err = ask(flag)
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines()]
    assert max(map(len, out.splitlines())) <= 100
    for name, task in registry.TASKS.items():
        assert any(line.startswith(f"{name} ") and line.endswith(task.meaning) for line in lines)
    for key in KEYS:
        if "." not in key.path:
            assert any(line.split() == [key.path, *key.meaning.split()] for line in lines), key.path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help", "gan.gamma"],
        ["--help=gan.gamma"],
        ["--help", "config.gan.gamma"],
        ["--help", "--config.gan.gamma"],
        ["-h", "gan.gamma"],
    ],
    ids=" ".join,
)
def test_help_tells_type_meaning_and_default_of_a_key(ask, arguments):
    expected = "gan.gamma: float\n  Weight of R1; 0 switches it off.\n  default: 5.0\n"
    assert ask(*arguments) == (0, expected, "")
    config = "configs/quickstart.py"
    for order in ([f"--config={config}", *arguments], [*arguments, "--config", config]):
        assert ask(*order) == (0, f"{expected}  {config}: 1.0\n", "")


def test_help_lists_the_keys_of_a_section(ask):
    code, out, err = ask("--help", "generator")
    assert (code, err) == (0, "")
    assert out.startswith("generator: Sizes of mapping, ")
    assert "  z_dim: int = 512\n      Length of the latent.\n" in out
    assert "  conv_clamp: float or None = None\n" in out
    assert "  render: section; see --help generator.render\n" in out
    assert "box_warp" not in out
    assert "  ray_start: float or 'auto' = \"auto\"\n" in ask("--help", "generator.render")[1]


def test_help_says_what_must_be_set(ask):
    assert "\n  default: none; it must be set\n" in ask("--help", "data.source")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gan.gama"], 'unknown config key "config.gan.gama"; did you mean "config.gan.gamma"?'),
        (["gam"], 'did you mean "config.gan"?'),
        (["zzzz"], 'unknown config key "config.zzzz"; known: data, generator, '),
        (["gan.gamma", "--config=none.py"], "none.py: no such config file"),
    ],
)
def test_an_unknown_key_is_answered_in_one_line(ask, arguments, message):
    code, out, err = ask("--help", *arguments)
    [line] = err.splitlines()
    assert (code, out) == (2, "")
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize("key", [key for key in KEYS if not key.is_section], ids=lambda k: k.path)
def test_help_has_something_to_say_about_every_key(ask, key):
    code, out, _ = ask("--help", key.path)
    assert code == 0
    assert " ".join(out.split()).startswith(
        f"{key.path}: {config_schema.type_text(key.hint)} {key.meaning} default: "
    )
