"""Requests that nobody should send, generated: from an OpenAPI document, as bytes, and by gRPC."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from tritonclient.grpc import service_pb2 as v2

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import tensorflow_pb2 as tf_pb
from mlops_pipeline.serving import tensorflow_serving_pb2 as tfs_pb

Json = Any

WIDE = 50
"""Items of a list from which on they come from a seed: hypothesis would give up on an image."""
NUMBERS = (0, 1, -1, 5.9, 1e30, -1e30, 1e308, 5e-324, 2**31, 2**53 + 1, 2**63, -(2**63), 1e-9)
NO_JSON = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "01", "+1", ".5", "0x10", "1" * 5000)
"""What no JSON number is, written into a body."""

leaves = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.floats(), st.text(max_size=8)
)
anything: SearchStrategy[Json] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=10,
)


@dataclass(frozen=True)
class HttpRequest:
    """A request as the client library sends it."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RawRequest:
    """A request as bytes on a connection."""

    content: bytes
    whole: bool
    """Whether a server can know that nothing more is to come, and has to answer."""


@dataclass(frozen=True)
class Call:
    """A gRPC call of one message."""

    method: str
    content: bytes


def conforming(schema: Mapping[str, Any], document: Mapping[str, Any]) -> SearchStrategy[Json]:
    """Return values that a schema of an OpenAPI document allows."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return conforming(document["components"]["schemas"][name], document)
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return st.one_of([conforming(one, document) for one in schema[several]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        return _objects(schema, document)
    if kind == "array":
        return _arrays(schema, document)
    return _scalars(schema, kind)


def _scalars(schema: Mapping[str, Any], kind: str | None) -> SearchStrategy[Json]:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if kind == "integer":
        return st.integers(lowest, highest)
    if kind == "number":
        return st.floats(lowest, highest, allow_nan=False, allow_infinity=False)
    return {"string": st.text(max_size=20), "boolean": st.booleans()}.get(str(kind), anything)


def _objects(schema: Mapping[str, Any], document: Mapping[str, Any]) -> SearchStrategy[Json]:
    fields = {n: conforming(s, document) for n, s in schema.get("properties", {}).items()}
    required = {name: fields.pop(name) for name in schema.get("required", ())}
    if not required and not fields:
        return st.dictionaries(st.text(max_size=6), anything, max_size=3)
    return st.fixed_dictionaries(required, optional=fields)


def _arrays(schema: Mapping[str, Any], document: Mapping[str, Any]) -> SearchStrategy[Json]:
    fewest = schema.get("minItems", 0)
    most = schema.get("maxItems", fewest + 3)
    if fewest >= WIDE:
        return st.integers(0, 1 << 32).map(
            lambda seed: [round(x, 3) for x in _uniform(seed, fewest)]
        )
    return st.lists(conforming(schema["items"], document), min_size=fewest, max_size=most)


def _uniform(seed: int, count: int) -> list[float]:
    source = random.Random(seed)
    return [source.random() for _ in range(count)]


def operations(document: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return (method, path, operation) for everything in a document."""
    return [
        (method.upper(), path, operation)
        for path, item in sorted(document["paths"].items())
        for method, operation in sorted(item.items())
    ]


@dataclass(frozen=True)
class Operation:
    """An operation of a document, with the bodies that fit it, by their content type."""

    method: str
    path: str
    bodies: Mapping[str, SearchStrategy[Json]]


def requests_of(document: Mapping[str, Any]) -> SearchStrategy[HttpRequest]:
    """Return requests for the operations of a document, most of them wrong in one way."""
    found = []
    for method, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        bodies = {
            kind: conforming(one["schema"], document) for kind, one in sorted(content.items())
        }
        # Predictions are where a request has the most to say.
        found += [Operation(method, path, bodies)] * (9 if bodies else 1)
    return _requests(found)


@st.composite
def _requests(draw: DrawFn, found: Sequence[Operation]) -> HttpRequest:
    operation = draw(st.sampled_from(found))
    method = operation.method
    if draw(st.integers(0, 19)) == 0:
        method = draw(st.sampled_from(("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "POST")))
    if not operation.bodies:
        return HttpRequest(method, operation.path)
    kind = draw(st.sampled_from(sorted(operation.bodies)))
    value = draw(operation.bodies[kind])
    fitting = draw(st.booleans())
    if fitting:
        _fit(value)
    body = draw(_bodies(value, spoil=not fitting))
    if kind.endswith("urlencoded"):
        body = b"json=" + body
    sent = draw(st.sampled_from((kind, kind, kind, "", "text/plain", "application/x-protobuf")))
    return HttpRequest(method, operation.path, body, {"content-type": sent} if sent else {})


def _fit(value: Json) -> None:
    """Make the shapes in a request those of its numbers, which no schema can say."""
    tensors = [value.get("data", {}).get("tensor")] if isinstance(value.get("data"), dict) else []
    for tensor in tensors + list(value.get("inputs") or [] if "inputs" in value else []):
        if isinstance(tensor, dict) and isinstance(tensor.get("data"), list):
            data = tensor["data"]
            is_nested = isinstance(data[0], list)
            tensor["shape"] = [len(data), len(data[0])] if is_nested else [1, len(data)]


@st.composite
def _bodies(draw: DrawFn, value: Json, *, spoil: bool) -> bytes:
    """Return the JSON of a value; `spoil`: with one thing wrong, in its tree or its bytes."""
    if not spoil:
        return json.dumps(value).encode()
    how = draw(st.sampled_from(("node", "node", "node", "text", "cut", "bytes")))
    if how == "node":
        return json.dumps(draw(_with_another_node(value))).encode()
    body = json.dumps(value)
    if how == "text":
        body = body.replace(draw(st.sampled_from("0123[")), draw(st.sampled_from(NO_JSON)), 1)
        return body.encode()
    at = draw(st.integers(0, len(body)))
    if how == "cut":
        return body[:at].encode()
    return body[:at].encode() + draw(st.binary(min_size=1, max_size=4)) + body[at:].encode()


@st.composite
def _with_another_node(draw: DrawFn, value: Json) -> Json:
    """Return a value in which one node, however deep, is anything else, or gone."""
    if not (isinstance(value, dict | list) and value) or draw(st.integers(0, 4)) == 0:
        return draw(anything)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    copy = value.copy()
    if draw(st.integers(0, 9)) == 0:
        del copy[key]
    else:
        copy[key] = draw(_with_another_node(value[key]))
    return copy


METHODS = ("GET", "POST", "HEAD", "PUT", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "A" * 40)
PATHS = (
    "/api/v1.0/predictions",
    "/api/v1.0/../v1.0/predictions",
    "/api//v1.0///predictions",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/../../../../../../etc/passwd",
    "/..%2f..%2f..%2fetc/passwd",
    "/api%2fv1.0%2fpredictions",
    "/api\\v1.0\\predictions",
    "/%00",
    "/v2/models/%00/ready",
    "/v2/models/x%0d%0aevil:%201/ready",
    "/v2/models/%ff%fe",
    "/v2/models/" + "m" * 4000,
    "/v2/models/nobody",
    "/v2/models/nobody/infer",
    "/v2/repository/index",
    "/v2/repository/models/classifier/unload",
    "/v1/models/nobody:predict",
    "/v1/models/:predict",
    "/v1/models/a/b/c/d:e:f",
    "/invocations",
    "/?" + "q=1&" * 1000,
    "/#fragment",
    "/%",
    "/%zz",
    "/\u00fc",
    "",
)
HEADERS = (
    "Host: gateway",
    "Host: ",
    "Host: a\r\nHost: b",
    "Content-Type: application/json",
    "Content-Type: application/json; charset=utf-16",
    "Content-Type: multipart/form-data; boundary=x",
    "Content-Type: ;;;;",
    "Content-Encoding: gzip",
    "Accept: application/xml",
    "Accept-Encoding: gzip, br, *;q=0",
    "Cookie: " + "c=1; " * 500,
    "Seldon-Puid: " + "p" * 3000,
    "Seldon-Puid: \u00fc\u00df",
    "X-Forwarded-For: 1.2.3.4, ::1",
    "X-Envoy-Upstream-Rq-Timeout-Ms: 1",
    "X-Envoy-Retry-On: 5xx",
    "X-Envoy-Original-Path: /",
    "X-Http-Method-Override: DELETE",
    "Range: bytes=0-1",
    "If-None-Match: *",
    "Upgrade: websocket\r\nConnection: upgrade",
    "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    "Te: trailers",
    "Trailer: x",
    "Expect: 100-continue",
    "Expect: nonsense",
    "Authorization: Basic !!!!",
    "No-Colon",
    " Leading: space",
    "Space Inside: x",
    ": no name",
    "Nul: a\0b",
    "Folded: a\r\n b",
    "Long: " + "x" * 70_000,
)
FRAMINGS = ("exact", "exact", "exact", "none", "short", "long", "twice", "minus", "huge", "chunked")
VERSIONS = ("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/9.9", "HTTP/2.0", "X")


@st.composite
def raw_requests(draw: DrawFn, prefix: str, good: bytes) -> RawRequest:
    """Return requests as bytes: odd methods, paths, headers, framings and versions."""
    method = draw(st.sampled_from(METHODS))
    path = draw(st.sampled_from(PATHS))
    path = prefix + path if draw(st.integers(0, 5)) else path
    path = f"http://elsewhere{path}" if draw(st.integers(0, 9)) == 0 else path
    version = draw(st.sampled_from(VERSIONS))
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=4))
    framing = draw(st.sampled_from(FRAMINGS))
    body = good if draw(st.booleans()) else draw(st.binary(max_size=40))
    lines = [f"{method} {path} {version}", "Connection: close", *headers, *_framed(framing, body)]
    if not any(header.startswith("Host") for header in headers):
        lines.insert(1, "Host: gateway")
    content = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    content += _chunks(body, draw(st.integers(0, 3))) if framing == "chunked" else body
    answered = framing == "exact" and not any("Expect" in h or "Upgrade" in h for h in headers)
    return RawRequest(content, answered and version == "HTTP/1.1" and method != "CONNECT")


def _framed(framing: str, body: bytes) -> list[str]:
    """Return the headers that say, rightly or not, how long a body is."""
    length = f"Content-Length: {len(body)}"
    return {
        "none": [],
        "short": [f"Content-Length: {max(len(body) - 2, 0)}"],
        "long": [f"Content-Length: {len(body) + 2}"],
        "twice": [length, f"Content-Length: {len(body) + 1}"],
        "minus": ["Content-Length: -1"],
        "huge": ["Content-Length: 99999999999999999999999"],
        "chunked": ["Transfer-Encoding: chunked"],
    }.get(framing, [length])


def _chunks(body: bytes, defect: int) -> bytes:
    """Return a body in chunks; 0: rightly, else with a defect."""
    size = b"%x" % len(body)
    return (
        size + b"\r\n" + body + b"\r\n0\r\n\r\n",
        b"zz\r\n" + body + b"\r\n0\r\n\r\n",
        size + b"\r\n" + body + b"XX0\r\n\r\n",
        b"ffffffffffffffffff\r\n" + body,
    )[defect]


SERVICES: Mapping[str, Sequence[str]] = {
    "inference.GRPCInferenceService": (
        *("ModelInfer", "ModelMetadata", "ModelReady", "ServerLive", "ServerReady"),
        *("ServerMetadata", "RepositoryIndex", "RepositoryModelUnload", "Nonsense"),
    ),
    "seldon.protos.Seldon": (
        "Predict",
        "SendFeedback",
        "ModelMetadata",
        "GraphMetadata",
        "Nothing",
    ),
    "seldon.protos.Generic": ("SendFeedback", "TransformInput"),
    "seldon.protos.Model": ("Predict", "SendFeedback", "Metadata", "Route"),
    "tensorflow.serving.PredictionService": (
        *("Predict", "GetModelMetadata", "Classify", "Regress", "MultiInference"),
    ),
    "tensorflow.serving.ModelService": ("GetModelStatus", "HandleReloadConfigRequest"),
}
RPCS = [f"/{service}/{name}" for service, names in SERVICES.items() for name in names]

_sizes = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 5)
_shapes = st.lists(_sizes, max_size=4) | st.just([1, 4])
_doubles = st.lists(st.floats(), max_size=9) | st.just([5.1, 3.5, 1.4, 0.2])


@st.composite
def tensors(draw: DrawFn) -> tf_pb.TensorProto:
    """Return TensorFlow's tensors, with types, shapes and values that rarely fit."""
    kind = draw(st.sampled_from((0, 1, 2, 3, 7, 10, 14, 19, 99)))
    tensor: tf_pb.TensorProto = tf_pb.TensorProto.FromString(bytes((1 << 3, kind)))
    for size in draw(_shapes):
        tensor.tensor_shape.dim.add(size=size)
    field = draw(st.sampled_from(("float_val", "double_val", "half_val", "tensor_content")))
    if field == "tensor_content":
        tensor.tensor_content = draw(st.binary(max_size=40))
    elif field == "half_val":
        tensor.half_val.extend(draw(st.lists(st.integers(-9, 70_000), max_size=5)))
    else:
        getattr(tensor, field).extend(draw(st.lists(st.floats(width=32), max_size=9)))
    return tensor


@st.composite
def predict_requests(draw: DrawFn) -> tfs_pb.PredictRequest:
    """Return TF Serving's requests with names, versions and tensors that rarely fit."""
    request = tfs_pb.PredictRequest()
    request.model_spec.name = draw(st.sampled_from(("classifier", "mnist-model", "", "nobody")))
    request.model_spec.signature_name = draw(st.sampled_from(("", "serving_default", "no")))
    if draw(st.booleans()):
        request.model_spec.version.value = draw(st.sampled_from((1, 2, -1)))
    for name in draw(st.lists(st.sampled_from(("features", "images", "")), max_size=2)):
        request.inputs[name].CopyFrom(draw(tensors()))
    request.output_filter.extend(draw(st.lists(st.sampled_from(("scores", "no")), max_size=2)))
    return request


@st.composite
def seldon_messages(draw: DrawFn) -> pb.SeldonMessage:
    """Return Seldon's messages of every kind, with numbers and shapes that rarely fit."""
    message = pb.SeldonMessage(meta=pb.Meta(puid=draw(st.text(max_size=5))))
    kind = draw(
        st.sampled_from(("tensor", "ndarray", "jsonData", "tftensor", "strData", "binData"))
    )
    if kind == "tensor":
        message.data.tensor.shape.extend(draw(_shapes))
        message.data.tensor.values.extend(draw(_doubles))
    elif kind == "ndarray":
        message.data.ndarray.extend([draw(anything) for _ in range(draw(st.integers(0, 3)))])
    elif kind == "jsonData":
        key = draw(st.sampled_from(("instances", "inputs", "other")))
        message.jsonData.struct_value[key] = draw(anything)
    elif kind == "tftensor":
        message.data.tftensor.CopyFrom(draw(tensors()))
    else:
        setattr(message, kind, draw(st.text(max_size=9) if kind == "strData" else st.binary()))
    return message


@st.composite
def infer_requests(draw: DrawFn) -> v2.ModelInferRequest:
    """Return V2's requests with names, types, shapes and contents that rarely fit."""
    request = v2.ModelInferRequest(
        model_name=draw(st.sampled_from(("classifier", "mnist-model", "", "nobody"))),
        model_version=draw(st.sampled_from(("", "", "", "1"))),
        id=draw(st.text(max_size=5)),
    )
    for _ in range(draw(st.integers(0, 2)) if draw(st.booleans()) else 1):
        tensor = request.inputs.add(
            name=draw(st.sampled_from(("predict", "images", ""))),
            datatype=draw(st.sampled_from(("FP64", "FP32", "FP16", "INT8", "BYTES", "BOOL", "X"))),
            shape=draw(_shapes),
        )
        tensor.contents.fp64_contents.extend(draw(_doubles))
        tensor.contents.int_contents.extend(draw(st.lists(st.integers(-9, 9), max_size=5)))
    request.raw_input_contents.extend(draw(st.lists(st.binary(max_size=40), max_size=2)))
    for name in draw(st.lists(st.sampled_from(("predict", "predict_proba", "scores", "no")))):
        request.outputs.add(name=name)
    return request


@st.composite
def calls(draw: DrawFn) -> Call:
    """Return gRPC calls: messages that may mean something, some with broken bytes, and garbage."""
    kind = draw(st.sampled_from(("seldon", "v2", "tensorflow", "any")))
    if kind == "any":
        return Call(draw(st.sampled_from(RPCS)), draw(st.binary(max_size=60)))
    known: Mapping[str, tuple[str, SearchStrategy[Any]]] = {
        "seldon": ("/seldon.protos.Seldon/Predict", seldon_messages()),
        "v2": (RPCS[0], infer_requests()),
        "tensorflow": ("/tensorflow.serving.PredictionService/Predict", predict_requests()),
    }
    method, messages = known[kind]
    content: bytes = draw(messages).SerializeToString()
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=3)) + content[at + 1 :]
    return Call(method, content)
