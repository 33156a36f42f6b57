"""What the stage makes again, and what it leaves, when options change."""

import contextlib
import logging

import pytest
from PIL import Image, ImageOps

from ganavatar_jax.apps import command_line, completeness, experiment, prepare_data
from ganavatar_jax.core import errors
from ganavatar_jax.films import video_capture
from helpers import layouts


@pytest.fixture
def film(tmp_path, monkeypatch):
    """A video whose capture needs no face to be read."""
    shots = layouts.actor_shots(10)

    def prepare_video(config, estimator, folder, *, progress=None):
        if not folder.is_dir():
            layouts.write_eg3d(folder, shots)
        return {"frames": 10} | ({"truth_rotation_deg": 0.25} if config.video.truth else {})

    monkeypatch.setattr(video_capture, "prepare_video", prepare_video)
    config = command_line.load_config("configs/monocular.py:smoke")
    config.data.source, config.data.format = str(tmp_path / "me.mp4"), "video"
    return config


def test_a_truth_named_later_reaches_the_report_and_leaves_the_dataset(film, tmp_path):
    run = tmp_path / "run"
    resolved, opened = experiment.open_run(film, run, prepares=True)
    prepare_data.prepare(resolved, opened)
    assert "truth rotation deg" not in (run / "report.html").read_text()
    done = opened.stage_done(prepare_data.STAGE)
    data = {p: p.stat().st_mtime_ns for p in (run / "dataset").rglob("*") if p.is_file()}

    film.data.video.truth = "truth.zip"
    resolved, opened = experiment.open_run(film, run, prepares=True)
    prepare_data.prepare(resolved, opened)
    assert "<th>video: truth rotation deg</th><td>0.25</td>" in (run / "report.html").read_text()
    assert opened.stage_done(prepare_data.STAGE) == done  # no later stage is stale
    assert {p: p.stat().st_mtime_ns for p in data} == data

    film.generator.render.box_warp = 0.8  # nothing is trained yet: all options may change
    resolved, opened = experiment.open_run(film, run, prepares=True)
    prepare_data.prepare(resolved, opened)
    assert {p: p.stat().st_mtime_ns for p in data} == data

    written = (run / "report.html").stat().st_mtime_ns
    prepare_data.prepare(resolved, opened)
    assert (run / "report.html").stat().st_mtime_ns == written
    (run / "samples" / "data" / "report.json").unlink()  # as if interrupted before the report
    prepare_data.prepare(resolved, opened)
    assert (run / "report.html").stat().st_mtime_ns > written
    assert opened.stage_done(prepare_data.STAGE) == done


def test_a_run_interrupted_between_the_dataset_and_its_marker_is_noticed(
    film, tmp_path, monkeypatch
):
    resolved, opened = experiment.open_run(film, tmp_path / "run", prepares=True)
    prepare_data.prepare(resolved, opened)
    before = opened.read_marker(prepare_data.STAGE).identity
    [image, *_] = (tmp_path / "run" / "dataset" / "video_capture" / "images").rglob("*.*")
    with Image.open(image) as picture:
        edited = ImageOps.invert(picture.convert("RGB"))
    edited.save(image)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_data.completeness, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_data.prepare(resolved, opened)
    assert opened.read_marker(prepare_data.STAGE).identity == before
    assert not completeness.judge(prepare_data.STAGE, resolved, opened).stands
    prepare_data.prepare(resolved, opened)  # the splits are those of before: only it tells
    assert opened.read_marker(prepare_data.STAGE).identity.made != before.made
    assert completeness.judge(prepare_data.STAGE, resolved, opened).stands


def test_another_dataset_is_told_to_later_stages(film, tmp_path):
    resolved, opened = experiment.open_run(film, tmp_path / "run", prepares=True)
    prepare_data.prepare(resolved, opened)
    film.data.split.test_fraction = 0.3
    resolved, opened = experiment.open_run(film, tmp_path / "run", prepares=True)
    prepare_data.prepare(resolved, opened)
    assert opened.stage_done(prepare_data.STAGE)["splits"] == {"train": 7, "test": 3}
    film.data.split.test_fraction = 0.1  # a stage that would not prepare anew
    with pytest.raises(errors.RunError, match="data.split.test_fraction"):
        experiment.open_run(film, tmp_path / "run")
    opened.metrics.write_text("{}")  # training has begun
    film.data.split.test_fraction = 0.2
    with pytest.raises(errors.RunError, match="data.split.test_fraction"):
        experiment.open_run(film, tmp_path / "run", prepares=True)


def test_every_stage_is_named_when_it_begins(caplog):
    with contextlib.ExitStack() as stack, caplog.at_level(logging.INFO):
        show = prepare_data._Bars(stack)
        show.stage("landmarks", 0, 400)
        assert "prepare_data: reading faces." in caplog.text
        show.stage("landmarks", 100, 400)
        show.stage("poses", 0, 400)
        assert "prepare_data: finding the head's poses." in caplog.text
        show.stage("another", 0, 1)
        assert "prepare_data: another." in caplog.text
    assert caplog.text.count("reading faces") == 1


def test_what_was_found_about_a_film_is_told(caplog):
    clip = {
        "line": "turns 14 degrees to the left, 9 to the right, nods 6",
        "advice": ["nod slowly", "come nearer"],
        "flags": [{"kind": "roll", "message": "the head is tilted", "frames": [3]}],
    }
    with caplog.at_level(logging.INFO):
        prepare_data._tell("me.mp4", clip)
        prepare_data._tell("old.mp4", {})  # prepared by an earlier version
    told = [(record.levelname, record.message) for record in caplog.records]
    assert told == [
        ("INFO", "me.mp4: the head turns 14 degrees to the left, 9 to the right, nods 6."),
        ("INFO", "me.mp4: for a better film: nod slowly; come nearer."),
        ("WARNING", "me.mp4: the head is tilted"),
    ]
