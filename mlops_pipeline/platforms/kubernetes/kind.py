"""The kind platform: Kubernetes in containers of this machine, with everything for serving."""

from pathlib import Path

from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster import preflight
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.layer import KindCluster
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.kubernetes.platform import ClusterPlatform
from mlops_pipeline.platforms.kubernetes.stack import Stack
from mlops_pipeline.platforms.layers import Diagnosis
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.settings.kind import KindSettings


class KindPlatform(ClusterPlatform):
    """A kind cluster with MetalLB, Istio, an object store, our serving image and Seldon Core."""

    name = "kind"
    _parts: KindParts

    def __init__(
        self,
        home: Path,
        settings: KindSettings,
        *,
        bundle: Path | None,
        mirror: str = "",
        recreate: bool = False,
        signing: Signing | None = None,
        parts: KindParts | None = None,
    ) -> None:
        """Contacts nothing. The default `parts` are the real ones."""
        parts = parts or KindParts.make(home, settings, bundle=bundle, mirror=mirror)
        self._cluster = KindCluster(parts, recreate=recreate, above=lambda: self.layers[1:])
        super().__init__(parts, Stack(parts, self._cluster), signing=signing)

    def preflight(self) -> list[Diagnosis]:
        """Check the container engine, the programs, and what a cluster needs of this machine."""
        own = preflight.examine(self._parts, self._cluster.mapped_ports)
        return [*own, *(found for layer in self.layers for found in layer.diagnose())]

    def memory_of(self, layer: str) -> int | None:
        """Return the bytes that the pods of a layer use; for the cluster, those of its nodes."""
        if layer != self._cluster.name:
            return super().memory_of(layer)
        try:
            return self._cluster.memory_used()
        except PipelineError:
            return None

    def down(self) -> tuple[str, ...]:
        """Stop the nodes, if the cluster is ours. Their content stays for the next `up`.

        Raises:
            UnavailableError: the container engine does not answer.
        """
        nodes = self._cluster.nodes()
        if not nodes:
            return ("nothing to stop",)
        if any(node.running for node in nodes):
            if not self._cluster.is_ours():
                return (
                    f"the kind cluster {self._name} was not created by this state folder: it was "
                    "not stopped",
                )
            self._cluster.stop()
        return (f"stopped; artifacts and deployments stay in the kind cluster {self._name}",)

    def purge(self) -> tuple[str, ...]:
        """Delete the cluster with everything in it, if it is ours, and the state folder.

        From a cluster of somebody else, only what this state folder created is removed.

        Raises:
            UnavailableError: the container engine or the cluster does not answer.
            ConflictError: this project did not create the folder.
        """
        said = [f"removed the kind cluster {self._name}"]
        if self._cluster.nodes() and not self._cluster.is_ours():
            said = [
                f"the kind cluster {self._name} was not created by this state folder: it was not "
                "deleted"
            ]
            # Without a kubeconfig, this state folder has never changed the cluster.
            if self._parts.state.kubeconfig.exists():
                said += self._leave_nothing()
        else:
            # Also without nodes: a killed command may have left a kind process that still creates
            # them.
            self._cluster.remove()
        self._parts.state.purge()
        return (*said, *self._stack.image.describe_left())

    @property
    def _name(self) -> str:
        return self._parts.settings.cluster.name
