"""What each layer of a Kubernetes platform is given."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from mlops_pipeline.clients.containers import ContainerEngine, EngineApi
from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.clients.helm import Helm, HelmApi
from mlops_pipeline.clients.kind import Kind, KindApi
from mlops_pipeline.clients.kubernetes import Kubernetes, KubernetesApi
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.waiting import MONOTONIC, Clock
from mlops_pipeline.platforms.kubernetes.images import NodeImages
from mlops_pipeline.platforms.kubernetes.sources import Bundle, OnPath, Sources
from mlops_pipeline.platforms.kubernetes.state import State
from mlops_pipeline.settings.kind import KindSettings

_LOCK_TIMEOUT = 900.0
"""Seconds to wait for another process that changes the same thing: a whole `up` may go first."""


@dataclass(frozen=True)
class Parts:
    """The ways to the outside, and the settings. Making them contacts nothing."""

    state: State
    settings: KindSettings
    sources: Sources
    locks: Locks
    engine: EngineApi
    kind: Callable[[], KindApi]
    """Raises ConfigurationError where the program cannot be had."""
    api: Callable[[], KubernetesApi]
    """Raises NotFoundError while there is no cluster."""
    helm: Callable[[], HelmApi]
    """Raises ConfigurationError where the program cannot be had, NotFoundError as `api` does."""
    images: NodeImages
    clock: Clock = MONOTONIC

    @classmethod
    def make(cls, home: Path, settings: KindSettings, *, bundle: Path | None) -> "Parts":
        """Return the real parts. Nothing is contacted."""
        state = State(home)
        name, context = settings.cluster.name, f"kind-{settings.cluster.name}"
        sources = Bundle(bundle, verified=state.verified) if bundle else OnPath()
        engine = ContainerEngine(settings.cluster.engine)
        api = partial(_current, state.kubeconfig, context=context)

        def kind() -> KindApi:
            return Kind(sources.binary("kind"), engine=settings.cluster.engine)

        def helm() -> HelmApi:
            program = sources.binary("helm")
            return Helm(
                program, kubeconfig=state.kubeconfig, context=context, home=state.helm, api=api()
            )

        return cls(
            state=state,
            settings=settings,
            sources=sources,
            locks=Locks(state.locks, timeout=_LOCK_TIMEOUT),
            engine=engine,
            kind=kind,
            api=api,
            helm=helm,
            images=NodeImages(engine, kind, sources, name),
        )


def _current(kubeconfig: Path, *, context: str) -> KubernetesApi:
    """Return the cluster that the kubeconfig leads to now."""
    try:
        content = kubeconfig.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(
            "the cluster is not there; `mlops-pipeline up cluster` makes it"
        ) from error
    return _client(kubeconfig, context, content)


@lru_cache(maxsize=2)
def _client(kubeconfig: Path, context: str, _content: bytes) -> Kubernetes:
    """Return one client for each content in this process: each step of a run makes its parts anew.

    So its connection, and where kinds are served, is found out once.
    """
    return Kubernetes(kubeconfig, context=context)
