"""The page's shader draws what the avatar's renderer computes, with each of its options."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.apps import export_web
from ganavatar_jax.core import images
from ganavatar_jax.geometry import cameras, trajectories
from helpers import compiled, gles, tiny_gan, tiny_pages, web

pytestmark = pytest.mark.web

SCRIPT = """
import fs from "node:fs";
import { unpack } from "web/tensors.js";
import { makeTexels, readAvatar } from "web/avatar.js";
import { completeShader } from "web/renderer.js";
const avatar = readAvatar(await unpack(fs.readFileSync(process.argv[1], "utf8")));
const { layers, side } = avatar.field;
const texels = new Float32Array(layers * side * side * 4);
makeTexels(texels, JSON.parse(process.argv[2]), avatar);
const fragment = completeShader(fs.readFileSync(process.argv[3], "utf8"), avatar.field);
console.log(JSON.stringify({ fragment, texels: Array.from(texels) }));
"""


@pytest.mark.parametrize(
    "render",
    [
        {},
        {"white_back": True, "plane_axes": "original"},
        {"ray_start": 2.2, "ray_end": 3.2, "disparity": True, "depth_resolution": 9},
        {"depth_resolution": 12, "depth_resolution_importance": 0, "box_warp": 1.2},
    ],
    ids=["plain", "original axes", "disparity", "coarse only"],
)
def test_the_shader_draws_what_the_renderer_computes(render, tmp_path):
    person = tiny_pages.make_person(**render)
    with compiled.quickly():
        page = tiny_pages.export(tmp_path, person)
    tensors, info, packed = web.carried(page)
    (tmp_path / "packed.txt").write_text(packed)
    code = tiny_pages.CODES[35]
    out = web.run(SCRIPT, tmp_path / "packed.txt", code.tolist(), web.WEB / "field.frag")
    turned = trajectories.around(
        cameras.from_label25(person.frontal_label25), np.float32([30.0]), np.float32([10.0])
    )
    label25 = np.asarray(cameras.to_label25(turned))[0]
    auto = person.g_config.render.ray_start == "auto"
    bounds = (0.0, 0.0) if auto else (info["render"]["ray_start"], info["render"]["ray_end"])
    texels = np.reshape(np.float32(out["texels"]), tensors["planes_mean"].shape)
    side = tiny_gan.SIDE
    drawn = gles.draw(
        (web.WEB / "field.vert").read_text(),
        out["fragment"],
        planes=texels,
        occupancy=tensors["occupancy"],
        decoder=tensors["decoder"],
        label25=label25,
        bounds=bounds,
        side=side,
    )
    planes = jnp.asarray(texels[:, 1:-1, 1:-1][None])
    copy = export_web.Copy(None, tensors["occupancy"] > 0, info["empty_density"])
    with compiled.quickly():
        raw = compiled.run(
            export_web.render_copy,
            dict(person.g),
            person.g_config,
            copy,
            planes,
            jnp.asarray(label25[None]),
        )
    expected = images.to_u8(raw)[0]
    assert expected.std() > 5.0
    # Half precision of the planes, and rays that miss the cube, which are empty in the page.
    apart = np.abs(drawn.astype(int) - expected).max(axis=-1)
    assert np.mean(apart <= 3) > 0.9
    assert dataclasses.asdict(person.g_config.render)["box_warp"] == info["render"]["box_warp"]
