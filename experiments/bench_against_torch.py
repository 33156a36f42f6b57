"""Compares this tree with plain PyTorch where it matters: the forward pass, each phase, memory.

python -m experiments.bench_against_torch [--torch_python=PYTHON] [--size=thin] [--cores=2] \
    [--json=FILE]

Each case starts two processes anew, on the same weights and inputs, that take turns; ratios are
torch / ours for time and ours / torch for memory. The forward pass is the paper's at its full size
for one image; the phases have the paper's size with an eighth of the channels (`--size=half`: and
half of the side) and two images; the reconstruction step is the quickstart's. Each side handles
memory and cores as its users have it: ours as commands do, PyTorch with its defaults and a thread
for each core.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import bench
import script

from configs import quickstart

# The original's forward pass of one image took 4.1 s on two quiet cores (AVX-512), where a matrix
# product reached 405 GFLOP/s: the PyTorch side may take a tenth more than that of CPU time, scaled
# by what a matrix product reaches here.
_ORIGINAL_CPU_S, _ORIGINAL_MATMUL = 2 * 4.1, 405e9 / 2
_MAY_TAKE = 1.1


def make_cases(size: str) -> dict[str, tuple[str, int, str]]:
    """Lists the cases: size, images and stage of each."""
    return {
        "generator_forward": ("full", 1, "generator"),
        "g_main": (size, 2, "g_main"),
        "d_main": (size, 2, "d_main"),
        "r1": (size, 2, "d_reg"),
        "reconstruction_step": ("small", 8, "recon"),
    }


def run_case(case: tuple[str, int, str], options: argparse.Namespace) -> dict[str, Any]:
    """Runs a case in two fresh processes."""
    size, batch, stage = case
    arguments = ["--against=torch", f"--size={size}", f"--batch={batch}", f"--what={stage}"]
    arguments += [f"--cores={options.cores}", f"--torch_python={options.torch_python}"]
    if size == "small":  # as the command has it
        devices = min(options.cores, max(1, quickstart.get_config().devices.cpu_virtual))
        arguments += [f"--devices={devices}"]
    with bench.open_sides(bench.parse(arguments)) as sides:
        result = bench.run_stage(sides, stage, options.rounds)
        result["peak_mib"] = {k: result[k]["peak_mib"] for k in sides}  # before the ceilings
        result["ceilings"] = bench.measure_ceilings(sides, 3)
    result["case"] = dict(zip(("size", "batch", "stage"), case, strict=True))
    print(bench.show(stage, {k: result[k] for k in ("ours", "torch", "counts", "ratios")},
                     result["ceilings"]), flush=True)  # fmt: skip
    return result


def summarise(found: dict[str, Any]) -> dict[str, float]:
    """Gathers the ratios of wall time; memory is that of the phase that takes most."""
    ratios = {name: result["ratios"]["wall"] for name, result in found.items()}
    phases = [found[name]["peak_mib"] for name in ("g_main", "d_main", "r1") if name in found]
    if phases:
        most = {side: max(peaks[side] for peaks in phases) for side in ("ours", "torch")}
        ratios["peak_memory"] = most["ours"] / most["torch"]
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch_python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--size", choices=("thin", "half", "tiny"), default="thin")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=list(make_cases("thin")), default=None)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    print(bench.HEAD)
    found: dict[str, Any] = {}
    for name, case in make_cases(options.size).items():
        if options.cases is None or name in options.cases:
            found[name] = run_case(case, options)
    report: dict[str, Any] = {"ratios": summarise(found), "about": bench.describe(options)}
    report["ratios_cpu"] = {name: result["ratios"]["cpu"] for name, result in found.items()}
    if "generator_forward" in found:
        forward = found["generator_forward"]
        speed = forward["ceilings"]["ceiling_matmul"]
        report["torch_forward"] = {
            "may_take_cpu_s": _MAY_TAKE * _ORIGINAL_CPU_S * _ORIGINAL_MATMUL / speed,
            "took_cpu_s": forward["torch"]["cpu"],
        }
    report["cases"] = found
    print(json.dumps({k: report[k] for k in report if k != "cases"}, indent=2))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    script.run(main)
