"""Tables of text as people have them: CSV with commas, semicolons, tabs or spaces."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_DELIMITERS = ("\t", ";", ",", " ")
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line by which Excel is told the delimiter."""
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
"""A number that means another one where the comma is the decimal mark."""


@dataclass(frozen=True)
class Table:
    """Rows of text, and the names of the columns where a header has them."""

    names: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    """Of each row: the number of its line, from 1, and its cells. Numbers have decimal points."""


def read_bytes(file: Path) -> bytes:
    """Return the content of a file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"could not read {file}: {error.strerror}") from error


def decode(content: bytes, file: Path, *, expected: str = "CSV") -> str:
    """Return the text of a file in UTF-8 or, with a byte order mark, in UTF-16.

    Raises:
        ConfigurationError: it is something else; says what to do to have what is `expected`.
    """
    encoding = "utf-16" if content.startswith(_UTF_16) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16" or _CONTROL.search(content):
            remedy = f"is not text (byte {error.start}); use {expected}"
        else:
            remedy = f"is not in UTF-8 (byte {error.start}); save it as UTF-8"
        raise ConfigurationError(f"{file} {remedy}") from error


def parse(text: str, file: Path) -> Table:
    """Return the table in the text of `file`. A first line without a number is a header.

    Raises:
        ConfigurationError: it is no table, or its numbers may mean two things; says where.
    """
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip()), 0)
    if lines and (told := _SEPARATOR.fullmatch(lines[start])):
        lines[start], delimiter = "", told[1]
    else:
        first = lines[start].strip() if lines else ""
        delimiter = next((d for d in _DELIMITERS if d in first), ",")
    found = _cells(lines, delimiter, file)
    named = bool(found) and not any(_is_number(cell, delimiter) for cell in found[0][1])
    names = found.pop(0)[1] if named else ()
    if delimiter != ",":
        found = _with_points(found, file, semicolons=delimiter == ";")
    return Table(names, tuple(found))


def _cells(lines: Sequence[str], delimiter: str, file: Path) -> list[tuple[int, tuple[str, ...]]]:
    """Return (number of the line, its cells) of every line that holds something."""
    if delimiter == " ":
        lines = [line.strip() for line in lines]
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        return [
            (reader.line_num, tuple(cell.strip() for cell in cells))
            for cells in reader
            if any(cells)
        ]
    except csv.Error as error:
        raise ConfigurationError(f"{file}, line {reader.line_num}: invalid CSV: {error}") from error


def _with_points(
    rows: Sequence[tuple[int, tuple[str, ...]]], file: Path, *, semicolons: bool
) -> list[tuple[int, tuple[str, ...]]]:
    """Return the rows with decimal points in place of decimal commas.

    With semicolons, commas are decimal marks: that is why the delimiter is another. Elsewhere only
    if no cell has a point, and one has a comma that cannot separate thousands.
    """
    commas = [(line, n, c) for line, cells in rows for n, c in enumerate(cells, 1) if "," in c]
    if not semicolons and commas:
        if any("." in cell for _, cells in rows for cell in cells):
            return list(rows)
        if all(_THOUSANDS.fullmatch(cell) for _, _, cell in commas):
            line, column, cell = commas[0]
            raise ConfigurationError(
                f"{file}, line {line}, column {column}: {cell!r} may have a decimal comma or a "
                "separator of thousands; write the numbers with decimal points and without commas"
            )
    return [(line, tuple(c.replace(",", ".") for c in cells)) for line, cells in rows]


def _is_number(text: str, delimiter: str) -> bool:
    try:
        float(text if delimiter == "," else text.replace(",", ""))
    except ValueError:
        return False
    return True
