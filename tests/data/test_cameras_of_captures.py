"""Keys of cameras: used, undone, or refused by name; never passed over."""

import dataclasses
import json

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import lenses, reader_table
from helpers import layouts

pytestmark = pytest.mark.captures
SIDE = 192


@pytest.fixture(scope="module")
def shots():
    return layouts.actor_shots(4, side=SIDE)


def write(folder, shots, *, top=None, frame=None):
    """A transforms.json with focal lengths in pixels and whatever else is asked for."""
    path = layouts.write_transforms(folder, shots)
    k = shots[0].intrinsics * SIDE
    content = json.loads((path / "transforms.json").read_text())
    del content["camera_angle_x"]
    content |= {"fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
    content |= {"w": SIDE, "h": SIDE} | (top or {})
    for index, entry in enumerate(content["frames"]):
        entry.update(frame(index) if frame else {})
    (path / "transforms.json").write_text(json.dumps(content))
    return path


def read(path, layout="transforms"):
    with reader_table.READERS[layout](path) as capture:
        return capture, [frame.load() for frame in capture.frames]


def seen_through(shot, lens):
    """The shot with spots where a lens shows them, by a formula of its own: Newton's method."""
    side = shot.image.shape[0]
    centers = (np.arange(side) + 0.5) / side
    seen = np.stack(np.meshgrid(centers, centers), axis=-1)
    focal, center = shot.intrinsics[[0, 1], [0, 1]], shot.intrinsics[:2, 2]
    seen = (seen - center) / focal
    ideal, step = seen.copy(), 1e-6
    for _ in range(20):
        miss = bend(ideal, lens) - seen
        slopes = [
            (bend(ideal + step * axis, lens) - bend(ideal, lens)) / step for axis in np.eye(2)
        ]
        jacobian = np.stack(slopes, axis=-1)
        ideal -= np.linalg.solve(jacobian, miss[..., None])[..., 0]
    level = np.rint(layouts.spots(shot, (ideal * focal + center) * side)).astype(np.uint8)
    return dataclasses.replace(shot, image=np.repeat(level[..., None], 3, axis=2), alpha=level)


def bend(points, lens):
    """OpenCV's formulas, written anew."""
    x, y = points[..., 0], points[..., 1]
    get = lens.get
    if get("model", "").endswith("FISHEYE"):
        radius = np.sqrt(x**2 + y**2)
        angle = np.arctan(radius)
        ratio = np.where(radius > 1e-9, angle / np.maximum(radius, 1e-9), 1.0)
        x, y = x * ratio, y * ratio
        fourth = get("k4", 0.0)
        below = 1.0
    else:
        fourth = 0.0
        r = x**2 + y**2
        below = 1 + get("k4", 0) * r + get("k5", 0) * r**2 + get("k6", 0) * r**3
    r = x**2 + y**2
    above = 1 + get("k1", 0) * r + get("k2", 0) * r**2 + get("k3", 0) * r**3 + fourth * r**4
    p1, p2 = get("p1", 0), get("p2", 0)
    u = x * above / below + 2 * p1 * x * y + p2 * (r + 2 * x**2) + get("sx1", 0) * r
    v = y * above / below + p1 * (r + 2 * y**2) + 2 * p2 * x * y + get("sy1", 0) * r
    return np.stack([u, v], axis=-1)


LENSES = {
    "fisheye": {"model": "OPENCV_FISHEYE", "k1": -2.0, "k2": 5.0, "k3": 9.0, "k4": -60.0},
    "k3": {"model": "OPENCV", "k1": -1.5, "k2": 8.0, "k3": -20.0, "p1": 0.03, "p2": -0.02},
    "rational": {"model": "FULL_OPENCV", "k1": 2.0, "k4": 3.0, "k5": 1.0, "k6": 5.0, "p1": 0.02},
    "prism": {"model": "THIN_PRISM_FISHEYE", "k1": -1.0, "p2": 0.02, "sx1": 0.05, "sy1": -0.04},
}


@pytest.mark.parametrize("case", LENSES)
def test_a_lens_is_undone_and_told(case, shots, tmp_path):
    lens = LENSES[case]
    taken = [seen_through(shot, lens) for shot in shots]
    keys = {key: value for key, value in lens.items() if key != "model"}
    path = write(tmp_path / "capture", taken, top={"camera_model": lens["model"], **keys})
    capture, frames = read(path)
    assert lens["model"] in " ".join(capture.notes)
    for frame, shot, bent in zip(frames, shots, taken, strict=True):
        assert spot_errors_px(frame.image[..., 0], shot).max() <= 0.02
        assert spot_errors_px(bent.alpha, shot).max() > 0.5


def spot_errors_px(level, shot):
    centers = np.arange(len(level)) + 0.5
    expected = layouts.spots(shot, np.stack(np.meshgrid(centers, centers), axis=-1))
    slopes = np.stack(np.gradient(expected)[::-1], axis=-1)
    errors_px = []
    size = (len(level),) * 2
    for x, y in layouts.project(
        shot.cam2world, shot.intrinsics, size=size, points=layouts.LENS_POINTS
    ):
        window = np.s_[round(y) - 12 : round(y) + 12, round(x) - 12 : round(x) + 12]
        slope, difference = slopes[window].reshape(-1, 2), (expected - level)[window].ravel()
        errors_px.append(np.linalg.norm(np.linalg.lstsq(slope, difference)[0]))
    return np.array(errors_px)


def test_a_lens_that_folds_shows_nothing_twice():
    lens = lenses.Lens(k1=-2.0)  # Grows up to a radius of 0.41.
    intrinsics = np.array([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]])
    image = np.full((64, 64), 200, np.uint8)
    result = lenses.undistort_image(image, intrinsics, lens)
    ideal = (np.arange(64) + 0.5) / 64 / 0.5 - 1.0
    row = result[32]
    assert (row[np.abs(ideal) < 0.35] == 200).all()
    assert (row[np.abs(ideal) > 0.45] == 0).all()


REFUSED = {
    "model": ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR.*not supported.*undistorter"),
    "extra": ({"k4": 0.1}, '"k4".*which its model OPENCV does not'),
    "prism": ({"sx1": 0.1}, '"sx1".*which its model OPENCV does not'),
    "pinhole": ({"camera_model": "PINHOLE", "k1": 0.1}, '"k1".*its model PINHOLE'),
    "word": ({"lens_shift_x": 0.2}, '"lens_shift_x".*not understood'),
    "matrix": ({"intrinsic_matrix": [[1, 0], [0, 1]]}, '"intrinsic_matrix".*not understood'),
    "shutter": ({"rolling_shutter_time": 0.01}, '"rolling_shutter_time".*not understood'),
    "k7": ({"k7": 1e-3}, '"k7".*not understood'),
    "mirror": (
        {"applied_transform": [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]},
        "applied_transform.*mirrors",
    ),
    "fraction": ({"cx": 0.5, "cy": 0.5}, '"cx" and "cy" must be pixels.*Multiply'),
    "both": ({"is_fisheye": True, "camera_model": "OPENCV"}, "is_fisheye.*OPENCV. Remove"),
}


@pytest.mark.parametrize("in_frame", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_by_name(case, in_frame, shots, tmp_path):
    keys, message = REFUSED[case]
    frame = (lambda index: keys if index == 2 else {}) if in_frame else None
    path = write(tmp_path / "capture", shots, top=None if in_frame else keys, frame=frame)
    with pytest.raises(errors.DataFormatError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)
    if in_frame:
        assert "r_2" in str(error.value)


@pytest.mark.parametrize("layout", ["insta", "nerface", "imavatar"])
def test_other_layouts_do_not_pass_over_a_lens(layout, shots, tmp_path):
    writer = getattr(layouts, f"write_{layout}")
    path = writer(tmp_path / "capture", shots)
    for file in path.rglob("*.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "lens_model": "wide"}))
    with pytest.raises(errors.DataFormatError, match='"lens_model".*not understood'):
        read(path, layout)


def test_keys_without_meaning_are_passed_over(shots, tmp_path):
    plain, _ = read(write(tmp_path / "plain", shots))
    more = {"aabb_scale": 4, "scale": 0.3, "offset": [0.5, 0.5, 0.5], "k5": 0.0, "author": "me"}
    other = {"sharpness": 30.0, "rotation": 0.01, "colmap_im_id": 4, "depth_file_path": "d.png"}
    capture, _ = read(write(tmp_path / "more", shots, top=more, frame=lambda index: other))
    for frame, reference in zip(capture.frames, plain.frames, strict=True):
        np.testing.assert_array_equal(frame.label25, reference.label25)


def test_what_was_applied_to_the_world_is_taken_back(shots, tmp_path):
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = layouts.rotation(4), [0.3, -2.0, 1.0]
    moved = []
    for shot in shots:
        pose = turn @ shot.cam2world
        pose[:3, 3] *= 0.37
        moved.append(dataclasses.replace(shot, cam2world=pose))
    top = {"applied_transform": turn[:3].tolist(), "applied_scale": 0.37}
    capture, _ = read(write(tmp_path / "capture", moved, top=top))
    for frame, shot in zip(capture.frames, shots, strict=True):
        np.testing.assert_allclose(frame.label25[:16].reshape(4, 4), shot.cam2world, atol=2e-6)


def test_each_frame_may_have_a_camera_of_its_own(shots, tmp_path):
    focal = [SIDE * (3.0 + index) for index in range(len(shots))]

    def own(index):
        center = {"cx": 90.0 + index, "cy": 30.0}
        return {"fl_x": focal[index], "fl_y": 1.1 * focal[index], **center}

    capture, _ = read(write(tmp_path / "capture", shots, frame=own))
    for index, frame in enumerate(capture.frames):
        intrinsics = frame.label25[16:].reshape(3, 3) * SIDE
        expected = [focal[index], 1.1 * focal[index], 90.0 + index, 30.0]
        got = [intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]]
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("key", ["camera_angle_x", "camera_angle_y", "x_fov", "y_fov"])
def test_a_field_of_view_alone_is_enough_and_a_frames_outweighs_the_files(key, shots, tmp_path):
    angle = 0.31 if key.startswith("camera") else np.degrees(0.31)
    path = write(tmp_path / "capture", shots, frame=lambda index: {key: angle} if index else {})
    capture, _ = read(path)
    expected = [shots[0].intrinsics[0, 0], 0.5 / np.tan(0.155), 0.5 / np.tan(0.155)]
    got = [frame.label25[16] for frame in capture.frames[:3]]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("key", ["mask_path", "fg_mask_path", "alpha_path", "matte_path"])
def test_mattes_that_frames_name_are_used(key, shots, tmp_path):
    opaque = [dataclasses.replace(shot, alpha=np.full_like(shot.alpha, 255)) for shot in shots]
    path = write(tmp_path / "capture", opaque, frame=lambda i: {key: f"./mattes/{i}"})
    for index, shot in enumerate(shots):
        layouts.save_png(path / f"mattes/{index}.PNG", shot.alpha)
    _, frames = read(path)
    for frame, shot in zip(frames, shots, strict=True):
        np.testing.assert_array_equal(frame.alpha, shot.alpha)


def test_a_matte_that_is_named_and_missing_is_told(shots, tmp_path):
    path = write(tmp_path / "capture", shots, frame=lambda i: {"mask_path": f"mattes/{i}.png"})
    with pytest.raises(errors.DataFormatError, match='"mask_path".*mattes/0.png is not there'):
        read(path)
    path = write(tmp_path / "other", shots, frame=lambda i: {"dynamic_mask": f"mattes/{i}.png"})
    with pytest.raises(errors.DataFormatError, match='"dynamic_mask" is not understood'):
        read(path)


def test_lists_of_names_split_the_capture(shots, tmp_path):
    names = [f"images/r_{index}.png" for index in range(4)]
    top = {"train_filenames": names[:3], "val_filenames": [f"./{names[3]}"], "test_filenames": []}
    capture, _ = read(write(tmp_path / "capture", shots, top=top))
    assert [frame.split for frame in capture.frames] == ["train"] * 3 + ["test"]
    top["test_filenames"] = names[:1]
    with pytest.raises(errors.DataFormatError, match="trains and is held out"):
        read(write(tmp_path / "both", shots, top=top))
