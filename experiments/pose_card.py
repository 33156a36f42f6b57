"""Measures the cameras of films whose true cameras are known: how far the head turns, how long.

    python experiments/pose_card.py actor/monocular.zip actor2/monocular.zip --out card.md

Makes bare films of captures in EG3D's layout: the frames within so many degrees of a frontal view,
in order of time (back and forth where there are too few), each with and without glasses drawn over
the eyes. Finds cameras as prepare_data does and compares them with the true ones within 45 degrees
of yaw: the angle up to one similarity for the whole film, the angle as it is, the distance of the
cameras over the radius, and the reported uncertainty (two standard deviations).
"""

import argparse
import json
import pathlib
import tempfile
import time
import zipfile

import av
import numpy as np
import script
from glasses import draw_glasses

from ganavatar_jax.data import data_config
from ganavatar_jax.data.formats import eg3d, video_file
from ganavatar_jax.faces import estimator_config
from ganavatar_jax.films import video_cameras, video_landmarks, video_truth
from ganavatar_jax.geometry import head_angles

WHOLE = 180.0  # Degrees: every frame.
JUDGED = 45.0  # Yaw up to which frames are compared.


def choose(angles_deg, limit, count):
    """Frames within a limit of the frontal view: spread over these, or back and forth."""
    away = np.hypot(angles_deg[:, 0], angles_deg[:, 1])
    found = np.flatnonzero(away <= limit)
    if len(found) >= count and limit >= WHOLE:  # As filmed, where most frames can be judged.
        judged = np.concatenate([[0], np.cumsum(np.abs(angles_deg[:, 0]) <= JUDGED)])
        return np.argmax(judged[count:] - judged[:-count]) + np.arange(count)
    if len(found) >= count:
        return found[np.linspace(0, len(found) - 1, count).astype(int)]
    there_and_back = np.concatenate([found, found[-2:0:-1]])
    return there_and_back[np.arange(count) % len(there_and_back)]


def write_film(path, images):
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "14"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def measure(path, truth, options, folder):
    """Finds the film's cameras; returns a row of the table."""
    reader = estimator_config.EstimatorConfig(flip_average=options.flip)
    config = data_config.DataConfig(
        source=str(path),
        format="video",
        video=data_config.VideoConfig(cameras=options.cameras, matte="none"),
    )
    begun = time.monotonic()
    video = video_file.VideoFile(path, where=path.name)
    tracks, _ = video_landmarks.read_tracks(video, config, reader, folder, None)
    solved = video_cameras.solve(video, config, reader, tracks, folder=folder)
    found, true = solved.cam2world[solved.kept], truth[tracks.frame[solved.kept]]
    facts = video_truth.compare_poses(found, true)
    sigma = 2.0 * float(np.median(solved.sigma_deg[solved.kept].max(axis=1)))
    return {
        "rotation": facts["truth_rotation_deg"],
        "absolute": facts["truth_absolute_deg"],
        "shift": 100.0 * facts["truth_translation"],
        "told": sigma,
        "refined": float(solved.refined[solved.kept].mean()),
        "kept": len(solved.kept),
        "seconds": time.monotonic() - begun,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captures", nargs="+", type=pathlib.Path)
    parser.add_argument("--ranges", nargs="+", type=float, default=[6, 12, 25, WHOLE])
    parser.add_argument("--frames", nargs="+", type=int, default=[30, 120, 480])
    parser.add_argument("--glasses", nargs="+", type=int, choices=(0, 1), default=[0, 1])
    parser.add_argument("--cameras", choices=("colmap", "landmarks"), default="colmap")
    parser.add_argument("--flip", action="store_true", help="read mirror images, too")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    head = (
        "| film | within | frames | glasses | rotation | as it is | shift % | told | refined | s |"
    )
    lines = [head, "|---" * 10 + "|"]
    for capture in options.captures:
        with zipfile.ZipFile(capture) as archive:
            points = json.loads(archive.read("landmarks3d.json"))
            titles = [name for name, _ in json.loads(archive.read("dataset.json"))["labels"]]
        with eg3d.open_capture(capture) as known:
            label25 = np.stack([frame.label25 for frame in known.frames]).astype(np.float64)
            angles = head_angles.from_cameras(label25[:, :16].reshape(-1, 4, 4))
            for limit in options.ranges:
                for count in options.frames:
                    chosen = choose(angles, limit, count)
                    pictures = {i: known.frames[i].read_pixels()[0] for i in set(chosen.tolist())}
                    for glasses in options.glasses:
                        images = [
                            draw_glasses(pictures[i], points[titles[i]], label25[i])
                            if glasses
                            else pictures[i]
                            for i in chosen.tolist()
                        ]
                        with tempfile.TemporaryDirectory() as place:
                            film = pathlib.Path(place) / "film.mp4"
                            write_film(film, images)
                            truth = label25[chosen, :16].reshape(-1, 4, 4)
                            row = measure(film, truth, options, pathlib.Path(place) / "capture")
                        lines.append(
                            f"| {capture.parent.name} | {limit:g} | {count} | "
                            f"{'yes' if glasses else 'no'} | {row['rotation']:.2f} | "
                            f"{row['absolute']:.2f} | {row['shift']:.1f} | {row['told']:.1f} | "
                            f"{row['refined']:.0%} | {row['seconds']:.0f} |"
                        )
                        print(lines[-1], flush=True)
                        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    script.run(main)
