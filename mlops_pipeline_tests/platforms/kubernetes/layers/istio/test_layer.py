from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    FatalStateError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    GATEWAY,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    VIRTUAL_SERVICE,
    Manifest,
    Resource,
)
from mlops_pipeline.platforms.kubernetes.layers.istio.charts import check_window
from mlops_pipeline.platforms.kubernetes.layers.istio.layer import Istio
from mlops_pipeline.platforms.layers import Absent, Broken, Drifted, Ready
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline_tests.fakes.helm import release_secret
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.platforms.kubernetes.charts import (
    HelmRig,
    deployment,
    load_balancer,
    waiting_pod,
)

SYSTEM = "istio-system"
INGRESS = "istio-ingressgateway"
ADDRESS = "172.18.255.200"
INJECTOR = Resource("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration")
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gateways.networking.istio.io"},
    "spec": {
        "group": "networking.istio.io",
        "names": {"kind": "Gateway"},
        "versions": [{"name": "v1"}],
    },
}
BRINGS: dict[str, list[Manifest]] = {
    "istio-base": [DEFINITION],
    "istiod": [
        deployment("istiod", SYSTEM, image="registry.istio.io/release/pilot:1.31.0"),
        {
            "apiVersion": INJECTOR.api_version,
            "kind": INJECTOR.kind,
            "metadata": {"name": "istio-sidecar-injector"},
        },
    ],
    INGRESS: [deployment(INGRESS, SYSTEM), load_balancer(INGRESS, SYSTEM, address=ADDRESS)],
}


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelmRig:
    """A cluster without Istio, whose gateway answers as soon as there is a Gateway."""
    made = HelmRig.make(tmp_path, BRINGS)

    def get(url: str, *, timeout: float, trust: str = "") -> HttpAnswer:
        if made.api.find(GATEWAY, "seldon-gateway", namespace=SYSTEM) is None:
            raise UnavailableError(f"could not reach {url}: ConnectError: Connection refused")
        return HttpAnswer(404, {"server": "istio-envoy"}, b"")

    monkeypatch.setattr(http, "get", get)
    return made


@pytest.fixture
def installed(rig: HelmRig) -> HelmRig:
    """A cluster with our Istio."""
    Istio(rig.parts).ensure()
    rig.helm.upgrades.clear()
    return rig


def test_without_a_cluster_it_is_absent_and_nothing_is_removed(rig: HelmRig) -> None:
    rig.parts.state.kubeconfig.unlink()
    assert Istio(rig.parts).observe() == Absent()
    Istio(rig.parts).remove()
    with pytest.raises(NotFoundError):
        Istio(rig.parts).url()


def test_in_an_empty_cluster_it_is_absent_and_has_no_address(rig: HelmRig) -> None:
    assert Istio(rig.parts).observe() == Absent()
    with pytest.raises(NotFoundError, match="mlops-pipeline up istio"):
        Istio(rig.parts).url()


def test_an_api_server_that_does_not_answer_breaks_it(rig: HelmRig) -> None:
    rig.api.stop()
    state = Istio(rig.parts).observe()
    assert isinstance(state, Broken)
    assert "connection refused" in state.reason


def test_it_is_installed_in_order_and_answers(rig: HelmRig) -> None:
    change = Istio(rig.parts).ensure()
    assert change.action == "created"
    assert rig.installed() == ["istio-base", "istiod", INGRESS]
    assert change.facts["address"] == f"http://{ADDRESS}" == Istio(rig.parts).url()
    assert change.facts["version"] == "1.31.0"
    assert {"images_seconds", "istiod_seconds", "gateway_seconds"} <= set(change.facts)
    assert "warning" not in change.facts
    assert isinstance(Istio(rig.parts).observe(), Ready)


def test_it_is_sized_for_a_laptop_and_uses_images_of_the_nodes(installed: HelmRig) -> None:
    installed.api.drop(GATEWAY, "seldon-gateway", namespace=SYSTEM)
    installed.api.put(release_secret("istiod", SYSTEM, status="failed", revision=2))
    # What is foreign is not upgraded, so both are made anew.
    for name in ("istiod", INGRESS):
        for secret in installed.api.list(SECRET, namespace=SYSTEM, labels=f"name={name}"):
            installed.api.drop(SECRET, secret["metadata"]["name"], namespace=SYSTEM)
    Istio(installed.parts).ensure()
    istiod, ingress = installed.helm.upgrades
    assert istiod.values["resources"]["requests"] == {"cpu": "50m", "memory": "256Mi"}
    assert istiod.values["autoscaleEnabled"] is False
    assert ingress.values["imagePullPolicy"] == "IfNotPresent"
    assert ingress.values["replicaCount"] == 1
    assert ingress.labels["app.kubernetes.io/managed-by"] == "mlops-pipeline"
    assert len(ingress.labels["mlops-pipeline/inputs"]) == 16


def test_images_come_to_the_nodes_before_anything_is_installed(rig: HelmRig) -> None:
    Istio(rig.parts).ensure()
    (imported,) = rig.rig.engine.imported
    assert imported[0].name == "istio.tar"


def test_its_namespace_and_gateway_carry_our_label(installed: HelmRig) -> None:
    gateway = installed.api.get(GATEWAY, "seldon-gateway", namespace=SYSTEM)
    for found in (gateway, installed.api.get(NAMESPACE, SYSTEM)):
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mlops-pipeline"
    assert gateway["spec"] == {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
    }


def test_a_second_time_changes_nothing(installed: HelmRig) -> None:
    applied = len(installed.api.applied)
    assert Istio(installed.parts).ensure().action == "unchanged"
    assert len(installed.api.applied) == applied
    assert installed.installed() == []


def _no_gateway(api: FakeKubernetes) -> None:
    api.drop(GATEWAY, "seldon-gateway", namespace=SYSTEM)


def _no_istiod(api: FakeKubernetes) -> None:
    api.patch(DEPLOYMENT, "istiod", {"spec": {"replicas": 0}}, namespace=SYSTEM)


def _no_injector(api: FakeKubernetes) -> None:
    api.drop(INJECTOR, "istio-sidecar-injector")


def _no_service(api: FakeKubernetes) -> None:
    api.drop(SERVICE, INGRESS, namespace=SYSTEM)


def _no_deployment(api: FakeKubernetes) -> None:
    api.drop(DEPLOYMENT, INGRESS, namespace=SYSTEM)


def _no_definition(api: FakeKubernetes) -> None:
    api.drop(CUSTOM_RESOURCE_DEFINITION, "gateways.networking.istio.io")


def _no_release(api: FakeKubernetes) -> None:
    for secret in api.list(SECRET, namespace=SYSTEM, labels="owner=helm,name=istiod"):
        api.drop(SECRET, secret["metadata"]["name"], namespace=SYSTEM)


def _interrupted(api: FakeKubernetes) -> None:
    labels = {"status": "pending-upgrade"}
    name = "sh.helm.release.v1.istiod.v1"
    api.patch(SECRET, name, {"metadata": {"labels": labels}}, namespace=SYSTEM)


@pytest.mark.parametrize(
    ("harm", "reason", "installs"),
    [
        (_no_gateway, "the Gateway istio-system/seldon-gateway is missing", []),
        (_no_istiod, "the Deployment istio-system/istiod is scaled to 0", ["istiod"]),
        (_no_injector, "istio-sidecar-injector is missing", ["istiod"]),
        (_no_service, f"the Service istio-system/{INGRESS} is missing", [INGRESS]),
        (_no_deployment, f"the Deployment istio-system/{INGRESS} is missing", [INGRESS]),
        (_no_definition, "gateways.networking.istio.io is missing", ["istio-base"]),
        (_no_release, "the Helm release istio-system/istiod is missing", ["istiod"]),
        (_interrupted, "istio-system/istiod is `pending-upgrade`", ["istiod"]),
    ],
)
def test_what_it_lacks_breaks_it_and_that_alone_is_repaired(
    installed: HelmRig,
    harm: Callable[[FakeKubernetes], None],
    reason: str,
    installs: list[str],
) -> None:
    harm(installed.api)
    state = Istio(installed.parts).observe()
    assert isinstance(state, Broken)
    assert reason in state.reason
    assert Istio(installed.parts).ensure().action == "repaired"
    assert installed.installed() == installs
    assert isinstance(Istio(installed.parts).observe(), Ready)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"servers": [{"hosts": ["a"]}]}, "servers is [{'hosts': ['a']}], expected [{'port': {"),
        ({"selector": {"team": "red"}}, "selector.team is red, expected nothing"),
        ({"selector": {"istio": "other"}}, "selector.istio is other, expected ingressgateway"),
    ],
)
def test_a_gateway_that_somebody_edited_is_named_and_taken_back(
    installed: HelmRig,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    difference: str,
) -> None:
    """Also where it does not answer any more: that is why."""
    installed.api.patch(GATEWAY, "seldon-gateway", {"spec": change}, namespace=SYSTEM)
    with monkeypatch.context() as silent:
        silent.setattr(http, "get", _refuse)
        state = Istio(installed.parts).observe()
    assert isinstance(state, Drifted)
    (seen,) = state.differences
    assert seen.startswith(f"the Gateway istio-system/seldon-gateway differs: {difference}")
    assert Istio(installed.parts).ensure().action == "updated"
    assert isinstance(Istio(installed.parts).observe(), Ready)


def _refuse(*_: object, **__: object) -> HttpAnswer:
    raise UnavailableError("connection refused")


def test_another_version_of_the_charts_is_a_difference(installed: HelmRig) -> None:
    installed.sources.versions = dict.fromkeys(("base", "istiod", "gateway"), "1.31.1")
    state = Istio(installed.parts).observe()
    assert isinstance(state, Drifted)
    assert state.differences[1] == (
        "the Helm release istio-system/istiod is version 1.31.0, expected 1.31.1"
    )
    assert Istio(installed.parts).ensure().action == "updated"
    assert installed.installed() == ["istio-base", "istiod", INGRESS]


def test_another_chart_of_the_same_version_is_a_difference(installed: HelmRig) -> None:
    installed.sources.chart("gateway").path.write_text("altered")
    assert Istio(installed.parts).observe() == Drifted(
        (
            f"the Helm release istio-system/{INGRESS} was installed from another chart or with "
            "other values",
        )
    )


def test_without_its_charts_what_runs_is_ready_and_nothing_new_is_made(
    installed: HelmRig, tmp_path: Path
) -> None:
    installed.sources.lose("istiod")
    assert isinstance(Istio(installed.parts).observe(), Ready)
    _no_istiod(installed.api)
    with pytest.raises(ConfigurationError, match="istiod is not in the bundle"):
        Istio(installed.parts).ensure()
    assert installed.installed() == []


def test_a_release_of_somebody_else_is_left_alone(rig: HelmRig) -> None:
    rig.api.put(release_secret("istiod", SYSTEM))
    state = Istio(rig.parts).observe()
    assert isinstance(state, Broken)
    with pytest.raises(ConflictError, match="helm uninstall istiod --namespace istio-system"):
        Istio(rig.parts).ensure()
    assert "istiod" not in rig.installed()
    Istio(rig.parts).remove()
    assert rig.api.find(SECRET, "sh.helm.release.v1.istiod.v1", namespace=SYSTEM) is not None


def test_a_kubernetes_that_is_too_old_is_refused_before_anything_is_done(rig: HelmRig) -> None:
    rig.api._version = "v1.28.3"
    with pytest.raises(ConfigurationError, match=r"expected Kubernetes 1\.32 or newer"):
        Istio(rig.parts).ensure()
    assert rig.installed() == []
    assert rig.rig.engine.imported == []


@pytest.mark.parametrize(
    ("istio", "kubernetes", "warning"),
    [
        ("1.30.3", "v1.34.4", ""),
        ("1.30.3", "v1.37.1", "Istio 1.30.3 is supported up to Kubernetes 1.36, this is v1.37.1"),
        ("1.31-dev", "v1.40.0", ""),
        (
            "1.39.0",
            "v1.34.4",
            "Istio 1.39.0 is not in the table of supported versions; Kubernetes is v1.34.4",
        ),
    ],
)
def test_what_is_newer_than_known_is_a_warning(istio: str, kubernetes: str, warning: str) -> None:
    assert check_window(istio, kubernetes) == warning


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"expected a version 1\.x, got 'latest'"):
        check_window("latest", "v1.34.4")


def test_a_warning_about_versions_stays_in_the_facts(installed: HelmRig) -> None:
    image = {"name": "c", "image": "registry.istio.io/release/pilot:1.99.0"}
    spec = {"template": {"spec": {"containers": [image]}}}
    installed.api.patch(DEPLOYMENT, "istiod", {"spec": spec}, namespace=SYSTEM)
    state = Istio(installed.parts).observe()
    assert isinstance(state, Ready)
    assert "1.99.0 is not in the table" in str(state.facts["warning"])


def test_a_webhook_that_does_not_answer_yet_is_asked_again(rig: HelmRig) -> None:
    race = UnavailableError('failed calling webhook "validation.istio.io": connection refused')
    rig.api.fail(race, kind="Gateway", times=4)
    before = rig.rig.clock.now()
    Istio(rig.parts).ensure()
    assert rig.rig.clock.now() - before == pytest.approx(0.4)


def test_a_gateway_without_an_address_is_waited_for_and_told(rig: HelmRig) -> None:
    service = load_balancer(INGRESS, SYSTEM)
    brought = {**BRINGS, INGRESS: [deployment(INGRESS, SYSTEM), {**service, "status": {}}]}
    rig.helm._brings = {name: tuple(found) for name, found in brought.items()}
    with pytest.raises(WaitTimeoutError, match="no external IP was assigned to its Service"):
        Istio(rig.parts).ensure()
    state = Istio(rig.parts).observe()
    assert isinstance(state, Broken)
    rig.api.apply(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "seldon-gateway", "namespace": SYSTEM, "labels": MANAGED_BY},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [
                    {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
                ],
            },
        }
    )
    assert Istio(rig.parts).observe() == Broken(
        "the gateway has no address: no external IP was assigned to its Service"
    )


def test_an_address_that_cannot_be_reached_is_told_with_what_to_do(
    installed: HelmRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(url: str, *, timeout: float, trust: str = "") -> HttpAnswer:
        raise UnavailableError(f"could not reach {url}: ConnectTimeout: timed out")

    monkeypatch.setattr(http, "get", get)
    state = Istio(installed.parts).observe()
    assert isinstance(state, Broken)
    assert "check that this machine can reach the container network" in state.reason
    before = installed.rig.clock.now()
    with pytest.raises(WaitTimeoutError, match=r"kind\.cluster\.reach = ports"):
        Istio(installed.parts).ensure()
    assert installed.rig.clock.now() - before == pytest.approx(30, abs=1)


def test_out_of_reach_of_addresses_it_is_reached_by_ports_of_this_machine(rig: HelmRig) -> None:
    rig.by_ports()
    change = Istio(rig.parts).ensure()
    assert change.facts["address"] == "http://127.0.0.1:8180" == Istio(rig.parts).url()
    ports = rig.helm.upgrades[-1].values["service"]["ports"]
    assert {p["port"]: p.get("nodePort") for p in ports} == {15021: None, 80: 30080, 443: 30043}
    assert isinstance(Istio(rig.parts).observe(), Ready)


def test_another_way_to_reach_it_is_a_difference(installed: HelmRig) -> None:
    installed.by_ports()
    state = Istio(installed.parts).observe()
    assert isinstance(state, Drifted)
    assert state.differences[0].endswith("or with other values")
    assert Istio(installed.parts).ensure().action == "updated"
    assert installed.installed() == [INGRESS]


def _unready(rig: HelmRig, **pod: str) -> None:
    rig.api.drop(POD, f"{INGRESS}-0", namespace=SYSTEM)
    rig.api.put(waiting_pod("pod-1", SYSTEM, app=INGRESS, **pod))


def test_a_pod_that_cannot_start_is_replaced_once_and_then_told(installed: HelmRig) -> None:
    _unready(installed, reason="ErrImagePull", message="no such host")
    state = Istio(installed.parts).observe()
    assert isinstance(state, Broken)
    assert "no such host" in state.reason
    with pytest.raises(WaitTimeoutError, match="there is no pod yet"):
        Istio(installed.parts).ensure()
    assert [gone.name for gone in installed.api.deleted if gone.resource == POD] == ["pod-1"]


def test_a_pod_that_still_cannot_start_ends_the_wait_at_once(installed: HelmRig) -> None:
    _unready(installed, reason="ErrImagePull", message="no such host")
    before = installed.rig.clock.now()
    original = installed.api.delete

    def delete(resource: Resource, name: str, *, namespace: str = "", uid: str = "") -> bool:
        return True if resource == POD else original(resource, name, namespace=namespace)

    installed.api.delete = delete  # type: ignore[method-assign]
    with pytest.raises(FatalStateError, match="no such host"):
        Istio(installed.parts).ensure()
    assert installed.rig.clock.now() - before < 1


@pytest.mark.parametrize(
    ("resource", "name", "how"),
    [
        (DEPLOYMENT, "istiod", "is being deleted"),
        (GATEWAY, "seldon-gateway", "is missing"),
    ],
)
def test_what_is_being_deleted_counts_as_lost_and_is_waited_for(
    installed: HelmRig, resource: Resource, name: str, how: str
) -> None:
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    installed.api.patch(resource, name, {"metadata": metadata}, namespace=SYSTEM)
    shown = f"the {resource.kind} istio-system/{name}"
    assert Istio(installed.parts).observe() == Broken(f"{shown} {how}")
    with pytest.raises(WaitTimeoutError, match=f"the deletion of {shown}"):
        Istio(installed.parts).ensure()


def test_it_is_removed_from_the_top_down(installed: HelmRig) -> None:
    Istio(installed.parts).remove()
    assert installed.helm.uninstalled == [INGRESS, "istiod", "istio-base"]
    assert installed.api.find(GATEWAY, "seldon-gateway", namespace=SYSTEM) is None
    assert installed.api.find(NAMESPACE, SYSTEM) is None
    assert Istio(installed.parts).observe() == Absent()


def test_a_namespace_with_something_foreign_stays(installed: HelmRig) -> None:
    foreign = {"name": "notes", "namespace": SYSTEM}
    installed.api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": foreign})
    ours = {"name": "istio-ca-root-cert", "namespace": SYSTEM}
    installed.api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": ours})
    Istio(installed.parts).remove()
    assert installed.api.find(NAMESPACE, SYSTEM) is not None
    installed.api.drop(CONFIG_MAP, "notes", namespace=SYSTEM)
    Istio(installed.parts).remove()
    assert installed.api.find(NAMESPACE, SYSTEM) is None


def test_a_namespace_that_was_there_is_never_ours(rig: HelmRig) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    rig.api.put(namespace)
    Istio(rig.parts).ensure()
    Istio(rig.parts).remove()
    assert rig.api.find(NAMESPACE, SYSTEM) is not None


def test_a_gateway_of_somebody_else_is_not_removed(installed: HelmRig) -> None:
    labels = {"app.kubernetes.io/managed-by": None}
    change = {"metadata": {"labels": labels}}
    installed.api.patch(GATEWAY, "seldon-gateway", change, namespace=SYSTEM)
    Istio(installed.parts).remove()
    assert installed.api.find(GATEWAY, "seldon-gateway", namespace=SYSTEM) is not None
    with pytest.raises(ConflictError, match="Gateway istio-system/seldon-gateway exists"):
        Istio(installed.parts).ensure()


def test_a_route_to_an_echo_answers_and_is_gone_afterwards(
    installed: HelmRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(url: str, *, timeout: float, trust: str = "") -> HttpAnswer:
        (route,) = installed.api.list(VIRTUAL_SERVICE)
        (rule,) = route["spec"]["http"]
        assert url == f"http://{ADDRESS}{rule['match'][0]['uri']['prefix']}"
        assert route["spec"]["gateways"] == ["istio-system/seldon-gateway"]
        host = rule["route"][0]["destination"]["host"]
        return HttpAnswer(200, {}, host.split(".")[1].encode())

    monkeypatch.setattr(http, "get", get)
    (check,) = Istio(installed.parts).checks
    assert check.name == "routes_to_a_pod"
    finding = check.run()
    assert finding.passed
    assert finding.facts["address"] == f"http://{ADDRESS}"
    assert installed.api.list(VIRTUAL_SERVICE) == []


def test_a_route_that_goes_elsewhere_fails_with_what_answered(installed: HelmRig) -> None:
    (check,) = Istio(installed.parts).checks
    with pytest.raises(WaitTimeoutError, match="it answered 404"):
        check.run()
    assert installed.api.list(VIRTUAL_SERVICE) == []
