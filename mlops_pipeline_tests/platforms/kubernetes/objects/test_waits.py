"""Waits in a cluster: what ends them, and what does not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import AccessDeniedError, PipelineError, UnavailableError
from mlops_pipeline.clients.kubernetes import DEPLOYMENT, NAMESPACE, POD, Manifest
from mlops_pipeline.platforms.kubernetes.objects import workloads
from mlops_pipeline.platforms.kubernetes.objects.endings import wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import wait_for_address
from mlops_pipeline_tests.platforms.kubernetes.rig import Rig

SILENT = UnavailableError("the cluster answered 500: etcdserver: request timed out")
DENIED = AccessDeniedError("forbidden")


def _deployment(available: int) -> Manifest:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), available)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}},
        "status": {**counts, "observedGeneration": 1},
    }


def _service(*addresses: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": address} for address in addresses]}},
    }


def _namespace() -> Manifest:
    metadata = {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _wait_for_pods(rig: Rig) -> None:
    workloads.wait_for(rig.parts, DEPLOYMENT, "a", namespace="n")


def _wait_for_address(rig: Rig) -> None:
    assert wait_for_address(rig.parts, "a", namespace="n", of="the gateway") == "10.0.0.1"


def _wait_for_end(rig: Rig) -> None:
    wait_for_end(rig.api, NAMESPACE, "going", timeout=60, clock=rig.clock)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A cluster that is ready."""
    return Rig(tmp_path / "kind").with_cluster()


@pytest.fixture(
    params=[
        (_deployment(0), _wait_for_pods, lambda rig: rig.api.put(_deployment(1))),
        (_service(), _wait_for_address, lambda rig: rig.api.put(_service("10.0.0.1"))),
        (_namespace(), _wait_for_end, lambda rig: rig.api.drop(NAMESPACE, "going")),
    ],
    ids=["pods", "address", "end"],
)
def wait_over(
    request: pytest.FixtureRequest, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> Callable[[PipelineError], None]:
    """Wait for something while the second look fails; the third finds what is waited for."""
    before, wait, after = request.param
    rig.api.put(before)

    def run(error: PipelineError) -> None:
        def fail() -> None:
            rig.api.fail(error, verbs=("find",), kind=before["kind"], times=1)

        steps: Iterator[Callable[[], None]] = iter([fail, lambda: after(rig)])
        monkeypatch.setattr(rig.clock, "sleep", lambda _: next(steps)())
        wait(rig)

    return run


def test_a_cluster_that_is_silent_for_a_moment_ends_no_wait(
    wait_over: Callable[[PipelineError], None],
) -> None:
    wait_over(SILENT)


def test_a_right_that_is_lacking_ends_each_at_once(
    wait_over: Callable[[PipelineError], None],
) -> None:
    with pytest.raises(AccessDeniedError):
        wait_over(DENIED)


def test_who_waits_for_no_end_is_told_at_once_that_nothing_answers(rig: Rig) -> None:
    rig.api.stop()
    before = rig.clock.time
    with pytest.raises(UnavailableError, match="connection refused"):
        wait_for_end(rig.api, NAMESPACE, "models", timeout=60, clock=rig.clock)
    assert rig.clock.time == before


def test_a_pod_that_is_gone_counts_though_its_deployment_has_not_seen_it(rig: Rig) -> None:
    rig.api.put(_deployment(1))
    assert workloads.describe_unready(rig.api, DEPLOYMENT, "a", namespace="n") is None
    rig.api.drop(POD, "a-0", namespace="n")
    reason = workloads.describe_unready(rig.api, DEPLOYMENT, "a", namespace="n")
    assert reason == "the Deployment n/a: there is no pod yet"
