"""supervisord as a process: its configuration, its start and its end."""

import os
import resource
import sys
from pathlib import Path

from mlops_pipeline.clients import launcher, running
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.files import PRIVATE, discard, read_or_empty, write_if_changed
from mlops_pipeline.clients.process import run
from mlops_pipeline.clients.supervisor import SupervisorClient
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded.program_locks import ProgramLocks
from mlops_pipeline.platforms.embedded.programs import GRACE, MARK, render_supervisord
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
"""All that supervised programs see of our environment: no keys of the user's reach them."""
_OPEN_FILES = 4096
_SHUTDOWN = 20.0
"""Seconds for supervisord to stop its programs and end; the slowest may take 10."""


class Supervisord:
    """The supervisord of a state folder, for which `programs` knows what runs."""

    def __init__(self, state: EmbeddedFolder, programs: ProgramLocks, *, timeout: float) -> None:
        self._state = state
        self._programs = programs
        self._timeout = timeout

    @property
    def client(self) -> SupervisorClient:
        """Its interface; nothing may be listening."""
        return SupervisorClient(self._state.socket("sv.sock"))

    def is_as_configured(self) -> bool:
        """Say whether it was started with the configuration that it would get now."""
        return self._configuration() == read_or_empty(self._file)

    def has_left(self) -> bool:
        """Say whether a process of it or of its programs runs."""
        return bool(running.marked(MARK, self._state.identity))

    def replace(self) -> None:
        """Start it, in the place of one that does not answer. Programs that run go on.

        Raises:
            PipelineError: it does not start.
        """
        self._end_strays()
        self._start()

    def stop_all(self) -> None:
        """Stop it and its programs, also those that it left behind when it was killed.

        Raises:
            UnavailableError: a process cannot be ended.
        """
        try:
            if self.client.identity()[0] == self._state.identity:
                self.client.stop_all()
                self.client.shut_down()
                wait_until("the end of supervisord", self._describe_left, timeout=_SHUTDOWN)
        except UnavailableError:
            pass
        running.end_marked(MARK, self._state.identity, grace=GRACE)
        self._forget()

    def _describe_left(self) -> str | None:
        left = len(running.marked(MARK, self._state.identity))
        return f"{left} processes still run" if left else None

    @property
    def _file(self) -> Path:
        return self._state.supervisor / "supervisord.conf"

    def _configuration(self) -> str:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
        return render_supervisord(
            identity=self._state.identity,
            socket=self._state.socket("sv.sock"),
            run=self._state.run,
            logs=self._state.logs,
            open_files=limit,
        )

    def _start(self) -> None:
        write_if_changed(self._file, self._configuration(), mode=PRIVATE)
        passed = [f"{name}={os.environ[name]}" for name in _PASSED_ON if name in os.environ]
        run(
            [
                *("/usr/bin/env", "-i", *passed, f"{MARK}={self._state.identity}"),
                *(sys.executable, "-m", "supervisor.supervisord"),
                *("-c", str(self._file)),
            ],
            purpose="start supervisord",
            timeout=self._timeout,
            directory=self._state.run,
        )
        wait_until(
            "supervisord",
            self._describe_silence,
            timeout=self._timeout,
            interval=0.02,
            hint=f"see {self._state.logs / 'supervisor.log'}",
        )

    def _describe_silence(self) -> str | None:
        try:
            self.client.identity()
        except UnavailableError as error:
            return str(error)
        return None

    def _end_strays(self) -> None:
        """End what would be in the way of a new supervisord, but no program that runs.

        Programs hold their locks, and their new launchers take them up. What is killed has no
        time to stop them: a supervisord that does not answer, and launchers of one before.
        """
        ours = set(running.marked(MARK, self._state.identity))
        running.kill(ours & set(running.commanded([str(self._file)])))
        running.kill(ours & set(running.commanded([launcher.__file__])))
        strays = set(running.marked(MARK, self._state.identity))
        programs = running.with_descendants(self._programs.holders().values())
        running.end(strays - set(programs), grace=GRACE)
        self._forget()

    def _forget(self) -> None:
        for left in ("supervisord.pid", "sv.sock"):
            discard(self._state.run / left)
