from mlops_pipeline.clients.kubernetes import EVERYTHING, Access
from mlops_pipeline.platforms.kubernetes.cluster import permissions
from mlops_pipeline_tests.fakes_kubernetes import FakeKubernetes
from mlops_pipeline_tests.platforms.kubernetes.rig import existing_settings


def test_an_administrator_is_asked_one_question() -> None:
    api = FakeKubernetes()
    assert permissions.missing(api, existing_settings()) == []
    assert api.reviews == [EVERYTHING]


def test_every_right_that_is_missing_is_told_at_once() -> None:
    lacked = [
        Access("create", "seldondeployments", "machinelearning.seldon.io", "models"),
        Access("escalate", "clusterroles", "rbac.authorization.k8s.io"),
        Access("delete", "persistentvolumeclaims"),
    ]
    api = FakeKubernetes(denied=lacked)
    settings = existing_settings(namespace="models")
    assert set(permissions.missing(api, settings)) == set(lacked)
    assert len(api.reviews) == len(set(api.reviews)) == len(permissions.needed(settings)) + 1
    assert str(lacked[0]) == (
        "create seldondeployments.machinelearning.seldon.io in the namespace models"
    )
    assert permissions.describe([*lacked[2:], Access("get", "persistentvolumeclaims")]) == (
        "delete/get persistentvolumeclaims"
    )


def test_what_is_there_already_needs_fewer_rights() -> None:
    everything = existing_settings(metallb={"install": True, "addresses": "192.0.2.0/28"})
    used = existing_settings(
        istio={"install": False},
        seldon={"install": False},
        object_store={"endpoint": "https://s3.example.com"},
    )
    few, all_ = set(permissions.needed(used)), set(permissions.needed(everything))
    pools = Access("create", "ipaddresspools", "metallb.io")
    assert pools in all_
    assert pools not in set(permissions.needed(existing_settings()))
    assert len(few) < len(all_) / 2
    assert not {a for a in few if a.resource == "clusterroles"}
    assert Access("get", "gateways", "networking.istio.io") in few
