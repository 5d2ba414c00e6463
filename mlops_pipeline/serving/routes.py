"""The URLs: which handler answers at which path, before and after the model is loaded."""

import re
from collections.abc import Callable, Iterator, Mapping

from mlops_pipeline.serving import documentation, failures, versions
from mlops_pipeline.serving.app import Route
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.failures import Failure
from mlops_pipeline.serving.frameworks import MLFLOW
from mlops_pipeline.serving.messages import PONG, Answer, Handler, Request, answer
from mlops_pipeline.serving.metrics import Metrics
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.paths import LIVE, METRICS, READY, V2_LIVE, V2_READY
from mlops_pipeline.serving.protocols import mlflow, seldon, seldon_component, tensorflow, v2
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.recording import feeding
from mlops_pipeline.serving.recording.watch import Watch


def routes_while_loading(metrics: Metrics) -> dict[str, Route]:
    """Return the routes before the model is ready: alive, not ready."""
    return {
        **{path: _get(_refuse_loading, seldon.error) for path in READY},
        V2_READY: _get(_refuse_loading, v2.error),
        V2_LIVE: _get(_constant({"live": True}), v2.error),
        **_common(metrics),
    }


def routes_of(unit: Unit, metrics: Metrics) -> dict[str, Route]:
    """Return the routes after the model of `unit` is loaded."""
    return {
        **_common(metrics),
        **_seldon(unit, metrics),
        **_v2(unit, metrics),
        **_tensorflow(unit, metrics),
        **documentation.routes(unit),
        **_mlflow(unit, metrics),
    }


def missing_while_loading(path: str) -> Route:
    """Return the route that answers 503 in the format of the protocol of `path`."""
    return _both(_refuse_loading, failures.of_path(path))


def refusing(error: RequestError) -> Callable[[str], Route]:
    """Return the routes of an impossible unit: every path says why, in its protocol's format."""

    async def refuse(_: Request) -> Answer:
        raise error

    return lambda path: _both(refuse, failures.of_path(path))


def missing(unit: Unit) -> Callable[[str], Route]:
    """Return a function from a path to the route that answers 404 in its protocol's format."""

    def find(path: str) -> Route:
        if _LOADING.fullmatch(path):
            return refusing(v2.same_model())(path)
        other = _other_model(unit, path)
        refuse = _not_found(other or f"unknown path {path[:200]!r}; see /api/v1.0/doc/")
        return _both(refuse, failures.of_path(path))

    return find


_MODEL = re.compile(
    r"/(?:v[12]/models|api/v[01]\.[01]/(?:metadata|status))/([^/:]+)"
    r"(?:/versions/([^/:]+)|/labels/([^/:]+))?(?=[/:]|$)"
)
_LOADING = re.compile(r"/v2/repository/models/[^/]+/(?:un)?load")
"""V2's extension that loads and unloads models."""


def _other_model(unit: Unit, path: str) -> str:
    """Name the existing model if `path` names another one or another version of it."""
    found = _MODEL.match(path)
    if not found:
        return ""
    name, version, label = found.groups()
    if problem := versions.find_problem(unit.model, name, version or ""):
        return problem
    return versions.no_label(label) if label else ""


def _common(metrics: Metrics) -> dict[str, Route]:
    async def exposition(_: Request) -> Answer:
        return metrics.exposition()

    return {
        **{path: _get(_pong, seldon.error) for path in LIVE},
        **{path: _get(exposition, seldon.error) for path in METRICS},
    }


def _seldon(unit: Unit, metrics: Metrics) -> dict[str, Route]:
    """Return the routes of the executor and of the microservice behind it."""
    component = unit.model.default.component

    async def predictions(request: Request) -> Answer:
        return await seldon_component.methods_of(unit).predictions(unit, request)

    async def feedback(request: Request) -> Answer:
        message = seldon.read_feedback(request)
        feeding.take(metrics, unit, message, puid=request.puid, size=len(request.body))
        return seldon.feedback_answer(unit)

    post = _post(predictions, seldon.error, metrics.watch(unit, "seldon"))
    answered = {"status": "ready", "model": unit.model.name, "digest": unit.model.digest}
    model, graph = seldon.model_metadata(unit), seldon.graph_metadata(unit)
    ready = _ready(unit.model, answered)
    if component is not None:
        metrics.collect(component.metrics)
    routes = {path: _get(ready, seldon.error) for path in READY}
    for version in ("v1.0", "v0.1"):
        routes[f"/api/{version}/predictions"] = post
        routes[f"/api/{version}/feedback"] = _post(feedback, seldon.error)
        routes[f"/api/{version}/metadata"] = _get(_constant(graph), seldon.error)
        routes[f"/api/{version}/metadata/{unit.model.name}"] = _get(_constant(model), seldon.error)
        routes[f"/api/{version}/status/{unit.model.name}"] = _get(ready, seldon.error)
    routes["/predict"] = post
    routes["/send-feedback"] = _post(feedback, seldon.error)
    routes["/metadata"] = _get(_constant(model), seldon.error)
    return routes


def _ready(model: Model, document: Mapping[str, object]) -> Handler:
    """Return the handler that answers `document`, after it asked a custom component how it is."""
    if model.default.component is None:
        return _constant(document)

    async def handler(_: Request) -> Answer:
        said = await model.check_ready()
        return answer(document if said is None else {**document, "health": said})

    return handler


def _v2(unit: Unit, metrics: Metrics) -> dict[str, Route]:
    """Return V2's routes, with and without the only version."""
    name = unit.model.name

    async def infer(request: Request) -> Answer:
        return await v2.infer(unit.model, request)

    async def index(request: Request) -> Answer:
        return await v2.repository_index(unit.model, request)

    post = _post(infer, v2.error, metrics.watch(unit, "v2"))
    ready = _get(_ready(unit.model, {"name": name, "ready": True}), v2.error)
    server_ready = _ready(unit.model, {"ready": True})
    metadata = _get(_constant(v2.metadata(unit.model)), v2.error)
    routes = {
        "/v2": _get(_constant(v2.SERVER_METADATA), v2.error),
        # The path of the document in MLServer.
        "/v2/docs/dataplane.json": _get(documentation.document(unit, "../../"), v2.error),
        V2_READY: _get(server_ready, v2.error),
        V2_LIVE: _get(_constant({"live": True}), v2.error),
        "/v2/models/infer": post,
        "/v2/repository/index": _post(index, v2.error),
    }
    plain = f"/v2/models/{name}"
    for path in _with_versions(plain, unit):
        routes |= {path: metadata, f"{path}/ready": ready, f"{path}/infer": post}
    return routes


def _with_versions(path: str, unit: Unit) -> list[str]:
    """Return the path of a model, and its path with each name of its version."""
    return [path, *(f"{path}/versions/{name}" for name in unit.model.version_names)]


def _tensorflow(unit: Unit, metrics: Metrics) -> dict[str, Route]:
    """Return TF Serving's routes, with and without the only version."""

    async def predict(request: Request) -> Answer:
        return await tensorflow.predict(unit.model, request)

    post = _post(predict, tensorflow.error, metrics.watch(unit, "tensorflow"))
    model = unit.model
    plain = f"/v1/models/{model.name}"
    routes = {"/v1/models:predict": post, "/v1/models/:predict": post, f"{plain}/:predict": post}
    for path in _with_versions(plain, unit):
        number = model.number if path.endswith(f"/versions/{model.number}") else None
        status = _get(_status(model, number), tensorflow.error)
        metadata = _get(_constant(tensorflow.metadata(model, number)), tensorflow.error)
        routes |= {path: status, f"{path}/metadata": metadata, f"{path}:predict": post}
    return routes


def _status(model: Model, number: int | None) -> Handler:
    """Return the handler that answers TF Serving's status."""

    async def handler(_: Request) -> Answer:
        return answer(await tensorflow.status(model, number))

    return handler


def _mlflow(unit: Unit, metrics: Metrics) -> dict[str, Route]:
    """Return the route of MLflow's scoring server, for its models."""
    if unit.model.manifest.framework != MLFLOW.name:
        return {}

    async def invocations(request: Request) -> Answer:
        return await mlflow.invocations(unit.model, request)

    watch = metrics.watch(unit, "mlflow")
    return {mlflow.PATH: _post(invocations, mlflow.error, watch)}


def _get(handler: Handler, failure: Failure) -> Route:
    return Route({"GET": handler}, failure)


def _post(handler: Handler, failure: Failure, watch: Watch | None = None) -> Route:
    return Route({"POST": handler}, failure, watch)


def _both(handler: Handler, failure: Failure) -> Route:
    return Route(_AnyMethod(handler), failure)


class _AnyMethod(Mapping[str, Handler]):
    """One handler for any method: an unknown path is unknown for all of them."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def __getitem__(self, method: str) -> Handler:
        return self._handler

    def __iter__(self) -> Iterator[str]:
        return iter(("GET", "POST"))

    def __len__(self) -> int:
        return 2


def _constant(document: object) -> Handler:
    """Return a handler that always answers `document`, serialized once."""
    written = answer(document)

    async def handler(_: Request) -> Answer:
        return written

    return handler


async def _pong(_: Request) -> Answer:
    return PONG


async def _refuse_loading(_: Request) -> Answer:
    raise RequestError("LOADING", "the model is being loaded; retry in a moment", status=503)


def _not_found(sentence: str) -> Handler:
    async def refuse(_: Request) -> Answer:
        raise RequestError("NOT_FOUND", sentence, status=404)

    return refuse
