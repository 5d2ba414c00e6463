"""`mlops-pipeline ui` as a script starts it: who gets in, what runs, and that all of it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mlops_pipeline.clients import ports, running
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline_tests.command_line import CLI, CommandLine, free_ports
from mlops_pipeline_tests.embedded.faults import strangers_on

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(400)]

QUERY = {"query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"}
NOBODY = 65534


class Ui:
    """A `ui` that a script has started in its background, where SIGINT is ignored."""

    def __init__(self, line: CommandLine, *arguments: str) -> None:
        temporary = line.directory / ("t" * 80)  # Too deep for a socket's path.
        temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            ["sh", "-c", 'trap "" INT; exec "$@"', "script", CLI, "ui", *arguments],
            cwd=line.directory,
            env=line.environment(TMPDIR=str(temporary)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.said = ""

    def read_until(self, word: str) -> None:
        assert self.process.stdout is not None
        while word not in self.said and (line := self.process.stdout.readline()):
            self.said += line
        assert word in self.said

    def programs(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> int:
        """Send the signal and return the exit code; every program must be gone then."""
        programs = self.programs()
        self.process.send_signal(number)
        code = self.process.wait(60)
        gone, left = psutil.wait_procs(programs, timeout=40)
        assert left == []
        assert gone
        return code


@contextmanager
def ui_of(line: CommandLine, *arguments: str) -> Iterator[Ui]:
    ui = Ui(line, *arguments)
    try:
        yield ui
    finally:
        ui.process.terminate()
        ui.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    directory = tmp_path_factory.mktemp("ui")
    return CommandLine(directory / "home", directory, free_ports(3))


@pytest.fixture
def other_line(tmp_path: Path) -> CommandLine:
    """The command with a state folder whose UI no other test starts."""
    return CommandLine(tmp_path / "home", tmp_path, free_ports(3))


@pytest.fixture(scope="module")
def ui(line: CommandLine) -> Iterator[Ui]:
    """A UI that is ready. Its first port was taken."""
    (port,) = free_ports(1)
    with strangers_on(port), ui_of(line, "--port", str(port)) as ui:
        ui.read_until("token=")
        assert f"port {port} of 127.0.0.1 is in use; using {port + 1}" in ui.said
        yield ui


@pytest.fixture(scope="module")
def url(ui: Ui) -> str:
    """What it printed: the address with the token."""
    (found,) = re.findall(r"Dagster UI: (\S+)", ui.said)
    return str(found)


def port_of(url: str) -> int | None:
    return httpx.URL(url).port


def test_it_says_that_it_is_ready_when_it_is(url: str) -> None:
    """The address that it printed opens the UI, as a browser does it: with the cookie."""
    with httpx.Client(timeout=30) as browser:
        page = browser.get(url)
        (path,) = re.findall(r'content="0;url=(/[0-9a-f]{32}/)"', page.text)
        cookie = page.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert url.partition("token=")[2] not in cookie
        document = browser.get(httpx.URL(url).join(path)).text
        (script, *_) = re.findall(r'<script[^>]* src="([^"]+)"', document)
        assert browser.get(httpx.URL(url).join(script)).status_code == 200
        answer = browser.post(httpx.URL(url).join(f"{path}graphql"), json=QUERY).json()
        assert browser.get(httpx.URL(url).join("/graphql")).status_code == 401
    assert answer == {"data": {"repositoriesOrError": {"nodes": [{"name": "__repository__"}]}}}


@pytest.mark.parametrize("path", ["/", "/graphql", "/server_info", "/?token=guessed"])
def test_without_the_token_nothing_is_answered(url: str, path: str) -> None:
    asked = httpx.post if path == "/graphql" else httpx.get
    answer = asked(httpx.URL(url).join(path), timeout=10)
    assert answer.status_code == 401
    assert "`mlops-pipeline ui` to print the" in answer.text
    assert "set-cookie" not in answer.headers


def test_subscriptions_need_the_cookie_too(url: str) -> None:
    socket = str(httpx.URL(url).copy_with(scheme="ws", path="/graphql", query=None))
    with pytest.raises(InvalidStatus) as refused, connect(socket):
        pass
    assert refused.value.response.status_code == 401
    cookie = httpx.get(url, timeout=10).headers["set-cookie"].partition(";")[0]
    with connect(socket, subprotocols=["graphql-ws"], additional_headers={"Cookie": cookie}) as ws:  # type: ignore[list-item]
        ws.send(json.dumps({"type": "connection_init"}))
        assert json.loads(ws.recv(timeout=10))["type"] == "connection_ack"
    other = {"Cookie": cookie, "Origin": "http://127.0.0.1:4000"}
    with pytest.raises(InvalidStatus), connect(socket, additional_headers=other):
        pass


def test_its_only_port_is_on_loopback_and_its_sockets_are_private(ui: Ui, url: str) -> None:
    pids = [ui.process.pid, *(p.pid for p in ui.programs())]
    assert len(pids) == 6
    listened = {place for pid in pids for place in ports.listeners(pid)}
    assert listened == {("127.0.0.1", port_of(url))}
    sockets = {
        Path(str(c.laddr))
        for p in ui.programs()
        for c in p.net_connections(kind="unix")
        if str(c.laddr).startswith("/")
    }
    assert len(sockets) == 2
    for path in sockets:
        assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root may act as another user")
def test_another_user_of_the_machine_gets_nothing(ui: Ui, url: str, line: CommandLine) -> None:
    (folder,) = {
        str(Path(p.cmdline()[p.cmdline().index("--socket") + 1]).parent)
        for p in ui.programs()
        if "--socket" in p.cmdline()
    }
    # Everything is imported first: another user may not enter the folder of this Python.
    script = (
        "import encodings.idna, http.client, os, socket, sys\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "folder, home, port = sys.argv[1:]\n"
        "server = http.client.HTTPConnection('127.0.0.1', int(port), timeout=30)\n"
        "tries = [lambda: os.listdir(folder), lambda: os.listdir(home),\n"
        "    lambda: socket.socket(socket.AF_UNIX).connect(folder + '/embedded.sock'),\n"
        "    lambda: open(home + '/ui.token').read()]\n"
        "for attempt in tries:\n"
        "    try: print('got in', attempt())\n"
        "    except PermissionError: print('denied')\n"
        "server.request('POST', '/graphql', b'{}', {'Content-Type': 'application/json'})\n"
        "print(server.getresponse().status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, folder, str(line.home / "dagster"), str(port_of(url))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["denied"] * 4 + ["401"]


def test_a_second_one_names_the_first_and_starts_no_daemon(
    ui: Ui, url: str, line: CommandLine
) -> None:
    said = line.run("ui", timeout=60).stdout
    assert said == f"process {ui.process.pid} serves the Dagster UI: {url}\n"
    (daemon,) = [p for p in ui.programs() if "dagster._daemon" in p.cmdline()]
    assert daemon.is_running()


def test_it_ends_with_all_its_programs_on_sigint(ui: Ui, url: str, line: CommandLine) -> None:
    assert ui.end(signal.SIGINT) == 0
    assert not [p for p in running.marked("MLOPS_HOME", str(line.home))]


def test_a_model_that_cannot_be_loaded_is_shown_and_sigterm_ends_it(
    other_line: CommandLine,
) -> None:
    (other_line.directory / "broken.py").write_text("import no_such_module\n")
    (other_line.directory / "mlops.toml").write_text('models = ["broken.py"]\n')
    (port,) = free_ports(1)
    with ui_of(other_line, "--port", str(port)) as ui:
        ui.read_until("token=")
        token = ui.said.strip().rpartition("token=")[2].split()[0]
        query = "{ assetNodes { description } }"
        answer = httpx.post(
            f"http://127.0.0.1:{port}/graphql",
            json={"query": query},
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        assert "no_such_module" in answer.text
        assert "iris" in answer.text
        assert ui.end(signal.SIGTERM) == 0


def test_after_sigkill_none_of_its_programs_is_left(other_line: CommandLine) -> None:
    (port,) = free_ports(1)
    with ui_of(other_line, "--port", str(port)) as ui:
        ui.read_until("starting")
        wait_until(
            "the code server",
            lambda: None if len(ui.programs()) >= 4 else "a program of its is missing",
            timeout=200,
        )
        assert ui.end(signal.SIGKILL) == -signal.SIGKILL


def test_a_port_that_cannot_be_had_is_named(other_line: CommandLine) -> None:
    done = other_line.run("ui", "--host", "192.0.2.1", code=2)
    assert "could not listen on port 3000 of 192.0.2.1: Cannot assign requested" in done.stderr
