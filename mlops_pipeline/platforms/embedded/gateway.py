"""The gateway layer: Envoy, which reloads the files with its routes while it serves."""

from collections.abc import Collection, Sequence
from pathlib import Path

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import FatalStateError, NotFoundError, UnavailableError
from mlops_pipeline.clients.files import PRIVATE, discard, read_or_empty, write_if_changed
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded import gateway_program
from mlops_pipeline.platforms.embedded.live_routes import PROGRAM, Kind, LiveRoutes
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.port_book import PortBook
from mlops_pipeline.platforms.embedded.records import Records
from mlops_pipeline.platforms.embedded.routing import Route
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
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


class EnvoyGateway:
    """Envoy under the supervisor: one address for every deployment."""

    name = "gateway"
    description = "Envoy, at whose address every deployment answers."
    kinds: tuple[str, ...] = ("envoy",)
    requires: tuple[str, ...] = ("supervisor",)

    def __init__(
        self,
        state: EmbeddedFolder,
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
        self.live = LiveRoutes(state, supervisor, timeout=settings.ready_timeout)
        """The clusters and routes that it serves."""

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether it routes."""
        return (
            HealthCheck(
                "routes",
                "The gateway answers at its address with the routes that were last written.",
                self._try_routes,
            ),
        )

    def _try_routes(self) -> Finding:
        state = self.observe()
        if isinstance(state, Ready):
            return Finding(passed=True, seen=f"{self.url()} answers our probe route")
        return Finding(passed=False, seen=describe(state))

    def observe(self) -> LayerState:
        """Examine the gateway: our process, on our port, with our routes."""
        process = self._supervisor.running(PROGRAM)
        if process is None:
            wanted = self._bootstrap_file.exists() and not self.is_down()
            return Broken("Envoy is not running") if wanted else Absent()
        if (damage := self._state.describe_damage()) is not None:
            return Broken(damage)
        if (reason := self._describe_unready(process)) is not None:
            return Broken(reason)
        if read_or_empty(self._bootstrap_file) != gateway_program.bootstrap(
            self._state, self._ports.find(PROGRAM) or 0
        ):
            return Drifted(("Envoy runs with another configuration",))
        try:
            stale = self.live.stale(self._records.routes())
        except UnavailableError as error:
            return Broken(str(error))
        if process.state == "unsupervised":
            stale.append(UNSUPERVISED)
        differences = (*stale, *self._damages())
        return Drifted(differences) if differences else Ready(self._facts())

    def ensure(self) -> Change:
        """Bring the gateway up with the routes of all deployments.

        Raises:
            PipelineError: it does not start, or another program answers on its port.
        """
        self._supervisor.require_ready("the gateway")
        with self._locks.held("layers", purpose="bring up the gateway"):
            state = self.observe()
            with self._locks.held("state", purpose="bring up the gateway"):
                # Also if it is ready: a lost copy does not count as damage yet.
                self._ports.repair()
                self._records.repair()
                if not isinstance(state, Ready):
                    self._repair()
            return Change(action_from(state), self._facts())

    def is_running(self) -> bool:
        """Say whether Envoy's process runs, ready or not."""
        return self._supervisor.running(PROGRAM) is not None

    def is_down(self) -> bool:
        """Say whether the platform is down on purpose, or was never up."""
        return isinstance(self._supervisor.observe(), Absent)

    def remove(self) -> None:
        """Stop the gateway. Deployments and their servers stay."""
        if not self._bootstrap_file.exists():
            return
        with self._locks.held("state", purpose="stop the gateway"):
            self._supervisor.drop([PROGRAM])
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
        port = self._ports.find(PROGRAM)
        if port is None or not self._bootstrap_file.exists():
            raise NotFoundError(
                "the gateway is missing; bring it up with `mlops-pipeline up gateway`"
            )
        return port

    def publish(self, kind: Kind, deployed: Sequence[Route]) -> bool:
        """Write Envoy's clusters or routes: `LiveRoutes.publish`."""
        return self.live.publish(kind, deployed)

    def active(self, names: Collection[str]) -> int:
        """Return how many requests these clusters are processing: `LiveRoutes.active`."""
        return self.live.active(names)

    def _repair(self) -> None:
        deployed = self._records.routes()
        self.live.write(deployed)
        self._start()
        self.live.wait(deployed)

    def _damages(self) -> tuple[str, ...]:
        """Return a sentence for each damaged file with addresses or routes."""
        ports_damage = self._ports.describe_damage()
        return (*((ports_damage,) if ports_damage else ()), *self._records.damages())

    def _start(self) -> None:
        self._put()
        try:
            self._wait()
        except FatalStateError:
            if ports.is_free(self.port()):
                raise
            # Another program took the port after it was chosen and before Envoy started.
            self._put()
            self._wait()

    def _put(self) -> None:
        port = self._ports.find(PROGRAM)
        if port is None or not (self._is_well_placed() and self.live.is_administered()):
            self._supervisor.stop([PROGRAM])
            port = self._ports.choose(PROGRAM, preferred=self._settings.gateway_port)
        bootstrap = gateway_program.bootstrap(self._state, port)
        write_if_changed(self._bootstrap_file, bootstrap, mode=PRIVATE)
        program = gateway_program.program(
            self._state, self._bootstrap_file, bootstrap, workers=self._settings.gateway_workers
        )
        self._supervisor.put(program)

    def _wait(self) -> None:
        wait_until(
            "the gateway",
            self._supervisor.watch(PROGRAM, self._describe_unready),
            timeout=self._settings.ready_timeout,
            interval=0.03,
            hint="see `mlops-pipeline logs gateway`",
        )

    def _is_well_placed(self) -> bool:
        process = self._supervisor.running(PROGRAM)
        port = self._ports.find(PROGRAM)
        return process is not None and (ports.LOOPBACK, port) in ports.listeners(process.pid)

    def _describe_unready(self, process: SupervisedProcess) -> str | None:
        port = self._ports.find(PROGRAM)
        if (ports.LOOPBACK, port) not in ports.listeners(process.pid):
            return f"Envoy (process {process.pid}) does not listen on {port}"
        return self.live.describe_other_program(port or 0)

    @property
    def _bootstrap_file(self) -> Path:
        return self._state.gateway / "bootstrap.json"

    def _facts(self) -> dict[str, str | int | float]:
        return {"address": self.url(), "deployments": len(self._records.routes())}
