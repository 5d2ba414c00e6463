"""Reads kubeconfigs: parsed once, and never shown, because any line may contain a key."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError

_QUOTED = re.compile(r"(['\"]).{2,}?\1")
"""Quotes of the file in a parser's message."""


def read(path: Path) -> Mapping[str, Any]:
    """Return the content; it must not be changed. The same bytes are parsed once.

    Raises:
        NotFoundError: the file does not exist.
        ConfigurationError: it cannot be read or is not a kubeconfig; its content is not shown.
    """
    try:
        wrong, content = "", _parsed(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFoundError(f"the kubeconfig {path} does not exist") from error
    except OSError as error:
        wrong = str(error.strerror or type(error).__name__)
    except (ValueError, yaml.YAMLError) as error:
        wrong = _described(error)
    if wrong:
        # Not `from` the error: printing the cause would print the invalid line.
        raise ConfigurationError(
            f"could not read the kubeconfig {path}: {wrong}; correct it, or choose another with "
            "kubernetes.kubeconfig"
        )
    return content if isinstance(content, dict) else {}


def entries(
    content: Mapping[str, Any], table: str, *, path: Path
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the entries of `contexts`, `clusters` or `users` by their names.

    Raises:
        ConfigurationError: the table is invalid.
    """
    part = table.removesuffix("s")
    listed = content.get(table) or ()
    for entry in listed if isinstance(listed, list | tuple) else (listed,):
        about = (entry.get(part) or {}) if isinstance(entry, dict) and "name" in entry else None
        if not isinstance(about, dict):
            raise ConfigurationError(
                f"the kubeconfig {path} is invalid: each entry of its list `{table}` must have a "
                f"`name` and a table `{part}`; correct it"
            )
        yield str(entry["name"]), about


@lru_cache(maxsize=4)
def _parsed(text: bytes) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _described(error: ValueError | yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = _QUOTED.sub("…", str(getattr(error, "problem", None) or "it is not YAML"))
    return f"{problem}, in line {mark.line + 1}, column {mark.column + 1}" if mark else problem
