"""A layer of Helm charts: releases compared, installed, waited for and removed."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError, UnavailableError
from mlops_pipeline.clients.helm import find_release
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    SERVICE,
    Access,
    KubernetesApi,
)
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer
from mlops_pipeline.platforms.kubernetes.bases.rights import INSTALLED, allow
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps, bring_up
from mlops_pipeline.platforms.kubernetes.objects.endings import is_lasting, wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.ownership import ensure_namespace, remove_namespace
from mlops_pipeline.platforms.kubernetes.objects.releases import (
    VERSION_LABEL,
    Installation,
    find_ours,
    install,
    observe_release,
    uninstall,
)
from mlops_pipeline.platforms.kubernetes.objects.states import (
    broken_by,
    needed,
    with_obstacle,
    worst,
)
from mlops_pipeline.platforms.kubernetes.objects.workloads import (
    describe_stopped,
    describe_unready,
    wait_for,
)
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Facts,
    LayerState,
    Ready,
)


class HelmLayer(ClusterLayer):
    """Helm releases in one namespace, each with its Deployment and other objects.

    A subclass names its charts, and overrides what differs.
    """

    title: str
    """Its name in messages: `Istio`."""
    images: str
    """The group of its images in `versions.toml`."""

    @property
    @abstractmethod
    def charts(self) -> tuple[Installation, ...]:
        """The wanted releases, in the order of their installation.

        Raises:
            ConfigurationError: the settings cannot be satisfied.
        """

    @property
    @abstractmethod
    def chart_names(self) -> tuple[str, ...]:
        """The names of the charts in `versions.toml`."""

    @property
    def releases(self) -> tuple[str, ...]:
        """The names of the releases. `remove` needs them whatever the settings are."""
        return tuple(chart.release for chart in self.charts)

    @property
    def sources(self) -> tuple[str, ...]:
        """The program, the charts and their images."""
        return ("helm", *self.chart_names, self.images)

    @property
    def rights(self) -> tuple[Access, ...]:
        """The rights to install a chart."""
        return allow(INSTALLED)

    def observe(self) -> LayerState:
        """Examine the releases, their objects, and whether the layer works."""
        try:
            api = self._parts.api()
            return with_obstacle(self._observe(api), lambda: self._refuse(api))
        except NotFoundError:
            return Absent()
        except (ConfigurationError, UnavailableError) as error:
            return Broken.by(error)

    def ensure(self) -> Change:
        """Install what is missing or differs, and wait until the layer works.

        Raises:
            ConfigurationError: a chart is not available or does not support the cluster, or the
                settings cannot be satisfied; nothing was changed.
            ConflictError: an object of that name belongs to somebody else.
            CommandError: helm failed.
            UnavailableError: it did not become ready.
            FatalStateError: a pod cannot become ready.
        """
        return bring_up(self, self._parts, self._bring_up, purpose=f"bring up {self.title}")

    def remove(self) -> None:
        """Remove the releases, and the namespace if it has nothing of anybody else.

        Raises:
            ConflictError: an object of somebody else would be deleted too.
        """
        if (api := self._parts.find_api()) is None:
            return
        with self._parts.locks.held("layers", purpose=f"remove {self.title}"):
            self.clear(api)
            for release in reversed(self.releases):
                uninstall(self._parts, release, namespace=self.namespace)
            remove_namespace(api, self.namespace, belongs=self.belongs)

    def require(self, api: KubernetesApi) -> None:
        """Refuse an unsupported cluster or setting, before anything is changed."""

    def clear(self, api: KubernetesApi) -> None:
        """Remove what was created beside the releases, or refuse to continue."""

    def belongs(self, name: str) -> bool:
        """Say whether an unlabelled object of this name was created by what was installed."""
        return False

    def extra(self, chart: Installation) -> Mapping[str, Any] | None:
        """Return values for one installation that do not count for drift."""
        return None

    def is_begun(self, api: KubernetesApi) -> bool:
        """Say whether a part of the layer exists, even without a release."""
        return False

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Examine what the releases installed, one after the other."""
        for chart in self.charts:
            yield broken_by(next(_missing(api, chart), None))
        for chart in self.charts:
            if name := chart.deployment:
                yield broken_by(describe_unready(api, DEPLOYMENT, name, namespace=self.namespace))

    def is_whole(self, api: KubernetesApi, chart: Installation) -> bool:
        """Say whether a release is as wanted and all its objects exist."""
        if not isinstance(observe_release(self._parts, api, chart), Ready):
            return False
        if any(_missing(api, chart)):
            return False
        name, namespace = chart.deployment, self.namespace
        return not name or not describe_stopped(api, DEPLOYMENT, name, namespace=namespace)

    def converge(self, api: KubernetesApi, steps: Steps) -> None:
        """Install the incomplete releases in order, and wait until all work."""
        for chart in self.charts:
            with steps.step(chart.chart):
                if not self.is_whole(api, chart):
                    self.install(api, chart)
                if name := chart.deployment:
                    wait_for(self._parts, DEPLOYMENT, name, namespace=self.namespace)

    def install(self, api: KubernetesApi, chart: Installation) -> None:
        """Install one release, after its objects that are being deleted are gone."""
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        own = [(kind, chart.deployment, self.namespace) for kind in (DEPLOYMENT, SERVICE)]
        for resource, name, namespace in (*chart.brings, *(own if chart.deployment else ())):
            wait_for_end(api, resource, name, namespace=namespace, timeout=timeout, clock=clock)
        install(self._parts, chart, extra=self.extra(chart))

    def facts(self, api: KubernetesApi) -> Facts:
        """Return the facts to show when it is ready."""
        found = find_release(api, self.releases[0], namespace=self.namespace)
        return {"version": found.labels.get(VERSION_LABEL, "") if found is not None else ""}

    def _observe(self, api: KubernetesApi) -> LayerState:
        charts = self.charts
        states = [observe_release(self._parts, api, chart) for chart in charts]
        if all(isinstance(state, Absent) for state in states) and not self.is_begun(api):
            return Absent()
        found = (needed(state, str(c)) for c, state in zip(charts, states, strict=True))
        return worst(chain(found, self.look(api))) or Ready(self.facts(api))

    def _refuse(self, api: KubernetesApi) -> None:
        self.require_rights(api)
        self.check_version(api.version())
        for chart in self.charts:
            find_ours(api, chart)
        self.require(api)

    def _bring_up(self, steps: Steps) -> Facts:
        api, charts = self._parts.api(), self.charts
        self._parts.sources.require(self.sources)
        self._refuse(api)
        with steps.step("images"):
            self._parts.images.ensure(self.images)
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        ensure_namespace(api, charts[0].namespace, timeout=timeout, clock=clock)
        self.converge(api, steps)
        return self.facts(api)


def _missing(api: KubernetesApi, chart: Installation) -> Iterator[str]:
    """Name the objects of a release that are missing or being deleted."""
    for resource, name, namespace in chart.brings:
        if not is_lasting(api.find(resource, name, namespace=namespace)):
            place = f"{namespace}/" if namespace else ""
            yield f"the {resource.kind} {place}{name} is missing"
