"""A model server that starts in a moment: the embedded platform's side of the contract.

It has no model: the score of a row is its sum. Its artifact is `behaviour.json`: `digest` (what it
answers with), `exit` (end with this code), `lasting` (seconds until it ends; none: at once),
`loading` (seconds until it is ready), `thinking` (seconds until it answers), `losing` (how it loses
each request: `503` or `reset`), `grpc` (it answers gRPC calls too). `POST /behave` changes them
while it runs.
"""

import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STARTED = time.monotonic()
STARTED_AT = time.time()
FOLDER = Path(sys.argv[sys.argv.index("--model") + 1])
BEHAVIOUR = json.loads((FOLDER / "behaviour.json").read_text())
SEEN: list[bytes] = []
COUNTED: list[str] = []
"""The paths of requests that count."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path == "/v2/health/ready":
            ready = time.monotonic() - STARTED >= BEHAVIOUR.get("loading", 0)
            return self.answer(200 if ready else 503, {})
        if self.path == "/metadata":
            return self.answer(200, {"versions": [BEHAVIOUR["digest"]]})
        if self.path == "/seen":
            return self.answer(200, {"seen": len(SEEN)})
        if self.path == "/metrics":
            return self.send(200, metrics().encode())
        if self.path == "/environment":
            return self.answer(200, dict(os.environ))
        return self.answer(200, {"path": self.path})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/behave":
            BEHAVIOUR.update(json.loads(body))
            return self.answer(200, BEHAVIOUR)
        SEEN.append(body)
        if self.headers.get("Seldon-Skip-Logging") != "true":
            COUNTED.append(self.path)
        time.sleep(BEHAVIOUR.get("thinking", 0))  # noqa: TID251
        if BEHAVIOUR.get("losing") == "503":
            return self.answer(503, {})
        if BEHAVIOUR.get("losing") == "reset":
            return self.reset()
        said = {"digest": BEHAVIOUR["digest"], "pid": os.getpid(), "path": self.path}
        return self.answer(200, {**said, **predicted(body)})

    def reset(self) -> None:
        """Close the connection with a reset, without an answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def answer(self, status: int, content: object) -> None:
        self.send(status, json.dumps(content).encode())

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-model-digest", BEHAVIOUR["digest"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def predicted(body: bytes) -> dict[str, object]:
    """Answer as `fakes/predictions.py` does; nothing if the request has no rows."""
    rows = json.loads(body or b"{}").get("data", {}).get("ndarray", [])
    tags = {"model_digest": BEHAVIOUR["digest"]}
    return {"data": {"ndarray": [[sum(row)] for row in rows]}, "meta": {"tags": tags}}


def metrics() -> str:
    """Count as the real server does; every answer takes less than a second."""
    labels = f'predictor="default",digest="{BEHAVIOUR["digest"]}",protocol="seldon"'
    answers, count = (
        f'mlops_answers_total{{{labels},transport="rest",outcome="answered"}}',
        len(COUNTED),
    )
    seconds = 'mlops_prediction_seconds_bucket{protocol="seldon",le='
    return (
        f'{answers} {count}.0\n{seconds}"1.0"}} {count}.0\n{seconds}"+Inf"}} {count}.0\n'
        f"process_start_time_seconds {STARTED_AT}\nmlops_process_id {os.getpid()}.0\n"
    )


class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 256


def serve_grpc() -> object:
    """Answer each gRPC call with the digest, and return the server."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    def answer(request: bytes, context: Any) -> bytes:
        SEEN.append(request)
        time.sleep(BEHAVIOUR.get("thinking", 0))  # noqa: TID251
        if BEHAVIOUR.get("losing"):
            context.abort(grpc.StatusCode.UNAVAILABLE, "it loses each request")
        return str(BEHAVIOUR["digest"]).encode()

    class Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, _: object) -> object:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(
        ThreadPoolExecutor(64), options=[("grpc.max_receive_message_length", 1 << 25)]
    )
    server.add_generic_rpc_handlers((Calls(),))
    port = os.environ["PREDICTIVE_UNIT_GRPC_SERVICE_PORT"]
    assert server.add_insecure_port(f"127.0.0.1:{port}") == int(port)
    server.start()
    return server


def end(code: int) -> None:
    sys.stderr.write("the artifact does not match its manifest: changed: model.joblib\n")
    sys.stderr.flush()
    os._exit(code)


def main() -> int:
    if code := int(BEHAVIOUR.get("exit", 0)):
        if "lasting" not in BEHAVIOUR:
            end(code)
        threading.Timer(BEHAVIOUR["lasting"], end, [code]).start()
    calls = serve_grpc() if BEHAVIOUR.get("grpc") else None
    server = Server(("127.0.0.1", int(os.environ["PREDICTIVE_UNIT_HTTP_SERVICE_PORT"])), Handler)
    Server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.02)
    del calls
    return 0


if __name__ == "__main__":
    sys.exit(main())
