"""A layer that upstream publishes as one manifest, installed in a namespace of its own."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    NAMESPACE,
    Access,
    KubernetesApi,
    Manifest,
    Resource,
)
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer
from mlops_pipeline.platforms.kubernetes.bases.rights import INSTALLED, allow
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps, bring_up
from mlops_pipeline.platforms.kubernetes.objects import upstream, workloads
from mlops_pipeline.platforms.kubernetes.objects.endings import wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.states import (
    broken_by,
    with_obstacle,
    worst,
)
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    Facts,
    LayerState,
    Ready,
    obstacle_in,
)


class ManifestLayer(ClusterLayer):
    """Upstream's objects with our labels, and what a layer adds to them.

    A subclass names the manifest and its controller, and overrides what differs.
    """

    title: str
    """Its name in messages: `MetalLB`."""
    manifest: str
    """The manifest's name in `versions.toml`."""
    images: str
    """The group of its images there."""
    controller: str
    """The Deployment without which the layer counts as absent. It carries the annotations."""
    revision = 1
    """Increases when `change` changes: installed manifests are then applied again."""
    also: tuple[Resource, ...] = ()
    """Kinds of its objects outside of its namespace, beside those that every layer has."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The manifest and its images."""
        return (self.manifest, self.images)

    @property
    def rights(self) -> tuple[Access, ...]:
        """The rights to install a manifest."""
        return allow(INSTALLED)

    @property
    @abstractmethod
    def remedy(self) -> str:
        """What to do if somebody else has installed the same."""

    def observe(self) -> LayerState:
        """Examine its pods, and from which manifest it was created."""
        if (api := self._parts.find_api()) is None:
            return Absent()
        try:
            return with_obstacle(self._observe(api), lambda: self._refuse(api))
        except ConfigurationError as error:
            return Drifted((str(error),), obstacle=obstacle_in(error))
        except (CommandError, NotFoundError, UnavailableError) as error:
            return Broken.by(error)

    def ensure(self) -> Change:
        """Install it, and wait until it works.

        Raises:
            ConfigurationError: the manifest is not available, or the layer cannot be as the
                settings want it; nothing was changed.
            ConflictError: somebody else has installed it.
            UnavailableError: it did not become ready.
            FatalStateError: a pod cannot become ready.
        """
        return bring_up(self, self._parts, self._bring_up, purpose=f"bring up {self.title}")

    def remove(self) -> None:
        """Delete its objects that are ours."""
        upstream.remove(
            self._parts,
            layer=self.name,
            namespace=self.namespace,
            what=self.title,
            also=self.also,
        )

    def describe_foreign(self, api: KubernetesApi) -> str | None:
        """Say whether somebody else has installed it; None if not.

        Raises:
            NotDownloadedError: the manifest, which says what to look for, is not downloaded yet.
        """
        foreign = upstream.foreign_among(api, self.manifests())
        found = f"somebody else has installed {self.title}: {', '.join(foreign)}"
        return found if foreign else None

    def manifests(self) -> Sequence[Manifest]:
        """Return upstream's objects as we apply them; the annotated one is the last.

        Raises:
            ConfigurationError: the manifest is not available.
        """
        noted = self.noted()

        def change(manifest: dict[str, Any]) -> None:
            self.change(manifest)
            if self._is_controller(manifest):
                metadata = manifest["metadata"]
                metadata["annotations"] = {**(metadata.get("annotations") or {}), **noted}

        file = self._parts.sources.manifest(self.manifest)
        return sorted(upstream.read(file, layer=self.name, change=change), key=self._is_controller)

    def noted(self) -> dict[str, str]:
        """Return the annotations that identify the applied manifest."""
        file = self._parts.sources.manifest(self.manifest)
        return upstream.annotations(file, revision=self.revision)

    def change(self, manifest: dict[str, Any]) -> None:
        """Change one of upstream's objects, which already has our labels, in place."""

    def require(self, api: KubernetesApi) -> None:
        """Refuse an unsupported cluster or setting, before anything is changed."""

    def prepare(self, api: KubernetesApi) -> None:
        """Prepare the cluster, just before the manifest is applied."""

    def wait(self, api: KubernetesApi, steps: Steps) -> None:
        """Wait until the applied objects work."""
        with steps.step("pods"):
            for name in self._deployments():
                workloads.wait_for(self._parts, DEPLOYMENT, name, namespace=self.namespace)

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Examine the objects one after the other; the controller runs already."""
        controller = api.get(DEPLOYMENT, self.controller, namespace=self.namespace)
        # Without the manifest, the expected version is unknown.
        with suppress(ConfigurationError, IntegrityError):
            if different := upstream.difference(controller, self.noted()):
                yield Drifted((different,))
            for name in self._deployments():
                reason = workloads.describe_unready(api, DEPLOYMENT, name, namespace=self.namespace)
                yield broken_by(reason)

    def facts(self, api: KubernetesApi) -> Facts:
        """Return the facts to show when it is ready."""
        controller = api.get(DEPLOYMENT, self.controller, namespace=self.namespace)
        return {"version": upstream.version_of(controller)}

    def _observe(self, api: KubernetesApi) -> LayerState:
        state = upstream.observe_controller(api, self.controller, namespace=self.namespace)
        if not isinstance(state, Ready):
            return state
        return worst(self.look(api)) or Ready(self.facts(api))

    def _bring_up(self, steps: Steps) -> Facts:
        api = self._parts.api()
        self._parts.sources.require(self.sources)
        self._refuse(api)
        self._install(api, steps)
        return self.facts(api)

    def _refuse(self, api: KubernetesApi) -> None:
        self.require_rights(api)
        upstream.require_ours(api, self.manifests(), what=self.title, remedy=self.remedy)
        self.require(api)

    def _install(self, api: KubernetesApi, steps: Steps) -> None:
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        with steps.step("images"):
            self._parts.images.ensure(self.images)
        wait_for_end(api, NAMESPACE, self.namespace, timeout=timeout, clock=clock)
        with steps.step("apply"):
            self.prepare(api)
            upstream.apply(api, self.manifests(), timeout=timeout, clock=clock)
        self.wait(api, steps)

    def _deployments(self) -> Iterable[str]:
        names = (m["metadata"]["name"] for m in self.manifests() if m["kind"] == DEPLOYMENT.kind)
        return [str(name) for name in names]

    def _is_controller(self, manifest: Manifest) -> bool:
        named = (str(manifest["kind"]), str(manifest["metadata"]["name"]))
        return named == (DEPLOYMENT.kind, self.controller)
