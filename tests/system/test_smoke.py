"""The whole method on the shipped sample, from a capture to a driven avatar, in one command."""

import json
import math
import shutil

import av
import numpy as np
import pytest
from PIL import Image

from ganavatar_jax import main
from ganavatar_jax.core import portable, trees
from ganavatar_jax.data.builders import expression_pairs
from helpers import compiled, public_names, smoke

pytestmark = pytest.mark.system

STAGES = ("prepare_data", "train_gan", "make_frontals", "train_mapping", "evaluate", "render")
METRICS = ("l2", "psnr", "ssim", "lpips_alex", "lpips_vgg")


command = smoke.command


@pytest.fixture(scope="module")
def workdir(smoke_run):
    """A run folder after the whole method."""
    return smoke_run


def picture(path):
    image_u8 = np.asarray(Image.open(path).convert("RGB"))
    assert image_u8.std() > 1.0, f"{path.name} is blank"
    return image_u8


def frames(path):
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


def test_the_run_folder_says_what_was_run_and_where(workdir):
    config = json.loads((workdir / "config.json").read_text())
    assert config["data"]["source"] == "package:actor"
    assert "jax: " in (workdir / "environment.txt").read_text()
    for stage in STAGES:
        assert json.loads((workdir / "stages" / f"{stage}.json").read_text())["stage"] == stage


def test_metrics_hold_every_phase_and_only_finite_numbers(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"train_gan", "train_mapping"}
    names = set().union(*lines)
    phases = {"loss/recon_l1", "loss/g", "loss/density", "loss/d", "loss/r1"}
    assert phases | {"validation/photometric"} <= names
    numbers = [v for line in lines for v in line.values() if isinstance(v, float | int)]
    assert np.isfinite(numbers).all()


def test_samples_and_renders_can_be_looked_at(workdir):
    for name in ("data/train.png", "frontals/frontals.png", "render/expressions.png"):
        picture(workdir / "samples" / name)
    grids = sorted((workdir / "samples" / "gan").glob("*.png"))
    assert len(grids) == 3  # before training, on the way, at the end
    first, *_, last = map(picture, grids)
    assert not np.array_equal(first, last)
    assert frames(workdir / "samples" / "render" / "turntable.mp4") == 4


def test_networks_are_exported_in_the_portable_format(workdir):
    for name in ("generator", "discriminator", "encoder", "mapping"):
        path = workdir / "checkpoints" / "export" / f"{name}.safetensors"
        variables, _ = portable.load_params(path)
        assert all(np.isfinite(leaf).all() for _, leaf in trees.flatten_names(variables))


def test_the_evaluation_has_every_number_of_its_schema(workdir):
    metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
    assert set(metrics) == {
        *("ours", "mean_image", "nearest_frame"),
        *("head", "regions", "openings", "alexnet_frechet_distance", "frames", "protocol"),
        *(f"code_{name}" for name in ("correlation", "slope", "range", "correlation_stored")),
        *(f"code_{name}_both_sides" for name in ("correlation", "slope", "range")),
        "code_correlation_stored_both_sides",
    }
    for candidate in ("ours", "mean_image", "nearest_frame"):
        values = metrics[candidate]
        assert set(values) == set(METRICS)
        assert all(math.isfinite(values[name]) for name in METRICS)
        assert values["l2"] > 0.0
        assert -1.0 <= values["ssim"] <= 1.0
    assert metrics["frames"] == 6
    assert set(metrics["regions"]) == {"mouth", "eyes"}
    assert "jawOpen" in metrics["code_correlation"]
    assert all(r is None or -1.0 <= r <= 1.0 for r in metrics["code_correlation"].values())
    assert metrics["code_slope"].keys() == metrics["code_correlation"].keys()
    assert set(metrics["head"]) == {"ours", "mean_image", "nearest_frame"}
    assert metrics["alexnet_frechet_distance"]["ours"] > 0.0
    assert metrics["protocol"]["estimator"] == "mediapipe"


def test_the_evaluation_shows_every_frame(workdir):
    folder = workdir / "evaluation"
    rows = (folder / "per_frame.csv").read_text().splitlines()
    assert len(rows) == 1 + 6
    picture(folder / "contact_sheet.png")
    assert frames(folder / "comparison.mp4") == 6


def snapshot(folder):
    """Content of every file but those that note each start from other code."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("commit.txt", "environment.txt")
    }


def test_running_again_has_nothing_to_do(workdir, repo_root, capsys):
    before = snapshot(workdir)
    assert main.main(command(repo_root, workdir)) == 0
    after = snapshot(workdir)
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()
    out, err = capsys.readouterr()
    for stage in STAGES[2:]:
        assert f"{stage}: complete" in out
    assert err == ""


@pytest.mark.slow
def test_a_run_continued_from_a_checkpoint_ends_in_the_same_networks(workdir, repo_root, tmp_path):
    def run(task, *options):
        with compiled.quickly():
            return main.main(command(repo_root, tmp_path / "run", f"--task={task}", *options))

    assert run("prepare_data") == 0
    assert run("train_gan", "--config.gan.total_kimg=0.016") == 0
    assert run("train_gan", "--config.data.cache_limit_mb=0") == 0  # images are on disk from here
    export = ("checkpoints", "export")
    for name in ("generator", "discriminator", "encoder"):
        through, _ = portable.load_params(workdir.joinpath(*export, f"{name}.safetensors"))
        resumed, _ = portable.load_params(tmp_path.joinpath("run", *export, f"{name}.safetensors"))
        resumed = dict(trees.flatten_names(resumed))
        for leaf, value in trees.flatten_names(through):
            np.testing.assert_array_equal(resumed[leaf], value, err_msg=f"{name}.{leaf}")


@pytest.mark.slow
def test_images_that_do_not_fit_in_memory_change_nothing(workdir, repo_root, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    for stage in ("make_frontals", "evaluate"):
        (tmp_path / "run" / "stages" / f"{stage}.json").unlink()
        options = (f"--task={stage}", "--config.data.cache_limit_mb=0")
        with compiled.quickly():
            assert main.main(command(repo_root, tmp_path / "run", *options)) == 0
    made, stored = (
        expression_pairs.load_pairs(folder / "dataset", "train")
        for folder in (tmp_path / "run", workdir)
    )
    for name in ("image", "w", "code"):
        np.testing.assert_array_equal(made[name], stored[name])
    for name in ("metrics.json", "per_frame.csv", "contact_sheet.png"):
        reported = (folder / "evaluation" / name for folder in (tmp_path / "run", workdir))
        assert len({path.read_bytes() for path in reported}) == 1, name
    names = {path.name for path in (tmp_path / "run" / "evaluation").iterdir()}
    assert names == {path.name for path in (workdir / "evaluation").iterdir()}


@pytest.fixture(scope="module")
def driven(workdir, repo_root, tmp_path_factory):
    """A copy of the run folder, driven by some frames of the shipped capture."""
    folder = tmp_path_factory.mktemp("driven") / "smoke"
    shutil.copytree(workdir, folder)
    # As a folder that was made before there was anything to drive it with.
    config = json.loads((folder / "config.json").read_text())
    del config["drive"]
    (folder / "config.json").write_text(json.dumps(config))
    assert main.main(drive(repo_root, folder, "package:actor", "--config.drive.end_s=0.4")) == 0
    return folder


def drive(repo_root, folder, source, *options):
    source = f"--config.drive.source={source}"
    return command(repo_root, folder, "--task=drive", source, *options)


def test_a_finished_avatar_is_driven_by_another_source(driven):
    folder = driven / "samples" / "drive" / "actor_sample"
    assert frames(folder / "driven.mp4") == frames(folder / "avatar.mp4") == 10
    picture(folder / "contact_sheet.png")
    codes = json.loads((folder / "codes.json").read_text())
    assert len(codes["codes"]) == 10
    assert "jawOpen" in codes["names"]
    assert not (driven / "stages" / "drive.json").exists()


def test_a_driven_avatar_can_be_driven_by_the_codes_that_were_read(driven, repo_root):
    codes = driven / "samples" / "drive" / "actor_sample" / "codes.json"
    assert main.main(drive(repo_root, driven, codes, "--config.drive.camera=orbit")) == 0
    assert frames(driven / "samples" / "drive" / "codes" / "driven.mp4") == 10


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("", (), "drive.source is not set"),
        ("nowhere.mp4", (), "nowhere.mp4: there is no such file"),
        ("package:actor", ("--config.drive.start_s=1000",), "lies behind its end"),
        ("package:actor", ("--config.drive.camera=above",), "config.drive.camera: expected one of"),
        ("package:actor", ("--config.drive.fps=-1",), "fps must lie in 0..240"),
    ],
)
def test_a_source_that_cannot_drive_leaves_what_was_there(
    driven, repo_root, capsys, source, options, message
):
    before = snapshot(driven / "samples")
    assert main.main(drive(repo_root, driven, source, *options)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert snapshot(driven / "samples") == before


def test_a_finished_avatar_becomes_a_page(driven, repo_root):
    before = snapshot(driven / "checkpoints")
    assert main.main(command(repo_root, driven, "--task=export_web")) == 0
    page = (driven / "samples" / "web" / "avatar.html").read_text()
    assert len(page) < 15e6
    report = json.loads((driven / "samples" / "web" / "avatar.json").read_text())
    assert report["worst_psnr_db"] > 20.0
    assert snapshot(driven / "checkpoints") == before


@pytest.mark.parametrize("name", ["README.md", "docs/api.md"])
def test_python_that_documents_show_runs_on_an_avatar(
    workdir, repo_root, tmp_path, monkeypatch, name
):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(workdir)
    monkeypatch.chdir(tmp_path)
    blocks = public_names.python_blocks((repo_root / name).read_text())
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), {})


def test_an_avatar_that_is_not_finished_is_not_driven(repo_root, tmp_path, capsys):
    assert main.main(drive(repo_root, tmp_path / "run", "package:actor")) == 2
    assert "--task=train_mapping" in capsys.readouterr().err
