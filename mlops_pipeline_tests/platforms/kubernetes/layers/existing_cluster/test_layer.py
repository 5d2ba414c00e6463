from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    NotDownloadedError,
)
from mlops_pipeline.clients.kubernetes import NODE, STORAGE_CLASS, Access
from mlops_pipeline.platforms.kubernetes import KubernetesPlatform
from mlops_pipeline.platforms.kubernetes.bases.layer import ClusterLayer
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster import survey
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster.layer import ExistingCluster
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Diagnosis,
    Facts,
    LayerState,
    Ready,
)
from mlops_pipeline.platforms.sources import Chart, path
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    ExistingRig,
    existing_settings,
    their_cluster,
)


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "run", lambda *_, **__: "v3.21.4\n")


@pytest.fixture
def rig(tmp_path: Path) -> ExistingRig:
    return ExistingRig(tmp_path / "kubernetes")


class StandIn(ClusterLayer):
    name = description = "above"
    kinds = ()
    sources = ("gateway",)

    def __init__(self, state: LayerState) -> None:
        self._state = state

    def observe(self) -> LayerState:
        return self._state

    def ensure(self) -> Change:
        return Change("unchanged")

    def remove(self) -> None: ...


def cluster(rig: ExistingRig, **tables: Any) -> ExistingCluster:
    rig.settings = existing_settings(**tables)
    found = platform_of(rig).layers[0]
    assert isinstance(found, ExistingCluster)
    return found


def platform_of(rig: ExistingRig) -> KubernetesPlatform:
    return KubernetesPlatform(rig.home, rig.settings, bundle=None, parts=rig.parts)


def examined(rig: ExistingRig, **tables: Any) -> Mapping[str, Diagnosis]:
    rig.settings = existing_settings(**tables)
    return {d.what: d for d in platform_of(rig).preflight()}


def test_it_is_ready_when_it_answers_and_has_a_node(rig: ExistingRig) -> None:
    facts: Facts = {"context": "theirs", "kubernetes": "v1.34.4", "nodes": 2}
    assert cluster(rig).observe() == Ready(facts)


def test_nothing_in_it_is_changed(rig: ExistingRig) -> None:
    layer = cluster(rig)
    change = layer.ensure()
    assert (change.action, change.facts["nodes"]) == ("unchanged", 2)
    layer.remove()
    assert rig.api.applied == []
    assert rig.api.patched == []
    assert rig.api.deleted == []


def test_without_a_ready_node_it_is_broken(rig: ExistingRig) -> None:
    for name in ("node-1", "node-2"):
        rig.api.drop(NODE, name)
    layer = cluster(rig)
    reason = "none of its 0 nodes is ready; see `kubectl get nodes`"
    assert layer.observe() == Broken.needing_help(reason)
    with pytest.raises(ConfigurationError, match="context theirs is not ready: none of its 0"):
        layer.ensure()


def test_one_that_does_not_answer_is_broken(rig: ExistingRig) -> None:
    rig.api.stop("connection refused")
    layer = cluster(rig)
    state = layer.observe()
    assert isinstance(state, Broken)
    assert "connection refused" in state.reason
    with pytest.raises(ConfigurationError, match="connection refused"):
        layer.ensure()


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("v1.22.9", "Seldon Core needs Kubernetes 1.23 or newer, but the cluster is 1.22"),
        ("v1.31.0+k3s1", "Istio 1.31.0: expected Kubernetes 1.32 or newer"),
        ("v2.0.0", "set a context with Kubernetes 1.x"),
    ],
)
def test_a_version_that_does_not_fit_is_refused(
    rig: ExistingRig, version: str, reason: str
) -> None:
    rig.api = FakeKubernetes(their_cluster(), version=version)
    state = cluster(rig).observe()
    assert isinstance(state, Broken)
    assert reason in state.reason


def test_an_older_one_will_do_where_an_istio_is_there(rig: ExistingRig) -> None:
    rig.api = FakeKubernetes(their_cluster(), version="v1.27.3-eks-1")
    layer = cluster(rig, istio={"install": False})
    assert isinstance(layer.observe(), Ready)
    assert examined(rig, istio={"install": False})["kubernetes"].seen == "v1.27.3-eks-1"


def test_a_newer_one_than_was_tested_is_told(rig: ExistingRig) -> None:
    assert (
        "Seldon has tested Seldon Core only up to Kubernetes 1.27"
        in examined(rig)["kubernetes"].seen
    )


def test_a_chart_that_is_not_downloaded_yet_says_nothing_about_versions(rig: ExistingRig) -> None:
    class Later(FakeSources):
        def chart(self, name: str) -> Chart:
            raise NotDownloadedError(f"{name} is not downloaded yet")

    rig.sources = Later()
    assert examined(rig)["kubernetes"].fine


def test_all_that_is_missing_is_told_in_one_error_before_anything_is_changed(
    rig: ExistingRig,
) -> None:
    denied = [Access("create", "namespaces"), Access("list", "nodes")]
    rig.api = FakeKubernetes(their_cluster(), denied=denied)
    rig.engine.unavailable = "no daemon"
    rig.sources = FakeSources(absent=["helm"])
    with pytest.raises(ConfigurationError) as caught:
        cluster(rig, images={}).ensure()
    said = str(caught.value)
    for part in (
        "no daemon",
        "no registry is set",
        "helm is not in",
        "nothing was changed",
    ):
        assert part in said
    assert "permissions: not allowed: list nodes; create namespaces; ask an administrator" in said
    assert rig.api.applied == []


def test_its_check_asks_for_every_right(rig: ExistingRig) -> None:
    rig.api.denied = {Access("create", "pods")}
    (check,) = cluster(rig).checks
    finding = check.run()
    assert (finding.passed, finding.seen) == (False, "not allowed: create pods")
    rig.api.denied = set()
    assert check.run().passed


def test_everything_that_is_looked_at_is_shown(rig: ExistingRig) -> None:
    found = examined(rig)
    assert all(diagnosis.fine for diagnosis in found.values()), found
    assert list(found) == [
        *("docker", "images of the model server", "helm", "context", "kubernetes"),
        *("permissions", "architecture", "load balancer", "istio", "storage class", "seldon core"),
    ]
    assert found["storage class"].seen == "fast"
    assert found["load balancer"].seen.startswith("1 of 1 Services of type LoadBalancer have")


def test_a_storage_class_is_needed_for_a_store_of_ours_alone(rig: ExistingRig) -> None:
    rig.api.drop(STORAGE_CLASS, "fast")
    found = examined(rig)["storage class"]
    assert found.seen == "none is the default (there are: none)"
    assert not found.fine
    store = {"endpoint": "https://s3.example.com"}
    assert "storage class" not in examined(rig, object_store=store)


@pytest.mark.parametrize(("wanted", "fine"), [("fast", True), ("slow", False)])
def test_the_storage_class_that_is_named_has_to_be_there(
    rig: ExistingRig, wanted: str, *, fine: bool
) -> None:
    found = examined(rig, object_store={"storage_class": wanted})["storage class"]
    assert found.fine == fine
    assert fine or "'slow' does not exist (there are: fast)" in found.seen


def test_a_load_balancer_that_gives_no_addresses_is_told(rig: ExistingRig) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"type": "LoadBalancer"}}
    rig.api.put({**service, "metadata": {"name": "shop", "namespace": "shops"}})
    found = examined(rig)["load balancer"]
    assert found.seen == "0 of 1 Services of type LoadBalancer have an address"
    assert "kubernetes.metallb.install" in found.remedy


def test_a_metallb_istio_or_seldon_of_somebody_else_is_told_before_anything_is_changed(
    rig: ExistingRig, tmp_path: Path
) -> None:
    manifest = tmp_path / "metallb.yaml"
    manifest.write_text("{apiVersion: v1, kind: Namespace, metadata: {name: metallb-system}}")
    rig.sources = FakeSources(manifests={"metallb-native": manifest})
    metallb = {"install": True, "addresses": "192.0.2.0/28"}
    names = ("metallb", "istio", "seldon core")
    assert [examined(rig, metallb=metallb)[name].seen for name in names] == [
        *("ours, with 192.0.2.0/28", "ours", "ours")
    ]
    rig.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "metallb-system"}})
    for name in ("istiod", "seldon-controller-manager"):
        metadata = {"name": name, "namespace": "theirs", "labels": {"app": name}}
        rig.api.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata})
    found = examined(rig, metallb=metallb)
    assert not any(found[name].fine for name in names)
    for name in names:
        assert "install = false" in found[name].remedy
    with pytest.raises(ConfigurationError, match="Namespace metallb-system"):
        cluster(rig, metallb=metallb).ensure()


def test_what_cannot_be_had_is_told_before_anything_is_changed(rig: ExistingRig) -> None:
    rig.sources = FakeSources(absent=["gateway"])
    rig.settings = existing_settings()
    absent = ExistingCluster(rig.parts, above=lambda: [StandIn(Absent())])
    with pytest.raises(ConfigurationError, match="gateway is not in the bundle"):
        absent.ensure()
    whole = ExistingCluster(rig.parts, above=lambda: [StandIn(Ready())])
    assert whole.ensure().action == "unchanged"


def test_what_may_not_be_looked_at_hides_nothing_else(rig: ExistingRig) -> None:
    rig.api.drop(STORAGE_CLASS, "fast")
    rig.api.fail(AccessDeniedError("services is forbidden"), verbs=("list",), kind="Service")
    rig.api.denied = {Access("list", "services")}
    found = examined(rig)
    assert "services is forbidden" in found["load balancer"].seen
    assert not found["permissions"].fine
    assert not found["storage class"].fine


def test_whether_there_is_a_load_balancer_shows_when_somebody_asks_for_an_address(
    rig: ExistingRig,
) -> None:
    rig.api = FakeKubernetes(their_cluster()[:-1])
    assert "unknown" in examined(rig)["load balancer"].seen


def test_a_registry_that_lets_nobody_look_keeps_nobody_from_pushing(rig: ExistingRig) -> None:
    rig.engine.refused = AccessDeniedError("denied")
    assert examined(rig)["images of the model server"].fine


def test_nodes_of_another_processor_are_told_before_anything_is_built(rig: ExistingRig) -> None:
    rig.engine._info = replace(rig.engine.info(), architecture="arm64")
    node: dict[str, Any] = dict(rig.api.get(NODE, "node-1"))
    node["status"] = {**node["status"], "nodeInfo": {"architecture": "amd64"}}
    rig.api.put(node)
    found = examined(rig)["architecture"]
    assert found.seen == "images are built for arm64, but the nodes run amd64"
    assert "build the images on a machine with amd64" in found.remedy
    rig.engine._info = replace(rig.engine.info(), architecture="amd64")
    assert examined(rig)["architecture"].fine


def test_a_pull_secret_has_to_be_where_the_models_are(rig: ExistingRig) -> None:
    images = {"registry": "registry.example.com", "pull_secret": "pull"}
    found = examined(rig, images=images)["pull secret"]
    assert found.seen == "the Secret seldon/pull is missing"
    assert "kubectl create namespace seldon && kubectl create secret" in found.remedy
    made = {"name": "pull", "namespace": "seldon"}
    rig.api.put({"apiVersion": "v1", "kind": "Secret", "metadata": made})
    assert examined(rig, images=images)["pull secret"].fine


def test_upstreams_images_need_no_engine_and_no_registry(rig: ExistingRig) -> None:
    found = examined(rig, images={}, serving={"images": "upstream"})
    assert "docker" not in found
    assert "images of the model server" not in found


def test_what_is_there_is_looked_for(rig: ExistingRig) -> None:
    found = examined(rig, istio={"install": False}, seldon={"install": False})
    assert (
        "the Gateway istio-system/seldon-gateway is missing (there are: none)"
        in found["istio"].seen
    )
    assert "is missing" in found["seldon core"].seen
    assert "helm" not in found


def test_a_kind_cluster_needs_kind(rig: ExistingRig) -> None:
    images = {"delivery": "kind", "cluster": "theirs"}
    assert examined(rig, images=images)["kind"].fine


def test_the_parts_lead_to_no_cluster_without_a_context(tmp_path: Path) -> None:
    rig = ExistingRig(tmp_path)

    def no_context() -> FakeKubernetes:
        raise ConfigurationError("set kubernetes.context to one of a, b")

    parts = replace(rig.parts, api=no_context)
    found = {d.what: d for d in survey.examine(parts, ())}
    assert found["context"].seen == "set kubernetes.context to one of a, b"
    with pytest.raises(ConfigurationError, match="one of a, b"):
        ExistingCluster(parts).observe()
