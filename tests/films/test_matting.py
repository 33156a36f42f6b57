import sys

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.films import matte_solver, matting


def test_the_border_of_a_matte_is_uncertain_and_the_rest_is_not():
    alpha = np.zeros((100, 100))
    alpha[30:70, 30:70] = 1.0
    trimap = matte_solver.make_trimap(alpha)
    assert set(np.unique(trimap)) == {0.0, 0.5, 1.0}
    assert (trimap[34:66, 34:66] == 1.0).all()
    assert (trimap[:26] == 0.0).all()
    assert (trimap[30, 30:70] == 0.5).all()
    assert (trimap[28, 30:70] == 0.5).all()


def test_a_missing_pymatting_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymatting", None)
    with pytest.raises(errors.MissingDependencyError, match=r"\[preprocess\].*matte=none"):
        matting.SelfieMatter(method="fast")


def test_a_matte_that_is_linear_in_the_colors_is_enlarged_exactly():
    color = np.random.default_rng(0).random((32, 32, 3))
    small = color.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    slope, offset = np.array([0.2, -0.1, 0.4]), 0.2
    found = matte_solver.follow_colors(small @ slope + offset, small, color)
    # Windows at the border repeat pixels: less variance of colour than the flatness asks for.
    np.testing.assert_allclose(found[4:-4, 4:-4], (color @ slope + offset)[4:-4, 4:-4], atol=3e-3)


def test_an_enlarged_matte_has_the_edges_of_its_image():
    inside = np.zeros((64, 64))
    inside[:, 31:] = 1.0  # An odd column: no edge of the small image.
    color = np.where(inside[..., None] == 1, [0.8, 0.6, 0.5], [0.1, 0.3, 0.2])
    small = color.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    alpha = inside.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(matte_solver.follow_colors(alpha, small, color), inside, atol=1e-3)


@pytest.mark.slow  # PyMatting compiles itself: minutes on a busy machine
@pytest.mark.captures
@pytest.mark.parametrize(("method", "side"), [("fast", 128), ("closed_form", 512)])
def test_an_actor_is_cut_out(method, side):
    pytest.importorskip("pymatting")
    from ganavatar_jax.data.builders import gan_frames
    from ganavatar_jax.data.formats import eg3d

    matter = matting.SelfieMatter(method=method, allow_download=False)
    with eg3d.open_capture(gan_frames.source_path("package:actor")) as capture:
        frame = capture.frames[0].load()
    image, truth = (
        np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
        for pixels in (frame.image, frame.alpha)
    )
    found, truth = matter.matte(image).alpha / 255, truth / 255
    assert np.minimum(found, truth).sum() / np.maximum(found, truth).sum() > 0.95
