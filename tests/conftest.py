"""Test settings: strict JAX, eight virtual CPU devices, a compile cache, shared fixtures."""

import importlib.metadata
import os
import pathlib
import signal

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Read once, when JAX makes its first array: parallel tests need eight devices.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    + " --xla_cpu_collective_call_terminate_timeout_seconds=1200"  # of a busy machine
).strip()
# Two versions that our requirements leave out compute right, and without crashes, only so.
if importlib.metadata.version("jaxlib") in ("0.10.2", "0.11.0"):
    os.environ["XLA_FLAGS"] += " --xla_cpu_experimental_ynn_fusion_type=-reduce"
if importlib.metadata.version("jaxlib") == "0.10.1":  # cries wolf at each use of the cache
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Under nohup a closed terminal is ignored, rightly by the program too; its tests want it heard.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# The type hook of pyproject.toml looks the checker up as an attribute of `helpers`.
from helpers import typechecking  # noqa: E402, F401

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

# The same examples in every run, and no limit on the time of one: compiling is part of the first.
hypothesis.settings.register_profile("project", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("project")


def pytest_sessionstart():
    """No test means anything where JAX computes wrong."""
    from ganavatar_jax.core import errors, jax_check

    try:
        jax_check.require_right_sums()
    except errors.BackendError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """The arithmetic layers never mix types by accident (optax and dm-pix do, elsewhere)."""
    pure = request.path.parent.name in ("ops", "rendering", "losses")
    with jax.numpy_dtype_promotion("strict" if pure else "standard"):
        yield


@pytest.fixture
def key() -> jax.Array:
    """A fixed random key."""
    return jax.random.key(0)


@pytest.fixture(scope="session")
def repo_root() -> pathlib.Path:
    """The folder with pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def golden_dir() -> pathlib.Path:
    """Tensors of the PyTorch original: the full set beside the repository, else the small one."""
    full = ROOT.parent / "shared" / "golden"
    return full if full.is_dir() else ROOT / "tests" / "golden"
