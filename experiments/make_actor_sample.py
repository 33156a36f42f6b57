"""Makes the actor sample that is installed with the package, from the full actor capture.

    python experiments/make_actor_sample.py CAPTURE_ZIP [--output ZIP]

Every training frame and every second held-out frame is kept, under its own name, at 128x128:
images as WebP of quality 91 (40.6 dB), mattes as lossless WebP. The output is the same, byte
by byte, for the same capture and Pillow version.
"""

import argparse
import io
import json
import pathlib
import zipfile

import numpy as np
import script
from PIL import Image

from ganavatar_jax.data import canonicalize, records
from ganavatar_jax.data.formats import eg3d

RESOLUTION = 128
WEBP_QUALITY = 91
TEST_STRIDE = 2
EPOCH = (1980, 1, 1, 0, 0, 0)  # fixed file times, so that the archive does not depend on the clock
DEFAULT_OUTPUT = pathlib.Path(__file__).parents[1] / "ganavatar_jax/assets/actor_sample.zip"

NOTE = (
    "Synthetic actor, rendered from MakeHuman's base mesh, targets and the 52 ARKit face units "
    "(all CC0) with MakeHuman skin and hair; MakeHuman declares images made with its assets CC0, "
    "and this sample is CC0 1.0 as well. 25 frames a second, head turning +-70 degrees yaw and "
    "+-25 degrees pitch, talking and emoting; cameras, mattes and expression codes are exact. "
    "`Left` in an expression name is the actor's left. Images are composited in linear light."
)


def main() -> None:
    """Reads the capture, writes the sample, prints what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path, default=DEFAULT_OUTPUT)
    arguments = parser.parse_args()
    with eg3d.open_capture(arguments.capture) as capture:
        train = [frame for frame in capture.frames if frame.split == "train"]
        test = [frame for frame in capture.frames if frame.split == "test"][::TEST_STRIDE]
        write_sample(arguments.output, capture, train, test)
    size_mb = arguments.output.stat().st_size / 1e6
    print(f"{arguments.output}: {len(train)} + {len(test)} frames, {size_mb:.2f} MB")


def write_sample(
    output: pathlib.Path,
    capture: records.Capture,
    train: list[records.FrameReference],
    test: list[records.FrameReference],
) -> None:
    """Writes the archive."""
    frames = [frame.load() for frame in (*train, *test)]
    names = {frame.frame_id: pathlib.PurePosixPath(frame.frame_id).stem for frame in frames}
    image_name = {key: f"images/{stem}.webp" for key, stem in names.items()}
    with zipfile.ZipFile(output, "w") as archive:
        add_json(
            archive,
            "dataset.json",
            {
                "labels": [
                    [image_name[f.frame_id], [shorten(value, 7) for value in f.label25]]
                    for f in frames
                ]
            },
        )
        add_json(
            archive,
            "expressions.json",
            {
                "names": list(capture.expression_names),
                "codes": {
                    image_name[f.frame_id]: [shorten(value, 4) for value in f.expression]
                    for f in frames
                    if f.expression is not None
                },
            },
        )
        add_json(
            archive,
            "meta.json",
            {
                "background": capture.background,
                "license": "CC0-1.0",
                "note": NOTE,
                "provenance": (
                    f"made by experiments/make_actor_sample.py from the {capture.resolution}x"
                    f"{capture.resolution} capture with digest {capture.digest}"
                ),
                "split": {
                    "train": [image_name[f.frame_id] for f in train],
                    "test": [image_name[f.frame_id] for f in test],
                },
            },
        )
        for frame in frames:
            add(archive, image_name[frame.frame_id], encode(shrink(frame.image), lossless=False))
            if frame.alpha is not None:
                matte = encode(shrink(frame.alpha), lossless=True)
                add(archive, f"alpha/{names[frame.frame_id]}.webp", matte)


def shrink(image: np.ndarray) -> np.ndarray:
    """Resizes as the training data is resized."""
    return canonicalize.resize(image, side=RESOLUTION, resample="lanczos")


def encode(image: np.ndarray, *, lossless: bool) -> bytes:
    """Encodes as WebP with the slowest, best method."""
    buffer = io.BytesIO()
    quality = 100 if lossless else WEBP_QUALITY
    Image.fromarray(image).save(buffer, "webp", lossless=lossless, quality=quality, method=6)
    return buffer.getvalue()


def shorten(value: float, digits: int) -> float:
    """Writes a float32 with as many digits as the capture has."""
    return float(np.format_float_positional(value, precision=digits, fractional=False))


def add_json(archive: zipfile.ZipFile, name: str, content: dict) -> None:
    """Adds a compressed JSON file."""
    text = json.dumps(content, separators=(",", ":"))
    add(archive, name, text.encode(), method=zipfile.ZIP_DEFLATED)


def add(
    archive: zipfile.ZipFile, name: str, data: bytes, *, method: int = zipfile.ZIP_STORED
) -> None:
    """Adds a file with a fixed time."""
    info = zipfile.ZipInfo(name, date_time=EPOCH)
    info.compress_type = method
    archive.writestr(info, data, compresslevel=9)


if __name__ == "__main__":
    script.run(main)
