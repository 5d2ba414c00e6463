"""kind in memory: clusters, and containers of a fake engine."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops_pipeline.clients.containers import ContainerInfo, PortMapping
from mlops_pipeline.clients.errors import CommandError, NotFoundError
from mlops_pipeline_tests.fakes.engine import FakeEngine


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
        engine: FakeEngine | None = None,
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
