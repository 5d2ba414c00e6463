"""A layer that is one program under the supervisor: what each does, and what each declares."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import ConfigurationError, UnavailableError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.records import Records
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.embedded.supervisor import UNSUPERVISED, Supervisor
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    HealthCheck,
    LayerState,
    Ready,
    action_from,
    hindered,
)
from mlops_pipeline.platforms.sources import Sources


@dataclass(frozen=True, kw_only=True)
class LayerParts:
    """What each layer gets."""

    state: EmbeddedFolder
    settings: EmbeddedOptions
    supervisor: Supervisor
    locks: Locks
    records: Records
    """What was deployed."""
    sources: Callable[[], Sources]
    """Where files of `sources` are; each was downloaded before `ensure`."""


class SupervisedLayer(ABC):
    """One program. The platform loops over these attributes; `stack.py` has the row."""

    name: str
    """Its asset key below the platform's prefix, and the name of the program and of its log."""
    title: str
    """The program in messages: `Envoy`."""
    description: str
    """What exists when the layer is ready, in one sentence."""
    kinds: tuple[str, ...]
    """Up to three technologies, for the icons in the UI."""
    requires: tuple[str, ...] = ("supervisor",)
    """Names of the layers below it."""
    sources: tuple[str, ...] = ()
    """Names of the programs in `versions.toml` that it needs; most come with the package."""
    version: tuple[str, ...] = ()
    """The command of this Python environment that prints its version: `("envoy", "--version")`."""

    def __init__(self, parts: LayerParts) -> None:
        """Nothing is contacted."""
        self._parts = parts
        self._state = parts.state
        self._settings = parts.settings
        self._supervisor = parts.supervisor

    @classmethod
    def is_wanted(cls, settings: EmbeddedOptions) -> bool:
        """Say whether the settings enable the layer."""
        return True

    @property
    def preferred_port(self) -> int:
        """Its address's port, unless another program has that; 0 means no preference."""
        return 0

    @property
    def called(self) -> str:
        """The layer in sentences: `the object store`."""
        return f"the {self.name.replace('_', ' ')}"

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Checks after each materialization; they block the layers that require this one."""
        return ()

    @abstractmethod
    def is_configured(self) -> bool:
        """Say whether it was brought up and not removed since."""

    @abstractmethod
    def program(self) -> Program:
        """Return what to run. It may choose ports: the caller holds the `state` lock."""

    @abstractmethod
    def describe_unready(self, process: SupervisedProcess) -> str | None:
        """Say why the process does not do its work; None if it does."""

    @abstractmethod
    def facts(self) -> dict[str, str | int | float]:
        """Return what people want to know of it: its `address`."""

    def differences(self) -> tuple[str, ...]:
        """Say in which ways a program that works differs from the settings."""
        return ()

    def obstacle(self) -> str:
        """Say what keeps `ensure` from making it ready, and what to do; empty if nothing does."""
        return ""

    def prepare(self) -> None:  # noqa: B027  # Most layers need nothing here.
        """Repair its files, before the program is started; also if it is ready."""

    def finish(self, state: LayerState) -> LayerState:
        """Do what needs the running program; `state` is what was found before.

        Return that state, or a worse one if something more had to be repaired.
        """
        return state

    def forget(self) -> None:  # noqa: B027  # Most layers need nothing here.
        """Delete what `is_configured` sees; the program has ended. Data stays."""

    def tidy(self) -> None:  # noqa: B027  # Most layers need nothing here.
        """Remove what the program leaves outside the state folder; nothing runs any more."""

    def observe(self) -> LayerState:
        """Examine our own process on its own port. Changes nothing."""
        return hindered(self.look(), self.obstacle())

    def look(self) -> LayerState:
        """Return the state apart from obstacles."""
        process = self._supervisor.running(self.name)
        if process is None:
            wanted = self.is_configured() and not self.is_down()
            return Broken(f"{self.title} is not running") if wanted else Absent()
        if (reason := self.describe_unready(process)) is not None:
            return Broken(reason)
        try:
            differences = self.differences()
        except UnavailableError as error:
            return Broken(str(error))
        if process.state == "unsupervised":
            differences = (UNSUPERVISED, *differences)
        return Drifted(differences) if differences else Ready(self.facts())

    def ensure(self) -> Change:
        """Bring the program up.

        Raises:
            PipelineError: it does not start, or another program answers on its port.
            ConfigurationError: it runs, but there is an obstacle.
        """
        self._supervisor.require_ready(self.called)
        with self._parts.locks.held("layers", purpose=f"bring up {self.called}"):
            state = self.look()
            self.prepare()
            if not isinstance(state, Ready):
                self.start()
            if obstacle := self.obstacle():
                raise ConfigurationError(f"{self.called} runs, but is not ready: {obstacle}")
            state = self.finish(state)
            return Change(action_from(state), self.facts())

    def remove(self) -> None:
        """Stop the program. Its data in the state folder stays."""
        if self.is_configured():
            with self._parts.locks.held("state", purpose=f"stop {self.called}"):
                self._supervisor.drop([self.name])
                self.forget()

    def is_down(self) -> bool:
        """Say whether the platform is down on purpose, or was never up."""
        return isinstance(self._supervisor.observe(), Absent)

    def start(self) -> None:
        """Run the program, and return when it is ready."""
        with self._parts.locks.held("state", purpose=f"start {self.called}"):
            self._supervisor.put(self.program())
        self.wait()

    def wait(
        self, what: str = "", probe: Callable[[SupervisedProcess], str | None] | None = None
    ) -> None:
        """Return when the program is ready, or when `probe` finds nothing more to wait for."""
        wait_until(
            what or self.called,
            self._supervisor.watch(self.name, probe or self.describe_unready),
            timeout=self._settings.ready_timeout,
            interval=0.03,
            hint=f"see `mlops-pipeline logs {self.name}`",
        )

    def describe_listening(
        self,
        process: SupervisedProcess,
        port: int | None,
        *,
        heard: set[tuple[str, int]] | None = None,
    ) -> str | None:
        """Say on which ports the process listens if `port` is not among them.

        `heard` are its (address, port), if they are known.
        """
        heard = ports.listeners(process.pid) if heard is None else heard
        if (ports.LOOPBACK, port) in heard:
            return None
        others = ", ".join(str(p) for _, p in sorted(heard)) or "nothing"
        return f"{self.title} (process {process.pid}) does not listen on {port} but on {others}"
