"""Connections that carry JSON values between the processes of a run, and tell when one is gone."""

import contextlib
import json
import queue
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ganavatar_jax.core import errors
from ganavatar_jax.runs import owner

_BEAT_S = 5.0
_SILENCE_S = 45.0  # a process that says nothing for so long is taken as dead
_CONNECT_S = 10.0
_JOIN_S = 300.0
_MAX_BYTES = 1 << 20


class Line:
    """One connection; what is sent goes out in a thread, in order."""

    def __init__(self, connection: socket.socket) -> None:
        """Takes a connection over.

        Args:
          connection: The socket.
        """
        self._connection = connection
        connection.settimeout(_SILENCE_S)
        self._file = connection.makefile("rb")
        # Not a lock around the socket: a signal's handler may interrupt whoever holds it.
        self._due: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message; returns at once.

        Args:
          message: JSON values.
        """
        self._due.put(message)

    def read(self) -> dict[str, Any] | None:
        """Waits for a message.

        Returns:
          The message; None where the other side is gone.
        """
        try:
            text = self._file.readline(_MAX_BYTES)
            return json.loads(text) if text.endswith(b"\n") else None
        except (OSError, ValueError):
            return None

    def write(self, message: Mapping[str, Any]) -> bool:
        """Sends a message at once.

        Args:
          message: JSON values.

        Returns:
          Whether it could be sent.
        """
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def listen(self, heard: Callable[[dict[str, Any]], None], lost: Callable[[], None]) -> None:
        """Starts to send and to hear, until the other side is gone.

        Args:
          heard: Called in a thread with each message.
          lost: Called there once the other side is gone.
        """
        threading.Thread(target=self._speak, daemon=True, name="together").start()
        threading.Thread(
            target=self._hear, args=(heard, lost), daemon=True, name="together"
        ).start()

    def _speak(self) -> None:
        while True:
            message: dict[str, Any] = {"kind": "beat"}
            with contextlib.suppress(queue.Empty):
                message = self._due.get(timeout=_BEAT_S)
            if not self.write(message):
                return

    def _hear(self, heard: Callable[[dict[str, Any]], None], lost: Callable[[], None]) -> None:
        while (message := self.read()) is not None:
            if message["kind"] != "beat":
                heard(message)
        lost()


class Server:
    """Waits for the other processes of a run.

    Attributes:
      address: How they find it, JSON values.
      lines: Connections by process, once all are there.
    """

    def __init__(self, count: int) -> None:
        """Opens a port.

        Args:
          count: Processes of the run, this one included.
        """
        self._count = count
        self._socket = socket.create_server(("", 0), backlog=count)
        self._token = secrets.token_hex(16)
        port = self._socket.getsockname()[1]
        self.address = {"hosts": _own_addresses(), "port": port, "token": self._token}
        self.lines: dict[int, Line] = {}

    def accept(self) -> list[str]:
        """Waits for all.

        Returns:
          What to call each process.

        Raises:
          RunError: some do not come.
        """
        names = {0: _name(0)}
        self._socket.settimeout(_JOIN_S)
        while len(names) < self._count:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError as error:
                missing = sorted(set(range(self._count)) - names.keys())
                raise errors.RunError(
                    f"process {missing[0]} of {self._count} did not come within {_JOIN_S:.0f} s; "
                    "start all of them with the same command."
                ) from error
            line = Line(connection)
            hello = line.read()
            if hello is None or hello.get("token") != self._token:
                connection.close()  # a stranger
                continue
            self.lines[hello["process"]], names[hello["process"]] = line, hello["name"]
        ordered = [names[index] for index in range(self._count)]
        for line in self.lines.values():
            line.write({"names": ordered})
        self._socket.close()
        return ordered


def connect(address: Mapping[str, Any], index: int, *, host: str = "") -> tuple[Line, list[str]]:
    """Finds the first process.

    Args:
      address: Its `Server.address`.
      index: Which process this is.
      host: Where else it may be.

    Returns:
      The connection, and what to call each process.

    Raises:
      RunError: it cannot be reached.
    """
    reasons = []
    for place in filter(None, (host, *address["hosts"])):
        try:
            connection = socket.create_connection((place, address["port"]), timeout=_CONNECT_S)
        except OSError as error:
            reasons.append(f"{place}: {error.strerror or error}")
            continue
        line = Line(connection)
        line.write({"token": address["token"], "process": index, "name": _name(index)})
        welcome = line.read()
        if welcome is not None:
            return line, welcome["names"]
        reasons.append(f"{place}: no answer")
    raise errors.RunError(
        f"process {index} cannot reach process 0 on port {address['port']} ({'; '.join(reasons)}); "
        "let the machines of a run reach each other on all ports."
    )


def _name(index: int) -> str:
    """What to call this process in messages."""
    me = owner.current()
    return f"process {index} (number {me.pid} on {me.host})"


def _own_addresses() -> list[str]:
    """Addresses under which other machines may find this one, the likeliest first."""
    found = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: only the way out is looked up
        found.append(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        found += [str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)]
    return list(dict.fromkeys([*found, "127.0.0.1"]))
