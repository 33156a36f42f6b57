"""Codes unlike those that an avatar has seen are told from others, and brought back."""

import numpy as np
import pytest
from scipy import stats

from ganavatar_jax.faces import code_range

# Faces move along a few directions, and weights are not negative.
DRAWS = np.random.default_rng(0)
MIX = np.abs(DRAWS.normal(size=(2, 7)))
SEEN = DRAWS.gamma(1.5, size=(500, 2)) @ MIX + DRAWS.normal(scale=0.05, size=(500, 7))
OTHERS = DRAWS.gamma(1.5, size=(200, 2)) @ MIX + DRAWS.normal(scale=0.05, size=(200, 7))
KNOWN = code_range.fit(SEEN)


def test_what_is_like_the_pairs_is_inside():
    assert np.mean(KNOWN.score(OTHERS) <= 1.0) > 0.85
    assert np.mean(code_range.fit(SEEN).score(SEEN) <= 1.0) >= 0.95


def test_mixtures_that_nobody_showed_are_outside():
    # Each coefficient within its bounds, but not together: no limit by coefficient finds these.
    shuffled = np.stack([DRAWS.permutation(column) for column in OTHERS.T], axis=1)
    scores = np.concatenate([KNOWN.score(OTHERS), KNOWN.score(shuffled)])
    outside = np.arange(len(scores)) >= len(OTHERS)
    auc = stats.mannwhitneyu(scores[outside], scores[~outside]).statistic / len(OTHERS) ** 2
    assert auc > 0.95


def test_clamped_codes_are_inside_and_what_was_inside_stays():
    far = np.concatenate([OTHERS * 3.0, OTHERS])
    clamped = KNOWN.clamp(far)
    inside = KNOWN.score(far) <= 1.0
    np.testing.assert_allclose(clamped[inside], far[inside], rtol=1e-6)
    edge = SEEN[KNOWN._tree.query(far[~inside])[1]]
    lonely = KNOWN.score(edge) > 1.0  # the nearest face that was seen is itself a rare one
    assert (KNOWN.score(clamped[~inside])[~lonely] <= 1.0 + 1e-4).all()
    np.testing.assert_allclose(clamped[~inside][lonely], edge[lonely], atol=1e-4)


@pytest.mark.parametrize("codes", [np.zeros((1, 3)), np.zeros((9, 3))])
def test_codes_that_span_no_range_are_refused(codes):
    with pytest.raises(ValueError, match="Sample more pairs"):
        code_range.fit(codes)
