"""Readings of the default estimator on captures and on degraded copies of them, cached on disk.

Landmarks are kept and images may be read mirrored as well, so that averaging over the two, landmark
measures and calibrations are computed afterwards without looking again.
"""

import dataclasses
import functools
import pathlib
import zlib

import numpy as np
from PIL import Image, ImageFilter

from ganavatar_jax.core import files
from ganavatar_jax.data.formats import eg3d
from ganavatar_jax.faces import estimation, estimator_config, estimators
from ganavatar_jax.runs import progress

# What is done to an image before it is read: side, then what an avatar's render suffers from.
DEGRADATIONS = (
    "256",
    "128",
    "64",
    "64 blur",
    "64 noise",
    "64 colour",
    "64 shift",
    "64 mixed",
    "32",
)
CHUNK = 100  # images a file: what is lost at most when a run is stopped
BLUR_PX = 0.7  # standard deviation, pixels of the small image; "mixed": at most
NOISE = 8.0  # standard deviation, of 255; "mixed": at most half
GAIN = 0.12  # largest change of contrast and of each colour channel
SHIFT = 0.06  # largest shift, of the side; rotation up to 4 degrees, scale up to 8 %


@dataclasses.dataclass(frozen=True)
class People:
    """Frames of a capture that are read: names, true codes, which of them the capture holds out."""

    path: pathlib.Path
    names: tuple[str, ...]
    frames: tuple[str, ...]
    codes: np.ndarray
    held_out: np.ndarray

    def rows(self, rows: np.ndarray) -> "People":
        """Returns a part of the frames."""
        return dataclasses.replace(
            self,
            frames=tuple(self.frames[row] for row in rows),
            codes=self.codes[rows],
            held_out=self.held_out[rows],
        )


@dataclasses.dataclass(frozen=True)
class Readings:
    """What was read off images and, `mirrored_...`, off the mirrored images; NaN if not found.

    Landmarks are unitless: pixels over the side of the image.
    """

    codes: np.ndarray
    confidence: np.ndarray
    found: np.ndarray
    landmarks: np.ndarray
    mirrored_codes: np.ndarray
    mirrored_found: np.ndarray
    mirrored_landmarks: np.ndarray

    def rows(self, rows: np.ndarray) -> "Readings":
        """Returns the readings of a part of the images."""
        values = {f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)}
        return Readings(**values)


def list_frames(path: pathlib.Path, *, max_angle_deg: float) -> People:
    """Lists the frames of a capture that look at the face from near the front."""
    with eg3d.open_capture(path) as capture:
        frames = [frame for frame in capture.frames if frame.expression is not None]
        place = np.array([np.reshape(f.label25[:16], (4, 4))[:3, 3] for f in frames])
        angle = np.degrees(np.arccos(place[:, 2] / np.linalg.norm(place, axis=1)))
        kept = np.flatnonzero(angle <= max_angle_deg)
        return People(
            path,
            tuple(capture.expression_names),
            tuple(frames[row].frame_id for row in kept),
            np.array([frames[row].expression for row in kept], np.float32),
            np.array([frames[row].split == "test" for row in kept]),
        )


def degrade(image_u8: np.ndarray, how: str, *, seed: int) -> np.ndarray:
    """Makes the degraded copy that `how` (one of DEGRADATIONS) names; the same for one seed."""
    side, _, kind = how.partition(" ")
    rng = np.random.default_rng(seed)
    picture = Image.fromarray(image_u8)
    if kind in ("shift", "mixed"):
        picture = _moved(picture, rng)
    size_px = int(side)
    if picture.width != size_px:
        picture = picture.resize((size_px, size_px), Image.Resampling.LANCZOS)
    if kind in ("blur", "mixed"):
        sigma = BLUR_PX if kind == "blur" else rng.uniform(0.0, BLUR_PX)
        picture = picture.filter(ImageFilter.GaussianBlur(sigma))
    values = np.asarray(picture, np.float32)
    if kind in ("colour", "mixed"):
        gain = 1 + rng.uniform(-GAIN, GAIN, (2, 3)) * [[0.5], [1.0]]
        values = (values - 128) * gain[0] * gain[1].mean() + 128 * gain[1]
    if kind in ("noise", "mixed"):
        sigma = NOISE if kind == "noise" else rng.uniform(0.0, NOISE / 2)
        values = values + rng.normal(size=values.shape) * sigma
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _moved(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    angle, scale = np.radians(rng.uniform(-4, 4)), 1 + rng.uniform(-0.08, 0.08)
    shift = rng.uniform(-SHIFT, SHIFT, 2) * picture.width
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    center = np.full(2, picture.width / 2)
    offset = center - turn @ (center + shift)
    (a, b), (d, e) = turn
    coefficients = (a, b, offset[0], d, e, offset[1])
    mode, filter_ = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return picture.transform(picture.size, mode, coefficients, filter_, fillcolor=(255,) * 3)


def read(
    people: People,
    how: str,
    folder: pathlib.Path,
    *,
    upsample_px: int = 256,
    refine_passes: int = 1,
    mirrored: bool = True,
) -> Readings:
    """Reads degraded copies of all frames, or takes the readings from an earlier run.

    Args:
      people: Frames.
      how: One of DEGRADATIONS.
      folder: Where readings are kept.
      upsample_px: As in EstimatorConfig.
      refine_passes: As in EstimatorConfig.
      mirrored: Whether the mirrored images are read as well; if not, they count as not found.

    Returns:
      The readings, one row a frame.
    """
    config = estimator_config.EstimatorConfig(
        upsample_px=upsample_px, refine_passes=refine_passes, flip_average=False, calibration="none"
    )
    parts = []
    for start in range(0, len(people.frames), CHUNK):
        part = people.rows(np.arange(start, min(start + CHUNK, len(people.frames))))
        listed = "\n".join((str(people.path.stat().st_size), *part.frames))
        key = zlib.crc32(listed.encode())
        views = "both" if mirrored else "plain"
        title = f"{people.path.stem} {how} up{upsample_px} passes{refine_passes} {views} {key:08x}"
        path = folder / f"{title.replace(' ', '-')}.npz"
        if not path.exists():
            arrays = _read_all(part, how, _estimator(config), f"{title} from {start}", mirrored)
            with files.atomic_path(path) as temporary:
                np.savez(temporary, **arrays)
        with np.load(path) as stored:
            parts.append(dict(stored))
    return Readings(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


@functools.cache
def _estimator(config: estimator_config.EstimatorConfig) -> estimation.Estimator:
    return estimators.make_estimator(config)


def _read_all(
    people: People, how: str, estimator: estimation.Estimator, title: str, mirrored: bool
) -> dict[str, np.ndarray]:
    count, width = len(people.frames), len(estimator.names)
    arrays: dict[str, np.ndarray] = {"confidence": np.zeros(count, np.float32)}
    for prefix in ("", "mirrored_"):
        arrays[prefix + "codes"] = np.full((count, width), np.nan, np.float32)
        arrays[prefix + "landmarks"] = np.full((count, 478, 3), np.nan, np.float32)
        arrays[prefix + "found"] = np.zeros(count, bool)
    with (
        eg3d.open_capture(people.path) as capture,
        progress.Progress(count, unit="image", title=title, every_s=10) as bar,
    ):
        frames = {frame.frame_id: frame for frame in capture.frames}
        for row, name in enumerate(people.frames):
            seed = zlib.crc32(f"{how} {name}".encode())
            image_u8 = degrade(frames[name].load().image, how, seed=seed)
            views = {"": image_u8, "mirrored_": image_u8[:, ::-1]}
            for prefix, view in list(views.items())[: 1 + mirrored]:
                reading = estimator.estimate(np.ascontiguousarray(view))
                if reading is None:
                    continue
                arrays[prefix + "found"][row] = True
                arrays[prefix + "codes"][row] = reading.code
                arrays[prefix + "landmarks"][row] = reading.landmarks / len(image_u8)
                if not prefix:
                    arrays["confidence"][row] = reading.confidence
            bar.update(1)
    return arrays
