"""The part of report.html that shows what a film gave: poses on frames and in time, in words."""

import html
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ganavatar_jax.core.arrays import Float
from ganavatar_jax.reports import clip_drawings, media

POSES, ANGLES, SPREAD = "poses.png", "angles.png", "yaw_pitch.png"
_FILE = "clip.json"
_TILES, _COLUMNS, _FLAGGED = 16, 4, 6

CAPTIONS = {
    POSES: (
        "Poses on frames: the yellow lines (a mean face) must lie on oval, eyes, nose and lips, "
        "dark where the head hides them; red must point to the person's left, green up, blue out "
        "of the face."
    ),
    ANGLES: "The head's angles over time, with bands of two standard deviations. "
    "Frames without a mark at the top have cameras that features of the picture did not refine.",
    SPREAD: "Where the head turned: sides that no dot comes near will be a guess.",
}


def choose_frames(
    angles_deg: Float[np.ndarray, "f 3"],
    residual: Float[np.ndarray, " f"],
    flagged: Mapping[int, str],
) -> dict[int, str]:
    """Chooses the frames by which wrong poses are seen.

    Args:
      angles_deg: Yaw, pitch and roll of the head.
      residual: How badly each pose fits.
      flagged: Place of a suspicious frame -> why.

    Returns:
      Place -> why it was chosen, in order of time: the first, the last, those turned and nodded
      furthest, the worst fit, some that are flagged, and what lies between to fill up.
    """
    yaw, pitch = angles_deg[:, 0], angles_deg[:, 1]
    last = len(yaw) - 1
    found = {
        0: "first",
        last: "last",
        int(yaw.argmax()): "furthest left",
        int(yaw.argmin()): "furthest right",
        int(pitch.argmax()): "chin highest",
        int(pitch.argmin()): "chin lowest",
        int(residual.argmax()): "worst fit",
    }
    kinds: dict[str, int] = {}
    for place, kind in flagged.items():  # A few of each kind, so that none hides the others.
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= 2 and sum(min(n, 2) for n in kinds.values()) <= _FLAGGED:
            found[place] = kind
    while len(found) < min(_TILES, len(yaw)):
        apart = np.abs(np.arange(len(yaw))[:, None] - np.array(list(found))).min(axis=1)
        found[int(apart.argmax())] = ""
    return dict(sorted(found.items()))


def read(capture: pathlib.Path | None) -> dict[str, Any] | None:
    """Reads what was found about a film.

    Args:
      capture: Folder of the capture that was made of it; None for captures of other origin.

    Returns:
      The content of clip.json; None where there is none.
    """
    path = None if capture is None else capture / _FILE
    return None if path is None or not path.is_file() else json.loads(path.read_text("utf-8"))


def draw(capture: pathlib.Path, clip: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Draws a film's poses.

    Args:
      capture: Folder of the capture that was made of it.
      clip: What was found, see `read`.

    Returns:
      File name -> picture.
    """
    table = clip["frames"]
    angles, sigma = (np.array(table[key], np.float64) for key in ("angles_deg", "sigma_deg"))
    place = {frame: index for index, frame in enumerate(table["frame"])}
    why: dict[int, str] = {}
    for flag in clip["flags"]:
        frames = flag["frames"]
        for frame in dict.fromkeys([frames[0], frames[len(frames) // 2], *frames]):
            why.setdefault(place[frame], flag["kind"])
    marked = np.zeros(len(angles), bool)
    marked[list(why)] = True
    labels = json.loads((capture / "dataset.json").read_text("utf-8"))["labels"]
    lines = [np.array(line) for line in clip["outline"]]
    tiles = []
    for index, reason in choose_frames(angles, np.array(table["residual"]), why).items():
        name, label = labels[index]
        with Image.open(capture / name) as picture:
            image = np.asarray(picture.convert("RGB"))
        yaw, pitch, roll = angles[index]
        second = table["second_deg"][index]
        caption = [
            f"frame {table['frame'][index]}" + (f": {reason}" if reason else ""),
            f"yaw {yaw:+.0f}  pitch {pitch:+.0f}  roll {roll:+.0f}"
            + (f"  (±{wide:.1f})" if (wide := 2.0 * float(sigma[index].max())) > 0 else "")
            + ("" if second is None else f"  second {second:.0f} off"),
        ]
        tiles.append(
            clip_drawings.pose_overlay(
                image,
                np.array(label, np.float64),
                lines=lines,
                origin=np.array(clip["between_eyes"]),
                caption=caption,
                flagged=bool(marked[index]),
            )
        )
    time_s = np.array(table["time_s"], np.float64)
    return {
        POSES: media.tile_sheet(np.stack(tiles), columns=_COLUMNS),
        ANGLES: clip_drawings.angles_plot(
            time_s, angles, sigma, flagged=marked, refined=np.array(table["refined"], bool)
        ),
        SPREAD: clip_drawings.spread_plot(angles, flagged=marked),
    }


def words(clip: Mapping[str, Any]) -> str:
    """Writes what was found as paragraphs of a page.

    Args:
      clip: What was found, see `read`.

    Returns:
      HTML.
    """
    found = f"<p><b>The head {html.escape(clip['line'])}.</b></p>"
    if clip["advice"]:
        found += "<p>A better film:</p><ul>"
        found += "".join(f"<li>{html.escape(line)}</li>" for line in clip["advice"]) + "</ul>"
    return found + "".join(
        f'<p class="warning">{html.escape(flag["message"])}</p>' for flag in clip["flags"]
    )
