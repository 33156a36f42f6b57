"""Measures where MediaPipe's landmarks lie on the heads that base generators learn.

    python experiments/make_head_landmarks.py --people people_0.zip people_1.zip

Reads landmarks off posed images of many people, keeps views within 45 degrees of yaw, and finds for
each landmark its mean place in the head frame of the images, and the modes by which people differ.
Writes the asset that automatic alignment compares captures with.
"""

import argparse
import hashlib
import json
import pathlib

import numpy as np
import script

from ganavatar_jax.data.formats import eg3d
from ganavatar_jax.faces import canonical_face, estimator_config, estimators, model_files
from ganavatar_jax.geometry import cameras, triangulation

ASSET = pathlib.Path(__file__).parents[1] / "ganavatar_jax" / "assets" / "head_landmarks.json"
# Landmarks that a face moves little: nose, eye corners, forehead, temples, upper cheeks. Taken from
# MediaPipe's canonical mesh: above the nostrils (y > -1.5 cm), 2.1 cm or more off the eyes' middles
# (vertical distances weighted by 4/3), not in the band of the eyebrows; and the four eye corners.
# fmt: off
RIGID = (
    1, 3, 4, 5, 6, 8, 9, 10, 20, 21, 31, 33, 34, 35, 36, 44, 45, 47, 48, 49, 50, 51, 54, 59, 64,
    67, 71, 75, 79, 93, 100, 101, 102, 103, 109, 111, 114, 115, 116, 117, 118, 119, 120, 122, 123,
    124, 125, 126, 127, 129, 131, 133, 134, 137, 139, 142, 143, 151, 156, 162, 166, 168, 174, 188,
    193, 195, 196, 197, 198, 209, 217, 218, 219, 220, 227, 234, 235, 236, 237, 238, 239, 241, 245,
    248, 250, 251, 261, 263, 264, 265, 266, 274, 275, 277, 278, 279, 280, 281, 284, 289, 294, 297,
    301, 305, 309, 323, 329, 330, 331, 332, 338, 340, 343, 344, 345, 346, 347, 348, 349, 351, 352,
    353, 354, 355, 356, 358, 360, 362, 363, 366, 368, 371, 372, 383, 389, 392, 399, 412, 417, 419,
    420, 429, 437, 438, 439, 440, 447, 454, 455, 456, 457, 458, 459, 461, 465,
)
# fmt: on
MAX_YAW_DEG = 45.0
# Error of points triangulated from 60 frontal views: 1.4 px at 256 px over sqrt(60), in world
# units. The model meets such points, not exact ones.
TRIANGULATION_ERROR = 0.00045


def read_views(path, reader, limit):
    """Yields camera and landmarks (0..1) of every readable view of a capture."""
    with eg3d.open_capture(path) as capture:
        labels = np.stack([frame.label25 for frame in capture.frames])
        yaw, _ = cameras.yaw_pitch_deg(labels[:, :16].reshape(-1, 4, 4))
        near = np.flatnonzero(np.abs(np.asarray(yaw)) <= MAX_YAW_DEG)
        for index in near[:limit]:
            frame = capture.frames[index].load()
            reading = reader.estimate(frame.image)
            if reading is not None:
                yield labels[index], reading.landmarks[list(RIGID), :2] / len(frame.image)


def jacobians(points, cam2world, intrinsics):
    """Derivatives of each view's image coordinates by each point, [v n 2 3]."""
    uv, depth = triangulation.project(points, cam2world, intrinsics)
    matrix = intrinsics @ np.swapaxes(cam2world[:, :3, :3], 1, 2)
    step = matrix[:, None, :2] - uv[..., None] * matrix[:, None, 2:]
    return uv, step / depth[..., None, None]


def fit_modes(uv, cam2world, intrinsics, mean, *, count, passes=15, seed=0):
    """Fits mean + modes z to one view a person by expectation maximisation (probabilistic PCA).

    Depth along a view is not seen, and the many views' sides see it together.
    """
    generator = np.random.default_rng(seed)
    modes = generator.normal(scale=0.005, size=(*mean.shape, count))
    projected, step = jacobians(mean, cam2world, intrinsics)
    residual, noise = uv - projected, 0.3 / 128
    across = np.einsum("inab,inac->nbci", step, step).reshape(-1, len(uv))
    for _ in range(passes):
        seen = np.einsum("inab,nbk->inak", step, modes).reshape(len(uv), -1, count)
        normal = np.swapaxes(seen, 1, 2) @ seen / noise**2 + np.eye(count)
        covariance = np.linalg.inv(normal)
        z = np.einsum("ikl,iml,im->ik", covariance, seen, residual.reshape(len(uv), -1)) / noise**2
        extended = np.concatenate([z, np.ones((len(z), 1))], axis=1)
        moments = np.einsum("ik,il->ikl", extended, extended)
        moments[:, :count, :count] += covariance
        size = 3 * (count + 1)
        left = (across @ moments.reshape(len(uv), -1)).reshape(len(mean), 3, 3, *moments.shape[1:])
        left = left.transpose(0, 1, 3, 2, 4).reshape(len(mean), size, size)
        right = np.einsum("inab,ina,ik->nbk", step, residual, extended).reshape(len(mean), size)
        solved = np.linalg.solve(left + 1e-3 * np.eye(size), right[..., None])
        solved = solved.reshape(*mean.shape, count + 1)
        modes, shift = solved[..., :count], solved[..., count]
        left_over = residual - np.einsum("inab,nbk,ik->ina", step, solved, extended)
        spread = ((seen @ covariance) * seen).sum() / left_over.size
        noise = np.sqrt((left_over**2).mean() + spread)
    scatter = (z.T @ z + covariance.sum(axis=0)) / len(z)
    # Modes of unit variance, the largest first.
    modes = modes @ np.linalg.cholesky(scatter)
    u, singular, _ = np.linalg.svd(modes.reshape(-1, count), full_matrices=False)
    return mean + shift, (u * singular).reshape(*mean.shape, count), noise


def symmetrize(mean, modes, canonical):
    """Averages points and modes with their mirror images; also says who mirrors whom.

    A lopsided mode looks like a head that turns or tilts, and people are hardly lopsided.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    distance = np.linalg.norm(canonical[None] - (canonical * flip)[:, None], axis=-1)
    partners = distance.argmin(axis=1)
    if (partners[partners] != np.arange(len(mean))).any():
        raise ValueError("RIGID lacks mirror images; list landmarks of both sides of the face.")
    symmetric = 0.5 * (modes + modes[partners] * flip[:, None])
    return 0.5 * (mean + mean[partners] * flip), symmetric, partners


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=1700, help="views of each archive")
    parser.add_argument("--modes", type=int, default=30)
    options = parser.parse_args()
    reader = estimators.make_estimator(estimator_config.EstimatorConfig())
    views = [v for path in options.people for v in read_views(path, reader, options.limit)]
    label25 = np.stack([label for label, _ in views]).astype(np.float64)
    uv = np.stack([points for _, points in views]).astype(np.float64)
    cam2world, intrinsics = label25[:, :16].reshape(-1, 4, 4), label25[:, 16:].reshape(-1, 3, 3)
    mean, _ = triangulation.triangulate(uv, cam2world, intrinsics)
    mean, modes, noise = fit_modes(uv, cam2world, intrinsics, mean, count=options.modes)
    task = model_files.find(model_files.FACE_LANDMARKER, path=None, allow_download=True)
    mean, modes, partners = symmetrize(mean, modes, canonical_face.load(task)[list(RIGID)])
    distance = np.linalg.norm(cam2world[:, :3, 3], axis=-1) / intrinsics[:, 0, 0]
    sources = {
        pathlib.Path(p).name: hashlib.sha256(pathlib.Path(p).read_bytes()).hexdigest()
        for p in options.people
    }
    content = {
        "provenance": (
            "MediaPipe landmarks of synthetic people (MakeHuman, CC0), mean and modes fitted to "
            f"{len(views)} views, one a person, within {MAX_YAW_DEG:g} degrees of yaw, "
            "averaged with their mirror images; experiments/make_head_landmarks.py"
        ),
        "frame": "y up, face along +z, head centre at the origin, radius 2.7, focal 4.2647",
        "sources_sha256": sources,
        "indices": list(RIGID),
        "partners": partners.tolist(),
        "points": mean.round(5).tolist(),
        "modes": modes.round(5).tolist(),
        "noise": round(float(np.hypot(noise * distance.mean(), TRIANGULATION_ERROR)), 6),
    }
    ASSET.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(f"{len(views)} views, noise {content['noise']:.5f}")


if __name__ == "__main__":
    script.run(main)
