"""Creating, starting and deleting the kind cluster; each step is recorded before it begins."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from mlops_pipeline.clients.containers import ContainerInfo
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.files import PRIVATE, discard, set_aside, writing
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.cluster import config
from mlops_pipeline.platforms.kubernetes.cluster import nodes as nodes_of_kind
from mlops_pipeline.platforms.kubernetes.cluster.record import ClusterRecord
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster import preflight
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.owner import ClusterOwner
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.sources import NodeImage

_log = logging.getLogger(__name__)
_CREATE_TIMEOUT = 900.0
"""Seconds for `kind create`, which pulls the node image if the engine does not have it."""


class ClusterMaker:
    """Runs the program kind. The caller holds the lock `layers`."""

    def __init__(
        self,
        parts: KindParts,
        owner: ClusterOwner,
        mapped: Callable[[], tuple[config.MappedPort, ...]],
    ) -> None:
        """`mapped` returns the ports of the control plane to which ports of this machine lead."""
        self._parts = parts
        self._settings = parts.settings.cluster
        self._owner = owner
        self._mapped = mapped

    def create(self, steps: Steps) -> tuple[ContainerInfo, ...]:
        """Create the cluster; its nodes may not be ready yet.

        Raises:
            ConfigurationError: the node image is not available; nothing was changed.
            CommandError: kind failed.
        """
        settings, kubeconfig = self._settings, self._parts.state.kubeconfig
        image = self.node_image()
        self._refuse_to_pull(image)
        with steps.step("node_image"):
            if image.archive is not None and not self._parts.engine.has_image(image.reference):
                self._parts.engine.load(image.archive)
        asked, before = config.asked_ports(settings, self._mapped()), self._owner.record
        known = before.given if before is not None and before.asked == asked else None
        given = config.choose_ports(settings, self._mapped(), before=known)
        bundle = str(self._parts.bundle.absolute()) if self._parts.bundle is not None else ""
        record = ClusterRecord(settings.name, "making", asked=asked, given=given, bundle=bundle)
        self._owner.write(record)
        discard(kubeconfig)
        with steps.step("create"):
            self._run_kind(image, given)
        kubeconfig.chmod(PRIVATE)
        nodes = nodes_of_kind.require(self._parts.engine, settings.name)
        self._owner.write(replace(record, stage="made", node=nodes[0].id))
        return nodes

    def _run_kind(self, image: NodeImage, given: config.HostPorts) -> None:
        if advice := preflight.advise(self._parts, self._mapped()):
            _log.warning("this machine may be unsuitable for a cluster: %s", advice)
        try:
            self._parts.kind().create(
                self._settings.name,
                config=config.render(
                    self._settings, self._mapped(), given, identity=self._owner.identity
                ),
                image=image.reference,
                kubeconfig=self._parts.state.kubeconfig,
                timeout=_CREATE_TIMEOUT,
            )
        except CommandError as error:
            raise CommandError(f"{error}\n{advice}" if advice else str(error)) from error

    def node_image(self) -> NodeImage:
        """Return the requested node image. Only the bundle's own image has an archive."""
        wanted = self._settings.node_image
        if not wanted:
            return self._parts.sources.node_image()
        with suppress(ConfigurationError, IntegrityError):
            known = self._parts.sources.node_image()
            if known.reference == wanted:
                return known
        return NodeImage(wanted, None)

    def _refuse_to_pull(self, image: NodeImage) -> None:
        """Require that the node image is available: with a bundle, nothing is downloaded.

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
                "kind.cluster.node_image names, and with a bundle no image is pulled: remove the "
                "setting, or load the image into the engine (`docker load`). Nothing was changed"
            )

    def start_again(self, nodes: Sequence[ContainerInfo]) -> None:
        """Start the nodes after a restart of the machine, and update the API server's address."""
        for node in nodes:
            if not node.running:
                self._parts.engine.resume(node.name)
        self._set_damaged_kubeconfig_aside()
        self._parts.kind().export_kubeconfig(self._settings.name, self._parts.state.kubeconfig)
        self._parts.state.kubeconfig.chmod(PRIVATE)
        self._owner.note(nodes)

    def _set_damaged_kubeconfig_aside(self) -> None:
        """Move away a kubeconfig that kind cannot read: kind updates an existing file."""
        try:
            self._parts.api()
        except UnavailableError:
            with writing(self._parts.state.kubeconfig):
                set_aside(self._parts.state.kubeconfig)
        except NotFoundError:
            return

    def delete(self) -> None:
        """Delete the cluster, its kubeconfig and its record."""
        self._set_damaged_kubeconfig_aside()
        record, kubeconfig = self._owner.record, self._parts.state.kubeconfig
        try:
            kind = self._parts.kind()
        except ConfigurationError:  # The program is not downloaded yet.
            self._parts.sources.require(["kind"])
            kind = self._parts.kind()
        kind.delete(self._settings.name, kubeconfig=kubeconfig)
        discard(kubeconfig)
        kept = record or ClusterRecord(self._settings.name, "removed")
        self._owner.write(replace(kept, stage="removed", node="", mirrors={}))

    def write_mirrors(self, nodes: Sequence[ContainerInfo]) -> None:
        """Let the nodes pull from the mirrors in the settings."""
        record, wanted = self._owner.record, self._settings.mirrors
        if record is None or record.mirrors == wanted:
            return
        for node in nodes:
            nodes_of_kind.write_mirrors(
                self._parts.engine, node.name, wanted, before=record.mirrors
            )
        self._owner.write(replace(record, mirrors=wanted))

    def other_mirrors(self) -> tuple[str, ...]:
        """Say which mirrors the nodes have, if the settings name others."""
        known = record.mirrors if (record := self._owner.record) is not None else {}
        if known == self._settings.mirrors:
            return ()
        asked = _shown(self._settings.mirrors)
        return (f"the mirrors of its nodes are {_shown(known)}, expected {asked}",)

    def refuse(self, nodes: Sequence[ContainerInfo], *, may_recreate: bool) -> None:
        """Refuse an impossible cluster before anything is changed; `nodes` are the existing ones.

        Raises:
            ConflictError: the cluster differs in a way that cannot be updated, and it may not be
                created again or is not ours.
            ConfigurationError: this machine does not allow a cluster, or a mirror is invalid.
            UnavailableError: the container engine does not answer.
        """
        different = self.differences(nodes)
        if different and not may_recreate:
            raise ConflictError(
                f"the existing kind cluster {self._settings.name} differs from the settings: "
                f"{'; '.join(different)}. Nothing was changed. Create it again with "
                "`mlops-pipeline up cluster --recreate`, which deletes everything in it, or "
                "change kind.cluster to match it"
            )
        if different:
            self._owner.require_ours(nodes)
        config.check_mirrors(self._settings.mirrors)
        preflight.require(self._parts)

    def differences(self, nodes: Sequence[ContainerInfo]) -> tuple[str, ...]:
        """Name the differences that only another cluster can remove.

        Returns none for a cluster whose creation was interrupted: it is created again anyway.
        """
        if not nodes or self._owner.is_unfinished():
            return ()
        record = self._owner.record
        made = record is not None and record.node == nodes[0].id
        try:
            image = self.node_image().reference
        except (ConfigurationError, IntegrityError):
            image = nodes[
                0
            ].image  # The requested version is unknown, so it does not count as a difference.
        return config.differences(
            self._settings,
            self._mapped(),
            nodes,
            image=image,
            asked_before=record.asked if record is not None and made else None,
        )


def _shown(mirrors: Mapping[str, str]) -> str:
    return ", ".join(f"{url} for {registry}" for registry, url in sorted(mirrors.items())) or "none"
