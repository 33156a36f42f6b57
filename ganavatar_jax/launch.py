"""Starts several processes of one run on this machine: `python -m ganavatar_jax.launch --help`.

Each gets the command line behind `--`, and finds the others by JAX_COORDINATOR_ADDRESS,
JAX_NUM_PROCESSES and JAX_PROCESS_ID. On several machines a scheduler does this, see docs/scale.md.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Sequence

_PATIENCE_S = 60.0  # for the others to end after one has
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP")


def main(argv: Sequence[str]) -> int:
    """Starts the processes and waits for them.

    Args:
      argv: Arguments, without the program's name.

    Returns:
      The exit code of the first process that failed; 0 if none did.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ganavatar_jax.launch",
        description="Starts several processes of one run on this machine.",
        epilog="Example: python -m ganavatar_jax.launch --processes=2 -- "
        "--config=configs/quickstart.py --workdir=runs/two",
    )
    parser.add_argument("--processes", type=int, required=True, help="how many to start")
    parser.add_argument("--port", type=int, default=0, help="where they meet; 0 takes a free one")
    parser.add_argument("command", nargs="*", help="the arguments of ganavatar_jax.main, after --")
    asked = parser.parse_args(argv)
    if asked.processes < 1 or not asked.command:
        parser.error("--processes must be 1 or more, and a command must follow --")
    return _wait(_start(asked.processes, asked.port or _find_port(), asked.command))


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _start(count: int, port: int, command: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    shared = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "ganavatar_jax.main", *command],
            env=os.environ | shared | {"JAX_PROCESS_ID": str(index)},
            start_new_session=True,  # a terminal's Ctrl-C reaches them by us, once
        )
        for index in range(count)
    ]


def _wait(processes: list[subprocess.Popen[bytes]]) -> int:
    """Passes signals on, waits, and ends those that outlive a failed one for too long."""

    def forward(number: int, frame: types.FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    for name in _FORWARDED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), forward)
    code, since = 0, None
    while any(process.poll() is None for process in processes):
        failed = [process.returncode for process in processes if process.returncode]
        if failed and since is None:
            code, since = failed[0], time.monotonic()
        if since is not None and time.monotonic() - since > _PATIENCE_S:
            for process in processes:
                process.kill()
        time.sleep(0.1)
    code = code or next((p.returncode for p in processes if p.returncode), 0)
    return code if code >= 0 else 128 - code  # killed by a signal, as shells count


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
