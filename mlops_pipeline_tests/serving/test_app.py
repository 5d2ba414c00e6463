import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any
from urllib.parse import urljoin

import pytest
from prometheus_client import CollectorRegistry

from mlops_pipeline.serving import routes
from mlops_pipeline.serving.app import App
from mlops_pipeline.serving.asgi import Message
from mlops_pipeline.serving.memory import LargeRequests
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline_tests.serving.toy_model import toy_unit

GOOD = b'{"data":{"ndarray":[[1,2,3,4]]}}'
UNIT = toy_unit()


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Recorder:
    sent: list[Message] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        self.sent.append(message)


def an_app(
    *, loaded: bool = True, max_body_bytes: int = 1 << 20, large: LargeRequests | None = None
) -> App:
    metrics = Metrics(CollectorRegistry())
    app = App(
        routes.routes_while_loading(metrics),
        missing=routes.missing_while_loading,
        max_body_bytes=max_body_bytes,
        large=large or LargeRequests(),
    )
    if loaded:
        app.headers = [(b"x-model-digest", UNIT.model.digest.encode())]
        app.serve(routes.routes_of(UNIT, metrics), missing=routes.missing(UNIT))
    return app


def call(
    app: App,
    method: str,
    path: str,
    *chunks: bytes,
    headers: Sequence[tuple[bytes, bytes]] = (),
    broken_off: bool = False,
) -> Reply | None:
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks or (b"",)
    ]
    messages[-1]["more_body"] = broken_off
    messages.append({"type": "http.disconnect"})
    recorder = Recorder()

    async def receive() -> Message:
        return messages.pop(0)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(app(scope, receive, recorder))
    if not recorder.sent:
        return None
    start, body = recorder.sent
    return Reply(start["status"], dict(start["headers"]), body["body"])


def reply(app: App, method: str, path: str, *chunks: bytes, **options: Any) -> Reply:
    answered = call(app, method, path, *chunks, **options)
    assert answered is not None
    assert int(answered.headers.get(b"content-length", len(answered.body))) == len(answered.body)
    return answered


PREDICTIONS = [
    ("/api/v1.0/predictions", GOOD),
    ("/api/v0.1/predictions", GOOD),
    ("/predict", GOOD),
    ("/v1/models/classifier:predict", b'{"instances":[[1,2,3,4]]}'),
    (f"/v1/models/classifier/versions/{UNIT.model.version}:predict", b'{"inputs":[[1,2,3,4]]}'),
    ("/v1/models/classifier/versions/1:predict", b'{"inputs":[[1,2,3,4]]}'),
    (
        "/v2/models/classifier/infer",
        b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,4]}]}',
    ),
    (
        "/v2/models/classifier/versions/1/infer",
        b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,4]}]}',
    ),
]


@pytest.mark.parametrize(("path", "body"), PREDICTIONS)
def test_every_prediction_carries_the_digest(path: str, body: bytes) -> None:
    answered = reply(an_app(), "POST", path, body)
    assert answered.status == 200
    assert answered.headers[b"x-model-digest"] == UNIT.model.digest.encode()
    assert b"10.0" in answered.body


@pytest.mark.parametrize(("path", "body"), PREDICTIONS)
def test_every_protocol_refuses_garbage_in_its_own_format(path: str, body: bytes) -> None:
    answered = reply(an_app(), "POST", path, body[:-3])
    assert answered.status == 400
    document = answered.json
    assert (
        document["status"]["info"] if "/api/" in path or path == "/predict" else document["error"]
    )


@pytest.mark.parametrize(
    "path",
    [
        *("/ready", "/live", "/health/ping", "/health/status", "/metadata", "/metrics"),
        *("/prometheus", "/api/v1.0/health/status", "/api/v1.0/health/ping", "/api/v1.0/status"),
        *("/api/v1.0/metadata", "/api/v1.0/metadata/classifier", "/api/v1.0/doc/"),
        *("/api/v1.0/doc/seldon.json", "/seldon.json"),
        *("/api/v1.0/doc/openapi.json", "/api/v1.0/doc/swagger-ui.css", "/v2/docs"),
        *("/v2/health/ready", "/v2/health/live", "/v2/models/classifier/ready"),
        *("/v1/models/classifier", "/v1/models/classifier/metadata"),
    ],
)
def test_reading_routes_answer(path: str) -> None:
    assert reply(an_app(), "GET", path).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1.0/predictions", 405),
        ("DELETE", "/v2/models/classifier/infer", 405),
        ("POST", "/ready", 405),
        ("PUT", "/v2", 405),
        ("DELETE", "/v2/models/classifier", 405),
        ("GET", "/", 404),
        ("GET", "", 404),
        ("POST", "/api/v1.0/nothing", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v1/models/other:predict", 404),
        ("POST", "/v2/repository/models/classifier/unload", 400),
        ("GET", "/api/v1.0/doc/../../../etc/passwd", 404),
    ],
)
def test_what_is_not_there_is_refused(method: str, path: str, status: int) -> None:
    answered = reply(an_app(), method, path)
    assert answered.status == status
    assert answered.json
    assert (b"allow" in answered.headers) == (status == 405)


def test_v2_describes_the_server_and_the_model() -> None:
    app = an_app()
    assert reply(app, "GET", "/v2").json == {
        "name": "mlops-pipeline",
        "version": metadata.version("mlops-pipeline"),
        "extensions": ["binary_tensor_data"],
    }
    plain = "/v2/models/classifier"
    for path in (plain, f"{plain}/versions/{UNIT.model.digest}"):
        assert reply(app, "GET", path).json == {
            "name": "classifier",
            "versions": [UNIT.model.digest],
            "platform": "sklearn",
            "inputs": [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}],
            "outputs": [{"name": "scores", "datatype": "FP64", "shape": [-1, 2]}],
            "parameters": {},
        }


def test_the_index_has_the_only_model() -> None:
    (entry,) = reply(an_app(), "POST", "/v2/repository/index", b'{"ready": true}').json
    assert entry == {
        "name": "classifier",
        "version": UNIT.model.digest,
        "state": "READY",
        "reason": "",
    }
    assert reply(an_app(), "POST", "/v2/repository/index").json == [entry]
    refused = reply(an_app(), "POST", "/v2/repository/index", b'{"repository_name": "other"}')
    assert refused.status == 400
    assert "no repository 'other'" in refused.json["error"]


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_model_cannot_be_loaded_or_unloaded(verb: str) -> None:
    refused = reply(an_app(), "POST", f"/v2/repository/models/classifier/{verb}")
    assert (refused.status, refused.json) == (
        400,
        {"error": "this server always has the same model"},
    )


def test_tf_serving_answers_the_number_of_the_version_that_was_asked() -> None:
    numbers = {"": UNIT.model.version, "/versions/1": 1}
    numbers[f"/versions/{UNIT.model.version}"] = UNIT.model.version
    for path, number in numbers.items():
        status = reply(an_app(), "GET", f"/v1/models/classifier{path}").json
        assert [one["version"] for one in status["model_version_status"]] == [str(number)]
        metadata_ = reply(an_app(), "GET", f"/v1/models/classifier{path}/metadata").json
        assert metadata_["model_spec"]["version"] == str(number)


def test_another_folder_of_the_artifact_is_named() -> None:
    unit = toy_unit(replace(UNIT.model, number=3, unserved=(1, 2)))
    find = routes.missing(unit)
    app = App({}, missing=find, max_body_bytes=100, large=LargeRequests())
    answered = reply(app, "POST", "/v1/models/classifier/versions/2:predict")
    assert answered.status == 404
    assert "the version 2 of 'classifier' is in the artifact, but only the highest one, 3" in (
        answered.body.decode()
    )


@pytest.mark.parametrize(
    "path", ["/api/v1.0/doc/openapi.json", "/seldon.json", "/v2/docs/dataplane.json"]
)
def test_the_document_says_where_its_paths_begin(path: str) -> None:
    document = reply(an_app(), "GET", path).json
    assert "/v2/models/classifier" in document["paths"]
    place = f"http://gateway/seldon/ns/name{path}"
    assert urljoin(place, document["servers"][0]["url"]) == "http://gateway/seldon/ns/name/"


@pytest.mark.parametrize(
    ("method", "path", "sentence"),
    [
        (
            "POST",
            "/v1/models/mnist:predict",
            "no model 'mnist' on this server; the model's name is 'class",
        ),
        (
            "GET",
            "/v1/models/mnist",
            "no model 'mnist' on this server; the model's name is 'classifier'",
        ),
        ("GET", "/v1/models/mnist/metadata", "the model's name is 'classifier'"),
        (
            "POST",
            "/v2/models/iris/infer",
            "no model 'iris' on this server; the model's name is 'classifier'",
        ),
        (
            "GET",
            "/v2/models/iris",
            "no model 'iris' on this server; the model's name is 'classifier'",
        ),
        ("GET", "/v2/models/iris/ready", "the model's name is 'classifier'"),
        ("GET", "/api/v1.0/metadata/iris", "the model's name is 'classifier'"),
        ("POST", "/v2/models/classifier/versions/3/infer", "no version '3' of 'classifier' on"),
        ("POST", "/v1/models/classifier/versions/3:predict", "no version '3' of 'classifier' on"),
        ("POST", "/v1/models/classifier/labels/stable:predict", "the label 'stable': this server"),
    ],
)
def test_a_request_for_another_model_is_answered_with_the_right_name(
    method: str, path: str, sentence: str
) -> None:
    answered = reply(an_app(), method, path)
    assert answered.status == 404
    assert sentence in answered.body.decode()


def test_while_loading_it_is_alive_and_not_ready() -> None:
    app = an_app(loaded=False)
    assert reply(app, "GET", "/health/ping").body == b"pong"
    for path in ("/ready", "/v2/health/ready", "/api/v1.0/health/status", "/v1/models/classifier"):
        assert reply(app, "GET", path).status == 503
    assert reply(app, "POST", "/api/v1.0/predictions", GOOD).json["status"]["reason"] == "LOADING"


def test_a_body_may_come_in_pieces() -> None:
    assert reply(an_app(), "POST", "/predict", GOOD[:5], GOOD[5:9], GOOD[9:]).status == 200


def test_a_large_body_is_answered_too() -> None:
    rows = b",".join([b"[1,2,3,4]"] * 20_000)
    answered = reply(an_app(), "POST", "/predict", b'{"data":{"ndarray":[' + rows + b"]}}")
    assert len(answered.json["data"]["ndarray"]) == 20_000


def test_a_body_that_is_too_large_is_refused_announced_or_not() -> None:
    app = an_app(max_body_bytes=100)
    announced = [(b"content-length", b"101")]
    for chunks, headers in (((GOOD,), announced), ((GOOD, b" " * 100), []), ((b" " * 101,), [])):
        answered = reply(app, "POST", "/predict", *chunks, headers=headers)
        assert (answered.status, answered.json["status"]["reason"]) == (400, "TOO_LARGE")
    assert reply(app, "POST", "/predict", GOOD).status == 200


def test_too_many_large_bodies_are_refused_for_a_retry() -> None:
    large = LargeRequests(limit=100)
    large.take(90)
    answered = reply(an_app(large=large), "POST", "/predict", GOOD[:20], GOOD[20:])
    assert (answered.status, answered.json["status"]["reason"]) == (429, "TOO_BUSY")
    assert large.size == 90


def test_a_broken_off_upload_gets_no_answer_and_does_no_harm() -> None:
    app = an_app()
    assert call(app, "POST", "/predict", GOOD[:5], GOOD[5:9], broken_off=True) is None
    assert reply(app, "POST", "/predict", GOOD).status == 200


def test_a_compressed_body_is_refused() -> None:
    headers = [(b"content-encoding", b"gzip")]
    answered = reply(an_app(), "POST", "/predict", GOOD, headers=headers)
    assert answered.json["status"]["reason"] == "WRONG_ENCODING"


def test_metrics_count_predictions_and_refusals() -> None:
    app = an_app()
    reply(app, "POST", "/predict", GOOD)
    reply(app, "POST", "/predict", b"{}")
    text = reply(app, "GET", "/metrics").body.decode()
    assert 'mlops_prediction_seconds_count{protocol="seldon"} 1.0' in text
    assert 'mlops_refused_predictions_total{protocol="seldon",reason="NO_DATA"} 1.0' in text
