"""A JAX that computes wrong is refused on every way in, by one line that names the fix."""

import ast
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from packaging import requirements

from ganavatar_jax.apps import avatar
from ganavatar_jax.core import errors, jax_check
from weight_port import convert, verify

# Those that our requirements leave out; both compute right with jax_check.SAFE_FLAG.
WRONG, CRASHING = "0.10.2", "0.11.0"
ROOT = pathlib.Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"


def sums_of_0_10_2(rows):
    """What jaxlib 0.10.2 makes of them: rows beyond the 32,768th are read 128 too early."""
    right = np.square(rows).sum(axis=1)
    return np.concatenate([right[:32768], right[32640 : 32640 + len(right) - 32768]])


@pytest.fixture
def wrong_jax(monkeypatch):
    monkeypatch.setattr(jax_check, "_sum_squares", sums_of_0_10_2)
    jax_check._find_wrong_row.cache_clear()
    yield
    jax_check._find_wrong_row.cache_clear()


def test_the_jax_that_runs_the_tests_is_accepted():
    jax_check._find_wrong_row.cache_clear()
    jax_check.require_right_sums()


def test_a_wrong_sum_is_one_line_that_names_the_fix(wrong_jax):
    with pytest.raises(errors.BackendError) as caught:
        jax_check.require_right_sums()
    message = str(caught.value)
    assert "\n" not in message
    assert "row 32768 of a known sum: expected 19044; got 100" in message
    assert f"XLA_FLAGS={jax_check.SAFE_FLAG}" in message


def test_the_fix_is_what_the_package_requires(wrong_jax):
    with pytest.raises(errors.BackendError, match='pip install "jax') as caught:
        jax_check.require_right_sums()
    advised = requirements.Requirement(str(caught.value).split('"')[1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [requirements.Requirement(text) for text in project["dependencies"]]
    assert [advised.specifier] == [found.specifier for found in declared if found.name == "jax"]
    assert not any(advised.specifier.contains(version) for version in (WRONG, CRASHING))


def test_it_is_computed_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        jax_check, "_sum_squares", lambda rows: calls.append(1) or np.square(rows).sum(axis=1)
    )
    jax_check._find_wrong_row.cache_clear()
    for _ in range(3):
        jax_check.require_right_sums()
    assert len(calls) == 1
    jax_check._find_wrong_row.cache_clear()


def test_avatars_are_not_loaded_with_it(wrong_jax, tmp_path):
    for load, files in ((avatar.Avatar.load, 1), (avatar.Avatar.from_files, 2)):
        with pytest.raises(errors.BackendError, match="computes wrong"):
            load(*[tmp_path / "missing"] * files)


@pytest.mark.parametrize(
    ("command", "rest"), [(convert.main, ["--dst", "to"]), (verify.main, [])], ids=["in", "verify"]
)
def test_weights_are_not_converted_with_it(wrong_jax, capsys, command, rest):
    assert command(["--kind", "eg3d", "--src", "from.pkl", *rest]) == 2
    assert capsys.readouterr().err.startswith("error: jaxlib ")


def run(*arguments, flags):
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def script(repo_root, folder):
    """The commands of the package, as a user starts them; each stops soon for another reason."""
    config = folder / "config.py"
    config.write_text(
        "import ml_collections\ndef get_config(variant='full'):\n"
        "    return ml_collections.ConfigDict({'devices': {}, 'compile_cache': False})\n"
    )
    run_dir = str(folder / "run")
    return {
        "main": ["-m", "ganavatar_jax.main", f"--config={config}", f"--workdir={run_dir}"],
        "experiment": [str(repo_root / "experiments" / "code_spread.py"), "--help"],
    }


@pytest.mark.parametrize("name", ["main", "experiment"])
def test_commands_refuse_exactly_the_installations_that_compute_wrong(name, repo_root, tmp_path):
    command = script(repo_root, tmp_path)[name]
    installed = importlib.metadata.version("jaxlib")
    refused = "computes wrong on this machine"
    bare, mended = run(*command, flags=""), run(*command, flags=jax_check.SAFE_FLAG)
    assert refused not in mended.stderr
    if installed == WRONG:
        assert bare.returncode == 2
        assert bare.stderr.startswith(f"error: jaxlib {WRONG} {refused} (row 32768")
        assert bare.stderr.count("\n") == 1
    else:
        assert refused not in bare.stderr


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.py")), ids=lambda path: path.stem)
def test_every_script_starts_with_the_check(path):
    tree = ast.parse(path.read_text())
    starts = [ast.unparse(node.body[0]) for node in tree.body if _is_entry(node)]
    assert starts in ([], ["script.run(main)"])


def _is_entry(node):
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
