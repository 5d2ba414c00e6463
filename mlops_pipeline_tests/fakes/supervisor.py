"""supervisord's programs in memory."""

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_pipeline.clients import metrics_pages
from mlops_pipeline.clients.errors import FatalStateError, UnavailableError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.ports import LOOPBACK
from mlops_pipeline.clients.prediction import PATH
from mlops_pipeline.clients.supervisor import ProcessState, SupervisedProcess
from mlops_pipeline.clients.waiting import Clock
from mlops_pipeline.platforms.embedded.program_files import ProgramFiles
from mlops_pipeline.platforms.embedded.programs import Program, render
from mlops_pipeline.platforms.embedded.routing import Endpoint
from mlops_pipeline.platforms.embedded.servers import Loopback
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline_tests.fakes import predictions

_SHORT = 1.0
_IDS = itertools.count(1000)


@dataclass
class _Run:
    """A program with the process that it has."""

    program: Program
    text: str
    """The configuration that it was started with."""
    started: float
    exit_code: int = 0
    """Of its process before."""
    state: ProcessState = "running"
    pid: int = field(default_factory=lambda: next(_IDS))
    answered: int = 0
    """Requests of clients."""
    behaviour: Mapping[str, Any] = field(init=False)
    """What the file `behaviour.json` of its model says: see `stand_in.py`."""

    def __post_init__(self) -> None:
        command = self.program.command
        folder = Path(command[command.index("--model") + 1])
        self.behaviour = json.loads((folder / "behaviour.json").read_text())

    @property
    def is_alive(self) -> bool:
        return self.state == "running"

    @property
    def ports(self) -> tuple[int, ...]:
        names = ("PREDICTIVE_UNIT_HTTP_SERVICE_PORT", "PREDICTIVE_UNIT_GRPC_SERVICE_PORT")
        return tuple(int(self.program.environment[name]) for name in names)


class FakeSupervisor:
    """Runs programs in memory: model servers that behave as `stand_in.py` would.

    `unavailable` is why supervisord does not answer: then its programs run on, unsupervised.
    `started` and `stopped` record the names of programs, in order. `on_stop` is called before one
    is stopped.
    """

    def __init__(self, state: EmbeddedFolder, clock: Clock) -> None:
        self.files = ProgramFiles(state.programs)
        self.unavailable = ""
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.on_stop: Callable[[str], None] = lambda _: None
        self._state = state
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._down: dict[str, _Run] = {}
        self._logs: dict[str, list[str]] = {}

    # What a test does to it

    def kill(self, name: str) -> None:
        """End the process of a program; it is started again at once."""
        run = self._require_alive(name)
        self._runs[name] = _Run(run.program, run.text, self._clock.now())

    def halt(self, name: str) -> None:
        """Stop a program, as `supervisorctl stop` does: it does not run until it is put again."""
        self._require_alive(name)
        del self._runs[name]

    def down(self) -> None:
        """Stop every program; their files stay."""
        self._down, self._runs = self._runs, {}

    def up(self) -> None:
        """Start every program that has a file."""
        for name, run in self._down.items():
            if self.files.has(name):
                self._runs[name] = _Run(run.program, run.text, self._clock.now())

    def pids(self) -> dict[str, int]:
        """Return the process of each program that runs."""
        return {name: run.pid for name, run in self._alive()}

    def find_ready(self, endpoint: Endpoint) -> Mapping[str, Any] | None:
        """Return how the server at `endpoint` behaves, or None while it is not ready."""
        run = self._listening(endpoint.http)
        if run is None or run.program.name != endpoint.program or not self._is_ready(run):
            return None
        return run.behaviour

    def count_answer(self, endpoint: Endpoint) -> None:
        """Let the server at `endpoint` have answered a request of a client."""
        self._require_alive(endpoint.program).answered += 1

    def post(self, url: str, body: bytes) -> HttpAnswer:
        """Send a request for a prediction to a server, past the gateway."""
        run, path = self._at(url)
        assert path == PATH, url
        if run is None:
            raise UnavailableError(f"could not reach {url}: connection refused")
        return predictions.answer(body, digest=run.behaviour["digest"])

    @property
    def loopback(self) -> Loopback:
        """What the servers answer."""
        return Loopback(
            probe=self._probe,
            listeners=self._listeners,
            is_free=self._is_free,
            post=self.post,
            page=self._page,
        )

    # ProgramSupervisor

    def put(self, program: Program) -> bool:
        self._require_available()
        lock = self._state.run / f"{program.name}.lock"
        text = render(program, lock=lock, logs=self._state.logs)
        run = self._look(program.name)
        keep = run is not None and run.is_alive and run.text == text
        if not keep:
            self._stop(program.name)
        if lost := self.files.find(program.name) != text:
            self.files.write(program.name, text)
        if keep:
            return lost
        self._runs[program.name] = _Run(program, text, self._clock.now())
        self.started.append(program.name)
        return True

    def drop(self, names: Collection[str]) -> None:
        if names:
            self._require_available()
        for name in names:
            self._stop(name)
            self.files.remove(name)

    def names(self) -> set[str]:
        return {*self.files.names(), *self.pids()}

    def running(self, name: str) -> SupervisedProcess | None:
        run = self._look(name)
        if run is None or not run.is_alive:
            return None
        supervised = self.files.has(name) and not self.unavailable
        return SupervisedProcess(name, "running" if supervised else "unsupervised", run.pid, 0, "")

    def pid(self, name: str) -> int | None:
        return self.pids().get(name)

    def watch(
        self, name: str, probe: Callable[[SupervisedProcess], str | None]
    ) -> Callable[[], str | None]:
        first: list[int] = []

        def describe_unready() -> str | None:
            self._require_available()
            run = self._look(name)
            if run is None:
                raise FatalStateError(f"{name} was removed while waiting for it")
            first.append(run.pid)
            if not run.is_alive or run.pid != first[0]:
                said = self.log(name, lines=15)
                raise FatalStateError(
                    f"{name} (exit status {run.exit_code}) exited before it was ready; its last "
                    f"lines:\n{said}"
                )
            return probe(SupervisedProcess(name, run.state, run.pid, 0, ""))

        return describe_unready

    def require_whole(self, what: str) -> None:
        if self.unavailable:
            raise UnavailableError(f"{what} requires the supervisor: {self.unavailable}")

    def log(self, name: str, *, lines: int) -> str:
        return "\n".join(self._logs.get(name, [])[-lines:])

    # Inside

    def _look(self, name: str) -> _Run | None:
        """Return the program after what its script says that it has done meanwhile."""
        run = self._runs.get(name)
        if run is None:
            return None
        if run.state == "backoff" and self._clock.now() - run.started >= _SHORT:
            run = self._runs[name] = _Run(run.program, run.text, self._clock.now())
        if run.is_alive and (code := run.behaviour.get("exit")):
            lasting = run.behaviour.get("lasting", 0)
            if self._clock.now() - run.started >= lasting:
                self._end(run, code, lasting=lasting)
        return self._runs[name]

    def _end(self, run: _Run, code: int, *, lasting: float) -> None:
        """Let the process end, and do what supervisord does then."""
        name, now = run.program.name, self._clock.now()
        damage = "the artifact does not match its manifest: changed: model.joblib"
        self._logs.setdefault(name, []).append(damage)
        run.exit_code = code
        if lasting < _SHORT:
            run.state, run.started = "backoff", now
        elif code in run.program.final_exit_codes:
            run.state = "exited"
        else:
            self._runs[name] = _Run(run.program, run.text, now, exit_code=code)

    def _alive(self) -> Iterator[tuple[str, _Run]]:
        for name in list(self._runs):
            run = self._look(name)
            if run is not None and run.is_alive:
                yield name, run

    def _require_alive(self, name: str) -> _Run:
        run = self._look(name)
        assert run is not None, f"{name} is not there"
        assert run.is_alive, f"{name} is {run.state}"
        return run

    def _stop(self, name: str) -> None:
        if (run := self._look(name)) is None:
            return
        if run.is_alive:
            self.on_stop(name)
            self.stopped.append(name)
        del self._runs[name]

    def _require_available(self) -> None:
        if self.unavailable:
            raise UnavailableError(f"supervisord does not answer: {self.unavailable}")

    def _is_ready(self, run: _Run) -> bool:
        return self._clock.now() - run.started >= float(run.behaviour.get("loading", 0))

    def _listening(self, port: int) -> _Run | None:
        return next((run for _, run in self._alive() if port in run.ports), None)

    def _is_free(self, port: int) -> bool:
        return self._listening(port) is None

    def _listeners(self, pid: int) -> set[tuple[str, int]]:
        return {
            (LOOPBACK, port) for _, run in self._alive() if run.pid == pid for port in run.ports
        }

    def _at(self, url: str) -> tuple[_Run | None, str]:
        """Return what listens at the URL, and the path."""
        found = re.fullmatch(rf"http://{re.escape(LOOPBACK)}:(\d+)(/.*)", url)
        assert found is not None, url
        return self._listening(int(found[1])), found[2]

    def _page(self, url: str) -> str | None:
        run, path = self._at(url)
        assert path == metrics_pages.PATH, url
        if run is None:
            return None
        digest, started = run.behaviour["digest"], 1000.0 + run.pid
        more = f"mlops_process_id {run.pid}.0"
        return predictions.metrics_page(
            answered=run.answered, started=started, digest=digest, more=more
        )

    def _probe(self, url: str) -> HttpAnswer | str:
        run, path = self._at(url)
        if run is None:
            return f"{url}: ConnectError: connection refused"
        if path == "/metadata":
            body = json.dumps({"versions": [run.behaviour["digest"]]})
            return HttpAnswer(200, {}, body.encode())
        ready = path == "/v2/health/ready" and self._is_ready(run)
        return HttpAnswer(200 if ready else 503, {}, b"{}")
