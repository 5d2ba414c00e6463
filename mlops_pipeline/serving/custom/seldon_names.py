"""The names that a class for Seldon's Python wrapper imports from `seldon_core`.

seldon-core 1.17 needs protobuf 3 and numpy 1, which no current environment has. Where it is not
installed, `provide` makes the part of it importable that classes use.

python/seldon_core/user_model.py, flask_utils.py and metrics.py of seldon-core 1.17.1
"""

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class SeldonMicroserviceException(Exception):
    """An error with an HTTP status, which a class raises."""

    status_code = 400

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        payload: object = None,
        reason: str = "MICROSERVICE_BAD_DATA",
    ) -> None:
        super().__init__(message)
        self.message = message
        if status_code is not None:
            self.status_code = status_code
        self.payload = payload
        self.reason = reason


class SeldonNotImplementedError(SeldonMicroserviceException):
    """A method that a class does not implement."""


class SeldonResponse:
    """An answer with tags and metrics of this request."""

    def __init__(
        self,
        data: Any,
        tags: dict[str, Any] | None = None,
        metrics: list[dict[str, Any]] | None = None,
    ) -> None:
        self.data = data
        self.tags = tags or {}
        self.metrics = metrics or []


class SeldonComponent:
    """The base class: a method that a class does not implement is skipped."""

    def __init__(self, **_: object) -> None: ...

    def load(self) -> None:
        """Read the model."""


def create_counter(key: str, value: float) -> dict[str, Any]:
    """Return a metric that is added up."""
    return {"key": key, "type": "COUNTER", "value": value}


def create_gauge(key: str, value: float) -> dict[str, Any]:
    """Return a metric whose last value counts."""
    return {"key": key, "type": "GAUGE", "value": value}


def create_timer(key: str, value: float) -> dict[str, Any]:
    """Return a duration in milliseconds."""
    return {"key": key, "type": "TIMER", "value": value}


_MODULES = {
    "seldon_core": (),
    "seldon_core.user_model": (SeldonComponent, SeldonResponse, SeldonNotImplementedError),
    "seldon_core.flask_utils": (SeldonMicroserviceException,),
    "seldon_core.metrics": (create_counter, create_gauge, create_timer),
}


def provide() -> None:
    """Make these names importable from `seldon_core`, unless it is installed."""
    if find_spec("seldon_core") is not None:
        return
    for name, members in _MODULES.items():
        module = ModuleType(name)
        for member in members:
            setattr(module, member.__name__, member)
        sys.modules[name] = module
        if "." in name:
            setattr(sys.modules["seldon_core"], name.rpartition(".")[2], module)
    sys.modules["seldon_core"].__path__ = []
