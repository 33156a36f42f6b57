"""The command starts anew with an allocator that keeps memory, once, and only where that helps."""

import json
import os
import subprocess
import sys

import pytest

from ganavatar_jax.apps import allocator

_GLIBC = "glibc 2.36"
# Stands for the command: says what it sees after its start, and what its children see.
_PROBE = """
import json, os, subprocess, sys
from ganavatar_jax.apps import allocator
at_start = os.environ.get("GLIBC_TUNABLES")
allocator.keep_memory()
child = [sys.executable, "-c", "import os; print(os.environ.get('GLIBC_TUNABLES'))"]
seen = subprocess.run(child, capture_output=True, text=True, check=True).stdout.strip()
left = [name for name in os.environ if "GANAVATAR_JAX_STARTED" in name]
print(json.dumps([os.getpid(), at_start, seen, sys.argv[1:], left]))
"""


def _run_probe(tmp_path, repo_root, **environment):
    (tmp_path / "probe.py").write_text(_PROBE)
    base = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", allocator.SWITCH)}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "probe.py"), "--config=a b", ""],
        env={**base, "PYTHONPATH": str(repo_root), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    pid, at_start, child, arguments, left = json.loads(out)
    assert pid == process.pid  # whoever waits for the command or stops it still can
    assert arguments == ["--config=a b", ""]
    assert left == []
    return at_start, child


def _has_glibc():
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, ValueError, OSError):
        return False


needs_glibc = pytest.mark.skipif(not _has_glibc(), reason="the C library is another")


@needs_glibc
def test_the_process_has_the_settings_from_its_start_and_its_children_do_not(tmp_path, repo_root):
    assert _run_probe(tmp_path, repo_root) == (allocator.TUNABLES, "None")


@needs_glibc
def test_other_settings_of_the_user_stay_and_are_given_back_to_children(tmp_path, repo_root):
    mine = "glibc.rtld.nns=4"
    at_start, child = _run_probe(tmp_path, repo_root, GLIBC_TUNABLES=mine)
    assert at_start == f"{mine}:{allocator.TUNABLES}"
    assert child == mine


def test_the_switch_leaves_everything_as_it_is(tmp_path, repo_root):
    found = _run_probe(tmp_path, repo_root, GANAVATAR_JAX_ALLOCATOR="plain")
    assert found == (None, "None")


def test_importing_the_package_changes_nothing(repo_root):
    """Notebooks and servers keep the process they have."""
    code = "import os; before = dict(os.environ); import ganavatar_jax.main; " + (
        "from ganavatar_jax.apps import avatar; print(dict(os.environ) == before)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.strip() == "True", result.stderr


@pytest.mark.parametrize(
    ("environment", "libc"),
    [
        ({}, ""),
        ({}, "musl 1.2"),
        ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}, _GLIBC),
        ({"GANAVATAR_JAX_ALLOCATOR": "plain"}, _GLIBC),
        ({"_GANAVATAR_JAX_STARTED": ""}, _GLIBC),
    ],
    ids=["other library", "musl", "own settings of malloc", "switched off", "started anew"],
)
def test_the_process_stays_as_it_is(environment, libc):
    assert allocator.changed_environment(environment, libc=libc) is None


def test_a_command_does_what_it_is_asked_for_in_the_process_started_anew(repo_root):
    """Through the real entry: the module's own option, and a mistake's exit code."""
    for arguments, code in ((["--help"], 0), (["--config=missing.py"], 2)):
        result = subprocess.run(
            [sys.executable, "-m", "ganavatar_jax.main", *arguments],
            env={**os.environ, "PYTHONPATH": str(repo_root)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == code, result.stderr


@needs_glibc
def test_the_command_starts_anew_before_jax_is_imported(repo_root):
    """What is imported first is thrown away."""
    code = (
        "import os, runpy, sys\n"
        "def told(program, arguments, environment):\n"
        "    print(environment['GLIBC_TUNABLES'], 'jax' in sys.modules)\n"
        "    sys.exit(0)\n"
        "os.execve = told\n"
        "runpy.run_module('ganavatar_jax.main', run_name='__main__')\n"
    )
    base = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", allocator.SWITCH)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**base, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout.strip() == f"{allocator.TUNABLES} False", result.stderr
