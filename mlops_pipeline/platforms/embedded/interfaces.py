"""What deployments and their servers ask of the platform below them; the tests have fakes."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.platforms.embedded.gateway_counts import LostRequests
from mlops_pipeline.platforms.embedded.live_routes import Kind
from mlops_pipeline.platforms.embedded.program_files import ProgramFiles
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.routing import Route
from mlops_pipeline.platforms.layers import LayerState


class ProgramSupervisor(Protocol):
    """What model servers ask of the supervisor. See `Supervisor` for what each method raises."""

    @property
    def files(self) -> ProgramFiles:
        """What should run."""

    def put(self, program: Program) -> bool:
        """Run `program`; say whether anything was done for it."""

    def drop(self, names: Collection[str]) -> None:
        """Stop programs and forget them."""

    def names(self) -> set[str]:
        """Return the names of the programs that run or should."""

    def running(self, name: str) -> SupervisedProcess | None:
        """Return the program's process if it runs now, supervised or not. Raises nothing."""

    def pid(self, name: str) -> int | None:
        """Return the program's process if it runs now, without asking supervisord. Quick."""

    def watch(
        self, name: str, probe: Callable[[SupervisedProcess], str | None]
    ) -> Callable[[], str | None]:
        """Return a probe for `wait_until` that ends the wait when the program dies."""

    def require_whole(self, what: str) -> None:
        """Refuse to do `what` while programs run that the supervisor cannot stop."""

    def log(self, name: str, *, lines: int) -> str:
        """Return the last lines of a program's log; empty if it has none."""


class Gateway(Protocol):
    """What deployments ask of the gateway. See `EnvoyGateway` for what each method raises."""

    def observe(self) -> LayerState:
        """Look at the gateway as it is now."""

    def is_running(self) -> bool:
        """Say whether its process runs, ready or not."""

    def is_down(self) -> bool:
        """Say whether nothing of the platform runs: it was never up, or is down on purpose."""

    def url(self) -> str:
        """Return `http://host:port`, without a slash at the end."""

    def publish(self, kind: Kind, deployed: Sequence[Route]) -> bool:
        """Use these clusters or routes, return once they are active, and say if they are new."""

    def active(self, names: Collection[str]) -> int:
        """Return how many requests these clusters are working on or retrying."""

    def lost(self, names: Collection[str]) -> dict[str, LostRequests]:
        """Return cluster → the requests it was chosen for, and those of them that it lost."""


class Secrets(Protocol):
    """What deployments ask of the object store's layer."""

    def write_secret(self, namespace: str) -> None:
        """Write the Secret that servers in `namespace` read artifacts with."""
