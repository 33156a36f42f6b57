"""What must happen before JAX is used: devices, the compile cache, arithmetic, logs."""

import dataclasses
import importlib.metadata
import logging
import os
import pathlib
import re
import tempfile
from typing import Any, Literal

import ml_collections
import numpy as np

from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, jax_check
from ganavatar_jax.runs import coordinator, together

MatmulPrecision = Literal["default", "high", "highest"]

_LOG = logging.getLogger(__name__)
_COUNT_FLAG = "--xla_force_host_platform_device_count"
_PATIENCE_FLAG = "--xla_cpu_collective_call_terminate_timeout_seconds"
_PATIENCE_S = 1200
_SHARED_BYTES = 2048
# Takes two tuning hints of its own compiler for CPU features that are missing, and says so in lines
# of 3000 letters for every program that comes from the cache.
_NOISY_JAXLIB = "0.10.1"


@dataclasses.dataclass(frozen=True)
class DevicesConfig:
    """The `devices` section of a config.

    Attributes:
      cpu_virtual: Split the CPU into this many devices; 0 leaves it as one.
      distributed: Whether this is one of several processes that JAX finds by itself: on a TPU pod,
        in a job of SLURM, GKE or Open MPI.
      coordinator: Host and port of the first of several processes, where JAX does not find them;
        "" takes JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID if they are set.
      processes: How many there are, with `coordinator`.
      process: Which of them this is, 0 and up, with `coordinator`.
      matmul_precision: How the networks multiply float32 matrices and convolve. "highest" is full
        float32, as the original ran (it turned TF32 off); "default" is the device's fastest (TF32
        on recent GPUs, bfloat16 on TPUs), "high" lies between. CPUs always compute in full
        float32. Cameras, rays, face readings and metrics are in full float32 whatever this says.
    """

    cpu_virtual: int = 0
    distributed: bool = False
    coordinator: str = ""
    processes: int = 0
    process: int = -1
    matmul_precision: MatmulPrecision = "highest"

    def __post_init__(self) -> None:
        if self.cpu_virtual < 0:
            raise ValueError(f"cpu_virtual must be 0 or more; got {self.cpu_virtual}.")
        if not self.coordinator:
            return
        if not 0 <= self.process < self.processes:
            raise ValueError(
                "with coordinator, processes must say how many there are and process which of them "
                f"this is, 0 and up; got {self.processes} and {self.process}."
            )
        if not self.coordinator.rpartition(":")[2].isdecimal():
            raise ValueError(f"coordinator must be HOST:PORT; got {self.coordinator!r}.")


def start_logging() -> None:
    """Sends this package's messages to stderr, and of other packages only warnings."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("ganavatar_jax").setLevel(logging.INFO)
    logging.getLogger("absl").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Leaves out what orbax logs and raises as well, e.g. a full disk: we tell it in our words."""
    return "orbax" not in pathlib.Path(record.pathname).parts


def start_jax(config: ml_collections.ConfigDict) -> None:
    """Prepares JAX as the config says; call it before anything else uses JAX.

    JAX reads XLA_FLAGS when it starts its devices, so it is imported after they are set.

    Args:
      config: A config with the keys `devices` and `compile_cache`.

    Raises:
      ConfigError: one of the keys is missing or wrong, or there are no other processes.
      RunError: the other processes cannot be reached.
      BackendError: the installed JAX computes wrong.
    """
    for name in ("devices", "compile_cache"):
        if name not in config:
            raise errors.ConfigError(f"config.{name}: required key is missing in the config file.")
    _silence_false_alarms()
    section: Any = config.devices
    devices = config_lib.resolve(DevicesConfig, section, path="config.devices")
    if devices.cpu_virtual:
        os.environ["XLA_FLAGS"] = virtual_device_flags(
            os.environ.get("XLA_FLAGS", ""), devices.cpu_virtual
        )
    if config.compile_cache and (folder := find_cache_folder()) is not None:
        import jax

        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Small programs, too: a start has hundreds of them, which take longer than the large ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _join_processes(_find_processes(devices))
    settle_arithmetic(devices.matmul_precision)


def _find_processes(devices: DevicesConfig) -> DevicesConfig:
    """Looks for the other processes in the environment where the config does not name them."""
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    found = [os.environ.get(name, "") for name in names]
    if devices.coordinator or devices.distributed or not all(found):
        return devices
    address, count, index = found
    try:
        return dataclasses.replace(
            devices, coordinator=address, processes=int(count), process=int(index)
        )
    except ValueError as error:
        raise errors.ConfigError(f"{', '.join(names)}: {error}") from error


def _join_processes(devices: DevicesConfig) -> None:
    """Connects this process with the others of its run, if there are any."""
    if not devices.distributed and not devices.coordinator:
        return
    import jax
    from jax.experimental import multihost_utils

    place = (
        {
            "coordinator_address": devices.coordinator,
            "num_processes": devices.processes,
            "process_id": devices.process,
        }
        if devices.coordinator
        else {}
    )
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        with coordinator.apart():
            jax.distributed.initialize(**place)
    except (ValueError, RuntimeError) as error:  # RuntimeError: the others do not answer
        reason = str(error).strip().splitlines()[0]
        if devices.coordinator:
            raise errors.ConfigError(
                f"devices.coordinator: process {devices.process} of {devices.processes} does not "
                f"find the others at {devices.coordinator}: {reason} Start all with one address, "
                "that of the machine of process 0 and a free port there."
            ) from error
        raise errors.ConfigError(
            "devices.distributed: expected a pod or a cluster whose processes JAX finds by "
            f"itself; got: {reason} On one machine leave this out; elsewhere name "
            "devices.coordinator, devices.processes and devices.process."
        ) from error

    if jax.process_count() > 1 and jax.default_backend() == "cpu":
        # jaxlib 0.10.1 was seen to wait for ever for a program from the cache there.
        jax.config.update("jax_enable_compilation_cache", False)

    def share(data: bytes) -> bytes:
        blob = np.zeros(_SHARED_BYTES, np.uint8)
        blob[: len(data)] = np.frombuffer(data, np.uint8)
        return np.asarray(multihost_utils.broadcast_one_to_all(blob)).tobytes().rstrip(b"\0")

    host = devices.coordinator.rpartition(":")[0].strip("[]")
    together.join(jax.process_index(), jax.process_count(), share, host=host)


def settle_arithmetic(matmul_precision: MatmulPrecision = "highest") -> None:
    """Sets how networks multiply, and makes sure that JAX computes right.

    Commands without a config call it by themselves.

    Args:
      matmul_precision: See DevicesConfig.

    Raises:
      BackendError: the installed JAX computes wrong.
    """
    import jax

    jax.config.update("jax_default_matmul_precision", matmul_precision)
    jax_check.require_right_sums()


def _silence_false_alarms() -> None:
    """Hides XLA's own log where it cries wolf; its errors are exceptions all the same."""
    if importlib.metadata.version("jaxlib") == _NOISY_JAXLIB:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def virtual_device_flags(xla_flags: str, count: int) -> str:
    """Adds the number of virtual CPU devices to XLA's flags, and patience between them.

    On a busy machine one device may wait minutes for another; XLA would abort after 40 seconds.

    Args:
      xla_flags: The flags so far; these two among them are replaced.
      count: Virtual CPU devices.

    Returns:
      The new flags.

    Source: XLA's xla_force_host_platform_device_count.
    """
    others = re.sub(rf"({_COUNT_FLAG}|{_PATIENCE_FLAG})=\S*", "", xla_flags).split()
    return " ".join([*others, f"{_COUNT_FLAG}={count}", f"{_PATIENCE_FLAG}={_PATIENCE_S}"])


def find_cache_folder() -> pathlib.Path | None:
    """Makes the folder for compiled programs, which saves minutes at the next start.

    Returns:
      JAX_COMPILATION_CACHE_DIR if set, else ~/.cache/ganavatar_jax/xla; None, with a logged
      line, when it cannot be written.
    """
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    try:
        folder = pathlib.Path(named or "~/.cache/ganavatar_jax/xla").expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        _LOG.warning("compiled programs are not cached: %s", error)
        return None
