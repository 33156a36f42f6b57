"""Pictures are read as viewers show them, and kinds that are not read are named."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import pictures, reader_table
from helpers import films, layouts


def tagged(image, orientation, *, kind="PNG", **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_tag_says(orientation, kind):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98, "subsampling": 0}}.get(kind, {})
    data = tagged(films.corners(), orientation, kind=kind, **options)
    with Image.open(io.BytesIO(data)) as stored:
        want = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    image, alpha = pictures.decode_color(data, where="me")
    np.testing.assert_array_equal(image, want)
    assert alpha is None
    header = pictures.read_header(data, where="me")
    assert (header.width, header.height) == want.shape[1::-1]
    if orientation == 6 and kind != "TIFF":
        as_stored, _ = pictures.decode_color(data, where="me", upright=False)
        assert as_stored.shape == (48, 64, 3)


def test_transparency_and_mattes_are_turned_with_their_picture():
    cover = np.arange(48 * 64, dtype=np.uint32).reshape(48, 64).astype(np.uint8)
    _, alpha = pictures.decode_color(tagged(np.dstack([films.corners(), cover]), 6), where="me")
    np.testing.assert_array_equal(alpha, np.rot90(cover, -1))
    np.testing.assert_array_equal(
        pictures.decode_matte(tagged(cover, 8), where="me"), np.rot90(cover)
    )


def test_headers_are_read_without_decoding(monkeypatch):
    data = tagged(films.corners(), 6)

    def refuse(self):
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    assert pictures.read_header(data, where="me").width == 48


@pytest.mark.parametrize("calibrated", [(48, 64), (64, 48)])
def test_a_calibration_says_whether_its_camera_lay(calibrated, tmp_path):
    shots = layouts.actor_shots(4)
    for shot in shots:
        shot.image, shot.alpha = films.corners(), films.corners()[..., 0]
    layouts.write_transforms(tmp_path, shots)
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    content.pop("camera_angle_x", None)
    content |= {"fl_x": 200, "fl_y": 200, "cx": calibrated[0] / 2, "cy": calibrated[1] / 2}
    content |= {"w": calibrated[0], "h": calibrated[1]}
    path.write_text(json.dumps(content))
    for picture in [p for p in tmp_path.rglob("*.png") if "alpha" not in p.parts]:
        picture.write_bytes(tagged(films.corners(), 6))
    with reader_table.READERS["transforms"](tmp_path) as capture:
        image = capture.frames[0].load().image
    assert image.shape[1::-1] == calibrated == capture.frames[0].size
    want = films.corners() if calibrated == (64, 48) else np.rot90(films.corners(), -1)
    np.testing.assert_array_equal(image, want)


def test_kinds_that_are_not_read_are_named(tmp_path):
    shots = layouts.actor_shots(4)
    for layout, write in (("transforms", layouts.write_transforms), ("eg3d", layouts.write_eg3d)):
        for ending in ("heic", "avif", "gif"):
            folder = tmp_path / f"{layout}-{ending}"
            write(folder, shots)
            for picture in [*folder.rglob("*.png")]:
                picture.rename(picture.with_suffix(f".{ending}"))
            for file in folder.glob("*.json"):
                file.write_text(file.read_text().replace(".png", f".{ending}"))
            with pytest.raises(
                errors.DataFormatError, match="are not read. Convert it to PNG"
            ) as e:
                with reader_table.READERS[layout](folder):
                    pass
            assert f".{ending}: " in str(e.value)
            assert "\n" not in str(e.value)


def test_a_heic_picture_that_is_called_jpg_and_animations_are_refused():
    heic = b"\x00\x00\x00\x18ftypheic" + bytes(40)
    with pytest.raises(errors.DataFormatError, match="me.jpg: HEIC pictures are not read"):
        pictures.read_header(heic, where="me.jpg")
    buffer = io.BytesIO()
    first, second = (Image.fromarray(films.shade(n)) for n in (1, 40))
    first.save(buffer, "WEBP", save_all=True, append_images=[second])
    with pytest.raises(errors.DataFormatError, match="it is an animation .WEBP."):
        pictures.decode_color(buffer.getvalue(), where="me.webp")
