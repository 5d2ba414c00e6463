"""Rows for a model with a schema, as people have them: typed, or in a file of CSV, JSON or text.

An empty field is a missing value. Each value is checked here, so that the message names its place.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_pipeline.cli.rows import (
    BODIES,
    Rows,
    is_numpy,
    only_one,
    parsed,
    read_array,
    shaped,
    shown,
    some,
)
from mlops_pipeline.clients import tables
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.serving.schema import TEXT, CellError, Column, Schema

_DELIMITERS = ("\t", ";", ",")
_QUOTED = re.compile(r'"[^"]*"')
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
    """Return the rows of a file of CSV, JSON or .npy; of a text, one in each line, too.

    Raises:
        ConfigurationError: it cannot be read, or a value is not one of its column; says where.
    """
    content = tables.read_bytes(file)
    if is_numpy(content, file):
        found = _of_lists(schema, read_array(file), (), str(file))
    else:
        text = tables.decode(content, file, expected="CSV, JSON or .npy")
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
    is_named = file.suffix.lower() != ".txt" and _is_header(schema, header, str(file))
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


def _is_header(schema: Schema, cells: Sequence[str], where: str) -> bool:
    """Say whether the first line of a table has names: all of them, or some and no allowed row.

    Raises:
        ConfigurationError: it may be both, because the names are numbers.
    """
    known = {plain(name) for name in schema.names}
    given = {plain(cell) for cell in cells}
    if not known & given:
        return False
    is_row = len(cells) == len(schema.columns) and all(map(_allows, schema.columns, cells))
    if known <= given and is_row and all(cell.isdigit() for cell in cells):
        raise ConfigurationError(
            f"{where}: the first line, {','.join(cells)}, may be a row or the names of the "
            "columns; write a row as JSON, or rename the columns of the schema"
        )
    return known <= given or not is_row


def _allows(column: Column, text: str) -> bool:
    try:
        column.parse(text)
    except CellError:
        return False
    return True


def _of_json(schema: Schema, text: str, file: Path) -> Rows:
    try:
        return _body(schema, parsed(text, file), str(file))
    except RecursionError as error:
        raise ConfigurationError(f"{file} is nested too deeply; expected {BODIES}") from error


def _body(schema: Schema, content: Any, where: str) -> Rows:
    """Return the rows of a request of any protocol, or of a plain list."""
    if not isinstance(content, Mapping):
        return _of_lists(schema, content, (), where)
    given = only_one(content, _FIELDS, where)
    inner, place = content.get(given), f"{where}, {given}"
    if given == "jsonData":
        return _body(schema, inner, place)
    if given in ("instances", "dataframe_records"):
        return _of_lists(schema, inner, (), place)
    if given == "inputs":
        return _of_inputs(schema, inner, place)
    if isinstance(inner, Mapping):
        kind = only_one(inner, ("ndarray", "tensor", "data"), place)
        names = inner.get("columns" if given == "dataframe_split" else "names") or ()
        if not isinstance(names, list | tuple):
            raise ConfigurationError(f"{place}: the names are {shown(names)}; expected a list")
        if kind:
            values = inner[kind] if kind != "tensor" else shaped(inner[kind], place, "values")
            return _of_lists(schema, values, tuple(map(str, names)), place)
    keys = ", ".join(map(str, content)) or "nothing"
    raise ConfigurationError(f"{where} has {keys}; expected {BODIES}")


_FIELDS = ("data", "jsonData", "instances", "inputs", "dataframe_split", "dataframe_records")


def _of_inputs(schema: Schema, inputs: Any, where: str) -> Rows:
    """Return the rows of TF Serving's columns or rows, or of V2's tensors.

    V2 has one tensor for each column, [n] or [n, 1], or one of all columns.
    """
    if isinstance(inputs, Mapping):
        return _of_columns(schema, inputs, where)
    if not isinstance(inputs, list) or not all(
        isinstance(one, Mapping) and "data" in one for one in inputs
    ):
        return _of_lists(schema, inputs, (), where)
    names = [str(one.get("name", "")) for one in inputs]
    if len(inputs) == 1 and plain(names[0]) not in {plain(name) for name in schema.names}:
        return _of_lists(schema, shaped(inputs[0], where, "data"), (), where)
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{where}: two inputs have the same name; rename one")
    columns = {name: one["data"] for name, one in zip(names, inputs, strict=True)}
    return _of_columns(schema, columns, where)


def _of_columns(schema: Schema, columns: Mapping[str, Any], where: str) -> Rows:
    """Return the rows of a list of values, or of `[value]`, for each column."""
    lists = []
    for name, values in columns.items():
        if not isinstance(values, list):
            raise ConfigurationError(f"{where}, {name} is {shown(values)}; expected a list")
        lists.append([v[0] if isinstance(v, list) and len(v) == 1 else v for v in values])
    lengths = {name: len(values) for name, values in zip(columns, lists, strict=True)}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{count} in {name}" for name, count in lengths.items())
        raise ConfigurationError(f"{where}: the columns have different lengths: {counts}")
    rows = [list(row) for row in zip(*lists, strict=True)]
    return _of_lists(schema, rows, tuple(map(str, columns)), where)


def _of_lists(schema: Schema, values: Any, names: Sequence[str], where: str) -> Rows:
    """Return the rows of a list of lists, of single values or of objects; or of one row."""
    if not isinstance(values, list):
        raise ConfigurationError(f"{where} is {shown(values)}; expected {BODIES}")
    if values and isinstance(values[0], Mapping):
        names, values = _of_objects(schema, values, where)
    elif len(schema.columns) > 1 and values and not any(isinstance(v, list) for v in values):
        values = [values]
    lines = [
        (f"{where}, row {number}", row if isinstance(row, list) else [row])
        for number, row in enumerate(values, 1)
    ]
    return _rows(schema, lines, names)


def _of_objects(
    schema: Schema, rows: Sequence[Any], where: str
) -> tuple[Sequence[str], list[list[Any]]]:
    """Return the names of the first object, and each object's values in their order.

    Raises:
        ConfigurationError: a row is not an object with the same names; says which.
    """
    names = tuple(rows[0])
    found = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or row.keys() != set(names):
            has = (
                f"has {some(tuple(row)) or 'no columns'}"
                if isinstance(row, Mapping)
                else (f"is {shown(row)}")
            )
            raise ConfigurationError(
                f"{where}, row {number} {has}, and row 1 has {some(names)}; write each row as an "
                f"object with the columns {some(schema.names)}"
            )
        found.append([row[name] for name in names])
    return names, found
