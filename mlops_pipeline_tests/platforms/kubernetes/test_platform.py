import json
import time
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients import running as running_processes
from mlops_pipeline.clients.containers import full_reference
from mlops_pipeline.clients.errors import NotFoundError, UnavailableError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    SELDON_DEPLOYMENT,
)
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.kubernetes.cluster.record import ClusterBook, ClusterRecord, Stage
from mlops_pipeline.platforms.kubernetes.layers.object_store import manifests as store_manifests
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.layers import Absent
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.settings import Settings
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline.settings.layers import ObjectStoreSettings, ServingSettings
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes, Reference
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    CONTROL_PLANE,
    NAME,
    Rig,
    make_engine,
    node,
)

SERVICE_OF_GATEWAY = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system"},
    "spec": {"type": "LoadBalancer"},
    "status": {"loadBalancer": {"ingress": [{"ip": "172.18.255.200"}]}},
}


def platform_of(rig: Rig) -> KindPlatform:
    return KindPlatform(rig.home, rig.settings, bundle=None, parts=rig.parts)


def rig_with_nodes(tmp_path: Path, *, stage: Stage | None = "made", **settings: Any) -> Rig:
    """A cluster of two nodes that runs; `stage` is what our record says of it."""
    nodes = (node(), node(f"{NAME}-worker", role="worker"))
    rig = Rig(
        tmp_path / "kind",
        engine=make_engine(containers=nodes),
        settings=KindSettings(**settings),
    ).with_cluster()
    if stage is not None:
        record = ClusterRecord(NAME, stage, node="id")
        ClusterBook(rig.home / "cluster.json").write(record)
    return rig


def running(rig: Rig) -> list[str]:
    return [container.name for container in rig.engine.containers() if container.running]


def deployed(name: str, namespace: str = "models", *, ours: bool = True) -> dict[str, Any]:
    labels = dict(MANAGED_BY) if ours else {}
    return {
        "apiVersion": SELDON_DEPLOYMENT.api_version,
        "kind": SELDON_DEPLOYMENT.kind,
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labels},
        "spec": {"predictors": [{"name": "main", "graph": {"name": "own"}}]},
    }


def namespace(name: str) -> dict[str, Any]:
    """Return one of ours."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": dict(MANAGED_BY)},
    }


def pod(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "main"}]},
    }


def test_what_the_layers_take_from_elsewhere_is_required_by_name(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind", settings=KindSettings(ingress_nginx=True))
    platform_of(rig).provide()
    assert {"kind", "helm", "node", "ingress-nginx", "storage"} <= set(rig.sources.required)
    rig = Rig(
        tmp_path / "kind",
        settings=KindSettings(object_store=ObjectStoreSettings(endpoint="http://s3")),
    )
    platform_of(rig).provide()
    assert not {"ingress-nginx", "storage"} & set(rig.sources.required)


def test_making_it_contacts_nothing_and_takes_no_time(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, platform="kind")
    build_platform("kind", settings)
    start = time.perf_counter()
    platform = build_platform("kind", settings)
    assert time.perf_counter() - start < 0.05
    assert platform.name == "kind"
    assert not (tmp_path / "kind").exists()


def test_each_layer_comes_after_what_it_stands_on(tmp_path: Path) -> None:
    platform = platform_of(Rig(tmp_path, settings=KindSettings(ingress_nginx=True)))
    seen: list[str] = []
    for layer in platform.layers:
        assert set(layer.requires) <= set(seen), layer.name
        seen.append(layer.name)
    assert platform.gateway in seen
    assert set(platform.deploys_on) <= set(seen)
    assert "ingress_nginx" in seen


def test_ingress_nginx_is_there_when_it_is_asked_for(tmp_path: Path) -> None:
    names = [layer.name for layer in platform_of(Rig(tmp_path)).layers]
    assert "ingress_nginx" not in names


def test_an_object_store_of_somebody_else_takes_the_place_of_ours(tmp_path: Path) -> None:
    store = ObjectStoreSettings(endpoint="https://s3.example.com")
    platform = platform_of(Rig(tmp_path, settings=KindSettings(object_store=store)))
    (layer,) = [layer for layer in platform.layers if layer.name == "object_store"]
    assert "somebody else" in layer.description


def test_without_a_cluster_every_layer_is_absent_and_nothing_is_deployed(tmp_path: Path) -> None:
    platform = platform_of(Rig(tmp_path))
    assert [type(layer.observe()) for layer in platform.layers] == [Absent] * 6
    assert platform.deployments.list() == []
    with pytest.raises(NotFoundError):
        platform.gateway_url()
    with pytest.raises(NotFoundError):
        platform.object_store()


def test_the_gateway_is_where_metallb_has_put_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind", api=FakeKubernetes([SERVICE_OF_GATEWAY])).with_cluster()
    assert platform_of(rig).gateway_url() == "http://172.18.255.200"
    assert platform_of(rig).gateway_trust() == ""
    assert platform_of(rig).object_store_secret() == "seldon-rclone-secret"


def test_upstreams_images_serve_when_they_are_asked_for(tmp_path: Path) -> None:
    chosen = KindSettings(serving=ServingSettings(images="upstream"))
    assert platform_of(Rig(tmp_path)).deployments._manifests.are_ours
    assert not platform_of(Rig(tmp_path, settings=chosen)).deployments._manifests.are_ours


def test_the_preflight_looks_at_the_engine(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.engine.unavailable = "no daemon"
    found = {diagnosis.what: diagnosis for diagnosis in platform_of(rig).preflight()}
    assert not found["docker"].fine


# Logs


def test_the_log_of_a_layer_is_that_of_its_pods(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind", api=FakeKubernetes([pod("istiod-1", "istio-system")]))
    rig.api.logs["istio-system", "istiod-1"] = "one\ntwo\n"
    platform = platform_of(rig.with_cluster())
    assert platform.logs("istio", lines=1) == "==> istiod-1 main <==\ntwo\n"
    assert platform.logs("metallb", lines=1) == "metallb has no pods, so it has no log"
    assert platform.logs("serving_image", lines=1) == "serving_image has no pods, so it has no log"


def test_the_log_of_a_deployment_is_found_by_its_name(tmp_path: Path) -> None:
    labels = {"seldon-deployment-id": "iris"}
    made = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "x",
            "namespace": "models",
            "labels": labels,
            "ownerReferences": [{"uid": "iris"}],
        },
        "spec": {"selector": {"matchLabels": labels}},
    }
    rig = Rig(
        tmp_path / "kind",
        api=FakeKubernetes([deployed("iris"), made, pod("iris-1", "models", **labels)]),
    ).with_cluster()
    rig.api.logs["models", "iris-1"] = "Ready\n"
    platform = platform_of(rig)
    expected = "==> iris-1 main <==\nReady\n"
    assert platform.logs("iris", lines=5) == expected
    assert platform.logs("models/iris", lines=5) == expected
    with pytest.raises(
        NotFoundError, match=r"'other/iris'; expected one of: cluster, .*, models/iris"
    ):
        platform.logs("other/iris", lines=5)


# Down and away


def test_down_stops_the_nodes_and_keeps_them(tmp_path: Path) -> None:
    rig = rig_with_nodes(tmp_path)
    platform_of(rig).down()
    assert running(rig) == []
    assert len(rig.engine.containers()) == 2
    assert rig.kind.deleted == []
    platform_of(rig).down()


def test_down_leaves_a_cluster_of_somebody_else_running_and_says_so(tmp_path: Path) -> None:
    rig = rig_with_nodes(tmp_path, stage="adopted")
    said = platform_of(rig).down()
    assert running(rig) == [CONTROL_PLANE, f"{NAME}-worker"]
    assert said == (
        f"the kind cluster {NAME} was not created by this state folder: it was not stopped",
    )


def test_down_needs_no_cluster(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind")
    platform_of(rig).down()
    assert not rig.home.exists()


def test_down_without_an_engine_says_what_does_not_answer(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.engine.unavailable = "no daemon"
    with pytest.raises(UnavailableError, match="no daemon"):
        platform_of(rig).down()


def test_purge_deletes_the_cluster_that_is_ours_and_the_folder(tmp_path: Path) -> None:
    rig = rig_with_nodes(tmp_path)
    platform_of(rig).down()
    assert platform_of(rig).purge() == (f"removed the kind cluster {NAME}",)
    assert rig.kind.deleted == [NAME]
    assert not rig.home.exists()


def test_purge_names_the_images_that_stay(tmp_path: Path) -> None:
    rig = rig_with_nodes(tmp_path)
    image = ServingImage(rig.parts).reference("SKLEARN_SERVER")
    rig.engine.images.add(full_reference(image))
    _, left = platform_of(rig).purge()
    assert left.endswith(f"with its `image rm`: {image}")


def test_purge_takes_what_is_ours_out_of_a_cluster_of_somebody_else(tmp_path: Path) -> None:
    rig = rig_with_nodes(tmp_path, stage="adopted")
    rig.api.labels = {"mlops-pipeline/owner": "mlops-who-made-it"}
    rig.api.apply(namespace("prod"))
    rig.api.apply(deployed("theirs", "prod"))
    rig.api.apply(namespace("istio-system"))
    rig.api.labels = {"mlops-pipeline/owner": "mlops-mine"}
    rig.api.apply(namespace("models"))
    rig.api.apply(deployed("mine"))
    rig.api.apply(namespace("mlops-storage"))
    rig.api.apply(store_manifests.volume("5Gi", storage_class=""))
    said = platform_of(rig).purge()
    assert rig.kind.deleted == []
    assert running(rig) == [CONTROL_PLANE, f"{NAME}-worker"]
    assert rig.api.find(SELDON_DEPLOYMENT, "mine", namespace="models") is None
    volume = Reference(PERSISTENT_VOLUME_CLAIM, "mlops-storage", "seaweedfs")
    assert volume in rig.api.deleted
    assert rig.api.find(NAMESPACE, "mlops-storage") is None
    assert rig.api.find(SELDON_DEPLOYMENT, "theirs", namespace="prod") is not None
    assert rig.api.find(NAMESPACE, "istio-system") is not None
    assert (
        said[0]
        == f"the kind cluster {NAME} was not created by this state folder: it was not deleted"
    )
    assert "SeldonDeployment prod/theirs stays: another state folder created it" in said
    assert "seldon_core stays, for SeldonDeployment prod/theirs of somebody else" in said
    assert not rig.home.exists()


@pytest.mark.parametrize("theirs", [False, True])
def test_purge_leaves_the_data_of_who_made_the_cluster(tmp_path: Path, *, theirs: bool) -> None:
    rig = rig_with_nodes(tmp_path, stage="adopted")
    rig.api.labels = {"mlops-pipeline/owner": "mlops-who-made-it" if theirs else "mlops-mine"}
    rig.api.apply(namespace("mlops-storage"))
    rig.api.apply(store_manifests.volume("5Gi", storage_class=""))
    rig.api.labels = {"mlops-pipeline/owner": "mlops-mine"}
    platform_of(rig).purge()
    found = rig.api.find(PERSISTENT_VOLUME_CLAIM, "seaweedfs", namespace="mlops-storage")
    assert (found is not None) is theirs


def test_purge_leaves_the_namespace_of_a_layer_that_is_not_asked_for_any_more(
    tmp_path: Path,
) -> None:
    rig = rig_with_nodes(tmp_path, stage="adopted")
    rig.api.apply(namespace("ingress-nginx"))
    assert (
        platform_of(rig)
        .purge()[-1]
        .startswith("the namespace ingress-nginx stays: the settings no longer enable its layer")
    )
    assert rig.api.find(NAMESPACE, "ingress-nginx") is not None
    assert not rig.home.exists()


def test_what_is_applied_says_which_state_folder_it_is_from(tmp_path: Path) -> None:
    for home in ("one", "other"):
        folder = ClusterFolder(tmp_path / home)
        folder.prepare()
        folder.kubeconfig.write_text(
            "contexts: [{name: kind-seldon, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
            "users: [{name: u, user: {}}]\n"
        )
    labels = [
        KindParts.make(tmp_path / home, KindSettings(), bundle=None).api().labels
        for home in ("one", "other", "one")
    ]
    assert labels[0] == labels[2] != labels[1]
    assert set(labels[0]) == {"mlops-pipeline/owner"}


def test_purge_leaves_a_cluster_alone_that_we_have_never_been_in(tmp_path: Path) -> None:
    rig = rig_with_nodes(tmp_path, stage=None)
    ClusterFolder(rig.home).kubeconfig.unlink()
    rig.api.put(deployed("mine"))
    platform_of(rig).purge()
    assert rig.api.deleted == []
    assert not rig.home.exists()


def test_purge_ends_what_a_killed_command_has_left_to_make_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path / "kind").with_cluster()
    ClusterBook(rig.home / "cluster.json").write(ClusterRecord(NAME, "making"))
    ended: list[list[int]] = []

    def end(pids: list[int], *, grace: float) -> None:
        """Let the node appear meanwhile that it was about to make."""
        ended.append(pids)
        rig.engine.start(node())

    monkeypatch.setattr(running_processes, "commanded", lambda words: [7])
    monkeypatch.setattr(running_processes, "with_descendants", list)
    monkeypatch.setattr(running_processes, "end", end)
    platform_of(rig).purge()
    assert ended == [[7]]
    assert rig.kind.deleted == [NAME]
    assert not rig.home.exists()


def test_purge_needs_no_cluster(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "kind").with_cluster()
    platform_of(rig).purge()
    assert not rig.home.exists()
    platform_of(rig).purge()


# Memory


def test_a_layer_has_the_memory_of_its_pods_as_the_kubelets_count(tmp_path: Path) -> None:
    rig = rig_with_nodes(tmp_path)
    place = {"name": "istiod", "namespace": "istio-system"}
    rig.api.put(
        {"apiVersion": "v1", "kind": "Pod", "metadata": place, "spec": {"nodeName": CONTROL_PLANE}}
    )
    platform = platform_of(rig)
    assert platform.memory_of("istio") is None
    counted = [
        {"podRef": {"namespace": "istio-system"}, "memory": {"workingSetBytes": 30}},
        {"podRef": {"namespace": "istio-system"}, "memory": {"workingSetBytes": 12}},
        {"podRef": {"namespace": "istio-system"}},
        {"podRef": {"namespace": "seldon"}, "memory": {"workingSetBytes": 99}},
    ]
    body = json.dumps({"pods": counted}).encode()
    rig.api.answers["", CONTROL_PLANE] = HttpAnswer(200, {}, body)
    assert platform.memory_of("istio") == 42
    assert platform.memory_of("seldon_core") is None
    assert platform.memory_of("serving_image") is None
    rig.api.stop()
    assert platform.memory_of("istio") is None


def test_the_cluster_has_the_memory_of_its_nodes(tmp_path: Path) -> None:
    rig = rig_with_nodes(tmp_path)
    rig.engine.outputs = [(("sh",), "5000\ninactive_file 1000\n")]
    assert platform_of(rig).memory_of("cluster") == 2 * 4000
    rig.engine.unavailable = "no daemon"
    assert platform_of(rig).memory_of("cluster") is None
