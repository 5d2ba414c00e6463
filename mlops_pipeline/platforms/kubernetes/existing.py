"""The platform `kubernetes`: the same life cycle in an existing cluster."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from mlops_pipeline.platforms.kubernetes.layers.existing_cluster import survey
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster.layer import ExistingCluster
from mlops_pipeline.platforms.kubernetes.parts.existing import ExistingParts
from mlops_pipeline.platforms.kubernetes.platform import ClusterPlatform
from mlops_pipeline.platforms.kubernetes.stack import Stack
from mlops_pipeline.platforms.layers import Diagnosis
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.settings.kubernetes import KubernetesSettings


class KubernetesPlatform(ClusterPlatform):
    """A cluster of somebody else. Each layer is either ours or an existing one."""

    name = "kubernetes"
    _parts: ExistingParts

    def __init__(
        self,
        home: Path,
        settings: KubernetesSettings,
        *,
        bundle: Path | None,
        mirror: str = "",
        signing: Signing | None = None,
        parts: ExistingParts | None = None,
    ) -> None:
        """Contacts nothing. The default `parts` are the real ones."""
        parts = parts or ExistingParts.make(home, settings, bundle=bundle, mirror=mirror)
        cluster = ExistingCluster(parts, above=lambda: self.layers[1:])
        # The context is that of a cluster: each has a store of its own, unless S3 is given.
        store = settings.object_store.endpoint or f"context {settings.context}"
        self.store_id = hashlib.sha256(store.encode()).hexdigest()[:12]
        super().__init__(
            parts,
            Stack(parts, cluster),
            pull_secret=settings.images.pull_secret,
            signing=signing,
        )

    def preflight(self) -> list[Diagnosis]:
        """Check this machine's programs, and everything that is needed in the cluster."""
        return survey.examine(self._parts, self.layers)

    def down(self) -> tuple[str, ...]:
        """Remove what this state folder created, in reverse order. Data stays.

        What others need stays too.

        Raises:
            ConfigurationError: the settings name no existing context.
            UnavailableError: the cluster does not answer, or something was not deleted in time.
        """
        kept = self._leave()
        return (
            "removed our deployments and layers from the cluster; artifacts stay in the object "
            "store's volume, with its keys, until `down --purge`",
            *self._say(kept),
            *self._stack.image.describe_left(),
        )

    def purge(self) -> tuple[str, ...]:
        """Remove the data too: the object store's volume and keys, our namespaces, our state.

        Raises:
            ConfigurationError: the settings name no existing context.
            UnavailableError: the cluster does not answer, or something was not deleted in time.
            ConflictError: this project did not create the state folder.
        """
        left = self._leave_nothing()
        self._parts.state.purge()
        return (
            "removed our deployments, layers and data from the cluster, which stays",
            *left,
            *self._stack.image.describe_left(),
        )

    def _say(self, kept: Mapping[str, str]) -> tuple[str, ...]:
        theirs = (layer for layer in self.layers if layer.is_foreign and layer.name not in kept)
        there = (f"{layer.name} stays: this project did not install it" for layer in theirs)
        return (*super()._say(kept), *there)
