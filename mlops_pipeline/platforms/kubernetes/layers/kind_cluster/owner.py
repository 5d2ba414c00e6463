"""Whose the kind cluster is: nothing is deleted that was not made from this state folder."""

from collections.abc import Sequence
from contextlib import suppress

from mlops_pipeline.clients import running
from mlops_pipeline.clients.containers import ContainerInfo
from mlops_pipeline.clients.errors import PipelineError
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
"""The ConfigMap that tells people, and other state folders, whose cluster this is."""
_GRACE = 5.0
"""Seconds for a `kind create` that a killed command has left behind."""


class ClusterOwner:
    """What proves that the cluster was made from this state folder.

    The id of its control plane's container, written down when it was made. Before that, or without
    the folder, the label that each node has from the moment kind configures it.
    """

    def __init__(self, parts: KindParts) -> None:
        self._parts = parts
        self._name = parts.settings.cluster.name
        self._book = ClusterBook(parts.state.cluster)
        self.identity = identity_of(parts.state.home)

    @property
    def record(self) -> ClusterRecord | None:
        """What was written down last of the cluster of that name, or None."""
        return self._book.find(self._name)

    def write(self, record: ClusterRecord) -> None:
        """Write down what is done with the cluster. The caller holds the lock `layers`.

        Raises:
            ConfigurationError: the folder cannot be written, or the disk is full.
        """
        self._book.write(record)

    def note(self, nodes: Sequence[ContainerInfo]) -> None:
        """Write down whose the cluster is where that is not known, as after a lost folder."""
        record = self.record
        if record is None or record.node != nodes[0].id:
            stage: Stage = "made" if self.is_proven_ours(nodes) else "adopted"
            self.write(ClusterRecord(self._name, stage, node=nodes[0].id))

    def mark(self, nodes: Sequence[ContainerInfo]) -> None:
        """Tell people and other state folders whose the cluster is, unless it is not ours."""
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
        """Say who made the cluster, as far as it tells."""
        with suppress(PipelineError):
            mark = self._parts.api().find(CONFIG_MAP, _MARK, namespace=_SYSTEM)
            if mark is not None and mark["data"]["identity"] != self.identity:
                return f"it was made from the state folder {mark['data']['home']}"
        return "it was not made from this state folder"

    def is_proven_ours(self, nodes: Sequence[ContainerInfo]) -> bool:
        """Say whether it is known, not only likely, that the cluster was made from here.

        Raises:
            CommandError: a node cannot be asked.
        """
        record = self.record
        if record is not None and record.node == nodes[0].id:
            return record.stage == "made"
        for node in self._running(nodes):
            identity = nodes_of_kind.made_by(self._parts.engine, node.name)
            if identity is not None:
                return identity == self.identity
        # Killed before kind came to configuring them; a cluster of somebody else's is configured.
        return self.is_unfinished()

    def is_unfinished(self) -> bool:
        """Say whether it was begun to make the cluster, and not written down that it was done."""
        return (record := self.record) is not None and record.stage == "making"

    def _running(self, nodes: Sequence[ContainerInfo]) -> list[ContainerInfo]:
        """Return the nodes that can be asked; those of a cluster to be judged are started."""
        stopped = [node for node in nodes if not node.running]
        if not self.is_unfinished():
            return [node for node in nodes if node.running]
        for node in stopped:
            self._parts.engine.resume(node.name)
        return list(nodes)

    def end_left_behind(self) -> None:
        """End a `kind create` that outlived the command that ran it: it would go on making."""
        if self.is_unfinished():
            words = ("create", "cluster", str(self._parts.state.kubeconfig))
            running.end(running.with_descendants(running.commanded(words)), grace=_GRACE)
