from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    FatalStateError,
    InvalidManifestError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    NAMESPACE,
    POD,
    SECRET,
    SELDON_DEPLOYMENT,
    VIRTUAL_SERVICE,
)
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.kubernetes.deployments.deployments import KubernetesDeployments
from mlops_pipeline.platforms.kubernetes.deployments.manifests import Manifests, traffic_of
from mlops_pipeline.platforms.kubernetes.parts.kind import KindParts
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.platform import PredictorStatus
from mlops_pipeline.platforms.seldon import (
    DIGEST_ANNOTATION,
    MANAGED_BY,
    SeldonDeployment,
    between,
    parse,
)
from mlops_pipeline.platforms.sticky import STICKY_ANNOTATION
from mlops_pipeline.settings.kind import KindSettings
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.fakes.engine import FakeEngine
from mlops_pipeline_tests.fakes.kubernetes import FakeKubernetes
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.fakes.seldon_operator import CRASHING, STARTING, FakeOperator
from mlops_pipeline_tests.fakes.sources import FakeSources
from mlops_pipeline_tests.platforms.kubernetes.stand_in_executor import executor


@dataclass
class FakeArtifacts:
    """The object store's layer."""

    store: FakeObjectStore = field(default_factory=FakeObjectStore)
    namespaces: list[str] = field(default_factory=list)

    def client(self) -> FakeObjectStore:
        return self.store

    def ensure_secret(self, namespace: str) -> bool:
        self.namespaces.append(namespace)
        return True


class FakeGateway:
    """The gateway's layer."""

    def __init__(self, url: str = "http://10.0.0.1") -> None:
        self._url = url
        self.asked: list[str] = []
        self.statuses = [404, 200]
        self.absent = False
        self.lag = 0.0
        """Seconds after which it receives a route."""
        self.heard: list[tuple[float, frozenset[str]]] = []
        """When there was a route, and the predictors that get requests by it."""

    def listen(self, api: FakeKubernetes, clock: FakeClock) -> None:
        """Receive the routes that are in the cluster at each step of the clock."""

        def step() -> None:
            shares = traffic_of(api.list(VIRTUAL_SERVICE))
            self.heard.append((clock.now(), frozenset(n for n, share in shares.items() if share)))

        clock.steps.append(step)
        self._now = clock.now

    def asks(self) -> frozenset[str]:
        """Return the predictors that it sends requests to now."""
        known = (names for at, names in self.heard if at <= self._now() - self.lag)
        return next(reversed([*known]), frozenset())

    def url(self) -> str:
        if self.absent:
            raise NotFoundError("the gateway has no address; `mlops-pipeline up istio`")
        return self._url

    def trust(self) -> str:
        return ""

    def get(self, url: str, *, timeout: float, trust: str) -> HttpAnswer:
        self.asked.append(url)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 0:
            raise UnavailableError(f"could not reach {url}: refused")
        headers = {"x-predictor": min(self.asks(), default="")} if self.heard else {}
        return HttpAnswer(status, headers, b"")


class World:
    """A cluster with an operator, and the deployments in it."""

    def __init__(self, folder: Path, *, ready_timeout: float = 30) -> None:
        self.clock = FakeClock()
        self.api = FakeKubernetes()
        self.operator = FakeOperator(self.api, self.clock)
        self.artifacts = FakeArtifacts()
        self.gateway = FakeGateway()
        self.gateway.listen(self.api, self.clock)
        self.image = "serving:1"
        self.engine = False
        self.absent = False
        self.parts = KindParts(
            state=ClusterFolder(folder),
            settings=KindSettings(ready_timeout=ready_timeout),
            sources=FakeSources(),
            locks=Locks(folder, timeout=1),
            engine=FakeEngine(),
            kind=_not_asked,
            api=self._connect,
            helm=_not_asked,
            images=None,  # type: ignore[arg-type]
            clock=self.clock,
        )
        for digest in ("one", "two"):
            self.artifacts.store.put("models", f"iris/{digest}/model.joblib", b"1")

    def _connect(self) -> FakeKubernetes:
        if self.absent:
            raise NotFoundError(
                "the cluster is missing; create it with `mlops-pipeline up cluster`"
            )
        return self.api

    @property
    def deployments(self) -> KubernetesDeployments:
        """Deployments as another process has them."""
        return self._with(self.manifests)

    @property
    def manifests(self) -> Manifests:
        return Manifests(secret="keys", image=lambda _: self.image, deadline=60, engine=self.engine)

    @property
    def upstream(self) -> KubernetesDeployments:
        return self._with(Manifests(secret="keys", image=None))

    def _with(self, manifests: Manifests) -> KubernetesDeployments:
        return KubernetesDeployments(
            self.parts,
            manifests,
            artifacts=self.artifacts,
            gateway=self.gateway,
            get=self.gateway.get,
        )

    def status(self) -> tuple[PredictorStatus, ...]:
        return self.deployments.status("iris", namespace="models")

    def found(self) -> Mapping[str, Any]:
        return self.api.get(SELDON_DEPLOYMENT, "iris", namespace="models")

    def applied_predictors(self) -> list[dict[str, Any]]:
        return list(self.found()["spec"]["predictors"])

    def spec(self) -> Mapping[str, Any]:
        return dict(self.applied_predictors()[0])


def _not_asked() -> Any:
    raise AssertionError("nobody has to ask for this")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def predictor(digest: str = "one", name: str = "default", **more: Any) -> dict[str, Any]:
    graph = {
        "name": "classifier",
        "implementation": "SKLEARN_SERVER",
        "modelUri": f"s3://models/iris/{digest}",
        **more.pop("graph", {}),
    }
    return {"name": name, "graph": graph, "annotations": {DIGEST_ANNOTATION: digest}, **more}


def deployment(*predictors: dict[str, Any], **spec: Any) -> SeldonDeployment:
    return parse(
        {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": {"name": "iris", "namespace": "models", "labels": dict(MANAGED_BY)},
            "spec": {"predictors": list(predictors) or [predictor()], **spec},
        }
    )


FOREIGN: dict[str, Any] = {
    "apiVersion": "machinelearning.seldon.io/v1",
    "kind": "SeldonDeployment",
    "metadata": {"name": "iris", "namespace": "models"},
    "spec": {"predictors": [{"name": "main", "replicas": 1, "graph": {"name": "own"}}]},
}


def test_a_deployment_is_created_routed_and_read_back(world: World) -> None:
    change = world.deployments.apply(deployment())
    assert change.action == "created"
    assert change.facts["address"] == "http://10.0.0.1/seldon/models/iris/"
    assert change.facts["servers"] == 1
    assert change.facts["memory_megabytes"] == 200
    assert world.deployments.find("iris", namespace="models") == deployment()
    assert world.deployments.list() == [deployment()]
    assert world.status() == (PredictorStatus("default", "one", 100, 1, "ready"),)
    assert world.artifacts.namespaces == ["models"]
    assert world.api.get(NAMESPACE, "models")["metadata"]["labels"] == MANAGED_BY
    assert world.gateway.asked == ["http://10.0.0.1/seldon/models/iris/ready"] * 2


@pytest.mark.parametrize("uri", ["gs://seldon-models/v1.18.2/sklearn/iris", "pvc://claim/iris"])
def test_a_model_that_seldons_initializer_reads_elsewhere_is_applied(
    world: World, uri: str
) -> None:
    elsewhere = deployment(predictor(graph={"modelUri": uri}))
    assert world.deployments.apply(elsewhere).action == "created"
    assert world.spec()["graph"]["modelUri"] == uri
    assert world.artifacts.namespaces == ["models"]


def test_a_framework_without_an_image_of_seldons_is_refused_first(world: World) -> None:
    onnx = deployment(predictor(graph={"implementation": "ONNX_SERVER"}))
    with pytest.raises(ConfigurationError, match="Seldon has no image for ONNX_SERVER"):
        world.upstream.apply(onnx)
    assert world.api.find(NAMESPACE, "models") is None
    assert world.artifacts.namespaces == []
    assert world.deployments.apply(onnx).action == "created"


def test_a_second_apply_changes_nothing_and_waits_for_nothing(world: World) -> None:
    world.deployments.apply(deployment())
    before = world.clock.time
    assert world.deployments.apply(deployment()).action == "unchanged"
    assert world.clock.time == before


def test_a_new_artifact_replaces_the_pods(world: World) -> None:
    world.deployments.apply(deployment())
    before = world.clock.time
    assert world.deployments.apply(deployment(predictor("two"))).action == "updated"
    assert [status.digest for status in world.status()] == ["two"]
    assert len(world.operator.pods()) == 1
    assert world.clock.time - before >= 1  # The gateway has heard of the new pod.


def test_a_new_serving_image_replaces_the_pods(world: World) -> None:
    world.deployments.apply(deployment())
    first = world.operator.pods()
    world.image = "serving:2"
    assert world.deployments.find("iris", namespace="models") != deployment()
    assert world.deployments.apply(deployment()).action == "updated"
    assert world.operator.pods() != first


def test_pods_that_are_gone_are_repaired(world: World) -> None:
    world.deployments.apply(deployment())
    world.operator.stuck = CRASHING
    world.operator.step()
    (status,) = world.status()
    assert (status.state, status.replicas, status.digest) == ("failed", 0, "")
    assert "exited with 4" in status.reason
    crashing = world.operator.pods()[0]["metadata"]["name"]
    world.operator.stuck = None
    assert world.deployments.apply(deployment()).action == "repaired"
    assert crashing not in [pod["metadata"]["name"] for pod in world.operator.pods()]


def edit(world: World, **graph: str) -> None:
    """Change the graph by hand, to something that does not start, and let the operator follow."""
    found = world.api.get(SELDON_DEPLOYMENT, "iris", namespace="models")
    (only,) = found["spec"]["predictors"]
    changed = {**only, "graph": {**only["graph"], **graph}}
    world.api.put({**found, "spec": {**found["spec"], "predictors": [changed]}})
    (made,) = world.api.list(DEPLOYMENT)
    metadata, spec = made["metadata"], {**made["spec"], "edited": True}
    world.api.put({**made, "metadata": {**metadata, "generation": 2}, "spec": spec})
    start_again(world)


def test_an_edit_by_hand_is_a_state_with_what_was_changed(world: World) -> None:
    world.deployments.apply(deployment())
    edit(world, modelUri="s3://models/iris/nothing")
    world.operator.step()
    (status,) = world.status()
    assert status.state == "edited"
    assert status.reason.startswith(
        "somebody changed it by hand: its modelUri is s3://models/iris/nothing instead of "
        "s3://models/iris/one; "
    )
    assert "exited with 4" in status.reason


def test_an_annotation_replaces_no_pod_and_hides_no_edit(world: World) -> None:
    world.deployments.apply(deployment())
    pods = [pod["metadata"]["uid"] for pod in world.operator.pods()]
    world.image = "serving:2"
    world.deployments.annotate("iris", {"mlops-pipeline/pinned": "false"}, namespace="models")
    world.operator.step()
    assert [pod["metadata"]["uid"] for pod in world.operator.pods()] == pods
    world.image = "serving:1"
    wanted = deployment().annotated({"mlops-pipeline/pinned": "false"})
    assert world.deployments.find("iris", namespace="models") == wanted
    assert world.deployments.apply(wanted).action == "unchanged"

    edit(world, modelUri="s3://models/iris/nothing")
    world.deployments.annotate("iris", {"mlops-pipeline/pinned": "true"}, namespace="models")
    world.operator.step()
    (status,) = world.status()
    assert status.state == "edited"


def test_an_annotation_of_nothing_or_of_somebody_elses(world: World) -> None:
    world.deployments.annotate("iris", {"a": "b"}, namespace="models")
    assert world.deployments.list() == []
    world.api.put(FOREIGN)
    with pytest.raises(ConflictError, match="somebody else"):
        world.deployments.annotate("iris", {"a": "b"}, namespace="models")


def test_what_an_edit_by_hand_has_broken_does_not_end_the_wait_for_its_end(world: World) -> None:
    world.deployments.apply(deployment())
    edit(world, modelUri="s3://models/iris/nothing")
    world.operator.step()
    world.clock.steps.insert(0, lambda: setattr(world.operator, "stuck", None))
    assert world.deployments.apply(deployment()).action == "updated"
    assert [status.state for status in world.status()] == ["ready"]


def test_an_operator_that_has_nothing_to_take_back_is_not_waited_for_long(world: World) -> None:
    world.deployments.apply(deployment())
    edit(world, name="other")
    world.operator.silent, world.operator.stuck = True, None
    before = world.clock.time
    assert world.deployments.apply(deployment()).action == "updated"
    assert 5 < world.clock.time - before < 7


def end_namespace(world: World) -> None:
    found = world.api.get(NAMESPACE, "models")
    world.api.put({**found, "metadata": {**found["metadata"], "deletionTimestamp": "now"}})


def test_what_is_in_a_namespace_that_is_being_deleted_is_gone(world: World) -> None:
    def absence() -> str:
        return world.deployments.describe_absence("iris", namespace="models")

    assert absence() == "not deployed: the namespace models is missing"
    world.deployments.apply(deployment())
    end_namespace(world)
    assert world.deployments.find("iris", namespace="models") is None
    assert world.status() == ()
    assert absence() == "the namespace models is being deleted"

    def end() -> None:
        for resource, name in ((SELDON_DEPLOYMENT, "iris"), (NAMESPACE, "models")):
            world.api.drop(resource, name, namespace="models" if name == "iris" else "")
        world.clock.steps.pop(0)

    world.clock.steps.insert(0, end)
    assert world.deployments.apply(deployment()).action == "created"
    world.deployments.delete("iris", namespace="models")
    assert absence() == "not deployed"
    world.absent = True
    assert absence() == "not deployed"


def start_again(world: World) -> str:
    """Let the pod start anew, as after a restart of its node, and return its name."""
    (pod,) = world.operator.pods()
    (made,) = world.api.list(DEPLOYMENT)
    world.api.put({**pod, "status": STARTING})
    world.api.put({**made, "status": {**made["status"], "availableReplicas": 0}})
    world.operator.stuck = CRASHING
    return str(pod["metadata"]["name"])


def test_a_pod_of_before_that_fails_while_it_is_waited_for_is_replaced(world: World) -> None:
    world.deployments.apply(deployment())
    before = start_again(world)

    def mend() -> None:
        if any(deleted.name == before for deleted in world.api.deleted):
            world.operator.stuck = None

    world.clock.steps.insert(0, mend)
    assert world.deployments.apply(deployment()).action == "repaired"
    (after,) = world.operator.pods()
    assert after["metadata"]["name"] != before


def test_a_pod_that_fails_like_the_one_it_replaced_ends_the_wait(world: World) -> None:
    world.deployments.apply(deployment())
    before = start_again(world)
    error = failing(world, "exited with 4", digest="one")
    assert before not in str(error)
    assert [deleted.name for deleted in world.api.deleted if deleted.resource == POD] == [before]


def test_what_was_changed_by_hand_is_put_back(world: World) -> None:
    given = deployment(annotations={"ours": "1"})
    world.deployments.apply(given)
    change = {"spec": {"replicas": 3, "protocol": "v2", "annotations": {"theirs": "2"}}}
    world.api.patch(SELDON_DEPLOYMENT, "iris", change, namespace="models")
    assert world.deployments.find("iris", namespace="models") != given
    assert world.deployments.apply(given).action == "updated"
    assert world.deployments.find("iris", namespace="models") == given


def test_a_cluster_that_is_silent_for_a_moment_is_asked_again(world: World) -> None:
    silent = UnavailableError("could not reach the cluster: timed out")
    world.api.fail(silent, verbs=("list",), kind="Event", times=2)
    assert world.deployments.apply(deployment()).action == "created"
    world.api.fail(silent, verbs=("find",), kind="Pod", times=2)
    world.deployments.delete("iris", namespace="models")


def test_traffic_and_shadows_are_waited_for_and_shown(world: World) -> None:
    given = deployment(
        predictor(traffic=70),
        predictor("two", "canary", traffic=30),
        predictor("two", "copy", shadow=True),
    )
    world.deployments.apply(given)
    assert [(s.name, s.traffic, s.digest) for s in world.status()] == [
        ("default", 70, "one"),
        ("canary", 30, "two"),
        ("copy", 0, "two"),
    ]
    world.deployments.apply(deployment(predictor("two", traffic=100)))
    assert [(s.name, s.traffic, s.digest) for s in world.status()] == [("default", 100, "two")]


def shares_applied(world: World) -> list[dict[str, int]]:
    """Return the traffic of each deployment that was applied, by predictor."""
    standing = Manifests(secret="keys", image=lambda _: world.image, deadline=60).standing
    return [standing(m).traffic() for m in world.api.applied if m["kind"] == "SeldonDeployment"]


def trafficked(world: World) -> list[dict[str, int]]:
    """Return what `shares_applied` does, by the names in the cluster, and forget it."""
    applied = [m for m in world.api.applied if m["kind"] == "SeldonDeployment"]
    world.api.applied.clear()
    return [{p["name"]: p.get("traffic", 0) for p in m["spec"]["predictors"]} for m in applied]


@pytest.mark.parametrize("engine", [True, False])
def test_the_engine_comes_and_goes_by_way_of_another_predictor(
    world: World, *, engine: bool
) -> None:
    """Seldon's operator moves the port of a predictor's Service before its new pods are ready."""
    given = deployment(predictor(traffic=100))
    world.engine = not engine
    world.deployments.apply(given)
    (before,) = (p["name"] for p in world.applied_predictors())
    serving = world.applied_predictors()
    world.engine = engine
    assert "seldon.engine" in world.deployments.describe_difference(given)
    assert world.deployments.find("iris", namespace="models") != given
    trafficked(world)
    assert world.deployments.apply(given).action == "updated"
    (after,) = (p["name"] for p in world.applied_predictors())
    applied = [m for m in world.api.applied if m["kind"] == "SeldonDeployment"]
    beside, moved, _ = (m["spec"]["predictors"] for m in applied)
    assert beside[0] == moved[0] | {"traffic": 100} == serving[0]
    assert trafficked(world) == [
        {before: 100, after: 0},
        {before: 0, after: 100},
        {after: 100},
    ]
    assert world.status() == (PredictorStatus("default", "one", 100, 1, "ready"),)
    assert world.deployments.find("iris", namespace="models") == given
    assert world.deployments.describe_difference(given) == ""
    assert world.deployments.apply(given).action == "unchanged"


def test_with_the_engine_a_new_artifact_comes_beside_the_old_one(world: World) -> None:
    """The executor closes its port as soon as it is told to stop: no traffic may be on its way."""
    world.engine = True
    world.deployments.apply(deployment())
    trafficked(world)
    assert world.deployments.apply(deployment(predictor("two"))).action == "updated"
    assert [list(shares.values()) for shares in trafficked(world)] == [[100, 0], [0, 100], [0]]
    assert world.status() == (PredictorStatus("default", "two", 100, 1, "ready"),)
    # Its pods stay when the old one goes.
    assert [d["metadata"]["generation"] for d in world.api.list(DEPLOYMENT)] == [1]


def test_predictors_of_one_name_are_told_apart_while_traffic_moves(world: World) -> None:
    world.engine = True
    world.deployments.apply(deployment())
    (before,) = (p["name"] for p in world.applied_predictors())
    placed = world.manifests.place(deployment(predictor("two")))
    (after,) = (p.name for p in placed.spec.predictors)
    there = world.manifests.standing(world.found())
    (step, *_) = between(there, placed, there.traffic())
    world.api.apply(world.manifests.render(step))
    for _ in range(3):
        world.operator.step()
    assert [(s.name, s.traffic) for s in world.status()] == [(before, 100), (after, 0)]
    assert world.deployments.apply(deployment(predictor("two"))).action == "updated"
    assert [(s.name, s.traffic, s.digest) for s in world.status()] == [("default", 100, "two")]


def killed_in(world: World, step: int, digest: str) -> None:
    """Leave what an apply of another artifact leaves that is killed before the operator acts."""
    wanted = deployment(predictor(digest))
    there = world.manifests.standing(world.found())
    steps = between(there, world.manifests.place(wanted), there.traffic())
    kept = {p["name"]: p for p in world.applied_predictors()}
    for _ in range(3):
        world.operator.step()
    for deployed in steps[:step]:
        world.api.apply(world.manifests.render(deployed, kept=kept))
        if deployed is not steps[step - 1]:
            world.operator.step()
            world.operator.step()
    trafficked(world)


@pytest.mark.parametrize(("step", "shares"), [(1, [[100, 0], [0, 100], [0]]), (2, [[0, 100], [0]])])
def test_after_a_killed_apply_the_next_one_takes_the_steps_that_are_left(
    world: World, step: int, shares: list[list[int]]
) -> None:
    """The version that serves goes only when the gateway asks the next one."""
    world.engine = True
    world.deployments.apply(deployment())
    killed_in(world, step, "two")
    assert world.deployments.apply(deployment(predictor("two"))).action == "updated"
    assert [list(applied.values()) for applied in trafficked(world)] == shares
    assert world.status() == (PredictorStatus("default", "two", 100, 1, "ready"),)


def test_what_a_killed_apply_left_broken_does_not_stop_another_version(world: World) -> None:
    world.engine = True
    world.deployments.apply(deployment())
    killed_in(world, 1, "two")
    (broken,) = (d for d in world.api.list(DEPLOYMENT) if not d["status"])
    failed = {"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 0}
    world.api.put({**broken, "status": failed})
    world.image = "serving:2"
    world.deployments.apply(deployment(predictor("one")))
    assert [list(shares.values()) for shares in trafficked(world)] == [[100, 0], [0, 100], [0]]


@pytest.mark.parametrize("protocol", ["seldon", "tensorflow", "v2"])
def test_the_route_to_the_executor_is_waited_for_where_it_answers(
    world: World, protocol: str
) -> None:
    world.engine = True
    with executor(protocol) as url:
        world.gateway = FakeGateway(url)
        deployments = KubernetesDeployments(
            world.parts, world.manifests, artifacts=world.artifacts, gateway=world.gateway
        )
        heavy = {"implementation": "TENSORFLOW_SERVER"} if protocol == "tensorflow" else {}
        given = deployment(predictor(graph=heavy), protocol=protocol)
        assert deployments.apply(given).action == "created"


def test_a_new_predictor_comes_without_traffic_first(world: World) -> None:
    """Else the gateway is sent to it before it knows the way."""
    world.deployments.apply(deployment(predictor("one", "main")))
    world.api.applied.clear()
    both = [predictor("one", "main", traffic=70), predictor("two", "canary", traffic=30)]
    assert world.deployments.apply(deployment(*both)).action == "updated"
    assert shares_applied(world) == [{"main": 100, "canary": 0}, {"main": 70, "canary": 30}]
    world.api.applied.clear()
    world.deployments.apply(deployment(predictor("two", "next")))
    assert shares_applied(world) == [
        {"next": 0, "main": 70, "canary": 30},
        {"next": 100, "main": 0, "canary": 0},
        {"next": 100},
    ]
    assert [(s.name, s.digest) for s in world.status()] == [("next", "two")]


def test_a_predictor_that_goes_has_no_traffic_first(world: World) -> None:
    both = [predictor("one", "main", traffic=70), predictor("two", "canary", traffic=30)]
    world.deployments.apply(deployment(*both))
    world.api.applied.clear()
    copy = predictor("two", "copy", shadow=True, traffic=100)
    world.deployments.apply(deployment(predictor("one", "main"), copy))
    assert shares_applied(world) == [{"main": 100, "canary": 0}, {"main": 100}]


def test_a_new_predictor_without_traffic_of_its_own_takes_no_detour(world: World) -> None:
    world.deployments.apply(deployment(predictor("one", "main")))
    world.api.applied.clear()
    copy = predictor("two", "copy", shadow=True, traffic=100)
    world.deployments.apply(deployment(predictor("one", "main"), copy))
    world.deployments.apply(deployment(predictor("two", "main")))
    assert len(shares_applied(world)) == 2


def test_what_does_not_serve_is_replaced_at_once(world: World) -> None:
    world.deployments.apply(deployment(predictor("one", "main")))
    world.operator.stuck = CRASHING
    world.operator.step()
    world.operator.stuck = None
    world.api.applied.clear()
    found = world.api.list(DEPLOYMENT)[0]
    world.api.put({**found, "status": {**found["status"], "availableReplicas": 0}})
    world.deployments.apply(deployment(predictor("two", "next")))
    assert shares_applied(world) == [{"next": 100}]


def test_a_new_predictor_that_is_never_ready_changes_no_traffic(world: World) -> None:
    world.deployments.apply(deployment(predictor("one", "main")))
    world.api.applied.clear()
    world.operator.stuck = CRASHING
    both = [predictor("one", "main", traffic=70), predictor("two", "canary", traffic=30)]
    with pytest.raises(FatalStateError):
        world.deployments.apply(deployment(*both))
    assert [shares["main"] for shares in shares_applied(world)] == [100, 100]
    assert [s.name for s in world.status()] == ["main"]


def test_tensorflows_image_is_that_of_its_second_container(world: World) -> None:
    graph = {"implementation": "TENSORFLOW_SERVER"}
    assert world.deployments.apply(deployment(predictor(graph=graph))).action == "created"


def test_no_replicas_are_no_servers_and_no_route_to_wait_for(world: World) -> None:
    world.gateway.statuses = [503]
    change = world.deployments.apply(deployment(predictor(replicas=0)))
    assert change.facts["servers"] == 0
    (status,) = world.status()
    assert (status.state, status.reason) == ("stopped", "it has no replicas")


def test_upstreams_images_are_not_asked_in_our_words(world: World) -> None:
    world.gateway.statuses = [404]
    assert world.upstream.apply(deployment()).action == "created"
    assert world.gateway.asked == []


# What ends a wait early


def failing(world: World, match: str, *, digest: str = "two") -> FatalStateError:
    """Apply the second version, and require that it fails at once."""
    start = world.clock.time
    with pytest.raises(FatalStateError, match=match) as error:
        world.deployments.apply(deployment(predictor(digest)))
    assert world.clock.time - start < 2
    return error.value


def test_a_pod_that_cannot_be_ready_ends_the_wait_and_is_taken_back(world: World) -> None:
    world.deployments.apply(deployment())
    world.operator.stuck = CRASHING
    world.api.logs["models", "pod-2"] = "The model does not load: no module named xgboost\n"
    error = failing(world, "exited with 4")
    assert "no module named xgboost" in str(error)
    world.operator.stuck = None
    world.operator.step()
    assert world.spec()["graph"]["modelUri"] == "s3://models/iris/one"
    assert world.deployments.find("iris", namespace="models") == deployment()
    assert [(s.digest, s.state) for s in world.status()] == [("one", "ready")]


def test_what_has_no_predecessor_is_taken_away(world: World) -> None:
    world.operator.stuck = CRASHING
    failing(world, "exited with 4", digest="one")
    assert world.deployments.list() == []


def test_a_version_changed_by_hand_comes_back_as_it_was(world: World) -> None:
    world.deployments.apply(deployment())
    world.api.patch(
        SELDON_DEPLOYMENT, "iris", {"spec": {"annotations": {"by": "hand"}}}, namespace="models"
    )
    world.operator.stuck = CRASHING
    failing(world, "exited with 4")
    found = world.api.get(SELDON_DEPLOYMENT, "iris", namespace="models")
    assert found["spec"]["annotations"] == {"by": "hand"}
    assert world.spec()["graph"]["modelUri"] == "s3://models/iris/one"


def test_an_interruption_takes_it_back_too(world: World) -> None:
    world.deployments.apply(deployment())

    def interrupt() -> None:
        raise KeyboardInterrupt

    world.operator.stuck = CRASHING | {"containerStatuses": []}
    world.clock.steps.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.deployments.apply(deployment(predictor("two")))
    assert world.spec()["graph"]["modelUri"] == "s3://models/iris/one"


def test_what_cannot_be_taken_back_is_logged_and_hides_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.operator.stuck = CRASHING
    world.api.fail(UnavailableError("the API is gone"), verbs=("delete",))
    failing(world, "exited with 4", digest="one")
    assert "could not restore the previous deployment models/iris" in caplog.text


def test_a_quota_that_nobody_has_counted_yet_is_waited_for(world: World) -> None:
    world.operator.refused = 'pods "x" is forbidden: status unknown for quota: small'
    with pytest.raises(WaitTimeoutError, match="status unknown for quota: small"):
        world.deployments.apply(deployment())


def test_a_quota_ends_the_wait_with_its_words(world: World) -> None:
    world.deployments.apply(deployment())
    world.operator.refused = 'pods "x" is forbidden: exceeded quota: small'
    failing(world, "exceeded quota: small; raise the quota")


def test_an_image_that_the_operator_replaces_ends_the_wait(world: World) -> None:
    world.operator.image = "serving:old"
    error = failing(world, "container classifier of models/iris with serving:old instead of")
    assert "serving:1" in str(error)
    assert "mlops-pipeline up seldon_core" in str(error)


def test_kubernetes_own_deadline_ends_the_wait(world: World) -> None:
    world.deployments.apply(deployment())
    world.operator.stuck = {"phase": "Pending", "conditions": []}
    world.operator.overdue = True
    failing(world, r"exceeded its deadline: .*it is being created")


def test_a_deletion_meanwhile_ends_the_wait(world: World) -> None:
    world.operator.silent = True
    world.clock.steps.append(lambda: world.api.drop(SELDON_DEPLOYMENT, "iris", namespace="models"))
    failing(world, "was deleted while it was being rolled out", digest="one")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda w: setattr(w.operator, "silent", True), "Seldon's operator to roll out default"),
        (lambda w: setattr(w.operator, "routes", False), "waiting for the new route: requests"),
        (lambda w: setattr(w.operator, "stuck", {"phase": "Pending"}), "it is being created"),
        (lambda w: setattr(w.gateway, "statuses", [503]), "the gateway answers 503"),
        (lambda w: setattr(w.gateway, "statuses", [0]), "could not reach"),
    ],
)
def test_a_wait_that_runs_out_says_what_it_last_saw(
    world: World, change: Callable[[World], None], expected: str
) -> None:
    change(world)
    with pytest.raises(WaitTimeoutError, match=expected):
        world.deployments.apply(deployment())
    assert world.deployments.list() == []


def test_more_replicas_are_waited_for_before_the_operator_has_scaled(world: World) -> None:
    world.deployments.apply(deployment(predictor()))
    world.operator.silent = True
    with pytest.raises(WaitTimeoutError, match="Seldon's operator to scale default to 3"):
        world.deployments.apply(deployment(predictor(replicas=3)))
    world.operator.silent = False
    change = world.deployments.apply(deployment(predictor(replicas=3)))
    assert change.facts["servers"] == 3
    assert len(world.operator.pods()) == 3


def test_a_wait_that_runs_out_shows_the_last_lines_of_who_was_waited_for(world: World) -> None:
    world.operator.stuck = {
        "phase": "Running",
        "containerStatuses": [{"name": "classifier", "ready": False, "state": {"running": {}}}],
    }
    world.api.logs["models", "pod-1"] = "waiting for a licence\n"
    with pytest.raises(WaitTimeoutError, match="runs but is not ready yet") as error:
        world.deployments.apply(deployment())
    assert str(error.value).endswith("--- last lines of classifier ---\nwaiting for a licence")


def test_what_the_operator_cannot_make_ends_the_wait_in_its_words(world: World) -> None:
    world.operator.silent = True

    def say() -> None:
        if (found := world.api.find(SELDON_DEPLOYMENT, "iris", namespace="models")) is not None:
            status = {"state": "Failed", "description": "no image for it"}
            world.api.put({**found, "status": status})

    world.clock.steps.append(say)
    start = world.clock.time
    with pytest.raises(FatalStateError, match="cannot deploy models/iris: no image for it; corr"):
        world.deployments.apply(deployment())
    assert world.clock.time - start < 6


# What is refused before anything is changed


def test_a_sticky_split_is_refused_before_anything_is_changed(world: World) -> None:
    world.deployments.apply(deployment())
    before = world.spec()
    sticky = deployment(predictor("two")).annotated({STICKY_ANNOTATION: "header:x-user"})
    with pytest.raises(InvalidManifestError, match="Seldon's operator writes the VirtualService"):
        world.deployments.apply(sticky)
    assert world.spec() == before


def test_the_webhooks_words_are_passed_on(world: World) -> None:
    world.deployments.apply(deployment())
    world.api.refuse("SeldonDeployment", "Traffic must sum to 100")
    with pytest.raises(InvalidManifestError, match="Traffic must sum to 100"):
        world.deployments.apply(deployment(predictor("two")))
    assert world.spec()["graph"]["modelUri"] == "s3://models/iris/one"


def test_a_webhook_that_starts_is_waited_for(world: World) -> None:
    world.api.fail(UnavailableError("failed calling webhook"), kind="SeldonDeployment", times=3)
    assert world.deployments.apply(deployment()).action == "created"


def test_a_webhook_that_never_answers_is_named(world: World) -> None:
    world.api.fail(UnavailableError("failed calling webhook"), kind="SeldonDeployment")
    with pytest.raises(WaitTimeoutError, match="failed calling webhook"):
        world.deployments.apply(deployment())


def test_a_refused_key_is_not_tried_again(world: World) -> None:
    world.api.fail(AccessDeniedError("forbidden"), kind="SeldonDeployment")
    with pytest.raises(AccessDeniedError):
        world.deployments.apply(deployment())


@pytest.mark.parametrize("uri", ["s3://models/iris/three", "s3://elsewhere/iris/one"])
def test_an_artifact_that_is_not_there_is_not_deployed(world: World, uri: str) -> None:
    with pytest.raises(NotFoundError):
        world.deployments.apply(deployment(predictor(graph={"modelUri": uri})))
    assert world.deployments.list() == []


def test_a_secret_that_is_not_there_is_not_used(world: World) -> None:
    given = deployment(predictor("nine", graph={"envSecretRefName": "mine"}))
    with pytest.raises(NotFoundError, match="the Secret mine does not exist in the namespace mod"):
        world.deployments.apply(given)
    world.api.put(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "namespace": "models"}}
    )
    assert world.deployments.apply(given).action == "created"
    assert world.artifacts.namespaces == []
    assert world.api.list(SECRET) != []


def test_without_a_gateway_nothing_is_deployed(world: World) -> None:
    world.gateway.absent = True
    with pytest.raises(NotFoundError, match="up istio"):
        world.deployments.apply(deployment())
    assert world.api.applied == []


def test_what_somebody_else_made_is_neither_changed_nor_deleted(world: World) -> None:
    world.api.put(FOREIGN)
    with pytest.raises(ConflictError, match="could not apply models/iris: somebody else created"):
        world.deployments.apply(deployment())
    with pytest.raises(ConflictError, match="kubectl delete seldondeployment iris --namespace mo"):
        world.deployments.delete("iris", namespace="models")
    assert world.api.applied == []
    assert world.api.deleted == []


def test_what_somebody_else_made_is_taken_when_it_is_handed_over(world: World) -> None:
    world.api.put(FOREIGN)
    handed_over = {"metadata": {"labels": dict(MANAGED_BY)}}
    world.api.patch(SELDON_DEPLOYMENT, "iris", handed_over, namespace="models")
    assert world.deployments.apply(deployment()).action == "updated"


# Looking


def test_somebody_elses_is_listed_and_has_a_status(world: World) -> None:
    world.api.put(FOREIGN)
    assert [d.name for d in world.deployments.list()] == ["iris"]
    assert world.status() == (
        PredictorStatus("main", "", 0, 0, "starting", "the operator has not created it yet"),
    )
    world.api.put({**FOREIGN, "status": {"state": "Failed", "description": "no container"}})
    (status,) = world.status()
    assert (status.state, status.reason) == ("failed", "no container")


def test_that_somebody_else_made_it_is_told_before_it_is_applied(world: World) -> None:
    def conflict() -> str:
        return world.deployments.describe_conflict("iris", namespace="models")

    assert conflict() == ""
    world.api.put(FOREIGN)
    assert conflict().startswith("somebody else created it. Delete it yourself (`kubectl delete ")
    world.api.drop(SELDON_DEPLOYMENT, "iris", namespace="models")
    world.deployments.apply(deployment())
    assert conflict() == ""


def test_a_version_that_is_being_rolled_out_still_shows_what_answers(world: World) -> None:
    world.deployments.apply(deployment())
    world.operator.stuck = {"phase": "Pending", "conditions": []}
    world.api.apply(
        Manifests(secret="keys", image=lambda _: "serving:1").render(deployment(predictor("two")))
    )
    world.operator.step()
    (status,) = world.status()
    assert (status.digest, status.state, status.replicas) == ("one", "starting", 1)
    assert "it is being created" in status.reason


def test_a_change_that_kubernetes_has_not_seen_yet_is_no_readiness(world: World) -> None:
    world.deployments.apply(deployment())
    (made,) = world.api.list(DEPLOYMENT)
    world.api.put({**made, "metadata": {**made["metadata"], "generation": 9}})
    (status,) = world.status()
    assert (status.state, status.reason) == ("starting", "its pods are being replaced")
    world.clock.steps.clear()
    with pytest.raises(WaitTimeoutError, match="1 of 1 new pods created, 1 ready in total"):
        world.deployments.apply(deployment())


def test_a_server_that_is_silent_has_no_digest(world: World) -> None:
    world.deployments.apply(deployment())
    world.api.fail(UnavailableError("no answer"), verbs=("ask_pod",))
    assert [status.digest for status in world.status()] == [""]


def test_without_a_cluster_there_are_no_deployments(world: World) -> None:
    world.absent = True
    assert world.deployments.find("iris", namespace="models") is None
    assert world.deployments.list() == []
    assert world.status() == ()
    with pytest.raises(NotFoundError, match="up cluster"):
        world.deployments.apply(deployment())


def test_a_cluster_that_does_not_answer_is_no_empty_one(world: World) -> None:
    world.api.stop()
    with pytest.raises(UnavailableError):
        world.deployments.list()


# Deleting


def test_a_deletion_returns_when_pods_and_routes_are_gone(world: World) -> None:
    world.deployments.apply(deployment())
    world.deployments.delete("iris", namespace="models")
    assert world.api.list(POD) == []
    assert world.api.list(VIRTUAL_SERVICE) == []
    assert world.deployments.list() == []


def test_leaving_deletes_what_is_ours_alone(world: World) -> None:
    world.deployments.apply(deployment())
    theirs = {**FOREIGN, "metadata": {"name": "theirs", "namespace": "models"}}
    world.api.put(theirs)
    world.deployments.delete_ours()
    assert [d.name for d in world.deployments.list()] == ["theirs"]


def test_a_deletion_that_hangs_says_what_is_left(world: World) -> None:
    world.deployments.apply(deployment())
    world.clock.steps.clear()
    with pytest.raises(WaitTimeoutError, match="still ending: pod-1"):
        world.deployments.delete("iris", namespace="models")


def test_one_that_is_ending_is_gone_for_who_looks_and_waited_for_by_who_applies(
    world: World,
) -> None:
    world.deployments.apply(deployment())
    found = world.api.get(SELDON_DEPLOYMENT, "iris", namespace="models")
    world.api.put({**found, "metadata": {**found["metadata"], "deletionTimestamp": "now"}})
    assert world.deployments.list() == []
    assert world.deployments.find("iris", namespace="models") is None
    assert world.status() == ()
    world.clock.steps.insert(
        0, lambda: world.api.drop(SELDON_DEPLOYMENT, "iris", namespace="models")
    )
    with pytest.raises(FatalStateError, match="was deleted while"):  # As the step goes on.
        world.deployments.apply(deployment())
    world.clock.steps.pop(0)
    assert world.deployments.apply(deployment()).action == "created"


def test_what_is_not_there_cannot_be_deleted(world: World) -> None:
    world.deployments.apply(deployment())
    with pytest.raises(NotFoundError, match="there are: models/iris"):
        world.deployments.delete("mnist", namespace="models")


def test_logs_are_those_of_its_pods(world: World) -> None:
    world.deployments.apply(deployment())
    world.api.logs["models", "pod-1"] = "Ready in 2 s\n"
    text = world.deployments.logs("iris", namespace="models", lines=10)
    assert text == "==> pod-1 classifier <==\nReady in 2 s\n"
    with pytest.raises(NotFoundError):
        world.deployments.logs("mnist", namespace="models", lines=10)
