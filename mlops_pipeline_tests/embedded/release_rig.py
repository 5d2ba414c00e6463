"""A real embedded platform on which versions of one model are released, while clients ask it."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from mlops_pipeline.catalog.releasing import Step
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.waiting import MONOTONIC
from mlops_pipeline.delivery.artifacts import artifact_store
from mlops_pipeline.delivery.choosing import Choice
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.deploying import deploy, url_of
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.delivering import Delivered, deliver
from mlops_pipeline.delivery.releases.driver import Progress, Releases
from mlops_pipeline.delivery.training import TrainingOrder, ensure_trained, merge_hyperparameters
from mlops_pipeline.platforms.embedded.supervisor import Supervisor
from mlops_pipeline.platforms.layers import by_name
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline_tests.embedded.unruly import REGISTERED, UNRULY

QUICK: dict[str, Any] = {
    "steps": (Step(25, answers=0, seconds=0.1), Step(50, answers=0, seconds=0.1)),
    "when_silent": "replay",
    "max_errors": 0.2,
    "max_slow": 0.5,
    "slow_factor": 10.0,
    "keep_seconds": 0.1,
}
"""A plan that ends on replayed hold-out rows within seconds."""
_TIMEOUT = 10.0
"""Seconds in which a request must be answered."""


@dataclass
class Traffic:
    """What clients got."""

    digests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """Each request that was not answered with 200."""
    failed_by: Counter[str] = field(default_factory=Counter)
    """Digest → failed requests that it answered itself; empty: none did."""


class ReleaseRig:
    """The model `unruly` on a platform that is up."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.spec: ModelSpec = UNRULY
        self._refs: dict[tuple[str, int], ModelRef] = {}

    def plan(self, **changes: Any) -> None:
        """Change the plan of the releases that follow."""
        self.spec = replace(UNRULY, release=replace(UNRULY.release, **changes))

    def artifact(self, behaviour: str = "good", version: int = 1) -> ModelRef:
        """Return the artifact that behaves like this; train it first, if it does not exist."""
        key = behaviour, version
        if key not in self._refs:
            datasets = DatasetStore(self.platform.object_store())
            order = TrainingOrder(
                REGISTERED,
                datasets.ensure(REGISTERED, file=None).ref,
                merge_hyperparameters(UNRULY, {"behaviour": behaviour, "version": version}),
            )
            store = artifact_store(self.platform)
            self._refs[key] = ensure_trained(
                order, datasets=datasets, artifacts=store, run_id="", force=False
            ).ref
        return self._refs[key]

    def deploy(self, ref: ModelRef) -> None:
        """Replace what serves, without a release."""
        deploy(self.spec, ref, platform=self.platform, artifacts=artifact_store(self.platform))

    @property
    def releases(self) -> Releases:
        """The releases of the model, as a new process sees them."""
        return Releases(self.spec, self.platform, by="the test")

    def release(self, ref: ModelRef, *, within: float = 180.0) -> Progress:
        """Release an artifact, and go on until it has ended or a person must decide."""
        self.releases.begin(ref)
        return self.finish(within=within)

    def finish(self, *, within: float = 180.0) -> Progress:
        """Take steps until the release has ended or a person must decide."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            seen = self.releases.advance()
            if seen.decision is not None or seen.release is None:
                return seen
            if seen.release.phase == "asking":
                return seen
            MONOTONIC.sleep(0.2)
        raise AssertionError(f"the release did not end: {seen.describe()}")

    def finish_keeping(self, *, within: float = 90.0) -> Progress:
        """Take steps until the former version is removed."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            seen = self.releases.advance()
            if seen.release is None:
                return seen
            MONOTONIC.sleep(0.2)
        raise AssertionError(f"the former version stayed: {seen.describe()}")

    def deliver(self, ref: ModelRef) -> Delivered:
        """Do what a run does that brings this artifact."""
        judge = Judge(self.platform, by="the test")
        return deliver(self.spec, Choice(ref, is_pinned=False), judge)

    def predictors(self) -> dict[str, str]:
        """Return the name and the digest of each predictor."""
        server = self.spec.server
        found = self.platform.deployments.find(server.deployment, namespace=server.namespace)
        assert found is not None
        return {predictor.name: predictor.digest for predictor in found.spec.predictors}

    def shares(self) -> dict[str, int]:
        """Return the percent of the traffic of each predictor."""
        server = self.spec.server
        found = self.platform.deployments.find(server.deployment, namespace=server.namespace)
        assert found is not None
        return found.traffic()

    @contextmanager
    def without_store(self) -> Iterator[None]:
        """Stop the object store, and start it again afterwards."""
        (supervisor,) = [x for x in self.platform.layers if isinstance(x, Supervisor)]
        supervisor.stop([name for name in supervisor.files.names() if "object_store" in name])
        try:
            yield
        finally:
            by_name(self.platform.layers, "object_store").ensure()

    @property
    def url(self) -> str:
        """Where clients ask for predictions."""
        return f"{url_of(self.spec, self.platform)}/api/v1.0/predictions"

    def served(self) -> str:
        """Return the digest that answers."""
        body = {"data": {"ndarray": [[1.0, 2.0]]}}
        answer = httpx.post(self.url, json=body, timeout=_TIMEOUT)
        return answer.raise_for_status().headers["x-model-digest"]

    @contextmanager
    def load(self, *, rate: float = 100.0, clients: int = 4) -> Iterator[Traffic]:
        """Send so many requests a second while the block runs."""
        seen, over, lock = Traffic(), threading.Event(), threading.Lock()
        arguments = (self.url, clients / rate, seen, over, lock)
        threads = [
            threading.Thread(target=_ask_again_and_again, args=arguments, daemon=True)
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            over.set()
            for thread in threads:
                thread.join(_TIMEOUT + 5)


def _ask_again_and_again(
    url: str, period: float, seen: Traffic, over: threading.Event, lock: threading.Lock
) -> None:
    due = time.monotonic()
    with httpx.Client(timeout=_TIMEOUT) as client:
        while not over.is_set():
            try:
                answer = client.post(url, json={"data": {"ndarray": [[1.0, 2.0]]}})
                digest, status = answer.headers.get("x-model-digest", ""), answer.status_code
                failure = "" if status == 200 else f"{status} {answer.text[:200]}"
            except httpx.HTTPError as error:
                digest, status, failure = "", 0, repr(error)
            with lock:
                seen.statuses[status] += 1
                if failure:
                    seen.failures.append(failure)
                    seen.failed_by[digest] += 1
                else:
                    seen.digests[digest] += 1
            due = max(due + period, time.monotonic() - 1)
            over.wait(max(0.0, due - time.monotonic()))
