import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data import canonicalize, data_config, records
from ganavatar_jax.geometry import cameras
from helpers import captures


def config(**values):
    return data_config.DataConfig(**({"source": "x", "resolution": 16} | values))


def composite(head, alpha, level):
    return head * alpha + (1 - alpha) * level


def to_linear(value):
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def to_display(value):
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)


@pytest.fixture
def scene():
    """Head colours and coverage, without rounding, and the alpha file that goes with them."""
    generator = np.random.default_rng(0)
    matte = generator.integers(0, 256, (16, 16)).astype(np.uint8)
    matte[:4], matte[4:8] = 0, 255
    return generator.random((16, 16, 3)), matte


@pytest.mark.parametrize("linear_light", [False, True])
@pytest.mark.parametrize(("source", "target"), [("white", "black"), ("black", "white")])
def test_exchanging_the_background_equals_compositing_on_the_new_one(
    source, target, linear_light, scene
):
    head, matte = scene
    levels = {"white": 1.0, "black": 0.0}
    encode, decode = (to_display, to_linear) if linear_light else (lambda x: x, lambda x: x)
    alpha = matte[..., None] / 255
    stored = np.rint(encode(composite(decode(head), alpha, levels[source])) * 255).astype(np.uint8)
    expected = encode(composite(decode(head), alpha, levels[target])) * 255
    actual = canonicalize.replace_background(
        stored, matte, source=source, target=target, linear_light=linear_light
    )
    # Half a level of rounding each; in linear light the sRGB curve magnifies it near black.
    limit = 1.01 if not linear_light else 26.0
    assert np.abs(actual - expected).max() <= limit
    bright = expected > 64
    assert np.abs(actual - expected)[bright].max() <= (1.01 if not linear_light else 3.0)
    np.testing.assert_array_equal(actual[:4], 255 * levels[target])
    np.testing.assert_array_equal(actual[4:8], stored[4:8])


def test_a_background_that_is_already_there_leaves_every_bit_alone(scene):
    _, matte = scene
    image = captures.image(0)
    same = canonicalize.replace_background(image, matte, source="white", target="white")
    np.testing.assert_array_equal(same, image)


@pytest.mark.parametrize("source", ["scene", "straight"])
def test_colours_without_a_plain_background_are_composited_as_they_are(source, scene):
    head, matte = scene
    stored = np.rint(head * 255).astype(np.uint8)
    expected = composite(stored / 255, matte[..., None] / 255, 1.0) * 255
    actual = canonicalize.replace_background(stored, matte, source=source, target="white")
    assert np.abs(actual - expected).max() <= 0.5 + 1e-9


def test_an_unknown_background_is_not_guessed():
    with pytest.raises(ValueError, match="Use resolve_background first"):
        canonicalize.replace_background(
            captures.image(0), captures.matte(), source="unknown", target="white"
        )


def capture(background, *, has_alpha=True):
    return records.Capture(
        name="capture.zip",
        frames=(),
        expression_names=(),
        resolution=16,
        background=background,
        has_alpha=has_alpha,
        digest="0",
    )


@pytest.mark.parametrize(
    ("stored", "has_alpha", "options", "resolved"),
    [
        ("white", True, {}, "white"),
        ("unknown", False, {}, "unknown"),
        ("white", True, {"background": "black"}, "white"),
        ("white", False, {"background": "white"}, "white"),
        ("unknown", True, {"background": "black", "source_background": "scene"}, "scene"),
        ("unknown", False, {"background": "white", "source_background": "white"}, "white"),
        ("white", True, {"background": "black", "source_background": "black"}, "black"),
        ("straight", True, {"background": "black", "source_background": "white"}, "straight"),
    ],
)
def test_the_stored_background_comes_from_the_capture_or_the_config(
    stored, has_alpha, options, resolved
):
    made = canonicalize.resolve_background(capture(stored, has_alpha=has_alpha), config(**options))
    assert made == resolved


@pytest.mark.parametrize(
    ("stored", "has_alpha", "options", "message"),
    [
        ("white", False, {"background": "black"}, r"needs a matte.*data.background=keep"),
        ("unknown", True, {"background": "white"}, r"nothing says.*data.source_background"),
        ("straight", True, {}, r"RGBA\) have no background to keep\. Set data.background"),
    ],
)
def test_a_background_that_cannot_be_had_is_refused(stored, has_alpha, options, message):
    with pytest.raises(errors.DataFormatError, match=message) as error:
        canonicalize.resolve_background(capture(stored, has_alpha=has_alpha), config(**options))
    assert str(error.value).startswith("capture.zip: ")


def frame(**values):
    made = {
        "image": captures.image(0),
        "alpha": captures.matte(),
        "label25": np.array(captures.label(3), np.float32),
        "expression": np.arange(3, dtype=np.float32),
        "frame_id": "images/0.png",
        "sequence": "images",
        "split": "train",
    }
    return records.Frame(**(made | values))


def test_canonical_frames_have_the_wanted_size_and_background_and_keep_the_rest():
    before = frame()
    after = canonicalize.canonicalize_frame(
        before, config=config(resolution=8, background="black"), background="white"
    )
    assert after.image.shape == (8, 8, 3)
    assert after.alpha.shape == (8, 8)
    assert after.image[:, 6:].max() == 0
    assert after.image[4, 1].tolist() == [40, 40, 40]
    for name in ("label25", "expression", "frame_id", "sequence", "split"):
        assert getattr(after, name) is getattr(before, name)


def test_a_canonical_frame_without_alpha_cannot_change_its_background():
    with pytest.raises(errors.DataFormatError, match="frame images/0.png: another back"):
        canonicalize.canonicalize_frame(
            frame(alpha=None), config=config(background="black"), background="white"
        )


@pytest.mark.parametrize("resample", ["lanczos", "box"])
def test_shrinking_is_antialiased(resample):
    # Stripes at the highest frequency would survive point sampling and must become grey.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = canonicalize.resize(stripes, side=16, resample=resample)
    assert np.abs(small[:, 2:-2].astype(int) - 127).max() <= 2


def test_the_box_filter_takes_means():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    means = image.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
    small = canonicalize.resize(image, side=8, resample="box")
    assert np.abs(small - means).max() <= 1.0  # Pillow rounds after each of two passes


def test_an_image_of_the_right_size_is_not_filtered():
    image = captures.image(0)
    assert canonicalize.resize(image, side=16, resample="lanczos") is image


# --- mirror ---


def project(label25, point):
    """Normalized image coordinates of a world point."""
    cam2world, intrinsics = label25[:16].reshape(4, 4), label25[16:].reshape(3, 3)
    in_camera = np.linalg.inv(cam2world) @ [*point, 1.0]
    u, v, w = intrinsics @ in_camera[:3]
    return np.array([u / w, v / w])


def test_the_mirrored_camera_sees_the_mirrored_point_at_the_flipped_pixel():
    label = np.array(captures.label(4))
    assert label[17] != 0
    assert label[18] != 0.5
    mirrored = canonicalize.mirror_label25(label)
    for point in np.random.default_rng(0).uniform(-0.5, 0.5, (5, 3)):
        u, v = project(label, point)
        np.testing.assert_allclose(project(mirrored, point * [-1, 1, 1]), [1 - u, v], atol=1e-12)


def test_mirroring_twice_gives_image_and_label_back():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    once = canonicalize.mirror_image(image)
    np.testing.assert_array_equal(once, image[:, ::-1])
    np.testing.assert_array_equal(canonicalize.mirror_image(once), image)
    label = np.array(captures.label(4), np.float32)
    twice = canonicalize.mirror_label25(canonicalize.mirror_label25(label))
    np.testing.assert_allclose(twice, label, atol=1e-7)


def test_host_and_device_mirror_labels_alike():
    labels = np.array([captures.label(index) for index in range(4)], np.float32)
    np.testing.assert_allclose(
        canonicalize.mirror_label25(labels),
        cameras.mirror_label25(jnp.asarray(labels)),
        rtol=0,
        atol=1e-7,
    )


def test_the_source_label_is_not_changed_in_place():
    label = np.array(captures.label(1), np.float32)
    kept = label.copy()
    canonicalize.mirror_label25(label)
    np.testing.assert_array_equal(label, kept)
