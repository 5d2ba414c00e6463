"""Releases in a real cluster: a candidate beside the stable version, and no request is lost."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mlops_pipeline.catalog.registry import load_catalog
from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.clients.kubernetes import (
    DESTINATION_RULE,
    POD,
    SELDON_DEPLOYMENT,
    STATEFUL_SET,
    KubernetesApi,
)
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.delivery.artifacts import artifact_store
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.deploying import deploy, url_of
from mlops_pipeline.delivery.proving import HoldoutProof
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases import records, traffic
from mlops_pipeline.delivery.releases.driver import Progress, Releases
from mlops_pipeline.delivery.training import TrainingOrder, ensure_trained, merge_hyperparameters
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending
from mlops_pipeline.platforms.seldon import Predictor
from mlops_pipeline_tests.background import exit_code_of
from mlops_pipeline_tests.kind.conftest import KindCommandLine, signing_platform_of
from mlops_pipeline_tests.kind.load import Load, load

pytestmark = pytest.mark.kind

_log = logging.getLogger(__name__)
NAMESPACE = "releases-test"
STORAGE = "mlops-storage"
ROW = [5.1, 3.5, 1.4, 0.2]
PLAN = ReleaseSpec(
    strategy="canary",
    steps=(
        Step(5, answers=10, seconds=2),
        Step(25, answers=10, seconds=2),
        Step(50, answers=10, seconds=2),
    ),
    # The machine of the tests is busy with other things too.
    max_slow=0.5,
    slow_factor=5.0,
    max_errors=0.05,
    max_disagreement=0.1,
    when_silent="replay",
    keep_seconds=4,
)


def spec_of(plan: ReleaseSpec) -> ModelSpec:
    """Return iris, deployed in a namespace of these tests."""
    spec = next(m.spec for m in load_catalog((), datasets={}).models if m.name == "iris")
    return replace(spec, server=replace(spec.server, namespace=NAMESPACE), release=plan)


@dataclass
class Rig:
    """A model that serves in a cluster, and its releases."""

    platform: KindPlatform
    api: KubernetesApi
    stable: ModelRef
    candidate: ModelRef
    bad: ModelRef
    """It answers as it did after its training, and predicts another class for 10 of 45 rows."""

    def releases(self, plan: ReleaseSpec = PLAN) -> Releases:
        """Return them as another process has them."""
        return Releases(spec_of(plan), self.platform, by="a test")

    def deploy(self, ref: ModelRef, plan: ReleaseSpec = PLAN) -> float:
        """Deploy at once, and return the seconds."""
        start = time.monotonic()
        artifacts = artifact_store(self.platform)
        deploy(spec_of(plan), ref, platform=self.platform, artifacts=artifacts, by="a test")
        return time.monotonic() - start

    def seen(self) -> list[tuple[str, str, int, int, str]]:
        """Return name, digest, percent of the traffic, servers and state of each predictor."""
        name = spec_of(PLAN).server.deployment
        found = self.platform.deployments.status(name, namespace=NAMESPACE)
        return [(s.name, s.digest, s.traffic, s.replicas, s.state) for s in found]

    def pods(self) -> dict[str, str]:
        """Return the identities of the pods that do not end → the predictor that they are of."""
        found = self.api.list(POD, namespace=NAMESPACE)
        return {
            p["metadata"]["uid"]: p["metadata"]["labels"]["version"]
            for p in found
            if not is_ending(p)
        }

    def rules(self) -> list[str]:
        return [r["metadata"]["name"] for r in self.api.list(DESTINATION_RULE, namespace=NAMESPACE)]

    def follow(
        self,
        releases: Releases,
        is_over: Callable[[Progress], bool],
        *,
        timeout: float = 180,
    ) -> Progress:
        """Take step after step until something is true of one."""
        last: list[Progress] = []

        def describe() -> str | None:
            last[:] = [releases.advance()]
            return None if is_over(last[0]) else last[0].describe()

        wait_until("the release", describe, timeout=timeout, interval=0.5)
        return last[0]

    def settle(self) -> None:
        """Return when the last of the replaced pods has ended."""

        def describe_ending() -> str | None:
            there = self.api.list(POD, namespace=NAMESPACE)
            ending = [p["metadata"]["name"] for p in there if is_ending(p)]
            return f"{', '.join(ending)} is ending" if ending else None

        wait_until("the end of replaced pods", describe_ending, timeout=60)

    @contextmanager
    def load(self) -> Iterator[Load]:
        """Send requests. Every one must be answered, and at least ten a second."""
        url = f"{url_of(spec_of(PLAN), self.platform)}/api/v1.0/predictions"
        start = time.monotonic()
        with load(url, ROW) as seen:
            yield seen
            self.settle()
        seconds = time.monotonic() - start
        count = sum(seen.digests.values())
        _log.info("%d requests in %.1f s; failed: %s", count, seconds, seen.failures[:3])
        assert seen.failures == []
        assert count > 10 * seconds


def _trained(platform: KindPlatform, **hyperparameters: Any) -> ModelRef:
    datasets, artifacts = DatasetStore(platform.object_store()), artifact_store(platform)
    iris = next(model for model in load_catalog((), datasets={}).models if model.name == "iris")
    changed = merge_hyperparameters(iris.spec, hyperparameters)
    order = TrainingOrder(iris, datasets.ensure(iris, file=None).ref, changed)
    return ensure_trained(
        order, datasets=datasets, artifacts=artifacts, run_id="tests", force=False
    ).ref


@pytest.fixture
def rig(command_line: KindCommandLine, cluster_api: KubernetesApi) -> Iterator[Rig]:
    platform = signing_platform_of(command_line)
    refs = [_trained(platform, C=c) for c in (1.0, 0.9, 1e-6)]
    yield Rig(platform, cluster_api, *refs)
    for there in cluster_api.list(SELDON_DEPLOYMENT, namespace=NAMESPACE):
        platform.deployments.delete(there["metadata"]["name"], namespace=NAMESPACE)


def test_a_canary_is_promoted_and_loses_no_request(rig: Rig) -> None:
    first = rig.deploy(rig.stable)
    releases = rig.releases()
    with rig.load() as load:
        start = time.monotonic()
        releases.begin(rig.candidate)
        begun = time.monotonic() - start
        both = rig.pods()
        assert [(name, share) for name, _, share, *_ in rig.seen()] == [
            ("default", 95),
            ("default-candidate", 5),
        ]
        promoted = rig.follow(releases, lambda p: p.decision is not None)
        seconds = time.monotonic() - start
        assert promoted.decision is not None
        assert promoted.decision.outcome == "promoted", promoted.describe()
        assert rig.pods() == both
        assert rig.seen() == [
            ("default-former", rig.stable.digest, 0, 1, "ready"),
            ("default", rig.candidate.digest, 100, 1, "ready"),
        ]
        rig.follow(releases, lambda p: p.release is None)
        rig.settle()
    assert rig.pods().items() < both.items()
    assert rig.seen() == [("default", rig.candidate.digest, 100, 1, "ready")]
    assert len(rig.rules()) == 1
    assert set(load.digests) == {rig.stable.digest, rig.candidate.digest}
    assert releases.find() is None
    (record, *_) = records.history(spec_of(PLAN), rig.platform)
    assert (record.release.candidate, record.decision.outcome) == (rig.candidate.digest, "promoted")
    _log.info("deployed in %.1f s, begun in %.1f, promoted after %.1f", first, begun, seconds)


def test_a_bad_candidate_is_rolled_back_and_a_good_one_is_aborted(rig: Rig) -> None:
    plan = replace(PLAN, max_disagreement=0.02)
    rig.deploy(rig.stable, plan)
    before = rig.pods()
    with rig.load():
        releases = rig.releases(plan)
        releases.begin(rig.bad)
        ended = rig.follow(releases, lambda p: p.decision is not None)
        assert ended.decision is not None
        assert ended.decision.outcome == "rolled_back", ended.describe()
        assert "another prediction" in ended.decision.reason
        rig.settle()
        assert rig.pods() == before

        releases.begin(rig.candidate)
        start = time.monotonic()
        ended = rig.releases(plan).abort("a person said so")
        _log.info("aborted in %.1f s", time.monotonic() - start)
        assert ended.decision is not None
        assert ended.decision.outcome == "aborted"
        rig.settle()
    assert rig.pods() == before
    assert rig.seen() == [("default", rig.stable.digest, 100, 1, "ready")]
    assert rig.releases().find() is None


def test_a_promotion_is_taken_back_while_the_former_version_is_kept(rig: Rig) -> None:
    plan = ReleaseSpec(strategy="blue_green", keep_seconds=600)
    rig.deploy(rig.stable, plan)
    before = rig.pods()
    releases = rig.releases(plan)
    with rig.load():
        releases.begin(rig.candidate)
        assert [share for _, _, share, *_ in rig.seen()] == [0, 100]
        releases.promote()
        assert [name for name, *_ in rig.seen()] == ["default-former", "default"]
        start = time.monotonic()
        ended = releases.abort("it is worse")
        _log.info("rolled back in %.1f s", time.monotonic() - start)
        assert ended.decision is not None
        assert ended.decision.outcome == "rolled_back"
        rig.settle()
        assert rig.pods() == before
        start = time.monotonic()
        rig.deploy(rig.candidate)
        _log.info("replaced in %.1f s", time.monotonic() - start)
    assert rig.seen() == [("default", rig.candidate.digest, 100, 1, "ready")]


@contextmanager
def _without_store(rig: Rig) -> Iterator[None]:
    """Stop the object store, and start it again."""

    def scale(replicas: int) -> None:
        change = {"spec": {"replicas": replicas}}
        rig.api.patch(STATEFUL_SET, "seaweedfs", change, namespace=STORAGE)

    def describe_answer() -> str | None:
        try:
            rig.platform.object_store().sizes("models", "nothing/")
        except PipelineError as error:
            return str(error)
        return None

    scale(0)
    try:
        wait_until(
            "the end of the store",
            lambda: "it runs" if rig.api.list(POD, namespace=STORAGE) else None,
            timeout=60,
        )
        yield
    finally:
        scale(1)
        wait_until("the store", describe_answer, timeout=120, interval=1)


def test_an_abort_needs_no_object_store(rig: Rig) -> None:
    rig.deploy(rig.stable)
    before = rig.pods()
    releases = rig.releases()
    with rig.load():
        releases.begin(rig.candidate)
        with _without_store(rig):
            ended = rig.releases().abort("the store is away")
            assert ended.decision is not None
            assert ended.decision.outcome == "aborted"
            assert rig.seen() == [("default", rig.stable.digest, 100, 1, "ready")]
            found = releases.find()
            assert found is not None
            assert found.phase == "ended"
        assert releases.advance().release is None
        rig.settle()
    assert rig.pods() == before
    assert releases.find() is None
    (record, *_) = records.history(spec_of(PLAN), rig.platform)
    assert (record.decision.outcome, record.decision.reason) == ("aborted", "the store is away")


class Killing(HoldoutProof):
    """Kills its process at one of the two moments."""

    at = "alone"

    def alone(self, predictor: Predictor, server: Predictions) -> None:
        super().alone(predictor, server)
        self._kill("alone")

    def exposed(self) -> None:
        super().exposed()
        self._kill("exposed")

    def _kill(self, moment: str) -> None:
        if moment == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def _release_until_killed(command_line: KindCommandLine, ref: ModelRef, at: str) -> None:
    Killing.at = at
    traffic.HoldoutProof = Killing  # type: ignore[attr-defined]
    releases = Releases(spec_of(PLAN), signing_platform_of(command_line), by="a killed test")
    if releases.find() is None:
        releases.begin(ref)
    releases.promote()


def test_what_a_killed_process_began_is_finished_by_another(
    rig: Rig, command_line: KindCommandLine
) -> None:
    rig.deploy(rig.stable)
    with rig.load():
        given = (_release_until_killed, command_line, rig.candidate)
        assert exit_code_of(*given, "alone") == -signal.SIGKILL
        assert rig.releases().find() is None
        shares = {digest: share for _, digest, share, *_ in rig.seen()}
        assert shares[rig.stable.digest] == 100
        candidates = set(rig.pods())

        assert exit_code_of(*given, "exposed") == -signal.SIGKILL
        found = rig.releases().find()
        assert found is not None
        assert (found.phase, found.step) == ("observing", 0)
        assert set(rig.pods()) == candidates

        assert exit_code_of(*given, "exposed") == -signal.SIGKILL
        found = rig.releases().find()
        assert found is not None
        assert found.phase == "kept"
        ended = rig.follow(rig.releases(), lambda p: p.release is None)
        assert ended.decision is not None
        assert ended.decision.outcome == "promoted"
        rig.settle()
    assert set(rig.pods()) < candidates
    assert rig.seen() == [("default", rig.candidate.digest, 100, 1, "ready")]
    assert len(rig.rules()) == 1


def test_a_shadow_answers_nobody_and_is_promoted(rig: Rig) -> None:
    plan = replace(PLAN, strategy="shadow", steps=(Step(100, answers=50, seconds=5),))
    rig.deploy(rig.stable, plan)
    releases = rig.releases(plan)
    with rig.load() as load:
        releases.begin(rig.candidate)
        assert [(name, share) for name, _, share, *_ in rig.seen()] == [
            ("default", 100),
            ("default-candidate", 0),
        ]
        while (progress := releases.advance()).decision is None:
            assert set(load.digests) == {rig.stable.digest}, progress.describe()
        assert progress.decision.outcome == "promoted", progress.describe()
        rig.follow(releases, lambda p: p.release is None)
        rig.settle()
    assert rig.seen() == [("default", rig.candidate.digest, 100, 1, "ready")]
