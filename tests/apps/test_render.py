"""The render task: a turntable at the avatar's own distance, and expressions in honest steps."""

import dataclasses
import types

import numpy as np
import pytest

from ganavatar_jax.apps import experiment_config, render
from ganavatar_jax.core import errors
from ganavatar_jax.faces import normalization, weight_table
from ganavatar_jax.geometry import cameras
from ganavatar_jax.runs import run_dir
from helpers import compiled, tiny_gan, tiny_runs

NAMES = ("jawOpen", "expression_0")
CODES = (np.random.default_rng(0).normal(size=(40, 2)) * [0.1, 2.0] + [0.3, 1.0]).astype(np.float32)
STEPS = np.array([-4.0, 0.0, 2.5])


@pytest.fixture(scope="module")
def persons():
    """The same network with codes that are standardised, fed raw, and fed raw by a stranger."""
    with compiled.quickly():
        known = tiny_gan.make_avatar(CODES, NAMES)
    raw = normalization.fit(CODES, NAMES, method="none")
    stranger = dataclasses.replace(raw, statistics=None)
    return {
        "standardize": known,
        "none": dataclasses.replace(known, normalizer=raw),
        "imported": dataclasses.replace(known, normalizer=stranger),
    }


def test_coefficients_are_pushed_from_the_face_at_rest(persons):
    rest = np.percentile(CODES, 25, axis=0)
    unit = np.array([0.7, 0.2])
    for kind in ("standardize", "none"):
        codes = render.sheet_codes(persons[kind], [1], STEPS, unit=unit)
        np.testing.assert_allclose(codes[:, 0], rest[0], rtol=1e-5)
        np.testing.assert_allclose(codes[:, 1], rest[1] + STEPS * 0.2, rtol=1e-4)
    codes = render.sheet_codes(persons["imported"], [1], STEPS, unit=np.ones(2))
    np.testing.assert_allclose(codes, np.column_stack([0 * STEPS, STEPS]))


@pytest.mark.parametrize(
    ("names", "captions", "step"),
    [
        (("jawOpen", "eyeBlinkLeft"), ("0.00", "1.00"), "slope"),
        (NAMES, ("-2.5 std", "+2.5 std"), "spread"),
    ],
)
def test_the_sheet_goes_from_no_weight_to_full_weight_where_a_table_knows(
    persons, monkeypatch, names, captions, step
):
    """Its last column is weight 1, in the units of the avatar's codes."""
    person = dataclasses.replace(
        persons["standardize"],
        normalizer=dataclasses.replace(persons["standardize"].normalizer, names=names),
    )
    asked, sheets = [], []
    monkeypatch.setattr(
        type(person), "encode", lambda self, codes, **_: asked.append(codes) or codes
    )
    monkeypatch.setattr(
        type(person),
        "render",
        lambda self, w, _: types.SimpleNamespace(image=np.zeros((len(w), 8, 8, 3), np.uint8)),
    )
    draw = render.media.contact_sheet
    monkeypatch.setattr(
        render.media, "contact_sheet", lambda p, **o: sheets.append(list(p)) or draw(p, **o)
    )
    render.make_expression_sheet(person, tiny_runs.resolve())
    assert (sheets[0][0], sheets[0][-1]) == captions
    moved = np.stack([codes[-1] for codes in asked]) - person.neutral_code
    if step == "slope":
        np.testing.assert_allclose(moved.max(), weight_table.load().of(names).max(), atol=1e-5)
    else:
        np.testing.assert_allclose(moved.max(), 2.5 * CODES.std(axis=0).max(), rtol=1e-4)


def test_the_turntable_starts_at_the_frontal_camera():
    lens = np.array([[2.0, 0.0, 0.48], [0.0, 2.2, 0.53], [0.0, 0.0, 1.0]], np.float32)
    frontal = tiny_runs.labels(np.zeros(1), radius=3.4, lens=lens)[0]
    config = experiment_config.RenderTaskConfig(frames=6)
    path = render.turntable(config, frontal)
    np.testing.assert_allclose(path[0], frontal, atol=1e-5)
    radii = np.linalg.norm(path[:, 3:12:4], axis=1)
    np.testing.assert_allclose(radii, 3.4, rtol=1e-5)
    near = render.turntable(dataclasses.replace(config, radius=2.0), frontal)
    np.testing.assert_allclose(np.linalg.norm(near[:, 3:12:4], axis=1), 2.0, rtol=1e-5)
    np.testing.assert_allclose(near[:, 16:], path[:, 16:])
    yaw_deg, _ = cameras.yaw_pitch_deg(cameras.from_label25(path).cam2world)
    np.testing.assert_allclose(np.asarray(yaw_deg) % 360, np.arange(6) * 60, atol=1e-3)


def test_a_split_without_codes_is_told(persons, monkeypatch, tmp_path):
    table = tiny_runs.make_table(
        np.zeros((3, 8, 8, 3), np.uint8),
        tiny_runs.labels(np.zeros(3)),
        codes=np.full((3, 2), np.nan, np.float32),
        names=NAMES,
        has=np.zeros(3, bool),
    )
    monkeypatch.setattr(render.avatar, "load", lambda *_: persons["standardize"])
    monkeypatch.setattr(render.frame_table, "load_split", lambda *_, **__: table)
    tiny_runs.without_earlier_stages(monkeypatch, render)
    with pytest.raises(errors.DataFormatError, match="held-out frame with a code; got none"):
        render.render(
            tiny_runs.resolve(evaluation={"codes": "dataset"}), run_dir.RunDir(tmp_path / "run")
        )


def test_views_are_named_by_the_side_they_are_seen_from():
    config = experiment_config.RenderTaskConfig(frames=8)
    labels = render.turntable(config, tiny_runs.labels(np.zeros(1), radius=2.7)[0])
    captions = list(render._side_captions(labels, np.zeros((8, 4, 4, 3), np.uint8)))
    assert captions[0] == "+0 deg"
    assert len(set(captions)) == 8
    turned = sorted(int(caption.removesuffix(" deg")) for caption in captions)
    assert turned == [-135, -90, -45, 0, 45, 90, 135, 180]
