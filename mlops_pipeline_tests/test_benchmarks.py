"""The pure parts of the benchmark: nothing here is timed."""

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import batching, load, report, serving, stages
from benchmarks.load import Request
from benchmarks.peers import Server
from mlops_pipeline.serving.inference_pb2 import ModelInferRequest
from mlops_pipeline_tests.serving.toy_model import toy_model

ROOT = Path(__file__).parents[1]
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# Numbers


@pytest.mark.parametrize(("share", "value"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)])
def test_a_percentile_is_the_value_at_its_rank(share: float, value: float) -> None:
    assert load.percentile([float(n) for n in range(1, 101)], share) == value


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert load.percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="nothing"):
        load.percentile([], 0.5)


def test_latencies_are_summarized_in_milliseconds() -> None:
    found = load.summarize([0.003, 0.001, 0.002], errors=1, seconds=2.0, cpu=0.5)
    assert (found.requests, found.errors, found.generator_cpu) == (3, 1, 0.25)
    assert (found.mean, found.p50, found.p99) == pytest.approx((2.0, 2.0, 3.0))


def test_a_server_that_never_answers_well_is_no_result() -> None:
    with pytest.raises(RuntimeError, match="4 errors"):
        load.summarize([], errors=4, seconds=1.0, cpu=0.1)


def test_runs_are_shown_by_their_median_and_spread() -> None:
    assert report.spread([3.0, 1.0, 2.0]) == report.Spread(2.0, 1.0, 3.0, 3)
    assert report.shown([3.0, 1.0, 2.25]) == "2.2 (1.0–3.0)"


# The generator


@contextlib.asynccontextmanager
async def _listening(answer: Answering) -> AsyncIterator[int]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _generate(answer: Answering, **request: Any) -> load.Load:
    async def work() -> load.Load:
        async with _listening(answer) as port:
            return await load.generate(Request(port, "/x", b"{}", **request), clients=2, seconds=0)

    return asyncio.run(work())


@pytest.mark.parametrize(("status", "good"), [("200 OK", 2), ("500 Oh", 0)])
def test_answers_by_http_are_counted_by_their_status(status: str, good: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"POST /x HTTP/1.1" in await reader.readuntil(b"{}")
        for part in (f"HTTP/1.1 {status}\r\nConte", "nt-Length: 2\r\n\r\n{", "}"):
            writer.write(part.encode())
            await writer.drain()
        await reader.read()
        writer.close()

    if good:
        assert _generate(answer).requests == 2
    else:
        with pytest.raises(RuntimeError, match="2 errors"):
            _generate(answer)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


@pytest.mark.parametrize("message", [b"\0\0\0\0\2ok", b""])
def test_answers_by_grpc_are_good_when_they_have_a_message(message: bytes) -> None:
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\0\0\0\0\2{}"))
        writer.write(_frame(4, 0, 0) + _frame(6, 0, 0, b"12345678") + _frame(1, 4, 1, b"\x88"))
        writer.write(_frame(0, 0, 1, message) if message else b"")
        writer.write(_frame(1, 5, 1, b"\xbf"))
        seen.append(await reader.read())
        writer.close()

    if message:
        assert _generate(answer, grpc=True, headers={"seldon": "iris"}).requests == 2
    else:
        with pytest.raises(RuntimeError, match="2 errors"):
            _generate(answer, grpc=True)
    assert seen[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert b"\x05:path\x02/x" in seen[0]
    assert _frame(6, 1, 0, b"12345678") in seen[-1], "a ping is answered"


# The profile


def test_a_sample_counts_for_the_innermost_part_that_it_is_in() -> None:
    main = "main (runpy.py:1);run (mlops_pipeline/serving/run.py:40)"
    folded = (
        f"{main};answer (mlops_pipeline/serving/app.py:9);f (numpy/core.py:1) 3\n"
        f"{main};answer (mlops_pipeline/serving/app.py:9);g (sklearn/base.py:2) 5\n"
        f"{main};answer (mlops_pipeline/serving/app.py:7) 2\n"
        f"{main} 1\n"
        "Thread.run (threading.py:1) 9\n"
    )
    counted = serving.areas(folded)
    parts = ("mlops_pipeline/serving/", "sklearn/", "mlops_pipeline/serving/run.py")
    assert [counted[serving.AREAS[part]] for part in parts] == [5, 5, 1]
    assert sum(counted.values()) == 11, "other threads do not count"


# The page


def _point(server: str, protocol: str, clients: int, **values: float) -> dict[str, Any]:
    defaults = {"mean": 1.0, "p50": 1.0, "p99": 2.0, "requests_per_second": 1000.0}
    defaults |= {"errors": 0, "server_cpu_ms": 0.4, "generator_cpu": 0.05}
    return {
        "server": server,
        "protocol": protocol,
        "clients": clients,
        "rounds": [defaults | values] * 3,
    }


def _batching_points() -> list[dict[str, Any]]:
    rates = {batching.ALONE: 1000.0, batching.TOGETHER: 3000.0}
    return [
        _point(name, protocol, clients, requests_per_second=rate, batch=8.0)
        for clients in batching.CLIENTS
        for protocol in (batching.GRPC, batching.BINARY, batching.JSON)
        for name, rate in rates.items()
    ] + [
        _point(batching.ECHO, batching.GRPC, clients, requests_per_second=4000.0)
        for clients in batching.CLIENTS
    ]


def _results(**gateway: float) -> dict[str, Any]:
    points = []
    for clients in serving.CLIENTS:
        for transport in ("REST", "gRPC"):
            for protocol in (f"{transport} Seldon", f"{transport} V2"):
                points.append(_point("gateway", protocol, clients, **gateway))
                points.append(_point("server", protocol, clients))
            points.append(_point("bare", f"{transport} Seldon", clients, p50=0.5))
            rates = {"MLServer": 400.0, "MLServer, 0 workers": 500.0}
            for name, rate in rates.items():
                slow = _point(name, f"{transport} V2", clients, requests_per_second=rate)
                points.append(slow)
    step = {"iris/model": 2.0, "iris/model_checks": 0.5}
    seconds = {name: [4.0, 9.0, 5.0] for name in report.TARGETS}
    return {
        "command": "make bench",
        "commit": "abc",
        "started": "2026-01-01T00:00:00+00:00",
        "machine": {
            "processor": "P",
            "processors": 2,
            "memory_bytes": 8e9,
            "system": "Linux",
            "load_before": 0.1,
        },
        "versions": {"python": "3.11", "libraries": {"numpy": "2"}, "peers": {"numpy": "3"}},
        "lifecycle": {
            "seconds": seconds,
            "assets": {"up from nothing": [step, step]},
            "memory": {"kind": "PSS", "parts": {"gateway": 3e7, "object store": 2e8}},
        },
        "serving": {
            "generators": {"REST": "wrk", "gRPC": "own"},
            "points": points,
            "profiles": [{"protocol": "REST Seldon", "areas": {"a": 3, "b": 1}, "refused": ""}],
        },
        "batching": {
            "commit": "abc",
            "started": "2026-01-01T00:00:00+00:00",
            "load": 0.1,
            "points": _batching_points(),
        },
    }


def _verdicts(results: dict[str, Any]) -> dict[str, str]:
    return {what: word for what, _, _, word in report.targets(results)}


def test_targets_are_met_or_missed_by_their_numbers() -> None:
    results = _results()
    found = _verdicts(results)
    assert found["`mlops-pipeline up` from nothing"] == report.MET
    assert found["A Python process that makes the definitions"] == report.MISSED, "5.0 > 2"
    assert found["All processes at rest"] == report.MET
    assert found["REST Seldon, 1 client, requests"] == report.MET
    assert found["gRPC V2, 32 clients, throughput"] == report.MET, "1000 / 500"
    assert found["REST V2, 1 client, p50"] == report.MET, "1.0 / 0.5"


def test_a_slow_gateway_misses_every_target_of_serving() -> None:
    slow = _verdicts(_results(requests_per_second=100.0, mean=11.0, p50=11.0, p99=30.0))
    words = {what: word for what, word in slow.items() if "client" in what}
    assert set(words.values()) == {report.MISSED}


def test_the_faster_mlserver_is_what_we_are_compared_with() -> None:
    found = report.Serving(_results()["serving"])
    assert found.beside_mlserver("REST Seldon", 1) == ("MLServer, 0 workers", [2.0, 2.0, 2.0])


def test_checks_count_for_their_asset() -> None:
    assert "| iris/model | 2.5 |" in report.blocks(_results())["assets"]


def test_batching_is_compared_within_rounds() -> None:
    rows = report.blocks(_results())["batching"]
    assert "| gRPC V2, raw | 32 | 1000 (1000–1000) | 3000 (3000–3000) | 3.00 (3.00–3.00) |" in rows
    assert "4000 (4000–4000) with 32 clients" in rows


def test_every_protocol_is_asked_for_the_same_image() -> None:
    asked = batching.requests(Server("batching", 1, 2, ()))
    raw = ModelInferRequest.FromString(asked[batching.GRPC].body).raw_input_contents[0]
    binary = asked[batching.BINARY]
    assert binary.body[int(binary.headers["inference-header-content-length"]) :] == raw
    (row,) = json.loads(asked[batching.JSON].body)["data"]["ndarray"]
    assert np.array(row, np.float32).tobytes() == raw


def test_a_profile_that_was_refused_says_so() -> None:
    results = _results()
    results["serving"]["profiles"][0]["refused"] = "not allowed"
    assert "not allowed" in report.blocks(results)["profile"]


def test_tables_replace_what_is_between_their_markers() -> None:
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    once = report.fill(page, {"x": "new"})
    assert once == "a\n<!-- begin x -->\n\nnew\n<!-- end x -->\nb\n"
    assert report.fill(once, {"x": "new"}) == once
    with pytest.raises(ValueError, match="places"):
        report.fill(page, {"y": "new"})


def test_the_page_has_a_place_for_every_table() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    filled = report.fill(page, report.blocks(_results()))
    assert "| gRPC V2 | **ours, through the gateway** | 1000 (1000–1000) |" in filled


def test_every_stage_of_a_request_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SECONDS", 0.0)
    found = {
        name: stages.microseconds(stage) for name, stage in stages.stages(toy_model(), 3).items()
    }
    assert list(found)[-1] == "everything"
    assert min(found.values()) > 0
