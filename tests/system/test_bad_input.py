"""Captures and configs that cannot be used are answered by the program in one line.

What each reader refuses, and in which words, is tested beside it (tests/data); here the whole way
to the user is: exit code 2, one line on stderr that says what to do, and nothing lost on disk.
"""

import os

import numpy as np
import pytest

from ganavatar_jax import main
from helpers import captures

pytestmark = pytest.mark.system

FIRST = "images/0000.png"
SIDE = 32  # of the smoke variant
LABEL = captures.LABEL


def replace_label(*values):
    """Gives the first frame another label."""
    return lambda capture: capture.labels[0].__setitem__(1, list(values))


def drop_labels(capture):
    """Leaves the capture without dataset.json."""
    capture.files["readme.json"] = b"{}"
    capture.labels = None


def write(capture, folder):
    """Writes a capture; one without labels has no dataset.json at all."""
    path = capture.write_folder(folder)
    if capture.labels is None:
        (path / "dataset.json").unlink()
    return path


def scaled(factor):
    """A label whose rotation is not one."""
    cam2world = np.array(LABEL[:16]).reshape(4, 4)
    cam2world[:3, :3] *= factor
    return [*cam2world.ravel().tolist(), *LABEL[16:]]


def cut_image(capture):
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    capture.files[FIRST] = captures.encode(noise, "jpeg")[:-60]


def small_images(capture):
    for index in range(6):
        capture.files[f"images/{index:04d}.png"] = captures.encode(captures.image(index, side=16))
        capture.files[f"alpha/{index:04d}.png"] = captures.encode(captures.matte(16))


CAPTURES = {
    "no dataset.json": (drop_labels, "dataset.json"),
    "24 floats": (replace_label(*LABEL[:24]), f"{FIRST}: expected a label of 25 numbers; got 24"),
    "strings": (replace_label(*map(str, LABEL)), f"{FIRST}: label entry 0 must be a number"),
    "rotation": (replace_label(*scaled(1.01)), "orthonormal"),
    "pixel units": (replace_label(*LABEL[:16], 1092.0, *LABEL[17:]), "normalized"),
    "no picture": (lambda c: c.files.__setitem__(FIRST, b"?"), f"{FIRST}: cannot be read"),
    "cut picture": (cut_image, f"{FIRST}: the image is damaged"),
    "too small": (small_images, "measure 16 pixels, less than data.resolution=32"),
    "no training frames": (
        lambda c: c.meta.update(split={"train": [], "test": [FIRST]}),
        'no frames in "train"',
    ),
}

OPTIONS = {
    "everything held out": (
        ["--config.data.split.policy=trailing_frames", "--config.data.split.test_frames=6"],
        'data.split.policy "trailing_frames" leaves no training frames of 6',
    ),
    "nothing held out": (
        [
            "--config.data.split.policy=trailing_fraction",
            "--config.data.split.test_fraction=0.01",
        ],
        'data.split.policy "trailing_fraction" leaves no held-out frames of 6',
    ),
    "unknown policy": (["--config.data.split.policy=best"], "config.data.split.policy: expected"),
    "unknown key": (["--config.gan.gama=1"], 'did you mean "config.gan.gamma"?'),
    "wrong type": (["--config.gan.batch_size=few"], "--config.gan.batch_size=few"),
    "wrong range": (["--config.gan.batch_size=0"], "batch_size must be positive; got 0"),
    "seed": (["--config.gan.seed=-1"], "config.gan: seed must not be negative; got -1"),
    "mapping seed": (["--config.mapping.seed=-1"], "config.mapping: seed must not be negative"),
    "first seed": (["--config.frontal.first_seed=-1"], "first_seed must not be negative"),
    "sizes": (["--config.data.resolution=16"], "must be equal; got 16, 32 and 32"),
    "stage too early": (["--task=evaluate"], "--task=train_mapping"),
    "no such source": (["--config.data.source=nowhere.zip"], "nowhere.zip: no such folder or zip"),
}


@pytest.fixture
def call(repo_root, tmp_path, monkeypatch, capsys):
    """Runs the program on a capture in a run folder that holds something already."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")

    def run(capture, *options, config=None, workdir="run"):
        source = write(capture, tmp_path / "capture")
        config = config or repo_root / "configs" / "monocular.py"
        code = main.main(
            [
                "main",
                f"--config={config}:smoke",
                f"--workdir={workdir}",
                "--task=prepare_data",
                "--config.compile_cache=false",
                "--config.devices.cpu_virtual=0",
                f"--config.data.source={source}",
                *options,
            ]
        )
        return code, capsys.readouterr().err

    return run


def assert_refused(answer, message, folder):
    code, err = answer
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert code == 2
    assert (folder / "run" / "notes.txt").read_text() == "mine"
    assert not list((folder / "run").rglob("*.array_record*"))


def test_the_capture_is_fine_before_it_is_broken(call, tmp_path):
    code, err = call(captures.make(side=SIDE))
    assert code == 0, err
    assert (tmp_path / "run" / "stages" / "prepare_data.json").is_file()


@pytest.mark.parametrize("case", CAPTURES)
def test_a_capture_that_cannot_be_used_is_refused_in_one_line(case, call, tmp_path):
    change, message = CAPTURES[case]
    capture = captures.make(side=SIDE)
    change(capture)
    assert_refused(call(capture), message, tmp_path)


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_cannot_be_meant_are_refused_in_one_line(case, call, tmp_path):
    options, message = OPTIONS[case]
    assert_refused(call(captures.make(side=SIDE), *options), message, tmp_path)


def test_a_config_file_with_a_key_of_its_own_is_refused(call, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ganavatar_jax.apps import presets\n\n\n"
        "def get_config(variant):\n"
        "    config = presets.smoke(presets.full())\n"
        "    config.generator.render.ray_strat = 1\n"
        "    return config\n"
    )
    message = (
        'config.generator.render.ray_strat: unknown key "ray_strat"; did you mean "ray_start"?'
    )
    assert_refused(call(captures.make(side=SIDE), config="mine.py"), message, tmp_path)


def test_a_run_folder_without_permission_is_refused(call, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    # Root may write into it all the same; nobody may make folders in /proc.
    workdir = "/proc/run" if os.access(locked, os.W_OK) else locked / "run"
    answer = call(captures.make(side=SIDE), workdir=workdir)
    assert_refused(answer, f"{workdir}: cannot be written", tmp_path)


def test_a_broken_frame_leaves_the_dataset_that_was_there(call, tmp_path):
    assert call(captures.make(side=SIDE))[0] == 0
    files = sorted((tmp_path / "run" / "dataset").rglob("*.array_record*"))
    before = [path.read_bytes() for path in files]
    broken = captures.make(side=SIDE)
    cut_image(broken)
    code, err = call(broken)
    assert (code, len(err.splitlines())) == (2, 1)
    assert [path.read_bytes() for path in files] == before
