"""The private folder with the state of a Kubernetes platform."""

from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.clients.files import (
    PRIVATE,
    close_to_others,
    make_private,
    write_atomically,
)
from mlops_pipeline.platforms import state_folder

_MARK = ".mlops-pipeline-kubernetes"
"""The file that marks a folder as ours."""


@dataclass(frozen=True)
class ClusterFolder:
    """The folders and files below `home`."""

    home: Path

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the cluster, with its administrator's key."""
        return self.home / "kubeconfig"

    @property
    def cluster(self) -> Path:
        """The record of the kind cluster."""
        return self.home / "cluster.json"

    @property
    def locks(self) -> Path:
        """Locks between processes."""
        return self.home / "locks"

    @property
    def helm(self) -> Path:
        """Helm's own files."""
        return self.home / "helm"

    @property
    def temporary(self) -> Path:
        """Files that are deleted when the command that created them ends."""
        return self.home / "tmp"

    @property
    def downloads(self) -> Path:
        """Programs, charts and manifests that were downloaded."""
        return self.home / "downloads"

    @property
    def verified(self) -> Path:
        """Which files were verified with their digests."""
        return self.home / "verified.json"

    def is_prepared(self) -> bool:
        """Say whether `prepare` created the folder; its mark may have been lost since."""
        made = (self.locks, self.helm, self.temporary)
        return (self.home / _MARK).exists() or all(folder.is_dir() for folder in made)

    def prepare(self) -> None:
        """Create the folders, readable by this user only.

        Raises:
            ConfigurationError: the folder is not writable or the disk is full.
            ConflictError: it belongs to somebody else.
        """
        with state_folder.writing(self.home):
            make_private(self.home)
            self._require_ours()
            if not (self.home / _MARK).exists():
                write_atomically(self.home / _MARK, "", mode=PRIVATE)
            close_to_others(self.home)
            for folder in (self.locks, self.helm, self.temporary):
                folder.mkdir(exist_ok=True, mode=0o700)

    def purge(self) -> None:
        """Remove the folder and everything in it.

        Raises:
            ConflictError: this project did not create the folder.
            ConfigurationError: something in it cannot be removed.
        """
        state_folder.purge(self.home, mark=_MARK, is_ours=self.is_prepared())

    def _require_ours(self) -> None:
        found = [path.name for path in self.home.iterdir() if _MARK not in path.name]
        # Checked after the listing, because the mark is written first.
        if found and not self.is_prepared():
            state_folder.refuse_others(self.home, found)
