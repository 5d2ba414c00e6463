"""The gateway layer: Envoy, which reloads the files with its routes while it serves."""

from collections.abc import Collection, Sequence
from pathlib import Path

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import FatalStateError, NotFoundError
from mlops_pipeline.clients.files import PRIVATE, discard, read_or_empty, write_if_changed
from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.platforms.embedded import gateway_program
from mlops_pipeline.platforms.embedded.gateway_counts import LostRequests
from mlops_pipeline.platforms.embedded.live_routes import PROGRAM, Kind, LiveRoutes
from mlops_pipeline.platforms.embedded.port_book import PortBook
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.routing import Route
from mlops_pipeline.platforms.embedded.supervised import LayerParts, SupervisedLayer
from mlops_pipeline.platforms.layers import (
    Broken,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
    describe,
)


class EnvoyGateway(SupervisedLayer):
    """Envoy under the supervisor: one address for every deployment."""

    name = PROGRAM
    title = "Envoy"
    description = "Envoy, at whose address every deployment answers."
    kinds = ("envoy",)
    version = ("envoy", "--version")

    def __init__(self, parts: LayerParts) -> None:
        super().__init__(parts)
        self._records = parts.records
        self._ports = PortBook(self._state.ports)
        self.live = LiveRoutes(self._state, self._supervisor, timeout=self._settings.ready_timeout)
        """The clusters and routes that it serves."""

    @property
    def preferred_port(self) -> int:
        """The port that the settings prefer."""
        return self._settings.gateway_port

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

    def is_configured(self) -> bool:
        """Say whether it was ever given a port."""
        return self._bootstrap_file.exists()

    def look(self) -> LayerState:
        """Examine the gateway: our process, on our port, with our routes."""
        damage = self._state.describe_damage()
        return Broken(damage) if damage and self.is_running() else super().look()

    def differences(self) -> tuple[str, ...]:
        """Say which of its files Envoy does not use, and which are damaged."""
        if read_or_empty(self._bootstrap_file) != self._bootstrap(self._ports.find(PROGRAM) or 0):
            return ("Envoy runs with another configuration",)
        ports_damage = self._ports.describe_damage()
        stale = self.live.stale(self._records.routes())
        return (*stale, *filter(None, [ports_damage]), *self._records.damages())

    def prepare(self) -> None:
        """Repair the records of ports and deployments: a lost copy does not count as damage yet."""
        with self._parts.locks.held("state", purpose="repair the records"):
            self._ports.repair()
            self._records.repair()

    def start(self) -> None:
        """Run Envoy with the routes of all deployments."""
        with self._parts.locks.held("state", purpose="start the gateway"):
            deployed = self._records.routes()
            self.live.write(deployed)
            self._put_and_wait()
            self.live.wait(deployed)

    def is_running(self) -> bool:
        """Say whether Envoy's process runs, ready or not."""
        return self._supervisor.running(PROGRAM) is not None

    def forget(self) -> None:
        """Delete its configuration."""
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

    def lost(self, names: Collection[str]) -> dict[str, LostRequests]:
        """Return cluster → its requests and those that it lost: `LiveRoutes.lost`."""
        return self.live.lost(names)

    def _put_and_wait(self) -> None:
        self._supervisor.put(self.program())
        try:
            self.wait()
        except FatalStateError:
            if ports.is_free(self.port()):
                raise
            # Another program took the port after it was chosen and before Envoy started.
            self._supervisor.put(self.program())
            self.wait()

    def program(self) -> Program:
        """Return Envoy on the port that it has, or on another one if it is not well there."""
        port = self._ports.find(PROGRAM)
        if port is None or not (self._is_well_placed() and self.live.is_administered()):
            self._supervisor.stop([PROGRAM])
            port = self._ports.choose(PROGRAM, preferred=self.preferred_port)
        bootstrap = self._bootstrap(port)
        write_if_changed(self._bootstrap_file, bootstrap, mode=PRIVATE)
        return gateway_program.program(
            self._state, self._bootstrap_file, bootstrap, workers=self._settings.gateway_workers
        )

    def _is_well_placed(self) -> bool:
        process = self._supervisor.running(PROGRAM)
        port = self._ports.find(PROGRAM)
        return process is not None and (ports.LOOPBACK, port) in ports.listeners(process.pid)

    def describe_unready(self, process: SupervisedProcess) -> str | None:
        """Say that it does not listen, or that another program answers on its port."""
        port = self._ports.find(PROGRAM)
        deaf = self.describe_listening(process, port)
        return deaf or self.live.describe_other_program(port or 0)

    def facts(self) -> dict[str, str | int | float]:
        """Return its address, and the number of deployments behind it."""
        return {"address": self.url(), "deployments": len(self._records.routes())}

    def _bootstrap(self, port: int) -> str:
        return gateway_program.bootstrap(self._state, port)

    @property
    def _bootstrap_file(self) -> Path:
        return self._state.gateway / "bootstrap.json"
