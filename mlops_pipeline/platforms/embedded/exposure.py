"""Requests move from the servers of one record to those of another, or back, and none is lost."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops_pipeline.clients.errors import PipelineError, WaitTimeoutError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.waiting import MONOTONIC, Clock, wait_until
from mlops_pipeline.platforms.embedded.interfaces import Gateway, Secrets
from mlops_pipeline.platforms.embedded.models import ModelFolders
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.records import Record, Records
from mlops_pipeline.platforms.embedded.routing import Route, cluster_names
from mlops_pipeline.platforms.embedded.servers import Servers
from mlops_pipeline.platforms.platform import Proof
from mlops_pipeline.platforms.seldon import SeldonDeployment

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedParts:
    """What deployments are made with."""

    settings: EmbeddedOptions
    locks: Locks
    records: Records
    servers: Servers
    models: ModelFolders
    gateway: Gateway
    object_store: Secrets
    fingerprint: Callable[[], str]
    trust: Callable[[], str] = lambda: ""
    """Write which signatures count, and return the file; empty: the servers verify none."""
    spool: Path = Path()
    """Where servers that record answers write them."""
    clock: Clock = MONOTONIC


class Exposure:
    """Which servers of a deployment get requests. The caller holds the deployment's lock."""

    def __init__(self, parts: EmbeddedParts) -> None:
        self._parts = parts

    def prove_alone(self, before: Record | None, after: Record, proof: Proof) -> None:
        """Ask each server of a version that is not deployed yet.

        Its own port answers like the gateway. A version that is scaled was proved before.
        """
        known = {_version(program) for program in (before.programs if before else ())}
        for predictor, target in zip(
            after.deployment.spec.predictors, after.route.targets, strict=True
        ):
            for endpoint in target.endpoints:
                if _version(endpoint.program) not in known:
                    proof.alone(predictor, self._parts.servers.predictions(endpoint))

    @contextmanager
    def undoing(self, before: Record | None, deployment: SeldonDeployment) -> Iterator[None]:
        """Put routes and record back, and stop what was started, if it does not come to serve.

        Its artifact is dropped too: it may have been damaged on this machine. Whatever of this
        fails is logged, and left to the next apply.
        """
        name, namespace = deployment.name, deployment.namespace
        running = self._parts.servers.programs(name, namespace=namespace)
        try:
            yield
        except BaseException:
            try:
                self._undo(before, running, name, namespace)
            except PipelineError:
                _log.exception("could not undo the changes of %s/%s", namespace, name)
            raise

    def _undo(
        self, before: Record | None, running: Collection[str], name: str, namespace: str
    ) -> None:
        parts = self._parts
        tried = parts.records.find(name, namespace=namespace)
        if tried != before:
            self._put_back(before, name, namespace)
            self._drain(_clusters(tried) - _clusters(before))
        with parts.locks.held("state", purpose=f"clean up after {name}"):
            if parts.gateway.is_running():
                try:
                    parts.gateway.publish("clusters", parts.records.routes())
                except PipelineError as error:  # No route leads to them any more.
                    _log.warning("%s", error)
            # Without a record, nobody knows which of the older programs serve.
            known = before.programs if before is not None else set(running)
            parts.servers.stop(parts.servers.programs(name, namespace=namespace) - known)
            self._discard()

    def _put_back(self, before: Record | None, name: str, namespace: str) -> None:
        """Make the record, and then the routes, what they were."""
        parts = self._parts
        with parts.locks.held("state", purpose=f"undo {name}"):
            if before is None:
                parts.records.remove(name, namespace=namespace)
            else:
                parts.records.save(before)
            parts.gateway.publish("routes", parts.records.routes())

    def switch(self, before: Record | None, after: Record) -> bool:
        """Route to the new servers; say whether that changed anything."""
        parts = self._parts
        with parts.locks.held("state", purpose=f"route {after.deployment.name}"):
            others = _others(parts.records.routes(), after.route)
            old = [before.route] if before else []
            if before is not None:
                # A command may have been killed between its record and its routes.
                parts.gateway.publish("routes", [before.route, *others])
            parts.gateway.publish("clusters", [after.route, *old, *others])
            name, namespace = after.deployment.name, after.deployment.namespace
            if before != after or parts.records.describe_damage(name, namespace=namespace):
                parts.records.save(after)
            return parts.gateway.publish("routes", [after.route, *others])

    def retire(
        self, name: str, namespace: str, before: Record | None, after: Record | None
    ) -> None:
        """Drain and stop what `before`, or a command that was killed, had and `after` has not."""
        parts = self._parts
        self._drain(_clusters(before) - _clusters(after))
        running = parts.servers.programs(name, namespace=namespace)
        with parts.locks.held("state", purpose=f"retire {name}"):
            if parts.gateway.is_running():
                parts.gateway.publish("clusters", parts.records.routes())
            parts.servers.stop(running - (after.programs if after else set()))
            self._discard()

    def _drain(self, clusters: Collection[str]) -> None:
        """Wait until no request is left in these clusters, but not for ever."""
        if not clusters or not self._parts.gateway.is_running():
            return
        try:
            wait_until(
                "the last requests to replaced servers",
                lambda: f"{n} requests" if (n := self._parts.gateway.active(clusters)) else None,
                timeout=self._parts.settings.drain_timeout,
                clock=self._parts.clock,
                interval=0.05,
            )
        except WaitTimeoutError as error:
            _log.warning("%s; stopping these servers anyway", error)

    def _discard(self) -> None:
        """Remove the artifacts that no server uses. The caller holds the `state` lock."""
        models, servers = self._parts.models, self._parts.servers
        for folder in models.all():
            if not servers.uses(folder):
                models.discard(folder)


def _clusters(record: Record | None) -> set[str]:
    return cluster_names([record.route] if record else [])


def _version(program: str) -> str:
    """Return the name of a program without the number of its replica."""
    return program.rpartition(".")[0]


def _others(routes: Sequence[Route], route: Route) -> list[Route]:
    return [r for r in routes if (r.namespace, r.name) != (route.namespace, route.name)]
