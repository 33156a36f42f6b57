"""What is said about a film: made-up cameras, one finding at a time."""

import dataclasses

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.films import clip_findings
from ganavatar_jax.geometry import head_angles
from helpers.heads import cameras, swing

FRAMES = 200


def clip(yaw=None, pitch=None, roll=0.0, **changes):
    """A good film, but for what is changed."""
    yaw = swing(-50.0, 50.0) if yaw is None else np.asarray(yaw, float)
    pitch = swing(-15.0, 15.0, turns=3.0, count=len(yaw)) if pitch is None else pitch
    poses = cameras(yaw, pitch, roll)
    count = len(poses)
    made = clip_findings.Clip(
        frame=np.arange(count),
        time_s=np.arange(count) / 20.0,
        cam2world=poses,
        sigma_deg=np.full((count, 3), 1.5),
        refined=np.ones(count, bool),
        second_deg=np.full(count, 2.0),
        residual=np.full(count, 0.004),
        mouth_gap=np.linspace(0.0, 0.3, count),
        cut=np.zeros(count, bool),
        looked=count,
        faceless=0,
        crop_side=1.5,
        blurred=False,
    )
    return dataclasses.replace(made, **changes)


def kinds(found):
    return [flag.kind for flag in found.flags]


def test_the_cameras_of_these_tests_see_what_they_say():
    angles = head_angles.from_cameras(cameras([10.0, -70.0], [5.0, -30.0], [-20.0, 40.0]))
    np.testing.assert_allclose(angles, [[10, 5, -20], [-70, -30, 40]], atol=1e-6)


def test_a_head_that_hardly_turns_turns_by_0():
    yaw = np.linspace(-0.3, 12.0, FRAMES)
    found = clip_findings.judge(clip(cam2world=cameras(yaw, np.zeros(FRAMES), np.zeros(FRAMES))))
    assert found.line.startswith("turns 12 degrees to the left, 0 to the right")


def test_a_good_film_needs_no_advice():
    found = clip_findings.judge(clip())
    assert found.advice == ()
    assert found.flags == ()
    assert found.line == (
        "turns 50 degrees to the left, 50 to the right, nods 30: the back will come from the base "
        "(cameras good to within 3 degrees)"
    )


@pytest.mark.parametrize(
    ("low", "high", "line"),
    [
        (-9.0, 14.0, "turns 14 degrees to the left, 9 to the right, nods 6: sides and back will"),
        (-60.0, 20.0, "turns 20 degrees to the left, 60 to the right, nods 6: the other side and"),
        (12.0, 31.0, "is turned 12 to 31 degrees to the left, nods 6: sides and back"),
        (-31.0, -12.0, "is turned 12 to 31 degrees to the right, nods 6: sides and back"),
    ],
)
def test_the_line_says_how_the_head_moves(low, high, line):
    found = clip_findings.judge(clip(swing(low, high), swing(-3.0, 3.0, turns=3.0)))
    assert found.line.startswith(line)


@pytest.mark.parametrize(
    ("sigma", "words"),
    [(0.03, "within 0.1 degrees)"), (0.76, "within 1.5 degrees)"), (2.2, "within 4 degrees)")],
)
def test_the_line_says_how_good_cameras_are(sigma, words):
    wide = np.tile([0.01, sigma, 0.01], (FRAMES, 1))
    assert clip_findings.judge(clip(sigma_deg=wide)).line.endswith(words)
    unknown = clip_findings.judge(clip(sigma_deg=np.full((FRAMES, 3), np.nan)))
    assert "good to" not in unknown.line
    assert not unknown.flags


@pytest.mark.parametrize(
    ("film", "advice"),
    [
        (clip(swing(-12.0, 15.0)), "to both sides, until each ear"),
        (clip(swing(-12.0, 50.0)), "turn the head to the right as far as to the other"),
        (clip(swing(-50.0, 12.0)), "turn the head to the left as far as to the other"),
        (clip(pitch=swing(-2.0, 3.0)), "nod slowly"),
        (clip(mouth_gap=np.full(FRAMES, 0.1)), "the mouth hardly opens"),
        (clip(swing(-50.0, 50.0, count=40)), "40 frames in 2 seconds"),
        (clip(time_s=np.arange(FRAMES) / 60.0), "200 frames in 3 seconds"),
        (clip(crop_side=0.42, blurred=True), "come nearer: the head has 42% of the pixels"),
        (clip(blurred=True), "the head is blurred"),
        (clip(cut=np.arange(FRAMES) < 30), "cut off in 30 of 200 frames"),
        (clip(looked=300, faceless=100), "100 of 300 frames show none"),
    ],
)
def test_advice_says_what_is_short(film, advice):
    found = clip_findings.judge(film)
    assert len(found.advice) == 1
    assert advice in found.advice[0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_face_that_looks_past_the_camera_is_flagged(sign):
    found = clip_findings.judge(clip(pitch=sign * swing(11.0, 17.0, turns=3.0)))
    assert kinds(found) == ["median pitch"]
    assert "by 14 degrees" in found.flags[0].message
    assert ("stands below" if sign > 0 else "stands above") in found.flags[0].message
    assert 0 in found.flags[0].frames
    assert not clip_findings.judge(clip(pitch=sign * swing(8.0, 14.0, turns=3.0))).flags


def test_pitches_and_rolls_that_nobody_holds_are_flagged_by_frame():
    pitch, roll = swing(-15.0, 15.0, turns=3.0), np.zeros(FRAMES)
    pitch[60:64], roll[90:100] = -70.0, 30.0
    found = clip_findings.judge(clip(swing(-5.0, 5.0), pitch, roll))
    flags = {flag.kind: flag for flag in found.flags}
    assert flags["pitch"].frames == (60, 61, 62, 63)
    assert "4 of 200 frames (frames 60 to 63)" in flags["pitch"].message
    assert flags["roll"].frames == tuple(range(90, 100))
    assert flags["jump"].frames == (60, 64, 90, 100)


def test_gaps_of_the_film_are_no_jumps():
    yaw = np.concatenate([np.linspace(-30.0, 0.0, 100), np.linspace(20.0, 50.0, 100)])
    assert kinds(clip_findings.judge(clip(yaw))) == ["jump"]
    frame = np.concatenate([np.arange(100), np.arange(150, 250)])
    assert not clip_findings.judge(clip(yaw, frame=frame)).flags


def test_a_contradicting_second_method_is_flagged_near_the_front_only():
    apart = np.where(np.arange(FRAMES) % 4 == 0, 11.0, 2.0)
    found = clip_findings.judge(clip(swing(-10.0, 10.0), second_deg=apart))
    assert kinds(found) == ["second opinion"]
    assert "11 degrees away" in found.flags[0].message
    assert found.flags[0].frames == tuple(range(0, FRAMES, 4))
    yaw = swing(-50.0, 50.0)
    assert not clip_findings.judge(clip(yaw, second_deg=np.abs(yaw) / 4.0)).flags
    assert not clip_findings.judge(clip(second_deg=np.full(FRAMES, np.nan))).flags


def test_uncertain_cameras_are_flagged():
    sigma = np.tile([1.0, 8.0, 1.0], (FRAMES, 1))
    sigma[:50, 1] = 2.0
    found = clip_findings.judge(clip(sigma_deg=sigma))
    assert kinds(found) == ["uncertain"]
    assert "good to 16 degrees only" in found.flags[0].message
    assert found.flags[0].frames[0] == 50


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (np.linspace(0.0, 1.0, FRAMES), "towards the end (frames 134 to 199)"),
        (np.linspace(1.0, 0.0, FRAMES), "at the beginning (frames 0 to 65)"),
        (np.abs(swing(-50.0, 50.0)) / 50.0, "where the head is turned"),
        (np.abs(swing(-15.0, 15.0, turns=3.0)) / 15.0, "where the chin is raised or lowered"),
    ],
)
def test_residuals_that_grow_are_flagged(cause, words):
    noise = np.random.default_rng(0).uniform(0.9, 1.1, FRAMES)
    found = clip_findings.judge(clip(residual=0.004 * (1.0 + 15.0 * cause) * noise))
    assert kinds(found) == ["residual trend"]
    assert words in found.flags[0].message
    assert not clip_findings.judge(clip(residual=0.004 * (1.0 + 0.5 * cause) * noise)).flags


def test_every_flag_is_one_line_that_says_where_to_look():
    pitch = np.full(FRAMES, 20.0)
    pitch[3] = 80.0
    noise = np.linspace(1.0, 9.0, FRAMES)
    wrong = clip(swing(-9.0, 9.0), pitch, 30.0, residual=noise, second_deg=noise + 4.0)
    found = clip_findings.judge(dataclasses.replace(wrong, sigma_deg=np.full((FRAMES, 3), 9.0)))
    assert {"median pitch", "pitch", "roll", "jump", "uncertain", "second opinion"} < set(
        kinds(found)
    )
    for flag in found.flags:
        assert "\n" not in flag.message
        assert "report.html" in flag.message
        assert len(flag.frames) > 0


@pytest.mark.parametrize("side", ["left", "right"])
def test_profiles_alone_are_refused(side):
    yaw = swing(56.0, 80.0) * (1.0 if side == "left" else -1.0)
    with pytest.raises(errors.DataFormatError, match=rf"me.mp4: .*5\d degrees to its {side}"):
        clip_findings.refuse_profiles("me.mp4", cameras(yaw))
    yaw[:30] = 20.0
    clip_findings.refuse_profiles("me.mp4", cameras(yaw))
    clip_findings.refuse_profiles("me.mp4", cameras(swing(-80.0, 80.0)))


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([7], "frame 7"),
        ([3, 4, 5], "frames 3 to 5"),
        ([0, 2, 4, 10], "frames 0 to 4, 10"),
        ([1, 2, 5, 8, 11, 14, 15], "frames 1 to 2, 5, 8, 11 and 2 more"),
    ],
)
def test_frames_are_named_in_few_words(frames, words):
    assert clip_findings.name_frames(frames) == words


def test_what_features_fit_and_what_landmarks_fit_is_no_trend():
    """Features are seen to a fraction of a pixel, landmarks are not; profiles have landmarks."""
    yaw = swing(-70.0, 70.0)
    turned = np.abs(yaw) > 40.0
    residual = np.where(turned, 0.012, 0.002)
    found = clip_findings.judge(clip(yaw=yaw, refined=~turned, residual=residual))
    assert "residual trend" not in kinds(found)
    found = clip_findings.judge(clip(yaw=yaw, residual=residual))
    assert "residual trend" in kinds(found)
