"""The page computes what the avatar computes, and says how near it comes."""

import json

import numpy as np
import pytest

from ganavatar_jax.apps import export_web
from ganavatar_jax.core import errors
from ganavatar_jax.faces import code_range, precomputed
from ganavatar_jax.geometry import cameras, trajectories
from helpers import compiled, tiny_pages, web

NAMES, CODES = tiny_pages.NAMES, tiny_pages.CODES


@pytest.fixture(scope="module")
def person():
    return tiny_pages.make_person()


@pytest.fixture(scope="module")
def folder(person, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "me"
    folder.mkdir()
    with compiled.quickly():
        page = tiny_pages.export(folder, person)
    (folder / "packed.txt").write_text(web.carried(page)[2])
    return folder


def ask(folder, script, *arguments):
    head = """
    import fs from "node:fs";
    import { unpack } from "web/tensors.js";
    import { makeTexels, readAvatar, scoreCode } from "web/avatar.js";
    import { componentWeights, mapToW, normalize } from "web/mapping.js";
    const avatar = readAvatar(await unpack(fs.readFileSync(process.argv[1], "utf8")));
    const argument = JSON.parse(process.argv[2] ?? "null");
    const say = (value) => console.log(JSON.stringify(value));
    """
    return web.run(head + script, folder / "packed.txt", *map(json.dumps, arguments))


def test_the_page_tells_its_error_and_its_size(folder):
    report = json.loads((folder / "samples/web/avatar.json").read_text())
    page = (folder / "samples/web/avatar.html").read_bytes()
    assert report["bytes"] == len(page)
    assert report["psnr_db"] >= report["worst_psnr_db"] > 20.0  # an untrained one, six components
    assert f"{report['psnr_db']:.1f} dB" in web.carried(page.decode())[1]["about"]


def test_codes_become_the_w_of_the_avatar(person, folder):
    codes = np.concatenate([CODES[:3], 9.0 * CODES[:3]])  # some are cut off
    script = (
        "say(argument.map((c) => Array.from(mapToW(normalize(c, avatar.map), avatar.network))))"
    )
    found = ask(folder, script, codes.tolist())
    np.testing.assert_allclose(found, person.encode(codes), rtol=1e-4, atol=1e-5)


def test_planes_become_those_of_the_generator(person, folder):
    script = """
    const { layers, side } = avatar.field;
    const texels = new Float32Array(layers * side * side * 4);
    makeTexels(texels, argument, avatar);
    say(Array.from(texels));
    """
    found = np.reshape(ask(folder, script, CODES[35].tolist()), (3, 10, 10, 4))
    expected = export_web._plane_maker(person)(person.encode(CODES[35:36]))[0]
    expected = np.asarray(expected)
    used = found[:, 1:-1, 1:-1].any(axis=-1)
    assert used.mean() > 0.5
    apart = np.abs(found[:, 1:-1, 1:-1] - expected)[used]
    assert apart.max() < 0.1 * expected.std()
    assert not found[:, 0].any()


def test_scores_are_those_of_the_range(person, folder):
    codes = np.concatenate([CODES[32:], 2.0 * CODES[32:]])
    found = ask(folder, "say(argument.map((c) => scoreCode(c, avatar)))", codes.tolist())
    known = code_range.fit(np.asarray(person.normalizer.apply(CODES[:32])))
    np.testing.assert_allclose(found, known.score(person.normalizer.apply(codes)), rtol=1e-4)


def test_the_camera_turns_as_trajectories_do(person, folder):
    script = """
    const { turnCamera } = await import("web/camera.js");
    const [yawDeg, pitchDeg] = argument;
    say(Array.from(turnCamera(avatar.frontal, { yawDeg, pitchDeg, zoom: 1 })));
    """
    found = ask(folder, script, [33.0, -12.0])
    start = cameras.from_label25(person.frontal_label25)
    path = trajectories.around(start, np.float32([33.0]), np.float32([-12.0]))
    np.testing.assert_allclose(found, np.asarray(cameras.to_label25(path))[0], atol=1e-5)


def test_a_driving_file_is_read_and_restated_as_drive_does(person, folder):
    codes = CODES.copy()
    codes[3] = np.nan
    text = precomputed.to_json(("other", *NAMES[::-1]), [f"{i}.png" for i in range(40)],
                               np.hstack([codes[:, :1], codes[:, ::-1]]), fps=10.0)  # fmt: skip
    script = """
    const { Player, parseDriving, restate, selectCodes } = await import("web/player.js");
    const driving = parseDriving(argument);
    const rows = selectCodes(driving, avatar.names);
    const own = { mean: avatar.mean, std: avatar.std, largestGain: 2 };
    say([driving.timesS, rows, restate(rows, own), new Player(rows, driving.timesS).at(0.25)]);
    """
    times_s, rows, restated, between = ask(folder, script, text)
    filled = codes.copy()
    filled[3] = (codes[2] + codes[4]) / 2
    np.testing.assert_allclose(times_s, np.arange(40) / 10)
    np.testing.assert_allclose(rows, filled, atol=1e-6)
    np.testing.assert_allclose(between, (filled[2] + filled[3]) / 2, atol=1e-6)
    own = person.normalizer.statistics
    spread = np.maximum(filled.std(axis=0), own.std / 2)
    expected = (filled - filled.mean(axis=0)) * own.std / spread + own.mean
    np.testing.assert_allclose(restated, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expected a JSON file"),
        ("{}", 'Expected "names" and "codes"'),
        ('{"names": ["jawOpen"], "codes": {"0": [1, 2]}}', "Frame 0: expected 1 finite"),
        ('{"names": ["jawOpen"], "codes": {"0": [1]}}', "lacks eyeBlinkLeft"),
        ('{"names": ["jawOpen"], "codes": {"0": null}}', "holds no codes"),
    ],
)
def test_a_file_that_cannot_drive_is_told_in_a_line(folder, text, message):
    script = """
    const { parseDriving, selectCodes } = await import("web/player.js");
    try { selectCodes(parseDriving(argument), avatar.names); say("read"); }
    catch (error) { say(error.message); }
    """
    assert message in ask(folder, script, text)


def test_a_page_that_cannot_be_small_enough_is_refused(person, tmp_path):
    with pytest.raises(errors.ConfigError, match=r"max_mb=0\.2 is too small"), compiled.quickly():
        tiny_pages.export(tmp_path, person, max_mb=0.2)
    assert not (tmp_path / "samples").exists()
