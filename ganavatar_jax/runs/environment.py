"""Describes the code and the machine that a run ran with."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess

_PACKAGES = (
    "ganavatar-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain",
    "tensorflow-datasets", "numpy", "ml-collections", "ai-edge-litert", "av", "pillow",
)  # fmt: skip


def describe_commit() -> str:
    """Names the commit of the running code.

    Returns:
      The hash, with "-dirty" when tracked files differ from it; "unknown" outside a checkout.
    """
    package = pathlib.Path(__file__).parent.parent

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", str(package), *arguments], capture_output=True, text=True, check=False
        )

    try:
        # An installed copy may lie inside somebody else's checkout: only a tracked one counts.
        tracked = git("ls-files", "--error-unmatch", "__init__.py").returncode == 0
        commit = git("rev-parse", "HEAD").stdout.strip()
        dirty = git("diff", "--quiet", "HEAD", "--", str(package)).returncode != 0
    except FileNotFoundError:
        return "unknown (git is not installed)"
    if not tracked or not commit:
        return "unknown (not a git checkout)"
    return commit + "-dirty" * dirty


def describe_environment() -> str:
    """Describes what the run runs on.

    Returns:
      Lines "name: value" about system, Python, packages, CPUs and JAX devices, and an empty one.
    """
    import jax  # starts the devices

    lines = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": str(os.cpu_count()),
        "processes": str(jax.process_count()),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "backend": jax.default_backend(),
    }
    for package in _PACKAGES:
        try:
            lines[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            lines[package] = "not installed"
    return "".join(f"{name}: {value}\n" for name, value in lines.items()) + "\n"
