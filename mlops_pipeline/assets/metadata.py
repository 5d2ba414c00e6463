"""What people see of an asset in the UI, typed."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import dagster as dg

from mlops_pipeline.platforms.layers import Change


def of_change(change: Change) -> dict[str, dg.MetadataValue]:
    """Return a change's action and facts."""
    return {"change": dg.MetadataValue.text(change.action), **of_facts(change.facts)}


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


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without infinite numbers, which the UI's JSON cannot carry."""
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
