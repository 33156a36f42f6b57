"""Decodes BlazeFace (short range): anchors, boxes, keypoints, and merging of overlapping hits.

The net looks at a 128 px square and answers for 896 anchors: an offset box, six keypoints (right
eye, left eye, nose tip, mouth, right ear, left ear; sides are the person's) and a logit.
All coordinates here are unitless in [0, 1] of that square.
Source: Bazarevsky et al. 2019 (BlazeFace); MediaPipe's face_detector.tflite (behaviour).
"""

import dataclasses

import numpy as np

from ganavatar_jax.core.arrays import Float

INPUT_PX = 128
_ANCHOR_GRIDS = ((16, 2), (8, 6))  # (cells along a side, anchors per cell)
_MAX_LOGIT = 80.0  # Keeps exp finite in float32.


@dataclasses.dataclass(frozen=True)
class Detections:
    """Faces found: boxes [n 4] as (left, top, right, bottom), keypoints [n 6 2], scores [n]."""

    boxes: Float[np.ndarray, "n 4"]
    keypoints: Float[np.ndarray, "n 6 2"]
    scores: Float[np.ndarray, " n"]


def make_anchors() -> Float[np.ndarray, "896 2"]:
    """Makes the anchor centres in the order of the net's outputs.

    Returns:
      Centres (x, y), unitless; anchors of one cell coincide (the net has unit anchor sizes).

    Source: BlazeFace, section 3.2, as used by MediaPipe's short-range model.
    """
    centers = []
    for cells, per_cell in _ANCHOR_GRIDS:
        y, x = np.mgrid[0:cells, 0:cells]
        grid = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        centers.append(np.repeat(grid, per_cell, axis=0))
    return np.concatenate(centers).astype(np.float32)


def decode(
    regressors: Float[np.ndarray, "896 16"],
    logits: Float[np.ndarray, " 896"],
    anchors: Float[np.ndarray, "896 2"],
    *,
    min_score: float,
) -> Detections:
    """Turns raw net outputs into detections above a score.

    Args:
      regressors: Per anchor: centre, width and height of the box, six (x, y), in input pixels
        relative to the anchor.
      logits: Face logits.
      anchors: From `make_anchors`.
      min_score: Smallest score kept, in [0, 1].

    Returns:
      Detections, best first, overlapping ones not merged.

    Source: MediaPipe's tensors-to-detections step (behaviour).
    """
    scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)))
    kept = np.flatnonzero(scores >= min_score)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    pairs = regressors[kept].reshape(len(kept), 8, 2) / INPUT_PX
    center, size = pairs[:, 0] + anchors[kept], pairs[:, 1]
    boxes = np.concatenate([center - size / 2, center + size / 2], axis=-1)
    return Detections(boxes, pairs[:, 2:] + anchors[kept][:, None], scores[kept])


def merge_overlapping(detections: Detections, *, min_iou: float = 0.3) -> Detections:
    """Replaces each group of overlapping detections by its score-weighted mean.

    Args:
      detections: Best first.
      min_iou: Overlap (intersection over union) from which two count as one face.

    Returns:
      One detection per face, best first; its score is the group's best.

    Source: BlazeFace, section 4.1 (blending instead of suppression).
    """
    boxes, keypoints, scores = [], [], []
    left = np.arange(len(detections.scores))
    while len(left):
        overlap = _iou(detections.boxes[left[0]], detections.boxes[left])
        overlap[0] = 1.0  # A degenerate box overlaps nothing, but the best must leave the queue.
        group, left = left[overlap >= min_iou], left[overlap < min_iou]
        weights = detections.scores[group] / detections.scores[group].sum()
        boxes.append(weights @ detections.boxes[group])
        keypoints.append(np.einsum("n,nkd->kd", weights, detections.keypoints[group]))
        scores.append(detections.scores[group[0]])
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(keypoints, np.float32).reshape(-1, 6, 2),
        np.asarray(scores, np.float32),
    )


def _iou(box: Float[np.ndarray, "4"], boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.clip(high - low, 0.0, None).prod(axis=-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    union = (box[2:] - box[:2]).prod() + areas - common
    return common / np.maximum(union, np.finfo(np.float32).tiny)
