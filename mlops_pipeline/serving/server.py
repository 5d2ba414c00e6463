"""The model server: one model over REST and gRPC, from opening the ports to the end."""

import asyncio
import gc
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_pipeline.serving import loading
from mlops_pipeline.serving.artifact import Manifest
from mlops_pipeline.serving.batching import Batcher
from mlops_pipeline.serving.grpc_server import GrpcServer
from mlops_pipeline.serving.memory import LARGE_BYTES, LargeRequests
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.rest_server import RestServer
from mlops_pipeline.serving.settings import Place, ServerSettings

if TYPE_CHECKING:
    from mlops_pipeline.serving.recording.recorder import Recorder

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOADER_THREAD = "load-model"
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class ModelServer:
    """Serves one model, and ends if the model does not load."""

    def __init__(
        self,
        own: ServerSettings,
        manifest: Manifest,
        *,
        listeners: Sequence[socket.socket],
        started: float,
    ) -> None:
        """`started` is the monotonic time at which the process began, for the log.

        Each of the `listeners` gives the same answers. In a pod they are only bound at first.
        """
        self._own = own
        self._manifest = manifest
        self._started = started
        self._stopped = asyncio.Event()
        large = LargeRequests(limit=max(LARGE_BYTES, own.max_body_bytes))
        self._recorder = _recorder(own, manifest)
        metrics = Metrics(recorder=self._recorder)
        self._batcher = Batcher(metrics.called)
        self._rest = RestServer(own, listeners=listeners, large=large, metrics=metrics)
        self._grpc = GrpcServer(own, large=large, batcher=self._batcher, metrics=metrics)
        self._serving: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Serve until a signal.

        Health checks are answered while the model loads; in a pod there is no answer until then.

        Raises:
            StartError: a port cannot be used, or the model does not load.
        """
        for number in STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, self._stopped.set)
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            if self._own.place is Place.MACHINE:
                await self._open()
            loaded = asyncio.ensure_future(_in_daemon_thread(self._load))
            await _first_of(loaded, stopped, *self._serving)
            if loaded.done():
                await self._serve(loaded.result())
                await _first_of(stopped, *self._serving)
            else:  # The loading thread ends with the process.
                loaded.cancel()
        finally:
            stopped.cancel()
            await self._close()

    def _load(self) -> Model:
        own = self._own
        known = None if own.place is Place.BEHIND else own.parameters
        return loading.load(own.model_folder, self._manifest, known, graph_name=own.graph_name)

    async def _serve(self, model: Model) -> None:
        """Answer with the model, and open the ports if they are closed."""
        model = replace(model, compute=self._batcher.compute)
        unit = Unit(model, self._own.image, self._own.predictor)
        self._grpc.serve_model(unit)
        self._rest.serve_model(unit)
        gc.freeze()  # The existing objects stay: no collection needs to examine them again.
        gc.enable()
        if not self._serving:
            await self._open()
        logger.info(
            "Ready in %.2f s: %s %s on http://%s:%d and gRPC port %d",
            time.monotonic() - self._started,
            model.name,
            model.version_name[:12],
            self._own.host,
            self._rest.port,
            self._grpc.port,
        )

    async def _open(self) -> None:
        """Answer at the ports.

        Raises:
            StartError: another process has gRPC's.
        """
        await self._grpc.start()
        self._serving.append(asyncio.ensure_future(self._rest.serve()))

    async def _close(self) -> None:
        """Stop both servers: refuse new requests, and answer the current ones first."""
        self._batcher.drain()
        self._rest.stop()
        await self._grpc.stop()
        await asyncio.gather(*self._serving)
        if self._recorder is not None:
            self._recorder.stop()


def _recorder(own: ServerSettings, manifest: Manifest) -> "Recorder | None":
    """Start to record rows, if the settings say so."""
    if own.recording is None:
        return None
    from mlops_pipeline.serving.recording.recorder import Recorder

    model = manifest.name if manifest.digest else own.deployment or manifest.name
    recorder = Recorder(own.recording, model=model, deployment=own.deployment)
    recorder.start()
    return recorder


async def _first_of(*futures: "asyncio.Future[Any]") -> None:
    """Return when one of them is complete."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _in_daemon_thread(function: Callable[[], T]) -> T:
    """Run `function` in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(setter: Callable[[Any], None], value: object) -> None:
        if not future.cancelled():
            setter(value)

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - handed to the awaiting task as it is
            loop.call_soon_threadsafe(finish, future.set_exception, error)
        else:
            loop.call_soon_threadsafe(finish, future.set_result, result)

    threading.Thread(target=run, name=LOADER_THREAD, daemon=True).start()
    return await future
