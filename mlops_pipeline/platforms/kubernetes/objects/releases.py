"""Helm releases of the layers: compared by their inputs, installed only if an input changed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_pipeline.clients.errors import ConflictError, PipelineError
from mlops_pipeline.clients.files import sha256_of
from mlops_pipeline.clients.helm import Release, find_release
from mlops_pipeline.clients.kubernetes import KubernetesApi, Resource
from mlops_pipeline.platforms.kubernetes.objects.ownership import has_our_label, of_another
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, LayerState, Ready
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.sources import Chart

INPUTS_LABEL = "mlops-pipeline/inputs"
VERSION_LABEL = "mlops-pipeline/chart-version"


@dataclass(frozen=True)
class Installation:
    """A wanted release."""

    release: str
    namespace: str
    chart: str
    """The chart's name in the sources."""
    values: Mapping[str, Any]
    deployment: str = ""
    """The Deployment that it runs; empty if it runs none."""
    brings: tuple[tuple[Resource, str, str], ...] = ()
    """Other objects of it that the layer needs: kind, name, namespace."""

    def __str__(self) -> str:
        return f"the Helm release {self.namespace}/{self.release}"

    def labels(self, chart: Chart) -> dict[str, str]:
        """Return the release's labels, which identify it and its inputs."""
        values = json.dumps(self.values, sort_keys=True)
        inputs = hashlib.sha256(f"{sha256_of(chart.path)}{values}".encode()).hexdigest()
        version = chart.version.replace("+", "_")
        return {**MANAGED_BY, INPUTS_LABEL: inputs[:16], VERSION_LABEL: version}


def observe_release(parts: Parts, api: KubernetesApi, wanted: Installation) -> LayerState:
    """Compare the release in the cluster with the wanted one. Starts no process.

    If its chart is not available now, the inputs are not compared; whether it runs and who owns it
    is.
    """
    found = find_release(api, wanted.release, namespace=wanted.namespace)
    if found is None:
        return Absent()
    if not has_our_label(found.labels):
        return Broken(f"this project did not create {wanted}")
    if found.status != "deployed":
        return Broken(f"{wanted} is `{found.status}`: helm was interrupted or failed")
    try:
        chart = parts.sources.chart(wanted.chart)
    except PipelineError:
        return Ready()
    labels, version = wanted.labels(chart), found.labels.get(VERSION_LABEL, "?")
    if version != labels[VERSION_LABEL]:
        return Drifted((f"{wanted} is version {version}, expected {chart.version}",))
    if found.labels.get(INPUTS_LABEL) != labels[INPUTS_LABEL]:
        return Drifted((f"{wanted} was installed from another chart or with other values",))
    return Ready()


def is_release_ours(api: KubernetesApi, release: str, *, namespace: str) -> bool:
    """Say whether the release exists and this project created it."""
    found = find_release(api, release, namespace=namespace)
    return found is not None and has_our_label(found.labels)


def find_ours(api: KubernetesApi, wanted: Installation) -> Release | None:
    """Return the release, or None if it does not exist.

    Raises:
        ConflictError: it exists and is not ours.
    """
    found = find_release(api, wanted.release, namespace=wanted.namespace)
    if found is not None and not has_our_label(found.labels):
        raise ConflictError(
            f"could not install {wanted}: it exists, but this project did not create it; remove it "
            f"(`helm uninstall {wanted.release} --namespace {wanted.namespace}`), or use another "
            "cluster"
        )
    return found


def install(parts: Parts, wanted: Installation, *, extra: Mapping[str, Any] | None = None) -> None:
    """Install or upgrade the release.

    helm compares the previous installation, the new input and the current objects, so it also
    reverts what somebody changed or deleted. `extra` are values that do not count as drift.

    Raises:
        ConflictError: the release exists and is not ours.
        CommandError: helm failed; has its output.
    """
    api = parts.api()
    found = find_ours(api, wanted)
    chart = parts.sources.chart(wanted.chart)
    parts.helm().upgrade(
        wanted.release,
        chart=chart.path,
        namespace=wanted.namespace,
        values={**wanted.values, **(extra or {})},
        timeout=parts.settings.ready_timeout,
        labels={**api.labels, **_owner(api, found), **wanted.labels(chart)},
    )


def uninstall(parts: Parts, release: str, *, namespace: str) -> bool:
    """Remove the release if this state folder created it. Return whether it was removed."""
    api = parts.api()
    found = find_release(api, release, namespace=namespace)
    if found is None or not has_our_label(found.labels) or of_another(api, found.labels):
        return False
    timeout = parts.settings.ready_timeout
    return parts.helm().uninstall(release, namespace=namespace, timeout=timeout)


def _owner(api: KubernetesApi, found: Release | None) -> dict[str, str]:
    """Return the labels of the release's creator, so that a repair does not change its owner."""
    return {key: found.labels[key] for key in api.labels if found and key in found.labels}
