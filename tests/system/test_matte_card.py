"""The benchmark of mattes, reduced: the shipped actor before busy rooms."""

import sys

import numpy as np
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
    parts = card.choose_parts(str(path), count=6, length=5)
    actor = card.matte_scenes.read_actor(path, parts=parts)
    film = card.matte_scenes.make_film(actor, scene, side=256, seed=0)
    ways = card.make_ways(None)
    found, _ = card.cut_out(film, ways["closed_form"])
    row = card.measure(film, found, 0.0)
    assert row.iou > 0.96
    assert row.leaps <= 0.04  # One of 24 pairs.
    assert row.refused == 0.0
    single, _ = card.cut_out(film, ways["closed_form, single frames"])
    assert row.edge < card.measure(film, single, 0.0).edge
    # A frame whose matte kept a piece of the room is refused, and no other.
    spoilt = list(found)
    alpha = spoilt[12].alpha.copy()
    alpha[:120, :120] = np.maximum(alpha[:120, :120], 255)
    spoilt[12] = card.matte_solver.Matte(alpha, spoilt[12].foreground)
    assert card.measure(film, spoilt, 0.0).refused == pytest.approx(1 / len(found))
