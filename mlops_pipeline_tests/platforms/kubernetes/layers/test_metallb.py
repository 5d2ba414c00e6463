from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    FatalStateError,
    InvalidManifestError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    DAEMON_SET,
    DEPLOYMENT,
    IP_ADDRESS_POOL,
    L2_ADVERTISEMENT,
    NAMESPACE,
    POD,
    VALIDATING_WEBHOOK,
    Manifest,
    Resource,
)
from mlops_pipeline.platforms.kubernetes.layers.metallb.layer import MetalLB
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.layers import MetalLBSettings
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    CONTROL_PLANE,
    Rig,
    by_ports,
    make_engine,
    node,
    run_workloads,
)

SYSTEM = "metallb-system"
MANIFEST = """
apiVersion: v1
kind: Namespace
metadata:
  name: metallb-system
  labels:
    pod-security.kubernetes.io/enforce: privileged
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: controller, namespace: metallb-system}
spec:
  selector: {matchLabels: {component: controller}}
  template:
    spec:
      containers:
      - name: controller
        readinessProbe: {httpGet: {path: /readyz}, initialDelaySeconds: 10, periodSeconds: 10}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: speaker, namespace: metallb-system}
spec:
  selector: {matchLabels: {component: speaker}}
  template:
    spec:
      containers: [{name: speaker}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: metallb-webhook-configuration}
"""
RACE = UnavailableError(
    'could not apply it: failed calling webhook "ipaddresspoolvalidationwebhook.metallb.io": '
    "connect: connection refused"
)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A cluster in which what is applied runs at once, and no MetalLB."""
    return make_rig(tmp_path)


@pytest.fixture
def installed(rig: Rig) -> Rig:
    """A cluster with our MetalLB."""
    MetalLB(rig.parts).ensure()
    return rig


def make_rig(folder: Path) -> Rig:
    file = folder / "metallb-native.yaml"
    file.write_text(MANIFEST)
    sources = FakeSources(manifests={"metallb-native": file})
    engine = make_engine(containers=[node()], archives=sources.contents())
    made = Rig(folder / "kind", sources=sources, engine=engine).with_cluster()
    run_workloads(made.api)
    return made


def with_addresses(rig: Rig, addresses: str) -> MetalLB:
    settings = KindSettings(metallb=MetalLBSettings(addresses=addresses), ready_timeout=60)
    return MetalLB(replace(rig.parts, settings=settings))


def pool(rig: Rig) -> Manifest:
    return rig.api.get(IP_ADDRESS_POOL, "mlops-pipeline", namespace=SYSTEM)


def test_without_a_cluster_it_is_absent_and_nothing_is_removed(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind")
    assert MetalLB(rig.parts).observe() == Absent()
    MetalLB(rig.parts).remove()
    assert not rig.home.exists()


def test_in_an_empty_cluster_it_is_absent(rig: Rig) -> None:
    assert MetalLB(rig.parts).observe() == Absent()


def test_an_api_server_that_does_not_answer_breaks_it(rig: Rig) -> None:
    rig.api.stop()
    state = MetalLB(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "connection refused" in state.reason


def test_it_is_installed_with_a_pool_near_the_end_of_the_ipv4_subnet(rig: Rig) -> None:
    change = MetalLB(rig.parts).ensure()
    assert change.action == "created"
    assert change.facts["version"] == "v0.16.1"
    assert change.facts["count"] == 50
    assert {"images_seconds", "pods_seconds", "webhook_seconds"} <= set(change.facts)
    (addresses,) = pool(rig)["spec"]["addresses"]
    assert addresses.startswith("172.18.2")
    assert addresses == change.facts["addresses"]
    announced = rig.api.get(L2_ADVERTISEMENT, "mlops-pipeline", namespace=SYSTEM)
    assert announced["spec"] == {"ipAddressPools": ["mlops-pipeline"]}
    assert MetalLB(rig.parts).observe() == Ready(
        {"version": "v0.16.1", "addresses": addresses, "count": 50}
    )


def test_images_come_to_the_nodes_before_the_pods(rig: Rig) -> None:
    seen: list[int] = []
    rig.api.when_applied("Deployment", lambda _: seen.append(len(rig.engine.imported)))
    MetalLB(rig.parts).ensure()
    assert rig.engine.imported == [(Path("/bundle/images/metallb.tar"), CONTROL_PLANE)]
    assert seen == [1]


def test_everything_carries_our_label_and_keeps_upstreams(installed: Rig) -> None:
    assert all(
        manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mlops-pipeline"
        for manifest in installed.api.applied
    )
    labels = installed.api.get(NAMESPACE, SYSTEM)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


def test_the_kubelet_looks_at_once_whether_it_is_ready(installed: Rig) -> None:
    deployment = installed.api.get(DEPLOYMENT, "controller", namespace=SYSTEM)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]
    assert (probe["initialDelaySeconds"], probe["periodSeconds"]) == (0, 1)
    assert probe["httpGet"] == {"path": "/readyz"}


def test_a_second_time_changes_nothing(installed: Rig) -> None:
    applied = len(installed.api.applied)
    assert MetalLB(installed.parts).ensure().action == "unchanged"
    assert len(installed.api.applied) == applied


def test_a_webhook_that_does_not_answer_yet_is_asked_again(rig: Rig) -> None:
    rig.api.fail(RACE, verbs=("dry_run",), kind="IPAddressPool", times=5)
    before = rig.clock.now()
    MetalLB(rig.parts).ensure()
    assert rig.clock.now() - before == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["IPAddressPool", "L2Advertisement"])
def test_a_webhook_that_is_gone_after_it_has_answered_is_asked_again(rig: Rig, kind: str) -> None:
    rig.api.fail(RACE, verbs=("apply",), kind=kind, times=3)
    MetalLB(rig.parts).ensure()
    assert isinstance(MetalLB(rig.parts).observe(), Ready)


def test_a_right_that_is_lacking_ends_the_wait_at_once(rig: Rig) -> None:
    rig.api.fail(AccessDeniedError("ipaddresspools is forbidden"), verbs=("dry_run",))
    before = rig.clock.now()
    with pytest.raises(AccessDeniedError, match="is forbidden"):
        MetalLB(rig.parts).ensure()
    assert rig.clock.now() == before


def test_a_webhook_that_never_answers_is_told_in_its_words(rig: Rig) -> None:
    rig.api.fail(RACE, verbs=("dry_run",), kind="L2Advertisement")
    with pytest.raises(WaitTimeoutError) as caught:
        MetalLB(rig.parts).ensure()
    assert "connect: connection refused" in str(caught.value)
    assert "kubectl logs --namespace metallb-system" in str(caught.value)
    assert rig.api.find(IP_ADDRESS_POOL, "mlops-pipeline", namespace=SYSTEM) is None


def test_a_webhook_that_refuses_ends_the_wait_at_once(rig: Rig) -> None:
    rig.api.refuse("IPAddressPool", "overlaps with pool other")
    before = rig.clock.now()
    with pytest.raises(InvalidManifestError, match="overlaps with pool other"):
        MetalLB(rig.parts).ensure()
    assert rig.clock.now() == before


def test_the_range_that_is_there_is_kept(installed: Rig) -> None:
    installed.api.patch(
        IP_ADDRESS_POOL,
        "mlops-pipeline",
        {"spec": {"addresses": ["172.18.9.0-172.18.9.9"]}},
        namespace=SYSTEM,
    )
    state = MetalLB(installed.parts).observe()
    assert isinstance(state, Ready)
    assert state.facts["addresses"] == "172.18.9.0-172.18.9.9"


def test_a_range_that_does_not_fit_the_network_any_more_is_replaced(installed: Rig) -> None:
    installed.api.patch(
        IP_ADDRESS_POOL,
        "mlops-pipeline",
        {"spec": {"addresses": ["10.9.9.0-10.9.9.9"]}},
        namespace=SYSTEM,
    )
    state = MetalLB(installed.parts).observe()
    assert isinstance(state, Drifted)
    assert "its addresses are 10.9.9.0-10.9.9.9, expected 172.18." in state.differences[0]
    assert MetalLB(installed.parts).ensure().action == "updated"
    assert isinstance(MetalLB(installed.parts).observe(), Ready)


def test_the_settings_choose_the_range(installed: Rig) -> None:
    layer = with_addresses(installed, "172.18.7.0/28")
    assert isinstance(layer.observe(), Drifted)
    assert layer.ensure().facts["addresses"] == "172.18.7.0-172.18.7.15"
    assert isinstance(layer.observe(), Ready)


def test_a_wrong_range_in_the_settings_is_refused_before_anything_is_done(rig: Rig) -> None:
    with pytest.raises(ConfigurationError, match=r"kind\.metallb\.addresses = '10\.0\.0\.0/28'"):
        with_addresses(rig, "10.0.0.0/28").ensure()
    assert rig.api.applied == []
    assert rig.engine.imported == []


def test_a_wrong_range_in_the_settings_is_a_difference(installed: Rig) -> None:
    state = with_addresses(installed, "10.0.0.0/28").observe()
    assert isinstance(state, Drifted)
    assert "is not inside the container network" in state.differences[0]


def test_another_version_is_a_difference_and_is_applied(installed: Rig) -> None:
    annotations = {"mlops-pipeline/version": "v0.15.0"}
    installed.api.patch(
        IP_ADDRESS_POOL,
        "mlops-pipeline",
        {"metadata": {"annotations": annotations}},
        namespace=SYSTEM,
    )
    assert MetalLB(installed.parts).observe() == Drifted(
        ("its version is v0.15.0, expected v0.16.1",)
    )
    assert MetalLB(installed.parts).ensure().action == "updated"
    assert isinstance(MetalLB(installed.parts).observe(), Ready)


def test_another_manifest_of_the_same_version_is_a_difference(installed: Rig) -> None:
    file = installed.sources.manifest("metallb-native").path
    file.write_text(MANIFEST + "\n# Altered.\n")
    assert MetalLB(installed.parts).observe() == Drifted(
        ("another manifest of version v0.16.1 was applied",)
    )


def test_without_its_manifest_what_is_there_is_ready_and_nothing_new_is_made(
    installed: Rig,
) -> None:
    class Gone(FakeSources):
        def manifest(self, name: str) -> None:  # type: ignore[override]
            raise ConfigurationError(f"the bundle has no {name}")

    installed.sources = Gone()
    assert isinstance(MetalLB(installed.parts).observe(), Ready)


def test_a_manifest_that_cannot_be_had_is_told_before_anything_is_done(rig: Rig) -> None:
    rig.sources._absent.add("metallb-native")
    with pytest.raises(ConfigurationError, match="metallb-native is not in the bundle"):
        MetalLB(rig.parts).ensure()
    assert rig.api.applied == []


@pytest.mark.parametrize("missing", [IP_ADDRESS_POOL, L2_ADVERTISEMENT])
def test_a_missing_half_of_the_pool_is_made_good(installed: Rig, missing: Resource) -> None:
    installed.api.drop(missing, "mlops-pipeline", namespace=SYSTEM)
    state = MetalLB(installed.parts).observe()
    assert isinstance(state, Drifted)
    assert f"the {missing.kind} metallb-system/mlops-pipeline is missing" in state.differences[0]
    assert MetalLB(installed.parts).ensure().action == "updated"
    assert isinstance(MetalLB(installed.parts).observe(), Ready)


def test_services_have_their_addresses_again_when_a_new_pool_is_there(installed: Rig) -> None:
    installed.api.drop(IP_ADDRESS_POOL, "mlops-pipeline", namespace=SYSTEM)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "gateway", "namespace": "default"},
        "spec": {"type": "LoadBalancer"},
    }
    installed.api.put(service)
    before = installed.clock.time
    # One that never gets any is not this layer's to tell.
    assert MetalLB(installed.parts).ensure().action == "updated"
    assert 20 <= installed.clock.time - before < 22


def _no_controller(api: FakeKubernetes) -> None:
    api.drop(DEPLOYMENT, "controller", namespace=SYSTEM)


def _no_speaker(api: FakeKubernetes) -> None:
    api.drop(DAEMON_SET, "speaker", namespace=SYSTEM)


def _controller_unready(api: FakeKubernetes) -> None:
    status = {"availableReplicas": 0}
    api.patch(DEPLOYMENT, "controller", {"status": status}, namespace=SYSTEM)


def _speaker_unready(api: FakeKubernetes) -> None:
    status = {"numberAvailable": 0}
    api.patch(DAEMON_SET, "speaker", {"status": status}, namespace=SYSTEM)


def _no_controller_pod(api: FakeKubernetes) -> None:
    api.drop(POD, "controller-0", namespace=SYSTEM)  # Its Deployment has not seen it yet.


def _no_speaker_pod(api: FakeKubernetes) -> None:
    api.drop(POD, "speaker-0", namespace=SYSTEM)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_no_controller, "metallb-system exists without its controller"),
        (_no_speaker, "DaemonSet metallb-system/speaker is missing"),
        (_controller_unready, "its controller has not reconciled it yet"),
        (_speaker_unready, "0 of 1 nodes have a speaker: pods are being replaced"),
        (_no_controller_pod, "there is no pod yet"),
        (_no_speaker_pod, "0 of 1 nodes have a speaker: there is no pod yet"),
    ],
)
def test_what_it_lacks_breaks_it_and_is_repaired(
    installed: Rig, harm: Callable[[FakeKubernetes], None], reason: str
) -> None:
    harm(installed.api)
    state = MetalLB(installed.parts).observe()
    assert isinstance(state, Broken)
    assert reason in state.reason
    assert MetalLB(installed.parts).ensure().action == "repaired"
    assert isinstance(MetalLB(installed.parts).observe(), Ready)


def test_a_speaker_that_cannot_start_is_replaced_once_and_ends_the_wait(rig: Rig) -> None:
    replaced = []

    def fail(manifest: Manifest) -> None:
        rig.api.put({**manifest, "status": {"desiredNumberScheduled": 1}})
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "speaker-1",
                "namespace": SYSTEM,
                "labels": {"component": "speaker"},
            },
            "status": {"containerStatuses": [{"name": "speaker", "state": waiting}]},
        }
        rig.api.put(pod)

    def replace_pod(resource: Resource, name: str, *, namespace: str = "", uid: str = "") -> bool:
        replaced.append(name)
        found = rig.api.get(resource, name, namespace=namespace)
        rig.api.put({**found, "metadata": {**found["metadata"], "uid": "another"}})
        return True

    rig.api.when_applied("DaemonSet", fail)
    rig.api.delete = replace_pod  # type: ignore[method-assign]
    with pytest.raises(FatalStateError, match="no such host"):
        MetalLB(rig.parts).ensure()
    assert replaced == ["speaker-1"]
    state = MetalLB(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "no such host" in state.reason


@pytest.mark.parametrize(
    ("resource", "name"),
    [(NAMESPACE, SYSTEM), (VALIDATING_WEBHOOK, "metallb-webhook-configuration")],
)
def test_a_metallb_that_others_installed_by_another_name_is_not_taken_over(
    rig: Rig, resource: Resource, name: str
) -> None:
    metadata = {"name": name, "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    rig.api.put(
        {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
            "spec": {},
        }
    )
    with pytest.raises(ConflictError, match=f"{resource.kind} {name} lacks our label; remove it"):
        MetalLB(rig.parts).ensure()
    assert rig.api.applied == []
    MetalLB(rig.parts).remove()
    assert rig.api.find(resource, name) is not None


def test_a_metallb_of_others_is_not_touched(installed: Rig) -> None:
    change = {"metadata": {"labels": None}, "status": {"availableReplicas": 0}}
    installed.api.patch(DEPLOYMENT, "controller", change, namespace=SYSTEM)
    applied = len(installed.api.applied)
    with pytest.raises(ConflictError, match="MetalLB is in the cluster already, but this"):
        MetalLB(installed.parts).ensure()
    assert len(installed.api.applied) == applied


def test_removing_deletes_what_is_ours_webhooks_first(installed: Rig) -> None:
    installed.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    MetalLB(installed.parts).remove()
    assert [d.resource for d in installed.api.deleted] == [VALIDATING_WEBHOOK, NAMESPACE]
    assert MetalLB(installed.parts).observe() == Absent()
    assert installed.api.find(NAMESPACE, "other") is not None


def test_a_namespace_that_is_ending_is_waited_for(installed: Rig) -> None:
    deleted = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    installed.api.patch(NAMESPACE, SYSTEM, deleted)
    installed.api.drop(DEPLOYMENT, "controller", namespace=SYSTEM)
    with pytest.raises(WaitTimeoutError, match="it is still being deleted"):
        MetalLB(installed.parts).ensure()


@pytest.mark.parametrize("resource", [IP_ADDRESS_POOL, L2_ADVERTISEMENT])
def test_what_is_just_being_deleted_counts_as_lost_and_is_waited_for(
    installed: Rig, resource: Resource
) -> None:
    deleted = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    installed.api.patch(resource, "mlops-pipeline", deleted, namespace=SYSTEM)
    state = MetalLB(installed.parts).observe()
    assert isinstance(state, Drifted)
    assert f"the {resource.kind} {SYSTEM}/mlops-pipeline is missing" in state.differences[0]
    with pytest.raises(
        WaitTimeoutError, match=f"the deletion of the {resource.kind} {SYSTEM}/mlops"
    ):
        MetalLB(installed.parts).ensure()
    installed.api.drop(resource, "mlops-pipeline", namespace=SYSTEM)
    assert MetalLB(installed.parts).ensure().action == "updated"
    assert isinstance(MetalLB(installed.parts).observe(), Ready)


def test_the_check_asks_a_pod_at_its_address(
    installed: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(url: str, *, timeout: float) -> HttpAnswer:
        assert url == "http://172.18.255.9:5678/"
        (name,) = [
            n["metadata"]["name"]
            for n in installed.api.list(NAMESPACE, labels="mlops-pipeline/probe=echo")
        ]
        return HttpAnswer(200, {}, f"{name}\n".encode())

    monkeypatch.setattr(http, "get", answer)
    (check,) = MetalLB(installed.parts).checks
    finding = check.run()
    assert (check.name, finding.passed) == ("gives_addresses", True)
    assert "http://172.18.255.9:5678/ answered" in finding.seen
    assert installed.api.list(NAMESPACE, labels="mlops-pipeline/probe=echo") == []


def test_out_of_reach_of_addresses_the_check_asks_from_a_node(
    installed: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_ports(installed)
    monkeypatch.setattr("secrets.token_hex", lambda _: "abcd")
    installed.engine.outputs = [(("curl", "http://172.18.255.9:5678/"), "mlops-probe-abcd\n200")]
    (check,) = MetalLB(installed.parts).checks
    assert "from a node" in check.description
    assert check.run().passed
    installed.engine.outputs = [(("curl",), "no such route\n404")]
    with pytest.raises(WaitTimeoutError, match="answered 404: 'no such route'"):
        check.run()


def test_an_address_that_cannot_be_reached_is_told_with_what_may_help(
    installed: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(url: str, *, timeout: float) -> HttpAnswer:
        raise UnavailableError(f"could not reach {url}: timed out")

    monkeypatch.setattr(http, "get", fail)
    with pytest.raises(
        WaitTimeoutError, match="check that this machine can reach the container network"
    ):
        MetalLB(installed.parts).checks[0].run()
    assert installed.api.list(NAMESPACE, labels="mlops-pipeline/probe=echo") == []
