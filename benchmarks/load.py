"""A closed-loop load generator: every connection sends its next request when the last is answered.

`python -m benchmarks.load < orders` writes what it measured as JSON. It speaks HTTP/1.1 and just
enough HTTP/2 for unary gRPC calls: ready-made bytes out, frames counted in. grpcio's own client
costs more processor time per call than the servers measured here.

`http_with_wrk` does the same for HTTP/1.1 with wrk, where that is installed.
"""

import asyncio
import json
import math
import re
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from mlops_pipeline.clients.process import run

CONNECTION_TIMEOUT = 10.0
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WRK = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Request:
    """What is sent again and again."""

    port: int
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    grpc: bool = False


@dataclass(frozen=True)
class Load:
    """What came of it. Latencies are in milliseconds.

    `generator_cpu` is the processor time of the generator over the time: 1 is a whole processor.
    """

    requests: int
    errors: int
    seconds: float
    mean: float
    p50: float
    p99: float
    generator_cpu: float


def percentile(ordered: list[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of the ordered values do not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summarize(latencies: list[float], *, errors: int, seconds: float, cpu: float) -> Load:
    """Return the summary of latencies, like `seconds` and the processor time `cpu` in seconds."""
    ordered = sorted(1000 * latency for latency in latencies)
    if not ordered:
        raise RuntimeError(f"not one good answer in {seconds:.1f} s, {errors} errors")
    return Load(
        requests=len(latencies),
        errors=errors,
        seconds=seconds,
        mean=sum(ordered) / len(ordered),
        p50=percentile(ordered, 0.5),
        p99=percentile(ordered, 0.99),
        generator_cpu=cpu / seconds,
    )


class Connection(asyncio.Protocol):
    """One client: what is common to both protocols."""

    def __init__(self, deadline: float) -> None:
        self.latencies: list[float] = []
        self.errors = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._deadline = deadline
        self._buffer = bytearray()
        self._begin = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open()
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():  # Closed by the server, which it has no reason to.
            self.errors += 1
            self.over.set_result(None)

    def _open(self) -> None:
        """Say hello, where the protocol asks for it."""

    def _next(self) -> None:
        self._begin = time.perf_counter()
        self._transport.write(self._bytes())

    def _bytes(self) -> bytes:
        raise NotImplementedError

    def _answered(self, *, well: bool) -> None:
        now = time.perf_counter()
        if well:
            self.latencies.append(now - self._begin)
        else:
            self.errors += 1
        if now < self._deadline:
            self._next()
        elif not self.over.done():
            self.over.set_result(None)
            self._transport.close()


class Http(Connection):
    """HTTP/1.1, kept alive."""

    def __init__(self, request: Request, deadline: float) -> None:
        super().__init__(deadline)
        lines = [f"POST {request.path} HTTP/1.1", f"host: 127.0.0.1:{request.port}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        lines += [f"content-length: {len(request.body)}", "", ""]
        self._request = "\r\n".join(lines).encode() + request.body

    def _bytes(self) -> bytes:
        return self._request

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _CONTENT_LENGTH.search(self._buffer, 0, head)
        if length is None:
            raise ValueError(f"an answer without a length: {bytes(self._buffer[:200])!r}")
        if len(self._buffer) >= head + 4 + int(length[1]):
            well = self._buffer.startswith(b"HTTP/1.1 200")
            self._buffer.clear()
            self._answered(well=well)


class Grpc(Connection):
    """Unary gRPC calls over HTTP/2 (RFC 9113, RFC 7541), one at a time.

    An answer counts as good when it has a message: an error of gRPC has none.
    """

    _DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
    _END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
    _LARGEST_WINDOW = (1 << 31) - 1

    def __init__(self, request: Request, deadline: float) -> None:
        super().__init__(deadline)
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": request.path,
            ":authority": f"127.0.0.1:{request.port}",
            "content-type": "application/grpc",
            "te": "trailers",
            **request.headers,
        }
        self._headers = b"".join(_literal(name, value) for name, value in fields.items())
        self._message = b"\0" + len(request.body).to_bytes(4, "big") + request.body
        self._stream = -1
        self._received = 0

    def _open(self) -> None:
        """Send the preface, and windows so large that they never need to be opened again."""
        window = (4).to_bytes(2, "big") + self._LARGEST_WINDOW.to_bytes(4, "big")
        more = (self._LARGEST_WINDOW - 65_535).to_bytes(4, "big")
        self._transport.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(self._SETTINGS, 0, 0, window)
            + _frame(self._WINDOW, 0, 0, more)
        )

    def _bytes(self) -> bytes:
        self._stream += 2
        self._received = 0
        return _frame(self._HEADERS, self._END_HEADERS, self._stream, self._headers) + _frame(
            self._DATA, self._END_STREAM, self._stream, self._message
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        begin, buffer = 0, self._buffer
        while len(buffer) - begin >= 9:
            end = begin + 9 + int.from_bytes(buffer[begin : begin + 3], "big")
            if len(buffer) < end:
                break
            self._take(buffer[begin + 3], buffer[begin + 4], bytes(buffer[begin + 9 : end]))
            begin = end
        del buffer[:begin]

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == self._DATA:
            self._received += len(payload)
        if kind in (self._DATA, self._HEADERS):
            if flags & self._END_STREAM:
                self._answered(well=self._received > 0)
        elif kind in (self._SETTINGS, self._PING):
            if not flags & self._ACK:
                echo = payload if kind == self._PING else b""
                self._transport.write(_frame(kind, self._ACK, 0, echo))
        elif kind == self._RESET:
            self._answered(well=False)
        elif kind == self._GOAWAY:
            self._transport.abort()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


def _literal(name: str, value: str) -> bytes:
    """Return a header without Huffman's code and without a place in the table."""
    if max(len(name), len(value)) > 126:
        raise ValueError(f"the header {name} is too long for one byte of length")
    return (
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode("ascii")
    )


async def generate(request: Request, *, clients: int, seconds: float) -> Load:
    """Load a server with `clients` connections for `seconds`."""
    loop = asyncio.get_running_loop()
    kind = Grpc if request.grpc else Http
    begin, used = time.perf_counter(), time.process_time()
    connections = []
    for _ in range(clients):
        _, connection = await loop.create_connection(
            lambda: kind(request, begin + seconds), "127.0.0.1", request.port
        )
        connections.append(connection)
    waiting = asyncio.gather(*(connection.over for connection in connections))
    await asyncio.wait_for(waiting, seconds + CONNECTION_TIMEOUT)
    latencies = [latency for connection in connections for latency in connection.latencies]
    errors = sum(connection.errors for connection in connections)
    elapsed, used = time.perf_counter() - begin, time.process_time() - used
    return summarize(latencies, errors=errors, seconds=elapsed, cpu=used)


def generators() -> dict[str, str]:
    """Return the name of the generator of each transport, as `measure` chooses it."""
    own = "benchmarks/load.py"
    return {"REST": "wrk" if shutil.which("wrk") else own, "gRPC": own}


def measure(request: Request, *, clients: int, seconds: float) -> Load:
    """Load a server from another process: wrk for HTTP/1.1 where there is one, else this module."""
    if not request.grpc and shutil.which("wrk"):
        return http_with_wrk(request, clients=clients, seconds=seconds)
    return measure_with_own(request, clients=clients, seconds=seconds)


def measure_with_own(request: Request, *, clients: int, seconds: float) -> Load:
    """Load a server from another process with this module, which sends any bytes."""
    orders = {
        "request": {**asdict(request), "body": request.body.hex()},
        "clients": clients,
        "seconds": seconds,
    }
    answer = run(
        [sys.executable, "-m", "benchmarks.load"],
        purpose=f"load port {request.port}",
        timeout=seconds + 2 * CONNECTION_TIMEOUT,
        stdin=json.dumps(orders),
        directory=Path(__file__).parents[1],
    )
    return Load(**json.loads(answer))


def http_with_wrk(request: Request, *, clients: int, seconds: float) -> Load:
    """Load a server with wrk (https://github.com/wg/wrk), one thread for all connections."""
    headers = [f"-H{name}: {value}" for name, value in request.headers.items()]
    used = _cpu_of_children()
    answer = run(
        [
            *("wrk", "-t1", f"-c{clients}", f"-d{seconds:.0f}s", *headers, "-s", str(_WRK)),
            f"http://127.0.0.1:{request.port}{request.path}",
        ],
        purpose=f"load port {request.port}",
        timeout=seconds + 2 * CONNECTION_TIMEOUT,
        environment={"WRK_BODY": request.body.decode()},
    )
    found = json.loads(answer[answer.rindex("\n{") :])
    return Load(**found, generator_cpu=(_cpu_of_children() - used) / found["seconds"])


def _cpu_of_children() -> float:
    """Return the processor time of the processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _main() -> None:
    import uvloop

    orders = json.load(sys.stdin)
    request = Request(**{**orders["request"], "body": bytes.fromhex(orders["request"]["body"])})
    work = generate(request, clients=orders["clients"], seconds=orders["seconds"])
    print(json.dumps(asdict(uvloop.run(work))))


if __name__ == "__main__":
    _main()
