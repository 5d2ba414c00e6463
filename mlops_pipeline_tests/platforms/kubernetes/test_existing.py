import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import AccessDeniedError, ConfigurationError
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    IP_ADDRESS_POOL,
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    SECRET,
    SELDON_DEPLOYMENT,
    SERVICE,
    STATEFUL_SET,
    VIRTUAL_SERVICE,
    Manifest,
    Resource,
)
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.platforms.kubernetes import KubernetesPlatform
from mlops_pipeline.platforms.kubernetes.layers.istio import charts
from mlops_pipeline.platforms.kubernetes.objects.releases import install, uninstall
from mlops_pipeline.platforms.kubernetes.parts.existing import ExistingParts
from mlops_pipeline.platforms.kubernetes.parts.images import (
    BroughtImages,
    NodeImages,
    RegistryImages,
)
from mlops_pipeline.platforms.layers import Broken, Unknown
from mlops_pipeline.platforms.observing import observe_platform
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.platforms.sources import path
from mlops_pipeline.settings import Settings
from mlops_pipeline_tests.fakes.helm import FakeHelm
from mlops_pipeline_tests.fakes.kubernetes import Reference
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.charts import ChartSources
from mlops_pipeline_tests.platforms.kubernetes.rig import ExistingRig, existing_settings

METALLB = {"install": True, "addresses": "192.0.2.16-192.0.2.31"}
OURS = dict(MANAGED_BY)


def thing(
    resource: Resource, name: str, namespace: str = "", *, ours: bool = True, **content: Any
) -> Manifest:
    labels = dict(OURS) if ours else {}
    metadata = {"name": name, "labels": labels, **({"namespace": namespace} if namespace else {})}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "spec": {},
        **content,
    }


def deployed(name: str, namespace: str, *, ours: bool, secret: str = "own") -> Manifest:
    graph = {"name": "m", "envSecretRefName": secret}
    made = thing(SELDON_DEPLOYMENT, name, namespace, ours=ours)
    metadata = {**made["metadata"], "uid": name}
    return {**made, "metadata": metadata, "spec": {"predictors": [{"name": "p", "graph": graph}]}}


@pytest.fixture
def rig(tmp_path: Path) -> ExistingRig:
    """A cluster that we have been in."""
    sources = ChartSources(tmp_path / "charts")
    rig = ExistingRig(tmp_path / "kubernetes", sources=sources)
    rig.settings = existing_settings(metallb=METALLB)
    rig.helm = FakeHelm(rig.api)
    for namespace in ("seldon", "mlops-storage", "istio-system", "seldon-system"):
        rig.api.put(thing(NAMESPACE, namespace))
    metallb = thing(NAMESPACE, "metallb-system")
    metallb["metadata"]["labels"]["mlops-pipeline/layer"] = "metallb"
    rig.api.put(metallb)
    rig.api.put(deployed("iris-model", "seldon", ours=True))
    for resource in (STATEFUL_SET, PERSISTENT_VOLUME_CLAIM):
        rig.api.put(thing(resource, "seaweedfs", "mlops-storage"))
    rig.api.put(thing(SECRET, "seaweedfs-credentials", "mlops-storage"))
    rclone = thing(SECRET, "seldon-rclone-secret", "seldon")
    rclone["metadata"]["labels"]["mlops-pipeline/secret"] = "rclone"
    rig.api.put(rclone)
    return rig


def platform_of(rig: ExistingRig) -> KubernetesPlatform:
    return KubernetesPlatform(rig.home, rig.settings, bundle=None, parts=rig.parts)


def names(rig: ExistingRig, **tables: Any) -> list[str]:
    rig.settings = existing_settings(**tables)
    return [layer.name for layer in platform_of(rig).layers]


def strangers(rig: ExistingRig, *resources: Resource) -> None:
    rig.api.put(thing(NAMESPACE, "strangers", ours=False))
    for resource in resources:
        made = (
            deployed("theirs", "strangers", ours=False)
            if resource == SELDON_DEPLOYMENT
            else thing(resource, "theirs", "strangers", ours=False)
        )
        rig.api.put(made)


def test_making_it_contacts_and_writes_nothing(tmp_path: Path) -> None:
    platform = build_platform("kubernetes", Settings(home=tmp_path, platform="kubernetes"))
    assert platform.name == "kubernetes"
    assert not (tmp_path / "kubernetes").exists()


def test_a_slow_login_that_fails_is_told_and_done_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    code = f"open({str(count)!r}, 'a').write('x'); time.sleep(1.2); sys.exit('the session is over')"
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", f"import sys, time; {code}"],
        "interactiveMode": "Never",
    }
    content = {
        "contexts": [{"name": "theirs", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {"exec": program}}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(content))
    settings = existing_settings(kubeconfig=file)
    platform = KubernetesPlatform(tmp_path / "kubernetes", settings, bundle=None)
    cluster, *above = observe_platform(platform, look=1).values()
    assert isinstance(cluster, Broken)
    assert "the session is over" in cluster.obstacle
    assert above[0] == Unknown("requires cluster, which is broken")
    with pytest.raises(AccessDeniedError, match="the session is over"):
        platform.deployments.list()
    assert count.read_text() == "x"


def test_each_layer_is_ours_or_used_as_it_is(rig: ExistingRig) -> None:
    rest = ["istio", "object_store", "serving_image", "seldon_core"]
    assert names(rig) == ["cluster", *rest]
    assert names(rig, metallb=METALLB) == ["cluster", "metallb", *rest]
    used = {"istio": {"install": False}, "seldon": {"install": False}}
    assert names(rig, **used) == ["cluster", *rest]
    for tables in ({}, {"metallb": METALLB}, used):
        rig.settings = existing_settings(**tables)
        seen: list[str] = []
        for layer in platform_of(rig).layers:
            assert set(layer.requires) <= set(seen), layer.name
            seen.append(layer.name)


def test_nodes_pull_serving_images_with_the_secret_of_the_settings(rig: ExistingRig) -> None:
    rig.settings = existing_settings(
        seldon={"install": False}, images={"registry": "r.example.com", "pull_secret": "pull"}
    )
    assert platform_of(rig).deployments._manifests._predictors._pull_secret == "pull"


def test_only_what_is_ours_to_install_is_provided(rig: ExistingRig) -> None:
    rig.settings = existing_settings(
        istio={"install": False},
        seldon={"install": False},
        object_store={"endpoint": "https://s3.example.com"},
    )
    platform_of(rig).provide()
    assert sorted(rig.sources.required) == ["extras", "python"]
    rig.sources.required.clear()
    images = {"delivery": "kind", "cluster": "theirs"}
    rig.settings = existing_settings(metallb=METALLB, images=images)
    platform_of(rig).provide()
    assert {"helm", "istiod", "seldon-core-operator", "metallb-native", "kind"} <= set(
        rig.sources.required
    )


@pytest.mark.parametrize(
    ("images", "way"),
    [
        ({"delivery": "registry"}, RegistryImages),
        ({"delivery": "kind", "cluster": "theirs"}, NodeImages),
        ({"delivery": "none"}, BroughtImages),
    ],
)
def test_images_come_to_the_nodes_as_the_settings_say(
    tmp_path: Path, images: dict[str, str], way: type
) -> None:
    parts = ExistingParts.make(tmp_path, existing_settings(images=images), bundle=None)
    assert isinstance(parts.images, way)


def test_the_addresses_are_those_that_the_settings_name(rig: ExistingRig) -> None:
    addresses = METALLB["addresses"]
    chosen = rig.parts.choose_addresses("", wanted=str(addresses), least=1)
    assert str(chosen) == addresses
    with pytest.raises(ConfigurationError, match=r"kubernetes\.metallb\.addresses = 'many' is no"):
        rig.parts.choose_addresses("", wanted="many", least=1)


def test_metallb_is_not_touched_where_istio_cannot_be_had(
    rig: ExistingRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path, "run", lambda *_, **__: "v3.21.4\n")
    rig.sources = FakeSources(absent=["gateway", "metallb-native"])
    with pytest.raises(ConfigurationError, match="is not in the bundle"):
        platform_of(rig).layers[0].ensure()
    assert rig.api.applied == []


def test_the_user_s_kubeconfig_leads_there(tmp_path: Path) -> None:
    parts = ExistingParts.make(
        tmp_path, existing_settings(kubeconfig=tmp_path / "config"), bundle=None
    )
    with pytest.raises(ConfigurationError, match="there is no kubeconfig"):
        parts.api()
    (tmp_path / "config").write_text(
        "contexts: [{name: theirs, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {}}]\n"
    )
    assert parts.api() is parts.api()


# Down and away


def test_down_removes_what_is_ours_and_keeps_the_data(rig: ExistingRig) -> None:
    said = platform_of(rig).down()
    assert Reference(SELDON_DEPLOYMENT, "seldon", "iris-model") in rig.api.deleted
    assert Reference(STATEFUL_SET, "mlops-storage", "seaweedfs") in rig.api.deleted
    claim = rig.api.find(PERSISTENT_VOLUME_CLAIM, "seaweedfs", namespace="mlops-storage")
    assert claim is not None
    assert "artifacts stay in the object store's volume" in said[0]
    assert len(said) == 1
    for namespace in ("istio-system", "seldon-system", "metallb-system"):
        assert rig.api.find(NAMESPACE, namespace) is None


def test_a_strangers_deployment_keeps_what_it_stands_on(rig: ExistingRig) -> None:
    strangers(rig, SELDON_DEPLOYMENT)
    said = platform_of(rig).down()
    assert rig.api.find(SELDON_DEPLOYMENT, "theirs", namespace="strangers") is not None
    assert Reference(SELDON_DEPLOYMENT, "seldon", "iris-model") in rig.api.deleted
    assert said[1:] == (
        "seldon_core stays, for SeldonDeployment strangers/theirs of somebody else",
        "serving_image stays, for seldon_core",
        "istio stays, for seldon_core",
        "metallb stays, for istio",
    )


def test_a_strangers_deployment_that_reads_our_store_keeps_it(rig: ExistingRig) -> None:
    rig.api.put(deployed("theirs", "strangers", ours=False, secret="seldon-rclone-secret"))
    platform_of(rig).down()
    assert rig.api.find(STATEFUL_SET, "seaweedfs", namespace="mlops-storage") is not None


@pytest.mark.parametrize(
    ("by_default", "own", "place", "stays"),
    [
        (True, "", "seldon", True),
        (False, "", "seldon", False),
        (True, "own", "seldon", False),
        (True, "", "strangers", False),  # It has no such Secret.
    ],
)
def test_a_stranger_who_reads_with_our_keys_by_default_keeps_the_store(
    rig: ExistingRig, *, by_default: bool, own: str, place: str, stays: bool
) -> None:
    rig.settings = existing_settings(metallb=METALLB, seldon={"keys_by_default": by_default})
    theirs = deployed("theirs", place, ours=False, secret=own)
    child = {**theirs["spec"]["predictors"][0]["graph"], "modelUri": "s3://models/theirs"}
    theirs["spec"]["predictors"][0]["graph"] = {"name": "above", "children": [child]}
    rig.api.put(theirs)
    platform_of(rig).down()
    there = rig.api.find(STATEFUL_SET, "seaweedfs", namespace="mlops-storage") is not None
    assert there == stays


def test_what_a_stranger_has_just_deleted_keeps_nothing(rig: ExistingRig) -> None:
    theirs = deployed("theirs", "strangers", ours=False)
    ending = {**theirs["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    rig.api.put({**theirs, "metadata": ending})
    assert len(platform_of(rig).down()) == 1


@pytest.mark.parametrize("tables", [{}, {"object_store": {"endpoint": "https://s3.example.com"}}])
def test_purge_keeps_what_a_stranger_reads(rig: ExistingRig, tables: dict[str, Any]) -> None:
    rig.settings = existing_settings(**tables)
    rig.api.put(deployed("theirs", "strangers", ours=False, secret="seldon-rclone-secret"))
    secret = thing(SECRET, "seldon-rclone-secret", "strangers")
    secret["metadata"]["labels"]["mlops-pipeline/secret"] = "rclone"
    rig.api.put(secret)
    said = platform_of(rig).purge()
    assert any(line.startswith("object_store stays, for SeldonDeployment") for line in said)
    assert any("stored data stays too" in line for line in said)
    assert rig.api.find(SECRET, "seldon-rclone-secret", namespace="strangers") is not None
    for resource, name in (
        (PERSISTENT_VOLUME_CLAIM, "seaweedfs"),
        (SECRET, "seaweedfs-credentials"),
    ):
        assert rig.api.find(resource, name, namespace="mlops-storage") is not None


def test_a_strangers_deployment_of_a_seldon_that_was_there_keeps_our_gateway(
    rig: ExistingRig,
) -> None:
    rig.settings = existing_settings(metallb=METALLB, seldon={"install": False})
    strangers(rig, SELDON_DEPLOYMENT)
    route = thing(VIRTUAL_SERVICE, "theirs-http", "strangers", ours=False)
    route["metadata"]["ownerReferences"] = [{"kind": "SeldonDeployment", "uid": "theirs"}]
    rig.api.put(route)
    said = platform_of(rig).down()
    assert "seldon_core stays, for SeldonDeployment strangers/theirs of somebody else" in said
    assert "istio stays, for seldon_core" in said
    assert rig.api.find(NAMESPACE, "istio-system") is not None


def test_a_route_of_another_operator_keeps_the_gateway(rig: ExistingRig) -> None:
    rig.api.put(thing(NAMESPACE, "strangers", ours=False))
    route = thing(VIRTUAL_SERVICE, "theirs", "strangers", ours=False)
    route["metadata"]["ownerReferences"] = [{"kind": "Canary", "uid": "1"}]
    rig.api.put(route)
    said = platform_of(rig).down()
    assert "istio stays, for VirtualService strangers/theirs of somebody else" in said


@pytest.mark.parametrize(
    "tables",
    [
        {"serving": {"images": "upstream"}, "images": {"delivery": "registry", "registry": ""}},
        {"metallb": METALLB},
    ],
)
def test_an_engine_that_is_silent_keeps_nothing_in_the_cluster(
    rig: ExistingRig, tables: dict[str, Any]
) -> None:
    rig.settings = existing_settings(**tables)
    rig.engine.unavailable = "no daemon"
    assert not any("images stay" in line for line in platform_of(rig).down())
    assert rig.api.find(STATEFUL_SET, "seaweedfs", namespace="mlops-storage") is None
    for name in ("istio-system", "seldon-system"):
        assert rig.api.find(NAMESPACE, name) is None


def test_a_strangers_route_keeps_the_gateway(rig: ExistingRig) -> None:
    strangers(rig, VIRTUAL_SERVICE)
    said = platform_of(rig).down()
    assert "istio stays, for VirtualService strangers/theirs of somebody else" in said
    assert rig.api.find(NAMESPACE, "seldon-system") is None
    assert rig.api.find(NAMESPACE, "istio-system") is not None


def test_a_strangers_service_with_an_address_of_ours_keeps_metallb(rig: ExistingRig) -> None:
    given = {"loadBalancer": {"ingress": [{"ip": "192.0.2.17"}]}}
    balanced = {"spec": {"type": "LoadBalancer"}, "status": given}
    rig.api.put(thing(SERVICE, "shop", "strangers", ours=False, **balanced))
    pool = thing(IP_ADDRESS_POOL, "mlops-pipeline", "metallb-system")
    rig.api.put({**pool, "spec": {"addresses": ["192.0.2.16-192.0.2.31"]}})
    said = platform_of(rig).down()
    assert "metallb stays, for Service strangers/shop of somebody else" in said
    rig.api.put({**pool, "spec": {"addresses": ["192.0.2.32-192.0.2.63"]}})
    assert len(platform_of(rig).down()) == 1


@pytest.mark.parametrize("kind", ["IPAddressPool", "L2Advertisement", "BGPAdvertisement"])
def test_what_a_stranger_tells_metallb_keeps_it(rig: ExistingRig, kind: str) -> None:
    resource = Resource("metallb.io/v1beta1", kind)
    made = thing(resource, "theirs", "metallb-system", ours=False, spec={"addresses": []})
    rig.api.put(made)
    said = platform_of(rig).down()
    assert f"metallb stays, for {kind} metallb-system/theirs of somebody else" in said


def test_metallb_goes_from_a_namespace_with_a_strangers_things(rig: ExistingRig) -> None:
    label = {"mlops-pipeline/layer": "metallb"}
    controller = thing(DEPLOYMENT, "controller", "metallb-system")
    controller["metadata"]["labels"] |= label
    rig.api.put(controller)
    rig.api.put(thing(SECRET, "theirs", "metallb-system", ours=False))
    platform_of(rig).down()
    assert rig.api.find(SECRET, "theirs", namespace="metallb-system") is not None
    assert rig.api.find(DEPLOYMENT, "controller", namespace="metallb-system") is None


def test_a_persons_certificate_keeps_the_namespace_of_istio(rig: ExistingRig) -> None:
    rig.api.put(thing(SECRET, "istio-ingressgateway-certs", "istio-system", ours=False))
    rig.api.put(thing(SECRET, "istio-ca-secret", "istio-system", ours=False))
    platform_of(rig).down()
    assert rig.api.find(SECRET, "istio-ingressgateway-certs", namespace="istio-system") is not None


@pytest.mark.parametrize("end", ["down", "purge"])
def test_what_another_state_folder_made_stays(rig: ExistingRig, end: str) -> None:
    rig.api.labels = {"mlops-pipeline/owner": "mlops-colleague"}
    made: list[tuple[Resource, str, str]] = [
        (NAMESPACE, "prod", ""),
        (SELDON_DEPLOYMENT, "prod-model", "prod"),
        (SECRET, "seldon-rclone-secret", "prod"),
        (NAMESPACE, "istio-system", ""),
        (PERSISTENT_VOLUME_CLAIM, "seaweedfs", "mlops-storage"),
    ]
    for resource, name, namespace in made:
        again = rig.api.find(resource, name, namespace=namespace)
        given = deployed(name, namespace, ours=True) if resource == SELDON_DEPLOYMENT else again
        rig.api.apply(given or thing(resource, name, namespace))
    rig.api.labels = {"mlops-pipeline/owner": "mlops-mine"}
    said = getattr(platform_of(rig), end)()
    for resource, name, namespace in made:
        assert rig.api.find(resource, name, namespace=namespace) is not None, name
    assert rig.api.find(SELDON_DEPLOYMENT, "iris-model", namespace="seldon") is None
    assert "SeldonDeployment prod/prod-model stays: another state folder created it" in said
    assert "Namespace istio-system stays: another state folder created it" in said
    assert "seldon_core stays, for SeldonDeployment prod/prod-model of somebody else" in said


def test_a_release_of_another_state_folder_stays_and_is_mended_for_it(rig: ExistingRig) -> None:
    rig.api.labels = {"mlops-pipeline/owner": "mlops-colleague"}
    install(rig.parts, charts.BASE)
    rig.api.labels = {"mlops-pipeline/owner": "mlops-mine"}
    install(rig.parts, charts.BASE)
    assert rig.helm is not None
    assert rig.helm.upgrades[-1].labels["mlops-pipeline/owner"] == "mlops-colleague"
    assert uninstall(rig.parts, charts.BASE.release, namespace="istio-system") is False
    rig.api.labels = {"mlops-pipeline/owner": "mlops-colleague"}
    assert uninstall(rig.parts, charts.BASE.release, namespace="istio-system") is True


def test_what_is_applied_says_which_state_folder_it_is_from(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "contexts: [{name: theirs, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {}}]\n"
    )
    settings = existing_settings(kubeconfig=tmp_path / "config")
    labels = [
        ExistingParts.make(tmp_path / home, settings, bundle=None).api().labels
        for home in ("one", "other", "one")
    ]
    assert labels[0] == labels[2] != labels[1]
    assert set(labels[0]) == {"mlops-pipeline/owner"}


def test_purge_removes_the_data_and_our_namespaces_and_nothing_else(rig: ExistingRig) -> None:
    strangers(rig, SELDON_DEPLOYMENT, VIRTUAL_SERVICE)
    rig.api.put(thing(SECRET, "theirs", "seldon", ours=False))
    platform = platform_of(rig)
    platform.down()
    said = platform.purge()
    assert rig.api.find(NAMESPACE, "mlops-storage") is None
    assert (
        "the namespace seldon stays: it contains objects of somebody else, or some of its content "
        "cannot be read" in said
    )
    assert rig.api.find(SECRET, "seldon-rclone-secret", namespace="seldon") is None
    for name in ("seldon-system", "istio-system", "metallb-system", "strangers"):
        assert rig.api.find(NAMESPACE, name) is not None, name
    theirs = [r for r in rig.api.deleted if r.namespace in ("strangers", "shops")]
    assert theirs == []
    assert not rig.home.exists()


def test_what_was_there_before_stays_and_is_told(rig: ExistingRig) -> None:
    rig.settings = existing_settings(istio={"install": False}, seldon={"install": False})
    said = platform_of(rig).down()
    assert "istio stays: this project did not install it" in said
    assert "seldon_core stays: this project did not install it" in said
    assert rig.api.find(NAMESPACE, "istio-system") is not None


def test_the_preflight_looks_at_the_cluster(rig: ExistingRig) -> None:
    rig.settings = existing_settings()
    assert "context" in {diagnosis.what for diagnosis in platform_of(rig).preflight()}


def test_logs_are_read_where_the_pods_are(rig: ExistingRig) -> None:
    rig.settings = existing_settings(
        istio={"install": False, "service": "edge/gateway"},
        seldon={"install": False, "namespace": "serving"},
    )
    for namespace in ("edge", "serving"):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "one", "namespace": namespace},
            "spec": {"containers": [{"name": "main"}]},
        }
        rig.api.put(pod)
        rig.api.logs[namespace, "one"] = f"{namespace} says\n"
    platform = platform_of(rig)
    assert "edge says" in platform.logs("istio", lines=1)
    assert "serving says" in platform.logs("seldon_core", lines=1)
