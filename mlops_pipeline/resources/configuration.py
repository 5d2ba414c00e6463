"""The defaults of an instance's dagster.yaml, which reach the files of earlier versions too.

A file names the version of its defaults. What its owner has not changed since becomes the current
default, and every other line stays as it is. PyYAML tells where a value is in the text, so that
nothing needs to be written anew around it.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.clients.files import read_or_empty

VERSION = 2
DEFAULTS: Mapping[str, Any] = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    "compute_logs": {"module": "mlops_pipeline.resources.step_output", "class": "StepOutput"},
    "python_logs": {"managed_python_loggers": ["mlops_pipeline"], "python_log_level": "INFO"},
}
_NONE_KEPT = {
    "module": "dagster._core.storage.noop_compute_log_manager",
    "class": "NoOpComputeLogManager",
}
_FORMER: Mapping[int, Mapping[str, Any]] = {1: {**DEFAULTS, "compute_logs": _NONE_KEPT}}
"""Version → its defaults."""
_MARK = "# Version of the defaults, which mlops-pipeline updates: "
CURRENT = f"{_MARK}{VERSION}"
"""The line of a file with the current defaults."""
_MARKED = re.compile(rf"^{_MARK}(\d+)[ \t\r]*\n?", re.MULTILINE)
_FIRST = re.compile(r"^  managed_python_loggers:(\n  -| \[)\s*mlops_pipeline\b", re.MULTILINE)
_NOTE = "# You may change this file: your values and comments stay.\n"


def initial() -> str:
    """Return the text of a new file."""
    return f"{CURRENT}\n{_NOTE}{yaml.safe_dump(dict(DEFAULTS), sort_keys=False)}"


def is_marked(file: Path) -> bool:
    """Say whether a file names a version of the defaults, or has the first ones, without a name."""
    text = read_or_empty(file)
    return _MARKED.search(text) is not None or _FIRST.search(text) is not None


def is_current(text: str) -> bool:
    """Say whether a file has the current defaults, or those of a later version."""
    return _version(text) >= VERSION


def _version(text: str) -> int:
    found = _MARKED.search(text)
    return int(found[1]) if found else 1


def updated(text: str) -> tuple[str, list[str]]:
    """Return a file of an earlier version with the current defaults, and what stays different.

    Each difference is a sentence. A text that contains no settings is returned as it is.

    Raises:
        yaml.YAMLError: the text is damaged.
    """
    before = yaml.safe_load(text)
    if not isinstance(before, dict):
        return text, []
    former = _FORMER.get(_version(text), _FORMER[1])
    # A default that its owner has removed stays away.
    new = {
        k: v for k, v in DEFAULTS.items() if former.get(k) != v and (k in before or k not in former)
    }
    ours = {k: v for k, v in new.items() if before.get(k) == former.get(k)}
    kept = [
        f"`{key}` keeps your value. The new default is {_in_one_line(value)}"
        for key, value in new.items()
        if key not in ours and before[key] != value
    ]
    text = _MARKED.sub("", text)
    changed = _with_values(text, ours)
    if yaml.safe_load(changed) != {**before, **ours}:  # Anchors.
        sentence = f"the new defaults could not be added. Add them yourself: {_in_one_line(new)}"
        changed, kept = text, [sentence]
    return f"{CURRENT}\n{changed}", kept


def _in_one_line(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=10_000).strip()


def _with_values(text: str, values: Mapping[str, Any]) -> str:
    """Return the text with these values of top-level keys, as far as it has their form."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None
    known = {key.value: node for key, node in root.value}
    edits = [edit for key in values.keys() & known for edit in _edits(known[key], values[key])]
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    added = {key: value for key, value in values.items() if key not in known}
    return f"{text.rstrip()}\n{yaml.safe_dump(added, sort_keys=False)}" if added else text


def _edits(node: yaml.Node, value: Any) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and new text of each part of a value that is a single word."""
    if isinstance(node, yaml.MappingNode) and isinstance(value, Mapping):
        for key, child in node.value:
            yield from _edits(child, value.get(key.value))
    elif isinstance(node, yaml.ScalarNode):
        new = _in_one_line(value).removesuffix("\n...")
        yield node.start_mark.index, node.end_mark.index, new
