import csv
import dataclasses
import json
import math

import av
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.faces import estimation
from ganavatar_jax.geometry import cameras
from ganavatar_jax.metrics import frechet, inception, lpips
from ganavatar_jax.reports import evaluation_report, obedience
from helpers import lazy_images

FRAMES = 7
NAMES = ("jawOpen", "blink")


def label(yaw_deg):
    cam2world = cameras.look_at(math.pi / 2 + math.radians(yaw_deg), math.pi / 2, radius=2.7)
    camera = cameras.Camera(cam2world=cam2world, intrinsics=cameras.intrinsics(4.2647))
    return np.asarray(cameras.to_label25(camera))


@pytest.fixture(scope="module")
def held_out():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 256, size=(FRAMES, 16, 16, 3), dtype=np.uint8)
    ours = np.clip(truth.astype(int) + generator.integers(-30, 30, truth.shape), 0, 255)
    codes = generator.uniform(size=(FRAMES, 2)).astype(np.float32)
    codes[:, 1] = 0.5
    read_back = codes * 0.5
    read_back[5:] = -codes[5:]  # Seen from the side: must not count.
    read_back[4] = 100.0  # No face found: must not count.
    return evaluation_report.HeldOut(
        truth_u8=truth,
        ours_u8=ours.astype(np.uint8),
        frame_ids=[f"{100 + i}" for i in range(FRAMES)],
        label25=np.stack([label(yaw) for yaw in (0, 10, -20, 30, 0, 40, -80)]),
        codes=obedience.Codes(
            NAMES,
            readings(codes, openings_px=codes[:, [0, 0, 1]] * 3.0),
            readings(read_back, openings_px=read_back[:, [0, 0, 1]] * 4.0),
            stored=1.0 - codes,
        ),
    )


def readings(codes, *, openings_px):
    found = np.arange(FRAMES) != 4
    return estimation.Readings(codes, np.ones(FRAMES), found, openings_px)


@pytest.fixture(scope="module")
def baselines(held_out):
    return {"nearest_frame": held_out.truth_u8[::-1], "mean_image": held_out.truth_u8[:1]}


@pytest.fixture(scope="module")
def report(held_out, baselines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "evaluation"
    metrics = evaluation_report.write_report(
        folder,
        held_out,
        baselines=baselines,
        protocol={"data": "noise", "learning_rate": float("nan")},
        fps=25.0,
        lpips_params={},
    )
    return folder, metrics


def test_frames_on_disk_are_reported_as_those_in_memory(
    report, held_out, baselines, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluation_report, "_REGION_FRAMES", 3)
    truth, nearest = map(lazy_images.LazyImages, (held_out.truth_u8, baselines["nearest_frame"]))
    lazy = dataclasses.replace(held_out, truth_u8=truth)
    metrics = evaluation_report.write_report(
        tmp_path,
        lazy,
        baselines={**baselines, "nearest_frame": nearest},
        protocol={"data": "noise", "learning_rate": float("nan")},
        fps=25.0,
        lpips_params={},
        chunk=3,
    )
    assert metrics == report[1]
    assert (tmp_path / "contact_sheet.png").read_bytes() == (
        report[0] / "contact_sheet.png"
    ).read_bytes()


def read_table(folder):
    with (folder / "per_frame.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_metrics_file_is_strict_json_and_what_the_function_returns(report):
    folder, metrics = report

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    text = (folder / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == metrics
    assert list(metrics)[:3] == ["ours", "nearest_frame", "mean_image"]
    assert metrics["frames"] == FRAMES


def test_means_are_the_means_of_the_table(report):
    folder, metrics = report
    rows = read_table(folder)
    for metric in ("l2", "psnr", "ssim"):
        mean = np.mean([float(row[f"ours.{metric}"]) for row in rows])
        np.testing.assert_allclose(metrics["ours"][metric], mean, rtol=1e-4)


def test_mouth_and_eyes_are_measured_beside_the_baselines(report):
    regions = report[1]["regions"]
    assert list(regions) == ["mouth", "eyes"]
    for values in regions.values():
        assert list(values) == ["ours", "nearest_frame", "mean_image"]
        assert 15.0 < values["ours"] < 40.0
        assert values["mean_image"] is None  # it reproduces a frame


def test_frames_reproduced_exactly_make_psnr_null_and_stay_infinite_in_the_table(report):
    folder, metrics = report
    assert metrics["mean_image"]["psnr"] is None
    assert metrics["nearest_frame"]["psnr"] is None
    rows = read_table(folder)
    assert [row["mean_image.psnr"] == "inf" for row in rows] == [True] + [False] * (FRAMES - 1)


def test_the_table_names_frames_and_camera_angles(report):
    rows = read_table(report[0])
    assert [row["frame"] for row in rows] == [f"{100 + i}" for i in range(FRAMES)]
    yaws = [float(row["yaw_deg"]) for row in rows]
    np.testing.assert_allclose(yaws, (0, 10, -20, 30, 0, 40, -80), atol=1e-3)
    np.testing.assert_allclose([float(row["pitch_deg"]) for row in rows], 0.0, atol=1e-3)


def test_code_correlation_uses_frontal_frames_with_a_face_only(report):
    metrics = report[1]
    assert metrics["code_correlation"]["jawOpen"] == pytest.approx(1.0)
    assert metrics["code_correlation"]["blink"] is None
    assert metrics["protocol"]["metrics"]["code_frames"] == 4


def test_obedience_is_over_the_same_frames_and_printed(report):
    metrics = report[1]
    assert metrics["code_slope"] == {"jawOpen": pytest.approx(0.5), "blink": None}
    assert metrics["code_slope_both_sides"] == {}
    ends = metrics["code_range"]["jawOpen"]
    assert ends["read_back"] == pytest.approx([0.5 * end for end in ends["asked"]])
    # The capture's own codes go the other way.
    assert metrics["code_correlation_stored"]["jawOpen"] == pytest.approx(-1.0)
    lids, mouth = metrics["openings"]["lids"], metrics["openings"]["mouth"]
    assert lids["slope"] == pytest.approx(0.5 * 4.0 / 3.0)
    assert lids["correlation"] == pytest.approx(1.0)
    assert lids["render_px"] == pytest.approx(lids["truth_px"] * 0.5 * 4.0 / 3.0)
    assert mouth["correlation"] is None
    lines = obedience.describe(metrics)
    assert [line.split() for line in lines[1:4]] == [
        ["jawOpen", "1.00", "0.50"],
        ["blink", "-", "-"],
        ["lidLeft", "opening", "1.00", "0.67"],
    ]


def test_heads_are_measured_without_what_lies_outside(held_out, baselines, report, tmp_path):
    assert report[1]["head"] is None  # no mattes
    alpha = np.zeros(held_out.truth_u8.shape[:3], np.uint8)
    alpha[:, 2:, 3:9] = 255
    alpha[3] = 0  # no head: does not count
    metrics = evaluation_report.write_report(
        tmp_path,
        dataclasses.replace(held_out, alpha=alpha),
        baselines=baselines,
        protocol={},
        fps=25.0,
        lpips_params={},
    )
    head = metrics["head"]
    assert list(head) == ["ours", *baselines]
    assert {frozenset(values) for values in head.values()} == {frozenset(metrics["ours"])}
    # At 16 pixels and these cameras the torso begins in the 15th row, if at all.
    squares = np.square((held_out.truth_u8 / 255.0 - held_out.ours_u8 / 255.0)[:, 2:14, 3:9])
    outside = np.delete(squares.mean(axis=(1, 2, 3)), 3).mean()
    assert head["ours"]["l2"] == pytest.approx(outside, rel=0.05)


def test_a_code_that_is_not_a_number_does_not_count(held_out, tmp_path):
    codes = held_out.codes.of_frames.codes.copy()
    codes[0] = np.nan
    of_frames = held_out.codes.of_frames._replace(codes=codes)
    broken = dataclasses.replace(
        held_out, codes=dataclasses.replace(held_out.codes, of_frames=of_frames)
    )
    metrics = evaluation_report.write_report(
        tmp_path, broken, baselines={}, protocol={}, fps=25.0, lpips_params={}
    )
    assert metrics["protocol"]["metrics"]["code_frames"] == 3
    assert metrics["code_correlation"]["jawOpen"] == pytest.approx(1.0)


def test_sets_are_compared_only_where_asked_for_and_never_under_a_wrong_name(
    held_out, report, tmp_path, monkeypatch
):
    assert not {"fid", "alexnet_frechet_distance"} & set(report[1])
    stated = report[1]["protocol"]["metrics"]["definitions"]
    assert not {"fid", "alexnet_frechet_distance"} & set(stated)
    large = dataclasses.replace(
        held_out,
        truth_u8=held_out.truth_u8.repeat(2, axis=1).repeat(2, axis=2),
        ours_u8=held_out.ours_u8.repeat(2, axis=1).repeat(2, axis=2),
    )

    def summarize(params, images_u8, *, chunk):  # a network of seconds in place of minutes
        assert params.keys() == {"weights"}
        return frechet.from_features(images_u8.mean(axis=(1, 2)))

    monkeypatch.setattr(inception, "from_images", summarize)
    alexnet = lpips.load_params("alex")
    metrics = evaluation_report.write_report(
        tmp_path,
        large,
        baselines={"same": large.truth_u8[::-1], "mean_image": large.truth_u8[:1]},
        protocol={},
        fps=25.0,
        lpips_params={},
        sets=evaluation_report.SetNetworks(alexnet=alexnet, inception_v3={"weights": jnp.ones(1)}),
    )
    for name in ("alexnet_frechet_distance", "fid"):
        assert metrics[name]["same"] == pytest.approx(0.0, abs=1e-4)
        assert metrics[name]["ours"] > 1e-3
        assert metrics[name]["mean_image"] is None
    definitions = metrics["protocol"]["metrics"]["definitions"]
    assert "not the FID" in definitions["alexnet_frechet_distance"]
    expected = frechet.alexnet_frechet_distance(
        *(frechet.from_images(alexnet, i, chunk=8) for i in (large.truth_u8, large.ours_u8))
    )
    assert metrics["alexnet_frechet_distance"]["ours"] == pytest.approx(expected)
    means = [frechet.from_features(i.mean(axis=(1, 2))) for i in (large.truth_u8, large.ours_u8)]
    assert metrics["fid"]["ours"] == pytest.approx(frechet.fid(*means))


def test_the_protocol_states_what_was_measured_and_how(report):
    protocol = report[1]["protocol"]
    assert protocol["data"] == "noise"
    assert protocol["learning_rate"] is None
    stated = protocol["metrics"]
    assert stated["resolution_px"] == [16, 16]
    assert stated["crop"] == "none"
    assert "sigma 1.5" in stated["definitions"]["ssim"]
    assert "lpips_vgg" not in stated["definitions"]
    assert set(stated["versions"]) == {"ganavatar_jax", "jax", "numpy"}


def test_pictures_and_video_are_large_enough_to_see(report):
    folder, _ = report
    sheet = np.asarray(Image.open(folder / "contact_sheet.png"))
    assert sheet.shape[0] > evaluation_report.SHEET_ROWS * 192
    assert sheet.shape[1] > 5 * 192
    with av.open(str(folder / "comparison.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.height >= 256
        assert stream.width >= 512
        assert sum(1 for _ in container.decode(video=0)) == FRAMES


def test_a_second_report_replaces_the_first_and_leaves_no_other_files(report, held_out, baselines):
    folder, _ = report
    without_codes = dataclasses.replace(held_out, codes=None)
    metrics = evaluation_report.write_report(
        folder, without_codes, baselines={}, protocol={}, fps=25.0, lpips_params={}
    )
    assert metrics["code_correlation"] is None
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    names = {"metrics.json", "per_frame.csv", "contact_sheet.png", "comparison.mp4"}
    assert {path.name for path in folder.iterdir()} == names


def test_inputs_that_do_not_fit_are_refused(held_out, tmp_path):
    with pytest.raises(ValueError, match="one render, id and camera"):
        dataclasses.replace(held_out, frame_ids=["1"])
    with pytest.raises(ValueError, match=r"\['frames'\] are keys of metrics.json"):
        evaluation_report.write_report(
            tmp_path,
            held_out,
            baselines={"frames": held_out.truth_u8},
            protocol={},
            fps=25.0,
            lpips_params={},
        )
    assert not any(tmp_path.iterdir())


def test_what_was_not_filmed_changes_no_number(held_out, baselines, tmp_path):
    filmed = np.full(held_out.truth_u8.shape[:3], 255, np.uint8)
    filmed[:, 13:] = 0
    seen = filmed[..., None] > 0
    truth = np.where(seen, held_out.truth_u8, np.uint8(255))

    def measure(name, elsewhere):
        ours = np.where(seen, held_out.ours_u8, np.uint8(elsewhere))
        return evaluation_report.write_report(
            tmp_path / name,
            dataclasses.replace(held_out, truth_u8=truth, ours_u8=ours, filmed=filmed),
            baselines=baselines,
            protocol={},
            fps=25.0,
            lpips_params={},
        )

    first, second = measure("first", 0), measure("second", 200)
    assert first == second
    apart = (held_out.ours_u8[:, :13].astype(float) - truth[:, :13]) ** 2 / 255.0**2
    assert first["ours"]["l2"] == pytest.approx(apart.mean(), rel=1e-5)
