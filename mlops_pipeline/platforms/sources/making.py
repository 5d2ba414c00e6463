"""The sources that the settings name."""

from pathlib import Path
from typing import Protocol

from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.sources import Sources, versions
from mlops_pipeline.platforms.sources.bundle import Bundle
from mlops_pipeline.platforms.sources.network import NetworkSources
from mlops_pipeline.platforms.sources.upstream import Cache
from mlops_pipeline.platforms.sources.verified import Verified, VerifiedOnce

_LOCK_TIMEOUT = 3600.0
"""Seconds to wait for another process that downloads the same file."""


class Place(Protocol):
    """The state folder of a platform."""

    @property
    def downloads(self) -> Path:
        """Programs, charts and manifests that were downloaded."""

    @property
    def verified(self) -> Path:
        """Which files were verified with their digests."""

    @property
    def locks(self) -> Path:
        """Locks between processes."""

    def is_prepared(self) -> bool:
        """Say whether the folder exists."""

    def prepare(self) -> None:
        """Create the folder."""


def make_sources(state: Place, *, bundle: Path | None, mirror: str) -> Sources:
    """Return a bundle if one is set, and then nothing else; otherwise the network."""
    if bundle is not None:
        once = VerifiedOnce(state.verified, ready=state.is_prepared)
        return Bundle(bundle, verified=once)
    locks = Locks(state.locks, timeout=_LOCK_TIMEOUT, prepare=state.prepare)
    downloads = Downloads(locks=locks, mirror=mirror)
    cache = Cache(state.downloads, downloads=downloads, verified=Verified(), locks=locks)
    return NetworkSources(versions.read(), cache)
