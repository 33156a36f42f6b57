"""Learns where the face landmarker puts its landmarks on people's heads, whatever pose they are in.

    python experiments/make_face_model.py --people people_0.zip people_1.zip --readings readings

Reads landmarks off posed images of many people and undoes the known cameras. What is left is
described by a mean; by how landmarks drift as a head turns (the landmarker's pull towards frontal
faces, and contours that slide); by the modes in which people differ; and by those in which views
of one person do: expression, and the landmarker's own mistakes. Both kinds of modes come from one
linear model with two levels, fitted by expectation maximisation: between people, and between the
views of a person.

Archives of several frames a person say so in meta.json: `frames` {name: {"identity": ...}}; their
people of the split "test" are left out. Writes the asset that poses of films are found with.
"""

import argparse
import hashlib
import json
import pathlib
import zipfile

import glasses
import numpy as np
import script

from ganavatar_jax.data.formats import eg3d
from ganavatar_jax.faces import canonical_face, estimator_config, estimators, model_files
from ganavatar_jax.films import face_model
from ganavatar_jax.geometry import head_angles
from ganavatar_jax.runs import progress

ASSET = pathlib.Path(__file__).parents[1] / "ganavatar_jax" / "assets" / face_model.ASSET
LANDMARKS = 468  # The irises follow the gaze.
MAX_YAW_DEG = 60.0
SPACE = 160  # Dimensions in which covariances are estimated; they hold all but 1e-4 units.
PASSES = 40
MISREAD = 4.0  # Views that fit worse than this many medians are left out.
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def read_archive(path, readings, reader, *, wearing=False):
    """Returns labels, landmarks (image sides) and the person of every readable view.

    When `wearing`, people of even numbers wear some, and the others are left out.
    """
    store = readings / f"{path.stem}{'-glasses' if wearing else ''}.npz"
    if not store.is_file():
        labels, found = [], []
        dress = Dresser(path) if wearing else None
        with (
            eg3d.open_capture(path) as capture,
            progress.Progress(len(capture.frames), unit="frame", title=path.name) as bar,
        ):
            for number, frame in enumerate(capture.frames):
                label = frame.label25.astype(np.float64)
                yaw, _ = head_angles.view_angles(label[:16].reshape(1, 4, 4)[:, :3, :3])
                reading = None
                worn = dress is None or dress.wears(number)
                if worn and abs(np.degrees(yaw[0])) < 1.25 * MAX_YAW_DEG:
                    image = frame.load().image
                    if dress is not None:
                        image = dress.draw(image, number, label)
                    reading = reader.estimate(image)
                labels.append(label)
                unread = np.full((478, 3), np.nan, np.float32)
                found.append(unread if reading is None else reading.landmarks / len(image))
                bar.update(1)
        readings.mkdir(parents=True, exist_ok=True)
        np.savez(store, label=np.stack(labels), lm=np.stack(found))
    with np.load(store) as stored:
        label25, landmarks = stored["label"], stored["lm"][:, :LANDMARKS].astype(np.float64)
    with zipfile.ZipFile(path) as archive:
        names = [name for name, _ in json.loads(archive.read("dataset.json"))["labels"]]
        meta = json.loads(archive.read("meta.json"))
    known = meta.get("frames", {})
    person = np.array([known[n]["identity"] if known else i for i, n in enumerate(names)])
    held_out = set(meta.get("split", {}).get("test", ())) if known else set()
    yaw, _ = head_angles.view_angles(label25[:, :16].reshape(-1, 4, 4)[:, :3, :3])
    used = np.isfinite(landmarks[:, 0, 0]) & (np.abs(np.degrees(yaw)) < MAX_YAW_DEG)
    used &= np.array([name not in held_out for name in names])
    return label25[used], landmarks[used], person[used]


class Dresser:
    """Puts glasses on the people of an archive, each person his own."""

    def __init__(self, path):
        with zipfile.ZipFile(path) as archive:
            labels = json.loads(archive.read("dataset.json"))["labels"]
            self.points = json.loads(archive.read("landmarks3d.json"))
            frames = json.loads(archive.read("meta.json"))["frames"]
        self.names = [name for name, _ in labels]
        self.person = [frames[name]["identity"] for name in self.names]

    def wears(self, number):
        """Says whether the person of a frame wears glasses."""
        return self.person[number] % 2 == 0

    def draw(self, image, number, label25):
        """Draws a frame's person with glasses."""
        style = glasses.draw_style(np.random.default_rng(self.person[number]))
        return glasses.draw_glasses(image, self.points[self.names[number]], label25, style)


def mirrored(label25, landmarks, partners):
    """The views of the mirrored people."""
    label25, landmarks = label25.copy(), landmarks[:, partners].copy()
    label25[:, :16] = (MIRROR @ label25[:, :16].reshape(-1, 4, 4) @ MIRROR).reshape(-1, 16)
    label25[:, 18] = 1.0 - label25[:, 18]  # Principal point.
    landmarks[..., 0] = 1.0 - landmarks[..., 0]
    return label25, landmarks


def into_head_frame(label25, landmarks, mean):
    """Landmarks as points of the head frame; their mean depth, which is not read, is the mean's."""
    pose, intrinsics = label25[:, :16].reshape(-1, 4, 4), label25[:, 16:].reshape(-1, 3, 3)
    rotation = np.swapaxes(pose[:, :3, :3], 1, 2)
    shift = -np.einsum("vij,vj->vi", rotation, pose[:, :3, 3])
    focal = intrinsics[:, :1, 0]
    depth = (landmarks[..., 2] - landmarks[..., 2].mean(axis=1, keepdims=True)) * (
        shift[:, 2:] / focal
    )
    depth += shift[:, 2:] + (rotation[:, 2] @ mean.T).mean(axis=1, keepdims=True)
    xy = (landmarks[..., :2] - intrinsics[:, None, :2, 2]) * (depth / focal)[..., None]
    local = np.concatenate([xy, depth[..., None]], axis=-1)
    return np.einsum("vji,vnj->vni", rotation, local - shift[:, None])


def fit_drift(points, drift):
    """Fits mean and drift to all views; returns coefficients, residuals and who fits."""
    design = np.concatenate([np.ones((len(points), 1)), drift], axis=1)
    flat, used = points.reshape(len(points), -1), np.ones(len(points), bool)
    for _ in range(4):
        chosen = design[used]
        normal = chosen.T @ chosen + 1e-6 * np.eye(design.shape[1])
        coefficients = np.linalg.solve(normal, chosen.T @ flat[used])
        residual = flat - design @ coefficients
        size = np.sqrt((residual**2).mean(axis=1))
        used = size < MISREAD * np.median(size)
    return coefficients, residual, used


def split_covariance(values, person):
    """Covariances between people and within, by expectation maximisation."""
    _, index = np.unique(person, return_inverse=True)
    count = np.bincount(index)
    sums = np.zeros((len(count), values.shape[1]))
    np.add.at(sums, index, values)
    between = within = 0.5 * np.cov(values.T, bias=True)
    for _ in range(PASSES):
        prior, precision = np.linalg.inv(between), np.linalg.inv(within)
        means = np.zeros_like(sums)
        spread, shared = np.zeros_like(between), np.zeros_like(between)
        for views in np.unique(count):
            which = np.flatnonzero(count == views)
            left = np.linalg.inv(prior + views * precision)
            means[which] = sums[which] @ (left @ precision).T
            spread += len(which) * left
            shared += len(which) * views * left
        between = (means.T @ means + spread) / len(means)
        rest = values - means[index]
        within = (rest.T @ rest + shared) / len(values)
    return between, within


def split_modes(covariance, basis, count):
    """The largest modes as displacements of landmarks, and the variance that they leave."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    modes = (basis @ vectors[:, :count]) * np.sqrt(values[:count])
    left = ((basis @ vectors[:, count:]) ** 2 * values[count:]).sum(axis=1)
    return modes.reshape(LANDMARKS, 3, count), left.reshape(LANDMARKS, 3)


def choose_landmarks(canonical, partners, count):
    """Spreads landmarks over the face (farthest points), each with its mirror image."""
    chosen, distance = [], np.full(len(canonical), np.inf)
    new = 4  # The tip of the nose.
    while len(chosen) < count:
        for index in {new, int(partners[new])}:
            chosen.append(index)
            reach = np.linalg.norm(canonical - canonical[index], axis=1)
            distance = np.minimum(distance, reach)
        new = int(np.argmax(distance))
    return np.array(sorted(chosen))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", nargs="+", type=pathlib.Path, required=True)
    parser.add_argument(
        "--glasses",
        nargs="*",
        type=pathlib.Path,
        default=[],
        help="archives read with glasses, too",
    )
    parser.add_argument("--readings", type=pathlib.Path, required=True, help="kept landmarks")
    parser.add_argument("--identity-modes", type=int, default=50)
    parser.add_argument("--frame-modes", type=int, default=40)
    parser.add_argument("--landmarks", type=int, default=156)
    options = parser.parse_args()
    task = model_files.find(model_files.FACE_LANDMARKER, path=None, allow_download=True)
    canonical = canonical_face.load(task)
    flipped = canonical * [-1.0, 1.0, 1.0]
    partners = np.linalg.norm(canonical[None] - flipped[:, None], axis=-1).argmin(axis=1)
    reader = estimators.make_estimator(estimator_config.EstimatorConfig(flip_average=False))
    label25, landmarks, person = [], [], []
    sources = [(path, False) for path in options.people]
    sources += [(path, True) for path in options.glasses]
    for number, (path, wearing) in enumerate(sources):
        labels, points, people = read_archive(path, options.readings, reader, wearing=wearing)
        for side, (view, seen) in enumerate(((labels, points), mirrored(labels, points, partners))):
            label25.append(view)
            landmarks.append(seen)
            person.append(people + (2 * number + side) * 10**6)
    label25, landmarks, person = map(np.concatenate, (label25, landmarks, person))
    drift = face_model.drift_features(
        *head_angles.view_angles(label25[:, :16].reshape(-1, 4, 4)[:, :3, :3])
    )
    mean = np.zeros((LANDMARKS, 3))
    for _ in range(4):
        points = into_head_frame(label25, landmarks, mean)
        mean = np.median(points, axis=0)
    coefficients, residual, used = fit_drift(points, drift)
    residual, person = residual[used], person[used]
    covariance = residual.T @ residual / len(residual)
    basis = np.linalg.eigh(covariance)[1][:, -SPACE:]
    between, within = split_covariance(residual @ basis, person)
    identity, left = split_modes(between, basis, options.identity_modes)
    frame, more = split_modes(within, basis, options.frame_modes)
    inside = np.einsum("ik,kl,il->i", basis, basis.T @ covariance @ basis, basis)
    rest = np.maximum(np.diag(covariance) - inside, 0.0).reshape(LANDMARKS, 3)
    chosen = choose_landmarks(canonical, partners, options.landmarks)
    content = {
        "indices": chosen.astype(np.int16),
        "mean": coefficients[0].reshape(LANDMARKS, 3)[chosen].astype(np.float32),
        "drift": np.moveaxis(coefficients[1:].reshape(-1, LANDMARKS, 3), 0, -1)[chosen].astype(
            np.float16
        ),
        "identity": identity[chosen].astype(np.float16),
        "frame": frame[chosen].astype(np.float16),
        "noise": np.sqrt(left + more + rest)[chosen].astype(np.float32),
        "provenance": np.array(
            f"MediaPipe landmarks of {len(residual)} views of {len(np.unique(person))} synthetic "
            "people (MakeHuman, CC0) and their mirror images; experiments/make_face_model.py; "
            + ", ".join(
                f"{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in options.people
            )
        ),
    }
    np.savez_compressed(ASSET, **content)
    print(f"{len(residual)} views, {len(np.unique(person))} people, {ASSET.stat().st_size} bytes")


if __name__ == "__main__":
    script.run(main)
