"""The cluster layer: Kubernetes in containers, created by kind."""

import logging
from collections.abc import Callable, Sequence

from mlops_pipeline.clients.containers import ContainerInfo
from mlops_pipeline.clients.errors import (
    CommandError,
    FatalStateError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.files import discard
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.cluster import config
from mlops_pipeline.platforms.kubernetes.cluster import nodes as nodes_of_kind
from mlops_pipeline.platforms.kubernetes.cluster.record import ClusterRecord
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.making import ClusterMaker
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.owner import ClusterOwner
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.readiness import (
    INTERVAL,
    SYSTEM,
    describe_unready,
    wait,
)
from mlops_pipeline.platforms.kubernetes.objects.states import with_obstacle
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
    action_from,
)
from mlops_pipeline.platforms.sources.providing import provide, sources_of

_log = logging.getLogger(__name__)
_ANSWER = 30.0
"""Seconds in which names must resolve: after a restart the cluster must find its servers again."""


class KindCluster(ClusterLayer):
    """A kind cluster of our own, or an existing suitable one of that name."""

    name = "cluster"
    description = "A Kubernetes cluster whose nodes are containers of this machine."
    kinds = ("kind", "kubernetes", "docker")
    requires = ()
    namespace = SYSTEM
    _parts: KindParts

    def __init__(
        self,
        parts: KindParts,
        *,
        recreate: bool = False,
        above: Callable[[], Sequence[ClusterLayer]] = tuple,
    ) -> None:
        """`above` returns the layers that require it.

        With `recreate`, `ensure` may create a cluster of ours again, which deletes everything in
        it. It does so if the cluster has a difference that cannot be updated, or does not become
        ready.
        """
        super().__init__(parts)
        self._settings = parts.settings.cluster
        self._recreate = recreate
        self._above = above
        self._owner = ClusterOwner(parts)
        self._maker = ClusterMaker(parts, self._owner, lambda: self.mapped_ports)

    @property
    def sources(self) -> tuple[str, ...]:
        """The program, and its node image unless the settings name another."""
        return ("kind",) if self._settings.node_image else ("kind", "node")

    @property
    def mapped_ports(self) -> tuple[config.MappedPort, ...]:
        """The ports of the control plane to which ports of this machine lead."""
        return config.mapped_ports(self._settings, [p for a in self._above() for p in a.ports])

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether names resolve in it."""
        return (
            HealthCheck(
                "resolves_names",
                "A node queries CoreDNS for the API server's name and gets an address.",
                self._try_names,
            ),
        )

    def _try_names(self) -> Finding:
        engine, api, node = self._parts.engine, self._parts.api(), self._require_nodes()[0].name
        wait_until(
            f"{nodes_of_kind.ASKED_NAME} on the node {node}",
            patiently(lambda: nodes_of_kind.describe_unresolved(engine, api, node)),
            timeout=_ANSWER,
            clock=self._parts.clock,
            interval=INTERVAL,
            hint=f"see `kubectl logs --namespace {SYSTEM} deployment/coredns`",
        )
        return Finding(passed=True, seen=f"{nodes_of_kind.ASKED_NAME} resolves on the node {node}")

    def observe(self) -> LayerState:
        """Examine the cluster: its containers, its nodes, and whether names resolve."""
        try:
            nodes = self.nodes()
        except (CommandError, NotFoundError, UnavailableError) as error:
            return Broken.needing_help(str(error))  # Nothing of ours starts the engine.
        return with_obstacle(self._look_at(nodes), lambda: self._refuse(nodes))

    def _look_at(self, nodes: Sequence[ContainerInfo]) -> LayerState:
        if not nodes:
            return Absent()
        if self._owner.is_unfinished():
            return Broken(
                "its creation was interrupted; create it again with `mlops-pipeline up cluster`"
            )
        if different := (*self._maker.differences(nodes), *self._maker.other_mirrors()):
            return Drifted(different)
        if stopped := [node.name for node in nodes if not node.running]:
            return Broken(
                f"stopped: {', '.join(stopped)}; start it with `mlops-pipeline up cluster`"
            )
        if (reason := describe_unready(self._parts, nodes)) is not None:
            return Broken(reason)
        return Ready(self._facts(nodes))

    def ensure(self) -> Change:
        """Bring the cluster up: create, repair, start or keep it.

        Raises:
            ConflictError: a cluster of that name has a difference that cannot be updated, and it
                may not be created again or is not ours.
            ConfigurationError: this machine or the settings do not allow a cluster, or something
                that it or a layer above needs is not available; nothing was changed.
            IntegrityError: some of that does not match its digest; nothing was changed.
            UnavailableError: the container engine does not answer, or it did not become ready.
        """
        self._parts.state.prepare()
        with self._parts.locks.held("layers", purpose="bring up the cluster"):
            state = self.observe()
            if isinstance(state, Ready):
                names = sources_of((self, *self._above()))
                provide(self._parts.sources, names, layers=self._above())
                there = self._require_nodes()
                self._owner.note(there)
                self._owner.mark(there)
                return Change("unchanged", state.facts)
            steps = Steps(self._parts.clock)
            nodes = self._bring_up(steps)
            self._owner.mark(nodes)
            action = "created" if "create_seconds" in steps.facts else action_from(state)
            return Change(action, {**self._facts(nodes), **steps.facts})

    def remove(self) -> None:
        """Delete the cluster with everything in it, if this state folder created it.

        Raises:
            UnavailableError: the container engine does not answer.
        """
        if not self._parts.state.is_prepared():
            return
        with self._parts.locks.held("layers", purpose="remove the cluster"):
            self._owner.end_left_behind()
            nodes = self.nodes()
            if nodes and self._owner.is_proven_ours(nodes):
                self._maker.delete()
            elif nodes:
                name, whose = self._settings.name, self._owner.whose()
                _log.warning("kept the kind cluster %s: %s", name, whose)
            discard(self._parts.state.kubeconfig)

    def nodes(self) -> tuple[ContainerInfo, ...]:
        """Return the containers of its nodes, the control plane first; empty if there is none.

        Raises:
            UnavailableError: the container engine does not answer.
        """
        return nodes_of_kind.find(self._parts.engine, self._settings.name)

    def stop(self) -> None:
        """Stop its nodes, also of a cluster of somebody else. Their content stays.

        Raises:
            UnavailableError: the container engine does not answer.
        """
        self._parts.state.prepare()
        with self._parts.locks.held("layers", purpose="stop the cluster"):
            for node in self.nodes():
                self._parts.engine.halt(node.name)

    def memory_used(self) -> int | None:
        """Return the bytes that its nodes use, or None if they do not report it."""
        names = [node.name for node in self.nodes()]
        return nodes_of_kind.memory_used(self._parts.engine, names) or None

    def is_ours(self) -> bool:
        """Say whether this state folder created the existing cluster.

        Raises:
            UnavailableError: the container engine does not answer.
        """
        nodes = self.nodes()
        return bool(nodes) and self._owner.is_proven_ours(nodes)

    def host_port(self, inner: int) -> int | None:
        """Return the port of this machine that leads to a port of the control plane, or None.

        Raises:
            NotFoundError: there is no cluster.
            UnavailableError: the container engine does not answer.
        """
        return config.host_port(self._require_nodes()[0], inner)

    def _bring_up(self, steps: Steps) -> Sequence[ContainerInfo]:
        nodes = self.nodes()
        self._refuse(nodes)
        self._parts.sources.require(sources_of((self, *self._above())))
        self._owner.end_left_behind()
        if self._maker.differences(nodes):
            self._delete_ours(nodes)
        self._clear_unfinished()
        if not (nodes := self.nodes()):
            return self._make(steps)
        try:
            self._maker.start_again(nodes)
            return self._settle(nodes, steps)
        except (FatalStateError, UnavailableError):
            if not self._recreate:
                raise
            self._delete_ours(nodes)
            return self._make(steps)

    def _refuse(self, nodes: Sequence[ContainerInfo]) -> None:
        self._maker.refuse(nodes, may_recreate=self._recreate)

    def _make(self, steps: Steps) -> Sequence[ContainerInfo]:
        return self._settle(self._maker.create(steps), steps)

    def _settle(self, nodes: Sequence[ContainerInfo], steps: Steps) -> Sequence[ContainerInfo]:
        self._maker.write_mirrors(nodes)
        with steps.step("ready"):
            wait(self._parts, nodes)
        return nodes

    def _delete_ours(self, nodes: Sequence[ContainerInfo]) -> None:
        self._owner.require_ours(nodes)
        _log.info("deleting the kind cluster %s to create it again", self._settings.name)
        self._maker.delete()

    def _clear_unfinished(self) -> None:
        """Delete a cluster of ours whose creation was interrupted."""
        nodes = self.nodes()
        if not nodes or not self._owner.is_unfinished():
            return
        if self._owner.is_proven_ours(nodes):
            _log.info("deleting the incomplete kind cluster %s", self._settings.name)
            self._maker.delete()
        else:
            # Our creation was interrupted, and somebody else has created one of that name since.
            self._owner.write(ClusterRecord(self._settings.name, "adopted"))

    def _require_nodes(self) -> tuple[ContainerInfo, ...]:
        return nodes_of_kind.require(self._parts.engine, self._settings.name)

    def _facts(self, nodes: Sequence[ContainerInfo]) -> dict[str, str | int | float]:
        mapped = {
            f"{mapped.name}_port": port
            for mapped in self.mapped_ports
            if (port := config.host_port(nodes[0], mapped.inner)) is not None
        }
        return {
            "address": config.api_address(nodes[0]),
            "kubernetes": self._parts.api().version(),
            "nodes": len(nodes),
            **mapped,
        }
