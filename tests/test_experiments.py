"""The experiments' scripts fit the package as it is."""

import os
import subprocess
import sys


def test_every_script_can_be_imported(repo_root):
    scripts = sorted(path.stem for path in (repo_root / "experiments").glob("*.py"))
    assert len(scripts) > 10
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import {', '.join(scripts)}"],
        env=os.environ | {"PYTHONPATH": f"{repo_root}{os.pathsep}{repo_root / 'experiments'}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


def test_a_script_is_a_module_too(repo_root):
    result = subprocess.run(
        [sys.executable, "-m", "experiments.bench_small", "--help"],
        cwd=repo_root,
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "quickstart" in result.stdout


def test_what_a_step_keeps_in_memory_is_still_counted(repo_root):
    # The phase that costs the least to trace; the figure of experiments/log/E015 with E018's field.
    result = subprocess.run(
        [sys.executable, "experiments/memory_by_tracing.py", "--phase", "g_reg", "--batch", "4"],
        cwd=repo_root,
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "| g_reg | 4 | 1.8 | 2.2 |" in result.stdout
