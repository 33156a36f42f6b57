"""Processes that run stages, one a side; they live all the time and take the stages in turns."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ganavatar_jax.apps import allocator
from ganavatar_jax.core import errors

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "experiments"
FIELDS = ("wall", "user", "system", "faults", "peak_mib", "first")


class Side:
    """A process that runs stages."""

    def __init__(
        self, command: list[str], setting: Mapping[str, Any], *, keep: bool, tree: pathlib.Path
    ) -> None:
        base = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        environment = {**base, "PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"}
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"  # of false alarms at each use of a compile cache
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # what compiling costs is asked for
        if keep:
            environment["GLIBC_TUNABLES"] = allocator.TUNABLES
        self._process = subprocess.Popen(
            [*command, json.dumps(dict(setting))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """Asks for something and waits for the answer.

        Raises:
          RunError: the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise errors.RunError(f"{question}: the process that ran it has ended; see above.")
        return json.loads(line)

    def end(self) -> None:
        """Lets the process end, and waits for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def start_jax(
    setting: Mapping[str, Any], *, tree: pathlib.Path = ROOT, allocator: str = "keep"
) -> Side:
    """Starts a side that runs `ganavatar_jax` of a tree."""
    command = [sys.executable, str(FOLDER / "bench_stages.py")]
    return Side(command, setting, keep=allocator == "keep", tree=tree)


def start_torch(python: str, setting: Mapping[str, Any], *, allocator: str = "plain") -> Side:
    """Starts a side that runs the same in PyTorch, on what `arrays` of the setting names."""
    command = [python, str(FOLDER / "torch_baseline" / "stages.py")]
    return Side(command, setting, keep=allocator == "keep", tree=ROOT)


@contextmanager
def checked_out(revision: str) -> Iterator[pathlib.Path]:
    """Unpacks a commit into a folder that goes away again; nothing asks for this tree itself.

    Raises:
      ConfigError: there is no such commit.
    """
    if not revision:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", revision], capture_output=True)
        if archive.returncode:
            message = archive.stderr.decode().strip().splitlines()[-1]
            raise errors.ConfigError(f"expected a commit; got {message}")
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield pathlib.Path(folder)


def take_turns(sides: Mapping[str, Side], question: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Asks all sides the same in turns; returns the medians of each."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for turn in range(rounds):
        names = list(sides) if turn % 2 else list(sides)[::-1]
        for name in names:
            found[name].append(sides[name].ask(**question))
    result = {}
    for name, turns in found.items():
        result[name] = {
            field: float(np.median([turn[field] for turn in turns])) for field in FIELDS
        }
        result[name]["cpu"] = result[name]["user"] + result[name]["system"]
        result[name]["compile"] = max(0.0, result[name]["first"] - result[name]["wall"])
        result[name] |= {k: v for k, v in turns[-1].items() if k not in FIELDS}
    return result


def ratios(result: Mapping[str, Any], *, ours: str, theirs: str) -> dict[str, float]:
    """Divides their costs by ours."""
    return {
        field: result[theirs][field] / max(result[ours][field], 1e-9)
        for field in ("wall", "cpu", "peak_mib")
    }
