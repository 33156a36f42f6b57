"""How time grows with rays, samples, images and side: exponents, fitted on logarithms."""

from typing import Any

import numpy as np

_RENDER = "generator.render."
# What grows: its stages, and the steps (what is counted, batch, changes of the config).
_SERIES: dict[str, tuple[tuple[str, ...], list[tuple[float, int, dict[str, Any]]]]] = {
    "rays": (
        ("renderer", "renderer_gradient"),
        [(side * side, 4, {"generator.neural_resolution": side}) for side in (16, 32, 64)],
    ),
    "samples": (
        ("renderer", "renderer_gradient"),
        [
            (2 * n, 4, {f"{_RENDER}depth_resolution{kind}": n for kind in ("", "_importance")})
            for n in (8, 16, 32, 48)
        ],
    ),
    "batch": (("generator_gradient",), [(n, n, {}) for n in (2, 4, 8)]),
    "pixels": (
        ("generator_gradient",),
        [
            (
                side * side,
                2,
                {
                    "generator.img_resolution": side,
                    "generator.neural_resolution": side // 2,
                    "generator.plane_resolution": side,
                    "generator.channel_base": 32 * side,  # the same channels at each distance
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
    """Measures every series.

    Args:
      side: A process that runs stages, at size small.
      rounds: Runs of each; medians of CPU time count, which other jobs disturb least.

    Returns:
      The numbers, and the lines of a table.
    """
    found: dict[str, Any] = {}
    lines = ["| what grows | stage | sizes | CPU ms | exponent |", "|---|---|---|---|---|"]
    for name, (stages, steps) in _SERIES.items():
        for kind in stages:
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
