"""How well a code predicts what a face looks like: an offline stand-in for the mapping network.

The mapping network learns, from readings of frontal renders, the latent of the face; then true
codes of a held-out sequence drive it, restated to the mean and spread of its training codes; then
the renders are read again. Here the latent is replaced by principal components of the mouth and
eye patches of one person's frames, the network and the reader by ridge regression:

  reading -> patches     held-out share of patch variance that readings of the frame predict
  truth -> patches       the same map driven by the true codes (r over components, not a share:
                         bias and scale of a driver are his own)
  truth -> patches -> reading    correlation of the driving code with what a linear reader, fitted
                         on training frames, finds in the predicted patches
"""

import dataclasses

import estimator_calibration as ec
import estimator_readings as er
import numpy as np
from scipy import ndimage

from ganavatar_jax.data.formats import eg3d
from ganavatar_jax.faces import coefficients, normalization

FOLDS = 8  # consecutive blocks of time
COMPONENTS = 16  # of each patch
PENALTY = 0.3  # of the stand-in for the network and of its reader
STEP = 0.008  # between samples of a patch, world units
# Patches are flat rectangles before the face in the canonical head frame, world units.
PATCHES = {  # x from, x to, y from, y to, z
    "mouth": (-0.07, 0.07, -0.235, -0.105, 0.19),
    "eyes": (-0.11, 0.11, -0.08, 0.03, 0.155),
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """Frames of one person: patch components left after the camera is regressed out."""

    patches: dict[str, np.ndarray]
    truth: np.ndarray  # named as ARKit


def make_scene(people: er.People, rows: np.ndarray, *, size_px: int = 64) -> Scene:
    """Cuts patches out of small copies of frames, by their cameras."""
    with eg3d.open_capture(people.path) as capture:
        frames = {frame.frame_id: frame for frame in capture.frames}
        kept = [frames[people.frames[row]] for row in rows]
        images = [er.degrade(f.load().image, str(size_px), seed=0) / 255 for f in kept]
        cam2world = np.array([np.reshape(f.label25[:16], (4, 4)) for f in kept])
        intrinsics = np.array([np.reshape(f.label25[16:], (3, 3)) for f in kept])
    place = cam2world[:, :3, 3]
    x, y = (place / np.linalg.norm(place, axis=1, keepdims=True))[:, :2].T
    camera = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    patches = {}
    for name, (left, right, bottom, top, z) in PATCHES.items():
        grid = np.meshgrid(np.arange(left, right, STEP), np.arange(bottom, top, STEP), [z])
        points = np.stack([axis.ravel() for axis in grid], axis=1)
        seen = np.einsum("fji,fnj->fni", cam2world[:, :3, :3], points - place[:, None])
        pixels = np.einsum("fij,fnj->fni", intrinsics, seen / seen[..., 2:]) * size_px - 0.5
        values = np.array(
            [
                [ndimage.map_coordinates(i[..., c], p[:, 1::-1].T, order=1) for c in range(3)]
                for i, p in zip(images, pixels, strict=True)
            ]
        ).reshape(len(rows), -1)
        values = values - camera @ np.linalg.lstsq(camera, values, rcond=None)[0]
        u, s, _ = np.linalg.svd(values, full_matrices=False)
        patches[name] = u[:, :COMPONENTS] * s[:COMPONENTS]
    truth = coefficients.select(people.codes[rows], people.names, coefficients.ARKIT_NAMES)
    return Scene(patches, truth)


def measure(
    scene: Scene,
    codes: np.ndarray,
    names: tuple[str, ...],
    *,
    method: str,
    components: int | None,
    penalty: float = PENALTY,
) -> dict[str, float]:
    """Scores a code; see the module's docstring.

    Args:
      scene: Frames.
      codes: Readings of the frames.
      names: Their names, all of them ARKit's.
      method: "standardize" or "pca", as in faces.normalization.
      components: Kept with "pca".
      penalty: Of both ridge regressions.

    Returns:
      Scores by name.
    """
    truth = coefficients.select(scene.truth, coefficients.ARKIT_NAMES, names)
    block = np.arange(len(codes)) * FOLDS // len(codes)
    patches = np.concatenate(list(scene.patches.values()), axis=1)
    by_reading, by_truth, read_back = np.zeros_like(patches), np.zeros_like(patches), codes * 0.0
    for part in range(FOLDS):
        test = block == part
        norm = normalization.fit(codes[~test], names, method=method, components=components)
        matrix, offset = ec.ridge(norm.apply(codes[~test]), patches[~test], penalty)
        by_reading[test] = norm.apply(codes[test]) @ matrix + offset
        by_truth[test] = norm.apply(restate(truth[test], norm)) @ matrix + offset
        reader, start = ec.ridge(patches[~test], codes[~test], penalty)
        read_back[test] = by_truth[test] @ reader + start
    scores, start = {}, 0
    for name, values in scene.patches.items():
        columns = slice(start, start + values.shape[1])
        start += values.shape[1]
        left = ((by_reading[:, columns] - values) ** 2).sum()
        scores[f"{name}: reading -> patch, R2"] = 1 - left / (values**2).sum()
        a, b = by_truth[:, columns], values
        scores[f"{name}: truth -> patch, r"] = float(
            (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
        )
    for name, members in REPORTED.items():
        if set(members) <= set(names):
            a, b = (coefficients.select(v, names, members).mean(axis=1) for v in (truth, read_back))
            scores[f"read back: {name}"] = float(ec.correlations(a[:, None], b[:, None])[0])
    r = ec.correlations(truth, read_back)
    scores["read back: mean of its coefficients"] = float(np.nanmean(r))
    return scores


REPORTED = {
    "jawOpen": ("jawOpen",),
    "eyeBlink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "mouthSmile": ("mouthSmileLeft", "mouthSmileRight"),
    "browInnerUp": ("browInnerUp",),
    "browDown": ("browDownLeft", "browDownRight"),
}


def restate(truth: np.ndarray, norm: normalization.CodeNormalizer) -> np.ndarray:
    """Gives a driver's codes the mean and spread of the codes the normaliser was fitted on."""
    mean, std = truth.mean(axis=0), truth.std(axis=0)
    scale = np.where(std > 1e-3, norm.std / np.maximum(std, 1e-3), 0.0)
    return (truth - mean) * scale + norm.mean
