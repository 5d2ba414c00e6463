"""Pods that are asked one by one: who counts, who is left out, and what is an error."""

from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import AccessDeniedError, UnavailableError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.kubernetes import Manifest
from mlops_pipeline.clients.metrics_pages import MOST_BYTES
from mlops_pipeline.platforms.kubernetes.deployments import asking
from mlops_pipeline.platforms.kubernetes.deployments.manifests import Manifests
from mlops_pipeline.platforms.platform import PredictorCounts, ServerCounts
from mlops_pipeline.platforms.seldon import PREDICTOR_ANNOTATION
from mlops_pipeline_tests.fakes.predictions import ROWS, SCORES, metrics_page
from mlops_pipeline_tests.platforms.kubernetes.deployments.test_deployments import (
    FOREIGN,
    World,
    deployment,
    predictor,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def counts(world: World) -> tuple[PredictorCounts, ...]:
    return world.deployments.counts("iris", namespace="models")


def names(pods: list[Manifest]) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]


def answer(world: World, pod: str, page: str | bytes, status: int = 200) -> None:
    body = page.encode() if isinstance(page, str) else page
    world.api.answers["models", pod] = HttpAnswer(status, {}, body)


def test_each_pod_tells_its_counts_by_the_name_in_the_manifest(world: World) -> None:
    stem = {"annotations": {PREDICTOR_ANNOTATION: "default"}}
    two = {**predictor("two", replicas=2), **stem}
    world.deployments.apply(deployment(two))
    (_, second) = names(world.operator.pods())
    answer(world, second, metrics_page(answered=5, started=20.5, failed=2))
    (found,) = counts(world)
    assert (found.predictor, found.lost) == ("default", None)
    assert [c.answered for c in found.servers] == [0, 5]
    assert found.servers[1] == ServerCounts(second, 20.5, 5, 2, {"0.1": 5, "1.0": 0})
    assert {(a.path, a.port) for a in world.api.asked if "metrics" in a.path} == {
        ("/metrics", 9000)
    }


@pytest.mark.parametrize(
    ("page", "status"),
    [("Not Found", 404), ("<html></html>", 200), ("up 1\n", 200), ("loading", 503), ("", 200)],
)
def test_other_peoples_images_have_no_counts(world: World, page: str, status: int) -> None:
    world.deployments.apply(deployment())
    answer(world, names(world.operator.pods())[0], page, status)
    assert counts(world) == (PredictorCounts("default", ()),)


def test_a_pod_that_does_not_answer_is_left_out(world: World) -> None:
    world.deployments.apply(deployment(predictor(replicas=2)))
    (first, second) = names(world.operator.pods())
    del world.api.servers["models", first]
    (found,) = counts(world)
    assert [c.server for c in found.servers] == [second]


def test_pods_of_an_earlier_version_do_not_count_for_the_new_one(world: World) -> None:
    world.deployments.apply(deployment())
    (old,) = names(world.operator.pods())
    world.operator.stuck = {"phase": "Pending", "conditions": []}
    world.api.apply(
        Manifests(secret="keys", image=lambda _: "serving:1").render(deployment(predictor("two")))
    )
    world.operator.step()
    assert old in names(world.operator.pods())
    assert counts(world) == (PredictorCounts("default", ()),)
    assert world.deployments.servers("iris", namespace="models") == {"default": ()}


def test_damaged_and_huge_metrics_are_errors(world: World) -> None:
    world.deployments.apply(deployment())
    (pod,) = names(world.operator.pods())
    answer(world, pod, metrics_page(answered=1, started=1.0).replace('failed"} 0.0', "here"))
    with pytest.raises(UnavailableError, match=rf"metrics of {pod}: .*here"):
        counts(world)
    answer(world, pod, b"x" * (MOST_BYTES + 1))
    with pytest.raises(UnavailableError, match=f"of the pod models/{pod}: the page has more than"):
        counts(world)


def test_a_missing_right_and_a_silent_cluster_are_errors(world: World) -> None:
    world.deployments.apply(deployment())
    world.api.fail(AccessDeniedError("may not get pods/proxy"), verbs=("ask_pod",))
    with pytest.raises(AccessDeniedError):
        counts(world)
    world.api.stop()
    with pytest.raises(UnavailableError):
        counts(world)


def test_a_deployment_of_somebody_else_is_asked_too(world: World) -> None:
    world.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}})
    world.api.put(FOREIGN)
    assert counts(world) == (PredictorCounts("main", ()),)


def test_without_a_cluster_nobody_is_asked(world: World) -> None:
    world.absent = True
    assert counts(world) == ()
    assert world.deployments.servers("iris", namespace="models") == {}


def test_what_a_pod_is_asked_alone_is_neither_counted_nor_recorded(world: World) -> None:
    world.deployments.apply(deployment())
    (pod,) = world.operator.pods()
    assert asking.server(world.api, pod).predict(ROWS).scores == SCORES
    (asked,) = [a for a in world.api.asked if a.method == "POST"]
    assert dict(asked.headers) == {"Seldon-Skip-Logging": "true"}
    assert world.operator.answered == {}
