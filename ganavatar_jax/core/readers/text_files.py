"""Text files that people bring: any of the encodings editors write, within bounds of memory.

A byte order mark says what a file is (UTF-8, UTF-16, UTF-32); without one, zeros between letters
tell UTF-16, and all else must be UTF-8. JSON is refused before it is parsed where it would fill the
memory or is nested too deeply. Tables may be separated by commas, semicolons or tabs, and their
numbers may have decimal commas. What is wrong is a `ValueError` without a file's name: callers word
it.
"""

import codecs
import csv
import json
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

MAX_BYTES = 1 << 28
MAX_DEPTH = 32  # objects and lists within each other; ours have a handful
_MAX_PARSED_BYTES = 1 << 29
_MAX_LINE = 1 << 20  # letters
_MARKS = (  # UTF-32's first: UTF-16's is its beginning
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LINE = re.compile(r"[^\r\n]+")
_ZERO_SHARE = 0.75
_SEPARATORS = (",", ";", "\t")
_EMPTY_CELLS = ' ",;\t'
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
# What Python takes for each part of parsed JSON, bytes; keys are shared, values are not.
_COSTS = {",": 32, "[": 72, "{": 232, ":": 56}
_TEXT_COST, _SMALL_OBJECT, _SLOT = 56, 8, 64


def read_text(path: str | os.PathLike[str]) -> str:
    """Reads a text file.

    Args:
      path: The file.

    Returns:
      Its text, without a byte order mark.

    Raises:
      OSError: it cannot be read.
      ValueError: it is too large, or no text.
    """
    return decode(read_bytes(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads a file of a size that texts have.

    Args:
      path: The file.

    Returns:
      Its content.

    Raises:
      OSError: it cannot be read.
      ValueError: it is too large.
    """
    with pathlib.Path(path).open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    _check_size(data)
    return data


def decode(data: bytes) -> str:
    """Turns a text file's bytes into text.

    Args:
      data: The bytes.

    Returns:
      The text, without a byte order mark.

    Raises:
      ValueError: they are too many, or no text.

    Source: the Unicode standard, byte order marks.
    """
    _check_size(data)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None:
        encoding = _guess_without_mark(data[:256])
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        shown = data[error.start : error.start + 1].hex()
        raise ValueError(
            f"byte 0x{shown} at {error.start}, which is no {encoding.upper().removesuffix('-SIG')} "
            "text; save it as UTF-8"
        ) from error


def parse_json(data: bytes | str) -> Any:
    """Parses JSON that fits into the memory.

    Args:
      data: A file's bytes, or its text.

    Returns:
      What it holds.

    Raises:
      ValueError: it is no text or no JSON, too large, or nested too deeply.
    """
    text = decode(data) if isinstance(data, bytes) else data
    if sys.getsizeof(text) + _parsed_bytes(text) > _MAX_PARSED_BYTES:
        raise ValueError(
            f"more than fits into {_MAX_PARSED_BYTES >> 20} MiB when it is read; split the file"
        )
    try:
        content = json.loads(text)
    except RecursionError:
        content = None
    else:
        if _depth(content) <= MAX_DEPTH:
            return content
    raise ValueError(f"JSON that is not nested at most {MAX_DEPTH} times")


def parse_json_lines(text: str, *, tell_cut: Callable[[], None]) -> Iterator[Any]:
    """Parses a text with one JSON value a line, one by one.

    Args:
      text: The text.
      tell_cut: Called where the last line is cut off and therefore left out.

    Yields:
      What each line holds; empty lines are passed over and not counted.

    Raises:
      ValueError: a line is no JSON; says which.
    """
    lines, number = _lines(text, limit=MAX_BYTES), 0
    ahead = next(lines, None)
    while ahead is not None:
        line, ahead = ahead, next(lines, None)
        number += 1
        try:
            value = parse_json(line)
        except ValueError as error:
            if ahead is None and number > 1 and text[-1] not in "\r\n":
                tell_cut()
                return
            raise ValueError(f"line {number}: {error}") from error
        yield value


class Table(NamedTuple):
    """A table of texts.

    Attributes:
      header: Its first row.
      rows: The rows below, read while they are asked for.
      whole: Whether the text ends with the end of a line.
    """

    header: tuple[str, ...]
    rows: Iterator[list[str]]
    whole: bool


def parse_table(text: str) -> Table:
    """Parses comma-, semicolon- or tab-separated values, whichever parts the header most.

    Args:
      text: The text; a first line such as `sep=;` may name the separator.

    Returns:
      The table; cells are stripped, empty rows left out.

    Raises:
      ValueError: a line is far too long, or breaks the rules of quotes; also while rows are read.

    Source: RFC 4180; spreadsheets' `sep=`.
    """
    lines = (line for line in _lines(text, limit=_MAX_LINE) if line.strip(_EMPTY_CELLS))
    first = next(lines, "")
    named = re.fullmatch(r"sep=(.)\s*", first)
    if named:
        first = next(lines, "")
    separator = named[1] if named else max(_SEPARATORS, key=lambda s: len(_split(first, s)))
    header = tuple(_split(first, separator))

    rows = (cells for line in lines if any(cells := _split(line, separator)))
    return Table(header, rows, text.endswith(("\n", "\r")))


class NumberReader:
    """Reads numbers with decimal points, or with decimal commas; a file has one of the two."""

    def __init__(self) -> None:
        """Begins without knowing which."""
        self._mark = ""

    def read(self, cells: Sequence[str]) -> list[float]:
        """Reads some numbers of the file.

        Args:
          cells: Texts.

        Returns:
          Finite numbers.

        Raises:
          ValueError: a cell is no finite number, or points and commas are mixed.
        """
        values = []
        for cell in cells:
            value = float(cell.replace(",", ".")) if _NUMBER.fullmatch(cell) else math.nan
            if not math.isfinite(value):
                raise ValueError(f"{cell[:40]!r}, which is no finite number")
            mark = "," if "," in cell else "." if "." in cell else self._mark
            if self._mark and mark != self._mark:
                raise ValueError("numbers with decimal points and with decimal commas")
            self._mark = mark
            values.append(value)
        return values


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 20} MiB; split the file")


def _guess_without_mark(start: bytes) -> str:
    """Zeros at nearly every other place are UTF-16's; text of 8 bits has none."""
    even, odd = start[::2].count(0), start[1::2].count(0)
    fewest = max(1, _ZERO_SHARE * (len(start) // 2))
    few = len(start) // 16  # letters such as U+0100 have a zero at the other place
    if odd >= fewest and even <= few:
        return "utf-16-le"
    return "utf-16-be" if even >= fewest and odd <= few else "utf-8"


def _parsed_bytes(text: str) -> int:
    """Counts at most what parsed JSON takes."""
    found = {sign: text.count(sign) for sign in _COSTS}
    size = sum(_COSTS[sign] * count for sign, count in found.items())
    size += _TEXT_COST * max(0, text.count('"') // 2 - found[":"])
    # Many keys in one object take more than those of many small ones.
    return size + _SLOT * max(0, found[":"] - _SMALL_OBJECT * found["{"])


def _depth(content: Any) -> int:
    """Counts the levels without calling itself, which is what a deep file would break."""
    level, depth = [content] if isinstance(content, dict | list) and content else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            break
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list) and inner
        ]
    return depth


def _lines(text: str, *, limit: int) -> Iterator[str]:
    """Yields the lines that are not empty, without their ends."""
    for found in _LINE.finditer(text):
        if found.end() - found.start() > limit:
            raise ValueError(f"a line of more than {limit} letters")
        yield found[0]


def _split(line: str, separator: str) -> list[str]:
    try:
        (cells,) = csv.reader([line], delimiter=separator)
    except csv.Error as error:
        raise ValueError(f"a line that is no row of a table ({error})") from error
    return [cell.strip() for cell in cells]
