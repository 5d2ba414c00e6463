"""Custom components as folders, served without a port."""

import asyncio
import json
import textwrap
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from mlops_pipeline.serving import loading
from mlops_pipeline.serving.app import Route
from mlops_pipeline.serving.artifact import Manifest, Tensor, hash_files
from mlops_pipeline.serving.batching import Batcher
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Request
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.routes import routes_of
from mlops_pipeline.serving.schema import Schema
from mlops_pipeline.serving.settings import Parameter

ROW = Tensor("predict", (-1, 2), "FP64")


def write(folder: Path, code: str, *, name: str = "Doubler", example: object = None) -> Path:
    """Write NAME.py with the class NAME."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(code))
    if example is not None:
        (folder / "example.json").write_text(json.dumps(example))
    return folder


@contextmanager
def loaded(
    folder: Path,
    *,
    inputs: tuple[Tensor, ...] = (),
    schema: Schema | None = None,
    **parameters: Parameter,
) -> Iterator[Model]:
    """Load the component as the server does, and end its process afterwards."""
    manifest = Manifest("mine", "python", hash_files(folder), inputs, (), schema=schema)
    model = loading.load(folder, manifest, parameters, graph_name="unit")
    component = model.default.component
    assert component is not None
    try:
        yield model
    finally:
        component.close()


class Caller:
    """Calls the handlers of a model's routes, in an event loop."""

    def __init__(self, model: Model) -> None:
        self._metrics = Metrics(CollectorRegistry())
        self._batcher = Batcher(self._metrics.called)
        unit = Unit(replace(model, compute=self._batcher.compute), "image:1")
        self.unit = unit
        self.routes: Mapping[str, Route] = routes_of(unit, self._metrics)

    async def post(
        self, document: object, path: str = "/api/v1.0/predictions"
    ) -> tuple[int, dict[str, Any]]:
        """Return the status and the document of an answer, also of an error."""
        return await self._send("POST", path, json.dumps(document).encode())

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        return await self._send("GET", path, b"")

    async def _send(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        route = self.routes[path]
        try:
            answer = await route.methods[method](Request(body))
        except RequestError as error:
            answer = route.error(error)
        if path == "/metrics":
            return answer.status, {"text": answer.body.decode()}
        return answer.status, json.loads(answer.body)


def run(model: Model, using: Callable[[Caller], Awaitable[None]]) -> None:
    """Run a test with a caller of the model."""

    async def main() -> None:
        await using(Caller(model))

    asyncio.run(main())
