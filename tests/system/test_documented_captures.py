"""The commands of the page on captures run as they stand there, on fixtures of their layouts."""

import json
import pathlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax import main
from ganavatar_jax.data import data_config
from helpers import layouts, phone_layouts

pytestmark = [pytest.mark.captures, pytest.mark.slow]

PAGE = pathlib.Path(data_config.__file__).parent / "formats" / "README.md"
SECTIONS = re.split(r"^### ", PAGE.read_text(), flags=re.M)[1:]
COMMANDS = {
    section.split()[0]: re.findall(r"^```bash\n(.*?)^```", section, re.M | re.S)[0]
    for section in SECTIONS
}
SIDE = 128
PICTURES = ("train", "overlays", "cameras", "coverage")
WITHOUT_MATTES = ("nerface", "multiface", "record3d", "polycam")


def write_colmap(folder, shots):
    return layouts.write_colmap(folder, shots, binary=True)


def write_video(folder, shots):
    folder.mkdir()
    layouts.save_video(folder / "me.mp4", [shot.image for shot in shots])
    return folder / "me.mp4"


WRITERS = {
    "eg3d": layouts.write_eg3d,
    "insta": layouts.write_insta,
    "nerface": layouts.write_nerface,
    "imavatar": layouts.write_imavatar,
    "multiface": layouts.write_multiface,
    "colmap": write_colmap,
    "nersemble": layouts.write_nersemble,
    "transforms": layouts.write_transforms,
    "record3d": phone_layouts.write_record3d,
    "polycam": phone_layouts.write_polycam,
    "tracker": phone_layouts.write_tracker,
    "vhap": phone_layouts.write_vhap,
    "video": write_video,
}


@pytest.fixture(scope="module")
def shots():
    frontal = [s for s in layouts.actor_shots(240, side=SIDE) if s.cam2world[2, 2] < -0.85]
    return frontal[:: len(frontal) // 40][:40]


def test_every_format_has_a_command_on_the_page():
    assert sorted(COMMANDS) == sorted(data_config.FormatName.__args__)
    assert sorted(WRITERS) == sorted(COMMANDS)


@pytest.mark.parametrize("name", WRITERS)
def test_the_command_of_a_layout_prepares_it(name, shots, repo_root, tmp_path):
    if name == "video":
        pytest.importorskip("pymatting")
        pytest.importorskip("pycolmap")
    program, *arguments = shlex.split(COMMANDS[name].replace("\\\n", " "))[2:]
    assert program == "ganavatar_jax.main"
    replaced = {
        "--config": f"--config={repo_root}/configs/monocular.py:small",
        "--workdir": f"--workdir={tmp_path / 'run'}",
        "--config.data.source": f"--config.data.source={WRITERS[name](tmp_path / 'me', shots)}",
    }
    arguments = [replaced.get(argument.split("=")[0], argument) for argument in arguments]
    own = ["--config.compile_cache=false", "--config.devices.cpu_virtual=0"]
    assert main.main(["main", *arguments, *own]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    mattes = () if name in WITHOUT_MATTES else ("alpha",)
    for picture in (*PICTURES, *mattes):
        assert f"samples/data/{picture}.png" in page
        path = tmp_path / "run" / "samples" / "data" / f"{picture}.png"
        assert np.asarray(Image.open(path)).std() > 1
    rows = json.loads((tmp_path / "run" / "samples" / "data" / "frames.json").read_text())
    # The head looks at +z after alignment, whatever the layout's axes were.
    assert np.abs([row["yaw_deg"] for row in rows]).max() < 60
    assert np.abs([row["pitch_deg"] for row in rows]).max() < 45
