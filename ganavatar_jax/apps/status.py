"""Task status: how far a run folder is, who works in it, and what it holds; nothing is written."""

import datetime
import json
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from ganavatar_jax.core import errors
from ganavatar_jax.runs import lock, metric_writer, run_dir

_STAGES = ("prepare_data", "train_gan", "make_frontals", "train_mapping", "evaluate", "render")
_LOSSES = ("loss/recon_l1", "loss/g", "loss/d", "train/latent", "validation/photometric")
_SCORES = ("psnr", "ssim", "lpips_alex")
_LISTED = 4


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Prints the state of a run folder.

    Args:
      config: Not looked at: what counts is what the folder was made with.
      workdir: The run folder.

    Raises:
      RunError: there is no run folder, or a file of it is damaged.
    """
    del config
    print("\n".join(describe(workdir)))


def describe(workdir: pathlib.Path, *, now: float | None = None) -> list[str]:
    """Describes the state of a run folder.

    Args:
      workdir: The run folder.
      now: Seconds since 1970; None is the present.

    Returns:
      Lines of text.

    Raises:
      RunError: there is no run folder, or a file of it is damaged.
    """
    if not (workdir / "config.json").is_file():
        raise errors.RunError(
            f"{workdir}: there is no run folder (no config.json); check the path of --workdir."
        )
    now = time.time() if now is None else now
    opened = run_dir.RunDir(workdir)
    holder = lock.holder(workdir)
    lines = [
        f"{workdir}",
        f"  at work: {holder.describe() if holder is not None else 'nobody'}",
        *(f"  {line}" for line in _describe_stages(opened, now)),
        *(f"  {line}" for line in _describe_checkpoints(workdir, now)),
        f"  disk: {_describe_disk(workdir)}",
    ]
    return lines


def _describe_stages(opened: run_dir.RunDir, now: float) -> Iterator[str]:
    rows = metric_writer.read_metrics(opened.metrics)
    config = json.loads((opened.path / "config.json").read_text("utf-8"))
    for name in _STAGES:
        marker = opened.read_marker(name)
        own = [row for row in rows if row["stage"] == name]
        if marker is not None:
            yield f"{name}: complete {marker.time_utc}{_describe_result(name, marker)}"
        elif own:
            age = _describe_age(now - opened.metrics.stat().st_mtime)
            yield f"{name}: {_describe_progress(name, own[-1], config)}, last line {age} ago"
        else:
            yield f"{name}: not begun, or nothing to show yet"


def _describe_result(name: str, marker: run_dir.Marker) -> str:
    """What was made, and what it was made from."""
    info, parts = marker.info, []
    if name == "prepare_data":
        splits = info.get("splits", {})
        parts.append(", ".join(f"{count} {split}" for split, count in splits.items()) + " frames")
        parts.append(f"of {info.get('source')}")
    elif name == "train_gan":
        parts.append(f"{info.get('kimg')} kimg on {info.get('frames')} frames")
    elif name == "make_frontals":
        parts.append(f"{info.get('read')} of {info.get('sampled')} renders read")
    elif name == "train_mapping":
        best = info.get("validation", {})
        parts.append(f"best at step {best.get('step')}, validation {_number(best.get('score'))}")
    elif name == "evaluate":
        ours = info.get("ours", {})
        parts += [f"{score} {_number(ours[score])}" for score in _SCORES if score in ours]
    if marker.identity is not None:
        known = {thing: mark for thing, mark in marker.identity.consumed.items() if mark}
        if known:
            from_ = ", ".join(f"{thing} {mark[:8]}" for thing, mark in known.items())
            parts.append(f"made from {from_}")
    return f" ({'; '.join(parts)})" if parts else ""


def _describe_progress(name: str, row: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """How far a stage under way is, how fast, and how its losses are."""
    parts = [f"step {row['step']}"]
    if name == "train_gan":
        total = config.get("gan", {}).get("total_kimg", 0.0)
        parts = [f"{row['kimg']:.6g} of {total:g} kimg (step {row['step']})"]
        rate = row.get("time/s_per_kimg")
        if isinstance(rate, float):
            left = _describe_age(max(total - row["kimg"], 0.0) * rate)
            parts += [f"{rate:.3g} s/kimg", f"about {left} left"]
    parts += [f"{loss} {_number(row[loss])}" for loss in _LOSSES if row.get(loss) is not None]
    return ", ".join(parts)


def _describe_checkpoints(workdir: pathlib.Path, now: float) -> Iterator[str]:
    folder = workdir / "checkpoints"
    steps = sorted(int(p.name) for p in folder.glob("gan/[0-9]*") if p.name.isdecimal())
    if steps:
        age = _describe_age(now - (folder / "gan" / str(steps[-1])).stat().st_mtime)
        shown = ", ".join(map(str, steps[-_LISTED:]))
        yield f"checkpoints: steps {shown}; the newest is {age} old"
    aside = sorted(p.name for p in folder.glob("*") if "damaged" in p.name or "before_" in p.name)
    if aside:
        yield f"kept aside: {', '.join(aside)}"


def _describe_disk(workdir: pathlib.Path) -> str:
    sizes: dict[str, int] = {}
    for path in workdir.rglob("*"):
        if path.is_file():
            part = path.relative_to(workdir).parts[0]
            sizes[part] = sizes.get(part, 0) + path.stat().st_size
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:_LISTED]
    parts = ", ".join(f"{name} {_mb(size)}" for name, size in largest)
    return f"{_mb(sum(sizes.values()))} ({parts})"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "unknown"


def _describe_age(seconds: float) -> str:
    """Words a time span: "1:02:03" for hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=max(round(seconds), 0)))
