"""What `Deployments` promises, kept on every platform and by every fake of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import FatalStateError, NotFoundError
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.platforms.platform import PredictorStatus
from mlops_pipeline.platforms.seldon import DIGEST_ANNOTATION, MANAGED_BY, SeldonDeployment, parse
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
    yield FakeClusterPlace(World(folder))


@contextmanager
def _on_kind(request: pytest.FixtureRequest, _: Path) -> Iterator[Place]:
    names = ("platform", "cluster_api", "refs")
    platform, api, refs = map(request.getfixturevalue, names)
    with KindPlace.on(platform, api, refs["iris"]) as place:
        yield place


@contextmanager
def _on_the_fake(_: pytest.FixtureRequest, __: Path) -> Iterator[Place]:
    yield FakePlace()


@pytest.fixture(
    params=[
        pytest.param(_on_the_fake, id="fake"),
        pytest.param(_on_embedded_fakes, id="embedded-fakes"),
        pytest.param(_on_embedded, id="embedded", marks=pytest.mark.embedded),
        pytest.param(_on_a_fake_cluster, id="kubernetes-fakes"),
        pytest.param(_on_kind, id="kind", marks=pytest.mark.kind),
    ]
)
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


def apply(place: Place, *predictors: dict[str, Any]) -> Change:
    return place.deployments.apply(deployment(place, *predictors))


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


def test_a_first_version_that_cannot_become_ready_leaves_nothing(place: Place) -> None:
    with pytest.raises(FatalStateError):
        apply(place, predictor(place.artifact("broken")))
    assert place.deployments.find(NAME, namespace=place.namespace) is None
    assert status(place) == ()
    assert not place.is_routed()


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
    assert place.deployments.describe_absence("nobody", namespace=namespace) != ""
    assert place.deployments.describe_conflict("nobody", namespace=namespace) == ""
    place.deployments.annotate("nobody", {"a": "b"}, namespace=namespace)
    assert place.deployments.find("nobody", namespace=namespace) is None
    with pytest.raises(NotFoundError, match="nobody"):
        place.deployments.delete("nobody", namespace=namespace)
