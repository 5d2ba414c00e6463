"""The object store layer: SeaweedFS with its S3 interface, on 127.0.0.1 only."""

import shutil
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded import store_program
from mlops_pipeline.platforms.embedded.keys import StoreKeys
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.port_book import PortBook
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.embedded.store_certificate import StoreCertificate
from mlops_pipeline.platforms.embedded.store_writes import (
    describe_lack_of_space,
    probe_writes,
)
from mlops_pipeline.platforms.embedded.supervisor import UNSUPERVISED, Supervisor
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    HealthCheck,
    LayerState,
    Ready,
    action_from,
    hindered,
)

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import ObjectStore

_GLANCE = 2.0
"""Seconds in which an observed store must answer, so that a hanging one is noticed."""
_PORTS = tuple(f"{part}{kind}" for part in store_program.PARTS for kind in ("", ".grpc"))
_REMEDY = "run `mlops-pipeline up object_store` to start it with the keys in the state folder"
_MARK = ".there"
"""An object in each bucket. If it can be read, the store works."""


class SeaweedObjectStore:
    """SeaweedFS under the supervisor, with our own keys."""

    name = "object_store"
    description = "S3-compatible storage (SeaweedFS) with the buckets for models and data sets."
    kinds: tuple[str, ...] = ("s3", "seaweedfs")
    requires: tuple[str, ...] = ("supervisor",)
    checks: tuple[HealthCheck, ...] = ()

    def __init__(
        self, state: EmbeddedFolder, settings: EmbeddedOptions, supervisor: Supervisor, locks: Locks
    ) -> None:
        self._state = state
        self._settings = settings
        self._supervisor = supervisor
        self._locks = locks
        self._ports = PortBook(state.ports, is_free=store_program.is_free)
        self._keys = StoreKeys(state.object_store / "s3.json", secrets=state.secrets)
        self._certificate = StoreCertificate(state.object_store)

    def observe(self) -> LayerState:
        """Examine the store with requests that our keys sign: our process, on our port."""
        lack = describe_lack_of_space(self._data) if self._data.exists() else ""
        return hindered(self._look(), lack)

    def _look(self) -> LayerState:
        if not self._keys.exist():
            return Absent()
        process = self._supervisor.running(store_program.PROGRAM)
        if process is None:
            down = isinstance(self._supervisor.observe(), Absent)
            return Absent() if down else Broken("SeaweedFS is not running")
        if (reason := self._describe_unready(process)) is not None:
            return Broken(reason)
        differences = [UNSUPERVISED] if process.state == "unsupervised" else []
        if missing := self._missing_marks():
            differences.append(f"these objects are missing: {', '.join(missing)}")
        return Drifted(tuple(differences)) if differences else Ready(self._facts())

    def ensure(self) -> Change:
        """Bring the store up with its buckets, and write the Secret that servers read it with.

        Raises:
            PipelineError: it does not start, or another program answers on its port.
            ConfigurationError: its disk is full.
        """
        self._supervisor.require_ready("the object store")
        with self._locks.held("layers", purpose="bring up the object store"):
            state = self._look()
            if not isinstance(state, Ready):
                self._start()
            if lack := describe_lack_of_space(self._data):
                raise ConfigurationError(f"the object store cannot store anything: {lack}")
            state = self._take_writes_again(state)
            if not isinstance(state, Ready):
                self._await_writes()
            for namespace in self._keys.namespaces():
                self.write_secret(namespace)
            return Change(action_from(state), self._facts())

    def remove(self) -> None:
        """Stop the store. The data in the state folder stays."""
        if not self._keys.exist():
            return
        with self._locks.held("state", purpose="stop the object store"):
            self._supervisor.drop([store_program.PROGRAM])

    def remove_sockets(self) -> None:
        """Remove the sockets that SeaweedFS leaves behind, always in /tmp and named by port.

        Another installation may use the port now, so sockets with a listener are not removed.
        """
        for part in store_program.PARTS:
            port = self._ports.find(f"{part}.grpc")
            socket = store_program.grpc_socket(part, port)
            if port is not None and ports.is_abandoned(socket):
                socket.unlink()

    def client(self, *, patience: float = 30.0, attempts: int = 4) -> "ObjectStore":
        """Return a client with the store's own keys; see `ObjectStore` for the options.

        Raises:
            NotFoundError: the layer is absent.
        """
        from mlops_pipeline.clients.s3 import ObjectStore

        return ObjectStore(
            self.endpoint(),
            self._keys.read(),
            advise=self._advise,
            remedy=_REMEDY,
            patience=patience,
            attempts=attempts,
        )

    def endpoint(self) -> str:
        """Return `http://127.0.0.1:<port>`.

        Raises:
            NotFoundError: the layer is absent.
        """
        port = self._ports.find("s3")
        if port is None or not self._keys.exist():
            raise NotFoundError(
                "the object store is missing; bring it up with `mlops-pipeline up object_store`"
            )
        return f"http://{ports.LOOPBACK}:{port}"

    def write_secret(self, namespace: str) -> None:
        """Write the Secret `seldon-rclone-secret` of a namespace, in rclone's format.

        Raises:
            NotFoundError: the layer is absent.
        """
        self._keys.write_secret(namespace, endpoint=self.endpoint())

    def _start(self) -> None:
        self._data.mkdir(exist_ok=True, mode=0o700)
        self._keys.make()
        self._certificate.make()
        with self._locks.held("state", purpose="start the object store"):
            self._put()
        try:
            self._wait()
        except WaitTimeoutError:
            # The process may have hung before: a new process is the last attempt.
            self._restart()

    def _restart(self) -> None:
        with self._locks.held("state", purpose="restart the object store"):
            self._supervisor.stop([store_program.PROGRAM])
            self._put()
        self._wait()

    def _wait(self) -> None:
        wait_until(
            "the object store",
            self._supervisor.watch(store_program.PROGRAM, self._describe_unready),
            timeout=self._settings.ready_timeout,
            interval=0.05,
            hint="see `mlops-pipeline logs object_store`",
        )

    def _await_writes(self) -> None:
        """Return when every bucket has accepted the object that `observe` reads.

        SeaweedFS answers before its volumes have registered with its master: until then it neither
        reads nor writes.
        """
        wait_until(
            "the object store to accept objects",
            self._supervisor.watch(store_program.PROGRAM, lambda _: self._describe_unwritable()),
            timeout=self._settings.ready_timeout,
            interval=0.05,
            hint="see `mlops-pipeline logs object_store`",
        )

    def _describe_unwritable(self) -> str | None:
        client = self.client(patience=_GLANCE, attempts=1)
        try:
            for bucket in self._settings.buckets:
                client.ensure_bucket(bucket)
                client.put(bucket, _MARK, b"there")
        except UnavailableError as error:
            return str(error)
        return None

    def _put(self) -> None:
        program = store_program.program(
            self._state, self._place(), keys=self._keys, certificate=self._certificate
        )
        self._supervisor.put(program)

    def _place(self) -> dict[str, int]:
        """Return the ports: the process's own if it has them or can have them, else free ones."""
        process = self._supervisor.running(store_program.PROGRAM)
        heard = {port for _, port in ports.listeners(process.pid)} if process else set()
        preferred = {"s3": self._settings.object_store_port}
        return {
            owner: self._ports.keep_or_choose(
                owner,
                preferred=preferred.get(owner, self._first_inner_port()),
                ours=heard,
            )
            for owner in _PORTS
        }

    def _first_inner_port(self) -> int:
        """Return a port from 18300 to 19900, different for installations that start together."""
        if self._settings.internal_port is not None:
            return self._settings.internal_port
        return 18_300 + 8 * (zlib.crc32(str(self._state.object_store).encode()) % 200)

    def _describe_unready(self, process: SupervisedProcess) -> str | None:
        port = self._ports.find("s3")
        heard = ports.listeners(process.pid)
        if (ports.LOOPBACK, port) not in heard:
            others = ", ".join(str(p) for _, p in sorted(heard)) or "nothing"
            return f"SeaweedFS (process {process.pid}) does not listen on {port} but on {others}"
        if strangers := sorted(ip for ip, _ in heard if ip != ports.LOOPBACK):
            return f"SeaweedFS listens on {', '.join(strangers)} beside {ports.LOOPBACK}"
        if open_port := self._certificate.describe_open(sorted(p for _, p in heard if p != port)):
            return open_port
        try:
            self._missing_marks()
        except (UnavailableError, ConfigurationError) as error:
            return str(error)
        return None

    def _missing_marks(self) -> list[str]:
        """Read an object of each bucket, which needs every volume; return the missing ones.

        Raises:
            UnavailableError: an existing one cannot be read.
        """
        client = self.client(patience=_GLANCE, attempts=1)
        buckets = self._settings.buckets
        return [f"{bucket}/{_MARK}" for bucket in buckets if client.find(bucket, _MARK) is None]

    def _take_writes_again(self, state: LayerState) -> LayerState:
        """Restart SeaweedFS if it cannot store everything after its disk was full.

        It looks for space only once a minute, and a LevelDB whose journal could not be written
        refuses every write until it is opened again.
        """
        if not isinstance(state, Ready):
            return state
        try:
            probe_writes(self.client(), self._settings.buckets[0])
        except UnavailableError as error:
            self._restart()
            probe_writes(self.client(), self._settings.buckets[0])
            return Broken(str(error))
        return state

    def _advise(self) -> str:
        return describe_lack_of_space(self._data) or "see `mlops-pipeline logs object_store`"

    @property
    def _data(self) -> Path:
        return self._state.object_store / "data"

    def _facts(self) -> dict[str, str | int | float]:
        return {
            "address": self.endpoint(),
            "buckets": ", ".join(self._settings.buckets),
            "free_bytes": shutil.disk_usage(self._state.object_store).free,
        }
