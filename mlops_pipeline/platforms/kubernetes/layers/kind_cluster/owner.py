"""Who created the kind cluster: only what this state folder created is deleted."""

from collections.abc import Sequence
from contextlib import suppress

from mlops_pipeline.clients import running
from mlops_pipeline.clients.containers import ContainerInfo
from mlops_pipeline.clients.errors import ConflictError, PipelineError
from mlops_pipeline.clients.kubernetes import CONFIG_MAP
from mlops_pipeline.platforms.kubernetes.cluster import nodes as nodes_of_kind
from mlops_pipeline.platforms.kubernetes.cluster.record import (
    ClusterBook,
    ClusterRecord,
    Stage,
    identity_of,
)
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.seldon import MANAGED_BY

_SYSTEM = "kube-system"
_MARK = "mlops-pipeline"
"""The ConfigMap that shows people, and other state folders, the owner of this cluster."""
_GRACE = 5.0
"""Seconds for a `kind create` that a killed command has left behind."""


class ClusterOwner:
    """Proves whether this state folder created the cluster.

    The proof is the id of its control plane's container, recorded at its creation. Before that, or
    without the folder, it is the label that kind sets on each node when it configures it.
    """

    def __init__(self, parts: KindParts) -> None:
        self._parts = parts
        self._name = parts.settings.cluster.name
        self._book = ClusterBook(parts.state.cluster)
        self.identity = identity_of(parts.state.home)

    @property
    def record(self) -> ClusterRecord | None:
        """Return the last record of the cluster of that name, or None."""
        return self._book.find(self._name)

    def write(self, record: ClusterRecord) -> None:
        """Record what is done with the cluster. The caller holds the lock `layers`.

        Raises:
            ConfigurationError: the folder cannot be written, or the disk is full.
        """
        self._book.write(record)

    def note(self, nodes: Sequence[ContainerInfo]) -> None:
        """Record the owner of the cluster if it is unknown, as after the loss of the folder."""
        record = self.record
        if record is None or record.node != nodes[0].id:
            stage: Stage = "made" if self.is_proven_ours(nodes) else "adopted"
            self.write(ClusterRecord(self._name, stage, node=nodes[0].id))

    def mark(self, nodes: Sequence[ContainerInfo]) -> None:
        """Write the owner into the cluster for people and other state folders, if it is ours."""
        if not self.is_proven_ours(nodes):
            return
        self._parts.api().apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": _MARK, "namespace": _SYSTEM, "labels": dict(MANAGED_BY)},
                "data": {"identity": self.identity, "home": str(self._parts.state.home)},
            }
        )

    def whose(self) -> str:
        """Say who created the cluster, if the cluster shows it."""
        with suppress(PipelineError):
            mark = self._parts.api().find(CONFIG_MAP, _MARK, namespace=_SYSTEM)
            if mark is not None and mark["data"]["identity"] != self.identity:
                return f"the state folder {mark['data']['home']} created it"
        return "this state folder did not create it"

    def is_proven_ours(self, nodes: Sequence[ContainerInfo]) -> bool:
        """Say whether it is certain, not only likely, that this state folder created the cluster.

        Raises:
            CommandError: a node does not answer.
        """
        record = self.record
        if record is not None and record.node == nodes[0].id:
            return record.stage == "made"
        for node in self._running(nodes):
            identity = nodes_of_kind.made_by(self._parts.engine, node.name)
            if identity is not None:
                return identity == self.identity
        # Killed before kind configured the nodes; those of somebody else's cluster are configured.
        return self.is_unfinished()

    def require_ours(self, nodes: Sequence[ContainerInfo]) -> None:
        """Refuse to create a cluster again that this state folder did not create.

        Raises:
            ConflictError: names who created it, if that is known.
        """
        if not self.is_proven_ours(nodes):
            raise ConflictError(
                f"could not create the kind cluster {self._name} again: {self.whose()}. Delete it "
                f"yourself (`kind delete cluster --name {self._name}`) or set another "
                "kind.cluster.name"
            )

    def is_unfinished(self) -> bool:
        """Say whether the creation was recorded as begun but not as completed."""
        return (record := self.record) is not None and record.stage == "making"

    def _running(self, nodes: Sequence[ContainerInfo]) -> list[ContainerInfo]:
        """Return the nodes that can run commands; nodes of a cluster to examine are started."""
        stopped = [node for node in nodes if not node.running]
        if not self.is_unfinished():
            return [node for node in nodes if node.running]
        for node in stopped:
            self._parts.engine.resume(node.name)
        return list(nodes)

    def end_left_behind(self) -> None:
        """End a `kind create` that outlived its command: it would continue to create nodes."""
        if self.is_unfinished():
            words = ("create", "cluster", str(self._parts.state.kubeconfig))
            running.end(running.with_descendants(running.commanded(words)), grace=_GRACE)
