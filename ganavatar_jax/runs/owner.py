"""Says which process something belongs to, in words another process can check.

A process number alone says little: it is used again, and every container has a process 1. So the
machine's start and, where the system tells them, the container's table of processes and the
process's own start are kept with it.
"""

import dataclasses
import datetime
import os
import pathlib
import platform
import re
from collections.abc import Mapping
from typing import Any

_BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")
_TOKEN = re.compile(r"(?P<host>[\w.-]*)~(?P<boot>\w*)~(?P<space>\w*)~(?P<pid>\d+)~(?P<start>\d*)")


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
      host: Name of the machine or container.
      boot: What tells one start of the machine from another; "" where the system does not say.
      space: What tells one container's table of processes from another's; "" likewise.
      pid: Number of the process.
      start: When the process started, in ticks of the machine; "" likewise.
      since: When it was noted, UTC.
    """

    host: str
    boot: str
    space: str
    pid: int
    start: str
    since: str = ""

    def is_alive(self) -> bool | None:
        """Returns whether it still runs; None if that cannot be seen from here."""
        here = current()
        if self.boot != here.boot:
            # The same machine, started again; or another one, of which nothing is known.
            return False if self.host == here.host and self.boot and here.boot else None
        if self.host != here.host and not here.boot:
            return None
        if self.space != here.space:
            return None
        if not _exists(self.pid):
            return False
        return not self.start or _start(self.pid) in ("", self.start)

    def token(self) -> str:
        """Returns it as a part of a file name; `from_token` reads it."""
        host = re.sub(r"[^\w.-]", "", self.host)[:60]
        return f"{host}~{self.boot}~{self.space}~{self.pid}~{self.start}"

    def describe(self) -> str:
        """Returns it in words, for messages."""
        since = f" since {self.since}" if self.since else ""
        return f"process {self.pid} on {self.host}{since}"


def current() -> Owner:
    """Describes this process.

    Returns:
      The owner, as of now.
    """
    pid = os.getpid()
    try:
        boot = _BOOT.read_text("utf-8").strip().replace("-", "")[:12]
    except OSError:
        boot = ""
    return Owner(
        host=platform.node(),
        boot=boot,
        space=_space(),
        pid=pid,
        start=_start(pid),
        since=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def from_token(token: str) -> Owner | None:
    """Reads what `Owner.token` wrote.

    Args:
      token: A part of a file name.

    Returns:
      The owner; None where it is something else.
    """
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    return Owner(**{**found.groupdict(), "pid": int(found["pid"])})  # type: ignore[arg-type]


def from_json(content: Mapping[str, Any]) -> Owner | None:
    """Reads the fields of an owner.

    Args:
      content: An object with the attributes as keys.

    Returns:
      The owner; None where keys are missing or of another kind.
    """
    fields = {field.name: field.type for field in dataclasses.fields(Owner)}
    values = {name: content.get(name) for name in fields}
    if not all(isinstance(value, int if n == "pid" else str) for n, value in values.items()):
        return None
    return Owner(**values)  # type: ignore[arg-type]


def _space() -> str:
    try:
        return re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat behind the name, which may hold spaces and brackets."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def _start(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _exists(pid: int) -> bool:
    if _stat(pid)[:1] == ["Z"]:  # dead, and not yet taken note of by who started it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's
        return True
    return True
