"""A cluster, and the programs around it, in memory."""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from mlops_pipeline.clients import kubernetes
from mlops_pipeline.clients.containers import (
    ContainerInfo,
    Mount,
    Network,
    PortMapping,
    full_reference,
)
from mlops_pipeline.clients.engine_images import ImageInfo
from mlops_pipeline.clients.engine_program import EngineInfo
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    InvalidManifestError,
    NotDownloadedError,
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
    SECRET,
    Access,
    Applied,
    Manifest,
    Resource,
)
from mlops_pipeline.platforms.kubernetes.sources import Archive, Chart, ManifestFile, NodeImage
from mlops_pipeline.platforms.kubernetes.sources.versions import ECHO_IMAGE

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
    `dry_runs`, `patched` and `deleted` record what was asked of it; `logs` and `answers` are what
    its pods say. `denied` are rights that we lack.
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
        self.answers: dict[tuple[str, str], HttpAnswer] = {}
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
        resource = _resource(manifest)
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
            and _matches(value["metadata"].get("labels") or {}, labels)
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
        text = self.logs.get((namespace, pod), "")
        return "".join(text.splitlines(keepends=True)[-lines:])

    def ask_pod(
        self, pod: str, *, namespace: str, port: int, path: str, body: bytes | None = None
    ) -> HttpAnswer:
        self._maybe_fail("ask_pod", "Pod")
        if (namespace, pod) in self.answers:
            return self.answers[namespace, pod]
        self.get(POD, pod, namespace=namespace)
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
        return self._place(_resource(manifest), metadata.get("namespace", ""), metadata["name"])

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


def _resource(manifest: Manifest) -> Resource:
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


def _matches(labels: Mapping[str, str], selector: str) -> bool:
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
                _resource(manifest), metadata["name"], namespace=metadata.get("namespace", "")
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


@dataclass(frozen=True)
class CreatedCluster:
    """A cluster that kind was asked to make."""

    name: str
    config: Mapping[str, Any]
    image: str


class FakeKind:
    """Clusters as names and nodes; with an `engine`, their nodes are containers in it."""

    def __init__(
        self,
        clusters: Mapping[str, Iterable[str]] | None = None,
        *,
        engine: "FakeEngine | None" = None,
        fails: str = "",
    ) -> None:
        self.created: list[CreatedCluster] = []
        self.deleted: list[str] = []
        self.exported: list[str] = []
        self.fails = fails
        self._clusters = {name: list(nodes) for name, nodes in (clusters or {}).items()}
        self._engine = engine

    def clusters(self) -> list[str]:
        return sorted(self._clusters)

    def nodes(self, name: str) -> list[str]:
        return list(self._clusters.get(name, []))

    def create(
        self, name: str, *, config: str, image: str, kubeconfig: Path, timeout: float
    ) -> None:
        if self.fails:
            raise CommandError(f"could not create the kind cluster {name}: {self.fails}")
        content = yaml.safe_load(config)
        self.created.append(CreatedCluster(name, content, image))
        nodes = _node_names(name, content.get("nodes") or [{"role": "control-plane"}])
        self._clusters[name] = [node for node, _ in nodes]
        if self._engine is not None:
            for node, given in nodes:
                self._engine.start(_node_container(name, node, given, image))
        _write_kubeconfig(kubeconfig, name)

    def delete(self, name: str, *, kubeconfig: Path) -> None:
        self.deleted.append(name)
        for node in self._clusters.pop(name, []):
            if self._engine is not None:
                self._engine.stop(node)
        kubeconfig.unlink(missing_ok=True)

    def export_kubeconfig(self, name: str, kubeconfig: Path) -> None:
        if name not in self._clusters:
            raise NotFoundError(f"there is no kind cluster {name}")
        self.exported.append(name)
        _write_kubeconfig(kubeconfig, name)


def _node_names(name: str, nodes: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    counts: dict[str, int] = {}
    named = []
    for node in nodes:
        role = node["role"]
        counts[role] = counts.get(role, 0) + 1
        number = "" if counts[role] == 1 else str(counts[role])
        named.append((f"{name}-{role}{number}", node))
    return named


def _node_container(cluster: str, node: str, given: Mapping[str, Any], image: str) -> ContainerInfo:
    return ContainerInfo(
        name=node,
        id=f"id-of-{node}",
        image=image,
        running=True,
        ports=tuple(
            PortMapping(
                container_port=m["containerPort"],
                host_address=m.get("listenAddress", "0.0.0.0"),
                host_port=m["hostPort"],
                protocol=m.get("protocol", "TCP").lower(),
            )
            for m in given.get("extraPortMappings", [])
        ),
        created="2026-01-01T00:00:00Z",
        labels={
            "io.x-k8s.kind.cluster": cluster,
            "io.x-k8s.kind.role": given["role"],
        },
    )


def _write_kubeconfig(path: Path, cluster: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"current-context: kind-{cluster}\n")
    path.chmod(0o600)


@dataclass(frozen=True)
class EngineCall:
    """Something that an engine was asked to run."""

    where: str
    """An image for `run`, a container for `exec`."""
    command: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()
    network: str = ""
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Build:
    """An image that was built."""

    context: Path
    dockerfile: Path
    tag: str
    arguments: Mapping[str, str]
    labels: Mapping[str, str]
    target: str


_INFO = EngineInfo("27.0.0", 2, 4, 16 << 30, "/var/lib/docker")


_IMAGE = ImageInfo("linux/amd64", frozenset())


class FakeEngine:
    """A container engine with images, containers, networks, and images in nodes.

    `archives` says what an archive holds. `outputs` answers commands: the first entry whose words
    all stand in the command. `unavailable` is why the engine does not answer. `registry` has what
    can be pulled.
    """

    def __init__(
        self,
        *,
        images: Iterable[str] = (),
        containers: Iterable[ContainerInfo] = (),
        networks: Mapping[str, Network] | None = None,
        node_images: Mapping[str, Iterable[str]] | None = None,
        archives: Mapping[Path, Iterable[str]] | None = None,
        outputs: Sequence[tuple[Sequence[str], str]] = (),
        info: EngineInfo = _INFO,
        unavailable: str = "",
        registry: Iterable[str] = (),
    ) -> None:
        self.images = {full_reference(image) for image in images}
        self.registry = {full_reference(image) for image in registry}
        self.image_infos: dict[str, ImageInfo] = {}
        self.pulled: list[str] = []
        self.saved: list[tuple[str, ...]] = []
        self.node_images = {
            node: {full_reference(image) for image in held}
            for node, held in (node_images or {}).items()
        }
        self.outputs = list(outputs)
        self.unavailable = unavailable
        self.calls: list[EngineCall] = []
        self.builds: list[Build] = []
        self.loaded: list[Path] = []
        self.imported: list[tuple[Path, str]] = []
        self.copied: list[tuple[str, str]] = []
        self.pushed: set[str] = set()
        self.refused: PipelineError | None = None
        self._archives = dict(archives or {})
        self._containers = {c.name: c for c in containers}
        self._networks = dict(networks or {})
        self._info = info

    def start(self, container: ContainerInfo) -> None:
        """Make the container be there."""
        self._containers[container.name] = container

    def stop(self, name: str) -> None:
        """Make the container be gone, with what it holds."""
        self._containers.pop(name, None)
        self.node_images.pop(name, None)

    def info(self) -> EngineInfo:
        self._maybe_fail()
        return self._info

    def network(self, name: str) -> Network:
        self._maybe_fail()
        if name not in self._networks:
            raise NotFoundError(f"there is no container network {name}")
        return self._networks[name]

    def containers(self, *, label: str = "") -> tuple[ContainerInfo, ...]:
        self._maybe_fail()
        return tuple(c for c in self._containers.values() if _matches(c.labels, label))

    def inspect(self, name: str) -> ContainerInfo:
        self._maybe_fail()
        if name not in self._containers:
            raise NotFoundError(f"there is no container {name}")
        return self._containers[name]

    def resume(self, container: str) -> None:
        self._containers[container] = replace(self.inspect(container), running=True)

    def halt(self, container: str) -> None:
        self._containers[container] = replace(self.inspect(container), running=False)

    def has_image(self, reference: str) -> bool:
        self._maybe_fail()
        return full_reference(reference) in self.images

    def labelled_images(self, *, label: str) -> tuple[str, ...]:
        self._maybe_fail()
        key, _, value = label.partition("=")
        built = [b.tag for b in reversed(self.builds) if b.labels.get(key) == value]
        return tuple(tag for tag in built if self.has_image(tag))

    def find_image(self, reference: str) -> ImageInfo | None:
        self._maybe_fail()
        name = full_reference(reference)
        return self.image_infos.get(name, _IMAGE) if name in self.images else None

    def pull(self, reference: str, *, platform: str, timeout: float) -> None:
        self._maybe_fail()
        name, _, digest = reference.partition("@")
        if full_reference(name) not in self.registry:
            raise CommandError(f"could not pull the image {reference}: not found")
        self.pulled.append(reference)
        self.images.add(full_reference(reference))
        known = frozenset({digest} if digest else ())
        self.image_infos[full_reference(reference)] = ImageInfo(platform, known)

    def tag(self, reference: str, name: str) -> None:
        self._require_image(reference)
        self.images.add(full_reference(name))
        if (info := self.image_infos.get(full_reference(reference))) is not None:
            self.image_infos[full_reference(name)] = info

    def save(
        self, references: Sequence[str], archive: Path, *, platform: str, timeout: float
    ) -> None:
        for reference in references:
            self._require_image(reference)
        self.saved.append(tuple(references))
        archive.write_text("\n".join(references))

    def image_id(self, reference: str) -> str:
        self._require_image(reference)
        return f"sha256:{full_reference(reference)}"

    def image_size(self, reference: str) -> int:
        self._require_image(reference)
        return 500 << 20

    def load(self, archive: Path, *, timeout: float = 0) -> None:
        self._maybe_fail()
        self.loaded.append(archive)
        self.images |= self._held(archive)

    def build(
        self,
        context: Path,
        *,
        dockerfile: Path,
        tag: str,
        timeout: float,
        arguments: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        target: str = "",
        network: str = "default",
    ) -> None:
        self._maybe_fail()
        self.builds.append(Build(context, dockerfile, tag, arguments or {}, labels or {}, target))
        self.images.add(full_reference(tag))

    def push(self, reference: str, *, timeout: float) -> None:
        self._require_image(reference)
        if self.refused:
            raise self.refused
        self.pushed.add(reference)

    def is_pushed(self, reference: str, *, plain_http: bool = False) -> bool:
        self._maybe_fail()
        if self.refused:
            raise self.refused
        return reference in self.pushed

    def remove_image(self, reference: str) -> bool:
        there = self.has_image(reference)
        self.images.discard(full_reference(reference))
        return there

    def run(
        self,
        image: str,
        command: Sequence[str],
        *,
        timeout: float,
        mounts: Sequence[Mount] = (),
        network: str = "none",
        user: str = "",
        environment: Mapping[str, str] | None = None,
        entrypoint: str = "",
    ) -> str:
        self._require_image(image)
        self.calls.append(
            EngineCall(image, tuple(command), tuple(mounts), network, user, environment or {})
        )
        return self._output(command)

    def exec(
        self, container: str, command: Sequence[str], *, timeout: float, stdin: Path | None = None
    ) -> str:
        self.inspect(container)
        self.calls.append(EngineCall(container, tuple(command)))
        return self._output(command)

    def images_in(self, node: str) -> frozenset[str]:
        self._maybe_fail()
        return frozenset(self.node_images.get(node, ()))

    def import_archive(self, archive: Path, node: str, *, timeout: float) -> None:
        self._maybe_fail()
        self.imported.append((archive, node))
        self.node_images.setdefault(node, set()).update(self._held(archive))

    def copy_image(
        self, reference: str, node: str, *, timeout: float, also: Sequence[str] = ()
    ) -> None:
        for each in (reference, *also):
            self._require_image(each)
            self.copied.append((each, node))
            self.node_images.setdefault(node, set()).add(full_reference(each))

    def _held(self, archive: Path) -> set[str]:
        return {full_reference(image) for image in self._archives.get(archive, ())}

    def _output(self, command: Sequence[str]) -> str:
        for words, output in self.outputs:
            if all(word in command for word in words):
                return output
        return ""

    def _require_image(self, reference: str) -> None:
        if not self.has_image(reference):
            raise NotFoundError(f"the engine has no image {reference}")

    def _maybe_fail(self) -> None:
        if self.unavailable:
            raise UnavailableError(f"the container engine does not answer: {self.unavailable}")


_FOLDER = Path("/bundle")


class FakeSources:
    """Everything, from a folder that is missing; `absent` names what cannot be had.

    `manifests` maps a manifest's name to a file that is there.
    """

    def __init__(
        self,
        *,
        absent: Iterable[str] = (),
        manifests: Mapping[str, Path] | None = None,
        node_image: str = "kindest/node:v1.34.4",
    ) -> None:
        self.required: list[str] = []
        self._absent = set(absent)
        self._manifests = dict(manifests or {})
        self._node_image = node_image

    def require(self, names: Iterable[str]) -> None:
        for name in names:
            self.required.append(name)
            self._maybe_fail(name)

    def binary(self, name: str) -> Path:
        self._maybe_fail(name)
        return _FOLDER / "bin" / name

    def chart(self, name: str) -> Chart:
        self._maybe_fail(name)
        version = "1.17.1" if name.startswith("seldon") else "1.31.0"
        return Chart(_FOLDER / "charts" / f"{name}-{version}.tgz", version)

    def manifest(self, name: str) -> ManifestFile:
        self._maybe_fail(name)
        if name not in self._manifests:
            raise NotDownloadedError(f"{name} is not downloaded")
        return ManifestFile(self._manifests[name], "v0.16.1")

    def node_image(self) -> NodeImage:
        self._maybe_fail("node")
        return NodeImage(self._node_image, _FOLDER / "images" / "node.tar")

    def archives(self, group: str) -> tuple[Archive, ...]:
        self._maybe_fail(group)
        return tuple(a for a in self._all() if a.path.stem == group)

    def echo_image(self) -> str:
        return ECHO_IMAGE

    def contents(self) -> dict[Path, tuple[str, ...]]:
        """Return what each archive holds, for `FakeEngine(archives=…)`."""
        node = self.node_image()
        held = {archive.path: archive.images for archive in self._all()}
        return held | ({node.archive: (node.reference,)} if node.archive else {})

    def _all(self) -> tuple[Archive, ...]:
        images = {
            "metallb": ("quay.io/metallb/controller:v0.16.1", "quay.io/metallb/speaker:v0.16.1"),
            "istio": (
                "registry.istio.io/release/pilot:1.31",
                "registry.istio.io/release/proxyv2:1.31",
            ),
            "seldon": (
                "docker.io/seldonio/seldon-core-operator:1.17.1",
                "docker.io/seldonio/rclone-storage-initializer:1.17.1",
            ),
            "storage": ("docker.io/chrislusf/seaweedfs:4.48",),
            "extras": (ECHO_IMAGE,),
            "python": ("docker.io/library/python:3.11-slim-bookworm",),
        }
        return tuple(
            Archive(_FOLDER / "images" / f"{group}.tar", held) for group, held in images.items()
        )

    def _maybe_fail(self, name: str) -> None:
        if name in self._absent:
            raise ConfigurationError(f"{name} is not in the bundle {_FOLDER}; create it again")
