"""A platform in memory, and its parts."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from mlops_pipeline.clients.errors import (
    FatalStateError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.platforms.layers import (
    Absent,
    Change,
    Diagnosis,
    Finding,
    HealthCheck,
    LayerState,
    Ready,
    action_from,
)
from mlops_pipeline.platforms.platform import (
    Expected,
    PredictorCounts,
    PredictorStatus,
    Proof,
    ServerCounts,
)
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline_tests.fakes import predictions
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore

ROUTES = HealthCheck(
    "routes", "The gateway of a test routes.", lambda: Finding(passed=True, seen="it answers")
)


@dataclass
class FakeLayer:
    """A layer whose state is given, and becomes Ready by `ensure` unless that fails."""

    name: str
    requires: tuple[str, ...] = ()
    state: LayerState = field(default_factory=Absent)
    description: str = "A layer of a test."
    kinds: tuple[str, ...] = ("python",)

    checks: tuple[HealthCheck, ...] = ()
    failures: list[PipelineError] = field(default_factory=list)
    """What the next calls of `ensure` raise."""

    def observe(self) -> LayerState:
        return self.state

    def ensure(self) -> Change:
        if self.failures:
            raise self.failures.pop(0)
        action = action_from(self.state)
        self.state = Ready({"address": f"http://{self.name}"})
        return Change(action, {"address": f"http://{self.name}"})

    def remove(self) -> None:
        self.state = Absent()


def _no_server(predictor: Predictor) -> Predictions:
    raise UnavailableError(f"nothing serves {predictor.name}")


def _server_name(deployment: SeldonDeployment, predictor: Predictor, number: int) -> str:
    stem = f"{deployment.namespace}.{deployment.name}.{predictor.name}"
    return f"{stem}.{predictor.digest}.{number}"


def _runs(known: SeldonDeployment, predictor: Predictor) -> bool:
    """Say whether servers run what the predictor asks for, under whichever name."""
    same = {"name": "", "replicas": 1, "traffic": 0}
    there = [p.model_copy(update=same) for p in known.spec.predictors]
    return predictor.model_copy(update=same) in there


class FakeDeployments:
    """Deployments that are ready as soon as they are applied, but for digests that are `broken`.

    `state` is that of all servers; an apply makes them ready again. `server` returns what answers
    for a predictor that is asked alone. `lost` is predictor → requests that the gateway lost.
    """

    def __init__(self, server: Callable[[Predictor], Predictions] = _no_server) -> None:
        self.server = server
        self.broken: set[str] = set()
        self.applied: dict[tuple[str, str], SeldonDeployment] = {}
        self.state: Literal["ready", "starting", "failed", "edited"] = "ready"
        self.lost: dict[str, int] = {}
        self._counters: dict[str, ServerCounts] = {}
        self._starts = itertools.count(1000)
        self.conflict = ""
        self.difference = ""
        self.damaged: tuple[str, ...] = ()

    def apply(
        self,
        deployment: SeldonDeployment,
        *,
        proof: Proof | None = None,
        expected: Expected | None = None,
    ) -> Change:
        key = (deployment.namespace, deployment.name)
        if bad := [p.name for p in deployment.spec.predictors if p.digest in self.broken]:
            raise FatalStateError(f"{key[0]}/{key[1]}: {', '.join(bad)} cannot become ready")
        known, state = self.applied.get(key), self.state
        if expected is not None:
            expected.require(known, name="/".join(key))
        if proof is not None:
            for predictor in deployment.spec.predictors:
                if known is None or not _runs(known, predictor):
                    for _ in range(deployment.replicas(predictor)):
                        proof.alone(predictor, self.server(predictor))
        self._forget_stopped(deployment)
        self.applied[key], self.state = deployment, "ready"
        try:
            if proof is not None:
                proof.exposed()
        except BaseException:
            self.applied = {k: d for k, d in {**self.applied, key: known}.items() if d is not None}
            self.state = state
            raise
        if known != deployment:
            return Change("updated" if known else "created")
        return Change("unchanged" if state == "ready" else "repaired")

    def count(
        self,
        name: str,
        predictor: str,
        *,
        namespace: str,
        answered: int = 0,
        failed: int = 0,
        slower: Mapping[str, int] | None = None,
    ) -> None:
        """Let the first server of a predictor have answered requests of clients."""
        (found,) = [c for c in self.counts(name, namespace=namespace) if c.predictor == predictor]
        server, more = found.servers[0], slower or {}
        self._counters[server.server] = replace(
            server,
            answered=server.answered + answered,
            failed=server.failed + failed,
            slower={limit: n + more.get(limit, 0) for limit, n in server.slower.items()},
        )

    def restart(self, name: str, *, namespace: str) -> None:
        """Let all servers of a deployment start again: they count from zero."""
        mine = f"{namespace}.{name}."
        self._counters = {s: c for s, c in self._counters.items() if not s.startswith(mine)}

    def annotate(self, name: str, annotations: Mapping[str, str], *, namespace: str) -> None:
        found = self.find(name, namespace=namespace)
        if found is not None:
            self.applied[namespace, name] = found.annotated(annotations)

    def find(self, name: str, *, namespace: str) -> SeldonDeployment | None:
        return self.applied.get((namespace, name))

    def list(self) -> Sequence[SeldonDeployment]:
        return [self.applied[key] for key in sorted(self.applied)]

    def damages(self) -> Sequence[str]:
        return self.damaged

    def delete(self, name: str, *, namespace: str) -> None:
        if self.applied.pop((namespace, name), None) is None:
            raise NotFoundError(f"{namespace}/{name}: no such deployment")
        self.restart(name, namespace=namespace)

    def counts(self, name: str, *, namespace: str) -> tuple[PredictorCounts, ...]:
        found = self.find(name, namespace=namespace)
        if found is None:
            return ()
        return tuple(
            PredictorCounts(
                p.name,
                tuple(
                    self._counter(_server_name(found, p, number))
                    for number in range(self._ready(found, p))
                ),
                self.lost.get(p.name),
            )
            for p in found.spec.predictors
        )

    def servers(self, name: str, *, namespace: str) -> Mapping[str, tuple[Predictions, ...]]:
        found = self.find(name, namespace=namespace)
        if found is None:
            return {}
        return {
            p.name: tuple(self.server(p) for _ in range(self._ready(found, p)))
            for p in found.spec.predictors
        }

    def _forget_stopped(self, deployment: SeldonDeployment) -> None:
        """Let the servers that an apply starts, also again, count from zero."""
        kept = {
            _server_name(deployment, p, number): counts
            for p in deployment.spec.predictors
            for number in range(self._ready(deployment, p))
            if (counts := self._counters.get(_server_name(deployment, p, number))) is not None
        }
        self.restart(deployment.name, namespace=deployment.namespace)
        self._counters |= kept

    def _counter(self, server: str) -> ServerCounts:
        if server not in self._counters:
            zeros = dict.fromkeys(predictions.LIMITS, 0)
            self._counters[server] = ServerCounts(server, float(next(self._starts)), 0, 0, zeros)
        return self._counters[server]

    def _ready(self, found: SeldonDeployment, predictor: Predictor) -> int:
        """Return how many servers of a predictor are ready."""
        return 0 if self.state == "failed" else found.replicas(predictor)

    def describe_absence(self, name: str, *, namespace: str) -> str:
        return f"{namespace}/{name} is missing"

    def describe_conflict(self, name: str, *, namespace: str) -> str:
        return self.conflict

    def describe_difference(self, wanted: SeldonDeployment) -> str:
        return self.difference

    def status(self, name: str, *, namespace: str) -> tuple[PredictorStatus, ...]:
        found = self.find(name, namespace=namespace)
        if found is None:
            return ()
        shares, dead = found.traffic(), self.state == "failed"
        return tuple(
            PredictorStatus(
                name=p.name,
                digest="" if dead else p.digest,
                traffic=shares.get(p.name, 0),
                replicas=self._ready(found, p),
                state=self.state,
            )
            for p in found.spec.predictors
        )


class FakeServingEnvironment:
    """Answers with the scores it is given, or fails with the error."""

    def __init__(self, scores: list[list[float]] | None = None) -> None:
        self.scores = scores or []
        self.name = "fake-environment"
        self.error: PipelineError | None = None
        self.calls = 0

    def fingerprint(self) -> str:
        return self.name

    def predict(
        self,
        model: Path,
        rows: Path,
        *,
        implementation: str,
        parameters: Sequence[tuple[str, str]],
        signature: Path | None = None,
    ) -> list[list[float]]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        if signature is not None:
            tensors = {"inputs": ("predict", [-1, 2]), "outputs": ("predict_proba", [-1, 2])}
            signature.write_text(
                json.dumps(
                    {
                        key: [{"name": name, "shape": shape, "datatype": "FP64"}]
                        for key, (name, shape) in tensors.items()
                    }
                )
            )
        return self.scores


class FakePlatform:
    """A platform of two layers, in memory."""

    name = "fake"
    gateway = "gateway"
    deploys_on: tuple[str, ...] = ("gateway",)
    reads_elsewhere = False
    verifies_when_loading = True
    store_id = ""
    sources: tuple[str, ...] = ()

    def __init__(
        self, store: FakeObjectStore | None = None, *, signing: Signing | None = None
    ) -> None:
        self.store = store or FakeObjectStore()
        self.layers = (
            FakeLayer("object_store"),
            FakeLayer("gateway", ("object_store",), checks=(ROUTES,)),
        )
        self.deployments = FakeDeployments()
        self.signing = signing or Signing.off()
        self.serving_environment = FakeServingEnvironment()

    def log_in(self) -> None:
        """Do nothing."""

    def provide(self) -> None:
        """Do nothing."""

    def preflight(self) -> list[Diagnosis]:
        return []

    def gateway_url(self) -> str:
        return "http://127.0.0.1:1"

    def gateway_trust(self) -> str:
        return ""

    def object_store(self) -> FakeObjectStore:
        return self.store

    def pass_keys(self) -> str:
        return "servers know the keys"

    def object_store_secret(self) -> str:
        return "seldon-rclone-secret"

    def memory_of(self, layer: str) -> int | None:
        return {"gateway": 42_000_000}.get(layer)

    def logs(self, name: str, *, lines: int) -> str:
        return f"{name}: {lines}"

    def down(self) -> tuple[str, ...]:
        for layer in self.layers:
            layer.remove()
        return ()

    def purge(self) -> tuple[str, ...]:
        self.store.objects.clear()
        return ()
