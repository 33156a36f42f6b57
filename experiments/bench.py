"""Times stages of this tree; compares them with another commit or with plain PyTorch, in turns.

python -m experiments.bench --what recon g_main                      # this tree and its ceilings
python -m experiments.bench --against=HEAD~1 --what query renderer_gradient [--size=full]
python -m experiments.bench --against=torch --what generator --size=full --batch=1
python -m experiments.bench --what growth                            # exponents of time

Both sides are processes of their own that live all the time and take the steps of a stage in turns,
so that a busy machine is busy for both; medians are shown, and before / after (or torch / ours) as
ratios. Ceilings of the machine (matrix product, copy, lookup) are measured in the same run; what
a stage computes and moves at least is counted from its trace, and stands beside them. Both are a
second of CPU time, of all cores together, which other jobs disturb less than the wall's.

--allocators says how each side's memory is handled, ours first, as commands do it ("keep") or as
the C library does by itself ("plain"); `--against=` without a commit is this tree itself.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import sys
import tempfile
from typing import Any

import bench_growth
import bench_sides
import script

NONE, TORCH = "none", "torch"
CEILINGS = ("ceiling_matmul", "ceiling_copy", "ceiling_gather")
_COUNTED = {"ceiling_matmul": "products", "ceiling_copy": "moved", "ceiling_gather": "gathered"}
HEAD = (
    "| stage | side | wall ms | user ms | system ms | faults | peak MiB | compile s | GFLOP/s "
    "| of matmul | GB/s | of copy | least CPU ms |\n|" + "---|" * 13
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", default=NONE, help="none, torch, or a commit")
    parser.add_argument("--what", nargs="+", default=["recon"], metavar="STAGE")
    parser.add_argument("--size", default="small", help="small, full, thin, half or tiny")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1, help="virtual devices of phases")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--allocators", nargs=2, choices=("keep", "plain"), default=None)
    parser.add_argument("--torch_python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--markdown", type=pathlib.Path)
    return parser.parse_args(arguments)


@contextlib.contextmanager
def open_sides(options: argparse.Namespace) -> Any:
    """Starts the sides that are asked for: ours, and theirs if there is a comparison."""
    setting = {"size": options.size, "batch": options.batch, "cores": options.cores}
    kinds = options.allocators or ["keep", "plain" if options.against == TORCH else "keep"]
    with contextlib.ExitStack() as stack:
        ours = setting | {"devices": options.devices}
        sides = {"ours": bench_sides.start_jax(ours, allocator=kinds[0])}
        stack.callback(sides["ours"].end)
        if options.against == TORCH:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            setting["arrays"] = str(pathlib.Path(folder) / "arrays.npz")
            sides["ours"].ask(export=setting["arrays"])
            sides["torch"] = bench_sides.start_torch(
                options.torch_python, setting, allocator=kinds[1]
            )
        elif options.against != NONE:
            tree = stack.enter_context(bench_sides.checked_out(options.against))
            sides["before"] = bench_sides.start_jax(ours, tree=tree, allocator=kinds[1])
        for name, side in sides.items():
            if name != "ours":
                stack.callback(side.end)
        yield sides


def run_stage(sides: dict[str, Any], stage: str, rounds: int) -> dict[str, Any]:
    """Runs a stage on all sides in turns, and says what it computes and moves at least."""
    result = bench_sides.take_turns(sides, {"stage": stage}, rounds)
    result["counts"] = sides["ours"].ask(count=stage)
    for name in sides:
        if name != "ours":
            result["ratios"] = bench_sides.ratios(result, ours="ours", theirs=name)
    return result


def measure_ceilings(sides: dict[str, Any], rounds: int) -> dict[str, float]:
    """Measures FLOP/s of products and bytes/s of copies and lookups, a second of CPU time.

    The fastest turns count. CPU time, because a busy machine leaves a process half of the wall's.
    """
    ours, found = sides["ours"], {}
    for name in CEILINGS:
        turns = [ours.ask(stage=name) for _ in range(rounds)]
        best = min(turn["user"] + turn["system"] for turn in turns)
        found[name] = ours.ask(count=name)[_COUNTED[name]] / best
    return found


def least_seconds(counts: dict[str, float], ceilings: dict[str, float]) -> float:
    """The CPU time below which the ceilings do not let a stage come.

    Products and lookups cannot be hidden behind one another on a core, movement can: the larger
    of both counts.
    """
    computing = counts["products"] / ceilings["ceiling_matmul"]
    looking_up = counts["gathered"] / ceilings["ceiling_gather"]
    return max(computing + looking_up, counts["moved"] / ceilings["ceiling_copy"])


def show(stage: str, result: dict[str, Any], ceilings: dict[str, float]) -> str:
    """Writes the rows of a stage, one a side, and their ratios."""
    rows = []
    counts = result["counts"]
    for name in [k for k in result if k not in ("counts", "ratios")]:
        side = result[name]
        flops, moved = counts["products"] / side["cpu"], counts["moved"] / side["cpu"]
        cells = [f"{1e3 * side[k]:.1f}" for k in ("wall", "user", "system")]
        cells += [f"{side['faults']:.0f}", f"{side['peak_mib']:.0f}", f"{side['compile']:.1f}"]
        cells += [f"{flops / 1e9:.1f}", f"{100 * flops / ceilings['ceiling_matmul']:.0f} %"]
        cells += [f"{moved / 1e9:.1f}", f"{100 * moved / ceilings['ceiling_copy']:.0f} %"]
        cells += [f"{1e3 * least_seconds(counts, ceilings):.1f}"]
        rows.append(f"| {stage} | {name} | {' | '.join(cells)} |")
    if "ratios" in result:
        shown = ", ".join(f"{k} {v:.2f}" for k, v in result["ratios"].items())
        rows.append(f"| {stage} | ratio | {shown} |" + " |" * 10)
    return "\n".join(rows)


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """Says on what was measured."""
    with open("/proc/loadavg") if os.path.exists("/proc/loadavg") else open(os.devnull) as file:
        load = file.read().split()[:1]
    return {
        "machine": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "load": load[0] if load else "unknown",
        "python": platform.python_version(),
        "options": {k: str(v) for k, v in vars(options).items()},
    }


def main() -> None:
    options = parse()
    report: dict[str, Any] = {"about": describe(options)}
    lines = [f"size {options.size}, batch {options.batch}, {options.cores} cores", ""]
    with open_sides(options) as sides:
        if options.what == ["growth"]:
            report["growth"], lines = bench_growth.measure(sides["ours"], options.rounds)
            print("\n".join(lines))
        else:
            report["ceilings"] = ceilings = measure_ceilings(sides, options.rounds)
            lines += [f"{k}: {v / 1e9:.1f} G/s" for k, v in ceilings.items()] + ["", HEAD]
            print("\n".join(lines))
            report["stages"] = {}
            for stage in options.what:
                report["stages"][stage] = run_stage(sides, stage, options.rounds)
                lines.append(show(stage, report["stages"][stage], ceilings))
                print(lines[-1], flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    script.run(main)
