"""Requests that nobody should send, through the gateway to the real Iris and MNIST servers.

Nothing is answered by an error of the server, nothing hangs, no process ends, memory comes back,
and the next good request is answered right. `make fuzz` sends 10,000; `make test` a part of them.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tritonclient.grpc import service_pb2 as v2

from mlops_pipeline.clients import running
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded.programs import MARK
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline_tests.command_line import ODD_FLOWER, CommandLine
from mlops_pipeline_tests.embedded import generated

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "2000"))
DEADLINE = 10.0
"""Seconds for any one answer, on a machine that is busy with other things."""
GROWTH = 128 << 20
"""Bytes by which a process may have grown. Ten thousand small requests leave 2 MB; eight bodies of
10 MB at once take a model server 600 MB for a moment, of which its allocators keep 60 to 120 MB."""
ROUNDS = 2
LEAK = 48 << 20
"""Bytes that such bodies may add when they come again as often, `ROUNDS` times 80 MB for each
process: what was kept is used."""
FINE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,  # An unknown signature, as in TF Serving.
    grpc.StatusCode.UNIMPLEMENTED,
}
MEGABYTES_10 = 10 << 20


@dataclass
class Deployment:
    """One served model, and what a good request to it is."""

    name: str
    graph: str
    rows: list[list[float]]
    input: str
    base: str
    client: httpx.Client
    calls: grpc.Channel
    document: dict[str, Any] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return f"/seldon/seldon/{self.name}"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("seldon", self.name), ("namespace", "seldon"))

    @property
    def good(self) -> bytes:
        return json.dumps({"data": {"ndarray": self.rows}}).encode()

    def post(self, path: str, document: object) -> Any:
        answer = self.client.post(f"{self.prefix}{path}", json=document)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def call(self, method: str, content: bytes) -> bytes:
        answer = self.calls.unary_unary(method)(content, metadata=self.metadata, timeout=DEADLINE)
        assert isinstance(answer, bytes)
        return answer

    def answers(self) -> list[list[float]]:
        """Return the scores of the good row by every protocol."""
        shape = [1, len(self.rows[0])]
        tensor = {"name": self.input, "datatype": "FP32", "shape": shape, "data": self.rows}
        message = pb.SeldonMessage()
        message.data.tensor.shape.extend(shape)
        message.data.tensor.values.extend(self.rows[0])
        request = v2.ModelInferRequest(model_name=self.graph)
        wanted = request.inputs.add(name=self.input, datatype="FP32", shape=shape)
        wanted.contents.fp32_contents.extend(self.rows[0])
        seldon = pb.SeldonMessage.FromString(
            self.call("/seldon.protos.Seldon/Predict", message.SerializeToString())
        )
        inferred = v2.ModelInferResponse.FromString(
            self.call("/inference.GRPCInferenceService/ModelInfer", request.SerializeToString())
        )
        contents = inferred.outputs[0].contents
        return [
            self.post("/api/v1.0/predictions", {"data": {"ndarray": self.rows}})["data"]["ndarray"][
                0
            ],
            self.post(f"/v2/models/{self.graph}/infer", {"inputs": [tensor]})["outputs"][0]["data"],
            self.post(f"/v1/models/{self.graph}:predict", {"instances": self.rows})["predictions"][
                0
            ],
            list(seldon.data.tensor.values),
            list(contents.fp32_contents or contents.fp64_contents),
        ]

    def check(self) -> None:
        """Require that every protocol answers the good row as it did before."""
        for scores in self.answers():
            assert scores == pytest.approx(self.scores, abs=1e-6)


@dataclass
class Target:
    """The platform under fire."""

    port: int
    deployments: tuple[Deployment, ...]
    processes: dict[int, int]
    """Process id → resident bytes before."""
    sent: int = 0

    def connect(self, timeout: float = DEADLINE) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def ask(self, content: bytes) -> int:
        """Send a request as bytes over a connection of its own, and return the answer's status."""
        self.sent += 1
        with self.connect() as connection:
            _send(connection, content)
            return _status(connection)


def _send(connection: socket.socket, content: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # Refused before all of it had gone.
        connection.sendall(content)


def _chunks(connection: socket.socket) -> Iterator[bytes]:
    """Yield what comes back; a reset after an answer is its end."""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 16):
            yield chunk


def _statuses(answer: bytes) -> list[int]:
    """Return the status of each answer in what a connection gave back."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([2-5]\d\d) ", answer)]


def _status(connection: socket.socket) -> int:
    """Return the status of the answer that comes back; 0 if the connection is closed without."""
    answer = b""
    for chunk in _chunks(connection):
        answer += chunk
        if statuses := _statuses(answer):
            return statuses[0]
    return 0


def _resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def _processes(line: CommandLine) -> list[int]:
    """Return the ids of the gateway and of the model servers."""
    ours = running.marked(MARK, EmbeddedFolder.at(line.home / "embedded").identity)
    return sorted(
        pid
        for pid in ours
        if any(
            "envoy" in part or "mlops_pipeline.serving" in part
            for part in psutil.Process(pid).cmdline()
        )
    )


@pytest.fixture(scope="module")
def target(command_line: CommandLine) -> Iterator[Target]:
    base = f"http://127.0.0.1:{command_line.ports[0]}"
    with (
        httpx.Client(base_url=base, timeout=DEADLINE) as client,
        grpc.insecure_channel(base.removeprefix("http://")) as calls,
    ):
        image = [round(i / 784, 3) for i in range(784)]
        deployments = (
            Deployment("iris-model", "classifier", [ODD_FLOWER], "predict", base, client, calls),
            Deployment("tfserving", "mnist-model", [image], "images", base, client, calls),
        )
        for one in deployments:
            one.document = client.get(f"{one.prefix}/api/v1.0/doc/openapi.json").json()
            one.scores = one.answers()[0]
            one.check()
            for body in (b" " * MEGABYTES_10, one.good):  # What the first large request keeps.
                client.post(f"{one.prefix}/predict", content=body)
        pids = _processes(command_line)
        assert len(pids) >= 3, "Envoy, iris, mnist"
        yield Target(command_line.ports[0], deployments, {pid: _resident(pid) for pid in pids})


def bounded(share: float) -> Callable[[Any], Any]:
    """Return the settings of a generated test that sends this share of all requests."""
    return settings(
        max_examples=max(int(REQUESTS * share), 1),
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("index", [0, 1], ids=["iris", "mnist"])
def test_generated_from_the_document(target: Target, index: int) -> None:
    deployment = target.deployments[index]
    allowed = {
        (method, path): {int(status) for status in operation["responses"]}
        for method, path, operation in generated.operations(deployment.document)
    }

    @bounded(0.34)
    @given(generated.requests_of(deployment.document))
    def send(request: generated.HttpRequest) -> None:
        target.sent += 1
        answer = deployment.client.request(
            request.method,
            f"{deployment.prefix}{request.path}",
            content=request.body,
            headers=dict(request.headers),
        )
        documented = allowed.get((request.method, request.path), {200, 400, 405})
        assert answer.status_code in documented - {503}, answer.text

    send()
    deployment.check()


@pytest.mark.parametrize("index", [0, 1], ids=["iris", "mnist"])
def test_generated_bytes(target: Target, index: int) -> None:
    deployment = target.deployments[index]

    @bounded(0.07)
    @given(generated.raw_requests(deployment.prefix, deployment.good))
    def send(request: generated.RawRequest) -> None:
        if request.whole:
            assert 200 <= target.ask(request.content) < 500
            return
        target.sent += 1
        with target.connect() as connection:
            _send(connection, request.content)
            connection.settimeout(0.02)  # It may well be waiting for the rest.
            with contextlib.suppress(TimeoutError):
                assert _status(connection) < 500

    send()
    deployment.check()


@pytest.mark.parametrize("index", [0, 1], ids=["iris", "mnist"])
def test_generated_calls(target: Target, index: int) -> None:
    deployment = target.deployments[index]

    @bounded(0.09)
    @given(generated.calls())
    def send(call: generated.Call) -> None:
        target.sent += 1
        assert _code(deployment, call.method, call.content) in FINE

    send()
    deployment.check()


def _code(deployment: Deployment, method: str, content: bytes, **options: Any) -> grpc.StatusCode:
    """Return how a call ends."""
    options = {"metadata": deployment.metadata, "timeout": DEADLINE, **options}
    try:
        deployment.calls.unary_unary(method)(content, **options)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def _code_of_none(deployment: Deployment, method: str) -> grpc.StatusCode:
    """Return how a call without a message ends."""
    call = deployment.calls.stream_unary(method)
    try:
        call(iter(()), metadata=deployment.metadata, timeout=DEADLINE)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


ROWS = b'{"data":{"ndarray":%s}}'
HAND_MADE = {
    "nothing": b"",
    "a number": b"1",
    "no object": b"[[1,2,3,4]]",
    "truncated": b'{"data":{"ndarray":[[5.1,3.5',
    "not UTF-8": b'{"data":{"ndarray":[[1,2,3,4]],"names":["\xff"]}}',
    "UTF-16": ROWS.decode().replace("%s", "[[1,2,3,4]]").encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + ROWS % b"[[1,2,3,4]]",
    "two documents": ROWS % b"[[1,2,3,4]]" * 2,
    "a lone surrogate": b'{"data":{"ndarray":[[1,2,3,4]]},"meta":{"puid":"\\ud800"}}',
    "nested lists": ROWS % (b"[" * 50_000 + b"]" * 50_000),
    "nested objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "as deep as JSON is read": ROWS % (b"[" * 1000 + b"1" + b"]" * 1000),
    "deep tags": b'{"data":{"ndarray":[[1,2,3,4]]},"meta":{"tags":%s1%s}}'
    % (b'{"a":' * 400, b"}" * 400),
    "NaN": ROWS % b"[[NaN,1,2,3]]",
    "Infinity": ROWS % b"[[-Infinity,1,2,3]]",
    "1e999": ROWS % b"[[1e999,1,2,3]]",
    "the largest doubles": ROWS % b"[[1e308,-1e308,1e308,1e308]]",
    "integers beyond 64 bits": ROWS % b"[[123456789012345678901234567890,1,2,3]]",
    "a long number": ROWS % (b"[[" + b"9" * 100_000 + b",1,2,3]]"),
    "mixed types": ROWS % b'[[1,"2",null,true],[{},[],2,3]]',
    "ragged": ROWS % b"[[1,2,3,4],[1,2]]",
    "no rows": ROWS % b"[]",
    "rows of nothing": ROWS % b"[[],[]]",
    "many rows of nothing": ROWS % (b"[" + b"[]," * 200_000 + b"[]]"),
    "a long string among numbers": ROWS % (b'["' + b"a" * 50_000 + b'"' + b",1" * 50_000 + b"]"),
    "a negative shape": b'{"data":{"tensor":{"shape":[-1,-4],"values":[1,2,3,4]}}}',
    "a huge shape": b'{"data":{"tensor":{"shape":[1000000000,1000000000],"values":[1]}}}',
    "a shape beyond 64 bits": b'{"data":{"tensor":{"shape":[99999999999999999999],"values":[1]}}}',
    "a shape of fractions": b'{"data":{"tensor":{"shape":[1.5,4],"values":[1,2,3,4]}}}',
    "a shape of many": b'{"data":{"tensor":{"shape":[%s1],"values":[1]}}}' % (b"1," * 100_000),
    "a shape of none": b'{"data":{"tensor":{"shape":[],"values":[1]}}}',
    "10 MB of spaces": b" " * MEGABYTES_10,
    "10 MB of one string": b'{"data":{"ndarray":["%s"]}}' % (b"a" * MEGABYTES_10),
    "10 MB of zeros": ROWS % (b"[[" + b"0," * (MEGABYTES_10 // 2) + b"0]]"),
    "10 MB of rows": ROWS % (b"[" + b"[5.1,3.5,1.4,0.2]," * (MEGABYTES_10 // 18) + b"[1,2,3,4]]"),
    "20 MB": b" " * (20 << 20),
    "an output a thousand times": b'{"inputs":[{"name":"predict","datatype":"FP64","shape":[1,4],'
    b'"data":[1,2,3,4]}],"outputs":[%s{"name":"predict"}]}' % (b'{"name":"predict"},' * 100_000),
    "binary": bytes(range(256)) * 100,
    "two kinds of data": b'{"data":{"ndarray":[[1,2,3,4]],"tensor":{"shape":[1],"values":[1]}}}',
    "many names": b'{"data":{"ndarray":[[1,2,3,4]],"names":[%s"a"]}}' % (b'"a",' * 100_000),
    "names of numbers": b'{"data":{"ndarray":[[1,2,3,4]],"names":[1,null,[],{}]}}',
    "a column for each of many inputs": b'{"inputs":[%s{}]}'
    % (b'{"name":"a","shape":[1],"datatype":"FP64","data":[1]},' * 20_000),
    "inputs of different lengths": b'{"inputs":[{"name":"a","shape":[1],"datatype":"FP64",'
    b'"data":[1]},{"name":"b","shape":[2,1],"datatype":"INT8","data":[1,2]}]}',
    "numbers that are not of their datatype": b'{"inputs":[{"shape":[1,4],"datatype":"UINT8",'
    b'"data":[-1,300,1.5,1e300]}]}',
    "BOOL": b'{"inputs":[{"shape":[1,4],"datatype":"BOOL","data":[true,false,1,0]}]}',
    "text": b'{"inputs":[{"shape":[1,4],"datatype":"BYTES","data":["a","b","c","d"]}]}',
}


FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n%s\r\n'
FORMS = {
    "an empty field": (FORM, b"json="),
    "many fields": (FORM, b"a=1&" * 200_000 + b"json=1"),
    "a field of percent signs": (FORM, b"json=" + b"%" * 1_000_000),
    "a field of 10 MB": (FORM, b"json=" + b"+" * MEGABYTES_10),
    "no boundary": ("multipart/form-data", PART % b"{}"),
    "no end": (MULTIPART, PART % b"{}"),
    "many parts": (MULTIPART, PART % b"{}" * 100_000 + b"--b--"),
    "10 MB of boundaries": (MULTIPART, b"--b" * (MEGABYTES_10 // 3)),
    "10 MB of lines": (MULTIPART, b"--b" + b"\r\n" * (MEGABYTES_10 // 2)),
    "many headers": (MULTIPART, b"--b\r\n" + b"content-disposition:" * (MEGABYTES_10 // 20)),
    "a header of 10 MB": (MULTIPART, b"--b\r\ncontent-disposition:" + b";" * MEGABYTES_10),
    "a part that is not JSON": (MULTIPART, PART % b"{" + b"--b--"),
    "a part with two documents": (MULTIPART, PART % b'1,"meta":2' + b"--b--"),
}


@pytest.mark.parametrize("name", FORMS)
def test_hand_made_forms(target: Target, name: str) -> None:
    """A form is read before any model is asked: in the same way by every server."""
    content_type, body = FORMS[name]
    deployment = target.deployments[0]
    for path in ("/predict", "/api/v1.0/feedback"):
        target.sent += 1
        begin = time.monotonic()
        answer = deployment.client.post(
            f"{deployment.prefix}{path}", content=body, headers={"content-type": content_type}
        )
        assert answer.status_code in (200, 400), answer.text
        assert time.monotonic() - begin < DEADLINE
    deployment.check()


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_bodies(target: Target, name: str) -> None:
    for deployment in target.deployments:
        for path in (
            "/api/v1.0/predictions",
            f"/v2/models/{deployment.graph}/infer",
            f"/v1/models/{deployment.graph}:predict",
        ):
            target.sent += 1
            begin = time.monotonic()
            answer = deployment.client.post(f"{deployment.prefix}{path}", content=HAND_MADE[name])
            assert answer.status_code in (200, 400), answer.text
            assert time.monotonic() - begin < DEADLINE
        deployment.post("/api/v1.0/predictions", json.loads(deployment.good))


def _head(deployment: Deployment, *headers: str, version: str = "HTTP/1.1") -> bytes:
    lines = [f"POST {deployment.prefix}/predict {version}", "Host: gateway", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def test_chunked_and_expecting_and_old_requests_are_answered(target: Target) -> None:
    for deployment in target.deployments:
        body = deployment.good
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        length = f"Content-Length: {len(body)}"
        for content in (
            _head(deployment, "Transfer-Encoding: chunked", "Connection: close") + chunks,
            _head(deployment, length, "Expect: 100-continue", "Connection: close") + body,
            _head(deployment, length, version="HTTP/1.0") + body,
        ):
            assert target.ask(content) == 200, content[:100]


def test_pipelined_requests_are_answered_in_their_order(target: Target) -> None:
    iris = target.deployments[0]
    good = _head(iris, f"Content-Length: {len(iris.good)}") + iris.good
    bad = _head(iris, "Content-Length: 1") + b"{"
    last = _head(iris, f"Content-Length: {len(iris.good)}", "Connection: close") + iris.good
    target.sent += 41
    with target.connect() as connection:
        _send(connection, (good + bad) * 20 + last)
        assert _statuses(b"".join(_chunks(connection))) == [200, 400] * 20 + [200]


def test_uploads_that_trickle_are_answered_and_hold_nobody_up(target: Target) -> None:
    def trickle(deployment: Deployment) -> None:
        content = _head(deployment, f"Content-Length: {len(deployment.good)}", "Connection: close")
        content += deployment.good
        with target.connect() as connection:
            step = max(len(content) // 100, 1)
            for begin in range(0, len(content), step):
                connection.sendall(content[begin : begin + step])
                threading.Event().wait(0.02)
            statuses.append(_status(connection))

    statuses: list[int] = []
    threads = [threading.Thread(target=trickle, args=(d,)) for d in target.deployments * 10]
    target.sent += len(threads)
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for deployment in target.deployments:
            begin = time.monotonic()
            deployment.post("/api/v1.0/predictions", json.loads(deployment.good))
            assert time.monotonic() - begin < 2
    assert statuses == [200] * len(threads)


def test_uploads_that_break_off_leave_nothing_behind(target: Target) -> None:
    for deployment in target.deployments:
        for size in (0, 1, 100_000, 2 << 20) * 10:
            target.sent += 1
            with target.connect() as connection, contextlib.suppress(ConnectionError):
                connection.sendall(_head(deployment, "Content-Length: 9000000") + b" " * size)
        deployment.check()


def test_idle_connections_hold_nobody_up(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(500):
            connection = stack.enter_context(target.connect())
            beginnings = (b"", b"POST", _head(target.deployments[0], "Content-Length: 90"))
            connection.sendall(beginnings[number % 3])
        target.sent += 500
        for deployment in target.deployments:
            begin = time.monotonic()
            deployment.check()
            assert time.monotonic() - begin < DEADLINE


def test_bodies_that_come_at_once_share_the_room_there_is(target: Target) -> None:
    statuses = _send_large_bodies_at_once(target)
    assert set(statuses) <= {200, 400, 429}, statuses
    assert len(statuses) == 8 * len(target.deployments)


def _send_large_bodies_at_once(target: Target) -> list[int]:
    def send(deployment: Deployment) -> None:
        with httpx.Client(base_url=deployment.base, timeout=60) as client:
            path = f"{deployment.prefix}/api/v1.0/predictions"
            statuses.append(client.post(path, content=HAND_MADE["10 MB of rows"]).status_code)

    statuses: list[int] = []
    threads = [threading.Thread(target=send, args=(d,)) for d in target.deployments * 8]
    target.sent += len(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def _messages() -> Sequence[tuple[str, str, bytes]]:
    """Return calls made by hand: (name, method, content)."""
    seldon, infer = "/seldon.protos.Seldon/Predict", "/inference.GRPCInferenceService/ModelInfer"
    wide = pb.SeldonMessage()
    wide.data.tensor.shape.extend([2**31 - 1] * 30)
    wide.data.tensor.values.append(1)
    many = pb.SeldonMessage()
    many.data.tensor.shape.extend([300_000, 4])
    many.data.tensor.values.extend([1.0] * 1_200_000)
    deep = pb.SeldonMessage()
    inner = deep.data.ndarray
    for _ in range(40):
        inner = inner.values.add().list_value
    raw = v2.ModelInferRequest(model_name="classifier")
    raw.inputs.add(name="predict", datatype="FP64", shape=[2**62, 2**62])
    raw.raw_input_contents.append(b"\0" * 7)
    return (
        ("garbage", seldon, b"\xff" * 100),
        ("a wide shape", seldon, wide.SerializeToString()),
        ("10 MB", seldon, many.SerializeToString()),
        ("deep", seldon, deep.SerializeToString()),
        ("deeper than protobuf reads", seldon, b"\x1a\x04" * 3000),
        ("20 MB", seldon, b"\0" * (20 << 20)),
        ("garbage", infer, b"\xff" * 100),
        ("raw contents that do not fit", infer, raw.SerializeToString()),
        ("20 MB", infer, b"\0" * (20 << 20)),
    )


def test_calls_made_by_hand(target: Target) -> None:
    for deployment in target.deployments:
        for name, method, content in _messages():
            for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
                target.sent += 1
                code = _code(deployment, method, content, compression=compression)
                assert code in FINE, (name, method, compression)
        deployment.check()


def test_calls_without_a_message_or_a_deployment_are_refused(target: Target) -> None:
    for deployment in target.deployments:
        for method in generated.RPCS:
            nobody = _code(deployment, method, b"", metadata=(("seldon", "nobody"),))
            assert nobody == grpc.StatusCode.NOT_FOUND
            assert _code_of_none(deployment, method) in FINE
            target.sent += 2
        deployment.check()


def test_afterwards_all_is_as_it_was(target: Target, command_line: CommandLine) -> None:
    for deployment in target.deployments:
        deployment.check()
    assert _processes(command_line) == sorted(target.processes)
    assert target.sent >= REQUESTS
    wait_until("the memory of large requests", lambda: _grown(target.processes, GROWTH), timeout=20)


@pytest.mark.long
def test_what_large_bodies_leave_does_not_add_up(target: Target) -> None:
    """What allocators keep goes up and down by tens of MB: its highest is not left behind."""
    highest = dict.fromkeys(target.processes, 0)
    for _ in range(ROUNDS):
        _send_large_bodies(target)
        highest = {pid: max(size, _resident(pid)) for pid, size in highest.items()}
    for _ in range(ROUNDS):
        _send_large_bodies(target)
    wait_until("the memory of large requests", lambda: _grown(highest, LEAK), timeout=20)


def _send_large_bodies(target: Target) -> None:
    _send_large_bodies_at_once(target)
    for deployment in target.deployments:
        for name, method, content in _messages():
            if name in ("10 MB", "20 MB"):
                _code(deployment, method, content)
        deployment.check()


def _grown(before: Mapping[int, int], allowed: int) -> str | None:
    """Say which processes are more than `allowed` bytes larger than before."""
    grown = [
        f"{psutil.Process(pid).cmdline()[:5]}: {size >> 20} MB, now {now >> 20} MB"
        for pid, size in before.items()
        if (now := _resident(pid)) - size > allowed
    ]
    return "; ".join(grown) or None
