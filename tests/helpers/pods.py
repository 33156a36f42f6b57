"""Runs of several processes on this machine, through the command line."""

import os
import pathlib
import socket
import subprocess
import sys
import time

LIMIT_S = 900


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Pods:
    """Starts commands as one process or as several."""

    def __init__(self, root: pathlib.Path, cache: pathlib.Path) -> None:
        self.root = root
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("XLA_FLAGS")
        } | {
            "PYTHONPATH": str(root),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiling is nearly all the time it takes
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self.started: list[subprocess.Popen[str]] = []

    def arguments(self, workdir, *options, devices):
        return [
            f"--config={self.root / 'configs' / 'quickstart.py'}:smoke",
            f"--workdir={workdir}",
            "--config.compile_cache=false",
            f"--config.devices.cpu_virtual={devices}",
            *options,
        ]

    def start(self, arguments, *, processes=1, module="ganavatar_jax.main", **variables):
        """Starts a command as one of several processes each; returns them in order."""
        port = free_port()
        started = []
        for index in range(processes):
            shared = {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(processes),
                "JAX_PROCESS_ID": str(index),
            }
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    env=self.environment | (shared if processes > 1 else {}) | variables,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        self.started += started
        return started

    def run(self, arguments, *, processes=1, **options):
        """Runs a command to its end; returns what each process said on stderr."""
        started = self.start(arguments, processes=processes, **options)
        said = finish(started, LIMIT_S)
        codes = [process.returncode for process in started]
        assert codes == [0] * processes, "\n".join(said)
        return said


def finish(processes, limit_s):
    """Waits for all; returns what each said on stderr."""
    deadline = time.monotonic() + limit_s
    return [p.communicate(timeout=max(deadline - time.monotonic(), 1))[1] for p in processes]
