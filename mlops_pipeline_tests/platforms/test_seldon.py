"""What a SeldonDeployment must be, in the words of Seldon's own webhook where it has some."""

import json
from typing import Any

import pytest
import yaml

from mlops_pipeline.clients.errors import InvalidManifestError
from mlops_pipeline.platforms.seldon import SeldonDeployment, between, parse, parse_manifests
from mlops_pipeline.platforms.sticky import STICKY_ANNOTATION, Sticky

GRAPH = {
    "name": "classifier",
    "implementation": "SKLEARN_SERVER",
    "modelUri": "s3://models/iris/1",
    "envSecretRefName": "seldon-rclone-secret",
}


def manifest(*predictors: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "iris-model", "namespace": "seldon"},
        "spec": {"predictors": list(predictors), **spec},
    }


def predictor(name: str = "default", **more: Any) -> dict[str, Any]:
    return {"name": name, "graph": {**GRAPH, **more.pop("graph", {})}, **more}


def containers(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": None}, "spec": {"containers": [fields]}}


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if k != key}


@pytest.mark.parametrize("version", ["v1", "v1alpha2", "v1alpha3"])
def test_every_version_is_accepted(version: str) -> None:
    found = parse(manifest(predictor()) | {"apiVersion": f"machinelearning.seldon.io/{version}"})
    assert (found.name, found.namespace) == ("iris-model", "seldon")
    assert found.traffic() == {"default": 100}


def test_a_manifest_survives_the_round_trip() -> None:
    given = manifest(
        predictor("a", traffic=75, replicas=1, labels={"x": "y"}, annotations={"seldon.io/z": "1"}),
        predictor("b", traffic=25),
        predictor("c", shadow=True, traffic=10),
        protocol="v2",
        replicas=3,
    )
    found = parse(given)
    assert found.to_manifest() == given
    assert found.traffic() == {"a": 75, "b": 25}
    assert [found.replicas(p) for p in found.spec.predictors] == [1, 3, 3]
    again = parse(found.to_manifest())
    assert [again.replicas(p) for p in again.spec.predictors] == [1, 3, 3]


@pytest.mark.parametrize(
    ("text", "sticky"),
    [
        ("header:X-User-Id", Sticky("header", "x-user-id")),
        ("cookie:Session", Sticky("cookie", "Session")),
    ],
)
def test_a_split_may_be_sticky(text: str, sticky: Sticky) -> None:
    given = manifest(predictor())
    assert parse(given).sticky is None
    given["metadata"]["annotations"] = {STICKY_ANNOTATION: text}
    assert parse(given).sticky == sticky
    assert parse(given).to_manifest() == given


@pytest.mark.parametrize(
    "text",
    ["", "header", "header:", "header: x", "Header:x", "query:x", "cookie:a;b", "cookie:a=b"],
)
def test_a_sticky_split_by_something_else_is_refused(text: str) -> None:
    given = manifest(predictor())
    given["metadata"]["annotations"] = {STICKY_ANNOTATION: text}
    expected = r"metadata\.annotations: expected header:NAME or cookie:NAME in the annotation mlops"
    with pytest.raises(InvalidManifestError, match=expected) as refused:
        parse(given)
    assert f"(got {text!r})" in str(refused.value)
    assert str(refused.value).endswith("Nothing was changed")


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("no predictors", manifest(), "Graph contains no predictors"),
    (
        "traffic below 100",
        manifest(predictor("a", traffic=50), predictor("b", traffic=40)),
        r"Traffic must sum to 100 for multiple predictors \(got 90\)",
    ),
    (
        "traffic over 100",
        manifest(predictor("a", traffic=100), predictor("b", traffic=40)),
        r"Traffic must sum to 100 for multiple predictors \(got 140\)",
    ),
    (
        "one with a part of the traffic",
        manifest(predictor(traffic=50)),
        r"Traffic must sum be 100 for a single predictor when set \(got 50\)",
    ),
    ("traffic of -1", manifest(predictor(traffic=-1)), "predictors.0.traffic: .*got -1"),
    ("traffic of 101", manifest(predictor(traffic=101)), "predictors.0.traffic: .*got 101"),
    ("a lone shadow", manifest(predictor(shadow=True)), "Shadow can not exist as only predictor"),
    (
        "two shadows",
        manifest(predictor("a"), predictor("b", shadow=True), predictor("c", shadow=True)),
        "Multiple shadows are not allowed",
    ),
    (
        "two of a name",
        manifest(predictor("a", traffic=50), predictor("a", traffic=50)),
        "Duplicate predictor name: a",
    ),
    ("no predictor name", manifest(without(predictor(), "name")), "predictors.0.name: required"),
    (
        "no graph name",
        manifest({"name": "a", "graph": without(GRAPH, "name")}),
        "graph.name: required",
    ),
    ("no graph", manifest(without(predictor(), "graph")), "predictors.0.graph: required value"),
    (
        "no implementation",
        manifest({"name": "a", "graph": without(GRAPH, "implementation")}),
        "graph.implementation: required value",
    ),
    (
        "an unknown implementation",
        manifest(predictor(graph={"implementation": "TRITON_SERVER"})),
        "implementation: .*'SKLEARN_SERVER' or 'TENSORFLOW_SERVER'",
    ),
    (
        "no modelUri",
        manifest({"name": "a", "graph": without(GRAPH, "modelUri")}),
        "Predictive unit modelUri required when using standalone servers",
    ),
    (
        "an empty modelUri",
        manifest(predictor(graph={"modelUri": ""})),
        "Predictive unit modelUri required when using standalone servers",
    ),
    ("a path", manifest(predictor(graph={"modelUri": "/a/b"})), "modelUri: .*s3://"),
    ("a bucket alone", manifest(predictor(graph={"modelUri": "s3://models"})), "modelUri: .*s3://"),
    (
        "children",
        manifest(predictor(graph={"children": [GRAPH]})),
        "children: graphs with children are not supported",
    ),
    (
        "a transformer",
        manifest(predictor(graph={"type": "TRANSFORMER"})),
        "graph.type: .*'MODEL'",
    ),
    (
        "a long graph name",
        manifest(predictor(graph={"name": "x" * 49})),
        "graph.name: .*at most 48",
    ),
    ("33 replicas", manifest(predictor(replicas=33)), "replicas: .*less than or equal to 32"),
    ("-1 replicas", manifest(predictor(replicas=-1)), "replicas: .*greater than or equal to 0"),
    (
        "what is not supported",
        manifest(predictor(componentSpecs=[containers(name="classifier", image="mine:1")])),
        "predictors.0.componentSpecs: is not supported by this project .*mlops-pipeline/cpu",
    ),
    (
        "a container of another name",
        manifest(predictor(componentSpecs=[containers(name="sidecar", resources={})])),
        "predictors.0.componentSpecs: is not supported by this project",
    ),
    (
        "a container's resources",
        manifest(
            predictor(
                componentSpecs=[containers(name="classifier", resources={"limits": {"cpu": 1}})]
            )
        ),
        "predictors.0.componentSpecs: is not supported by this project",
    ),
    (
        "component specifications of another type",
        manifest(predictor(componentSpecs=[1, {"spec": {"containers": [2]}}, {"spec": 3}])),
        "predictors.0.componentSpecs: is not supported by this project",
    ),
    (
        "only a prefix of a name",
        manifest(predictor()) | {"metadata": {"generateName": "iris-"}},
        "metadata.name: required value",
    ),
    *(
        (
            f"the model {uri}",
            manifest(predictor(graph={"modelUri": uri})),
            "modelUri: expected s3://<bucket>/<prefix> without `//` and the segments",
        )
        for uri in (
            "s3://models//iris/1",
            "s3://models/iris//1",
            "s3://models/iris/1//",
            "s3://models/./iris/1",
            "s3://models/iris/../1",
            "s3://models/iris/1/..",
            "s3://models/iris/./",
        )
    ),
    (
        "a container of one's own",
        manifest({"name": "a", "graph": {"name": "a", "type": "MODEL"}}),
        "graph.implementation: required value; supported: SKLEARN_SERVER, TENSORFLOW_SERVER, ",
    ),
    (
        "payloads to a logger",
        manifest(predictor(graph={"logger": {"mode": "all"}})),
        "graph.logger",
    ),
    ("a queue", manifest(predictor(), serverType="kafka"), "spec.serverType: is not supported"),
    (
        "another's endpoint",
        manifest(predictor(graph={"endpoint": {"service_host": "x"}})),
        "endpoi",
    ),
    ("a secret for TLS", manifest(predictor(ssl={"certSecretName": "x"})), "predictors.0.ssl"),
    (
        "a program of one's own that downloads",
        manifest(predictor(graph={"storageInitializerImage": "mine:1"})),
        "graph.storageInitializerImage: is not supported",
    ),
    (
        "a URI with a space",
        manifest(predictor(graph={"modelUri": "gs://seldon-models/sklearn iris"})),
        r"predictors.0.graph.modelUri: expected s3://.*got 'gs://seldon-models",
    ),
    ("an unknown protocol", manifest(predictor(), protocol="v3"), "spec.protocol: "),
    (
        "scikit-learn by TensorFlow's protocol",
        manifest(predictor(), protocol="tensorflow"),
        "Prepackaged server does not handle tensorflow protocol SKLEARN_SERVER",
    ),
    ("another kind", manifest(predictor()) | {"kind": "Deployment"}, "kind: "),
    ("another group", manifest(predictor()) | {"apiVersion": "apps/v1"}, "apiVersion: "),
    ("no metadata", without(manifest(predictor()), "metadata"), "metadata: required value"),
    ("no spec", without(manifest(predictor()), "spec"), "spec: required value"),
    (
        "a name that is none",
        manifest(predictor()) | {"metadata": {"name": "Iris_Model", "namespace": "seldon"}},
        "metadata.name: .*'Iris_Model'",
    ),
    (
        "a name with a path",
        manifest(predictor()) | {"metadata": {"name": "a/../b"}},
        "metadata.name: ",
    ),
    (
        "a long name",
        manifest(predictor()) | {"metadata": {"name": "x" * 64}},
        "metadata.name: .*at most 63",
    ),
    (
        "a parameter without value",
        manifest(predictor(graph={"parameters": [{"name": "method"}]})),
        "parameters.0.value: required value",
    ),
]


@pytest.mark.parametrize(
    ("given", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidManifestError, match=message):
        parse(given)


def test_every_reason_is_named_at_once() -> None:
    given = manifest(predictor(graph={"modelUri": "x", "implementation": "y"}), replicas=99)
    with pytest.raises(InvalidManifestError) as refused:
        parse(given)
    for part in ("modelUri", "implementation", "spec.replicas", "iris-model is invalid"):
        assert part in str(refused.value)


@pytest.mark.parametrize("given", [None, [], "text", 1])
def test_a_manifest_must_be_a_mapping(given: object) -> None:
    with pytest.raises(InvalidManifestError, match=r"\(a mapping\)"):
        parse(given)


def test_a_manifest_must_be_yaml() -> None:
    with pytest.raises(InvalidManifestError, match="is neither YAML nor JSON"):
        parse_manifests("a: [")


EXPORTED = """
apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: machinelearning.seldon.io/v1
  kind: SeldonDeployment
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"machinelearning.seldon.io/v1"}
      team: flowers
    creationTimestamp: "2026-01-01T00:00:00Z"
    generation: 2
    managedFields: [{manager: kubectl}]
    name: iris-model
    namespace: seldon
    resourceVersion: "1234"
    selfLink: /apis/x
    uid: 0a-1b
  spec:
    name: iris
    transport: rest
    serverType: rpc
    predictors:
    - componentSpecs:
      - metadata: {creationTimestamp: null}
        spec: {containers: []}
      engineResources: {}
      explainer: {containerSpec: {name: "", resources: {}}}
      svcOrchSpec: {}
      progressDeadlineSeconds: 600
      graph:
        children: []
        endpoint: {type: REST, service_host: localhost, service_port: 9000, httpPort: 9000}
        implementation: SKLEARN_SERVER
        logger: null
        methods: []
        modelUri: s3://models/iris/1
        name: classifier
        parameters: null
        storageInitializerImage: seldonio/rclone-storage-initializer:1.17.1
        type: MODEL
      labels: null
      name: default
      replicas: 1
      traffic: 100
  status: {state: Available, replicas: 1}
"""


def test_an_export_of_kubectl_is_accepted_without_its_empty_fields() -> None:
    (found,) = parse_manifests(EXPORTED).deployments
    assert found.metadata.annotations == {"team": "flowers"}
    assert found.to_manifest() == {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {
            "name": "iris-model",
            "namespace": "seldon",
            "annotations": {"team": "flowers"},
        },
        "spec": {
            "name": "iris",
            "predictors": [
                {
                    "name": "default",
                    "graph": {
                        "name": "classifier",
                        "implementation": "SKLEARN_SERVER",
                        "modelUri": "s3://models/iris/1",
                        "type": "MODEL",
                        "children": [],
                    },
                    "replicas": 1,
                    "traffic": 100,
                }
            ],
        },
    }


PASSED_OVER = """
apiVersion: machinelearning.seldon.io/v1
kind: SeldonDeployment
metadata:
  annotations: {deployed: 2024-01-01, at: 2024-01-01T10:00:00Z}
  deletionGracePeriodSeconds: 30
  deletionTimestamp: 2024-01-01T00:00:00Z
  finalizers: [x/y]
  generateName: iris-
  labels: {since: 2024-01-01}
  name: iris-model
  namespace: ""
  ownerReferences: [{kind: Application, name: a}]
spec:
  oauth_key: a
  oauth_secret: b
  predictors:
  - componentSpecs:
    - metadata: {creationTimestamp: null}
      spec: {containers: [{name: classifier, resources: {}}]}
    graph: {implementation: SKLEARN_SERVER, modelUri: s3://models/iris/1/, name: classifier}
    name: default
"""


def test_what_has_no_effect_is_passed_over_and_dates_are_text() -> None:
    (found,) = parse_manifests(PASSED_OVER).deployments
    assert found.to_manifest() == {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {
            "name": "iris-model",
            "namespace": "default",
            "annotations": {"deployed": "2024-01-01", "at": "2024-01-01T10:00:00Z"},
            "labels": {"since": "2024-01-01"},
        },
        "spec": {
            "predictors": [
                {
                    "name": "default",
                    "graph": {
                        "name": "classifier",
                        "implementation": "SKLEARN_SERVER",
                        "modelUri": "s3://models/iris/1/",
                    },
                }
            ],
        },
    }


@pytest.mark.parametrize(
    "text",
    [
        100_000 * "[",
        "a: " + 3000 * "[" + 3000 * "]",
        "a: &a [*a]",
        '{"kind": "SeldonDeployment", "more": ' + 900 * "[" + 900 * "]" + "}",
        "kind: SeldonDeployment\nmore: &a [*a]",
    ],
    ids=["JSON", "YAML", "itself", "an unknown field", "an unknown field in itself"],
)
def test_what_is_nested_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(InvalidManifestError, match=r"is nested too deeply; .*Nothing was changed"):
        parse_manifests(text)


def test_documents_are_parsed_in_order_and_others_are_named() -> None:
    first, second = (
        yaml.safe_dump(manifest(predictor()) | {"metadata": {"name": name}}) for name in "ab"
    )
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n"
    found = parse_manifests("---\n".join(["", first, secret, second, "# nothing\n"]))
    assert [d.name for d in found.deployments] == ["a", "b"]
    assert found.others == ("Secret keys",)


def test_one_refused_document_refuses_the_file() -> None:
    good = yaml.safe_dump(manifest(predictor()))
    bad = [yaml.safe_dump(manifest(predictor(replicas=count))) for count in (33, -1)]
    with pytest.raises(InvalidManifestError) as refused:
        parse_manifests("---\n".join([good, *bad]))
    assert "got 33" in str(refused.value)
    assert "got -1" in str(refused.value)


def test_json_with_tabs_is_accepted() -> None:
    text = json.dumps(manifest(predictor()), indent="\t")
    assert parse_manifests(text).deployments[0].name == "iris-model"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected a SeldonDeployment in the manifest, found nothing"),
        ("kind: Secret\nmetadata: {name: keys}", "found Secret keys"),
        ("just words", r"\(a mapping\), got str"),
        ("kind: List\nitems: 7", "expected a list in `items`"),
    ],
)
def test_a_file_without_a_deployment_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidManifestError, match=complaint):
        parse_manifests(text)


def _shares(deployment: SeldonDeployment) -> list[tuple[str, int]]:
    return [(p.name, 0 if p.shadow else p.traffic) for p in deployment.spec.predictors]


@pytest.mark.parametrize(
    ("there", "wanted", "steps"),
    [
        # A share that changes, a shadow that comes: nothing in between.
        ({"a": 100}, {"a": 100}, []),
        ({"a": 50, "b": 50}, {"a": 90, "b": 10}, []),
        ({"a": 100}, {"a": 100, "s": None}, []),
        # What comes has no traffic first, what goes has none last, and who is there stays in front.
        ({"a": 100}, {"a": 75, "b": 25}, [[("a", 100), ("b", 0)]]),
        ({"a": 100}, {"b": 25, "a": 75}, [[("a", 100), ("b", 0)]]),
        ({"a": 75, "b": 25}, {"a": 100}, [[("a", 100), ("b", 0)]]),
        ({"a": 100}, {"b": 100}, [[("a", 100), ("b", 0)], [("a", 0), ("b", 100)]]),
        (
            {"a": 60, "b": 30, "c": 10},
            {"d": 50, "c": 50},
            [
                [("a", 60), ("b", 30), ("c", 10), ("d", 0)],
                [("a", 0), ("b", 0), ("c", 50), ("d", 50)],
            ],
        ),
        # A shadow that becomes live is new to the traffic.
        ({"a": 100, "s": None}, {"a": 50, "s": 50}, [[("a", 100), ("s", 0)]]),
    ],
)
def test_intermediate_steps_send_no_traffic_to_unready_predictors(
    there: dict[str, int | None],
    wanted: dict[str, int | None],
    steps: list[list[tuple[str, int]]],
) -> None:
    def made(shares: dict[str, int | None]) -> SeldonDeployment:
        more = [{"shadow": True} if s is None else {"traffic": s} for s in shares.values()]
        return parse(manifest(*(predictor(n, **m) for n, m in zip(shares, more, strict=True))))

    before = made(there)
    assert [_shares(step) for step in between(before, made(wanted), before.traffic())] == steps
