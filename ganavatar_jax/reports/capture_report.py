"""The page that shows whether a prepared capture is right: report.html and its pictures.

One look at the overlays tells whether cameras fit the images: the purple cube holds the head, the
blue axis points where the face looks, and the green dots lie on the face.
"""

import html
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from ganavatar_jax.core import files
from ganavatar_jax.data import frame_checks, head_landmarks
from ganavatar_jax.data.builders import gan_frames, storage, stored_records
from ganavatar_jax.geometry import head_angles
from ganavatar_jax.reports import capture_drawings, clip_report, media
from ganavatar_jax.runs import run_dir

_SHEET_FRAMES, _OVERLAYS = 32, 12
_BACKDROP = np.array([60, 170, 75], np.float64)  # green: what the matte leaves over shows
_LISTED_FLAGS = 60
_SHOWN = "report.json"  # what report.html was written for
_TILE_PX = 256  # Sheets of larger frames would be too large for a page.

_CAPTIONS = clip_report.CAPTIONS | {
    "train.png": "Training frames, evenly spaced.",
    "overlays.png": (
        "Cameras on frames: the cube must hold the head, the blue axis must point where the face "
        "looks, the green dots (the mean head's landmarks) must lie on the face."
    ),
    "alpha.png": "Frames on green through their matte: no green in the head, no old background.",
    "cameras.png": "Cameras around the head.",
    "coverage.png": "From which sides the head is seen. Sides never seen will be a guess.",
    "flagged.png": "Flagged frames.",
}
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1100px;color:#222}"
    "img{max-width:100%;border:1px solid #ddd}td,th{padding:.15em 1em .15em 0;text-align:left}"
    ".warning{background:#fff3d6;padding:.4em .8em;border-left:4px solid #e0a100}"
)


def is_current(
    opened: run_dir.RunDir,
    fingerprint: str,
    *,
    box_side: float,
    video: Mapping[str, Any],
    film: pathlib.Path | None = None,
) -> bool:
    """Tells whether the report would be written again as it is.

    Args:
      opened: The run.
      fingerprint: Of the dataset.
      box_side: As for `write_report`.
      video: As for `write_report`.
      film: As for `write_report`.

    Returns:
      Whether the report is there and was given the same.
    """
    path = opened.folder("samples", "data") / _SHOWN
    if not path.is_file() or not (opened.path / "report.html").is_file():
        return False
    described = _describe(fingerprint, box_side, video, clip_report.read(film))
    return path.read_text("utf-8") == described


def _describe(
    fingerprint: str, box_side: float, video: Mapping[str, Any], clip: Mapping[str, Any] | None
) -> str:
    shown = {"dataset": fingerprint, "box_side": box_side, "video": dict(video)}
    if clip is not None:
        shown["film"] = {key: clip[key] for key in ("line", "advice", "flags")}
    return json.dumps(shown, indent=1, sort_keys=True)


def write_report(
    opened: run_dir.RunDir,
    dataset: pathlib.Path,
    *,
    box_side: float,
    video: Mapping[str, Any] | None = None,
    film: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Looks at every prepared frame and writes report.html with its pictures.

    Args:
      opened: The run; pictures go to samples/data.
      dataset: Where the dataset is kept.
      box_side: Edge of the generator's cube, world units.
      video: What was found while a bare video became a capture.
      film: The capture that a bare video became.

    Returns:
      "flags" (kind -> number of frames) and "warnings".

    Raises:
      DataFormatError: there is no dataset.
      RunError: the folder cannot be written.
    """
    builder = storage.open_dataset(dataset, gan_frames.GanFrames)
    metadata = storage.read_metadata(builder)
    splits = [name for name in ("train", "test") if name in builder.info.splits]
    features = ("image", "alpha") if metadata["has_alpha"] else ("image",)
    sources = {name: storage.open_split(builder, name, images=features) for name in splits}
    checks = {name: _check_split(source) for name, source in sources.items()}
    folder = opened.folder("samples", "data")
    pictures = _draw(sources, checks, metadata, box_side=box_side)
    clip = clip_report.read(film)
    if film is not None and clip is not None:
        pictures |= clip_report.draw(film, clip)
    for name, picture in pictures.items():
        media.save_png(folder / name, picture)
    flags = _count_flags(checks)
    warnings = metadata.get("alignment", {}).get("warnings", [])
    rows = [row for check in checks.values() for row in check["rows"]]
    files.write_atomic(folder / "frames.json", json.dumps(rows, indent=1))
    facts = {f"video: {key.replace('_', ' ')}": value for key, value in (video or {}).items()}
    words = "" if clip is None else clip_report.words(clip)
    marks = words + "".join(f'<p class="warning">{_text(w)}</p>' for w in warnings)
    page = _page(metadata, checks, pictures, flags=flags, marks=marks, extra=facts)
    files.write_atomic(opened.path / "report.html", page)
    described = _describe(metadata["fingerprint"], box_side, video or {}, clip)
    files.write_atomic(folder / _SHOWN, described)
    return {"flags": flags, "warnings": list(warnings)}


def _examples(
    source: stored_records.Records,
) -> Iterator[tuple[Mapping[str, Any], np.ndarray, np.ndarray | None]]:
    for index in range(len(source)):
        example = source[index]
        alpha = source.decode(index, example, "alpha") if "alpha" in example else None
        yield example, source.decode(index, example), alpha


def _check_split(source: stored_records.Records) -> dict[str, Any]:
    """Looks at every frame once, so that pictures need not stay in memory."""
    labels, names, sequences, numbers = [], [], [], []
    for example, image, alpha in _examples(source):
        labels.append(example["label25"])
        names.append(example["frame_id"].decode())
        sequences.append(example["sequence"].decode())
        matte = (0.0, 0.0)
        if alpha is not None:
            matte = (
                frame_checks.hole_share(alpha, example["label25"]),
                frame_checks.cut_share(alpha, example["label25"]),
            )
        numbers.append((frame_checks.sharpness(image, alpha), *matte))
    label25, (sharp, holes, cut) = np.stack(labels), np.array(numbers).T
    turns = frame_checks.turns_deg(label25, sequences)
    flags = frame_checks.find_flags(sharp=sharp, holes=holes, cut=cut, turns=turns)
    yaw, pitch = map(
        np.degrees, head_angles.view_angles(label25[:, :16].reshape(-1, 4, 4)[:, :3, :3])
    )
    rows = [
        {
            "frame": names[i],
            "yaw_deg": round(float(yaw[i]), 2),
            "pitch_deg": round(float(pitch[i]), 2),
            "sharpness": round(float(sharp[i]), 3),
            "hole_share": round(float(holes[i]), 5),
            "turn_deg": round(float(turns[i]), 3),
            "flags": list(flags[i]),
        }
        for i in range(len(names))
    ]
    return {"label25": label25, "angles": np.stack([yaw, pitch], axis=1), "rows": rows}


def _draw(
    sources: Mapping[str, stored_records.Records],
    checks: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    box_side: float,
) -> dict[str, np.ndarray]:
    """Draws the pictures by which a wrong axis, matte or crop is seen at a glance."""
    train = sources["train"]
    chosen = [round(i * (len(train) - 1) / (_SHEET_FRAMES - 1)) for i in range(_SHEET_FRAMES)]
    sheet = np.stack([_tile(train.image(i)) for i in chosen])
    pictures = {"train.png": media.tile_sheet(sheet, columns=8)}
    landmarks = head_landmarks.load_head_landmarks().model.mean
    over = [
        capture_drawings.overlay(
            train.image(i),
            train[i]["label25"],
            box_side=box_side,
            landmarks=landmarks,
        )
        for i in chosen[:: _SHEET_FRAMES // _OVERLAYS][:_OVERLAYS]
    ]
    pictures["overlays.png"] = media.tile_sheet(np.stack(over), columns=4)
    if metadata["has_alpha"]:
        mattes = [
            _tile(_on_green(train.image(i), train.image(i, "alpha"), metadata["background"]))
            for i in chosen[::2]
        ]
        pictures["alpha.png"] = media.tile_sheet(np.stack(mattes), columns=8)
    labels = {name: check["label25"] for name, check in checks.items()}
    pictures["cameras.png"] = capture_drawings.cameras_plot(labels, box_side=box_side)
    angles = {name: check["angles"] for name, check in checks.items()}
    pictures["coverage.png"] = capture_drawings.coverage_plot(angles)
    flagged = [
        (sources[name], i, row)
        for name, check in checks.items()
        for i, row in enumerate(check["rows"])
        if row["flags"]
    ]
    if flagged:
        tiles = [
            capture_drawings.captioned(source.image(i), [row["frame"], ", ".join(row["flags"])])
            for source, i, row in flagged[:_SHEET_FRAMES]
        ]
        pictures["flagged.png"] = media.tile_sheet(np.stack(tiles), columns=8)
    return pictures


def _tile(image: np.ndarray) -> np.ndarray:
    if image.shape[0] <= _TILE_PX:
        return image
    size = (_TILE_PX, _TILE_PX)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _on_green(image: np.ndarray, alpha: np.ndarray, background: str) -> np.ndarray:
    uncovered = 1.0 - alpha[..., None] / 255.0
    level = {"white": 255.0, "black": 0.0}.get(background)
    if level is None:
        mixed = image * (1.0 - uncovered) + uncovered * _BACKDROP
    else:
        mixed = image + uncovered * (_BACKDROP - level)
    return np.rint(np.clip(mixed, 0.0, 255.0)).astype(np.uint8)


def _count_flags(checks: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for check in checks.values():
        for row in check["rows"]:
            for flag in row["flags"]:
                found[flag] = found.get(flag, 0) + 1
    return found


def _page(
    metadata: Mapping[str, Any],
    checks: Mapping[str, Any],
    pictures: Mapping[str, np.ndarray],
    *,
    flags: Mapping[str, int],
    marks: str,
    extra: Mapping[str, Any],
) -> str:
    """Writes the page around the pictures, one file without scripts."""
    facts = {
        "source": metadata["source"],
        "frames": ", ".join(f"{len(c['rows'])} {name}" for name, c in checks.items()),
        "resolution": f"{metadata['resolution']} pixels, background {metadata['background']}",
        "expression codes": f"{len(metadata['expression_names'])} numbers a frame",
        **_alignment_facts(metadata.get("alignment") or {}),
        **_view_facts(checks),
        **extra,
        "flags": ", ".join(f"{k}: {n}" for k, n in flags.items()) or "none",
    }
    rows = "".join(f"<tr><th>{_text(k)}</th><td>{_text(v)}</td></tr>" for k, v in facts.items())
    shown = "".join(
        f'<h2>{_text(caption)}</h2><img src="samples/data/{name}" alt="{_text(caption)}">'
        for name, caption in _CAPTIONS.items()
        if name in pictures
    )
    listed = [row for check in checks.values() for row in check["rows"] if row["flags"]]
    flagged = "".join(
        f"<tr><td>{_text(row['frame'])}</td><td>{_text(', '.join(row['flags']))}</td></tr>"
        for row in listed[:_LISTED_FLAGS]
    )
    if len(listed) > _LISTED_FLAGS:
        flagged += f"<tr><td>and {len(listed) - _LISTED_FLAGS} more</td><td></td></tr>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Capture</title>'
        f"<style>{_STYLE}</style><h1>Prepared capture</h1>{marks}<table>{rows}</table>{shown}"
        f"<h2>Flags</h2><table>{flagged}</table><p>All frames: samples/data/frames.json</p></html>"
    )


def _alignment_facts(report: Mapping[str, Any]) -> dict[str, str]:
    """Says how the capture was aligned, in words of the report."""
    if not report:
        return {}
    facts = {"alignment": str(report["method"])}
    if report["method"] != "none":
        rotation = np.array(report["rotation"])
        angle = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1.0) / 2.0, -1.0, 1.0)))
        shift = ", ".join(f"{value:.3f}" for value in report["translation"])
        facts["similarity"] = (
            f"scale {report['scale']:.4g}, rotation {angle:.1f} degrees, shift ({shift})"
        )
    if report["residual"] is not None:
        facts["residual"] = f"{report['residual']:.4f} units (median)"
    if report["reprojection"] is not None:
        facts["landmarks"] = (
            f"{report['reprojection']:.2%} of the image side (median, {report['views']} views)"
        )
    return facts


def _view_facts(checks: Mapping[str, Any]) -> dict[str, str]:
    angles = checks["train"]["angles"]
    low, high = angles.min(axis=0), angles.max(axis=0)
    centers = checks["train"]["label25"][:, [3, 7, 11]]
    distance = np.median(np.linalg.norm(centers, axis=1))
    return {
        "training views": (
            f"yaw {low[0]:.0f} to {high[0]:.0f}, pitch {low[1]:.0f} to {high[1]:.0f} degrees, "
            f"distance {distance:.2f}"
        )
    }


def _text(value: Any) -> str:
    return html.escape(str(value))
