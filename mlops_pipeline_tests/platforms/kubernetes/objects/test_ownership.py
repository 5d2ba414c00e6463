import pytest

from mlops_pipeline.clients.errors import AccessDeniedError, WaitTimeoutError
from mlops_pipeline.clients.kubernetes import GATEWAY, NAMESPACE
from mlops_pipeline.platforms.kubernetes.objects.ownership import (
    delete_ours,
    ensure_namespace,
    is_ours,
    remove_namespace,
)
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes


def thing(name: str, **metadata: object) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "ours", **metadata},
    }


@pytest.fixture
def api() -> FakeKubernetes:
    """A cluster with a namespace of ours."""
    made = FakeKubernetes()
    assert ensure_namespace(made, "ours", timeout=1, clock=FakeClock()) is True
    return made


def test_a_namespace_is_made_once_with_our_label(api: FakeKubernetes) -> None:
    assert ensure_namespace(api, "ours", timeout=1, clock=FakeClock()) is False
    assert is_ours(api.get(NAMESPACE, "ours"))
    assert ensure_namespace(api, "default", timeout=1, clock=FakeClock()) is False
    assert not is_ours(api.get(NAMESPACE, "default"))


def test_a_namespace_that_is_ending_is_waited_for(api: FakeKubernetes) -> None:
    change = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    api.patch(NAMESPACE, "ours", change)
    with pytest.raises(WaitTimeoutError, match="kubectl describe namespace ours"):
        ensure_namespace(api, "ours", timeout=1, clock=FakeClock())


def test_only_what_is_ours_is_deleted(api: FakeKubernetes) -> None:
    metadata = {"name": "theirs", "namespace": "ours"}
    api.put({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata})
    assert delete_ours(api, GATEWAY, "theirs", namespace="ours") is False
    assert delete_ours(api, GATEWAY, "absent", namespace="ours") is False
    assert remove_namespace(api, "ours") is False
    api.patch(GATEWAY, "theirs", {"metadata": {"labels": dict(MANAGED_BY)}}, namespace="ours")
    assert delete_ours(api, GATEWAY, "theirs", namespace="ours") is True
    assert remove_namespace(api, "ours") is True


def test_what_kubernetes_and_the_layer_put_into_a_namespace_is_not_foreign(
    api: FakeKubernetes,
) -> None:
    api.put(thing("kube-root-ca.crt"))
    api.put(thing("layer-leader"))
    api.put(thing("owned", ownerReferences=[{"apiVersion": "apps/v1", "kind": "Deployment"}]))
    api.put(thing("leads", annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}))
    api.put(thing("ending", deletionTimestamp="2026-01-01T00:00:00Z"))
    api.put(thing("ours-too", labels=dict(MANAGED_BY)))
    assert remove_namespace(api, "ours") is False
    assert remove_namespace(api, "ours", belongs=lambda name: name.startswith("layer-")) is True


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("batch/v1", "CronJob"),
        ("networking.k8s.io/v1", "Ingress"),
        ("networking.istio.io/v1", "DestinationRule"),
        ("shop.example.com/v7", "Cart"),
        ("v1", "ServiceAccount"),
    ],
)
def test_a_thing_of_somebody_else_of_whatever_kind_keeps_its_namespace(
    api: FakeKubernetes, version: str, kind: str
) -> None:
    api.put({**thing("theirs"), "apiVersion": version, "kind": kind})
    assert remove_namespace(api, "ours") is False
    assert api.find(NAMESPACE, "ours") is not None


def test_what_something_of_the_whole_cluster_owns_is_foreign(api: FakeKubernetes) -> None:
    owner = {"apiVersion": "tenancy.example.com/v1", "kind": "Tenant", "uid": "1"}
    api.put(
        {
            **thing("theirs", ownerReferences=[owner]),
            "apiVersion": "apps/v1",
            "kind": "Deployment",
        }
    )
    assert remove_namespace(api, "ours") is False


def test_a_namespace_that_may_not_be_looked_into_stays(api: FakeKubernetes) -> None:
    api.fail(AccessDeniedError("secrets is forbidden"), verbs=("list",), kind="Secret")
    assert remove_namespace(api, "ours") is False


def test_a_namespace_of_somebody_else_stays(api: FakeKubernetes) -> None:
    assert remove_namespace(api, "default") is False
    assert remove_namespace(api, "absent") is False
