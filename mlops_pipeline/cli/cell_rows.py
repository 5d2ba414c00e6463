"""Rows for a model with a schema, as people have them: typed, or in a file of CSV, JSON or text.

An empty field is a missing value. Each value is checked here, so that the message names its place.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_pipeline.cli.rows import Rows, some
from mlops_pipeline.clients import tables
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.serving.schema import TEXT, CellError, Column, Schema

_DELIMITERS = ("\t", ";", ",")
_QUOTED = re.compile(r'"[^"]*"')
_BODIES = "a list of rows, or a Seldon (data), V2 (inputs) or TF Serving (instances) request"
Line = tuple[str, Sequence[Any]]
"""Where a row stands, and its values."""


def typed(schema: Schema, words: Sequence[str]) -> Rows:
    """Return the rows of the command line: `30.5,3,phone,,2` each; of a text, the whole word.

    Raises:
        ConfigurationError: a value is not one of its column; says which.
    """
    lines = [
        (f"--row {number}", [word] if schema.form == TEXT else next(csv.reader([word]), []))
        for number, word in enumerate(words, 1)
    ]
    return _rows(schema, lines, (), parse=True)


def read(schema: Schema, file: Path) -> Rows:
    """Return the rows of a file of CSV or JSON; of a text, one in each line, too.

    Raises:
        ConfigurationError: it cannot be read, or a value is not one of its column; says where.
    """
    text = tables.decode(tables.read_bytes(file), file, expected="CSV or JSON")
    is_lines = schema.form == TEXT and file.suffix.lower() in (".txt", ".csv")
    if text.lstrip().startswith(("{", "[")) and not is_lines:
        found = _of_json(schema, text, file)
    else:
        found = _of_csv(schema, text, file)
    if not found.values:
        raise ConfigurationError(f"{file} contains no rows")
    return found


def _rows(
    schema: Schema, lines: Sequence[Line], names: Sequence[str], *, parse: bool = False
) -> Rows:
    """Return rows in the schema's order. With `parse`, their values are text."""
    order = _order(schema, names, lines[0][0]) if names and lines else None
    values = []
    for place, row in lines:
        cells = row if order is None else [row[n] for n in order if n < len(row)]
        if len(cells) != len(schema.columns) or (names and len(row) != len(names)):
            raise ConfigurationError(
                f"{place} has {len(row)} values; expected {len(names or schema.columns)}: "
                f"{some(names or schema.names)}"
            )
        values.append(
            tuple(
                _cell(column, value, place, parse=parse)
                for column, value in zip(schema.columns, cells, strict=True)
            )
        )
    return Rows(tuple(values), tuple(place for place, _ in lines))


def _cell(column: Column, value: Any, place: str, *, parse: bool) -> Any:
    try:
        return column.parse(value) if parse else column.read(value)
    except CellError as error:
        raise ConfigurationError(f"{place}, column {column.name!r}: {error}") from error


def _order(schema: Schema, names: Sequence[str], place: str) -> list[int]:
    """Return the place of each column of the schema; of a text, other columns do not matter.

    Raises:
        ConfigurationError: a column is missing, unexpected, there twice, or could be several.
    """
    places = {name: number for number, name in _matches(schema.names, names, place)}
    missing = [name for name in schema.names if name not in places]
    used = set(places.values())
    unexpected = [name for number, name in enumerate(names) if number not in used]
    problems = [f"missing columns: {some(missing)}"] if missing else []
    if unexpected and schema.form != TEXT:
        problems.append(f"unexpected columns: {some(unexpected)}")
    if problems:
        raise ConfigurationError(
            f"{place}: {'; '.join(problems)}. The model has the columns {some(schema.names)}"
        )
    return [places[name] for name in schema.names]


def _matches(known: Sequence[str], names: Sequence[str], place: str) -> Iterator[tuple[int, str]]:
    """Yield (number of a given column, its name in the schema): first the same names.

    Others are equal if their letters and digits are, and no second column has these.
    """
    for name in dict.fromkeys(names):
        if name in known and names.count(name) > 1:
            raise ConfigurationError(f"{place}: the column {name!r} is there twice; remove one")
    wanted, given = Counter(map(plain, known)), Counter(map(plain, names))
    for number, name in enumerate(names):
        if name in known:
            yield number, name
        elif wanted[plain(name)] == given[plain(name)] == 1:
            yield number, next(one for one in known if plain(one) == plain(name))


def plain(name: str) -> str:
    """Return a column's name as others may write it: `sepal length (cm)` is `SepalLengthCm`."""
    return "".join(filter(str.isalnum, name.lower()))


def _of_csv(schema: Schema, text: str, file: Path) -> Rows:
    lines = [line.rstrip("\r\n") for line in io.StringIO(text, newline="")]
    first = next((line for line in lines if line.strip()), "")
    unquoted = _QUOTED.sub("", first)
    delimiter = next((mark for mark in _DELIMITERS if mark in unquoted), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    known = {plain(name) for name in schema.names}
    is_named = bool(known & {plain(name) for name in header})
    if schema.form == TEXT and not is_named:
        found = [(n, [line]) for n, line in enumerate(lines, 1) if line.strip()]
    else:
        try:
            found = [(reader.line_num, row) for row in reader if any(row)][int(is_named) :]
        except csv.Error as error:
            raise ConfigurationError(
                f"{file}, line {reader.line_num}: invalid CSV: {error}"
            ) from error
    placed = [(f"{file}, line {number}", row) for number, row in found]
    return _rows(schema, placed, header if is_named else (), parse=True)


def _of_json(schema: Schema, text: str, file: Path) -> Rows:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"could not read {file} as JSON: {error}") from error
    values, names = _body(content, str(file))
    if not isinstance(values, list):
        raise ConfigurationError(f"{file} has no list of rows; expected {_BODIES}")
    lines = list(_lines(values, str(file)))
    if values and all(isinstance(row, Mapping) for row in values):
        names = tuple(values[0])
        if any(tuple(row) != names for row in values):
            raise ConfigurationError(f"{file}: the rows have different columns")
    return _rows(schema, lines, names)


def _lines(values: Sequence[Any], where: str) -> Iterator[Line]:
    for number, row in enumerate(values, 1):
        if isinstance(row, Mapping):
            yield f"{where}, row {number}", list(row.values())
        else:
            yield f"{where}, row {number}", row if isinstance(row, list) else [row]


def _body(content: Any, where: str) -> tuple[Any, Sequence[str]]:
    """Return the rows of a request or a plain list, and the names of their columns."""
    if isinstance(content, list):
        return content, ()
    data, inputs = content.get("data"), content.get("inputs")
    if isinstance(data, Mapping) and isinstance(data.get("ndarray"), list):
        names = data.get("names") or ()
        return data["ndarray"], tuple(map(str, names)) if isinstance(names, list) else ()
    if isinstance(content.get("instances"), list):
        return content["instances"], ()
    if isinstance(inputs, list) and all(isinstance(t, Mapping) and "data" in t for t in inputs):
        columns = [t["data"] if isinstance(t["data"], list) else [t["data"]] for t in inputs]
        if len({len(column) for column in columns}) > 1:
            raise ConfigurationError(f"{where}: the columns have different lengths")
        rows = [list(row) for row in zip(*columns, strict=True)]
        return rows, [str(tensor.get("name", "")) for tensor in inputs]
    keys = ", ".join(map(str, content)) or "nothing"
    raise ConfigurationError(f"{where} has {keys}; expected {_BODIES}")
