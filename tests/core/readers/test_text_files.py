"""Texts in every encoding and table in every separator say the same; what is none is refused."""

import json

import pytest

from ganavatar_jax.core.readers import text_files

TEXT = "Kopf größer\tnach links: 😀\r\nend"
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_is_the_same_in_every_encoding(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    assert text_files.read_text(tmp_path / "a.txt") == TEXT


def test_big_endian_marks_are_known():
    for mark, encoding in ((b"\xfe\xff", "utf-16-be"), (b"\0\0\xfe\xff", "utf-32-be")):
        assert text_files.decode(mark + TEXT.encode(encoding)) == TEXT


@pytest.mark.parametrize("data", [b"caf\xe9", b"\xff\xfe\0", b"\x80\x02}q\0."])
def test_other_bytes_are_no_text(data):
    with pytest.raises(ValueError, match=r"which is no UTF-(8|16).* text; save it as UTF-8"):
        text_files.decode(data)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_are_read_by_whatever_separates_them(separator, end):
    rows = [["name", "a", "b"], ["x", "1.5", "2"], ["", "", ""], ["y", "", "3"]]
    for first in ("", f"sep={separator}{end}"):
        text = first + "".join(separator.join(row) + end for row in rows)
        table = text_files.parse_table(text)
        assert table.header == ("name", "a", "b")
        assert table.whole
        assert list(table.rows) == [rows[1], rows[3]]
    assert not text_files.parse_table(text.rstrip("\r\n")).whole


def test_numbers_have_points_or_commas():
    numbers = text_files.NumberReader()
    assert numbers.read(["1", "-0,25", ",5", "1e-3"]) == [1.0, -0.25, 0.5, 0.001]
    assert numbers.read(["0,5"]) == [0.5]
    with pytest.raises(ValueError, match="decimal points and with decimal commas"):
        numbers.read(["0.5"])
    for wrong in ("1.234,5", "1,234,567", "nan", "inf", "0x1", "1_0", "", "1e999", "٣"):
        with pytest.raises(ValueError, match="no finite number"):
            text_files.NumberReader().read([wrong])


@pytest.mark.attack
def test_json_is_bounded_before_it_is_parsed():
    assert text_files.parse_json(json.dumps({"a": [1.5, {"b": "c"}]})) == {"a": [1.5, {"b": "c"}]}
    for text in ("[" * 10_000 + "]" * 10_000, '{"a":' * 400 + "1" + "}" * 400):
        with pytest.raises(ValueError, match="not nested at most 32 times"):
            text_files.parse_json(text)
    lists = "[" + "[]," * 8_000_000 + "[]]"
    for text in (lists, "[" + '{"ab":"cd"},' * 2_000_000 + "{}]"):
        with pytest.raises(ValueError, match="more than fits into 512 MiB"):
            text_files.parse_json(text)


def test_lines_of_json_are_read_one_by_one():
    told = []
    read = text_files.parse_json_lines('{"a": 1}\n\r\n[2]\n[3', tell_cut=lambda: told.append(1))
    assert list(read) == [{"a": 1}, [2]]
    assert told == [1]
    for text, line in (("[1]\n[2\n[3]", 2), ("[1]\n[2\n", 2), ("[1", 1)):
        with pytest.raises(ValueError, match=f"line {line}: "):
            list(text_files.parse_json_lines(text, tell_cut=lambda: None))


@pytest.mark.attack
def test_endless_lines_of_a_table_are_refused():
    with pytest.raises(ValueError, match="a line of more than 1048576 letters"):
        text_files.parse_table("a," * (1 << 20))
    rows = text_files.parse_table("a,b\n" + "1," * (1 << 20)).rows
    with pytest.raises(ValueError, match="a line of more than 1048576 letters"):
        list(rows)
