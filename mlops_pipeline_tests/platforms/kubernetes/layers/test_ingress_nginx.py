from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    FatalStateError,
    InvalidManifestError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    INGRESS,
    JOB,
    NAMESPACE,
    POD,
    VALIDATING_WEBHOOK,
    Manifest,
)
from mlops_pipeline.platforms.kubernetes.layers.ingress_nginx import IngressNginx
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline.platforms.sources import Archive
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    Rig,
    cluster_settings,
    make_engine,
    node,
    run_workloads,
)

SYSTEM = "ingress-nginx"
CONTROLLER = "ingress-nginx-controller"
IMAGE = "registry.k8s.io/ingress-nginx/controller:v1.15.1"
# In the order of upstream's file, cut down to what the layer looks at.
MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: ingress-nginx}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress-nginx-controller, namespace: ingress-nginx}
spec:
  selector: {matchLabels: {app.kubernetes.io/component: controller}}
  template:
    spec:
      containers:
      - {name: controller, image: "registry.k8s.io/ingress-nginx/controller:v1.15.1@sha256:594c"}
      nodeSelector: {kubernetes.io/os: linux}
---
apiVersion: batch/v1
kind: Job
metadata: {name: ingress-nginx-admission-create, namespace: ingress-nginx}
spec: {ttlSecondsAfterFinished: 0, template: {spec: {containers: [{name: create}]}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: ingress-nginx-admission-patch, namespace: ingress-nginx}
spec: {ttlSecondsAfterFinished: 0, template: {spec: {containers: [{name: patch}]}}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: ingress-nginx-admission}
"""
RACE = UnavailableError('failed calling webhook "validate.nginx.ingress.kubernetes.io": refused')


def conditions(kind: str, message: str = "") -> dict[str, object]:
    return {"conditions": [{"type": kind, "status": "True", "message": message}]}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A cluster in which what is applied runs at once, and no ingress-nginx."""
    file = tmp_path / "ingress-nginx.yaml"
    file.write_text(MANIFEST)
    sources = FakeSources(manifests={"ingress-nginx": file})
    engine = make_engine(containers=[node(ports={80: 8080, 443: 443})])
    made = Rig(tmp_path / "kind", sources=sources, engine=engine).with_cluster()
    run_workloads(made.api)
    made.api.when_applied("Job", lambda m: made.api.put({**m, "status": conditions("Complete")}))
    return made


@pytest.fixture
def installed(rig: Rig) -> Rig:
    """A cluster with our ingress-nginx."""
    IngressNginx(rig.parts).ensure()
    return rig


def test_without_a_cluster_it_is_absent_and_nothing_is_removed(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind")
    assert IngressNginx(rig.parts).observe() == Absent()
    IngressNginx(rig.parts).remove()
    assert not rig.home.exists()


def test_in_an_empty_cluster_it_is_absent(rig: Rig) -> None:
    assert IngressNginx(rig.parts).observe() == Absent()


def test_it_is_installed_and_answers_where_the_ports_are_mapped(rig: Rig) -> None:
    change = IngressNginx(rig.parts).ensure()
    assert change.action == "created"
    assert change.facts["address"] == "http://127.0.0.1:8080"
    assert change.facts["https_address"] == "https://127.0.0.1:443"
    assert {"jobs_seconds", "pods_seconds", "webhook_seconds"} <= set(change.facts)
    assert isinstance(IngressNginx(rig.parts).observe(), Ready)


def test_the_controller_stays_on_the_node_whose_ports_are_mapped(installed: Rig) -> None:
    deployment = installed.api.get(DEPLOYMENT, CONTROLLER, namespace=SYSTEM)
    assert deployment["spec"]["template"]["spec"]["nodeSelector"] == {
        "kubernetes.io/os": "linux",
        "ingress-ready": "true",
    }


def test_the_deployment_comes_last_since_its_annotation_stands_for_all(installed: Rig) -> None:
    kinds = [manifest["kind"] for manifest in installed.api.applied]
    assert kinds[-1] == "Deployment"
    assert kinds[0] == "Namespace"
    assert all(
        manifest["metadata"]["labels"]["mlops-pipeline/layer"] == "ingress_nginx"
        for manifest in installed.api.applied
    )


def test_jobs_stay_to_be_looked_at(installed: Rig) -> None:
    jobs = installed.api.list(JOB, namespace=SYSTEM)
    assert [job["spec"]["ttlSecondsAfterFinished"] for job in jobs] == [600, 600]


@pytest.mark.parametrize(
    ("images", "pinned"),
    [((), True), ((IMAGE,), False), (("other:1",), True)],
)
def test_an_image_of_the_bundle_is_asked_for_by_its_tag(
    rig: Rig, images: tuple[str, ...], *, pinned: bool
) -> None:
    class Holding(FakeSources):
        def archives(self, group: str) -> tuple[Archive, ...]:
            return (Archive(Path(f"/bundle/images/{group}.tar"), images),) if images else ()

    rig.sources = Holding(manifests={"ingress-nginx": rig.sources.manifest("ingress-nginx").path})
    IngressNginx(rig.parts).ensure()
    deployment = rig.api.get(DEPLOYMENT, CONTROLLER, namespace=SYSTEM)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == (f"{IMAGE}@sha256:594c" if pinned else IMAGE)


def test_a_second_time_changes_nothing(installed: Rig) -> None:
    applied = len(installed.api.applied)
    assert IngressNginx(installed.parts).ensure().action == "unchanged"
    assert len(installed.api.applied) == applied


def test_another_version_is_a_difference_and_its_jobs_run_anew(installed: Rig) -> None:
    annotations = {"mlops-pipeline/version": "controller-v1.14.0"}
    installed.api.patch(
        DEPLOYMENT, CONTROLLER, {"metadata": {"annotations": annotations}}, namespace=SYSTEM
    )
    assert IngressNginx(installed.parts).observe() == Drifted(
        ("its version is controller-v1.14.0, expected v0.16.1",)
    )
    assert IngressNginx(installed.parts).ensure().action == "updated"
    assert [d.resource for d in installed.api.deleted] == [JOB, JOB]


def test_a_bundle_without_it_is_told_before_anything_is_done(rig: Rig) -> None:
    rig.sources._absent.add("ingress-nginx")
    with pytest.raises(ConfigurationError, match="ingress-nginx is not in the bundle"):
        IngressNginx(rig.parts).ensure()
    assert rig.api.applied == []


def test_without_its_manifest_what_is_there_is_ready(installed: Rig) -> None:
    installed.sources._absent.add("ingress-nginx")
    assert isinstance(IngressNginx(installed.parts).observe(), Ready)


def test_a_cluster_without_mapped_ports_is_refused(rig: Rig) -> None:
    rig.engine.start(node(ports={6443: 40001}))
    with pytest.raises(ConfigurationError, match=r"does not map a port.*--recreate.*ingress_nginx"):
        IngressNginx(rig.parts).ensure()
    assert rig.api.applied == []


def test_its_address_is_one_that_can_be_asked(rig: Rig) -> None:
    rig.settings = cluster_settings(listen_address="0.0.0.0")
    assert IngressNginx(rig.parts).ensure().facts["address"] == "http://127.0.0.1:8080"


@pytest.mark.parametrize("message", ["BackoffLimitExceeded", ""])
def test_an_admission_job_that_fails_ends_the_wait(rig: Rig, message: str) -> None:
    rig.api.when_applied(
        "Job", lambda m: rig.api.put({**m, "status": conditions("Failed", message)})
    )
    with pytest.raises(FatalStateError) as caught:
        IngressNginx(rig.parts).ensure()
    assert "ingress-nginx-admission-create failed" in str(caught.value)
    assert (message or "reports no reason") in str(caught.value)
    assert "kubectl logs --namespace ingress-nginx job/" in str(caught.value)


def test_an_admission_job_that_hangs_is_told(rig: Rig) -> None:
    rig.api.when_applied("Job", lambda m: rig.api.put({**m, "status": {}}))
    with pytest.raises(WaitTimeoutError, match="ingress-nginx-admission-create is not complete"):
        IngressNginx(rig.parts).ensure()


def test_an_admission_job_that_vanished_is_told(rig: Rig) -> None:
    def drop(manifest: Manifest) -> None:
        rig.api.drop(JOB, "ingress-nginx-admission-create", namespace=SYSTEM)

    rig.api.when_applied("Deployment", drop)
    with pytest.raises(WaitTimeoutError, match="ingress-nginx-admission-create is missing"):
        IngressNginx(rig.parts).ensure()


def test_a_webhook_that_does_not_answer_yet_is_asked_again(rig: Rig) -> None:
    rig.api.fail(RACE, verbs=("dry_run",), kind="Ingress", times=3)
    before = rig.clock.now()
    IngressNginx(rig.parts).ensure()
    assert rig.clock.now() - before == pytest.approx(0.3)
    assert [manifest["kind"] for manifest in rig.api.dry_runs] == ["Ingress"]


def test_a_webhook_that_refuses_ends_the_wait(rig: Rig) -> None:
    rig.api.refuse("Ingress", "host already defined")
    with pytest.raises(InvalidManifestError, match="host already defined"):
        IngressNginx(rig.parts).ensure()


def _no_controller(api: FakeKubernetes) -> None:
    api.drop(DEPLOYMENT, CONTROLLER, namespace=SYSTEM)


def _no_pod(api: FakeKubernetes) -> None:
    api.drop(POD, f"{CONTROLLER}-0", namespace=SYSTEM)  # Its Deployment has not seen it yet.


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_no_controller, "ingress-nginx exists without its controller"),
        (_no_pod, "there is no pod yet"),
        (FakeKubernetes.stop, "connection refused"),
    ],
)
def test_what_it_lacks_breaks_it(
    installed: Rig, harm: Callable[[FakeKubernetes], None], reason: str
) -> None:
    harm(installed.api)
    state = IngressNginx(installed.parts).observe()
    assert isinstance(state, Broken)
    assert reason in state.reason
    installed.api.mend()
    IngressNginx(installed.parts).ensure()
    assert isinstance(IngressNginx(installed.parts).observe(), Ready)


def test_one_of_others_is_not_touched(installed: Rig) -> None:
    change = {"metadata": {"labels": None}, "status": {"availableReplicas": 0}}
    installed.api.patch(DEPLOYMENT, CONTROLLER, change, namespace=SYSTEM)
    with pytest.raises(ConflictError, match="ingress-nginx is in the cluster already"):
        IngressNginx(installed.parts).ensure()


def test_removing_deletes_what_is_ours(installed: Rig) -> None:
    IngressNginx(installed.parts).remove()
    assert [d.resource.kind for d in installed.api.deleted] == [
        VALIDATING_WEBHOOK.kind,
        "IngressClass",
        NAMESPACE.kind,
    ]
    assert IngressNginx(installed.parts).observe() == Absent()


def test_the_check_asks_a_pod_through_an_ingress(
    installed: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(url: str, *, timeout: float) -> HttpAnswer:
        (found,) = installed.api.list(INGRESS)
        (path,) = found["spec"]["rules"][0]["http"]["paths"]
        assert found["spec"]["ingressClassName"] == "nginx"
        assert path["backend"]["service"] == {"name": "echo", "port": {"number": 5678}}
        assert url == f"http://127.0.0.1:8080{path['path']}"
        return HttpAnswer(200, {}, found["metadata"]["namespace"].encode())

    monkeypatch.setattr(http, "get", answer)
    (check,) = IngressNginx(installed.parts).checks
    finding = check.run()
    assert (check.name, finding.passed) == ("serves_an_ingress", True)
    assert "http://127.0.0.1:8080/mlops-probe-" in finding.seen
    assert installed.api.list(INGRESS) == []


def test_a_port_that_does_not_answer_is_told(
    installed: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "get", lambda url, *, timeout: HttpAnswer(404, {}, b"nginx"))
    with pytest.raises(WaitTimeoutError, match="answered 404: 'nginx'"):
        IngressNginx(installed.parts).checks[0].run()
