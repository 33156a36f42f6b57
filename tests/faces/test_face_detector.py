"""BlazeFace decoding: anchors, boxes in unit coordinates, merging."""

import numpy as np
import pytest

from ganavatar_jax.faces import face_detector


def test_there_are_896_anchors_inside_the_unit_square():
    anchors = face_detector.make_anchors()
    assert anchors.shape == (896, 2)
    np.testing.assert_allclose(anchors[0], 1 / 32)  # first of the 16 x 16 cells
    np.testing.assert_allclose(anchors[2], [3 / 32, 1 / 32])  # two per cell, x runs fastest
    np.testing.assert_allclose(anchors[512], 1 / 16)  # first of the 8 x 8 cells
    np.testing.assert_allclose(anchors[-1], 15 / 16)
    np.testing.assert_allclose(anchors.mean(axis=0), 0.5, atol=1e-6)


def _raw(hits):
    """Net outputs with logit and 16 regressors at the given anchors, nothing elsewhere."""
    regressors = np.zeros((896, 16), np.float32)
    logits = np.full(896, -100.0, np.float32)
    for anchor, (logit, values) in hits.items():
        logits[anchor], regressors[anchor] = logit, values
    return regressors, logits


def test_boxes_and_keypoints_are_relative_to_their_anchor():
    values = np.zeros(16, np.float32)
    values[:4] = (12.8, -6.4, 64.0, 32.0)
    values[4:6] = (-12.8, 0.0)  # right eye
    regressors, logits = _raw({300: (0.0, values)})
    anchors = face_detector.make_anchors()
    found = face_detector.decode(regressors, logits, anchors, min_score=0.5)
    assert found.scores.tolist() == [0.5]
    center = anchors[300] + (0.1, -0.05)
    np.testing.assert_allclose(
        found.boxes[0], [*(center - (0.25, 0.125)), *(center + (0.25, 0.125))], atol=1e-6
    )
    np.testing.assert_allclose(found.keypoints[0, 0], anchors[300] + (-0.1, 0.0), atol=1e-6)
    np.testing.assert_allclose(found.keypoints[0, 1], anchors[300], atol=1e-6)


def test_extreme_logits_give_finite_scores():
    _, logits = _raw({0: (1e6, np.zeros(16)), 1: (-1e6, np.zeros(16))})
    found = face_detector.decode(
        np.zeros((896, 16), np.float32), logits, face_detector.make_anchors(), min_score=0.0
    )
    assert np.isfinite(found.scores).all()
    assert found.scores.max() == 1.0


def _detections(boxes, scores):
    boxes = np.asarray(boxes, np.float32)
    keypoints = np.repeat(boxes[:, None, :2], 6, axis=1)
    return face_detector.Detections(boxes, keypoints, np.asarray(scores, np.float32))


def test_overlapping_boxes_become_their_weighted_mean_and_others_stay():
    found = face_detector.merge_overlapping(
        _detections([[0, 0, 0.4, 0.4], [0.6, 0.6, 0.9, 0.9], [0.04, 0, 0.44, 0.4]], [0.9, 0.8, 0.6])
    )
    np.testing.assert_allclose(found.scores, [0.9, 0.8])
    np.testing.assert_allclose(found.boxes[0], [0.016, 0, 0.416, 0.4], atol=1e-6)
    np.testing.assert_allclose(found.keypoints[0], [[0.016, 0]] * 6, atol=1e-6)
    np.testing.assert_allclose(found.boxes[1], [0.6, 0.6, 0.9, 0.9], atol=1e-6)


@pytest.mark.parametrize("boxes", [[], [[0.5, 0.5, 0.5, 0.5]] * 2])
def test_nothing_and_degenerate_boxes_are_merged_without_trouble(boxes):
    boxes = np.reshape(np.asarray(boxes, np.float32), (-1, 4))
    found = face_detector.merge_overlapping(_detections(boxes, [0.9] * len(boxes)))
    assert found.boxes.shape == (len(boxes), 4)
    assert found.keypoints.shape == (len(boxes), 6, 2)
