"""An echo behind a Service, created for a check and removed: does a request reach a pod?"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.kubernetes import (
    EVENT,
    NAMESPACE,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    KubernetesApi,
    Manifest,
)
from mlops_pipeline.clients.waiting import MONOTONIC, Clock, patiently, wait_until
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import address_of
from mlops_pipeline.platforms.kubernetes.objects.pods import explain_unready
from mlops_pipeline.platforms.kubernetes.parts.images import Images
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.sources.versions import ECHO_IMAGE

PORT = 5678
PROBE_LABEL = {"mlops-pipeline/probe": "echo"}
_NAME = "echo"
_GLANCE = 5.0
"""Seconds in which an echo must answer a request."""
_INTERVAL = 0.1
_FORGOTTEN = timedelta(minutes=10)
"""Seconds after which a leftover probe is surely unused."""


@dataclass(frozen=True)
class Echo:
    """A pod that answers every request with `text`, behind a Service."""

    namespace: str
    service: str
    address: str
    """The Service's address: MetalLB's for a LoadBalancer, else the cluster IP."""
    text: str
    port: int = PORT

    @property
    def url(self) -> str:
        """`http://<address>:<port>/`."""
        return f"http://{self.address}:{self.port}/"

    @property
    def host(self) -> str:
        """The Service's name in the cluster."""
        return f"{self.service}.{self.namespace}.svc.cluster.local"


@contextmanager
def echo(
    api: KubernetesApi,
    images: Images,
    *,
    type: Literal["ClusterIP", "LoadBalancer"],
    image: str = ECHO_IMAGE,
    timeout: float = 60.0,
    clock: Clock = MONOTONIC,
) -> Iterator[Echo]:
    """Run an echo during the context, in a namespace of its own with our label.

    Everything in that namespace is deleted with it, so routes to the echo belong there. `timeout`
    is the number of seconds for the pod and for the address.

    Raises:
        FatalStateError: the pod cannot become ready.
        UnavailableError: the pod did not become ready, or had no address, in time.
    """
    images.ensure("extras")
    made = _namespace()
    name = str(made["metadata"]["name"])
    try:
        _sweep(api, api.apply(made).manifest)
        yield _run(api, name, type=type, image=image, timeout=timeout, clock=clock)
    finally:
        # Others can use the address at once; the other objects are deleted within seconds.
        api.delete(SERVICE, _NAME, namespace=name)
        api.delete(NAMESPACE, name)


class Ask(Protocol):
    """A way to send a GET request."""

    def __call__(self, url: str, *, timeout: float) -> http.HttpAnswer:
        """GET `url`; raises UnavailableError if nothing answers within `timeout` seconds."""


def answer_of(
    echoed: Echo, url: str, *, timeout: float, clock: Clock, hint: str = "", ask: Ask | None = None
) -> float:
    """Wait until the echo answers a GET of `url`, and return the seconds that this took.

    `ask` sends the request; by default this machine does.

    Raises:
        WaitTimeoutError: has what was last seen; `hint` says what to do.
    """
    return wait_until(
        f"an answer of the echo at {url}",
        lambda: _describe_answer(echoed, url, ask or http.get),
        timeout=timeout,
        clock=clock,
        interval=_INTERVAL,
        hint=hint,
    )


def _describe_answer(echoed: Echo, url: str, ask: Ask) -> str | None:
    try:
        answer = ask(url, timeout=_GLANCE)
    except UnavailableError as error:
        return str(error)
    if answer.text.strip() == echoed.text:
        return None
    return f"{url} answered {answer.status}: {answer.text[:200]!r}"


def _run(
    api: KubernetesApi,
    namespace: str,
    *,
    type: Literal["ClusterIP", "LoadBalancer"],
    image: str,
    timeout: float,
    clock: Clock,
) -> Echo:
    def wait(what: str, describe: Callable[[KubernetesApi, str], str | None]) -> None:
        wait_until(
            f"{what} of the echo in the namespace {namespace}",
            patiently(lambda: describe(api, namespace)),
            timeout=timeout,
            clock=clock,
            interval=_INTERVAL,
        )

    api.apply(_service(namespace, type))
    # The API server refuses pods until controllers have created the namespace's service account.
    wait("the service account", _describe_account)
    api.apply(_pod(namespace, image=image))
    wait("the pod", _describe_pod)
    wait("the address", _describe_address)
    return Echo(namespace, _NAME, _address(api, namespace), text=namespace)


def _describe_account(api: KubernetesApi, namespace: str) -> str | None:
    found = api.find(SERVICE_ACCOUNT, "default", namespace=namespace)
    return "it does not exist yet" if found is None else None


def _describe_pod(api: KubernetesApi, namespace: str) -> str | None:
    pods = [pod for pod in (api.find(POD, _NAME, namespace=namespace),) if pod is not None]
    return explain_unready(pods, api.list(EVENT, namespace=namespace)) or None


def _describe_address(api: KubernetesApi, namespace: str) -> str | None:
    if _address(api, namespace):
        return None
    events = api.list(EVENT, namespace=namespace)
    said = [str(e.get("message", "")) for e in events if e.get("type") == "Warning"]
    return said[-1] if said else "no address is assigned to the Service yet"


def _address(api: KubernetesApi, namespace: str) -> str:
    service = api.get(SERVICE, _NAME, namespace=namespace)
    if service["spec"]["type"] == "ClusterIP":
        return str(service["spec"].get("clusterIP", ""))
    return address_of(service) or ""


def _sweep(api: KubernetesApi, newest: Manifest) -> None:
    """Delete what a killed check has left behind. The cluster's clock determines the age."""
    now = _made_at(newest)
    labels = ",".join(f"{key}={value}" for key, value in PROBE_LABEL.items())
    for namespace in api.list(NAMESPACE, labels=labels):
        if now - _made_at(namespace) > _FORGOTTEN:
            api.delete(NAMESPACE, str(namespace["metadata"]["name"]))


def _made_at(manifest: Manifest) -> datetime:
    return datetime.fromisoformat(
        str(manifest["metadata"]["creationTimestamp"]).replace("Z", "+00:00")
    )


def _namespace() -> Manifest:
    name = f"mlops-probe-{secrets.token_hex(4)}"
    labels = {**MANAGED_BY, **PROBE_LABEL}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _service(namespace: str, type: Literal["ClusterIP", "LoadBalancer"]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(namespace),
        "spec": {
            "type": type,
            "selector": PROBE_LABEL,
            # The check asks whether it answers; the way to it may be open earlier.
            "publishNotReadyAddresses": True,
            "ports": [{"name": "http", "port": PORT, "targetPort": PORT}],
        },
    }


def _pod(namespace: str, *, image: str) -> Manifest:
    container = {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [f"-listen=:{PORT}", f"-text={namespace}"],
        "ports": [{"containerPort": PORT}],
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    metadata = _metadata(namespace)
    # A sidecar would take seconds to start, and would answer by itself.
    labels = {**metadata["labels"], "sidecar.istio.io/inject": "false"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }


def _metadata(namespace: str) -> dict[str, Any]:
    return {"name": _NAME, "namespace": namespace, "labels": {**MANAGED_BY, **PROBE_LABEL}}
