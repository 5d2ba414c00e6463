"""One request to the model and its answer, while it is answered, for whoever records it."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mlops_pipeline.serving.custom.calls import Answered, Call
    from mlops_pipeline.serving.models import Question


class Source(NamedTuple):
    """Who answers, and how it was asked: what the counters tell apart."""

    predictor: str
    digest: str
    """Of the artifact; empty for a model that was not published as one."""
    protocol: str
    """`seldon`, `v2`, `tensorflow` or `mlflow`."""
    transport: str
    """`rest` or `grpc`."""


class Known(NamedTuple):
    """Names that the artifact or its class has itself: a client cannot choose them."""

    columns: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    """Of the columns of its scores."""


class Exchange:
    """A request, and what becomes known of it. Rows and scores are kept only if they are recorded.

    They are the arrays of the request itself: recording copies nothing while the client waits.
    """

    known = Known()
    given: tuple[str, ...] = ()
    """The client's names of columns, where the model has none."""
    identifier = ""
    """The id that the answer tells the client, or that the request's headers have."""
    is_named = False
    """Whether the answer's body has the id."""
    is_skipped = False
    """Whether the client asked not to record it."""
    is_large = False
    """Whether it is too large for its input and output to be recorded."""
    size = 0
    """Bytes of the request's body."""
    answer_size = 0
    """Bytes of the answer's body."""
    time = 0.0
    """Seconds since 1970 at which it was answered."""
    seconds = 0.0
    status = 0
    """HTTP's; of gRPC the equivalent one. 0: nobody waited for the answer."""
    reason = ""
    """The constant of an error, such as `WRONG_SHAPE`."""
    question: "Question | None" = None
    scores: Sequence[tuple[str, Any]] = ()
    call: "Call | None" = None
    """A request that the class of a custom component got as it is."""
    answered: "Answered | None" = None

    def __init__(self, source: Source, began: float) -> None:
        """`began` is the time of `time.perf_counter` at which the request had arrived."""
        self.source = source
        self.began = began


CURRENT: ContextVar[Exchange | None] = ContextVar("CURRENT", default=None)
"""The exchange of this request; None if rows are not recorded."""


class Switch:
    """Whether this process records rows: without, no request looks for its exchange."""

    is_on = False


def keep_scores(question: "Question", scores: Sequence[tuple[str, Any]]) -> None:
    """Keep what the model was asked and what it answered, if it is recorded."""
    exchange = CURRENT.get() if Switch.is_on else None
    if exchange is not None:
        exchange.question, exchange.scores = question, scores


def keep_call(call: "Call", answered: "Answered") -> None:
    """Keep what a custom component was asked and what it answered, if it is recorded."""
    exchange = CURRENT.get() if Switch.is_on else None
    if exchange is not None:
        exchange.call, exchange.answered = call, answered


def keep_identifier(identifier: str) -> None:
    """Keep the id that the answer tells the client, if it is recorded."""
    exchange = CURRENT.get() if Switch.is_on else None
    if exchange is not None:
        exchange.identifier, exchange.is_named = identifier, True


def keep_names(names: Sequence[str]) -> None:
    """Keep the client's names of columns that the model does not know, if it is recorded."""
    exchange = CURRENT.get() if Switch.is_on else None
    if exchange is not None:
        exchange.given = tuple(names)
