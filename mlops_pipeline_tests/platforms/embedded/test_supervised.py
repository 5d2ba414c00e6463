"""A further layer of the embedded platform: one class, one row, and its pinned program."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlops_pipeline.clients import ports, running
from mlops_pipeline.clients.errors import ConfigurationError, UnavailableError
from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.build import layer_names
from mlops_pipeline.platforms.embedded import EmbeddedOptions, EmbeddedPlatform, stack
from mlops_pipeline.platforms.embedded.port_book import PortBook
from mlops_pipeline.platforms.embedded.programs import MARK, Program
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.embedded.supervised import SupervisedLayer
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, LayerState, Ready, by_name
from mlops_pipeline.platforms.sources import versions
from mlops_pipeline_tests.command_line import free_ports
from mlops_pipeline_tests.file_server import FileServer, serving

PROGRAM = b"""
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[2])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""


class Pages(SupervisedLayer):
    """A web server of one folder."""

    name = "page_server"
    title = "The web server"
    description = "A web server with the pages of this installation."
    kinds = ("http",)
    sources = ("pages",)
    preferred_port = 18_777

    def is_configured(self) -> bool:
        return self._folder.exists()

    def program(self) -> Program:
        self._folder.mkdir(exist_ok=True)
        port = self._ports.choose(self.name, preferred=self.preferred_port)
        binary = self._parts.sources().binary("pages")
        command = (sys.executable, str(binary), str(port), str(self._folder))
        return Program(self.name, command, self._folder)

    def describe_unready(self, process: SupervisedProcess) -> str | None:
        return self.describe_listening(process, self._ports.find(self.name))

    def differences(self) -> tuple[str, ...]:
        return () if (self._folder / "index.html").exists() else ("index.html is missing",)

    def finish(self, state: LayerState) -> LayerState:
        (self._folder / "index.html").write_text("there")
        return state

    def facts(self) -> dict[str, str | int | float]:
        return {"address": f"http://{ports.LOOPBACK}:{self._ports.find(self.name)}"}

    @property
    def _folder(self) -> Path:
        return self._state.home / "pages"

    @property
    def _ports(self) -> PortBook:
        return PortBook(self._state.ports)


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    pinned = tmp_path / "versions.toml"
    pinned.write_text(
        "chart = []\nmanifest = []\nimage = []\n"
        f'[[binary]]\nname = "pages"\nversion = "v1"\n[binary.files."{versions.this_machine()}"]\n'
        f'url = "https://dl.example/pages"\nsha256 = "{hashlib.sha256(PROGRAM).hexdigest()}"\n'
    )
    monkeypatch.setattr(versions, "FILE", pinned)
    monkeypatch.setattr(stack, "ROWS", [*stack.ROWS, Pages])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(FileServer({"/dl.example/pages": PROGRAM})) as upstream:
        yield upstream


@pytest.fixture
def platform(tmp_path: Path, upstream: FileServer) -> Iterator[EmbeddedPlatform]:
    gateway, store = free_ports(2)
    options = EmbeddedOptions(gateway_port=gateway, object_store_port=store)
    platform = EmbeddedPlatform(tmp_path / "s", options, mirror=upstream.url)
    yield platform
    platform.down()
    assert running.marked(MARK, EmbeddedFolder.at(tmp_path / "s").identity) == []


def test_a_further_layer_is_a_row(platform: EmbeddedPlatform) -> None:
    assert [layer.name for layer in platform.layers][-1] == "page_server"
    assert "page_server" in layer_names()
    assert platform.sources == ("pages",)
    found = {diagnosis.what: diagnosis for diagnosis in platform.preflight()}
    assert found["page_server port"].seen == "18777 is free"


@pytest.mark.embedded
def test_a_further_layer_is_downloaded_run_repaired_and_removed(
    platform: EmbeddedPlatform, upstream: FileServer
) -> None:
    pages = by_name(platform.layers, "page_server")
    assert isinstance(pages, Pages)
    assert pages.observe() == Absent()
    with pytest.raises(
        UnavailableError, match=r"the page server requires the supervisor, which is not"
    ):
        pages.ensure()
    platform.provide()
    platform.provide()
    assert upstream.paths() == ["/dl.example/pages"]
    by_name(platform.layers, "supervisor").ensure()
    change = pages.ensure()
    assert change.action == "created"
    assert httpx.get(str(change.facts["address"])).text == "there"
    assert pages.ensure().action == "unchanged"

    (platform._state.home / "pages" / "index.html").unlink()
    assert pages.observe() == Drifted(("index.html is missing",))
    assert pages.ensure().action == "updated"
    assert isinstance(pages.observe(), Ready)

    platform._parts.supervisor.client.stop("page_server")
    wait_until("its end", lambda: _describe_running(pages), timeout=10)
    assert pages.observe() == Broken("The web server is not running")
    assert pages.ensure().action == "repaired"
    assert "GET / HTTP/1.1" in platform.logs("page_server", lines=5)

    platform.down()
    assert pages.observe() == Absent()
    by_name(platform.layers, "supervisor").ensure()
    pages.remove()
    with pytest.raises(httpx.ConnectError):
        httpx.get(str(change.facts["address"]))


def _describe_running(pages: Pages) -> str | None:
    return "it runs" if isinstance(pages.observe(), Ready) else None


def test_a_file_of_a_layer_comes_from_the_bundle_if_there_is_one(
    tmp_path: Path, upstream: FileServer
) -> None:
    platform = EmbeddedPlatform(tmp_path / "s", bundle=tmp_path / "bundle", mirror=upstream.url)
    with pytest.raises(ConfigurationError, match="is not a bundle"):
        platform.provide()
    assert upstream.paths() == []
