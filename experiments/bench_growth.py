"""How time grows with rays, samples, images and side: exponents, fitted on logarithms."""

from typing import Any

import numpy as np

_RENDER = "generator.render."
# What grows: the stage, the start of its names, and the steps (what is counted, batch, config).
_SERIES: dict[str, tuple[str, list[tuple[float, int, dict[str, Any]]]]] = {
    "rays": (
        "renderer",
        [(side * side, 4, {"generator.neural_resolution": side}) for side in (16, 24, 32, 48, 64)],
    ),
    "samples": (
        "renderer",
        [
            (
                2 * n,
                4,
                {f"{_RENDER}depth_resolution": n, f"{_RENDER}depth_resolution_importance": n},
            )
            for n in (6, 12, 24, 32, 48)
        ],
    ),
    "batch": ("generator", [(n, n, {}) for n in (2, 4, 8, 16)]),
    "pixels": (
        "generator",
        [
            (
                side * side,
                4,
                {
                    "generator.img_resolution": side,
                    "generator.neural_resolution": side // 2,
                    "generator.plane_resolution": side,
                    "generator.channel_base": 32 * side,
                },
            )
            for side in (32, 64, 128)
        ],
    ),
}


def fit(sizes: list[float], seconds: list[float]) -> float:
    """Fits the exponent of time = constant x size^exponent."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(side: Any, rounds: int) -> tuple[dict[str, Any], list[str]]:
    """Measures every series, forwards and with gradients; all steps of one take turns.

    Args:
      side: A process that runs stages, at size small.
      rounds: Turns; medians of CPU time count, which other jobs disturb least.

    Returns:
      The numbers, and the lines of a table.
    """
    found: dict[str, Any] = {}
    lines = ["| what grows | stage | sizes | CPU ms | exponent |", "|---|---|---|---|---|"]
    for name, (stage, steps) in _SERIES.items():
        for kind in (stage, f"{stage}_gradient"):
            times = []
            for _, batch, changes in steps:
                question = {"stage": kind, "batch": batch, "set": changes}
                turns = [side.ask(**question) for _ in range(rounds)]
                times.append(float(np.median([t["user"] + t["system"] for t in turns])))
            sizes = [step[0] for step in steps]
            exponent = fit(sizes, times)
            found[f"{name}/{kind}"] = {"sizes": sizes, "cpu_s": times, "exponent": exponent}
            cells = [", ".join(f"{s:g}" for s in sizes), ", ".join(f"{1e3 * t:.0f}" for t in times)]
            lines.append(f"| {name} | {kind} | {' | '.join(cells)} | {exponent:.2f} |")
    return found, lines
