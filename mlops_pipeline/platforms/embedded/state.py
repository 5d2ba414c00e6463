"""Where the embedded platform keeps what it knows: one private folder."""

import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.clients import launcher
from mlops_pipeline.clients.errors import ConfigurationError, ConflictError
from mlops_pipeline.clients.files import (
    PRIVATE,
    close_to_others,
    make_private,
    write_atomically,
)
from mlops_pipeline.platforms import state_folder

_MARK = ".mlops-pipeline-embedded"
_FORMAT = 1
"""Of the state folder. A higher one is written where older code could not go on from it."""
_REFUSED = '\n;#[]*?%"'
"""What supervisord's configuration files cannot hold in a path."""
_SOCKET_LIMIT = 80
"""Bytes of a socket's path: the kernels stop at 104; supervisord binds `<path>.<pid>` first."""
_LONGEST_SOCKET = "filer.sock"


@dataclass(frozen=True)
class _Mark:
    """What says that a folder is ours."""

    format: int
    instance: str


@dataclass(frozen=True)
class EmbeddedFolder:
    """The folders and files below `home`."""

    home: Path

    @classmethod
    def at(cls, home: Path) -> "EmbeddedFolder":
        """Name the state in `home`, which need not exist.

        Raises:
            ConfigurationError: the path holds characters that supervisord cannot read back, or a
                version of this project wrote it that this one cannot follow.
        """
        path = Path(os.path.abspath(home.expanduser()))
        if bad := sorted(set(_REFUSED) & set(str(path))):
            raise ConfigurationError(
                f"the path of the state folder {str(path)!r} contains {' '.join(map(repr, bad))}, "
                "which supervisord does not support; set MLOPS_HOME to another folder"
            )
        state = cls(path)
        state._require_known_format()
        return state

    @property
    def run(self) -> Path:
        """Sockets and process ids."""
        return self.home / "run"

    @property
    def supervisor(self) -> Path:
        """Supervisord's configuration."""
        return self.home / "supervisor"

    @property
    def programs(self) -> Path:
        """One configuration file for each program under supervisord."""
        return self.supervisor / "programs"

    @property
    def logs(self) -> Path:
        """One log for each program, `<program>.log`, and supervisord's."""
        return self.home / "logs"

    @property
    def object_store(self) -> Path:
        """The object store's keys and data."""
        return self.home / "object_store"

    @property
    def gateway(self) -> Path:
        """Envoy's configuration."""
        return self.home / "gateway"

    @property
    def deployments(self) -> Path:
        """What was applied: `<namespace>/<name>.yaml`."""
        return self.home / "deployments"

    @property
    def models(self) -> Path:
        """Downloaded artifacts."""
        return self.home / "models"

    @property
    def secrets(self) -> Path:
        """`<namespace>/<name>.json`, as the Secrets of a cluster."""
        return self.home / "secrets"

    @property
    def downloads(self) -> Path:
        """Programs that do not come with the package."""
        return self.home / "downloads"

    @property
    def verified(self) -> Path:
        """Which files were verified with their digests."""
        return self.home / "verified.json"

    @property
    def locks(self) -> Path:
        """Locks between processes."""
        return self.home / "locks"

    @property
    def ports(self) -> Path:
        """Which port is whose."""
        return self.home / "ports.json"

    @property
    def identity(self) -> str:
        """A name for this state folder that no other one on this machine has."""
        return "mlops-" + hashlib.sha256(f"{os.getuid()} {self.home}".encode()).hexdigest()[:10]

    @property
    def instance(self) -> str:
        """The random name that the platform's own servers answer with; made by `prepare`.

        Raises:
            ConfigurationError: somebody changed the file that it stands in.
        """
        mark = self._mark()
        if mark is None:
            raise ConfigurationError(
                f"{self.home / _MARK} is damaged; run `mlops-pipeline up` to repair it"
            )
        return mark.instance

    def describe_damage(self) -> str | None:
        """Say what is wrong with the mark; None where nothing is."""
        if self._mark() is not None:
            return None
        return f"{self.home / _MARK} is damaged; run `mlops-pipeline up` to write a new one"

    def socket(self, name: str) -> Path:
        """Return a path for a unix socket that is short enough to be bound.

        When `home` is too deep, it leads through a link in the temporary folder.
        """
        return (self._link() if self._is_deep() else self.run) / name

    def is_prepared(self) -> bool:
        """Say whether `prepare` has been here; its mark may have been lost since."""
        return self._is_marked() or self._looks_like_ours()

    def prepare(self) -> None:
        """Make the folders, readable by this user alone.

        A folder of an older version, which wrote no mark, is adopted.

        Raises:
            ConfigurationError: the folder is not writable, the disk is full, or its file system
                has no locks.
            ConflictError: it is somebody else's, or the place of the link to the sockets is.
        """
        with state_folder.writing(self.home):
            make_private(self.home)
            self._require_ours()
            self._write_mark()
            self._make_folders()
            close_to_others(self.home)
        self._require_locks()
        if self._is_deep():
            self._make_link()

    def purge(self) -> None:
        """Remove the folder and everything in it.

        Raises:
            ConflictError: it is a folder that this project did not make.
            ConfigurationError: something in it cannot be removed.
        """
        if not self.home.exists():
            return
        state_folder.purge(self.home, mark=_MARK, is_ours=self.is_prepared())
        if self._link().is_symlink():
            self._link().unlink()

    def _is_marked(self) -> bool:
        return (self.home / _MARK).exists()

    def _looks_like_ours(self) -> bool:
        return all(f.is_dir() for f in (self.supervisor, self.object_store, self.locks))

    def _mark(self) -> _Mark | None:
        """Return what the mark says; None where it is missing or damaged."""
        try:
            content = json.loads((self.home / _MARK).read_text())
            return _Mark(int(content["format"]), str(content["instance"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _require_known_format(self) -> None:
        mark = self._mark()
        if mark is not None and mark.format > _FORMAT:
            raise ConfigurationError(
                f"the state folder {self.home} has format {mark.format}, but this version of "
                f"mlops-pipeline supports formats up to {_FORMAT}. A newer version wrote it: "
                "install that version, or set MLOPS_HOME to another folder"
            )

    def _require_ours(self) -> None:
        found = {path.name for path in self.home.iterdir() if _MARK not in path.name}
        # Asked after looking: whoever comes at once marks, then fills.
        if found and not self.is_prepared():
            state_folder.refuse_others(self.home, found)

    def _require_locks(self) -> None:
        """Refuse a file system on which nothing would say which process is a program."""
        if lack := launcher.describe_lack(self.home / _MARK):
            raise ConfigurationError(
                f"the file system of {self.home} does not lock files ({lack}), which the platform "
                "requires; set MLOPS_HOME to a folder on a local disk"
            )

    def _write_mark(self) -> None:
        """Write the mark once, also when two processes come here at the same time."""
        text = json.dumps({"format": _FORMAT, "instance": secrets.token_hex(8)})
        if self._is_marked():
            # It came whole, by a link: one that cannot be read was damaged later.
            if self._mark() is None:
                if (self.home / _MARK).is_dir():
                    (self.home / _MARK).rename(self.home / f"{_MARK}.damaged")
                write_atomically(self.home / _MARK, text, mode=PRIVATE)
            return
        ours = self.home / f".{_MARK}.{secrets.token_hex(4)}"
        try:
            write_atomically(ours, text, mode=PRIVATE)
            os.link(ours, self.home / _MARK)  # Unlike a rename, it replaces nothing.
        except FileExistsError:
            return
        finally:
            ours.unlink(missing_ok=True)

    def _make_folders(self) -> None:
        for folder in (
            self.run,
            self.programs.parent,
            self.programs,
            self.logs,
            self.object_store,
            self.gateway,
            self.deployments,
            self.models,
            self.secrets,
            self.locks,
        ):
            folder.mkdir(exist_ok=True, mode=0o700)
        if not os.access(self.home, os.W_OK):
            raise PermissionError(13, "permission denied")

    def _is_deep(self) -> bool:
        """Say whether any of the sockets needs the link: then all take it."""
        return len(os.fsencode(self.run / _LONGEST_SOCKET)) > _SOCKET_LIMIT

    def _link(self) -> Path:
        # Not in $TMPDIR: that may be deep too, and differ from one command to the next.
        return Path("/tmp") / self.identity

    def _make_link(self) -> None:
        link = self._link()
        try:
            link.symlink_to(self.run)
        except FileExistsError as error:
            ours = link.is_symlink() and link.lstat().st_uid == os.getuid()
            if not ours or link.readlink() != self.run:
                raise ConflictError(
                    f"expected {link} to be a link to {self.run}, got something else; remove it"
                ) from error


def answers_in(state: EmbeddedFolder) -> Path:
    """Return the folder of the log of answers: the spool, and the key that uploads it."""
    return state.home / "answers"


def shipper_config(state: EmbeddedFolder) -> Path:
    """Return the file with the configuration and the key of the process that uploads rows."""
    return answers_in(state) / "shipper.json"


def answer_spool(state: EmbeddedFolder) -> Path:
    """Return the folder with the rows that wait for the object store."""
    return answers_in(state) / "spool"
