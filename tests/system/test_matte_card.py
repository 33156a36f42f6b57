"""The benchmark of mattes, reduced: the shipped actor before busy rooms."""

import sys

import pytest

from ganavatar_jax.data.builders import gan_frames

# PyMatting compiles itself: minutes on a busy machine.
pytestmark = [pytest.mark.captures, pytest.mark.slow]


@pytest.fixture
def card(repo_root, monkeypatch):
    pytest.importorskip("pymatting")
    monkeypatch.syspath_prepend(str(repo_root / "experiments"))
    yield __import__("matte_card")
    for name in ("matte_card", "matte_scenes", "script"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("scene", ["bokeh", "shelf", "leaves"])
def test_an_actor_is_cut_out_of_a_busy_room(card, scene):
    path = gan_frames.source_path("package:actor")
    # Single frames: those of the sample do not follow each other closely.
    parts = card.choose_parts(str(path), count=30, length=1)
    actor = card.matte_scenes.read_actor(path, parts=parts)
    film = card.matte_scenes.make_film(actor, scene, side=256, seed=0)
    ways = card.make_ways(None)
    rows = {}
    for way in ("closed_form", "closed_form, single frames"):
        rows[way] = card.measure(film, *card.cut_out(film, ways[way]))
    found, single = rows.values()
    assert found.iou > 0.95
    assert found.iou > single.iou - 0.003
    assert found.iou_least > single.iou_least - 0.003
    assert found.edge < single.edge + 0.002
    assert found.leaps == 0.0
