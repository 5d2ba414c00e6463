"""MLServer 1.7 with one model: our application before its REST, Seldon's gRPC beside its own."""

import asyncio
import contextlib
import gc
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import uvicorn
from mlserver.model import MLModel
from mlserver.registry import MultiModelRegistry
from mlserver.rest.server import RESTServer
from mlserver.server import MLServer
from mlserver.settings import ModelParameters, ModelSettings, Settings
from mlserver.types import MetadataTensor

from mlops_pipeline.serving import loading
from mlops_pipeline.serving.app import App
from mlops_pipeline.serving.artifact import Manifest, Tensor
from mlops_pipeline.serving.grpc_server import ModelGRPCServer
from mlops_pipeline.serving.http_protocol import protocol_with
from mlops_pipeline.serving.memory import LARGE_BYTES, LargeRequests
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.routes import (
    missing,
    missing_while_loading,
    routes_of,
    routes_while_loading,
)
from mlops_pipeline.serving.settings import ServerSettings

logger = logging.getLogger("mlserver.server")

T = TypeVar("T")

LOADER_THREAD = "load-model"


class Runtime(MLModel):  # type: ignore[misc]
    """MLServer's view of the model: its name, version, tensors and readiness.

    Predictions do not come this way: they take the short one, from bytes to bytes.
    """

    def __init__(self, settings: ModelSettings, loader: Callable[[], Model]) -> None:
        super().__init__(settings)
        self._loader = loader
        self.loaded: Model | None = None

    async def load(self) -> bool:
        """Load and warm the model in a thread, so that health checks are answered meanwhile."""
        self.loaded = await _in_daemon_thread(self._loader)
        return True


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


class ModelRESTServer(RESTServer):  # type: ignore[misc]
    """MLServer's REST server with our application as the outermost."""

    def __init__(
        self, *arguments: Any, own: ServerSettings, listener: socket.socket, large: LargeRequests
    ) -> None:
        super().__init__(*arguments)
        self.metrics = Metrics()
        self._own = own
        self._listener = listener
        self.front = App(
            routes_while_loading(self.metrics),
            fallback=self._app,
            missing=missing_while_loading,
            max_body_bytes=own.max_body_bytes,
            large=large,
        )
        self._server = _SignalFreeServer(self._uvicorn_config())

    def _uvicorn_config(self) -> uvicorn.Config:
        own = self._own
        return uvicorn.Config(
            self.front,
            http=protocol_with(own.receive_seconds),
            ws="none",
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            access_log=False,
            log_config=None,
            log_level="error",
            timeout_keep_alive=int(own.keep_alive_seconds),
            timeout_graceful_shutdown=int(own.drain_seconds) or 1,
        )

    async def start(self) -> None:
        """Serve until stopped."""
        await self._server.serve(sockets=[self._listener])

    async def stop(self, sig: int | None = None) -> None:
        """Stop listening; `start` returns when what is in flight has been answered."""
        self._server.should_exit = True

    def serve_model(self, unit: Unit) -> None:
        """Answer with the model from now on."""
        self.front.headers = [(b"x-model-digest", unit.model.digest.encode())]
        self.front.serve(routes_of(unit, self.metrics), missing=missing)


class _SignalFreeServer(uvicorn.Server):
    """uvicorn without signal handlers: MLServer's stop both servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class OneModelServer(MLServer):  # type: ignore[misc]
    """MLServer that serves the one model of its settings, and ends if that does not load."""

    def __init__(
        self, own: ServerSettings, manifest: Manifest, *, listener: socket.socket, started: float
    ) -> None:
        """`started` is the monotonic time at which the process began, for the log."""
        self._started = started
        self._own = own
        self._manifest = manifest
        self._listener = listener
        super().__init__(_mlserver_settings(own))

    def _create_model_registry(self) -> MultiModelRegistry:
        return MultiModelRegistry(
            model_initialiser=lambda settings: Runtime(settings, self._load_model)
        )

    def _load_model(self) -> Model:
        own = self._own
        return loading.load(
            own.model_folder, self._manifest, own.parameters, graph_name=own.graph_name
        )

    def _create_servers(self) -> None:
        shared = (self._settings, self._data_plane, self._model_repository_handlers)
        own, large = self._own, LargeRequests(limit=max(LARGE_BYTES, self._own.max_body_bytes))
        self._rest_server = ModelRESTServer(*shared, own=own, listener=self._listener, large=large)
        self._grpc_server = ModelGRPCServer(*shared, own=own, large=large)
        self._kafka_server = None

    async def start(self, models_settings: object = None) -> None:
        """Serve until a signal; health checks are answered while the model loads.

        Raises:
            StartError: a port cannot be used, or the model does not load.
        """
        await self._grpc_server.bind()
        serving: asyncio.Future[Any] = asyncio.gather(
            self._rest_server.start(), self._grpc_server.start()
        )
        loading_model: asyncio.Future[Any] = asyncio.ensure_future(self._load_and_serve())
        await asyncio.wait({serving, loading_model}, return_when=asyncio.FIRST_COMPLETED)
        if loading_model.done():
            await self._finish(loading_model, serving)
        else:  # Stopped while loading: the thread that loads ends with the process.
            loading_model.cancel()
            await serving

    async def _finish(self, loading_model: "asyncio.Future[Any]", serving: Any) -> None:
        """Serve until stopped, or stop at once if the model did not load."""
        error = loading_model.exception()
        if error:
            await self.stop()
        await serving
        if error:
            raise error

    async def _load_and_serve(self) -> None:
        """Load the model through MLServer's registry, and let both servers answer with it."""
        model = await self._model_registry.load(_model_settings(self._own, self._manifest))
        unit = Unit(model.loaded, self._own.image, self._own.predictor)
        self._grpc_server.serve_model(unit)
        self._rest_server.serve_model(unit)
        gc.freeze()  # What is there now stays: no collection needs to look at it again.
        gc.enable()
        logger.info(
            "Ready in %.2f s: %s %s on http://%s:%d and gRPC port %d",
            time.monotonic() - self._started,
            unit.model.name,
            unit.model.digest[:12],
            self._own.host,
            self._listener.getsockname()[1],
            self._grpc_server.port,
        )

    async def stop(self, sig: int | None = None) -> None:
        """Stop both servers: no new request, and what is in flight is answered first."""
        await asyncio.gather(self._rest_server.stop(sig), self._grpc_server.stop(sig))


def _mlserver_settings(own: ServerSettings) -> Settings:
    """Return MLServer's settings, none of them from a `.env` file that happens to lie around."""
    return Settings(
        _env_file=None,
        debug=False,
        host=own.host,
        http_port=own.http_port,
        grpc_port=own.grpc_port,
        grpc_max_message_length=own.max_body_bytes,
        parallel_workers=0,
        metrics_endpoint=None,
        kafka_enabled=False,
        gzip_enabled=False,
        load_models_at_startup=False,
    )


def _model_settings(own: ServerSettings, manifest: Manifest) -> ModelSettings:
    """Return MLServer's settings of the model; the digest is its version."""
    return ModelSettings(
        _env_file=None,
        implementation=Runtime,
        name=own.graph_name or manifest.name,
        platform=manifest.framework,
        versions=[manifest.digest],
        inputs=[_tensor(tensor) for tensor in manifest.inputs],
        outputs=[_tensor(tensor) for tensor in manifest.outputs],
        parameters=ModelParameters(
            _env_file=None, uri=str(own.model_folder), version=manifest.digest
        ),
    )


def _tensor(tensor: Tensor) -> MetadataTensor:
    return MetadataTensor(
        name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape), parameters=None
    )
