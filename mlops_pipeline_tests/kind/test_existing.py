"""The platform kubernetes, on a kind cluster that was made by hand, with a stranger in it.

The tests are one story, in their order: each goes on from what the one before has left.
"""

import base64
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mlops_pipeline.clients.containers import ContainerEngine
from mlops_pipeline.clients.kubernetes import (
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    SELDON_DEPLOYMENT,
    VIRTUAL_SERVICE,
    Access,
    Kubernetes,
    Manifest,
    Resource,
)
from mlops_pipeline.clients.waiting import MONOTONIC, wait_until
from mlops_pipeline.platforms.kubernetes.cluster import nodes
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.chart import DEFINITION
from mlops_pipeline.platforms.kubernetes.objects import pods
from mlops_pipeline.platforms.kubernetes.parts import addresses
from mlops_pipeline.platforms.kubernetes.parts.images import RegistryImages
from mlops_pipeline.platforms.sources.versions import ECHO_IMAGE
from mlops_pipeline.settings.kubernetes import KubernetesSettings
from mlops_pipeline_tests.command_line import ODD_FLOWER, CommandLine, free_ports, predict
from mlops_pipeline_tests.kind.clusters import named
from mlops_pipeline_tests.kind.pushable import registry
from mlops_pipeline_tests.platforms.kubernetes.rig import rights_of

pytestmark = pytest.mark.kind

LAYERS = ["cluster", "metallb", "istio", "object_store", "serving_image", "seldon_core"]
THEIRS = "strangers"
_RIGHTS = "rbac.authorization.k8s.io/v1"
_INSTALLING = KubernetesSettings.model_validate(
    {"metallb": {"install": True, "addresses": "192.0.2.1-192.0.2.9"}}
)
_USING = KubernetesSettings.model_validate(
    {layer: {"install": False} for layer in ("metallb", "istio", "seldon")}
)


@dataclass(frozen=True)
class ExistingCommandLine(CommandLine):
    """The installed command on the platform `kubernetes`."""

    cluster: str
    kubeconfig: Path
    settings: Mapping[str, str]

    def environment(self, **variables: str) -> dict[str, str]:
        ours = {
            "MLOPS_PLATFORM": "kubernetes",
            "KUBECONFIG": str(self.kubeconfig),
            **self.settings,
        }
        return super().environment(**ours | variables)

    @property
    def as_administrator(self) -> "ExistingCommandLine":
        """The same, as a user who may do everything: who may not see all deletes no namespace."""
        context = {"MLOPS_KUBERNETES__CONTEXT": self._administrator}
        return replace(self, settings={**self.settings, **context})

    @property
    def api(self) -> Kubernetes:
        """The cluster, asked as its administrator."""
        return Kubernetes(self.kubeconfig, context=self._administrator)

    @property
    def _administrator(self) -> str:
        return f"kind-{self.cluster}"


@pytest.fixture(scope="module")
def ours(
    tmp_path_factory: pytest.TempPathFactory, bundle: Path | None
) -> Iterator[ExistingCommandLine]:
    """The command on a cluster that somebody made with kind, and nothing else in it.

    Its user may do what is said to be needed, and no more.
    """
    folder = tmp_path_factory.mktemp("existing")
    with named("hand", bundle) as name:
        kubeconfig = folder / "their kubeconfig"
        _make(name, kubeconfig, bundle)
        engine = ContainerEngine()
        given = addresses.choose(
            engine.network("kind"),
            wanted="",
            existing="",
            least=4,
            cluster=name,
            others=lambda: nodes.pools_of_others(engine, name),
        )
        settings = {
            "MLOPS_KUBERNETES__METALLB__INSTALL": "true",
            "MLOPS_KUBERNETES__METALLB__ADDRESSES": str(given),
            "MLOPS_KUBERNETES__IMAGES__DELIVERY": "kind",
            "MLOPS_KUBERNETES__IMAGES__CLUSTER": name,
            "MLOPS_KUBERNETES__CONTEXT": "deployer",
            **({"MLOPS_BUNDLE": str(bundle)} if bundle else {}),
        }
        made = ExistingCommandLine(
            folder / "state folder", folder, free_ports(3), name, kubeconfig, settings
        )
        _add_user("deployer", rights_of(_INSTALLING), kubeconfig, made.api)
        yield made


def _make(name: str, kubeconfig: Path, bundle: Path | None) -> None:
    kind, image = "kind", []
    if bundle is not None:
        kind = str(bundle / "bin" / "kind")
        engine, node = ContainerEngine(), "kindest/node:v1.34.4"
        if not engine.has_image(node):
            engine.load(bundle / "images" / "node.tar")
        image = ["--image", node]
    command = [kind, "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), *image]
    subprocess.run([*command, "--wait", "120s"], check=True, capture_output=True, timeout=300)


def _add_user(name: str, rights: Iterable[Access], kubeconfig: Path, admin: Kubernetes) -> None:
    """Add a context of this name for an account that has these rights.

    Those of a namespace that is there are given in it, those of another one everywhere.
    """
    metadata = {"name": name, "namespace": "default"}
    granted: dict[str, list[dict[str, list[str]]]] = {"": []}
    for right in rights:
        there = right.namespace if admin.find(NAMESPACE, right.namespace or "none") else ""
        rule = {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb]}
        granted.setdefault(there, []).append(rule)
    token_of = {"kubernetes.io/service-account.name": name}
    admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    secret = {"type": "kubernetes.io/service-account-token", "apiVersion": "v1", "kind": "Secret"}
    admin.apply({**secret, "metadata": {**metadata, "annotations": token_of}})
    for namespace, rules in granted.items():
        kind = "Role" if namespace else "ClusterRole"
        place = {"name": name, **({"namespace": namespace} if namespace else {})}
        role = {"apiGroup": _RIGHTS.partition("/")[0], "kind": kind, "name": name}
        bound = {"roleRef": role, "subjects": [{"kind": "ServiceAccount", **metadata}]}
        for each, content in ((kind, {"rules": rules}), (f"{kind}Binding", bound)):
            admin.apply({"apiVersion": _RIGHTS, "kind": each, "metadata": place, **content})

    def token() -> str:
        found = admin.get(SECRET, name, namespace="default")
        return str((found.get("data") or {}).get("token", ""))

    wait_until("the token", lambda: None if token() else "none yet", timeout=30, clock=MONOTONIC)
    user = {"token": base64.b64decode(token()).decode()}
    content = yaml.safe_load(kubeconfig.read_text())
    context = {"cluster": content["clusters"][0]["name"], "user": name}
    content["users"].append({"name": name, "user": user})
    content["contexts"].append({"name": name, "context": context})
    kubeconfig.write_text(yaml.safe_dump(content))


def _remove_rights(name: str, admin: Kubernetes) -> None:
    """Take back what the account was given in single namespaces."""
    for kind in ("RoleBinding", "Role"):
        resource = Resource(_RIGHTS, kind)
        for found in admin.list(resource):
            if found["metadata"]["name"] == name:
                admin.delete(resource, name, namespace=found["metadata"]["namespace"])


def _thing(api_version: str, kind: str, name: str, **content: Any) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": THEIRS},
        **content,
    }


def _strangers(uri: str, secret: Manifest) -> list[Manifest]:
    """Return what somebody else has in the cluster: a model, a route of their own, a namespace."""
    graph = {
        "name": "classifier",
        "implementation": "SKLEARN_SERVER",
        "modelUri": uri,
        "envSecretRefName": "their-secret",
    }
    # The engine's image is not everywhere that these tests run.
    annotations = {"seldon.io/no-engine": "true"}
    predictor = {"name": "main", "graph": graph, "annotations": annotations}
    destination = {"host": f"theirs-main.{THEIRS}.svc.cluster.local", "port": {"number": 9000}}
    route = {"match": [{"uri": {"prefix": "/theirs"}}], "route": [{"destination": destination}]}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": THEIRS}},
        _thing("v1", "Secret", "their-secret", data=secret["data"]),
        _thing(
            SELDON_DEPLOYMENT.api_version,
            SELDON_DEPLOYMENT.kind,
            "theirs",
            spec={"predictors": [predictor]},
        ),
        _thing(
            VIRTUAL_SERVICE.api_version,
            VIRTUAL_SERVICE.kind,
            "their-route",
            spec={"hosts": ["*"], "gateways": ["istio-system/seldon-gateway"], "http": [route]},
        ),
    ]


def _namespaces(ours: ExistingCommandLine) -> set[str]:
    return {str(n["metadata"]["name"]) for n in ours.api.list(NAMESPACE)}


def _url_of_iris(ours: ExistingCommandLine) -> str:
    return next(str(m["url"]) for m in ours.status(code=3)["models"] if m["name"] == "iris")


def _answers(gateway: str) -> None:
    """Require that the stranger's model answers, by its own URL and by the stranger's route."""
    assert predict(f"{gateway}/seldon/{THEIRS}/theirs", ODD_FLOWER).status_code == 200
    assert httpx.get(f"{gateway}/theirs", timeout=10).status_code in (404, 405)
    assert httpx.get(f"{gateway}/nobodys", timeout=10).headers.get("server", "") == "istio-envoy"


def test_no_context_is_taken_that_nobody_named(ours: ExistingCommandLine) -> None:
    refused = ours.run("status", code=2, MLOPS_KUBERNETES__CONTEXT="").stderr
    assert f"one of deployer, kind-{ours.cluster}, from {ours.kubeconfig}" in refused
    refused = ours.run("up", "cluster", code=1, MLOPS_KUBERNETES__CONTEXT="other").stderr
    assert "has no context 'other'" in refused


def test_a_user_with_few_rights_sees_every_missing_right(
    ours: ExistingCommandLine,
) -> None:
    _add_user("guest", [Access("get", "pods"), Access("list", "pods")], ours.kubeconfig, ours.api)
    before, namespaces = ours.kubeconfig.read_bytes(), _namespaces(ours)
    refused = ours.run("up", "cluster", code=1, MLOPS_KUBERNETES__CONTEXT="guest").stderr
    for right in (
        "list nodes",
        "delete namespaces",
        "escalate/bind clusterroles.rbac.authorization.k8s.io",
        "delete seldondeployments.machinelearning.seldon.io in the namespace seldon",
    ):
        assert right in refused
    assert "get pods in" not in refused
    assert "nothing was changed" in refused
    assert _namespaces(ours) == namespaces
    assert ours.kubeconfig.read_bytes() == before


def test_it_comes_up_in_their_cluster(ours: ExistingCommandLine) -> None:
    before = ours.kubeconfig.read_bytes()
    ours.run("up", "iris", timeout=900)
    status = ours.status(code=3)  # Nobody has brought MNIST up.
    assert status["platform"] == "kubernetes"
    assert {layer["name"]: layer["state"] for layer in status["layers"]} == dict.fromkeys(
        LAYERS, "ready"
    )
    assert predict(_url_of_iris(ours), ODD_FLOWER).status_code == 200
    assert ours.kubeconfig.read_bytes() == before


@pytest.fixture(scope="module")
def gateway(ours: ExistingCommandLine) -> str:
    """The address of the gateway, behind which a stranger's model answers too."""
    api = ours.api
    found = api.get(SELDON_DEPLOYMENT, "iris-model", namespace="seldon")
    uri = found["spec"]["predictors"][0]["graph"]["modelUri"]
    secret = api.get(SECRET, "seldon-rclone-secret", namespace="seldon")
    api.apply_all(_strangers(uri, secret))
    address = str(ours.status(code=3)["gateway"])

    def describe() -> str | None:
        answer = predict(f"{address}/seldon/{THEIRS}/theirs", ODD_FLOWER)
        return None if answer.status_code == 200 else f"it answers {answer.status_code}"

    wait_until("the stranger's model", describe, timeout=120, clock=MONOTONIC)
    return address


def test_an_istio_and_a_seldon_core_that_are_there_are_used(
    ours: ExistingCommandLine, gateway: str
) -> None:
    """Those of the tests before stand for somebody else's."""
    before = ours.api.get(SELDON_DEPLOYMENT, "theirs", namespace=THEIRS)["metadata"]
    layers = ("ISTIO", "SELDON", "METALLB")
    used = {f"MLOPS_KUBERNETES__{layer}__INSTALL": "false" for layer in layers}
    used["MLOPS_KUBERNETES__CONTEXT"] = "user"
    _add_user("user", rights_of(_USING), ours.kubeconfig, ours.api)
    using = replace(ours, settings={**ours.settings, **used})
    shown = using.run("doctor").stdout
    assert "istio-system/seldon-gateway" in shown
    assert "1.17.1 in seldon-system" in shown
    using.run("up", "iris", timeout=300)
    found = ours.api.get(SELDON_DEPLOYMENT, "iris-model", namespace="seldon")
    (container,) = found["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"]
    assert container["image"].startswith("localhost/mlops-pipeline/serving:")
    assert predict(f"{gateway}/seldon/seldon/iris-model", ODD_FLOWER).status_code == 200
    after = ours.api.get(SELDON_DEPLOYMENT, "theirs", namespace=THEIRS)["metadata"]
    assert after["generation"] == before["generation"]
    other = "istio-system/other"
    refused = using.run("up", "cluster", code=1, MLOPS_KUBERNETES__ISTIO__GATEWAY=other).stderr
    assert (
        "the Gateway istio-system/other is missing (there are: istio-system/seldon-gateway)"
        in refused
    )
    assert "uses the Gateway istio-system/seldon-gateway" in refused
    _remove_rights("user", ours.api)  # What is not ours would keep our namespaces.


def test_down_keeps_the_objects_of_others_and_the_data(
    ours: ExistingCommandLine, gateway: str
) -> None:
    said = ours.run("down").stdout
    assert f"seldon_core stays, for SeldonDeployment {THEIRS}/theirs of somebody else" in said
    assert f"istio stays, for seldon_core, VirtualService {THEIRS}/their-route of" in said
    assert "metallb stays, for istio" in said
    assert "object_store" not in said
    _answers(gateway)
    api = ours.api
    assert api.find(SELDON_DEPLOYMENT, "iris-model", namespace="seldon") is None
    claim = api.find(PERSISTENT_VOLUME_CLAIM, "seaweedfs", namespace="mlops-storage")
    assert claim is not None


def test_up_finds_the_data_again(ours: ExistingCommandLine, gateway: str) -> None:
    ours.run("up", "object_store", timeout=300)
    assert ours.run("models", "iris").stdout.count("0.9778") == 1
    _answers(gateway)


def test_purge_deletes_the_data_and_keeps_the_objects_of_others(
    ours: ExistingCommandLine, gateway: str
) -> None:
    said = ours.as_administrator.run("down", "--purge", "--yes", timeout=300).stdout
    assert f"seldon_core stays, for SeldonDeployment {THEIRS}/theirs of somebody else" in said
    assert not (ours.home / "kubernetes").exists()
    left = _namespaces(ours)
    assert {"seldon-system", "istio-system", "metallb-system", THEIRS} <= left
    assert not {"seldon", "mlops-storage"} & left
    _answers(gateway)


def test_without_the_objects_of_others_nothing_remains(
    ours: ExistingCommandLine, gateway: str
) -> None:
    api = ours.api
    api.delete(SELDON_DEPLOYMENT, "theirs", namespace=THEIRS)
    api.delete(VIRTUAL_SERVICE, "their-route", namespace=THEIRS)
    ours.run("down", timeout=300)
    assert api.find(CUSTOM_RESOURCE_DEFINITION, DEFINITION) is None
    for name, namespace in (("istiod", "istio-system"), ("controller", "metallb-system")):
        assert api.find(DEPLOYMENT, name, namespace=namespace) is None
    ours.as_administrator.run("down", "--purge", "--yes", timeout=300)
    kubernetes_own = {"default", "kube-system", "kube-public", "kube-node-lease"}
    left = _namespaces(ours)
    assert THEIRS in left
    assert left - kubernetes_own - {THEIRS, "local-path-storage"} == set()
    assert api.find(SECRET, "their-secret", namespace=THEIRS) is not None


def test_an_image_goes_through_a_registry_to_a_node(
    ours: ExistingCommandLine, bundle: Path | None
) -> None:
    """With a small image, by the same way as those of the model server."""
    engine = ContainerEngine()
    if bundle is not None:
        engine.load(bundle / "images" / "extras.tar")
    with registry() as server:
        name = f"127.0.0.1:{server.port}/team"
        images = RegistryImages(engine, name, plain_http=True)
        reference = f"{images.name('mlops-pipeline/echo')}:1"
        subprocess.run(["docker", "tag", ECHO_IMAGE, reference], check=True)
        try:
            assert images.missing([reference]) == {name: {reference}}
            assert images.ensure_local(reference) is True
            assert images.missing([reference]) == {}
            assert images.ensure_local(reference) is False
            assert server.images() == {"team/mlops-pipeline/echo:1"}
            _pull(ours, engine, reference, port=server.port)
        finally:
            engine.remove_image(reference)


def _pull(ours: ExistingCommandLine, engine: ContainerEngine, reference: str, *, port: int) -> None:
    """Run a pod with the image, on a node that knows this machine as that registry."""
    (host,) = [a for a in engine.network("kind").gateways if ":" not in a]
    mirror = {f"127.0.0.1:{port}": f"http://{host}:{port}"}
    nodes.write_mirrors(engine, f"{ours.cluster}-control-plane", mirror)
    container = {"name": "echo", "image": reference, "args": ["-text=hello"]}
    metadata = {"name": "pulled", "namespace": "default"}
    spec = {"containers": [{**container, "imagePullPolicy": "Always"}]}
    ours.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def describe() -> str | None:
        found = ours.api.find(POD, "pulled", namespace="default")
        return pods.explain_unready([found] if found else []) or None

    wait_until("the pod with the pulled image", describe, timeout=60, clock=MONOTONIC)
