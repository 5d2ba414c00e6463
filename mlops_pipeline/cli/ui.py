"""`ui`: the Dagster UI and the daemon of an instance, for whoever has its token."""

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from rich.console import Console

from mlops_pipeline.cli.claim import (
    Place,
    claimed,
    find_place,
    make_token,
    read_token,
    write_place,
)
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.instance import open_instance
from mlops_pipeline.clients import http, ports, running
from mlops_pipeline.clients.errors import FatalStateError, UnavailableError
from mlops_pipeline.clients.keeper import Kept, Program
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.build import platforms_in_use
from mlops_pipeline.resources.instance import IN_USE, prepare_instance
from mlops_pipeline.settings import Settings

_Say = Callable[[str], None]

_READY = 600.0
"""Seconds in which the code locations must load."""
_GRACE = 15.0
"""Seconds that runs and programs have to end in, before they are killed."""


def serve(context: Context, *, host: str, port: int, console: Console) -> None:
    """Serve the UI and run the daemon until this process is told to end.

    One process serves an instance: where one does already, its address is printed instead.

    Raises:
        ConfigurationError: nothing can listen there, the state folder cannot be written, or the
            token of the UI that runs cannot be read.
        FatalStateError: a program that serves the UI ended by itself.
        UnavailableError: the UI does not get ready.
    """
    settings = context.settings
    home = prepare_instance(settings)

    def say(sentence: str) -> None:
        console.print(sentence, soft_wrap=True, markup=False, highlight=False)

    with claimed(home / "ui.lock") as claim:
        if claim is None:
            say(_describe_other(home))
            return
        listener = ports.listen(host, port)
        place = Place(os.getpid(), host, listener.getsockname()[1])
        if place.port != port:
            say(f"port {port} of {host} is in use; using {place.port}")
        token = make_token(home)
        write_place(claim, place)
        say("starting the Dagster UI")
        with listener:
            # New records are made here, by one process: its programs would all do it at once.
            with open_instance(settings, on_wait=lambda who: say(f"waiting for {who}")):
                pass
            with _programs(settings, place, listener, claim, say) as kept:
                _wait_until_ready(place, token, kept)
                say(f"Dagster UI: {_address(place, token)} (Ctrl-C stops it)")
                raise FatalStateError(
                    f"the Dagster UI stopped: {kept.wait()}. See its last output above; run "
                    "`mlops-pipeline ui` again"
                )


def _describe_other(home: Path) -> str:
    """Say who serves the UI of this instance, and where."""
    if (place := find_place(home / "ui.lock")) is None:
        return "another process starts or stops the UI of this state folder; try again in a moment"
    return f"process {place.pid} serves the Dagster UI: {_address(place, read_token(home))}"


def _address(place: Place, token: str) -> str:
    return f"{place.url}/?token={token}"


@contextmanager
def _programs(
    settings: Settings, place: Place, listener: socket.socket, claim: int, say: _Say
) -> Iterator[Kept]:
    """Run the code servers, the webserver and the daemon while the context lasts."""
    # Not in $TMPDIR: a socket's path has at most 107 bytes. The folder is its owner's alone.
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix=running.sockets_prefix()))
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
            say(f"{who} already runs the daemon of this instance, so this UI does not start one")
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
        "home": str(settings.dagster_home),
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
    daemons = {
        *running.commanded(["dagster._daemon", "run"]),
        *running.started_as("dagster-daemon", "run"),
    }
    return sorted(pid for pid in daemons if _uses(pid, home))


def _uses(pid: int, home: Path) -> bool:
    """Say whether the process uses the records in `home`, however it was told."""
    if running.has_open(pid, home / IN_USE):  # `dagster dev` in the project folder.
        return True
    named = running.variable(pid, "DAGSTER_HOME")
    return bool(named) and Path(str(named)).expanduser().resolve() == home.resolve()


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
        hint="see the output of its programs above",
    )
