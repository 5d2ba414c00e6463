import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from mlops_pipeline.clients.errors import ConfigurationError, InvalidManifestError
from mlops_pipeline.platforms.kubernetes.deployments.manifests import (
    Manifests,
    mirrors_of,
    traffic_of,
)
from mlops_pipeline.platforms.kubernetes.deployments.predictors import loader
from mlops_pipeline.platforms.kubernetes.deployments.written import (
    APPLIED_ANNOTATION,
    IMAGE_ANNOTATION,
    NO_ENGINE_ANNOTATION,
    TEMPLATE_ANNOTATION,
)
from mlops_pipeline.platforms.seldon import (
    DIGEST_ANNOTATION,
    MANAGED_BY,
    PREDICTOR_ANNOTATION,
    SeldonDeployment,
    parse,
)
from mlops_pipeline.serving.frameworks import frameworks
from mlops_pipeline.settings.layers import ServingSettings

OURS = Manifests(secret="keys", image=lambda implementation: f"serving:{implementation}")
UPSTREAM = Manifests(secret="keys", image=None)


def predictor(name: str = "default", **more: Any) -> dict[str, Any]:
    graph = {
        "name": "classifier",
        "implementation": "SKLEARN_SERVER",
        "modelUri": "s3://models/iris/0123",
        **more.pop("graph", {}),
    }
    return {"name": name, "graph": graph, "annotations": {DIGEST_ANNOTATION: "0123"}, **more}


def deployment(*predictors: dict[str, Any], **spec: Any) -> SeldonDeployment:
    return parse(
        {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": {"name": "iris", "namespace": "models", "labels": dict(MANAGED_BY)},
            "spec": {"predictors": list(predictors) or [predictor()], **spec},
        }
    )


def rendered(given: SeldonDeployment | None = None, manifests: Manifests = OURS) -> dict[str, Any]:
    return manifests.render(given or deployment())


def one(manifest: dict[str, Any]) -> dict[str, Any]:
    (only,) = manifest["spec"]["predictors"]
    return dict(only)


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return list(one(manifest)["componentSpecs"][0]["spec"]["containers"])


def test_what_is_applied_is_whole_and_ours() -> None:
    given = parse(
        {
            "apiVersion": "machinelearning.seldon.io/v1alpha2",
            "kind": "SeldonDeployment",
            "metadata": {"name": "iris"},
            "spec": {"predictors": [predictor(replicas=2)], "replicas": 3},
        }
    )
    manifest = rendered(given)
    assert manifest["apiVersion"] == "machinelearning.seldon.io/v1"
    assert manifest["metadata"]["namespace"] == "default"
    assert manifest["metadata"]["labels"] == MANAGED_BY
    assert one(manifest)["replicas"] == 2
    assert one(manifest)["progressDeadlineSeconds"] == 240
    assert one(manifest)["graph"]["envSecretRefName"] == "keys"
    assert one(manifest)["graph"]["modelUri"] == "s3://models/iris/0123"
    assert "replicas" in one(rendered(deployment(replicas=3)))
    assert one(rendered(deployment(replicas=3)))["replicas"] == 3


def test_a_secret_of_ones_own_is_kept() -> None:
    given = deployment(predictor(graph={"envSecretRefName": "mine"}))
    assert one(rendered(given))["graph"]["envSecretRefName"] == "mine"
    assert OURS.secret_of(given.spec.predictors[0]) == "mine"


def test_the_pod_is_quick_to_be_ready_slow_to_be_killed_and_small() -> None:
    (container,) = containers(rendered())
    assert container["name"] == "classifier"
    ready = container["readinessProbe"]
    assert ready["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
    assert ready["periodSeconds"] == 1
    assert "initialDelaySeconds" not in ready
    assert container["livenessProbe"]["initialDelaySeconds"] >= 20
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    spec = one(rendered())["componentSpecs"][0]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 20
    assert container["resources"]["requests"]["cpu"] == "50m"


def test_the_pod_may_do_nothing_but_serve() -> None:
    (container,) = containers(rendered())
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    spec = one(rendered())["componentSpecs"][0]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert spec["volumes"] == [{"name": "tmp", "emptyDir": {}}]


def test_what_a_container_is_given_is_the_settings_word_and_the_predictors_before_it() -> None:
    serving = ServingSettings.model_validate({"tensorflow": {"cpu": "2", "memory_limit": "3Gi"}})
    manifests = Manifests(secret="keys", image=lambda _: "serving:1", serving=serving)
    own = {"mlops-pipeline/memory": "1Gi", "mlops-pipeline/cpu": "500m"}
    given = deployment(predictor(graph={"implementation": "TENSORFLOW_SERVER"}, annotations=own))
    forwarder, server = containers(manifests.render(given))
    assert server["resources"] == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"memory": "3Gi"},
    }
    assert forwarder["resources"]["requests"]["cpu"] == "20m"
    assert manifests.read(manifests.render(given)) == given
    assert OURS.read(manifests.render(given)) != given


def test_more_memory_than_the_limit_of_the_settings_is_refused_before_the_cluster_does() -> None:
    given = deployment(predictor(annotations={"mlops-pipeline/memory": "4Gi"}))
    with pytest.raises(InvalidManifestError, match="memory = 4Gi exceeds memory_limit = 1Gi"):
        rendered(given)


def test_tensorflow_has_two_containers_but_by_its_own_protocol() -> None:
    graph = {"implementation": "TENSORFLOW_SERVER"}
    forwarder, server = containers(rendered(deployment(predictor(graph=graph))))
    assert (forwarder["name"], server["name"]) == ("classifier", "tfserving")
    assert server["readinessProbe"]["httpGet"]["port"] == 2001
    assert server["resources"]["limits"]["memory"] == "2Gi"
    assert forwarder["resources"]["limits"]["memory"] == "512Mi"
    direct = deployment(predictor(graph=graph), protocol="tensorflow")
    (server,) = containers(rendered(direct))
    assert server["name"] == "classifier"
    assert server["readinessProbe"]["httpGet"]["port"] == "http"
    assert loader(direct.spec.predictors[0], "tensorflow") == "classifier"
    assert loader(direct.spec.predictors[0], "seldon") == "tfserving"


def test_upstreams_images_get_nothing_that_only_ours_understand() -> None:
    manifest = rendered(manifests=UPSTREAM)
    assert "componentSpecs" not in one(manifest)
    assert IMAGE_ANNOTATION not in one(manifest)["annotations"]
    assert one(manifest)["annotations"][NO_ENGINE_ANNOTATION] == "true"


def test_the_engine_comes_back_by_its_setting_or_by_the_manifest() -> None:
    with_engine = Manifests(secret="keys", image=None, engine=True)
    assert NO_ENGINE_ANNOTATION not in one(rendered(manifests=with_engine))["annotations"]
    given = deployment(predictor(annotations={NO_ENGINE_ANNOTATION: "false"}))
    assert one(rendered(given))["annotations"][NO_ENGINE_ANNOTATION] == "false"


ENGINE = Manifests(secret="keys", image=lambda i: f"serving:{i}", engine=True)


def named(manifests: Manifests = ENGINE, **graph: str) -> str:
    """Return the name that the predictor `default` has in the cluster."""
    return str(one(rendered(deployment(predictor(graph=graph)), manifests))["name"])


def test_with_the_engine_other_pods_are_another_predictor() -> None:
    assert named(OURS) == "default"
    assert named().startswith("default-")
    assert named() == named()
    assert len(named()) == len("default-") + 8
    assert named(modelUri="s3://models/iris/4567") != named()
    newer = Manifests(secret="keys", image=lambda _: "serving:2", engine=True)
    assert named(newer) != named()
    scaled = deployment(predictor(replicas=3, traffic=100))
    assert one(rendered(scaled, ENGINE))["name"] == named()
    assert one(rendered(manifests=ENGINE))["annotations"][PREDICTOR_ANNOTATION] == "default"
    long = one(rendered(deployment(predictor("a" * 63)), ENGINE))["name"]
    assert len(long) == 63


def test_a_predictor_that_asks_for_it_is_named_by_what_its_pods_run() -> None:
    def name(base: str = "default", *, manifests: Manifests = OURS, **graph: str) -> str:
        asked = predictor(base, graph=graph)
        asked["annotations"] = {**asked.get("annotations", {}), PREDICTOR_ANNOTATION: base}
        return str(one(rendered(deployment(asked), manifests))["name"])

    assert re.fullmatch(r"default-[0-9a-f]{8}", name())
    assert name() == name()
    assert len({name(), name(modelUri="s3://models/iris/4567"), name(manifests=ENGINE)}) == 3
    assert (len(name("a" * 63)), name("a" * 63)[:54]) == (63, "a" * 54)


def test_a_candidate_that_is_promoted_keeps_its_pods() -> None:
    def asked(name: str, uri: str, traffic: int) -> dict[str, Any]:
        graph = {"modelUri": uri}
        made = predictor(name, graph=graph, traffic=traffic)
        return {**made, "annotations": {PREDICTOR_ANNOTATION: "default"}}

    old, new = "s3://models/iris/1", "s3://models/iris/2"
    both = rendered(deployment(asked("default", old, 90), asked("candidate", new, 10)))
    stable, candidate = both["spec"]["predictors"]
    (promoted,) = rendered(deployment(asked("default", new, 100)))["spec"]["predictors"]
    assert stable["name"] != candidate["name"]
    assert promoted == {**candidate, "traffic": 100}
    given = deployment(asked("default", old, 90), asked("candidate", new, 10))
    assert OURS.read(both) == given
    assert OURS.edits(both) == {}
    both["spec"]["predictors"][1]["traffic"] = 50
    assert OURS.edits(both) == {candidate["name"]: "its traffic is 50 instead of 10"}


def test_a_predictor_that_stands_in_the_cluster_keeps_its_name() -> None:
    given = deployment()
    placed = ENGINE.place(given)
    assert ENGINE.place(placed) == placed
    applied, step = ENGINE.render(given), ENGINE.render(placed)
    assert step["spec"] == applied["spec"]
    assert ENGINE.read(applied) == given
    assert ENGINE.standing(applied) == placed
    changed = copy.deepcopy(applied)
    changed["spec"]["predictors"][0]["traffic"] = 50
    assert [p.name for p in ENGINE.standing(changed).spec.predictors] == [named()]
    assert ENGINE.edits(changed) == {named(): "its traffic is 50 instead of 0"}


def test_what_is_kept_is_not_written_anew() -> None:
    """Where the engine is switched on, the predictor that serves must not get it."""
    before = one(rendered())
    standing = ENGINE.standing(rendered(deployment(predictor(traffic=100))))
    assert one(ENGINE.render(standing, kept={"default": before})) == {**before, "traffic": 100}
    assert one(ENGINE.render(standing)) != {**before, "traffic": 100}


def test_what_the_settings_change_is_told() -> None:
    assert OURS.difference(rendered(), deployment()) == ""
    assert ENGINE.difference(rendered(), deployment()) == (
        "Seldon's executor (seldon.engine) is off, the settings say on"
    )
    newer = Manifests(secret="keys", image=lambda _: "serving:2", engine=True)
    assert newer.difference(rendered(manifests=ENGINE), deployment()) == (
        "the serving image is serving:SKLEARN_SERVER, the settings say serving:2"
    )
    assert ENGINE.difference(FOREIGN, deployment()) == ""


def test_the_template_changes_with_what_the_pods_run_alone() -> None:
    def template(given: SeldonDeployment, manifests: Manifests = OURS) -> str:
        return str(one(rendered(given, manifests))["annotations"][TEMPLATE_ANNOTATION])

    same = template(deployment())
    assert len(same) == 16
    assert template(deployment(predictor(replicas=3, traffic=100))) == same
    other_image = Manifests(secret="keys", image=lambda _: "serving:2")
    changed = [
        template(deployment(predictor(graph={"modelUri": "s3://models/iris/4567"}))),
        template(deployment(predictor(graph={"parameters": [{"name": "a", "value": "b"}]}))),
        template(deployment(protocol="v2")),
        template(deployment(), other_image),
        template(deployment(), UPSTREAM),
    ]
    assert len({same, *changed}) == 6
    assert one(rendered(manifests=other_image))["annotations"][IMAGE_ANNOTATION] == "serving:2"


@pytest.mark.parametrize("manifests", [OURS, UPSTREAM])
@pytest.mark.parametrize(
    "given",
    [
        deployment(),
        deployment(predictor(traffic=80), predictor("canary", traffic=20), replicas=2),
        deployment(predictor(), predictor("copy", shadow=True), protocol="v2"),
        parse(
            {
                "apiVersion": "machinelearning.seldon.io/v1alpha2",
                "kind": "SeldonDeployment",
                "metadata": {"name": "bare"},
                "spec": {"predictors": [predictor(annotations={NO_ENGINE_ANNOTATION: "true"})]},
            }
        ),
    ],
)
def test_who_reads_gets_back_what_was_given(manifests: Manifests, given: SeldonDeployment) -> None:
    assert manifests.read(manifests.render(given)) == given


def test_what_others_hang_on_it_does_not_count() -> None:
    manifest = rendered()
    manifest["metadata"]["labels"]["team"] = "red"
    manifest["metadata"]["annotations"]["note"] = "hello"
    manifest["status"] = {"state": "Available"}
    assert OURS.read(manifest) == deployment()


def test_what_was_changed_by_hand_is_seen() -> None:
    two = deployment(predictor(traffic=80), predictor("canary", traffic=20))
    manifest = rendered(two)
    manifest["spec"]["predictors"][0]["traffic"] = 50
    manifest["spec"]["predictors"][1]["traffic"] = 50
    found = OURS.read(manifest)
    assert found != two
    assert found.traffic() == {"default": 50, "canary": 50}

    manifest = rendered()
    manifest["spec"]["predictors"][0]["graph"]["modelUri"] = "s3://models/iris/4567"
    found = OURS.read(manifest)
    assert found.spec.predictors[0].graph.model_uri == "s3://models/iris/4567"
    assert found != deployment(predictor(graph={"modelUri": "s3://models/iris/4567"}))


def test_an_edit_by_hand_is_told_by_predictor() -> None:
    two = deployment(predictor(traffic=80), predictor("canary", traffic=20))
    manifest = rendered(two)
    assert OURS.edits(manifest) == {}
    first, second = manifest["spec"]["predictors"]
    first["traffic"], second["traffic"], second["replicas"] = 50, 50, 3
    assert OURS.edits(manifest) == {
        "default": "its traffic is 50 instead of 80",
        "canary": "its traffic is 50 instead of 20; its replicas is 3 instead of 1",
    }
    assert not OURS.has_other_pods(manifest)
    manifest["spec"]["predictors"] = [first, {**second, "name": "other"}]
    assert OURS.edits(manifest) == {
        "default": "the predictor canary was removed; its traffic is 50 instead of 80",
        "other": "it was added",
    }
    assert OURS.has_other_pods(rendered(deployment())) is False


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda p: p["graph"].update(modelUri="s3://models/iris/4567"),
            "its modelUri is s3://models/iris/4567 instead of s3://models/iris/0123",
        ),
        (
            lambda p: p["componentSpecs"][0]["spec"]["containers"].pop(),
            "its pods' specification was changed",
        ),
    ],
)
def test_an_edit_of_what_pods_run_is_told(change: Callable[[Any], None], told: str) -> None:
    manifest = rendered()
    change(manifest["spec"]["predictors"][0])
    assert OURS.edits(manifest) == {"default": told}
    assert OURS.has_other_pods(manifest)


def test_a_newer_version_of_this_project_is_no_edit_by_hand() -> None:
    newer = Manifests(secret="keys", image=lambda _: "serving:2", deadline=99)
    assert newer.edits(rendered()) == {}
    assert not newer.has_other_pods(rendered())


def test_of_somebody_elses_nothing_was_edited() -> None:
    manifest = rendered()
    manifest["metadata"]["labels"] = {}
    manifest["spec"]["predictors"][0]["traffic"] = 50
    assert OURS.edits(manifest) == {}
    assert not OURS.has_other_pods(manifest)


def test_what_only_seldon_knows_of_is_seen_when_it_was_changed() -> None:
    manifest = rendered()
    containers(manifest)[0]["resources"]["limits"]["memory"] = "64Mi"
    found = OURS.read(manifest)
    assert found != deployment()
    assert (
        found.spec.predictors[0].graph
        == deployment(predictor(graph={"envSecretRefName": "keys"})).spec.predictors[0].graph
    )


def test_a_new_serving_image_is_a_difference() -> None:
    newer = Manifests(secret="keys", image=lambda _: "serving:2")
    assert newer.read(rendered()) != deployment()


def test_what_was_read_after_a_change_can_be_applied_again() -> None:
    manifest = rendered()
    manifest["spec"]["predictors"][0]["graph"]["modelUri"] = "s3://models/iris/4567"
    again = OURS.render(OURS.read(manifest))
    asked = rendered(deployment(predictor(graph={"modelUri": "s3://models/iris/4567"})))
    assert again["spec"] == asked["spec"]
    graph = {"modelUri": "s3://models/iris/4567", "envSecretRefName": "keys"}
    assert OURS.read(again).spec == deployment(predictor(graph=graph, replicas=1)).spec


@pytest.mark.parametrize("text", ["no JSON", "{}", '{"kind": "Pod"}'])
def test_an_annotation_that_was_damaged_is_not_believed(text: str) -> None:
    manifest = rendered()
    manifest["metadata"]["annotations"][APPLIED_ANNOTATION] = text
    found = OURS.read(manifest)
    assert found.name == "iris"
    assert found != deployment()


FOREIGN: dict[str, Any] = {
    "apiVersion": "machinelearning.seldon.io/v1",
    "kind": "SeldonDeployment",
    "metadata": {
        "name": "theirs",
        "namespace": "models",
        "uid": "1",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
    },
    "spec": {
        "name": "theirs",
        "predictors": [
            {
                "name": "main",
                "replicas": 2,
                "annotations": {NO_ENGINE_ANNOTATION: "true"},
                "componentSpecs": [{"spec": {"containers": [{"name": "own"}]}}],
                "svcOrchSpec": {"env": []},
                "graph": {
                    "name": "classifier",
                    "implementation": "SKLEARN_SERVER",
                    "modelUri": "s3://models/iris/0123",
                    "logger": {"mode": "all"},
                },
            }
        ],
    },
}


def test_somebody_elses_is_shown_as_far_as_we_have_words_for_it() -> None:
    found = OURS.read(FOREIGN)
    assert found.metadata.annotations == {"a": "b"}
    (only,) = found.spec.predictors
    assert (only.name, only.replicas, only.graph.model_uri) == ("main", 2, "s3://models/iris/0123")
    assert only.annotations == {NO_ENGINE_ANNOTATION: "true"}
    assert found.traffic() == {"main": 100}


@pytest.mark.parametrize(
    "change",
    [
        {"graph": {"name": "router", "type": "ROUTER", "children": [{"name": "a"}]}},
        {"graph": {"name": "m", "implementation": "XGBOOST_SERVER", "modelUri": "gs://b/m"}},
        {"graph": {}},
        {"name": "Odd_Name", "traffic": 40},
    ],
)
def test_no_deployment_of_somebody_else_breaks_reading(change: dict[str, Any]) -> None:
    manifest = copy.deepcopy(FOREIGN)
    manifest["spec"]["predictors"][0] |= change
    found = OURS.read(manifest)
    assert (found.name, found.namespace) == ("theirs", "models")
    (only,) = found.spec.predictors
    assert only.name == manifest["spec"]["predictors"][0]["name"]
    assert only.graph.model_uri == change.get("graph", {}).get("modelUri", only.graph.model_uri)
    assert only.digest == ""
    assert found.traffic() == {only.name: 100}


def test_a_deployment_without_predictors_is_read_too() -> None:
    manifest = {**FOREIGN, "spec": {"predictors": []}}
    assert OURS.read(manifest).spec.predictors == ()


def test_the_way_to_the_pods_is_read_from_the_virtual_service() -> None:
    def route(**more: Any) -> dict[str, Any]:
        return {"spec": {"http": [{**more}, {"route": [{"destination": {"subset": "grpc"}}]}]}}

    def to(name: str, **weight: int) -> dict[str, Any]:
        return {"destination": {"host": f"iris-{name}", "subset": name}, **weight}

    assert traffic_of([route(route=[to("a")])]) == {"a": 100}
    assert traffic_of([route(route=[to("a", weight=70), to("b", weight=30)])]) == {"a": 70, "b": 30}
    assert traffic_of([route(route=[to("a", weight=100), to("b")])]) == {"a": 100, "b": 0}
    assert traffic_of([]) == {}
    assert mirrors_of([route(route=[to("a")], mirror={"subset": "copy"})]) == {"copy"}
    assert mirrors_of([route(route=[to("a")]), {"spec": {}}]) == set()


def test_the_annotation_holds_the_manifest_as_it_was_given() -> None:
    text = rendered()["metadata"]["annotations"][APPLIED_ANNOTATION]
    assert parse(json.loads(text)) == deployment()


def test_each_container_names_its_image_whatever_the_operator_is_configured_with() -> None:
    own = Manifests(secret="keys", image=lambda i: f"serving:{i}")
    (one,) = containers(rendered(manifests=own))
    assert one["image"] == "serving:SKLEARN_SERVER"
    assert one["env"] == [{"name": "PREDICTIVE_UNIT_IMPLEMENTATION", "value": "SKLEARN_SERVER"}]
    graph = {"implementation": "TENSORFLOW_SERVER"}
    heavy = deployment(predictor(graph=graph))
    images = [c["image"] for c in containers(rendered(heavy, own))]
    assert images == ["serving:SKLEARN_SERVER", "serving:TENSORFLOW_SERVER"]
    alone = deployment(predictor(graph=graph), protocol="tensorflow")
    assert [c["image"] for c in containers(rendered(alone, own))] == ["serving:TENSORFLOW_SERVER"]


def test_nodes_pull_with_the_secret_that_is_named() -> None:
    pulled = Manifests(secret="keys", image=lambda i: f"serving:{i}", pull_secret="pull")
    (component,) = one(rendered(manifests=pulled))["componentSpecs"]
    assert component["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    (without,) = one(rendered())["componentSpecs"]
    assert "imagePullSecrets" not in without["spec"]
    assert pulled.read(rendered(manifests=pulled)) == deployment()


def test_upstream_serves_only_what_seldons_chart_has_an_image_for() -> None:
    for row in frameworks():
        manifest = deployment(predictor(graph={"implementation": row.implementation}))
        OURS.require_servers(manifest)
        if row.name in ("sklearn", "tensorflow", "xgboost", "mlflow"):
            UPSTREAM.require_servers(manifest)
        else:
            with pytest.raises(
                ConfigurationError, match=rf"no image for {row.implementation}; set"
            ):
                UPSTREAM.require_servers(manifest)
