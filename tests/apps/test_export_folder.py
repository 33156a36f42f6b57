"""The exported folder renders what the avatar renders, with four packages and nothing of ours."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.apps import export_folder
from ganavatar_jax.geometry import cameras, trajectories
from ganavatar_jax.runs import run_dir
from helpers import compiled, tiny_pages, tiny_runs

# Refuses what a machine would not have that has jax, numpy, safetensors and pillow only.
ALONE = """
import importlib.abc, runpy, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {"ganavatar_jax", "flax", "optax", "orbax", "chex", "jaxtyping", "skimage", "av"}:
            raise ModuleNotFoundError(name)
        if name == "flatbuffers":  # the folder's own only
            import importlib.machinery
            return importlib.machinery.PathFinder.find_spec(name, sys.path[-1:])
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert "third_party" in sys.modules["flatbuffers"].__file__
"""


@pytest.fixture(scope="module")
def person():
    return tiny_pages.make_person(white_back=True)


@pytest.fixture(scope="module")
def folder(person, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "me"
    return export_folder.export(person, tiny_runs.resolve(), run_dir.RunDir(path))


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(folder / "run.py"), *arguments],
        env={**os.environ, "PYTHONPATH": ""},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_script_renders_the_same_image(person, folder, tmp_path):
    done = run(folder, str(tmp_path / "out.png"), "jawOpen=0.9", "yaw=20", "pitch=-5")
    assert done.returncode == 0, done.stderr
    code = np.asarray(person.neutral_code).copy()
    code[person.names.index("jawOpen")] = 0.9
    turned = trajectories.around(
        cameras.from_label25(person.frontal_label25), np.float32([20.0]), np.float32([-5.0])
    )
    with compiled.quickly():
        expected = person.render(
            person.encode(code[None]), np.asarray(cameras.to_label25(turned))
        ).image[0]
    found = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    assert expected.std() > 1.0
    # A difference of 1e-4 may lie across the border of two levels.
    assert np.abs(found - expected).max() <= 1
    assert np.mean(found == expected) > 0.99


def test_a_name_that_the_avatar_does_not_know_is_told(folder):
    done = run(folder, "out.png", "mouthSmile=1")
    assert done.returncode == 1
    assert "expected some of jawOpen, eyeBlinkLeft, yaw, pitch; got mouthSmile" in done.stderr


def test_the_card_says_what_it_is(folder):
    card = (folder / "README.md").read_text()
    assert "python run.py out.png jawOpen=0.5" in card
    assert "{" not in card.replace("{name}", "{")
    assert len((folder / "run.py").read_text().splitlines()) < 40
