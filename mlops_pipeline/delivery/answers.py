"""The log of answers: rows out of the object store, joined with what was told about them later.

Bucket `answers`::

    <model>/<day>/<time>-<random>.jsonl.gz    rows of one server, lines of JSON, time and day in UTC

A feedback is a row of its own. It belongs to the answer with its id, whichever server got it.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from gzip import BadGzipFile, decompress
from typing import Any

from mlops_pipeline.clients.errors import IntegrityError, NotFoundError
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.platforms.answers import day_of
from mlops_pipeline.platforms.store_access import ANSWERS

_OVERLAP = timedelta(minutes=1)
"""A file has no row older than its name says, and none much newer: servers complete files soon."""
_MOST_LISTS = 31
"""Days that are listed one by one; of more, the model's whole log is listed."""
_FIELDS = ("id", "time", "namespace", "deployment", "predictor", "digest", "protocol", "transport")


@dataclass(frozen=True)
class Wanted:
    """Which answers are wanted."""

    since: datetime | None = None
    """UTC."""
    status: str = ""
    """`ok`, `error`, or a status such as `400`; empty: any."""
    digest: str = ""
    """How the artifact's digest begins."""
    limit: int | None = None
    """Maximum of answers, the newest; None: all."""

    def admits(self, row: Mapping[str, Any]) -> bool:
        """Say whether an answer is wanted."""
        is_error = bool(row["reason"])
        fits = {"": True, "ok": not is_error, "error": is_error}
        if not fits.get(self.status, str(row["status"]) == self.status):
            return False
        is_recent = self.since is None or _time_of(row) >= self.since
        return is_recent and str(row["digest"]).startswith(self.digest)


def read_answers(store: Objects, model: str, wanted: Wanted) -> list[dict[str, Any]]:
    """Return answers, the newest first, each with the last `reward` and `truth` told about it.

    Only as many files are read as hold the wanted answers.

    Raises:
        NotFoundError: no answers of the model are stored.
        IntegrityError: a file cannot be read; names it.
        UnavailableError: the object store does not answer.
    """
    found: list[dict[str, Any]] = []
    told: dict[str, dict[str, Any]] = {}
    for key in _keys(store, model, wanted.since):
        if _has_enough(found, key, wanted.limit):
            break
        for row in _rows(store, key):
            if row["kind"] == "feedback":
                known = told.get(row["id"])
                if row["id"] and (known is None or known["time"] < row["time"]):
                    told[row["id"]] = row
            elif wanted.admits(row):
                found.append(row)
    newest = sorted(found, key=lambda row: str(row["time"]), reverse=True)[: wanted.limit]
    return [_joined(row, told.get(row["id"])) for row in newest]


def _joined(row: Mapping[str, Any], feedback: Mapping[str, Any] | None) -> dict[str, Any]:
    said = feedback or {}
    told = {"reward": said.get("reward"), "truth": said.get("truth")}
    return {**{key: row[key] for key in row if key != "kind"}, **told}


def _keys(store: Objects, model: str, since: datetime | None) -> list[str]:
    """Return the model's files that may hold answers since then, the newest first."""
    first = (since - _OVERLAP).date() if since is not None else date.min
    try:
        days = _days(store, _prefixes(model, first))
        is_known = any(days.values()) or any(_days(store, [f"{model}/"]).values())
    except NotFoundError:
        is_known = False
    if not is_known:
        raise NotFoundError(
            f"no answers of {model} are stored; set answers.enabled = true, run `mlops-pipeline "
            "up`, and ask the model. New answers are stored after some seconds"
        )
    return sorted((key for key, day in days.items() if day and day >= first), reverse=True)


def _prefixes(model: str, first: date) -> list[str]:
    """Return what the keys since that day begin with; a day more, as clocks differ."""
    last = datetime.now(UTC).date() + timedelta(days=1)
    count = (last - first).days + 1
    if not 0 < count <= _MOST_LISTS:
        return [f"{model}/"]
    return [f"{model}/{first + timedelta(days=number)}/" for number in range(count)]


def _days(store: Objects, prefixes: list[str]) -> dict[str, date | None]:
    return {key: day_of(key) for prefix in prefixes for key in store.sizes(ANSWERS, prefix)}


def _has_enough(found: list[dict[str, Any]], key: str, limit: int | None) -> bool:
    """Say whether all rows of the file `key`, and of older ones, are older than those found."""
    if limit is None or len(found) < limit:
        return False
    if limit == 0:
        return True
    times = sorted((_time_of(row) for row in found), reverse=True)
    return _began(key) < times[limit - 1] - _OVERLAP


def _began(key: str) -> datetime:
    _, day, name = key.split("/")
    try:
        return datetime.strptime(f"{day} {name[:6]}", "%Y-%m-%d %H%M%S").replace(tzinfo=UTC)
    except ValueError:  # Somebody else's name: it may hold anything of that day.
        return datetime.fromisoformat(f"{day}T23:59:59+00:00")


def _time_of(row: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(str(row["time"]).replace("Z", "+00:00"))


def _rows(store: Objects, key: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file.

    Raises:
        IntegrityError: it is damaged.
    """
    try:
        for line in decompress(store.get(ANSWERS, key)).splitlines():
            row = json.loads(line)
            if row["kind"] == "answer":
                _ = [row[name] for name in (*_FIELDS, "status", "reason", "latency_ms")]
            yield {"id": row["id"], "time": row["time"], **row}
    except (BadGzipFile, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"could not read the answers in s3://{ANSWERS}/{key}: {error!r}; delete this object"
        ) from error
