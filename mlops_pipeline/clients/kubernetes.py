"""A Kubernetes API server, reached only through one kubeconfig and one context.

Objects are mappings, as in a manifest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

import yaml

from mlops_pipeline.clients.api_server import ApiServer, Limits, described, is_status
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    InvalidManifestError,
    NotFoundError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.served_kinds import ServedKinds

Manifest = Mapping[str, Any]
"""One object as the API accepts and returns it."""
FIELD_MANAGER = "mlops-pipeline"
"""Server-side apply records this name as the owner of our fields."""
_FORCED = {"fieldManager": FIELD_MANAGER, "force": "true"}
_DEFAULT_NAMESPACE = "default"
_PAGE = 500
"""Number of objects in one answer to `list`."""
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_BOOKKEEPING = {"resourceVersion", "managedFields", "generation"}


@dataclass(frozen=True)
class Resource:
    """A kind of object, with the names in a manifest."""

    api_version: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} ({self.api_version})"


NAMESPACE = Resource("v1", "Namespace")
NODE = Resource("v1", "Node")
POD = Resource("v1", "Pod")
SERVICE = Resource("v1", "Service")
SERVICE_ACCOUNT = Resource("v1", "ServiceAccount")
SECRET = Resource("v1", "Secret")
CONFIG_MAP = Resource("v1", "ConfigMap")
EVENT = Resource("v1", "Event")
PERSISTENT_VOLUME_CLAIM = Resource("v1", "PersistentVolumeClaim")
ENDPOINT_SLICE = Resource("discovery.k8s.io/v1", "EndpointSlice")
DEPLOYMENT = Resource("apps/v1", "Deployment")
DAEMON_SET = Resource("apps/v1", "DaemonSet")
STATEFUL_SET = Resource("apps/v1", "StatefulSet")
JOB = Resource("batch/v1", "Job")
INGRESS = Resource("networking.k8s.io/v1", "Ingress")
STORAGE_CLASS = Resource("storage.k8s.io/v1", "StorageClass")
CUSTOM_RESOURCE_DEFINITION = Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
VALIDATING_WEBHOOK = Resource("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration")
IP_ADDRESS_POOL = Resource("metallb.io/v1beta1", "IPAddressPool")
L2_ADVERTISEMENT = Resource("metallb.io/v1beta1", "L2Advertisement")
GATEWAY = Resource("networking.istio.io/v1", "Gateway")
VIRTUAL_SERVICE = Resource("networking.istio.io/v1", "VirtualService")
DESTINATION_RULE = Resource("networking.istio.io/v1", "DestinationRule")
SELDON_DEPLOYMENT = Resource("machinelearning.seldon.io/v1", "SeldonDeployment")


@dataclass(frozen=True)
class Applied:
    """The effect of applying a manifest, and the resulting object."""

    action: Literal["created", "updated", "unchanged"]
    manifest: Manifest


@dataclass(frozen=True)
class Access:
    """A right: a verb on a kind of object."""

    verb: str
    resource: str
    """Its name in the API, with a slash before a subresource: `pods/log`."""
    group: str = ""
    namespace: str = ""
    """Empty: every namespace, or objects without a namespace."""

    def review(self) -> Manifest:
        """Return the object that asks for it: a SelfSubjectAccessReview."""
        resource, _, below = self.resource.partition("/")
        attributes = {
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": below,
            "namespace": self.namespace,
        }
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f" in the namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {kind}{where}"


EVERYTHING = Access("*", "*", "*")
"""The rights of a cluster's administrator."""


class KubernetesApi(Protocol):
    """The calls to a cluster, of the real one and of the tests' fake."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of each applied object, unless somebody else set them before."""

    def require_access(self) -> None:
        """Read the kubeconfig. Contacts nothing, except by its login program."""

    def version(self) -> str:
        """Return the API server's version: `v1.34.4`."""

    def may(self, access: Access) -> bool:
        """Say whether we have a right."""

    def kinds(self) -> Sequence[Resource]:
        """Return the kinds whose objects have a namespace."""

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        """Apply the manifest; with `dry_run` the server only verifies it."""

    def apply_all(self, manifests: Iterable[Manifest]) -> tuple[Applied, ...]:
        """Apply several manifests, in the given order."""

    def find(self, resource: Resource, name: str, *, namespace: str = "") -> Manifest | None:
        """Return the object, or None if it does not exist."""

    def get(self, resource: Resource, name: str, *, namespace: str = "") -> Manifest:
        """Return the object."""

    def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        metadata_only: bool = False,
    ) -> Sequence[Manifest]:
        """Return the objects with those labels (`a=b,c`); without a namespace, of all of them."""

    def delete(self, resource: Resource, name: str, *, namespace: str = "", uid: str = "") -> bool:
        """Delete the object, after what it owns. Return False if it does not exist.

        With a `uid`, a newer object of the same name is not deleted.
        """

    def patch(
        self, resource: Resource, name: str, change: Manifest, *, namespace: str = ""
    ) -> Manifest:
        """Merge `change` into the object (None removes a key) and return it."""

    def log(
        self,
        pod: str,
        *,
        namespace: str,
        container: str = "",
        lines: int = 50,
        previous: bool = False,
    ) -> str:
        """Return the last lines of a container's log."""

    def ask_pod(
        self,
        pod: str,
        *,
        namespace: str,
        port: int,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> HttpAnswer:
        """GET `path` from the pod, or POST JSON to it, through the API server."""

    def ask_node(self, node: str, *, path: str) -> HttpAnswer:
        """GET `path` from the node's kubelet, through the API server."""


class Kubernetes:
    """The API server of `context` in `kubeconfig`, and no other.

    `timeout` is the number of seconds for an answer, `login_timeout` for a login program that the
    kubeconfig names. `labels` are added to each applied object that has none of these keys yet.
    Nothing is read or contacted before the first call. Every method may raise, besides its own
    errors:

        AccessDeniedError: the server refuses our keys, or our rights do not suffice.
        ConflictError: somebody else has changed the object.
        UnavailableError: it cannot be reached, is overloaded, or its webhook does not answer.
    """

    def __init__(
        self,
        kubeconfig: Path,
        *,
        context: str,
        timeout: float = 15.0,
        login_timeout: float = 60.0,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.labels: Mapping[str, str] = labels or {}
        self._server = ApiServer(
            kubeconfig, context=context, timeout=timeout, login_timeout=login_timeout
        )
        self._served = ServedKinds(self._server)

    def require_access(self) -> None:
        """Read the kubeconfig. Contacts nothing, except by its login program.

        Raises:
            ConfigurationError: it cannot be read, or lacks something for reaching the context.
        """
        self._server.require_access()

    def version(self) -> str:
        """Return the API server's version: `v1.34.4`."""
        return str(self._server.json("GET", "/version", what="ask for its version")["gitVersion"])

    def may(self, access: Access) -> bool:
        """Say whether we have a right, according to the server (SelfSubjectAccessReview).

        https://kubernetes.io/docs/reference/access-authn-authz/authorization/
        """
        review = self._server.json(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            what=f"ask whether we may {access}",
            content_type="application/json",
            body=access.review(),
        )
        return bool((review.get("status") or {}).get("allowed"))

    def kinds(self) -> Sequence[Resource]:
        """Return the kinds whose objects have a namespace, in the server's preferred version."""
        return [Resource(version, kind) for version, kind in self._served.in_namespaces()]

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        """Apply the manifest; with `dry_run` the server only verifies it.

        Server-side apply: fields that the manifest does not name do not change, unless it named
        them before. Fields of other owners are taken over.

        Raises:
            InvalidManifestError: the server or a webhook refused it; has the message.
            NotFoundError: its namespace is missing, or its kind (a CRD is not installed).
        """
        resource = resource_of(manifest)
        metadata = manifest["metadata"]
        name, namespace = str(metadata["name"]), str(metadata.get("namespace", ""))
        before = self.find(resource, name, namespace=namespace)
        after = self._server.json(
            "PATCH",
            self._served.path(resource, namespace or _DEFAULT_NAMESPACE, name),
            what=f"apply {resource.kind} {_shown(namespace, name)}",
            query={**_FORCED, **({"dryRun": "All"} if dry_run else {})},
            content_type="application/apply-patch+yaml",
            body=labelled(manifest, before, self.labels),
        )
        if before is None:
            return Applied("created", after)
        return Applied("unchanged" if _same(before, after) else "updated", after)

    def apply_all(self, manifests: Iterable[Manifest]) -> tuple[Applied, ...]:
        """Apply several manifests, in the given order.

        Raises:
            InvalidManifestError: one is refused; the ones before it are applied.
            NotFoundError: the namespace or kind of one is missing; the ones before it are applied.
        """
        return tuple(self.apply(manifest) for manifest in manifests)

    def find(self, resource: Resource, name: str, *, namespace: str = "") -> Manifest | None:
        """Return the object, or None if it does not exist or its kind is unknown."""
        try:
            return self.get(resource, name, namespace=namespace)
        except NotFoundError:
            return None

    def get(self, resource: Resource, name: str, *, namespace: str = "") -> Manifest:
        """Return the object.

        Raises:
            NotFoundError: it does not exist, or the cluster does not know its kind.
        """
        return self._server.json(
            "GET",
            self._served.path(resource, namespace or _DEFAULT_NAMESPACE, name),
            what=f"read {resource.kind} {_shown(namespace, name)}",
        )

    def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        metadata_only: bool = False,
    ) -> Sequence[Manifest]:
        """Return the objects with those labels (`a=b,c`); without a namespace, of all of them.

        Empty if the cluster does not know their kind. With `metadata_only`, they have no content,
        which may be megabytes.
        """
        query = {"limit": str(_PAGE), **({"labelSelector": labels} if labels else {})}
        accept = _METADATA if metadata_only else ""
        try:
            path = self._served.path(resource, namespace)
            found = self._server.items(
                path, what=f"list {resource.kind}s", query=query, accept=accept
            )
        except NotFoundError:
            return []
        return [_named(item, resource) for item in found]

    def delete(self, resource: Resource, name: str, *, namespace: str = "", uid: str = "") -> bool:
        """Delete the object, and return False if it does not exist.

        It can still be found, with a `deletionTimestamp`, until what it owns is deleted. With a
        `uid`, a newer object of the same name is not deleted, and counts as missing.
        """
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            self._server.json(
                "DELETE",
                self._served.path(resource, namespace or _DEFAULT_NAMESPACE, name),
                what=f"delete {resource.kind} {_shown(namespace, name)}",
                query={"propagationPolicy": "Foreground"},
                content_type="application/json",
                body=options if uid else None,
            )
        except NotFoundError:
            return False
        except ConflictError:
            if uid:
                return False
            raise
        return True

    def patch(
        self, resource: Resource, name: str, change: Manifest, *, namespace: str = ""
    ) -> Manifest:
        """Merge `change` into the object (RFC 7396: None removes a key) and return it.

        Raises:
            InvalidManifestError: the server or a webhook refused it; has the message.
            NotFoundError: there is no such object.
        """
        return self._server.json(
            "PATCH",
            self._served.path(resource, namespace or _DEFAULT_NAMESPACE, name),
            what=f"change {resource.kind} {_shown(namespace, name)}",
            query={"fieldManager": FIELD_MANAGER},
            content_type="application/merge-patch+json",
            body=change,
        )

    def log(
        self,
        pod: str,
        *,
        namespace: str,
        container: str = "",
        lines: int = 50,
        previous: bool = False,
    ) -> str:
        """Return the last lines of a container's log; with `previous`, of the run before this one.

        Raises:
            NotFoundError: there is no such pod or container, or its log is empty.
        """
        what = f"read the log of the pod {namespace}/{pod}"
        query = {"tailLines": str(lines), "previous": str(previous).lower()}
        if container:
            query["container"] = container
        answer = self._server.send("GET", f"{_pod(pod, namespace)}/log", what=what, query=query)
        if answer.status == 400:  # The container waits, or did not run before.
            raise NotFoundError(f"could not {what}: {described(answer)}")
        return self._server.checked(answer, what=what).text

    def ask_pod(
        self,
        pod: str,
        *,
        namespace: str,
        port: int,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> HttpAnswer:
        """GET `path`, which starts with a slash, from the pod, through the API server.

        With a body, which is JSON, it is a POST. It may reach the pod twice. `headers` are further
        ones, and `limits` those of the answer.

        Raises:
            NotFoundError: there is no such pod.
            UnavailableError: nothing listens on its port, or it does not run.
        """
        what = f"ask the pod {namespace}/{pod} for {path}"
        answer = self._server.send(
            "GET" if body is None else "POST",
            f"{_pod(pod, namespace)}:{port}/proxy{path}",
            what=what,
            content_type="application/json",
            body=body,
            headers=headers,
            limits=limits,
        )
        if is_status(answer):
            self._server.checked(answer, what=what)
        return answer

    def ask_node(self, node: str, *, path: str) -> HttpAnswer:
        """GET `path`, which starts with a slash, from the node's kubelet, through the API server.

        Raises:
            NotFoundError: there is no such node.
            UnavailableError: its kubelet does not answer.
        """
        what = f"ask the node {node} for {path}"
        answer = self._server.send(
            "GET", f"/api/v1/nodes/{quote(node, safe='')}/proxy{path}", what=what
        )
        return self._server.checked(answer, what=what)


def parse_all(text: str) -> list[Manifest]:
    """Return the objects of a YAML file, without its empty documents.

    Raises:
        ConfigurationError: it is not YAML, or a document is not an object.
    """
    try:
        documents = [d for d in yaml.load_all(text, _loader()) if d is not None]
    except yaml.YAMLError as error:
        raise ConfigurationError(f"could not read the manifests: expected YAML: {error}") from error
    for document in documents:
        resource_of(document)
    return documents


def resource_of(manifest: Manifest) -> Resource:
    """Return the kind of a manifest.

    Raises:
        InvalidManifestError: it has no kind or no name.
    """
    try:
        manifest["metadata"]["name"]
        return Resource(manifest["apiVersion"], manifest["kind"])
    except (TypeError, LookupError) as error:
        raise InvalidManifestError(
            f"a manifest needs apiVersion, kind and metadata.name, got {str(manifest)[:200]}"
        ) from error


def labelled(manifest: Manifest, before: Manifest | None, labels: Mapping[str, str]) -> Manifest:
    """Return the manifest with these labels too; a label of the existing object keeps its value."""
    if not labels:
        return manifest
    metadata = manifest["metadata"]
    there = (before or {}).get("metadata", {}).get("labels") or {}
    kept = {key: there.get(key, value) for key, value in labels.items()}
    return {
        **manifest,
        "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **kept}},
    }


def _named(item: Manifest, resource: Resource) -> Manifest:
    """Set the object's kind, which a list omits."""
    return {**item, "apiVersion": resource.api_version, "kind": resource.kind}


def _pod(pod: str, namespace: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}"


def _shown(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _same(one: Manifest, other: Manifest) -> bool:
    """Compare the requested content: without the status and the server's metadata."""
    return _asked_for(one) == _asked_for(other)


def _asked_for(manifest: Manifest) -> Manifest:
    metadata = {k: v for k, v in manifest["metadata"].items() if k not in _BOOKKEEPING}
    return {**manifest, "metadata": metadata, "status": None}


def _loader() -> type[yaml.SafeLoader]:
    """Return the parser in C, if it is installed: it is 10 times as fast."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
