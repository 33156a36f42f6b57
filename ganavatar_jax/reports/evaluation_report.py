"""The folder that states how good an avatar is: numbers, per-frame table, pictures, video.

metrics.json       means over held-out frames of ours and of every baseline, of whole images and of
                   heads; how well codes are obeyed, distances between sets of images, and the
                   protocol that the numbers were made under; strict JSON, with null where a
                   number is undefined. Written last.
per_frame.csv      one line per frame: camera angles and every metric of every candidate
contact_sheet.png  evenly chosen frames: truth, ours, baselines, error of ours
comparison.mp4     truth and ours side by side
"""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import ganavatar_jax
from ganavatar_jax.core import files, image_sequences
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.geometry import cameras
from ganavatar_jax.metrics import (
    face_regions,
    frechet,
    head_masks,
    inception,
    lpips,
    per_frame,
)
from ganavatar_jax.reports import media, obedience

SHEET_ROWS = 6
_REGION_FRAMES = 32  # measured at once; bounds memory
_SHEET_TILE_PX = 192
_VIDEO_TILE_PX = 256
_ERROR_FULL_SCALE = 64  # Mean absolute error over RGB, of 255, that is drawn white.

_RESERVED = (
    "ours",
    "head",
    "regions",
    *obedience.KEYS,
    "alexnet_frechet_distance",
    "fid",
    "frames",
    "protocol",
)
_DEFINITIONS = {
    "averaging": "each metric is computed per frame and averaged over frames",
    "l2": "mean squared error over pixels and RGB, images u8 / 255 in [0, 1]",
    "psnr": "-10 log10(l2), decibel, data range 1; null if any frame is reproduced exactly",
    "ssim": "11 x 11 Gaussian window, sigma 1.5 px, K1 0.01, K2 0.03, data range 1, RGB, "
    "population moments, no padding",
    "lpips_alex": "LPIPS v0.1, AlexNet backbone, linear heads, images u8 / 127.5 - 1",
    "lpips_vgg": "LPIPS v0.1, VGG16 backbone, linear heads, images u8 / 127.5 - 1",
    "head": "the same metrics but LPIPS of VGG16 over the pixels of the head alone: matte at "
    "least half, not below the chin "
    f"(rays that pass the vertical axis at z {head_masks.AXIS_Z:g} lower than y "
    f"{head_masks.CUT_Y:g} world units); of frames that show it; null without mattes",
    "regions": "PSNR within a rectangle around mouth or eyes, placed by the camera; mean over the "
    "frames that show it; null without any, or if one is reproduced exactly",
    **obedience.DEFINITIONS,
    "alexnet_frechet_distance": "squared Frechet distance of pooled AlexNet features (not "
    "Inception's: not the FID) between a candidate's images and the held-out frames; biased "
    "upwards when frames are few, of singular covariances below as many frames as features (256): "
    "compare equal numbers of frames only; null for a single image",
    "fid": "the same of Inception-V3's 2048 pooled features with the weights the user brought, "
    "divisor n - 1: the FID, at this number of frames",
}


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out frames, what the avatar made of them, and what they were driven by.

    Attributes:
      truth_u8: Real frames, 0..255, [f h w 3].
      ours_u8: Rendered frames, same size.
      frame_ids: Name or number of each frame.
      label25: Camera labels.
      codes: What was asked for and what was done; None where nobody reads renders.
      alpha: Mattes of the real frames, 0..255, [f h w]; None without such.
      filmed: 0 where real frames show nothing, which no metric counts [f h w]; None without such.
    """

    truth_u8: image_sequences.Images
    ours_u8: image_sequences.Images
    frame_ids: Sequence[str | int]
    label25: Float[np.ndarray, "f 25"]
    codes: obedience.Codes | None = None
    alpha: image_sequences.Images | None = None
    filmed: image_sequences.Images | None = None

    def __post_init__(self) -> None:
        count = len(self.truth_u8)
        lengths = (len(self.ours_u8), len(self.frame_ids), len(self.label25))
        if count == 0 or any(length != count for length in lengths):
            raise ValueError(
                f"a report needs one render, id and camera for each of at least one held-out "
                f"frame; got {count} frames and {lengths} of these."
            )

    def angles_deg(self) -> Float[np.ndarray, "f 2"]:
        """Gives yaw and pitch of every camera.

        Returns:
          Degrees; 0, 0 is frontal, see `cameras.yaw_pitch_deg`.
        """
        camera = cameras.from_label25(self.label25)
        return np.stack([np.asarray(a) for a in cameras.yaw_pitch_deg(camera.cam2world)], axis=1)


@dataclasses.dataclass(frozen=True)
class SetNetworks:
    """Networks whose features compare sets of images; None leaves a distance out.

    Attributes:
      alexnet: AlexNet of `lpips.load_params("alex")`.
      inception_v3: Inception of `inception.load_params`.
    """

    alexnet: lpips.LpipsParams | None = None
    inception_v3: inception.Params | None = None


def write_report(
    folder: str | pathlib.Path,
    held_out: HeldOut,
    *,
    baselines: Mapping[str, image_sequences.Images],
    protocol: Mapping[str, Any],
    fps: int | float,
    lpips_params: Mapping[lpips.NetName, lpips.LpipsParams],
    sets: SetNetworks = SetNetworks(),
    chunk: int = 8,
) -> dict[str, Any]:
    """Measures held-out frames and writes the evaluation folder, a few frames at a time.

    Args:
      folder: Where to write; created, files of an earlier report are replaced.
      held_out: Truth, renders, cameras and codes.
      baselines: Name -> images to measure beside ours: one per frame, or one for all.
      protocol: What the caller states about the run (data, split, checkpoint); the key "metrics"
        is added here.
      fps: Frame rate of the video.
      lpips_params: LPIPS nets to use, from `lpips.load_params`; may be empty.
      sets: Networks that compare the set of renders with the set of held-out frames.
      chunk: Frames per device call; bounds memory.

    Returns:
      What metrics.json holds: {"ours": {metric: mean}, <baseline>: {...}, "head": {candidate:
      {metric: mean}} or None, "regions": {region: {candidate: PSNR}}, `obedience.KEYS`,
      "alexnet_frechet_distance", "fid": {candidate: distance} where asked for, "frames": n,
      "protocol": {...}}.

    Raises:
      ValueError: a baseline has a reserved name or its images do not fit the truth.

    Source: ours; metrics of GAN-Avatar's tables.
    """
    folder = pathlib.Path(folder)
    reserved = set(_RESERVED) & set(baselines)
    if reserved:
        raise ValueError(
            f"baseline names {sorted(reserved)} are keys of metrics.json; rename them."
        )
    candidates = {"ours": held_out.ours_u8, **baselines}
    table = per_frame.compare(
        held_out.truth_u8, candidates, lpips_params, filmed=held_out.filmed, chunk=chunk
    )
    angles = held_out.angles_deg()
    obeyed, code_frames = obedience.measure(held_out.codes, angles)
    distances = _compare_sets(held_out, candidates, sets, chunk=chunk)
    metrics = _to_strict(
        {
            **{name: {m: v.mean() for m, v in values.items()} for name, values in table.items()},
            # VGG16 takes longer than all else together: once is enough.
            "head": _measure_heads(
                held_out,
                candidates,
                {net: params for net, params in lpips_params.items() if net != "vgg"},
                chunk=chunk,
            ),
            "regions": _measure_regions(held_out, candidates),
            **obeyed,
            **distances,
            "frames": len(held_out.truth_u8),
            "protocol": {
                **protocol,
                "metrics": _describe(held_out, {f"lpips_{net}" for net in lpips_params}, distances)
                | {"code_frames": code_frames},
            },
        }
    )
    _write_csv(folder / "per_frame.csv", held_out, angles, table)
    media.save_png(
        folder / "contact_sheet.png", _draw_sheet(held_out, angles, baselines, table["ours"])
    )
    media.write_video(folder / "comparison.mp4", _comparison_frames(held_out), fps=fps)
    text = json.dumps(metrics, indent=2, allow_nan=False)
    files.write_atomic(folder / "metrics.json", text + "\n")
    return metrics


def _compare_sets(
    held_out: HeldOut,
    candidates: Mapping[str, image_sequences.Images],
    sets: SetNetworks,
    *,
    chunk: int,
) -> dict[str, dict[str, float | None]]:
    """Measures how far each candidate's images are from the held-out frames, as sets."""
    measures = {}
    if (alexnet := sets.alexnet) is not None:
        measures["alexnet_frechet_distance"] = (
            lambda images_u8: frechet.from_images(alexnet, images_u8, chunk=chunk),
            frechet.alexnet_frechet_distance,
        )
    if (weights := sets.inception_v3) is not None:
        measures["fid"] = (
            lambda images_u8: inception.from_images(weights, images_u8, chunk=chunk),
            frechet.fid,
        )
    truth_u8 = held_out.truth_u8
    found: dict[str, dict[str, float | None]] = {}
    for name, (summarize, distance) in measures.items():
        real, found[name] = summarize(truth_u8), dict.fromkeys(candidates)
        for candidate, images_u8 in candidates.items():
            if min(len(truth_u8), len(images_u8)) > 1:
                shown = image_sequences.patch(images_u8, truth_u8, held_out.filmed)
                found[name][candidate] = distance(real, summarize(shown))
    return found


def _measure_heads(
    held_out: HeldOut,
    candidates: Mapping[str, image_sequences.Images],
    lpips_params: Mapping[lpips.NetName, lpips.LpipsParams],
    *,
    chunk: int,
) -> dict[str, dict[str, float]] | None:
    """Measures the head alone: whole images also count a torso that nobody drives."""
    if held_out.alpha is None:
        return None
    masks = head_masks.HeadMasks(held_out.alpha, held_out.label25, filmed=held_out.filmed)
    rows = np.array([index for index, mask in enumerate(masks) if mask.any()], np.int64)
    if not len(rows):
        return None
    shown = {
        name: images if len(images) == 1 else image_sequences.Rows(images, rows)
        for name, images in candidates.items()
    }
    truth, filmed = (image_sequences.Rows(i, rows) for i in (held_out.truth_u8, masks))
    table = per_frame.compare(truth, shown, lpips_params, filmed=filmed, chunk=chunk)
    return {n: {m: float(v.mean()) for m, v in values.items()} for n, values in table.items()}


def _measure_regions(
    held_out: HeldOut, candidates: Mapping[str, image_sequences.Images]
) -> dict[str, dict[str, float | None]]:
    """Measures mouth and eyes, of a few frames at a time."""
    count = len(held_out.truth_u8)
    values = {
        region: {name: np.empty(count) for name in candidates} for region in face_regions.REGIONS
    }
    for start in range(0, count, _REGION_FRAMES):
        part = slice(start, start + _REGION_FRAMES)
        truth, label25 = held_out.truth_u8[part], held_out.label25[part]
        filmed = None if held_out.filmed is None else held_out.filmed[part]
        for name, candidate in candidates.items():
            shown = candidate[part] if len(candidate) == count else candidate[:]
            for region, where in face_regions.REGIONS.items():
                values[region][name][part] = face_regions.psnr(
                    shown, truth, label25, where, filmed=filmed
                )
    measured: dict[str, dict[str, float | None]] = {}
    for region, columns in values.items():
        seen = {name: column[~np.isnan(column)] for name, column in columns.items()}
        measured[region] = {n: float(v.mean()) if len(v) else None for n, v in seen.items()}
    return measured


def _describe(held_out: HeldOut, nets: set[str], distances: Mapping[str, Any]) -> dict[str, Any]:
    """Says what the numbers mean and what computed them, for whoever finds the file alone."""
    optional = ("lpips_", "alexnet_", "fid")
    return {
        "definitions": {
            name: text
            for name, text in _DEFINITIONS.items()
            if not name.startswith(optional) or name in nets or name in distances
        },
        "resolution_px": list(held_out.truth_u8.shape[1:3]),
        "crop": "none",
        **face_regions.describe(),
        "backend": jax.default_backend(),
        "versions": {
            "ganavatar_jax": ganavatar_jax.__version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
        },
    }


def _write_csv(
    path: pathlib.Path,
    held_out: HeldOut,
    angles: Float[np.ndarray, "f 2"],
    table: Mapping[str, Mapping[str, Float[np.ndarray, " f"]]],
) -> None:
    columns = {f"{name}.{m}": v for name, values in table.items() for m, v in values.items()}
    with (
        files.atomic_path(path) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["frame", "yaw_deg", "pitch_deg", *columns])
        for index, frame_id in enumerate(held_out.frame_ids):
            numbers = [*angles[index], *(values[index] for values in columns.values())]
            writer.writerow([frame_id, *(f"{number:.6g}" for number in numbers)])


def _draw_sheet(
    held_out: HeldOut,
    angles: Float[np.ndarray, "f 2"],
    baselines: Mapping[str, image_sequences.Images],
    ours: Mapping[str, Float[np.ndarray, " f"]],
) -> media.PictureU8:
    """Draws the same frames in every column, spread over the held-out ones."""
    count = len(held_out.truth_u8)
    rows = np.unique(np.round(np.linspace(0, count - 1, min(SHEET_ROWS, count))).astype(int))
    truth, render = held_out.truth_u8[rows], held_out.ours_u8[rows]
    error = np.abs(truth.astype(np.float32) - render).mean(axis=-1)
    columns = {"truth": truth, "ours": render}
    for name, images_u8 in baselines.items():
        shown = images_u8[rows if len(images_u8) == count else np.zeros_like(rows)]
        columns[name.replace("_", " ")] = shown
    columns[f"abs error of ours\n(white: {_ERROR_FULL_SCALE} of 255)"] = media.heat_map(
        error, full_scale=_ERROR_FULL_SCALE
    )
    labels = [
        f"{held_out.frame_ids[row]}\nyaw {angles[row, 0]:.0f} deg\npitch {angles[row, 1]:.0f} deg"
        f"\n{ours['psnr'][row]:.1f} dB\nSSIM {ours['ssim'][row]:.2f}"
        for row in rows
    ]
    return media.contact_sheet(columns, row_labels=labels, tile_px=_SHEET_TILE_PX)


def _comparison_frames(held_out: HeldOut) -> Iterator[media.PictureU8]:
    for truth, ours in zip(held_out.truth_u8, held_out.ours_u8, strict=True):
        yield media.side_by_side({"truth": truth, "ours": ours}, min_side_px=_VIDEO_TILE_PX)


def _to_strict(value: Any) -> Any:
    """Turns NumPy scalars into Python's, tuples into lists, and NaN and infinity into None."""
    if isinstance(value, Mapping):
        return {str(key): _to_strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_strict(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _to_strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
