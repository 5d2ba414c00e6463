"""The supervisor layer: supervisord, which keeps every other process of the platform running."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from mlops_pipeline.clients import running
from mlops_pipeline.clients.errors import FatalStateError, UnavailableError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.supervisor import SupervisedProcess, SupervisorClient
from mlops_pipeline.platforms.embedded.program_files import ProgramFiles
from mlops_pipeline.platforms.embedded.program_locks import ProgramLocks
from mlops_pipeline.platforms.embedded.programs import FINGERPRINT, GRACE, Program, render
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.embedded.supervisord import Supervisord
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    HealthCheck,
    LayerState,
    Ready,
    action_from,
    describe,
)

_SHUTDOWN = 20.0
"""Seconds for programs to stop; the slowest may take 10."""
_GLANCE = 2.0
"""Seconds for supervisord to answer where it is only looked at: its locks say what runs."""
_PAUSE = 10.0
"""Seconds for which a supervisord that did not answer a glance is not asked by others."""
UNSUPERVISED = (
    "the process runs, but may not be restarted after a failure: supervisord does not answer, or "
    "the program's configuration file is missing; run `mlops-pipeline up` to repair this without "
    "an interruption"
)
"""What is to be said of a program whose state is `unsupervised`."""


class Supervisor:
    """supervisord on a private unix socket. A layer, and the way to run programs under it.

    The locks say what runs, in which process; the files say what should run. Neither is derived
    from the other: a program whose file is lost runs on, and the file is written again.
    """

    name = "supervisor"
    description = (
        "supervisord, which keeps the platform's processes running after the command ends."
    )
    kinds: tuple[str, ...] = ("supervisor", "python")
    requires: tuple[str, ...] = ()
    checks: tuple[HealthCheck, ...] = ()

    def __init__(self, state: EmbeddedFolder, locks: Locks, *, timeout: float) -> None:
        self._state = state
        self._locks = locks
        self.files = ProgramFiles(state.programs)
        """What should run."""
        self._running = ProgramLocks(state.run)
        self._daemon = Supervisord(state, self._running, timeout=timeout)
        self._glance = self._new_glance()

    @property
    def client(self) -> SupervisorClient:
        """Supervisord's interface; nothing may be listening."""
        return self._daemon.client

    def require_ready(self, what: str) -> None:
        """Refuse to work on `what` (a layer above) while supervisord does not answer.

        Raises:
            UnavailableError: with its state, and how to bring it up.
        """
        if not isinstance(state := self._look(self.client), Ready):
            _refuse(what, state)

    def require_whole(self, what: str) -> None:
        """Refuse to do `what` while programs run that supervisord cannot be asked to stop.

        Raises:
            UnavailableError: with supervisord's state, and how to bring it up.
        """
        if isinstance(state := self._look(self.client), Broken):
            _refuse(what, state)

    def observe(self) -> LayerState:
        """Look at supervisord and at the files of its programs as they are now."""
        state = self._look(self._glance)
        damages = self.files.damages()
        return Drifted(damages) if damages and isinstance(state, Ready) else state

    def _look(self, client: SupervisorClient) -> LayerState:
        try:
            identity, pid = client.identity()
        except UnavailableError as error:
            if not self._state.is_prepared() and self._daemon.has_left():
                return Broken(
                    "its state folder was deleted, but its processes still run; "
                    "run `mlops-pipeline down` to stop them"
                )
            left = self._running.holders() or (self._state.run / "supervisord.pid").exists()
            return Broken(f"supervisord does not answer: {error}") if left else Absent()
        if identity != self._state.identity:
            return Broken(f"another supervisord ({identity}, process {pid}) uses our socket")
        if not self._daemon.is_as_configured():
            return Drifted(("supervisord runs with a different configuration",))
        return Ready({"process": pid, "address": f"unix://{self._state.socket('sv.sock')}"})

    def ensure(self) -> Change:
        """Bring supervisord up, with every program that was running under it before.

        What runs since before its supervisord was lost goes on running, supervised again.

        Raises:
            ConfigurationError: the state folder cannot be written.
            PipelineError: it does not start.
        """
        self._state.prepare()
        held = partial(self._locks.held, purpose="bring up the supervisor")
        with held("layers"), held("state"):
            state = self._look(self.client)
            damages = self.files.damages()
            self.files.repair()
            if not isinstance(state, Ready):
                self._daemon.replace()
                self._glance = self._new_glance()
            elif damages:
                state = Drifted(damages)
            return Change(action_from(state), self._facts())

    def remove(self) -> None:
        """Stop supervisord and everything under it.

        Raises:
            UnavailableError: a process cannot be ended.
        """
        if not self._state.is_prepared():
            self._daemon.stop_all()  # What is left of one whose state folder was removed.
            return
        with self._locks.held("layers", purpose="stop the supervisor"):
            self._daemon.stop_all()

    def put(self, program: Program) -> bool:
        """Run `program`; say whether anything was done for it.

        A process that was started with this configuration goes on, whether supervisord or its
        file was lost meanwhile. Any other is replaced. The caller holds the `state` lock.

        Raises:
            ConfigurationError: its configuration cannot be written.
            UnavailableError: supervisord does not answer.
        """
        text, fingerprint = self._render(program)
        known = self.client.find(program.name)
        runs = self._running.fingerprint(program.name) == fingerprint
        keep = runs and (known is None or known.is_alive)
        if not keep:
            self.stop([program.name])
        self.files.repair()
        if lost := self.files.find(program.name) != text:
            self.files.write(program.name, text)
        if keep and known is not None:
            return lost
        self._running.make_way(program.name)
        self.client.reload()
        self.client.add(program.name)
        return True

    def _render(self, program: Program) -> tuple[str, str]:
        """Return the program's configuration, and the digest in it that its process will have."""

        def rendered(**more: str) -> str:
            return render(
                replace(program, environment={**program.environment, **more}),
                lock=self._running.path(program.name),
                logs=self._state.logs,
            )

        fingerprint = hashlib.sha256(rendered().encode()).hexdigest()[:16]
        return rendered(**{FINGERPRINT: fingerprint}), fingerprint

    def stop(self, names: Collection[str]) -> None:
        """Stop programs, all at once, until they are put again. Their configuration stays.

        Raises:
            UnavailableError: supervisord does not answer, or a program does not stop.
        """
        self.client.end(names, timeout=_SHUTDOWN)
        # Of those that somebody killed the launcher of, before it could pass the signal on.
        running.end(filter(None, map(self._running.holder, names)), grace=GRACE)
        for name in names:
            self.client.forget(name)

    def drop(self, names: Collection[str]) -> None:
        """Stop programs and forget them. The caller holds the `state` lock.

        Raises:
            UnavailableError: supervisord does not answer, or a program does not stop.
        """
        if names and not isinstance(self.observe(), Absent):
            self.stop(names)
        for name in names:
            self.files.remove(name)
        self._running.remove(names)

    def running(self, name: str) -> SupervisedProcess | None:
        """Return the program's process when it runs now, supervised or not. Raises nothing."""
        try:
            process = self._find(name, self._glance)
        except UnavailableError:
            process = None
        if process is not None and self.files.has(name):
            return process if process.is_alive else None
        pid = self._running.holder(name)
        return SupervisedProcess(name, "unsupervised", pid, 0, "") if pid else None

    def pid(self, name: str) -> int | None:
        """Return the program's process if it runs now, without asking supervisord."""
        return self._running.holder(name)

    def names(self) -> set[str]:
        """Return the names of the programs that run or should."""
        return {*self.files.names(), *self._running.holders()}

    def _find(self, name: str, client: SupervisorClient) -> SupervisedProcess | None:
        """Return the program with the process that it is, which may be older than supervisord."""
        process = client.find(name)
        pid = self._running.holder(name) if process and process.pid else None
        return replace(process, pid=pid) if process and pid else process

    def _new_glance(self) -> SupervisorClient:
        return SupervisorClient(self._state.socket("sv.sock"), timeout=_GLANCE, pause=_PAUSE)

    def watch(
        self, name: str, probe: Callable[[SupervisedProcess], str | None]
    ) -> Callable[[], str | None]:
        """Return a probe for `wait_until` that ends the wait when the program dies.

        Raises (the returned probe):
            FatalStateError: the program has exited; with its exit code and last log lines.
        """
        first: list[int] = []

        def describe_unready() -> str | None:
            process = self._find(name, self.client)
            if process is None:
                raise FatalStateError(f"{name} was removed while waiting for it")
            if process.pid and not first:
                first.append(process.pid)
            if process.state in ("exited", "fatal", "backoff") or (
                first and process.pid != first[0]
            ):
                raise FatalStateError(self._obituary(process))
            return probe(process) if process.is_alive else f"it is {process.state}"

        return describe_unready

    def log(self, name: str, *, lines: int) -> str:
        """Return the last lines of a program's log; empty where there is none."""
        return tail(self._state.logs / f"{name}.log", lines=lines)

    def _obituary(self, process: SupervisedProcess) -> str:
        exits = [
            line.partition("exited: ")[2]
            for line in self.log("supervisor", lines=50).splitlines()
            if f"exited: {process.name} " in line
        ]
        how = exits[-1] if exits else f"{process.name} (exit status {process.exit_code})"
        return (
            f"{how} exited before it was ready; its last lines:\n{self.log(process.name, lines=15)}"
        )

    def _facts(self) -> dict[str, str | int | float]:
        return {
            "process": self.client.identity()[1],
            "address": f"unix://{self._state.socket('sv.sock')}",
        }


def _refuse(what: str, state: LayerState) -> NoReturn:
    raise UnavailableError(
        f"{what} requires the supervisor, which is not ready ({describe(state)}); "
        "run `mlops-pipeline up supervisor`"
    )


def tail(path: Path, *, lines: int) -> str:
    """Return the last `lines` of a file (of its last 64 KiB); empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - (64 << 10)))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
