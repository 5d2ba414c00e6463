"""The cluster layer of an existing cluster, which is examined and never changed."""

from collections.abc import Callable, Sequence

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.kubernetes import NODE, KubernetesApi, Manifest
from mlops_pipeline.platforms.kubernetes.bases import rights
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster import permissions, survey
from mlops_pipeline.platforms.kubernetes.parts.existing import ExistingParts
from mlops_pipeline.platforms.layers import (
    Broken,
    Change,
    Facts,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
    describe,
)
from mlops_pipeline.platforms.sources.providing import provide, sources_of


class ExistingCluster(ClusterLayer):
    """The cluster of the context that the settings name."""

    name = "cluster"
    description = "An existing Kubernetes cluster, by a context of a kubeconfig."
    kinds = ("kubernetes",)
    requires = ()
    namespace = "kube-system"
    _parts: ExistingParts

    def __init__(
        self, parts: ExistingParts, *, above: Callable[[], Sequence[ClusterLayer]] = tuple
    ) -> None:
        """`above` returns the layers that require it."""
        super().__init__(parts)
        self._above = above

    @property
    def sources(self) -> tuple[str, ...]:
        """The program that loads images into nodes of kind, if it is used."""
        return ("kind",) if self._parts.settings.images.delivery == "kind" else ()

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether the user has the required rights."""
        return (
            HealthCheck(
                "allows_what_is_needed",
                "The kubeconfig's user has all rights that the layers and the deployments need.",
                self._try_permissions,
            ),
        )

    def observe(self) -> LayerState:
        """Examine whether it answers, has a supported version, and has a ready node.

        Raises:
            ConfigurationError: the settings name no existing context.
        """
        api = self._parts.api()
        try:
            version = survey.compare_version(api, self._above())
            if not version.fine:
                return Broken.needing_help(f"{version.what}: {version.seen}; {version.remedy}")
            nodes = api.list(NODE)
            if not any(_is_ready(node) for node in nodes):
                return Broken.needing_help(
                    f"none of its {len(nodes)} nodes is ready; see `kubectl get nodes`"
                )
            return Ready(self._facts(api, len(nodes)))
        except (NotFoundError, UnavailableError) as error:
            return Broken.needing_help(str(error))

    def ensure(self) -> Change:
        """Change nothing, and refuse to continue if something is missing; names all of it at once.

        Raises:
            ConfigurationError: what is missing, before anything was changed; or it does not answer,
                or no node is ready.
        """
        self._parts.state.prepare()
        survey.require(self._parts, self._all, lacking=self._describe_lacking())
        state = self.observe()
        if isinstance(state, Ready):
            return Change("unchanged", state.facts)
        context = self._parts.settings.context
        raise ConfigurationError(
            f"the cluster of the context {context} is not ready: {describe(state)}"
        )

    def remove(self) -> None:
        """Leave it unchanged: it belongs to somebody else."""

    @property
    def _all(self) -> tuple[ClusterLayer, ...]:
        return (self, *self._above())

    def _describe_lacking(self) -> str:
        """Say which sources of a layer are not available; empty if all are."""
        try:
            provide(self._parts.sources, sources_of(self._all), layers=self._above())
        except (ConfigurationError, IntegrityError) as error:
            return str(error)
        return ""

    def _facts(self, api: KubernetesApi, nodes: int) -> Facts:
        context = self._parts.settings.context
        return {"context": context, "kubernetes": api.version(), "nodes": nodes}

    def _try_permissions(self) -> Finding:
        namespace = self._parts.settings.namespace
        needed = permissions.needed(self._all, namespace=namespace)
        if missing := rights.missing(self._parts.api(), needed):
            return Finding(passed=False, seen=f"not allowed: {rights.describe(missing)}")
        seen = f"all {len(needed)} rights are granted"
        return Finding(passed=True, seen=seen, facts={"rights": len(needed)})


def _is_ready(node: Manifest) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
