"""Compares the time, CPU time and page faults of stages: this tree with another commit, in turns.

python experiments/bench.py --against=HEAD~1 [--what query renderer_gradient] [--size=small|full] \
    [--batch=8] [--cores=1] [--rounds=9] [--allocators keep plain] [--json=FILE]

Both sides are processes of their own that live all the time and take the steps of a stage in turns,
so that a busy machine is busy for both. The table shows medians, and before / after as a ratio.
`--allocators` says how each side's memory is handled, ours first, as the command does it ("keep")
or as the C library does it by itself ("plain"); `--against=` without a commit is this tree itself.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import bench_stages
import numpy as np
import script

from ganavatar_jax.apps import allocator
from ganavatar_jax.core import errors

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIELDS = ("wall", "user", "system", "faults", "peak_mib")


class Side:
    """A process that runs stages of one tree."""

    def __init__(self, tree: pathlib.Path, kind: str, options: argparse.Namespace) -> None:
        base = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        environment = {**base, "PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"}
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"  # of false alarms at each use of a compile cache
        if kind == "keep":
            environment["GLIBC_TUNABLES"] = allocator.TUNABLES
        command = [sys.executable, str(ROOT / "experiments" / "bench_stages.py"), options.size]
        self._process = subprocess.Popen(
            [*command, str(options.batch), str(options.cores)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, stage: str) -> dict[str, float]:
        """Runs a stage once, after it has been compiled and run before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"stage": stage}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise errors.RunError(f"{stage}: the process that ran it has ended; see above.")
        return json.loads(line)

    def end(self) -> None:
        """Lets the process end, and waits for it."""
        self._process.communicate()


def compare(sides: list[Side], stage: str, rounds: int) -> dict[str, Any]:
    """Runs a stage on both sides in turns; medians of each side, ours first, and their ratios."""
    found = [[side.run(stage) for side in sides] for _ in range(rounds)]
    ours, theirs = (
        {field: float(np.median([turn[k][field] for turn in found])) for field in FIELDS}
        for k in (0, 1)
    )
    for side in (ours, theirs):
        side["cpu"] = side["user"] + side["system"]
    ratios = {field: theirs[field] / max(ours[field], 1e-9) for field in ("wall", "cpu")}
    return {"ours": ours, "theirs": theirs, "ratios": ratios}


def show(stage: str, result: dict[str, Any]) -> str:
    """Writes one row of the table: theirs, then ours, and the ratios."""

    def pair(field: str, scale: float) -> str:
        return " / ".join(f"{scale * result[k][field]:.0f}" for k in ("theirs", "ours"))

    cells = [pair("wall", 1e3), pair("user", 1e3), pair("system", 1e3), pair("faults", 1.0)]
    cells += [pair("peak_mib", 1.0), f"{result['ratios']['wall']:.2f}"]
    return f"| {stage} | {' | '.join(cells)} | {result['ratios']['cpu']:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", default="HEAD", help="a commit; empty for this tree")
    parser.add_argument("--what", nargs="+", choices=bench_stages.STAGES, default=["recon"])
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--allocators", nargs=2, choices=("keep", "plain"), default=["keep"] * 2)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        theirs = ROOT
        if options.against:
            theirs = pathlib.Path(folder)
            archive = subprocess.run(
                ["git", "-C", str(ROOT), "archive", options.against], capture_output=True
            )
            if archive.returncode:
                message = archive.stderr.decode().strip().splitlines()[-1]
                raise errors.ConfigError(f"--against: expected a commit; got {message}")
            subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        trees = zip((ROOT, theirs), options.allocators, strict=True)
        sides = [Side(tree, kind, options) for tree, kind in trees]
        results = {}
        print("before / after, ms and MiB\n")
        print("| stage | wall | user | system | faults | peak | wall ratio | CPU ratio |")
        print("|---|---|---|---|---|---|---|---|")
        for stage in options.what:
            results[stage] = compare(sides, stage, options.rounds)
            print(show(stage, results[stage]), flush=True)
        for side in sides:
            side.end()
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    script.run(main)
