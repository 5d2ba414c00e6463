"""helm in memory: its releases are Secrets of a fake cluster."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.kubernetes import SECRET, Manifest
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes, resource_of


@dataclass(frozen=True)
class Upgrade:
    """A chart that was installed or upgraded to."""

    release: str
    chart: Path
    namespace: str
    values: Mapping[str, Any]
    labels: Mapping[str, str]


class FakeHelm:
    """Keeps its releases in `api`, where `find_release` sees them.

    `brings` names the objects that a release makes; `fails` those whose upgrade fails, with why.
    """

    def __init__(
        self,
        api: FakeKubernetes,
        *,
        brings: Mapping[str, Iterable[Manifest]] | None = None,
        fails: Mapping[str, str] | None = None,
    ) -> None:
        self.upgrades: list[Upgrade] = []
        self.uninstalled: list[str] = []
        self.fails = dict(fails or {})
        self._api = api
        self._brings = {name: tuple(manifests) for name, manifests in (brings or {}).items()}

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
        if release in self.fails:
            raise CommandError(f"could not install the release {release}: {self.fails[release]}")
        self.upgrades.append(Upgrade(release, chart, namespace, values, labels))
        before = self._secrets(release, namespace)
        for secret in before:
            secret["metadata"]["labels"]["status"] = "superseded"
            self._api.put(secret)
        self._api.put(release_secret(release, namespace, revision=len(before) + 1, labels=labels))
        for manifest in self._brings.get(release, ()):
            self._api.put(manifest)

    def uninstall(self, release: str, *, namespace: str, timeout: float) -> bool:
        secrets = self._secrets(release, namespace)
        for secret in secrets:
            self._api.drop(SECRET, secret["metadata"]["name"], namespace=namespace)
        if not secrets:
            return False
        self.uninstalled.append(release)
        for manifest in self._brings.get(release, ()):
            metadata = manifest["metadata"]
            self._api.drop(
                resource_of(manifest), metadata["name"], namespace=metadata.get("namespace", "")
            )
        return True

    def _secrets(self, release: str, namespace: str) -> Sequence[Manifest]:
        return self._api.list(SECRET, namespace=namespace, labels=f"owner=helm,name={release}")


def release_secret(
    release: str,
    namespace: str,
    *,
    status: str = "deployed",
    revision: int = 1,
    labels: Mapping[str, str] | None = None,
) -> Manifest:
    """Return the Secret that helm keeps of a revision, without the revision itself."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "helm.sh/release.v1",
        "metadata": {
            "name": f"sh.helm.release.v1.{release}.v{revision}",
            "namespace": namespace,
            "labels": {
                **(labels or {}),
                "owner": "helm",
                "name": release,
                "status": status,
                "version": str(revision),
                "modifiedAt": "1767225600",
            },
        },
    }
