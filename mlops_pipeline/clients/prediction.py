"""A client of deployed models with the Seldon protocol, the same on every platform.

Protocol: https://docs.seldon.io/projects/seldon-core/en/v1.17.1/reference/apis/external-prediction.html
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlops_pipeline.clients import http
from mlops_pipeline.clients.errors import UnavailableError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DIGEST_TAG = "model_digest"
UNRECORDED = {"Seldon-Skip-Logging": "true"}
"""Headers of requests that no log of requests should have."""
PATH = "/api/v1.0/predictions"
_AT_ONCE = 2
"""Connections that stay open."""


@dataclass(frozen=True)
class Answer:
    """Answer of a deployment to one request."""

    scores: list[list[float]]
    """Shape [n, outputs]."""
    digest: str
    """Digest of the artifact that answered; empty if the server does not report it."""
    latency: float
    """Seconds from the request sent to the answer received."""
    body: dict[str, Any]
    """The whole answer."""


@dataclass(frozen=True)
class Reply:
    """Reply of a deployment, whatever its model answers: scores, or names of classes."""

    body: dict[str, Any]
    """The whole reply; `data.ndarray` in it is a list."""
    digest: str
    """Digest of the artifact that answered; empty if the server does not report it."""
    latency: float
    """Seconds from the request sent to the reply received."""

    @property
    def rows(self) -> list[Any]:
        """What the model answered for each row."""
        return list(self.body["data"]["ndarray"])

    @property
    def names(self) -> list[str]:
        """The names of its columns; empty if the server does not report them."""
        return [str(name) for name in self.body["data"].get("names") or ()]


Post = Callable[[bytes], http.HttpAnswer]
"""Sends JSON to `PATH` of one server. Raises UnavailableError if there is no answer."""


class Predictions:
    """Asks for predictions, whatever the way to the server is."""

    def __init__(self, url: str, post: Post) -> None:
        """`url` stands in error messages."""
        self.url = url
        self._post = post

    def predict(self, rows: "ArrayLike") -> Answer:
        """Return the scores for `rows` of shape [n, features], numbers or booleans.

        Raises:
            UnavailableError: no answer, or an answer other than a prediction; quotes it.
        """
        return self.send(request_for(rows))

    def send(self, payload: bytes) -> Answer:
        """Send a JSON payload unchanged and return the answer, if it is a prediction.

        Raises:
            UnavailableError: no answer, or an answer other than a prediction; quotes it.
        """
        reply, answered = self._ask(payload)
        try:
            scores = matrix(reply.rows)
        except (TypeError, ValueError) as error:
            raise self._not_a_prediction(answered) from error
        return Answer(scores, reply.digest, reply.latency, reply.body)

    def ask(self, payload: bytes) -> Reply:
        """Send a JSON payload unchanged and return the reply, which may contain text.

        Raises:
            UnavailableError: no answer, or an answer without `data.ndarray`; quotes it.
        """
        return self._ask(payload)[0]

    def _ask(self, payload: bytes) -> tuple[Reply, http.HttpAnswer]:
        import orjson

        start = time.monotonic()
        answered = self._post(payload)
        latency = time.monotonic() - start
        try:
            body = orjson.loads(answered.body)
            if not isinstance(body["data"]["ndarray"], list):
                raise self._not_a_prediction(answered)
        except (KeyError, TypeError, ValueError) as error:
            raise self._not_a_prediction(answered) from error
        tags = (body.get("meta") or {}).get("tags") or {}
        digest = str(tags.get(DIGEST_TAG, ""))
        return Reply(body, digest, latency), answered

    def _not_a_prediction(self, answered: http.HttpAnswer) -> UnavailableError:
        return UnavailableError(
            f"could not get a prediction from {self.url}: "
            f"it answered {answered.status}: {answered.text[:300]}"
        )


class PredictionClient(Predictions):
    """Sends rows to one deployment and keeps the connection open. Use as a context manager."""

    def __init__(
        self, url: str, *, trust: str = "", timeout: float = 30.0, is_recorded: bool = False
    ) -> None:
        """`url`: `http://<gateway>/seldon/<namespace>/<name>`; `timeout`: seconds per request.

        `trust` is the PEM of the certificates that an https gateway may present; empty: those that
        this machine trusts. What proves a deployment is not recorded in the log of answers, unless
        `is_recorded`.
        """
        super().__init__(f"{url}{PATH}", self._send)
        self._client = http.HttpClient(timeout=timeout, trust=trust, connections=_AT_ONCE)
        self._headers = {
            "Content-Type": "application/json",
            **({} if is_recorded else UNRECORDED),
        }

    def __enter__(self) -> "PredictionClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def _send(self, payload: bytes) -> http.HttpAnswer:
        try:
            return self._client.send("POST", self.url, headers=self._headers, body=payload)
        except UnavailableError as error:
            raise UnavailableError(
                f"could not get a prediction from {self.url}: {error}; see `mlops-pipeline status`"
            ) from error


def request_for(rows: "ArrayLike") -> bytes:
    """Return the request for `rows` of shape [n, features], or of strings [n].

    Numbers and booleans, or the cells of a table as objects; NaN is `null`. A cell that is an array
    is the value of one of several inputs.
    """
    import numpy as np
    import orjson

    values = np.ascontiguousarray(rows)
    if values.dtype.kind == "O":
        listed = values.tolist()
        if isinstance(values.flat[0], np.ndarray):
            listed = [[_listed(cell) for cell in row] for row in listed]
        return orjson.dumps({"data": {"ndarray": listed}})
    if values.dtype == np.bool_:  # Every model accepts 1 and 0, few accept true and false.
        values = values.astype(np.uint8)
    return orjson.dumps({"data": {"ndarray": values}}, option=orjson.OPT_SERIALIZE_NUMPY)


def _listed(cell: "NDArray[Any]") -> Any:
    """Return a row's value of one of several inputs; a single value is not a list."""
    return cell.item() if cell.shape == (1,) else cell.tolist()


def matrix(scores: Any) -> list[list[float]]:
    """Return rows of numbers; those of a model with one output may be numbers, not lists.

    Raises:
        TypeError: the rows are neither lists nor numbers.
        ValueError: they are of different lengths, or contain something else.
    """
    if scores and all(type(value) in (int, float) for value in scores):
        return [[value] for value in scores]
    widths = {len(row) for row in scores}
    numbers = all(type(value) in (int, float) for row in scores for value in row)
    if len(widths) != 1 or not numbers:
        raise ValueError("the scores are not rows of equal length that contain only numbers")
    return list(scores)
