"""The object store layer: SeaweedFS with its S3 interface, on 127.0.0.1 only."""

import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import (
    ConfigurationError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)
from mlops_pipeline.clients.supervisor import SupervisedProcess
from mlops_pipeline.platforms.embedded import store_program
from mlops_pipeline.platforms.embedded.answers_off import end_recording
from mlops_pipeline.platforms.embedded.keys import StoreKeys
from mlops_pipeline.platforms.embedded.port_book import PortBook
from mlops_pipeline.platforms.embedded.programs import Program
from mlops_pipeline.platforms.embedded.store_certificate import StoreCertificate
from mlops_pipeline.platforms.embedded.store_writes import (
    describe_lack_of_space,
    probe_writes,
)
from mlops_pipeline.platforms.embedded.supervised import LayerParts, SupervisedLayer
from mlops_pipeline.platforms.layers import Absent, Broken, LayerState, Ready
from mlops_pipeline.platforms.store_access import ANSWERS

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Credentials, ObjectStore

_GLANCE = 2.0
"""Seconds in which an observed store must answer, so that a hanging one is noticed."""
_PORTS = tuple(f"{part}{kind}" for part in store_program.PARTS for kind in ("", ".grpc"))
_REMEDY = "run `mlops-pipeline up object_store` to start it with the keys in the state folder"
_MARK = ".there"
"""An object in each bucket. If it can be read, the store works."""


class SeaweedObjectStore(SupervisedLayer):
    """SeaweedFS under the supervisor, with our own keys."""

    name = store_program.PROGRAM
    title = "SeaweedFS"
    description = "S3-compatible storage (SeaweedFS) with the buckets for models and data sets."
    kinds = ("s3", "seaweedfs")
    version = ("weed", "version")

    def __init__(self, parts: LayerParts) -> None:
        super().__init__(parts)
        self._ports = PortBook(self._state.ports, is_free=store_program.is_free)
        self._keys = StoreKeys(self._state.object_store / "s3.json", secrets=self._state.secrets)
        self._certificate = StoreCertificate(self._state.object_store)
        self._missing: Sequence[str] = ()
        """The marks that `describe_unready` did not find."""

    @property
    def preferred_port(self) -> int:
        """The port that the settings prefer."""
        return self._settings.object_store_port

    def is_configured(self) -> bool:
        """Say whether it has keys."""
        return self._keys.exist()

    def obstacle(self) -> str:
        """Say that its disk is full."""
        return describe_lack_of_space(self._data) if self._data.exists() else ""

    def look(self) -> LayerState:
        """Examine the store with requests that our keys sign."""
        return super().look() if self.is_configured() else Absent()

    def differences(self) -> tuple[str, ...]:
        """Say which objects of ours are missing, and whether the keys fit the settings."""
        missing = ", ".join(self._missing)
        found = [f"these objects are missing: {missing}"] if missing else []
        if self._settings.answers.enabled != (self._keys.find_writer() is not None):
            found.append("the key for the log of answers does not fit answers.enabled")
        return tuple(found)

    @property
    def buckets(self) -> tuple[str, ...]:
        """The names of the buckets that the settings require."""
        return (*self._settings.buckets, *((ANSWERS,) if self._settings.answers.enabled else ()))

    def start(self) -> None:
        """Run it, with keys and certificates of its own."""
        self._data.mkdir(exist_ok=True, mode=0o700)
        self._keys.make(with_writer=self._settings.answers.enabled)
        self._certificate.make()
        try:
            super().start()
        except WaitTimeoutError:
            # The process may have hung before: a new process is the last attempt.
            self._restart()

    def finish(self, state: LayerState) -> LayerState:
        """Create the buckets, and the Secrets that servers read them with."""
        state = self._take_writes_again(state)
        if not isinstance(state, Ready):
            # SeaweedFS answers before its volumes have registered with its master: until then it
            # neither reads nor writes.
            self.wait("the object store to accept objects", lambda _: self._describe_unwritable())
        for namespace in self._keys.namespaces():
            self.write_secret(namespace)
        if not self._settings.answers.enabled:
            end_recording(self._parts, self.client())
        return state

    def find_writer(self) -> "Credentials | None":
        """Return the key that may only write the log of answers, or None where there is none."""
        return self._keys.find_writer()

    def tidy(self) -> None:
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
            is_ours=True,
        )

    def is_at(self, endpoint: str) -> bool:
        """Say whether this store has the address."""
        return self.is_configured() and endpoint == self.endpoint()

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

    def _restart(self) -> None:
        with self._parts.locks.held("state", purpose="restart the object store"):
            self._supervisor.stop([self.name])
            self._supervisor.put(self.program())
        self.wait()

    def _describe_unwritable(self) -> str | None:
        client = self.client(patience=_GLANCE, attempts=1)
        try:
            for bucket in self.buckets:
                client.ensure_bucket(bucket)
                client.put(bucket, _MARK, b"there")
        except UnavailableError as error:
            return str(error)
        return None

    def program(self) -> Program:
        """Return SeaweedFS on ports of its own."""
        return store_program.program(
            self._state, self._place(), keys=self._keys, certificate=self._certificate
        )

    def _place(self) -> dict[str, int]:
        """Return the ports: the process's own if it has them or can have them, else free ones."""
        process = self._supervisor.running(self.name)
        heard = {port for _, port in ports.listeners(process.pid)} if process else set()
        preferred = {"s3": self.preferred_port}
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

    def describe_unready(self, process: SupervisedProcess) -> str | None:
        """Say what of its ports or of its answers is not as it should be."""
        port = self._ports.find("s3")
        heard = ports.listeners(process.pid)
        if deaf := self.describe_listening(process, port, heard=heard):
            return deaf
        if strangers := sorted(ip for ip, _ in heard if ip != ports.LOOPBACK):
            return f"SeaweedFS listens on {', '.join(strangers)} beside {ports.LOOPBACK}"
        if open_port := self._certificate.describe_open(sorted(p for _, p in heard if p != port)):
            return open_port
        try:
            self._missing = self._missing_marks()
        except (UnavailableError, ConfigurationError) as error:
            return str(error)
        return None

    def _missing_marks(self) -> list[str]:
        """Read an object of each bucket, which needs every volume; return the missing ones.

        Raises:
            UnavailableError: an existing one cannot be read.
        """
        client, missing = self.client(patience=_GLANCE, attempts=1), []
        for bucket in self.buckets:
            try:
                client.get(bucket, _MARK)
            except NotFoundError:  # Never stored, or lost: `finish` stores it.
                missing.append(f"{bucket}/{_MARK}")
        return missing

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

    def facts(self) -> dict[str, str | int | float]:
        """Return its address, its buckets and the free space in bytes."""
        return {
            "address": self.endpoint(),
            "buckets": ", ".join(self.buckets),
            "free_bytes": shutil.disk_usage(self._state.object_store).free,
        }
