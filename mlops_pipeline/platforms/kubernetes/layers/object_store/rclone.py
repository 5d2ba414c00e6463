"""The Secret with which the pods of a namespace copy artifacts, in the format of Seldon's rclone.

https://github.com/SeldonIO/seldon-core/blob/v1.17.1/doc/source/servers/overview.md#handling-credentials
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mlops_pipeline.clients.kubernetes import (
    NAMESPACE,
    SECRET,
    SELDON_DEPLOYMENT,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.clients.waiting import Clock
from mlops_pipeline.platforms.kubernetes.objects import ownership
from mlops_pipeline.platforms.kubernetes.objects.endings import is_lasting, wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.ownership import ensure_namespace, is_mine
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.store_access import SECRET as NAME
from mlops_pipeline.platforms.store_access import rclone_settings

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Credentials

_LABEL = "mlops-pipeline/secret"
_KIND = "rclone"


class RcloneSecrets:
    """The Secrets of all namespaces, each with the content of `settings`.

    `namespace` is the default namespace of models.
    """

    def __init__(self, api: KubernetesApi, settings: Mapping[str, str], *, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._data = {
            name: base64.b64encode(value.encode()).decode() for name, value in settings.items()
        }

    def stale(self) -> tuple[str, ...]:
        """Return the namespaces whose Secret has other content, sorted."""
        return tuple(
            str(found["metadata"]["namespace"])
            for found in self._found()
            if found.get("data") != self._data
        )

    def ensure_known(self, *, timeout: float, clock: Clock) -> None:
        """Write the existing Secrets, and the one in the default namespace of models.

        Raises:
            ConflictError: a Secret of that name exists and is not ours.
        """
        known = {str(found["metadata"]["namespace"]) for found in self._found()}
        for namespace in sorted(known | {self._namespace}):
            self.ensure(namespace, timeout=timeout, clock=clock)

    def ensure(self, namespace: str, *, timeout: float, clock: Clock) -> bool:
        """Write the Secret of a namespace, which is created if missing; return whether it changed.

        Raises:
            ConflictError: a Secret of that name exists and is not ours.
            WaitTimeoutError: it or the namespace is being deleted, which did not end in time.
        """
        made = ensure_namespace(self._api, namespace, timeout=timeout, clock=clock)
        require_ours(self._api, namespace=namespace)
        wait_for_end(self._api, SECRET, NAME, namespace=namespace, timeout=timeout, clock=clock)
        changed = self._api.apply(_manifest(namespace, self._data)).action != "unchanged"
        return changed or made

    def _found(self) -> Sequence[Manifest]:
        """Return the existing Secrets, except in namespaces that are being deleted."""
        return [
            found
            for found in self._api.list(SECRET, labels=_selector())
            if is_lasting(self._api.find(NAMESPACE, str(found["metadata"]["namespace"])))
        ]


def require_ours(api: KubernetesApi, *, namespace: str) -> None:
    """Refuse a Secret of somebody else that has the name of ours.

    Raises:
        ConflictError: it exists and is not ours.
    """
    ownership.require_ours(
        api,
        SECRET,
        NAME,
        namespace=namespace,
        to="give pods the keys of the object store",
        remedy="delete it, or name another with envSecretRefName in the manifest",
    )


def delete_all(api: KubernetesApi) -> None:
    """Delete the Secrets that this state folder created in any namespace."""
    for found in filter(partial(is_mine, api), api.list(SECRET, labels=_selector())):
        api.delete(SECRET, NAME, namespace=found["metadata"]["namespace"])


def readers(api: KubernetesApi, *, by_default: bool) -> tuple[str, ...]:
    """Return the SeldonDeployments of somebody else that read artifacts with our Secret."""
    secrets = api.list(SECRET, labels=_selector()) if by_default else ()
    places = {str(found["metadata"]["namespace"]) for found in secrets}
    return tuple(
        f"SeldonDeployment {found['metadata']['namespace']}/{found['metadata']['name']}"
        for found in api.list(SELDON_DEPLOYMENT)
        if not is_mine(api, found)
        and is_lasting(found)
        and (
            f"'{NAME}'" in str(found["spec"])
            or (found["metadata"]["namespace"] in places and _takes_the_default(found))
        )
    )


def _takes_the_default(deployment: Manifest) -> bool:
    """Say whether a model of a SeldonDeployment names no Secret."""
    graphs = [p.get("graph") or {} for p in deployment["spec"].get("predictors") or ()]
    return any(
        unit.get("modelUri") and not unit.get("envSecretRefName")
        for graph in graphs
        for unit in _units(graph)
    )


def _units(graph: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield graph
    for child in graph.get("children") or ():
        yield from _units(child)


def settings_of(endpoint: str, key: "Credentials", *, region: str = "") -> dict[str, str]:
    """Return rclone's settings, including when it gives up.

    `endpoint` is the store's address for pods. There are few retries: with rclone's defaults, a
    store that does not answer is reported only after more than 200 s.
    """
    return {
        **rclone_settings(endpoint, key),
        **({"RCLONE_CONFIG_S3_SESSION_TOKEN": key.session_token} if key.session_token else {}),
        **({"RCLONE_CONFIG_S3_REGION": region} if region else {}),
        "RCLONE_CONTIMEOUT": "5s",
        "RCLONE_TIMEOUT": "30s",
        "RCLONE_RETRIES": "2",
        "RCLONE_LOW_LEVEL_RETRIES": "3",
    }


def _selector() -> str:
    return ",".join(f"{name}={value}" for name, value in _labels().items())


def _labels() -> dict[str, str]:
    return {**MANAGED_BY, _LABEL: _KIND}


def _manifest(namespace: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": namespace, "labels": _labels()},
        "type": "Opaque",
        "data": dict(data),
    }
