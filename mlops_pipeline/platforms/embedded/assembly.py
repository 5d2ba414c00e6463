"""The parts of the embedded platform, put together."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.embedded.deployments import EmbeddedDeployments
from mlops_pipeline.platforms.embedded.exposure import EmbeddedParts
from mlops_pipeline.platforms.embedded.gateway import EnvoyGateway
from mlops_pipeline.platforms.embedded.models import ModelFolders
from mlops_pipeline.platforms.embedded.object_store import SeaweedObjectStore
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.records import Records
from mlops_pipeline.platforms.embedded.servers import Servers
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder, answer_spool
from mlops_pipeline.platforms.embedded.supervised import LayerParts
from mlops_pipeline.platforms.embedded.supervisor import Supervisor
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.platforms.sources import Sources


def make_parts(
    state: EmbeddedFolder, settings: EmbeddedOptions, *, bundle: Path | None, mirror: str
) -> LayerParts:
    """Return what each layer gets. Nothing is contacted."""
    locks = Locks(state.locks, timeout=settings.lock_timeout, prepare=state.prepare)

    @cache
    def sources() -> Sources:
        # Most installations need none, and the definitions load without them.
        from mlops_pipeline.platforms.sources.making import make_sources

        return make_sources(state, bundle=bundle, mirror=mirror)

    return LayerParts(
        state=state,
        settings=settings,
        supervisor=Supervisor(state, locks, timeout=settings.ready_timeout),
        locks=locks,
        records=Records(state.deployments),
        sources=sources,
    )


def trust_file(state: EmbeddedFolder) -> Path:
    """Return the file that says to model servers which signatures count."""
    return state.home / "trust.json"


def assemble(
    parts: LayerParts,
    *,
    gateway: EnvoyGateway,
    object_store: SeaweedObjectStore,
    fingerprint: Callable[[], str],
    signing: Signing,
) -> EmbeddedDeployments:
    """Return the deployments. `fingerprint` names the environment of the servers."""
    state = parts.state
    return EmbeddedDeployments(
        EmbeddedParts(
            settings=parts.settings,
            locks=parts.locks,
            records=parts.records,
            servers=Servers(state, parts.settings, parts.supervisor),
            models=ModelFolders(
                state.models,
                state.secrets,
                is_ours=object_store.is_at,
                most_bytes=parts.settings.max_artifact_bytes,
                signing=signing,
            ),
            gateway=gateway,
            object_store=object_store,
            fingerprint=fingerprint,
            trust=lambda: signing.write_for_servers(trust_file(state)),
            spool=answer_spool(state),
        )
    )
