"""`ui`: the Dagster UI and the daemon of an instance, for whoever has its token."""

import fcntl
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.instance import open_instance
from mlops_pipeline.clients import http, ports, running
from mlops_pipeline.clients.errors import FatalStateError, UnavailableError
from mlops_pipeline.clients.files import PRIVATE, write_atomically, writing
from mlops_pipeline.clients.keeper import Kept, Program
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.build import platforms_in_use
from mlops_pipeline.resources.instance import prepare_instance
from mlops_pipeline.settings import Settings

_Say = Callable[[str], None]

_READY = 600.0
"""Seconds in which the code locations must load."""
_GRACE = 15.0
"""Seconds that runs and programs have to end in, before they are killed."""


@dataclass(frozen=True)
class Place:
    """Where a UI listens, and which process serves it."""

    pid: int
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address without the token."""
        host = {"0.0.0.0": ports.LOOPBACK, "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def serve(context: Context, *, host: str, port: int, console: Console) -> None:
    """Serve the UI and run the daemon until this process is told to end.

    One process serves an instance: where one does already, its address is printed instead.

    Raises:
        ConfigurationError: nothing can listen there, or the state folder cannot be written.
        FatalStateError: a program that serves the UI ended by itself.
        UnavailableError: the UI does not get ready.
    """
    settings = context.settings
    token = _token(prepare_instance(settings) / "ui.token")

    def say(sentence: str) -> None:
        console.print(sentence, soft_wrap=True, markup=False, highlight=False)

    with _claimed(settings.dagster_home / "ui.lock") as claim:
        if claim is None:
            say(_describe_other(settings.dagster_home / "ui.lock", token))
            return
        listener = ports.listen(host, port)
        place = Place(os.getpid(), host, listener.getsockname()[1])
        if place.port != port:
            say(f"port {port} of {host} is taken; using {place.port}")
        _write_place(claim, place)
        say("starting the Dagster UI")
        with open_instance(settings, on_wait=say):
            pass  # New records are made here, by one process: its programs would all do it at once.
        with listener, _programs(settings, place, listener, claim, say) as kept:
            _wait_until_ready(place, token, kept)
            say(f"Dagster UI: {place.url}/?token={token} (Ctrl-C ends it)")
            raise FatalStateError(
                f"the Dagster UI was ended: {kept.wait()}. Its last words are above; run "
                "`mlops-pipeline ui` again"
            )


def _token(file: Path) -> str:
    """Return the instance's token, made when it is asked for first."""
    with suppress(OSError, UnicodeDecodeError):
        if known := file.read_text().strip():
            return known
    write_atomically(file, secrets.token_urlsafe(32), mode=PRIVATE)
    return file.read_text()


@contextmanager
def _claimed(lock: Path) -> Iterator[int | None]:
    """Give the descriptor of the lock, or None where another process holds it.

    The keeper inherits it: the lock is held until the last program is gone.
    """
    with writing(lock):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            os.ftruncate(descriptor, 0)
            yield descriptor
    finally:
        os.close(descriptor)


def _write_place(descriptor: int, place: Place) -> None:
    os.pwrite(descriptor, json.dumps([place.pid, place.host, place.port]).encode(), 0)


def _describe_other(lock: Path, token: str) -> str:
    """Say who serves the UI of this instance, and where."""
    try:
        place = Place(*json.loads(lock.read_text()))
    except (OSError, ValueError, TypeError):
        return "another process starts or ends the UI of this state folder; try again in a moment"
    if not running.exists(place.pid):
        return "the UI of this state folder is ending; try again in a moment"
    return f"process {place.pid} serves the Dagster UI: {place.url}/?token={token}"


@contextmanager
def _programs(
    settings: Settings, place: Place, listener: socket.socket, claim: int, say: _Say
) -> Iterator[Kept]:
    """Run the code servers, the webserver and the daemon while the context lasts."""
    # /tmp, since the path of a socket is short; the folder is its owner's alone.
    folder = Path(tempfile.mkdtemp(prefix=running.sockets_prefix()))
    try:
        names = platforms_in_use(settings)
        sockets = {name: folder / f"{name}.sock" for name in names}
        workspace = folder / "workspace.yaml"
        workspace.write_text(yaml.safe_dump(_workspace(sockets)))
        programs = [_code_server(name, path) for name, path in sockets.items()]
        after = tuple(map(str, sockets.values()))
        programs.append(_webserver(settings, place, listener.fileno(), workspace, after))
        if daemons := _foreign_daemons(settings.dagster_home):
            who = ", ".join(map(running.describe, daemons))
            say(f"{who} runs the daemon of this instance: this UI starts none")
        else:
            programs.append(_daemon(workspace, after))
        with Kept(
            programs,
            environment={"DAGSTER_HOME": str(settings.dagster_home)},
            folder=folder,
            grace=_GRACE,
            held=[claim],
        ) as kept:
            yield kept
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _workspace(sockets: dict[str, Path]) -> dict[str, object]:
    servers = [{"socket": str(path), "location_name": name} for name, path in sockets.items()]
    return {"load_from": [{"grpc_server": server} for server in servers]}


def _code_server(name: str, path: Path) -> Program:
    return Program(
        f"the code server of {name}",
        (
            *(sys.executable, "-m", "mlops_pipeline.cli.code_server", str(path.parent)),
            *("code-server", "start", "--socket", str(path), "--location-name", name),
            *("--module-name", "mlops_pipeline.definitions", "--attribute", name),
            *("--working-directory", str(Path.cwd()), "--log-level", "warning"),
        ),
    )


def _webserver(
    settings: Settings, place: Place, descriptor: int, workspace: Path, after: tuple[str, ...]
) -> Program:
    order = {
        "descriptor": descriptor,
        "workspace": str(workspace),
        "token_file": str(settings.dagster_home / "ui.token"),
        "host": place.host,
        "after": after,
    }
    command = (sys.executable, "-m", "mlops_pipeline.cli.webserver", json.dumps(order))
    return Program("the webserver", command, descriptors=(descriptor,))


def _daemon(workspace: Path, after: tuple[str, ...]) -> Program:
    command = (sys.executable, "-m", "dagster._daemon", "run", "--log-level", "warning")
    return Program("the daemon", (*command, "--workspace", str(workspace)), after)


def _foreign_daemons(home: Path) -> list[int]:
    """Return daemons of this instance that somebody started by hand: two would fight."""
    by_hand = {*running.commanded(["dagster._daemon", "run"])}
    return sorted(by_hand & {*running.marked("DAGSTER_HOME", str(home))})


def _wait_until_ready(place: Place, token: str, kept: Kept) -> None:
    def describe_unready() -> str | None:
        if not kept.is_alive():
            raise FatalStateError(f"the Dagster UI did not start: {kept.wait()}; see above")
        try:
            answer = http.get(
                f"{place.url}/server_info",
                timeout=5,
                headers={"Authorization": f"Bearer {token}", "Host": "localhost"},
            )
        except UnavailableError as error:
            return str(error)
        return None if answer.status == 200 else f"it answered {answer.status}: {answer.text[:200]}"

    wait_until(
        "the Dagster UI",
        describe_unready,
        timeout=_READY,
        interval=0.3,
        hint="look at what its programs said above",
    )
