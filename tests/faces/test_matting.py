import sys

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.faces import matting


def test_the_border_of_a_matte_is_uncertain_and_the_rest_is_not():
    alpha = np.zeros((100, 100))
    alpha[30:70, 30:70] = 1.0
    trimap = matting.make_trimap(alpha)
    assert set(np.unique(trimap)) == {0.0, 0.5, 1.0}
    assert (trimap[34:66, 34:66] == 1.0).all()
    assert (trimap[:26] == 0.0).all()
    assert (trimap[30, 30:70] == 0.5).all()
    assert (trimap[28, 30:70] == 0.5).all()


def test_a_missing_pymatting_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymatting", None)
    with pytest.raises(errors.MissingDependencyError, match=r"\[preprocess\].*matte=none"):
        matting.SelfieMatter(method="fast")


def test_an_actor_is_cut_out():
    pytest.importorskip("pymatting")
    from ganavatar_jax.data.builders import gan_frames
    from ganavatar_jax.data.formats import eg3d

    matter = matting.SelfieMatter(method="fast", allow_download=False)
    with eg3d.open_capture(gan_frames.source_path("package:actor")) as capture:
        frame = capture.frames[0].load()
    found, truth = matter.matte(frame.image).alpha / 255, frame.alpha / 255
    assert np.minimum(found, truth).sum() / np.maximum(found, truth).sum() > 0.9
