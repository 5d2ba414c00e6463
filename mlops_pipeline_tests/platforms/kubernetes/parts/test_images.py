from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import AccessDeniedError, ConfigurationError, NotFoundError
from mlops_pipeline.platforms.kubernetes.parts.images import (
    BroughtImages,
    Images,
    NodeImages,
    RegistryImages,
)
from mlops_pipeline_tests.fakes.engine import FakeEngine
from mlops_pipeline_tests.fakes.kind import FakeKind
from mlops_pipeline_tests.fakes.sources import FakeSources

CONTROLLER = "quay.io/metallb/controller:v0.16.1"
SPEAKER = "quay.io/metallb/speaker:v0.16.1"
ARCHIVE = Path("/bundle/images/metallb.tar")
SERVING = "mlops-pipeline/serving:0a"


def _images(engine: FakeEngine, sources: FakeSources | None = None) -> NodeImages:
    kind = FakeKind({"seldon": ["one", "two"], "other": ["three"]})
    return NodeImages(engine, lambda: kind, sources or FakeSources(), "seldon")


def _engine(**nodes: list[str]) -> FakeEngine:
    return FakeEngine(images=[SERVING], node_images=nodes, archives=FakeSources().contents())


def test_what_each_node_lacks_is_told_in_the_words_of_the_question() -> None:
    images = _images(_engine(one=["docker.io/library/x:1", SPEAKER], two=["y:latest", SPEAKER]))
    assert images.missing(["x:1", "y", SPEAKER]) == {"one": {"y"}, "two": {"x:1"}}
    assert images.missing([SPEAKER]) == {}


def test_without_a_cluster_nothing_is_missing() -> None:
    kind = FakeKind({})
    images = NodeImages(FakeEngine(), lambda: kind, FakeSources(), "seldon")
    assert images.missing(["x:1"]) == {}
    assert images.ensure("metallb") == ()


def test_an_archive_goes_to_the_nodes_that_lack_something_of_it() -> None:
    engine = _engine(one=[CONTROLLER], two=[CONTROLLER, SPEAKER])
    images = _images(engine)
    assert images.ensure("metallb") == (SPEAKER,)
    assert engine.imported == [(ARCHIVE, "one")]
    assert images.ensure("metallb") == ()
    assert len(engine.imported) == 1


def test_all_nodes_of_the_cluster_get_it_and_no_others() -> None:
    engine = _engine()
    assert _images(engine).ensure("metallb") == (CONTROLLER, SPEAKER)
    assert engine.imported == [(ARCHIVE, "one"), (ARCHIVE, "two")]


def test_an_archive_that_cannot_be_had_changes_nothing() -> None:
    engine = _engine()
    with pytest.raises(ConfigurationError, match="metallb"):
        _images(engine, FakeSources(absent=["metallb"])).ensure("metallb")
    assert engine.imported == []


def test_a_group_without_archives_is_left_to_the_nodes() -> None:
    engine = FakeEngine(unavailable="nobody should ask")
    assert _images(engine).ensure("ingress-nginx") == ()


def test_an_image_of_the_engine_goes_to_the_nodes_that_lack_it() -> None:
    engine = _engine(one=[f"docker.io/{SERVING}"])
    images = _images(engine)
    assert images.ensure_local(SERVING) is True
    assert engine.copied == [(SERVING, "two")]
    assert images.ensure_local(SERVING) is False


def test_images_of_the_engine_go_together_to_a_node_that_lacks_several() -> None:
    engine = _engine(one=[f"docker.io/{SERVING}"])
    engine.images.add("docker.io/mlops-pipeline/other:1")
    images = _images(engine)
    assert images.ensure_local(SERVING, "mlops-pipeline/other:1") is True
    assert engine.copied == [
        ("mlops-pipeline/other:1", "one"),
        (SERVING, "two"),
        ("mlops-pipeline/other:1", "two"),
    ]


def test_an_image_that_the_engine_does_not_have_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="serving:0b"):
        _images(_engine()).ensure_local("mlops-pipeline/serving:0b")


# A registry, and images that somebody brings

REGISTRY = "registry.example.com/team"
PUSHED = f"{REGISTRY}/mlops-pipeline/serving:0a"


def _registry(engine: FakeEngine) -> RegistryImages:
    return RegistryImages(engine, REGISTRY, plain_http=False)


def test_images_are_pushed_once_under_the_registry_s_name() -> None:
    engine = FakeEngine(images=[PUSHED])
    images = _registry(engine)
    assert images.name("mlops-pipeline/serving") == PUSHED.removesuffix(":0a")
    assert images.places() == (REGISTRY,)
    assert images.missing([PUSHED]) == {REGISTRY: {PUSHED}}
    assert images.ensure_local(PUSHED) is True
    assert engine.pushed == {PUSHED}
    assert images.missing([PUSHED]) == {}
    assert images.ensure_local(PUSHED) is False


def test_without_a_registry_it_is_said_what_to_set() -> None:
    images = RegistryImages(FakeEngine(), "", plain_http=False)
    with pytest.raises(ConfigurationError, match=r"set kubernetes\.images\.registry"):
        images.name("mlops-pipeline/serving")


def test_a_registry_that_lets_nobody_look_is_pushed_to_which_decides() -> None:
    engine = FakeEngine(images=[PUSHED])
    engine.refused = AccessDeniedError("unauthorized")
    assert _registry(engine).missing([PUSHED]) == {REGISTRY: {PUSHED}}
    with pytest.raises(AccessDeniedError):
        _registry(engine).ensure_local(PUSHED)


def test_nodes_pull_upstreams_images_and_what_is_brought_is_left_to_whom_brings_it() -> None:
    engine = FakeEngine()
    brought: Images = BroughtImages()
    assert _registry(engine).ensure("istio") == brought.ensure("istio") == ()
    assert brought.name("mlops-pipeline/serving") == "localhost/mlops-pipeline/serving"
    assert brought.places() == ("the nodes",)
    assert brought.missing([PUSHED]) == {}
    assert brought.ensure_local(PUSHED) is False
