"""Pages of metrics: of other people, damaged, huge, and of servers that do not answer well."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mlops_pipeline.clients import metrics_pages
from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.clients.metrics_pages import Sample, samples

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n"


def read(page: str, *names: str) -> list[Sample]:
    return list(samples(page, names, where="toy"))


def test_only_the_named_samples_are_read() -> None:
    page = """# HELP a_total What a b{c="d"} 1 is
# TYPE a_total counter
a_total{x="1"} 2.0
a_total_created{x="1"} nonsense nonsense
other{ 1
b 3e+06 1700000000000
"""
    with pytest.raises(UnavailableError, match=r"of toy: .*got 'a_total_created"):
        read(page, "a_total")
    page = page.replace("nonsense nonsense", "3")
    assert read(page, "a_total", "b") == [
        Sample("a_total", {"x": "1"}, 2.0),
        Sample("b", {}, 3e6),
    ]
    assert read(page, "c") == []


def test_every_way_to_write_a_sample() -> None:
    page = 'a {x = "1", y="a\\\\b\\"c\\nd}, e=" ,} 1\t1700\r\na{} +Inf\na{z="\x85\u2028"} 0x1'
    with pytest.raises(UnavailableError, match="0x1"):
        read(page, "a")
    first, second = read(page.rpartition("\n")[0], "a")
    assert first == Sample("a", {"x": "1", "y": 'a\\b"c\nd}, e='}, 1.0)
    assert second == Sample("a", {}, float("inf"))


@pytest.mark.parametrize(
    "line",
    [
        "a",
        "a{} ",
        "a{x} 1",
        'a{x="1} 2',
        'a{x="1"',
        'a{x="1"y="2"} 3',
        'a{x="1",x="2"} 3',
        'a{x="\\"} 3',
        'a{1x="1"} 3',
        "a 1_000",
        "a one",
        "a 1 2 3",
        'a{x="1"} 2{}',
        "<html>a</html>",
    ],
)
def test_a_damaged_line_is_quoted(line: str) -> None:
    names = ("a", "<html>")
    with pytest.raises(UnavailableError, match=r"could not read the metrics of toy: expected") as e:
        read(f"b 1\n{line}\n", *names)
    assert repr(line) in str(e.value)


def test_a_long_damaged_line_is_cut() -> None:
    with pytest.raises(UnavailableError) as raised:
        read("a" * 1_000_000, "a")
    assert len(str(raised.value)) < 500


@given(
    values=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")),
        st.floats(allow_nan=False),
        max_size=5,
    )
)
def test_it_reads_what_prometheus_writes(values: dict[str, float]) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("some", "With labels", ["one", "two"], registry=registry)
    for text, number in values.items():
        gauge.labels(text, "constant").set(number)
    Counter("other", "Another", registry=registry).inc(2)
    page = generate_latest(registry).decode()
    theirs = [
        Sample(s.name, s.labels, s.value)
        for family in text_string_to_metric_families(page)
        for s in family.samples
        if s.name in ("some", "other_total")
    ]
    assert read(page, "some", "other_total") == theirs


def test_labels_of_fifty_thousand_lines_are_skipped_quickly() -> None:
    line = 'timer_bucket{le="0.1",tag="x",deployment_name="d",predictor_name="p"} 1.0\n'
    page = line * 50_000 + "a 1\n"
    start = time.perf_counter()
    assert read(page, "a") == [Sample("a", {}, 1.0)]
    assert time.perf_counter() - start < 1


# Fetching


@contextmanager
def answering(*pieces: bytes, pause: float = 0.0) -> Iterator[str]:
    """Answer each request with these bytes, and then close the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    try:
                        for piece in pieces:
                            connection.sendall(piece)
                            over.wait(pause)
                    except OSError:  # The reader has seen enough.
                        continue

        over = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize(
    "pieces",
    [
        (GOOD,),
        (b"HTTP/1.1 200 OK\r\n\r\na 1\n",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\na 1\n\r\n0\r\n\r\n"),
    ],
)
def test_a_page_is_fetched(pieces: tuple[bytes, ...]) -> None:
    with answering(*pieces) as url:
        assert metrics_pages.fetch(url) == "a 1\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (GOOD.replace(b"200 OK", b"404 Not Found"),),
        (GOOD.replace(b"200 OK", b"301 Moved"),),
        (GOOD[:-2],),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\na 1\n\r\n"),
        (b"nonsense",),
        (b"",),
    ],
)
def test_no_page(pieces: tuple[bytes, ...]) -> None:
    with answering(*pieces) as url:
        assert metrics_pages.fetch(url) is None


def test_nobody_answers() -> None:
    with answering() as url:
        pass
    assert metrics_pages.fetch(url) is None


def test_a_slow_page_is_given_up_in_time() -> None:
    start = time.monotonic()
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", *[b"a 1\n"] * 100, pause=0.1) as url:
        assert metrics_pages.fetch(url, timeout=0.4) is None
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("length", [b"", b"Content-Length: 9000000000\r\n"])
def test_a_huge_page_is_refused_before_it_is_read(length: bytes) -> None:
    pieces = (b"HTTP/1.1 200 OK\r\n" + length + b"\r\n", *[b"a 1\n" * 20_000] * 100)
    with (
        answering(*pieces) as url,
        pytest.raises(UnavailableError, match="more than 100000 bytes") as raised,
    ):
        metrics_pages.fetch(url, most=100_000)
    assert url in str(raised.value)
