"""The API page at `/api/v1.0/doc/`: Swagger UI from a package on disk, not from a CDN.

Every URL on it is relative, so that it works behind a gateway that strips
`/seldon/<namespace>/<name>`.
"""

import importlib.util
from pathlib import Path

from mlops_pipeline.serving import openapi
from mlops_pipeline.serving.app import Route
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Answer, Handler, Request, answer
from mlops_pipeline.serving.protocols import seldon
from mlops_pipeline.serving.protocols.seldon import Unit

ROOT = "/api/v1.0/doc"
ASSETS = {
    "swagger-ui.css": b"text/css; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "favicon-32x32.png": b"image/png",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Model API</title>
<link rel="stylesheet" href="{base}swagger-ui.css">
<link rel="icon" type="image/png" href="{base}favicon-32x32.png">
</head>
<body>
<div id="ui"><p>The API is described in <a href="{base}openapi.json">openapi.json</a>.</p></div>
<script src="{base}swagger-ui-bundle.js"></script>
<script>
window.ui = SwaggerUIBundle({{url: "{base}openapi.json", dom_id: "#ui", deepLinking: true}});
</script>
</body>
</html>
"""


def routes(unit: Unit) -> dict[str, Route]:
    """Return the routes of the page, of its document and of its assets."""
    handlers: dict[str, Handler] = {
        f"{ROOT}/": _page(""),
        f"{ROOT}/index.html": _page(""),
        "/v2/docs": _page("../api/v1.0/doc/"),
        "/v2/docs/": _page("../../api/v1.0/doc/"),
        f"{ROOT}/openapi.json": document(unit, "../../../"),
        # The paths of the document in Seldon's executor and in its Python microservice.
        f"{ROOT}/seldon.json": document(unit, "../../../"),
        "/seldon.json": document(unit, "./"),
        **{f"{ROOT}/{name}": _asset(name, kind) for name, kind in ASSETS.items()},
    }
    return {path: Route({"GET": handler}, seldon.error) for path, handler in handlers.items()}


def _page(base: str) -> Handler:
    """Return a handler of the page; its assets are at the relative URL `base`."""
    written = Answer(200, _PAGE.format(base=base).encode(), b"text/html; charset=utf-8")

    async def handler(_: Request) -> Answer:
        return written

    return handler


def document(unit: Unit, base: str) -> Handler:
    """Return a handler that creates the document at its first request.

    `base` is the relative URL from the document to the paths in it.
    """
    made: list[Answer] = []

    async def handler(_: Request) -> Answer:
        if not made:
            made.append(answer(openapi.document(unit, base=base)))
        return made[0]

    return handler


def _asset(name: str, kind: bytes) -> Handler:
    """Return a handler that reads one of Swagger UI's files."""

    async def handler(_: Request) -> Answer:
        path = _find(name)
        if path is None:
            raise RequestError("NOT_INSTALLED", "swagger-ui-bundle is not installed", status=404)
        return Answer(200, path.read_bytes(), kind)

    return handler


def _find(name: str) -> Path | None:
    """Return the path of one of Swagger UI's files, None if the package is not installed."""
    spec = importlib.util.find_spec("swagger_ui_bundle")
    folders = spec.submodule_search_locations if spec else None
    found = (path for folder in folders or () for path in Path(folder).glob(f"vendor/*/{name}"))
    return next(found, None)
