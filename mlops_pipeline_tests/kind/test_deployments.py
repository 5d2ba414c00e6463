"""Deployments in a real cluster: how fast, that no request is dropped, how each failure reads."""

import base64
import itertools
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mlops_pipeline.catalog.registry import load_catalog
from mlops_pipeline.clients.errors import (
    ConflictError,
    FatalStateError,
    InvalidManifestError,
    NotFoundError,
)
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    DESTINATION_RULE,
    POD,
    SECRET,
    SELDON_DEPLOYMENT,
    KubernetesApi,
    Resource,
)
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.proving import HoldoutProof
from mlops_pipeline.delivery.references import DeploymentRef, ModelRef
from mlops_pipeline.platforms import store_access
from mlops_pipeline.platforms.kubernetes import KindPlatform
from mlops_pipeline.platforms.kubernetes.deployments.deployments import KubernetesDeployments
from mlops_pipeline.platforms.kubernetes.deployments.manifests import Manifests
from mlops_pipeline.platforms.kubernetes.layers.istio.layer import Istio
from mlops_pipeline.platforms.kubernetes.layers.object_store.seaweedfs import SeaweedStore
from mlops_pipeline.platforms.kubernetes.layers.serving_image.layer import ServingImage
from mlops_pipeline.platforms.kubernetes.objects.endings import is_ending
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.seldon import (
    DIGEST_ANNOTATION,
    MANAGED_BY,
    PREDICTOR_ANNOTATION,
    Predictor,
    SeldonDeployment,
    parse,
)
from mlops_pipeline_tests.background import exit_code_of
from mlops_pipeline_tests.command_line import trusting
from mlops_pipeline_tests.kind.conftest import KindCommandLine, platform_of
from mlops_pipeline_tests.kind.load import Load, load

pytestmark = pytest.mark.kind

NAMESPACE = "deployments-test"
ROW = [5.1, 3.5, 1.4, 0.2]
QUOTA = Resource("v1", "ResourceQuota")


class Altered(Manifests):
    """Manifests whose pods differ in something that no setting allows."""

    def __init__(self, change: Callable[[dict[str, Any]], None], **options: Any) -> None:
        super().__init__(**options)
        self._change = change

    def render(self, deployment: SeldonDeployment, **kept: Any) -> dict[str, Any]:
        manifest = super().render(deployment, **kept)
        for predictor in manifest["spec"]["predictors"]:
            self._change(predictor)
        return manifest


@dataclass
class Rig:
    """A cluster with everything on it, and a namespace for these tests."""

    platform: KindPlatform
    parts: KindParts
    api: KubernetesApi
    iris: Sequence[ModelRef]
    """Two artifacts."""
    mnist: ModelRef

    def apply(self, *predictors: dict[str, Any], name: str = "iris", **spec: Any) -> Change:
        return self.platform.deployments.apply(deployment(*predictors, name=name, **spec))

    def prove(self, ref: ModelRef, proof: type[HoldoutProof] = HoldoutProof) -> Change:
        """Apply as `up` does: with a name that says what it runs, and proved before it serves."""
        return _prove(self.platform, ref, proof)

    def altered(
        self, change: Callable[[dict[str, Any]], None], *, ready_timeout: float = 90
    ) -> KubernetesDeployments:
        """Return deployments whose predictors are changed before they are applied."""
        image = ServingImage(self.parts).reference
        manifests = Altered(change, secret=store_access.SECRET, image=image, deadline=ready_timeout)
        store, gateway = SeaweedStore(self.parts), Istio(self.parts)
        return KubernetesDeployments(self.parts, manifests, artifacts=store, gateway=gateway)

    def url(self, path: str = "api/v1.0/predictions", *, name: str = "iris") -> str:
        return _url(self.platform, path, name=name)

    def predict(
        self, *, name: str = "iris", row: Sequence[float] = ROW, times: int = 1
    ) -> list[str]:
        """Return the digests that answered."""
        url, body = self.url(name=name), {"data": {"ndarray": [list(row)]}}
        with httpx.Client(timeout=20, verify=trusting(url)) as client:
            answers = [client.post(url, json=body) for _ in range(times)]
        return [answer.raise_for_status().headers["x-model-digest"] for answer in answers]

    def refuse(self, deployments: KubernetesDeployments, *predictors: dict[str, Any]) -> str:
        """Require that an apply fails for good, quickly, and return what it says."""
        start = time.monotonic()
        with pytest.raises(FatalStateError) as error:
            deployments.apply(deployment(*predictors))
        assert time.monotonic() - start < 45
        return str(error.value)

    def secret(self, name: str, **changed: str) -> None:
        """Make a Secret like ours that differs."""
        SeaweedStore(self.parts).ensure_secret(NAMESPACE)
        ours = self.api.get(SECRET, store_access.SECRET, namespace=NAMESPACE)
        new = {key: base64.b64encode(text.encode()).decode() for key, text in changed.items()}
        self.api.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "data": {**ours["data"], **new},
            }
        )

    def settle(self) -> None:
        """Return when the last of the replaced pods has ended."""

        def describe_ending() -> str | None:
            there = self.api.list(POD, namespace=NAMESPACE)
            ending = [p["metadata"]["name"] for p in there if is_ending(p)]
            return f"{', '.join(ending)} is ending" if ending else None

        wait_until("the end of replaced pods", describe_ending, timeout=60)

    def stored(self) -> dict[str, Any]:
        return dict(self.api.get(SELDON_DEPLOYMENT, "iris", namespace=NAMESPACE))


def _url(platform: KindPlatform, path: str, *, name: str = "iris") -> str:
    return f"{platform.gateway_url()}/seldon/{NAMESPACE}/{name}/{path}"


def _prove(platform: KindPlatform, ref: ModelRef, proof: type[HoldoutProof]) -> Change:
    spec = next(m.spec for m in load_catalog((), datasets={}).models if m.name == "iris")
    there = DeploymentRef("iris", NAMESPACE, _url(platform, "").rstrip("/"), ref)
    holdout = ArtifactStore(platform.object_store()).holdout(ref)
    annotations = {DIGEST_ANNOTATION: ref.digest, PREDICTOR_ANNOTATION: "default"}
    return platform.deployments.apply(
        deployment({**predictor(ref), "annotations": annotations}),
        proof=proof(spec, there, holdout, trust=platform.gateway_trust()),
    )


def predictor(ref: ModelRef, name: str = "default", **more: Any) -> dict[str, Any]:
    graph = {"name": "classifier", "implementation": "SKLEARN_SERVER", "modelUri": ref.uri}
    graph |= more.pop("graph", {})
    return {"name": name, "graph": graph, "annotations": {DIGEST_ANNOTATION: ref.digest}, **more}


def digits(ref: ModelRef) -> dict[str, Any]:
    graph = {
        "name": "mnist-model",
        "implementation": "TENSORFLOW_SERVER",
        "parameters": [{"name": "signature_name", "value": "predict_images", "type": "STRING"}],
    }
    return predictor(ref, graph=graph)


def deployment(*predictors: dict[str, Any], name: str = "iris", **spec: Any) -> SeldonDeployment:
    return parse(
        {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": dict(MANAGED_BY)},
            "spec": {"predictors": list(predictors), **spec},
        }
    )


@pytest.fixture
def rig(
    platform: KindPlatform,
    parts: KindParts,
    cluster_api: KubernetesApi,
    refs: dict[str, list[ModelRef]],
) -> Iterator[Rig]:
    yield Rig(platform, parts, cluster_api, refs["iris"][:2], refs["mnist"][0])
    for there in cluster_api.list(SELDON_DEPLOYMENT, namespace=NAMESPACE):
        cluster_api.delete(SELDON_DEPLOYMENT, there["metadata"]["name"], namespace=NAMESPACE)
    wait_until(
        "an empty namespace",
        lambda: "" if cluster_api.list(SELDON_DEPLOYMENT, namespace=NAMESPACE) else None,
        timeout=120,
    )


def test_a_deployment_is_ready_within_seconds_and_says_its_digest(rig: Rig) -> None:
    one, two = rig.iris
    change = rig.apply(predictor(one))
    assert change.action == "created"
    assert rig.predict() == [one.digest]
    assert float(change.facts["seconds"]) < 20  # 3 to 5 s on a machine that does nothing else
    assert float(change.facts["memory_megabytes"]) < 500
    (status,) = rig.platform.deployments.status("iris", namespace=NAMESPACE)
    assert (status.state, status.digest, status.traffic) == ("ready", one.digest, 100)
    assert rig.platform.deployments.find("iris", namespace=NAMESPACE) == deployment(predictor(one))
    assert rig.apply(predictor(one)).action == "unchanged"
    assert rig.apply(predictor(two)).action == "updated"
    assert rig.predict() == [two.digest]


def test_a_change_by_hand_is_seen_and_put_back(rig: Rig, bundle: Path | None) -> None:
    one, two = rig.iris
    rig.apply(predictor(one))
    scale = ("scale", "seldondeployment/iris", "--replicas=3", "--namespace", NAMESPACE)
    _kubectl(bundle, rig.parts, *scale)
    asked = deployment(predictor(one))
    assert rig.platform.deployments.find("iris", namespace=NAMESPACE) != asked
    assert rig.apply(predictor(one)).action == "updated"
    assert rig.platform.deployments.find("iris", namespace=NAMESPACE) == asked
    found = rig.stored()
    found["spec"]["predictors"][0]["graph"]["modelUri"] = two.uri
    change = {"spec": {"predictors": found["spec"]["predictors"]}}
    rig.api.patch(SELDON_DEPLOYMENT, "iris", change, namespace=NAMESPACE)
    seen = rig.platform.deployments.find("iris", namespace=NAMESPACE)
    assert seen is not None
    assert seen != asked
    assert seen.spec.predictors[0].graph.model_uri == two.uri
    assert rig.apply(predictor(one)).action == "updated"
    assert rig.predict() == [one.digest]


@contextmanager
def _load(rig: Rig) -> Iterator[Load]:
    """Send requests, of which at least 20 must be answered."""
    with load(rig.url(), ROW) as seen:
        yield seen
    if sum(seen.digests.values()) < 20:
        seen.failures.append(f"only {sum(seen.digests.values())} requests were answered")


def test_a_new_version_takes_over_without_a_failed_request(rig: Rig) -> None:
    one, two = rig.iris
    rig.apply(predictor(one))
    with _load(rig) as load:
        for ref in (two, one):
            rig.apply(predictor(ref))
            assert set(rig.predict(times=3)) == {ref.digest}
        rig.settle()
    assert load.failures == []
    assert set(load.digests) == {one.digest, two.digest}
    assert sum(load.digests.values()) > 130


class Refusing(HoldoutProof):
    """Finds wrong what is right, or kills its process instead, at one of the two moments."""

    at = "alone"
    kills = False

    def alone(self, predictor: Predictor, server: Predictions) -> None:
        super().alone(predictor, server)
        self._refuse("alone")

    def exposed(self) -> None:
        super().exposed()
        self._refuse("exposed")

    def _refuse(self, moment: str) -> None:
        if moment == self.at and self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if moment == self.at:
            raise FatalStateError(f"refused {moment}")


class RefusingExposed(Refusing):
    at = "exposed"


def _prove_until_killed(command_line: KindCommandLine, ref: ModelRef, at: str) -> None:
    Refusing.kills, Refusing.at = True, at
    _prove(platform_of(command_line), ref, Refusing)


def test_only_a_proved_version_gets_traffic(rig: Rig) -> None:
    one, two = rig.iris
    with pytest.raises(FatalStateError, match="refused alone"):
        rig.prove(one, Refusing)
    assert httpx.post(rig.url(), json={}, timeout=20).status_code == 404
    rig.apply(predictor(one))
    with _load(rig) as load:
        rig.prove(one)  # From the name that an older version of this project gave it.
        with pytest.raises(FatalStateError, match="refused alone"):
            rig.prove(two, Refusing)
        assert set(load.digests) == {one.digest}
        rig.prove(two)
        assert set(rig.predict(times=3)) == {two.digest}
        with pytest.raises(FatalStateError, match="refused exposed"):
            rig.prove(one, RefusingExposed)
        assert set(rig.predict(times=3)) == {two.digest}
        rig.settle()
    assert load.failures == []
    (name,) = [p["name"] for p in rig.stored()["spec"]["predictors"]]
    assert httpx.get(rig.url("ready"), timeout=20).headers["x-predictor"] == name

    def describe_leftovers() -> str | None:
        kinds = (DEPLOYMENT, DESTINATION_RULE)
        there = [rig.api.list(resource, namespace=NAMESPACE) for resource in kinds]
        assert all(there)
        names = [found["metadata"]["name"] for found in itertools.chain(*there)]
        return ", ".join(n for n in names if not n.startswith(f"iris-{name}")) or None

    # The operator deletes what was there a moment before, after it has read the restored manifest.
    wait_until("the end of the refused version", describe_leftovers, timeout=30)
    wait_until(
        "the operator",
        lambda: None if rig.stored()["status"]["state"] == "Available" else str(rig.stored()),
        timeout=30,
    )


def test_a_kill_leaves_the_traffic_with_a_proved_version(
    rig: Rig, command_line: KindCommandLine
) -> None:
    """Killed before the new version gets traffic, once more after that, and then finished."""
    one, two = rig.iris
    rig.prove(one)
    with _load(rig) as load:
        for at, serving in (("alone", one), ("exposed", two)):
            code = exit_code_of(_prove_until_killed, command_line, two, at)
            assert code == -signal.SIGKILL, at
            assert set(rig.predict(times=3)) == {serving.digest}, at
        rig.prove(two)
        assert set(rig.predict(times=3)) == {two.digest}
        rig.settle()
    assert load.failures == []


def test_scaling_drops_nothing(rig: Rig) -> None:
    one = rig.iris[0]
    rig.apply(predictor(one))
    with _load(rig) as load:
        rig.apply(predictor(one, replicas=2))
        rig.apply(predictor(one, replicas=1))
        rig.settle()
    assert load.failures == []


def test_traffic_is_split_and_mirrored(rig: Rig) -> None:
    one, two = rig.iris
    with pytest.raises(InvalidManifestError, match="Traffic must sum to 100"):
        rig.apply(predictor(one, traffic=70), predictor(two, "canary", traffic=20))
    rig.apply(predictor(one))
    with _load(rig) as load:
        rig.apply(predictor(one, traffic=70), predictor(two, "canary", traffic=30))
        counted = Counter(rig.predict(times=200))
        assert 100 < counted[one.digest] < 175
        rig.apply(predictor(one), predictor(two, "copy", shadow=True, traffic=100))
        assert set(rig.predict(times=50)) == {one.digest}
        rig.settle()
    assert load.failures == []
    statuses = rig.platform.deployments.status("iris", namespace=NAMESPACE)
    assert [(s.name, s.traffic, s.digest, s.state) for s in statuses] == [
        ("default", 100, one.digest, "ready"),
        ("copy", 0, two.digest, "ready"),
    ]


def test_tensorflow_is_served_by_two_containers_and_by_one(rig: Rig) -> None:
    digest, row = rig.mnist.digest, [0.0] * 784
    change = rig.apply(digits(rig.mnist), name="digits")
    assert change.action == "created"
    assert rig.predict(name="digits", row=row) == [digest]
    (status,) = rig.platform.deployments.status("digits", namespace=NAMESPACE)
    assert (status.digest, status.state) == (digest, "ready")
    rig.apply(digits(rig.mnist), name="digits", protocol="tensorflow")
    answer = httpx.post(
        rig.url("v1/models/mnist-model:predict", name="digits"),
        json={"signature_name": "predict_images", "instances": [row]},
        timeout=20,
    )
    assert answer.raise_for_status().headers["x-model-digest"] == digest
    assert sum(answer.json()["predictions"][0]) == pytest.approx(1, abs=1e-4)


def test_v2_is_served(rig: Rig) -> None:
    rig.apply(predictor(rig.iris[0]), protocol="v2")
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}
    answer = httpx.post(
        rig.url("v2/models/classifier/infer"),
        json={"inputs": [tensor], "outputs": [{"name": "predict_proba"}]},
        timeout=20,
    )
    assert answer.raise_for_status().json()["model_version"] == rig.iris[0].digest


# What cannot succeed


def _container(predictor: dict[str, Any]) -> dict[str, Any]:
    return dict(predictor)["componentSpecs"][0]["spec"]["containers"][0]  # type: ignore[no-any-return]


def _no_such_image(predictor: dict[str, Any]) -> None:
    predictor["graph"]["storageInitializerImage"] = "registry.invalid/nothing:1"


def _no_room(predictor: dict[str, Any]) -> None:
    _container(predictor)["resources"]["requests"]["cpu"] = "640"


def _too_little_memory(predictor: dict[str, Any]) -> None:
    _container(predictor)["resources"] = {
        "requests": {"memory": "32Mi"},
        "limits": {"memory": "32Mi"},
    }


def _bad_parameter(predictor: dict[str, Any]) -> None:
    _container(predictor)["env"] = [{"name": "MLOPS_DRAIN_SECONDS", "value": "soon"}]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_no_such_image, "lookup registry.invalid"),
        (_no_room, "Insufficient cpu"),
        (_too_little_memory, "exceeded its memory limit (32Mi)"),
        (_bad_parameter, "MLOPS_DRAIN_SECONDS must be a positive number, got 'soon'"),
    ],
)
def test_a_pod_that_cannot_be_ready_is_explained_and_the_old_one_serves_on(
    rig: Rig, change: Callable[[dict[str, Any]], None], expected: str
) -> None:
    one, two = rig.iris
    rig.apply(predictor(one))
    with _load(rig) as load:
        said = rig.refuse(rig.altered(change), predictor(two))
        assert rig.predict() == [one.digest]
    assert expected in said
    assert load.failures == []
    assert set(load.digests) == {one.digest}
    assert rig.platform.deployments.find("iris", namespace=NAMESPACE) == deployment(predictor(one))
    assert rig.apply(predictor(one)).action in ("unchanged", "repaired")


@pytest.mark.parametrize(
    ("changed", "uri", "expected"),
    [
        (
            {"RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": "wrong"},
            "",
            "refuses the keys in the Secret other",
        ),
        pytest.param(
            {},
            "s3://no-such-bucket/iris/1",
            "the bucket no-such-bucket of",
            marks=pytest.mark.long,
        ),
        (
            {},
            "s3://models/no-such-prefix",
            "no artifact in what was copied from s3://models/no-such-",
        ),
    ],
)
def test_what_rclone_cannot_copy_is_explained(
    rig: Rig, changed: dict[str, str], uri: str, expected: str
) -> None:
    rig.secret("other", **changed)
    graph = {"envSecretRefName": "other", **({"modelUri": uri} if uri else {})}
    said = rig.refuse(rig.platform.deployments, predictor(rig.iris[0], graph=graph))
    assert expected in said
    assert rig.platform.deployments.list() is not None
    assert rig.platform.deployments.find("iris", namespace=NAMESPACE) is None
    assert rig.platform.deployments.status("iris", namespace=NAMESPACE) == ()


def test_a_quota_is_explained(rig: Rig) -> None:
    rig.secret("other")
    metadata = {"name": "small", "namespace": NAMESPACE}
    rig.api.apply(
        {
            "apiVersion": QUOTA.api_version,
            "kind": QUOTA.kind,
            "metadata": metadata,
            "spec": {"hard": {"requests.memory": "50Mi"}},
        }
    )
    try:
        said = rig.refuse(rig.platform.deployments, predictor(rig.iris[0]))
    finally:
        rig.api.delete(QUOTA, "small", namespace=NAMESPACE)
    assert "exceeded quota: small" in said


@pytest.mark.parametrize("uri", ["s3://models/iris/nothing", "s3://no-such-bucket/iris"])
def test_an_artifact_that_is_not_there_is_found_out_before(rig: Rig, uri: str) -> None:
    with pytest.raises(NotFoundError):
        rig.apply(predictor(rig.iris[0], graph={"modelUri": uri}))
    assert rig.api.find(SELDON_DEPLOYMENT, "iris", namespace=NAMESPACE) is None


def test_the_message_of_seldons_webhook_is_passed_on(rig: Rig) -> None:
    def half(predictor: dict[str, Any]) -> None:
        predictor["traffic"] = 50

    with pytest.raises(InvalidManifestError, match="Traffic must sum be 100 for a single") as error:
        rig.altered(half).apply(deployment(predictor(rig.iris[0])))
    assert "denied the request" in str(error.value)


# Somebody else's


def _kubectl(bundle: Path | None, parts: KindParts, *arguments: str, stdin: str = "") -> str:
    program = str(bundle / "bin" / "kubectl") if bundle else "kubectl"
    done = subprocess.run(
        [program, "--kubeconfig", str(parts.state.kubeconfig), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_documentations_manifest_works_by_hand_beside_ours(
    rig: Rig, bundle: Path | None
) -> None:
    rig.apply(predictor(rig.iris[0]))
    manifest = {
        "apiVersion": "machinelearning.seldon.io/v1alpha2",
        "kind": "SeldonDeployment",
        "metadata": {"name": "tfserving", "namespace": NAMESPACE},
        "spec": {
            "name": "mnist",
            "predictors": [
                {
                    "name": "default",
                    "replicas": 1,
                    # The images of the tests lack Seldon's executor.
                    "annotations": {"seldon.io/no-engine": "true"},
                    "graph": {
                        "children": [],
                        "implementation": "TENSORFLOW_SERVER",
                        "modelUri": rig.mnist.uri,
                        "envSecretRefName": store_access.SECRET,
                        "name": "mnist-model",
                        "parameters": [
                            {"name": "signature_name", "type": "STRING", "value": "predict_images"},
                            {"name": "model_input", "type": "STRING", "value": "images"},
                            {"name": "model_output", "type": "STRING", "value": "scores"},
                        ],
                    },
                }
            ],
        },
    }
    _kubectl(bundle, rig.parts, "apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    def describe_unready() -> str | None:
        try:
            rig.predict(name="tfserving", row=[0.0] * 784)
        except httpx.HTTPError as error:
            return str(error)
        return None

    wait_until("the documentation's deployment", describe_unready, timeout=120, interval=1)
    assert rig.predict() == [rig.iris[0].digest]
    there = [d.name for d in rig.platform.deployments.list() if d.namespace == NAMESPACE]
    assert there == ["iris", "tfserving"]
    (status,) = rig.platform.deployments.status("tfserving", namespace=NAMESPACE)
    assert (status.state, status.digest, status.traffic) == ("ready", rig.mnist.digest, 100)
    for refused in (
        lambda: rig.platform.deployments.delete("tfserving", namespace=NAMESPACE),
        lambda: rig.apply(digits(rig.mnist), name="tfserving"),
    ):
        with pytest.raises(ConflictError, match="somebody else created it"):
            refused()
    _kubectl(bundle, rig.parts, "delete", "-f", "-", stdin=yaml.safe_dump(manifest))
