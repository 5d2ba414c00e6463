"""What the fake cluster promises, the real one keeps."""

import uuid
from collections.abc import Iterator

import pytest

from mlops_pipeline.clients.errors import InvalidManifestError, NotFoundError
from mlops_pipeline.clients.kubernetes import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    NAMESPACE,
    SERVICE,
    KubernetesApi,
    Manifest,
    Resource,
)
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.kubernetes.objects import memory
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes

GROUP = "contract.mlops-pipeline.test"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kind)])
def api(request: pytest.FixtureRequest) -> KubernetesApi:
    if request.param == "fake":
        return FakeKubernetes()
    made: KubernetesApi = request.getfixturevalue("cluster_api")
    return made


@pytest.fixture
def namespace(api: KubernetesApi) -> Iterator[str]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    api.delete(NAMESPACE, name)


def _config(namespace: str, *, name: str = "a", **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"of": namespace, "n": name}},
        "data": data,
    }


def test_it_has_a_version(api: KubernetesApi) -> None:
    assert api.version().startswith("v1.")


def test_applying_says_what_it_did(api: KubernetesApi, namespace: str) -> None:
    first = api.apply(_config(namespace, x="1"))
    again = api.apply(_config(namespace, x="1"))
    other = api.apply(_config(namespace, x="2"))
    assert [first.action, again.action, other.action] == ["created", "unchanged", "updated"]
    versions = [applied.manifest["metadata"]["resourceVersion"] for applied in (first, again)]
    assert versions[0] == versions[1]
    assert other.manifest["metadata"]["resourceVersion"] != versions[0]
    assert first.manifest["metadata"]["uid"] == other.manifest["metadata"]["uid"]
    assert api.get(CONFIG_MAP, "a", namespace=namespace)["data"] == {"x": "2"}


def test_removed_settings_are_deleted_and_entries_of_others_stay(
    api: KubernetesApi, namespace: str
) -> None:
    api.apply(_config(namespace, x="1", y="1"))
    api.patch(CONFIG_MAP, "a", {"metadata": {"annotations": {"b": "c"}}}, namespace=namespace)
    applied = api.apply(_config(namespace, y="1"))
    assert applied.action == "updated"
    assert applied.manifest["data"] == {"y": "1"}
    assert applied.manifest["metadata"]["annotations"] == {"b": "c"}


def test_a_dry_run_changes_nothing(api: KubernetesApi, namespace: str) -> None:
    assert api.apply(_config(namespace, x="1"), dry_run=True).action == "created"
    assert api.find(CONFIG_MAP, "a", namespace=namespace) is None
    api.apply(_config(namespace, x="1"))
    assert api.apply(_config(namespace, x="1"), dry_run=True).action == "unchanged"
    tried = api.apply(_config(namespace, x="2"), dry_run=True)
    assert (tried.action, tried.manifest["data"]) == ("updated", {"x": "2"})
    assert api.get(CONFIG_MAP, "a", namespace=namespace)["data"] == {"x": "1"}


def test_several_are_applied_in_their_order(api: KubernetesApi) -> None:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    done = api.apply_all([home, _config(name, x="1")])
    assert [applied.action for applied in done] == ["created", "created"]
    assert api.delete(NAMESPACE, name) is True


def test_an_object_needs_its_namespace(api: KubernetesApi) -> None:
    with pytest.raises(NotFoundError, match="contract-none"):
        api.apply(_config("contract-none", x="1"))
    assert api.find(CONFIG_MAP, "a", namespace="contract-none") is None
    assert list(api.list(CONFIG_MAP, namespace="contract-none")) == []


def test_the_namespace_default_need_not_be_named(api: KubernetesApi) -> None:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
    assert api.get(CONFIG_MAP, name)["metadata"]["namespace"] == "default"
    assert api.find(CONFIG_MAP, name, namespace="default") is not None
    assert api.delete(CONFIG_MAP, name) is True


def test_objects_of_the_cluster_have_no_namespace(api: KubernetesApi, namespace: str) -> None:
    assert api.get(NAMESPACE, namespace, namespace="ignored")["metadata"]["name"] == namespace
    assert "namespace" not in api.get(NAMESPACE, namespace)["metadata"]


def test_objects_are_listed_by_namespace_and_label(api: KubernetesApi, namespace: str) -> None:
    for name in ("a", "b", "c"):
        api.apply(_config(namespace, name=name))

    def names(labels: str, namespace: str = "") -> list[str]:
        found = api.list(CONFIG_MAP, namespace=namespace, labels=labels)
        return [item["metadata"]["name"] for item in found]

    assert names(f"of={namespace}") == ["a", "b", "c"]
    assert names(f"of={namespace},n=b") == ["b"]
    assert names("n", namespace) == ["a", "b", "c"]
    assert names("of,n!=b", namespace) == ["a", "c"]
    assert names(f"of={namespace}", "kube-system") == []
    [found] = api.list(CONFIG_MAP, labels=f"of={namespace},n=c")
    assert (found["apiVersion"], found["kind"]) == ("v1", "ConfigMap")


def test_a_list_can_leave_out_what_objects_hold(api: KubernetesApi, namespace: str) -> None:
    api.apply(_config(namespace, x="1"))
    labels = f"of={namespace}"
    [whole] = api.list(CONFIG_MAP, namespace=namespace, labels=labels)
    [part] = api.list(CONFIG_MAP, namespace=namespace, labels=labels, metadata_only=True)
    assert whole["data"] == {"x": "1"}
    assert part.keys() == {"apiVersion", "kind", "metadata"}
    assert (part["kind"], part["metadata"]) == ("ConfigMap", whole["metadata"])
    assert list(api.list(CONFIG_MAP, labels="of=nobody", metadata_only=True)) == []


def test_what_is_deleted_is_gone(api: KubernetesApi, namespace: str) -> None:
    api.apply(_config(namespace, x="1"))
    assert api.delete(CONFIG_MAP, "a", namespace=namespace) is True
    wait_until("the end of it", lambda: _still_there(api, namespace), timeout=60)
    assert api.delete(CONFIG_MAP, "a", namespace=namespace) is False
    with pytest.raises(NotFoundError, match=f"{namespace}/a"):
        api.get(CONFIG_MAP, "a", namespace=namespace)


def _still_there(api: KubernetesApi, namespace: str) -> str | None:
    return "it is there" if api.find(CONFIG_MAP, "a", namespace=namespace) else None


def test_a_change_is_merged(api: KubernetesApi, namespace: str) -> None:
    api.apply(_config(namespace, x="1", y="1"))
    changed = api.patch(CONFIG_MAP, "a", {"data": {"x": None, "z": "2"}}, namespace=namespace)
    assert changed["data"] == {"y": "1", "z": "2"}
    assert api.get(CONFIG_MAP, "a", namespace=namespace)["data"] == {"y": "1", "z": "2"}
    with pytest.raises(NotFoundError, match=f"{namespace}/none"):
        api.patch(CONFIG_MAP, "none", {"data": {}}, namespace=namespace)


def test_a_kind_that_is_unknown_has_no_objects(api: KubernetesApi, namespace: str) -> None:
    unknown = Resource(f"{GROUP}/v1", "Unknown")
    assert api.find(unknown, "a", namespace=namespace) is None
    assert list(api.list(unknown)) == []
    assert api.delete(unknown, "a", namespace=namespace) is False
    with pytest.raises(NotFoundError):
        api.get(unknown, "a", namespace=namespace)
    metadata = {"name": "a", "namespace": namespace}
    with pytest.raises(NotFoundError, match="CRD is not installed"):
        api.apply({"apiVersion": f"{GROUP}/v1", "kind": "Unknown", "metadata": metadata})


def test_a_definition_brings_a_kind_and_takes_it_away(api: KubernetesApi, namespace: str) -> None:
    kind = Resource(f"{GROUP}/v1", f"Probe{uuid.uuid4().hex[:6]}")
    plural = f"{kind.kind.lower()}s"
    manifest = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": "a", "namespace": namespace},
        "spec": {"x": 1},
    }
    assert api.find(kind, "a", namespace=namespace) is None
    api.apply(_definition(kind, plural))
    wait_until("the kind", lambda: _unknown(api, manifest), timeout=30)
    assert api.apply(manifest).action == "unchanged"
    assert [found["spec"] for found in api.list(kind, namespace=namespace)] == [{"x": 1}]
    assert api.delete(CUSTOM_RESOURCE_DEFINITION, f"{plural}.{GROUP}") is True
    wait_until("its end", lambda: "there" if api.list(kind) else None, timeout=30)
    assert api.find(kind, "a", namespace=namespace) is None


def _definition(kind: Resource, plural: str) -> Manifest:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": kind.kind, "plural": plural, "singular": kind.kind.lower()},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _unknown(api: KubernetesApi, manifest: Manifest) -> str | None:
    try:
        api.apply(manifest)
    except NotFoundError as error:
        return str(error)
    return None


def test_a_pod_that_is_not_there_says_nothing(api: KubernetesApi, namespace: str) -> None:
    with pytest.raises(NotFoundError, match="none"):
        api.log("none", namespace=namespace)
    with pytest.raises(NotFoundError, match="none"):
        api.ask_pod("none", namespace=namespace, port=80, path="/")
    with pytest.raises(NotFoundError, match="none"):
        api.ask_node("none", path="/healthz")


@pytest.mark.kind
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": {"x": 1}}, "expected string"),
        ({"unknown": {"x": "1"}}, "not declared in schema"),
        ({"metadata": {"name": "Not_a_name"}}, "lowercase RFC 1123"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_with_the_reason(
    cluster_api: KubernetesApi, change: Manifest, reason: str
) -> None:
    manifest = {**_config("default", x="1"), **change}
    with pytest.raises(InvalidManifestError, match=reason):
        cluster_api.apply(manifest)


@pytest.mark.kind
def test_a_pod_answers_through_the_api_server(cluster_api: KubernetesApi) -> None:
    pods = cluster_api.list(
        Resource("v1", "Pod"), namespace="kube-system", labels="k8s-app=kube-dns"
    )
    name = pods[0]["metadata"]["name"]
    ready = cluster_api.ask_pod(name, namespace="kube-system", port=8181, path="/ready")
    assert (ready.status, ready.body) == (200, b"OK")
    none = cluster_api.ask_pod(name, namespace="kube-system", port=8181, path="/none?a=b")
    assert (none.status, none.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert "CoreDNS" in cluster_api.log(name, namespace="kube-system", lines=200)
    assert cluster_api.find(SERVICE, "kube-dns", namespace="kube-system") is not None


@pytest.mark.kind
def test_a_kubelet_answers_through_the_api_server(cluster_api: KubernetesApi) -> None:
    node = cluster_api.list(Resource("v1", "Node"))[0]["metadata"]["name"]
    assert cluster_api.ask_node(node, path="/healthz").body == b"ok"
    used = memory.used_in(cluster_api, "kube-system")
    assert used is not None
    assert 50e6 < used < 5e9
