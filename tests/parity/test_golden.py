"""Stage-by-stage agreement with tensors of the PyTorch original.

Every stage is compiled by itself: a failure names its stage, and XLA never sees the whole 512-pixel
generator at once (which takes minutes to compile on a CPU).
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import images
from ganavatar_jax.geometry import rays
from ganavatar_jax.losses import adversarial, density, density_config, r1
from ganavatar_jax.models import discriminator, generator, mapping
from ganavatar_jax.ops import resize
from ganavatar_jax.rendering import triplane, volume
from helpers import compare

golden = pytest.importorskip("helpers.golden")

pytestmark = pytest.mark.parity

_ALMOST_EMPTY = 1e-3  # opacity of a ray
CASES = ("eg3d_ffhq512", "ganavatar512_box", "eg3d_128")


@pytest.fixture(scope="module", params=CASES)
def case(request, golden_dir):
    """One golden network: configuration, weights and tensors."""
    return golden.load(golden_dir, request.param)


@pytest.fixture
def alone():
    """Two of the large gradients at once would not fit into the memory of a small machine."""
    with golden.one_at_a_time():
        yield


def _to_nhwc(x):
    return np.moveaxis(np.asarray(x, np.float32), 1, -1)


@functools.cache
def _stages(config):
    """The generator's stages, each compiled separately."""
    return types.SimpleNamespace(
        map=jax.jit(lambda v, z, c: generator.map_latent(v, z, c, config)),
        planes=jax.jit(lambda v, ws: generator.make_planes(v, ws, config)),
        query=jax.jit(lambda v, planes, points: generator.query(v, planes, points, config)),
        render=jax.jit(functools.partial(_render, config=config)),
        enlarge=jax.jit(
            lambda v, rgb, features, ws: generator.enlarge(v, rgb, features, ws, config)
        ),
    )


def _render(variables, planes, label25, draws, *, config):
    batch = label25.shape[0]
    side = config.neural_resolution
    origins, directions = rays.pixel_rays(
        label25[:, :16].reshape(batch, 4, 4), label25[:, 16:].reshape(batch, 3, 3), resolution=side
    )
    return volume.render(
        lambda points: generator.query(variables, planes, points, config),
        origins,
        directions,
        draws,
        config.render,
    )


def _draws(case, prefix=""):
    coarse = np.asarray(case.arrays[f"{prefix}u_coarse"], np.float32)[..., 0]
    fine = np.asarray(case.arrays[f"{prefix}u_fine"], np.float32)
    return volume.RenderDraws(
        coarse=jnp.asarray(coarse), fine=jnp.asarray(fine.reshape(*coarse.shape[:2], -1))
    )


def test_mapping(case):
    case.need("z", "ws", "ws_trunc")
    stages = _stages(case.config)
    w = stages.map(case.g, case.arrays["z"], case.arrays["c"])
    ws = generator.broadcast(w, case.config)
    compare.assert_parity(ws, case.arrays["ws"], limit=1e-4, name="ws")
    w_avg = case.g["buffers"]["backbone"]["mapping"]["w_avg"]
    cut = mapping.truncate(ws, w_avg, psi=0.7, cutoff=8)
    compare.assert_parity(cut, case.arrays["ws_trunc"], limit=1e-4, name="truncated ws")


def test_planes(case):
    planes = _stages(case.config).planes(case.g, case.arrays["ws_mixed"])
    flat = np.concatenate([np.asarray(planes[:, k]) for k in range(3)], axis=-1)
    expected = _to_nhwc(case.arrays["planes_sub"])
    step = flat.shape[1] // expected.shape[1]
    compare.assert_parity(flat[:, ::step, ::step], expected, limit=2e-4, name="planes")
    stats = np.stack([flat.mean((0, 1, 2)), flat.std((0, 1, 2), ddof=1)])
    compare.assert_parity(stats, case.arrays["planes_mean_std"], limit=2e-4, name="plane stats")


def test_rays(case):
    c = jnp.asarray(case.arrays["c"])
    origins, directions = rays.pixel_rays(
        c[:, :16].reshape(-1, 4, 4),
        c[:, 16:].reshape(-1, 3, 3),
        resolution=case.config.neural_resolution,
    )
    expected = case.arrays
    compare.assert_parity(origins[:, ::97], expected["ray_origins"], limit=1e-4, name="origins")
    compare.assert_parity(directions[:, ::97], expected["ray_dirs"], limit=1e-4, name="directions")


def test_points(case):
    stages = _stages(case.config)
    planes = stages.planes(case.g, case.arrays["ws_mixed"])
    count = planes.shape[1]
    look = functools.partial(
        triplane.lookup,
        points=jnp.asarray(case.arrays["points"]),
        axes=case.config.render.plane_axes,
        box_warp=case.config.render.box_warp,
    )
    alone = [jnp.zeros_like(planes).at[:, k].set(planes[:, k]) for k in range(count)]
    features = jnp.stack([count * look(one) for one in alone], axis=1)  # means of one and zeros
    compare.assert_parity(features, case.arrays["point_feats"], limit=1e-4, name="features")
    colors, sigma = stages.query(case.g, planes, case.arrays["points"])
    compare.assert_parity(colors, case.arrays["point_rgb"], limit=1e-4, name="colours")
    compare.assert_parity(sigma[..., None], case.arrays["point_sigma"], limit=1e-4, name="density")


@pytest.fixture(scope="module")
def rendered(case):
    """The volume-rendered features of a case, before super-resolution."""
    stages, arrays = _stages(case.config), case.arrays
    planes = stages.planes(case.g, jnp.asarray(arrays["ws_mixed"]))
    return stages.render(case.g, planes, jnp.asarray(arrays["c"]), _draws(case))


def test_rendering(case, rendered):
    arrays = case.arrays
    features = arrays["render_feats"].astype(np.float32)
    compare.assert_parity(rendered.features, features, limit=2e-3, name="rendered features")
    # In float32, 1 - exp(-x) has steps of 6e-8: on rays that hit almost nothing the distance is a
    # quotient of such residues, and the two programs' exp may differ by a step.
    depth, expected = np.asarray(rendered.t_expected)[..., None], arrays["render_depth"]
    hit = arrays["render_weights"] >= _ALMOST_EMPTY
    compare.assert_parity(depth[hit], expected[hit], limit=1e-3, name="depth")
    compare.assert_parity(depth, expected, limit=1e-3, share=0.999, name="depth of every ray")
    compare.assert_parity(
        rendered.opacity[..., None], arrays["render_weights"], limit=1e-3, name="weights"
    )


def test_image(case, rendered):
    case.need("image", "image_stats")
    stages, arrays = _stages(case.config), case.arrays
    ws = jnp.asarray(arrays["ws_mixed"])
    side = case.config.neural_resolution
    square = rendered.features.reshape(ws.shape[0], side, side, -1)
    image = stages.enlarge(case.g, square[..., :3], square, ws)
    step = 4 if case.config.img_resolution == 512 else 2
    expected = _to_nhwc(arrays["image"])
    compare.assert_parity(image[:, ::step, ::step], expected, limit=1e-3, name="image")
    error = np.mean((np.asarray(image[:, ::step, ::step]) - expected) ** 2)
    assert 10 * np.log10(4.0 / error) >= 60.0  # images span [-1, 1]
    flat = np.asarray(image).reshape(-1, 3)
    assert flat.shape[0] == ws.shape[0] * case.config.img_resolution**2
    stats = np.stack([flat.mean(0), flat.std(0, ddof=1)])
    compare.assert_parity(stats, arrays["image_stats"], limit=1e-3, name="image stats")


def _real(case):
    image = images.from_u8(case.arrays["d_image_u8"])
    return image, resize.resize(image, case.config.neural_resolution)


@pytest.mark.usefixtures("alone")
def test_discriminator_and_r1(case):
    case.need("d_image_u8", "d_logits")
    image, raw = _real(case)
    arrays = case.arrays
    compare.assert_parity(raw, _to_nhwc(arrays["d_image_raw"]), limit=1e-4, name="resized images")
    label = jnp.asarray(arrays["d_c"])

    def loss_fn(params):
        def logits_fn(i, r):
            return discriminator.apply({"params": params}, i, r, label, case.d_config)

        logits = logits_fn(image, raw)
        penalty = r1.r1_penalty(logits_fn, image, raw)
        real = jnp.mean(jax.nn.softplus(-logits)) + 2.5 * jnp.mean(penalty)
        return real, (logits, penalty)

    grad_fn = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, (logits, penalty)), gradients = grad_fn(case.d["params"])
    compare.assert_parity(logits, arrays["d_logits"], limit=1e-4, name="logits")
    compare.assert_parity(penalty, arrays["d_r1_penalty"], limit=1e-4, name="R1 penalty")
    compare.assert_parity(loss, arrays["d_real_r1_loss_gamma5"], limit=1e-4, name="D loss")
    golden.assert_gradients(
        gradients,
        case.d,
        arrays,
        prefix="d_r1_grad_",
        kind="discriminator",
        l2_limit=1e-3,
        cosine_limit=0.99999,
    )


def test_density_regulariser(case):
    arrays, config = case.arrays, case.config
    ws = jnp.asarray(arrays["ws_mixed"])
    points = jnp.asarray(arrays["dr_coords"])
    offsets = jnp.asarray(arrays["dr_perturbed"]) - points
    options = density_config.DensityConfig(weight=0.25, kind="l1", perturbation=1.0)
    draws = density.DensityDraws(points=points, offsets=offsets, front=None)
    stages = _stages(config)

    def loss_fn(params):
        variables = {**case.g, "params": params}
        planes = stages.planes(variables, ws)
        return density.density_loss(
            lambda p: stages.query(variables, planes, p)[1],
            draws,
            options,
            box_warp=config.render.box_warp,
        )

    loss, gradients = jax.value_and_grad(loss_fn)(case.g["params"])
    compare.assert_parity(loss, arrays["dr_loss"], limit=1e-4, name="density loss")
    golden.assert_gradients(
        gradients,
        case.g,
        arrays,
        prefix="dr_grad_",
        kind="generator",
        l2_limit=5e-3,
        cosine_limit=0.9999,
    )


# The 512-pixel cases take 14 GiB and a minute each.
@pytest.mark.parametrize(
    "case",
    [
        pytest.param("eg3d_ffhq512", marks=pytest.mark.parity_full),
        pytest.param("ganavatar512_box", marks=pytest.mark.parity_full),
        "eg3d_128",
    ],
    indirect=True,
)
@pytest.mark.usefixtures("alone")
def test_generator_loss(case):
    case.need("gm_z", "gm_logits")
    arrays, config = case.arrays, case.config
    stages = _stages(config)
    z, c = jnp.asarray(arrays["gm_z"]), jnp.asarray(arrays["gm_c"])
    draws = _draws(case, "gm_")
    judge = jax.jit(lambda image, raw: discriminator.apply(case.d, image, raw, c, case.d_config))

    def loss_fn(params):
        variables = {**case.g, "params": params}
        ws = generator.broadcast(stages.map(variables, z, c), config)
        planes = stages.planes(variables, ws)
        out = stages.render(variables, planes, c, draws)
        side = config.neural_resolution
        features = out.features.reshape(z.shape[0], side, side, -1)
        image = stages.enlarge(variables, features[..., :3], features, ws)
        logits = judge(image, features[..., :3])
        return adversarial.generator_loss(logits), logits

    (loss, logits), gradients = jax.value_and_grad(loss_fn, has_aux=True)(case.g["params"])
    compare.assert_parity(logits, arrays["gm_logits"], limit=1e-4, name="logits")
    compare.assert_parity(loss, arrays["gm_loss"], limit=1e-4, name="G loss")
    golden.assert_gradients(
        gradients,
        case.g,
        arrays,
        prefix="gm_grad_",
        kind="generator",
        l2_limit=5e-3,
        cosine_limit=0.9999,
    )
