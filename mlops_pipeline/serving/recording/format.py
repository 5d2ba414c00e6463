"""What the server and the process that uploads the rows agree on: settings and names of files."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

VARIABLE = "MLOPS_RECORDING"
"""Of the server: the JSON of a `Recording`. Without it, no rows are recorded."""
SUFFIX = ".jsonl.gz"
"""Of a complete file of rows: lines of JSON, compressed by gzip."""
OPEN = ".part"
"""Appended to the name of a file that a server is writing. The server holds a lock (flock) on it.

It is readable up to the last batch at any time: each batch is a gzip member of its own."""
ANSWER, FEEDBACK = "answer", "feedback"
"""The kinds of rows, in the field `kind`."""


@dataclass(frozen=True)
class Recording:
    """How one server records rows."""

    folder: str
    """The spool. Files are `<folder>/<model>/<day>/<time>-<random>.jsonl.gz`."""
    namespace: str
    """Of the deployment; a server does not know it otherwise."""
    sample: float = 1.0
    """Share of the successful answers that is recorded, 0 to 1, chosen by the id."""
    per_second: int = 1000
    """Maximum of successful answers per second, and likewise of errors."""
    mask: tuple[str, ...] = ()
    """Columns that never leave the server."""
    columns: tuple[str, ...] = ()
    """Names of the columns, for a model that has none itself."""
    spool_bytes: int = 256 << 20
    """Maximum size of a model's files in the spool."""
    batch_seconds: float = 5.0
    """After this time, a file is complete and can be uploaded."""

    def to_json(self) -> str:
        """Return the value of the variable."""
        return json.dumps(asdict(self))


def parse(text: str) -> Recording:
    """Return the settings in the variable.

    Raises:
        ValueError: it is not the JSON of a `Recording`, or a value is out of its range.
    """
    given = json.loads(text)
    if not isinstance(given, dict) or not given.keys() <= {one.name for one in fields(Recording)}:
        raise ValueError("unknown fields")
    for name in ("mask", "columns"):
        given[name] = _names(given.get(name, ()))
    try:
        found = Recording(**given)
        is_possible = 0 <= found.sample <= 1 and found.per_second >= 1 and found.spool_bytes >= 1
    except TypeError as error:
        raise ValueError(str(error)) from error
    if not (is_possible and found.folder and found.batch_seconds > 0):
        raise ValueError("a value is out of its range")
    return found


def _names(value: Sequence[object]) -> tuple[str, ...]:
    if not all(isinstance(name, str) for name in value):
        raise ValueError("the names of columns must be strings")
    return tuple(map(str, value))
