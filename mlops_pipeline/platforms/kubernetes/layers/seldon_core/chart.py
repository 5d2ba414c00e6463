"""Seldon Core's chart, sized for one machine, and its model servers."""

import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any, Protocol

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.kubernetes import CONFIG_MAP, SERVICE, VALIDATING_WEBHOOK
from mlops_pipeline.clients.kubernetes import SECRET as SECRET_KIND
from mlops_pipeline.platforms.kubernetes.objects.releases import Installation
from mlops_pipeline.platforms.layers import Diagnosis
from mlops_pipeline.platforms.store_access import SECRET
from mlops_pipeline.serving.frameworks import FORWARDER, TENSORFLOW, Framework, frameworks
from mlops_pipeline.settings.layers import LayerSettings

NAMESPACE = "seldon-system"
RELEASE = "seldon-core"
CHART = "seldon-core-operator"
MANAGER = "seldon-controller-manager"
CONFIG = "seldon-config"
"""The ConfigMap from which the operator reads its servers' images."""
WEBHOOK = f"seldon-validating-webhook-configuration-{NAMESPACE}"
WEBHOOK_SERVICE = "seldon-webhook-service"
WEBHOOK_SECRET = "seldon-webhook-server-cert"
DEFINITION = "seldondeployments.machinelearning.seldon.io"

FREE = "Apache-2.0"
_LAST_FREE = (1, 17)
"""Later minors are under the Business Source License 1.1 (LICENSE at tag v1.18.0)."""
_WINDOW = (23, 27)
"""Minors of Kubernetes 1.x that Seldon names as tested."""
_TENSORFLOW = ("tensorflow-cpu", "tensorflow")

Servers = dict[str, dict[str, dict[str, dict[str, str]]]]
"""`predictor_servers` of the chart: server → protocols → protocol → image and its tag."""


class ServingImages(Protocol):
    """Our own model server, as images."""

    def reference(self, implementation: str) -> str:
        """Return the image that serves an implementation. Contacts nothing."""


BRINGS = (
    (VALIDATING_WEBHOOK, WEBHOOK, ""),
    (SERVICE, WEBHOOK_SERVICE, NAMESPACE),
    (SECRET_KIND, WEBHOOK_SECRET, NAMESPACE),
    (CONFIG_MAP, CONFIG, NAMESPACE),
)
"""Objects of the release, besides the definition, that a SeldonDeployment needs.

The definition has 1 MB, so it is not read: without it, a dry run reports that the kind is
unknown."""


def installation(settings: LayerSettings, serving: ServingImages) -> Installation:
    """Return the wanted release.

    Raises:
        ConfigurationError: upstream's images must serve, but TensorFlow is not installed here.
    """
    values = _values(settings, serving)
    return Installation(RELEASE, NAMESPACE, CHART, values, deployment=MANAGER, brings=BRINGS)


def require_version(settings: LayerSettings, version: str) -> None:
    """Refuse a chart of another version than the one in the settings.

    Raises:
        ConfigurationError: has both versions, and the setting to change.
    """
    setting = f"{settings.platform}.seldon.version"
    if version != settings.seldon.version:
        raise ConfigurationError(
            f"could not install Seldon Core: {setting} is {settings.seldon.version}, but the "
            f"available chart is {version}; set {setting} to {version}, or provide the chart "
            f"{CHART} {settings.seldon.version}. Nothing was changed"
        )


def check_window(kubernetes: str) -> str:
    """Return a warning if Seldon does not name this Kubernetes as supported by 1.17, else "".

    `kubernetes` is its version: `v1.34.4`.

    https://docs.seldon.ai/seldon-core-1/getting-started/installation; it uses only generally
    available APIs, and our tests run it on 1.34.

    Raises:
        ConfigurationError: it does not run there.
    """
    first, last = _WINDOW
    if (found := re.match(r"v?1\.(\d+)", kubernetes)) is None:
        return ""
    minor = int(found[1])
    if minor < first:
        raise ConfigurationError(
            f"Seldon Core needs Kubernetes 1.{first} or newer, but the cluster is 1.{minor}; "
            "upgrade it. Nothing was changed"
        )
    return f"Seldon has tested Seldon Core only up to Kubernetes 1.{last}" if minor > last else ""


def licence_of(version: str) -> str:
    """Return the licence of a version of Seldon Core."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match is not None and (int(match[1]), int(match[2])) <= _LAST_FREE:
        return FREE
    return "Business Source License 1.1: no production use"


def examine(settings: LayerSettings) -> list[Diagnosis]:
    """Report the licence of the version to be installed if it restricts the use."""
    version = settings.seldon.version
    licence = licence_of(version)
    seen = f"{version} is under the {licence}"
    return [] if licence == FREE else [Diagnosis("licence of seldon core", seen)]


def servers(settings: LayerSettings, serving: ServingImages) -> Servers:
    """Return the images of each implementation, for each protocol.

    A framework behind a forwarder has two containers under the protocol `seldon`: the forwarder,
    which speaks it and needs no framework, and the one that loads the model.

    Raises:
        ConfigurationError: upstream's images must serve, but TensorFlow is not installed here.
    """
    if settings.serving.images == "upstream":
        return {
            TENSORFLOW.implementation: _protocols(
                tensorflow=f"tensorflow/serving:{_tensorflow(settings)}"
            )
        }
    forwarder = serving.reference(FORWARDER)

    def images(framework: Framework) -> dict[str, str]:
        loads = serving.reference(framework.implementation)
        forwarded = {"seldon": forwarder} if framework.behind_forwarder else {}
        return {protocol: forwarded.get(protocol, loads) for protocol in framework.protocols}

    return {row.implementation: _protocols(**images(row)) for row in frameworks()}


def describe_other_servers(found: Mapping[str, Any], wanted: Servers) -> tuple[str, ...]:
    """Name the wanted images that the operator does not use."""
    return tuple(
        f"{server} under the protocol {protocol} runs {_shown(now)}, expected {_shown(image)}"
        for server, entry in wanted.items()
        for protocol, image in entry["protocols"].items()
        if (now := found.get(server, {}).get("protocols", {}).get(protocol, {})) != image
    )


def _values(settings: LayerSettings, serving: ServingImages) -> dict[str, Any]:
    """Return our changes of the chart's values, whose requests are for a larger machine."""
    return {
        "istio": {"enabled": True, "gateway": settings.istio.reference},
        "usageMetrics": {"enabled": settings.seldon.usage_metrics},
        "manager": {"cpuRequest": "20m", "memoryRequest": "64Mi"},
        "executor": {
            "resources": {
                "cpuRequest": "20m",
                "cpuLimit": "500m",
                "memoryRequest": "64Mi",
                "memoryLimit": "256Mi",
            }
        },
        "storageInitializer": {"cpuRequest": "20m", "memoryRequest": "32Mi"},
        "predictiveUnit": {
            "defaultEnvSecretRefName": SECRET if settings.seldon.keys_by_default else ""
        },
        "predictor_servers": servers(settings, serving),
    }


def _protocols(**images: str) -> dict[str, dict[str, dict[str, str]]]:
    return {"protocols": {protocol: _split(image) for protocol, image in images.items()}}


def _split(reference: str) -> dict[str, str]:
    image, _, tag = reference.rpartition(":")
    return {"defaultImageVersion": tag, "image": image}


def _shown(image: Mapping[str, str]) -> str:
    return f"{image['image']}:{image['defaultImageVersion']}" if image else "nothing"


def _tensorflow(settings: LayerSettings) -> str:
    """Return the version of the installed TensorFlow, which trains, without importing it.

    A server that is older than the TensorFlow that wrote a model does not load it.
    """
    for package in _TENSORFLOW:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise ConfigurationError(
        "could not choose the image tensorflow/serving: it must have the version of the installed "
        "TensorFlow, but TensorFlow is not installed here; install this package with its "
        f"dependencies, or set {settings.platform}.serving.images to own"
    )
