"""The exported page in headless Chromium, from disk: what a person does with it works."""

import base64
import json
import pathlib

import av
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.apps import avatar
from ganavatar_jax.core import images
from ganavatar_jax.faces import precomputed
from ganavatar_jax.geometry import cameras, trajectories
from ganavatar_jax.models import generator
from helpers import chromium

pytestmark = pytest.mark.web

MOUTH = "jawOpen"
PICTURE = "document.getElementById('picture')"
MESSAGE = "document.getElementById('message').textContent"


@pytest.fixture(scope="module")
def folder(web_run: pathlib.Path) -> pathlib.Path:
    return web_run


@pytest.fixture(scope="module")
def person(folder):
    return avatar.Avatar.load(folder)


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    path = folder / "samples" / "web" / "avatar.html"
    with chromium.open_page(path, tmp_path_factory.mktemp("browser")) as page:
        page.wait("document.body && document.body.className")
        assert page.run("document.body.className") == "ready", page.run(MESSAGE)
        yield page
        assert page.errors == []


@pytest.fixture(autouse=True)
def reset(page):
    page.run("ganAvatar.page.reset()")


def raw_image(person, code, label25):
    ws = generator.broadcast(jnp.asarray(person.encode(code[None])), person.g_config)
    label25 = jnp.asarray(label25[None])
    out = generator.synthesize(dict(person.g), ws, label25, person.g_config)
    return images.to_u8(out.image_raw)[0]


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean(np.square(a.astype(float) - b)))


@pytest.mark.parametrize(("yaw_deg", "pitch_deg"), [(0.0, 0.0), (30.0, 10.0), (-50.0, -5.0)])
def test_all_rays_give_the_raw_image_of_the_avatar(page, person, yaw_deg, pitch_deg):
    code = np.asarray(person.neutral_code).copy()
    code[person.names.index(MOUTH)] += person.code_std[person.names.index(MOUTH)]
    page.run(f"ganAvatar.setCode({code.tolist()})")
    page.run(f"ganAvatar.setCamera({{yawDeg: {yaw_deg}, pitchDeg: {pitch_deg}}})")
    turned = trajectories.around(
        cameras.from_label25(person.frontal_label25),
        np.float32([yaw_deg]),
        np.float32([pitch_deg]),
    )
    expected = raw_image(person, code, np.asarray(cameras.to_label25(turned))[0])
    drawn = page.pixels(person.g_config.neural_resolution)
    assert drawn.std() > 10.0
    assert psnr(drawn, expected) >= 30.0


def test_no_request_leaves_the_machine(page):
    page.wait("ganAvatar.isComplete")
    asked = page.requests
    assert asked
    assert all(address.startswith(("file:", "data:", "blob:")) for address in asked), asked


def test_the_mouths_slider_changes_the_mouth_and_nothing_beyond_the_head(page):
    before = page.pixels(64)
    page.run(
        f"(() => {{ const s = document.querySelector('[name={MOUTH}]'); s.value = s.max;"
        " s.dispatchEvent(new Event('input')) })()"
    )
    after = page.pixels(64)
    changed = np.abs(after.astype(int) - before).max(axis=-1) > 24
    rows, columns = np.nonzero(changed)
    assert len(rows) > 10
    assert np.median(rows) > 32  # the lower half of the picture
    assert 20 < np.median(columns) < 44
    opacity = page.pixels(64, options="{view: 'opacity'}")[..., 0]
    beyond = opacity == 0
    assert beyond.any()
    assert np.abs(after.astype(int) - before)[beyond].max() <= 1


def test_dragging_and_keys_turn_the_head(page):
    before = page.pixels(32)
    box = page.run(f"{PICTURE}.getBoundingClientRect().toJSON()")
    left, top, width = box["left"], box["top"], box["width"]
    page.drag((left + width / 2, top + width / 2), (left + 0.7 * width, top + width / 2))
    assert page.run("ganAvatar.camera.yawDeg") == pytest.approx(-36.0, abs=1.0)
    assert np.abs(page.pixels(32).astype(int) - before).max() > 60
    page.run(f"{PICTURE}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowUp'}}))")
    assert page.run("ganAvatar.camera.pitchDeg") == 5


def test_play_runs_and_record_gives_a_film(page, tmp_path):
    assert page.run("document.getElementById('play').click(), !!ganAvatar.page.playing")
    page.run("document.getElementById('record').click()")
    begun = page.run("ganAvatar.updates")
    page.run("new Promise((resolve) => setTimeout(resolve, 3000))")
    updates = page.run("ganAvatar.updates") - begun
    page.run("document.getElementById('record').click()")
    page.wait("!!ganAvatar.page.recorded")
    script = "ganAvatar.page.recorded.arrayBuffer().then((b) => { let t = '';"
    script += " for (const x of new Uint8Array(b)) t += String.fromCharCode(x); return btoa(t) })"
    film = tmp_path / "film.webm"
    film.write_bytes(base64.b64decode(page.run(script)))
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) >= 5
    assert max(np.abs(frame.astype(int) - frames[0]).max() for frame in frames) > 24
    assert updates / 3.0 >= 5.0, f"{updates / 3.0:.1f} updates a second while moving"


def test_a_dropped_driving_file_plays(page, person):
    codes = np.tile(person.neutral_code, (20, 1))
    codes[:, person.names.index(MOUTH)] += np.linspace(0, 0.4, 20)
    text = precomputed.to_json(person.names, [str(i) for i in range(20)], codes, fps=20.0)
    drop = "ganAvatar.page.attempt(() => ganAvatar.page.drop(new File([{}], 'me.json')))"
    page.run(drop.format(json.dumps(text)))
    assert page.run(MESSAGE) == "me.json: 20 frames"
    neutral = page.run(f"ganAvatar.avatar.neutral[ganAvatar.names.indexOf('{MOUTH}')]")
    page.wait(f"Math.abs(ganAvatar.expression.{MOUTH} - {neutral}) > 0.02")
    page.run(drop.format("'{'"))
    assert "Expected a JSON file" in page.run(MESSAGE)


def test_whoever_embeds_the_page_may_drive_it_by_arkit_names(page):
    page.run(f"ganAvatar.getExpressionData = () => ({{ {MOUTH}: 0.3, tongueOut: 1 }})")
    page.wait(f"Math.abs(ganAvatar.expression.{MOUTH} - 0.3) < 1e-6")
    page.run("ganAvatar.getExpressionData = null")


def test_a_face_that_was_never_seen_turns_the_sliders_amber(page):
    code = page.run(
        "Array.from(ganAvatar.avatar.neutral, (m, i) => m + 8 * ganAvatar.avatar.std[i])"
    )
    page.run(f"ganAvatar.setCode({code}); ganAvatar.page.showRange()")
    assert page.run("document.body.classList.contains('outside')")
    page.run("ganAvatar.setCode(ganAvatar.avatar.neutral); ganAvatar.page.showRange()")
    assert not page.run("document.body.classList.contains('outside')")


def test_the_window_shows_the_face_that_is_asked_for(page, person, tmp_path):
    # What is on the screen, not what the renderer holds.
    shown = []
    for push in (0.0, 2.5):
        code = np.asarray(person.neutral_code).copy()
        code[person.names.index(MOUTH)] += push * person.code_std[person.names.index(MOUTH)]
        page.run(f"ganAvatar.setCode({code.tolist()})")
        page.wait("ganAvatar.isComplete")
        page.screenshot(tmp_path / "window.png")
        box = page.run(f"{PICTURE}.getBoundingClientRect().toJSON()")
        window = Image.open(tmp_path / "window.png").convert("RGB")
        place = [round(box[name]) for name in ("left", "top", "right", "bottom")]
        shown.append(np.asarray(window.crop(place).resize((64, 64))).astype(int))
        drawn = page.pixels(64).astype(int)
        assert np.abs(shown[-1] - drawn)[4:-4, 4:-4].mean() < 6
    assert np.abs(shown[1] - shown[0]).max() > 24
