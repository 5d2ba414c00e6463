"""The user's kubeconfig: only read, and only the context that the settings name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_pipeline.clients import kubeconfig
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.settings.kubernetes import KubernetesSettings

_DEFAULT = Path("~/.kube/config")


def locate(settings: KubernetesSettings) -> Path:
    """Return the file that has the complete context.

    KUBECONFIG may name several files. The one with the context is used unchanged and in its place,
    so that its login programs run and its relative paths are valid.

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
    said = f"has no context {wanted!r}" if wanted else "needs the name of a context"
    raise ConfigurationError(
        f"the platform kubernetes {said}: set kubernetes.context (or MLOPS_KUBERNETES__CONTEXT) to "
        f"one of {', '.join(known) or 'none'}, from {', '.join(map(str, found))}; the current "
        "context is never used, and nothing was changed"
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
                "is not in that file; write everything into one file (`kubectl config view "
                f"--flatten --minify --context {name} > FILE`) and set kubernetes.kubeconfig to it"
            )
