"""Extracts one file from an archive."""

import shutil
import tarfile
import zlib
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError

_LIMIT = 1 << 30
"""Maximum size in bytes: programs are smaller, and an archive must not fill the disk."""


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
