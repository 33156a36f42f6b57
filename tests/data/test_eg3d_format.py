import json
import math
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import eg3d, file_tree
from helpers import captures

FIRST = "images/0000.png"


def load_all(path):
    with eg3d.open_capture(path) as capture:
        return capture, [frame.load() for frame in capture.frames]


def set_label(index, value):
    def change(tiny):
        tiny.labels[0][1][index] = value

    return change


def set_rotation(matrix):
    def change(tiny):
        cam2world = np.array(tiny.labels[0][1][:16]).reshape(4, 4)
        cam2world[:3, :3] = matrix
        tiny.labels[0][1][:16] = cam2world.ravel().tolist()

    return change


def set_image(data, name=FIRST):
    def change(tiny):
        tiny.files[name] = data

    return change


def set_files(**contents):
    def change(tiny):
        tiny.files |= {f"{name}.json": text.encode() for name, text in contents.items()}

    return change


def damaged(pixels):
    return captures.encode(pixels, "jpeg")[:-60]


def set_meta(**values):
    def change(tiny):
        tiny.meta |= values

    return change


def set_code(value):
    def change(tiny):
        tiny.expressions["codes"][FIRST] = value

    return change


NOISE = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
TURNED = np.diag([1.0, -1.0, -1.0])

# What breaks, where the message must point (file or frame), what it must say, how to mend it.
REFUSED_WHEN_OPENED = {
    "24 floats": (lambda c: c.labels[0][1].pop(), FIRST, "25 numbers; got 24", "Write cam2world"),
    "a text": (set_label(3, "0.5"), FIRST, "entry 3 must be a number; got '0.5'", "without quotes"),
    "a truth value": (set_label(0, True), FIRST, "entry 0 must be a number", "without quotes"),
    "no list": (lambda c: c.labels.__setitem__(0, [FIRST, 7]), FIRST, "got 7", "Write cam2world"),
    "NaN": (set_label(3, math.nan), FIRST, "entry 3 must be finite; got nan", "Remove the frame"),
    "infinity": (set_label(7, -math.inf), FIRST, "must be finite; got -inf", "Remove the frame"),
    "huge integer": (set_label(7, 10**400), FIRST, "must be finite", "Remove the frame"),
    "scaled rotation": (set_rotation(1.01 * TURNED), FIRST, "orthonormal", "Take scale"),
    "zero rotation": (set_rotation(0.0 * TURNED), FIRST, "orthonormal", "Take scale"),
    "left-handed": (set_rotation(np.diag([-1.0, -1, -1])), FIRST, "right-handed", "columns y AND"),
    "last row": (set_label(14, 2.7), FIRST, "last row of cam2world must be 0 0 0 1", "row by row"),
    "pixel focal": (set_label(16, 1200.0), FIRST, "normalized.*got fx=1200", "Divide fx"),
    "pixel centre": (set_label(18, 128.0), FIRST, "normalized.*cx=128", "Divide fx"),
    "negative focal": (set_label(16, -4.2), FIRST, "must be positive; got fx=-4.2", "half a turn"),
    "K last row": (set_label(24, 0.0), FIRST, "0, 0, 1", "row by row"),
    "no pair": (lambda c: c.labels.__setitem__(0, FIRST), "labels.0.", "name, .25", "as a pair"),
    "two labels": (
        lambda c: c.labels.append(c.labels[0]),
        "dataset.json",
        f"two labels for {FIRST}",
        "Remove one",
    ),
    "image without label": (lambda c: c.labels.pop(0), FIRST, "has no label", "Add one or remove"),
    "label without image": (
        lambda c: c.files.pop(FIRST),
        "dataset.json",
        f"label for {FIRST}, which is not there",
        "Add the image",
    ),
    "no labels": (set_files(dataset='{"labels": null}'), "dataset.json", "NoneType", "needed"),
    "empty labels": (set_files(dataset='{"labels": []}'), "dataset.json", "empty", "needed"),
    "no object": (set_files(dataset="[1, 2]"), "dataset.json", "got a list", "Wrap"),
    "bad JSON": (set_files(dataset='{"labels": '), "dataset.json", "not valid JSON", "again"),
    "no picture": (set_image(b"nothing"), FIRST, "cannot be read as an image", "Export"),
    "empty picture": (set_image(b""), FIRST, "cannot be read as an image", "Export"),
    "not square": (set_image(captures.encode(NOISE[:8])), FIRST, "square; got 16x8", "Crop"),
    "mixed sizes": (
        set_image(captures.encode(NOISE[:8, :8]), "images/0003.png"),
        "images/0003.png",
        f"one size; got 8x8, and {FIRST} has 16x16",
        "Resize",
    ),
    "mixed transparency": (
        set_image(captures.encode(np.dstack([NOISE, NOISE[..., 0]])), "images/0003.png"),
        "images/0003.png",
        "transparent .RGBA. or none",
        "Save them alike",
    ),
    "16 bits": (
        set_image(captures.encode(NOISE[..., 0].astype(np.uint16))),
        FIRST,
        "8-bit RGB image; got Pillow mode I;16",
        "Convert",
    ),
    "a missing matte": (lambda c: c.files.pop("alpha/0002.png"), "0002", "no matte", "Add alpha/0"),
    "two mattes": (set_image(b"", "alpha/0002.webp"), "alpha/0002", "of one frame", "Remove one"),
    "no train list": (set_meta(split={"test": [FIRST]}), "meta.json", '"train" and', "Correct"),
    "empty split": (
        set_meta(split={"train": [], "test": [FIRST]}),
        "meta.json",
        'no frames in "train"',
        "List frame names",
    ),
    "unknown in split": (
        set_meta(split={"train": [FIRST], "test": ["x.png"]}),
        "meta.json",
        "'x.png' in \"test\", which is not a frame",
        "Correct the name",
    ),
    "leaking split": (
        set_meta(split={"train": [FIRST], "test": [FIRST]}),
        "meta.json",
        f"{FIRST} twice",
        "remove one entry",
    ),
    "odd background": (set_meta(background="blue"), "meta.json", "got 'blue'", "Correct"),
    "short code": (set_code([1, 2]), FIRST, "expected 3 numbers.*got 2", "null for a frame"),
    "text in code": (set_code([1, 2, "3"]), FIRST, "entry 2.*finite number; got '3'", "null"),
    "NaN in code": (set_code([1, math.nan, 0]), FIRST, "entry 1.*finite number; got nan", "null"),
    "code of no frame": (
        lambda c: c.expressions["codes"].update({"x.png": [0, 0, 0]}),
        "expressions.json",
        "code for x.png, which is not a frame",
        "Remove the code",
    ),
    "equal names": (
        lambda c: c.expressions.update(names=["a", "a", "b"]),
        "expressions.json",
        "different texts",
        "one name for each",
    ),
    "no codes": (lambda c: c.expressions.pop("codes"), "expressions.json", '"codes"', "Write it"),
}

REFUSED_WHEN_LOADED = {
    "truncated image": (set_image(damaged(NOISE)), FIRST, "damaged", "Export"),
    "truncated matte": (set_image(damaged(NOISE), "alpha/0000.png"), "alpha", "damaged", "Export"),
    "small matte": (
        set_image(captures.encode(NOISE[:8, :8, 0]), "alpha/0000.png"),
        "alpha/0000.png",
        "as large as its image .16x16.; got 8x8",
        "Resize",
    ),
}


def assert_one_line(error, path, *parts):
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    position = 0
    for part in parts:
        found = re.search(part, text[position:])
        assert found, f"{part!r} is missing in {text[position:]!r}"
        position += found.start()


@pytest.mark.parametrize("case", REFUSED_WHEN_OPENED)
def test_a_broken_capture_is_refused_before_any_frame_is_used(case, tmp_path):
    change, where, problem, fix = REFUSED_WHEN_OPENED[case]
    tiny = captures.make()
    change(tiny)
    path = tiny.write_zip(tmp_path / "capture.zip")
    with pytest.raises(errors.DataFormatError) as error:
        load_all(path)
    assert_one_line(error, path, where, problem, fix)


@pytest.mark.parametrize("case", REFUSED_WHEN_LOADED)
def test_a_damaged_frame_is_refused_when_it_is_loaded(case, tmp_path):
    change, where, problem, fix = REFUSED_WHEN_LOADED[case]
    tiny = captures.make()
    change(tiny)
    path = tiny.write_folder(tmp_path / "capture")
    with eg3d.open_capture(path) as capture:
        capture.frames[1].load()
        with pytest.raises(errors.DataFormatError) as error:
            capture.frames[0].load()
    assert_one_line(error, path, where, problem, fix)


def test_the_unbroken_capture_passes(tmp_path):
    tiny = captures.make()
    capture, frames = load_all(tiny.write_folder(tmp_path / "capture"))
    assert (capture.resolution, capture.background, capture.has_alpha) == (16, "white", True)
    assert capture.expression_names == captures.NAMES
    assert [frame.split for frame in frames] == ["train"] * 4 + ["test"] * 2
    for index, frame in enumerate(frames):
        assert frame.frame_id == f"images/{index:04d}.png"
        assert frame.sequence == "images"
        np.testing.assert_array_equal(frame.image, captures.image(index))
        np.testing.assert_array_equal(frame.alpha, captures.matte())
        np.testing.assert_allclose(frame.label25, captures.label(index), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(frame.expression, [index / 10, 0.5, 0.25], rtol=1e-6)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_reads_like_the_folder(method, tmp_path):
    tiny = captures.make()
    _, from_folder = load_all(tiny.write_folder(tmp_path / "capture"))
    _, from_zip = load_all(tiny.write_zip(tmp_path / "capture.zip", method=method))
    for one, other in zip(from_folder, from_zip, strict=True):
        assert one.frame_id == other.frame_id
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label25, other.label25)


def test_only_dataset_json_and_images_are_required(tmp_path):
    tiny = captures.make(alpha=False)
    tiny.meta = tiny.expressions = None
    capture, frames = load_all(tiny.write_folder(tmp_path))
    assert (capture.background, capture.has_alpha) == ("unknown", False)
    assert capture.expression_names == ()
    assert all(f.alpha is None and f.expression is None and f.split is None for f in frames)


def test_a_matte_stored_as_three_equal_channels_is_read_without_loss(tmp_path):
    tiny = captures.make(frames=3)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    del tiny.files["alpha/0001.png"]
    rgb = np.repeat(ramp[..., None], 3, axis=-1)
    tiny.files["alpha/0001.webp"] = captures.encode(rgb, "webp", lossless=True)
    _, frames = load_all(tiny.write_folder(tmp_path))
    np.testing.assert_array_equal(frames[1].alpha, ramp)


def test_transparent_images_give_straight_colours_and_alpha(tmp_path):
    tiny = captures.make(frames=3, alpha=False)
    for name in list(tiny.files):
        tiny.files[name] = captures.encode(np.dstack([NOISE, captures.matte()]))
    capture, frames = load_all(tiny.write_folder(tmp_path))
    assert (capture.background, capture.has_alpha) == ("straight", True)
    np.testing.assert_array_equal(frames[0].image, NOISE)
    np.testing.assert_array_equal(frames[0].alpha, captures.matte())


def test_two_kinds_of_matte_at_once_are_refused(tmp_path):
    tiny = captures.make(frames=3)
    for name in [name for name in tiny.files if name.startswith("images")]:
        tiny.files[name] = captures.encode(np.dstack([NOISE, captures.matte()]))
    with pytest.raises(errors.DataFormatError, match=r"alpha/ folder too\. Remove one"):
        load_all(tiny.write_folder(tmp_path))


def test_grey_images_become_rgb(tmp_path):
    tiny = captures.make(frames=3, alpha=False)
    tiny.files[FIRST] = captures.encode(NOISE[..., 0])
    _, frames = load_all(tiny.write_folder(tmp_path))
    np.testing.assert_array_equal(frames[0].image, np.repeat(NOISE[..., :1], 3, axis=-1))


def test_frames_numbered_without_zeros_are_in_order_of_time(tmp_path):
    tiny = captures.make(frames=3, alpha=False)
    tiny.meta = tiny.expressions = None
    for old, new in zip(range(3), ("10", "9", "100"), strict=True):
        tiny.rename(f"images/{old:04d}.png", f"images/{new}.png")
    capture, _ = load_all(tiny.write_folder(tmp_path))
    order = [frame.frame_id for frame in capture.frames]
    assert order == ["images/9.png", "images/10.png", "images/100.png"]


def test_folders_name_the_sequences(tmp_path):
    tiny = captures.make(frames=3, alpha=False)
    tiny.meta = tiny.expressions = None
    for old, new in zip(range(3), ("b/1", "a/1", "a/2"), strict=True):
        tiny.rename(f"images/{old:04d}.png", f"{new}.png")
    capture, _ = load_all(tiny.write_folder(tmp_path))
    assert [frame.sequence for frame in capture.frames] == ["a", "a", "b"]


def test_frames_without_a_code_have_none(tmp_path):
    tiny = captures.make(frames=4)
    tiny.expressions["codes"]["images/0001.png"] = None
    del tiny.expressions["codes"]["images/0002.png"]
    _, frames = load_all(tiny.write_folder(tmp_path))
    assert [frame.expression is not None for frame in frames] == [True, False, False, True]


def test_an_empty_test_list_holds_nothing_out(tmp_path):
    tiny = captures.make(frames=3)
    tiny.meta["split"] = {"train": [name for name, _ in tiny.labels], "test": []}
    _, frames = load_all(tiny.write_folder(tmp_path))
    assert {frame.split for frame in frames} == {"train"}


def test_hidden_files_and_macos_forks_are_left_out(tmp_path):
    tiny = captures.make(frames=3)
    tiny.files |= {"__MACOSX/images/._0000.png": b"", "images/.thumb.png": b"", ".DS_Store": b""}
    capture, _ = load_all(tiny.write_zip(tmp_path / "capture.zip"))
    assert len(capture.frames) == 3


def test_a_capture_without_dataset_json_says_where_one_is(tmp_path):
    tiny = captures.make()
    path = tiny.write_folder(tmp_path / "outer" / "inner").parent
    with pytest.raises(errors.DataFormatError, match="lies in inner/dataset.json: use that folder"):
        load_all(path)
    (path / "inner" / "dataset.json").unlink()
    with pytest.raises(errors.DataFormatError, match=r"no dataset.json at its root\. Write"):
        load_all(path)


@pytest.mark.parametrize("name", ["missing", "missing.zip"])
def test_a_missing_source_is_named(name, tmp_path):
    with pytest.raises(errors.DataFormatError, match=rf"{name}: no such folder or zip\. Set data"):
        load_all(tmp_path / name)


def test_the_digest_follows_the_content(tmp_path):
    tiny = captures.make()

    def digests(folder):
        folder.mkdir()
        first, _ = load_all(tiny.write_folder(folder / "capture"))
        second, _ = load_all(tiny.write_zip(folder / "capture.zip"))
        return first.digest, second.digest

    old, same = digests(tmp_path / "old"), digests(tmp_path / "same")
    assert same[1] == old[1]
    tiny.expressions["codes"][FIRST][0] += 0.01
    new = digests(tmp_path / "new")
    assert new[0] != old[0]
    assert new[1] != old[1]


# --- hostile files ---


@pytest.mark.attack
def test_a_file_that_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "capture.zip"
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(errors.DataFormatError, match="expected a folder or a zip archive"):
        load_all(path)


@pytest.mark.attack
def test_a_flipped_byte_in_an_archive_is_noticed(tmp_path):
    path = captures.make().write_zip(tmp_path / "capture.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(errors.DataFormatError, match="cannot be read from the archive") as error:
        load_all(path)
    assert_one_line(error, path, FIRST, "CRC", "Zip the capture again")


@pytest.mark.attack
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_archive_with_a_name_twice_is_refused(tmp_path):
    path = captures.make().write_zip(tmp_path / "capture.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FIRST, captures.encode(NOISE))
    with pytest.raises(errors.DataFormatError, match=rf"holds {FIRST} twice"):
        load_all(path)


@pytest.mark.attack
def test_a_file_that_unpacks_to_an_absurd_size_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(file_tree, "MAX_FILE_BYTES", 10_000)
    tiny = captures.make()
    tiny.files["meta.json"] = b" " * 10_001
    path = tiny.write_zip(tmp_path / "capture.zip", method=zipfile.ZIP_DEFLATED)
    with pytest.raises(errors.DataFormatError, match=r"meta.json claims 10001 bytes unpacked"):
        load_all(path)


@pytest.mark.attack
@pytest.mark.parametrize("side", [20_000, 100_000])
def test_an_image_that_claims_an_absurd_size_is_never_decoded(side, tmp_path):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    length, check = struct.pack(">I", len(header)), struct.pack(">I", zlib.crc32(chunk))
    tiny = captures.make()
    tiny.files[FIRST] = b"\x89PNG\r\n\x1a\n" + length + chunk + check + tiny.files[FIRST][33:]
    with pytest.raises(errors.DataFormatError, match=FIRST):
        load_all(tiny.write_folder(tmp_path))


@pytest.mark.attack
@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a": ' + b"9" * 5_000 + b"}", b"\xff\xfe{}"])
def test_json_beyond_reason_is_refused(text, tmp_path):
    tiny = captures.make()
    tiny.files["meta.json"] = text
    with pytest.raises(errors.DataFormatError, match=r"meta.json is not valid JSON"):
        load_all(tiny.write_folder(tmp_path))


@pytest.mark.attack
def test_names_that_leave_the_folder_are_only_names(tmp_path):
    tiny = captures.make()
    secret = tmp_path / "secret.png"
    secret.write_bytes(captures.encode(NOISE))
    tiny.labels.append(["../secret.png", json.loads(json.dumps(captures.LABEL))])
    with pytest.raises(errors.DataFormatError, match=r"label for \.\./secret.png, which is not"):
        load_all(tiny.write_folder(tmp_path / "capture"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_files_of_editors_and_spellings_of_other_tools_are_read(encoding, tmp_path):
    capture = captures.make()
    capture.expressions["names"] = ["JawOpen", "eyeBlink_L", "exp07"]
    for name, data in list(capture.all_files().items()):
        if name.endswith(".json"):
            capture.files[name] = data.decode().encode(encoding)
    with eg3d.open_capture(capture.write_folder(tmp_path / "me")) as found:
        assert found.expression_names == ("jawOpen", "eyeBlinkLeft", "exp07")
        assert len(found.frames) == 6


def test_a_coefficient_in_two_spellings_is_refused(tmp_path):
    capture = captures.make()
    capture.expressions["names"] = ["JawOpen", "jawOpen", "exp07"]
    with (
        pytest.raises(errors.DataFormatError, match='a list "names" of different texts'),
        eg3d.open_capture(capture.write_zip(tmp_path / "me.zip")),
    ):
        pass
