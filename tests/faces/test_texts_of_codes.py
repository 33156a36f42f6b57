"""Codes come out bit for bit however a text is saved; what is no text is told in one line."""

import json
import os
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from ganavatar_jax.core import errors
from ganavatar_jax.faces import coefficients, live_link, precomputed

NAMES = coefficients.ARKIT_NAMES
CODES = (np.random.default_rng(0).integers(0, 1000, (6, 52)) / 1000).astype(np.float32)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
SPELLINGS = {
    "ours": lambda name: name,
    "capital": lambda name: name[:1].upper() + name[1:],
    "sides": lambda name: name.replace("Left", "_L").replace("Right", "_R"),
    "small sides": lambda name: name.replace("Left", "_l").replace("Right", "_r"),
    "words": lambda name: "".join(f"_{c.lower()}" if c.isupper() else c for c in name),
    "small": str.lower,
}
settings = hypothesis.settings(
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


def test_every_spelling_is_known():
    for spell in SPELLINGS.values():
        assert tuple(map(spell, NAMES)) != NAMES or spell is SPELLINGS["ours"]
        assert coefficients_of(map(spell, NAMES)) == NAMES
        assert coefficients_of(map(spell, coefficients.MEDIAPIPE_NAMES)) == (
            coefficients.MEDIAPIPE_NAMES
        )
    foreign = ("exp00", "jaw_drop", "L", "_", "", "eyeBlink")
    assert coefficients_of(foreign) == foreign


def coefficients_of(names):
    from ganavatar_jax.core import coefficient_names

    return coefficient_names.canonical(tuple(names))


@st.composite
def tables(draw):
    """A legal way to save a recording as a table."""
    spell = SPELLINGS[draw(st.sampled_from(list(SPELLINGS)))]
    separator = draw(st.sampled_from([",", ";", "\t"]))
    comma = separator != "," and draw(st.booleans())
    order = draw(st.permutations(range(52)))
    angles = ["HeadYaw", "HeadPitch"][: draw(st.integers(0, 2))]
    header = ["Timecode", "BlendShapeCount", *(spell(NAMES[i]) for i in order), *angles]
    rows = []
    for index, code in enumerate(CODES):
        cells = [f"{code[i]:.3f}" for i in order] + ["-0.5"] * len(angles)
        cells = [cell.replace(".", ",") for cell in cells] if comma else cells
        rows.append([f"01:02:03:{index:02d}.000", str(52 + len(angles)), *cells])
    if draw(st.booleans()):
        rows = [[f'"{cell}"' for cell in row] for row in rows]
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = [separator.join(row) for row in [header, *rows]]
    if draw(st.booleans()):
        lines.insert(0, f"sep={separator}")
    if draw(st.booleans()):
        lines.insert(draw(st.integers(1, len(lines))), separator * 3)
    text = end.join(lines) + (end if draw(st.booleans()) else "")
    return text.encode(draw(st.sampled_from(ENCODINGS)))


@st.composite
def objects(draw):
    """A legal way to save codes as JSON."""
    spell = SPELLINGS[draw(st.sampled_from(list(SPELLINGS)))]
    content = {
        "names": [spell(name) for name in NAMES],
        "codes": {f"{i:03d}.png": code.astype(float).tolist() for i, code in enumerate(CODES)},
    }
    extras = draw(st.lists(st.sampled_from(["note", "größe", "version"]), unique=True))
    items = draw(st.permutations([*content.items(), *((key, [key]) for key in extras)]))
    indent = draw(st.sampled_from([None, 1, "\t"]))
    text = json.dumps(dict(items), indent=indent, ensure_ascii=draw(st.booleans()))
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    return text.encode(draw(st.sampled_from(ENCODINGS)))


def check_table(data, folder):
    (folder / "take.csv").write_bytes(data)
    found = live_link.load(folder / "take.csv")
    assert found.names == NAMES
    np.testing.assert_array_equal(found.codes, CODES)
    np.testing.assert_allclose(found.times_s, np.arange(6) / 60, atol=1e-9)


def check_object(data, folder):
    (folder / "codes.json").write_bytes(data)
    found = precomputed.load(folder / "codes.json")
    assert found.names == NAMES
    assert found.frames == tuple(f"{i:03d}.png" for i in range(6))
    np.testing.assert_array_equal(found.codes, CODES)


def check_damage(data, place, folder):
    """A table that was cut anywhere gives whole rows of it, or a line."""
    (folder / "take.csv").write_bytes(data[:place])
    try:
        found = live_link.load(folder / "take.csv")
    except errors.DataFormatError as error:
        said = str(error)
        assert said.startswith(f"{folder / 'take.csv'}: ") and len(said.splitlines()) == 1  # noqa: PT017, PT018
        return
    places = [NAMES.index(name) for name in found.names]
    whole = found.codes[:-1]  # the last number of the last row may be shorter
    np.testing.assert_array_equal(whole, CODES[: len(whole), places])


CHECKS = {"table": (tables, check_table), "object": (objects, check_object)}


@pytest.mark.parametrize("kind", CHECKS)
def test_codes_are_the_same_however_they_are_saved(kind, tmp_path):
    make, check = CHECKS[kind]

    @hypothesis.settings(settings, max_examples=15, derandomize=True)
    @hypothesis.given(data=make())
    def run(data):
        check(data, tmp_path)

    run()


@pytest.mark.slow
@pytest.mark.captures
@pytest.mark.parametrize("kind", [*CHECKS, "damage"])
def test_codes_are_the_same_in_hundreds_of_ways(kind, tmp_path):
    seed = int(os.environ.get("GANAVATAR_SEED", np.random.SeedSequence().entropy % 2**32))
    print(f"GANAVATAR_SEED={seed}")
    make, check = CHECKS.get(kind, CHECKS["table"])

    @hypothesis.seed(seed)
    @hypothesis.settings(settings, max_examples=300)
    @hypothesis.given(data=make(), draws=st.data())
    def run(data, draws):
        if kind == "damage":
            check_damage(data, draws.draw(st.integers(0, len(data))), tmp_path)
        else:
            check(data, tmp_path)

    run()


def recording(*, cut=0, **changes):
    rows = ["Timecode;BlendShapeCount;" + ";".join(changes.get("names", NAMES))]
    for index, code in enumerate(CODES):
        cells = [f"{value:.3f}".replace(".", ",") for value in code]
        rows.append(";".join([f"01:02:03:{index:02d}.000", "52", *cells]))
    text = "\n".join(rows)
    return text[: len(text) - cut] if cut else text + "\n"


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("cut", [12, 200, 307])
def test_a_last_row_that_is_cut_off_is_told_and_left_out(cut, end, tmp_path, caplog):
    (tmp_path / "take.csv").write_text(recording(cut=cut) + end)
    np.testing.assert_array_equal(live_link.load(tmp_path / "take.csv").codes, CODES[:5])
    assert "take.csv: the last row is cut off (01:02" in caplog.text


ILLEGAL = {
    "twice": (recording(names=("jaw_open", "jawOpen")), "the header names jawOpen twice"),
    "mixed": (recording().replace("0,", "0.", 1), "decimal points and with decimal commas"),
    "thousands": (recording().replace("0,", "1.000,", 1), "which is no finite number"),
    "in the middle": (recording().replace("\n01:02:03:02", "\n01:02\n01:02:03:02"), "a timecode"),
    "quotes": (recording().replace("0,", '"0,', 1), "expected"),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_what_cannot_be_meant_is_refused(case, tmp_path):
    text, message = ILLEGAL[case]
    (tmp_path / "take.csv").write_text(text)
    with pytest.raises(errors.DataFormatError, match=rf"take\.csv: .*{message}") as caught:
        live_link.load(tmp_path / "take.csv")
    assert "\n" not in str(caught.value)


def test_a_coefficient_in_two_spellings_is_refused(tmp_path):
    content = {"names": ["jawOpen", "JawOpen"], "codes": {"a": [0, 0]}}
    (tmp_path / "codes.json").write_text(json.dumps(content))
    with pytest.raises(errors.DataFormatError, match='"names" must be different texts'):
        precomputed.load(tmp_path / "codes.json")


HEADER = b"Timecode,BlendShapeCount,JawOpen\n"
HOSTILE = {
    "empty.json": lambda: b"",
    "binary.json": lambda: bytes(range(256)) * 10,
    "deep.json": lambda: b"[" * 10_000 + b"]" * 10_000,
    "deep codes.json": lambda: (
        b'{"names": ["a"], "codes": {"f": ' + b"[" * 900 + b"]" * 900 + b"}}"
    ),
    "number.json": lambda: b'{"names": ["a"], "codes": {"f": [' + b"9" * 4000 + b"]}}",
    "longer number.json": lambda: b'{"names": ["a"], "codes": {"f": [' + b"9" * 9000 + b"]}}",
    "rate.json": lambda: b'{"names": ["a"], "codes": {}, "fps": ' + b"9" * 4000 + b"}",
    "times.json": lambda: (
        b'{"names": ["a"], "codes": {"f": [0], "g": [1]}, "times": [0, ' + b"9" * 4000 + b"]}"
    ),
    "swapped.json": lambda: recording().encode(),
    "swapped.jsonl": lambda: recording().encode(),
    "empty.csv": lambda: b"",
    "swapped.csv": lambda: json.dumps({"names": ["a"], "codes": {}}).encode(),
    "binary.csv": lambda: bytes(range(256)) * 10,
    "empty.npz": lambda: b"",
    "swapped.npz": lambda: recording().encode(),
}
HUGE = {
    "lists.json": lambda: b"[" + b"[]," * 33_000_000 + b"[]]",
    "objects.json": lambda: b"[" + b"{}," * 33_000_000 + b"{}]",
    "numbers.json": lambda: b"[" + b"0.5," * 25_000_000 + b"0]",
    "texts.json": lambda: b"[" + b'"ab",' * 20_000_000 + b"0]",
    "wide text.json": lambda: '["😀'.encode() + b"a" * 100_000_000 + b'"]',
    "keys.json": lambda: b"{" + b"".join(b'"%d":0,' % i for i in range(9_000_000)) + b'"a":0}',
    "nulls.json": lambda: (
        b'{"names":["a"],"codes":{'
        + b"".join(b'"%d":null,' % i for i in range(7_000_000))
        + b'"a":null}}'
    ),
    "results.jsonl": lambda: b'{"a": 1, "b": 2}\n' * 6_000_000,
    "line.csv": lambda: HEADER + b"0," * 50_000_000,
    "rows.csv": lambda: HEADER + b"00:00:00:00,0\n" * 7_000_000,
    "words.csv": lambda: HEADER + b"a\n" * 50_000_000,
}
READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
from ganavatar_jax.core import errors
from ganavatar_jax.faces import live_link, precomputed
load = live_link.load if sys.argv[1].endswith(".csv") else precomputed.load
try:
    load(sys.argv[1])
except errors.GanAvatarError as error:
    print(error)
# Not of getrusage: that counts what started this process, too.
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.attack
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line(case, tmp_path):
    (tmp_path / case).write_bytes(HOSTILE[case]())
    load = live_link.load if case.endswith(".csv") else precomputed.load
    with pytest.raises(errors.DataFormatError) as caught:
        load(tmp_path / case)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / case}: ")
    assert len(said.splitlines()) == 1
    assert len(said) < 1000


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.parametrize("case", HUGE)
def test_huge_files_are_refused_in_one_line_and_little_memory(case, tmp_path, repo_root):
    (tmp_path / case).write_bytes(HUGE[case]())
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / case)],
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    said, memory = done.stdout.splitlines()
    assert said.startswith(f"{tmp_path / case}: ")
    assert len(said) < 1000
    assert int(memory) << 10 <= 1 << 30
