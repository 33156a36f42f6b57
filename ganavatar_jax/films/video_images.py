"""The images of a capture made of a video: square crops, their mattes, and what of them was filmed.

images/NAME.jpg       on white where there is a matte, and where nothing was filmed
alpha/NAME.png        coverage
filmed/NAME.png       of crops that reach beyond the picture: black there
"""

import logging
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from ganavatar_jax.core import files
from ganavatar_jax.core.arrays import Bool, Int, UInt8
from ganavatar_jax.data.formats import video_file
from ganavatar_jax.faces import regions
from ganavatar_jax.films import film_mattes, matters, video_landmarks

FOLDERS = ("images", "alpha", "filmed")  # what is written, in a capture's folder

_LOG = logging.getLogger(__name__)

_JPEG_QUALITY = 97


class Views(NamedTuple):
    """What is cut out of which frames of a video.

    Attributes:
      video: The recording.
      frames: Numbers of its frames, rising.
      squares: What is cut out of each.
      size_px: Side of the cut-outs.
    """

    video: video_file.VideoFile
    frames: Int[np.ndarray, " k"]
    squares: list[regions.Region]
    size_px: int

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads the picture of a frame.

        Args:
          index: Its place among the frames.

        Returns:
          The whole picture.
        """
        return self.video.read(int(self.frames[index]))

    def cut(self, index: int) -> tuple[UInt8[np.ndarray, "s s 3"], np.ndarray | None]:
        """Cuts a frame out, and its matte where the film brings one.

        Args:
          index: Its place among the frames.

        Returns:
          image: Colours; on white where the film is transparent.
          alpha: Its coverage, 0..255; None for films without.
        """
        image = regions.crop(self.read(index), self.squares[index], size_px=self.size_px)
        alpha = self.video.read_alpha(int(self.frames[index]))
        if alpha is None:
            return image, None
        planes = np.repeat(alpha[..., None], 3, axis=2)
        cover = regions.crop(planes, self.squares[index], size_px=self.size_px)
        return image, np.ascontiguousarray(cover[..., 0])

    def filmed(self, index: int) -> Bool[np.ndarray, "s s"]:
        """Tells which pixels of a frame's cut-out lie in the picture.

        Args:
          index: Its place among the frames.

        Returns:
          True where something was filmed.
        """
        return regions.inside(self.squares[index], self.video.size, size_px=self.size_px)


def write(
    folder: pathlib.Path,
    names: list[str],
    views: Views,
    *,
    matter: matters.Matter | None,
    begins: Bool[np.ndarray, " k"],
    progress: video_landmarks.Progress | None,
) -> Bool[np.ndarray, " k"]:
    """Writes images that are not there yet.

    Args:
      folder: The capture's folder.
      names: Names of the frames, without folder and ending.
      views: What each shows.
      matter: What makes mattes; None for films that bring them, and where none are wanted.
      begins: Frames that begin a shot.
      progress: Told how far the stage is.

    Returns:
      Which of all frames reach beyond the picture.

    Raises:
      EstimatorError: a matting network fails.
      RunError: the folder cannot be written.
    """
    missing = np.array([not (folder / "images" / f"{name}.jpg").is_file() for name in names])
    due = find_due(missing, begins) if matter is not None and matter.remembers else missing
    film, beyond = None, np.zeros(len(names), bool)
    if progress is not None:
        progress("images", 0, len(names))
    if matter is not None and due.any():
        film = film_mattes.FilmMatter(
            matter, views.read, views.squares, shot=np.cumsum(begins), size_px=views.size_px
        )
    for index, name in enumerate(names):
        filmed = views.filmed(index)
        beyond[index] = not filmed.all()
        if due[index]:
            if matter is None or film is None:
                image, alpha = views.cut(index)
            else:
                if begins[index]:
                    matter.forget()
                matte = film.matte(index)
                image, alpha = matte.on_white(), matte.alpha
            _save(folder, name, image, alpha, filmed=filmed)
        if progress is not None:
            progress("images", index + 1, len(names))
    return beyond


def drop_leaps(
    folder: pathlib.Path, names: list[str], begins: Bool[np.ndarray, " k"]
) -> Bool[np.ndarray, " k"]:
    """Removes frames whose matte is unlike those around it, and tells of them.

    Args:
      folder: The capture's folder, all mattes in it.
      names: Names of the frames, without folder and ending.
      begins: Frames that begin a shot.

    Returns:
      Which frames were removed.

    Raises:
      RunError: a file cannot be removed.
    """
    mattes = []
    for name in names:
        with Image.open(folder / "alpha" / f"{name}.png") as picture:
            mattes.append(film_mattes.shrink(np.asarray(picture)))
    leaps = film_mattes.find_leaps(np.stack(mattes), np.cumsum(begins))
    bad = [name for name, leap in zip(names, leaps, strict=True) if leap]
    if bad:
        _LOG.warning(
            "mattes of %d of %d frames leap (%s%s); these frames are left out. A plainer "
            "background behind the head helps.",
            *(len(bad), len(names), ", ".join(bad[:8]), ", ..." if len(bad) > 8 else ""),
        )
    for name in bad:
        for kind, ending in zip(FOLDERS, ("jpg", "png", "png"), strict=True):
            path = folder / kind / f"{name}.{ending}"
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise files.write_error(path, error) from error
    return leaps


def find_due(
    missing: Bool[np.ndarray, " k"], begins: Bool[np.ndarray, " k"]
) -> Bool[np.ndarray, " k"]:
    """Marks what a network with a memory must see: each shot up to what is missing of it.

    Args:
      missing: Frames without an image.
      begins: Frames that begin a shot.

    Returns:
      Which frames are to be looked at.
    """
    shot = np.cumsum(begins) - 1
    last = np.full(shot[-1] + 1, -1)
    np.maximum.at(last, shot[missing], np.flatnonzero(missing))
    return np.arange(len(missing)) <= last[shot]


def _save(
    folder: pathlib.Path,
    name: str,
    image: UInt8[np.ndarray, "h w 3"],
    alpha: UInt8[np.ndarray, "h w"] | None,
    *,
    filmed: Bool[np.ndarray, "h w"],
) -> None:
    """Writes a frame, the image last; what was not filmed is white, and no head."""
    if alpha is not None:
        with files.atomic_path(folder / "alpha" / f"{name}.png") as temporary:
            alpha = np.where(filmed, alpha, np.uint8(0))
            Image.fromarray(alpha).save(temporary, format="PNG")
    if not filmed.all():
        image = np.where(filmed[..., None], image, np.uint8(255))
        mask = np.where(filmed, np.uint8(255), np.uint8(0))
        with files.atomic_path(folder / "filmed" / f"{name}.png") as temporary:
            Image.fromarray(mask).save(temporary, format="PNG")
    with files.atomic_path(folder / "images" / f"{name}.jpg") as temporary:
        Image.fromarray(image).save(temporary, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
