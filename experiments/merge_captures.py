"""Merges EG3D-style archives of many people into one, with every n-th frame held out.

    python experiments/merge_captures.py people_0.zip people_1.zip people_frontal.zip \
        --dst=runs/people.zip --hold_out=20

Frames keep their pixels, cameras and codes; each gets its archive's name in front, so that names
stay unique. Frames of one archive are one sequence.
"""

import argparse
import json
import pathlib
import zipfile
from collections.abc import Sequence

import script


def merge(sources: Sequence[pathlib.Path], dst: pathlib.Path, *, hold_out: int) -> int:
    """Writes the merged archive and returns the number of its frames."""
    labels, codes, names, background = [], {}, None, None
    with zipfile.ZipFile(dst, "w", zipfile.ZIP_STORED) as out:
        for source in sources:
            with zipfile.ZipFile(source) as archive:
                read = {
                    name: json.loads(archive.read(f"{name}.json"))
                    for name in ("dataset", "expressions", "meta")
                }
                if names not in (None, read["expressions"]["names"]):
                    raise SystemExit(f"{source}: its codes have other names than those before it.")
                if background not in (None, read["meta"]["background"]):
                    raise SystemExit(f"{source}: its background differs from those before it.")
                names, background = read["expressions"]["names"], read["meta"]["background"]
                for name, label in read["dataset"]["labels"]:
                    merged = f"images/{source.stem}/{pathlib.PurePosixPath(name).name}"
                    out.writestr(merged, archive.read(name))
                    labels.append([merged, label])
                    codes[merged] = read["expressions"]["codes"][name]
        frames = [name for name, _ in labels]
        test = frames[::hold_out]
        split = {"train": sorted(set(frames) - set(test)), "test": test}
        meta = {"background": background, "split": split}
        out.writestr("dataset.json", json.dumps({"labels": labels}))
        out.writestr("expressions.json", json.dumps({"names": names, "codes": codes}))
        out.writestr("meta.json", json.dumps(meta))
    return len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("sources", nargs="+", type=pathlib.Path)
    parser.add_argument("--dst", required=True, type=pathlib.Path)
    parser.add_argument("--hold_out", default=20, type=int, help="every n-th frame is held out")
    options = parser.parse_args()
    options.dst.parent.mkdir(parents=True, exist_ok=True)
    print(f"{options.dst}: {merge(options.sources, options.dst, hold_out=options.hold_out)} frames")


if __name__ == "__main__":
    script.run(main)
