import errno
import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.files import (
    PRIVATE,
    close_to_others,
    make_private,
    sha256_of,
    write_atomically,
    write_if_changed,
)


def _no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("content", ["Zürich\n", b"\x00\xff"])
def test_the_file_has_the_written_content(tmp_path: Path, content: str | bytes) -> None:
    write_atomically(tmp_path / "a" / "b", content)
    expected = content.encode() if isinstance(content, str) else content
    assert (tmp_path / "a" / "b").read_bytes() == expected
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_atomically(tmp_path / "secret", "x", mode=PRIVATE)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == PRIVATE


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", _no_space)
    with pytest.raises(ConfigurationError, match=r"could not write .*state\.json: No space.*MLOPS"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigurationError, match=r"could not write .*home/state") as caught:
        write_atomically(tmp_path / "home" / "state", "x")
    assert isinstance(caught.value.__cause__, OSError)


def test_readers_see_one_version_or_the_other_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "routes"
    versions = [letter * 100_000 for letter in "ab"]
    write_atomically(path, versions[0])
    done = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        write_atomically(path, versions[number % 2])
    done.set()
    reader.join()
    assert seen <= set(versions)


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    assert write_if_changed(path, "routes: 1")
    inode = path.stat().st_ino
    assert not write_if_changed(path, "routes: 1")
    assert path.stat().st_ino == inode
    assert write_if_changed(path, "routes: 2")
    assert path.read_text() == "routes: 2"


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_the_digest_is_that_of_all_bytes(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(b"x" * size).hexdigest()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_folder_and_those_above_it_are_its_owners(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path / "a" / "b")
    assert [mode(tmp_path), mode(tmp_path / "a"), mode(tmp_path / "a" / "b")] == [
        0o755,
        0o700,
        0o700,
    ]


def test_a_folder_of_ours_is_closed_and_a_closed_one_stays(tmp_path: Path) -> None:
    for before, after in ((0o755, 0o700), (0o710, 0o700), (0o500, 0o500)):
        tmp_path.chmod(before)
        close_to_others(tmp_path)
        assert mode(tmp_path) == after
    tmp_path.chmod(0o700)


def test_a_damaged_file_is_replaced_and_a_folder_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(bytes(range(128, 256)))
    assert write_if_changed(path, "{}") is True
    assert write_if_changed(path, "{}") is False
    path.unlink()
    (path / "kept").mkdir(parents=True)
    assert write_if_changed(path, "{}") is True
    assert path.read_text() == "{}"
    (aside,) = tmp_path.glob("state.json.damaged-*")
    assert (aside / "kept").is_dir()
