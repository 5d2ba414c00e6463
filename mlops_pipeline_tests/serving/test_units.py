"""Units that a forwarder speaks for, on one model."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from mlops_pipeline.serving import routes, unit_header, units
from mlops_pipeline.serving.app import App
from mlops_pipeline.serving.asgi import Message, Scope
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.memory import LargeRequests
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline_tests.serving import servers
from mlops_pipeline_tests.serving.toy_model import toy_unit


def said(**parameters: str) -> str:
    return unit_header.write(
        image="unit:1", predictor="canary", parameters=servers.parameters(**parameters)
    )


def test_what_is_written_is_read() -> None:
    told = unit_header.read(said(method="predict"))
    assert (told.image, told.predictor) == ("unit:1", "canary")
    assert told.parameters == {"method": "predict"}


def test_what_is_written_is_ascii() -> None:
    assert unit_header.write(image="ä:1", predictor="ü", parameters="[]").isascii()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "{}", '{"image":"a","predictor":"b","parameters":"{"}']
)
def test_what_nobody_writes_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=unit_header.HEADER) as caught:
        unit_header.read(text)
    assert caught.value.status == 400


def test_a_unit_has_its_own_parameters_image_and_predictor() -> None:
    unit = units.unit_of(toy_unit(), said(output="label"))
    assert (unit.image, unit.predictor) == ("unit:1", "canary")
    assert unit.model.default.default_outputs == ("label",)
    assert unit.model.signatures["serving_default"] is unit.model.default
    assert toy_unit().model.default.default_outputs == ("scores",)


def test_a_unit_that_asks_for_what_the_model_has_not_is_refused() -> None:
    with pytest.raises(RequestError, match="The parameter output is 'x'") as caught:
        units.unit_of(toy_unit(), said(output="x"))
    assert (caught.value.reason, caught.value.status) == ("WRONG_PARAMETER", 400)


def test_only_the_last_units_are_kept() -> None:
    made: list[str] = []

    def make(text: str) -> str:
        made.append(text)
        return text

    kept = units.Kept(make)
    for number in range(units.MOST + 1):
        assert kept[str(number)] == kept[str(number)] == str(number)
    assert len(kept) == units.MOST
    assert kept["0"] == "0"
    assert made == [*map(str, range(units.MOST + 1)), "0"]


def an_app(unit: Unit | None = None, error: RequestError | None = None) -> App:
    app = App(
        {},
        missing=routes.refusing(error) if error else routes.missing(toy_unit()),
        max_body_bytes=1 << 20,
        large=LargeRequests(),
    )
    if unit:
        app.serve(
            routes.routes_of(unit, Metrics(CollectorRegistry())), missing=routes.missing(unit)
        )
    return app


def ask(app: units.AppOfUnits, path: str, header: str = "", method: str = "POST") -> Message:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"data":{"ndarray":[[1,2,3,4]]}}'}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(unit_header.HEADER.encode(), header.encode())] if header else []
    scope: Scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(app(scope, receive, send))
    return {**sent[0], **sent[1]}


def test_each_request_is_answered_by_the_unit_that_it_speaks_of() -> None:
    unit = toy_unit()
    app = units.AppOfUnits(an_app(unit), lambda text: an_app(units.unit_of(unit, text)))
    assert b"10.0,-10.0" in ask(app, "/api/v1.0/predictions")["body"]
    answered = ask(app, "/api/v1.0/predictions", said(output="label"))
    assert b'"ndarray":[1]' in answered["body"]
    assert b'"requestPath":{"classifier":"unit:1"}' in answered["body"]


@pytest.mark.parametrize(
    ("path", "words"),
    [("/ready", b"FAILURE"), ("/v2/health/ready", b'{"error"'), ("/v1/models/x", b'{"error"')],
)
def test_an_impossible_unit_refuses_every_path_in_its_format(path: str, words: bytes) -> None:
    refused = RequestError("WRONG_PARAMETER", "there is no such thing")
    app = units.AppOfUnits(an_app(toy_unit()), lambda _: an_app(error=refused))
    for method in ("GET", "HEAD", "POST"):
        answered = ask(app, path, said(), method=method)
        assert answered["status"] == 400
        assert words in answered["body"]
        assert b"there is no such thing" in answered["body"]
