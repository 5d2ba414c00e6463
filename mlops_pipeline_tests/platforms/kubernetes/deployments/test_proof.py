"""Traffic goes only to what was proved, whatever happens at whichever step."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import (
    ConflictError,
    FatalStateError,
    NotFoundError,
    UnavailableError,
)
from mlops_pipeline.clients.kubernetes import (
    DEPLOYMENT,
    DESTINATION_RULE,
    SELDON_DEPLOYMENT,
    VIRTUAL_SERVICE,
)
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.platforms.kubernetes.deployments.manifests import traffic_of
from mlops_pipeline.platforms.kubernetes.deployments.preparing import Preparation
from mlops_pipeline.platforms.kubernetes.deployments.rollout import look
from mlops_pipeline.platforms.kubernetes.deployments.transition import Transition
from mlops_pipeline.platforms.platform import Expected
from mlops_pipeline.platforms.seldon import (
    CPU_ANNOTATION,
    DIGEST_ANNOTATION,
    PREDICTOR_ANNOTATION,
    Predictor,
    SeldonDeployment,
)
from mlops_pipeline_tests.fakes import predictions
from mlops_pipeline_tests.fakes.seldon_operator import CRASHING
from mlops_pipeline_tests.platforms.kubernetes.deployments.test_deployments import (
    World,
    deployment,
    predictor,
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing is undone."""


class Recorder:
    """A proof that writes down what got traffic when it was asked, and fails where it is told."""

    def __init__(self, world: World, *, fails: str = "", error: BaseException | None = None):
        self.seen: list[tuple[str, Mapping[str, int]]] = []
        self._world = world
        self._fails = fails
        self._error = error or FatalStateError("it answers other scores")

    def alone(self, predictor: Predictor, server: Predictions) -> None:
        assert re.fullmatch(r"the pod models/pod-\d+", server.url)
        self._note(f"alone {predictor.digest}")

    def exposed(self) -> None:
        self._note("exposed")

    def _note(self, what: str) -> None:
        self.seen.append((what, traffic(self._world)))
        if what.startswith(self._fails) and self._fails:
            raise self._error


class Asking(Recorder):
    """A proof that asks each server."""

    def alone(self, predictor: Predictor, server: Predictions) -> None:
        super().alone(predictor, server)
        answer = server.predict(predictions.ROWS)
        assert (answer.scores, answer.digest) == (predictions.SCORES, predictor.digest)


def traffic(world: World) -> dict[str, int]:
    """Return digest → percent of the requests that come through the gateway."""
    found = world.api.find(SELDON_DEPLOYMENT, "iris", namespace="models")
    if found is None:
        return {}
    shares = traffic_of(look(world.api, found).routes)
    templates = [d["spec"]["template"]["metadata"] for d in world.api.list(DEPLOYMENT)]
    digests = {t["labels"]["version"]: t["annotations"][DIGEST_ANNOTATION] for t in templates}
    return {digests[name]: share for name, share in shares.items() if share}


def wanted(digest: str, **more: Any) -> SeldonDeployment:
    annotations = {DIGEST_ANNOTATION: digest, PREDICTOR_ANNOTATION: "default"}
    return deployment(predictor(digest, annotations=annotations, **more))


def apply(world: World, digest: str, **recorder: Any) -> Recorder:
    proof = Recorder(world, **recorder)
    world.deployments.apply(wanted(digest), proof=proof)
    return proof


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_first_version_gets_no_traffic_before_it_is_proved(world: World) -> None:
    proof = apply(world, "one")
    assert proof.seen == [("alone one", {}), ("exposed", {"one": 100})]
    (spec,) = world.applied_predictors()
    assert re.fullmatch(r"default-[0-9a-f]{8}", spec["name"])
    assert "seldon.io/istio-gateway" not in world.found()["metadata"]["annotations"]
    (route,) = world.api.list(VIRTUAL_SERVICE)
    assert route["spec"]["gateways"] == ["istio-system/seldon-gateway"]
    (status,) = world.status()
    assert (status.name, status.traffic, status.digest) == ("default", 100, "one")
    assert world.deployments.find("iris", namespace="models") == wanted("one")


def test_a_new_version_is_proved_beside_the_old_one_which_goes_last(world: World) -> None:
    apply(world, "one")
    proof = apply(world, "two")
    assert proof.seen == [("alone two", {"one": 100}), ("exposed", {"two": 100})]
    (spec,) = world.applied_predictors()
    assert spec["annotations"][DIGEST_ANNOTATION] == "two"
    assert traffic(world) == {"two": 100}


def test_what_the_old_version_leaves_behind_is_deleted(world: World) -> None:
    apply(world, "one")
    apply(world, "two")
    (spec,) = world.applied_predictors()
    rules = [f"iris-{spec['name']}"]
    assert [rule["metadata"]["name"] for rule in world.api.list(DESTINATION_RULE)] == rules
    with pytest.raises(FatalStateError):
        apply(world, "one", fails="exposed")
    assert [rule["metadata"]["name"] for rule in world.api.list(DESTINATION_RULE)] == rules


def test_a_deployment_that_never_had_a_pod_is_deleted(world: World) -> None:
    apply(world, "one")
    (old,) = world.api.list(DEPLOYMENT)
    world.operator.refused = "exceeded quota: small"
    with pytest.raises(FatalStateError, match="exceeded quota"):
        apply(world, "two")
    assert [d["metadata"]["name"] for d in world.api.list(DEPLOYMENT)] == [old["metadata"]["name"]]


def test_rules_of_others_stay(world: World) -> None:
    theirs = {
        "apiVersion": DESTINATION_RULE.api_version,
        "kind": DESTINATION_RULE.kind,
        "metadata": {"name": "theirs", "namespace": "models"},
        "spec": {"host": "theirs", "subsets": [{"name": "default"}]},
    }
    world.api.put(theirs)
    apply(world, "one")
    apply(world, "two")
    assert world.api.find(DESTINATION_RULE, "theirs", namespace="models") is not None


def test_an_unchanged_version_is_asked_through_the_gateway_alone(world: World) -> None:
    apply(world, "one")
    assert apply(world, "one").seen == [("exposed", {"one": 100})]


def test_what_is_not_proved_alone_goes_and_the_old_version_keeps_its_traffic(world: World) -> None:
    apply(world, "one")
    before = world.found()["spec"]
    with pytest.raises(FatalStateError, match="other scores"):
        apply(world, "two", fails="alone")
    assert world.found()["spec"] == before
    world.clock.sleep(1)
    assert traffic(world) == {"one": 100}
    assert world.deployments.find("iris", namespace="models") == wanted("one")


def test_a_first_version_that_is_not_proved_is_deleted(world: World) -> None:
    with pytest.raises(FatalStateError, match="other scores"):
        apply(world, "one", fails="alone")
    assert world.api.find(SELDON_DEPLOYMENT, "iris", namespace="models") is None


def test_traffic_that_fails_goes_back_to_the_version_that_still_runs(world: World) -> None:
    apply(world, "one")
    before, shares = world.found()["spec"], []
    world.clock.steps.append(lambda: shares.append(traffic(world)))
    with pytest.raises(UnavailableError, match="503"):
        apply(world, "two", fails="exposed", error=UnavailableError("the gateway answers 503"))
    assert world.found()["spec"] == before
    assert shares[-1] == {"one": 100}
    assert all(sum(share.values()) == 100 for share in shares)


@pytest.mark.parametrize("before", ["", "one"])
@pytest.mark.parametrize("point", ["alone", "exposed"])
def test_a_kill_leaves_the_traffic_with_what_was_proved(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str, before: str
) -> None:
    old = {before: 100} if before else {}
    if before:
        apply(world, before)
    with monkeypatch.context() as patch:
        patch.setattr(Transition, "_undo", lambda *_: None)
        with pytest.raises(Killed):
            apply(world, "two", fails=point, error=Killed())
    world.clock.sleep(1)
    assert traffic(world) == ({"two": 100} if point == "exposed" else old)

    proof = apply(world, "two")
    again = [] if point == "exposed" else [("alone two", old)]
    assert proof.seen == [*again, ("exposed", {"two": 100})]
    assert world.deployments.find("iris", namespace="models") == wanted("two")
    assert len(world.applied_predictors()) == 1


def test_what_a_kill_left_unproved_is_no_reason_to_skip_the_proof_of_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "one")
    with monkeypatch.context() as patch:
        patch.setattr(Transition, "_undo", lambda *_: None)
        with pytest.raises(Killed):
            apply(world, "two", fails="alone", error=Killed())
    assert apply(world, "one").seen == [("exposed", {"one": 100})]
    assert traffic(world) == {"one": 100}


def test_a_version_that_does_not_serve_is_replaced_by_what_was_proved(world: World) -> None:
    apply(world, "one")
    world.operator.stuck_digests = {"one": CRASHING}
    world.clock.sleep(1)
    proof = apply(world, "two")
    assert proof.seen == [("alone two", {"one": 100}), ("exposed", {"two": 100})]
    assert len(world.applied_predictors()) == 1


def test_pods_that_end_while_they_are_proved_get_no_traffic(world: World) -> None:
    apply(world, "one")

    class Ending(Recorder):
        def alone(self, predictor: Predictor, server: Predictions) -> None:
            super().alone(predictor, server)
            world.operator.stuck_digests = {"two": CRASHING}
            world.clock.sleep(1)
            raise NotFoundError("the pod ended")

    with pytest.raises(FatalStateError, match="restarts again and again: it exited with 4"):
        world.deployments.apply(wanted("two"), proof=Ending(world))
    assert traffic(world) == {"one": 100}


def test_every_replica_is_proved(world: World) -> None:
    proof = Recorder(world)
    world.deployments.apply(wanted("one", replicas=3), proof=proof)
    assert [what for what, _ in proof.seen] == ["alone one"] * 3 + ["exposed"]


def test_a_version_without_replicas_is_replaced(world: World) -> None:
    apply(world, "one")
    world.deployments.apply(wanted("one", replicas=0))
    assert apply(world, "two").seen[-1] == ("exposed", {"two": 100})


def test_a_predictor_that_somebody_renamed_keeps_its_requests(world: World) -> None:
    """The route leads to a predictor that the manifest does not have, and its pods serve."""
    apply(world, "one")
    renamed = [
        {**p, "name": "theirs", "annotations": {**p["annotations"], DIGEST_ANNOTATION: "their"}}
        for p in world.applied_predictors()
    ]
    world.operator.stuck_digests = {"their": CRASHING}
    world.api.patch(
        SELDON_DEPLOYMENT, "iris", {"spec": {"predictors": renamed}}, namespace="models"
    )
    world.operator.take_up(world.found())
    world.clock.sleep(1)
    routes = world.api.list(VIRTUAL_SERVICE)
    with pytest.raises(FatalStateError, match="other scores"):
        apply(world, "two", fails="alone")
    assert world.api.list(VIRTUAL_SERVICE) == routes
    apply(world, "two")
    assert traffic(world) == {"two": 100}


def test_the_names_of_an_older_version_of_this_project_lose_nothing(world: World) -> None:
    world.deployments.apply(deployment(predictor("one")))
    proof = apply(world, "one")
    assert proof.seen == [("alone one", {"one": 100}), ("exposed", {"one": 100})]
    (spec,) = world.applied_predictors()
    assert spec["name"].startswith("default-")


@pytest.mark.parametrize("point", ["alone", "exposed"])
def test_what_somebody_changes_meanwhile_stays(world: World, point: str) -> None:
    apply(world, "one")

    def edit() -> None:
        spec = {**world.found()["spec"]}
        spec["predictors"] = [{**p, "replicas": 3} for p in spec["predictors"]]
        world.api.patch(SELDON_DEPLOYMENT, "iris", {"spec": spec}, namespace="models")

    class Edited(Recorder):
        def _note(self, what: str) -> None:
            super()._note(what)
            if what.startswith(point):
                edit()

    with pytest.raises(ConflictError, match="somebody changed models/iris while it was being"):
        world.deployments.apply(wanted("two"), proof=Edited(world))
    assert {p["replicas"] for p in world.applied_predictors()} == {3}


def _once(world: World, edit: Callable[[], object]) -> None:
    """Let somebody do this at the next moment that passes."""

    def step() -> None:
        world.clock.steps.remove(step)
        edit()

    world.clock.steps.append(step)


def _scale(world: World) -> None:
    predictors = [{**p, "replicas": 3} for p in world.applied_predictors()]
    change = {"spec": {"predictors": predictors}}
    world.api.patch(SELDON_DEPLOYMENT, "iris", change, namespace="models")


def test_what_somebody_changes_while_pods_start_is_a_conflict_at_once(world: World) -> None:
    apply(world, "one")
    start = world.clock.now()
    _once(world, lambda: _scale(world))
    with pytest.raises(ConflictError, match="somebody changed models/iris while it was being"):
        apply(world, "two")
    assert world.clock.now() - start < 5
    assert {p["replicas"] for p in world.applied_predictors()} == {3}


def test_a_pin_that_somebody_sets_meanwhile_stays(world: World) -> None:
    apply(world, "one")
    pin = {"metadata": {"annotations": {"mlops-pipeline/pinned": "true"}}}
    _once(world, lambda: world.api.patch(SELDON_DEPLOYMENT, "iris", pin, namespace="models"))
    with pytest.raises(ConflictError, match="somebody changed models/iris"):
        world.deployments.apply(wanted("two"), proof=Recorder(world))
    assert world.found()["metadata"]["annotations"]["mlops-pipeline/pinned"] == "true"


def test_what_somebody_changes_while_the_traffic_goes_back_stays(world: World) -> None:
    apply(world, "one")

    class Scaled(Recorder):
        def exposed(self) -> None:
            _once(world, lambda: _once(world, lambda: _scale(world)))
            super().exposed()

    with pytest.raises(FatalStateError, match="other scores"):
        world.deployments.apply(wanted("two"), proof=Scaled(world, fails="exposed"))
    assert {p["replicas"] for p in world.applied_predictors()} == {3}


def test_a_version_that_serves_is_no_failure_because_something_old_stays(world: World) -> None:
    apply(world, "one")
    world.api.fail(UnavailableError("429"), verbs=("delete",), kind="DestinationRule")
    apply(world, "two")
    assert traffic(world) == {"two": 100}


def test_another_state_than_the_expected_one_is_left_as_it_is(world: World) -> None:
    apply(world, "one")
    before = world.found()
    for wrong in (None, wanted("two")):
        with pytest.raises(ConflictError, match="models/iris: somebody else changed it"):
            world.deployments.apply(wanted("two"), expected=Expected(wrong))
    assert world.found() == before
    world.deployments.apply(wanted("two"), expected=Expected(wanted("one")))
    assert world.found() != before


def test_what_others_annotate_is_no_conflict(world: World) -> None:
    apply(world, "one")
    expected = Expected(world.deployments.find("iris", namespace="models"))
    note = {"metadata": {"annotations": {"team": "a"}}}
    world.api.patch(SELDON_DEPLOYMENT, "iris", note, namespace="models")
    world.deployments.apply(wanted("two"), expected=expected)
    assert traffic(world) == {"two": 100}


def test_a_killed_apply_exposes_nothing_when_the_old_version_is_not_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest has both versions, the route leads to the old one, whose pods start again."""
    apply(world, "one")
    with monkeypatch.context() as patch:
        patch.setattr(Transition, "_undo", lambda *_: None)
        with pytest.raises(Killed):
            apply(world, "two", fails="alone", error=Killed())
    world.operator.stuck_digests = {"one": CRASHING}
    world.clock.sleep(1)
    proof = apply(world, "two")
    assert proof.seen == [("alone two", {"one": 100}), ("exposed", {"two": 100})]
    assert len(world.applied_predictors()) == 1


def test_what_somebody_changes_before_the_first_step_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "one")
    prepare = Preparation.prepare

    def slowly(self: Preparation, *arguments: Any) -> None:
        prepare(self, *arguments)
        _scale(world)

    monkeypatch.setattr(Preparation, "prepare", slowly)
    with pytest.raises(ConflictError, match="somebody changed models/iris"):
        apply(world, "two")
    assert {p["replicas"] for p in world.applied_predictors()} == {3}


def test_what_somebody_creates_before_the_first_step_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, "one")
    theirs = world.found()
    world.deployments.delete("iris", namespace="models")
    monkeypatch.setattr(Preparation, "prepare", lambda *_: world.api.put(theirs))
    with pytest.raises(ConflictError, match="somebody changed models/iris"):
        apply(world, "two")
    assert world.found()["spec"] == theirs["spec"]


def test_an_interruption_after_the_proof_leaves_the_proved_version(world: World) -> None:
    apply(world, "one")

    class Interrupted(Recorder):
        def exposed(self) -> None:
            super().exposed()
            _once(world, self._interrupt)

        def _interrupt(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.deployments.apply(wanted("two"), proof=Interrupted(world))
    world.clock.sleep(1)
    assert traffic(world) == {"two": 100}
    assert apply(world, "two").seen == [("exposed", {"two": 100})]
    assert len(world.applied_predictors()) == 1


def test_the_gateway_has_time_for_a_route_that_no_answer_shows(world: World) -> None:
    """The same artifact with other resources: the pods before it answer with the same digest."""
    apply(world, "one")
    waited: list[float] = []

    class Timed(Recorder):
        def exposed(self) -> None:
            super().exposed()
            start = world.clock.now()
            world.clock.steps.append(lambda: waited.append(world.clock.now() - start))

    annotations = {**wanted("one").spec.predictors[0].annotations, CPU_ANNOTATION: "200m"}
    other = deployment(predictor("one", annotations=annotations))
    world.deployments.apply(other, proof=Timed(world))
    assert max(waited) >= 1
    assert len(world.applied_predictors()) == 1


def test_nothing_goes_that_a_slow_gateway_still_asks(world: World) -> None:
    """A busy istiod tells it later, and of two changes at once: then it answers 503 in between."""
    apply(world, "one")
    world.gateway.lag = 7.0
    world.clock.sleep(10)
    asked: list[frozenset[str]] = []

    def record(resource: Mapping[str, Any]) -> None:
        left = world.gateway.asks() - {p["name"] for p in resource["spec"]["predictors"]}
        asked.append(left)

    world.api.when_applied("SeldonDeployment", record)
    annotations = {**wanted("one").spec.predictors[0].annotations, CPU_ANNOTATION: "200m"}
    world.deployments.apply(
        deployment(predictor("one", annotations=annotations)), proof=Recorder(world)
    )
    with pytest.raises(FatalStateError):
        apply(world, "two", fails="exposed")
    world.deployments.apply(deployment(predictor("two", "main")))
    assert len(asked) >= 8
    assert set(asked) == {frozenset()}
    assert len(world.gateway.asks()) == 1
