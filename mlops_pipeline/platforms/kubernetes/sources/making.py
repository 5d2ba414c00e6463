"""The sources that the settings name."""

from pathlib import Path

from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.kubernetes.sources import Sources, versions
from mlops_pipeline.platforms.kubernetes.sources.bundle import Bundle
from mlops_pipeline.platforms.kubernetes.sources.network import NetworkSources
from mlops_pipeline.platforms.kubernetes.sources.upstream import Cache
from mlops_pipeline.platforms.kubernetes.sources.verified import Verified, VerifiedOnce

_LOCK_TIMEOUT = 3600.0
"""Seconds to wait for another process that downloads the same file."""


def make_sources(state: ClusterFolder, *, bundle: Path | None, mirror: str) -> Sources:
    """Return a bundle if one is set, and then nothing else; otherwise the network."""
    if bundle is not None:
        once = VerifiedOnce(state.verified, ready=state.is_prepared)
        return Bundle(bundle, verified=once)
    locks = Locks(state.locks, timeout=_LOCK_TIMEOUT, prepare=state.prepare)
    downloads = Downloads(locks=locks, mirror=mirror)
    cache = Cache(state.downloads, downloads=downloads, verified=Verified(), locks=locks)
    return NetworkSources(versions.read(), cache)
