"""Model servers: one supervised process for each replica of a predictor."""

import hashlib
import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlops_pipeline.clients import http, metrics_pages, ports, prediction
from mlops_pipeline.clients.errors import FatalStateError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.clients.waiting import MONOTONIC, Clock, wait_until
from mlops_pipeline.platforms.embedded.interfaces import ProgramSupervisor
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.port_book import PortBook
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.routing import Endpoint, Target
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.seldon import Predictor
from mlops_pipeline.serving.recording.format import VARIABLE as RECORDING
from mlops_pipeline.serving.signing.policy import TRUST_FILE

_FINAL = (2, 3, 4)
"""Exit codes of a model server for what a restart cannot help: a bad parameter, an artifact that is
not what its manifest says, a model that does not load."""
_PREFIX = "server-"
_PROOF_TIMEOUT = 30.0
"""Seconds for one answer of a server that is asked alone."""


@dataclass(frozen=True)
class ServerSet:
    """The servers of one predictor: everything that decides what they run."""

    namespace: str
    deployment: str
    predictor: Predictor
    replicas: int
    command: tuple[str, ...]
    """The model server's, before `--model`."""
    environment: str
    """Fingerprint of the serving environment."""
    max_body_bytes: int
    version: str
    """Of this package; it stands for the tag of the serving image."""
    trust: str = ""
    """The file that says which signatures count; empty: the servers verify none."""
    recording: str = ""
    """How they record rows of answers, as JSON; empty: they do not."""
    standing: Target | None = None
    """Servers that run already and stay as they are, whatever would be run today."""

    @property
    def key(self) -> str:
        """Changes whenever what the servers run does; replicas and traffic do not count."""
        if self.standing is not None:
            return self.standing.servers
        anywhere = self.contract(Endpoint("", 0, 0))
        content = [self.environment, self.command, self.uri, anywhere]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def uri(self) -> str:
        """Return where the artifact is in the object store."""
        return self.predictor.graph.model_uri

    @property
    def programs(self) -> tuple[str, ...]:
        """Return the name of each replica's program."""
        stem = f"{program_prefix(self.deployment, self.namespace)}{self.predictor.stem}.{self.key}"
        return tuple(f"{stem}.{index}" for index in range(self.replicas))

    def contract(self, endpoint: Endpoint) -> dict[str, str]:
        """Return what Seldon's operator puts into a model container's environment, and a limit."""
        graph = self.predictor.graph
        parameters = [{"name": p.name, "value": p.value, "type": p.type} for p in graph.parameters]
        recording = {RECORDING: _quotable(self.recording)} if self.recording else {}
        return {
            **recording,
            "PREDICTIVE_UNIT_ID": graph.name,
            "PREDICTIVE_UNIT_IMAGE": f"mlops-pipeline/serving:{self.version}",
            "PREDICTIVE_UNIT_IMPLEMENTATION": graph.implementation,
            "PREDICTIVE_UNIT_PARAMETERS": _json_for_supervisor(parameters),
            "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(endpoint.http),
            "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(endpoint.grpc),
            "SELDON_DEPLOYMENT_ID": self.deployment,
            "PREDICTOR_ID": self.predictor.stem,
            "MLSERVER_HOST": ports.LOOPBACK,
            "MLOPS_MAX_BODY_BYTES": str(self.max_body_bytes),
            **({TRUST_FILE: self.trust} if self.trust else {}),
        }


def program_prefix(deployment: str, namespace: str) -> str:
    """Return how the names of all programs of a deployment begin."""
    return f"{_PREFIX}{namespace}.{deployment}."


_post = partial(http.post_json, timeout=_PROOF_TIMEOUT, headers=prediction.UNRECORDED)


@dataclass(frozen=True)
class Loopback:
    """What servers are asked on 127.0.0.1. Tests replace all of it."""

    probe: Callable[[str], HttpAnswer | str] = http.probe
    """GET a URL; the answer, or why there is none."""
    listeners: Callable[[int], set[tuple[str, int]]] = ports.listeners
    """Return (address, port) of each listening socket of a process."""
    is_free: Callable[[int], bool] = ports.is_free
    """Say whether a server could listen on a port now."""
    post: Callable[[str, bytes], HttpAnswer] = _post
    """POST JSON to a URL and return the answer."""
    page: Callable[[str], str | None] = metrics_pages.fetch
    """GET a page of metrics; None if there is no answer."""


class Servers:
    """Starts, watches and stops model servers. Callers of what changes hold the `state` lock."""

    def __init__(
        self,
        state: EmbeddedFolder,
        settings: EmbeddedOptions,
        supervisor: ProgramSupervisor,
        *,
        loopback: Loopback | None = None,
        clock: Clock = MONOTONIC,
    ) -> None:
        self._state = state
        self._settings = settings
        self._supervisor = supervisor
        self._loopback = loopback or Loopback()
        self._clock = clock
        self._ports = PortBook(state.ports, is_free=self._loopback.is_free)

    def start(self, servers: ServerSet, model: Path) -> tuple[tuple[Endpoint, ...], bool]:
        """Start what does not run of these servers; return where they are, and if any was started.

        Raises:
            ConfigurationError: no port is free, or a parameter cannot be handed over.
            UnavailableError: supervisord does not answer.
        """
        endpoints, started = [], False
        for program in servers.programs:
            endpoint = self._place(program)
            started |= self._supervisor.put(self._program(servers, endpoint, model))
            endpoints.append(endpoint)
        return tuple(endpoints), started

    def wait(self, servers: ServerSet, endpoints: tuple[Endpoint, ...]) -> None:
        """Return once every server is ready.

        Raises:
            FatalStateError: one has ended; with its exit code and last log lines.
            UnavailableError: one was not ready in time.
        """
        probes = [self._probe(endpoint) for endpoint in endpoints]
        wait_until(
            f"the servers of {servers.deployment}/{servers.predictor.name} in {servers.namespace}",
            lambda: "; ".join(r for r in (probe() for probe in probes) if r) or None,
            timeout=self._settings.ready_timeout,
            clock=self._clock,
            interval=0.05,
            hint=f"see `mlops-pipeline logs {servers.deployment}`",
        )

    def stop(self, programs: Collection[str]) -> None:
        """Stop these servers and forget their ports.

        Raises:
            UnavailableError: supervisord does not answer.
        """
        self._supervisor.drop(programs)
        for program in programs:
            self._ports.release((f"{program}.http", f"{program}.grpc"))
            shutil.rmtree(self._scratch(program), ignore_errors=True)
            for log in self._state.logs.glob(f"{program}.log*"):
                log.unlink(missing_ok=True)

    def require_stoppable(self, what: str) -> None:
        """Refuse to do `what` while servers run that supervisord cannot be asked to stop.

        Raises:
            UnavailableError: with supervisord's state, and how to bring it up.
        """
        self._supervisor.require_whole(what)

    def programs(self, deployment: str, *, namespace: str) -> set[str]:
        """Return the names of all programs of a deployment, also of those left behind."""
        return self._all(program_prefix(deployment, namespace))

    def uses(self, model: Path) -> bool:
        """Say whether any server, of whichever deployment, may have been given this artifact."""
        texts = map(self._supervisor.files.find, self._all())
        return any(text is None or model.name in text for text in texts)

    def describe_unready(self, endpoint: Endpoint) -> str | None:
        """Say why the server at `endpoint` is not ready now, or None when it is."""
        process = self._supervisor.running(endpoint.program)
        if process is None:
            said = self.log(endpoint.program, lines=1).strip()
            return "its process is not running" + (f"; its last line: {said}" if said else "")
        return self._describe_unready(process, endpoint)

    def is_running(self, endpoint: Endpoint) -> bool:
        """Say whether the server's process runs, ready or not."""
        return self._supervisor.running(endpoint.program) is not None

    def is_unsupervised(self, endpoint: Endpoint) -> bool:
        """Say whether the server runs, and nothing would restart it."""
        process = self._supervisor.running(endpoint.program)
        return process is not None and process.state == "unsupervised"

    def digest(self, endpoint: Endpoint) -> str:
        """Return the artifact digest that the server itself answers with; empty if it is silent."""
        answer = self._loopback.probe(f"http://{ports.LOOPBACK}:{endpoint.http}/metadata")
        if isinstance(answer, str) or answer.status != 200:
            return ""
        try:
            versions = json.loads(answer.text)["versions"]
            return str(versions[0]) if versions else ""
        except (ValueError, KeyError, TypeError):
            return ""

    def predictions(self, endpoint: Endpoint) -> Predictions:
        """Return a client of this one server, past the gateway."""
        url = f"http://{ports.LOOPBACK}:{endpoint.http}{prediction.PATH}"
        return Predictions(url, partial(self._loopback.post, url))

    def metrics(self, endpoint: Endpoint) -> str | None:
        """Return the page of metrics at an endpoint, or None if nothing answers.

        Raises:
            UnavailableError: it is too large.
        """
        url = f"http://{ports.LOOPBACK}:{endpoint.http}{metrics_pages.PATH}"
        return self._loopback.page(url)

    def is_own(self, endpoint: Endpoint, pid: int | None) -> bool:
        """Say whether the process `pid`, which answers at `endpoint`, is the server.

        None: it does not tell its id.
        """
        own = self._supervisor.pid(endpoint.program)
        if own is None or own == pid:
            return own is not None
        # The command may start the server as another process. Looking takes 20 ms.
        return (ports.LOOPBACK, endpoint.http) in self._loopback.listeners(own)

    def log(self, program: str, *, lines: int) -> str:
        """Return the last lines of a server's log."""
        return self._supervisor.log(program, lines=lines)

    def _all(self, prefix: str = _PREFIX) -> set[str]:
        return {name for name in self._supervisor.names() if name.startswith(prefix)}

    def _scratch(self, program: str) -> Path:
        """Return the folder of a server's temporary files, which a killed one leaves."""
        return self._state.run / f"scratch-{program}"

    def _place(self, program: str) -> Endpoint:
        """Return the server's ports: those it listens on, or free ones."""
        process = self._supervisor.running(program)
        heard = {port for _, port in self._loopback.listeners(process.pid)} if process else set()
        http, grpc = (
            self._ports.keep_or_choose(
                f"{program}.{protocol}", preferred=self._settings.model_port, ours=heard
            )
            for protocol in ("http", "grpc")
        )
        return Endpoint(program, http, grpc)

    def _probe(self, endpoint: Endpoint) -> Callable[[], str | None]:
        watch = self._supervisor.watch(
            endpoint.program, lambda process: self._describe_unready(process, endpoint)
        )

        def describe_unready() -> str | None:
            reason = watch()
            return f"{endpoint.program}: {reason}" if reason else None

        return describe_unready

    def _describe_unready(self, process: SupervisedProcess, endpoint: Endpoint) -> str | None:
        answer = self._loopback.probe(f"http://{ports.LOOPBACK}:{endpoint.http}/v2/health/ready")
        if isinstance(answer, str):
            return f"process {process.pid} does not answer yet ({answer})"
        if answer.status != 200:
            return f"process {process.pid} is loading the model (status {answer.status})"
        heard = self._loopback.listeners(process.pid)
        if (ports.LOOPBACK, endpoint.http) not in heard:
            raise FatalStateError(
                f"another program answers on port {endpoint.http} instead of {endpoint.program}; "
                "apply the deployment again to move it to another port"
            )
        return None

    def _program(self, servers: ServerSet, endpoint: Endpoint, model: Path) -> Program:
        return Program(
            endpoint.program,
            (*servers.command, "--model", str(model)),
            self._state.run,
            environment={
                **servers.contract(endpoint),
                # Below its directory: the path of the state folder may have an apostrophe.
                "MLOPS_SCRATCH": self._scratch(endpoint.program).name,
            },
            final_exit_codes=_FINAL,
            stop_seconds=14,  # 10 for requests, then 3 for rows of answers that wait.
        )


def _json_for_supervisor(value: object) -> str:
    return _quotable(json.dumps(value))


def _quotable(text: str) -> str:
    """Return JSON without the characters that supervisord's format cannot quote."""
    for character in "';#":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
