"""What the layers below Istio are given in tests: a machine and a cluster in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_pipeline.clients.containers import ContainerInfo, Network, PortMapping
from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.clients.kubernetes import Access, KubernetesApi, Manifest
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.kubernetes import KubernetesPlatform
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster import permissions
from mlops_pipeline.platforms.kubernetes.parts.existing import ExistingParts, delivered
from mlops_pipeline.platforms.kubernetes.parts.images import NodeImages
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.settings.kind import ClusterSettings, KindSettings
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.fakes.engine import FakeEngine
from mlops_pipeline_tests.fakes.helm import FakeHelm
from mlops_pipeline_tests.fakes.kind import FakeKind
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.sources import FakeSources

NAME = "seldon"
CONTROL_PLANE = f"{NAME}-control-plane"
NETWORK = Network(
    subnets=("fc00:f853:ccd:e793::/64", "172.18.0.0/16"),
    gateways=("172.18.0.1",),
    addresses=("172.18.0.2", "fc00:f853:ccd:e793::2"),
)
RESOLVED = "0 72 1 1 133 128 0 1 0 1"
"""The first bytes of an answer of CoreDNS: one question, one address."""


@dataclass
class Rig:
    """KindParts of fakes, and the fakes."""

    home: Path
    api: FakeKubernetes = field(default_factory=FakeKubernetes)
    engine: FakeEngine = field(default_factory=lambda: make_engine())
    sources: FakeSources = field(default_factory=FakeSources)
    settings: KindSettings = field(default_factory=KindSettings)
    clock: FakeClock = field(default_factory=FakeClock)
    kind: FakeKind = field(init=False)

    def __post_init__(self) -> None:
        clusters: dict[str, list[str]] = {}
        for container in self.engine.containers(label="io.x-k8s.kind.cluster"):
            clusters.setdefault(NAME, []).append(container.name)
        self.kind = FakeKind(clusters, engine=self.engine)

    @property
    def parts(self) -> KindParts:
        """What a layer is given."""
        state = ClusterFolder(self.home)

        def api() -> KubernetesApi:
            if not state.kubeconfig.exists():
                raise NotFoundError(
                    "the cluster is missing; create it with `mlops-pipeline up cluster`"
                )
            return self.api

        return KindParts(
            state=state,
            settings=self.settings,
            sources=self.sources,
            locks=Locks(state.locks, timeout=1, prepare=state.prepare),
            engine=self.engine,
            kind=lambda: self.kind,
            api=api,
            helm=lambda: FakeHelm(self.api),
            images=NodeImages(self.engine, lambda: self.kind, self.sources, NAME),
            clock=self.clock,
        )

    def with_cluster(self) -> "Rig":
        """Say how the cluster is reached, as if it had been made."""
        state = ClusterFolder(self.home)
        state.prepare()
        state.kubeconfig.write_text("there")
        return self


@dataclass
class ExistingRig:
    """Parts of fakes for a cluster of somebody else, whose kubeconfig has the context `theirs`."""

    home: Path
    api: FakeKubernetes = field(default_factory=lambda: FakeKubernetes(their_cluster()))
    engine: FakeEngine = field(default_factory=lambda: make_engine())
    sources: FakeSources = field(default_factory=FakeSources)
    settings: KubernetesSettings = field(default_factory=lambda: existing_settings())
    clock: FakeClock = field(default_factory=FakeClock)
    helm: FakeHelm | None = None

    @property
    def parts(self) -> ExistingParts:
        """What a layer is given."""
        state = ClusterFolder(self.home)
        helm = self.helm or FakeHelm(self.api)
        return ExistingParts(
            state=state,
            settings=self.settings,
            sources=self.sources,
            locks=Locks(state.locks, timeout=1, prepare=state.prepare),
            engine=self.engine,
            api=lambda: self.api,
            helm=lambda: helm,
            images=delivered(self.settings, self.engine, self.sources),
            clock=self.clock,
        )


def existing_settings(**tables: Any) -> KubernetesSettings:
    """Return settings that name a context and a registry, and with these tables."""
    given = {"context": "theirs", "images": {"registry": "registry.example.com/team"}}
    return KubernetesSettings.model_validate({**given, "ready_timeout": 60, **tables})


def rights_of(settings: KubernetesSettings) -> list[Access]:
    """Return what the user of a platform with these settings must be allowed to do."""
    platform = KubernetesPlatform(Path("/nowhere"), settings, bundle=None)
    return permissions.needed(platform.layers, namespace=settings.namespace)


def their_cluster() -> list[Manifest]:
    """Return the objects of a cluster of which nothing is ours."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return [
        *ready_cluster(["node-1", "node-2"]),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "fast", "annotations": default},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "shop", "namespace": "shops"},
            "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}},
        },
    ]


def make_engine(**given: Any) -> FakeEngine:
    """Return an engine with kind's network, in whose nodes names resolve."""
    outputs = [(("bash",), RESOLVED), *given.pop("outputs", ())]
    return FakeEngine(networks={"kind": NETWORK}, outputs=outputs, **given)


def cluster_settings(**given: Any) -> KindSettings:
    """Return settings with these of the cluster."""
    return KindSettings(cluster=ClusterSettings(**given), ready_timeout=60)


def node(
    name: str = CONTROL_PLANE,
    *,
    role: str = "control-plane",
    running: bool = True,
    image: str = "kindest/node:v1.34.4",
    ports: Mapping[int, int] | None = None,
    identity: str = "id",
) -> ContainerInfo:
    """Return the container of a node of the cluster."""
    mapped = {80: 80, 443: 443, 6443: 40001} if ports is None else ports
    return ContainerInfo(
        name=name,
        id=identity,
        image=image,
        running=running,
        ports=tuple(PortMapping(inner, "127.0.0.1", outer) for inner, outer in mapped.items()),
        created="2026-01-01T00:00:00Z",
        labels={"io.x-k8s.kind.cluster": NAME, "io.x-k8s.kind.role": role},
    )


MAPPED = {80: 80, 443: 443, 6443: 40001, 30080: 8180, 30043: 8543, 30083: 8433}
"""The ports of the control plane where Services are reached by ports of this machine."""


def by_ports(rig: Rig) -> None:
    """Let Services be reached by ports of this machine, as on macOS."""
    rig.settings = rig.settings.model_copy(
        update={"cluster": rig.settings.cluster.model_copy(update={"reach": "ports"})}
    )
    rig.engine = make_engine(containers=[node(ports=MAPPED)])


def ready_cluster(nodes: Iterable[str] = (CONTROL_PLANE,)) -> list[Manifest]:
    """Return the objects of a cluster that is ready."""
    return [
        *(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
            for name in nodes
        ),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
            "spec": {"selector": {"matchLabels": {"k8s-app": "kube-dns"}}},
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": "10.96.0.10"},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-1",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "endpoints": [
                {"addresses": ["10.244.0.3"], "conditions": {"ready": True}},
                {"addresses": ["10.244.0.4"], "conditions": {"ready": False}},
            ],
        },
        account("default"),
    ]


def account(namespace: str) -> Manifest:
    """Return the account that pods of a namespace run as."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace},
    }


def run_workloads(api: FakeKubernetes) -> None:
    """Let what is applied become ready at once, and Services get addresses."""

    def run(manifest: Manifest) -> None:
        wanted = manifest["spec"].get("replicas", 1)
        counts = ("replicas", "updatedReplicas", "availableReplicas")
        daemons = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        status = dict.fromkeys((*counts, *daemons), wanted) | {"observedGeneration": 1}
        api.put({**manifest, "status": status})

    def give_account(manifest: Manifest) -> None:
        api.put(account(manifest["metadata"]["name"]))

    def give_address(manifest: Manifest) -> None:
        balanced = manifest["spec"]["type"] == "LoadBalancer"
        status = {"loadBalancer": {"ingress": [{"ip": "172.18.255.9"}]} if balanced else {}}
        spec = {**manifest["spec"], "clusterIP": "10.96.3.4"}
        api.put({**manifest, "spec": spec, "status": status})

    def make_ready(manifest: Manifest) -> None:
        ready = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
        api.put({**manifest, "status": ready})

    for kind in ("Deployment", "DaemonSet"):
        api.when_applied(kind, run)
    api.when_applied("Namespace", give_account)
    api.when_applied("Service", give_address)
    api.when_applied("Pod", make_ready)
