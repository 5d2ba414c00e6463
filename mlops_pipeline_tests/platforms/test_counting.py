"""What servers have counted, from the page of the real server and from damaged ones."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.platforms.counting import in_parallel, process_id, server_counts
from mlops_pipeline.platforms.platform import ServerCounts
from mlops_pipeline.serving.custom.metrics import CustomMetrics
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.recording.watch import Watch
from mlops_pipeline_tests.fakes.predictions import metrics_page
from mlops_pipeline_tests.serving.toy_model import toy_model, toy_signature, toy_unit


class Server:
    """The counters of a server, in this process."""

    def __init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.unit = toy_unit(toy_model(toy_signature()))

    @property
    def page(self) -> str:
        return self.metrics.exposition().body.decode()

    def watch(self, protocol: str, transport: str = "rest") -> Watch:
        return self.metrics.watch(self.unit, protocol, transport)

    def counts(self) -> ServerCounts:
        found = server_counts(self.page, server="toy")
        assert found is not None
        return found


def end(watch: Watch, status: int, *, seconds: float = 0.0, is_skipped: bool = False) -> None:
    exchange = watch.begin()
    exchange.began -= seconds
    exchange.is_skipped = is_skipped
    watch.end(exchange, status=status)


def test_a_server_counts_answers_and_failures_of_all_protocols() -> None:
    server = Server()
    assert server.counts().slower == {}
    rest, call = server.watch("seldon"), server.watch("v2", "grpc")
    for seconds in (0.0, 0.3, 3.0):
        end(rest, 200, seconds=seconds)
    end(call, 200, seconds=0.3)
    for status, times in ((500, 2), (503, 1), (400, 5), (404, 1), (0, 4)):
        for _ in range(times):
            end(call, status, seconds=9.0)
    counts = server.counts()
    assert (counts.server, counts.answered, counts.failed) == ("toy", 4, 3)
    shown = {limit: counts.slower[limit] for limit in ("0.25", "0.5", "1.0", "2.5")}
    assert shown == {"0.25": 3, "0.5": 1, "1.0": 1, "2.5": 1}
    assert "+Inf" not in counts.slower


def test_what_a_client_does_not_want_logged_is_not_counted_as_slow_or_failed() -> None:
    server = Server()
    rest = server.watch("seldon")
    for status in (200, 500, 400):
        end(rest, status, seconds=9.0, is_skipped=True)
    counts = server.counts()
    assert (counts.answered, counts.failed, set(counts.slower.values())) == (0, 0, {0})
    end(rest, 200, seconds=9.0)
    assert set(server.counts().slower.values()) == {1}


def test_a_custom_components_metrics_never_count() -> None:
    server = Server()
    custom = CustomMetrics()
    server.metrics.collect(custom)
    taken: list[dict[str, Any]] = [
        {"key": "mlops_answers_total", "type": "COUNTER", "value": 100, "tags": {}},
        {
            "key": "mlops_answers_total",
            "type": "COUNTER",
            "value": 100,
            "tags": dict.fromkeys(
                ("predictor", "digest", "protocol", "transport", "outcome"), "answered"
            ),
        },
        {"key": "mlops_prediction_seconds", "type": "TIMER", "value": 1, "tags": {"protocol": ""}},
        {"key": "process_start_time_seconds", "type": "GAUGE", "value": 1, "tags": {}},
        {"key": "mlops_process_id", "type": "GAUGE", "value": 1, "tags": {}},
    ]
    before = server.counts(), process_id(server.page, server="toy")
    custom.add(taken)
    assert server.page.count("process_start_time_seconds{") == 1
    assert (server.counts(), process_id(server.page, server="toy")) == before


def test_other_peoples_pages_have_no_counts() -> None:
    assert server_counts("# TYPE up gauge\nup 1\n", server="toy") is None
    assert server_counts("<html>Not here</html>", server="toy") is None
    assert server_counts("", server="toy") is None
    assert process_id("up 1\n", server="toy") is None


def test_the_fakes_page_is_one_that_prometheus_reads() -> None:
    page = metrics_page(answered=3, started=10.5, failed=2, more="up 1")
    assert server_counts(page, server="toy") == ServerCounts(
        "toy", 10.5, 3, 2, {"0.1": 3, "1.0": 0}
    )
    assert list(text_string_to_metric_families(page))


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ('outcome="failed"} 2.0', 'outcome="failed"} -2.0'),
        ('outcome="failed"} 2.0', 'outcome="failed"} 2.5'),
        ('outcome="failed"} 2.0', 'outcome="failed"} NaN'),
        ('outcome="failed"} 2.0', 'outcome="failed"} +Inf'),
        ('outcome="failed"} 2.0', 'outcome="failed"'),
        ('outcome="failed"} 2.0', 'outcome="failed"} two'),
        ('le="1.0",protocol="seldon"} 3.0', 'le="1.0",protocol="seldon"} 4.0'),
        ("process_start_time_seconds 10.5", "process_start_time_seconds NaN"),
        ("process_start_time_seconds 10.5", ""),
        ("process_start_time_seconds 10.5", "process_start_time_seconds 1\n" * 2),
    ],
)
def test_a_damaged_page_is_not_read(now: str, then: str) -> None:
    page = metrics_page(answered=3, started=10.5, failed=2)
    assert now in page
    with pytest.raises(UnavailableError, match=r"could not read the metrics of toy: .*/metrics"):
        server_counts(page.replace(now, then), server="toy")


def test_several_servers_are_asked_in_their_order() -> None:
    assert in_parallel(lambda n: n * n, range(20)) == [n * n for n in range(20)]
    assert in_parallel(lambda n: n * n, [3]) == [9]
    assert in_parallel(lambda n: n * n, []) == []
