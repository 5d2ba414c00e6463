"""The schema of a model's data: the columns of a table or of an array of numbers, or a text.

A cell is a value of a row as JSON has it; None is a missing value. The training process, the
servers, and the commands share these types. Standard library only; NumPy is imported where there
are arrays.
"""

import json
import math
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

Cell = float | int | bool | str | None

FLOAT, INT, BOOL, STRING, CATEGORY = TYPES = ("float", "int", "bool", "string", "category")
"""The types of a column."""
ARRAY, TABLE, TEXT, INPUTS = FORMS = ("array", "table", "text", "inputs")
"""What the model gets: an array of numbers, a data frame, a list of strings, or named arrays."""
RESERVED = ("y", "scores")
"""Arrays of a hold-out file beside those of the inputs."""
_LONGEST_SHOWN = 60
_MOST_SHOWN = 8
_MOST_INT = (1 << 63) - 1
EXACT = (1 << 53) - 1
"""Largest whole number that a 64-bit float represents uniquely."""


class CellError(ValueError):
    """A value that its column does not allow. `reason` is a constant for programs."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    type: str = FLOAT
    """`float`, `int`, `bool`, `string` or `category`."""
    categories: tuple[str | int, ...] = ()
    """Of a category: every value that is allowed, all strings or all integers."""
    range: tuple[float, float] | None = None
    """Of a number: minimum and maximum; None: any finite number."""
    nullable: bool = False
    """A value may be missing: None in Python, NaN in arrays, `null` in JSON."""

    @property
    def is_number(self) -> bool:
        """Whether an array of numbers can have this column."""
        return self.type in (FLOAT, INT, BOOL)

    @property
    def is_text(self) -> bool:
        """Whether its values are strings."""
        return self.type == STRING or (self.type == CATEGORY and type(self._first) is str)

    def read(self, value: object) -> Cell:
        """Return a value as a cell of this column, in its type.

        Raises:
            CellError: the value has another type, is missing, out of range, or not a category.
        """
        if value is None or value != value:
            if self.nullable:
                return None
            raise CellError("MISSING_VALUE", "the value is missing, but this column is required")
        return _READERS[self.type](self, value)

    def parse(self, text: str) -> Cell:
        """Return text of a file or of a command line as a cell; empty text is a missing value.

        Raises:
            CellError: it is not a value of this column.
        """
        if not text and (self.type != STRING or self.nullable):
            return self.read(None)
        return self.read(text if self.is_text else _parsed(text))

    @property
    def _first(self) -> object:
        return next(iter(self.categories), None)

    @cached_property
    def known(self) -> frozenset[str | int]:
        """The categories, for a fast search."""
        return frozenset(self.categories)

    def other(self, value: Cell) -> Cell:
        """Return another allowed value, for a row beside an example."""
        if self.type == CATEGORY:
            return next((one for one in self.categories if one != value), value)
        if self.type == BOOL:
            return not value
        if self.type == STRING:
            return "a" if value != "a" else "b"
        least, most = self.range or (0.0, 1.0)
        if self.type == INT:
            least, most = math.ceil(least), math.floor(most)
        found = least if value != least else most
        return found if self.type == INT else float(found)

    def faults(self) -> Iterator[str]:
        """Yield what of this definition is invalid. Python does not enforce its types."""
        name: object = self.name
        if not isinstance(name, str) or not name:
            yield f"has the name {self.name!r}; it must be a string"
        if self.type not in TYPES:
            yield f"has the type {self.type!r}; allowed: {', '.join(TYPES)}"
            return
        if not isinstance(self.nullable, bool):
            yield f"has nullable={self.nullable!r}; it must be True or False"
        yield from self._faults_of_categories()
        if self.range is None:
            return
        if not _is_range(self.range):
            yield f"has range={self.range!r}; it must be (minimum, maximum) or None"
        elif self.type not in (FLOAT, INT):
            yield f"has a range, but is of type {self.type}; only numbers have a range"

    def _faults_of_categories(self) -> Iterator[str]:
        given: object = self.categories
        if self.type != CATEGORY:
            if given != ():
                yield f"has categories, but is of type {self.type}; write type='category'"
        elif not isinstance(given, tuple) or not given:
            yield f"has categories={given!r}; a category needs a tuple of at least one value"
        elif {type(value) for value in given} not in ({str}, {int}):
            yield f"has categories={given!r}; they must be all strings or all integers"
        elif len(set(given)) < len(given):
            yield f"has categories={given!r}; they must differ"

    def expected(self) -> str:
        """Return what values are allowed, for messages."""
        if self.type == CATEGORY:
            return f"one of {shown_some([repr(value) for value in self.categories])}"
        noun = {FLOAT: "a number", INT: "an integer", BOOL: "true or false", STRING: "a string"}
        between = f" from {self.range[0]:g} to {self.range[1]:g}" if self.range else ""
        return f"{noun[self.type]}{between}"


@dataclass(frozen=True)
class InputColumn(Column):
    """One of several named inputs: an array for each row."""

    shape: tuple[int, ...] = ()
    """Shape of one row, without the batch: (28, 28); (): a single value."""

    def faults(self) -> Iterator[str]:
        """Yield what of this definition is invalid."""
        yield from super().faults()
        sizes: object = self.shape
        if not isinstance(sizes, tuple) or not all(type(n) is int and n > 0 for n in sizes):
            yield f"has shape={sizes!r}; it must be a tuple of integers of at least 1"
        elif self.type == STRING and sizes not in ((), (1,)):
            yield f"has shape={sizes!r}, but is a string; allowed: (), (1,)"
        if self.type == CATEGORY or self.nullable is not False:
            yield "is an input; it must be float, int, bool or string, and not nullable"
        if self.name in RESERVED:
            yield f"has the name of an array of a hold-out file ({', '.join(RESERVED)})"


@dataclass(frozen=True)
class Schema:
    """The columns of a model's data, in the model's order."""

    columns: tuple[Column, ...]
    form: str = TABLE
    """`table`: `load` returns data frames, and the model gets them. `array`: arrays of numbers, in
    which NaN is a missing value. `text`: lists of strings, the only column. `inputs`: a dict of
    arrays by name; each column is an `InputColumn`."""

    @classmethod
    def text(cls, name: str = "text") -> "Schema":
        """Return the schema of a model of strings, such as a text classifier."""
        return cls((Column(name, STRING),), TEXT)

    @classmethod
    def of_inputs(cls, *inputs: InputColumn) -> "Schema":
        """Return the schema of a model with several named inputs, such as an image and an age."""
        return cls(inputs, INPUTS)

    @property
    def inputs(self) -> tuple[InputColumn, ...]:
        """The columns of the form `inputs`; empty in the other forms."""
        return tuple(column for column in self.columns if isinstance(column, InputColumn))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them: lists, no tuples."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return fields

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row: none for a text, which is a single value."""
        return () if self.form == TEXT else (len(self.columns),)

    @property
    def is_numeric(self) -> bool:
        """Whether every column can be in an array of numbers."""
        return all(column.is_number for column in self.columns)

    @cached_property
    def has_booleans(self) -> bool:
        """Whether a column is true or false."""
        return any(column.type == BOOL for column in self.columns)

    @cached_property
    def limits(self) -> "Limits":
        """The limits of every column of an array of numbers."""
        return limits_of(self.columns)

    def faults(self) -> Iterator[str]:
        """Yield what of this definition is invalid."""
        columns: object = self.columns
        if not isinstance(columns, tuple) or not columns:
            yield f"columns is {columns!r}; it must be a tuple of at least one Column"
            return
        if self.form not in FORMS:
            yield f"form is {self.form!r}; allowed: {', '.join(FORMS)}"
        for number, column in enumerate(self.columns, 1):
            if not isinstance(column, Column):
                yield f"column {number} is {column!r}; it must be a Column"
                return
            yield from (f"column {number} ({column.name!r}) {why}" for why in column.faults())
        if twice := [name for name, count in Counter(self.names).items() if count > 1]:
            yield f"the column {twice[0]!r} is defined twice"
        if self.form == ARRAY and not self.is_numeric:
            yield "form is 'array', but not every column is float, int or bool; write form='table'"
        if (self.form == INPUTS) != all(isinstance(c, InputColumn) for c in self.columns):
            yield "form 'inputs' has columns of the type InputColumn, and no other form has these"
        if self.form == INPUTS and len(self.columns) == 1:
            yield "form is 'inputs', which has at least two columns; write an array or a table"
        if self.form == TEXT and [column.type for column in self.columns] != [STRING]:
            yield "form is 'text', which has one column of type string"


class Limits(NamedTuple):
    """What numbers of columns may be, as arrays [columns]."""

    least: Any
    most: Any
    is_whole: Any
    is_boolean: Any
    is_nullable: Any


def limits_of(columns: Sequence[Column]) -> Limits:
    """Return the limits of columns of numbers."""
    import numpy as np

    ends = np.array([_ends(column) for column in columns])
    return Limits(
        ends[:, 0],
        ends[:, 1],
        np.array([column.type in (INT, BOOL) for column in columns]),
        np.array([column.type == BOOL for column in columns]),
        np.array([column.nullable for column in columns]),
    )


def _ends(column: Column) -> tuple[float, float]:
    if column.type == BOOL:
        return 0.0, 1.0
    most = float(EXACT) if column.type == INT else sys.float_info.max
    least, greatest = column.range or (-most, most)
    return max(least, -most), min(greatest, most)


def parse_schema(fields: Mapping[str, Any] | None) -> Schema | None:
    """Return the schema that a manifest contains, None if it has none.

    Raises:
        KeyError, TypeError, ValueError: it is not a schema.
    """
    if fields is None:
        return None
    columns = tuple(map(_parse_column, fields["columns"]))
    schema = Schema(columns, fields["form"])
    if problems := list(schema.faults()):
        raise ValueError(f"the schema is invalid: {problems[0]}")
    return schema


def _parse_column(fields: Mapping[str, Any]) -> Column:
    common = (
        fields["name"],
        fields["type"],
        tuple(fields["categories"]),
        tuple(fields["range"]) if fields["range"] is not None else None,
        fields["nullable"],
    )
    return InputColumn(*common, tuple(fields["shape"])) if "shape" in fields else Column(*common)


def shown_some(words: Sequence[str]) -> str:
    """Return the first words of a list, for messages."""
    left = len(words) - _MOST_SHOWN
    return ", ".join(words[:_MOST_SHOWN]) + (f" and {left} more" if left > 0 else "")


def kind_of(value: object) -> str:
    """Return a value and its type as JSON names it, shortened, for messages."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value!r}"
    if isinstance(value, str):
        text = repr(value)
        return f"the string {text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + '…'}"
    names: dict[type, str] = {dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


def _wrong_type(column: Column, value: object) -> CellError:
    return CellError("WRONG_TYPE", f"expected {column.expected()}, got {kind_of(value)}")


def _in_range(column: Column, value: float) -> None:
    if not column.range or column.range[0] <= value <= column.range[1]:
        return
    if value not in map(_in_32_bits, column.range):
        raise CellError("OUT_OF_RANGE", f"expected {column.expected()}, got {value!r}")


def _in_32_bits(value: float) -> float:
    """Return the value as a 32-bit float, which a client may send for a limit: 0.1 is more."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return value


def _float(column: Column, value: object) -> Cell:
    if type(value) is not float and type(value) is not int:
        raise _wrong_type(column, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise CellError("NOT_FINITE", f"expected {column.expected()}, got {value!r}"[:200])
    _in_range(column, number)
    return number


def _int(column: Column, value: object) -> Cell:
    is_whole = type(value) is int or (type(value) is float and value.is_integer())
    if not is_whole:
        raise _wrong_type(column, value)
    number = int(value)  # type: ignore[call-overload]
    if not -_MOST_INT <= number <= _MOST_INT:
        raise CellError("OUT_OF_RANGE", "expected an integer of 64 bits, got a larger one")
    if (type(value) is float or column.nullable) and not -EXACT <= number <= EXACT:
        why = "came as a float" if type(value) is float else "is a float where it may be missing"
        raise CellError(
            "OUT_OF_RANGE",
            f"expected an integer, got {value!r}: beyond 2^53, it {why}, which loses digits",
        )
    _in_range(column, number)
    return int(number)


def _bool(column: Column, value: object) -> Cell:
    if type(value) is bool or (type(value) in (int, float) and value in (0, 1)):
        return bool(value)
    raise _wrong_type(column, value)


def _string(column: Column, value: object) -> Cell:
    if type(value) is not str:
        raise _wrong_type(column, value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise CellError("WRONG_TYPE", "the string is not valid Unicode text") from error
    return value


def _category(column: Column, value: Any) -> Cell:
    wanted = type(column.categories[0])
    if wanted is int and type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not wanted:
        raise _wrong_type(column, value)
    if value not in column.known:
        raise CellError("UNKNOWN_CATEGORY", f"expected {column.expected()}, got {kind_of(value)}")
    return value


_READERS: Mapping[str, Callable[[Column, Any], Cell]] = {
    FLOAT: _float,
    INT: _int,
    BOOL: _bool,
    STRING: _string,
    CATEGORY: _category,
}


def _parsed(text: str) -> object:
    """Return text as true, false or a number, otherwise unchanged."""
    known = {"true": True, "false": False}
    if text.lower() in known:
        return known[text.lower()]
    for convert in (int, float):
        try:
            return convert(text.replace("_", " _"))  # Python reads 1_000 as a number.
        except ValueError:
            continue
    return text


def _is_range(value: object) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(type(end) in (int, float) and math.isfinite(end) for end in value)
        and value[0] < value[1]
    )
