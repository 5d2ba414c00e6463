"""The embedded platform's deployments on a supervisor, a gateway and a store in memory."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.embedded.deployments import EmbeddedDeployments
from mlops_pipeline.platforms.embedded.exposure import EmbeddedParts
from mlops_pipeline.platforms.embedded.keys import StoreKeys
from mlops_pipeline.platforms.embedded.models import ModelFolders
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.records import Records
from mlops_pipeline.platforms.embedded.routing import Endpoint
from mlops_pipeline.platforms.embedded.servers import Servers, program_prefix
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline_tests.embedded.rig import STAND_IN, deployment
from mlops_pipeline_tests.fakes.clocks import FakeClock
from mlops_pipeline_tests.fakes.gateway import FakeGateway
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.fakes.supervisor import FakeSupervisor

T = TypeVar("T")


class FakeSecrets:
    """The object store's layer: Secrets with a key of its own."""

    def __init__(self, state: EmbeddedFolder) -> None:
        self._keys = StoreKeys(state.object_store / "s3.json", secrets=state.secrets)
        self._keys.make()

    def write_secret(self, namespace: str) -> None:
        self._keys.write_secret(namespace, endpoint="http://fake")


class Killed(BaseException):
    """The process that changed something is gone, with all that it would have done after."""


class Mortal:
    """Something whose methods a process calls until it is killed."""

    def __init__(self, target: object, call: Callable[[], None]) -> None:
        self._target = target
        self._call = call

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found

        def called(*arguments: Any, **named: Any) -> Any:
            self._call()
            return found(*arguments, **named)

        return called


class FakeRig:
    """The same questions as of `embedded.rig.Rig`, and no process.

    `dropped` has each moment at which a request would have been lost. `calls_left` is after how
    many calls of what deployments are made of their process is killed; None: it is not.
    """

    def __init__(self, home: Path, **settings: Any) -> None:
        chosen: dict[str, Any] = {"ready_timeout": 20.0, "drain_timeout": 5.0}
        self.settings = EmbeddedOptions(server_command=STAND_IN, **{**chosen, **settings})
        self.state = EmbeddedFolder.at(home)
        self.state.prepare()
        self.clock = FakeClock()
        self.store = FakeObjectStore()
        self.records = Records(self.state.deployments)
        self.supervisor = FakeSupervisor(self.state, self.clock)
        self.gateway = FakeGateway(self.records)
        self.dropped: list[str] = []
        self.mirrored: list[str] = []
        self.calls_left: int | None = None
        self._chance = random.Random(1)
        self.gateway.on_publish = self._check_routes
        self.supervisor.on_stop = self._check_end

    @property
    def deployments(self) -> EmbeddedDeployments:
        """Deployments of their own each time, as another process has them."""
        state, settings = self.state, self.settings
        servers = Servers(
            state,
            settings,
            self._mortal(self.supervisor),
            loopback=self.supervisor.loopback,
            clock=self.clock,
        )
        models = ModelFolders(state.models, state.secrets, connect=lambda _, **__: self.store)
        return EmbeddedDeployments(
            EmbeddedParts(
                settings=settings,
                locks=Locks(state.locks, timeout=1, prepare=state.prepare),
                records=self._mortal(self.records),
                servers=servers,
                models=self._mortal(models),
                gateway=self._mortal(self.gateway),
                object_store=FakeSecrets(state),
                fingerprint=lambda: "environment",
                clock=self.clock,
            )
        )

    def _mortal(self, part: T) -> T:
        return cast("T", Mortal(part, self._call))

    def _call(self) -> None:
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise Killed
            self.calls_left -= 1

    def publish(self, digest: str, **behaviour: Any) -> str:
        """Store an artifact and return its modelUri."""
        content = json.dumps({"digest": digest, **behaviour}).encode()
        self.store.put("models", f"toy/{digest}/behaviour.json", content)
        return f"s3://models/toy/{digest}"

    def apply(self, *predictors: dict[str, Any], name: str = "toy", **spec: Any) -> Change:
        return self.deployments.apply(deployment(*predictors, name=name, **spec))

    def predict(self, *, name: str = "toy", times: int = 1) -> list[str]:
        """Return the digests that answered."""
        return [str(self._answer(name)["digest"]) for _ in range(times)]

    def is_routed(self, *, name: str = "toy") -> bool:
        """Say whether requests to the deployment reach a server."""
        return self.gateway.find(name, namespace="seldon") is not None

    def servers(self, *, name: str = "toy") -> dict[str, int]:
        """Return the process of each server of a deployment."""
        prefix = program_prefix(name, "seldon")
        return {p: pid for p, pid in self.supervisor.pids().items() if p.startswith(prefix)}

    def stop_servers(self, *, name: str = "toy") -> None:
        """Stop the servers of a deployment, as a person does who does not know of it."""
        for program in self.servers(name=name):
            self.supervisor.halt(program)

    def down(self) -> None:
        self.supervisor.down()
        self.gateway.down = True

    def up(self) -> None:
        self.supervisor.up()
        self.gateway.down = False

    def _answer(self, name: str) -> Mapping[str, Any]:
        route = self.gateway.find(name, namespace="seldon")
        assert route is not None, f"404: {name}"
        for shadow in route.shadows():
            self.mirrored.append(str(self._ask(shadow.endpoints)["digest"]))
        live = route.live()
        assert live, f"503: {name} has no replicas"
        (target,) = self._chance.choices(live, weights=[t.traffic for t in live])
        return self._ask(target.endpoints)

    def _ask(self, endpoints: tuple[Endpoint, ...]) -> Mapping[str, Any]:
        for endpoint in endpoints:
            if (behaviour := self.supervisor.find_ready(endpoint)) is not None:
                self.supervisor.count_answer(endpoint)
                return behaviour
        raise AssertionError(f"503: none of {endpoints} is ready")

    def _check_routes(self) -> None:
        self.dropped += [f"the gateway does not know {name}" for name in self.gateway.unknown()]
        self.dropped += [
            f"{endpoint.program} got requests before it was ready"
            for route in self.gateway.routes
            for target in route.live()
            for endpoint in target.endpoints
            if self.supervisor.find_ready(endpoint) is None
        ]

    def _check_end(self, program: str) -> None:
        routed = {
            endpoint.program
            for route in self.gateway.routes
            for target in (*route.live(), *route.shadows())
            for endpoint in target.endpoints
        }
        if program in routed:
            self.dropped.append(f"{program} was stopped while it got requests")


@contextmanager
def fake_rig_in(home: Path, **settings: Any) -> Iterator[FakeRig]:
    """A platform in memory that has dropped no request at the end."""
    rig = FakeRig(home, **settings)
    yield rig
    assert rig.dropped == [], rig.dropped
