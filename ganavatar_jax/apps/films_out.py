"""Films of an avatar: its latents and cameras in, a video, a sheet and pictures out."""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from ganavatar_jax.apps import avatar
from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.faces import coefficients, precomputed
from ganavatar_jax.reports import media
from ganavatar_jax.runs import progress

_SIDE_PX = 256
_SHEET_COLUMNS = 8

Beside = Mapping[str, Callable[[int], UInt8[np.ndarray, "h w 3"]]]


def write_film(
    folder: pathlib.Path,
    person: avatar.Avatar,
    w: Float[np.ndarray, "f d"],
    label25: Float[np.ndarray, "f 25"],
    *,
    fps: float,
    batch_size: int,
    beside: Beside | None = None,
    pictures: bool = False,
) -> None:
    """Writes film.mp4 and sheet.png, frame by frame, so that their length does not matter.

    Args:
      folder: Where to.
      person: The avatar.
      w: One latent a frame.
      label25: One camera a frame.
      fps: Frames a second.
      batch_size: Images rendered at once.
      beside: What is shown to the left of the avatar, by its caption: functions of the frame.
      pictures: Whether frames/*.png are written, too, with alpha.
    """
    shown = set(np.linspace(0, len(w) - 1, _SHEET_COLUMNS).round().astype(int).tolist())
    rows = [*(beside or {}), "avatar"]
    sheet: dict[str, UInt8[np.ndarray, "r h w 3"]] = {}
    with (
        media.open_video(folder / "film.mp4", fps=fps) as add,
        progress.Progress(len(w), unit="frame", title="render", every_s=10) as bar,
    ):
        for start in range(0, len(w), batch_size):
            part = slice(start, start + batch_size)
            drawn = person.render(w[part], label25[part], batch_size=batch_size)
            for index, image_u8 in enumerate(drawn.image, start):
                if pictures:
                    path = folder / "frames" / f"{index:06d}.png"
                    _save_with_alpha(path, image_u8, drawn.alpha[index - start], person)
                large_u8 = media.upscale(image_u8, min_side_px=_SIDE_PX)
                size = (large_u8.shape[1], large_u8.shape[0])
                columns = {name: _fit(view(index), size) for name, view in (beside or {}).items()}
                columns["avatar"] = large_u8
                add(media.side_by_side(columns) if beside else large_u8)
                if index in shown:
                    sheet[str(index)] = np.stack([columns[name] for name in rows])
                bar.update(1)
    media.save_png(folder / "sheet.png", media.contact_sheet(sheet, row_labels=tuple(rows)))


def _fit(image_u8: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    same = image_u8.shape[1::-1] == size
    return image_u8 if same else np.asarray(Image.fromarray(image_u8).resize(size))


def _save_with_alpha(
    path: pathlib.Path, image_u8: np.ndarray, alpha: np.ndarray, person: avatar.Avatar
) -> None:
    """Takes the background out of the colours and writes them with their alpha."""
    background = 255.0 if person.g_config.render.white_back else 0.0
    cover = np.maximum(alpha, 1e-3)[..., None]
    straight = (image_u8 - background * (1.0 - alpha[..., None])) / cover
    pixels = np.concatenate([straight, 255.0 * alpha[..., None]], axis=-1)
    with files.atomic_path(path) as partial:
        Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), "RGBA").save(partial)


def read_codes(path: str, person: avatar.Avatar) -> Float[np.ndarray, "f e"]:
    """Reads a codes file as the avatar takes it; an empty path is the neutral face.

    Args:
      path: File of `faces.precomputed`.
      person: The avatar.

    Returns:
      Codes with the avatar's coefficients, frames without one left out.

    Raises:
      DataFormatError: it cannot be read, lacks coefficients, or holds no code.
    """
    if not path:
        return np.asarray(person.neutral_code)[None]
    table = precomputed.load(pathlib.Path(path))
    missing = sorted(set(person.names) - set(table.names))
    if missing:
        raise errors.DataFormatError(
            f"{path}: expected the coefficients that drive this avatar; {', '.join(missing[:5])} "
            f"{'is' if len(missing) == 1 else 'are'} lacking. Use another file."
        )
    codes = coefficients.select(table.codes, table.names, person.names)
    codes = codes[np.isfinite(codes).all(axis=1)]
    if not len(codes):
        raise errors.DataFormatError(f"{path}: holds no codes. Write the file anew.")
    return codes


def claim_folder(parent: pathlib.Path, name: str) -> pathlib.Path:
    """Makes a folder that was not there: NAME, NAME-2, NAME-3, ....

    Args:
      parent: Where.
      name: What to call it.

    Returns:
      The new folder.

    Raises:
      RunError: it cannot be made.
    """
    folder, number = files.make_folder(parent) / name, 1
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
            folder = parent / f"{name}-{number}"
        except OSError as error:
            raise files.write_error(folder, error) from error
