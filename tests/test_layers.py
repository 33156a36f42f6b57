"""The import contracts of pyproject.toml hold, and each of them can fail."""

import os
import pathlib
import subprocess
import sys

import pytest

LAYERS = ("core", "ops", "geometry", "rendering", "models", "losses", "faces", "data", "metrics")
LAYERS += ("training", "films", "reports", "runs", "apps")
LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
# Imports inside functions count: a circle is a circle when it is walked late, too.
CIRCLE = """
import graphlib, grimp, sys
for package in ("ganavatar_jax", "weight_port"):
    graph = grimp.build_graph(package, cache_dir=None)
    imported = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    try:
        graphlib.TopologicalSorter(imported).prepare()
    except graphlib.CycleError as error:
        sys.exit(" -> ".join(error.args[1]))
"""


def lint(folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return judge(folder, *LINT, "--no-cache")


def judge(folder: pathlib.Path, *command: str) -> subprocess.CompletedProcess[str]:
    # The folder goes first on the path: a copy is judged, not the installed package.
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def skeleton(tmp_path, repo_root):
    """The layers as empty packages, under the project's own contracts."""
    (tmp_path / "pyproject.toml").write_text((repo_root / "pyproject.toml").read_text())
    for name in ("ganavatar_jax", "weight_port", *(f"ganavatar_jax/{name}" for name in LAYERS)):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "__init__.py").write_text("")
    return tmp_path


def test_the_package_keeps_its_contracts(repo_root):
    result = lint(repo_root)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_bare_layers_keep_the_contracts(skeleton):
    result = lint(skeleton)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_file_imports_itself_through_others(repo_root):
    result = judge(repo_root, sys.executable, "-c", CIRCLE)
    assert result.returncode == 0, result.stderr


def test_a_circle_through_a_function_is_found(skeleton):
    (skeleton / "weight_port" / "a.py").write_text("import weight_port.b\n")
    (skeleton / "weight_port" / "b.py").write_text("def f():\n    import weight_port.a\n")
    result = judge(skeleton, sys.executable, "-c", CIRCLE)
    assert result.returncode == 1
    assert {"weight_port.a", "weight_port.b"} <= set(result.stderr.split())


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("ganavatar_jax/ops/a.py", "import ganavatar_jax.models", "layers point down"),
        ("ganavatar_jax/models/a.py", "import ganavatar_jax.losses", "layers point down"),
        ("ganavatar_jax/core/a.py", "import ganavatar_jax.geometry", "layers point down"),
        ("ganavatar_jax/films/a.py", "import ganavatar_jax.training", "layers point down"),
        ("ganavatar_jax/runs/a.py", "import ganavatar_jax.data", "layers point down"),
        ("ganavatar_jax/apps/a.py", "import torch", "the package never needs the port or torch"),
        ("ganavatar_jax/apps/a.py", "import weight_port", "the package never needs the port"),
        ("ganavatar_jax/losses/a.py", "import optax", "pure layers stay pure"),
        ("ganavatar_jax/rendering/a.py", "from flax import linen", "pure layers stay pure"),
        ("ganavatar_jax/utils/__init__.py", "", "layers point down"),
    ],
)
def test_a_wrong_import_or_a_stray_folder_is_reported(skeleton, module, line, contract):
    (skeleton / module).parent.mkdir(exist_ok=True)
    (skeleton / module).write_text(line + "\n")
    result = lint(skeleton)
    assert result.returncode == 1, result.stdout + result.stderr
    reports = [row for row in result.stdout.splitlines() if row.startswith(contract)]
    assert reports, result.stdout
    assert "BROKEN" in reports[0] or "utils" in result.stdout
