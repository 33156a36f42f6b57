"""Kills runs with -9 at random moments, starts them again, and compares what they make in the end.

python experiments/chaos.py FOLDER --runs 20 --mode all

First one run goes through undisturbed. Each of the others is killed `--kills` times, at moments
spread at random over the time the first one took, and started again with the same command until it
is done. What counts is compared to the bit: the exported networks, all rows of metrics but their
times, the evaluation, the set of pairs and what the markers note. The programs are those of
`quickstart:smoke`: reconstruction alone, or all phases with ADA. With `--mode film` a film is
prepared, and its dataset is compared.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import script

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODES = {
    "reconstruction": ("--config.gan.reconstruction.warmup_iterations=-1",),
    "all": (
        "--config.gan.augment=ada",
        "--config.gan.ada_interval=1",
        "--config.gan.ada_kimg=0.1",
        "--config.gan.augment_p=0.2",
    ),
    "film": ("--task=prepare_data", "--config.data.format=video"),
}
LENGTH = ("--config.gan.total_kimg=0.064",)  # eight iterations, a checkpoint after each


def start(workdir: pathlib.Path, options: list[str], log: pathlib.Path) -> subprocess.Popen[bytes]:
    """Starts the command."""
    command = [sys.executable, "-m", "ganavatar_jax.main"]
    command += [f"--config={ROOT / 'configs' / 'quickstart.py'}:smoke", f"--workdir={workdir}"]
    with log.open("ab") as out:
        return subprocess.Popen(
            [*command, *options],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def finish(workdir: pathlib.Path, options: list[str], log: pathlib.Path) -> float:
    """Runs the command to its end; returns the seconds it took."""
    began = time.monotonic()
    if start(workdir, options, log).wait():
        raise SystemExit(f"{workdir} failed; see {log}")
    return time.monotonic() - began


def results(workdir: pathlib.Path) -> dict[str, object]:
    """Everything that has to be the same, by name."""
    found: dict[str, object] = {}
    for path in sorted((workdir / "checkpoints" / "export").glob("*.safetensors")):
        found[path.name] = _tensors(path)
    for name in ("metrics.json", "per_frame.csv", "contact_sheet.png"):
        path = workdir / "evaluation" / name
        if path.is_file():
            found[name] = path.read_bytes()
    for path in sorted((workdir / "dataset").glob("*/*/*.array_record*")):
        found[str(path.relative_to(workdir))] = path.read_bytes()
    for path in sorted((workdir / "stages").glob("*.json")):
        info = json.loads(path.read_text())["info"]
        found[path.name] = {key: value for key, value in info.items() if key != "flags"}
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    found["metrics.jsonl"] = [
        {name: v for name, v in row.items() if not name.startswith("time/")} for row in rows
    ]
    return found


def _tensors(path: pathlib.Path) -> bytes:
    """The tensors of a file, without what its header notes of the run."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def disturb(
    workdir: pathlib.Path,
    options: list[str],
    moments: list[float],
    log: pathlib.Path,
) -> list[str]:
    """Kills a run at some moments of its time, then lets it end; says where it was each time."""
    places = []
    for moment in moments:
        process = start(workdir, options, log)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            places.append(f"{moment:.1f} s ({where(workdir)})")
    finish(workdir, options, log)
    return places


def where(workdir: pathlib.Path) -> str:
    """Says how far a killed run was."""
    done = sorted((workdir / "stages").glob("*.json"), key=lambda path: path.stat().st_mtime)
    tmp = "; a checkpoint half written" if list(workdir.rglob("*orbax-checkpoint-tmp*")) else ""
    steps = [p.name for p in (workdir / "checkpoints" / "gan").glob("[0-9]*") if p.name.isdecimal()]
    step = f", step {max(map(int, steps))}" if steps else ""
    return (f"after {done[-1].stem}" if done else "at the start") + step + tmp


def main() -> None:
    """Disturbs runs and counts those that end the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=1, help="of each run")
    parser.add_argument("--mode", choices=MODES, default="all")
    parser.add_argument("--source", default="", help="the film of --mode film")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    options = [*MODES[asked.mode], *(LENGTH if asked.mode != "film" else ())]
    if asked.source:
        options.append(f"--config.data.source={asked.source}")
    asked.folder.mkdir(parents=True, exist_ok=True)
    finish(asked.folder / "first", options, asked.folder / "first.log")  # fills the compile cache
    expected = results(asked.folder / "first")
    shutil.rmtree(asked.folder / "first")
    length_s = finish(asked.folder / "first", options, asked.folder / "first.log")
    assert results(asked.folder / "first") == expected, "two undisturbed runs differ"
    print(f"undisturbed: {length_s:.0f} s, {len(expected)} results", flush=True)
    draws, total = random.Random(asked.seed), asked.runs * asked.kills
    moments = [(number + draws.random()) / total * length_s for number in range(total)]
    draws.shuffle(moments)
    same = 0
    for run in range(asked.runs):
        workdir, log = asked.folder / f"run{run}", asked.folder / f"run{run}.log"
        mine = moments[run * asked.kills : (run + 1) * asked.kills]
        places = disturb(workdir, options, mine, log)
        found = results(workdir)
        other = [name for name in expected if found.get(name) != expected[name]]
        same += not other
        print(
            f"run {run}: killed {'; '.join(places) or 'never'}: {other or 'the same'}", flush=True
        )
        if not other:
            shutil.rmtree(workdir)
    print(f"{same} of {asked.runs} ended the same, {total} kills", flush=True)
    sys.exit(same != asked.runs)


if __name__ == "__main__":
    script.run(main)
