"""The gateway layer: Envoy, whose routes are files that are replaced while it serves."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from mlops_pipeline.clients import envoy, ports
from mlops_pipeline.clients.errors import FatalStateError, NotFoundError, UnavailableError
from mlops_pipeline.clients.files import PRIVATE, discard, read_or_empty, write_if_changed
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded import envoy_config
from mlops_pipeline.platforms.embedded.envoy_clusters import clusters
from mlops_pipeline.platforms.embedded.envoy_discovery import version_of
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.port_book import PortBook
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.records import Records
from mlops_pipeline.platforms.embedded.routing import Route
from mlops_pipeline.platforms.embedded.state import State
from mlops_pipeline.platforms.embedded.supervisor import UNSUPERVISED, Supervisor
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
    action_from,
    describe,
)

_PROGRAM = "gateway"
Kind = Literal["clusters", "routes"]
_KINDS: tuple[Kind, ...] = ("clusters", "routes")
_STATISTICS: dict[Kind, str] = {
    "clusters": "cluster_manager.cds",
    "routes": f"http.gateway.rds.{envoy_config.ROUTES}",
}


class EnvoyGateway:
    """Envoy under the supervisor: one address for every deployment."""

    name = "gateway"
    description = "Envoy, the one address behind which every deployment answers."
    kinds: tuple[str, ...] = ("envoy",)
    requires: tuple[str, ...] = ("supervisor",)

    def __init__(
        self,
        state: State,
        settings: EmbeddedOptions,
        supervisor: Supervisor,
        locks: Locks,
        records: Records,
    ) -> None:
        self._state = state
        self._settings = settings
        self._supervisor = supervisor
        self._locks = locks
        self._records = records
        self._ports = PortBook(state.ports)

    @property
    def admin(self) -> envoy.EnvoyAdmin:
        """Envoy's admin interface; nothing may be listening."""
        return envoy.EnvoyAdmin(self._state.socket("ev.sock"))

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """That it routes."""
        return (
            HealthCheck(
                "routes",
                "The gateway answers on its address with the routes that were last written.",
                self._try_routes,
            ),
        )

    def _try_routes(self) -> Finding:
        state = self.observe()
        if isinstance(state, Ready):
            return Finding(passed=True, seen=f"{self.url()} answers our probe route")
        return Finding(passed=False, seen=describe(state))

    def observe(self) -> LayerState:
        """Look at the gateway as it is now: our process, on our port, with our routes."""
        process = self._supervisor.running(_PROGRAM)
        if process is None:
            wanted = self._bootstrap_file.exists() and not self.is_down()
            return Broken("Envoy is not running") if wanted else Absent()
        if (damage := self._state.describe_damage()) is not None:
            return Broken(damage)
        if (reason := self._describe_unready(process)) is not None:
            return Broken(reason)
        if read_or_empty(self._bootstrap_file) != self._bootstrap(self._ports.find(_PROGRAM) or 0):
            return Drifted(("Envoy runs with another configuration",))
        try:
            stale = [self._describe_stale(kind, self._wanted(kind)) for kind in _KINDS]
        except UnavailableError as error:
            return Broken(str(error))
        if process.state == "unsupervised":
            stale.append(UNSUPERVISED)
        differences = (*(reason for reason in stale if reason), *self._damages())
        return Drifted(differences) if differences else Ready(self._facts())

    def ensure(self) -> Change:
        """Bring the gateway up with the routes of everything that is deployed.

        Raises:
            PipelineError: it does not start, or what answers on its port is not ours.
        """
        self._supervisor.require_ready("the gateway")
        with self._locks.held("layers", purpose="bring up the gateway"):
            state = self.observe()
            with self._locks.held("state", purpose="bring up the gateway"):
                # Also where it is ready: a copy that is lost is no damage yet.
                self._ports.mend()
                self._records.mend()
                if not isinstance(state, Ready):
                    self._repair()
            return Change(action_from(state), self._facts())

    def is_running(self) -> bool:
        """Say whether Envoy's process runs, ready or not."""
        return self._supervisor.running(_PROGRAM) is not None

    def is_down(self) -> bool:
        """Say whether nothing of the platform runs: it was never up, or is down on purpose."""
        return isinstance(self._supervisor.observe(), Absent)

    def remove(self) -> None:
        """Stop the gateway. Deployments and their servers stay."""
        if not self._bootstrap_file.exists():
            return
        with self._locks.held("state", purpose="stop the gateway"):
            self._supervisor.drop([_PROGRAM])
            discard(self._bootstrap_file)

    def url(self) -> str:
        """Return `http://127.0.0.1:<port>`.

        Raises:
            NotFoundError: the layer is absent.
        """
        return f"http://{ports.LOOPBACK}:{self.port()}"

    def port(self) -> int:
        """Return the gateway's port.

        Raises:
            NotFoundError: the layer is absent.
        """
        port = self._ports.find(_PROGRAM)
        if port is None or not self._bootstrap_file.exists():
            raise NotFoundError(
                "the gateway is not there; bring it up with `mlops-pipeline up gateway`"
            )
        return port

    def publish(self, kind: Kind, deployed: Sequence[Route]) -> bool:
        """Give Envoy its clusters or routes, and return once it uses them; say if they are new.

        The caller holds the `state` lock.

        Raises:
            FatalStateError: Envoy refuses them; those before stay.
            UnavailableError: Envoy does not answer, or not in time.
        """
        content = self._render(kind, deployed)
        refused = self._refusals(kind)
        changed = write_if_changed(self._live / f"{kind}.json", content, mode=PRIVATE)
        self._await(kind, version_of(content), refused)
        return changed

    def active(self, names: Collection[str]) -> int:
        """Return how many requests these clusters are working on.

        Raises:
            UnavailableError: Envoy does not answer.
        """
        found = self.admin.stats(r"^cluster\..*\.upstream_rq_active$")
        wanted = {f"cluster.{name}.upstream_rq_active" for name in names}
        return sum(int(value) for name, value in found.items() if name in wanted)

    def _repair(self) -> None:
        self._live.mkdir(parents=True, exist_ok=True, mode=0o700)
        wanted = {kind: self._wanted(kind) for kind in _KINDS}
        for kind, content in wanted.items():
            write_if_changed(self._live / f"{kind}.json", content, mode=PRIVATE)
        self._start()
        for kind, content in wanted.items():
            self._await(kind, version_of(content), self._refusals(kind))

    def _damages(self) -> tuple[str, ...]:
        """Return a sentence for each damaged file that addresses and routes are read from."""
        ports_damage = self._ports.describe_damage()
        return (*((ports_damage,) if ports_damage else ()), *self._records.damages())

    def _start(self) -> None:
        self._put()
        try:
            self._wait()
        except FatalStateError:
            if ports.is_free(self.port()):
                raise
            # Somebody took the port between the choice and Envoy's start.
            self._put()
            self._wait()

    def _put(self) -> None:
        port = self._ports.find(_PROGRAM)
        if port is None or not (self._is_well_placed() and self._is_administered()):
            self._supervisor.stop([_PROGRAM])
            port = self._ports.choose(_PROGRAM, preferred=self._settings.gateway_port)
        bootstrap = self._bootstrap(port)
        write_if_changed(self._bootstrap_file, bootstrap, mode=PRIVATE)
        self._supervisor.put(self._program(bootstrap))

    def _wait(self) -> None:
        wait_until(
            "the gateway",
            self._supervisor.watch(_PROGRAM, self._describe_unready),
            timeout=self._settings.ready_timeout,
            interval=0.03,
            hint="see `mlops-pipeline logs gateway`",
        )

    def _is_well_placed(self) -> bool:
        process = self._supervisor.running(_PROGRAM)
        port = self._ports.find(_PROGRAM)
        return process is not None and (ports.LOOPBACK, port) in ports.listeners(process.pid)

    def _is_administered(self) -> bool:
        """Say whether Envoy tells what it uses: the socket for that may have been removed."""
        try:
            return bool(self.admin.stats(r"^server\.live$"))
        except UnavailableError:
            return False

    def _program(self, bootstrap: str) -> Program:
        command = (
            str(envoy.binary()),
            *("--config-path", str(self._bootstrap_file)),
            *("--concurrency", str(self._settings.gateway_workers)),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        )
        # Envoy reads it once: another one makes another program, which is started again.
        fingerprint = hashlib.sha256(bootstrap.encode()).hexdigest()[:16]
        environment = {"BOOTSTRAP_FINGERPRINT": fingerprint}
        return Program(
            _PROGRAM, command, self._state.gateway, environment=environment, stop_seconds=5
        )

    def _bootstrap(self, port: int) -> str:
        return envoy_config.bootstrap(
            port=port, admin=self._state.socket("ev.sock"), live=self._live
        )

    def _describe_unready(self, process: SupervisedProcess) -> str | None:
        port = self._ports.find(_PROGRAM)
        if (ports.LOOPBACK, port) not in ports.listeners(process.pid):
            return f"Envoy (process {process.pid}) does not listen on {port}"
        answer = envoy.probe(f"http://{ports.LOOPBACK}:{port}{envoy_config.PROBE_PATH}")
        if isinstance(answer, str):
            return answer
        instance = answer.headers.get(envoy_config.INSTANCE_HEADER, "")
        if answer.status != 200 or instance != self._state.instance:
            return f"what answers on port {port} is not this gateway (status {answer.status})"
        return None

    def _wanted(self, kind: Kind) -> str:
        return self._render(kind, self._records.routes())

    def _render(self, kind: Kind, deployed: Sequence[Route]) -> str:
        if kind == "clusters":
            return clusters(deployed)
        return envoy_config.routes(deployed, instance=self._state.instance)

    def _refusals(self, kind: Kind) -> int:
        stats = self.admin.stats(rf"^{_STATISTICS[kind]}\.update_rejected$")
        return sum(map(int, stats.values()))

    def _await(self, kind: Kind, version: str, refused: int) -> None:
        def describe_unready() -> str | None:
            if self._refusals(kind) > refused:
                raise FatalStateError(
                    f"Envoy refuses the new {kind}, the ones before stay; "
                    f"its last lines:\n{self._supervisor.log(_PROGRAM, lines=5)}"
                )
            return self._describe_stale_version(kind, version)

        wait_until(
            f"the gateway with new {kind}",
            describe_unready,
            timeout=self._settings.ready_timeout,
            interval=0.02,
            hint="see `mlops-pipeline logs gateway`",
        )

    def _describe_stale(self, kind: Kind, content: str) -> str | None:
        return self._describe_stale_version(kind, version_of(content))

    def _describe_stale_version(self, kind: Kind, version: str) -> str | None:
        """Say why Envoy does not use `version` yet: another is active, or clusters warm up."""
        prefix = _STATISTICS[kind]
        stats = self.admin.stats(rf"^({prefix}\.version_text|cluster_manager\.warming_clusters)$")
        if (active := stats.get(f"{prefix}.version_text", "")) != version:
            return f"its {kind} have version {active or 'none'} instead of {version}"
        warming = int(stats.get("cluster_manager.warming_clusters", "0"))
        return (
            f"{warming} clusters are being health-checked"
            if kind == "clusters" and warming
            else None
        )

    @property
    def _live(self) -> Path:
        return self._state.gateway / "live"

    @property
    def _bootstrap_file(self) -> Path:
        return self._state.gateway / "bootstrap.json"

    def _facts(self) -> dict[str, str | int | float]:
        return {"address": self.url(), "deployments": len(self._records.routes())}
