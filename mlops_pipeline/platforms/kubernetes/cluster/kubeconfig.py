"""The user's kubeconfig: read, never written, and only the context that the settings name."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.settings.kubernetes import KubernetesSettings

_DEFAULT = Path("~/.kube/config")


def locate(settings: KubernetesSettings) -> Path:
    """Return the file that says everything of the context.

    KUBECONFIG may name several files. The one that has the context is used as it is, in its place:
    so programs that it names for logging in are run, and its relative paths lead where they should.

    Raises:
        ConfigurationError: no context is named, no file has it, or a part of it is in another file.
    """
    found = {path: _read(path) for path in _files(settings) if path.is_file()}
    if not found:
        shown = ", ".join(map(str, _files(settings)))
        raise ConfigurationError(
            f"there is no kubeconfig {shown}; set kubernetes.kubeconfig to one, or KUBECONFIG"
        )
    wanted = settings.context
    for path, content in found.items():
        if (context := dict(_entries(content, "contexts")).get(wanted)) and wanted:
            _require_whole(path, content, wanted, context)
            return path
    known = sorted({name for c in found.values() for name, _ in _entries(c, "contexts")})
    said = f"has no context {wanted!r}" if wanted else "is not told which context to work on"
    raise ConfigurationError(
        f"the platform kubernetes {said}: set kubernetes.context (or MLOPS_KUBERNETES__CONTEXT) "
        f"to one of {', '.join(known) or 'none'}, from {', '.join(map(str, found))}; the current "
        "context is never taken, and nothing was changed"
    )


def _files(settings: KubernetesSettings) -> tuple[Path, ...]:
    if settings.kubeconfig is not None:
        return (settings.kubeconfig.expanduser().absolute(),)
    named = os.environ.get("KUBECONFIG", "")
    paths = [Path(part) for part in named.split(os.pathsep) if part] or [_DEFAULT]
    return tuple(path.expanduser().absolute() for path in paths)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"the kubeconfig {path} cannot be read: {error}; mend it, or name another with "
            "kubernetes.kubeconfig"
        ) from error
    return content if isinstance(content, dict) else {}


def _entries(content: Mapping[str, Any], table: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the entries of `contexts`, `clusters` or `users` by their names."""
    for entry in content.get(table) or ():
        if isinstance(entry, dict) and "name" in entry:
            yield str(entry["name"]), entry.get(table.removesuffix("s")) or {}


def _require_whole(
    path: Path, content: Mapping[str, Any], name: str, context: Mapping[str, Any]
) -> None:
    for table in ("clusters", "users"):
        part = str(context.get(table.removesuffix("s"), ""))
        if part not in dict(_entries(content, table)):
            raise ConfigurationError(
                f"the context {name} of {path} names the {table.removesuffix('s')} {part!r}, which "
                "is not in that file; write all of it into one (`kubectl config view --flatten "
                f"--minify --context {name} > FILE`) and set kubernetes.kubeconfig to that"
            )
