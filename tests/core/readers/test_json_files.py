"""JSON that is damaged or nested too deeply is refused in one line."""

import json

import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import json_files, text_files


def test_an_object_comes_back(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"a": [1, {"b": [[]]}]}))
    assert json_files.read_object(tmp_path / "a.json", fix="x") == {"a": [1, {"b": [[]]}]}


def nested(levels):
    return '{"a": ' + "[" * levels + "]" * levels + "}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON, got Expecting value"),
        ("{", "expected JSON, got"),
        ("[]", "expected a JSON object"),
        (nested(text_files.MAX_DEPTH + 1), "nested at most 32 times"),
        (nested(900), "nested at most 32 times"),
        (nested(200_000), "nested at most 32 times"),
        ("\ud800", "expected JSON"),
    ],
    ids=["empty", "cut", "a list", "deep", "deeper", "abyss", "no text"],
)
@pytest.mark.attack
def test_what_would_fail_later_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(errors.RunError, match=message) as caught:
        json_files.read_object(tmp_path / "a.json", fix="write it again")
    assert str(caught.value).endswith("; write it again.")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(errors.RunError, match=r"gone\.json"):
        json_files.read_object(tmp_path / "gone.json", fix="write it")
