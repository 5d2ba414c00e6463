"""MLServer 1.7 with one model: our application before its REST, Seldon's gRPC beside its own."""

import asyncio
import gc
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mlserver.model import MLModel
from mlserver.registry import MultiModelRegistry
from mlserver.rest.server import RESTServer
from mlserver.server import MLServer
from mlserver.settings import ModelParameters, ModelSettings, Settings
from mlserver.types import MetadataTensor

from mlops_pipeline.serving import loading
from mlops_pipeline.serving.app import App
from mlops_pipeline.serving.artifact import Manifest, Tensor
from mlops_pipeline.serving.asgi import Asgi
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.grpc_server import ModelGRPCServer
from mlops_pipeline.serving.http_server import SignalFreeServer, uvicorn_config
from mlops_pipeline.serving.memory import LARGE_BYTES, LargeRequests
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.routes import (
    missing,
    missing_while_loading,
    refusing,
    routes_of,
    routes_while_loading,
)
from mlops_pipeline.serving.settings import Place, ServerSettings
from mlops_pipeline.serving.units import AppOfUnits, unit_of

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
        self.inputs = [_tensor(tensor) for tensor in self.loaded.manifest.inputs]
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
        self,
        *arguments: Any,
        own: ServerSettings,
        listeners: Sequence[socket.socket],
        large: LargeRequests,
    ) -> None:
        super().__init__(*arguments)
        self.metrics = Metrics()
        self._own = own
        self._listeners = listeners
        self._large = large
        self.front = self._new_app()
        app: Asgi = self.front
        if own.place is Place.BEHIND:
            app = AppOfUnits(self.front, self._app_of)
        self._server = SignalFreeServer(uvicorn_config(app, own))

    def _new_app(self) -> App:
        return App(
            routes_while_loading(self.metrics),
            fallback=self._app,
            missing=missing_while_loading,
            max_body_bytes=self._own.max_body_bytes,
            large=self._large,
        )

    async def start(self) -> None:
        """Serve until stopped."""
        await self._server.serve(sockets=list(self._listeners))

    async def stop(self, sig: int | None = None) -> None:
        """Stop listening; `start` returns when what is in flight has been answered."""
        self._server.should_exit = True

    def serve_model(self, unit: Unit) -> None:
        """Answer with the model from now on."""
        self._unit = unit
        self._serve(self.front, unit)

    def _serve(self, app: App, unit: Unit) -> None:
        if unit.model.digest:
            app.headers = [(b"x-model-digest", unit.model.digest.encode())]
        app.serve(routes_of(unit, self.metrics), missing=missing(unit))

    def _app_of(self, said: str) -> App:
        """Return the application of a unit that a forwarder speaks for; the model is loaded."""
        app = self._new_app()
        try:
            self._serve(app, unit_of(self._unit, said))
        except RequestError as error:
            app.serve({}, missing=refusing(error))
        return app


class OneModelServer(MLServer):  # type: ignore[misc]
    """MLServer that serves the one model of its settings, and ends if that does not load."""

    def __init__(
        self,
        own: ServerSettings,
        manifest: Manifest,
        *,
        listeners: Sequence[socket.socket],
        started: float,
    ) -> None:
        """`started` is the monotonic time at which the process began, for the log.

        Each of the `listeners` gives the same answers; in a pod they are bound, and nothing more.
        """
        self._started = started
        self._own = own
        self._manifest = manifest
        self._listeners = listeners
        self._loaded_or_stopped = asyncio.Event()
        self._is_stopping = False
        super().__init__(_mlserver_settings(own))

    def _create_model_registry(self) -> MultiModelRegistry:
        return MultiModelRegistry(
            model_initialiser=lambda settings: Runtime(settings, self._load_model)
        )

    def _load_model(self) -> Model:
        own = self._own
        known = None if own.place is Place.BEHIND else own.parameters
        return loading.load(own.model_folder, self._manifest, known, graph_name=own.graph_name)

    def _create_servers(self) -> None:
        shared = (self._settings, self._data_plane, self._model_repository_handlers)
        own, large = self._own, LargeRequests(limit=max(LARGE_BYTES, self._own.max_body_bytes))
        self._rest_server = ModelRESTServer(
            *shared, own=own, listeners=self._listeners, large=large
        )
        self._grpc_server = ModelGRPCServer(*shared, own=own, large=large)
        self._kafka_server = None

    async def start(self, models_settings: object = None) -> None:
        """Serve until a signal.

        Health checks are answered while the model loads; in a pod there is no answer until then.

        Raises:
            StartError: a port cannot be used, or the model does not load.
        """
        if self._own.place is Place.MACHINE:
            await self._grpc_server.bind()
            self._loaded_or_stopped.set()
        serving: asyncio.Future[Any] = asyncio.ensure_future(self._serve())
        loading_model: asyncio.Future[Any] = asyncio.ensure_future(self._load_and_serve())
        await asyncio.wait({serving, loading_model}, return_when=asyncio.FIRST_COMPLETED)
        if loading_model.done():
            await self._finish(loading_model, serving)
        else:  # Stopped while loading: the thread that loads ends with the process.
            loading_model.cancel()
            await serving

    async def _serve(self) -> None:
        """Answer at the ports, as soon as they may be open."""
        await self._loaded_or_stopped.wait()
        if self._is_stopping:
            return
        if self._own.place is not Place.MACHINE:
            await self._grpc_server.bind()
        await asyncio.gather(self._rest_server.start(), self._grpc_server.start())

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
        self._loaded_or_stopped.set()
        logger.info(
            "Ready in %.2f s: %s %s on http://%s:%d and gRPC port %d",
            time.monotonic() - self._started,
            unit.model.name,
            unit.model.version_name[:12],
            self._own.host,
            self._listeners[0].getsockname()[1],
            self._grpc_server.port,
        )

    async def stop(self, sig: int | None = None) -> None:
        """Stop both servers: no new request, and what is in flight is answered first."""
        self._is_stopping = True
        self._loaded_or_stopped.set()
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
    """Return MLServer's settings of the model; the digest is its version, where it has one."""
    version = manifest.digest or str(manifest.version)
    return ModelSettings(
        _env_file=None,
        implementation=Runtime,
        name=own.graph_name or manifest.name,
        platform=manifest.framework,
        versions=[version],
        inputs=[_tensor(tensor) for tensor in manifest.inputs],
        outputs=[_tensor(tensor) for tensor in manifest.outputs],
        parameters=ModelParameters(_env_file=None, uri=str(own.model_folder), version=version),
    )


def _tensor(tensor: Tensor) -> MetadataTensor:
    return MetadataTensor(
        name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape), parameters=None
    )
