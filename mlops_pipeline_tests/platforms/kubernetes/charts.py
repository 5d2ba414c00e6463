"""A cluster in memory in which charts bring what they bring, for the layers on Helm."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlops_pipeline.clients.kubernetes import Manifest
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.sources import Chart
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.fakes.helm import FakeHelm
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    MAPPED,
    Rig,
    make_engine,
    node,
    run_workloads,
)


class ChartSources(FakeSources):
    """Sources whose charts are files; `versions` says which each has."""

    def __init__(self, folder: Path, *, absent: Iterable[str] = ()) -> None:
        super().__init__(absent=absent)
        self.versions: dict[str, str] = {}
        self._charts = folder
        folder.mkdir(exist_ok=True)

    def chart(self, name: str) -> Chart:
        given = super().chart(name)
        version = self.versions.get(name, given.version)
        path = self._charts / f"{name}-{version}.tgz"
        if not path.exists():
            path.write_text(f"{name} {version}")
        return Chart(path, version)

    def lose(self, name: str) -> None:
        """Let something not be had any more."""
        self._absent.add(name)


@dataclass
class HelmRig:
    """KindParts of fakes, with a Helm whose charts bring `brings`."""

    rig: Rig
    sources: ChartSources
    helm: FakeHelm
    settings: KindSettings = field(default_factory=lambda: KindSettings(ready_timeout=60))

    @classmethod
    def make(cls, folder: Path, brings: Mapping[str, Iterable[Manifest]]) -> "HelmRig":
        """Return one with a cluster that runs what is applied."""
        sources = ChartSources(folder / "charts")
        engine = make_engine(containers=[node()], archives=sources.contents())
        rig = Rig(folder / "kind", sources=sources, engine=engine).with_cluster()
        run_workloads(rig.api)
        return cls(rig, sources, FakeHelm(rig.api, brings=brings))

    @property
    def api(self) -> FakeKubernetes:
        """The cluster."""
        return self.rig.api

    @property
    def parts(self) -> KindParts:
        """What a layer is given."""
        return replace(self.rig.parts, helm=lambda: self.helm, settings=self.settings)

    def set(self, **tables: Mapping[str, object]) -> None:
        """Change settings: `set(istio={"tls": "self-signed"})`."""
        self.settings = KindSettings.model_validate({"ready_timeout": 60, **tables})

    def by_ports(self) -> None:
        """Let Services be reached by ports of this machine, as on macOS."""
        self.set(cluster={"reach": "ports"})
        archives = self.sources.contents()
        self.rig.engine = make_engine(containers=[node(ports=MAPPED)], archives=archives)

    def installed(self) -> list[str]:
        """Return the releases that were installed or upgraded, in order."""
        return [upgrade.release for upgrade in self.helm.upgrades]


def deployment(name: str, namespace: str, *, image: str = "x:1") -> Manifest:
    """Return a Deployment that runs."""
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"spec": {"containers": [{"name": "c", "image": image}]}},
        },
        "status": {**counts, "observedGeneration": 1},
    }


def load_balancer(name: str, namespace: str, *, address: str = "172.18.255.200") -> Manifest:
    """Return a Service with an address."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    }


def their_istio() -> list[Manifest]:
    """Return an Istio 1.30.3 of somebody else, with a Gateway and its Service."""
    istiod = deployment("istiod-1-30", "mesh", image="istio/pilot:1.30.3")
    return [
        {**istiod, "metadata": {**istiod["metadata"], "labels": {"app": "istiod"}}},
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "public", "namespace": "edge"},
            "spec": {},
        },
        load_balancer("gateway", "edge", address="203.0.113.9"),
    ]


def waiting_pod(name: str, namespace: str, *, app: str, reason: str, message: str) -> Manifest:
    """Return a pod whose container waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "x:1"}]},
        "status": {
            "phase": "Pending",
            "containerStatuses": [{"name": "c", "state": state, "image": "x:1"}],
        },
    }
