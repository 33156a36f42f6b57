"""Starts the command anew with an allocator that keeps its memory; before JAX is imported.

XLA on CPUs frees the temporaries of each step and asks for them again. glibc gives large blocks
back to the system at once, which then maps and clears them page by page: a quarter of the CPU time
of a training. Its settings are read when a process starts, from GLIBC_TUNABLES, so nothing can set
them from within: the process is replaced by itself, same number, same arguments, two tenths of a
second later. Only commands do this, never the package that a notebook imports.
"""

import os
import sys
from collections.abc import Mapping

# Large blocks come from the heap; the heap is not given back below 16 GiB; it has huge pages where
# the system allows them. All threads share it: heaps of single threads hold 64 MB and are given
# back whenever they are empty, whatever the second setting says.
TUNABLES = ":".join(
    (
        "glibc.malloc.mmap_max=0",
        "glibc.malloc.trim_threshold=17179869184",
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.arena_max=1",
    )
)
SWITCH = "GANAVATAR_JAX_ALLOCATOR"  # "keep" (default) or "plain", which leaves everything as it is
_TUNABLES = "GLIBC_TUNABLES"
_STARTED = "_GANAVATAR_JAX_STARTED"  # holds what GLIBC_TUNABLES was, for children


def keep_memory() -> None:
    """Replaces this process by one whose allocator keeps memory; returns in that one.

    Does nothing where the C library is another, where the user chose settings of malloc, and where
    the environment says GANAVATAR_JAX_ALLOCATOR=plain. Children get the environment as it was.
    """
    environment = changed_environment(os.environ, libc=_name_libc())
    if environment is not None and sys.executable:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    restore(os.environ)


def changed_environment(environment: Mapping[str, str], *, libc: str) -> dict[str, str] | None:
    """Says with which environment the command is to be started anew.

    Args:
      environment: What it has now.
      libc: Name and version of the C library, such as "glibc 2.36"; empty for others.

    Returns:
      The new environment; None where the process is to stay as it is.
    """
    tunables = environment.get(_TUNABLES, "")
    if (
        not libc.startswith("glibc")
        or _STARTED in environment
        or environment.get(SWITCH, "keep") == "plain"
        or "glibc.malloc." in tunables
    ):
        return None
    joined = f"{tunables}:{TUNABLES}" if tunables else TUNABLES
    return {**environment, _TUNABLES: joined, _STARTED: tunables}


def restore(environment: os._Environ[str] | dict[str, str]) -> None:
    """Gives back the environment that the user had, in which children start.

    Args:
      environment: That of a process started anew; changed in place. Others stay as they are.
    """
    before = environment.pop(_STARTED, None)
    if before:
        environment[_TUNABLES] = before
    elif before is not None:
        environment.pop(_TUNABLES, None)


def _name_libc() -> str:
    """Names the C library where there is one that says its name."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):  # not POSIX, or not glibc
        return ""
