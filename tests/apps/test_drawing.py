"""Frames come with alpha and depth, by few programs; planes are made once for a moving camera."""

import dataclasses

import numpy as np
import pytest

from helpers import compiled, tiny_pages

CODES = tiny_pages.CODES


@pytest.fixture(scope="module")
def person():
    with compiled.quickly():
        yield tiny_pages.make_person(white_back=True)


def circle(person, count):
    labels = np.tile(person.frontal_label25, (count, 1))
    labels[:, 3] = np.linspace(-0.2, 0.2, count)
    return labels


def test_nothing_is_compiled_at_a_second_call(person):
    w = person.encode(CODES[:20])
    for count in (20, 1):
        person.render(w[:count], circle(person, count))
    programs = person._drawer._compiled
    before = {name: program._cache_size() for name, program in programs.items()}
    for count in (17, 20, 9, 8, 1):
        person.render(w[:count], circle(person, count))
    assert {name: program._cache_size() for name, program in programs.items()} == before


def test_planes_are_kept_while_only_the_camera_moves(person, monkeypatch):
    made = []
    program = type(person._drawer)._program

    def listen(self, name):
        made.append(name)
        return program(self, name)

    monkeypatch.setattr(type(person._drawer), "_program", listen)
    one = np.repeat(person.encode(CODES[7:8]), 24, axis=0)
    orbit = person.render(one, circle(person, 24))
    person.render(one[:8], circle(person, 8))
    assert made.count("planes") == 1
    assert made.count("draw") == 4
    other = person.render(person.encode(CODES[9:10]), circle(person, 24)[:1])
    assert made.count("planes") == 2
    assert np.abs(other.image[0].astype(int) - orbit.image[0]).max() > 0


def test_a_frame_is_the_same_whatever_is_drawn_beside_it(person):
    w, labels = person.encode(CODES[:11]), circle(person, 11)
    whole = person.render(w, labels, batch_size=4)
    for index in (0, 10):
        alone = person.render(w[index : index + 1], labels[index])
        assert np.abs(alone.image[0].astype(int) - whole.image[index]).max() <= 1
        np.testing.assert_allclose(alone.alpha[0], whole.alpha[index], atol=1e-4)
        finite = np.isfinite(whole.depth[index])
        np.testing.assert_array_equal(np.isfinite(alone.depth[0]), finite)
        np.testing.assert_allclose(alone.depth[0][finite], whole.depth[index][finite], rtol=1e-3)


def test_alpha_is_what_the_background_does_not_show(person):
    black = dataclasses.replace(
        person,
        g_config=dataclasses.replace(
            person.g_config, render=dataclasses.replace(person.g_config.render, white_back=False)
        ),
    )
    w = person.encode(CODES[:2])
    with compiled.quickly():
        on_black = black.render(w, black.frontal_label25)
    on_white = person.render(w, person.frontal_label25)
    apart = (on_white.image.astype(float) - on_black.image) / 255.0
    unclipped = (on_white.image < 255) & (on_black.image > 0)
    assert unclipped.any()
    expected = np.broadcast_to(1.0 - on_white.alpha[..., None], apart.shape)
    np.testing.assert_allclose(apart[unclipped], expected[unclipped], atol=0.01)
    hit = np.isfinite(on_white.depth)
    assert hit.any()
    assert ((on_white.depth[hit] > 1.5) & (on_white.depth[hit] < 4.0)).all()
