"""SeldonDeployments on the embedded platform: servers, routes, and the order that drops nothing."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from mlops_pipeline.clients.errors import (
    FatalStateError,
    UnavailableError,
    UnknownNameError,
)
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.platforms.answers import recording_of
from mlops_pipeline.platforms.embedded import asking
from mlops_pipeline.platforms.embedded.exposure import EmbeddedParts, Exposure
from mlops_pipeline.platforms.embedded.records import Record
from mlops_pipeline.platforms.embedded.routing import (
    Endpoint,
    Route,
    Target,
)
from mlops_pipeline.platforms.embedded.servers import ServerSet
from mlops_pipeline.platforms.embedded.statuses import statuses
from mlops_pipeline.platforms.layers import Change, Drifted, Ready, describe
from mlops_pipeline.platforms.platform import (
    Expected,
    PredictorCounts,
    PredictorStatus,
    Proof,
)
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment
from mlops_pipeline.platforms.store_access import SECRET

_RUNTIME = (sys.executable, "-m", "mlops_pipeline.serving", "serve")
_Placed = list[tuple[Endpoint, ...]]
"""Where the servers of each predictor are."""
_log = logging.getLogger(__name__)


class EmbeddedDeployments:
    """Deployments whose servers are processes and whose routes are Envoy's.

    An apply goes through six steps, and can be killed after each: servers started beside those
    that serve; each of them proved alone; their clusters known to Envoy; the record written; the
    routes switched; the servers that no record names drained and stopped. The next apply goes
    through all of them again and finds what is there.
    """

    def __init__(self, parts: EmbeddedParts) -> None:
        self._parts = parts
        self._exposure = Exposure(parts)

    def apply(
        self,
        deployment: SeldonDeployment,
        *,
        proof: Proof | None = None,
        expected: Expected | None = None,
    ) -> Change:
        """Make the deployment true: servers started, routes switched without a dropped request.

        Raises:
            ConflictError: it is not what was expected; nothing was changed.
            NotFoundError: a secret, bucket or artifact does not exist; nothing was changed.
            FatalStateError: a server has ended; the version before keeps all traffic.
            UnavailableError: a server was not ready in time; likewise.
        """
        self._require_gateway()
        with self._lock(deployment.name, deployment.namespace, "apply"):
            before = self._parts.records.find(deployment.name, namespace=deployment.namespace)
            if expected is not None:
                name = f"{deployment.namespace}/{deployment.name}"
                expected.require(before.deployment if before else None, name=name)
            sets = self._server_sets(deployment, before)
            self._fetch(sets)
            with self._exposure.undoing(before, deployment):
                placed, started = self._start(sets)
                after = Record(deployment, _route(deployment, sets, placed))
                if proof is not None:
                    self._exposure.prove_alone(before, after, proof)
                routed = self._exposure.switch(before, after)
                if proof is not None:
                    proof.exposed()
            self._exposure.retire(deployment.name, deployment.namespace, before, after)
            return Change(_action(before, after, moved=started or routed), self._facts(after))

    def annotate(self, name: str, annotations: Mapping[str, str], *, namespace: str) -> None:
        """Set annotations of a deployment's metadata; its servers and routes stay as they are."""
        parts = self._parts
        if parts.records.find(name, namespace=namespace) is None:
            return
        with (
            self._lock(name, namespace, "annotate"),
            parts.locks.held("state", purpose=f"annotate {name}"),
        ):
            record = parts.records.find(name, namespace=namespace)
            if record is not None:
                deployment = record.deployment.annotated(annotations)
                parts.records.save(replace(record, deployment=deployment))

    def find(self, name: str, *, namespace: str) -> SeldonDeployment | None:
        """Return the deployment as last applied, or None."""
        record = self._parts.records.find(name, namespace=namespace)
        return record.deployment if record else None

    def list(self) -> Sequence[SeldonDeployment]:
        """Return every deployment as last applied, sorted by namespace and name."""
        return [record.deployment for record in self._parts.records.list()]

    def damages(self) -> Sequence[str]:
        """Return a sentence for each record that is damaged: `list` may be without it."""
        return self._parts.records.damages()

    def delete(self, name: str, *, namespace: str) -> None:
        """Stop routing to it, drain, and stop its servers; finish a deletion that was killed.

        Raises:
            UnknownNameError: there is no such deployment.
            UnavailableError: supervisord or Envoy does not answer.
        """
        parts = self._parts
        self._require_known(name, namespace)  # The lock makes a state folder where there is none.
        with self._lock(name, namespace, "delete"):
            self._require_known(name, namespace)
            before = parts.records.find(name, namespace=namespace)
            parts.servers.require_stoppable(f"deleting {name}")
            with parts.locks.held("state", purpose=f"delete {name}"):
                parts.records.remove(name, namespace=namespace)
                if parts.gateway.is_running():
                    parts.gateway.publish("routes", parts.records.routes())
            self._exposure.retire(name, namespace, before, None)

    def status(self, name: str, *, namespace: str) -> tuple[PredictorStatus, ...]:
        """Look at each predictor as it is now. Empty when there is no such deployment."""
        record = self._parts.records.find(name, namespace=namespace)
        if record is None:
            return ()
        return statuses(record.route, self._parts.servers, down=self._parts.gateway.is_down())

    def counts(self, name: str, *, namespace: str) -> tuple[PredictorCounts, ...]:
        """Ask each server what it has counted. Empty when there is no such deployment.

        Raises:
            UnavailableError: the metrics of a server are damaged or too large.
        """
        record = self._parts.records.find(name, namespace=namespace)
        if record is None:
            return ()
        return asking.counts(
            record.route, self._parts.servers, lost=asking.lost(record.route, self._parts.gateway)
        )

    def servers(self, name: str, *, namespace: str) -> Mapping[str, tuple[Predictions, ...]]:
        """Return predictor → its ready servers. Empty when there is no such deployment."""
        record = self._parts.records.find(name, namespace=namespace)
        return asking.ready(record.route, self._parts.servers) if record else {}

    def describe_absence(self, name: str, *, namespace: str) -> str:
        """Say that it is not deployed, or that its record is damaged."""
        damage = self._parts.records.describe_damage(name, namespace=namespace)
        return damage or "not deployed"

    def describe_conflict(self, name: str, *, namespace: str) -> str:
        """Return nothing: every deployment here is this project's."""
        return ""

    def describe_difference(self, wanted: SeldonDeployment) -> str:
        """Return nothing: here a deployment is all in its manifest."""
        return ""

    def logs(self, name: str, *, namespace: str, lines: int) -> str:
        """Return the last lines of each server of a deployment, under the server's name."""
        servers = self._parts.servers
        programs = sorted(servers.programs(name, namespace=namespace))
        return "\n".join(f"==> {p} <==\n{servers.log(p, lines=lines)}" for p in programs)

    def _server_sets(
        self, deployment: SeldonDeployment, before: Record | None
    ) -> tuple[ServerSet, ...]:
        """Return the servers of each predictor.

        Where other predictors, names or shares are asked for than before, those that serve what is
        asked for again stay as they are: only the same deployment, applied again, replaces servers
        that an earlier version of this package, or other settings, started.
        """
        standing = _standing(before, deployment)
        fingerprint, trust = self._parts.fingerprint(), self._parts.trust()
        answers = self._parts.settings.answers
        return tuple(
            ServerSet(
                namespace=deployment.namespace,
                deployment=deployment.name,
                predictor=predictor,
                replicas=deployment.replicas(predictor),
                command=self._parts.settings.server_command or _RUNTIME,
                environment=fingerprint,
                max_body_bytes=self._parts.settings.max_body_bytes,
                version=version("mlops-pipeline"),
                trust=trust,
                recording=recording_of(
                    answers,
                    predictor.annotations,
                    namespace=deployment.namespace,
                    folder=self._parts.spool,
                ),
                standing=self._if_ready(standing.get(predictor.name)),
            )
            for predictor in deployment.spec.predictors
        )

    def _if_ready(self, target: Target | None) -> Target | None:
        """Return a target if each of its servers is ready; others are started anew."""
        if target is None:
            return None
        try:
            unready = filter(None, map(self._parts.servers.describe_unready, target.endpoints))
            return None if next(unready, None) else target
        except FatalStateError:  # Another program answers on the port of one.
            return None

    def _fetch(self, sets: Sequence[ServerSet]) -> None:
        """Download what the servers will load, as the init container of a pod does."""
        for servers in sets:
            if servers.standing is None:
                self._fetch_one(servers)

    def _fetch_one(self, servers: ServerSet) -> Path:
        secret = servers.predictor.graph.env_secret_ref_name or SECRET
        if secret == SECRET:
            self._parts.object_store.write_secret(servers.namespace)
        return self._parts.models.fetch(servers.uri, namespace=servers.namespace, secret=secret)

    def _start(self, sets: Sequence[ServerSet]) -> tuple[_Placed, bool]:
        """Start what does not run yet, wait for all, and say where they are and if any was new."""
        parts = self._parts
        placed: _Placed = []
        any_started = False
        for servers in sets:
            if servers.standing is not None:
                placed.append(servers.standing.endpoints)
                continue
            with parts.locks.held("state", purpose=f"start {servers.deployment}"):
                # Another apply may have removed what no server used yet.
                endpoints, started = parts.servers.start(servers, self._fetch_one(servers))
            placed.append(endpoints)
            any_started |= started
        for servers, endpoints in zip(sets, placed, strict=True):
            parts.servers.wait(servers, endpoints)
        return placed, any_started

    @contextmanager
    def _lock(self, name: str, namespace: str, verb: str) -> Iterator[None]:
        with self._parts.locks.held(f"{namespace}.{name}", purpose=f"{verb} {namespace}/{name}"):
            yield

    def _require_known(self, name: str, namespace: str) -> None:
        parts = self._parts
        known = parts.records.find(name, namespace=namespace)
        if known is None and not parts.servers.programs(name, namespace=namespace):
            there = ", ".join(f"{d.namespace}/{d.name}" for d in self.list()) or "none"
            raise UnknownNameError(f"there is no deployment {namespace}/{name}; there are: {there}")

    def _require_gateway(self) -> None:
        state = self._parts.gateway.observe()
        if not isinstance(state, Ready | Drifted):
            raise UnavailableError(
                f"deployments require the gateway, which is not ready ({describe(state)}); "
                "run `mlops-pipeline up gateway`"
            )

    def _facts(self, record: Record) -> dict[str, str | int | float]:
        path = f"seldon/{record.deployment.namespace}/{record.deployment.name}/"
        return {
            "address": f"{self._parts.gateway.url()}/{path}",
            "servers": len(record.programs),
        }


def _standing(before: Record | None, wanted: SeldonDeployment) -> dict[str, Target]:
    """Return wanted predictor → the target that serves it, under whichever name and share."""
    if before is None or before.deployment.spec == wanted.spec:
        return {}
    there = before.deployment
    targets = list(zip(there.spec.predictors, before.route.targets, strict=True))
    return {
        predictor.name: target
        for predictor in wanted.spec.predictors
        for known, target in targets
        if _content(there, known) == _content(wanted, predictor)
    }


def _content(deployment: SeldonDeployment, predictor: Predictor) -> object:
    """Return what the servers of a predictor depend on, and how many there are."""
    same = {"name": predictor.stem, "traffic": 0, "shadow": False, "replicas": 1}
    spec = deployment.spec
    replicas = deployment.replicas(predictor)
    return spec.protocol, spec.annotations, replicas, predictor.model_copy(update=same)


def _route(
    deployment: SeldonDeployment,
    sets: Sequence[ServerSet],
    placed: Sequence[tuple[Endpoint, ...]],
) -> Route:
    live = deployment.traffic()
    targets = [
        Target(
            predictor=servers.predictor.name,
            servers=servers.key,
            traffic=live.get(servers.predictor.name, servers.predictor.traffic),
            shadow=servers.predictor.shadow,
            endpoints=endpoints,
        )
        for servers, endpoints in zip(sets, placed, strict=True)
    ]
    return Route(deployment.namespace, deployment.name, tuple(targets), deployment.sticky)


def _action(
    before: Record | None, after: Record, *, moved: bool
) -> Literal["created", "updated", "repaired", "unchanged"]:
    if before is None:
        return "created"
    if before != after:
        return "updated"
    return "repaired" if moved else "unchanged"
