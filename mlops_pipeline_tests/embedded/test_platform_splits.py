"""Several predictors behind the gateway: who answers what one of them loses, and who is counted."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded.gateway import EnvoyGateway
from mlops_pipeline.platforms.embedded.gateway_counts import LostRequests
from mlops_pipeline.platforms.embedded.records import Records
from mlops_pipeline.platforms.embedded.routing import (
    PROTOCOLS,
    Endpoint,
    Protocol,
    Route,
    Target,
    cluster_name,
)
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.layers import by_name
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in

pytestmark = pytest.mark.embedded

STABLE, CANDIDATE = "stable", "candidate"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
METADATA = (("seldon", "toy"), ("namespace", "seldon"))
NOTHING = LostRequests(0, 0)


@dataclass(frozen=True)
class Split:
    """A deployment of two predictors, each named like the digest that it answers with."""

    rig: Rig

    def apply(self, candidate: int = 50, *, shadow: bool = False, sticky: str = "") -> None:
        """Give the candidate this share, and let both servers answer as they should."""
        uris = {name: self.rig.publish(name, grpc=True) for name in (STABLE, CANDIDATE)}
        self.rig.apply(
            predictor(uris[STABLE], STABLE, traffic=100 if shadow else 100 - candidate),
            predictor(uris[CANDIDATE], CANDIDATE, traffic=candidate, shadow=shadow),
            sticky=sticky,
        )
        for name in (STABLE, CANDIDATE):
            self.behave(name, losing="", thinking=0)

    @property
    def route(self) -> Route:
        records = Records(EmbeddedFolder.at(self.rig.home).deployments)
        record = records.find("toy", namespace="seldon")
        assert record is not None
        return record.route

    def target(self, name: str) -> Target:
        (target,) = [t for t in self.route.targets if t.predictor == name]
        return target

    def server(self, name: str) -> Endpoint:
        (endpoint,) = self.target(name).endpoints
        return endpoint

    def behave(self, name: str, **behaviour: Any) -> None:
        url = f"http://127.0.0.1:{self.server(name).http}/behave"
        httpx.post(url, json=behaviour, timeout=10).raise_for_status()

    def seen(self, name: str) -> int:
        url = f"http://127.0.0.1:{self.server(name).http}/seen"
        return int(httpx.get(url, timeout=10).json()["seen"])

    def cluster(self, name: str, protocol: Protocol) -> str:
        return cluster_name(self.route, self.target(name), protocol)

    @property
    def gateway(self) -> EnvoyGateway:
        gateway = by_name(self.rig.platform.layers, "gateway")
        assert isinstance(gateway, EnvoyGateway)
        return gateway

    def lost(self, protocol: Protocol) -> tuple[LostRequests, LostRequests]:
        """Return the counts of the stable version and the candidate."""
        names = [self.cluster(name, protocol) for name in (STABLE, CANDIDATE)]
        found = self.gateway.lost(names)
        return found[names[0]], found[names[1]]

    def active(self, name: str, protocol: Protocol) -> int:
        return self.gateway.active([self.cluster(name, protocol)])

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Stop the server, so that its ports refuse connections; it serves again at the end."""
        program = self.server(name).program
        self.rig.stop(program)
        try:
            yield
        finally:
            self.apply()

    def ask(self, protocol: Protocol, *, times: int, **request: Any) -> "Counter[str]":
        """Send one request after the other, and return how many answers had each digest."""
        with self.client(protocol) as client:
            return Counter(client(**request) for _ in range(times))

    @contextmanager
    def client(self, protocol: Protocol) -> Iterator[Any]:
        """A function that sends a request, and returns the digest that answered.

        Raises:
            httpx.HTTPError, grpc.RpcError: the answer is not 200 or OK.
        """
        if protocol == "http":
            with httpx.Client(timeout=20) as http:

                def post(**request: Any) -> str:
                    answer = http.post(self.rig.url(), **{"content": b"{}", **request})
                    return str(answer.raise_for_status().json()["digest"])

                yield post
            return
        import grpc

        address = self.rig.platform.gateway_url().removeprefix("http://")
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary(METHOD)

            def infer(body: bytes = b"{}", metadata: Sequence[tuple[str, str]] = ()) -> str:
                return str(call(body, metadata=(*METADATA, *metadata), timeout=20).decode())

            yield infer


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_in(tmp_path_factory.mktemp("splits") / "s", gateway_workers=2) as rig:
        rig.up()
        yield rig


@pytest.fixture
def split(rig: Rig) -> Split:
    split = Split(rig)
    split.apply()
    return split


def since(after: LostRequests, before: LostRequests) -> LostRequests:
    return LostRequests(after.requests - before.requests, after.lost - before.lost)


@pytest.mark.parametrize(
    ("protocol", "losing"), [("http", "503"), ("http", "reset"), ("grpc", "503")]
)
def test_what_the_candidate_loses_is_answered_by_the_stable_version_and_counted_once(
    split: Split, protocol: Protocol, losing: str
) -> None:
    split.behave(CANDIDATE, losing=losing)
    before, seen = split.lost(protocol), split.seen(CANDIDATE)
    assert split.ask(protocol, times=60) == {STABLE: 60}
    stable, candidate = map(since, split.lost(protocol), before)
    assert candidate.lost == candidate.requests == split.seen(CANDIDATE) - seen
    assert 10 < candidate.lost < 50
    assert stable == LostRequests(60 - candidate.requests, 0)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_candidate_that_refuses_connections_loses_its_requests_to_the_stable_version(
    split: Split, protocol: Protocol
) -> None:
    with split.without(CANDIDATE):
        before = split.lost(protocol)
        large = b'{"x": "%s"}' % (b"x" * 3_000_000)
        assert split.ask(protocol, times=40) == {STABLE: 40}
        request = {"content": large} if protocol == "http" else {"body": large}
        assert split.ask(protocol, times=10, **request) == {STABLE: 10}
        stable, candidate = map(since, split.lost(protocol), before)
        assert candidate.lost == candidate.requests == 50 - stable.requests
        assert 8 < candidate.lost < 42
        assert stable.lost == 0


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_requests_that_a_candidate_works_on_when_it_dies_are_answered(
    split: Split, protocol: Protocol
) -> None:
    for name in (STABLE, CANDIDATE):
        split.behave(name, thinking=3)
    before = split.lost(protocol)

    def describe_missing() -> str | None:
        active = sum(split.active(name, protocol) for name in (STABLE, CANDIDATE))
        return None if active == 20 else f"{active} active requests"

    with ThreadPoolExecutor(20) as pool, split.client(protocol) as client:
        futures = [pool.submit(client) for _ in range(20)]
        wait_until("20 active requests", describe_missing, timeout=10, interval=0.02)
        split.rig.kill(split.server(CANDIDATE).program)
        retried = split.active(CANDIDATE, protocol)
        answered = Counter(future.result(timeout=20) for future in futures)
    stable, candidate = map(since, split.lost(protocol), before)
    assert answered == {STABLE: 20}
    assert candidate.lost == candidate.requests == 20 - stable.requests
    assert retried == candidate.lost, "whoever drains the candidate must wait for its retries"
    assert split.active(CANDIDATE, protocol) == split.active(STABLE, protocol) == 0
    wait_for(split, CANDIDATE)


def wait_for(split: Split, name: str) -> None:
    """Wait until the supervisor has started a server again that was killed."""

    def describe_unready() -> str | None:
        try:
            split.behave(name, losing="", thinking=0)
        except httpx.HTTPError as error:
            return repr(error)
        return None

    wait_until(f"the server of {name}", describe_unready, timeout=20, interval=0.05)


def test_the_stable_version_is_retried_on_the_candidate_and_500_is_not_retried(
    split: Split,
) -> None:
    split.behave(STABLE, losing="503")
    before = split.lost("http")
    assert split.ask("http", times=20) == {CANDIDATE: 20}
    stable, candidate = map(since, split.lost("http"), before)
    assert stable.lost == stable.requests == 20 - candidate.requests
    assert candidate.lost == 0
    split.behave(CANDIDATE, losing="503")
    before, seen = split.lost("http"), (split.seen(STABLE), split.seen(CANDIDATE))
    refused = httpx.post(split.rig.url(), json={}, timeout=20)
    assert refused.status_code == 503
    tried = split.seen(STABLE) - seen[0] + split.seen(CANDIDATE) - seen[1]
    assert tried == 3, "the first attempt and two retries"
    counted = [since(*counts) for counts in zip(split.lost("http"), before, strict=True)]
    assert sorted(counted, key=lambda count: count.requests) == [NOTHING, LostRequests(1, 1)]


def test_a_single_predictor_answers_503_itself(rig: Rig) -> None:
    rig.apply(predictor(rig.publish("alone"), "alone"))
    split = Split(rig)
    split.behave("alone", losing="503")
    name = split.cluster("alone", "http")
    before, seen = split.gateway.lost([name])[name], split.seen("alone")
    assert httpx.post(rig.url(), json={}, timeout=20).status_code == 503
    assert split.seen("alone") - seen == 1
    assert since(split.gateway.lost([name])[name], before) == LostRequests(1, 1)


def test_a_split_is_sticky_by_a_header_and_by_metadata(split: Split) -> None:
    users = [f"user-{number}" for number in range(150)]
    split.apply(20, sticky="header:X-User")
    first = answers_of(split, "http", users)
    assert 12 <= Counter(first.values())[CANDIDATE] <= 50
    assert answers_of(split, "http", users) == answers_of(split, "grpc", users) == first
    split.apply(50, sticky="header:X-User")
    more = answers_of(split, "http", users)
    assert 50 <= Counter(more.values())[CANDIDATE] <= 100
    assert [u for u in users if (first[u], more[u]) == (CANDIDATE, STABLE)] == []
    split.behave(CANDIDATE, losing="503")
    assert set(answers_of(split, "http", users[:20]).values()) == {STABLE}


def answers_of(split: Split, protocol: Protocol, users: Sequence[str]) -> dict[str, str]:
    """Return user → the digest that answered."""
    with split.client(protocol) as client:
        if protocol == "http":
            return {user: client(headers={"X-User": user}) for user in users}
        return {user: client(metadata=(("x-user", user),)) for user in users}


def test_a_split_is_sticky_by_a_cookie_that_the_gateway_gives(split: Split) -> None:
    split.apply(50, sticky="cookie:visitor")
    seen: Counter[str] = Counter()
    for _ in range(20):
        with httpx.Client(timeout=20) as browser:
            first = browser.post(split.rig.url(), json={})
            again = [browser.post(split.rig.url(), json={}) for _ in range(3)]
        assert {a.json()["digest"] for a in again} == {first.json()["digest"]}
        assert "Path=/seldon/seldon/toy/; Max-Age=2592000; HttpOnly" in first.headers["set-cookie"]
        assert not any("set-cookie" in answer.headers for answer in again)
        seen[first.json()["digest"]] += 1
        cookie = ("cookie", f"visitor={first.cookies['visitor']}")
        (by_grpc,) = split.ask("grpc", times=1, metadata=(cookie,))
        assert by_grpc == first.json()["digest"]
    assert set(seen) == {STABLE, CANDIDATE}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_shadow_that_is_slow_or_dead_neither_delays_nor_fails_an_answer(
    split: Split, protocol: Protocol
) -> None:
    split.apply(100, shadow=True)
    split.behave(CANDIDATE, thinking=2)
    seen = split.seen(CANDIDATE)
    start = time.monotonic()
    assert split.ask(protocol, times=20) == {STABLE: 20}
    assert time.monotonic() - start < 20, "if answers waited for copies, it would be 40 s"
    copies = lambda: None if split.seen(CANDIDATE) - seen == 20 else "fewer copies"  # noqa: E731
    wait_until("the copies of the requests", copies, timeout=10, interval=0.05)
    done = lambda: f"{n} copies" if (n := split.active(CANDIDATE, protocol)) else None  # noqa: E731
    wait_until("their answers", done, timeout=20, interval=0.05)
    if protocol == "http":
        split.behave(CANDIDATE, thinking=0, losing="503")
        before = split.lost(protocol)
        assert split.ask(protocol, times=20) == {STABLE: 20}
        wait_until("the copies", lambda: describe_lost(split, protocol, before), timeout=10)
    with split.without(CANDIDATE):
        before = split.lost(protocol)
        assert split.ask(protocol, times=20) == {STABLE: 20}
        wait_until("the copies", lambda: describe_lost(split, protocol, before), timeout=10)


def describe_lost(
    split: Split, protocol: Protocol, before: tuple[LostRequests, LostRequests]
) -> str | None:
    """Say what was counted if it is not 20 answers of the stable version and 20 lost copies."""
    counted = tuple(map(since, split.lost(protocol), before))
    return None if counted == (LostRequests(20, 0), LostRequests(20, 20)) else str(counted)


class Clients:
    """REST and gRPC clients, each with a connection of its own, until the block ends."""

    def __init__(self, split: Split, *, each: int) -> None:
        self._split = split
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(protocol,), daemon=True)
            for protocol in PROTOCOLS * each
        ]
        self.answers: Counter[tuple[str, str]] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(25)
            if thread.is_alive():
                self.failures.append("a request was never answered")

    def _run(self, protocol: Protocol) -> None:
        with self._split.client(protocol) as client:
            while not self._over.wait(0.005):
                try:
                    self.answers[protocol, client()] += 1
                except Exception as error:  # noqa: BLE001 - whichever it is, the test fails
                    self.failures.append(f"{protocol}: {error!r}")


@pytest.mark.parametrize("share", [5, 50])
def test_every_request_is_answered_whatever_happens_to_the_candidate(
    split: Split, share: int
) -> None:
    split.apply(share)
    before = {protocol: split.lost(protocol) for protocol in PROTOCOLS}
    with Clients(split, each=2) as clients:
        for losing in ("503", "reset", ""):
            split.behave(CANDIDATE, losing=losing)
            time.sleep(0.7)  # noqa: TID251 - the load goes on meanwhile
        split.rig.kill(split.server(CANDIDATE).program)
        wait_for(split, CANDIDATE)
        split.apply(100 - share)
        split.rig.kill(split.server(CANDIDATE).program)
        wait_for(split, CANDIDATE)
    assert clients.failures == []
    assert set(clients.answers) == {(p, name) for p in PROTOCOLS for name in (STABLE, CANDIDATE)}
    for protocol in PROTOCOLS:
        stable, candidate = map(since, split.lost(protocol), before[protocol])
        answered = {name: clients.answers[protocol, name] for name in (STABLE, CANDIDATE)}
        assert stable.requests + candidate.requests == sum(answered.values())
        assert stable == LostRequests(answered[STABLE] - candidate.lost, 0)
        assert candidate.lost > 0


def test_no_request_is_lost_when_a_candidate_that_loses_each_is_removed(split: Split) -> None:
    split.behave(CANDIDATE, losing="503")
    with Clients(split, each=2) as clients:
        split.rig.apply(predictor(split.rig.publish(STABLE, grpc=True), STABLE))
    assert clients.failures == []
    assert {digest for _, digest in clients.answers} == {STABLE}
