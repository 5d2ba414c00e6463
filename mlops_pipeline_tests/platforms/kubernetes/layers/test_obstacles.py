"""What a state says of `ensure` is what `ensure` then does, for each layer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_pipeline.assets.failures import explained
from mlops_pipeline.clients import http, ports, running, s3
from mlops_pipeline.clients.engine_program import EngineInfo
from mlops_pipeline.clients.errors import AccessDeniedError, PipelineError, UnavailableError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    GATEWAY,
    IP_ADDRESS_POOL,
    NODE,
    PERSISTENT_VOLUME_CLAIM,
    SECRET,
    SELDON_DEPLOYMENT,
    SERVICE,
    STATEFUL_SET,
    VALIDATING_WEBHOOK,
    VIRTUAL_SERVICE,
    Access,
    Manifest,
    Resource,
)
from mlops_pipeline.platforms.kubernetes.layers.bookinfo import Bookinfo
from mlops_pipeline.platforms.kubernetes.layers.existing_cluster.layer import ExistingCluster
from mlops_pipeline.platforms.kubernetes.layers.ingress_nginx import IngressNginx
from mlops_pipeline.platforms.kubernetes.layers.istio import tls
from mlops_pipeline.platforms.kubernetes.layers.istio.existing import ExistingGateway
from mlops_pipeline.platforms.kubernetes.layers.istio.layer import Istio
from mlops_pipeline.platforms.kubernetes.layers.kind_cluster.layer import KindCluster
from mlops_pipeline.platforms.kubernetes.layers.metallb.layer import MetalLB
from mlops_pipeline.platforms.kubernetes.layers.object_store import keys
from mlops_pipeline.platforms.kubernetes.layers.object_store.external import ExternalStore
from mlops_pipeline.platforms.kubernetes.layers.object_store.seaweedfs import SeaweedStore
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.existing import ExistingOperator
from mlops_pipeline.platforms.kubernetes.layers.seldon_core.layer import SeldonCore
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
from mlops_pipeline.platforms.layers import Layer, Ready, Unready
from mlops_pipeline.platforms.sources import path
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.fakes.helm import release_secret
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.charts import HelmRig, their_istio
from mlops_pipeline_tests.platforms.kubernetes.layers import (
    test_bookinfo,
    test_ingress_nginx,
    test_metallb,
)
from mlops_pipeline_tests.platforms.kubernetes.layers.istio import test_existing, test_layer
from mlops_pipeline_tests.platforms.kubernetes.layers.object_store import (
    test_external,
    test_seaweedfs,
)
from mlops_pipeline_tests.platforms.kubernetes.layers.seldon_core import (
    test_existing as test_operator,
)
from mlops_pipeline_tests.platforms.kubernetes.layers.seldon_core import test_layer as test_seldon
from mlops_pipeline_tests.platforms.kubernetes.layers.serving_image import (
    test_layer as test_image,
)
from mlops_pipeline_tests.platforms.kubernetes.rig import (
    CONTROL_PLANE,
    ExistingRig,
    Rig,
    cluster_settings,
    existing_settings,
    make_engine,
    node,
    ready_cluster,
    run_workloads,
)

ENDING = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
UNLABELLED = {"metadata": {"labels": None}}


@dataclass
class Subject:
    """A layer that is ready or absent, and what it is in."""

    rig: Any
    make: Callable[[], Layer]
    store: Any = None

    @property
    def api(self) -> FakeKubernetes:
        api: FakeKubernetes = self.rig.api
        return api


Make = Callable[[Path, pytest.MonkeyPatch], Subject]
Harm = Callable[[Subject], object]


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_taken", lambda port, *, address: False)
    monkeypatch.setattr(path, "run", lambda *_, **__: "v0.33.0")
    monkeypatch.setattr(running, "commanded", lambda words: [])
    monkeypatch.setattr(http, "get", lambda *_, **__: HttpAnswer(404, {}, b""))


def installed(make: Make) -> Make:
    """Return the same with the layer ready."""

    def made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
        subject = make(folder, monkeypatch)
        subject.make().ensure()
        assert isinstance(subject.make().observe(), Ready)
        return subject

    return made


def kind(folder: Path, _: pytest.MonkeyPatch) -> Subject:
    rig = Rig(folder / "kind", api=FakeKubernetes(ready_cluster()))
    return Subject(rig, lambda: KindCluster(rig.parts))


def existing(folder: Path, _: pytest.MonkeyPatch) -> Subject:
    rig = ExistingRig(folder / "kubernetes")
    return Subject(rig, lambda: ExistingCluster(rig.parts))


def metallb(folder: Path, _: pytest.MonkeyPatch) -> Subject:
    rig = test_metallb.make_rig(folder)
    return Subject(rig, lambda: MetalLB(rig.parts))


def ingress(folder: Path, _: pytest.MonkeyPatch) -> Subject:
    file = folder / "ingress-nginx.yaml"
    file.write_text(test_ingress_nginx.MANIFEST)
    sources = FakeSources(manifests={"ingress-nginx": file})
    engine = make_engine(containers=[node(ports={80: 8080, 443: 443})])
    rig = Rig(folder / "kind", sources=sources, engine=engine).with_cluster()
    run_workloads(rig.api)
    done = test_ingress_nginx.conditions("Complete")
    rig.api.when_applied("Job", lambda job: rig.api.put({**job, "status": done}))
    return Subject(rig, lambda: IngressNginx(rig.parts))


def istio(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    rig = HelmRig.make(folder, test_layer.BRINGS)

    def shown(*_: Any, **__: Any) -> str:
        return tls.chain_in(rig.api.get(SECRET, tls.SECRET, namespace="istio-system"))

    monkeypatch.setattr(http, "certificate_at", shown)
    return Subject(rig, lambda: Istio(rig.parts))


def bookinfo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    rig = istio(folder, monkeypatch).rig
    file = folder / "bookinfo.yaml"
    file.write_text(test_bookinfo.MANIFEST)
    rig.sources._manifests["bookinfo"] = file
    Istio(rig.parts).ensure()
    return Subject(rig, lambda: Bookinfo(rig.parts, Istio(rig.parts)))


def their_gateway(folder: Path, _: pytest.MonkeyPatch) -> Subject:
    settings = existing_settings(istio=test_existing.THEIRS)
    rig = ExistingRig(folder / "kubernetes", settings=settings)
    for manifest in their_istio():
        rig.api.put(manifest)
    return Subject(rig, lambda: ExistingGateway(rig.parts))


def seldon(folder: Path, _: pytest.MonkeyPatch) -> Subject:
    rig = HelmRig.make(folder, {})
    rig.rig.api._custom -= {SELDON_DEPLOYMENT}
    rig.helm.upgrade = test_seldon.Chart(rig).upgrade  # type: ignore[method-assign]
    return Subject(rig, lambda: SeldonCore(rig.parts, test_seldon.Images()))


def their_operator(folder: Path, _: pytest.MonkeyPatch) -> Subject:
    settings = existing_settings(**test_operator.SETTINGS)
    rig = ExistingRig(folder / "kubernetes", settings=settings)
    rig.api.put(test_operator.manager(ISTIO_ENABLED="false"))
    return Subject(rig, lambda: ExistingOperator(rig.parts))


def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    rig = HelmRig.make(folder, {})
    test_seaweedfs.run_stateful_sets(rig.api)
    made = test_seaweedfs.Store(rig.api)
    monkeypatch.setattr(s3, "ObjectStore", made.at)
    return Subject(rig, lambda: SeaweedStore(rig.parts), made)


def external(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    rig, made = HelmRig.make(folder, {}), test_external.Theirs()
    rig.set(object_store={"endpoint": test_external.ENDPOINT, "region": "eu-west-1"})
    monkeypatch.setattr(s3, "ObjectStore", made.at)
    monkeypatch.setattr(s3, "standard_credentials", lambda profile: test_external.KEY)
    ExternalStore(rig.parts).ensure_secret("seldon")
    return Subject(rig, lambda: ExternalStore(rig.parts), made)


def image(folder: Path, _: pytest.MonkeyPatch) -> Subject:
    rig = test_image.a_rig(folder)
    return Subject(rig, lambda: ServingImage(rig.parts))


def unregistered_image(folder: Path, _: pytest.MonkeyPatch) -> Subject:
    settings = existing_settings(images={"registry": ""})
    rig = ExistingRig(folder / "kubernetes", settings=settings)
    return Subject(rig, lambda: ServingImage(rig.parts))


def drop(resource: Resource, name: str, namespace: str) -> Harm:
    return lambda subject: subject.api.drop(resource, name, namespace=namespace)


def patch(resource: Resource, name: str, namespace: str, *changes: Manifest) -> Harm:
    def harm(subject: Subject) -> None:
        for change in changes:
            subject.api.patch(resource, name, change, namespace=namespace)

    return harm


def put(kind: str, name: str, namespace: str = "") -> Harm:
    metadata = {"name": name, "namespace": namespace}
    made = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": {}}
    return lambda subject: subject.api.put(made)


def set_to(**tables: Any) -> Harm:
    return lambda subject: subject.rig.set(**tables)


def give(**attributes: Any) -> Harm:
    def harm(subject: Subject) -> None:
        for name, value in attributes.items():
            setattr(subject.rig, name, value)

    return harm


def together(*harms: Harm) -> Harm:
    return lambda subject: [harm(subject) for harm in harms]


def nothing(_: Subject) -> None: ...


def silent_engine(subject: Subject) -> None:
    subject.rig.engine.unavailable = "is it started?"


def stopped_node(subject: Subject) -> None:
    engine = subject.rig.engine
    engine.start(replace(engine.inspect(CONTROL_PLANE), running=False))


def old_machine(subject: Subject) -> None:
    subject.rig.sources = FakeSources(node_image="kindest/node:v1.35.0")
    subject.rig.engine._info = EngineInfo("27.0.0", 1, 4, 16 << 30, "/var/lib/docker")


def no_nodes(subject: Subject) -> None:
    for name in ("node-1", "node-2"):
        subject.api.drop(NODE, name)


def version(text: str) -> Harm:
    return lambda subject: setattr(subject.api, "_version", text)


def foreign_release(name: str, namespace: str) -> Harm:
    def harm(subject: Subject) -> None:
        for found in subject.api.list(SECRET, namespace=namespace, labels=f"name={name}"):
            subject.api.drop(SECRET, found["metadata"]["name"], namespace=namespace)
        subject.api.put(release_secret(name, namespace))

    return harm


def in_store(**attributes: Any) -> Harm:
    def harm(subject: Subject) -> None:
        for name, value in attributes.items():
            setattr(subject.store, name, value)

    return harm


def write_keys(subject: Subject) -> None:
    """Do what a killed `ensure` did: the pod still has the previous key."""
    clock = subject.rig.parts.clock
    keys.ensure(subject.api, namespace="mlops-storage", timeout=1, clock=clock)


EDITED_KEY = patch(
    SECRET,
    "seaweedfs-credentials",
    "mlops-storage",
    {"data": {"AWS_SECRET_ACCESS_KEY": "ZWRpdGVk"}},
)
STOPPED = {"spec": {"replicas": 0}}
FILES = {"tls": "files", "certificate": "/nowhere/a.pem", "private_key": "/nowhere/b.pem"}
NO_WEBHOOK = drop(VALIDATING_WEBHOOK, test_seldon.WEBHOOK, "")
NO_STORE_SERVICE = drop(SERVICE, "seaweedfs", "mlops-storage")
KIND_WITH_RANGE = KindSettings.model_validate(
    {"metallb": {"addresses": "10.0.0.0/28"}, "ready_timeout": 60}
)

REPAIRED: dict[str, tuple[Make, Harm]] = {
    "no cluster": (kind, nothing),
    "a stopped node": (installed(kind), stopped_node),
    "other mirrors": (
        installed(kind),
        give(settings=cluster_settings(mirrors={"docker.io": "http://m"})),
    ),
    "no MetalLB": (metallb, nothing),
    "no pool": (installed(metallb), drop(IP_ADDRESS_POOL, "mlops-pipeline", "metallb-system")),
    "no ingress-nginx": (ingress, nothing),
    "no Istio": (istio, nothing),
    "istiod at 0": (installed(istio), patch(DEPLOYMENT, "istiod", "istio-system", STOPPED)),
    "no Gateway": (installed(istio), drop(GATEWAY, "seldon-gateway", "istio-system")),
    "no certificate": (installed(istio), set_to(istio={"tls": "self-signed"})),
    "no route": (installed(bookinfo), drop(VIRTUAL_SERVICE, "bookinfo", "bookinfo")),
    "no Seldon Core": (seldon, nothing),
    "no webhook": (installed(seldon), NO_WEBHOOK),
    "no store": (store, nothing),
    "no Service": (installed(store), NO_STORE_SERVICE),
    "an edited key": (installed(store), EDITED_KEY),
    "a key that only the Secret has": (installed(store), together(EDITED_KEY, write_keys)),
    "no bucket": (installed(store), in_store(buckets={"models"})),
    "other keys": (
        external,
        patch(SECRET, "seldon-rclone-secret", "seldon", {"data": {"RCLONE_TIMEOUT": "eA=="}}),
    ),
    "no image": (image, nothing),
}

REFUSED: dict[str, tuple[Make, Harm, str]] = {
    "another size of cluster": (
        installed(kind),
        give(settings=cluster_settings(workers=1)),
        "mlops-pipeline up cluster --recreate",
    ),
    "another cluster and mirrors": (
        installed(kind),
        give(settings=cluster_settings(workers=1, mirrors={"docker.io": "http://m"})),
        "mlops-pipeline up cluster --recreate",
    ),
    "impossible mirrors": (
        installed(kind),
        give(settings=cluster_settings(mirrors={"../x": "http://m"})),
        "kind.cluster.mirrors",
    ),
    "an engine that is silent": (installed(kind), silent_engine, "is it started?"),
    "a machine that cannot have a cluster": (kind, old_machine, "cgroup"),
    "their cluster without nodes": (existing, no_nodes, "kubectl get nodes"),
    "their cluster, silent": (
        existing,
        lambda subject: subject.api.stop(),
        "connection refused",
    ),
    "their cluster, without the right to look": (
        existing,
        lambda subject: subject.api.fail(
            AccessDeniedError("you may not list nodes; grant the permission"), verbs=("list",)
        ),
        "grant the permission",
    ),
    "their cluster, too new": (existing, version("v2.0.0"), "set a context with Kubernetes 1.x"),
    "their MetalLB": (
        installed(metallb),
        patch(
            DEPLOYMENT,
            "controller",
            "metallb-system",
            UNLABELLED,
            {"status": {"availableReplicas": 0}},
        ),
        "remove it, or use another cluster",
    ),
    "their MetalLB by another name": (metallb, put("Namespace", "metallb-system"), "remove it"),
    "rights that are missing": (
        installed(metallb),
        together(
            drop(IP_ADDRESS_POOL, "mlops-pipeline", "metallb-system"),
            lambda subject: subject.api.denied.add(Access("patch", "deployments", "apps")),
        ),
        "ask an administrator to grant these rights",
    ),
    "an impossible range": (
        installed(metallb),
        give(settings=KIND_WITH_RANGE),
        "kind.metallb.addresses",
    ),
    "no port for an Ingress": (
        ingress,
        give(engine=make_engine(containers=[node(ports={})])),
        "kind.ingress_nginx = false",
    ),
    "their Gateway": (
        installed(istio),
        patch(GATEWAY, "seldon-gateway", "istio-system", UNLABELLED, {"spec": {"selector": None}}),
        "delete it",
    ),
    "their istiod": (
        installed(istio),
        foreign_release("istiod", "istio-system"),
        "helm uninstall istiod --namespace istio-system",
    ),
    "no certificate in the files": (
        installed(istio),
        set_to(istio=FILES),
        "set kind.istio.tls to self-signed",
    ),
    "their Secret for port 443": (
        installed(istio),
        together(set_to(istio={"tls": "self-signed"}), put("Secret", tls.SECRET, "istio-system")),
        "set kind.istio.tls to off",
    ),
    "a Kubernetes that is too old for Istio": (
        istio,
        version("v1.28.3"),
        "expected Kubernetes 1.32 or newer",
    ),
    "their namespace for Bookinfo": (
        bookinfo,
        put("Namespace", "bookinfo"),
        "kind.samples.bookinfo to false",
    ),
    "their gateway, named wrongly": (
        their_gateway,
        give(settings=existing_settings(istio={**test_existing.THEIRS, "gateway": "edge/other"})),
        "set kubernetes.istio to another",
    ),
    "their operator, which makes no routes": (
        their_operator,
        nothing,
        "set kubernetes.seldon.install to true",
    ),
    "another version of Seldon Core": (
        installed(seldon),
        together(set_to(seldon={"version": "1.18.2"}), NO_WEBHOOK),
        "kind.seldon.version is 1.18.2",
    ),
    "their Seldon Core": (
        installed(seldon),
        foreign_release("seldon-core", "seldon-system"),
        "helm uninstall seldon-core",
    ),
    "a volume that cannot shrink": (
        installed(store),
        set_to(object_store={"size": "1Gi"}),
        "set kind.object_store.size to 5Gi",
    ),
    "a volume that is being deleted": (
        installed(store),
        patch(PERSISTENT_VOLUME_CLAIM, "seaweedfs", "mlops-storage", ENDING),
        "copy what you need",
    ),
    "their StatefulSet": (
        installed(store),
        together(patch(STATEFUL_SET, "seaweedfs", "mlops-storage", UNLABELLED), NO_STORE_SERVICE),
        "delete it",
    ),
    "their keys": (
        installed(store),
        put("Secret", "seaweedfs-credentials", "mlops-storage"),
        "delete it",
    ),
    "their Secret for models": (store, put("Secret", "seldon-rclone-secret", "seldon"), "delete"),
    "keys that the store refuses": (installed(store), in_store(read=""), "delete the Secret"),
    "their S3 without a bucket": (external, in_store(buckets={"models"}), "create them at"),
    "their S3, silent": (
        external,
        in_store(error=UnavailableError("no such host")),
        "check that kind.object_store.endpoint is right",
    ),
    "their S3, which refuses the keys": (
        external,
        in_store(error=AccessDeniedError("it rejected the keys; set others")),
        "set others",
    ),
    "an S3 on this machine": (
        external,
        set_to(object_store={"endpoint": "http://127.0.0.1:9000", "region": "eu-west-1"}),
        "use an address of this machine in its network",
    ),
    "no engine for a build": (image, silent_engine, "is it started?"),
    "no registry": (unregistered_image, nothing, "set kubernetes.images.registry"),
}

RETRIED = {"an engine that is silent", "no engine for a build"}
"""Of these, what a step tries again: an engine may be starting."""


@pytest.mark.parametrize("case", REPAIRED)
def test_what_is_repairable_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, harm = REPAIRED[case]
    subject = make(tmp_path, monkeypatch)
    harm(subject)
    state = subject.make().observe()
    assert isinstance(state, Unready)
    assert state.is_repairable, state
    subject.make().ensure()
    assert isinstance(subject.make().observe(), Ready)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_repairable_is_refused_with_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, harm, cure = REFUSED[case]
    subject = make(tmp_path, monkeypatch)
    harm(subject)
    state = subject.make().observe()
    assert isinstance(state, Unready)
    assert not state.is_repairable, state
    outcome = dg.RetryRequested if case in RETRIED else dg.Failure
    with pytest.raises(outcome) as refused, explained():
        subject.make().ensure()
    assert isinstance(refused.value.__cause__, PipelineError)
    assert state.obstacle in str(refused.value.__cause__)
    assert cure in state.obstacle
    assert subject.make().observe() == state
