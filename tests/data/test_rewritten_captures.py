"""One capture written in many ways is one dataset, bit for bit; a wrong one is refused in one line.

hypothesis draws the rewritings. `CAPTURE_SEED` repeats a run: its seed is printed.
"""

import dataclasses
import json
import os
import pathlib
import random
import shutil
import tempfile
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import reader_table
from helpers import layouts

pytestmark = pytest.mark.captures

SEED = int(os.environ.get("CAPTURE_SEED", random.SystemRandom().randrange(2**32)))
FEW, MANY = 10, 85  # Rewritings a kind: in the default suite, and in `make test-captures`.
COUNT = 4


def binary_shots():
    """Shots whose mattes are 0 or 255, so that masks of any levels say the same."""
    return [
        dataclasses.replace(shot, alpha=np.where(shot.alpha > 127, 255, 0).astype(np.uint8))
        for shot in layouts.actor_shots(COUNT)
    ]


SHOTS = binary_shots()


def examples(count):
    def decorate(test):
        options = {"max_examples": count, "deadline": None, "derandomize": False, "database": None}
        checks = list(hypothesis.HealthCheck)
        drawn = hypothesis.given(st.data())(test)
        return hypothesis.settings(**options, suppress_health_check=checks, print_blob=True)(
            hypothesis.seed(SEED)(drawn)
        )

    return decorate


def both(test):
    """The same property, seldom in the default suite and often in that of captures."""

    @pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
    def run(count, capsys):
        with capsys.disabled():
            print(f"\n{test.__name__}: {count} rewritings, CAPTURE_SEED={SEED}")
        examples(count)(test)()

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


def read(path, layout):
    with reader_table.READERS[layout](path) as capture:
        return [frame.load() for frame in capture.frames]


def assert_same(found, expected, *, ids=True):
    assert len(found) == len(expected)
    for frame, reference in zip(found, expected, strict=True):
        assert not ids or frame.frame_id == reference.frame_id
        assert frame.split == reference.split
        np.testing.assert_array_equal(frame.label25, reference.label25)
        np.testing.assert_array_equal(frame.image, reference.image)
        np.testing.assert_array_equal(frame.alpha, reference.alpha)


def write(folder, layout):
    """Pictures without transparency, mattes beside them, and a camera in pixels."""
    if layout == "eg3d":
        return layouts.write_eg3d(folder, SHOTS)
    if layout == "colmap":
        return layouts.write_colmap(folder, SHOTS, binary=False)
    path = layouts.write_transforms(folder, SHOTS)
    for index, shot in enumerate(SHOTS):
        layouts.save_png(path / f"images/r_{index}.png", shot.image)
        layouts.save_png(path / f"alpha/r_{index}.png", shot.alpha)
    content = json.loads((path / "transforms.json").read_text())
    k, side = SHOTS[0].intrinsics, layouts.SIDE
    del content["camera_angle_x"]
    content |= {"fl_x": k[0, 0] * side, "fl_y": k[1, 1] * side, "w": side, "h": side}
    content |= {"cx": k[0, 2] * side, "cy": k[1, 2] * side}
    (path / "transforms.json").write_text(json.dumps(content))
    return path


def plain(layout):
    with tempfile.TemporaryDirectory() as folder:
        return read(write(pathlib.Path(folder) / "me", layout), layout)


PLAIN = {layout: plain(layout) for layout in ("eg3d", "transforms", "colmap")}


def subset(data, options):
    return data.draw(st.lists(st.sampled_from(sorted(options)), unique=True))


# --- cameras ---

IDENTITY = np.eye(4)[:3].tolist()
SAYING_NOTHING = {
    "aabb_scale": 16,
    "scale": 0.33,
    "offset": [0.5, 0.5, 0.5],
    "k3": 0.0,
    "k5": 0,
    "p1": 0.0,
    "skew": 0,
    "lens_model": None,
    "is_fisheye": False,
    "camera_model": "OPENCV",
    "applied_transform": IDENTITY,
    "applied_scale": 1.0,
    "camera_angle_x": 3.0,
    "author": "somebody",
    "ply_file_path": "sparse.ply",
    "rolling_shutter_time": 0.0,
}
OF_FRAMES = {
    "sharpness": 12.5,
    "rotation": 0.0126,
    "colmap_im_id": 7,
    "depth_file_path": "depth/1.png",
    "time": 0.5,
    "k4": 0.0,
    "camera_model": "PINHOLE",
    "mask_path": None,
}
SPELLINGS = {
    "as it is": lambda name: name,
    "dot": lambda name: f"./{name.removeprefix('./')}",
    "dots": lambda name: f"x/../{name}",
    "absolute": lambda name: f"/mnt/data/me/{name.removeprefix('./')}",
    "backslash": lambda name: name.replace("/", "\\"),
    "Windows": lambda name: "D:\\me\\" + name.removeprefix("./").replace("/", "\\"),
    "doubled": lambda name: name.replace("/", "//"),
}


def edit(path, change):
    content = json.loads(path.read_text())
    content = change(content) or content
    path.write_text(json.dumps(content))


@both
def test_cameras_may_be_written_in_many_ways(data):
    with tempfile.TemporaryDirectory() as folder:
        path = write(pathlib.Path(folder) / "me", "transforms")

        def change(content):
            content |= {key: SAYING_NOTHING[key] for key in subset(data, SAYING_NOTHING)}
            moved = subset(data, ["fl_x", "fl_y", "cx", "cy", "w", "h"])
            if "fl_x" in moved or "fl_y" in moved:
                moved = sorted({*moved, "fl_x", "fl_y"})
            for frame in content["frames"]:
                frame |= {key: OF_FRAMES[key] for key in subset(data, OF_FRAMES)}
                frame |= {key: content[key] for key in moved}
                if data.draw(st.booleans()):
                    frame["transform_matrix"] = frame["transform_matrix"][:3]
            for key in moved:
                content[key] = 7.0  # What the frame says outweighs it.
            content["frames"] = data.draw(st.permutations(content["frames"]))
            keys = data.draw(st.permutations(sorted(content)))
            return {key: content[key] for key in keys}

        edit(path / "transforms.json", change)
        assert_same(read(path, "transforms"), PLAIN["transforms"])


WRONG_CAMERAS = {
    "k7": 0.1,
    "k4": 0.2,
    "camera_model": "SPHERICAL",
    "lens_shift": 0.3,
    "intrinsics": [1.0, 2.0, 3.0, 4.0],
    "c2w": [[1, 0, 0], [0, 1, 0]],
    "fl_x": -20.0,
    "cx": "16",
    "w": 0,
    "transform_matrix": [[1, 0, 0, 0]],
    "shear": 0.01,
    "from_mitsuba": True,
    "omega": 0.9,
}


@both
def test_cameras_that_are_not_understood_are_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        path = write(pathlib.Path(folder) / "me", "transforms")
        key = data.draw(st.sampled_from(sorted(WRONG_CAMERAS)))
        place = data.draw(st.integers(0, COUNT - 1))
        edit(
            path / "transforms.json", lambda c: c["frames"][place].update({key: WRONG_CAMERAS[key]})
        )
        assert_refused(path, "transforms")


def assert_refused(path, layout):
    with pytest.raises(errors.DataFormatError) as error:
        read(path, layout)
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    assert len(line) < 900


# --- files ---


def move_behind_link(path, name):
    place = path.parent / f"disk_{name}"
    shutil.move(path / name, place)
    (path / name).symlink_to(place, target_is_directory=True)


def upper_endings(path, name):
    for file in (path / name).iterdir():
        file.rename(file.with_suffix(file.suffix.upper()))


def zipped(path, data):
    """An archive in any order, of any writer: slashes or backslashes, stored or deflated."""
    found = [pathlib.Path(at, f) for at, _, files in os.walk(path, followlinks=True) for f in files]
    files = data.draw(st.permutations(sorted(found)))
    back, dotted = data.draw(st.booleans()), data.draw(st.booleans())
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    target = path.parent / "me.zip"
    with zipfile.ZipFile(target, "w", method) as archive:
        for file in files:
            name = file.relative_to(path).as_posix()
            name = f"./{name}" if dotted else name
            archive.writestr(name.replace("/", "\\") if back else name, file.read_bytes())
    return target


@both
def test_files_are_found_however_they_are_named_and_kept(data):
    layout = data.draw(st.sampled_from(sorted(PLAIN)))
    spell = data.draw(st.sampled_from(sorted(SPELLINGS)))
    with tempfile.TemporaryDirectory() as folder:
        path = write(pathlib.Path(folder) / "me", layout)
        mattes = "masks" if layout == "colmap" else "alpha"
        for name in subset(data, ["images", mattes]):
            upper_endings(path, name)
        upper = any(path.glob("images/*.PNG"))
        for name in subset(data, ["images", mattes]):
            move_behind_link(path, name)
        (path / ".DS_Store").write_bytes(b"\0")
        respell_all(path, layout, SPELLINGS[spell])
        if data.draw(st.booleans()):
            path = zipped(path, data)
        assert_same(read(path, layout), PLAIN[layout], ids=not upper)


def respell_all(path, layout, spell):
    if layout == "colmap":
        file = path / "sparse/0/images.txt"
        lines = []
        for line in file.read_text().split("\n"):
            head, _, name = line.rpartition(" ")
            lines.append(f"{head} {spell(f'images/{name}')}" if name.endswith(".png") else line)
        file.write_text("\n".join(lines))
    elif layout == "eg3d":
        edit(path / "dataset.json", lambda c: {"labels": [[spell(n), v] for n, v in c["labels"]]})
    else:

        def change(content):
            for frame in content["frames"]:
                frame["file_path"] = spell(frame["file_path"])

        edit(path / "transforms.json", change)


@both
def test_files_that_are_not_there_are_refused(data):
    layout = data.draw(st.sampled_from(sorted(PLAIN)))
    with tempfile.TemporaryDirectory() as folder:
        path = write(pathlib.Path(folder) / "me", layout)
        pictures = sorted((path / "images").iterdir())
        picture = pictures[data.draw(st.integers(0, COUNT - 1))]
        how = data.draw(st.sampled_from(["gone", "heic", "xyz", "empty", "cut", "text", "folder"]))
        content = picture.read_bytes()
        picture.unlink()
        if how in ("heic", "xyz"):
            picture.with_suffix(f".{how}").write_bytes(content)
        elif how == "folder":
            picture.mkdir()
        elif how != "gone":
            changed = {"empty": b"", "cut": content[: len(content) // 2], "text": b"hello"}[how]
            picture.write_bytes(changed)
        assert_refused(path, layout)


# --- mattes ---


def as_palette(mask):
    image = Image.fromarray((mask > 0).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 200, 30, 90])
    return image


MASKS = {
    "as it is": Image.fromarray,
    "0 and 1": lambda mask: Image.fromarray((mask > 0).astype(np.uint8)),
    "one bit": lambda mask: Image.fromarray(mask).convert("1"),
    "palette": as_palette,
    "grey palette": lambda mask: Image.fromarray(mask).convert("P"),
    "half": lambda mask: Image.fromarray(mask // 2),
    "three channels": lambda mask: Image.fromarray(mask).convert("RGB"),
    "transparency": lambda mask: Image.merge(
        "RGBA", [Image.new("L", mask.shape[::-1], 255)] * 3 + [Image.fromarray(mask)]
    ),
}


@both
def test_mattes_may_be_saved_in_many_ways_and_places(data):
    kind = MASKS[data.draw(st.sampled_from(sorted(MASKS)))]
    place = data.draw(st.sampled_from(["alpha", "masks", "mask", "named"]))
    ending = data.draw(st.sampled_from(["png", "PNG", "png.png", "tif"]))
    with tempfile.TemporaryDirectory() as folder:
        path = write(pathlib.Path(folder) / "me", "transforms")
        shutil.rmtree(path / "alpha")
        (path / place).mkdir()
        for index, shot in enumerate(SHOTS):
            file = path / place / f"r_{index}.{ending}"
            kind(shot.alpha).save(file, "TIFF" if ending == "tif" else "PNG")
        if place == "named":
            key = data.draw(st.sampled_from(["mask_path", "fg_mask_path", "matte_path"]))

            def change(content):
                for index, frame in enumerate(content["frames"]):
                    frame[key] = f"./named/r_{index}.{ending}"

            edit(path / "transforms.json", change)
        assert_same(read(path, "transforms"), PLAIN["transforms"])


WRONG_MASKS = {
    "inverted": lambda mask: Image.fromarray(255 - mask),
    "inverted 0/1": lambda mask: Image.fromarray((mask == 0).astype(np.uint8)),
    "black": lambda mask: Image.fromarray(mask * 0),
    "classes": lambda mask: Image.fromarray(
        np.minimum(mask, 1) * (np.arange(32) % 7 + 1).astype("u1")
    ),
    "small": lambda mask: Image.fromarray(mask[::2, ::2]),
    "16 bits": lambda mask: Image.fromarray(mask.astype(np.uint16) * 257),
}


@both
def test_mattes_that_say_something_else_are_refused(data):
    kind = WRONG_MASKS[data.draw(st.sampled_from(sorted(WRONG_MASKS)))]
    layout = data.draw(st.sampled_from(sorted(PLAIN)))
    with tempfile.TemporaryDirectory() as folder:
        path = write(pathlib.Path(folder) / "me", layout)
        files = sorted((path / ("masks" if layout == "colmap" else "alpha")).iterdir())
        for file, shot in zip(files, SHOTS, strict=True):
            kind(shot.alpha).save(file)
        assert_refused(path, layout)


# --- parts ---


@both
def test_a_model_of_colmap_may_be_written_in_many_ways(data):
    with tempfile.TemporaryDirectory() as folder:
        path = write(pathlib.Path(folder) / "me", "colmap")
        model = path / "sparse/0/images.txt"
        lines = [line for line in model.read_text().split("\n") if line.endswith(".png")]
        points = st.sampled_from(["", "\n", "\n1.5 2.5 -1", "\n1.0 2.0 -1 3.0 4.0 7", "\n# note"])
        ends = [data.draw(points) for _ in lines]
        breaks = data.draw(st.sampled_from(["\n", "\r\n"]))
        order = data.draw(st.permutations(range(len(lines))))
        text = "\n".join(["# Image list", *(lines[i] + ends[i] for i in order), ""])
        model.write_bytes(text.replace("\n", breaks).encode())
        place = data.draw(
            st.sampled_from(["sparse/0", "sparse/1", "sparse", "colmap/sparse/0", "."])
        )
        if place != "sparse/0":
            shutil.move(path / "sparse/0", path / "model")
            (path / place).mkdir(parents=True, exist_ok=True)
            for file in (path / "model").iterdir():
                file.rename(path / place / file.name)
            (path / "model").rmdir()
        if data.draw(st.booleans()):  # A smaller model beside it.
            other = layouts.write_colmap(
                path.parent / "x", SHOTS[:2], binary=data.draw(st.booleans())
            )
            shutil.move(other / "sparse/0", path / "sparse/7")
        assert_same(read(path, "colmap"), PLAIN["colmap"])


@both
def test_a_damaged_model_of_colmap_is_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        path = layouts.write_colmap(
            pathlib.Path(folder) / "me", SHOTS, binary=data.draw(st.booleans())
        )
        files = [f for f in (path / "sparse/0").iterdir() if not f.name.startswith("points3D")]
        file = sorted(files)[data.draw(st.integers(0, 1))]
        content = file.read_bytes()
        ways = ["empty", "swapped", "noise"] + ["cut"] * (file.suffix == ".bin")
        how = data.draw(st.sampled_from(ways))  # Text that is cut after a line is a smaller model.
        changed = {
            "cut": content[: data.draw(st.integers(1, len(content) // 2))],
            "empty": b"",
            "swapped": next(f for f in files if f != file).read_bytes(),
            "noise": b"\xff" * len(content),
        }
        file.write_bytes(changed[how])
        assert_refused(path, "colmap")
