"""Images that reach beyond what was filmed: white there, masked, and told to whoever trains."""

import json

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data import canonicalize, cropping, data_config, frame_table, records
from ganavatar_jax.data.builders import gan_frames
from helpers import captures

SIDE = 16


def config(source, **values):
    return data_config.DataConfig(**({"source": str(source), "resolution": SIDE} | values))


def mask(rows=4):
    """Nothing was filmed in the last rows, nor in one corner."""
    filmed = np.full((SIDE, SIDE), 255, np.uint8)
    filmed[SIDE - rows :] = 0
    filmed[0, 0] = 0
    return filmed


@pytest.fixture
def source(tmp_path):
    """The second of four training frames reaches beyond its picture."""
    tiny = captures.make()
    tiny.files["filmed/0001.png"] = captures.encode(mask())
    return tiny.write_folder(tmp_path / "capture")


def test_what_was_filmed_is_kept_beside_the_images(source, tmp_path):
    summary = gan_frames.prepare(config(source), tmp_path / "data")
    assert summary["has_filmed"]
    table = frame_table.load_split(tmp_path / "data", "train", with_alpha=True)
    assert table.filmed is not None
    everything = np.full((SIDE, SIDE), 255)
    np.testing.assert_array_equal(table.filmed, [everything, mask(), everything, everything])
    assert (table.image[1][mask() == 0] == 255).all()
    assert not table.alpha[1][mask() == 0].any()
    np.testing.assert_array_equal(
        table.image[1][mask() > 0], np.asarray(captures.image(1))[mask() > 0]
    )
    np.testing.assert_array_equal(table.image[0], captures.image(0))


@pytest.mark.parametrize("mirror", [False, True])
def test_batches_bring_what_was_filmed_the_way_round_their_images_are(source, tmp_path, mirror):
    gan_frames.prepare(config(source), tmp_path / "data")
    table = frame_table.load_split(tmp_path / "data", "train")
    batches = frame_table.make_batches(table, batch_size=4, seed=0, mirror=mirror)
    seen = set()
    for _ in range(2):
        batch = next(batches)
        for image, filmed, index in zip(
            batch["image"], batch["filmed"], batch["index"], strict=True
        ):
            flipped = not np.array_equal(image, table.image[index])
            expected = table.filmed[index]
            np.testing.assert_array_equal(filmed, expected[:, ::-1] if flipped else expected)
            seen.add((int(index), flipped))
    batches.close()
    assert len(seen) == (8 if mirror else 4)


def test_a_capture_that_was_filmed_everywhere_is_stored_as_it_always_was(tmp_path):
    source = captures.make().write_folder(tmp_path / "capture")
    summary = gan_frames.prepare(config(source), tmp_path / "data")
    folder = tmp_path / "data" / "gan_frames" / "1.0.0"
    assert "has_filmed" not in summary
    assert "filmed" not in (folder / "features.json").read_text()
    assert "has_filmed" not in json.dumps(summary)
    table = frame_table.load_split(tmp_path / "data", "train")
    assert table.filmed is None
    batches = frame_table.make_batches(table, batch_size=2, seed=0)
    assert set(next(batches)) == {"image", "label25", "index", "number"}
    batches.close()


def test_a_pixel_counts_as_filmed_if_all_that_it_was_made_of_was():
    frame = records.Frame(
        image=np.full((SIDE, SIDE, 3), 90, np.uint8),
        alpha=np.full((SIDE, SIDE), 255, np.uint8),
        label25=np.zeros(25, np.float32),
        expression=None,
        frame_id="x",
        sequence="",
        split=None,
        filmed=mask(rows=3),
    )
    made = canonicalize.canonicalize_frame(
        frame, config=config("x", resolution=8, background="black"), background="white"
    )
    expected = np.full((8, 8), 255)
    expected[6:] = 0  # One and a half rows at the bottom.
    expected[0, 0] = 0
    np.testing.assert_array_equal(made.filmed, expected)
    assert (made.image[expected == 0] == 255).all()  # White before black, too.
    assert not made.alpha[expected == 0].any()
    assert (made.image[1:5] == 90).all()


def test_a_crop_beyond_its_image_knows_what_was_filmed(source):
    with gan_frames.open_source(config(source)) as capture:
        whole, partly = capture.frames[0], capture.frames[1]
        assert whole.read_filmed is None
        assert cropping.crop(whole, (0, 0, SIDE, SIDE)).read_filmed is None
        out = cropping.crop(whole, (-4, 2, 12, 18)).load()
        expected = np.zeros((16, 16), np.uint8)
        expected[:14, 4:] = 255
        np.testing.assert_array_equal(out.filmed, expected)
        np.testing.assert_array_equal(
            cropping.crop(partly, (2, 2, 16, 16)).load().filmed, mask()[2:, 2:]
        )


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("filmed/0009.png", mask(), "0009.png is of no frame"),
        ("filmed/0002.png", mask()[:8], r"as large as its image \(16x16\); got 16x8"),
    ],
)
def test_masks_that_do_not_fit_are_refused(name, pixels, message, tmp_path):
    tiny = captures.make()
    tiny.files[name] = captures.encode(pixels)
    with pytest.raises(errors.DataFormatError, match=message):
        gan_frames.prepare(config(tiny.write_folder(tmp_path / "c")), tmp_path / "data")


def test_frames_of_one_size_may_differ_in_what_was_filmed(source, tmp_path):
    """Two captures that show the same but for the mask are two datasets."""
    first = gan_frames.prepare(config(source), tmp_path / "first")
    (source / "filmed" / "0001.png").write_bytes(captures.encode(mask(rows=6)))
    second = gan_frames.prepare(config(source), tmp_path / "second")
    assert first["identity"] != second["identity"]
