"""The user's kubeconfig: read, never written, and only the context that the settings name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_pipeline.clients import kubeconfig
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
    found = {path: kubeconfig.read(path) for path in _files(settings) if path.is_file()}
    if not found:
        shown = ", ".join(map(str, _files(settings)))
        raise ConfigurationError(
            f"there is no kubeconfig {shown}; set kubernetes.kubeconfig to one, or KUBECONFIG"
        )
    wanted = settings.context
    for path, content in found.items():
        contexts = dict(kubeconfig.entries(content, "contexts", path=path))
        if wanted and wanted in contexts:
            _require_whole(path, content, wanted, contexts[wanted])
            return path
    known = sorted(
        {name for p, c in found.items() for name, _ in kubeconfig.entries(c, "contexts", path=p)}
    )
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


def _require_whole(
    path: Path, content: Mapping[str, Any], name: str, context: Mapping[str, Any]
) -> None:
    for table in ("clusters", "users"):
        part = str(context.get(table.removesuffix("s"), ""))
        if part not in dict(kubeconfig.entries(content, table, path=path)):
            raise ConfigurationError(
                f"the context {name} of {path} names the {table.removesuffix('s')} {part!r}, which "
                "is not in that file; write all of it into one (`kubectl config view --flatten "
                f"--minify --context {name} > FILE`) and set kubernetes.kubeconfig to that"
            )
