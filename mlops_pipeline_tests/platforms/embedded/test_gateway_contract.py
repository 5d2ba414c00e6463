"""What the fake gateway promises, Envoy keeps."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from mlops_pipeline.clients.errors import FatalStateError
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded.gateway import EnvoyGateway
from mlops_pipeline.platforms.embedded.gateway_counts import LostRequests
from mlops_pipeline.platforms.embedded.interfaces import Gateway
from mlops_pipeline.platforms.embedded.records import Record, Records
from mlops_pipeline.platforms.embedded.routing import Endpoint, Route, Target, cluster_name
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.layers import Drifted, Ready, by_name
from mlops_pipeline_tests.background import in_background
from mlops_pipeline_tests.embedded.rig import deployment, predictor, rig_in
from mlops_pipeline_tests.fakes.gateway import FakeGateway

ANSWERED = threading.Event()
"""Set: the server of the tests answers what it was asked."""


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        ANSWERED.wait(20)
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@dataclass
class Place:
    """A gateway, the records that it reads, and a server behind it."""

    gateway: Gateway
    records: Records
    port: int

    def route(self, name: str = "toy", *, servers: str = "abc", traffic: int = 100) -> Route:
        endpoints = (Endpoint(f"server-{name}", self.port, self.port),)
        target = Target("default", servers, traffic, shadow=False, endpoints=endpoints)
        return Route("seldon", name, (target,))

    def publish(self, *routes: Route) -> tuple[bool, bool]:
        return self.gateway.publish("clusters", routes), self.gateway.publish("routes", routes)

    def split(self) -> Route:
        """Return a route to the server and to a predictor that refuses each connection."""
        (server,) = self.route("split").targets
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        refusing = replace(
            server, predictor="refusing", endpoints=(Endpoint("server-refusing", port, port),)
        )
        targets = (replace(server, traffic=50), replace(refusing, traffic=50))
        return Route("seldon", "split", targets)

    def ask(self, route: Route, *, times: int) -> None:
        """Send requests to a split whose second predictor answers none; each is answered."""
        if isinstance(self.gateway, FakeGateway):
            answering, refusing = (cluster_name(route, t, "http") for t in route.targets)
            half = times // 2
            self.gateway.losses[answering] = LostRequests(times - half, 0)
            self.gateway.losses[refusing] = LostRequests(half, half)
            return
        url = f"{self.gateway.url()}/seldon/{route.namespace}/{route.name}/predict"
        ANSWERED.set()
        with httpx.Client(timeout=30) as client:
            for _ in range(times):
                client.post(url).raise_for_status()

    @contextmanager
    def request(self, route: Route) -> Iterator[None]:
        """One request to the deployment, which is answered at the end."""
        if isinstance(self.gateway, FakeGateway):
            self.gateway.requests[cluster_name(route, route.targets[0], "http")] += 1
            yield
            self.gateway.requests.clear()
            return
        url = f"{self.gateway.url()}/seldon/{route.namespace}/{route.name}/predict"
        thread = threading.Thread(target=httpx.post, args=(url,), kwargs={"timeout": 30})
        ANSWERED.clear()
        thread.start()
        try:
            yield
        finally:
            ANSWERED.set()
            thread.join()

    def refused(self) -> Route:
        """Return a route that the gateway refuses."""
        if isinstance(self.gateway, FakeGateway):
            self.gateway.refusal = "no such port"
        self.port = 70_000
        return self.route("refused")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EnvoyGateway, Records]]:
    with rig_in(tmp_path_factory.mktemp("gateway") / "s") as rig:
        rig.up()
        gateway = by_name(rig.platform.layers, "gateway")
        assert isinstance(gateway, EnvoyGateway)
        yield gateway, Records(EmbeddedFolder.at(rig.home).deployments)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.embedded)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "fake":
        records = Records(tmp_path)
        yield Place(FakeGateway(records), records, 9000)
        return
    gateway, records = request.getfixturevalue("real")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    with in_background(server):
        place = Place(gateway, records, server.server_port)
        yield place
        place.publish()


def test_what_is_published_is_new_once(place: Place) -> None:
    assert place.publish(place.route()) == (True, True)
    assert place.publish(place.route()) == (False, False)
    assert place.publish(place.route(servers="def")) == (True, True)
    assert place.publish() == (True, True)


def test_the_order_of_deployments_does_not_matter(place: Place) -> None:
    a, b = place.route("a"), place.route("b")
    place.publish(a, b)
    assert place.publish(b, a) == (False, False)


def test_it_is_ready_with_the_routes_of_the_records(place: Place) -> None:
    state = place.gateway.observe()
    assert isinstance(state, Ready)
    assert state.facts["address"] == place.gateway.url()
    assert (place.gateway.is_running(), place.gateway.is_down()) == (True, False)
    place.records.save(Record(deployment(predictor("s3://models/toy/1")), place.route()))
    try:
        assert isinstance(place.gateway.observe(), Drifted)
        place.publish(place.route())
        assert isinstance(place.gateway.observe(), Ready)
    finally:
        place.records.remove("toy", namespace="seldon")


def test_active_requests_are_counted_by_cluster(place: Place) -> None:
    route = place.route()
    name = cluster_name(route, route.targets[0], "http")
    place.publish(route)
    assert place.gateway.active([name]) == 0
    with place.request(route):

        def describe_unready() -> str | None:
            active = place.gateway.active([name])
            return None if active == 1 else f"{active} requests"

        wait_until("the request", describe_unready, timeout=10)
        assert place.gateway.active(["seldon/other/default/abc/http"]) == 0
    assert place.gateway.active([name]) == 0


def test_lost_requests_are_counted_by_cluster(place: Place) -> None:
    route = place.split()
    names = [cluster_name(route, target, "http") for target in route.targets]
    place.publish(route)
    before = place.gateway.lost(names)
    assert place.gateway.lost(["seldon/other/default/abc/http"]) == {
        "seldon/other/default/abc/http": LostRequests(0, 0)
    }
    place.ask(route, times=20)
    after = place.gateway.lost(names)
    requests = [after[name].requests - before[name].requests for name in names]
    assert sum(requests) == 20
    assert [after[name].lost - before[name].lost for name in names] == [0, requests[1]]


def test_what_it_refuses_is_a_fatal_state(place: Place) -> None:
    with pytest.raises(FatalStateError, match="Envoy refuses the new clusters"):
        place.gateway.publish("clusters", [place.refused()])
