"""Where a recording begins anew, and what a matter with a memory must see of it."""

import numpy as np

from ganavatar_jax.films import video_capture, video_landmarks
from helpers import captures


def labels(turns_deg):
    """Cameras on a circle around the head, so many degrees apart."""
    found = np.tile(np.array(captures.LABEL, np.float64), (len(turns_deg), 1))
    for label, yaw in zip(found, np.radians(np.cumsum(turns_deg)), strict=True):
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        label[:16].reshape(4, 4)[:3] = turn @ label[:16].reshape(4, 4)[:3]
    return found


def test_shots_begin_after_gaps_and_cuts():
    frame = np.array([0, 2, 4, 6, 30, 32, 34, 36])
    begins = video_capture._find_shots(frame / 25, labels([0, 1, 1, 1, 1, 1, 25, 1]))
    assert np.flatnonzero(begins).tolist() == [0, 4, 6]


def test_gaps_are_found_by_time_where_the_rate_changes():
    time_s = np.cumsum([0, *[0.1] * 20, *[1 / 60] * 60, 1.5, *[1 / 60] * 20])
    assert video_landmarks.find_starts(time_s).tolist() == [0, 81]
    assert video_landmarks.find_starts(np.array([0.3])).tolist() == [0]


def test_a_memory_needs_each_shot_up_to_what_is_missing():
    begins = np.array([1, 0, 0, 1, 0, 0, 1, 0], bool)
    missing = np.array([0, 0, 0, 0, 1, 0, 1, 1], bool)
    due = video_capture._find_due(missing, begins)
    assert np.flatnonzero(due).tolist() == [3, 4, 6, 7]
    assert not video_capture._find_due(np.zeros(8, bool), begins).any()
