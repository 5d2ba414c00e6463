"""The log of answers on a platform: how servers record, and how long rows are kept."""

import json
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from mlops_pipeline.clients.errors import InvalidManifestError
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.platforms.store_access import ANSWERS
from mlops_pipeline.serving.recording.format import SUFFIX, Recording
from mlops_pipeline.settings.answers import AnswersSettings

ANNOTATION = "mlops-pipeline/answers"
"""On a predictor: JSON with how its servers record, where that differs from the settings."""

SHIPPER = "answer_shipper"
"""The layer that uploads rows; also the name of its program."""


def recording_of(
    settings: AnswersSettings,
    annotations: Mapping[str, str],
    *,
    namespace: str,
    folder: Path,
) -> str:
    """Return the server's variable for a predictor with these annotations; empty: none.

    Columns that the settings mask are masked whatever the annotation says.

    Raises:
        InvalidManifestError: the annotation cannot be read.
    """
    own = _read(annotations.get(ANNOTATION, ""))
    if not settings.enabled or own.get("record") is False:
        return ""
    try:
        recording = Recording(
            folder=str(folder),
            namespace=namespace,
            sample=min(1.0, max(0.0, float(own.get("sample", settings.sample)))),
            per_second=max(1, int(own.get("per_second", settings.per_second))),
            mask=tuple(dict.fromkeys((*settings.mask, *_names(own.get("mask"))))),
            columns=_names(own.get("columns")),
            spool_bytes=settings.spool_megabytes * 10**6,
        )
    except (TypeError, ValueError) as error:
        raise _unreadable(str(error)) from error
    return recording.to_json()


def write_annotation(
    *,
    is_recorded: bool,
    sample: float | None,
    per_second: int | None,
    mask: Iterable[str],
    columns: Iterable[str],
) -> dict[str, str]:
    """Return the annotation of a model that differs from the settings; none if it does not.

    `columns` are the model's names of them; they are told only with a `mask`.
    """
    given: dict[str, object] = {}
    if not is_recorded:
        given["record"] = False
    if sample is not None:
        given["sample"] = sample
    if per_second is not None:
        given["per_second"] = per_second
    if mask := list(mask):
        given |= {"mask": mask, "columns": list(columns)}
    return {ANNOTATION: json.dumps(given)} if given else {}


def describe(settings: AnswersSettings) -> str:
    """Return what is stored, where and for how long, for whoever enables it."""
    masked = f", without {', '.join(settings.mask)}" if settings.mask else ""
    return (
        f"answers.enabled: requests to models are recorded with their answers{masked}, and "
        f"feedback, in s3://{ANSWERS}/<model>/<day>/ of this platform's object store, for "
        f"{settings.retention_days} days. To end it, set answers.enabled = false and run "
        "`mlops-pipeline up`"
    )


def expired(store: Objects, *, retention_days: int, today: date) -> list[str]:
    """Return the keys of the rows of days that are no longer kept, sorted.

    Raises:
        NotFoundError: there is no log of answers.
        UnavailableError: the object store does not answer.
    """
    first = today - timedelta(days=retention_days)
    days = ((key, day_of(key)) for key in store.sizes(ANSWERS, ""))
    return sorted(key for key, day in days if day is not None and day < first)


def day_of(key: str) -> date | None:
    """Return the day of a file of rows, `<model>/<day>/<name>`; None for another object."""
    parts = key.split("/")
    if len(parts) != 3 or not key.endswith(SUFFIX):
        return None
    try:
        return date.fromisoformat(parts[1])
    except ValueError:
        return None


def _read(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _unreadable(str(error)) from error
    if not isinstance(found, dict):
        raise _unreadable("it is not an object")
    unknown = found.keys() - {"record", "sample", "per_second", "mask", "columns"}
    if unknown:  # A misspelled mask would record what it should mask.
        raise _unreadable(f"unknown: {', '.join(sorted(unknown))}")
    return found


def _names(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("names must be a list of strings")
    return tuple(value)


def _unreadable(reason: str) -> InvalidManifestError:
    return InvalidManifestError(
        f"could not read the annotation {ANNOTATION} of a predictor: {reason}; expected JSON with "
        "record, sample, per_second, mask and columns. Nothing was changed"
    )
