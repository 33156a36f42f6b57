"""JAX's service that processes find each other by, in a process of its own.

JAX runs it in the first process of a run. When that one dies, all others are aborted from within
by the loss of the service, with a stack of C++ and before they can say a word. Apart, it outlives
the first process by the moment that the others need to end by themselves.

Run as a program (one argument, JSON) it is the service.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

_LINGER_S = 2.0  # less than a start of the next run takes, which may use the same port
_READY = b"ready\n"


class _Apart:
    """Stands for the service in JAX's own bookkeeping."""

    def __init__(self, address: str, nodes: int, **options: Any) -> None:
        arguments = json.dumps({"address": address, "nodes": nodes, "options": options})
        self._process = subprocess.Popen(
            [sys.executable, __file__, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it comments on the end of every run
            start_new_session=True,  # a terminal's Ctrl-C is not for it
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != _READY:
            raise RuntimeError(
                f"the service of the processes cannot be started on {address}: is the port in use?"
            )

    def shutdown(self) -> None:
        """Ends the service."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Lets JAX start its service in a process of its own, as long as the block lasts.

    Where this version of JAX starts it in another way, nothing changes.

    Yields:
      Nothing.
    """
    from jax._src.lib import _jax

    name = "get_distributed_runtime_service"
    before = getattr(_jax, name, None)
    if before is None:
        yield
        return
    setattr(_jax, name, _Apart)
    try:
        yield
    finally:
        setattr(_jax, name, before)


def main(arguments: str) -> None:
    """Serves until a moment after the process that started it is gone.

    Args:
      arguments: What `_Apart` passes on.
    """
    from jax._src.lib import _jax

    asked = json.loads(arguments)
    service = _jax.get_distributed_runtime_service(
        asked["address"], asked["nodes"], **asked["options"]
    )
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    sys.stdin.buffer.read()  # ends when the other side is gone
    time.sleep(_LINGER_S)
    del service


if __name__ == "__main__":
    main(sys.argv[1])
