import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    IntegrityError,
    NotDownloadedError,
    UnavailableError,
)
from mlops_pipeline.clients.unpacking import unpack_file
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.sources import Sources, path
from mlops_pipeline_tests.file_server import FileServer, serving
from mlops_pipeline_tests.platforms.sources.upstreams import (
    CHART,
    HELM,
    KIND,
    MANIFEST,
    NAMES,
    digest,
    mirror,
    network,
    packed,
    require_in_a_process,
    versions,
)


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path._asked.cache_clear()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(mirror()) as server:
        yield server


def install(folder: Path, name: str, prints: str) -> Path:
    program = folder / name
    folder.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{prints}\n")
    program.chmod(0o755)
    return program


def test_what_is_required_is_downloaded_once_and_then_given(
    tmp_path: Path, server: FileServer
) -> None:
    sources: Sources = network(tmp_path, server.url)
    sources.require(NAMES)
    asked = sorted(server.paths())
    assert asked == sorted(server.files)
    network(tmp_path, server.url).require(NAMES)
    assert len(server.requests) == len(asked)
    assert sources.binary("kind").read_bytes() == KIND
    assert sources.binary("helm").read_bytes() == HELM
    assert all(os.access(sources.binary(name), os.X_OK) for name in ("kind", "helm"))
    assert (sources.chart("istiod").path.read_bytes(), sources.chart("istiod").version) == (
        CHART,
        "1.30.4",
    )
    assert sources.manifest("metallb-native").path.read_bytes() == MANIFEST
    assert ClusterFolder(tmp_path / "kind").is_prepared()


def test_processes_that_start_at_once_all_get_it_and_one_downloads(
    tmp_path: Path, server: FileServer
) -> None:
    versions(tmp_path)
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as processes:
        running = [processes.submit(require_in_a_process, tmp_path, server.url) for _ in range(3)]
        for process in running:
            process.result(timeout=60)
    fetched = [path for path in server.paths() if not path.endswith(("sum", ".yaml"))]
    assert len(fetched) == len(set(fetched)) == 3
    sources = network(tmp_path, server.url)
    assert all(os.access(sources.binary(name), os.X_OK) for name in ("kind", "helm"))


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, server: FileServer) -> None:
    ClusterFolder(tmp_path / "kind").prepare()
    ClusterFolder(tmp_path / "kind").downloads.write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"could not write .*kind"):
        network(tmp_path, server.url).require(["kind"])


def test_images_are_pulled_by_whom_runs_them(tmp_path: Path, server: FileServer) -> None:
    sources = network(tmp_path, server.url)
    assert sources.archives("metallb") == ()
    node = sources.node_image()
    assert node.archive is None
    assert node.reference.startswith("kindest/node:v1.34.11@sha256:44e222")


def test_only_requiring_uses_the_network(tmp_path: Path, server: FileServer) -> None:
    sources = network(tmp_path, server.url)
    for ask in (
        lambda: sources.binary("kind"),
        lambda: sources.chart("istiod"),
        lambda: sources.manifest("metallb-native"),
    ):
        with pytest.raises(NotDownloadedError, match=r"is not downloaded yet.*`mlops-pipeline up`"):
            ask()
    assert server.requests == []
    assert not (tmp_path / "kind").exists()


def test_an_unknown_name_is_told(tmp_path: Path, server: FileServer) -> None:
    with pytest.raises(ConfigurationError, match="has no minio"):
        network(tmp_path, server.url).require(["minio"])


def test_what_was_altered_in_the_cache_is_downloaded_anew(
    tmp_path: Path, server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    sources = network(tmp_path, server.url)
    sources.require(NAMES)
    for altered in (sources.binary("helm"), sources.chart("istiod").path, sources.binary("kind")):
        altered.chmod(0o755)
        altered.write_bytes(b"altered")
    with pytest.raises(NotDownloadedError):
        sources.binary("helm")
    assert f", expected {digest(HELM)}" in caplog.text
    sources.require(NAMES)
    assert sources.binary("helm").read_bytes() == HELM
    assert sources.chart("istiod").path.read_bytes() == CHART
    assert sources.binary("kind").read_bytes() == KIND


def test_the_cache_is_compared_by_each_process_once(tmp_path: Path, server: FileServer) -> None:
    first = network(tmp_path, server.url)
    first.require(NAMES)
    path = first.binary("kind")
    seen = path.stat()
    path.write_bytes(bytes(reversed(KIND)))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert first.binary("kind") == path  # It has the size and the time of before.
    with pytest.raises(NotDownloadedError):
        network(tmp_path, server.url).binary("kind")


@pytest.mark.parametrize(
    ("prints", "fits"),
    [
        ("echo kind v0.33.0 go1.26 linux/amd64", True),
        ("echo kind v0.32.1 go1.26 linux/amd64", True),
        ("echo kind v0.31.9 go1.26 linux/amd64", False),
        ("echo kind v1.0.0 go1.26 linux/amd64", False),
        ("echo something else", False),
        ("exit 1", False),
    ],
)
def test_a_program_on_path_is_used_where_its_version_fits(
    tmp_path: Path,
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    prints: str,
    fits: bool,  # noqa: FBT001  # a parameter of pytest
) -> None:
    installed = install(tmp_path / "bin", "kind", prints)
    monkeypatch.setenv("PATH", f"{installed.parent}:/usr/bin:/bin")
    sources = network(tmp_path, server.url)
    sources.require(["kind"])
    assert (sources.binary("kind") == installed) is fits
    assert bool(server.requests) is not fits


def test_a_program_that_was_exchanged_is_asked_again(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = install(tmp_path / "bin", "kind", "echo kind v0.33.0")
    monkeypatch.setenv("PATH", f"{installed.parent}:/usr/bin:/bin")
    sources = network(tmp_path, server.url)
    assert sources.binary("kind") == installed
    install(tmp_path / "bin", "kind", "echo kind v0.20.0 and older")
    with pytest.raises(NotDownloadedError):
        sources.binary("kind")


def test_a_digest_that_upstream_does_not_publish_is_told(tmp_path: Path) -> None:
    for index in ("entries: {}", "a: [", "entries:\n  istiod:\n  - {version: 1.30.4, digest: x}"):
        with (
            serving(mirror(index=index)) as server,
            pytest.raises(
                IntegrityError, match=r"index\.yaml does not publish a SHA-256 of istiod"
            ),
        ):
            network(tmp_path, server.url).require(["istiod"])
        assert "/charts.example/istiod-1.30.4.tgz" not in server.paths()


def test_what_comes_altered_is_never_used(tmp_path: Path, server: FileServer) -> None:
    server.files["/dl.example/v0.33.0/kind"] = b"altered"
    sources = network(tmp_path, server.url)
    with pytest.raises(IntegrityError, match=digest(KIND)):
        sources.require(["kind"])
    with pytest.raises(NotDownloadedError):
        sources.binary("kind")


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    with serving(FileServer()) as gone:
        pass
    with pytest.raises(UnavailableError, match=r"or a bundle"):
        network(tmp_path, gone.url).require(["kind"])


def test_an_archive_without_the_program_is_told(tmp_path: Path) -> None:
    with (
        serving(mirror(archive=packed("linux-amd64/other", HELM))) as server,
        pytest.raises(IntegrityError, match="does not contain linux-amd64/helm"),
    ):
        network(tmp_path, server.url).require(["helm"])


def test_an_archive_writes_nothing_but_the_file_that_is_meant(tmp_path: Path) -> None:
    for name in ("../../outside", "/outside"):
        (tmp_path / "a.tgz").write_bytes(packed(name, b"x"))
        with pytest.raises(IntegrityError, match="does not contain"):
            unpack_file(tmp_path / "a.tgz", "tool", tmp_path / "tool")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tgz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_a_member_that_is_no_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        entry = tarfile.TarInfo("tool")
        entry.type, entry.linkname = kind, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(IntegrityError, match="to be a file of at most 1 GiB"):
        unpack_file(tmp_path / "a.tar", "tool", tmp_path / "tool")


@pytest.mark.parametrize("content", [b"no archive", packed("tool", os.urandom(9000))[:4000]])
def test_a_damaged_archive_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"a\.tgz"):
        unpack_file(tmp_path / "a.tgz", "tool", tmp_path / "tool")


def test_the_small_upstream_is_for_one_machine(tmp_path: Path) -> None:
    assert {file.name for file in versions(tmp_path).files} == set(NAMES[:4])
