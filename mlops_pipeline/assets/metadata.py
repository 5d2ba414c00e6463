"""Typed metadata of assets for the UI."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from mlops_pipeline.platforms.layers import Change


def of_change(change: Change, *, seconds: float) -> dict[str, dg.MetadataValue]:
    """Return a change's action and facts, and its duration in seconds if something was changed.

    The duration of a check without changes would distort the same curve.
    """
    took = {} if change.action == "unchanged" else {"seconds": round(seconds, 3)}
    return {"change": dg.MetadataValue.text(change.action), **of_facts({**took, **change.facts})}


def of_facts(facts: Mapping[str, str | int | float]) -> dict[str, dg.MetadataValue]:
    """Return facts as metadata, addresses as links."""
    return {name: _typed(value) for name, value in facts.items()}


def _typed(value: str | int | float) -> dg.MetadataValue:
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value)
    is_link = value.startswith(("http://", "https://"))
    return dg.MetadataValue.url(value) if is_link else dg.MetadataValue.text(value)


def of_problems(report: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """Return which parts of a description or evaluation could not be created, and why."""
    problems = report.get("problems")
    return {"not_shown": dg.MetadataValue.text("\n".join(problems))} if problems else {}


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without infinite numbers, which JSON cannot represent."""
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, float) or math.isfinite(value)
    }


def picture(png: bytes, *, title: str) -> dg.MetadataValue:
    """Return a PNG that the UI shows."""
    return dg.MetadataValue.md(
        f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"
    )


def example(text: str) -> dg.MetadataValue:
    """Return JSON as a code block, shortened to 600 characters."""
    shown = text if len(text) <= 600 else f"{text[:600]} …"
    return dg.MetadataValue.md(f"```json\n{shown}\n```")


def table(rows: Mapping[str, Any]) -> dg.MetadataValue:
    """Return names and values as JSON."""
    return dg.MetadataValue.json(json.loads(json.dumps(dict(rows))))


def records(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Return records with the same keys as a table, numbers rounded to four decimals.

    Numbers below 0.1 have four significant digits.

    The UI shows a table directly, but longer Markdown and JSON behind a link.
    """
    columns = {name: _column_type(rows, name) for name in (rows[0] if rows else {})}
    return dg.MetadataValue.table(
        records=[dg.TableRecord({k: _rounded(v) for k, v in row.items()}) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()]),
    )


def _column_type(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    kinds = {type(row[name]) for row in rows if row[name] is not None}
    return {int: "int", float: "float", bool: "bool"}.get(kinds.pop(), "string") if kinds else "any"


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 4) if abs(value) >= 0.1 else float(f"{value:.4g}")
