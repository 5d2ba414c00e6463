"""`bundle create` and `bundle verify`, as they are typed, with a stand-in for the engine."""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mlops_pipeline import cli
from mlops_pipeline.cli.up import provide
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.sources import versions
from mlops_pipeline.platforms.sources.contents import read
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.file_server import FileServer, serving
from mlops_pipeline_tests.platforms.sources.upstreams import digest, packed

ENGINE = """#!/bin/sh
echo "$1" >> {log}
case "$1" in
image) echo '[{{"Id": "sha256:1", "Os": "linux", "Architecture": "amd64", "RepoDigests": []}}]' ;;
info) echo '{{"ServerVersion": "28.2.2", "CgroupVersion": "2", "NCPU": 2, "MemTotal": 1,
  "DockerRootDir": "/var/lib/docker"}}' ;;
save) echo "$@" > "$3" ;;
*) exit 1 ;;
esac
"""
Run = Callable[..., int]


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A mirror of everything that is pinned, with contents of its own and their digests."""
    content, files = versions.FILE.read_text(), {}
    for file in versions.read("linux/amd64").files:
        held = packed(file.member, b"helm") if file.member else f"the {file.name}".encode()
        files[f"/{file.url.partition('://')[2]}"] = held
        if file.sha256:
            content = content.replace(file.sha256, digest(held))
        else:
            index = f"/{file.sha256_url.partition('://')[2]}"
            listed = files.get(index, b"entries:\n").decode()
            entry = f"- {{version: {file.version}, digest: {digest(held)}}}"
            files[index] = f"{listed}  {file.name}:\n  {entry}\n".encode()
    (tmp_path / "versions.toml").write_text(content)
    monkeypatch.setattr(versions, "FILE", tmp_path / "versions.toml")
    monkeypatch.setattr(versions, "this_machine", lambda: "linux/amd64")
    with serving(FileServer(files)) as server:
        monkeypatch.setenv("MLOPS_MIRROR", server.url)
        yield server


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line, and return its exit code."""
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(ENGINE.format(log=tmp_path / "engine.log"))
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{engine.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MLOPS_BUNDLE", raising=False)
    monkeypatch.chdir(tmp_path)

    def main(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mlops-pipeline", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return main


def test_a_bundle_is_made_and_found_whole(
    run: Run, upstream: FileServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("bundle", "create", "air") == 0
    printed = capfd.readouterr()
    assert "air contains 15 files" in printed.out
    assert "images/istio.tar" in printed.err
    assert run("bundle", "verify", "air") == 0
    assert capfd.readouterr().out == "air is complete and unchanged\n"
    made = read(tmp_path / "air")
    held = {file.name for file in made.files}
    assert held == {*KindPlatform(tmp_path, KindSettings(), bundle=None).sources, "serving"}
    (serving_images,) = (file.images for file in made.files if file.name == "serving")
    assert [name.rpartition(":")[0] for name in serving_images] == [
        *("localhost/mlops-pipeline/serving", "localhost/mlops-pipeline/serving-tensorflow"),
    ]
    assert not (tmp_path / "home").exists()
    assert set((tmp_path / "engine.log").read_text().split()) == {"image", "info", "save"}


def test_a_bundle_for_another_architecture_has_no_serving_images(
    run: Run, upstream: FileServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Its programs are not in this mirror: it says so, and what it knows before that.
    assert run("bundle", "create", "air", "--machine", "linux/arm64") == 2
    said = capfd.readouterr().err
    assert "the bundle will not contain the serving images" in said
    assert "kind-linux-arm64: the server answered 404" in said


def test_the_images_to_build_there_are_listed(
    run: Run,
    upstream: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run("bundle", "create", "air") == 0
    contents = tmp_path / "air" / "bundle.toml"
    contents.write_text(contents.read_text().replace("mlops-pipeline/serving:", "of-old:"))
    capfd.readouterr()
    assert run("bundle", "verify", "air") == 0
    said = capfd.readouterr().out
    assert said.startswith(
        "the bundle does not contain the serving images of this version: `up` builds"
    )
    assert said.endswith("air is complete and unchanged\n")
    monkeypatch.setenv("MLOPS_KIND__SERVING__IMAGES", "upstream")
    assert run("bundle", "verify", "air") == 0
    assert capfd.readouterr().out == "air is complete and unchanged\n"


def test_faults_are_named_with_an_exit_code(
    run: Run, upstream: FileServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run("bundle", "create", "air")
    (tmp_path / "air/bin/kind").write_text("altered")
    (tmp_path / "air/images/istio.tar").unlink()
    (tmp_path / "air/more").write_text("more")
    capfd.readouterr()
    assert run("bundle", "verify", "air") == 3
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *("altered bin/kind", "missing images/istio.tar", "extra more"),
    ]


def test_an_existing_cluster_needs_less(
    run: Run,
    upstream: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLOPS_PLATFORM", "kubernetes")
    assert run("bundle", "create", "air") == 0
    held = {file.name for file in read(tmp_path / "air").files}
    assert "istiod" in held
    assert not {"kind", "node", "metallb"} & held
    assert run("bundle", "verify", "air") == 0
    monkeypatch.setenv("MLOPS_PLATFORM", "kind")
    assert run("bundle", "verify", "air") == 3
    assert "lacking kind" in capfd.readouterr().out


def test_a_bundle_for_another_machine_is_reported(
    run: Run,
    upstream: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run("bundle", "create", "air") == 0
    monkeypatch.setattr(versions, "this_machine", lambda: "darwin/arm64")
    assert run("bundle", "verify", "air") == 3
    assert "foreign linux/amd64: this machine is darwin/arm64" in capfd.readouterr().out


def test_what_the_settings_ask_for_besides_is_in_it_or_lacking(
    run: Run,
    upstream: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run("bundle", "create", "air") == 0
    monkeypatch.setenv("MLOPS_KIND__INGRESS_NGINX", "true")
    monkeypatch.setenv("MLOPS_KIND__SELDON__ENGINE", "true")
    assert run("bundle", "verify", "air") == 3
    said = capfd.readouterr().out
    assert "lacking ingress-nginx" in said
    assert "lacking seldon.executor" in said
    assert run("bundle", "create", "air") == 0
    assert run("bundle", "verify", "air") == 0


def test_up_tells_what_it_downloads_and_leaves_refusals_to_the_layers() -> None:
    class Platform:
        def provide(self) -> None:
            logging.getLogger("mlops_pipeline.clients.meters").info("downloading [kind]")
            raise UnavailableError("no network")

    screen = io.StringIO()
    context: Any = SimpleNamespace(platform=Platform())
    provide(context, Console(file=screen))
    assert screen.getvalue() == "downloading [kind]\n"
    logging.getLogger("mlops_pipeline.clients.meters").info("nobody listens")
    assert "nobody" not in screen.getvalue()


@pytest.mark.parametrize(
    ("words", "variables", "reason"),
    [
        (("create", "air", "--machine", "linux/s390x"), {}, "set --machine to linux/amd64"),
        (("create", "air"), {"MLOPS_KIND__SERVING__IMAGES": "upstream"}, "kind.serving.images"),
        (("verify", "air"), {}, "air is not a bundle"),
    ],
)
def test_what_cannot_be_done_is_refused(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    variables: dict[str, str],
    reason: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run("bundle", *words) == 2
    assert reason in capfd.readouterr().err
