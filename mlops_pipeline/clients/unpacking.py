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
from typing import Self

from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError

_LIMIT = 1 << 30
"""Maximum size in bytes: programs are smaller, and an archive must not fill the disk."""


ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Endings of the names of archives that `unpack` reads."""
MOST_FILES = 100_000
"""Maximum number of files of a model: the packages of a custom class may be some ten thousand."""
_MOST_EXTENSION = 16 << 10
"""Maximum size in bytes of a pax header or a GNU long name; `tarfile` reads it whole."""
_MOST_EFFORT = 1 << 32
"""Maximum sum of the squares of these sizes: `tarfile` reads a hostile one in quadratic time
(CVE-2024-6232). That many are read in some seconds."""
_BLOCK = 512
_EXTENSIONS = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}


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
        total = sum(member.file_size for member in members)
        _refuse_size(archive, folder, len(members), total, most_bytes)
        for member in members:
            if not _is_inside(member.filename, is_folder=member.is_dir()):
                raise _outside(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise IntegrityError(f"could not unpack {archive}: {member.filename} is a link")
        for member in members:
            if _parts(member.filename):
                content.extract(member, folder)


def _unpack_tar(archive: Path, folder: Path, most_bytes: int) -> None:
    with tarfile.open(archive, tarinfo=_bounded_members(archive)) as content:
        members, total = [], 0
        for number, member in enumerate(content, 1):
            total += member.size
            _refuse_size(archive, folder, number, total, most_bytes)
            if not _is_inside(member.name, is_folder=member.isdir()):
                raise _outside(archive, member.name)
            if not (member.isreg() or member.isdir()):
                raise IntegrityError(
                    f"could not unpack {archive}: {member.name} is neither a file nor a folder"
                )
            if _parts(member.name):
                members.append(member)
        content.extractall(folder, members=members, filter="data")


def _bounded_members(archive: Path) -> type[tarfile.TarInfo]:
    """Return a class of members that refuses headers before `tarfile` reads what follows them."""
    effort = 0

    class Member(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            nonlocal effort
            found = super().frombuf(buf, encoding, errors)
            if found.type == tarfile.GNUTYPE_SPARSE:
                raise _sparse(archive)
            if found.type in _EXTENSIONS:
                effort += max(found.size, _BLOCK) ** 2
                if found.size > _MOST_EXTENSION or effort > _MOST_EFFORT:
                    raise IntegrityError(
                        f"could not unpack {archive}: its extended headers (pax, GNU long names) "
                        f"are too large; the maximum of one is {_MOST_EXTENSION} bytes. Make the "
                        "archive again, with `tar --format=ustar`"
                    )
            return found

        def _proc_gnusparse_10(self, *_: object) -> None:
            raise _sparse(archive)

    return Member


def _sparse(archive: Path) -> IntegrityError:
    return IntegrityError(
        f"could not unpack {archive}: it contains a sparse file; make the archive again without "
        "`--sparse`"
    )


def _parts(name: str) -> tuple[str, ...]:
    """Return the segments of a member's path; none: it is the folder itself (`./`)."""
    return PurePosixPath(name.replace("\\", "/")).parts


def _is_inside(name: str, *, is_folder: bool) -> bool:
    parts = _parts(name)
    if not parts:
        return is_folder
    return ".." not in parts and parts[0] != "/" and ":" not in parts[0]


def _outside(archive: Path, name: str) -> IntegrityError:
    return IntegrityError(f"could not unpack {archive}: {name!r} leads out of its folder")


def _refuse_size(archive: Path, folder: Path, count: int, total: int, most_bytes: int) -> None:
    place = folder if folder.exists() else folder.parent
    free = shutil.disk_usage(place).free
    for problem in (
        f"it has more than {MOST_FILES} members, which is the maximum"
        if count > MOST_FILES
        else "",
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
        ValueError,  # A pax header with other text than numbers.
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
