from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import AccessDeniedError, PipelineError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    EVERYTHING,
    POD,
    Access,
    Applied,
    Manifest,
    Resource,
    resource_of,
)
from mlops_pipeline.platforms.kubernetes.bases import rights
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster.layer import ExistingCluster
from mlops_pipeline.platforms.kubernetes.layers.istio.existing import ExistingGateway
from mlops_pipeline.platforms.kubernetes.layers.metallb.layer import MetalLB
from mlops_pipeline.platforms.kubernetes.layers.seldon_core import chart
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.existing import ExistingOperator
from mlops_pipeline.platforms.layers import Layer
from mlops_pipeline.platforms.seldon import MANAGED_BY
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.seldon_operator import CRASHING
from mlops_pipeline_tests.platforms.kubernetes.charts import deployment, their_istio
from mlops_pipeline_tests.platforms.kubernetes.deployments import test_deployments, test_proof
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    ExistingRig,
    existing_settings,
    rights_of,
    run_workloads,
    their_cluster,
)

_PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "StorageClass": "storageclasses",
    "IPAddressPool": "ipaddresspools",
}


def test_an_administrator_is_asked_one_question() -> None:
    api = FakeKubernetes()
    assert rights.missing(api, rights_of(existing_settings())) == []
    assert api.reviews == [EVERYTHING]


def test_every_right_that_is_missing_is_told_at_once() -> None:
    lacked = [
        Access("create", "seldondeployments", "machinelearning.seldon.io", "models"),
        Access("escalate", "clusterroles", "rbac.authorization.k8s.io"),
        Access("delete", "persistentvolumeclaims"),
    ]
    api = FakeKubernetes(denied=lacked)
    settings = existing_settings(namespace="models")
    assert set(rights.missing(api, rights_of(settings))) == set(lacked)
    assert len(api.reviews) == len(set(api.reviews)) == len(rights_of(settings)) + 1
    assert str(lacked[0]) == (
        "create seldondeployments.machinelearning.seldon.io in the namespace models"
    )
    assert rights.describe([*lacked[2:], Access("get", "persistentvolumeclaims")]) == (
        "delete/get persistentvolumeclaims"
    )


def test_what_is_there_already_needs_fewer_rights() -> None:
    everything = existing_settings(metallb={"install": True, "addresses": "192.0.2.0/28"})
    used = existing_settings(
        istio={"install": False},
        seldon={"install": False},
        object_store={"endpoint": "https://s3.example.com"},
    )
    few, all_ = set(rights_of(used)), set(rights_of(everything))
    installed = {a for a in all_ if not a.namespace and a.verb in ("create", "patch", "delete")}
    pools = Access("create", "ipaddresspools", "metallb.io")
    assert pools in all_
    assert pools not in set(rights_of(existing_settings()))
    # What somebody may change anywhere: the routes, and what a check makes for itself.
    assert {a.resource for a in few & installed} == {
        "namespaces",
        "pods",
        "services",
        "virtualservices",
    }
    assert Access("update", "secrets") in all_ - few
    assert Access("get", "gateways", "networking.istio.io") in few


class Recording(FakeKubernetes):
    """A cluster that notes which rights each call takes."""

    def __init__(self, *given: Any, **more: Any) -> None:
        self.used: set[Access] = set()
        super().__init__(*given, **more)

    def _use(self, resource: Resource, namespace: str, *verbs: str, below: str = "") -> None:
        plural = _PLURALS.get(resource.kind, f"{resource.kind.lower()}s") + below
        group = resource.api_version.rpartition("/")[0]
        self.used |= {Access(verb, plural, group, namespace) for verb in verbs}

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        namespace = str(manifest["metadata"].get("namespace", ""))
        self._use(resource_of(manifest), namespace, "get", "create", "patch")
        return super().apply(manifest, dry_run=dry_run)

    def find(self, resource: Resource, name: str, *, namespace: str = "") -> Manifest | None:
        self._use(resource, namespace, "get")
        return super().find(resource, name, namespace=namespace)

    def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        labels: str = "",
        metadata_only: bool = False,
    ) -> Sequence[Manifest]:
        self._use(resource, namespace, "list")
        return super().list(
            resource, namespace=namespace, labels=labels, metadata_only=metadata_only
        )

    def delete(self, resource: Resource, name: str, *, namespace: str = "", uid: str = "") -> bool:
        self._use(resource, namespace, "delete")
        return super().delete(resource, name, namespace=namespace, uid=uid)

    def patch(
        self, resource: Resource, name: str, change: Manifest, *, namespace: str = ""
    ) -> Manifest:
        self._use(resource, namespace, "patch")
        return super().patch(resource, name, change, namespace=namespace)

    def log(self, pod: str, *, namespace: str, **more: Any) -> str:
        self._use(POD, namespace, "get", below="/log")
        return super().log(pod, namespace=namespace, **more)

    def ask_pod(
        self,
        pod: str,
        *,
        namespace: str,
        port: int,
        path: str,
        body: bytes | None = None,
        **more: Any,
    ) -> HttpAnswer:
        self._use(POD, namespace, "get" if body is None else "create", below="/proxy")
        return super().ask_pod(pod, namespace=namespace, port=port, path=path, body=body, **more)


def not_covered(api: Recording, settings: KubernetesSettings) -> list[str]:
    """Return what was used and is not in the table, there or everywhere."""
    given = set(rights_of(settings))
    lacked = {a for a in api.used if not {a, replace(a, namespace="")} & given}
    return sorted(map(str, lacked))


@pytest.fixture(autouse=True)
def _answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "get", lambda *_, **__: HttpAnswer(404, {}, b""))


def use(layer: Layer) -> None:
    """Do all with a layer that may be done, whatever comes of it."""
    for act in (layer.observe, layer.ensure, *(check.run for check in layer.checks), layer.remove):
        with suppress(PipelineError):
            act()


def test_the_rights_suffice_where_everything_is_used_as_it_is(tmp_path: Path) -> None:
    settings = existing_settings(
        namespace="models",
        istio={"install": False, "gateway": "edge/public", "service": "edge/gateway"},
        seldon={"install": False, "namespace": "serving"},
        object_store={"endpoint": "https://s3.example.com"},
        images={"registry": "registry.example.com/team", "pull_secret": "pull"},
    )
    api = Recording([*their_cluster(), *_their_layers()])
    run_workloads(api)
    rig = ExistingRig(tmp_path, api=api, settings=settings)
    for layer in (
        ExistingCluster(rig.parts),
        ExistingGateway(rig.parts),
        ExistingOperator(rig.parts),
    ):
        use(layer)
    assert not_covered(api, settings) == []
    assert {
        Access("list", "deployments", "apps"),
        Access("get", "deployments", "apps", "serving"),
        Access("patch", "seldondeployments", "machinelearning.seldon.io", "serving"),
    } <= api.used
    assert {a.verb for a in api.used if a.resource == "pods"} >= {"create"}


class Limited(Recording):
    """A cluster that lets one list what these settings ask for, and nothing else."""

    def __init__(self, settings: KubernetesSettings, *given: Any) -> None:
        self._given = set(rights_of(settings))
        super().__init__(*given)

    def list(self, resource: Resource, **more: Any) -> Sequence[Manifest]:
        before, self.used = self.used, set()
        found = super().list(resource, **more)
        (asked,), self.used = self.used, before | self.used
        if not {asked, replace(asked, namespace="")} & self._given:
            raise AccessDeniedError(f"may not {asked}")
        return found


@pytest.mark.parametrize("stranger", [False, True])
def test_the_rights_suffice_to_take_metallb_out(tmp_path: Path, *, stranger: bool) -> None:
    settings = existing_settings(metallb={"install": True, "addresses": "192.0.2.0/28"})
    mine = {**MANAGED_BY, "mlops-pipeline/layer": "metallb"}
    controller, theirs = deployment("controller", "metallb-system"), deployment("theirs", "team")
    controller["metadata"]["labels"] = mine
    namespace = {"metadata": {"name": "metallb-system", "labels": mine}}
    api = Limited(settings, [{"apiVersion": "v1", "kind": "Namespace", **namespace}])
    api.put(controller)
    if stranger:
        api.put({**theirs, "metadata": {**theirs["metadata"], "namespace": "metallb-system"}})
    MetalLB(ExistingRig(tmp_path, api=api, settings=settings).parts).remove()
    assert api.find(DEPLOYMENT, "controller", namespace="metallb-system") is None
    assert (api.find(DEPLOYMENT, "theirs", namespace="metallb-system") is not None) is stranger


def test_the_rights_suffice_for_deployments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_deployments, "FakeKubernetes", Recording)
    world = test_deployments.World(tmp_path)
    world.deployments.apply(test_deployments.deployment())
    for digest in ("one", "two"):
        proof = test_proof.Asking(world)
        world.deployments.apply(test_proof.wanted(digest), proof=proof)
        assert proof.seen
    world.operator.stuck = CRASHING
    with suppress(PipelineError):
        world.deployments.apply(test_deployments.deployment(test_deployments.predictor("two")))
    world.status()
    assert world.deployments.counts("iris", namespace="models")
    assert world.deployments.servers("iris", namespace="models")
    world.deployments.logs("iris", namespace="models", lines=5)
    world.deployments.delete("iris", namespace="models")
    assert isinstance(world.api, Recording)
    assert not_covered(world.api, existing_settings(namespace="models")) == []


def _their_layers() -> list[Manifest]:
    operator = deployment(chart.MANAGER, "serving", image="seldon:1.17.1")
    variables = {"ISTIO_ENABLED": "true", "ISTIO_GATEWAY": "edge/public"}
    operator["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": name, "value": value} for name, value in variables.items()
    ]
    return [
        *their_istio(),
        operator,
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": chart.DEFINITION},
            "spec": {"group": "machinelearning.seldon.io", "versions": [], "names": {}},
        },
    ]
