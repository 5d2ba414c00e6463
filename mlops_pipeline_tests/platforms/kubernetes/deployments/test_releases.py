"""Two versions side by side in a cluster: roles change, pods and requests stay."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.clients.errors import FatalStateError, UnavailableError
from mlops_pipeline.clients.kubernetes import DESTINATION_RULE, POD, SELDON_DEPLOYMENT
from mlops_pipeline.delivery.releases import manifests
from mlops_pipeline.delivery.releases.state import (
    RELEASE_ANNOTATION,
    Decision,
    Release,
    find_release,
)
from mlops_pipeline.platforms.kubernetes.deployments.transition import Transition
from mlops_pipeline.platforms.kubernetes.deployments.written import STAGE_ANNOTATION
from mlops_pipeline.platforms.platform import Expected
from mlops_pipeline.platforms.seldon import (
    DIGEST_ANNOTATION,
    PREDICTOR_ANNOTATION,
    Predictor,
    SeldonDeployment,
)
from mlops_pipeline_tests.platforms.kubernetes.deployments.test_deployments import (
    World,
    deployment,
    predictor,
)
from mlops_pipeline_tests.platforms.kubernetes.deployments.test_proof import (
    Killed,
    Recorder,
    apply,
    traffic,
    wanted,
)

STEPS = (Step(5), Step(50), Step(100))
PROMOTED = Decision("promoted", "it is no worse", "a test", "2026-01-01T00:00:00+00:00")


def release(step: int = 0, **more: Any) -> Release:
    strategy = more.pop("strategy", "canary")
    plan = ReleaseSpec(strategy=strategy, steps=STEPS[2:] if strategy == "blue_green" else STEPS)
    fields = {"id": "1-two", "candidate": "two", "stable": "one", "by": "a test", "since": "now"}
    return Release(plan=plan, step=step, **{**fields, **more})


def there(world: World) -> SeldonDeployment:
    found = world.deployments.find("iris", namespace="models")
    assert found is not None
    return found


def move(
    world: World, wanted: SeldonDeployment, *, proof: Recorder | None = None, proves: bool = True
) -> Recorder:
    """Apply as the driver does: only if nobody else changed it."""
    proof = proof or Recorder(world)
    expected = Expected(there(world))
    world.deployments.apply(wanted, proof=proof if proves else None, expected=expected)
    return proof


def begin(world: World, step: int = 0, **more: Any) -> SeldonDeployment:
    """Return the manifest in which the candidate has the share of a step."""
    found, state = there(world), release(step, **more)
    known = find_release(found)
    if known is None:
        (stable,) = found.spec.predictors
        candidate = wanted("two").spec.predictors[0]
    else:
        versions = manifests.find_versions(found, known)
        assert versions is not None
        stable, candidate = versions.require_stable(), versions.candidate
    return manifests.beside(found, stable, candidate, state)


def promote(world: World, *, keeps: bool) -> SeldonDeployment:
    ended = release(2, phase="kept" if keeps else "ended", ended=PROMOTED)
    return manifests.promoted(there(world), versions(world), ended, name="default")


def restore(world: World) -> SeldonDeployment:
    aborted = Decision("aborted", "a person said so", "a test", "2026-01-01T00:00:00+00:00")
    ended = release(phase="ended", ended=aborted)
    return manifests.restored(there(world), versions(world), ended, name="default")


def versions(world: World) -> manifests.Versions:
    state = find_release(there(world))
    assert state is not None
    found = manifests.find_versions(there(world), state)
    assert found is not None
    return found


def pods(world: World) -> dict[str, set[str]]:
    """Return digest → identities of the pods."""
    found: dict[str, set[str]] = {}
    for pod in world.api.list(POD):
        digest = pod["metadata"]["annotations"][DIGEST_ANNOTATION]
        found.setdefault(digest, set()).add(pod["metadata"]["uid"])
    return found


def seen(world: World) -> list[tuple[str, str, int, str]]:
    return [(s.name, s.digest, s.traffic, s.state) for s in world.status()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    apply(world, "one")
    return world


def test_no_pod_is_replaced_from_the_first_step_to_the_end(world: World) -> None:
    proof = move(world, begin(world))
    assert proof.seen == [("alone two", {"one": 100}), ("exposed", {"one": 95, "two": 5})]
    both = pods(world)
    assert seen(world) == [
        ("default", "one", 95, "ready"),
        ("default-candidate", "two", 5, "ready"),
    ]
    assert move(world, begin(world, 1)).seen == [("exposed", {"one": 50, "two": 50})]
    assert move(world, begin(world, 2)).seen == [("exposed", {"two": 100})]
    assert move(world, promote(world, keeps=True)).seen == [("exposed", {"two": 100})]
    assert seen(world) == [("default-former", "one", 0, "ready"), ("default", "two", 100, "ready")]
    assert pods(world) == both
    assert [d.stem for d in there(world).spec.predictors] == ["default", "default"]

    proof = move(world, manifests.finished(there(world), versions(world)))
    assert proof.seen == [("exposed", {"two": 100})]
    assert pods(world) == {"two": both["two"]}
    assert seen(world) == [("default", "two", 100, "ready")]
    assert len(world.api.list(DESTINATION_RULE)) == 1
    assert RELEASE_ANNOTATION not in world.found()["metadata"]["annotations"]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_step_of_all_traffic_is_taken_back(world: World, *, keeps: bool) -> None:
    proof = move(world, begin(world, 0, strategy="blue_green"))
    assert proof.seen == [("alone two", {"one": 100}), ("exposed", {"two": 100})]
    both = pods(world)
    if keeps:
        move(world, promote(world, keeps=True))
    move(world, restore(world), proves=False)
    assert traffic(world) == {"one": 100}
    assert pods(world) == {"one": both["one"]}
    assert seen(world) == [("default", "one", 100, "ready")]


def test_the_former_version_goes_after_the_traffic(world: World) -> None:
    move(world, begin(world, 1))
    shares: list[dict[str, int]] = []
    world.clock.steps.append(lambda: shares.append(traffic(world)))
    proof = move(world, promote(world, keeps=False))
    assert proof.seen == [("exposed", {"two": 100})]
    assert all(sum(share.values()) == 100 for share in shares)
    assert list(pods(world)) == ["two"]


def test_a_shadow_is_started_anew_when_it_is_promoted(world: World) -> None:
    """The operator labels the pods of a shadow, so the label would replace them in place."""
    move(world, begin(world, 2, strategy="shadow"))
    assert seen(world) == [
        ("default", "one", 100, "ready"),
        ("default-candidate", "two", 0, "ready"),
    ]
    copies = pods(world)["two"]
    assert move(world, begin(world, 2, strategy="shadow")).seen == [("exposed", {"one": 100})]
    assert pods(world)["two"] == copies
    proof = move(world, promote(world, keeps=True))
    assert proof.seen == [("alone two", {"one": 100}), ("exposed", {"two": 100})]
    assert not copies & pods(world)["two"]
    assert seen(world) == [("default-former", "one", 0, "ready"), ("default", "two", 100, "ready")]


def test_other_settings_replace_no_pod_until_somebody_deploys(world: World) -> None:
    before = pods(world)
    world.image = "serving:2"
    move(world, begin(world))
    assert pods(world)["one"] == before["one"]
    both = pods(world)
    world.image = "serving:3"
    assert find_release(there(world)) == release()
    assert [s.state for s in world.status()] == ["ready", "ready"]
    assert [p.name for p in there(world).spec.predictors] == ["default", "default-candidate"]
    move(world, begin(world, 1))
    move(world, promote(world, keeps=True))
    assert pods(world) == both
    world.image = "serving:4"
    move(world, restore(world), proves=False)
    assert pods(world) == before
    assert "the serving image is serving:1" in world.deployments.describe_difference(wanted("one"))
    assert there(world).spec != wanted("one").spec
    assert apply(world, "one").seen == [("alone one", {"one": 100}), ("exposed", {"one": 100})]
    assert there(world).spec == wanted("one").spec
    assert not pods(world)["one"] & before["one"]


def test_the_engine_that_is_switched_on_replaces_no_stable_pod(world: World) -> None:
    before = pods(world)
    world.engine = True
    move(world, begin(world))
    assert pods(world)["one"] == before["one"]
    move(world, restore(world), proves=False)
    assert pods(world) == before


def test_an_abort_needs_no_object_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    move(world, begin(world))

    def away(*_: object) -> Any:
        raise UnavailableError("the object store does not answer")

    monkeypatch.setattr(world.artifacts, "client", away)
    monkeypatch.setattr(world.artifacts, "ensure_secret", away)
    move(world, begin(world, 1))
    with pytest.raises(UnavailableError, match="does not answer"):
        world.deployments.apply(deployment(predictor("new")))
    move(world, restore(world), proves=False)
    assert traffic(world) == {"one": 100}


def test_a_state_that_was_written_alone_is_removed(world: World) -> None:
    move(world, begin(world))
    paused = release(is_paused=True)
    world.deployments.annotate("iris", paused.annotations(), namespace="models")
    assert find_release(there(world)) == paused
    move(world, restore(world), proves=False)
    world.deployments.annotate("iris", {RELEASE_ANNOTATION: ""}, namespace="models")
    assert find_release(there(world)) is None
    assert RELEASE_ANNOTATION not in world.found()["metadata"]["annotations"]


@pytest.mark.parametrize("step", [1, 2])
def test_a_step_that_fails_leaves_the_state_and_the_traffic_of_before(
    world: World, step: int
) -> None:
    move(world, begin(world))
    before, both = world.found(), pods(world)
    with pytest.raises(FatalStateError, match="other scores"):
        move(world, begin(world, step), proof=Recorder(world, fails="exposed"))
    world.clock.sleep(1)
    assert traffic(world) == {"one": 95, "two": 5}
    assert world.found()["spec"] == before["spec"]
    assert world.found()["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert find_release(there(world)) == release()
    assert pods(world) == both


def test_a_candidate_that_is_not_proved_leaves_no_release(world: World) -> None:
    with pytest.raises(FatalStateError, match="other scores"):
        move(world, begin(world), proof=Recorder(world, fails="alone"))
    world.clock.sleep(1)
    assert find_release(there(world)) is None
    assert traffic(world) == {"one": 100}
    assert list(pods(world)) == ["one"]


def _to_start(world: World) -> SeldonDeployment:
    return begin(world)


def _to_promoted(world: World) -> SeldonDeployment:
    move(world, begin(world, 1))
    return promote(world, keeps=False)


def _to_restored(world: World) -> SeldonDeployment:
    move(world, begin(world, 1))
    return restore(world)


def _to_live(world: World) -> SeldonDeployment:
    move(world, begin(world, 2, strategy="shadow"))
    return promote(world, keeps=True)


@pytest.mark.parametrize("image", ["serving:1", "serving:2"])
@pytest.mark.parametrize("steps", range(1, 8))
@pytest.mark.parametrize("change", [_to_start, _to_promoted, _to_restored, _to_live])
def test_a_kill_leaves_the_release_before_the_step_or_after_it(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[World], SeldonDeployment],
    steps: int,
    image: str,
) -> None:
    """Another process reads either state, with the traffic that it says, and goes on."""
    asked = change(world)
    before, after = there(world), manifests.without_sticky(asked)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == steps:
            raise Killed

    world.clock.steps.append(step)
    with monkeypatch.context() as patch:
        patch.setattr(Transition, "_undo", lambda *_: None)
        with suppress(Killed):
            move(world, asked)
        world.clock.steps.remove(step)
    world.clock.sleep(2)
    world.image = image
    known = find_release(there(world))
    assert known in (find_release(before), find_release(after))
    read = there(world).annotated({STAGE_ANNOTATION: ""})
    names = [p.name for p in read.spec.predictors]
    is_after = known == find_release(after)
    assert names == [p.name for p in (after if is_after else before).spec.predictors]
    shares = read.traffic()
    assert traffic(world) == {
        p.digest: share for p in read.spec.predictors if (share := shares.get(p.name))
    }
    assert {s.state for s in world.status()} == {"ready"}
    # What is left on the way does not equal what is wanted.
    again = asked if not is_after else there(world).annotated({STAGE_ANNOTATION: ""})
    move(world, again)
    assert STAGE_ANNOTATION not in world.found()["metadata"]["annotations"]
    assert [s.name for s in world.status()] == [p.name for p in asked.spec.predictors]
    assert find_release(there(world)) == find_release(asked)


def test_an_edit_by_hand_keeps_the_names_of_the_roles(world: World) -> None:
    move(world, begin(world))
    shares = iter((70, 30))
    predictors = [{**p, "traffic": next(shares)} for p in world.applied_predictors()]
    change = {"spec": {"predictors": predictors}}
    world.api.patch(SELDON_DEPLOYMENT, "iris", change, namespace="models")
    assert [p.name for p in there(world).spec.predictors] == ["default", "default-candidate"]
    assert [(s.name, s.state) for s in world.status()] == [
        ("default", "edited"),
        ("default-candidate", "edited"),
    ]
    both = pods(world)
    move(world, restore(world), proves=False)
    assert pods(world) == {"one": both["one"]}
    assert seen(world) == [("default", "one", 100, "ready")]


def test_more_servers_of_a_version_that_serves_are_not_proved_alone(world: World) -> None:
    proof = Recorder(world)
    world.deployments.apply(wanted("one", replicas=3), proof=proof)
    assert proof.seen == [("exposed", {"one": 100})]


def test_long_names_stay_two_names(tmp_path: Path) -> None:
    world, long = World(tmp_path), "a" * 63
    marks = {DIGEST_ANNOTATION: "one", PREDICTOR_ANNOTATION: long}
    world.deployments.apply(deployment(predictor("one", long, annotations=marks)))
    found = there(world)
    (stable,) = found.spec.predictors
    other = predictor("two", long, annotations={**marks, DIGEST_ANNOTATION: "two"})
    candidate = Predictor.model_validate(other)
    move(world, manifests.beside(found, stable, candidate, release()))
    assert [len(p["name"]) for p in world.applied_predictors()] == [63, 63]
    names = [p.name for p in there(world).spec.predictors]
    assert (names[0], names[1]) == (long, f"{'a' * 53}-candidate")
    assert [s.name for s in world.status()] == names
