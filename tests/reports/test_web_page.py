"""The page is one file that asks for nothing, and its script is one that a browser can read."""

import re
import subprocess

import numpy as np
import pytest

from ganavatar_jax.reports import web_page
from helpers import web


@pytest.fixture(scope="module")
def page():
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.int8([-1, 2])}
    return web_page.assemble(web_page.pack(tensors, {"avatar": "{}"}), title="me & <you>")


def test_the_page_names_no_address_and_refuses_requests(page):
    assert "me &amp; &lt;you&gt;" in page
    assert not re.findall(r"https?://|src=|href=|@import|url\(", page)
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#x27;none&#x27;")
    assert "connect-src &#x27;none&#x27;" in policy


def test_only_the_address_that_the_user_names_may_be_asked():
    page = web_page.assemble("", title="x", script_address="https://me.example/face.js")
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.count("https://me.example") == 3
    assert "face.js" not in policy


def test_the_joined_script_is_one_that_a_browser_can_read(page, tmp_path):
    [script] = re.findall(r"<script>\n(.*?)</script>", page, re.S)
    assert not re.findall(r"^(import|export) ", script, re.M)
    (tmp_path / "page.cjs").write_text(script)
    command = [web.node(), "--check", str(tmp_path / "page.cjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"class {name} " in script for name in ("LiveAvatar", "FieldRenderer", "Page"))


def test_what_is_packed_is_read_in_the_browser(page, tmp_path):
    *_, packed = web.carried(page)
    (tmp_path / "packed.txt").write_text(packed)
    script = """
    import fs from "node:fs";
    import { unpack } from "web/tensors.js";
    const { tensors, metadata } = await unpack(fs.readFileSync(process.argv[1], "utf8"));
    const lists = Object.entries(tensors).map(([k, t]) => [k, [t.shape, Array.from(t.data)]]);
    console.log(JSON.stringify([Object.fromEntries(lists), metadata]));
    """
    tensors, metadata = web.run(script, tmp_path / "packed.txt")
    assert tensors == {"a": [[2, 3], [0, 1, 2, 3, 4, 5]], "b": [[2], [-1, 2]]}
    assert metadata == {"avatar": "{}"}


def test_half_precision_is_read_as_numpy_reads_it():
    halves = np.float16([0, -0.0, 1, -2.5, 65504, 6e-8, 6.1e-5, np.inf, -np.inf, 3.14159])
    script = """
    import { widen } from "web/tensors.js";
    const halves = Uint16Array.from(JSON.parse(process.argv[1]));
    const texts = Array.from(widen(halves)).map((x) => Number.isFinite(x) ? x : String(x));
    console.log(JSON.stringify(texts));
    """
    read = web.run(script, halves.view(np.uint16).tolist())
    np.testing.assert_array_equal(np.array(read, float), halves.astype(float))


def test_channels_come_in_fours_within_a_border_of_zeros():
    planes = np.arange(3 * 2 * 2 * 5, dtype=np.float32).reshape(3, 2, 2, 5) + 1
    texels = web_page.texels(planes)
    assert texels.shape == (6, 4, 4, 4)
    np.testing.assert_array_equal(texels[2, 1:3, 1:3], planes[1, ..., :4])
    np.testing.assert_array_equal(texels[3, 1:3, 1:3, 0], planes[1, ..., 4])
    assert not texels[3, 1:3, 1:3, 1:].any()
    assert not texels[:, 0].any()
    assert not texels[:, :, -1].any()


def test_the_decoder_block_is_that_of_column_major_matrices():
    draws = np.random.default_rng(0)
    first, second = draws.normal(size=(8, 4)), draws.normal(size=(4, 4))
    layers = {"first": (first, np.arange(4.0)), "second": (second, np.arange(4.0) + 9)}
    block, groups = web_page.decoder_block(layers)
    assert groups == 1
    x = draws.normal(size=8)
    matrices = block[:32].reshape(2, 4, 4)  # [input group, column, row]
    hidden = block[32:36] + sum(
        m.T @ part for m, part in zip(matrices, x.reshape(2, 4), strict=True)
    )
    np.testing.assert_allclose(hidden, x @ first + np.arange(4.0), rtol=1e-5)
    np.testing.assert_allclose(block[36:52].reshape(4, 4), second, rtol=1e-6)
    np.testing.assert_array_equal(block[52:], np.arange(4.0) + 9)
