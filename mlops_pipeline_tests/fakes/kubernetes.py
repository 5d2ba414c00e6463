"""A cluster in memory."""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlops_pipeline.clients import kubernetes
from mlops_pipeline.clients.api_server import Limits
from mlops_pipeline.clients.errors import (
    InvalidManifestError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    CUSTOM_RESOURCE_DEFINITION,
    EVERYTHING,
    NAMESPACE,
    NODE,
    POD,
    Access,
    Applied,
    Manifest,
    Resource,
)

_BUILT_IN = (
    "v1",
    "admissionregistration.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "apps/v1",
    "autoscaling/v2",
    "batch/v1",
    "coordination.k8s.io/v1",
    "discovery.k8s.io/v1",
    "events.k8s.io/v1",
    "networking.k8s.io/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
    "scheduling.k8s.io/v1",
    "storage.k8s.io/v1",
)
_OF_THE_CLUSTER = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
}
_CUSTOM = {
    value
    for value in vars(kubernetes).values()
    if isinstance(value, Resource) and value.api_version not in _BUILT_IN
}

Verb = Literal[
    "apply", "dry_run", "find", "list", "delete", "patch", "log", "ask_pod", "ask_node", "version"
]
_Key = tuple[Resource, str, str]
_Object = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """An object by its name."""

    resource: Resource
    namespace: str
    name: str


@dataclass(frozen=True)
class Asked:
    """A request to a pod, through the API server."""

    pod: str
    """`<namespace>/<name>`."""
    method: Literal["GET", "POST"]
    port: int
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass
class _Fault:
    error: PipelineError
    verbs: tuple[Verb, ...]
    kind: str
    times: int | None


class FakeKubernetes:
    """A cluster that holds `existing` objects and knows no kind of `unknown`.

    A Deployment, StatefulSet or DaemonSet that is put there with available pods has them, ready,
    and gets another for one that is deleted. The cluster knows what is built into Kubernetes, the
    other constants of the client, and what a CustomResourceDefinition brings. `applied`,
    `dry_runs`, `patched` and `deleted` record what was asked of it, `asked` of its pods; `logs`,
    `answers` and `servers` are what these say. `denied` are rights that we lack.
    """

    def __init__(
        self,
        existing: Iterable[Manifest] = (),
        *,
        unknown: Iterable[Resource] = (),
        version: str = "v1.34.4",
        denied: Iterable[Access] = (),
    ) -> None:
        self.labels: Mapping[str, str] = {}
        self.denied = set(denied)
        self.reviews: list[Access] = []
        self.applied: list[Manifest] = []
        self.dry_runs: list[Manifest] = []
        self.patched: list[tuple[Reference, Manifest]] = []
        self.deleted: list[Reference] = []
        self.logs: dict[tuple[str, str], str] = {}
        self.previous_logs: dict[tuple[str, str], str] = {}
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], HttpAnswer] = {}
        self.servers: dict[tuple[str, str], Callable[[Asked], HttpAnswer]] = {}
        self._objects: dict[_Key, _Object] = {}
        self._ours: dict[_Key, Manifest] = {}
        self._custom = _CUSTOM - set(unknown)
        self._unknown = set(unknown)
        self._version = version
        self._counter = itertools.count(1)
        self._faults: list[_Fault] = []
        self._reactions: list[tuple[str, Callable[[Manifest], None]]] = []
        for name in ("default", "kube-system"):
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for manifest in existing:
            self.put(manifest)

    # What a test does to it

    def put(self, manifest: Manifest) -> None:
        """Make the object be there as it is given, as controllers do. Nothing is recorded."""
        key = self._key(manifest)
        if key[1] and (NAMESPACE, "", key[1]) not in self._objects:
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": key[1]}})
        self._store(key, copy.deepcopy(dict(manifest)))
        if _selected(manifest) and not self._has_pods(manifest, key[1]):
            for pod in _pods_of(manifest):
                self.put(pod)

    def drop(self, resource: Resource, name: str, *, namespace: str = "") -> None:
        """Make the object be gone. Nothing is recorded."""
        key = self._place(resource, namespace, name)
        self._objects.pop(key, None)
        self._collect(key)

    def fail(
        self,
        error: PipelineError,
        *,
        verbs: Sequence[Verb] = ("apply", "dry_run"),
        kind: str = "",
        times: int | None = None,
    ) -> None:
        """Raise `error` from these calls for this kind (empty: any), the next `times` of them."""
        self._faults.append(_Fault(error, tuple(verbs), kind, times))

    def refuse(self, kind: str, reason: str) -> None:
        """Let a webhook deny every object of the kind."""
        self.fail(
            InvalidManifestError(f'admission webhook "fake" denied the request: {reason}'),
            kind=kind,
        )

    def stop(self, reason: str = "connection refused") -> None:
        """Let nothing answer any more."""
        self.fail(
            UnavailableError(f"could not reach the cluster: {reason}"),
            verbs=(
                *("apply", "dry_run", "find", "list", "delete"),
                *("patch", "log", "ask_pod", "ask_node", "version"),
            ),
        )

    def mend(self) -> None:
        """Forget every fault."""
        self._faults.clear()

    def when_applied(self, kind: str, react: Callable[[Manifest], None]) -> None:
        """Call `react` with each object of the kind after it was applied: a controller."""
        self._reactions.append((kind, react))

    # KubernetesApi

    def require_access(self) -> None:
        """Do nothing: everybody has access."""

    def version(self) -> str:
        self._maybe_fail("version")
        return self._version

    def may(self, access: Access) -> bool:
        self._maybe_fail("version")
        self.reviews.append(access)
        return access not in self.denied and not (self.denied and access == EVERYTHING)

    def kinds(self) -> Sequence[Resource]:
        self._maybe_fail("version")
        known = {r for r in vars(kubernetes).values() if isinstance(r, Resource)} - self._unknown
        held = {key[0] for key in self._objects}
        found = (known | held | self._custom) - self._unknown
        return sorted((r for r in found if r.kind not in _OF_THE_CLUSTER), key=str)

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        self._maybe_fail("dry_run" if dry_run else "apply", str(manifest["kind"]))
        resource = resource_of(manifest)
        self._require_known(resource)
        key = self._key(manifest)
        self._require_namespace(key)
        before = self._objects.get(key)
        manifest = kubernetes.labelled(manifest, before, self.labels)
        after = _merged(before or {}, manifest, self._ours.get(key, {}))
        if key[1]:
            after["metadata"]["namespace"] = key[1]
        action: Literal["created", "updated", "unchanged"] = (
            "created" if before is None else "unchanged" if after == before else "updated"
        )
        if dry_run:
            self.dry_runs.append(copy.deepcopy(manifest))
            return Applied(action, after)
        self.applied.append(copy.deepcopy(manifest))
        self._ours[key] = copy.deepcopy(manifest)
        if action != "unchanged":
            self._store(key, after)
        for kind, react in self._reactions:
            if kind == resource.kind:
                react(copy.deepcopy(self._objects[key]))
        return Applied(action, copy.deepcopy(self._objects[key]))

    def apply_all(self, manifests: Iterable[Manifest]) -> tuple[Applied, ...]:
        return tuple(self.apply(manifest) for manifest in manifests)

    def find(self, resource: Resource, name: str, *, namespace: str = "") -> Manifest | None:
        self._maybe_fail("find", resource.kind)
        return copy.deepcopy(self._objects.get(self._place(resource, namespace, name)))

    def get(self, resource: Resource, name: str, *, namespace: str = "") -> Manifest:
        found = self.find(resource, name, namespace=namespace)
        if found is None:
            raise NotFoundError(f"could not read {resource.kind} {namespace}/{name}: not there")
        return found

    def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        metadata_only: bool = False,
    ) -> Sequence[Manifest]:
        self._maybe_fail("list", resource.kind)
        shown = ("apiVersion", "kind", "metadata") if metadata_only else ()
        return [
            copy.deepcopy({k: v for k, v in value.items() if not shown or k in shown})
            for (kind, where, _), value in sorted(self._objects.items(), key=_order)
            if kind == resource
            and (not namespace or where == namespace)
            and matches(value["metadata"].get("labels") or {}, labels)
        ]

    def delete(self, resource: Resource, name: str, *, namespace: str = "", uid: str = "") -> bool:
        self._maybe_fail("delete", resource.kind)
        key = self._place(resource, namespace, name)
        there = self._objects.get(key, {"metadata": {}})["metadata"].get("uid", "")
        gone = self._objects.pop(key, None) if uid in ("", there) else None
        if gone is None:
            return False
        self.deleted.append(Reference(*key))
        self._ours.pop(key, None)
        self._collect(key)
        if _owner(gone, key) in self._objects:
            unborn = {k: v for k, v in gone["metadata"].items() if k != "uid"}
            self._store(key, {**gone, "metadata": unborn})
        if resource == NAMESPACE:
            self._objects = {k: v for k, v in self._objects.items() if k[1] != name}
        if resource == CUSTOM_RESOURCE_DEFINITION:
            self._custom -= _brought(gone)
            self._objects = {k: v for k, v in self._objects.items() if k[0] not in _brought(gone)}
        return True

    def patch(
        self, resource: Resource, name: str, change: Manifest, *, namespace: str = ""
    ) -> Manifest:
        self._maybe_fail("patch", resource.kind)
        key = self._place(resource, namespace, name)
        if key not in self._objects:
            raise NotFoundError(f"could not change {resource.kind} {namespace}/{name}: not there")
        self.patched.append((Reference(*key), copy.deepcopy(change)))
        after = _patched(self._objects[key], change)
        if after != self._objects[key]:
            self._store(key, after)
        return copy.deepcopy(self._objects[key])

    def log(
        self,
        pod: str,
        *,
        namespace: str,
        container: str = "",
        lines: int = 50,
        previous: bool = False,
    ) -> str:
        self._maybe_fail("log", "Pod")
        if (namespace, pod) not in self.logs:
            self.get(POD, pod, namespace=namespace)
        text = (self.previous_logs if previous else self.logs).get((namespace, pod), "")
        return "".join(text.splitlines(keepends=True)[-lines:])

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
        self._maybe_fail("ask_pod", "Pod")
        method: Literal["GET", "POST"] = "GET" if body is None else "POST"
        asked = Asked(f"{namespace}/{pod}", method, port, path, body or b"", headers or {})
        self.asked.append(asked)
        if (namespace, pod) in self.answers:
            return self.answers[namespace, pod]
        self.get(POD, pod, namespace=namespace)
        if (namespace, pod) in self.servers:
            return self.servers[namespace, pod](asked)
        raise UnavailableError(f"could not ask the pod {namespace}/{pod}: connection refused")

    def ask_node(self, node: str, *, path: str) -> HttpAnswer:
        self._maybe_fail("ask_node", "Node")
        if ("", node) in self.answers:
            return self.answers["", node]
        self.get(NODE, node)
        raise UnavailableError(f"could not ask the node {node}: connection refused")

    # Inside

    def _maybe_fail(self, verb: Verb, kind: str = "") -> None:
        for fault in self._faults:
            if verb in fault.verbs and fault.kind in ("", kind) and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                raise fault.error

    def _collect(self, workload: _Key) -> None:
        """Remove the pods of a workload that is gone."""
        for key in [k for k, value in self._objects.items() if _owner(value, k) == workload]:
            del self._objects[key]

    def _has_pods(self, workload: Manifest, namespace: str) -> bool:
        wanted = _selected(workload).items()
        return any(
            key[:2] == (POD, namespace) and wanted <= value["metadata"].get("labels", {}).items()
            for key, value in self._objects.items()
        )

    def _require_known(self, resource: Resource) -> None:
        known = resource in self._custom or resource.api_version in _BUILT_IN
        if not known or resource in self._unknown:
            raise NotFoundError(f"the cluster knows no {resource}: its CRD is not installed")

    def _require_namespace(self, key: _Key) -> None:
        if key[1] and (NAMESPACE, "", key[1]) not in self._objects:
            raise NotFoundError(f"there is no namespace {key[1]}")

    def _key(self, manifest: Manifest) -> _Key:
        metadata = manifest["metadata"]
        return self._place(resource_of(manifest), metadata.get("namespace", ""), metadata["name"])

    def _place(self, resource: Resource, namespace: str, name: str) -> _Key:
        if resource.kind in _OF_THE_CLUSTER:
            return resource, "", name
        return resource, namespace or "default", name

    def _store(self, key: _Key, value: _Object) -> None:
        metadata = value["metadata"] = dict(value["metadata"])
        if key[1]:
            metadata["namespace"] = key[1]
        number = next(self._counter)
        metadata.setdefault("uid", f"uid-{number}")
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        metadata["resourceVersion"] = str(number)
        self._objects[key] = value
        if key[0] == CUSTOM_RESOURCE_DEFINITION:
            self._custom |= _brought(value)
            self._unknown -= _brought(value)


def resource_of(manifest: Manifest) -> Resource:
    """Return the kind of an object."""
    return Resource(manifest["apiVersion"], manifest["kind"])


def _selected(workload: Manifest) -> Mapping[str, str]:
    """Return the labels of a workload's pods; empty for what has none."""
    if workload["kind"] not in ("Deployment", "StatefulSet", "DaemonSet"):
        return {}
    selected: Mapping[str, str] = (
        workload.get("spec", {}).get("selector", {}).get("matchLabels", {})
    )
    return selected


def _pods_of(workload: Manifest) -> Iterator[Manifest]:
    """Make the ready pods that a workload's status speaks of."""
    metadata, status = workload["metadata"], workload.get("status") or {}
    for number in range(status.get("availableReplicas", status.get("numberAvailable", 0))):
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{metadata['name']}-{number}",
                "namespace": metadata.get("namespace", "default"),
                "labels": dict(_selected(workload)),
                "ownerReferences": [
                    {
                        "apiVersion": workload["apiVersion"],
                        "kind": workload["kind"],
                        "name": metadata["name"],
                    }
                ],
            },
            "spec": {"containers": []},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }


def _owner(pod: Manifest, key: _Key) -> _Key | None:
    """Return which workload a pod is of, if any."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        if key[0] == POD and {"apiVersion", "name"} <= owner.keys():
            return Resource(owner["apiVersion"], owner["kind"]), key[1], owner["name"]
    return None


def _order(item: tuple[_Key, _Object]) -> tuple[str, str]:
    return item[0][1], item[0][2]


def _brought(definition: Manifest) -> set[Resource]:
    spec = definition.get("spec", {})
    return {
        Resource(f"{spec['group']}/{version['name']}", spec["names"]["kind"])
        for version in spec.get("versions", [])
    }


def _merged(current: Manifest, wanted: Manifest, before: Manifest) -> _Object:
    """Return `current` with what is `wanted`, without what was wanted `before` and is no more."""
    merged: _Object = {}
    for name in (*current, *(name for name in wanted if name not in current)):
        inner = [_mapping(part.get(name)) for part in (current, wanted, before)]
        if inner[0] is not None and (inner[1] is not None or inner[2] is not None):
            rest = _merged(inner[0], inner[1] or {}, inner[2] or {})
            if rest or name in wanted:
                merged[name] = rest
        elif name in wanted:
            merged[name] = copy.deepcopy(wanted[name])
        elif name not in before:
            merged[name] = copy.deepcopy(current[name])
    return {name: value for name, value in merged.items() if value is not None}


def _mapping(value: object) -> Manifest | None:
    return value if isinstance(value, Mapping) else None


def _patched(current: Manifest, change: Manifest) -> _Object:
    """Merge as RFC 7396 says."""
    patched: MutableMapping[str, Any] = copy.deepcopy(dict(current))
    for name, value in change.items():
        if value is None:
            patched.pop(name, None)
        elif isinstance(value, Mapping):
            inner = patched.get(name)
            patched[name] = _patched(inner if isinstance(inner, Mapping) else {}, value)
        else:
            patched[name] = copy.deepcopy(value)
    return dict(patched)


def matches(labels: Mapping[str, str], selector: str) -> bool:
    """Say whether labels are what a selector asks for."""
    for part in filter(None, selector.split(",")):
        name, unequal, value = part.partition("!=")
        if unequal:
            if labels.get(name) == value:
                return False
            continue
        name, equal, value = part.replace("==", "=").partition("=")
        if name not in labels or (equal and labels[name] != value):
            return False
    return True
