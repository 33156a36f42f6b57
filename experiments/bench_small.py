"""Compares the quickstart of this tree with that of an earlier commit; both run in turns.

python -m experiments.bench_small [--against=cab2846] [--part=0.2] [--slice_s=4] [--json=FILE]

Both are the command itself, each in a folder and with a compile cache of its own that start empty.
They take turns of some seconds: one is stopped (SIGSTOP) while the other runs, so that a busy
machine is busy for both. A command's time is that of its own turns, from start to exit.

`--part` scales what is trained: 0.2 is 2 of 10 kimg, 180 of 900 frontal pairs and a fifth of the
steps of the mapping. What does not scale (start, compiling, evaluation, videos) then weighs more
than in the whole command, `--part=1`, which takes a quarter of an hour or more.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import bench_sides
import script

from configs import quickstart
from ganavatar_jax.core import errors

_POLL_S = 0.05


class Command:
    """A command that runs when it is its turn, and the time of its turns."""

    def __init__(self, tree: pathlib.Path, folder: pathlib.Path, arguments: list[str]) -> None:
        folder.mkdir(parents=True)
        self.metrics = folder / "run" / "metrics.jsonl"
        self.log = folder / "log.txt"
        self.active, self.marks, self.usage = 0.0, [], None
        base = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        environment = base | {
            "PYTHONPATH": str(tree),
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PLATFORMS": "cpu",
        }
        with open(self.log, "w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ganavatar_jax.main", "--config=configs/quickstart.py"]
                + [f"--workdir={folder / 'run'}", *arguments],
                cwd=tree,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._signal(signal.SIGSTOP)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.usage is not None

    def run(self, seconds: float) -> None:
        """Runs for some seconds, or to its end.

        Raises:
          RunError: it has failed.
        """
        self._signal(signal.SIGCONT)
        start = time.perf_counter()
        while not self.done and time.perf_counter() - start < seconds:
            time.sleep(_POLL_S)
            self._look(self.active + time.perf_counter() - start)
            number, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if number:
                self.usage = usage
                self._process.returncode = code = os.waitstatus_to_exitcode(status)
                if code:
                    raise errors.RunError(f"the quickstart failed:\n{self.log.read_text()[-2000:]}")
        self.active += time.perf_counter() - start
        if not self.done:
            self._signal(signal.SIGSTOP)

    def end(self) -> None:
        """Ends it where it has not ended."""
        if not self.done:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGKILL)
            self._process.wait()

    def report(self) -> dict[str, Any]:
        """Says what it cost."""
        assert self.usage is not None
        (first_s, first), (last_s, last) = self.marks[0], self.marks[-1]
        return {
            "s_per_kimg": (last_s - first_s) / (last - first),
            "first_line_s": first_s,
            "command_s": self.active,
            "user_s": self.usage.ru_utime,
            "system_s": self.usage.ru_stime,
            "peak_mib": self.usage.ru_maxrss / 1024,
        }

    def _signal(self, number: int) -> None:
        os.killpg(self._process.pid, number)

    def _look(self, now: float) -> None:
        """Notes when lines of the training have come."""
        if not self.metrics.exists():
            return
        lines = [json.loads(line) for line in self.metrics.read_text().splitlines(keepends=True)
                 if line.endswith("\n")]  # fmt: skip
        trained = [line["kimg"] for line in lines if line.get("stage") == "train_gan"]
        if trained and (not self.marks or trained[-1] > self.marks[-1][1]):
            self.marks.append((now, trained[-1]))


def scale(part: float) -> list[str]:
    """Returns the arguments that shrink the quickstart to a part of it."""
    config = quickstart.get_config()
    values = {
        "gan.total_kimg": config.gan.total_kimg * part,
        "frontal.count": round(config.frontal.count * part),
        "mapping.latent_steps": round(config.mapping.latent_steps * part),
        "mapping.steps": round(config.mapping.steps * part),
    }
    return [] if part == 1.0 else [f"--config.{name}={value}" for name, value in values.items()]


def compare(tree: pathlib.Path, folder: pathlib.Path, options: Any) -> dict[str, Any]:
    """Runs both commands in turns until both have ended."""
    arguments = scale(options.part)
    commands = {}
    try:
        for name, where in (("before", tree), ("after", bench_sides.ROOT)):
            commands[name] = Command(where, folder / name, arguments)
        while not all(command.done for command in commands.values()):
            for command in commands.values():
                if not command.done:
                    command.run(options.slice_s)
    finally:
        for command in commands.values():
            command.end()
    found = {name: command.report() for name, command in commands.items()}
    before, after = found["before"], found["after"]
    cpu = [side["user_s"] + side["system_s"] for side in (before, after)]
    return {
        "ratio_s_per_kimg": before["s_per_kimg"] / after["s_per_kimg"],
        "ratio_command": before["command_s"] / after["command_s"],
        "ratio_command_cpu": cpu[0] / cpu[1],
        "part": options.part,
        "against": options.against,
        "load": os.getloadavg()[0],
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", default="cab2846")
    parser.add_argument("--part", type=float, default=0.2)
    parser.add_argument("--slice_s", type=float, default=4.0)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    with (
        bench_sides.checked_out(options.against) as tree,
        tempfile.TemporaryDirectory() as folder,
    ):
        found = compare(tree, pathlib.Path(folder), options)
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    script.run(main)
