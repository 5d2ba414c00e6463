"""Iris under load: our server with and without its gateway, its peers, and the bare limit.

Every round loads every server once, one after another, so that what else the machine does meets
all of them.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from benchmarks import load, peers
from benchmarks.lifecycle import Platform
from benchmarks.load import Request
from benchmarks.peers import GRAPH, Server
from mlops_pipeline.catalog.iris import IRIS
from mlops_pipeline.clients.errors import CommandError
from mlops_pipeline.clients.process import run
from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving import seldon_pb2 as pb

CLIENTS = (1, 32)
ROW = list(IRIS.example)
SELDON_BODY = json.dumps({"data": {"ndarray": [ROW]}}).encode()
# `predict_proba` by name: MLServer's runtime would answer with the class alone, which is less work.
V2_BODY = json.dumps(
    {
        "inputs": [{"name": "predict", "shape": [1, 4], "datatype": "FP64", "data": ROW}],
        "outputs": [{"name": "predict_proba"}],
    }
).encode()
SELDON_MESSAGE = pb.SeldonMessage(data=pb.DefaultData(tensor=pb.Tensor(shape=[1, 4], values=ROW)))
V2_MESSAGE = v2.ModelInferRequest(
    model_name=GRAPH,
    inputs=[
        v2.ModelInferRequest.InferInputTensor(
            name="predict",
            datatype="FP64",
            shape=[1, 4],
            contents=v2.InferTensorContents(fp64_contents=ROW),
        )
    ],
    outputs=[v2.ModelInferRequest.InferRequestedOutputTensor(name="predict_proba")],
)
_JSON = {"content-type": "application/json"}
_ROUTE = {"seldon": IRIS.server.deployment, "namespace": IRIS.server.namespace}
_PREFIX = f"/seldon/{IRIS.server.namespace}/{IRIS.server.deployment}"
_SPY_STARTS = 2.0
"""Seconds that py-spy may take before it looks."""
_MAIN = "mlops_pipeline/serving/run.py"
AREAS = {
    "sklearn/": "scikit-learn's predict_proba",
    _MAIN: "C code of the event loop, the HTTP parser and gRPC; sockets",
    "mlops_pipeline/serving/": "our code: JSON and messages, checks, counters",
    "uvicorn/": "uvicorn",
    "grpc/": "gRPC's Python code",
}
"""Part of a frame's file name → what the frame belongs to."""


@dataclass(frozen=True)
class Point:
    """One server asked by one protocol: `REST Seldon`, `REST V2`, `gRPC Seldon`, `gRPC V2`."""

    server: Server
    protocol: str
    request: Request


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    rounds: int
    seconds: float
    profile_seconds: float


def measure(platform: Platform, folder: Path, plan: Plan) -> dict[str, Any]:
    """Measure every server at every number of clients, and profile ours."""
    with _servers(platform, folder) as servers:
        points = [point for server in servers for point in _points(server)]
        for point in points:
            _check_answer(point)
            load.measure(point.request, clients=2, seconds=1)
        places = [(point, clients) for clients in CLIENTS for point in points]
        rounds = [
            [_measure(point, clients=clients, seconds=plan.seconds) for point, clients in places]
            for _ in range(plan.rounds)
        ]
        measured = [
            {
                "server": point.server.name,
                "protocol": point.protocol,
                "clients": clients,
                "rounds": [values[index] for values in rounds],
            }
            for index, (point, clients) in enumerate(places)
        ]
        profiles = [
            _profile(point, folder, plan.profile_seconds)
            for point in points
            if point.server.name == "gateway" and "Seldon" in point.protocol
        ]
    return {"generators": load.generators(), "points": measured, "profiles": profiles}


@contextmanager
def _servers(platform: Platform, folder: Path) -> Iterator[Sequence[Server]]:
    """Yield all servers, each of them up and with the same model."""
    model_server = platform.model_server(IRIS.server.deployment)
    model = next(Path(a) for a in model_server.cmdline() if (Path(a) / "model.joblib").is_file())
    environment = model_server.environ()
    direct = Server(
        "server",
        int(environment["PREDICTIVE_UNIT_HTTP_SERVICE_PORT"]),
        int(environment["PREDICTIVE_UNIT_GRPC_SERVICE_PORT"]),
        (model_server.pid,),
    )
    port = platform.gateway_port()
    gateway = Server("gateway", port, port, (platform.envoy().pid, model_server.pid))
    file = model / "model.joblib"
    with ExitStack() as stack:
        yield [
            gateway,
            direct,
            stack.enter_context(peers.mlserver(file, folder / "mlserver", workers=None)),
            stack.enter_context(peers.mlserver(file, folder / "mlserver-0", workers=0)),
            stack.enter_context(peers.bare(file, folder / "bare")),
        ]


def _points(server: Server) -> Iterator[Point]:
    """Yield what a server can be asked."""
    ours = server.name in ("gateway", "server")
    prefix = _PREFIX if server.name == "gateway" else ""
    route = _ROUTE if server.name == "gateway" else {}
    if ours or server.name == "bare":
        path = f"{prefix}/api/v1.0/predictions"
        yield Point(server, "REST Seldon", Request(server.http_port, path, SELDON_BODY, _JSON))
        path = "/seldon.protos.Seldon/Predict"
        message = SELDON_MESSAGE.SerializeToString()
        request = Request(server.grpc_port, path, message, route, grpc=True)
        yield Point(server, "gRPC Seldon", request)
    if server.name != "bare":
        path = f"{prefix}/v2/models/{GRAPH}/infer"
        yield Point(server, "REST V2", Request(server.http_port, path, V2_BODY, _JSON))
        path = "/inference.GRPCInferenceService/ModelInfer"
        message = V2_MESSAGE.SerializeToString()
        yield Point(server, "gRPC V2", Request(server.grpc_port, path, message, route, grpc=True))


def _check_answer(point: Point) -> None:
    """Raise unless the server gives the scores of the model: what is fast has to be right, too."""
    scores = _scores(point)
    if len(scores) != len(IRIS.dataset.classes) or abs(sum(scores) - 1) > 1e-9:
        raise RuntimeError(f"{point.server.name} answers {scores} by {point.protocol}")


def _scores(point: Point) -> list[float]:
    request = point.request
    if not request.grpc:
        url = f"http://127.0.0.1:{request.port}{request.path}"
        answer = httpx.post(url, content=request.body, headers=request.headers)
        document = answer.raise_for_status().json()
        found: list[float] = (
            document["data"]["ndarray"][0]
            if point.protocol == "REST Seldon"
            else document["outputs"][0]["data"]
        )
        return found
    kind = pb.SeldonMessage if point.protocol == "gRPC Seldon" else v2.ModelInferResponse
    with grpc.insecure_channel(f"127.0.0.1:{request.port}") as channel:
        call = channel.unary_unary(request.path, response_deserializer=kind.FromString)
        message = call(request.body, metadata=tuple(request.headers.items()), timeout=10)
    if point.protocol == "gRPC Seldon":
        return list(message.data.tensor.values)
    return list(message.outputs[0].contents.fp64_contents)


def _measure(point: Point, *, clients: int, seconds: float) -> dict[str, float]:
    """Load a server once."""
    used = point.server.cpu_seconds()
    found = load.measure(point.request, clients=clients, seconds=seconds)
    used = point.server.cpu_seconds() - used
    return {
        **asdict(found),
        "requests_per_second": found.requests / found.seconds,
        "server_cpu_ms": 1000 * used / max(found.requests, 1),
    }


def _profile(point: Point, folder: Path, seconds: float) -> dict[str, Any]:
    """Return where the model server spends its time while the gateway is under load."""
    file = folder / f"{point.protocol}.folded".replace(" ", "-")
    model_server = point.server.pids[-1]
    command = [
        *(str(peers.PEERS / "py-spy"), "record", "--pid", str(model_server), "--format", "raw"),
        *("--rate", "200", "--duration", f"{seconds:.0f}", "--output", str(file)),
    ]
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(
            load.measure, point.request, clients=max(CLIENTS), seconds=seconds + _SPY_STARTS
        )
        try:
            run(command, purpose="look into the model server", timeout=60 + seconds)
        except CommandError as error:
            return {"protocol": point.protocol, "areas": {}, "refused": str(error).splitlines()[0]}
        finally:
            loading.result()
    return {"protocol": point.protocol, "areas": areas(file.read_text()), "refused": ""}


def areas(folded: str) -> dict[str, int]:
    """Count the samples of a profile, one stack a line, by the area that the stack ends in.

    Only the main thread counts, which answers: of gRPC's own thread, py-spy cannot tell whether it
    waits.
    """
    counted: dict[str, int] = {}
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        if _MAIN in stack:
            area = _area(stack.split(";"))
            counted[area] = counted.get(area, 0) + int(count)
    return counted


def _area(stack: Sequence[str]) -> str:
    """Return the area of the innermost frame that belongs to one."""
    for frame in reversed(stack):
        for pattern, area in AREAS.items():
            if pattern in frame:
                return area
    raise AssertionError("every stack of the main thread has its frame")
