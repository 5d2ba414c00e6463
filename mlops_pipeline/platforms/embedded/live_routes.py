"""The clusters and routes that Envoy serves, in files that it reloads while it serves."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from mlops_pipeline.clients import envoy, http, ports
from mlops_pipeline.clients.errors import FatalStateError, UnavailableError
from mlops_pipeline.clients.files import PRIVATE, write_if_changed
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded import envoy_config
from mlops_pipeline.platforms.embedded.envoy_clusters import clusters
from mlops_pipeline.platforms.embedded.envoy_discovery import version_of
from mlops_pipeline.platforms.embedded.gateway_counts import (
    ACTIVE_PATTERN,
    LOST_PATTERN,
    LostRequests,
    active_requests,
    lost_requests,
)
from mlops_pipeline.platforms.embedded.routing import Route
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.embedded.supervisor import Supervisor

PROGRAM = "gateway"
Kind = Literal["clusters", "routes"]
_KINDS: tuple[Kind, ...] = ("clusters", "routes")
_STATISTICS: dict[Kind, str] = {
    "clusters": "cluster_manager.cds",
    "routes": f"http.gateway.rds.{envoy_config.ROUTES}",
}


def live_folder(state: EmbeddedFolder) -> Path:
    """Return the folder from which Envoy reads clusters and routes."""
    return state.gateway / "live"


class LiveRoutes:
    """The clusters and routes that were written for Envoy, and those that it uses."""

    def __init__(self, state: EmbeddedFolder, supervisor: Supervisor, *, timeout: float) -> None:
        """`timeout` is the seconds within which Envoy must use new files."""
        self._state = state
        self._supervisor = supervisor
        self._timeout = timeout

    @property
    def admin(self) -> envoy.EnvoyAdmin:
        """Envoy's admin interface. It may not be running."""
        return envoy.EnvoyAdmin(self._state.socket("ev.sock"))

    def write(self, deployed: Sequence[Route]) -> None:
        """Write clusters and routes for an Envoy that is about to start."""
        live_folder(self._state).mkdir(parents=True, exist_ok=True, mode=0o700)
        for kind in _KINDS:
            self._write(kind, self._render(kind, deployed))

    def wait(self, deployed: Sequence[Route]) -> None:
        """Wait until Envoy uses them.

        Raises:
            FatalStateError: Envoy refuses them; the previous ones stay active.
            UnavailableError: Envoy does not answer, or not in time.
        """
        for kind in _KINDS:
            version = version_of(self._render(kind, deployed))
            self._await(kind, version, self._refusals(kind))

    def stale(self, deployed: Sequence[Route]) -> list[str]:
        """Say which files Envoy does not use yet.

        Raises:
            UnavailableError: Envoy does not answer.
        """
        wanted = {kind: version_of(self._render(kind, deployed)) for kind in _KINDS}
        reasons = (self._describe_stale(kind, version) for kind, version in wanted.items())
        return [reason for reason in reasons if reason]

    def publish(self, kind: Kind, deployed: Sequence[Route]) -> bool:
        """Write clusters or routes, wait until Envoy uses them. Return whether they are new.

        The caller holds the `state` lock.

        Raises:
            FatalStateError: Envoy refuses them; the previous ones stay active.
            UnavailableError: Envoy does not answer, or not in time.
        """
        content = self._render(kind, deployed)
        refused = self._refusals(kind)
        changed = self._write(kind, content)
        self._await(kind, version_of(content), refused)
        return changed

    def active(self, names: Collection[str]) -> int:
        """Return how many requests these clusters are processing or retrying.

        Raises:
            UnavailableError: Envoy does not answer.
        """
        return active_requests(self.admin.stats(ACTIVE_PATTERN), names)

    def lost(self, names: Collection[str]) -> dict[str, LostRequests]:
        """Return cluster → the requests it was chosen for, and those of them that it lost.

        The numbers grow from 0 when Envoy starts.

        Raises:
            UnavailableError: Envoy does not answer.
        """
        return lost_requests(self.admin.stats(LOST_PATTERN), names)

    def is_administered(self) -> bool:
        """Say whether Envoy's admin interface answers: its socket may have been removed."""
        try:
            return bool(self.admin.stats(r"^server\.live$"))
        except UnavailableError:
            return False

    def describe_other_program(self, port: int) -> str | None:
        """Name what answers on the port if it is not this Envoy with our routes."""
        answer = http.probe(f"http://{ports.LOOPBACK}:{port}{envoy_config.PROBE_PATH}")
        if isinstance(answer, str):
            return answer
        instance = answer.headers.get(envoy_config.INSTANCE_HEADER, "")
        if answer.status != 200 or instance != self._state.instance:
            return (
                f"another program answers on port {port}, not this gateway (status {answer.status})"
            )
        return None

    def _write(self, kind: Kind, content: str) -> bool:
        return write_if_changed(live_folder(self._state) / f"{kind}.json", content, mode=PRIVATE)

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
                    f"Envoy refuses the new {kind}, the previous ones stay active; its last "
                    f"lines:\n{self._supervisor.log(PROGRAM, lines=5)}"
                )
            return self._describe_stale(kind, version)

        wait_until(
            f"the gateway with new {kind}",
            describe_unready,
            timeout=self._timeout,
            interval=0.02,
            hint="see `mlops-pipeline logs gateway`",
        )

    def _describe_stale(self, kind: Kind, version: str) -> str | None:
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
