"""A forwarder before a model's server that is good, slow, broken or not there."""

import asyncio
import functools
import json
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from mlops_pipeline.serving import pod, unit_header
from mlops_pipeline.serving.asgi import ANSWERING, Message, Scope
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.forwarding import run as forwarding
from mlops_pipeline.serving.forwarding.calls import CallForwarder
from mlops_pipeline.serving.forwarding.rest import RestForwarder
from mlops_pipeline.serving.forwarding.target import Target
from mlops_pipeline.serving.forwarding.upstream import Upstream
from mlops_pipeline.serving.grpc_port import bound_server
from mlops_pipeline_tests.serving.servers import free_ports

SAID = unit_header.write(image="unit:1", predictor="default", parameters="[]")
OK = (
    b"HTTP/1.1 200 OK\r\nx-model-digest: abc\r\n"
    b"connection: keep-alive\r\ncontent-length: 2\r\n\r\n{}"
)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_opened: list[Any] = []
"""What the test that runs has to close: servers, connections, pools of them."""


def run_async(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    async def bounded(*arguments: Any, **options: Any) -> None:
        try:
            await asyncio.wait_for(test(*arguments, **options), 20)
        finally:
            while _opened:
                _opened.pop().close()
            await asyncio.sleep(0.01)

    @functools.wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        asyncio.run(bounded(*arguments, **options))

    return run


async def listen(handler: Handler) -> int:
    """Serve with the handler until the test ends, and return the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _opened.append(writer)
        await handler(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    _opened.append(server)
    port: int = server.sockets[0].getsockname()[1]
    return port


@dataclass
class Model:
    """A server in this process that keeps what it is sent, and answers from a list."""

    answers: list[bytes]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while request := await _read_request(reader):
            self.requests.append(request)
            answer = self.answers.pop(0) if self.answers else OK
            if not answer:
                break
            writer.write(answer)
            await writer.drain()
        writer.close()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    if lengths:
        return head + await reader.readexactly(int(lengths[0].split(b":")[1]))
    if b"transfer-encoding: chunked" in head:
        return head + await reader.readuntil(b"0\r\n\r\n")
    return head


async def a_model(*answers: bytes) -> Model:
    model = Model(list(answers))
    model.port = await listen(model.serve)
    return model


def a_target(port: int, grpc_port: int = 0) -> Target:
    return Target("127.0.0.1", port, f"127.0.0.1:{grpc_port}", SAID)


def a_forwarder(port: int, *, seconds: float = 5) -> RestForwarder:
    upstream = Upstream(a_target(port), seconds=seconds)
    _opened.append(upstream)
    return RestForwarder(upstream, SAID)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def ask(
    forwarder: RestForwarder,
    path: str = "/predict",
    *chunks: bytes,
    method: str = "POST",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    query: bytes = b"",
    broken_off: bool = False,
) -> Reply | None:
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks or (b"",)
    ]
    messages[-1]["more_body"] = broken_off
    messages.append({"type": "http.disconnect"})
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": list(headers),
    }
    await forwarder(scope, receive, send)
    if not sent:
        return None
    return Reply(sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"])


async def reply(*arguments: Any, **options: Any) -> Reply:
    answered = await ask(*arguments, **options)
    assert answered is not None
    return answered


@run_async
async def test_a_request_and_its_answer_go_through_as_they_are() -> None:
    headers = ((b"content-type", b"application/json"), (b"seldon-puid", b"p"), (b"te", b"x"))
    model = await a_model()
    forwarder = a_forwarder(model.port)
    answered = await reply(forwarder, "/predict", b"{1}", headers=headers, query=b"a=b")
    again = await reply(forwarder, "/metadata", method="GET")
    assert (answered.status, answered.body, again.body) == (200, b"{}", b"{}")
    assert answered.headers == {b"x-model-digest": b"abc", b"content-length": b"2"}
    first, second = model.requests
    head, _, body = first.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /predict?a=b HTTP/1.1\r\n")
    assert body == b"{1}"
    assert {b"content-type: application/json", b"seldon-puid: p", b"content-length: 3"} <= set(
        head.split(b"\r\n")
    )
    assert b"\r\nte:" not in head
    assert second.startswith(b"GET /metadata HTTP/1.1\r\n")
    assert b"content-length" not in second
    assert model.connections == 1


@run_async
async def test_only_the_forwarder_sets_the_unit_header() -> None:
    model = await a_model()
    theirs = ((unit_header.HEADER.encode(), b"other"),)
    await reply(a_forwarder(model.port), "/predict", b"{}", headers=theirs)
    (request,) = model.requests
    assert request.count(unit_header.HEADER.encode()) == 1
    assert SAID.encode() in request


@run_async
async def test_a_head_is_asked_by_get() -> None:
    model = await a_model()
    assert (await reply(a_forwarder(model.port), "/ready", method="HEAD")).status == 200
    assert model.requests[0].startswith(b"GET /ready ")


@run_async
async def test_a_large_body_goes_through_piece_by_piece() -> None:
    pieces = [b"x" * 300_000] * 20
    length = ((b"content-length", b"6000000"),)
    model = await a_model()
    forwarder = a_forwarder(model.port)
    assert (await reply(forwarder, "/predict", *pieces, headers=length)).status == 200
    assert (await reply(forwarder, "/predict", b"", *pieces[:2], b"")).status == 200
    known, unknown = (request.partition(b"\r\n\r\n")[2] for request in model.requests)
    assert known == b"x" * 6_000_000
    assert unknown == b"493e0\r\n%s\r\n" % pieces[0] * 2 + b"0\r\n\r\n"


@run_async
async def test_an_answer_before_the_whole_body_came_is_passed_on() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 408 Late\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()

    forwarder = a_forwarder(await listen(refuse))
    pieces = [b"x" * 100_000] * 100
    length = ((b"content-length", b"10000000"),)
    answered = await reply(forwarder, "/predict", *pieces, headers=length)
    assert answered.status in (408, 503)  # 503: the connection was closed before it was read.


@run_async
async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    model = await a_model()
    forwarder = a_forwarder(model.port)
    length = ((b"content-length", b"100"),)
    assert await ask(forwarder, "/predict", b"x", headers=length, broken_off=True) is None
    assert (await reply(forwarder, "/predict", b"{}")).status == 200
    assert model.connections == 2


@run_async
async def test_the_server_learns_that_a_client_left() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        asked.set()
        assert await reader.read() == b""
        gone.set()

    scope: Scope = {
        **{"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict"},
        **{"query_string": b"", "headers": []},
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    answering = asyncio.ensure_future(a_forwarder(await listen(slow))(scope, receive, send))
    await asked.wait()
    assert scope[ANSWERING] is answering
    scope[ANSWERING].cancel()
    await answering
    await gone.wait()


@pytest.mark.parametrize(
    ("path", "words"),
    [("/api/v1.0/predictions", "status"), ("/v2/models/x/infer", "error"), ("/ready", "status")],
)
@run_async
async def test_a_server_that_is_down_is_reported_in_the_protocols_format(
    path: str, words: str
) -> None:
    port, _ = free_ports()
    answered = await reply(a_forwarder(port), path, b"{}")
    assert answered.status == 503
    document = json.loads(answered.body)
    assert f"the model's server at 127.0.0.1:{port} cannot be reached" in str(document[words])
    if words == "status":
        assert (document["status"]["reason"], document["status"]["code"]) == ("UNREACHABLE", 503)


@run_async
async def test_a_forwarder_lives_without_the_models_server() -> None:
    port, _ = free_ports()
    forwarder = a_forwarder(port)
    assert (await reply(forwarder, "/health/ping", method="GET")).body == b"pong"
    assert (await reply(forwarder, "/v2/health/live", method="GET")).status == 200
    assert (await reply(forwarder, "/v2/health/ready", method="GET")).status == 503


@run_async
async def test_a_server_that_does_not_answer_is_waited_for_in_bounds() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    answered = await reply(a_forwarder(await listen(silent), seconds=0.2), "/predict", b"{}")
    assert answered.status == 504
    assert json.loads(answered.body)["status"]["reason"] == "TIMEOUT"


async def reply_to_a_large_request(forwarder: RestForwarder) -> Reply:
    """Return the reply to more than sockets hold; it has to come within 5 seconds."""
    length = ((b"content-length", b"20000000"),)
    asking = reply(forwarder, "/predict", *[b"x" * 100_000] * 200, headers=length)
    return await asyncio.wait_for(asking, 5)


@run_async
async def test_a_server_that_stops_reading_is_waited_for_in_bounds() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(10)

    forwarder = a_forwarder(await listen(deaf), seconds=0.2)
    answered = await reply_to_a_large_request(forwarder)
    assert answered.status == 504
    assert json.loads(answered.body)["status"]["reason"] == "TIMEOUT"


@run_async
async def test_an_answer_is_passed_on_at_once_by_a_server_that_reads_no_further() -> None:
    connections = []

    async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)  # By now the forwarder waits for room.
        writer.write(b"HTTP/1.1 413 Large\r\ncontent-length: 0\r\n\r\n")
        await asyncio.sleep(10)

    forwarder = a_forwarder(await listen(full), seconds=10)
    answered = await reply_to_a_large_request(forwarder)
    assert answered.status == 413
    assert (await reply(forwarder, "/predict", b"{}")).status == 413
    assert len(connections) == 2  # On the first it would be the rest of the large body.


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"],
    ids=["closed", "no HTTP", "half"],
)
@run_async
async def test_an_answer_that_is_none_is_a_503(answer: bytes) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        writer.write(answer)
        writer.close()

    assert (await reply(a_forwarder(await listen(once)), "/predict", b"{}")).status == 503


@run_async
async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    model = await a_model(OK, b"", OK)
    forwarder = a_forwarder(model.port)
    for _ in range(2):
        assert (await reply(forwarder, "/predict", b"{}")).status == 200
    assert model.connections == 2
    assert len(model.requests) == 3  # The second came twice: it changes nothing.


@run_async
async def test_an_answer_without_a_request_is_discarded() -> None:
    model = await a_model(OK + OK)
    forwarder = a_forwarder(model.port)
    for _ in range(2):
        assert (await reply(forwarder, "/predict", b"{}")).status == 200
    assert model.connections == 2


# Over gRPC


class Behind(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers with what it was told and sent; refuses one method."""

    def service(self, handler_call_details: Any) -> Any:
        async def call(_: object, context: Any) -> bytes:
            if handler_call_details.method == "/x/Refused":
                await context.abort(grpc.StatusCode.NOT_FOUND, "there is none")
            content = await context.read()
            told = dict(context.invocation_metadata())[unit_header.HEADER]
            return f"{told} {content!r}".encode()

        return grpc.stream_unary_rpc_method_handler(call)


async def serve_calls(handler: Any, port: int = 0) -> tuple[Any, int]:
    server, taken = bound_server([handler], host="127.0.0.1", port=port, max_message_bytes=1 << 20)
    await server.start()
    return server, taken


async def grpc_answer(call: Awaitable[bytes]) -> bytes | tuple[Any, str]:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        return error.code(), str(error.details())


@run_async
async def test_calls_are_forwarded_with_the_units_configuration() -> None:
    behind, port = await serve_calls(Behind())
    calls = CallForwarder(a_target(0, port), seconds=5)
    front, front_port = await serve_calls(calls)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{front_port}") as channel:
        whole = await grpc_answer(channel.unary_unary("/x/Any")(b"abc", timeout=5))
        assert whole == f"{SAID} {b'abc'!r}".encode()
        empty = await grpc_answer(channel.stream_unary("/x/Any")(iter(()), timeout=5))
        assert b"EOF" in empty
        refused = await grpc_answer(channel.unary_unary("/x/Refused")(b"", timeout=5))
        assert refused == (grpc.StatusCode.NOT_FOUND, "there is none")
        large = await grpc_answer(channel.unary_unary("/x/Any")(b"x" * (1 << 21), timeout=5))
        assert large[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        await behind.stop(None)
        down = await grpc_answer(channel.unary_unary("/x/Any")(b"abc", timeout=5))
        assert down[0] is grpc.StatusCode.UNAVAILABLE
        assert f"127.0.0.1:{port} cannot be reached" in str(down[1])
        behind, _ = await serve_calls(Behind(), port)
        while await grpc_answer(channel.unary_unary("/x/Any")(b"abc", timeout=5)) != whole:
            await asyncio.sleep(0.05)
    await front.stop(None)
    await calls.close()
    await behind.stop(None)


@run_async
async def test_a_call_that_is_not_answered_ends() -> None:
    class Silent(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            async def call(_: object, context: Any) -> bytes:
                await asyncio.sleep(30)
                return b""

            return grpc.stream_unary_rpc_method_handler(call)

    behind, port = await serve_calls(Silent())
    calls = CallForwarder(a_target(0, port), seconds=0.2)
    front, front_port = await serve_calls(calls)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{front_port}") as channel:
        late = await grpc_answer(channel.unary_unary("/x/Any")(b"abc", timeout=5))
    assert late[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    await front.stop(None)
    await calls.close()
    await behind.stop(None)


# Start and stop


def settings(http_port: int) -> Any:
    ports = {
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(http_port),
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": "0",
        "MLSERVER_HOST": "127.0.0.1",
    }
    return pod.settings_of(pod.TensorFlowArguments(None, None, None, None), ports)


LOADING = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@run_async
async def test_ports_open_when_the_models_server_is_ready() -> None:
    port, _ = free_ports()
    model = await a_model(LOADING, LOADING)
    forwarder = forwarding.Forwarder(settings(port), a_target(model.port), 0.0)
    running = asyncio.ensure_future(forwarder.run())
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    while not running.done():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            break
    assert len(model.requests) == 3
    assert all(SAID.encode() in request for request in model.requests)
    signal.raise_signal(signal.SIGTERM)
    await running


@run_async
async def test_a_stop_while_waiting_ends_at_once() -> None:
    port, other = free_ports()
    forwarder = forwarding.Forwarder(settings(port), a_target(other), 0.0)
    running = asyncio.ensure_future(forwarder.run())
    await asyncio.sleep(0.05)
    signal.raise_signal(signal.SIGTERM)
    await running


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"status":{"info":"there is no signature x"}}', "there is no signature x."),
        (b"[]", "refuses this unit"),
    ],
)
@run_async
async def test_a_unit_that_the_model_does_not_have_ends_the_forwarder(
    body: bytes, sentence: str
) -> None:
    refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    model = await a_model(refusal)
    forwarder = forwarding.Forwarder(settings(0), a_target(model.port), 0.0)
    with pytest.raises(StartError, match=sentence) as caught:
        await forwarder.run()
    assert caught.value.code == ExitCode.SETTINGS


@run_async
async def test_an_address_that_swallows_connections_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlops_pipeline.serving.forwarding import upstream

    async def never(*_: object) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(upstream, "CONNECT_SECONDS", 0.05)
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
    with pytest.raises(RequestError, match=r"no connection in 0\.05 s") as caught:
        await Upstream(a_target(1), seconds=5).ask(b"", b"")
    assert caught.value.status == 503
