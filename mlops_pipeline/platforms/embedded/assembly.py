"""The deployments of the embedded platform, put together of what runs and remembers them."""

from collections.abc import Callable

from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.embedded.deployments import EmbeddedDeployments
from mlops_pipeline.platforms.embedded.exposure import EmbeddedParts
from mlops_pipeline.platforms.embedded.gateway import EnvoyGateway
from mlops_pipeline.platforms.embedded.models import ModelFolders
from mlops_pipeline.platforms.embedded.object_store import SeaweedObjectStore
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.records import Records
from mlops_pipeline.platforms.embedded.servers import Servers
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.embedded.supervisor import Supervisor


def assemble(
    state: EmbeddedFolder,
    settings: EmbeddedOptions,
    *,
    locks: Locks,
    records: Records,
    supervisor: Supervisor,
    gateway: EnvoyGateway,
    object_store: SeaweedObjectStore,
    fingerprint: Callable[[], str],
) -> EmbeddedDeployments:
    """Return them. Nothing is contacted; `fingerprint` names the environment of the servers."""
    return EmbeddedDeployments(
        EmbeddedParts(
            settings=settings,
            locks=locks,
            records=records,
            servers=Servers(state, settings, supervisor),
            models=ModelFolders(state.models, state.secrets, is_ours=object_store.is_at),
            gateway=gateway,
            object_store=object_store,
            fingerprint=fingerprint,
        )
    )
