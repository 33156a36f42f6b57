"""Recordings of Live Link Face: names and times as the app writes them, and faults by line."""

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.faces import coefficients, live_link

ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll", *(f"{side}EyeYaw" for side in ("Left", "Right")))
WEIGHTS = tuple(name[:1].upper() + name[1:] for name in coefficients.ARKIT_NAMES)


def row(timecode, *, jaw=0.0, tracked=True):
    if not tracked:
        return f"{timecode},0"
    weights = ["0.25"] * len(WEIGHTS)
    weights[WEIGHTS.index("JawOpen")] = f"{jaw:.8f}"
    return ",".join([timecode, "61", *weights, *["-0.1"] * len(ANGLES)])


def write(path, rows, *, header=("Timecode", "BlendShapeCount", *WEIGHTS, *ANGLES)):
    path.write_text("\n".join([",".join(header), *rows]) + "\n")
    return path


def timecodes(count, *, rate, start=0):
    for number in range(start, start + count):
        yield f"07:44:{57 + number // rate:02d}:{number % rate:02d}.944"


def test_weights_are_read_under_arkits_names_and_angles_passed_over(tmp_path):
    rows = [row(code, jaw=i / 10) for i, code in enumerate(timecodes(3, rate=60))]
    found = live_link.load(write(tmp_path / "take.csv", rows))
    assert found.names == coefficients.ARKIT_NAMES
    assert found.codes.shape == (3, 52)
    jaw = coefficients.select(found.codes, found.names, ["jawOpen"])
    np.testing.assert_allclose(jaw[:, 0], [0.0, 0.1, 0.2], atol=1e-6)


@pytest.mark.parametrize("rate", [24, 30, 60])
def test_the_frame_numbers_tell_the_rate(tmp_path, rate):
    rows = [row(code) for code in timecodes(2 * rate, rate=rate, start=rate // 2)]
    found = live_link.load(write(tmp_path / "take.csv", rows))
    assert found.fps == pytest.approx(rate, rel=1e-3)
    np.testing.assert_allclose(found.times_s, np.arange(2 * rate) / rate, atol=1e-6)


def test_recordings_within_a_second_have_the_apps_usual_rate(tmp_path):
    rows = [row(code) for code in timecodes(5, rate=60, start=3)]
    assert live_link.load(write(tmp_path / "take.csv", rows)).fps == pytest.approx(60)


def test_dropped_frames_leave_a_gap_and_midnight_none(tmp_path):
    rows = [*timecodes(60, rate=60)]
    kept = [row(code) for i, code in enumerate(rows) if i not in (20, 21)]
    times_s = live_link.load(write(tmp_path / "take.csv", kept)).times_s
    assert np.diff(times_s).max() == pytest.approx(3 / 60, abs=1e-6)
    rows = [row("23:59:59:59.0"), row("00:00:00:00.0"), row("00:00:00:01.0")]
    times_s = live_link.load(write(tmp_path / "take.csv", rows)).times_s
    np.testing.assert_allclose(times_s, np.arange(3) / 60, atol=1e-6)


def test_frames_in_which_no_face_was_seen_have_no_code(tmp_path):
    codes = list(timecodes(3, rate=60))
    rows = [row(codes[0]), row(codes[1], tracked=False), row(codes[2])]
    found = live_link.load(write(tmp_path / "take.csv", rows))
    np.testing.assert_array_equal(np.isnan(found.codes).all(axis=1), [False, True, False])


GOOD = row("07:44:57:02.944")
FAULTS = {
    "no frames": ([], "no frames"),
    "words": ([GOOD.replace("0.25", "much", 1)], r"07:44:57:02.944: expected 52 finite weights"),
    "not finite": ([GOOD.replace("0.25", "nan", 1)], r"expected 52 finite weights"),
    "cut line": ([GOOD[:40]], r"expected 52 finite weights"),
    "timecode": ([GOOD.replace(":02.944", "")], r"HH:MM:SS:FF.fff; got '07:44:57'"),
    "backwards": (["09" + GOOD[2:], GOOD], r"07:44:57:02.944 lies before"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_broken_recording_names_the_file_and_the_line(tmp_path, case):
    rows, message = FAULTS[case]
    with pytest.raises(errors.DataFormatError, match=rf"take\.csv: .*{message}|{message}"):
        live_link.load(write(tmp_path / "take.csv", rows))


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n1,2\n", b"Timecode,BlendShapeCount\n", b"\xff\xfe"]
)
def test_other_files_are_told_apart(tmp_path, content):
    (tmp_path / "take.csv").write_bytes(content)
    with pytest.raises(errors.DataFormatError, match=r"take\.csv: (expected a header|cannot be)"):
        live_link.load(tmp_path / "take.csv")
