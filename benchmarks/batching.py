"""MNIST with and without batching, side by side: the same model, two servers, asked by turns.

Every round asks both servers one after another, in changing order, so that what else the machine
does meets all; ratios are taken within a round. BentoML serves the same SavedModel with its
adaptive batching. `echo` is a gRPC server that answers ready bytes: what grpcio itself allows.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np

from benchmarks import load, peers
from benchmarks.load import Request
from benchmarks.peers import Server
from mlops_pipeline.catalog.mnist import MNIST
from mlops_pipeline.clients import ports
from mlops_pipeline.serving import inference_pb2 as v2

CLIENTS = (1, 32)
TOGETHER, ALONE, BENTOML, ECHO = "batching", "no batching", "BentoML", "echo"
GRPC, BINARY, JSON = "gRPC V2, raw", "REST V2, binary", "REST Seldon, JSON"
_GRAPH = "mnist-model"
_PIXELS = MNIST.dataset.features
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_COUNTS = ("mlops_batch_wait_seconds_count", "mlops_batch_rows_count")


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    rounds: int
    seconds: float


def requests(server: Server) -> Mapping[str, Request]:
    """Return protocol → the request for one image, the same in every protocol."""
    image = _image()
    raw = image.tobytes()
    tensor = {"name": "images", "shape": [1, _PIXELS], "datatype": "FP32"}
    message = v2.ModelInferRequest(model_name=_GRAPH, raw_input_contents=[raw])
    message.inputs.add(**tensor)
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    binary = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    body = json.dumps({"data": {"ndarray": image.tolist()}}).encode()
    as_json = {"content-type": "application/json"}
    return {
        GRPC: Request(server.grpc_port, _INFER, message.SerializeToString(), grpc=True),
        BINARY: Request(server.http_port, f"/v2/models/{_GRAPH}/infer", head + raw, headers=binary),
        JSON: Request(server.http_port, "/api/v1.0/predictions", body, headers=as_json),
    }


def bento_request(server: Server) -> Request:
    """Return the request for the same image to BentoML, in its JSON."""
    body = json.dumps({"images": _image().tolist()}).encode()
    as_json = {"content-type": "application/json"}
    return Request(server.http_port, "/predict", body, headers=as_json)


def _image() -> Any:
    return np.random.default_rng(7).random((1, _PIXELS), np.float32)


def measure(model: Path, folder: Path, plan: Plan) -> dict[str, Any]:
    """Measure the artifact in `model`; returns the rounds of every server, protocol, clients."""
    with ExitStack() as stack:
        servers = [stack.enter_context(_serving(model, folder, name)) for name in (TOGETHER, ALONE)]
        echo = stack.enter_context(_echoing(folder))
        bento = stack.enter_context(peers.bentoml(_saved_model(model), folder / BENTOML))
        _check_answers(servers, bento)
        points = [
            *((server, protocol, requests(server)[protocol])
              for protocol in (GRPC, BINARY, JSON) for server in servers),
            (bento, JSON, bento_request(bento)),
            (echo, GRPC, requests(echo)[GRPC]),
        ]  # fmt: skip
        for _, _, request in points:
            load.measure_with_own(request, clients=8, seconds=1)
        rounds = [_round(points, plan, number) for number in range(plan.rounds)]
    return {
        "points": [
            {
                "server": server.name,
                "protocol": protocol,
                "clients": clients,
                "rounds": [one[server.name, protocol, clients] for one in rounds],
            }
            for clients in CLIENTS
            for server, protocol, _ in points
        ]
    }


Point = tuple[Server, str, Request]


def _round(points: Sequence[Point], plan: Plan, number: int) -> dict[Any, dict[str, float]]:
    """Load every server once; every second round in the other order."""
    return {
        (server.name, protocol, clients): _measure(server, request, clients, plan.seconds)
        for clients in CLIENTS
        for server, protocol, request in (points if number % 2 else reversed(points))
    }


def _measure(server: Server, request: Request, clients: int, seconds: float) -> dict[str, float]:
    used, counted = server.cpu_seconds(), _counts(server)
    found = load.measure_with_own(request, clients=clients, seconds=seconds)
    used, now = server.cpu_seconds() - used, _counts(server)
    requests_, calls = (after - before for after, before in zip(now, counted, strict=True))
    return {
        **asdict(found),
        "requests_per_second": found.requests / found.seconds,
        "server_cpu_ms": 1000 * used / max(found.requests, 1),
        "batch": requests_ / calls if calls else 1.0,
    }


def _counts(server: Server) -> tuple[float, float]:
    """Return how many requests shared calls of the model so far, and how many calls."""
    if server.name in (ECHO, BENTOML):
        return 0.0, 0.0
    text = httpx.get(f"http://{ports.LOOPBACK}:{server.http_port}/metrics").text
    values = dict(line.split(" ", 1) for line in text.splitlines() if line.startswith(_COUNTS))
    requests_, calls = (float(values[name]) for name in _COUNTS)
    return requests_, calls


def _check_answers(servers: Sequence[Server], bento: Server) -> None:
    """Raise unless all servers give the same scores by every protocol: fast has to be right."""
    found = [scores for server in servers for scores in _scores(server)]
    found.append(_ask(bento_request(bento)).json()[0])
    if not all(np.allclose(found[0], scores, atol=MNIST.thresholds.tolerance) for scores in found):
        raise RuntimeError(f"the servers give different scores: {found}")


def _scores(server: Server) -> Iterator[Any]:
    asked = requests(server)
    with grpc.insecure_channel(f"{ports.LOOPBACK}:{server.grpc_port}") as channel:
        call = channel.unary_unary(_INFER, response_deserializer=v2.ModelInferResponse.FromString)
        yield np.frombuffer(call(asked[GRPC].body, timeout=10).raw_output_contents[0], np.float32)
    for protocol in (BINARY, JSON):
        answer = _ask(asked[protocol])
        if protocol == JSON:
            yield answer.json()["data"]["ndarray"][0]
        else:
            length = int(answer.headers["inference-header-content-length"])
            yield np.frombuffer(answer.content[length:], np.float32)


def _ask(request: Request) -> httpx.Response:
    url = f"http://{ports.LOOPBACK}:{request.port}{request.path}"
    return httpx.post(url, content=request.body, headers=request.headers).raise_for_status()


def _saved_model(model: Path) -> Path:
    """Return the SavedModel's own folder in an artifact."""
    return next(file.parent for file in model.rglob("saved_model.pb"))


@contextmanager
def _serving(model: Path, folder: Path, name: str) -> Iterator[Server]:
    """Run our model server with MNIST's parameters, and with or without batching."""
    http_port, grpc_port = peers.free_ports(2)
    parameters = dict(MNIST.server.graph_parameters())
    if name == ALONE:
        parameters["max_batch_size"] = "1"
    entries = [{"name": n, "value": value, "type": "STRING"} for n, value in parameters.items()]
    environment = {
        "PREDICTIVE_UNIT_ID": _GRAPH,
        "PREDICTIVE_UNIT_PARAMETERS": json.dumps(entries),
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(http_port),
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(grpc_port),
    }
    own = folder / name.replace(" ", "-")
    own.mkdir()
    command = [sys.executable, "-m", "mlops_pipeline.serving", "serve", "--model", str(model)]
    probe = f"http://{ports.LOOPBACK}:{http_port}/v2/health/ready"
    with peers.running(name, command, own, probe, environment) as pids:
        yield Server(name, http_port, grpc_port, pids)


@contextmanager
def _echoing(folder: Path) -> Iterator[Server]:
    """Run the gRPC server that only answers."""
    http_port, grpc_port = peers.free_ports(2)
    own = folder / ECHO
    own.mkdir()
    command = [sys.executable, "-m", "benchmarks.echo", str(http_port), str(grpc_port)]
    probe = f"http://{ports.LOOPBACK}:{http_port}/"
    with peers.running(ECHO, command, own, probe, {"PYTHONPATH": str(peers.ROOT)}) as pids:
        yield Server(ECHO, http_port, grpc_port, pids)


def main() -> None:
    """Measure one artifact and print the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batching", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of MNIST's artifact")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as folder:
        plan = Plan(options.rounds, options.seconds)
        found = measure(options.model, Path(folder), plan)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
