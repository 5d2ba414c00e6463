"""REST: the loaded model's application behind uvicorn, on every listener."""

import socket
from collections.abc import Sequence

from mlops_pipeline.serving.app import App
from mlops_pipeline.serving.asgi import Asgi
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.http_server import SignalFreeServer, uvicorn_config
from mlops_pipeline.serving.memory import LargeRequests
from mlops_pipeline.serving.metrics import Metrics
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


class RestServer:
    """Answers that the model is being loaded, until `serve_model` sets it."""

    def __init__(
        self,
        own: ServerSettings,
        *,
        listeners: Sequence[socket.socket],
        large: LargeRequests,
        metrics: Metrics,
    ) -> None:
        """Each of the `listeners` gives the same answers."""
        self._own = own
        self._listeners = listeners
        self._large = large
        self._metrics = metrics
        self._front = self._new_app()
        app: Asgi = self._front
        if own.place is Place.BEHIND:
            app = AppOfUnits(self._front, self._app_of)
        self._server = SignalFreeServer(uvicorn_config(app, own))

    @property
    def port(self) -> int:
        """The first listener's port."""
        port: int = self._listeners[0].getsockname()[1]
        return port

    async def serve(self) -> None:
        """Serve until stopped, and until all current requests are answered."""
        await self._server.serve(sockets=list(self._listeners))

    def stop(self) -> None:
        """Stop listening; `serve` returns soon after."""
        self._server.should_exit = True

    def serve_model(self, unit: Unit) -> None:
        """Answer with the model from now on."""
        self._unit = unit
        self._serve(self._front, unit)

    def _new_app(self) -> App:
        return App(
            routes_while_loading(self._metrics),
            missing=missing_while_loading,
            max_body_bytes=self._own.max_body_bytes,
            large=self._large,
        )

    def _serve(self, app: App, unit: Unit) -> None:
        shown = {"x-model-digest": unit.model.digest, "x-predictor": unit.predictor}
        app.headers = [(name.encode(), said.encode()) for name, said in shown.items() if said]
        app.serve(routes_of(unit, self._metrics), missing=missing(unit))

    def _app_of(self, said: str) -> App:
        """Return the application of a unit that a forwarder names; the model is loaded."""
        app = self._new_app()
        try:
            self._serve(app, unit_of(self._unit, said))
        except RequestError as error:
            app.serve({}, missing=refusing(error))
        return app
