"""An avatar multiplies as its own run did, whatever the rest of the process is set to."""

import json

import jax
import numpy as np
import pytest

from ganavatar_jax.apps import avatar, command_line
from ganavatar_jax.models import generator
from ganavatar_jax.training import mapping_step
from helpers import tiny_gan

NAMES = ("jawOpen", "eyeBlinkLeft")


@pytest.fixture(scope="module")
def person():
    codes = np.random.default_rng(0).uniform(size=(20, 2)).astype(np.float32)
    return tiny_gan.make_avatar(codes, NAMES)


@pytest.fixture
def seen(monkeypatch):
    """What the networks are told of precision, by the name of the network."""
    found = {}

    def listen(module, name):
        original = getattr(module, name)

        def heard(*arguments, **options):
            found[name] = jax.config.jax_default_matmul_precision
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, heard)

    listen(mapping_step, "predict_w")
    listen(generator, "make_planes")
    listen(generator, "render_planes")
    return found


def test_its_networks_multiply_in_full_precision_in_any_process(person, seen):
    with jax.default_matmul_precision("default"):
        # As many codes as no other test has: a program is traced once for all avatars.
        w = person.encode(np.zeros((300, 2), np.float32))
        person.render(w[:1], person.frontal_label25)
    names = ("predict_w", "make_planes", "render_planes")
    assert seen == dict.fromkeys(names, "highest")


def test_a_run_hands_its_precision_to_its_avatar(person, tmp_path, monkeypatch):
    config = command_line.load_config("configs/quickstart.py:smoke")
    config.devices.matmul_precision = "high"
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    monkeypatch.setattr(avatar.completeness, "check_avatar", lambda *_: None)
    monkeypatch.setattr(avatar, "load_generator", lambda *_: person.g)
    monkeypatch.setattr(avatar, "_assemble", lambda *_: person)
    assert person.matmul_precision == "highest"
    assert avatar.Avatar.load(tmp_path).matmul_precision == "high"
