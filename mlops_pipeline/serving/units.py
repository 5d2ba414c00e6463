"""The units of the forwarders before a server, each with parameters of its own."""

from collections.abc import Callable
from typing import TypeVar

from mlops_pipeline.serving import loading, unit_header
from mlops_pipeline.serving.app import App
from mlops_pipeline.serving.asgi import Receive, Scope, Send
from mlops_pipeline.serving.errors import RequestError, StartError
from mlops_pipeline.serving.protocols.seldon import Unit

MOST = 16
"""Maximum of kept units. A pod has one forwarder; more could only come from misuse of the
header."""

T = TypeVar("T")


class Kept(dict[str, T]):
    """The objects of the last `MOST` headers."""

    def __init__(self, make: Callable[[str], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, said: str) -> T:
        """Create it, and remove the oldest if there are too many."""
        made = self._make(said)
        if len(self) >= MOST:
            del self[next(iter(self))]
        self[said] = made
        return made


def unit_of(unit: Unit, said: str) -> Unit:
    """Return the unit that the header `said` describes, on the model of `unit`, warm.

    Raises:
        RequestError: the header cannot be read, or the model does not have what it names.
    """
    own = unit_header.read(said)
    try:
        model = loading.warm(unit.model.for_unit(own.parameters))
    except StartError as error:
        raise RequestError("WRONG_PARAMETER", str(error).rstrip(".")) from error
    return Unit(model, own.image, own.predictor)


class AppOfUnits:
    """Passes each request to the application of the unit in its header."""

    def __init__(self, app: App, make: Callable[[str], App]) -> None:
        """`app` answers requests without the header."""
        self._app = app
        self._apps = Kept(make)
        self._key = unit_header.HEADER.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = scope.get("headers", ())
        said = next((value.decode("latin-1") for key, value in headers if key == self._key), "")
        app = self._apps[said] if said else self._app
        await app(scope, receive, send)
