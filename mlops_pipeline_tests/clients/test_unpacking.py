"""Archives whose headers are made to hang or to fill the memory, and those that `tar` makes."""

import io
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import IntegrityError
from mlops_pipeline.clients.unpacking import unpack


def header(kind: bytes, data: bytes) -> bytes:
    """Return a member of a special type, and what follows it."""
    special = tarfile.TarInfo("special")
    special.type, special.size = kind, len(data)
    return special.tobuf(tarfile.USTAR_FORMAT) + data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)


def unpacked(tmp_path: Path, name: str, content: bytes) -> list[str]:
    (tmp_path / name).write_bytes(content)
    target = tmp_path / "unpacked"
    target.mkdir()
    unpack(tmp_path / name, target, most_bytes=1_000_000)
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))


PLAIN = tarfile.TarInfo("m").tobuf() + b"\0" * 1024
PAX = b"102400 comment=" + b"0" * 102_400
MANY = (header(tarfile.XGLTYPE, b"12 a=bcdefg\n" * 1300) + tarfile.TarInfo("m").tobuf()) * 20
SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (header(tarfile.XHDTYPE, PAX), "extended headers"),
        (header(tarfile.XGLTYPE, PAX), "extended headers"),
        (header(tarfile.SOLARIS_XHDTYPE, PAX), "extended headers"),
        (header(tarfile.GNUTYPE_LONGNAME, b"n" * 20_000), "extended headers"),
        (header(tarfile.GNUTYPE_LONGLINK, b"n" * 20_000), "extended headers"),
        (MANY, "extended headers"),
        (header(tarfile.GNUTYPE_SPARSE, b""), "sparse file"),
        (header(tarfile.XHDTYPE, SPARSE), "sparse file"),
        (header(tarfile.XHDTYPE, b"28 GNU.sparse.map=no,number\n"), "could not unpack"),
    ],
)
def test_headers_that_hang_or_fill_the_memory_are_refused(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    before = time.process_time()
    with pytest.raises(IntegrityError, match=complaint):
        unpacked(tmp_path, "m.tar", content + PLAIN)
    assert time.process_time() - before < 5


def _tar(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.add(folder, ".")
    return content.getvalue()


def _zip(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("./", b"")
        for path in folder.iterdir():
            archive.write(path, f"./{path.name}")
    return content.getvalue()


@pytest.mark.parametrize(("name", "make"), [("m.tgz", _tar), ("m.zip", _zip)])
def test_an_archive_of_the_folder_itself_is_unpacked(
    tmp_path: Path, name: str, make: Callable[[Path], bytes]
) -> None:
    """As `tar -C model .` and `zip -r m.zip ./` make it."""
    (tmp_path / "model").mkdir()
    for file in ("model.joblib", "é" * 100):
        (tmp_path / "model" / file).write_text("weights")
    assert unpacked(tmp_path, name, make(tmp_path / "model")) == ["model.joblib", "é" * 100]


def test_a_file_without_a_name_is_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(".", b"x")
    with pytest.raises(IntegrityError, match="leads out of its folder"):
        unpacked(tmp_path, "m.zip", content.getvalue())
