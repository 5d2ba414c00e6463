"""Extracts files from archives."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError

_LIMIT = 1 << 30
"""Maximum size in bytes: programs are smaller, and an archive must not fill the disk."""


ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Endings of the names of archives that `unpack` reads."""
_MOST_MEMBERS = 10_000


def is_archive(name: str) -> bool:
    """Say whether a file's name is that of an archive."""
    return name.lower().endswith(ARCHIVES)


def unpack(archive: Path, folder: Path, *, most_bytes: int) -> None:
    """Write every file of a zip or tar archive below `folder`, which must be new or empty.

    Raises:
        IntegrityError: the archive is damaged, or a member leads out of the folder, or is neither
            a file nor a folder.
        ConfigurationError: its content is larger than `most_bytes`, has too many members, or the
            disk is full.
    """
    with _damages(archive, folder):
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder, most_bytes)
        else:
            _unpack_tar(archive, folder, most_bytes)


def _unpack_zip(archive: Path, folder: Path, most_bytes: int) -> None:
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        _refuse_size(archive, folder, [member.file_size for member in members], most_bytes)
        for member in members:
            if not _is_inside(member.filename):
                raise _outside(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise IntegrityError(f"could not unpack {archive}: {member.filename} is a link")
        for member in members:
            content.extract(member, folder)


def _unpack_tar(archive: Path, folder: Path, most_bytes: int) -> None:
    with tarfile.open(archive) as content:
        members = []
        for member in content:
            members.append(member)
            _refuse_size(archive, folder, [one.size for one in members], most_bytes)
            if not _is_inside(member.name):
                raise _outside(archive, member.name)
            if not (member.isreg() or member.isdir()):
                raise IntegrityError(
                    f"could not unpack {archive}: {member.name} is neither a file nor a folder"
                )
        content.extractall(folder, members=members, filter="data")


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return bool(parts) and ".." not in parts and parts[0] != "/" and ":" not in parts[0]


def _outside(archive: Path, name: str) -> IntegrityError:
    return IntegrityError(f"could not unpack {archive}: {name!r} leads out of its folder")


def _refuse_size(archive: Path, folder: Path, sizes: list[int], most_bytes: int) -> None:
    total, place = sum(sizes), folder if folder.exists() else folder.parent
    free = shutil.disk_usage(place).free
    for problem in (
        f"it has more than {_MOST_MEMBERS} members" if len(sizes) > _MOST_MEMBERS else "",
        f"it contains {total} bytes or more, and the maximum is {most_bytes}"
        if total > most_bytes
        else "",
        f"it contains {total} bytes or more, and {free} are free in {place}"
        if total > free
        else "",
    ):
        if problem:
            raise ConfigurationError(f"could not unpack {archive}: {problem}")


@contextmanager
def _damages(archive: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except (
        *(tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError),
        *(RuntimeError, NotImplementedError),  # An encrypted zip, an unknown compression.
    ) as error:
        raise IntegrityError(f"could not unpack {archive}: {error}") from error
    except OSError as error:
        kind = ConfigurationError if error.errno else IntegrityError
        raise kind(f"could not unpack {archive} to {folder}: {error.strerror or error}") from error


def unpack_file(archive: Path, member: str, target: Path) -> None:
    """Write only the file `member` of a tar archive to `target`.

    Raises:
        IntegrityError: the archive is damaged, or does not contain the file.
        ConfigurationError: the disk is full.
    """
    try:
        with tarfile.open(archive) as tar:
            found = tar.getmember(member)
            source = tar.extractfile(found) if found.isreg() and found.size <= _LIMIT else None
            if source is None:
                raise IntegrityError(
                    f"expected {member} in {archive} to be a file of at most 1 GiB"
                )
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    except KeyError as error:
        raise IntegrityError(f"{archive} does not contain {member}") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise IntegrityError(f"could not unpack {archive}: {error}") from error
    except OSError as error:
        # gzip also reports damaged input this way.
        kind = ConfigurationError if error.errno else IntegrityError
        raise kind(f"could not unpack {archive} to {target}: {error.strerror or error}") from error
