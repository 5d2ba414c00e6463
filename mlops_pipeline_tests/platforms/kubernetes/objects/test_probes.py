from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import FatalStateError, UnavailableError, WaitTimeoutError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import NAMESPACE, POD, SERVICE, Manifest
from mlops_pipeline.platforms.kubernetes.objects.probes import PROBE_LABEL, Echo, answer_of, echo
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.platforms.kubernetes.rig import Rig, run_workloads

ECHO = Echo("mlops-probe-1", "echo", "172.18.255.9", "mlops-probe-1")


@dataclass
class Site:
    """What answers at any address: the first of `answers`, and the last for ever."""

    answers: list[HttpAnswer | UnavailableError] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def get(self, url: str, *, timeout: float) -> HttpAnswer:
        self.asked.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, UnavailableError):
            raise answer
        return answer


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site()
    monkeypatch.setattr(http, "get", made.get)
    return made


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    made = Rig(tmp_path / "kind").with_cluster()
    run_workloads(made.api)
    return made


def probe_namespaces(api: FakeKubernetes) -> list[str]:
    labels = ",".join(f"{key}={value}" for key, value in PROBE_LABEL.items())
    return [n["metadata"]["name"] for n in api.list(NAMESPACE, labels=labels)]


def test_a_load_balancer_has_the_address_that_it_was_given(rig: Rig) -> None:
    parts = rig.parts
    with echo(rig.api, parts.images, type="LoadBalancer", clock=rig.clock) as echoed:
        assert echoed.url == "http://172.18.255.9:5678/"
        assert probe_namespaces(rig.api) == [echoed.namespace]
        assert echoed.text == echoed.namespace
    assert probe_namespaces(rig.api) == []


def test_a_service_of_the_cluster_has_its_name(rig: Rig) -> None:
    with echo(rig.api, rig.parts.images, type="ClusterIP", clock=rig.clock) as echoed:
        assert echoed.host == f"echo.{echoed.namespace}.svc.cluster.local"
        assert echoed.address == "10.96.3.4"


def test_the_pod_is_small_harmless_and_quick_to_end(rig: Rig) -> None:
    with echo(rig.api, rig.parts.images, type="ClusterIP", clock=rig.clock) as echoed:
        pod = rig.api.get(POD, "echo", namespace=echoed.namespace)
    spec = pod["spec"]
    assert spec["terminationGracePeriodSeconds"] == 0
    assert not spec["automountServiceAccountToken"]
    (container,) = spec["containers"]
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["args"] == ["-listen=:5678", f"-text={echoed.namespace}"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mlops-pipeline"
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def test_everything_is_removed_after_a_failure_too(rig: Rig) -> None:
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        echo(rig.api, rig.parts.images, type="LoadBalancer", clock=rig.clock),
    ):
        raise RuntimeError("on purpose")
    assert probe_namespaces(rig.api) == []
    assert [d.resource for d in rig.api.deleted] == [SERVICE, NAMESPACE]


def test_a_pod_that_cannot_start_ends_it_and_is_removed(rig: Rig) -> None:
    def fail(manifest: Manifest) -> None:
        waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}
        statuses = [{"name": "echo", "state": waiting, "ready": False}]
        rig.api.put({**manifest, "status": {"containerStatuses": statuses}})

    rig.api.when_applied("Pod", fail)
    with (
        pytest.raises(FatalStateError, match="no such host"),
        echo(rig.api, rig.parts.images, type="LoadBalancer", clock=rig.clock),
    ):
        pass
    assert probe_namespaces(rig.api) == []


@pytest.mark.parametrize("event", [None, "no available IPs in pool"])
def test_without_an_address_it_says_why(rig: Rig, event: str | None) -> None:
    def forget(manifest: Manifest) -> None:
        rig.api.put({**manifest, "status": {}})
        if event is not None:
            metadata = {"name": "e", "namespace": manifest["metadata"]["namespace"]}
            rig.api.put(
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": metadata,
                    "type": "Warning",
                    "message": event,
                }
            )

    rig.api.when_applied("Service", forget)
    with (
        pytest.raises(WaitTimeoutError, match=event or "no address is assigned to the Service yet"),
        echo(rig.api, rig.parts.images, type="LoadBalancer", clock=rig.clock),
    ):
        pass
    assert probe_namespaces(rig.api) == []


def test_a_namespace_without_its_account_gets_no_pod(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind").with_cluster()
    with (
        pytest.raises(WaitTimeoutError, match="the service account of the echo"),
        echo(rig.api, rig.parts.images, type="ClusterIP", clock=rig.clock),
    ):
        pass
    assert not [m for m in rig.api.applied if m["kind"] == "Pod"]


def test_probes_of_killed_checks_are_removed_once_nobody_waits_for_them(rig: Rig) -> None:
    for name, made in (("old", "2026-01-01T00:00:00Z"), ("new", "2026-01-01T00:05:01Z")):
        metadata = {"name": name, "labels": PROBE_LABEL, "creationTimestamp": made}
        rig.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def date(manifest: Manifest) -> None:
        metadata = {**manifest["metadata"], "creationTimestamp": "2026-01-01T00:15:00Z"}
        rig.api.put({**manifest, "metadata": metadata})

    rig.api.when_applied("Namespace", date)
    with echo(rig.api, rig.parts.images, type="ClusterIP", clock=rig.clock):
        assert "old" not in probe_namespaces(rig.api)
    assert probe_namespaces(rig.api) == ["new"]


def test_the_answer_must_be_the_echos(rig: Rig, site: Site) -> None:
    refused = UnavailableError("could not reach it: connection refused")
    stranger = HttpAnswer(200, {}, b"hello")
    right = HttpAnswer(200, {}, b"mlops-probe-1\n")
    site.answers = [refused, stranger, right]
    assert answer_of(ECHO, ECHO.url, timeout=5, clock=rig.clock) == pytest.approx(0.2)
    assert set(site.asked) == {"http://172.18.255.9:5678/"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (UnavailableError("could not reach it: timed out"), "could not reach it: timed out"),
        (HttpAnswer(503, {}, b"no healthy upstream"), "answered 503: 'no healthy upstream'"),
    ],
)
def test_without_its_answer_it_says_what_came_and_what_to_do(
    rig: Rig, site: Site, answer: HttpAnswer | UnavailableError, reason: str
) -> None:
    site.answers = [answer]
    with pytest.raises(WaitTimeoutError) as caught:
        answer_of(ECHO, ECHO.url, timeout=5, clock=rig.clock, hint="look at the firewall")
    assert reason in str(caught.value)
    assert str(caught.value).endswith("; look at the firewall")
