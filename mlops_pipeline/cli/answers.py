"""`answers`: what the models were asked and what they answered, on screen or in a file."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError
from mlops_pipeline.clients.files import PRIVATE, write_atomically, writing
from mlops_pipeline.delivery.answers import Wanted, read_answers
from mlops_pipeline.platforms.answers import expired

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_STATUS = re.compile(r"ok|error|[1-5]\d\d")
_NESTED = ("columns", "input", "output", "truth")
"""Fields that are JSON in a table: their form depends on the model and the protocol."""
_WIDTH = 40
FORMATS = (".jsonl", ".csv", ".parquet")


def wanted_of(*, since: str, status: str, digest: str, limit: int | None) -> Wanted:
    """Return what the options ask for.

    Raises:
        ConfigurationError: `since` is no time, or `status` no status.
    """
    if status and not _STATUS.fullmatch(status):
        raise ConfigurationError(f"--status is {status!r}; expected ok, error, or a status as 400")
    return Wanted(_time_of(since), status, digest, limit)


def _time_of(since: str) -> datetime | None:
    if not since:
        return None
    if ago := _AGO.fullmatch(since):
        unit = _UNITS[ago[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(ago[1])})
    try:
        time = datetime.fromisoformat(since.replace("Z", "+00:00"))
    except ValueError as error:
        raise ConfigurationError(
            f"--since is {since!r}; expected a time as 2026-01-31T12:00 (UTC), or 30m, 6h, 7d"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def find_answers(context: Context, name: str, wanted: Wanted) -> list[dict[str, Any]]:
    """Return the answers of a model of the catalog, or of another one that was recorded.

    Raises:
        NotFoundError: none are stored.
        ConfigurationError: the platform does not record, or nothing has that name.
    """
    require_embedded(context)
    if (model := context.find_model(name)) is not None:
        return read_answers(context.platform.object_store(), model.name, wanted)
    try:
        return read_answers(context.platform.object_store(), name, wanted)
    except NotFoundError as error:
        known = [known.name for known in context.models]
        raise ConfigurationError(context.describe_unknown(name, known)) from error


def require_embedded(context: Context) -> None:
    """Refuse a platform that does not record answers.

    Raises:
        ConfigurationError: it does not.
    """
    if context.platform.name != "embedded":
        raise ConfigurationError(
            f"answers are recorded only on the embedded platform, not on {context.platform.name}; "
            "set answers.enabled = false, or use --platform embedded"
        )


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return answers as a table for the screen; long values are cut."""
    names = ("time", "id", "digest", "predictor", "protocol", "status", "ms", "input", "output")
    table = Table(*names, "reward", "truth", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        status = f"{row['status']} {row['reason']}".strip()
        fields = (
            row["time"],
            row["id"],
            str(row["digest"])[:12],
            row["predictor"],
            f"{row['protocol']} {row['transport']}",
            status,
            f"{row['latency_ms']:.1f}",
            row["omitted"] if row["omitted"] else _short(row["input"]),
            _short(row["output"]),
            _short(row["reward"]),
            _short(row["truth"]),
        )
        table.add_row(*(escape(str(field)) for field in fields))
    return table


def _short(value: object) -> str:
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def export(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write answers to a file that only its owner can read; its ending chooses the format.

    In .csv and .parquet, `columns`, `input`, `output` and `truth` are JSON.

    Raises:
        ConfigurationError: an unknown ending, a file that cannot be written, or no pyarrow.
    """
    kind = file.suffix
    require_format(file)
    if kind == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        write_atomically(file, "".join(f"{line}\n" for line in lines), mode=PRIVATE)
        return
    flat = [_flat(row) for row in rows]
    write_atomically(file, b"", mode=PRIVATE)
    with writing(file):
        if kind == ".csv":
            with file.open("w", newline="", encoding="utf-8") as opened:
                writer = csv.DictWriter(opened, fieldnames=list(flat[0]) if flat else ["id"])
                writer.writeheader()
                writer.writerows(flat)
        else:
            import pandas

            pandas.DataFrame(flat).to_parquet(file)


def require_format(file: Path) -> None:
    """Refuse a file that could not be written, before anything is read.

    Raises:
        ConfigurationError: an unknown ending, or no pyarrow for .parquet.
    """
    if file.suffix not in FORMATS:
        raise ConfigurationError(
            f"could not export to {file}: expected a name that ends in {', '.join(FORMATS)}"
        )
    if file.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigurationError(
            f"could not export to {file}: Parquet needs pyarrow; run `pip install pyarrow`, or "
            "export to .jsonl or .csv"
        )


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, ensure_ascii=False)
        if name in _NESTED and value is not None
        else value
        for name, value in row.items()
    }


def old_files(context: Context) -> list[str]:
    """Return the keys of the rows that are older than the settings keep them."""
    if context.platform.name != "embedded":
        return []
    days, today = context.settings.answers.retention_days, datetime.now(UTC).date()
    try:
        return expired(context.platform.object_store(), retention_days=days, today=today)
    except NotFoundError:  # Nothing was ever recorded.
        return []
