"""What the cameras of a film say about the film: how the head moves, what is odd, what to film.

Pure functions of numbers; angles are those of `geometry.head_angles`. Nothing is left out because
of what is found here, but for films that cannot become an avatar.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Bool, Float, Int
from ganavatar_jax.data import frame_checks
from ganavatar_jax.geometry import head_angles

_PERCENTILES = (2.0, 98.0)  # Between them lies a range; single misread frames do not widen it.
_PROFILE_DEG, _PROFILE_PERCENTILE = 50.0, 5.0  # Nearly all frames are turned further than that.
_SIDE_DEG = 45.0  # Turned so far, a side of the head is seen.
# What is asked for in a film: less than that is told.
_TURN_DEG, _NOD_DEG, _FRAMES, _LENGTH_S = 20.0, 10.0, 150, 8.0
_MOUTH_GAP = 0.06  # Range of the lips' distance, over the distance of the eyes.
_FEW_SHARE, _SMALL = 0.05, 0.8
# What is not believed.
_FRONT_DEG, _FRONT_SHARE = 20.0, 0.25  # Who looks into the lens, and how often, to be judged by it.
_PITCH_DEG, _ROLL_DEG, _ABSURD_DEG = 12.0, 25.0, 45.0
_SECOND_DEG, _SECOND_YAW_DEG, _SECOND_SHARE = 8.0, 30.0, 0.1
_SIGMA_DEG = 5.0
_TREND_TIME, _TREND_POSE = 2.0, 3.0  # Ratios of residuals; turned faces always fit a little worse.
_TREND_CORRELATION, _TREND_FRAMES = 0.5, 30
_LONG_STEP = 2  # Usual steps between frames beyond which a recording has a gap.
_LISTED = 4  # Runs of frames that a line names.
_LOOK = "Look at the overlays in report.html"


@dataclasses.dataclass(frozen=True)
class Clip:
    """What is known of the frames with a camera, in order of time, and of the film.

    Attributes:
      frame: Numbers in the film.
      time_s: Seconds from the film's beginning.
      cam2world: Cameras in the head frame.
      sigma_deg: Standard deviations of yaw, pitch and roll, degrees; NaN where not known.
      refined: Whether features of the picture have refined the camera.
      second_deg: Angle to the camera that a second method finds; NaN without one.
      residual: Distance of projected points from seen ones, world units at the head.
      mouth_gap: Distance of the lips over the distance of the outer eye corners.
      cut: Whether the head leaves the picture.
      looked: Frames in which a face was looked for.
      faceless: Number of these without one.
      crop_side: Side of the head's square in the film over the side of the training images.
      blurred: Whether the film shows no detail of that size.
    """

    frame: Int[np.ndarray, " f"]
    time_s: Float[np.ndarray, " f"]
    cam2world: Float[np.ndarray, "f 4 4"]
    sigma_deg: Float[np.ndarray, "f 3"]
    refined: Bool[np.ndarray, " f"]
    second_deg: Float[np.ndarray, " f"]
    residual: Float[np.ndarray, " f"]
    mouth_gap: Float[np.ndarray, " f"]
    cut: Bool[np.ndarray, " f"]
    looked: int
    faceless: int
    crop_side: float
    blurred: bool


@dataclasses.dataclass(frozen=True)
class Flag:
    """Something that is hardly true, or will hardly do.

    Attributes:
      kind: A word or two.
      message: One line with the frames and what to do.
      frames: Numbers in the film.
    """

    kind: str
    message: str
    frames: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Findings:
    """A film in words.

    Attributes:
      line: How the head moves, what that leaves to the base, how good the cameras are.
      advice: What to film better, one sentence each; may be empty.
      flags: What to look at before training; may be empty.
    """

    line: str
    advice: tuple[str, ...]
    flags: tuple[Flag, ...]


def refuse_profiles(source: str, cam2world: Float[np.ndarray, "f 4 4"]) -> None:
    """Refuses a film that never shows the face.

    Args:
      source: The film, for the message.
      cam2world: Cameras in the head frame.

    Raises:
      DataFormatError: nearly all frames show the head from one side.
    """
    yaw = head_angles.from_cameras(cam2world)[:, 0]
    nearest = float(np.percentile(np.abs(yaw), _PROFILE_PERCENTILE))
    if nearest > _PROFILE_DEG:
        side = "left" if np.median(yaw) > 0 else "right"
        raise errors.DataFormatError(
            f"{source}: the face is missing: the head is turned at least {nearest:.0f} degrees to "
            f"its {side} in nearly all frames. Film it from the front first, looking into the "
            "lens, then let it turn."
        )


def ranges_deg(angles_deg: Float[np.ndarray, "f 3"]) -> Float[np.ndarray, "2 3"]:
    """Finds between which angles a head moves.

    Args:
      angles_deg: Yaw, pitch and roll.

    Returns:
      The 2nd and the 98th percentile of each.
    """
    return np.percentile(angles_deg, _PERCENTILES, axis=0)


def uncertainty_deg(sigma_deg: Float[np.ndarray, "f 3"]) -> float:
    """Says in one number how good cameras are.

    Args:
      sigma_deg: Standard deviations of yaw, pitch and roll.

    Returns:
      The median of each frame's largest, twice: in 19 of 20 films cameras are better.
    """
    return 2.0 * float(np.median(sigma_deg.max(axis=1)))


def judge(clip: Clip) -> Findings:
    """Puts a film into words.

    Args:
      clip: Its frames.

    Returns:
      What it shows, what is missing and what is odd.
    """
    angles = head_angles.from_cameras(clip.cam2world)
    ranges = ranges_deg(angles)
    sigma = uncertainty_deg(clip.sigma_deg)
    line = _describe_moves(ranges)
    if np.isfinite(sigma):
        line += f" (cameras good to within {_round(sigma)} degrees)"
    flags = [
        *_pose_flags(clip, angles),
        *_doubt_flags(clip, angles),
        *_trend_flags(clip, angles),
    ]
    return Findings(line, tuple(_advise(clip, ranges)), tuple(flags))


def _describe_moves(ranges: Float[np.ndarray, "2 3"]) -> str:
    """Says how far the head turns and nods, and what the film therefore does not show."""
    (low, nod_low, _), (high, nod_high, _) = np.rint(ranges).tolist()
    if low > 0 or high < 0:  # Never frontal.
        near, far = sorted((abs(low), abs(high)))
        side = "left" if low > 0 else "right"
        turns = f"is turned {near:.0f} to {far:.0f} degrees to the {side}"
    else:
        turns = f"turns {abs(high):.0f} degrees to the left, {abs(low):.0f} to the right"
    shown = [side for side, deg in (("left", -low), ("right", high)) if deg >= _SIDE_DEG]
    unseen = {0: "sides and back", 1: "the other side and the back", 2: "the back"}[len(shown)]
    return f"{turns}, nods {nod_high - nod_low:.0f}: {unseen} will come from the base"


def _round(degrees: float) -> str:
    """One digit below two degrees, whole degrees above."""
    return f"{max(degrees, 0.1):.1f}" if degrees < 1.95 else f"{degrees:.0f}"


def _advise(clip: Clip, ranges: Float[np.ndarray, "2 3"]) -> list[str]:
    """Says what to film better; the most useful first."""
    (low, nod_low, _), (high, nod_high, _) = ranges.tolist()
    found = []
    if high < _TURN_DEG and -low < _TURN_DEG:
        found.append("turn the head slowly to both sides, until each ear has faced the camera")
    elif min(high, -low) < _TURN_DEG:
        side = "left" if high < -low else "right"
        found.append(f"turn the head to the {side} as far as to the other side")
    if nod_high - nod_low < _NOD_DEG:
        found.append("nod slowly: lower and raise the chin")
    if np.ptp(np.percentile(clip.mouth_gap, _PERCENTILES)) < _MOUTH_GAP:
        found.append("speak and laugh: the mouth hardly opens")
    if len(clip.frame) < _FRAMES or np.ptp(clip.time_s) < _LENGTH_S:
        found.append(
            f"film longer, half a minute or more: {len(clip.frame)} frames in "
            f"{np.ptp(clip.time_s):.0f} seconds show few expressions"
        )
    if clip.crop_side < _SMALL:
        found.append(
            f"come nearer: the head has {clip.crop_side:.0%} of the pixels across that training "
            "images have"
        )
    elif clip.blurred:
        found.append("more light, a clean lens and the focus on the face: the head is blurred")
    if clip.cut.mean() > _FEW_SHARE:
        found.append(
            f"keep the whole head in the picture: it is cut off in {clip.cut.sum()} of "
            f"{len(clip.cut)} frames"
        )
    if clip.faceless > _FEW_SHARE * clip.looked:
        found.append(
            f"keep the face lit and towards the camera: {clip.faceless} of {clip.looked} frames "
            "show none"
        )
    return found


def _pose_flags(clip: Clip, angles: Float[np.ndarray, "f 3"]) -> list[Flag]:
    """Flags poses that people hardly take before a camera."""
    yaw, pitch, roll = angles.T
    found = []
    front = np.abs(yaw) < _FRONT_DEG
    median = float(np.median(pitch[front])) if front.mean() >= _FRONT_SHARE else 0.0
    if abs(median) > _PITCH_DEG:
        where, other = ("below", "up") if median > 0 else ("above", "down")
        frames = clip.frame[front]
        found.append(
            Flag(
                "median pitch",
                f"the face looks {other} past the camera by {abs(median):.0f} degrees (median of "
                f"{name_frames(frames)}): either the camera stands {where} it, or these poses are "
                f"wrong. {_LOOK}; film at the height of the eyes.",
                tuple(frames.tolist()),
            )
        )
    absurd = np.abs(pitch) > _ABSURD_DEG
    found += _flag_frames(
        "pitch", f"the face looks up or down by more than {_ABSURD_DEG:.0f} degrees", clip, absurd
    )
    found += _flag_frames(
        "roll",
        f"the head is tilted by more than {_ROLL_DEG:.0f} degrees",
        clip,
        abs(roll) > _ROLL_DEG,
    )
    label25 = np.concatenate([clip.cam2world.reshape(-1, 16), np.zeros((len(yaw), 9))], axis=1)
    step = np.diff(clip.frame, prepend=clip.frame[:1])
    usual = np.median(step[1:]) if len(step) > 1 else 1
    part = np.cumsum(step > _LONG_STEP * usual)
    turns = frame_checks.turns_deg(label25, [str(i) for i in part])
    jumps = frame_checks.find_jumps(turns)
    found += _flag_frames("jump", "the head turns suddenly (a cut, or wrong poses)", clip, jumps)
    return found


def _doubt_flags(clip: Clip, angles: Float[np.ndarray, "f 3"]) -> list[Flag]:
    """Flags cameras that are uncertain or that a second method contradicts."""
    uncertain = clip.sigma_deg.max(axis=1) > _SIGMA_DEG
    found = []
    if uncertain.mean() > 0.5:
        found.append(
            _flag(
                "uncertain",
                f"cameras are good to {uncertainty_deg(clip.sigma_deg):.0f} degrees only",
                clip,
                uncertain,
            )
        )
    # Turned faces are half guessed: there the two may well differ.
    judged = np.isfinite(clip.second_deg) & (np.abs(angles[:, 0]) < _SECOND_YAW_DEG)
    apart = judged & (np.nan_to_num(clip.second_deg) > _SECOND_DEG)
    if apart.sum() > _SECOND_SHARE * judged.sum():
        median = np.median(clip.second_deg[apart])
        found.append(
            _flag(
                "second opinion",
                f"a second method finds poses {median:.0f} degrees away (median)",
                clip,
                apart,
            )
        )
    return found


def _trend_flags(clip: Clip, angles: Float[np.ndarray, "f 3"]) -> list[Flag]:
    """Flags residuals that grow with time or with the pose, as those of a wrong shape do."""
    found = []
    # Distances of landmarks and of features are not alike: the larger part is judged, by itself.
    alike = clip.refined == (2 * clip.refined.sum() >= len(clip.refined))
    if alike.sum() < _TREND_FRAMES:
        return found
    numbers, residual = clip.frame[alike], clip.residual[alike]
    causes = {
        "towards the end": (clip.time_s, _TREND_TIME),
        "at the beginning": (-clip.time_s, _TREND_TIME),
        "where the head is turned": (np.abs(angles[:, 0]), _TREND_POSE),
        "where the chin is raised or lowered": (np.abs(angles[:, 1]), _TREND_POSE),
    }
    for where, (of_all, limit) in causes.items():
        cause = of_all[alike]
        order = np.argsort(cause, kind="stable")
        few, many = order[: len(order) // 3], np.sort(order[-(len(order) // 3) :])
        ratio = np.median(residual[many]) / max(np.median(residual[few]), 1e-9)
        if ratio > limit and _rank_correlation(cause, residual) > _TREND_CORRELATION:
            frames = numbers[many]
            found.append(
                Flag(
                    "residual trend",
                    f"poses fit {ratio:.1f} times worse {where} ({name_frames(frames)}). {_LOOK}.",
                    tuple(frames.tolist()),
                )
            )
    return found


def _rank_correlation(first: Float[np.ndarray, " f"], second: Float[np.ndarray, " f"]) -> float:
    """Spearman's correlation; 0 where one of the two does not change."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    ranks = []
    for values in (first, second):
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2.0)[place])
    return float(np.corrcoef(*ranks)[0, 1])


def _flag_frames(kind: str, what: str, clip: Clip, marked: Bool[np.ndarray, " f"]) -> list[Flag]:
    return [_flag(kind, what, clip, marked)] if marked.any() else []


def _flag(kind: str, what: str, clip: Clip, marked: Bool[np.ndarray, " f"]) -> Flag:
    frames = clip.frame[marked]
    share = f"{len(frames)} of {len(marked)} frames"
    return Flag(kind, f"{what}: {share} ({name_frames(frames)}). {_LOOK}.", tuple(frames.tolist()))


def name_frames(frames: Sequence[int] | Int[np.ndarray, " k"]) -> str:
    """Names frames in few words.

    Args:
      frames: Numbers, rising.

    Returns:
      Such as "frames 3, 10 to 14 and 20 more".
    """
    numbers = np.asarray(frames)
    step = int(np.diff(numbers).min()) if len(numbers) > 1 else 1
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > step) + 1)
    words = [f"{r[0]}" if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs[:_LISTED]]
    more = sum(len(run) for run in runs[_LISTED:])
    listed = ", ".join(words) + (f" and {more} more" if more else "")
    return f"{'frame' if len(numbers) == 1 else 'frames'} {listed}"
