"""Codes that were read with errors are inverted in full, and rare expressions are made."""

import numpy as np
import pytest

from ganavatar_jax.models import linear_codes

RNG = np.random.default_rng(0)
FORWARD = RNG.normal(size=(12, 3)) * np.array([0.02, 0.05, 0.1])
W = RNG.normal(size=(600, 12)) * np.linspace(2.0, 0.2, 12) + 1.0
TRUE = W @ FORWARD + 0.3
CODES = TRUE + RNG.normal(size=TRUE.shape) * TRUE.std(axis=0) * 0.7


def slopes(asked, done):
    return [np.polyfit(a, d, 1)[0] for a, d in zip(asked.T, done.T, strict=True)]


def test_what_is_asked_is_done_in_full_although_codes_were_read_with_errors():
    linear = linear_codes.fit(W, CODES)
    asked = linear.mean_code + RNG.normal(size=(200, 3)) * TRUE.std(axis=0)
    done = linear.place(asked) @ FORWARD + 0.3
    np.testing.assert_allclose(slopes(asked, done), 1.0, atol=0.07)
    # A regression from codes to w answers in part: that is what is mended.
    spread = CODES - CODES.mean(axis=0)
    diluted = np.linalg.lstsq(spread, W - W.mean(axis=0), rcond=None)[0]
    short = (asked - linear.mean_code) @ diluted @ FORWARD
    assert max(slopes(asked, short)) < 0.8
    np.testing.assert_allclose(linear.read(W).mean(axis=0), CODES.mean(axis=0))


def test_the_most_likely_w_of_a_code_is_chosen():
    linear = linear_codes.fit(W, TRUE)
    codes = linear.mean_code + np.array([[0.0, 0.0, 1.0]]) * TRUE.std(axis=0) * 3
    nearest = linear.place(codes)
    others = nearest + RNG.normal(size=(300, 12)) * 0.3
    others -= (linear.read(others) - codes) @ np.linalg.pinv(linear.forward)  # of the same code
    spread = W - W.mean(axis=0)
    precision = np.linalg.inv(spread.T @ spread / len(W))

    def unlikely(w):
        apart = w - W.mean(axis=0)
        return np.sqrt(np.sum((apart @ precision) * apart, axis=1))

    assert unlikely(others).min() > 0.98 * unlikely(nearest)[0]
    np.testing.assert_allclose(linear.distance(codes), unlikely(nearest), rtol=0.05)


def test_what_pairs_do_not_tell_apart_is_not_inverted():
    lids = np.column_stack([TRUE[:, 0], TRUE[:, 0] + 1e-3 * TRUE[:, 1]])
    linear = linear_codes.fit(W, lids)
    wink = linear.mean_code + np.array([[1.0, -1.0]]) * lids.std(axis=0)
    both = linear.mean_code + np.array([[1.0, 1.0]]) * lids.std(axis=0)
    assert np.abs(linear.place(wink) - linear.mean_w).max() < 0.5 * W.std(axis=0).max()
    np.testing.assert_allclose(linear.read(linear.place(both)), both, rtol=0.02)


def test_rare_expressions_are_made_evenly_and_within_reach():
    seldom = np.where(np.arange(600) % 30 == 0, 1.0, 0.0)
    w = np.column_stack([W, seldom + 0.01 * RNG.normal(size=600)])
    codes = np.column_stack([TRUE[:, 2], 0.3 * w[:, -1]])
    linear = linear_codes.fit(w, codes)
    made = linear_codes.exaggerate(linear, w, count=80, gain=2.0, reach=9.0, seed=0)
    told = linear.read(made)
    assert made.shape == (80, 13)
    assert linear.distance(told).max() <= 9.0 + 1e-6
    before, after = (np.mean(c[:, 1] > 0.15) for c in (codes, told))
    assert after > 4 * before
    assert told[:, 1].max() > 1.3 * codes[:, 1].max()
    # All that says nothing of the expression stays one of the latents'.
    blind = np.linalg.svd(np.column_stack([linear.forward, linear.backward.T]))[0][:, 4:]
    apart = np.abs((made[:, None] - w[None]) @ blind).max(axis=2).min(axis=1)
    np.testing.assert_allclose(apart, 0.0, atol=1e-6)


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match="two pairs or more; got 1 w"):
        linear_codes.fit(W[:1], CODES[:1])
