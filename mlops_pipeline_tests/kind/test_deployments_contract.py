"""What `Deployments` promises, kept on every platform and by every fake of it."""

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mlops_pipeline.clients import prediction
from mlops_pipeline.clients.errors import ConflictError, FatalStateError, NotFoundError
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.platform import Expected, PredictorStatus, ServerCounts
from mlops_pipeline.platforms.seldon import (
    DIGEST_ANNOTATION,
    MANAGED_BY,
    PREDICTOR_ANNOTATION,
    Predictor,
    SeldonDeployment,
    parse,
)
from mlops_pipeline_tests.embedded.rig import Rig, rig_in
from mlops_pipeline_tests.kind.places import (
    NAME,
    Artifact,
    EmbeddedPlace,
    FakeClusterPlace,
    FakePlace,
    KindPlace,
    Place,
)
from mlops_pipeline_tests.platforms.embedded.rig import fake_rig_in
from mlops_pipeline_tests.platforms.kubernetes.deployments.test_deployments import World


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_in(tmp_path_factory.mktemp("contract") / "s") as rig:
        rig.up()
        yield rig


@contextmanager
def _on_embedded_fakes(_: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    with fake_rig_in(folder / "s") as rig:
        yield EmbeddedPlace(rig)


@contextmanager
def _on_embedded(request: pytest.FixtureRequest, _: Path) -> Iterator[Place]:
    yield EmbeddedPlace(request.getfixturevalue("embedded"))


@contextmanager
def _on_a_fake_cluster(_: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    world = World(folder)
    yield FakeClusterPlace(world)
    posted = {(asked.path, asked.port) for asked in world.api.asked if asked.method == "POST"}
    assert posted <= {(prediction.PATH, 9000)}


@contextmanager
def _on_kind(request: pytest.FixtureRequest, _: Path) -> Iterator[Place]:
    names = ("platform", "cluster_api", "refs")
    platform, api, refs = map(request.getfixturevalue, names)
    with KindPlace.on(platform, api, refs["iris"]) as place:
        yield place


@contextmanager
def _on_the_fake(_: pytest.FixtureRequest, __: Path) -> Iterator[Place]:
    yield FakePlace()


def _places(*kind: pytest.MarkDecorator) -> list[Any]:
    """Return every platform and every fake; the tests on kind have these marks."""
    return [
        pytest.param(_on_the_fake, id="fake"),
        pytest.param(_on_embedded_fakes, id="embedded-fakes"),
        pytest.param(_on_embedded, id="embedded", marks=pytest.mark.embedded),
        pytest.param(_on_a_fake_cluster, id="kubernetes-fakes"),
        pytest.param(_on_kind, id="kind", marks=kind),
    ]


also_under_load = pytest.mark.parametrize(
    "place", _places(pytest.mark.kind, pytest.mark.long), indirect=True
)
"""On kind, `make test-kind` shows this or the like in test_deployments.py, under load; the rest is
long."""


@pytest.fixture(params=_places(pytest.mark.kind))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    on: Callable[..., Any] = request.param
    with on(request, tmp_path) as place:
        yield place
        if place.deployments.find(NAME, namespace=place.namespace) is not None:
            place.deployments.delete(NAME, namespace=place.namespace)


def predictor(artifact: Artifact, name: str = "default", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "graph": {
            "name": "classifier",
            "implementation": "SKLEARN_SERVER",
            "modelUri": artifact.uri,
        },
        "annotations": {DIGEST_ANNOTATION: artifact.digest},
        **more,
    }


def deployment(place: Place, *predictors: dict[str, Any]) -> SeldonDeployment:
    return parse(
        {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": {"name": NAME, "namespace": place.namespace, "labels": dict(MANAGED_BY)},
            "spec": {"predictors": list(predictors)},
        }
    )


def version(artifact: Artifact, **more: Any) -> dict[str, Any]:
    """Return a predictor as `up` writes it: another version may stand beside it."""
    annotations = {DIGEST_ANNOTATION: artifact.digest, PREDICTOR_ANNOTATION: "default"}
    return predictor(artifact, annotations=annotations, **more)


def apply(place: Place, *predictors: dict[str, Any], **more: Any) -> Change:
    return place.deployments.apply(deployment(place, *predictors), **more)


def find(place: Place) -> SeldonDeployment | None:
    return place.deployments.find(NAME, namespace=place.namespace)


def answering(place: Place) -> set[str]:
    """Return the digests that answer through the gateway; none while nothing is routed."""
    return set(place.answers(times=3)) if place.is_routed() else set()


class Recorder:
    """A proof that writes down who is asked and who serves meanwhile, and fails where it is told.

    Each server that is asked alone must give the right answer.
    """

    def __init__(
        self, place: Place, artifact: Artifact, *, fails: str = "", both: Artifact | None = None
    ) -> None:
        """With `both`, the other artifact answers beside it."""
        self._digests = {artifact.digest, *([both.digest] if both else [])}
        self.seen: list[tuple[str, set[str]]] = []
        """Each moment, and the digests that answered through the gateway then."""
        self.servers: set[str] = set()
        """Those that were asked alone."""
        self._place = place
        self._artifact = artifact
        self._fails = fails

    def alone(self, predictor: Predictor, server: Predictions) -> None:
        sample = self._place.sample(self._artifact)
        answer = server.predict(sample.rows)
        np.testing.assert_allclose(np.asarray(answer.scores), np.asarray(sample.scores), atol=1e-6)
        assert predictor.digest == answer.digest == self._artifact.digest
        self.servers.add(server.url)
        self._note("alone")

    def exposed(self) -> None:
        wait_until("answers of the new version", self._describe_others, timeout=30)
        self._note("exposed")

    def _describe_others(self) -> str | None:
        """Say who else answers: a gateway learns of a new route at its own time."""
        try:
            there = answering(self._place)
        except httpx.HTTPError as error:
            return repr(error)
        is_right = there and there <= self._digests
        return None if is_right else f"answers of {there or 'nobody'}"

    def _note(self, moment: str) -> None:
        self.seen.append((moment, answering(self._place)))
        if moment == self._fails:
            raise FatalStateError("it answers other scores")


def prove(
    place: Place, artifact: Artifact, *, fails: str = "", **more: Any
) -> tuple[Recorder, Change]:
    proof = Recorder(place, artifact, fails=fails)
    return proof, apply(place, version(artifact, **more), proof=proof)


def wait_for_servers(place: Place, wanted: AbstractSet[str]) -> None:
    """Return when only these servers run, and requests are routed if there are any."""

    def describe_others() -> str | None:
        place.settle()
        others, is_routed = place.servers() ^ wanted, place.is_routed()
        return None if not others and is_routed == bool(wanted) else f"{others}, {is_routed=}"

    wait_until("the end of what was not proved", describe_others, timeout=60)


def status(place: Place) -> tuple[PredictorStatus, ...]:
    return place.deployments.status(NAME, namespace=place.namespace)


def seen(place: Place) -> list[tuple[str, str, int, int, str]]:
    """Return name, digest, percent of the traffic, servers and state of each predictor."""
    return [(s.name, s.digest, s.traffic, s.replicas, s.state) for s in status(place)]


def test_a_deployment_is_created_found_and_left_alone(place: Place) -> None:
    one = place.artifact("one")
    assert apply(place, predictor(one)).action == "created"
    assert place.answers(times=3) == {one.digest: 3}
    assert seen(place) == [("default", one.digest, 100, 1, "ready")]
    wanted = deployment(place, predictor(one))
    assert place.deployments.find(NAME, namespace=place.namespace) == wanted
    assert [d for d in place.deployments.list() if d.namespace == place.namespace] == [wanted]
    assert place.deployments.damages() == ()
    assert place.deployments.describe_conflict(NAME, namespace=place.namespace) == ""
    assert place.deployments.describe_difference(wanted) == ""
    before = place.servers()
    assert len(before) == 1
    assert apply(place, predictor(one)).action == "unchanged"
    assert place.servers() == before


@also_under_load
def test_another_artifact_takes_over(place: Place) -> None:
    one, two = place.artifact("one"), place.artifact("two")
    apply(place, predictor(one))
    assert apply(place, predictor(two)).action == "updated"
    assert place.answers(times=3) == {two.digest: 3}
    assert seen(place) == [("default", two.digest, 100, 1, "ready")]


def test_servers_that_are_gone_are_repaired(place: Place) -> None:
    one = place.artifact("one")
    apply(place, predictor(one))
    place.stop_servers()
    assert [(s.replicas, s.state == "ready") for s in status(place)] == [(0, False)]
    assert apply(place, predictor(one)).action == "repaired"
    assert place.answers(times=3) == {one.digest: 3}
    assert apply(place, predictor(one)).action == "unchanged"


def test_an_annotation_changes_no_server(place: Place) -> None:
    one = place.artifact("one")
    apply(place, predictor(one))
    before = place.servers()
    place.deployments.annotate(NAME, {"mlops-pipeline/pinned": "true"}, namespace=place.namespace)
    assert place.servers() == before
    assert seen(place) == [("default", one.digest, 100, 1, "ready")]
    found = place.deployments.find(NAME, namespace=place.namespace)
    assert found is not None
    assert found.metadata.annotations["mlops-pipeline/pinned"] == "true"
    assert place.deployments.apply(found).action == "unchanged"
    assert place.servers() == before


def test_an_annotation_without_text_is_removed(place: Place) -> None:
    apply(place, predictor(place.artifact("one")))
    before = find(place)
    place.deployments.annotate(NAME, {"mlops-pipeline/pinned": "true"}, namespace=place.namespace)
    assert find(place) != before
    place.deployments.annotate(NAME, {"mlops-pipeline/pinned": ""}, namespace=place.namespace)
    assert find(place) == before


@also_under_load
def test_a_version_that_cannot_become_ready_leaves_the_one_before(place: Place) -> None:
    one, broken = place.artifact("one"), place.artifact("broken")
    apply(place, predictor(one))
    before = place.servers()
    with pytest.raises(FatalStateError):
        apply(place, predictor(broken))
    assert place.answers(times=10) == {one.digest: 10}
    assert place.deployments.find(NAME, namespace=place.namespace) == (
        deployment(place, predictor(one))
    )
    place.settle()
    assert seen(place) == [("default", one.digest, 100, 1, "ready")]
    assert place.servers() == before


@also_under_load
def test_a_first_version_that_cannot_become_ready_leaves_nothing(place: Place) -> None:
    with pytest.raises(FatalStateError):
        apply(place, predictor(place.artifact("broken")))
    assert place.deployments.find(NAME, namespace=place.namespace) is None
    assert status(place) == ()
    assert not place.is_routed()


def test_each_server_is_proved_alone_before_it_gets_traffic(place: Place) -> None:
    one, two = place.artifact("one"), place.artifact("two")
    proof, change = prove(place, one, replicas=2)
    nobody: set[str] = set()
    assert proof.seen == [("alone", nobody), ("alone", nobody), ("exposed", {one.digest})]
    assert (len(proof.servers), change.action) == (2, "created")

    proof, change = prove(place, two, replicas=2)
    assert proof.seen == [
        ("alone", {one.digest}),
        ("alone", {one.digest}),
        ("exposed", {two.digest}),
    ]
    assert (len(proof.servers), change.action) == (2, "updated")
    assert find(place) == deployment(place, version(two, replicas=2))
    assert seen(place) == [("default", two.digest, 100, 2, "ready")]

    proof, change = prove(place, two, replicas=2)
    assert proof.seen == [("exposed", {two.digest})]
    assert change.action == "unchanged"


@also_under_load
@pytest.mark.parametrize("moment", ["alone", "exposed"])
def test_what_is_not_proved_leaves_the_one_before(place: Place, moment: str) -> None:
    one, two = place.artifact("one"), place.artifact("two")
    prove(place, one)
    before = place.servers()
    with pytest.raises(FatalStateError, match="other scores"):
        prove(place, two, fails=moment)
    assert place.answers(times=10) == {one.digest: 10}
    assert find(place) == deployment(place, version(one))
    wait_for_servers(place, before)
    assert seen(place) == [("default", one.digest, 100, 1, "ready")]


def test_a_first_version_that_is_not_proved_leaves_nothing(place: Place) -> None:
    _leave_nothing(place, "alone")


@also_under_load
def test_a_first_version_that_is_refused_with_traffic_leaves_nothing(place: Place) -> None:
    _leave_nothing(place, "exposed")


def _leave_nothing(place: Place, moment: str) -> None:
    with pytest.raises(FatalStateError, match="other scores"):
        prove(place, place.artifact("one"), fails=moment)
    assert find(place) is None
    assert status(place) == ()
    wait_for_servers(place, set())


def test_what_somebody_else_changed_is_never_overwritten(place: Place) -> None:
    one, two = place.artifact("one"), place.artifact("two")
    apply(place, version(one))
    found, before = find(place), place.servers()
    for stale in (None, deployment(place, version(two))):
        with pytest.raises(ConflictError, match=f"{place.namespace}/{NAME}: somebody else changed"):
            apply(place, version(two), expected=Expected(stale))
    assert (find(place), place.servers()) == (found, before)
    assert place.answers(times=3) == {one.digest: 3}

    place.annotate_by_hand({"team": "a"})
    assert apply(place, version(two), expected=Expected(found)).action == "updated"
    assert place.answers(times=3) == {two.digest: 3}

    found = find(place)
    place.deployments.annotate(NAME, {"mlops-pipeline/pinned": "true"}, namespace=place.namespace)
    with pytest.raises(ConflictError, match="somebody else changed"):
        apply(place, version(one), expected=Expected(found))
    assert place.answers(times=3) == {two.digest: 3}


@also_under_load
def test_two_predictors_share_the_traffic(place: Place) -> None:
    one, two = place.artifact("one"), place.artifact("two")
    apply(place, predictor(one))
    change = apply(place, predictor(one, traffic=70), predictor(two, "canary", traffic=30))
    assert change.action == "updated"
    assert seen(place) == [
        ("default", one.digest, 70, 1, "ready"),
        ("canary", two.digest, 30, 1, "ready"),
    ]
    answers = place.answers(times=200)
    assert set(answers) == {one.digest, two.digest}
    assert 100 < answers[one.digest] < 180


@also_under_load
def test_a_shadow_answers_nobody(place: Place) -> None:
    one, two = place.artifact("one"), place.artifact("two")
    apply(place, predictor(one), predictor(two, "copy", shadow=True, traffic=100))
    assert seen(place) == [
        ("default", one.digest, 100, 1, "ready"),
        ("copy", two.digest, 0, 1, "ready"),
    ]
    assert place.answers(times=20) == {one.digest: 20}


def test_scaling_keeps_the_servers_that_run(place: Place) -> None:
    one = place.artifact("one")
    apply(place, predictor(one))
    before = place.servers()
    assert apply(place, predictor(one, replicas=2)).action == "updated"
    assert seen(place) == [("default", one.digest, 100, 2, "ready")]
    assert before < place.servers()
    apply(place, predictor(one, replicas=1))
    place.settle()
    assert len(place.servers()) == 1
    assert place.answers(times=3) == {one.digest: 3}


def counts(place: Place) -> dict[str, tuple[ServerCounts, ...]]:
    """Return predictor → what its servers have counted."""
    counted = place.deployments.counts(NAME, namespace=place.namespace)
    return {counts.predictor: counts.servers for counts in counted}


def answered(place: Place) -> dict[str, int]:
    """Return predictor → answers of all its servers; none of them failed."""
    counted = counts(place)
    assert {c.failed for servers in counted.values() for c in servers} <= {0}
    return {name: sum(c.answered for c in servers) for name, servers in counted.items()}


def test_servers_count_the_answers_of_clients(place: Place) -> None:
    one, two = place.artifact("one"), place.artifact("two")
    apply(
        place,
        predictor(one, traffic=60, replicas=2),
        predictor(two, "canary", traffic=40),
        predictor(two, "copy", shadow=True, traffic=0),
    )
    assert answered(place) == {"default": 0, "canary": 0, "copy": 0}
    digests = place.answers(times=50)
    before = counts(place)
    assert [(name, len(servers)) for name, servers in before.items()] == [
        ("default", 2),
        ("canary", 1),
        ("copy", 1),
    ]
    assert answered(place)["default"] == digests[one.digest]
    assert answered(place)["canary"] == digests[two.digest]
    seen = [counts for servers in before.values() for counts in servers]
    assert len({c.server for c in seen}) == 4
    assert all(c.started > 0 for c in seen)
    assert all(c.slower and max(c.slower.values()) <= c.answered for c in seen)
    # None where the gateway does not tell.
    counted = place.deployments.counts(NAME, namespace=place.namespace)
    assert {c.lost for c in counted} in ({0}, {None})


def test_a_server_that_is_asked_alone_counts_nothing(place: Place) -> None:
    one, two = place.artifact("one"), place.artifact("two")
    apply(place, predictor(one, replicas=2), predictor(two, "copy", shadow=True, traffic=0))
    servers = place.deployments.servers(NAME, namespace=place.namespace)
    assert {name: len(found) for name, found in servers.items()} == {"default": 2, "copy": 1}
    for artifact, found in zip((one, two), servers.values(), strict=True):
        sample = place.sample(artifact)
        for server in found:
            answer = server.predict(sample.rows)
            assert answer.digest == artifact.digest
            np.testing.assert_allclose(answer.scores, np.asarray(sample.scores), atol=1e-6)
    assert answered(place) == {"default": 0, "copy": 0}


def test_a_server_that_starts_again_counts_from_zero(place: Place) -> None:
    one = place.artifact("one")
    apply(place, predictor(one))
    place.answers(times=3)
    (before,) = counts(place)["default"]
    place.stop_servers()
    apply(place, predictor(one))
    place.settle()
    (after,) = counts(place)["default"]
    assert after.started > before.started
    assert (before.answered, after.answered) == (3, 0)
    place.answers(times=2)
    assert answered(place) == {"default": 2}


def test_further_servers_of_a_proved_version_are_not_asked_alone(place: Place) -> None:
    one = place.artifact("one")
    prove(place, one)
    before = place.servers()
    proof, change = prove(place, one, replicas=2)
    assert proof.seen == [("exposed", {one.digest})]
    assert change.action == "updated"
    assert before < place.servers()


def test_roles_change_and_servers_stay(place: Place) -> None:
    """A candidate is proved alone, gets a share, is promoted, and the version before it goes."""
    one, two = place.artifact("one"), place.artifact("two")
    prove(place, one)
    both = [version(one, traffic=80), version(two, name="default-candidate", traffic=20)]
    apply(place, *both, proof=Recorder(place, two, both=one))
    servers = place.servers()
    assert seen(place) == [
        ("default", one.digest, 80, 1, "ready"),
        ("default-candidate", two.digest, 20, 1, "ready"),
    ]
    renamed = [version(one, name="default-former", traffic=0), version(two, traffic=100)]
    apply(place, *renamed, proof=Recorder(place, two))
    assert seen(place) == [
        ("default-former", one.digest, 0, 1, "ready"),
        ("default", two.digest, 100, 1, "ready"),
    ]
    assert place.servers() == servers
    apply(place, version(one, traffic=100))
    place.settle()
    assert place.answers(times=5) == {one.digest: 5}
    assert len(place.servers()) == 1
    assert place.servers() < servers


def test_a_deleted_deployment_is_gone(place: Place) -> None:
    apply(place, predictor(place.artifact("one")))
    assert place.is_routed()
    place.deployments.delete(NAME, namespace=place.namespace)
    assert place.servers() == set()
    assert not place.is_routed()
    assert place.deployments.find(NAME, namespace=place.namespace) is None
    assert apply(place, predictor(place.artifact("one"))).action == "created"


def test_a_name_that_nobody_has(place: Place) -> None:
    namespace = place.namespace
    assert place.deployments.find("nobody", namespace=namespace) is None
    assert place.deployments.status("nobody", namespace=namespace) == ()
    assert place.deployments.counts("nobody", namespace=namespace) == ()
    assert place.deployments.servers("nobody", namespace=namespace) == {}
    assert place.deployments.describe_absence("nobody", namespace=namespace) != ""
    assert place.deployments.describe_conflict("nobody", namespace=namespace) == ""
    place.deployments.annotate("nobody", {"a": "b"}, namespace=namespace)
    assert place.deployments.find("nobody", namespace=namespace) is None
    with pytest.raises(NotFoundError, match="nobody"):
        place.deployments.delete("nobody", namespace=namespace)
