"""Reads the hold-out set of a model that was trained elsewhere.

A hold-out file is one of:

* `.npz`: arrays `x` [n, features], `y` [n] and optionally `scores` [n, outputs], the predictions
  where the model was trained.
  Of a model with several inputs, an array for each of them instead of `x`.
* `.csv`: comma-separated with a header, one column for each name of `DatasetSpec.names()`, in any
  order, and the column `target`; other columns are ignored. With a schema, a value is what it
  allows; an empty one is missing.

A table is always a `.csv`. Targets are those that `load` may return: numbers, or names of classes.
"""

import csv
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.serving.schema import ARRAY, INPUTS, TABLE, Cell, CellError, Schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET = "target"
"""Column of the targets in a CSV file."""
_ARRAYS = {"x", "y"}


@dataclass(frozen=True)
class Holdout:
    """Hold-out rows of a model that was trained elsewhere."""

    x: "NDArray[Any]"
    """With a schema for a table: cells that it allows; otherwise not checked yet."""
    y: "NDArray[Any]"
    scores: "NDArray[Any] | None" = None
    """Its predictions there, if the file has them."""


def read_holdout(spec: ModelSpec, file: Path) -> Holdout:
    """Read a hold-out file.

    Raises:
        ValueError: the file is damaged, lacks something, or has a value that is not a number.
    """
    schema = spec.dataset.schema
    if schema is not None and schema.form == INPUTS:
        return _read_inputs(schema, file)
    if file.suffix.lower() == ".csv":
        return _read_csv(spec, file)
    if spec.dataset.schema is not None and spec.dataset.schema.form == TABLE:
        raise ValueError(
            f"{file} is not a .csv; a hold-out file of {spec.name} is a table with the columns "
            f"{', '.join(spec.dataset.names())} and {TARGET}"
        )
    return _read_npz(file)


def _read_inputs(schema: Schema, file: Path) -> Holdout:
    from mlops_pipeline.serving import joined

    found = _arrays(file, "write it with numpy.savez(file, y=…, and an array for each input)")
    if missing := [name for name in (*schema.names, "y") if name not in found]:
        raise ValueError(
            f"{file} has {', '.join(sorted(found)) or 'no array'}, but not {', '.join(missing)}; a "
            f"hold-out file has an array for each input ({', '.join(schema.names)}) and y [n], and "
            "may have scores [n, outputs]"
        )
    arrays = {name: found[name] for name in schema.names}
    try:
        rows = joined.of_arrays(schema, arrays, where=str(file))
    except TypeError as error:
        raise ValueError(str(error)) from error
    return Holdout(rows, found["y"], found.get("scores"))


def _read_npz(file: Path) -> Holdout:
    found = _arrays(file, "write it with numpy.savez(file, x=…, y=…), or give a .csv")
    if missing := sorted(_ARRAYS - found.keys()):
        has = ", ".join(sorted(found)) or "no array"
        raise ValueError(
            f"{file} has {has}, but not {', '.join(missing)}; a hold-out file has the arrays x "
            "[n, features] and y [n], and may have scores [n, outputs]"
        )
    return Holdout(found["x"], found["y"], found.get("scores"))


def _arrays(file: Path, hint: str) -> "dict[str, NDArray[Any]]":
    import numpy as np

    try:
        with file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (
        *(OSError, ValueError, EOFError, AttributeError, LookupError, BadZipFile, zlib.error),
        *(TypeError, NotImplementedError, RuntimeError),  # A .npy, another compression, a password.
    ) as error:
        raise ValueError(f"could not read {file} as .npz: {error}; {hint}") from error


def _read_csv(spec: ModelSpec, file: Path) -> Holdout:

    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, strict=True)
            header, rows = list(reader.fieldnames or ()), [*_numbered(reader)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"could not read {file} as CSV: {error}") from error
    names = spec.dataset.names()
    if twice := [name for name in (*names, TARGET) if header.count(name) > 1]:
        raise ValueError(f"{file} has the column {twice[0]} twice; remove one")
    if missing := [name for name in (*names, TARGET) if name not in header]:
        raise ValueError(
            f"{file} has the columns {', '.join(header) or 'none'}, but not {', '.join(missing)}; "
            f"a hold-out file of {spec.name} has {', '.join(names)} and {TARGET}, with commas "
            "between them"
        )
    if not rows:
        raise ValueError(f"{file} has a header, but no rows")
    for line, row in rows:
        _require_whole(file, line, row, header)
    values = [_values(file, spec, line, row) for line, row in rows]
    targets = _targets([row[TARGET] for _, row in rows], spec.dataset.classes)
    return Holdout(_rows(spec.dataset.schema, values), targets)


def _numbered(reader: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of the line at which each row ends, and the row."""
    for row in reader:
        yield reader.line_num, row


def _require_whole(file: Path, line: int, row: dict[Any, Any], header: Sequence[str]) -> None:
    """Refuse a row with more or fewer fields than the header, which `csv` marks with None."""
    if None in row or None in row.values():
        count = sum(value is not None for name, value in row.items() if name is not None)
        count += len(row.get(None, ()))
        raise ValueError(
            f"{file}, line {line} has {count} fields, and the header has {len(header)}; quote "
            "fields that contain a comma"
        )


def _values(file: Path, spec: ModelSpec, line: int, row: Mapping[str, str]) -> list[Cell]:
    schema, values = spec.dataset.schema, list[Cell]()
    for number, name in enumerate(spec.dataset.names()):
        text = row[name]
        try:
            values.append(schema.columns[number].parse(text) if schema else float(text or "nan"))
        except ValueError as error:
            reason = error if isinstance(error, CellError) else f"{text!r} is not a number"
            raise ValueError(f"{file}, line {line}, column {name}: {reason}") from error
    return values


def _rows(schema: Schema | None, values: list[list[Cell]]) -> "NDArray[Any]":
    """Return the rows of a file as numbers, as cells of a table, or as the strings of a text."""
    import numpy as np

    from mlops_pipeline.serving.cells import read_cells

    if schema is None or schema.form == ARRAY:
        return np.array(values, dtype=np.float64)
    cells = read_cells(values, where="the file")
    return cells if schema.form == TABLE else cells[:, 0]


def _targets(texts: Sequence[str], classes: Sequence[str]) -> "NDArray[Any]":
    """Return the texts if they are names of classes, which may be digits; else numbers if possible.

    A text that is neither is refused with the task's own message.
    """
    import numpy as np

    if set(texts) <= set(classes):
        return np.array(texts)
    try:
        return np.array([int(text) for text in texts])
    except ValueError:
        pass
    try:
        return np.array([float(text) for text in texts])
    except ValueError:
        return np.array(texts)
