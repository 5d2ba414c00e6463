"""supervisord's XML-RPC interface over its unix socket.

Protocol: http://supervisord.org/api.html. The transport is our own because supervisor's has no
timeout and imports all of supervisord.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlops_pipeline.clients.errors import ConflictError, NotFoundError, UnavailableError
from mlops_pipeline.clients.waiting import wait_until

_BAD_NAME = 10
_NOT_RUNNING = 70
_ALREADY_ADDED = 90
_STATES: dict[int, "ProcessState"] = {
    0: "stopped",
    10: "starting",
    20: "running",
    30: "backoff",
    40: "stopping",
    100: "exited",
    200: "fatal",
}
ProcessState = Literal[
    "stopped",
    "starting",
    "running",
    "backoff",
    "stopping",
    "exited",
    "fatal",
    "unknown",
    "unsupervised",
]
"""`unsupervised`: it runs, but supervisord has ended or has lost its configuration."""


@dataclass(frozen=True)
class SupervisedProcess:
    """A program as supervisord sees it."""

    name: str
    state: ProcessState
    pid: int
    """0 while there is no process."""
    exit_code: int
    """Exit code of the last process that ended; 0 if none has."""
    reason: str
    """Why it could not be started, from supervisord; usually empty."""

    @property
    def is_alive(self) -> bool:
        """Whether it has a process that is not being stopped."""
        return self.pid != 0 and self.state in ("starting", "running", "unsupervised")


class SupervisorClient:
    """The supervisord on the unix socket `address`. Every call ends within `timeout` seconds.

    After a timeout, further calls fail at once for `pause` seconds: many calls to a supervisord
    that hangs take no longer than one.
    """

    def __init__(self, address: Path, *, timeout: float = 10.0, pause: float = 0.0) -> None:
        self.address = address
        self._timeout = timeout
        self._pause = pause
        self._silent_until = 0.0

    def identity(self) -> tuple[str, int]:
        """Return the identifier that supervisord was configured with, and its process id.

        Raises:
            UnavailableError: supervisord does not answer.
        """
        return str(self._call("getIdentification")), int(self._call("getPID"))

    def processes(self) -> dict[str, SupervisedProcess]:
        """Return every program by its name.

        Raises:
            UnavailableError: supervisord does not answer.
        """
        return {info["name"]: _process(info) for info in self._call("getAllProcessInfo")}

    def find(self, name: str) -> SupervisedProcess | None:
        """Return the program, or None if supervisord does not know it.

        Raises:
            UnavailableError: supervisord does not answer.
        """
        try:
            return _process(self._call("getProcessInfo", name))
        except NotFoundError:
            return None

    def reload(self) -> None:
        """Read the configuration files again. Starts and stops nothing.

        Raises:
            UnavailableError: supervisord does not answer, or a file cannot be read.
        """
        self._call("reloadConfig")

    def add(self, name: str) -> None:
        """Add a program that a reload has found; supervisord starts it.

        Raises:
            NotFoundError: no configuration file names it.
            UnavailableError: supervisord does not answer.
        """
        try:
            self._call("addProcessGroup", name)
        except ConflictError:
            return

    def stop(self, name: str) -> None:
        """Tell a program to stop, if it runs. Returns before it has stopped.

        Raises:
            UnavailableError: supervisord does not answer.
        """
        try:
            self._call("stopProcess", name, False)
        except (NotFoundError, ConflictError):
            return

    def end(self, names: Collection[str], *, timeout: float) -> None:
        """Tell programs to stop, all at once, and return when they have ended.

        Raises:
            UnavailableError: supervisord does not answer, or one did not end within `timeout` s.
        """
        for name in names:
            self.stop(name)

        def describe_alive() -> str | None:
            alive = [n for n, process in self.processes().items() if process.pid and n in names]
            for name in alive:
                # One that had just died was not running, and supervisord has started it again.
                self.stop(name)
            return ", ".join(sorted(alive)) or None

        wait_until(
            f"the end of {', '.join(sorted(names))}", describe_alive, timeout=timeout, interval=0.03
        )

    def forget(self, name: str) -> None:
        """Remove a stopped program, if supervisord knows it.

        Raises:
            UnavailableError: supervisord does not answer, or the program still runs.
        """
        try:
            self._call("removeProcessGroup", name)
        except NotFoundError:
            return

    def start(self, name: str) -> None:
        """Start a program that has stopped or failed, without waiting for it.

        Raises:
            NotFoundError: supervisord does not know it.
            UnavailableError: supervisord does not answer, or it runs already.
        """
        self._call("startProcess", name, False)

    def stop_all(self) -> None:
        """Tell all programs to stop. Returns before they have stopped.

        Raises:
            UnavailableError: supervisord does not answer.
        """
        self._call("stopAllProcesses", False)

    def shut_down(self) -> None:
        """Tell supervisord to stop everything and end. Returns before it has ended.

        Raises:
            UnavailableError: supervisord does not answer.
        """
        self._call("shutdown")

    def _call(self, method: str, *arguments: object) -> Any:
        # Definitions import this module, and load without an XML parser.
        import xmlrpc.client

        from mlops_pipeline.clients.unix_sockets import UnixTransport

        with self._errors(method, arguments):
            if time.monotonic() < self._silent_until:
                raise TimeoutError("it did not answer the previous call")
            proxy = xmlrpc.client.ServerProxy(
                "http://localhost/RPC2", transport=UnixTransport(self.address, self._timeout)
            )
            try:
                with proxy:
                    return getattr(proxy.supervisor, method)(*arguments)
            except TimeoutError:
                self._silent_until = time.monotonic() + self._pause
                raise

    @contextmanager
    def _errors(self, method: str, arguments: tuple[object, ...]) -> Iterator[None]:
        import http.client
        import xmlrpc.client

        asked = f"could not call {method}{arguments} on supervisord at {self.address}"
        try:
            yield
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _BAD_NAME:
                raise NotFoundError(f"{asked}: unknown program") from fault
            if fault.faultCode in (_ALREADY_ADDED, _NOT_RUNNING):
                raise ConflictError(f"{asked}: it is already in that state") from fault
            raise UnavailableError(f"{asked}: it answered {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise UnavailableError(
                f"{asked}: it did not answer ({type(error).__name__}: {error}); run "
                "`mlops-pipeline up supervisor`"
            ) from error


def _process(info: dict[str, Any]) -> SupervisedProcess:
    return SupervisedProcess(
        name=info["name"],
        state=_STATES.get(info["state"], "unknown"),
        pid=info["pid"],
        exit_code=info["exitstatus"],
        reason=info["spawnerr"],
    )
