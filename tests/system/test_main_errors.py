"""Every mistake on the command line is answered by one line on stderr and exit code 2."""

import os
import subprocess
import sys

import pytest

from ganavatar_jax import main
from ganavatar_jax.apps import command_line

CONFIG = """
import ml_collections


def get_config(variant="full"):
    if variant not in ("full", "smoke"):
        raise ValueError(f"unknown variant {variant!r}; known: full, smoke.")
    return ml_collections.ConfigDict({
        "seed": 1,
        "train": {"batch_size": 4, "lr": 1e-3},
        "devices": {"cpu_virtual": 0},
        "compile_cache": False,
    })
"""

ENDED = "ended by SIG"

# Replaces the default task by one line of code, whatever the real one is.
WITH_TASK = """
import sys, types
pipeline = types.ModuleType("pipeline")
exec("def run_all(config, workdir):\\n    " + sys.argv.pop(1), pipeline.__dict__)
sys.modules["ganavatar_jax.apps.pipeline"] = pipeline
from ganavatar_jax import main
main.run()
"""


@pytest.fixture(autouse=True)
def user_folder(tmp_path, monkeypatch):
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "dict.py").write_text("def get_config():\n    return {}\n")
    (tmp_path / "taken").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(user_folder, repo_root):
    environment = os.environ | {"PYTHONPATH": str(repo_root)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as a user's is

    def run(*arguments, task=None, program=None, **variables):
        start = ["-m", "ganavatar_jax.main"] if task is None else ["-c", WITH_TASK, task]
        return subprocess.run(
            [sys.executable, *(start if program is None else ["-c", program]), *arguments],
            cwd=user_folder,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["--config="], "--config is missing"),
        (["--config"], "--config is missing"),
        (["--config=none.py", "--workdir=run"], "none.py: no such config file"),
        (["--config=.", "--workdir=run"], "no such config file"),
        (["--config=config.py", "--config=config.py"], "--config is given 2 times"),
        (["--config=config.py:huge", "--workdir=run"], "unknown variant 'huge'; known: full"),
        (["--config=broken.py", "--workdir=run"], "broken.py: SyntaxError"),
        (["--config=empty.py", "--workdir=run"], "empty.py: KeyError: 'get_config'"),
        (["--config=dict.py", "--workdir=run"], "must return a ConfigDict"),
        (["--config=config.py"], "--workdir is missing"),
        (
            ["--config=config.py", "--workdir=run", "--config.train.batchsize=2"],
            'unknown config key "config.train.batchsize"; did you mean "config.train.batch_size"?',
        ),
        (
            ["--config=config.py", "--workdir=run", "--config.zzz=2"],
            'unknown config key "config.zzz"; known: compile_cache, devices, seed, train.',
        ),
        (
            ["--config=config.py", "--workdir=run", "--config.train.batch_size=many"],
            "--config.train.batch_size=many: invalid literal for int()",
        ),
        (
            ["--config=config.py", "--workdir=run", "--config.train.batch_size=1.5"],
            "--config.train.batch_size=1.5",
        ),
        (["--config=config.py", "--workdir=run", "--config.train=3"], "is not a dict"),
        (["--config=config.py", "--workdir=run", "--config.seed"], "Missing value"),
        (["--config=config.py", "--workdir=run", "--task=fly"], "should be one of <all|prepare"),
        (["--config=config.py", "--workdir=run", "--tusk=all"], "Unknown command line flag 'tusk'"),
        (["--config=config.py", "--workdir=run", "extra"], 'unexpected argument "extra"'),
        (["--config=config.py", "--workdir=run", "--flagfile=none"], "Unable to open flagfile"),
        (["--config=config.py", "--workdir=taken"], "taken is a file"),
        (["--config=config.py", "--workdir=taken/deeper/run"], "taken is a file"),
        (["--config=config.py", "--workdir=/proc/run"], "/proc/run: cannot be written"),
        (
            ["--config=config.py", "--workdir=run", "--config.devices.cpu_virtual=-1"],
            "config.devices: cpu_virtual must be 0 or more",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_in_one_line(arguments, message, capsys):
    assert main.main(["main", *arguments]) == 2
    _check_answer(*capsys.readouterr(), message)


@pytest.mark.system
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=none.py", "--workdir=run"], "no such config file"),
        (["--config=config.py", "--workdir=run", "--config.sed=2"], 'unknown config key "config.s'),
        (["--config=config.py", "--workdir=run", "--config.seed=x"], "--config.seed=x: invalid"),
        (["--config=config.py", "--workdir=taken/run"], "taken is a file"),
        (["--config=config.py", "--workdir=run", "--task=fly"], "should be one of"),
    ],
    ids=["config file", "key", "type", "workdir", "task"],
)
def test_a_mistake_ends_the_process_with_code_2(call, arguments, message):
    result = call(*arguments)
    assert result.returncode == 2
    _check_answer(result.stdout, result.stderr, message)


def _check_answer(out, err, message):
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_understanding_the_command_line_does_not_import_jax(call):
    program = "import sys; from ganavatar_jax import main; print('jax' in sys.modules)"
    assert call(program=program).stdout == "False\n"


@pytest.mark.system
@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_help_lists_the_tasks(call, argument):
    result = call(argument)
    assert result.returncode == 0
    assert result.stderr == ""
    for word in ("--config", "--workdir", "--task", "train_gan", "prepare_data", "render"):
        assert word in result.stdout


@pytest.mark.system
def test_a_task_gets_the_locked_config_with_overrides_and_the_absolute_run_folder(call, tmp_path):
    result = call(
        "--config=config.py:smoke",
        "--workdir=runs/a",
        "--config.train.batch_size=8",
        task="print(config.is_locked, config.train.batch_size, workdir)",
    )
    assert result.stdout.split() == ["True", "8", str(tmp_path / "runs" / "a")]
    assert result.returncode == 0


def test_the_order_of_the_arguments_does_not_matter():
    arguments = [
        "--config.train.lr=1",
        "--workdir",
        "run",
        "--config",
        "config.py",
        "--task=render",
    ]
    for order in (arguments, [*arguments[3:5], *arguments[:3], arguments[5]]):
        asked = command_line.parse(["main", *order])
        assert asked.config.train.lr == 1.0
        assert (asked.task, str(asked.workdir)) == ("render", "run")


@pytest.mark.system
def test_the_config_sets_the_virtual_devices_and_the_compile_cache(call, tmp_path):
    result = call(
        "--config=config.py",
        "--workdir=run",
        "--config.devices.cpu_virtual=3",
        "--config.compile_cache=true",
        task="import jax; print(jax.device_count(), jax.config.jax_compilation_cache_dir)",
        HOME=str(tmp_path),
        JAX_PLATFORMS="cpu",
    )
    assert result.stdout.split() == ["3", str(tmp_path / ".cache" / "ganavatar_jax" / "xla")]


@pytest.mark.system
def test_what_comes_from_the_compile_cache_is_not_commented_on(call, tmp_path):
    compile_one = (
        "import jax; jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0); "
        "print(jax.jit(lambda x: x @ x + 1)(jax.numpy.eye(8)).sum())"
    )
    settings = {"HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    for _ in range(2):
        result = call(
            "--config=config.py",
            "--workdir=run",
            "--config.compile_cache=true",
            task=compile_one,
            **settings,
        )
        assert result.stdout == "72.0\n"
        assert result.stderr == ""
    assert list((tmp_path / ".cache" / "ganavatar_jax" / "xla").iterdir())


@pytest.mark.system
@pytest.mark.parametrize(
    ("task", "code", "line"),
    [
        (
            "from ganavatar_jax.core import errors; raise errors.RunError('frame 3: no eye')",
            2,
            "error: frame 3: no eye",
        ),
        (
            "from ganavatar_jax.runs import progress; raise progress.Stopped('saved at 3')",
            130,
            "saved at 3",
        ),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("import os, signal, time; os.kill(os.getpid(), 15); time.sleep(9)", 143, ENDED + "TERM"),
        ("import os, signal, time; os.kill(os.getpid(), 1); time.sleep(9)", 129, ENDED + "HUP"),
    ],
)
def test_expected_endings_take_one_line_and_have_their_exit_code(call, task, code, line):
    result = call("--config=config.py", "--workdir=run", task=task)
    assert result.returncode == code
    [said] = result.stderr.splitlines()
    assert said == line or (line.startswith(ENDED) and said.startswith(f"{line}; what complete"))


@pytest.mark.system
def test_a_defect_keeps_its_traceback(call):
    result = call("--config=config.py", "--workdir=run", task="raise RuntimeError('ours')")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "RuntimeError: ours"
