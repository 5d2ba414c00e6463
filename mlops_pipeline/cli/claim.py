"""Which process serves the UI of an instance, and its token: one at a time, for each start."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from mlops_pipeline.clients import ports, running
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.files import PRIVATE, write_atomically, writing


@dataclass(frozen=True)
class Place:
    """Where a UI listens, and which process serves it."""

    pid: int
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address without the token."""
        host = {"0.0.0.0": ports.LOOPBACK, "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


@contextmanager
def claimed(lock: Path) -> Iterator[int | None]:
    """Give the descriptor of the lock, or None where another process holds it.

    Whoever inherits the descriptor holds the lock too, until it ends.

    Raises:
        ConfigurationError: the folder of the lock is missing, or cannot be written.
    """
    with writing(lock):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # `down --purge` may have removed the file since it was opened: a lock on it keeps nobody.
        if os.fstat(descriptor).st_nlink == 0:
            yield None
            return
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def write_place(descriptor: int, place: Place) -> None:
    """Tell others, through the lock that `claimed` gave, where this process serves the UI."""
    os.pwrite(descriptor, json.dumps(astuple(place)).encode(), 0)


def find_place(lock: Path) -> Place | None:
    """Return where the process that holds the lock serves; None while it starts or ends."""
    try:
        place = Place(*json.loads(lock.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return place if running.exists(place.pid) else None


def make_token(home: Path) -> str:
    """Write a new token into the instance's folder, which the caller has claimed, and return it.

    Each start of the UI has its own: the address of a UI that has ended opens no later one. A
    browser that keeps it may show it to whoever listens on that port meanwhile.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    token = secrets.token_urlsafe(32)
    write_atomically(_token_file(home), token, mode=PRIVATE)
    return token


def read_token(home: Path) -> str:
    """Return the token of the UI that serves the instance.

    Raises:
        ConfigurationError: the file is missing or damaged; says what to do.
    """
    file = _token_file(home)
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"could not read the token of the Dagster UI from {file} ({error}). Stop the process "
            "that serves the UI, and run `mlops-pipeline ui` again to write a new token"
        ) from error


def _token_file(home: Path) -> Path:
    return home / "ui.token"
