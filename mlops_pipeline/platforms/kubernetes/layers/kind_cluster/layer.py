"""The cluster layer: Kubernetes in containers, made by kind."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from mlops_pipeline.clients.containers import ContainerInfo
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    ConflictError,
    FatalStateError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.files import PRIVATE, discard, set_aside, writing
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    NODE,
    SERVICE_ACCOUNT,
    KubernetesApi,
)
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer, sources_of
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.cluster import config
from mlops_pipeline.platforms.kubernetes.cluster import nodes as nodes_of_kind
from mlops_pipeline.platforms.kubernetes.cluster.record import ClusterRecord
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster import preflight
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.owner import ClusterOwner
from mlops_pipeline.platforms.kubernetes.objects import workloads
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.kubernetes.sources import NodeImage
from mlops_pipeline.platforms.kubernetes.sources.providing import provide
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

_log = logging.getLogger(__name__)
_SYSTEM = "kube-system"
_CREATE_TIMEOUT = 900.0
"""Seconds for `kind create`, which pulls the node image where the engine does not have it."""
_INTERVAL = 0.25
_ANSWER = 30.0
"""Seconds in which names resolve: after a restart the cluster has to find its servers again."""


class KindCluster(ClusterLayer):
    """A kind cluster of our own, or one of that name that fits."""

    name = "cluster"
    description = "A Kubernetes cluster whose nodes are containers of this machine."
    kinds = ("kind", "kubernetes", "docker")
    requires = ()
    namespace = _SYSTEM
    _parts: KindParts

    def __init__(
        self,
        parts: KindParts,
        *,
        recreate: bool = False,
        above: Callable[[], Sequence[ClusterLayer]] = tuple,
    ) -> None:
        """`above` gives the layers that stand on it.

        With `recreate`, `ensure` may make a cluster of ours anew, with the loss of all in it. It
        does where the cluster differs in what cannot be changed, or does not become ready.
        """
        super().__init__(parts)
        self._settings = parts.settings.cluster
        self._recreate = recreate
        self._above = above
        self._owner = ClusterOwner(parts)

    @property
    def sources(self) -> tuple[str, ...]:
        """The program, and its node image where the settings name no other."""
        return ("kind",) if self._settings.node_image else ("kind", "node")

    @property
    def mapped_ports(self) -> tuple[config.MappedPort, ...]:
        """The ports of the control plane that ones of this machine lead to."""
        return config.mapped_ports(self._settings, [p for a in self._above() for p in a.ports])

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """That names resolve in it."""
        return (
            HealthCheck(
                "resolves_names",
                "A node asks CoreDNS for the API server by its name and gets an address.",
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
            interval=_INTERVAL,
            hint=f"see `kubectl logs --namespace {_SYSTEM} deployment/coredns`",
        )
        return Finding(passed=True, seen=f"{nodes_of_kind.ASKED_NAME} resolves on the node {node}")

    def observe(self) -> LayerState:
        """Look at the cluster as it is now: its containers, its nodes, and the names in it."""
        try:
            nodes = self.nodes()
        except (CommandError, NotFoundError, UnavailableError) as error:
            return Broken(str(error))
        if not nodes:
            return Absent()
        if self._owner.is_unfinished():
            return Broken("its creation was interrupted; `mlops-pipeline up cluster` makes it anew")
        if different := (*self._differences(nodes), *self._other_mirrors()):
            return Drifted(different)
        if stopped := [node.name for node in nodes if not node.running]:
            return Broken(f"stopped: {', '.join(stopped)}; `mlops-pipeline up cluster` starts it")
        if (reason := self._describe_unready(nodes)) is not None:
            return Broken(reason)
        return Ready(self._facts(nodes))

    def ensure(self) -> Change:
        """Bring the cluster up: made, made whole, started, or kept.

        Raises:
            ConflictError: a cluster of that name is there and differs in what cannot be changed,
                and it may not be made anew or is not ours.
            ConfigurationError: this machine or the settings do not allow a cluster, or something
                that it or a layer above it needs cannot be had; nothing was changed.
            IntegrityError: some of that is not what its digest says; nothing was changed.
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
        """Delete the cluster if it was made from this state folder, with everything in it.

        Raises:
            UnavailableError: the container engine does not answer.
        """
        if not self._parts.state.is_prepared():
            return
        with self._parts.locks.held("layers", purpose="remove the cluster"):
            self._owner.end_left_behind()
            nodes = self.nodes()
            if nodes and self._owner.is_proven_ours(nodes):
                self._delete()
            elif nodes:
                name, whose = self._settings.name, self._owner.whose()
                _log.warning("the kind cluster %s stays: %s", name, whose)
            discard(self._parts.state.kubeconfig)

    def nodes(self) -> tuple[ContainerInfo, ...]:
        """Return the containers of its nodes, the control plane first; none where none is.

        Raises:
            UnavailableError: the container engine does not answer.
        """
        return nodes_of_kind.find(self._parts.engine, self._settings.name)

    def stop(self) -> None:
        """Stop its nodes, whoever made it. What is in them stays.

        Raises:
            UnavailableError: the container engine does not answer.
        """
        self._parts.state.prepare()
        with self._parts.locks.held("layers", purpose="stop the cluster"):
            for node in self.nodes():
                self._parts.engine.halt(node.name)

    def memory_used(self) -> int | None:
        """Return the bytes that its nodes use, or None where they cannot be asked."""
        names = [node.name for node in self.nodes()]
        return nodes_of_kind.memory_used(self._parts.engine, names) or None

    def is_ours(self) -> bool:
        """Say whether the cluster that is there was made from this state folder.

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
        different = () if not nodes or self._owner.is_unfinished() else self._differences(nodes)
        if different and not self._recreate:
            raise ConflictError(
                f"the kind cluster {self._settings.name} is not the one that is asked for: "
                f"{'; '.join(different)}. Nothing was changed. Make it anew, with the loss of "
                "everything in it, by `mlops-pipeline up cluster --recreate`, or set kind.cluster "
                "to what is there"
            )
        config.check_mirrors(self._settings.mirrors)
        preflight.require(self._parts)
        self._parts.sources.require(sources_of((self, *self._above())))
        self._owner.end_left_behind()
        if different:
            self._delete_ours(nodes)
        self._clear_unfinished()
        if not (nodes := self.nodes()):
            return self._make(steps)
        try:
            self._start_again(nodes)
            return self._settle(nodes, steps)
        except (FatalStateError, UnavailableError):
            if not self._recreate:
                raise
            self._delete_ours(nodes)
            return self._make(steps)

    def _make(self, steps: Steps) -> Sequence[ContainerInfo]:
        return self._settle(self._create(steps), steps)

    def _settle(self, nodes: Sequence[ContainerInfo], steps: Steps) -> Sequence[ContainerInfo]:
        self._write_mirrors(nodes)
        with steps.step("ready"):
            self._wait(nodes)
        return nodes

    def _delete_ours(self, nodes: Sequence[ContainerInfo]) -> None:
        name = self._settings.name
        if not self._owner.is_proven_ours(nodes):
            raise ConflictError(
                f"could not make the kind cluster {name} anew: {self._owner.whose()}. Delete it "
                f"yourself (`kind delete cluster --name {name}`) or set another kind.cluster.name"
            )
        _log.info("deleting the kind cluster %s to make it anew", name)
        self._delete()

    def _clear_unfinished(self) -> None:
        """Delete a cluster of ours that was left half-made."""
        nodes = self.nodes()
        if not nodes or not self._owner.is_unfinished():
            return
        if self._owner.is_proven_ours(nodes):
            _log.info("deleting the half-made kind cluster %s", self._settings.name)
            self._delete()
        else:
            # Ours was given up, and somebody has made one of that name meanwhile.
            self._owner.write(ClusterRecord(self._settings.name, "adopted"))

    def _create(self, steps: Steps) -> tuple[ContainerInfo, ...]:
        settings, kubeconfig = self._settings, self._parts.state.kubeconfig
        image = self._node_image()
        self._refuse_to_pull(image)
        with steps.step("node_image"):
            if image.archive is not None and not self._parts.engine.has_image(image.reference):
                self._parts.engine.load(image.archive)
        asked, before = config.asked_ports(settings, self.mapped_ports), self._owner.record
        known = before.given if before is not None and before.asked == asked else None
        given = config.choose_ports(settings, self.mapped_ports, before=known)
        bundle = str(self._parts.bundle.absolute()) if self._parts.bundle is not None else ""
        record = ClusterRecord(settings.name, "making", asked=asked, given=given, bundle=bundle)
        self._owner.write(record)
        discard(kubeconfig)
        with steps.step("create"):
            self._run_kind(image, given)
        kubeconfig.chmod(PRIVATE)
        nodes = self._require_nodes()
        self._owner.write(replace(record, stage="made", node=nodes[0].id))
        return nodes

    def _run_kind(self, image: NodeImage, given: config.HostPorts) -> None:
        if advice := preflight.advise(self._parts, self.mapped_ports):
            _log.warning("this machine may not do for a cluster: %s", advice)
        try:
            self._parts.kind().create(
                self._settings.name,
                config=config.render(
                    self._settings, self.mapped_ports, given, identity=self._owner.identity
                ),
                image=image.reference,
                kubeconfig=self._parts.state.kubeconfig,
                timeout=_CREATE_TIMEOUT,
            )
        except CommandError as error:
            raise CommandError(f"{error}\n{advice}" if advice else str(error)) from error

    def _node_image(self) -> NodeImage:
        """Return the node image that is asked for; the bundle's archive goes with its own alone."""
        wanted = self._settings.node_image
        if not wanted:
            return self._parts.sources.node_image()
        with suppress(ConfigurationError, IntegrityError):
            known = self._parts.sources.node_image()
            if known.reference == wanted:
                return known
        return NodeImage(wanted, None)

    def _refuse_to_pull(self, image: NodeImage) -> None:
        """With a bundle nothing comes from a network: the node image has to be here.

        Raises:
            ConfigurationError: neither the engine nor the bundle has it.
        """
        if image.archive is not None or self._parts.engine.has_image(image.reference):
            return
        try:
            pulled = self._parts.sources.node_image().archive is None
        except (ConfigurationError, IntegrityError):
            pulled = False
        if not pulled:
            raise ConfigurationError(
                f"neither the bundle nor the engine has the node image {image.reference}, which "
                "kind.cluster.node_image names, and with a bundle nothing is pulled: unset it, or "
                "give it to the engine (`docker load`). Nothing was changed"
            )

    def _start_again(self, nodes: Sequence[ContainerInfo]) -> None:
        """Start what a restart of the machine has stopped, and find the API server again."""
        for node in nodes:
            if not node.running:
                self._parts.engine.resume(node.name)
        self._set_damaged_kubeconfig_aside()
        self._parts.kind().export_kubeconfig(self._settings.name, self._parts.state.kubeconfig)
        self._parts.state.kubeconfig.chmod(PRIVATE)
        self._owner.note(nodes)

    def _set_damaged_kubeconfig_aside(self) -> None:
        """Set a kubeconfig aside that kind cannot read: it writes into the one that is there."""
        try:
            self._parts.api()
        except UnavailableError:
            with writing(self._parts.state.kubeconfig):
                set_aside(self._parts.state.kubeconfig)
        except NotFoundError:
            return

    def _delete(self) -> None:
        self._set_damaged_kubeconfig_aside()
        record, kubeconfig = self._owner.record, self._parts.state.kubeconfig
        try:
            kind = self._parts.kind()
        except ConfigurationError:  # It is not here yet.
            self._parts.sources.require(["kind"])
            kind = self._parts.kind()
        kind.delete(self._settings.name, kubeconfig=kubeconfig)
        discard(kubeconfig)
        kept = record or ClusterRecord(self._settings.name, "removed")
        self._owner.write(replace(kept, stage="removed", node="", mirrors={}))

    def _write_mirrors(self, nodes: Sequence[ContainerInfo]) -> None:
        record, wanted = self._owner.record, self._settings.mirrors
        if record is None or record.mirrors == wanted:
            return
        for node in nodes:
            nodes_of_kind.write_mirrors(
                self._parts.engine, node.name, wanted, before=record.mirrors
            )
        self._owner.write(replace(record, mirrors=wanted))

    def _other_mirrors(self) -> tuple[str, ...]:
        known = record.mirrors if (record := self._owner.record) is not None else {}
        if known == self._settings.mirrors:
            return ()
        asked = _shown(self._settings.mirrors)
        return (f"the mirrors of its nodes are {_shown(known)}, and {asked} are asked for",)

    def _differences(self, nodes: Sequence[ContainerInfo]) -> tuple[str, ...]:
        record = self._owner.record
        made = record is not None and record.node == nodes[0].id
        try:
            image = self._node_image().reference
        except (ConfigurationError, IntegrityError):
            image = nodes[0].image  # Nobody can say which one is asked for: no difference.
        return config.differences(
            self._settings,
            self.mapped_ports,
            nodes,
            image=image,
            asked_before=record.asked if record is not None and made else None,
        )

    def _require_nodes(self) -> tuple[ContainerInfo, ...]:
        if nodes := self.nodes():
            return nodes
        raise NotFoundError(
            f"the kind cluster {self._settings.name} is not there; "
            "`mlops-pipeline up cluster` makes it"
        )

    def _wait(self, nodes: Sequence[ContainerInfo]) -> None:
        engine, name = self._settings.engine, self._settings.name
        wait_until(
            f"the kind cluster {name}",
            lambda: self._describe_starting(nodes),
            timeout=self._parts.settings.ready_timeout,
            clock=self._parts.clock,
            interval=_INTERVAL,
            hint=f"see `{engine} logs {nodes[0].name}`; `mlops-pipeline up cluster --recreate` "
            "makes it anew, with the loss of everything in it",
        )

    def _describe_starting(self, nodes: Sequence[ContainerInfo]) -> str | None:
        """Say why the cluster is not ready.

        Raises:
            FatalStateError: a node has ended.
        """
        if (reason := self._describe_unready(nodes)) is None:
            engine, api = self._parts.engine, self._parts.api()
            node = nodes[0].name
            return patiently(lambda: nodes_of_kind.describe_unresolved(engine, api, node))()
        if ended := [node.name for node in self.nodes() if not node.running]:
            raise FatalStateError(
                f"the kind cluster {self._settings.name} cannot become ready: {', '.join(ended)} "
                f"ended; see `{self._settings.engine} logs {ended[0]}`"
            )
        return reason

    def _describe_unready(self, nodes: Sequence[ContainerInfo]) -> str | None:
        kubeconfig = self._parts.state.kubeconfig
        if not kubeconfig.exists():
            return f"{kubeconfig} is missing; `mlops-pipeline up cluster` writes it again"
        try:
            return next(_reasons(self._parts.api(), len(nodes)), None)
        except (NotFoundError, UnavailableError) as error:
            return str(error)

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


def _reasons(api: KubernetesApi, count: int) -> Iterator[str]:
    """Say what the cluster lacks: nodes, names, or what pods run as. kind's own wait only warns."""
    nodes = api.list(NODE)
    if len(nodes) < count:
        yield f"{len(nodes)} of {count} nodes have joined"
    for node in nodes:
        conditions = (node.get("status") or {}).get("conditions") or ()
        ready = [c for c in conditions if c["type"] == "Ready"]
        if not ready or ready[0]["status"] != "True":
            said = ready[0].get("message") if ready else ""
            why = said or "its kubelet has not reported yet"
            yield f"the node {node['metadata']['name']} is not ready: {why}"
    if reason := _describe_names(api):
        yield reason
    if api.find(SERVICE_ACCOUNT, "default", namespace="default") is None:
        yield "the default service account is not there yet"


def _describe_names(api: KubernetesApi) -> str | None:
    """Say why no CoreDNS is ready. One of its two will do; the other may need 10 s more."""
    found = api.find(DEPLOYMENT, "coredns", namespace=_SYSTEM)
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    if any(c["type"] == "Available" and c["status"] == "True" for c in conditions):
        return None
    return workloads.describe_unready(api, DEPLOYMENT, "coredns", namespace=_SYSTEM)


def _shown(mirrors: Mapping[str, str]) -> str:
    return ", ".join(f"{url} for {registry}" for registry, url in sorted(mirrors.items())) or "none"
