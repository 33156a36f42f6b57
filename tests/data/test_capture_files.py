"""Finding the files that captures name, levels of mattes, and parts that are left out."""

import dataclasses
import json
import shutil
import stat
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import file_tree, names, reader_table
from helpers import captures, layouts

pytestmark = pytest.mark.captures


@pytest.fixture(scope="module")
def shots():
    return layouts.actor_shots(6)


def read(path, layout):
    with reader_table.READERS[layout](path) as capture:
        return capture, [frame.load() for frame in capture.frames]


def same(one, other):
    for frame, reference in zip(one, other, strict=True):
        assert frame.frame_id == reference.frame_id
        np.testing.assert_array_equal(frame.label25, reference.label25)
        np.testing.assert_array_equal(frame.image, reference.image)
        np.testing.assert_array_equal(frame.alpha, reference.alpha)


# --- names ---


@pytest.mark.parametrize("layout", ["eg3d", "transforms", "insta"])
def test_links_are_followed(layout, shots, tmp_path):
    path = getattr(layouts, f"write_{layout}")(tmp_path / "capture", shots)
    _, plain = read(path, layout)
    shutil.move(path / "images", tmp_path / "disk")
    (path / "images").symlink_to(tmp_path / "disk")
    (path / "loop").symlink_to(path)
    _, linked = read(path, layout)
    same(linked, plain)


def test_a_file_that_is_reached_twice_is_one_frame(shots, tmp_path):
    path = layouts.write_eg3d(tmp_path / "capture", shots)
    shutil.move(path / "images", path / "frames")
    (path / "images").symlink_to("frames")
    _, frames = read(path, "eg3d")
    assert len(frames) == len(shots)


def zip_links(path, target, links):
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(path).as_posix())
        for name, leads_to in links.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, leads_to)
    return target


def test_links_of_an_archive_are_followed_within_it(shots, tmp_path):
    path = layouts.write_eg3d(tmp_path / "capture", shots)
    _, plain = read(path, "eg3d")
    shutil.move(path / "images", path / "frames")
    archive = zip_links(path, tmp_path / "me.zip", {"images": "frames"})
    _, linked = read(archive, "eg3d")
    same(linked, plain)


@pytest.mark.parametrize("target", ["/etc", "../../secret", ".."])
def test_links_out_of_an_archive_are_refused(target, shots, tmp_path):
    path = layouts.write_eg3d(tmp_path / "capture", shots)
    archive = zip_links(path, tmp_path / "me.zip", {"more": target})
    with pytest.raises(errors.DataFormatError, match="more is a link that leads out of"):
        read(archive, "eg3d")


def test_backslashes_of_an_archive_are_slashes(shots, tmp_path):
    path = layouts.write_eg3d(tmp_path / "capture", shots)
    _, plain = read(path, "eg3d")
    with zipfile.ZipFile(tmp_path / "me.zip", "w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                name = file.relative_to(path).as_posix().replace("/", "\\")
                archive.writestr(zipfile.ZipInfo(name), file.read_bytes())
    _, zipped = read(tmp_path / "me.zip", "eg3d")
    same(zipped, plain)


def test_names_that_leave_an_archive_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "me.zip", "w") as archive:
        archive.writestr("../dataset.json", "{}")
    with pytest.raises(errors.DataFormatError, match="lies outside of it"):
        read(tmp_path / "me.zip", "eg3d")


SPELLINGS = {
    "dot": lambda name, folder: f"./{name}",
    "dots": lambda name, folder: f"other/../{name}",
    "double": lambda name, folder: name.replace("/", "//"),
    "absolute": lambda name, folder: f"{folder}/{name}",
    "elsewhere": lambda name, folder: f"/home/somebody/data/me/{name}",
    "Windows": lambda name, folder: "C:\\data\\me\\" + name.replace("/", "\\"),
    "backslash": lambda name, folder: name.replace("/", "\\"),
    "started above": lambda name, folder: f"../me/{name}",
    "case": lambda name, folder: name.upper(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("layout", ["eg3d", "transforms", "insta", "nerface", "imavatar", "colmap"])
def test_a_file_is_found_however_it_is_named(layout, spelling, shots, tmp_path):
    options = {"binary": False} if layout == "colmap" else {}
    path = getattr(layouts, f"write_{layout}")(tmp_path / "capture", shots, **options)
    _, plain = read(path, layout)

    def respell(name, folder=path):
        return SPELLINGS[spelling](name, folder.as_posix())

    if layout == "eg3d":
        content = json.loads((path / "dataset.json").read_text())
        content["labels"] = [[respell(name), value] for name, value in content["labels"]]
        (path / "dataset.json").write_text(json.dumps(content))
    elif layout == "colmap":
        file = path / "sparse/0/images.txt"
        lines = file.read_text().split("\n")
        lines[1::2] = [respell_last(line, respell) for line in lines[1::2]]
        file.write_text("\n".join(lines))
    else:
        for file in path.rglob("*.json"):
            content = json.loads(file.read_text())
            for frame in content["frames"]:
                frame["file_path"] = respell(frame["file_path"], file.parent)
            file.write_text(json.dumps(content))
    _, found = read(path, layout)
    for frame, reference in zip(found, plain, strict=True):
        assert frame.frame_id == reference.frame_id
        np.testing.assert_array_equal(frame.image, reference.image)


def respell_last(line, respell):
    head, _, name = line.rpartition(" ")
    return f"{head} {respell(f'images/{name}')}" if name.endswith(".png") else line


def test_a_name_that_fits_two_files_is_refused(tmp_path):
    for name in ("A.png", "a.PNG"):
        layouts.save_png(tmp_path / "images" / name, np.zeros((4, 4), np.uint8))
    with (
        file_tree.open_tree(tmp_path) as tree,
        pytest.raises(errors.DataFormatError, match="images/a.png may be images/A.png or"),
    ):
        names.find_image(tree, "images/a.png", where="here")


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("heic", "HEIC pictures are not read"),
        ("AVIF", "AVIF pictures are not read"),
        ("xyz", "no picture by its ending"),
        ("jpg", "is not there. images/r_1.jpg is"),
    ],
)
@pytest.mark.parametrize("named", ["./images/r_1", "images/r_1.png"])
def test_pictures_of_unknown_kinds_are_said_to_be_that(ending, message, named, shots, tmp_path):
    path = layouts.write_transforms(tmp_path / "capture", shots)
    (path / "images/r_1.png").rename(path / f"images/r_1.{ending}")
    content = json.loads((path / "transforms.json").read_text())
    content["frames"][1]["file_path"] = named if ending != "xyz" else "images/r_1.xyz"
    (path / "transforms.json").write_text(json.dumps(content))
    if ending == "jpg" and named.endswith("r_1"):
        message = "cannot|size|RGB|transparent|image"  # A PNG by content: found and read.
        _, frames = read(path, "transforms")
        assert frames[1].frame_id == "images/r_1.jpg"
        return
    with pytest.raises(errors.DataFormatError, match=message):
        read(path, "transforms")


# --- mattes ---


def with_masks(folder, shots, change):
    path = layouts.write_eg3d(folder, shots)
    for index, shot in enumerate(shots):
        change((shot.alpha > 127).astype(np.uint8), path / f"alpha/{index:03d}.png", index)
    return path


def save_palette(mask, path, _):
    image = Image.fromarray(mask, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(path)


RESCALED = {
    "zero-one": lambda mask, path, _: Image.fromarray(mask).save(path),
    "one bit": lambda mask, path, _: Image.fromarray(mask * 255).convert("1").save(path),
    "half": lambda mask, path, _: Image.fromarray(mask * 128).save(path),
    "palette": save_palette,
    "red": lambda mask, path, _: Image.fromarray(
        np.stack([mask * 255, 0 * mask, 0 * mask], axis=-1)
    ).save(path),
    "transparent": lambda mask, path, _: Image.fromarray(
        np.dstack([np.full((*mask.shape, 3), 255, np.uint8), mask * 255])
    ).save(path),
}


@pytest.mark.parametrize("case", RESCALED)
def test_masks_of_two_levels_keep_the_head(case, shots, tmp_path):
    capture, frames = read(with_masks(tmp_path / "me", shots, RESCALED[case]), "eg3d")
    for frame, shot in zip(frames, shots, strict=True):
        np.testing.assert_array_equal(frame.alpha, np.where(shot.alpha > 127, 255, 0))
    assert bool(capture.notes) == (case in ("zero-one", "half", "red"))


def one_of_them(mask, path, index):
    Image.fromarray(mask * (1 if index == 3 else 255)).save(path)


REFUSED = {
    "inverted": (lambda m, path, _: Image.fromarray(255 - m * 255).save(path), "inverted.*invert"),
    "inverted 0/1": (lambda m, path, _: Image.fromarray(1 - m).save(path), "inverted.*invert"),
    "black": (lambda m, path, _: Image.fromarray(m * 0).save(path), "black: none of the"),
    "classes": (
        lambda m, path, _: Image.fromarray(m + m * (np.arange(32, dtype=np.uint8) % 5)).save(path),
        "like a map of classes",
    ),
    "one of them": (one_of_them, "alpha/003.png.*levels reach 1 of 255"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mattes_that_say_something_else_are_refused(case, shots, tmp_path):
    change, message = REFUSED[case]
    path = with_masks(tmp_path / "me", shots, change)
    with pytest.raises(errors.DataFormatError, match=message):
        read(path, "eg3d")


def test_a_palette_of_classes_is_refused_where_it_is_read(shots, tmp_path):
    def change(mask, path, _):
        image = Image.fromarray(mask + (np.arange(32) > 16).astype(np.uint8), "P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        image.save(path)

    with pytest.raises(errors.DataFormatError, match="a mask with a palette.*classes 0, 1, 2"):
        read(with_masks(tmp_path / "me", shots, change), "eg3d")


def test_transparency_of_zero_and_one_is_rescaled(shots, tmp_path):
    low = [dataclasses.replace(s, alpha=(s.alpha > 127).astype(np.uint8)) for s in shots]
    capture, frames = read(layouts.write_transforms(tmp_path / "me", low), "transforms")
    assert "masks of 0 and 1" in capture.notes[0]
    for frame, shot in zip(frames, shots, strict=True):
        np.testing.assert_array_equal(frame.alpha, np.where(shot.alpha > 127, 255, 0))


# --- parts that are left out ---


def test_the_largest_model_is_used_and_the_rest_is_told(shots, tmp_path):
    path = layouts.write_colmap(tmp_path / "me", shots, binary=False)
    small = layouts.write_colmap(tmp_path / "small", shots[:2], binary=True)
    (path / "sparse/0").rename(path / "sparse/1")
    shutil.move(small / "sparse/0", path / "sparse/0")
    for index in (0, 1):
        rename(path / "sparse/0/images.bin", f"{index:03d}.png", f"x{index:02d}.png")
        shutil.copy(path / f"images/{index:03d}.png", path / f"images/x{index:02d}.png")
        shutil.copy(path / f"masks/{index:03d}.png.png", path / f"masks/x{index:02d}.png.png")
    capture, frames = read(path, "colmap")
    assert len(frames) == 6
    told = " ".join(capture.notes)
    assert "2 models; that of sparse/1 is used, 6 of 8 frames. sparse/0 has 2" in told
    assert "6 of 8 frames are used; 2 pictures in images are left out" in told
    assert "COLMAP did not register them" in told


def rename(path, old, new):
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))


@pytest.mark.parametrize("blank", ["none", "all", "some"])
def test_a_text_model_may_lack_its_second_lines(blank, shots, tmp_path):
    path = layouts.write_colmap(tmp_path / "me", shots, binary=False)
    _, plain = read(path, "colmap")
    file = path / "sparse/0/images.txt"
    lines = [line for line in file.read_text().split("\n") if line.endswith(".png")]
    ends = {"none": ["\n"], "all": ["\n\n"], "some": ["\n", "\n1.0 2.0 -1 3.0 4.0 7\n", "\n\n"]}
    ends = ends[blank]
    file.write_text("".join(line + ends[i % len(ends)] for i, line in enumerate(lines)))
    _, found = read(path, "colmap")
    same(found, plain)


def test_pictures_that_no_frame_names_are_told(shots, tmp_path):
    path = layouts.write_transforms(tmp_path / "me", shots)
    layouts.save_png(path / "images/r_99.png", np.zeros((32, 32, 4), np.uint8))
    capture, frames = read(path, "transforms")
    assert len(frames) == 6
    assert (
        "6 of 7 frames are used; 1 pictures in images are left out (images/r_99.png)"
        in " ".join(capture.notes)
    )


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["transforms", "insta", "nerface", "imavatar", "colmap", "eg3d"])
def test_time_a_frame_does_not_grow_with_the_capture(layout, tmp_path):
    shots = layouts.actor_shots(1, side=16)
    took = {}
    options = {"binary": False} if layout == "colmap" else {}
    for count in (200, 1600):
        path = getattr(layouts, f"write_{layout}")(tmp_path / str(count), shots * count, **options)
        start = time.process_time()
        with reader_table.READERS[layout](path) as capture:
            assert len(capture.frames) == count
        took[count] = (time.process_time() - start) / count
        shutil.rmtree(path)
    assert took[1600] < 2.0 * took[200]


def test_tiny_captures_are_read_as_before(tmp_path):
    capture = captures.make()
    _, folder = read(capture.write_folder(tmp_path / "me"), "eg3d")
    _, archive = read(capture.write_zip(tmp_path / "me.zip"), "eg3d")
    same(archive, folder)
