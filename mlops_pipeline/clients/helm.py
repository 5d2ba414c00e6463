"""Helm: installs charts with its program, and reads releases from the cluster itself.

What helm stores: one Secret for each revision of a release, named `sh.helm.release.v1.<release>.
v<revision>` and labelled (`pkg/storage/driver/secrets.go` of Helm 3).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlops_pipeline.clients.kubernetes import SECRET, KubernetesApi
from mlops_pipeline.clients.process import run

_GRACE = 30.0
"""Seconds that the program may take beyond its own timeout."""
_HISTORY = 2
_BOOKKEEPING = {"owner", "name", "status", "version", "createdAt", "modifiedAt"}
_CONNECTION = (
    *("HELM_KUBEAPISERVER", "HELM_KUBEASGROUPS", "HELM_KUBEASUSER", "HELM_KUBECAFILE"),
    *("HELM_KUBEINSECURE_SKIP_TLS_VERIFY", "HELM_KUBETLS_SERVER_NAME", "HELM_KUBETOKEN"),
)
"""Variables that would lead helm to another cluster than the kubeconfig does."""


@dataclass(frozen=True)
class Release:
    """The newest revision of a release, as helm's Secret describes it."""

    name: str
    namespace: str
    status: str
    """`deployed`, `failed`, `pending-install`, `pending-upgrade`, `uninstalling` …"""
    revision: int
    labels: Mapping[str, str]
    """Labels that it was installed with, without helm's own."""

    @property
    def interrupted(self) -> bool:
        """Whether a helm that worked on it was killed."""
        return self.status.startswith("pending-") or self.status == "uninstalling"


class HelmApi(Protocol):
    """Interface of helm, which the real one and the fake in the tests implement."""

    def upgrade(
        self,
        release: str,
        *,
        chart: Path,
        namespace: str,
        values: Mapping[str, Any],
        timeout: float,
        labels: Mapping[str, str],
    ) -> None:
        """Install the chart or upgrade the release to it; returns before its pods are ready."""

    def uninstall(self, release: str, *, namespace: str, timeout: float) -> bool:
        """Remove the release with its objects; return False if it does not exist."""


class Helm:
    """The program `helm` (3.13 or newer) on the cluster that `context` of `kubeconfig` names.

    `api` is the same cluster, used for repairs that the program refuses. Its files are below
    `home`; the user's files are neither read nor written. Callers must ensure that no other process
    uses it, because a pending release counts as interrupted.
    """

    def __init__(
        self, program: Path, *, kubeconfig: Path, context: str, home: Path, api: KubernetesApi
    ) -> None:
        self._program = program
        self._kubeconfig = kubeconfig
        self._context = context
        self._home = home
        self._api = api

    def upgrade(
        self,
        release: str,
        *,
        chart: Path,
        namespace: str,
        values: Mapping[str, Any],
        timeout: float,
        labels: Mapping[str, str],
    ) -> None:
        """Install the chart or upgrade the release to it; returns before its pods are ready.

        If helm was killed, its incomplete release is resumed: its objects are kept.
        `timeout` is in seconds, `labels` mark the release itself.

        Raises:
            CommandError: helm failed (with its message), is missing, or timed out.
            UnavailableError: the cluster does not answer.
        """
        self._mend(release, namespace, timeout)
        self._run(
            [
                *("upgrade", release, str(chart), "--install", "--create-namespace"),
                *("--namespace", namespace, "--values", "-", "--history-max", str(_HISTORY)),
                *("--labels", ",".join(f"{name}={value}" for name, value in labels.items())),
            ],
            purpose=f"install the chart {chart.name} as the release {release} in {namespace}",
            timeout=timeout,
            stdin=json.dumps(values),
        )

    def uninstall(self, release: str, *, namespace: str, timeout: float) -> bool:
        """Remove the release and wait for its deletion; return False if it does not exist.

        Raises:
            CommandError: helm failed (with its message), is missing, or timed out.
            UnavailableError: the cluster does not answer.
        """
        if find_release(self._api, release, namespace=namespace) is None:
            return False
        self._run(
            ["uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait"],
            purpose=f"uninstall the release {release} in {namespace}",
            timeout=timeout,
        )
        return True

    def _mend(self, release: str, namespace: str, timeout: float) -> None:
        """Allow helm to resume after one was killed, which it refuses otherwise.

        Without the record of the incomplete revision, helm upgrades the previous one or installs,
        and adopts existing objects, because they carry the name of their release.
        """
        found = find_release(self._api, release, namespace=namespace)
        if found is None or not found.interrupted:
            return
        if found.status == "uninstalling":
            self.uninstall(release, namespace=namespace, timeout=timeout)
            return
        self._api.delete(SECRET, _secret_name(release, found.revision), namespace=namespace)

    def _run(
        self, arguments: Sequence[str], *, purpose: str, timeout: float, stdin: str | None = None
    ) -> str:
        return run(
            [
                *(str(self._program), *arguments, "--timeout", f"{timeout:.0f}s"),
                *("--kubeconfig", str(self._kubeconfig), "--kube-context", self._context),
            ],
            purpose=purpose,
            timeout=timeout + _GRACE,
            stdin=stdin,
            environment=self._environment(),
            remedy="install helm, or set MLOPS_BUNDLE to a bundle that contains it",
        )

    def _environment(self) -> Mapping[str, str]:
        return {
            "HELM_CACHE_HOME": str(self._home / "cache"),
            "HELM_CONFIG_HOME": str(self._home / "config"),
            "HELM_DATA_HOME": str(self._home / "data"),
            "HELM_PLUGINS": str(self._home / "data" / "plugins"),
            "HELM_REGISTRY_CONFIG": str(self._home / "config" / "registry.json"),
            "HELM_REPOSITORY_CACHE": str(self._home / "cache" / "repository"),
            "HELM_REPOSITORY_CONFIG": str(self._home / "config" / "repositories.yaml"),
            "HELM_DRIVER": "secret",
            # The Kubernetes client in helm caches the kinds of a cluster in ~/.kube/cache.
            "KUBECACHEDIR": str(self._home / "cache" / "kube"),
            **dict.fromkeys(_CONNECTION, ""),
        }


def find_release(api: KubernetesApi, release: str, *, namespace: str) -> Release | None:
    """Return the release's newest revision, or None. Starts no process."""
    secrets = api.list(
        SECRET, namespace=namespace, labels=f"owner=helm,name={release}", metadata_only=True
    )
    revisions = [_release(secret["metadata"]) for secret in secrets]
    return max(revisions, key=lambda r: r.revision, default=None)


def _release(metadata: Mapping[str, Any]) -> Release:
    labels = metadata["labels"]
    return Release(
        name=labels["name"],
        namespace=metadata["namespace"],
        status=labels["status"],
        revision=int(labels["version"]),
        labels={name: value for name, value in labels.items() if name not in _BOOKKEEPING},
    )


def _secret_name(release: str, revision: int) -> str:
    return f"sh.helm.release.v1.{release}.v{revision}"
