"""Task drive: expression codes of any video drive the avatar, seen from any camera.

samples/drive/<name of the source>/   with -2, -3, ... for other sources and options of its name
  driven.mp4          the driver, where there are pictures of it, beside the avatar
  avatar.mp4          the avatar alone; both with the driver's sound, where it has any
  contact_sheet.png   some frames of driven.mp4
  codes.json          the codes as they were read, all coefficients; see faces.precomputed
  range.json          how far each frame lies outside of what the avatar has seen
  made_from.json      the avatar, the source and the options: the same again goes to the same folder
"""

import itertools
import json
import logging
import pathlib
from collections.abc import Callable

import ml_collections
import numpy as np

from ganavatar_jax.apps import (
    avatar,
    drive_codes,
    drive_sources,
    experiment,
    experiment_config,
    ranges,
    restating,
    stages,
    weights,
)
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import files, portable
from ganavatar_jax.core.arrays import Float, Int, UInt8
from ganavatar_jax.data.formats import film_sound
from ganavatar_jax.faces import coefficients, precomputed, regions
from ganavatar_jax.geometry import cameras, trajectories
from ganavatar_jax.reports import media
from ganavatar_jax.runs import progress, run_dir

_LOG = logging.getLogger(__name__)

_NOTE = "made_from.json"
_SIDE_PX = 256
_SHEET_COLUMNS = 8

_Image = UInt8[np.ndarray, "h w 3"]
_View = Callable[[int, int], _Image]  # the driver in a frame of the result, of a side in pixels


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Drives the avatar of a run folder and writes samples/drive.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      ConfigError: no source is named.
      RunError: the mapping has not been trained.
      DataFormatError: the source cannot be used.
    """
    resolved, opened = experiment.read_run(config, workdir)
    with drive_sources.open_source(resolved.drive) as source:
        drive(avatar.load(resolved, opened), source, resolved, opened)


def drive(
    person: avatar.Avatar,
    source: drive_sources.Source,
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
) -> pathlib.Path:
    """Reads the driver's codes and renders the avatar with them.

    Args:
      person: The avatar.
      source: What drives.
      resolved: The configuration.
      opened: The run.

    Returns:
      The folder of the results; results of other sources and options are kept beside it.

    Raises:
      DataFormatError: the source has no codes, or not those that the avatar takes.
      EstimatorError: the estimator cannot be set up.
      ConfigError: a driver is to be brought to the spread of pairs that nobody knows.

    Source: GAN-Avatar (Kabadayi et al. 2024), section on reenactment.
    """
    config = resolved.drive
    restating.refuse_unknown(person, resolved)
    rows, fps = drive_sources.choose_frames(source, config)
    unique, inverse = np.unique(rows, return_inverse=True)
    read = drive_codes.read(source, unique, person.names, resolved.estimator)
    folder = _claim_folder(opened, source, resolved)
    rate = min(fps, source.fps) if source.in_time else None
    times_s = source.times_s[unique] - source.times_s[unique[0]]
    _save_codes(folder / "codes.json", read, source, resolved, times_s=times_s, fps=rate)
    codes, found = drive_codes.prepare(
        coefficients.select(read.codes, read.names, person.names),
        times_s=source.times_s[unique],
        sigma_s=config.smoothing_s if source.in_time else 0.0,
    )
    rest = drive_codes.at_rest(codes, times_s=times_s, config=config)
    codes, found = codes[inverse], found[inverse]
    restated = restating.restate(
        codes,
        person,
        resolved,
        read=source.codes is None,
        of_driver=codes[found],
        at_rest=rest,
    )
    restated = ranges.hold(person, opened, restated, folder=folder, clamp=config.clamp)
    w = person.encode(restated)
    labels = camera_path(config, person.frontal_label25, np.arange(len(rows)) / fps)
    driver = _driver_view(source, rows, read.head)
    _render(
        person,
        w,
        labels,
        driver,
        folder=folder,
        fps=fps,
        sound=_sound(source, config.start_s, len(rows) / fps),
        batch_size=config.batch_size,
    )
    _LOG.info(
        "%s: %d frames at %.4g a second: %s", source.where, len(rows), fps, folder / "driven.mp4"
    )
    return folder


def camera_path(
    config: experiment_config.DriveConfig,
    frontal_label25: Float[np.ndarray, "25"],
    times_s: Float[np.ndarray, " f"],
) -> Float[np.ndarray, "f 25"]:
    """Places a camera for every frame.

    Args:
      config: How the camera moves.
      frontal_label25: The camera the avatar's mapping was trained with.
      times_s: Time of each frame, seconds.

    Returns:
      One camera a frame; with zero angles "front" is the frontal one.
    """
    phase = times_s / config.period_s
    turned = {
        "front": np.zeros_like(phase),
        "orbit": 360.0 * phase,
        "sway": config.sway_deg * np.sin(2.0 * np.pi * phase),
    }[config.camera]
    path = trajectories.around(
        cameras.from_label25(frontal_label25),
        (config.yaw_deg + turned).astype(np.float32),
        np.full(len(phase), config.pitch_deg, np.float32),
    )
    return np.asarray(cameras.to_label25(path))


def _claim_folder(
    opened: run_dir.RunDir,
    source: drive_sources.Source,
    resolved: experiment_config.ExperimentConfig,
) -> pathlib.Path:
    """Finds or makes the folder of this avatar, source and options; others of its name stay."""
    parent = opened.folder("samples", "drive")
    options = config_lib.to_dict(resolved)
    path = pathlib.Path(source.where).absolute()
    status = path.stat()
    made_from = {
        "source": str(path),
        "state": None if path.is_dir() else [status.st_size, status.st_mtime_ns],
        **{section: options[section] for section in ("drive", "estimator", "evaluation")},
        "avatar": {
            name: portable.identify(stages.export_path(opened, file), thorough=False)
            for name, file in (("generator", weights.GENERATOR), ("mapping", weights.MAPPING))
        },
    }
    content = json.dumps(made_from, indent=1, sort_keys=True) + "\n"
    for number in itertools.count(1):
        folder = parent / (source.name if number == 1 else f"{source.name}-{number}")
        note = folder / _NOTE
        try:
            folder.mkdir()
        except FileExistsError:
            if note.is_file() and note.read_text("utf-8") == content:
                return folder
        except OSError as error:
            raise files.write_error(folder, error) from error
        else:
            files.write_atomic(note, content)
            return folder
    raise AssertionError("numbers do not end")


def _save_codes(
    path: pathlib.Path,
    read: drive_codes.DriverCodes,
    source: drive_sources.Source,
    resolved: experiment_config.ExperimentConfig,
    *,
    times_s: Float[np.ndarray, " f"],
    fps: float | None,
) -> None:
    """Writes the codes, and their times where they follow no constant rate."""
    looked_up = resolved.estimator.codes_path if resolved.estimator.name == "precomputed" else None
    for used in (source.where, looked_up):
        if used and path.is_file() and pathlib.Path(used).exists() and path.samefile(used):
            return  # It may hold more frames than this part of the source.
    steady = fps is None or np.abs(times_s * fps - np.arange(len(times_s))).max() < 1.0
    content = precomputed.to_json(
        read.names, read.frames, read.codes, fps=fps, times_s=None if steady else times_s
    )
    files.write_atomic(path, content)


def _driver_view(
    source: drive_sources.Source, rows: Int[np.ndarray, " f"], head: regions.Region | None
) -> _View | None:
    """Makes what cuts the driver's head out of a frame; None for sources without pictures."""
    if source.read is None:
        return None
    read = source.read

    def view(index: int, size_px: int) -> _Image:
        image_u8 = read(int(rows[index]))
        height, width = image_u8.shape[:2]
        side_px = float(min(height, width, head.side_px if head else np.inf))
        center = (head.center_x_px, head.center_y_px) if head else (width / 2, height / 2)
        x, y = (  # within the picture
            float(np.clip(middle, side_px / 2, extent - side_px / 2))
            for middle, extent in zip(center, (width, height), strict=True)
        )
        return regions.crop(image_u8, regions.Region(x, y, side_px), size_px=size_px)

    return view


def _sound(
    source: drive_sources.Source, begin_s: float, length_s: float
) -> Callable[[], media.Sound] | None:
    """Makes what plays the driver's sound, once for each video; None for silent sources."""
    play = source.sound
    if play is None:
        return None
    return lambda: media.Sound(film_sound.RATE_HZ, play(begin_s, length_s))


def _render(
    person: avatar.Avatar,
    w: Float[np.ndarray, "f d"],
    labels: Float[np.ndarray, "f 25"],
    driver: _View | None,
    *,
    folder: pathlib.Path,
    fps: float,
    sound: Callable[[], media.Sound] | None,
    batch_size: int,
) -> None:
    """Writes the videos frame by frame, so that their length does not matter."""
    play = sound or (lambda: None)
    shown = set(np.linspace(0, len(w) - 1, _SHEET_COLUMNS).round().astype(int).tolist())
    sheet: dict[str, UInt8[np.ndarray, "r h w 3"]] = {}
    rows: dict[str, _Image] = {}
    with (
        media.open_video(folder / "driven.mp4", fps=fps, sound=play()) as add_driven,
        media.open_video(folder / "avatar.mp4", fps=fps, sound=play()) as add_avatar,
        progress.Progress(len(w), unit="frame", title="render", every_s=10) as bar,
    ):
        batches = person.stream(w, labels, batch_size=batch_size)
        for index, frame_u8 in enumerate(itertools.chain.from_iterable(batches)):
            large_u8 = media.upscale(frame_u8, min_side_px=_SIDE_PX)
            if driver is not None:
                rows["driver"] = driver(index, large_u8.shape[0])
            rows["avatar"] = large_u8
            add_driven(media.side_by_side(rows, min_side_px=_SIDE_PX))
            add_avatar(large_u8)
            if index in shown:
                sheet[f"{index / fps:.3f} s"] = np.stack(list(rows.values()))
            bar.update(1)
    picture = media.contact_sheet(sheet, row_labels=tuple(rows))
    media.save_png(folder / "contact_sheet.png", picture)
