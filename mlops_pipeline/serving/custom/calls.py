"""A request to the class of a custom component, its answer, and what the class says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAYLOADS = ("dataframe_split", "dataframe_records", "instances", "inputs")
"""Fields of MLflow's scoring protocol, of which a document has one."""


@dataclass(frozen=True)
class Facts:
    """What the class says about itself when it is loaded."""

    title: str
    feature_names: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    has_raw: bool = False
    has_health: bool = False
    is_rowwise: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    """The server's limits that the artifact sets, and the graph does not."""


@dataclass(frozen=True)
class Call:
    """A request to the class."""

    value: Any
    """An array of numbers, text, bytes, or JSON."""
    method: str = "predict"
    """`predict`, `raw` (`predict_raw`) or `health` (`health_status`)."""
    names: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    are_rows: bool = False
    """Whether a list is rows, which become an array; otherwise it is JSON."""


@dataclass(frozen=True)
class Answered:
    """The answer of the class; `tags` and `metrics` belong in `meta` of Seldon's answer."""

    value: Any
    names: tuple[str, ...] | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()
