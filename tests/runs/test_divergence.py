"""Losses that rise far above their start are told; those of a sound training are not."""

import json

import pytest

from ganavatar_jax.runs import divergence


@pytest.fixture
def watch(tmp_path):
    def make(*lines):
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(json.dumps({"step": 1, "stage": "gan", **x}) + "\n" for x in lines))
        return divergence.DivergenceWatch(
            path, stage="gan", names=("loss/g", "loss/l1"), advice="Lower the rates."
        )

    return make


def test_a_loss_far_above_its_start_is_told_once_and_at_the_end(watch, caplog):
    watching = watch()
    watching.look(1, {"loss/g": 0.7, "loss/l1": 3.9})
    watching.look(2, {"loss/g": 6.0, "loss/l1": 30.0})
    assert not caplog.records
    watching.look(3, {"loss/g": 0.7, "loss/l1": 1741.0})
    watching.look(4, {"loss/l1": 1741.0})
    watching.look(5, {"loss/l1": 1742.0}, last=True)
    assert [r.getMessage().split(";")[0] for r in caplog.records] == [
        f"gan: losses are far above those at the start by step {step}: loss/l1 {value} "
        "(at first 3.9)"
        for step, value in ((3, 1741), (5, 1742))
    ]
    assert caplog.text.count("Lower the rates.") == 2


def test_a_resumed_training_is_compared_with_its_own_start(watch, caplog):
    watching = watch({"loss/l1": None}, {"loss/l1": 2.0}, {"loss/l1": 900.0})
    watching.look(9, {"loss/l1": 25.0})
    assert "loss/l1 25 (at first 2)" in caplog.text


def test_other_metrics_and_other_stages_are_passed_over(watch, caplog):
    watching = watch({"stage": "mapping", "loss/l1": 1e-3})
    watching.look(1, {"loss/r1": 1e-6, "loss/g": 0.1})
    watching.look(2, {"loss/r1": 500.0, "loss/g": 9.0})
    assert not caplog.records


# Sides that win, and copies.


def watch_gan(tmp_path, *lines):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": i, "kimg": 0.0, "stage": "train_gan", **line} for i, line in enumerate(lines)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return divergence.GanWatch(path, stage="train_gan")


def test_samples_that_become_copies_are_warned_of_once(tmp_path, caplog):
    watch = watch_gan(tmp_path, {"samples/spread": 0.4})  # before a resume
    watch.look(10, {"samples/spread": 0.09})
    assert caplog.text == ""
    for step in (20, 30):
        watch.look(step, {"samples/spread": 0.07})
    assert caplog.text.count("samples differ 0.07 from each other by step 20, 0.4 at most") == 1
    assert "mode collapse" in caplog.text


def test_a_discriminator_that_has_won_is_warned_of_after_three_lines(tmp_path, caplog):
    watch = watch_gan(tmp_path)
    won = {"scores/real": 20.0, "scores/fake": -15.0}
    for values in (won, won, {"scores/real": 1.0, "scores/fake": -1.0}, won, won):
        watch.look(1, values)
    assert caplog.text == ""
    watch.look(7, won)
    watch.look(8, won)
    assert caplog.text.count("lie 35 apart by step 7: the discriminator tells them apart") == 1
