"""Reads captures in the layout of EG3D's datasets, from a folder or a zip archive.

    dataset.json      {"labels": [[name, [25 numbers]], ...]}; names use "/"
    images/...        square images of one size, any names; other folders work as well
    alpha/...         optional mattes: the image's name below images/, any image extension
    filmed/...        optional, named likewise, of frames that reach beyond what the camera saw:
                      white where something was filmed, black where not
    expressions.json  optional {"names": [...], "codes": {name: [numbers] or null}}
    meta.json         optional {"split": {"train": [names], "test": [names]},
                      "background": "white" | "black" | "scene", "times": {name: seconds}};
                      an empty test list holds nothing out

Frames are ordered by name, numbers by value ("2.png" before "10.png"), so that frames numbered in
time are in order of time. Labels, names and image headers are checked when the capture is opened;
pixels when a frame is loaded. Each message names the file, the frame and the fix.

Source: EG3D dataset format; expressions.json, meta.json, alpha/ and filmed/ are ours.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ganavatar_jax.core import coefficient_names, errors
from ganavatar_jax.data import data_config, labels, records
from ganavatar_jax.data.formats import assembly, file_tree, json_files, mattes, names, pictures

_ALPHA, _FILMED = "alpha/", "filmed/"
_IMAGES = "images/"
_BACKGROUNDS = ("white", "black", "scene")


def read_capture(tree: file_tree.FileTree, options: data_config.ReaderConfig) -> records.Capture:
    """Reads a capture and checks everything but its pixels.

    Args:
      tree: Folder or zip with dataset.json at its root.
      options: Not needed here.

    Returns:
      The capture; frames can be loaded while it is open.

    Raises:
      DataFormatError: the capture breaks the layout.

    Source: EG3D dataset format.
    """
    del options
    cameras = _read_labels(tree)
    images = _match_images(tree, cameras)
    side, transparent = _check_headers(tree, images)
    alphas = _match(tree, images, _ALPHA)
    if alphas and (bare := next((name for name in images if name not in alphas), None)):
        raise errors.DataFormatError(
            f"{tree.path}: {bare} has no matte in alpha/, and other frames have. Add "
            f"{_ALPHA}{_stem(bare, _IMAGES)}.png or remove the folder."
        )
    masks = _match(tree, images, _FILMED)
    _check_masks(tree, images, masks, is_doubled=bool(alphas) and transparent)
    expression_names, codes = _read_expressions(tree, images)
    meta = json_files.read_object(tree, "meta.json") if "meta.json" in tree.known else {}
    split, background = _read_meta(tree, meta, images)
    times_s = _read_times(tree, meta.get("times"), set(images))
    rule = _judge_mattes(tree, images, alphas, side, transparent=transparent)
    frames = tuple(
        records.FrameReference(
            label25=cameras[name],
            expression=codes.get(name),
            frame_id=name,
            sequence=name.rpartition("/")[0],
            split=split.get(name),
            size=(side, side),
            read_pixels=functools.partial(_read_pixels, tree, name, alphas.get(name), side, rule),
            read_filmed=functools.partial(_read_filmed, tree, masks[name], side)
            if name in masks
            else None,
            time_s=times_s.get(name),
        )
        for name in images
    )
    return records.Capture(
        name=str(tree.path),
        frames=frames,
        expression_names=expression_names,
        resolution=side,
        background="straight" if transparent else background,
        has_alpha=transparent or bool(alphas),
        digest=tree.digest(),
        notes=(rule.note,) if rule.note else (),
    )


open_capture = assembly.opener(read_capture)


def _check_masks(
    tree: file_tree.FileTree, images: list[str], masks: dict[str, str], *, is_doubled: bool
) -> None:
    """Refuses masks of no frame, and two mattes of one."""
    known = set(images)
    if stray := next((name for name in masks if name not in known), None):
        raise errors.DataFormatError(
            f"{tree.path}: {masks[stray]} is of no frame. Name it as its image below images/, or "
            "remove it."
        )
    if is_doubled:
        raise errors.DataFormatError(
            f"{tree.path}: the images are transparent and there is an alpha/ folder too. Remove "
            "one of the two mattes."
        )


def _read_labels(tree: file_tree.FileTree) -> dict[str, np.ndarray]:
    """Reads the cameras by image name, each of them once."""
    if "dataset.json" not in tree.names:
        nested = [name for name in tree.names if name.endswith("/dataset.json")]
        hint = (
            f"It lies in {nested[0]}: use that folder, or zip from inside it."
            if nested
            else 'Write {"labels": [[name, [25 numbers]], ...]} there.'
        )
        raise errors.DataFormatError(f"{tree.path}: there is no dataset.json at its root. {hint}")
    entries = json_files.read_object(tree, "dataset.json").get("labels")
    if not isinstance(entries, list) or not entries:
        raise errors.DataFormatError(
            f'{tree.path}: dataset.json must hold a list "labels" of [name, [25 numbers]]; got '
            f"{'an empty list' if entries == [] else type(entries).__name__}. Cameras are needed."
        )
    cameras: dict[str, np.ndarray] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise errors.DataFormatError(
                f"{tree.path}: dataset.json labels[{index}] must be [name, [25 numbers]]. Write "
                "each frame as a pair."
            )
        given, values = entry
        where = f"{tree.path}: dataset.json: {given}"
        name = _find_image(tree, given, where=where)
        if name in cameras:
            raise errors.DataFormatError(
                f"{tree.path}: dataset.json has two labels for {name}. Remove one of them."
            )
        cameras[name] = labels.check_label25(values, where=where)
    return cameras


def _find_image(tree: file_tree.FileTree, given: str, *, where: str) -> str:
    """Finds a label's image; labels name it in full, with its ending."""
    found = names.find(tree, given, where=where)
    if found is not None and pictures.is_picture(found):
        return found
    if found is not None:
        pictures.refuse_unread(found, where=f"{tree.path}: {found}")
    raise errors.DataFormatError(
        f"{tree.path}: dataset.json has a label for {given}, which is not there. Add the image or "
        'remove the label; names are relative to the root and use "/".'
    )


def _same_frame(tree: file_tree.FileTree, given: str) -> str:
    """Finds the frame that expressions.json or meta.json mean; the name itself where none is."""
    return names.find(tree, given, where=f"{tree.path}: a frame's name") or given


def _match_images(tree: file_tree.FileTree, cameras: dict[str, np.ndarray]) -> list[str]:
    """Insists that images and labels are one set: nobody misses a frame that is left out."""
    found = {
        name
        for name in tree.names
        if pictures.is_picture(name) and not name.startswith((_ALPHA, _FILMED))
    }
    bare = sorted(found - set(cameras))
    labelled = {tree.identify(name) for name in cameras} if bare else set()
    for name in bare:
        if tree.identify(name) not in labelled:  # Else a link's other end.
            raise errors.DataFormatError(
                f"{tree.path}: {name} has no label in dataset.json. Add one or remove the image."
            )
    return sorted(cameras, key=json_files.by_number)


def _check_headers(tree: file_tree.FileTree, images: list[str]) -> tuple[int, bool]:
    """Reads headers alone, so that the last of a thousand images is refused in seconds."""
    first: pictures.Header | None = None
    for name in images:
        where = f"{tree.path}: {name}"
        header = pictures.read_header(tree.read(name), where=where)
        if header.width != header.height:
            raise errors.DataFormatError(
                f"{where}: images must be square; got {header.width}x{header.height}. Crop it and "
                "adapt its intrinsics."
            )
        first = first or header
        if header.width != first.width:
            raise errors.DataFormatError(
                f"{where}: all images must have one size; got {header.width}x{header.height}, and "
                f"{images[0]} has {first.width}x{first.height}. Resize them alike."
            )
        if header.has_alpha != first.has_alpha:
            raise errors.DataFormatError(
                f"{where}: all images must be transparent (RGBA) or none; it is unlike "
                f"{images[0]}. Save them alike."
            )
    assert first is not None  # _read_labels refused a capture without frames
    return first.width, first.has_alpha


def _stem(name: str, folder: str) -> str:
    return name.removeprefix(folder).rpartition(".")[0]


def _match(tree: file_tree.FileTree, images: list[str], folder: str) -> dict[str, str]:
    """Pairs images and files of a folder by their stem: a JPEG may have a PNG for its matte."""
    found: dict[str, str] = {}
    for name in tree.names:
        if name.startswith(folder) and pictures.is_picture(name):
            stem = _stem(name, folder)
            if stem in found:
                raise errors.DataFormatError(
                    f"{tree.path}: {found[stem]} and {name} are of one frame. Remove one."
                )
            found[stem] = name
    by_stem = {_stem(name, _IMAGES): name for name in images}
    return {by_stem.get(stem, stem): name for stem, name in found.items()}


def _judge_mattes(
    tree: file_tree.FileTree,
    images: list[str],
    alphas: dict[str, str],
    side: int,
    *,
    transparent: bool,
) -> mattes.Rule:
    """Finds what "head" is in the capture's mattes, be they files or transparency."""

    def transparency(name: str) -> np.ndarray:
        alpha = pictures.decode_color(tree.read(name), where=f"{tree.path}: {name}")[1]
        assert alpha is not None  # _check_headers saw to it
        return alpha

    read: list[Callable[[], np.ndarray]] = []
    if transparent:
        read = [functools.partial(transparency, name) for name in images]
    elif alphas:
        masks = [alphas[name] for name in images]
        read = [functools.partial(_read_mask, tree, m, side, what="a matte") for m in masks]
    return mattes.judge(read, where=str(tree.path))


def _read_pixels(
    tree: file_tree.FileTree, name: str, matte_name: str | None, side: int, rule: mattes.Rule
) -> tuple[np.ndarray, np.ndarray | None]:
    image, alpha = pictures.decode_color(tree.read(name), where=f"{tree.path}: {name}")
    if matte_name is not None:
        alpha = _read_mask(tree, matte_name, side, what="a matte")
    where = f"{tree.path}: {matte_name or name}"
    return image, None if alpha is None else mattes.apply(alpha, rule, where=where)


def _read_filmed(tree: file_tree.FileTree, name: str, side: int) -> np.ndarray:
    filmed = _read_mask(tree, name, side, what="what was filmed")
    return np.where(filmed > 127, 255, 0).astype(np.uint8)


def _read_mask(tree: file_tree.FileTree, name: str, side: int, *, what: str) -> np.ndarray:
    where = f"{tree.path}: {name}"
    mask = pictures.decode_matte(tree.read(name), where=where)
    if mask.shape != (side, side):
        raise errors.DataFormatError(
            f"{where}: {what} must be as large as its image ({side}x{side}); got "
            f"{mask.shape[1]}x{mask.shape[0]}. Resize it."
        )
    return mask


def _read_expressions(
    tree: file_tree.FileTree, images: list[str]
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Reads codes by frame; a frame may have none."""
    if "expressions.json" not in tree.names:
        return (), {}
    content = json_files.read_object(tree, "expressions.json")
    entry_names, codes = content.get("names"), content.get("codes")
    entry_names = entry_names if isinstance(entry_names, list) else []
    are_texts = all(isinstance(name, str) for name in entry_names)
    spelled = coefficient_names.canonical(entry_names if are_texts else ())
    if not spelled or len(set(spelled)) != len(spelled):
        raise errors.DataFormatError(
            f'{tree.path}: expressions.json must hold a list "names" of different texts. Write '
            "one name for each number of a code."
        )
    if not isinstance(codes, dict):
        raise errors.DataFormatError(
            f'{tree.path}: expressions.json must hold "codes", an object from frame names to lists '
            "of numbers. Write it."
        )
    known = set(images)
    result = {}
    for given, code in codes.items():
        name = _same_frame(tree, given)
        if name not in known or name in result:
            raise errors.DataFormatError(
                f"{tree.path}: expressions.json has a code for {given}, which is "
                f"{'there twice' if name in result else 'not a frame'}. "
                "Remove the code or add the frame."
            )
        if code is not None:
            where = f"{tree.path}: expressions.json: {name}"
            result[name] = _check_code(code, len(spelled), where)
    return spelled, result


def _check_code(code: Any, length: int, where: str) -> np.ndarray:
    """Checks one code and names the entry that is wrong."""
    if not isinstance(code, list) or len(code) != length:
        got = f"{len(code)}" if isinstance(code, list) else type(code).__name__
        raise errors.DataFormatError(
            f"{where}: expected {length} numbers, one for each name; got {got}. Write the code "
            "again, or null for a frame without one."
        )
    index = labels.find_no_number(code)
    if index is None:
        index = labels.find_not_finite(code)
    if index is not None:
        raise errors.DataFormatError(
            f"{where}: entry {index} must be a finite number; got {code[index]!r:.40}. Write the "
            "code again, or null for a frame without one."
        )
    return np.array(code, np.float32)


def _read_meta(
    tree: file_tree.FileTree, meta: dict[str, Any], images: list[str]
) -> tuple[dict[str, records.SplitName], records.ImageBackground]:
    background = meta.get("background", "unknown")
    if background not in (*_BACKGROUNDS, "unknown"):
        raise errors.DataFormatError(
            f'{tree.path}: meta.json "background" must be one of {", ".join(_BACKGROUNDS)}; got '
            f"{background!r}. Correct it or leave it out."
        )
    return _check_split(tree, meta.get("split"), set(images)), background


def _read_times(tree: file_tree.FileTree, times_s: Any, known: set[str]) -> dict[str, float]:
    """Reads when frames were shown; frames that are not there any more may stand in it."""
    if times_s is None:
        return {}
    right = isinstance(times_s, dict) and all(
        isinstance(t, (int, float)) and not isinstance(t, bool) and math.isfinite(t)
        for t in times_s.values()
    )
    if not right:
        raise errors.DataFormatError(
            f'{tree.path}: meta.json "times" must be {{name: seconds}} with finite numbers. '
            "Correct it or leave it out."
        )
    named = ((name if name in known else _same_frame(tree, name), t) for name, t in times_s.items())
    return {name: float(time_s) for name, time_s in named}


def _check_split(
    tree: file_tree.FileTree, lists: Any, images: set[str]
) -> dict[str, records.SplitName]:
    """Reads the capture's own split; a frame that trains is never held out, too."""
    if lists is None:
        return {}
    if not isinstance(lists, dict) or sorted(lists) != ["test", "train"]:
        raise errors.DataFormatError(
            f'{tree.path}: meta.json "split" must have the lists "train" and "test" and no '
            "others. Correct it or leave it out."
        )
    split: dict[str, records.SplitName] = {}
    for side in ("train", "test"):
        if not isinstance(lists[side], list) or (side == "train" and not lists[side]):
            raise errors.DataFormatError(
                f'{tree.path}: meta.json "split" has no frames in "{side}". List frame names, or '
                "leave the split out and choose a data.split.policy."
            )
        for given in lists[side]:
            name = _same_frame(tree, given) if isinstance(given, str) else ""
            if name not in images:
                raise errors.DataFormatError(
                    f'{tree.path}: meta.json lists {given!r:.80} in "{side}", which is not a '
                    "frame. Correct the name or remove it."
                )
            if name in split:
                raise errors.DataFormatError(
                    f"{tree.path}: meta.json lists {name} twice in its split. A frame trains or is "
                    "held out; remove one entry."
                )
            split[name] = side
    return split
