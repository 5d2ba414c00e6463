"""Files that are either complete or do not exist."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError

PRIVATE = 0o600
READABLE = 0o644
_OWNER_ONLY = 0o700


def write_atomically(path: Path, content: str | bytes, *, mode: int = READABLE) -> None:
    """Replace `path` by `content` in one step; readers see the old or the new file, never half.

    A folder in its place is set aside as `<name>.damaged-<random>`.

    Raises:
        ConfigurationError: the folder cannot be written, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb"
            ) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if path.is_dir() and not path.is_symlink():
                set_aside(path)
            temporary.replace(path)
    except ConfigurationError:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_once(path: Path, content: str | bytes, *, mode: int = READABLE) -> bool:
    """Write `path` unless it exists, and return whether it was written; another process may come.

    Raises:
        ConfigurationError: the folder cannot be written, or the disk is full.
    """
    ours = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_atomically(ours, content, mode=mode)
    try:
        with writing(path), suppress(FileExistsError):
            os.link(ours, path)  # Unlike a rename, it replaces nothing.
            return True
        return False
    finally:
        ours.unlink(missing_ok=True)


def set_aside(path: Path) -> None:
    """Rename what is at `path` to `<name>.damaged-<random>`, file or folder.

    Raises:
        OSError: it cannot be renamed.
    """
    path.rename(path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}"))


def discard(path: Path) -> None:
    """Delete a file if it exists; a folder in its place is renamed.

    Raises:
        ConfigurationError: it cannot be removed.
    """
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            set_aside(path)
        else:
            path.unlink(missing_ok=True)


def make_private(folder: Path) -> None:
    """Create the folder and its missing parents, accessible only to this user.

    Raises:
        OSError: it cannot be made.
    """
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(exist_ok=True, mode=_OWNER_ONLY)


def close_to_others(folder: Path) -> None:
    """Close the folder to other users, if it belongs to this user.

    Raises:
        OSError: its mode cannot be changed.
    """
    found = folder.stat()
    if found.st_uid == os.getuid() and found.st_mode & 0o077:
        folder.chmod(_OWNER_ONLY)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate errors of writing into messages that say what to do.

    Raises:
        ConfigurationError: the folder is not writable, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"could not write {path}: {error.strerror or error}; free disk space there, make the "
            "folder writable, or choose another folder (MLOPS_HOME for the state folder)"
        ) from error


def write_if_changed(path: Path, content: str, *, mode: int = READABLE) -> bool:
    """Write `content` atomically unless the file already has it; return whether it was written."""
    with suppress(OSError, UnicodeDecodeError):  # An unreadable file is replaced.
        if path.read_text() == content:
            return False
    write_atomically(path, content, mode=mode)
    return True


def read_or_empty(path: Path) -> str:
    """Return the text of a file; empty where it is missing or cannot be read."""
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal (64 characters)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
