"""The cluster layer where the cluster is there already: looked at, and never changed."""

from collections.abc import Callable, Sequence

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.kubernetes import NODE, KubernetesApi, Manifest
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer, sources_of
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster import permissions, survey
from mlops_pipeline.platforms.kubernetes.parts.existing import ExistingParts
from mlops_pipeline.platforms.kubernetes.sources.providing import provide
from mlops_pipeline.platforms.layers import (
    Broken,
    Change,
    Facts,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
)


class ExistingCluster(ClusterLayer):
    """The cluster of the context that the settings name."""

    name = "cluster"
    description = "A Kubernetes cluster that is there already, by a context of a kubeconfig."
    kinds = ("kubernetes",)
    requires = ()
    namespace = "kube-system"
    _parts: ExistingParts

    def __init__(
        self, parts: ExistingParts, *, above: Callable[[], Sequence[ClusterLayer]] = tuple
    ) -> None:
        """`above` gives the layers that stand on it."""
        super().__init__(parts)
        self._above = above

    @property
    def sources(self) -> tuple[str, ...]:
        """What loads images into nodes of kind, where it does."""
        return ("kind",) if self._parts.settings.images.delivery == "kind" else ()

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """That we may do there what has to be done."""
        return (
            HealthCheck(
                "allows_what_is_needed",
                "The kubeconfig's user may do all that the layers and the deployments need.",
                self._try_permissions,
            ),
        )

    def observe(self) -> LayerState:
        """Look whether it answers, is of a version that fits, and has a node that is ready.

        Raises:
            ConfigurationError: the settings name no context that is there.
        """
        api = self._parts.api()
        try:
            version = survey.compare_version(api, self._above())
            if not version.fine:
                return Broken(f"Kubernetes {version.seen}; {version.remedy}")
            nodes = api.list(NODE)
            if not any(_is_ready(node) for node in nodes):
                return Broken(f"none of its {len(nodes)} nodes is ready; see `kubectl get nodes`")
            return Ready(self._facts(api, len(nodes)))
        except (NotFoundError, UnavailableError) as error:
            return Broken(str(error))

    def ensure(self) -> Change:
        """Change nothing, and refuse to go on where something is missing; everything at once.

        Raises:
            ConfigurationError: what is missing, before anything was changed.
            UnavailableError: it does not answer, or no node is ready.
        """
        self._parts.state.prepare()
        survey.require(self._parts, self._all, lacking=self._describe_lacking())
        state = self.observe()
        if isinstance(state, Ready):
            return Change("unchanged", state.facts)
        context, reason = self._parts.settings.context, getattr(state, "reason", "")
        raise UnavailableError(f"the cluster of the context {context} is not ready: {reason}")

    def remove(self) -> None:
        """Leave it: it is somebody else's."""

    @property
    def _all(self) -> tuple[ClusterLayer, ...]:
        return (self, *self._above())

    def _describe_lacking(self) -> str:
        """Say what a layer needs and cannot be had from elsewhere; empty for nothing."""
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
        rights = permissions.needed(self._all, namespace=namespace)
        if missing := permissions.missing(self._parts.api(), rights):
            return Finding(passed=False, seen=f"not allowed: {permissions.describe(missing)}")
        seen = f"all {len(rights)} rights are given"
        return Finding(passed=True, seen=seen, facts={"rights": len(rights)})


def _is_ready(node: Manifest) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
