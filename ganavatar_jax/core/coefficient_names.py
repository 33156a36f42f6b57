"""Names of the expression coefficients that everybody uses, and the spellings they come in."""

from collections.abc import Sequence

ARKIT_NAMES = tuple(
    """
    eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft
    eyeWideLeft eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight
    eyeSquintRight eyeWideRight jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel
    mouthPucker mouthLeft mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft
    mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight
    mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight browDownLeft
    browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight noseSneerLeft noseSneerRight tongueOut
    """.split()
)

MEDIAPIPE_NAMES = ("_neutral", *sorted(set(ARKIT_NAMES) - {"tongueOut"}))

_SPELLINGS = {name.strip("_").lower(): name for name in (*MEDIAPIPE_NAMES, *ARKIT_NAMES)}
_SIDES = {"l": "left", "r": "right"}


def canonical(names: Sequence[str]) -> tuple[str, ...]:
    """Spells coefficients of ARKit and MediaPipe as this package does.

    Args:
      names: E.g. "EyeBlinkLeft", "eyeBlink_L", "eye_blink_left" or "eyeBlinkLeft".

    Returns:
      The names, "eyeBlinkLeft" for these; others are left as they are.

    Source: ours; the spellings of ARKit, Live Link Face, Maya and Blender.
    """

    def spell(name: str) -> str:
        words = name.strip().lower().strip("_").split("_")
        words[-1] = _SIDES.get(words[-1], words[-1]) if len(words) > 1 else words[-1]
        return _SPELLINGS.get("".join(words), name)

    return tuple(map(spell, names))
