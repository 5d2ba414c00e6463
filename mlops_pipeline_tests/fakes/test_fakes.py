from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_pipeline.clients.errors import (
    CommandError,
    InvalidManifestError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    GATEWAY,
    NAMESPACE,
    POD,
    Manifest,
    Resource,
)
from mlops_pipeline_tests.fakes.engine import FakeEngine
from mlops_pipeline_tests.fakes.helm import FakeHelm
from mlops_pipeline_tests.fakes.kind import FakeKind
from mlops_pipeline_tests.fakes.kubernetes import Asked, FakeKubernetes, Reference


def _deployment(**spec: Any) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "n"},
        "spec": spec,
    }


def test_existing_objects_bring_their_namespace() -> None:
    api = FakeKubernetes([_deployment(replicas=1)])
    assert api.find(NAMESPACE, "n") is not None
    assert api.applied == []
    applied = api.apply(_deployment(paused=True))
    assert applied.action == "updated"
    assert applied.manifest["spec"] == {"replicas": 1, "paused": True}
    assert api.applied == [_deployment(paused=True)]


def test_a_controller_answers_what_is_applied() -> None:
    api = FakeKubernetes([_deployment()])

    def make_ready(manifest: Manifest) -> None:
        api.put({**manifest, "status": {"readyReplicas": 1}})

    api.when_applied("Deployment", make_ready)
    assert api.apply(_deployment(replicas=1)).manifest["status"] == {"readyReplicas": 1}
    assert api.apply(_deployment(replicas=1)).action == "unchanged"


def test_a_workload_keeps_its_pods_while_it_is_there() -> None:
    selected = {"matchLabels": {"app": "a"}}
    api = FakeKubernetes([{**_deployment(selector=selected), "status": {"availableReplicas": 2}}])
    before = {p["metadata"]["name"]: p["metadata"]["uid"] for p in api.list(POD, labels="app=a")}
    assert before.keys() == {"a-0", "a-1"}
    api.delete(POD, "a-1", namespace="n")
    after = {p["metadata"]["name"]: p["metadata"]["uid"] for p in api.list(POD, labels="app=a")}
    assert after["a-0"] == before["a-0"]
    assert after["a-1"] != before["a-1"]
    api.delete(DEPLOYMENT, "a", namespace="n")
    assert api.list(POD) == []


def test_faults_are_injected_by_verb_kind_and_number() -> None:
    api = FakeKubernetes([_deployment()])
    api.fail(UnavailableError("failed calling webhook"), kind="Deployment", times=2)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="failed calling webhook"):
            api.apply(_deployment(), dry_run=True)
    api.apply(_deployment(), dry_run=True)
    assert (len(api.dry_runs), api.applied) == (1, [])
    api.refuse("Deployment", "traffic must sum to 100")
    with pytest.raises(InvalidManifestError, match=r"denied the request: traffic must sum"):
        api.apply(_deployment())
    assert api.find(DEPLOYMENT, "a", namespace="n") is not None
    api.stop()
    with pytest.raises(UnavailableError, match="connection refused"):
        api.find(DEPLOYMENT, "a", namespace="n")
    api.mend()
    assert api.version() == "v1.34.4"


def test_a_kind_can_be_unknown() -> None:
    api = FakeKubernetes(unknown=[GATEWAY])
    gateway = {
        "apiVersion": GATEWAY.api_version,
        "kind": GATEWAY.kind,
        "metadata": {"name": "g", "namespace": "default"},
    }
    with pytest.raises(NotFoundError, match="CRD is not installed"):
        api.apply(gateway)
    assert FakeKubernetes().apply(gateway).action == "created"


def test_a_namespace_takes_what_is_in_it_along() -> None:
    api = FakeKubernetes([_deployment()])
    assert api.delete(NAMESPACE, "n") is True
    assert api.find(DEPLOYMENT, "a", namespace="n") is None
    assert api.deleted == [Reference(NAMESPACE, "", "n")]
    with pytest.raises(NotFoundError, match="no namespace n"):
        api.apply(_deployment())


def test_pods_log_what_they_are_configured_to() -> None:
    api = FakeKubernetes()
    api.logs["n", "p"] = "one\ntwo\nthree\n"
    assert api.log("p", namespace="n", lines=2) == "two\nthree\n"
    api.answers["n", "p"] = HttpAnswer(200, {}, b"ok")
    assert api.ask_pod("p", namespace="n", port=80, path="/").body == b"ok"
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s", "namespace": "n"}})
    api.servers["n", "s"] = lambda asked: HttpAnswer(200, {}, asked.body)
    assert api.ask_pod("s", namespace="n", port=9000, path="/x", body=b"1").body == b"1"
    assert api.asked == [Asked("n/p", "GET", 80, "/"), Asked("n/s", "POST", 9000, "/x", b"1")]
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "q", "namespace": "n"}})
    assert api.log("q", namespace="n") == ""
    with pytest.raises(UnavailableError, match="n/q"):
        api.ask_pod("q", namespace="n", port=80, path="/")


def test_what_it_gives_is_a_copy() -> None:
    api = FakeKubernetes([_deployment(replicas=1)])
    found: Any = api.get(DEPLOYMENT, "a", namespace="n")
    found["spec"]["replicas"] = 5
    assert api.get(DEPLOYMENT, "a", namespace="n")["spec"] == {"replicas": 1}


def test_a_release_can_fail() -> None:
    helm = FakeHelm(FakeKubernetes(), fails={"a": "no space"})
    with pytest.raises(CommandError, match="no space"):
        helm.upgrade("a", chart=Path("c"), namespace="n", values={}, timeout=1, labels={})
    assert helm.upgrades == []


def test_the_nodes_of_a_cluster_are_containers_with_its_ports(tmp_path: Path) -> None:
    engine = FakeEngine()
    kind = FakeKind(engine=engine)
    port = {"containerPort": 80, "hostPort": 8080, "listenAddress": "127.0.0.1"}
    nodes = [
        {"role": "control-plane", "extraPortMappings": [port]},
        {"role": "worker"},
        {"role": "worker"},
    ]
    kubeconfig = tmp_path / "state" / "kubeconfig"
    config = yaml.safe_dump({"nodes": nodes})
    kind.create("a", config=config, image="node:1", kubeconfig=kubeconfig, timeout=1)
    assert kind.nodes("a") == ["a-control-plane", "a-worker", "a-worker2"]
    found = engine.containers(label="io.x-k8s.kind.cluster=a")
    assert [(c.name, len(c.ports)) for c in found] == [
        ("a-control-plane", 1),
        ("a-worker", 0),
        ("a-worker2", 0),
    ]
    assert (kind.created[0].image, kubeconfig.exists()) == ("node:1", True)
    kind.delete("a", kubeconfig=kubeconfig)
    assert (kind.clusters(), engine.containers(), kubeconfig.exists()) == ([], (), False)


def test_an_engine_answers_commands_and_records_them() -> None:
    engine = FakeEngine(images=["serving:1"], outputs=[(["predict"], "[[1.0]]"), ([], "else")])
    assert engine.run("serving:1", ["python", "predict"], timeout=1, user="1") == "[[1.0]]"
    assert engine.run("docker.io/library/serving:1", ["ls"], timeout=1) == "else"
    assert [(call.command, call.user) for call in engine.calls] == [
        (("python", "predict"), "1"),
        (("ls",), ""),
    ]
    with pytest.raises(NotFoundError, match="other:1"):
        engine.run("other:1", [], timeout=1)
    engine.unavailable = "stopped"
    with pytest.raises(UnavailableError, match="stopped"):
        engine.info()


def test_its_own_kinds_are_all_known() -> None:
    api = FakeKubernetes()
    for resource in (Resource("rbac.authorization.k8s.io/v1", "ClusterRole"), GATEWAY):
        manifest = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": "a"},
        }
        assert api.apply(manifest).action == "created"
        assert api.find(resource, "a", namespace="" if resource != GATEWAY else "default")
