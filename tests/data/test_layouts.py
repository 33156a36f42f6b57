"""Every layout: written from exact cameras, read back the same."""

import functools
import zipfile

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data import data_config
from ganavatar_jax.data.formats import file_tree, reader_table
from helpers import layouts, phone_layouts

pytestmark = pytest.mark.captures

WRITERS = {
    "eg3d": layouts.write_eg3d,
    "insta": layouts.write_insta,
    "nerface": layouts.write_nerface,
    "imavatar": layouts.write_imavatar,
    "transforms": layouts.write_transforms,
    "colmap text": functools.partial(layouts.write_colmap, binary=False),
    "colmap binary": functools.partial(layouts.write_colmap, binary=True),
    "colmap simple": functools.partial(layouts.write_colmap, binary=True, model="SIMPLE_PINHOLE"),
    "multiface": layouts.write_multiface,
    "nersemble": layouts.write_nersemble,
    "nersemble raw": phone_layouts.write_nersemble_raw,
    "transforms nerfstudio": phone_layouts.write_nerfstudio,
    "record3d": phone_layouts.write_record3d,
    "record3d shared": functools.partial(phone_layouts.write_record3d, own_lenses=False),
    "polycam": phone_layouts.write_polycam,
    "tracker": phone_layouts.write_tracker,
    "vhap": phone_layouts.write_vhap,
    "vhap still": functools.partial(phone_layouts.write_vhap, turns=False),
}
OPTIONS = {"vhap": {"flame_joints": phone_layouts.JOINTS}}
UNITS = {"multiface": 500.0}  # World units of the layout in one of ours.
MATTES = set(WRITERS) - {"nerface", "multiface", "record3d", "record3d shared", "polycam"}


@pytest.fixture(scope="module")
def shots():
    return layouts.actor_shots()


def read(case, shots, folder, **options):
    path = WRITERS[case](folder / "capture", shots)
    reader = reader_table.READERS[case.split()[0]]
    config = data_config.ReaderConfig(**({"gamma": 0.0} | OPTIONS.get(case, {}) | options))
    with reader(path, options=config) as capture:
        return capture, [frame.load() for frame in capture.frames]


def in_order(case, shots):
    """Multiface sorts by segment; the others keep the order of time."""
    return shots if case != "multiface" else [*shots[::2], *shots[1::2]]


@pytest.mark.parametrize("case", WRITERS)
def test_cameras_come_back_and_project_points_to_the_same_pixels(case, shots, tmp_path):
    capture, frames = read(case, shots, tmp_path)
    assert len(frames) == len(shots)
    for frame, reference, shot in zip(frames, capture.frames, in_order(case, shots), strict=True):
        cam2world = frame.label25[:16].reshape(4, 4).astype(np.float64)
        cam2world[:3, 3] /= UNITS.get(case, 1.0)
        scale = np.abs(shot.cam2world).max()
        assert np.abs(cam2world - shot.cam2world).max() <= 1e-6 * scale
        intrinsics = frame.label25[16:].reshape(3, 3).astype(np.float64)
        width, height = reference.size
        assert frame.image.shape == (height, width, 3)
        pixels = layouts.project(cam2world, intrinsics, size=(width, height))
        truth = layouts.project(shot.cam2world, shot.intrinsics, size=(layouts.SIDE,) * 2)
        truth += [width - layouts.SIDE, 0]  # Multiface's fixture is padded on the left.
        assert np.abs(pixels - truth).max() <= 0.01


@pytest.mark.parametrize("case", WRITERS)
def test_pixels_and_mattes_belong_to_their_cameras(case, shots, tmp_path):
    _, frames = read(case, shots, tmp_path)
    for frame, shot in zip(frames, in_order(case, shots), strict=True):
        image = frame.image[:, -layouts.SIDE :]
        if case.startswith("nersemble"):  # lossy video
            assert np.abs(image.astype(int) - shot.image).mean() < 8
            assert np.abs(frame.alpha.astype(int) - shot.alpha).mean() < 8
            continue
        np.testing.assert_array_equal(image, shot.image)
        if case in MATTES:
            np.testing.assert_array_equal(frame.alpha, shot.alpha)
        else:
            assert frame.alpha is None


def test_a_negative_focal_length_is_part_of_nerfaces_projection(shots, tmp_path):
    # The tracker's x axis points left and its fx is negative: the same projection, so the same
    # camera once signs are folded in.
    path = layouts.write_nerface(tmp_path / "capture", shots, sign=-1.0)
    with reader_table.READERS["nerface"](path) as capture:
        poses = [frame.label25[:16].reshape(4, 4) for frame in capture.frames]
    for pose, shot in zip(poses, shots, strict=True):
        np.testing.assert_allclose(pose, shot.cam2world, atol=3e-6)


LENSES = {
    "SIMPLE_RADIAL": (-2.0,),
    "RADIAL": (-2.0, 8.0),
    "OPENCV": (-1.5, 8.0, 0.03, -0.02),
}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("model", LENSES)
def test_a_lens_of_colmap_is_undone(model, binary, tmp_path):
    ideal = layouts.actor_shots(side=192)
    taken = [layouts.through_lens(shot, LENSES[model]) for shot in ideal]
    options = {"binary": binary, "model": model, "coefficients": LENSES[model]}
    path = layouts.write_colmap(tmp_path / "capture", taken, **options)
    with reader_table.READERS["colmap"](path) as capture:
        frames = [frame.load() for frame in capture.frames]
    for frame, shot, distorted in zip(frames, ideal, taken, strict=True):
        pose = frame.label25[:16].reshape(4, 4)
        assert np.abs(pose - shot.cam2world).max() <= 1e-6 * np.abs(shot.cam2world).max()
        np.testing.assert_allclose(frame.label25[16:].reshape(3, 3), shot.intrinsics, rtol=1e-6)
        assert spot_errors_px(frame.image[..., 0], shot).max() <= 0.01
        assert spot_errors_px(frame.alpha, shot).max() <= 0.01
        assert spot_errors_px(distorted.alpha, shot).max() > 1.0


def spot_errors_px(level, shot):
    """How far spots are from where the ideal camera shows them: least squares in windows."""
    side = len(level)
    centers = np.arange(side) + 0.5
    expected = layouts.spots(shot, np.stack(np.meshgrid(centers, centers), axis=-1))
    slopes = np.stack(np.gradient(expected)[::-1], axis=-1)
    size, points = (side, side), layouts.LENS_POINTS
    errors = []
    for x, y in layouts.project(shot.cam2world, shot.intrinsics, size=size, points=points):
        window = np.s_[round(y) - 12 : round(y) + 12, round(x) - 12 : round(x) + 12]
        slope, difference = slopes[window].reshape(-1, 2), (expected - level)[window].ravel()
        errors.append(np.linalg.norm(np.linalg.lstsq(slope, difference)[0]))
    return np.array(errors)


def test_what_a_lens_did_not_see_is_black_and_transparent(tmp_path):
    shots = [layouts.through_lens(shot, (2.0,)) for shot in layouts.actor_shots(side=192)]
    options = {"binary": True, "model": "SIMPLE_RADIAL", "coefficients": (2.0,)}
    path = layouts.write_colmap(tmp_path / "capture", shots, **options)
    with reader_table.READERS["colmap"](path) as capture:
        frame = capture.frames[0].load()
    for corner in (0, -1):
        assert not frame.image[corner, corner].any()
        assert not frame.alpha[corner, corner]
    assert frame.alpha[96, 96] >= 20


def test_codes_are_read_with_names(shots, tmp_path):
    lengths = {"insta": 10, "nerface": 76, "imavatar": 53, "nersemble": 103}
    for case, length in lengths.items():
        capture, frames = read(case, shots, tmp_path / case)
        assert len(capture.expression_names) == len(set(capture.expression_names)) == length
        assert all(frame.expression.shape == (length,) for frame in frames)
    assert frames[0].expression[0] == pytest.approx(shots[0].code[0])


def test_splits_of_layouts_are_kept(shots, tmp_path):
    for case in ("insta", "nerface"):
        _, frames = read(case, shots, tmp_path / case)
        sides = [frame.split for frame in frames]
        assert sorted(sides) == ["test", "train", "train", "train"]


@pytest.mark.parametrize(
    ("case", "sequences"),
    [
        ("imavatar", ["MVI_1810", "MVI_1814"]),
        ("nersemble", ["EXP-1-head", "FREE"]),
        ("multiface", ["EXP_jaw000", "EXP_jaw001"]),
    ],
)
def test_sequences_can_be_chosen(case, sequences, shots, tmp_path):
    capture, _ = read(case, shots, tmp_path)
    assert sorted({frame.sequence for frame in capture.frames}) == sequences
    _, frames = read(case, shots, tmp_path / "one", sequences=(sequences[1],))
    assert {frame.sequence for frame in frames} == {sequences[1]}


def test_cloth_is_taken_out_of_instas_matte(shots, tmp_path):
    path = layouts.write_insta(tmp_path / "capture", shots)
    classes = np.zeros((layouts.SIDE, layouts.SIDE), np.uint8)
    classes[layouts.SIDE // 2 :] = 90
    layouts.save_png(path / "seg_mask" / "00002.png", classes)
    with reader_table.READERS["insta"](path) as capture:
        alpha = [frame.load().alpha for frame in capture.frames[:2]]
    np.testing.assert_array_equal(alpha[0], shots[0].alpha)
    assert alpha[1][layouts.SIDE // 2 :].max() == 0
    assert alpha[1][: layouts.SIDE // 2].max() > 0


def test_raw_images_of_multiface_are_brightened(shots, tmp_path):
    _, raw = read("multiface", shots, tmp_path / "raw")
    _, bright = read("multiface", shots, tmp_path / "bright", gamma=2.0)
    dark = raw[0].image < 100
    assert bright[0].image[dark].mean() > raw[0].image[dark].mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", sorted(set(WRITERS) - {"colmap simple", "nersemble", "nersemble raw"})
)
def test_the_list_of_files_is_not_gone_through_for_every_frame(case, tmp_path, monkeypatch):
    """Else reading a long capture takes the square of its length."""
    passes = 0

    class Names(tuple):
        def __iter__(self):
            nonlocal passes
            passes += 1
            return super().__iter__()

        def __contains__(self, name):
            nonlocal passes
            passes += 1
            return super().__contains__(name)

    class Tree(file_tree.FolderTree):
        def __init__(self, path):
            super().__init__(path)
            self.names = Names(self.names)

    monkeypatch.setattr(file_tree, "FolderTree", Tree)
    counts = []
    for count in (4, 12):
        passes = 0
        read(case, layouts.actor_shots(count), tmp_path / str(count))
        counts.append(passes)
    assert counts[0] == counts[1]


def test_a_head_that_turns_needs_its_joints(shots, tmp_path):
    path = phone_layouts.write_vhap(tmp_path / "capture", shots)
    with (
        pytest.raises(errors.DataFormatError, match="neck_pose, .* degrees.*flame_joints"),
        reader_table.READERS["vhap"](path),
    ):
        pass


def test_a_raw_folder_of_nersemble_has_one_instant(shots, tmp_path):
    sequences = ("EXP-1-head", "FREE")
    path = phone_layouts.write_nersemble_raw(tmp_path / "capture", shots, sequences=sequences)
    with (
        pytest.raises(errors.DataFormatError, match="only one sequence.*EXP-1-head, FREE. Name"),
        reader_table.READERS["nersemble"](path),
    ):
        pass
    options = data_config.ReaderConfig(sequences=("FREE",))
    with reader_table.READERS["nersemble"](path, options=options) as capture:
        assert {frame.sequence for frame in capture.frames} == {"FREE"}
        assert "4 of 12 frames are used" in capture.notes[0]


def test_a_file_of_record3d_is_a_zip(shots, tmp_path):
    path = phone_layouts.write_record3d(tmp_path / "capture", shots)
    with zipfile.ZipFile(tmp_path / "me.r3d", "w") as archive:
        archive.write(path / "metadata.json", "metadata")
        for index in range(3):  # One picture less than poses.
            archive.write(path / f"rgb/{index}.png", f"rgbd/{index}.png")
            archive.writestr(f"rgbd/{index}.depth", b"compressed")
    with reader_table.READERS["record3d"](tmp_path / "me.r3d") as capture:
        assert len(capture.frames) == 3
        assert "3 of 4 poses are used; 1 have no picture" in capture.notes[0]


def test_a_checkpoint_that_runs_code_is_refused(shots, tmp_path):
    class Call:
        def __reduce__(self):
            return print, ("gotcha",)

    path = phone_layouts.write_tracker(tmp_path / "capture", shots)
    phone_layouts.save_torch(path / "checkpoint/00002.frame", {"opencv": Call()})
    with (
        pytest.raises(errors.DataFormatError, match="00002.frame.*print.*refused.*Track"),
        reader_table.READERS["tracker"](path),
    ):
        pass
